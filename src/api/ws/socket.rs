//! The connection of a WebSocket. It has memory for bytes only while there are any: most WebSockets wait.

use std::io;

use actix_codec::{Decoder as _, Encoder as _};
use actix_http::ws::{Codec, Frame, Message, ProtocolError};
use actix_web::{
    rt::net::TcpStream,
    web::{Buf as _, BytesMut},
};

/// How much is read at once.
const READ_BYTES: usize = 8 * 1024;

/// The connection of a WebSocket after the handshake.
pub(super) struct WsSocket {
    connection: TcpStream,
    codec: Codec,
    received: BytesMut,
    unsent: BytesMut,
}

impl WsSocket {
    /// Takes over a connection. `received` is what the client has sent after the handshake.
    pub(super) fn new(connection: TcpStream, received: &[u8]) -> Self {
        Self { connection, codec: Codec::new(), received: BytesMut::from(received), unsent: BytesMut::new() }
    }

    /// Limits the size of the client's frames.
    pub(super) fn limit_frame_bytes(&mut self, max_bytes: usize) {
        self.codec = std::mem::take(&mut self.codec).max_size(max_bytes);
    }

    /// Returns the next frame, or `None` after the client has closed the connection.
    ///
    /// Cancel safe: a dropped call loses nothing.
    pub(super) async fn next_frame(&mut self) -> Option<Result<Frame, ProtocolError>> {
        loop {
            match self.codec.decode(&mut self.received) {
                Ok(None) => {}
                Ok(Some(frame)) => return Some(Ok(frame)),
                Err(error) => return Some(Err(error)),
            }
            if self.received.is_empty() {
                self.received = BytesMut::new();
            }
            if let Err(error) = self.connection.readable().await {
                return Some(Err(error.into()));
            }
            self.received.reserve(READ_BYTES);
            match self.connection.try_read_buf(&mut self.received) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Some(Err(error.into())),
            }
        }
    }

    /// Returns the number of bytes that are queued.
    pub(super) fn unsent_bytes(&self) -> usize {
        self.unsent.len()
    }

    /// Puts a message behind those that are sent with the next [`flush`](Self::flush).
    ///
    /// # Errors
    /// The message is not allowed here.
    pub(super) fn queue(&mut self, message: Message) -> Result<(), ProtocolError> {
        self.codec.encode(message, &mut self.unsent)
    }

    /// Sends all that is queued.
    ///
    /// # Errors
    /// The connection is broken.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match self.connection.try_write(&self.unsent) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.unsent.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.connection.writable().await?,
                Err(error) => return Err(error),
            }
        }
        self.unsent = BytesMut::new();
        Ok(())
    }

    /// Returns the connection, to be closed.
    pub(super) fn into_connection(self) -> TcpStream {
        self.connection
    }
}
