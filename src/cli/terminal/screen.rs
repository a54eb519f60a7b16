//! The screen: writes updates to the terminal.
//!
//! It has two states. While a prompt is open, the line editor owns the terminal and whole lines are printed above it.
//! Otherwise text is written as it arrives, and a spinner shows the current activity.

use std::{
    io::{self, IsTerminal, Write},
    time::Instant,
};

use unicode_width::UnicodeWidthChar as _;

use super::{
    diff_colors::color_diff,
    formatting::{format_duration, truncate_chars},
    markdown_layout::ColorUse,
    markdown_layout::wrap_marked_text,
    markdown_stream::MarkdownStream,
    screen_update::{LineStyle, ScreenUpdate},
};

/// What the terminal supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) struct TerminalCapabilities {
    /// Whether a line can be overwritten, which the spinner needs.
    pub(in crate::cli) overwrite: bool,
    /// Whether colors are enabled.
    pub(in crate::cli) colors: bool,
}

impl TerminalCapabilities {
    /// Detects the capabilities of an output.
    #[must_use]
    pub(in crate::cli) fn detect(output: &impl IsTerminal) -> Self {
        let overwrite = output.is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let colors = overwrite && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { overwrite, colors }
    }
}

impl TerminalCapabilities {
    fn color_use(self) -> ColorUse {
        if self.colors { ColorUse::Colors } else { ColorUse::Plain }
    }
}

/// Longer lines are hard to read.
const MAX_TEXT_WIDTH: usize = 110;
/// The width of a terminal that does not tell its own.
const USUAL_WIDTH: usize = 80;

/// Returns the width of text in the terminal as it is now.
fn text_width() -> usize {
    let columns = terminal_size::terminal_size().map_or(USUAL_WIDTH, |(columns, _)| usize::from(columns.0));
    columns.min(MAX_TEXT_WIDTH)
}

/// Returns the end of a line that fits into `width` columns.
fn newest_columns(line: &str, width: usize) -> String {
    let mut used = 0;
    let fits = |c: &char| {
        used += c.width().unwrap_or(0);
        used <= width
    };
    let newest: Vec<char> = line.chars().rev().take_while(fits).collect();
    newest.into_iter().rev().collect()
}

/// Prints whole lines above a prompt.
pub(in crate::cli) type PrintAbovePrompt = Box<dyn FnMut(String) + Send>;

const SPINNER_FRAMES: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

/// Short enough for one line of a narrow terminal, because a line that wraps cannot be overwritten.
const MAX_SPINNER_TEXT: usize = 50;

/// Writes updates to an output.
pub(in crate::cli) struct TerminalScreen<W> {
    out: W,
    /// Where lines and the spinner go, if not to `out`.
    side: Option<W>,
    capabilities: TerminalCapabilities,
    print_above: Option<PrintAbovePrompt>,
    prompt_open: bool,
    /// The text that is being written, where it is shown as Markdown and not as it is.
    markdown: Option<MarkdownStream>,
    /// Text that waits for the end of its line while a prompt is open.
    buffered_text: String,
    /// Whether the cursor is in the middle of a line of text.
    in_line: bool,
    activity: Option<(String, Instant)>,
    spinner_visible: bool,
    spinner_frame: usize,
}

impl<W: Write> TerminalScreen<W> {
    /// Creates a screen that writes to `out`, and with `print_above` while a prompt is open.
    #[must_use]
    pub(in crate::cli) fn new(
        out: W,
        capabilities: TerminalCapabilities,
        print_above: Option<PrintAbovePrompt>,
    ) -> Self {
        Self {
            out,
            side: None,
            capabilities,
            print_above,
            markdown: capabilities.overwrite.then(|| MarkdownStream::new(capabilities.color_use())),
            prompt_open: false,
            buffered_text: String::new(),
            in_line: false,
            activity: None,
            spinner_visible: false,
            spinner_frame: 0,
        }
    }

    /// Returns the screen with another output for lines and the spinner, so that `out` receives text alone.
    #[must_use]
    pub(in crate::cli) fn with_side_output(self, side: W) -> Self {
        Self { side: Some(side), ..self }
    }

    fn side(&mut self) -> &mut W {
        self.side.as_mut().unwrap_or(&mut self.out)
    }

    /// Writes updates.
    ///
    /// # Errors
    /// The output is closed.
    pub(in crate::cli) fn apply_updates(&mut self, updates: impl IntoIterator<Item = ScreenUpdate>) -> io::Result<()> {
        for update in updates {
            match update {
                ScreenUpdate::Text(text) => self.write_text(&text)?,
                ScreenUpdate::EndOfText => self.finish_text()?,
                ScreenUpdate::Line(style, line) => self.write_line(style, &line)?,
                ScreenUpdate::Activity(text) => {
                    // The timer continues if only the details change: `2/5` of the same call.
                    let same_activity = |old: &str, new: &str| old.split(' ').next() == new.split(' ').next();
                    self.activity = match (text, self.activity.take()) {
                        (Some(text), Some((old, since))) if same_activity(&old, &text) => Some((text, since)),
                        (text, _) => text.map(|text| (text, Instant::now())),
                    };
                    self.clear_spinner()?;
                }
            }
        }
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.side().flush()?;
        self.out.flush()
    }

    /// Returns whether the spinner is in use, so that [`Self::advance_spinner`] must be called regularly.
    #[must_use]
    pub(in crate::cli) fn needs_ticks(&self) -> bool {
        let is_writing = self.markdown.as_ref().is_some_and(|markdown| !markdown.is_empty());
        self.capabilities.overwrite && !self.prompt_open && !self.in_line && !is_writing && self.activity.is_some()
    }

    /// Shows the next frame of the spinner.
    ///
    /// # Errors
    /// The output is closed.
    pub(in crate::cli) fn advance_spinner(&mut self) -> io::Result<()> {
        if !self.needs_ticks() {
            return Ok(());
        }
        let Some((text, since)) = &self.activity else { return Ok(()) };
        let elapsed_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        let frame = SPINNER_FRAMES[self.spinner_frame % SPINNER_FRAMES.len()];
        let text = truncate_chars(&text.replace('\n', " "), MAX_SPINNER_TEXT);
        let line = format!("{frame} {text} {}", format_duration(elapsed_ms));
        self.spinner_frame += 1;
        let line = self.colorize(LineStyle::Note, &line);
        write!(self.side(), "\r\x1b[2K{line}")?;
        self.spinner_visible = true;
        self.flush()
    }

    /// Prepares the screen for a prompt.
    ///
    /// # Errors
    /// The output is closed.
    pub(in crate::cli) fn begin_prompt(&mut self) -> io::Result<()> {
        if !self.prompt_open {
            self.finish_text()?;
        }
        self.clear_spinner()?;
        self.finish_line()?;
        // Without a line editor there is no prompt on the screen that text could run into.
        self.prompt_open = self.print_above.is_some();
        self.out.flush()
    }

    /// Returns to direct output after a prompt.
    ///
    /// # Errors
    /// The output is closed.
    pub(in crate::cli) fn end_prompt(&mut self) -> io::Result<()> {
        self.prompt_open = false;
        let buffered = std::mem::take(&mut self.buffered_text);
        if buffered.is_empty() { Ok(()) } else { self.write_plain_text(&buffered) }
    }

    fn write_text(&mut self, text: &str) -> io::Result<()> {
        if let Some(markdown) = &mut self.markdown {
            let lines = markdown.push(text, text_width());
            self.write_lines(&lines)?;
            return self.show_unfinished_line();
        }
        self.write_plain_text(text)
    }

    /// Writes what is left of the text.
    fn finish_text(&mut self) -> io::Result<()> {
        let Some(markdown) = self.markdown.as_mut().filter(|markdown| !markdown.is_empty()) else { return Ok(()) };
        let lines = markdown.finish(text_width());
        self.write_lines(&lines)
    }

    fn write_lines(&mut self, lines: &[String]) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let text = lines.join("\n") + "\n";
        if self.prompt_open {
            self.print_above_prompt(text);
            return Ok(());
        }
        self.clear_spinner()?;
        self.out.write_all(text.as_bytes())
    }

    /// Shows the line that is being written where the spinner is otherwise: it is overwritten.
    fn show_unfinished_line(&mut self) -> io::Result<()> {
        let Some(markdown) = self.markdown.as_ref().filter(|_| !self.prompt_open && self.side.is_none()) else {
            return Ok(());
        };
        let width = text_width().saturating_sub(2);
        let line = newest_columns(&markdown.unfinished_line(text_width()), width);
        let line = self.colorize(LineStyle::Note, &line);
        write!(self.out, "\r{line}\x1b[K")?;
        self.spinner_visible = true;
        Ok(())
    }

    fn write_plain_text(&mut self, text: &str) -> io::Result<()> {
        if self.prompt_open {
            self.buffered_text.push_str(text);
            if let Some(end) = self.buffered_text.rfind('\n') {
                let lines: String = self.buffered_text.drain(..=end).collect();
                self.print_above_prompt(lines);
            }
            return Ok(());
        }
        self.clear_spinner()?;
        self.out.write_all(text.as_bytes())?;
        if !text.is_empty() {
            self.in_line = !text.ends_with('\n');
        }
        Ok(())
    }

    fn write_line(&mut self, style: LineStyle, line: &str) -> io::Result<()> {
        self.finish_text()?;
        let mark = match style {
            LineStyle::Plain | LineStyle::User | LineStyle::Diff => "",
            LineStyle::Tool => "→ ",
            LineStyle::Success => "✓ ",
            LineStyle::Failure => "✗ ",
            LineStyle::Question => "? ",
            LineStyle::Note => "· ",
        };
        let line = match style {
            LineStyle::Note | LineStyle::Failure | LineStyle::Success | LineStyle::Tool
                if self.capabilities.overwrite =>
            {
                wrap_marked_text(mark, line, text_width())
            }
            // The arguments below the first line are shown as they are.
            LineStyle::Question if self.capabilities.overwrite => {
                let (first, rest) = line.split_once('\n').unwrap_or((line, ""));
                let rest = if rest.is_empty() { String::new() } else { format!("\n{rest}") };
                wrap_marked_text(mark, first, text_width()) + &rest
            }
            _ => format!("{mark}{line}"),
        };
        let line = self.colorize(style, &line);
        if self.prompt_open {
            let mut lines = std::mem::take(&mut self.buffered_text);
            if !lines.is_empty() {
                lines.push('\n');
            }
            self.print_above_prompt(lines + &line + "\n");
            return Ok(());
        }
        self.clear_spinner()?;
        self.finish_line()?;
        writeln!(self.side(), "{line}")
    }

    fn colorize(&self, style: LineStyle, line: &str) -> String {
        let code = match style {
            LineStyle::Diff if self.capabilities.colors => {
                return line.split('\n').map(color_diff).collect::<Vec<_>>().join("\n");
            }
            LineStyle::Plain | LineStyle::Diff => return line.to_owned(),
            _ if !self.capabilities.colors => return line.to_owned(),
            LineStyle::User => "1",
            LineStyle::Tool => "36",
            LineStyle::Success => "32",
            LineStyle::Failure => "31",
            LineStyle::Question => "33",
            LineStyle::Note => "2",
        };
        // Each line gets its own codes, because printing above a prompt clears to the end of each line.
        line.split('\n').map(|part| format!("\x1b[{code}m{part}\x1b[0m")).collect::<Vec<_>>().join("\n")
    }

    fn print_above_prompt(&mut self, lines: String) {
        if let Some(print_above) = &mut self.print_above {
            print_above(lines);
        }
    }

    fn clear_spinner(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.spinner_visible) {
            self.side().write_all(b"\r\x1b[2K")?;
            self.side().flush()?;
        }
        Ok(())
    }

    fn finish_line(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.in_line) {
            self.out.write_all(b"\n")?;
            self.out.flush()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use std::sync::Arc;

    use super::*;

    const NO_CAPABILITIES: TerminalCapabilities = TerminalCapabilities { overwrite: false, colors: false };

    fn text(text: &str) -> ScreenUpdate {
        ScreenUpdate::Text(text.to_owned())
    }

    #[test]
    fn lines_start_at_the_margin() {
        let mut screen = TerminalScreen::new(Vec::new(), NO_CAPABILITIES, None);
        let line = ScreenUpdate::Line(LineStyle::Success, "pods_list ok".to_owned());
        let activity = ScreenUpdate::Activity(Some("x".into()));
        screen.apply_updates([text("It "), text("is"), line.clone(), text("down\n"), line, activity]).unwrap();
        screen.advance_spinner().unwrap();
        assert_eq!(String::from_utf8(screen.out).unwrap(), "It is\n✓ pods_list ok\ndown\n✓ pods_list ok\n");
    }

    #[test]
    fn spinner_is_cleared_before_output() {
        let capabilities = TerminalCapabilities { overwrite: true, colors: false };
        let mut screen = TerminalScreen::new(Vec::new(), capabilities, None);
        screen.apply_updates([ScreenUpdate::Activity(Some("thinking".into()))]).unwrap();
        screen.advance_spinner().unwrap();
        screen.apply_updates([text("a")]).unwrap();
        assert!(!screen.needs_ticks(), "not in the middle of a line");
        screen.apply_updates([ScreenUpdate::EndOfText]).unwrap();
        let out = String::from_utf8(screen.out).unwrap();
        assert_eq!(out, "\r\x1b[2K⠋ thinking 0 ms\ra\x1b[K\r\x1b[2Ka\n");
    }

    #[test]
    fn open_prompt_gets_whole_lines_above_it() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = lines.clone();
        let print_above: PrintAbovePrompt = Box::new(move |line| sink.lock().push(line));
        let capabilities = TerminalCapabilities { overwrite: true, colors: true };
        let mut screen = TerminalScreen::new(Vec::new(), capabilities, Some(print_above));
        screen.apply_updates([text("before")]).unwrap();
        screen.begin_prompt().unwrap();
        let note = ScreenUpdate::Line(LineStyle::Note, "x".into());
        screen.apply_updates([text("one\n\ntw"), text("o"), note, text("three")]).unwrap();
        screen.end_prompt().unwrap();
        screen.apply_updates([ScreenUpdate::EndOfText]).unwrap();
        assert_eq!(*lines.lock(), ["one\n", "\ntwo\n", "\x1b[2m· x\x1b[0m\n"]);
        let out = String::from_utf8(screen.out).unwrap();
        assert!(out.ends_with("before\nthree\n"), "{out:?}");
    }
}
