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

/// The last lines of a child's standard error, redacted, and the line that says why it ended.
#[derive(Default)]
pub(super) struct StderrTail(Mutex<KeptLines>);

#[derive(Default)]
struct KeptLines {
    last: VecDeque<String>,
    /// The line that most looks like the reason of a failure. It may be far above the last lines: many programs print their
    /// usage after it.
    reason: Option<(ReasonRank, String)>,
}

/// How much a line looks like the reason of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum ReasonRank {
    /// It contains a word for a failure.
    Mentions,
    /// It begins with one, as `Error: …` or `ValueError: …`.
    Begins,
}

impl StderrTail {
    fn push_line(&self, line: String) {
        let mut kept = self.0.lock();
        if let Some(rank) = rank_reason(&line)
            // Of several that begin with it, the last is the outcome.
            && kept.reason.as_ref().is_none_or(|(best, _)| rank > *best || rank == ReasonRank::Begins)
        {
            kept.reason = Some((rank, line.clone()));
        }
        if kept.last.len() == MAX_LINES {
            kept.last.pop_front();
        }
        kept.last.push_back(line);
    }

    /// Returns the line that says why the child ended, if there is one, and then the last lines as far as there is room.
    pub(super) fn last_lines(&self) -> LastStderrLines {
        let kept = self.0.lock();
        let reason = kept.reason.as_ref().map(|(_, line)| line.as_str());
        let others = kept.last.iter().map(String::as_str).filter(|line| Some(*line) != reason);
        LastStderrLines(quote_server_text(&reason.into_iter().chain(others).collect::<Vec<_>>().join(" | ")))
    }
}

fn rank_reason(line: &str) -> Option<ReasonRank> {
    const BEGINNINGS: &[&str] = &["error", "fatal", "panic", "failed", "exception", "cannot", "could not", "unable to"];
    const MENTIONS: &[&str] =
        &["error", "fatal", "exception", "failed", "not found", "refused", "denied", "invalid", "required"];
    let lower = line.trim().to_ascii_lowercase();
    // npm names its log after every failure, and Go and Python name places in the code.
    if lower.contains("a complete log of this run") || lower.starts_with("at ") || lower.starts_with("file \"") {
        return None;
    }
    let first_word = lower.split([':', ' ']).next().unwrap_or_default();
    let begins = BEGINNINGS.iter().any(|word| lower.starts_with(word))
        || first_word.ends_with("error") && lower.contains(':')
        || first_word.ends_with("exception") && lower.contains(':');
    if begins {
        return Some(ReasonRank::Begins);
    }
    MENTIONS.iter().any(|word| lower.contains(word)).then_some(ReasonRank::Mentions)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_that_says_why_comes_first() {
        let usage = ["Usage:", "  server [flags]", "Flags:", "  -a", "  -b", "  -c", "  -d", "  -e", "  -f", "  -g"];
        let go = [&["Error: unknown flag: --read-onyl"][..], &usage].concat();
        let node = [
            "node:internal/modules:1",
            "  throw err;",
            "Error: Cannot find module 'x'",
            "    at resolve (a.js:1)",
            "Node.js v22",
        ];
        let python = [
            "Traceback (most recent call last):",
            "  File \"a.py\", line 1",
            "    import errors",
            "ModuleNotFoundError: No module named 'x'",
        ];
        let npm = [
            "npm error code E404",
            "npm error 404 'x@*' is not in this registry.",
            "npm error A complete log of this run can be found in: /x",
        ];
        let rows: [(&[&str], &str); 5] = [
            (&go, "Error: unknown flag: --read-onyl | Flags:"),
            (&node, "Error: Cannot find module 'x' | node"),
            (&python, "ModuleNotFoundError: No module named 'x' | Traceback"),
            (&npm, "npm error code E404 | npm error 404"),
            (&["starting", "bye"], "starting | bye"),
        ];
        for (lines, expected) in rows {
            let tail = StderrTail::default();
            for line in lines {
                tail.push_line((*line).to_owned());
            }
            let shown = tail.last_lines().0;
            assert!(shown.starts_with(expected), "{shown}");
        }
    }
}
