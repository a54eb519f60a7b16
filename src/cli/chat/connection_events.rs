//! What the chat does with the events of its connection.

use std::io::{self, Write};

use super::terminal_chat::TerminalChat;
use crate::cli::{
    service::ConnectionEvent,
    terminal::{LineStyle, ScreenUpdate, sanitize_text},
};

impl<W: Write> TerminalChat<W> {
    pub(super) fn handle_connection_event(&mut self, event: Option<ConnectionEvent>) -> io::Result<()> {
        let Some(session) = &mut self.session else { return Ok(()) };
        match event {
            Some(ConnectionEvent::Frame(frame)) => {
                let mut updates = Vec::new();
                if frame["type"] == "hello" && std::mem::take(&mut session.lost) {
                    updates.push(ScreenUpdate::Line(LineStyle::Note, "reconnected".to_owned()));
                }
                updates.extend(session.view.apply_frame(&frame));
                // Either the cancelled run is over, or the service rejected a command, possibly the cancel.
                let frame_type = frame["type"].as_str().unwrap_or_default();
                if !session.view.is_in_run()
                    || matches!(frame_type, "run_started" | "run_finished" | "run_failed" | "error")
                {
                    self.cancel_sent_at = None;
                }
                self.screen.apply_updates(updates)
            }
            Some(ConnectionEvent::Lost(error)) => {
                let mut updates = session.view.mark_connection_lost();
                if !std::mem::replace(&mut session.lost, true) {
                    let reason = sanitize_text(&error.to_string());
                    let line = format!("connection lost ({reason}), reconnecting…");
                    updates.push(ScreenUpdate::Line(LineStyle::Failure, line));
                }
                self.screen.apply_updates(updates)
            }
            Some(ConnectionEvent::Ended(error)) => {
                self.session = None;
                self.cancel_sent_at = None;
                let reason = sanitize_text(&error.to_string());
                self.screen.apply_updates([
                    ScreenUpdate::Activity(None),
                    ScreenUpdate::Line(LineStyle::Failure, format!("session ended: {reason}")),
                    ScreenUpdate::Line(LineStyle::Note, "the next message starts a new session".to_owned()),
                ])
            }
            None => {
                self.session = None;
                Ok(())
            }
        }
    }
}
