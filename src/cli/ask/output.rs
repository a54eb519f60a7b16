//! Where the answer goes, and what goes with it.

use std::io::{self, IsTerminal as _, Write};

use serde_json::Value;

use crate::cli::terminal::{LineStyle, ScreenUpdate, TerminalCapabilities, TerminalScreen};

/// What standard output gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AnswerFormat {
    /// The answer alone, when it is complete: for pipes and files.
    Whole,
    /// The model's text while it is written: for people.
    Streamed,
    /// The events of the run, one JSON object per line.
    Events,
}

/// Whether standard error gets tool calls and notes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SideNotes {
    Shown,
    /// Only failures.
    Quiet,
}

type BoxedOutput = Box<dyn Write + Send>;

/// Standard output and standard error of a question.
pub(super) struct AskOutput {
    format: AnswerFormat,
    notes: SideNotes,
    screen: TerminalScreen<BoxedOutput>,
    stdout: BoxedOutput,
}

impl AskOutput {
    /// Uses the outputs of this process.
    pub(super) fn of_process(json: bool, notes: SideNotes) -> Self {
        let stdout = io::stdout();
        let format = match (json, stdout.is_terminal()) {
            (true, _) => AnswerFormat::Events,
            (false, true) => AnswerFormat::Streamed,
            (false, false) => AnswerFormat::Whole,
        };
        let stderr: BoxedOutput = Box::new(io::stderr());
        let side = TerminalCapabilities::detect(&io::stderr());
        let screen = match format {
            AnswerFormat::Streamed => {
                let text = TerminalCapabilities::detect(&stdout);
                let both = TerminalCapabilities {
                    overwrite: side.overwrite && text.overwrite,
                    colors: side.colors && text.colors,
                };
                TerminalScreen::new(Box::new(io::stdout()) as BoxedOutput, both, None).with_side_output(stderr)
            }
            AnswerFormat::Whole | AnswerFormat::Events => TerminalScreen::new(stderr, side, None),
        };
        Self { format, notes, screen, stdout: Box::new(stdout) }
    }

    /// Writes everything to `written`.
    #[cfg(test)]
    pub(super) fn captured(written: impl Write + Send + Clone + 'static) -> Self {
        let plain = TerminalCapabilities { overwrite: false, colors: false };
        let screen = TerminalScreen::new(Box::new(written.clone()) as BoxedOutput, plain, None);
        Self { format: AnswerFormat::Whole, notes: SideNotes::Shown, screen, stdout: Box::new(written) }
    }

    /// Shows what a frame changes.
    ///
    /// # Errors
    /// The output is closed.
    pub(super) fn show_updates(&mut self, updates: Vec<ScreenUpdate>) -> io::Result<()> {
        let is_shown = |update: &ScreenUpdate| match update {
            ScreenUpdate::Text(_) | ScreenUpdate::EndOfText => self.format == AnswerFormat::Streamed,
            ScreenUpdate::Line(LineStyle::Failure | LineStyle::Question | LineStyle::Diff, _) => true,
            ScreenUpdate::Line(..) | ScreenUpdate::Activity(_) => self.notes == SideNotes::Shown,
        };
        let shown: Vec<ScreenUpdate> = updates.into_iter().filter(is_shown).collect();
        self.screen.apply_updates(shown)
    }

    /// Shows a line on standard error.
    ///
    /// # Errors
    /// The output is closed.
    pub(super) fn show_line(&mut self, style: LineStyle, line: impl Into<String>) -> io::Result<()> {
        self.show_updates(vec![ScreenUpdate::Line(style, line.into())])
    }

    /// Writes an event of the run, if events are what is asked for.
    ///
    /// # Errors
    /// The output is closed.
    pub(super) fn write_event(&mut self, frame: &Value) -> io::Result<()> {
        if self.format != AnswerFormat::Events {
            return Ok(());
        }
        writeln!(self.stdout, "{frame}")?;
        self.stdout.flush()
    }

    /// Shows what the model says next to its calls, where its text is not streamed.
    ///
    /// # Errors
    /// The output is closed.
    pub(super) fn show_interim_text(&mut self, text: &str) -> io::Result<()> {
        if self.format == AnswerFormat::Streamed || text.trim().is_empty() {
            return Ok(());
        }
        self.show_line(LineStyle::Note, text.trim().to_owned())
    }

    /// Writes the answer, unless it was streamed.
    ///
    /// # Errors
    /// The output is closed.
    pub(super) fn write_answer(&mut self, text: &str) -> io::Result<()> {
        // A run that failed has none.
        if self.format != AnswerFormat::Whole || text.trim().is_empty() {
            return Ok(());
        }
        writeln!(self.stdout, "{}", text.trim_end_matches('\n'))?;
        self.stdout.flush()
    }

    pub(super) fn needs_ticks(&self) -> bool {
        self.screen.needs_ticks()
    }

    /// Shows the next frame of the spinner.
    ///
    /// # Errors
    /// The output is closed.
    pub(super) fn advance_spinner(&mut self) -> io::Result<()> {
        self.screen.advance_spinner()
    }

    /// Ends the last line of the text.
    ///
    /// # Errors
    /// The output is closed.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.screen.begin_prompt()
    }
}
