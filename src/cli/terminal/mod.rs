//! What commands show at a terminal: text that is safe to print, a screen with a spinner and a prompt.

mod diff_colors;
mod editor;
mod formatting;
mod markdown;
mod markdown_layout;
mod markdown_stream;
mod markdown_table;
mod pager;
mod screen;
mod screen_update;

pub(super) use self::{
    editor::{EditedText, edit_in_editor},
    formatting::{
        author_name, compact_arguments, compact_json, format_bytes, format_count, format_duration, indented_yaml,
        parse_yaml, reveal_text, sanitize_text, short_id, truncate_chars, yaml_text,
    },
    pager::show_in_pager,
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
