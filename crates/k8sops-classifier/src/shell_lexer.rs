//! A strict reader of shell command lines.
//!
//! It reads the plain part of the shell's language and rejects the rest: everything that could make a shell run something
//! else than the words of the line (expansions, substitutions, redirections to files, control characters) is an error. A
//! general-purpose splitter such as `shlex` accepts these as ordinary words, so it cannot decide what is safe.

use std::{iter::Peekable, str::Chars};

pub(crate) use crate::shell_word::ShellWord;

use crate::shell_variables::{Certainty, LoopCommand, ShellVariables};

/// A longer line is not analyzed.
const MAX_LINE_BYTES: usize = 32 * 1024;

/// Prefixes of words in which an unquoted `?` is accepted, although it is a glob: the query of a `--raw` path. No file is
/// called like this.
const QUERY_PATHS: &[&str] = &["/api/", "/apis/", "/readyz", "/livez", "/healthz", "/metrics"];

/// A program and its arguments; never empty.
pub(crate) type CommandWords = Vec<ShellWord>;

/// The pipelines of a line, in the order in which they run.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ShellLine {
    /// For each pipeline, the commands between its pipes.
    pub(crate) pipelines: Vec<Vec<CommandWords>>,
    /// A carriage return stands at the end of a line. A shell takes it for a part of the last word, other readers do not.
    pub(crate) has_carriage_return: bool,
}

/// Whether quotes may contain line feeds. No program that is classified as harmless needs them, but manifests do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum QuotedLineFeeds {
    #[default]
    Rejected,
    Accepted,
}

/// Reads a line. The error is what in the line is not supported.
pub(crate) fn parse_shell_line(line: &str) -> Result<ShellLine, &'static str> {
    parse_line(line, QuotedLineFeeds::Rejected)
}

/// Reads a line whose quotes may contain line feeds, for a preview of what it changes.
pub(crate) fn parse_previewed_line(line: &str) -> Result<ShellLine, &'static str> {
    parse_line(line, QuotedLineFeeds::Accepted)
}

fn parse_line(line: &str, line_feeds: QuotedLineFeeds) -> Result<ShellLine, &'static str> {
    if line.len() > MAX_LINE_BYTES {
        return Err("the command line is too long");
    }
    let (mut parsed, loop_passes) = parse_loop_pass(line, 0, line_feeds)?;
    for loop_pass in 1..loop_passes {
        parsed.pipelines.extend(parse_loop_pass(line, loop_pass, line_feeds)?.0.pipelines);
    }
    Ok(parsed)
}

/// Reads a line in which loops have their values of that number. Returns how many passes the loops need, too.
fn parse_loop_pass(
    line: &str,
    loop_pass: usize,
    line_feeds: QuotedLineFeeds,
) -> Result<(ShellLine, usize), &'static str> {
    let variables = ShellVariables::for_loop_pass(loop_pass);
    let mut lexer = ShellLexer { chars: line.chars().peekable(), variables, line_feeds, ..ShellLexer::default() };
    lexer.read_line()?;
    Ok((lexer.line, lexer.variables.loop_passes))
}

/// What ends a pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Separator {
    /// `;` or the end of a line.
    Unconditional,
    /// `&&` or `||`.
    Conditional,
    /// `&`.
    Background,
}

/// Whether another command must follow a separator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NextCommand {
    /// Behind `;` and `&`.
    Optional,
    /// Behind `&&` and `||`.
    Required,
}

/// The state of a line that is being read.
struct ShellLexer<'a> {
    chars: Peekable<Chars<'a>>,
    line: ShellLine,
    pipeline: Vec<CommandWords>,
    command: CommandWords,
    word: Option<PartialWord>,
    /// A `|`, `&&` or `||` was read and needs a command behind it.
    needs_command: bool,
    /// Only keywords of a loop were read since the last separator.
    has_keywords: bool,
    /// What stands before the pipeline.
    previous_separator: Separator,
    variables: ShellVariables,
    /// The assignment that is the first word of the command.
    assignment: Option<(String, String)>,
    /// A line continuation touches the next word. Only a shell joins the two.
    continues_word: bool,
    line_feeds: QuotedLineFeeds,
}

impl Default for ShellLexer<'_> {
    fn default() -> Self {
        Self {
            chars: "".chars().peekable(),
            line: ShellLine::default(),
            pipeline: Vec::new(),
            command: Vec::new(),
            word: None,
            needs_command: false,
            has_keywords: false,
            previous_separator: Separator::Unconditional,
            variables: ShellVariables::default(),
            assignment: None,
            continues_word: false,
            line_feeds: QuotedLineFeeds::default(),
        }
    }
}

/// A word that is being read.
struct PartialWord {
    text: String,
    unquoted: bool,
    /// Length of the text before the first quote or escape.
    quoted_from: Option<usize>,
    /// The first unquoted glob character, and the length of the text before it.
    glob: Option<(usize, char)>,
    /// An unquoted `{` was read.
    has_brace: bool,
    /// An unquoted `,` or `..` follows the `{`, so that a shell expands the word.
    has_brace_expansion: bool,
}

impl PartialWord {
    /// Notes that a quote, an escape or an expansion begins here.
    fn mark_quoted(&mut self) {
        self.unquoted = false;
        self.quoted_from.get_or_insert(self.text.len());
    }
}

impl ShellLexer<'_> {
    fn read_line(&mut self) -> Result<(), &'static str> {
        while let Some(char) = self.chars.next() {
            match char {
                ' ' | '\t' => self.end_word()?,
                '\n' => {
                    self.end_command()?;
                    if !self.needs_command {
                        self.apply_assignment(Separator::Unconditional)?;
                        self.end_pipeline();
                        self.has_keywords = false;
                        self.previous_separator = Separator::Unconditional;
                    }
                }
                ';' => self.read_separator(Separator::Unconditional)?,
                '|' if self.chars.next_if_eq(&'|').is_some() => self.read_separator(Separator::Conditional)?,
                '|' => {
                    // `|&` also passes the error messages on.
                    self.chars.next_if_eq(&'&');
                    self.end_command()?;
                    if self.pipeline.is_empty() || self.needs_command {
                        return Err("a pipe has no command before it");
                    }
                    self.needs_command = true;
                }
                '&' => match self.chars.peek() {
                    Some('&') => {
                        self.chars.next();
                        self.read_separator(Separator::Conditional)?;
                    }
                    Some('>') => {
                        self.chars.next();
                        self.end_word()?;
                        self.read_redirection()?;
                    }
                    _ => self.read_separator(Separator::Background)?,
                },
                '>' => {
                    self.end_file_descriptor()?;
                    self.read_redirection()?;
                }
                '<' => {
                    self.end_word()?;
                    if self.chars.peek() == Some(&'<') {
                        return Err("a here-document is not supported");
                    }
                    self.expect_dev_null()?;
                }
                '\'' => self.read_single_quotes()?,
                '"' => self.read_double_quotes()?,
                '\\' => self.read_escape()?,
                '`' => return Err("a command substitution is not supported"),
                '$' => match self.chars.peek() {
                    Some('\'') => self.read_escaped_quotes()?,
                    Some('?') => self.push_exit_status(),
                    _ => self.push_variable()?,
                },
                '(' | ')' => return Err("a subshell is not supported"),
                '#' if self.word.is_none() => self.skip_comment()?,
                '\r' if matches!(self.chars.peek(), None | Some('\n')) => self.line.has_carriage_return = true,
                '~' if self.word.is_none() => return Err("`~` is not supported"),
                _ => self.push_unquoted(char)?,
            }
        }
        self.end_command()?;
        if self.needs_command {
            return Err("the command line is incomplete");
        }
        if self.variables.is_in_loop() {
            return Err("a loop is not closed");
        }
        self.end_pipeline();
        Ok(())
    }

    fn current_word(&mut self) -> &mut PartialWord {
        let continues_word = std::mem::take(&mut self.continues_word);
        let word = self.word.get_or_insert_with(|| PartialWord {
            text: String::new(),
            unquoted: true,
            quoted_from: None,
            glob: None,
            has_brace: false,
            has_brace_expansion: false,
        });
        word.unquoted &= !continues_word;
        word
    }

    fn push_unquoted(&mut self, char: char) -> Result<(), &'static str> {
        if !char.is_ascii_graphic() {
            return Err("a character that is not ASCII is not supported outside of quotes");
        }
        let word = self.current_word();
        match char {
            '*' | '?' | '[' if word.glob.is_none() => word.glob = Some((word.text.len(), char)),
            '{' => word.has_brace = true,
            ',' if word.has_brace => word.has_brace_expansion = true,
            '.' if word.has_brace && word.text.ends_with('.') => word.has_brace_expansion = true,
            _ => {}
        }
        word.text.push(char);
        Ok(())
    }

    fn push_quoted(&mut self, char: char) -> Result<(), &'static str> {
        // A person approves what they read, so characters that are invisible or look like others are rejected.
        let is_line_feed = char == '\n' && self.line_feeds == QuotedLineFeeds::Accepted;
        if char != '\t' && !is_line_feed && !char.is_ascii_graphic() && char != ' ' && !char.is_alphanumeric() {
            return Err("a control character or an unusual character in quotes is not supported");
        }
        self.current_word().text.push(char);
        Ok(())
    }

    /// Skips a comment. A reader that does not know comments takes the words of one behind a command for arguments, so that
    /// such a comment must have neither flags nor quotes. At the start of the line that reader runs nothing.
    fn skip_comment(&mut self) -> Result<(), &'static str> {
        let is_first = self.line.pipelines.is_empty() && self.pipeline.is_empty() && self.command.is_empty();
        let mut previous = '#';
        while let Some(char) = self.chars.next_if(|char| *char != '\n') {
            let may_be_read = previous.is_whitespace() && char == '-' || matches!(char, '\'' | '"' | '\\' | '`' | '$');
            if may_be_read && !is_first {
                return Err("a comment with flags or quotes is not supported");
            }
            previous = char;
        }
        Ok(())
    }

    /// Reads `$?`, which a shell replaces by a number.
    fn push_exit_status(&mut self) {
        self.chars.next();
        let word = self.current_word();
        word.mark_quoted();
        word.text.push('0');
    }

    /// Reads the name behind a `$`, and pushes the value that the line gives it.
    fn push_variable(&mut self) -> Result<(), &'static str> {
        const UNKNOWN: &str = "a shell variable or substitution is not supported";
        let has_braces = self.chars.next_if_eq(&'{').is_some();
        let mut name = String::new();
        while let Some(char) = self.chars.next_if(|char| char.is_ascii_alphanumeric() || *char == '_') {
            name.push(char);
        }
        if has_braces {
            self.chars.next_if_eq(&'}').ok_or(UNKNOWN)?;
        }
        let value = self.variables.value(&name).ok_or(UNKNOWN)?.to_owned();
        let word = self.current_word();
        word.mark_quoted();
        word.text.push_str(&value);
        Ok(())
    }

    /// Reads `$'…'`, with the escapes of a tab and of a line feed.
    fn read_escaped_quotes(&mut self) -> Result<(), &'static str> {
        self.chars.next();
        self.current_word().mark_quoted();
        loop {
            match self.chars.next() {
                None => return Err("a quote is not closed"),
                Some('\'') => return Ok(()),
                Some('\\') => match self.chars.next() {
                    Some('t') => self.push_quoted('\t')?,
                    Some('n') => self.current_word().text.push('\n'),
                    _ => return Err("this escape in quotes is not supported"),
                },
                Some(char) => self.push_quoted(char)?,
            }
        }
    }

    fn read_single_quotes(&mut self) -> Result<(), &'static str> {
        self.current_word().mark_quoted();
        loop {
            match self.chars.next() {
                None => return Err("a quote is not closed"),
                Some('\'') => return Ok(()),
                Some(char) => self.push_quoted(char)?,
            }
        }
    }

    fn read_double_quotes(&mut self) -> Result<(), &'static str> {
        self.current_word().mark_quoted();
        loop {
            match self.chars.next() {
                None => return Err("a quote is not closed"),
                Some('"') => return Ok(()),
                Some('`') => return Err("a command substitution is not supported"),
                Some('$') if self.chars.peek() == Some(&'?') => self.push_exit_status(),
                Some('$') if !matches!(self.chars.peek(), Some('"' | ' ')) => self.push_variable()?,
                Some('\\') => match self.chars.peek() {
                    Some('\n') => return Err("a line continuation in quotes is not supported"),
                    Some(&escaped @ ('$' | '`' | '"' | '\\')) => {
                        self.chars.next();
                        self.push_quoted(escaped)?;
                    }
                    _ => self.push_quoted('\\')?,
                },
                Some(char) => self.push_quoted(char)?,
            }
        }
    }

    fn read_escape(&mut self) -> Result<(), &'static str> {
        match self.chars.next() {
            Some('\n') => {
                if let Some(word) = &mut self.word {
                    word.mark_quoted();
                }
                self.continues_word = !matches!(self.chars.peek(), Some(' ' | '\t'));
                Ok(())
            }
            Some(char) if char.is_ascii_graphic() || char == ' ' => {
                let word = self.current_word();
                word.mark_quoted();
                word.text.push(char);
                Ok(())
            }
            _ => Err("a backslash before a character that is not ASCII is not supported"),
        }
    }

    /// Ends the word before a `>`, unless the word is the number of a file descriptor.
    fn end_file_descriptor(&mut self) -> Result<(), &'static str> {
        if self.word.as_ref().is_some_and(|word| word.unquoted && matches!(word.text.as_str(), "1" | "2")) {
            self.word = None;
            return Ok(());
        }
        self.end_word()
    }

    /// Reads the target behind a `>`: `/dev/null` or another descriptor.
    fn read_redirection(&mut self) -> Result<(), &'static str> {
        if self.chars.peek() == Some(&'&') {
            self.chars.next();
            let number = self.chars.next();
            return match (number, self.chars.peek()) {
                (Some('1' | '2'), None | Some(' ' | '\t' | '\n' | ';' | '|' | '&')) => Ok(()),
                _ => Err("this redirection is not supported"),
            };
        }
        if self.chars.peek() == Some(&'>') {
            self.chars.next();
        }
        self.expect_dev_null()
    }

    fn expect_dev_null(&mut self) -> Result<(), &'static str> {
        while matches!(self.chars.peek(), Some(' ' | '\t')) {
            self.chars.next();
        }
        for expected in "/dev/null".chars() {
            if self.chars.next() != Some(expected) {
                return Err("a redirection to or from a file is not supported");
            }
        }
        match self.chars.peek() {
            None | Some(' ' | '\t' | '\n' | ';' | '|' | '&') => Ok(()),
            _ => Err("a redirection to or from a file is not supported"),
        }
    }

    fn end_word(&mut self) -> Result<(), &'static str> {
        let Some(word) = self.word.take() else { return Ok(()) };
        if word.has_brace_expansion {
            return Err("a brace expansion is not supported");
        }
        if let Some((at, char)) = word.glob {
            // A shell replaces the word by names of files that begin as the word does. No file begins like a query path or
            // like `--flag=`, so these words stay as they are.
            let before = word.text.get(..at).unwrap_or_default();
            let is_query = char == '?' && QUERY_PATHS.iter().any(|path| before.starts_with(path));
            if !is_query && !before.contains('=') {
                return Err("a glob is not supported");
            }
        }
        let quoted_from = word.quoted_from.unwrap_or(word.text.len());
        let assignment = word.text.split_once('=').filter(|(name, _)| name.len() < quoted_from);
        self.assignment =
            assignment.filter(|_| self.command.is_empty()).map(|(name, value)| (name.to_owned(), value.to_owned()));
        self.command.push(ShellWord { text: word.text, unquoted: word.unquoted });
        Ok(())
    }

    fn end_command(&mut self) -> Result<(), &'static str> {
        self.end_word()?;
        if self.command.is_empty() {
            return Ok(());
        }
        match self.variables.read_keywords(std::mem::take(&mut self.command))? {
            LoopCommand::Command(command) => self.pipeline.push(command),
            LoopCommand::Keywords if !self.pipeline.is_empty() || self.needs_command => {
                return Err("a loop in a pipe or behind `&&` is not supported");
            }
            LoopCommand::Keywords => self.has_keywords = true,
        }
        self.needs_command = false;
        Ok(())
    }

    fn end_pipeline(&mut self) {
        if !self.pipeline.is_empty() {
            self.line.pipelines.push(std::mem::take(&mut self.pipeline));
        }
    }

    /// Ends the pipeline at a `;`, `&`, `&&` or `||`.
    fn read_separator(&mut self, separator: Separator) -> Result<(), &'static str> {
        let next = if separator == Separator::Conditional { NextCommand::Required } else { NextCommand::Optional };
        self.end_command()?;
        let has_keywords = std::mem::take(&mut self.has_keywords) && next == NextCommand::Optional;
        if (self.pipeline.is_empty() && !has_keywords) || self.needs_command {
            return Err("a separator has no command before it");
        }
        self.apply_assignment(separator)?;
        self.end_pipeline();
        self.needs_command = next == NextCommand::Required;
        self.previous_separator = separator;
        Ok(())
    }

    /// Sets the variable of a pipeline that is one assignment. It is certain to be set for the commands behind the separator
    /// only if nothing decides whether it runs, and if the shell itself runs it.
    fn apply_assignment(&mut self, separator: Separator) -> Result<(), &'static str> {
        let Some((name, value)) = self.assignment.take() else { return Ok(()) };
        let is_alone = matches!(self.pipeline.as_slice(), [command] if command.len() == 1);
        let is_certain =
            is_alone && self.previous_separator != Separator::Conditional && separator != Separator::Background;
        let certainty = if is_certain { Certainty::Certain } else { Certainty::Uncertain };
        self.variables.assign(&name, &value, certainty)
    }
}
