//! The terminal: lines in, on a thread of their own because reading blocks, and operations out.
//!
//! Two states. While a prompt stands, the line editor owns the terminal and whole lines go above it. While none stands,
//! text flows as it comes and a spinner shows what is going on.

use std::{
    io::{self, BufRead, IsTerminal as _, Write},
    sync::mpsc as blocking,
    time::Instant,
};

use rustyline::{Config, DefaultEditor, ExternalPrinter as _, error::ReadlineError};
use tokio::sync::mpsc;

use super::{
    render::{Op, Tone},
    text::{cut, duration},
};

/// A question to the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// What stands before the line.
    pub prompt: String,
    /// What the line begins with; to be changed.
    pub initial: String,
}

/// What the user did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Typed a line.
    Line(String),
    /// Pressed Ctrl-C at the prompt.
    Interrupt,
    /// Typed or piped a line that is not UTF-8; nothing of it is to be used.
    Unreadable,
    /// Ended the input (Ctrl-D, or the end of a pipe).
    End,
}

/// Where lines come from. Each question has one answer.
pub struct Inputs {
    asks: blocking::Sender<Ask>,
    answers: mpsc::Receiver<Input>,
}

impl Inputs {
    /// A source of lines that is not a terminal: for tests.
    #[must_use]
    pub fn new(asks: blocking::Sender<Ask>, answers: mpsc::Receiver<Input>) -> Self {
        Self { asks, answers }
    }

    /// Asks for a line.
    pub fn ask(&self, ask: Ask) {
        // A reader that is gone has said `End`.
        let _ = self.asks.send(ask);
    }

    /// The answer to the oldest question without one.
    pub async fn next(&mut self) -> Input {
        self.answers.recv().await.unwrap_or(Input::End)
    }
}

/// Prints whole lines above a prompt.
pub type Above = Box<dyn FnMut(String) + Send>;

/// Starts to read standard input: with a line editor if it is a terminal, else as it comes.
#[must_use]
pub fn open_input() -> (Inputs, Option<Above>) {
    let (asks, to_ask) = blocking::channel();
    let (answer, answers) = mpsc::channel(1);
    let inputs = Inputs { asks, answers };
    if io::stdin().is_terminal() && io::stdout().is_terminal() {
        let config = Config::builder().auto_add_history(true).build();
        if let Ok(mut editor) = DefaultEditor::with_config(config) {
            let above = editor.create_external_printer().ok().map(|mut printer| -> Above {
                Box::new(move |line| {
                    let _ = printer.print(line);
                })
            });
            std::thread::spawn(move || edit(&mut editor, &to_ask, &answer));
            return (inputs, above);
        }
    }
    std::thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        while to_ask.recv().is_ok() {
            if answer.blocking_send(read_line(&mut stdin)).is_err() {
                return;
            }
        }
    });
    (inputs, None)
}

/// The next line of a pipe.
fn read_line(reader: &mut impl BufRead) -> Input {
    let mut bytes = Vec::new();
    match reader.read_until(b'\n', &mut bytes) {
        Err(_) | Ok(0) => return Input::End,
        Ok(_) => {}
    }
    let line = bytes.strip_suffix(b"\n").map_or(&*bytes, |line| line.strip_suffix(b"\r").unwrap_or(line));
    std::str::from_utf8(line).map_or(Input::Unreadable, |line| Input::Line(line.to_owned()))
}

fn edit(editor: &mut DefaultEditor, to_ask: &blocking::Receiver<Ask>, answer: &mpsc::Sender<Input>) {
    while let Ok(Ask { prompt, initial }) = to_ask.recv() {
        let input = match editor.readline_with_initial(&prompt, (&initial, "")) {
            Ok(line) => Input::Line(line),
            Err(ReadlineError::Interrupted) => Input::Interrupt,
            Err(ReadlineError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                drop_typed();
                Input::Unreadable
            }
            Err(_) => Input::End,
        };
        if answer.blocking_send(input).is_err() {
            return;
        }
    }
}

/// Drops what was typed and not read yet: the rest of a line whose beginning is lost is no line of its own.
fn drop_typed() {
    // That it cannot be dropped only means that it is seen at the next prompt.
    #[cfg(unix)]
    let _ = nix::sys::termios::tcflush(io::stdin(), nix::sys::termios::FlushArg::TCIFLUSH);
}

/// What the terminal can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Whether lines can be written over: a spinner is possible.
    pub live: bool,
    /// Whether colours are wanted.
    pub colours: bool,
}

impl Look {
    /// What standard output is.
    #[must_use]
    pub fn of_stdout() -> Self {
        let live = io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self { live, colours: live && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) }
    }
}

const FRAMES: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

/// Where operations are shown.
pub struct Screen<W> {
    out: W,
    look: Look,
    above: Option<Above>,
    /// Whether a prompt stands.
    prompted: bool,
    /// Text that waits for the end of its line, while a prompt stands.
    waiting: String,
    /// Whether the cursor is in the middle of a line of text.
    in_line: bool,
    activity: Option<(String, Instant)>,
    /// Whether the spinner is on the screen.
    spinning: bool,
    turn: usize,
}

impl<W: Write> Screen<W> {
    /// A screen that writes to `out`, and above a prompt by `above`.
    #[must_use]
    pub fn new(out: W, look: Look, above: Option<Above>) -> Self {
        let (waiting, activity) = (String::new(), None);
        Self { out, look, above, prompted: false, waiting, in_line: false, activity, spinning: false, turn: 0 }
    }

    /// Shows operations.
    ///
    /// # Errors
    /// The output is closed.
    pub fn show(&mut self, ops: impl IntoIterator<Item = Op>) -> io::Result<()> {
        for op in ops {
            match op {
                Op::Text(text) => self.text(&text)?,
                Op::Line(tone, line) => self.line(tone, &line)?,
                Op::Activity(said) => {
                    // The time counts on while only the words change: `2/5` of the same call.
                    let same = |old: &str, new: &str| old.split(' ').next() == new.split(' ').next();
                    self.activity = match (said, self.activity.take()) {
                        (Some(said), Some((old, since))) if same(&old, &said) => Some((said, since)),
                        (said, _) => said.map(|said| (said, Instant::now())),
                    };
                    self.wipe()?;
                }
            }
        }
        self.out.flush()
    }

    /// Whether [`Self::tick`] has something to do.
    #[must_use]
    pub fn wants_ticks(&self) -> bool {
        self.look.live && !self.prompted && !self.in_line && self.activity.is_some()
    }

    /// Turns the spinner.
    ///
    /// # Errors
    /// The output is closed.
    pub fn tick(&mut self) -> io::Result<()> {
        if !self.wants_ticks() {
            return Ok(());
        }
        let Some((said, since)) = &self.activity else { return Ok(()) };
        let ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        // Short enough for one line of a narrow terminal: a line that wraps cannot be written over.
        let line =
            format!("{} {} {}", FRAMES[self.turn % FRAMES.len()], cut(&said.replace('\n', " "), 50), duration(ms));
        self.turn += 1;
        let line = self.painted(Tone::Note, &line);
        write!(self.out, "\r\x1b[2K{line}")?;
        self.spinning = true;
        self.out.flush()
    }

    /// Says that a prompt will stand from now on.
    ///
    /// # Errors
    /// The output is closed.
    pub fn prompt_begins(&mut self) -> io::Result<()> {
        self.wipe()?;
        self.end_line()?;
        // Without a line editor nothing stands on the screen that text could run into.
        self.prompted = self.above.is_some();
        self.out.flush()
    }

    /// Says that the prompt is gone.
    ///
    /// # Errors
    /// The output is closed.
    pub fn prompt_ends(&mut self) -> io::Result<()> {
        self.prompted = false;
        let waiting = std::mem::take(&mut self.waiting);
        if waiting.is_empty() { Ok(()) } else { self.text(&waiting) }
    }

    fn text(&mut self, text: &str) -> io::Result<()> {
        if self.prompted {
            self.waiting.push_str(text);
            if let Some(end) = self.waiting.rfind('\n') {
                let lines: String = self.waiting.drain(..=end).collect();
                self.print_above(lines);
            }
            return Ok(());
        }
        self.wipe()?;
        self.out.write_all(text.as_bytes())?;
        if !text.is_empty() {
            self.in_line = !text.ends_with('\n');
        }
        Ok(())
    }

    fn line(&mut self, tone: Tone, line: &str) -> io::Result<()> {
        let mark = match tone {
            Tone::Plain | Tone::User => "",
            Tone::Tool => "→ ",
            Tone::Good => "✓ ",
            Tone::Bad => "✗ ",
            Tone::Ask => "? ",
            Tone::Note => "· ",
        };
        let line = self.painted(tone, &format!("{mark}{line}"));
        if self.prompted {
            let mut lines = std::mem::take(&mut self.waiting);
            if !lines.is_empty() {
                lines.push('\n');
            }
            self.print_above(lines + &line + "\n");
            return Ok(());
        }
        self.wipe()?;
        self.end_line()?;
        writeln!(self.out, "{line}")
    }

    fn painted(&self, tone: Tone, line: &str) -> String {
        let code = match tone {
            Tone::Plain => return line.to_owned(),
            _ if !self.look.colours => return line.to_owned(),
            Tone::User => "1",
            Tone::Tool => "36",
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Ask => "33",
            Tone::Note => "2",
        };
        // Line by line, for what prints above a prompt clears to the end of each.
        line.split('\n').map(|part| format!("\x1b[{code}m{part}\x1b[0m")).collect::<Vec<_>>().join("\n")
    }

    fn print_above(&mut self, lines: String) {
        if let Some(above) = &mut self.above {
            above(lines);
        }
    }

    /// Takes the spinner off the screen.
    fn wipe(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.spinning) {
            self.out.write_all(b"\r\x1b[2K")?;
        }
        Ok(())
    }

    fn end_line(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.in_line) {
            self.out.write_all(b"\n")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    const PLAIN: Look = Look { live: false, colours: false };

    fn op(text: &str) -> Op {
        Op::Text(text.to_owned())
    }

    #[test]
    fn lines_are_read_as_they_come_and_one_that_is_not_utf8_is_told_from_the_end() {
        let mut pipe = &b"one\r\n\n\xff\xfe\nt\rwo\n\xc3\nlast"[..];
        let read: Vec<Input> = std::iter::repeat_with(|| read_line(&mut pipe)).take(7).collect();
        let line = |text: &str| Input::Line(text.to_owned());
        let expected =
            [line("one"), line(""), Input::Unreadable, line("t\rwo"), Input::Unreadable, line("last"), Input::End];
        assert_eq!(read, expected);
    }

    #[test]
    fn text_flows_and_lines_begin_at_the_margin() {
        let mut screen = Screen::new(Vec::new(), PLAIN, None);
        let line = Op::Line(Tone::Good, "pods_list ok".to_owned());
        screen.show([op("It "), op("is"), line.clone(), op("down\n"), line, Op::Activity(Some("x".into()))]).unwrap();
        screen.tick().unwrap();
        assert_eq!(String::from_utf8(screen.out).unwrap(), "It is\n✓ pods_list ok\ndown\n✓ pods_list ok\n");
    }

    #[test]
    fn the_spinner_is_wiped_before_anything_is_written() {
        let mut screen = Screen::new(Vec::new(), Look { live: true, colours: false }, None);
        screen.show([Op::Activity(Some("thinking".into()))]).unwrap();
        screen.tick().unwrap();
        screen.show([op("a")]).unwrap();
        assert!(!screen.wants_ticks(), "not in the middle of a line");
        let out = String::from_utf8(screen.out).unwrap();
        assert!(out.starts_with("\r\x1b[2K⠋ thinking 0 ms\r\x1b[2Ka"), "{out:?}");
    }

    #[test]
    fn while_a_prompt_stands_whole_lines_go_above_it() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = lines.clone();
        let above: Above = Box::new(move |line| sink.lock().unwrap().push(line));
        let mut screen = Screen::new(Vec::new(), Look { live: true, colours: true }, Some(above));
        screen.show([op("before")]).unwrap();
        screen.prompt_begins().unwrap();
        screen.show([op("one\ntw"), op("o"), Op::Line(Tone::Note, "x".into()), op("three")]).unwrap();
        screen.prompt_ends().unwrap();
        assert_eq!(*lines.lock().unwrap(), ["one\n", "two\n\x1b[2m· x\x1b[0m\n"]);
        assert_eq!(String::from_utf8(screen.out).unwrap(), "before\nthree");
    }
}
