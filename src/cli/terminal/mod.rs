//! What commands show at a terminal: text that is safe to print, a screen with a spinner and a prompt.

mod formatting;
mod screen;
mod screen_update;

pub(super) use self::{
    formatting::{
        compact_json, format_bytes, format_count, format_duration, indented_json, sanitize_text, short_id,
        truncate_chars,
    },
    screen::{PrintAbovePrompt, TerminalCapabilities, TerminalScreen},
    screen_update::{LineStyle, ScreenUpdate, failure_line, note_line},
};

/// Where the user's lines come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InputSource {
    /// A terminal, which already shows what the user types.
    Terminal,
    /// A pipe or a file.
    Pipe,
}
