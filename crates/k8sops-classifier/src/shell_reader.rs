//! A strict reader of shell command lines.
//!
//! It reads the common part of the shell's language into a tree and rejects the rest. A general-purpose splitter such as
//! `shlex` accepts everything as ordinary words, so it cannot decide what is safe.

use crate::{
    shell_syntax::{CommandKind, CommandList, ListItem, ParsedLine, Separator, ShellCommand, SyntaxWord, WordPlace},
    shell_word::{PIPE_FILE, UNKNOWN_TEXT},
};

/// A longer line is not analyzed.
const MAX_LINE_BYTES: usize = 32 * 1024;
/// Commands that are nested deeper are not analyzed.
pub(crate) const MAX_DEPTH: usize = 12;

/// What in the line is not supported.
pub(crate) type ReadError = &'static str;

/// Words that end a list.
const CLOSING_WORDS: &[&str] = &["then", "elif", "else", "fi", "do", "done", "esac", "}"];

/// Reads a line. The error is what in the line is not supported.
pub(crate) fn parse_shell_line(line: &str) -> Result<ParsedLine, ReadError> {
    if line.contains([UNKNOWN_TEXT]) || line.contains(PIPE_FILE) {
        return Err("a character of a private area is not supported");
    }
    parse_script(line, ShellReader::new(line))
}

/// Reads a script in which [`UNKNOWN_TEXT`] stands for the text that `xargs` puts there.
pub(crate) fn parse_xargs_script(script: &str) -> Result<ParsedLine, ReadError> {
    let mut reader = ShellReader::new(script);
    reader.source = ScriptSource::Xargs;
    parse_script(script, reader)
}

/// Reads a line whose quotes may hold line feeds, for a preview of what it changes. No command that is classified as harmless
/// has such quotes, but manifests do.
pub(crate) fn parse_previewed_line(line: &str) -> Result<ParsedLine, ReadError> {
    let mut reader = ShellReader::new(line);
    reader.source = ScriptSource::Preview;
    parse_script(line, reader)
}

fn parse_script(text: &str, mut reader: ShellReader) -> Result<ParsedLine, ReadError> {
    if text.len() > MAX_LINE_BYTES {
        return Err("the command line is too long");
    }
    let list = reader.read_list()?;
    if reader.peek().is_some() {
        return Err("a closing word or parenthesis has nothing to close");
    }
    if reader.pending_documents.iter().any(|pending| !pending.is_read) {
        return Err("a here-document is not closed");
    }
    if reader.has_carriage_return && reader.shape == ScriptShape::CompoundCommands {
        return Err("a carriage return in a script is not supported");
    }
    let ShellReader { here_documents, has_carriage_return, .. } = reader;
    Ok(ParsedLine { list, here_documents, has_carriage_return })
}

/// A here-document whose text follows at the next line.
pub(crate) struct PendingDocument {
    pub(crate) delimiter: String,
    pub(crate) has_expansions: bool,
    pub(crate) removes_tabs: bool,
    pub(crate) is_read: bool,
}

/// Where a text comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScriptSource {
    Line,
    /// Its quotes may hold line feeds.
    HereDocument,
    /// Its quotes may hold line feeds.
    Preview,
    /// [`UNKNOWN_TEXT`] stands for the text that `xargs` puts there.
    Xargs,
}

/// What was read so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ScriptShape {
    Empty,
    SimpleCommands,
    CompoundCommands,
}

/// The state of a line that is being read.
pub(crate) struct ShellReader {
    pub(crate) chars: Vec<char>,
    pub(crate) at: usize,
    /// A line continuation touches the next word. Only a shell joins the two.
    pub(crate) continues_word: bool,
    pub(crate) has_carriage_return: bool,
    pub(crate) source: ScriptSource,
    pub(crate) here_documents: Vec<SyntaxWord>,
    pub(crate) pending_documents: Vec<PendingDocument>,
    pub(crate) shape: ScriptShape,
    pub(crate) depth: usize,
}

impl ShellReader {
    pub(crate) fn new(text: &str) -> Self {
        Self {
            chars: text.chars().collect(),
            at: 0,
            continues_word: false,
            has_carriage_return: false,
            source: ScriptSource::Line,
            here_documents: Vec::new(),
            pending_documents: Vec::new(),
            shape: ScriptShape::Empty,
            depth: 0,
        }
    }

    pub(crate) fn peek(&self) -> Option<char> {
        self.peek_at(0)
    }

    pub(crate) fn peek_at(&self, offset: usize) -> Option<char> {
        self.chars.get(self.at + offset).copied()
    }

    pub(crate) fn advance(&mut self) -> Option<char> {
        let char = self.peek();
        self.at += usize::from(char.is_some());
        char
    }

    pub(crate) fn is_next(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(offset, char)| self.peek_at(offset) == Some(char))
    }

    pub(crate) fn has_here_documents(&self) -> bool {
        !self.pending_documents.is_empty()
    }

    pub(crate) fn skip_text(&mut self, text: &str) -> bool {
        let is_next = self.is_next(text);
        if is_next {
            self.at += text.chars().count();
        }
        is_next
    }

    /// Skips blanks and line continuations.
    pub(crate) fn skip_blanks(&mut self) {
        loop {
            match (self.peek(), self.peek_at(1)) {
                (Some(' ' | '\t'), _) => self.at += 1,
                (Some('\\'), Some('\n')) => {
                    self.at += 2;
                    self.continues_word = !matches!(self.peek(), Some(' ' | '\t' | '\n') | None);
                }
                _ => return,
            }
        }
    }

    /// Skips blanks, comments and line ends. Returns whether there was a line end.
    pub(crate) fn skip_lines(&mut self) -> Result<bool, ReadError> {
        let mut has_line_end = false;
        loop {
            self.skip_blanks();
            match (self.peek(), self.peek_at(1)) {
                (Some('#'), _) if !self.continues_word => self.skip_comment()?,
                (Some('\n'), _) => {
                    self.at += 1;
                    self.read_pending_documents()?;
                    has_line_end = true;
                }
                (Some('\r'), Some('\n') | None) => {
                    self.at += 1;
                    self.has_carriage_return = true;
                }
                _ => return Ok(has_line_end),
            }
        }
    }

    /// Skips a comment. A reader that does not know comments takes the words of one behind a command for arguments, so that
    /// such a comment must have neither flags nor quotes. At the start of the line that reader runs nothing.
    fn skip_comment(&mut self) -> Result<(), ReadError> {
        let mut previous = '#';
        while let Some(char) = self.peek().filter(|char| *char != '\n') {
            self.at += 1;
            let may_be_read = previous.is_whitespace() && char == '-' || matches!(char, '\'' | '"' | '\\' | '`' | '$');
            if may_be_read && self.shape > ScriptShape::Empty {
                return Err("a comment with flags or quotes is not supported");
            }
            previous = char;
        }
        Ok(())
    }

    /// Reads a list in parentheses, whose `(` was read, and the `)`.
    pub(crate) fn read_nested_list(&mut self) -> Result<CommandList, ReadError> {
        let first = self.pending_documents.len();
        let list = self.read_list()?;
        // Shells do not agree where the text of such a document begins.
        if self.pending_documents.iter().skip(first).any(|pending| !pending.is_read) {
            return Err("a here-document that ends behind a parenthesis is not supported");
        }
        match self.advance() {
            Some(')') => Ok(list),
            _ => Err("a parenthesis is not closed"),
        }
    }

    /// Reads the list between backticks, of which the first was read.
    pub(crate) fn read_backticks(&mut self) -> Result<CommandList, ReadError> {
        let length = self.chars.iter().skip(self.at).take_while(|char| !matches!(char, '`' | '\\')).count();
        if self.peek_at(length) != Some('`') {
            return Err("this command substitution is not supported");
        }
        let text: String = self.chars.iter().skip(self.at).take(length).collect();
        let mut reader = Self::new(&text);
        reader.depth = self.depth + 1;
        reader.source = self.source;
        reader.shape = ScriptShape::CompoundCommands;
        let list = reader.read_list()?;
        if reader.peek().is_some() || reader.has_here_documents() || reader.has_carriage_return {
            return Err("this command substitution is not supported");
        }
        self.at += length + 1;
        Ok(list)
    }

    /// Returns the word at the current place if it is written without quotes.
    pub(crate) fn next_plain_word(&self) -> String {
        let is_end = |char: &&char| " \t\n\r;|&<>()'\"\\$`".contains(**char);
        self.chars.iter().skip(self.at).take_while(|char| !is_end(char)).collect()
    }

    /// Skips a keyword if it stands here as a whole word.
    pub(crate) fn skip_keyword(&mut self, keyword: &str) -> bool {
        let ends = |char: Option<char>| char.is_none_or(|char| " \t\n\r;|&<>()".contains(char));
        let is_next = self.is_next(keyword) && ends(self.peek_at(keyword.len())) && !self.continues_word;
        if is_next {
            self.at += keyword.len();
        }
        is_next
    }

    pub(crate) fn expect_keyword(&mut self, keyword: &str) -> Result<(), ReadError> {
        self.skip_lines()?;
        match self.skip_keyword(keyword) {
            true => Ok(()),
            false => Err("this compound command is not supported"),
        }
    }

    /// Reads pipelines up to a word or character that ends the list. There is at least one.
    pub(crate) fn read_list(&mut self) -> Result<CommandList, ReadError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("the commands are nested too deeply");
        }
        let mut list = CommandList::new();
        self.skip_lines()?;
        while !self.is_at_list_end() {
            let start = self.at;
            let pipeline = self.read_pipeline()?;
            self.skip_blanks();
            let separator = self.read_separator()?;
            list.push(ListItem { pipeline, separator, source: start..self.at });
            self.skip_lines()?;
            if matches!(separator, Separator::And | Separator::Or) && self.is_at_list_end() {
                return Err("the command line is incomplete");
            }
        }
        self.depth -= 1;
        match list.is_empty() {
            true => Err("there is no command"),
            false => Ok(list),
        }
    }

    pub(crate) fn is_at_list_end(&self) -> bool {
        let word = self.next_plain_word();
        matches!(self.peek(), None | Some(')')) || self.is_next(";;") || CLOSING_WORDS.contains(&word.as_str())
    }

    fn read_separator(&mut self) -> Result<Separator, ReadError> {
        if self.skip_text("&&") {
            return Ok(Separator::And);
        }
        if self.skip_text("||") {
            return Ok(Separator::Or);
        }
        if self.is_next(";;") {
            return Ok(Separator::Sequence);
        }
        match self.peek() {
            None | Some(')') => Ok(Separator::Sequence),
            Some(';') => {
                self.at += 1;
                let has_line_end = self.skip_lines()?;
                Ok(if has_line_end { Separator::LineEnd } else { Separator::Sequence })
            }
            Some('&') => {
                self.at += 1;
                Ok(Separator::Background)
            }
            Some('\n' | '\r' | '#') => {
                self.skip_lines()?;
                Ok(Separator::LineEnd)
            }
            Some(_) if self.is_at_list_end() => Ok(Separator::Sequence),
            Some(_) => Err("this shell syntax is not supported"),
        }
    }

    fn read_pipeline(&mut self) -> Result<Vec<ShellCommand>, ReadError> {
        while self.skip_keyword("!") {
            self.shape = ScriptShape::CompoundCommands;
            self.skip_blanks();
        }
        let mut pipeline = vec![self.read_command()?];
        loop {
            self.skip_blanks();
            if self.peek() != Some('|') || self.peek_at(1) == Some('|') {
                return Ok(pipeline);
            }
            self.at += 1;
            // `|&` also passes the error messages on.
            if self.skip_text("&")
                && let Some(command) = pipeline.last_mut()
            {
                command.merges_errors = true;
            }
            self.skip_lines()?;
            if self.is_at_list_end() {
                return Err("the command line is incomplete");
            }
            pipeline.push(self.read_command()?);
        }
    }

    fn read_command(&mut self) -> Result<ShellCommand, ReadError> {
        let mut command = match self.read_compound()? {
            Some(kind) => {
                self.shape = ScriptShape::CompoundCommands;
                ShellCommand { kind, input: None, merges_errors: false }
            }
            None => return self.read_simple_command(),
        };
        self.shape = self.shape.max(ScriptShape::SimpleCommands);
        loop {
            self.skip_blanks();
            match self.peek() {
                Some('<' | '>') => self.read_redirection(&mut command, None)?,
                Some('&') if self.peek_at(1) == Some('>') => {
                    self.at += 1;
                    self.read_redirection(&mut command, None)?;
                }
                Some(digit @ ('1' | '2')) if self.peek_at(1) == Some('>') => {
                    self.at += 1;
                    self.read_redirection(&mut command, Some(&digit.to_string()))?;
                }
                _ => return Ok(command),
            }
        }
    }

    fn read_simple_command(&mut self) -> Result<ShellCommand, ReadError> {
        let mut words: Vec<SyntaxWord> = Vec::new();
        let mut command = ShellCommand { kind: CommandKind::Simple(Vec::new()), input: None, merges_errors: false };
        loop {
            self.skip_blanks();
            match self.peek() {
                Some('#') if !self.continues_word => break,
                Some('(') => return self.read_function(&words),
                Some('<') if self.peek_at(1) != Some('(') => self.read_redirection(&mut command, None)?,
                Some('>') => self.read_redirection(&mut command, None)?,
                Some('&') if self.peek_at(1) == Some('>') => {
                    self.at += 1;
                    self.read_redirection(&mut command, None)?;
                }
                _ => {
                    let Some(word) = self.read_word(WordPlace::Argument)? else { break };
                    let touches_redirection =
                        self.peek() == Some('>') || (self.peek() == Some('<') && self.peek_at(1) != Some('('));
                    match word.plain_text() {
                        Some(descriptor) if touches_redirection && is_descriptor(descriptor) => {
                            self.read_redirection(&mut command, Some(descriptor))?;
                        }
                        _ => {
                            words.push(word);
                            self.shape = self.shape.max(ScriptShape::SimpleCommands);
                        }
                    }
                }
            }
        }
        match words.is_empty() {
            true => Err("a separator or pipe has no command before it"),
            false => Ok(ShellCommand { kind: CommandKind::Simple(words), ..command }),
        }
    }

    /// Reads `() { …; }` behind a name.
    fn read_function(&mut self, words: &[SyntaxWord]) -> Result<ShellCommand, ReadError> {
        const UNSUPPORTED: &str = "this function or subshell is not supported";
        let [word] = words else { return Err(UNSUPPORTED) };
        let name = word.plain_text().ok_or(UNSUPPORTED)?.to_owned();
        self.at += 1;
        self.skip_blanks();
        if self.advance() != Some(')') {
            return Err(UNSUPPORTED);
        }
        self.expect_keyword("{")?;
        let body = self.read_list()?;
        self.expect_keyword("}")?;
        self.shape = ScriptShape::CompoundCommands;
        Ok(ShellCommand { kind: CommandKind::Function { name, body }, input: None, merges_errors: false })
    }
}

/// Returns whether a shell may take a word before `<` or `>` for a file descriptor.
fn is_descriptor(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_digit()) || word.starts_with('{')
}
