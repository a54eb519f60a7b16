//! The sockets that clients reach, and how many of them there may be.

use std::net::TcpListener;
#[cfg(target_os = "linux")]
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::SockRef;

/// How long what is sent may wait until a client takes it. Whoever reads nothing for so long is gone, or does not want it: the
/// connection is closed, and what follows is there for its next one. (HTTP has no other limit on this: a body that is not
/// taken is not asked for more.)
#[cfg(target_os = "linux")]
const UNREAD: Duration = Duration::from_secs(60);
/// Bytes that the kernel holds of what a client has not taken; Linux doubles it for its own needs. Left to itself it would grow
/// to megabytes for each connection.
const SEND_BUFFER: usize = 64 * 1024;
/// Open files that are no connections of clients.
const FILES_KEPT: usize = 1000;

/// A listening socket whose connections cost a bounded part of the kernel's memory for a bounded time.
///
/// # Errors
/// The address cannot be had.
pub(super) fn listen(address: &str) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).map_err(|error| {
        anyhow::anyhow!("cannot listen on {address}: {error}; choose another with K8SOPS_HOST and K8SOPS_PORT")
    })?;
    // Connections have what their listener has.
    let socket = SockRef::from(&listener);
    socket.set_send_buffer_size(SEND_BUFFER)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNREAD))?;
    Ok(listener)
}

/// Lets the process have as many files open as the machine allows it: every connection is one, and the soft limit of most
/// shells is 1024. How many that is, where it is known.
pub(super) fn raise_file_limit() -> Option<usize> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    let limit = match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(error) => {
            tracing::debug!(%error, "the limit of open files stays as it is");
            soft
        }
    };
    Some(usize::try_from(limit).unwrap_or(usize::MAX))
}

/// How many connections fit into so many open files. The store, models and MCP servers must find some when all others are
/// taken by clients.
pub(super) fn connections_within(files: usize) -> usize {
    files - (files / 4).min(FILES_KEPT)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn what_a_client_does_not_take_has_its_bounds_on_each_connection() {
        let listener = listen("127.0.0.1:0").unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (connection, _) = listener.accept().unwrap();
        let socket = SockRef::from(&connection);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNREAD));
        assert_eq!(socket.send_buffer_size().unwrap(), 2 * SEND_BUFFER);
    }

    #[test]
    fn some_files_are_left_for_what_is_no_connection() {
        assert_eq!([400, 4_000, 20_000].map(connections_within), [300, 3_000, 19_000]);
    }
}
