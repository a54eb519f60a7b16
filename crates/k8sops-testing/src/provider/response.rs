//! Scripted responses.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::api::ProviderApi;

/// A response to one request.
#[derive(Debug, Clone)]
pub struct ScriptedResponse {
    status: u16,
    pub(super) content_type: &'static str,
    headers: Vec<(&'static str, String)>,
    pub(super) chunks: Vec<Vec<u8>>,
    /// The pause between two bytes, if they are sent one by one.
    byte_pause: Option<Duration>,
    end: ResponseEnd,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum ResponseEnd {
    Complete,
    /// The connection is closed.
    Cut,
    /// The connection stays open.
    Stall,
    /// The connection stays open, without even a head.
    Silence,
}

impl ScriptedResponse {
    /// Returns a streamed response in these chunks.
    pub(super) fn stream(api: ProviderApi, chunks: Vec<Vec<u8>>) -> Self {
        let content_type = if api == ProviderApi::Ollama { "application/x-ndjson" } else { "text/event-stream" };
        Self { status: 200, content_type, headers: Vec::new(), chunks, byte_pause: None, end: ResponseEnd::Complete }
    }

    /// Returns a response that is not streamed.
    pub fn plain(status: u16, content_type: &'static str, body: Vec<u8>) -> Self {
        Self {
            status,
            content_type,
            headers: Vec::new(),
            chunks: vec![body],
            byte_pause: None,
            end: ResponseEnd::Complete,
        }
    }

    /// Returns no response at all, on a connection that stays open.
    pub fn silence() -> Self {
        Self { end: ResponseEnd::Silence, ..Self::plain(200, "text/plain", Vec::new()) }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Closes the connection after the chunks.
    #[must_use]
    pub fn cut(self) -> Self {
        Self { end: ResponseEnd::Cut, ..self }
    }

    /// Sends nothing after the chunks, and keeps the connection open.
    #[must_use]
    pub fn stall(self) -> Self {
        Self { end: ResponseEnd::Stall, ..self }
    }

    /// Sends the bytes one by one.
    #[must_use]
    pub fn byte_by_byte(self) -> Self {
        Self { byte_pause: Some(Duration::from_micros(200)), ..self }
    }

    /// Sends the response.
    pub(super) async fn send(&self, socket: &mut TcpStream) -> std::io::Result<()> {
        if self.end == ResponseEnd::Silence {
            return wait_until_closed(socket).await;
        }
        let mut head = format!("HTTP/1.1 {} Status\r\ncontent-type: {}\r\n", self.status, self.content_type);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        socket.write_all(format!("{head}transfer-encoding: chunked\r\nconnection: close\r\n\r\n").as_bytes()).await?;
        for chunk in self.chunks.iter().filter(|chunk| !chunk.is_empty()) {
            let size = if self.byte_pause.is_some() { 1 } else { chunk.len() };
            for piece in chunk.chunks(size) {
                socket.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await?;
                socket.write_all(piece).await?;
                socket.write_all(b"\r\n").await?;
                if let Some(pause) = self.byte_pause {
                    tokio::time::sleep(pause).await;
                }
            }
        }
        match self.end {
            ResponseEnd::Complete => socket.write_all(b"0\r\n\r\n").await,
            ResponseEnd::Stall => wait_until_closed(socket).await,
            ResponseEnd::Cut | ResponseEnd::Silence => Ok(()),
        }
    }
}

/// Waits until the client closes the connection.
async fn wait_until_closed(socket: &mut TcpStream) -> std::io::Result<()> {
    while socket.read(&mut [0; 64]).await? > 0 {}
    Ok(())
}
