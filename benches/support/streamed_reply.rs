//! Clients that receive a streamed reply and do little else, so that they leave the processor to what is measured.

use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};

/// Longer than any reply of a bench.
const REPLY_TIMEOUT: Duration = Duration::from_secs(300);
/// The size of the buffers of a connection in bytes.
const BUFFER_BYTES: usize = 8 * 1024;

/// What a client received of a reply.
#[derive(Debug)]
pub(crate) struct StreamedReply {
    /// Number of tokens.
    pub tokens: u64,
    /// Number of frames with tokens. A frame may hold several.
    pub token_frames: u64,
    /// Size of the frames with tokens as they were on the wire.
    pub token_bytes: u64,
    /// From the request to the first token.
    pub first_token: Duration,
    /// From the request to the end of the reply.
    pub whole: Duration,
}

/// How frames with tokens and the last frame are recognized.
struct FrameMarkers {
    token: &'static str,
    end: &'static str,
}

const UPSTREAM: FrameMarkers = FrameMarkers { token: "\"content\"", end: "[DONE]" };
const SSE: FrameMarkers = FrameMarkers { token: "event: token\n", end: "event: run_finished\n" };
const WEBSOCKET: FrameMarkers = FrameMarkers { token: "\"type\":\"token\"", end: "\"type\":\"run_finished\"" };

/// Counts what arrives.
struct ReplyReader {
    markers: FrameMarkers,
    began: Instant,
    reply: StreamedReply,
}

impl ReplyReader {
    fn new(markers: FrameMarkers) -> Self {
        let reply = StreamedReply {
            tokens: 0,
            token_frames: 0,
            token_bytes: 0,
            first_token: Duration::ZERO,
            whole: Duration::ZERO,
        };
        Self { markers, began: Instant::now(), reply }
    }

    /// Counts a frame, and returns whether it was the last one.
    fn count_frame(&mut self, frame: &str, bytes: usize) -> bool {
        assert!(!frame.contains("run_failed"), "{frame}");
        if frame.contains(self.markers.token) {
            if self.reply.tokens == 0 {
                self.reply.first_token = self.began.elapsed();
            }
            self.reply.tokens += count_token_words(frame);
            self.reply.token_frames += 1;
            self.reply.token_bytes += bytes as u64;
        }
        let is_end = frame.contains(self.markers.end);
        if is_end {
            self.reply.whole = self.began.elapsed();
        }
        is_end
    }

    async fn read_events(mut self, mut stream: TcpStream) -> StreamedReply {
        let mut received = Vec::with_capacity(BUFFER_BYTES);
        let reading = async {
            loop {
                let count = stream.read_buf(&mut received).await.expect("the connection is open");
                assert!(count > 0, "the stream is incomplete: {}", String::from_utf8_lossy(&received));
                let mut start = 0;
                while let Some(length) = received[start..].windows(2).position(|two| two == b"\n\n") {
                    let end = start + length + 2;
                    if self.count_frame(&String::from_utf8_lossy(&received[start..end]), end - start) {
                        return;
                    }
                    start = end;
                }
                received.drain(..start);
            }
        };
        timeout(REPLY_TIMEOUT, reading).await.expect("the reply ends");
        self.reply
    }
}

/// Returns how many of the upstream's tokens (`token0`, `token1`, …) a frame contains.
fn count_token_words(frame: &str) -> u64 {
    let words = frame
        .match_indices("token")
        .filter(|(at, word)| frame.as_bytes().get(at + word.len()).is_some_and(u8::is_ascii_digit));
    words.count() as u64
}

/// Requests a reply of some tokens from an upstream, or from a proxy of it.
pub(crate) async fn stream_upstream(base: &str, tokens: u64) -> StreamedReply {
    let body = json!({"messages": [{"role": "user", "content": format!("{tokens} tokens")}]});
    let reader = ReplyReader::new(UPSTREAM);
    let stream = send_request(&format!("{base}/chat/completions"), "POST", &body.to_string()).await;
    reader.read_events(stream).await
}

/// Sends a message that is replied to with some tokens, and reads the run from the response.
pub(crate) async fn stream_session(session: &str, tokens: u64) -> StreamedReply {
    let body = json!({"content": format!("{tokens} tokens")});
    let reader = ReplyReader::new(SSE);
    let stream = send_request(&format!("{session}/messages"), "POST", &body.to_string()).await;
    reader.read_events(stream).await
}

/// Follows a session until the end of its next run.
pub(crate) async fn watch_session(session: &str) -> impl Future<Output = StreamedReply> + use<> {
    let reader = ReplyReader::new(SSE);
    let mut stream = send_request(&format!("{session}/events"), "GET", "").await;
    // The stream is open with its first bytes.
    stream.readable().await.expect("the connection is open");
    let mut head = [0; 1];
    stream.read_exact(&mut head).await.expect("the connection is open");
    reader.read_events(stream)
}

async fn send_request(url: &str, method: &str, body: &str) -> TcpStream {
    let (address, path) = split_url(url);
    let mut stream = TcpStream::connect(address).await.expect("the server accepts connections");
    stream.set_nodelay(true).expect("a TCP connection");
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\naccept: text/event-stream\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.expect("the server reads the request");
    stream
}

fn split_url(url: &str) -> (&str, &str) {
    let rest = url.trim_start_matches("http://");
    rest.split_at(rest.find('/').unwrap_or(rest.len()))
}

/// A WebSocket of a session.
pub(crate) struct SessionSocket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl SessionSocket {
    pub(crate) async fn open(session: &str) -> Self {
        let config = WebSocketConfig::default().read_buffer_size(BUFFER_BYTES).write_buffer_size(BUFFER_BYTES);
        let url = format!("{}/ws", session.replacen("http", "ws", 1));
        let connected = connect_async_with_config(url, Some(config), true).await;
        let (mut socket, _) = connected.expect("the WebSocket opens");
        socket.next().await.expect("hello").expect("hello");
        Self(socket)
    }

    /// Sends a message that is replied to with some tokens, and reads the run.
    pub(crate) async fn stream(&mut self, tokens: u64) -> StreamedReply {
        let message = json!({"type": "message", "content": format!("{tokens} tokens")});
        let mut reader = ReplyReader::new(WEBSOCKET);
        self.0.send(Message::text(message.to_string())).await.expect("the WebSocket is open");
        let reading = async {
            loop {
                let frame = self.0.next().await.expect("the WebSocket is open").expect("a frame");
                let Message::Text(text) = frame else { continue };
                let header = if text.len() < 126 { 2 } else { 4 };
                if reader.count_frame(&text, text.len() + header) {
                    return;
                }
            }
        };
        timeout(REPLY_TIMEOUT, reading).await.expect("the reply ends");
        reader.reply
    }
}

/// Opens a WebSocket of a session and receives its first frame. The caller keeps the connection and reads no more.
pub(crate) async fn open_idle_socket(session: &str) -> TcpStream {
    let (address, path) = split_url(session);
    let mut stream = TcpStream::connect(address).await.expect("the server accepts connections");
    let request = format!(
        "GET {path}/ws HTTP/1.1\r\nhost: {address}\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("the server reads the request");
    let mut received = Vec::new();
    while !String::from_utf8_lossy(&received).contains("\"hello\"") {
        let count = stream.read_buf(&mut received).await.expect("the connection is open");
        assert!(count > 0, "no WebSocket: {}", String::from_utf8_lossy(&received));
    }
    stream
}
