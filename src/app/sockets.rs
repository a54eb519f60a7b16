//! The listening socket, and the number of connections that fit into the open file limit.

#[cfg(target_os = "linux")]
use std::time::Duration;
use std::{
    io,
    net::{SocketAddr, TcpListener, ToSocketAddrs},
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

/// How long sent data may stay unacknowledged before the kernel closes the connection. HTTP has no other limit for a client that
/// does not read a response.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED_TIMEOUT: Duration = Duration::from_secs(60);
/// The kernel's send buffer of a connection, in bytes. Linux doubles it for its own needs. Without this limit it would grow to
/// megabytes per connection.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// How many connections the kernel keeps until they are accepted. It drops the others, whose clients try again only after
/// seconds, and then minutes. The kernel's own limit is `net.core.somaxconn`, 4096 on most machines; the standard library asks for
/// 128.
const BACKLOG: i32 = 4096;
/// The number of open files that are reserved for other purposes than client connections.
const RESERVED_FILES: usize = 1000;

/// Opens a listening socket whose connections use a bounded amount of kernel memory for a bounded time.
///
/// # Errors
/// The address is unavailable.
pub(super) fn listen(address: &str) -> anyhow::Result<TcpListener> {
    open_listener(address).map_err(|error| {
        anyhow::anyhow!("cannot listen on {address}: {error}; set another address with K8SOPS_HOST and K8SOPS_PORT")
    })
}

/// Listens on the first address that a name resolves to and that is available.
fn open_listener(address: &str) -> io::Result<TcpListener> {
    let mut last_error = io::Error::new(io::ErrorKind::InvalidInput, "the name has no address");
    for address in address.to_socket_addrs()? {
        match listen_on(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => last_error = error,
        }
    }
    Err(last_error)
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A restart does not wait until the kernel has forgotten the connections of the process before.
    socket.set_reuse_address(true)?;
    // Connections inherit the options of their listener.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_TIMEOUT))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Raises the limit of open files to the hard limit, because each connection is an open file and the soft limit of most shells is
/// 1024. Returns the limit, if it is known.
pub(super) fn raise_file_limit() -> Option<usize> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    let limit = match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(error) => {
            tracing::debug!(%error, "open file limit not raised");
            soft
        }
    };
    Some(usize::try_from(limit).unwrap_or(usize::MAX))
}

/// Returns how many client connections fit into an open file limit. Some files are reserved for the store, models and MCP
/// servers.
pub(super) fn max_connections_for(files: usize) -> usize {
    files - (files / 4).min(RESERVED_FILES)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::TcpStream;

    use socket2::SockRef;

    use super::*;

    #[test]
    fn unread_data_is_limited_per_connection() {
        let listener = listen("127.0.0.1:0").unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (connection, _) = listener.accept().unwrap();
        let socket = SockRef::from(&connection);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNACKNOWLEDGED_TIMEOUT));
        assert_eq!(socket.send_buffer_size().unwrap(), 2 * SEND_BUFFER_BYTES);
    }

    #[test]
    fn connections_wait_until_they_are_accepted() {
        let kernel_limit = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
        let wanted = kernel_limit.trim().parse::<usize>().unwrap().min(1000);
        let listener = listen("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let timeout = Duration::from_secs(20);
        let waiting: Vec<_> = (0..wanted).map(|_| TcpStream::connect_timeout(&address, timeout).unwrap()).collect();
        assert_eq!(waiting.len(), wanted);
    }

    #[test]
    fn some_files_are_reserved() {
        assert_eq!([400, 4_000, 20_000].map(max_connections_for), [300, 3_000, 19_000]);
    }
}
