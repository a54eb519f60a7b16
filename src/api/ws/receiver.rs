//! Receives the messages of a client, and notices a client that floods the connection with frames that do nothing.

use std::{io, time::Duration};

use actix_http::ws::{Frame, Item, ProtocolError};
use actix_web::web::Bytes;
use tokio::{task::yield_now, time::Instant};

use super::socket::WsSocket;

/// How many idle frames a client may send in a period: far more than the pings of any client.
const MAX_IDLE_FRAMES: usize = 1000;
/// The period in which idle frames are counted.
const IDLE_FRAME_PERIOD: Duration = Duration::from_secs(10);
/// How many bytes of a rejected message count as one idle frame: reading them is work, too.
const IDLE_FRAME_BYTES: usize = 4096;
/// How many frames are read before other connections of the same thread have their turn.
const FRAMES_PER_TURN: u32 = 32;

/// A message of a client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ClientMessage {
    /// A text, in one frame or in several.
    Text(String),
    /// Bytes, which no command is made of.
    Binary,
    /// A ping, which is answered with its payload.
    Ping(Bytes),
    /// An answer to a ping.
    Pong,
    /// The client closes the connection.
    Close,
}

/// Why no more messages can be received.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReceiveError {
    /// The connection is gone.
    Disconnected,
    /// A message is larger than allowed.
    TooLarge,
    /// The bytes are not a WebSocket frame, or a text is not UTF-8.
    Invalid,
    /// The client sent too many frames that do nothing.
    Flood,
}

/// Reads a client's frames and puts the pieces of a message together.
pub(super) struct WsReceiver {
    max_message_bytes: usize,
    partial: Option<PartialMessage>,
    idle_frames: IdleFrameCounter,
    frames_in_turn: u32,
    /// The size of the message that was received last.
    last_message_bytes: usize,
}

/// The pieces of a message so far.
struct PartialMessage {
    is_text: bool,
    bytes: Vec<u8>,
}

impl WsReceiver {
    pub(super) fn new(socket: &mut WsSocket, max_message_bytes: usize) -> Self {
        socket.limit_frame_bytes(max_message_bytes);
        Self {
            max_message_bytes,
            partial: None,
            idle_frames: IdleFrameCounter::new(),
            frames_in_turn: 0,
            last_message_bytes: 0,
        }
    }

    /// Waits for the next message. No message is lost if the future is dropped.
    pub(super) async fn receive(&mut self, socket: &mut WsSocket) -> Result<ClientMessage, ReceiveError> {
        loop {
            // Frames that have arrived are ready without waiting, and a client can send them faster than they are read.
            if self.frames_in_turn >= FRAMES_PER_TURN {
                self.frames_in_turn = 0;
                yield_now().await;
            }
            let frame = socket.next_frame().await.ok_or(ReceiveError::Disconnected)?;
            self.frames_in_turn += 1;
            if let Some(message) = self.accept(frame.map_err(|error| receive_error(&error))?)? {
                return Ok(message);
            }
        }
    }

    /// Counts the message that was received last as idle, for example a command that was rejected.
    pub(super) fn count_idle(&mut self) -> Result<(), ReceiveError> {
        self.idle_frames.count(1 + self.last_message_bytes / IDLE_FRAME_BYTES)
    }

    /// Returns the message that a frame completes, if it does.
    fn accept(&mut self, frame: Frame) -> Result<Option<ClientMessage>, ReceiveError> {
        self.last_message_bytes = match &frame {
            Frame::Text(bytes) | Frame::Binary(bytes) => bytes.len(),
            _ => 0,
        };
        Ok(Some(match frame {
            Frame::Text(bytes) => {
                ClientMessage::Text(String::from_utf8(bytes.into()).map_err(|_| ReceiveError::Invalid)?)
            }
            Frame::Binary(_) => ClientMessage::Binary,
            Frame::Ping(payload) => {
                self.count_idle()?;
                ClientMessage::Ping(payload)
            }
            Frame::Pong(_) => {
                self.count_idle()?;
                ClientMessage::Pong
            }
            Frame::Close(_) => ClientMessage::Close,
            Frame::Continuation(piece) => return self.accept_piece(piece),
        }))
    }

    fn accept_piece(&mut self, piece: Item) -> Result<Option<ClientMessage>, ReceiveError> {
        let (bytes, is_last) = match piece {
            Item::FirstText(bytes) => {
                self.partial = Some(PartialMessage { is_text: true, bytes: Vec::new() });
                (bytes, false)
            }
            Item::FirstBinary(bytes) => {
                self.partial = Some(PartialMessage { is_text: false, bytes: Vec::new() });
                (bytes, false)
            }
            Item::Continue(bytes) => (bytes, false),
            Item::Last(bytes) => (bytes, true),
        };
        if bytes.is_empty() {
            self.count_idle()?;
        }
        // The codec rejects a continuation of nothing, and a second start.
        let partial = self.partial.as_mut().ok_or(ReceiveError::Invalid)?;
        if partial.bytes.len() + bytes.len() > self.max_message_bytes {
            return Err(ReceiveError::TooLarge);
        }
        partial.bytes.extend_from_slice(&bytes);
        if !is_last {
            return Ok(None);
        }
        let whole = self.partial.take().ok_or(ReceiveError::Invalid)?;
        self.last_message_bytes = whole.bytes.len();
        if !whole.is_text {
            return Ok(Some(ClientMessage::Binary));
        }
        let text = String::from_utf8(whole.bytes).map_err(|_| ReceiveError::Invalid)?;
        Ok(Some(ClientMessage::Text(text)))
    }
}

fn receive_error(error: &ProtocolError) -> ReceiveError {
    match error {
        ProtocolError::Overflow => ReceiveError::TooLarge,
        // The codec reports wrong bits of a frame as invalid data.
        ProtocolError::Io(error) if error.kind() != io::ErrorKind::InvalidData => ReceiveError::Disconnected,
        _ => ReceiveError::Invalid,
    }
}

/// Counts frames that do nothing, in periods that follow each other.
#[derive(Debug)]
struct IdleFrameCounter {
    period_start: Instant,
    frames: usize,
}

impl IdleFrameCounter {
    fn new() -> Self {
        Self { period_start: Instant::now(), frames: 0 }
    }

    fn count(&mut self, frames: usize) -> Result<(), ReceiveError> {
        if self.period_start.elapsed() >= IDLE_FRAME_PERIOD {
            *self = Self::new();
        }
        self.frames += frames;
        if self.frames > MAX_IDLE_FRAMES { Err(ReceiveError::Flood) } else { Ok(()) }
    }
}
