//! The connection of a WebSocket. It has memory for bytes only while there are any: most WebSockets wait.

use std::io;

use actix_codec::{Decoder as _, Encoder as _};
use actix_http::ws::{Codec, Frame, Message, ProtocolError};
use actix_web::{
    rt::net::TcpStream,
    web::{Buf as _, BytesMut},
};

use crate::api::long_response::StreamPacer;

/// How much is read at once.
const READ_BYTES: usize = 8 * 1024;
/// Upper bound of the bytes of a frame before its payload (RFC 6455, section 5.2).
const MAX_FRAME_HEAD_BYTES: usize = 14;
/// The largest frame unless it is limited.
const DEFAULT_FRAME_BYTES: usize = 64 * 1024;

/// The connection of a WebSocket after the handshake.
pub(super) struct WsSocket {
    connection: TcpStream,
    codec: Codec,
    max_frame_bytes: usize,
    received: BytesMut,
    unsent: BytesMut,
    pacer: StreamPacer,
}

impl WsSocket {
    /// Takes over a connection. `received` is what the client has sent after the handshake.
    pub(super) fn new(connection: TcpStream, received: &[u8]) -> Self {
        let codec = Codec::new().max_size(DEFAULT_FRAME_BYTES);
        let (received, unsent) = (BytesMut::from(received), BytesMut::new());
        let pacer = StreamPacer::default();
        Self { connection, codec, max_frame_bytes: DEFAULT_FRAME_BYTES, received, unsent, pacer }
    }

    /// Limits the size of the client's frames.
    pub(super) fn limit_frame_bytes(&mut self, max_bytes: usize) {
        self.codec = std::mem::take(&mut self.codec).max_size(max_bytes);
        self.max_frame_bytes = max_bytes;
    }

    /// Returns the next frame, or `None` after the client has closed the connection.
    ///
    /// Cancel safe: a dropped call loses nothing.
    pub(super) async fn next_frame(&mut self) -> Option<Result<Frame, ProtocolError>> {
        loop {
            match self.codec.decode(&mut self.received) {
                // The codec checks the size of a frame once it is whole.
                Ok(None) if self.received.len() > self.max_frame_bytes + MAX_FRAME_HEAD_BYTES => {
                    return Some(Err(ProtocolError::Overflow));
                }
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
                Ok(written) => {
                    self.unsent.advance(written);
                    self.pacer.pause_after(written).await;
                }
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

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    async fn socket_pair(received: &[u8]) -> (TcpStream, WsSocket) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, WsSocket::new(listener.accept().await.unwrap().0, received))
    }

    fn client_frame(text: &str) -> BytesMut {
        let mut bytes = BytesMut::new();
        Codec::new().client_mode().encode(Message::Text(text.to_owned().into()), &mut bytes).unwrap();
        bytes
    }

    fn read_text(frame: Option<Result<Frame, ProtocolError>>) -> String {
        match frame {
            Some(Ok(Frame::Text(text))) => String::from_utf8(text.into()).unwrap(),
            other => panic!("no text: {other:?}"),
        }
    }

    #[tokio::test]
    async fn idle_socket_has_no_buffers() {
        let early = client_frame("early");
        let (mut client, mut socket) = socket_pair(&early).await;
        assert_eq!(read_text(socket.next_frame().await), "early");
        let long = "x".repeat(3 * READ_BYTES);
        client.write_all(&client_frame(&long)).await.unwrap();
        assert_eq!(read_text(socket.next_frame().await), long);
        socket.queue(Message::Text("answer".to_owned().into())).unwrap();
        socket.flush().await.unwrap();
        let mut answer = [0; 8];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"\x81\x06answer");
        tokio::select! {
            biased;
            frame = socket.next_frame() => panic!("nothing was sent: {frame:?}"),
            () = std::future::ready(()) => {}
        }
        assert_eq!((socket.received.capacity(), socket.unsent.capacity()), (0, 0));
        client.shutdown().await.unwrap();
        assert!(socket.next_frame().await.is_none());
    }

    #[tokio::test]
    async fn frame_that_is_too_large_is_refused_before_it_is_whole() {
        // A text frame of 4 GiB, masked with zeros, of which a part follows.
        let mut bytes = vec![0x81, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes.resize(3000, b'x');
        let (_client, mut socket) = socket_pair(&bytes).await;
        socket.limit_frame_bytes(2000);
        assert!(matches!(socket.next_frame().await, Some(Err(ProtocolError::Overflow))));
    }

    #[tokio::test]
    async fn read_that_is_canceled_loses_nothing() {
        let (mut client, mut socket) = socket_pair(b"").await;
        let frame = client_frame("in two pieces");
        let (first, second) = frame.split_at(4);
        client.write_all(first).await.unwrap();
        // Reads the first piece, and waits for the second.
        while socket.received.is_empty() {
            let reading = std::pin::pin!(socket.next_frame());
            tokio::select! {
                biased;
                frame = reading => panic!("the frame is incomplete: {frame:?}"),
                () = tokio::task::yield_now() => {}
            }
        }
        client.write_all(second).await.unwrap();
        assert_eq!(read_text(socket.next_frame().await), "in two pieces");
    }
}
