//! Standard input and output as channels of lines.
//!
//! Threads of their own read and write, because both can block for as long as the host wants.

use std::{
    io::{BufRead as _, Write as _, stdin, stdout},
    thread,
};

use serde_json::Value;
use tokio::sync::mpsc;

/// How many lines wait for the other side.
const WAITING_LINES: usize = 64;

/// The channels of the process.
pub(super) struct StdioLines {
    /// The lines of the host. It ends when the host closes standard input.
    pub(super) input: mpsc::Receiver<String>,
    /// The messages for the host. It is closed when the host reads no more.
    pub(super) output: mpsc::Sender<Value>,
}

impl StdioLines {
    /// Starts to read and write.
    pub(super) fn of_process() -> Self {
        let (read, input) = mpsc::channel(WAITING_LINES);
        let (output, written) = mpsc::channel(WAITING_LINES);
        thread::spawn(move || read_lines(&read));
        thread::spawn(move || write_messages(written));
        Self { input, output }
    }
}

fn read_lines(lines: &mpsc::Sender<String>) {
    for line in stdin().lock().lines() {
        let Ok(line) = line else { return };
        if lines.blocking_send(line).is_err() {
            return;
        }
    }
}

fn write_messages(mut messages: mpsc::Receiver<Value>) {
    let mut output = stdout().lock();
    while let Some(message) = messages.blocking_recv() {
        if writeln!(output, "{message}").and_then(|()| output.flush()).is_err() {
            return;
        }
    }
}
