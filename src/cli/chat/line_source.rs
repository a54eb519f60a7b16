//! Lines from standard input, read on a thread because reading blocks.

use std::{
    fs::DirBuilder,
    io::{self, BufRead, IsTerminal as _},
    os::unix::fs::DirBuilderExt as _,
    path::PathBuf,
};

use rustyline::{
    Cmd, CompletionType, Config, Editor, ExternalPrinter as _, KeyCode, KeyEvent, Modifiers, error::ReadlineError,
    history::FileHistory,
};
use tokio::sync::mpsc;

use super::line_helper::{LineHelper, join_continued_lines};
use crate::cli::terminal::PrintAbovePrompt;

/// What a line is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinePurpose {
    /// A message or a command, which the history keeps.
    Message,
    /// An answer to a question.
    Answer,
}

/// A request for one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LinePrompt {
    pub(super) purpose: LinePurpose,
    /// The text in front of the line.
    pub(super) prompt: String,
    /// The initial content of the line, for the user to edit.
    pub(super) initial: String,
}

impl LinePrompt {
    /// The usual prompt.
    pub(super) fn message() -> Self {
        Self { purpose: LinePurpose::Message, prompt: "> ".to_owned(), initial: String::new() }
    }

    /// The prompt of a question.
    pub(super) fn answer(prompt: String, initial: String) -> Self {
        Self { purpose: LinePurpose::Answer, prompt, initial }
    }
}

/// What the user did at a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TerminalInput {
    /// Entered a line.
    Line(String),
    /// Pressed Ctrl-C at the prompt.
    Interrupt,
    /// Entered a line that is not UTF-8; it must not be used in part either.
    InvalidUtf8,
    /// Ended the input (Ctrl-D, or the end of a pipe).
    End,
}

/// A source of lines. Each requested line yields one [`TerminalInput`].
pub(super) struct LineSource {
    prompts: mpsc::Sender<LinePrompt>,
    inputs: mpsc::Receiver<TerminalInput>,
}

impl LineSource {
    /// Creates a source whose prompts and inputs are channels.
    #[must_use]
    pub(super) fn new(prompts: mpsc::Sender<LinePrompt>, inputs: mpsc::Receiver<TerminalInput>) -> Self {
        Self { prompts, inputs }
    }

    /// Requests a line. The previous request must have been answered.
    pub(super) fn request_line(&self, prompt: LinePrompt) {
        // A reader that has ended has already sent `End`.
        let _ = self.prompts.try_send(prompt);
    }

    /// Waits for the user's input at the requested line.
    pub(super) async fn next_input(&mut self) -> TerminalInput {
        self.inputs.recv().await.unwrap_or(TerminalInput::End)
    }
}

/// Starts to read standard input: with a line editor if it is a terminal, line by line otherwise.
#[must_use]
pub(super) fn open_line_source() -> (LineSource, Option<PrintAbovePrompt>) {
    let (prompts, requested) = mpsc::channel(1);
    let (entered, inputs) = mpsc::channel(1);
    let source = LineSource::new(prompts, inputs);
    if io::stdin().is_terminal()
        && io::stdout().is_terminal()
        && let Ok(mut editor) = open_editor()
    {
        let print_above = editor.create_external_printer().ok().map(|mut printer| -> PrintAbovePrompt {
            Box::new(move |line| {
                let _ = printer.print(line);
            })
        });
        std::thread::spawn(move || edit_lines(&mut editor, requested, &entered));
        return (source, print_above);
    }
    std::thread::spawn(move || read_lines(requested, &entered));
    (source, None)
}

type LineEditor = Editor<LineHelper, FileHistory>;

fn open_editor() -> rustyline::Result<LineEditor> {
    let config = Config::builder().history_ignore_dups(true)?.completion_type(CompletionType::List).build();
    let mut editor = LineEditor::with_config(config)?;
    editor.set_helper(Some(LineHelper));
    editor.bind_sequence(KeyEvent(KeyCode::Enter, Modifiers::ALT), Cmd::Newline);
    if let Some(path) = history_path() {
        // There is none before the first message.
        let _ = editor.load_history(&path);
    }
    Ok(editor)
}

/// Returns the file of the messages of earlier chats.
fn history_path() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(state.join("k8sops/history"))
}

/// Adds a message to the history, in a file that only the user can read.
fn remember_message(editor: &mut LineEditor, line: &str) {
    let Ok(true) = editor.add_history_entry(line) else { return };
    let Some(path) = history_path() else { return };
    // A chat works without a history, for example where the home is read-only.
    if let Some(folder) = path.parent()
        && DirBuilder::new().recursive(true).mode(0o700).create(folder).is_ok()
    {
        let _ = editor.append_history(&path);
    }
}

fn read_lines(mut requested: mpsc::Receiver<LinePrompt>, entered: &mpsc::Sender<TerminalInput>) {
    let mut stdin = io::stdin().lock();
    while requested.blocking_recv().is_some() {
        if entered.blocking_send(read_line(&mut stdin)).is_err() {
            return;
        }
    }
}

/// Reads the next line of a pipe.
fn read_line(reader: &mut impl BufRead) -> TerminalInput {
    let mut bytes = Vec::new();
    match reader.read_until(b'\n', &mut bytes) {
        Err(_) | Ok(0) => return TerminalInput::End,
        Ok(_) => {}
    }
    let line = bytes.strip_suffix(b"\n").map_or(&*bytes, |line| line.strip_suffix(b"\r").unwrap_or(line));
    std::str::from_utf8(line).map_or(TerminalInput::InvalidUtf8, |line| TerminalInput::Line(line.to_owned()))
}

fn edit_lines(
    editor: &mut LineEditor,
    mut requested: mpsc::Receiver<LinePrompt>,
    entered: &mpsc::Sender<TerminalInput>,
) {
    while let Some(LinePrompt { purpose, prompt, initial }) = requested.blocking_recv() {
        let input = match editor.readline_with_initial(&prompt, (&initial, "")) {
            Ok(line) => {
                if purpose == LinePurpose::Message && !line.trim().is_empty() {
                    remember_message(editor, &line);
                }
                TerminalInput::Line(join_continued_lines(&line))
            }
            Err(ReadlineError::Interrupted) => TerminalInput::Interrupt,
            Err(ReadlineError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                discard_unread_input();
                TerminalInput::InvalidUtf8
            }
            Err(_) => TerminalInput::End,
        };
        if entered.blocking_send(input).is_err() {
            return;
        }
    }
}

/// Discards input that was typed and not read yet: the rest of a line whose start is lost must not be read as a line.
fn discard_unread_input() {
    // If this fails, the rest of the line only appears at the next prompt.
    #[cfg(unix)]
    let _ = nix::sys::termios::tcflush(io::stdin(), nix::sys::termios::FlushArg::TCIFLUSH);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn piped_lines_keep_invalid_utf8_apart_from_the_end() {
        let mut pipe = &b"one\r\n\n\xff\xfe\nt\rwo\n\xc3\nlast"[..];
        let inputs: Vec<TerminalInput> = std::iter::repeat_with(|| read_line(&mut pipe)).take(7).collect();
        let line = |text: &str| TerminalInput::Line(text.to_owned());
        let expected = [
            line("one"),
            line(""),
            TerminalInput::InvalidUtf8,
            line("t\rwo"),
            TerminalInput::InvalidUtf8,
            line("last"),
            TerminalInput::End,
        ];
        assert_eq!(inputs, expected);
    }
}
