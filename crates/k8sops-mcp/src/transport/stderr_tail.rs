//! The last lines of a child's standard error.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{io::AsyncReadExt, process::ChildStderr, task::JoinHandle};

use super::redact::OutputRedactor;
use crate::{ConnectionHandler, close_reason::LastStderrLines, server_text::quote_server_text};

/// Lines that are kept for an error message.
const MAX_LINES: usize = 8;
/// Bytes of a line that are kept.
const MAX_LINE_BYTES: usize = 2048;

/// The last lines of a child's standard error, redacted.
#[derive(Default)]
pub(super) struct StderrTail(Mutex<VecDeque<String>>);

impl StderrTail {
    fn push_line(&self, line: String) {
        let mut lines = self.0.lock();
        if lines.len() == MAX_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    pub(super) fn last_lines(&self) -> LastStderrLines {
        let lines = self.0.lock();
        LastStderrLines(quote_server_text(&lines.iter().map(String::as_str).collect::<Vec<_>>().join(" | ")))
    }
}

/// The task that reads standard error. It is aborted when this is dropped.
pub(super) struct StderrReader(Option<JoinHandle<()>>);

impl StderrReader {
    /// Reads standard error to its end, so that the child never blocks on it. Every line is redacted before it is logged and
    /// added to `tail`.
    pub(super) fn spawn(
        stderr: ChildStderr,
        tail: Arc<StderrTail>,
        redactor: Arc<OutputRedactor>,
        handler: ConnectionHandler,
    ) -> Self {
        Self(Some(tokio::spawn(read_lines(stderr, tail, redactor, handler))))
    }

    /// Waits until standard error has ended, but no longer than `limit`.
    pub(super) async fn wait_for_end(&mut self, limit: Duration) {
        if let Some(task) = &mut self.0
            && tokio::time::timeout(limit, task).await.is_ok()
        {
            self.0 = None;
        }
    }
}

impl Drop for StderrReader {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

async fn read_lines(
    mut stderr: ChildStderr,
    tail: Arc<StderrTail>,
    redactor: Arc<OutputRedactor>,
    handler: ConnectionHandler,
) {
    let mut chunk = [0; 4096];
    let mut line = Vec::new();
    // A line that is cut is read further by the longest secret, so that no secret before the cut lacks its end.
    let limit = MAX_LINE_BYTES + redactor.longest_secret();
    let finish_line = |line: &mut Vec<u8>| {
        let mut text = redactor.redact(&String::from_utf8_lossy(line));
        if line.len() == limit {
            text.truncate(text.floor_char_boundary(text.len().saturating_sub(redactor.longest_secret())));
        }
        line.clear();
        let text = text.trim_end();
        if !text.is_empty() {
            tracing::debug!(server = handler.server(), line = text, "mcp server stderr");
            tail.push_line(text.to_owned());
        }
    };
    while let Ok(count @ 1..) = stderr.read(&mut chunk).await {
        for &byte in &chunk[..count] {
            if byte == b'\n' {
                finish_line(&mut line);
            } else if line.len() < limit {
                line.push(byte);
            }
        }
    }
    finish_line(&mut line);
}
