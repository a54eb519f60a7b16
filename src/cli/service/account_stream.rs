//! The stream of what changes of all sessions of the user.

use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;

/// A stream that is silent for so long is broken: the service sends a sign of life every 15 s.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(40);
/// The longest frame that is read, in bytes.
const MAX_FRAME_BYTES: usize = 8 << 20;

/// An open stream of the account, as NDJSON.
#[derive(Debug)]
pub(in crate::cli) struct AccountStream {
    response: reqwest::Response,
    buffer: Vec<u8>,
}

impl AccountStream {
    pub(super) fn new(response: reqwest::Response) -> Self {
        Self { response, buffer: Vec::new() }
    }

    /// Returns the next frame, or `None` if the stream has ended or is broken.
    pub(in crate::cli) async fn next_frame(&mut self) -> Option<Value> {
        loop {
            while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                if let Ok(frame) = serde_json::from_slice(&line) {
                    return Some(frame);
                }
            }
            if self.buffer.len() > MAX_FRAME_BYTES {
                return None;
            }
            let chunk = timeout(SILENCE_TIMEOUT, self.response.chunk()).await.ok()?.ok()??;
            self.buffer.extend_from_slice(&chunk);
        }
    }
}
