//! A strict reader of shell lines. It reads the plain part of the shell's language and refuses the rest: whatever could
//! make the shell run something else than the words that stand there (expansions, substitutions, redirections to files,
//! control characters) is an error.

use std::{iter::Peekable, str::Chars};

/// A line that is longer is not read.
const MAX_LINE: usize = 32 * 1024;

/// Where an unquoted `?` may stand though it is a glob: queries of `--raw` paths. No files are called so.
const QUERY_PATHS: &[&str] = &["/api/", "/apis/", "/readyz", "/livez", "/healthz", "/metrics"];

/// A word as the program gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    /// The text, without quotes and escapes.
    pub text: String,
    /// Written as it is read: no quotes, no escapes. Every reader of the line sees the same word.
    pub plain: bool,
}

impl Word {
    /// A word that came as an element of its own, not out of a line.
    pub(super) fn plain(text: &str) -> Self {
        Self { text: text.to_owned(), plain: true }
    }
}

/// A program and its arguments; never empty.
pub(super) type Command = Vec<Word>;

/// Pipelines, one after the other, whatever joins them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    /// Commands with pipes between them, for each pipeline.
    pub pipelines: Vec<Vec<Command>>,
}

/// Reads a line, or says what in it is not understood.
pub(super) fn lex(line: &str) -> Result<Line, &'static str> {
    if line.len() > MAX_LINE {
        return Err("the command line is too long to be judged");
    }
    let mut lexer = Lexer { chars: line.chars().peekable(), ..Lexer::default() };
    lexer.run()?;
    Ok(lexer.line)
}

/// The line at one place.
struct Lexer<'a> {
    chars: Peekable<Chars<'a>>,
    line: Line,
    pipeline: Vec<Command>,
    command: Command,
    word: Option<Open>,
    /// A `|`, `&&` or `||` stands before and needs a command.
    dangling: bool,
    /// A line continuation touches the word that comes: others than a shell read it differently.
    joined: bool,
}

impl Default for Lexer<'_> {
    fn default() -> Self {
        Self {
            chars: "".chars().peekable(),
            line: Line::default(),
            pipeline: Vec::new(),
            command: Vec::new(),
            word: None,
            dangling: false,
            joined: false,
        }
    }
}

/// A word that is being read.
struct Open {
    text: String,
    plain: bool,
    /// How long the text was where the first unquoted glob character stood, and that character.
    glob: Option<(usize, char)>,
    /// Where an unquoted `{` stands.
    brace: Option<usize>,
    /// An unquoted `,` or `..` follows an unquoted `{`.
    expands: bool,
}

impl Lexer<'_> {
    fn run(&mut self) -> Result<(), &'static str> {
        while let Some(char) = self.chars.next() {
            match char {
                ' ' | '\t' => self.end_word()?,
                '\n' => {
                    self.end_command()?;
                    if !self.dangling {
                        self.end_pipeline();
                    }
                }
                ';' => self.join(false)?,
                '|' => match self.chars.peek() {
                    Some('|') => {
                        self.chars.next();
                        self.join(true)?;
                    }
                    Some('&') => return Err("`|&` is not understood"),
                    _ => {
                        self.end_command()?;
                        if self.pipeline.is_empty() || self.dangling {
                            return Err("a pipe without a command is not understood");
                        }
                        self.dangling = true;
                    }
                },
                '&' => match self.chars.peek() {
                    Some('&') => {
                        self.chars.next();
                        self.join(true)?;
                    }
                    Some('>') => {
                        self.chars.next();
                        self.end_word()?;
                        self.redirect()?;
                    }
                    _ => self.join(false)?,
                },
                '>' => {
                    self.end_descriptor()?;
                    self.redirect()?;
                }
                '<' => {
                    self.end_word()?;
                    if self.chars.peek() == Some(&'<') {
                        return Err("a here-document is not understood");
                    }
                    self.dev_null()?;
                }
                '\'' => self.single()?,
                '"' => self.double()?,
                '\\' => self.escape()?,
                '`' => return Err("a command in backticks is not understood"),
                '$' => return Err("a shell variable or substitution is not understood"),
                '(' | ')' => return Err("a subshell is not understood"),
                '#' if self.word.is_none() => return Err("a comment is not understood"),
                '~' if self.word.is_none() => return Err("`~` is not understood"),
                _ => self.bare(char)?,
            }
        }
        self.end_command()?;
        if self.dangling {
            return Err("the line ends in the middle");
        }
        self.end_pipeline();
        Ok(())
    }

    fn open(&mut self) -> &mut Open {
        let joined = std::mem::take(&mut self.joined);
        let open = self.word.get_or_insert_with(|| Open {
            text: String::new(),
            plain: true,
            glob: None,
            brace: None,
            expands: false,
        });
        open.plain &= !joined;
        open
    }

    fn bare(&mut self, char: char) -> Result<(), &'static str> {
        if !char.is_ascii_graphic() {
            return Err("a character that is not plain ASCII is not understood");
        }
        let open = self.open();
        match char {
            '*' | '?' | '[' if open.glob.is_none() => open.glob = Some((open.text.len(), char)),
            '{' if open.brace.is_none() => open.brace = Some(open.text.len()),
            ',' if open.brace.is_some() => open.expands = true,
            '.' if open.brace.is_some() && open.text.ends_with('.') => open.expands = true,
            _ => {}
        }
        open.text.push(char);
        Ok(())
    }

    fn quoted(&mut self, char: char) -> Result<(), &'static str> {
        // Signs that a person does not see, or takes for others, have no place in what that person reads.
        if char != '\t' && !char.is_ascii_graphic() && char != ' ' && !char.is_alphanumeric() {
            return Err("a control character or an odd sign in quotes is not understood");
        }
        self.open().text.push(char);
        Ok(())
    }

    fn single(&mut self) -> Result<(), &'static str> {
        self.open().plain = false;
        loop {
            match self.chars.next() {
                None => return Err("a quote is not closed"),
                Some('\'') => return Ok(()),
                Some(char) => self.quoted(char)?,
            }
        }
    }

    fn double(&mut self) -> Result<(), &'static str> {
        self.open().plain = false;
        loop {
            match self.chars.next() {
                None => return Err("a quote is not closed"),
                Some('"') => return Ok(()),
                Some('`') => return Err("a command in backticks is not understood"),
                Some('$') if !matches!(self.chars.peek(), Some('"' | ' ')) => {
                    return Err("a shell variable or substitution is not understood");
                }
                Some('\\') => match self.chars.peek() {
                    Some('\n') => return Err("a line continuation in quotes is not understood"),
                    Some(&escaped @ ('$' | '`' | '"' | '\\')) => {
                        self.chars.next();
                        self.quoted(escaped)?;
                    }
                    _ => self.quoted('\\')?,
                },
                Some(char) => self.quoted(char)?,
            }
        }
    }

    fn escape(&mut self) -> Result<(), &'static str> {
        match self.chars.next() {
            Some('\n') => {
                if let Some(open) = &mut self.word {
                    open.plain = false;
                }
                self.joined = !matches!(self.chars.peek(), Some(' ' | '\t'));
                Ok(())
            }
            Some(char) if char.is_ascii_graphic() || char == ' ' => {
                let open = self.open();
                open.plain = false;
                open.text.push(char);
                Ok(())
            }
            _ => Err("a backslash before a sign that is not plain ASCII is not understood"),
        }
    }

    /// Ends the word before a `>`, unless it is the number of a descriptor, which is no word.
    fn end_descriptor(&mut self) -> Result<(), &'static str> {
        if self.word.as_ref().is_some_and(|open| open.plain && matches!(open.text.as_str(), "1" | "2")) {
            self.word = None;
            return Ok(());
        }
        self.end_word()
    }

    /// What follows a `>`: nothing or another descriptor is fine, a file is not.
    fn redirect(&mut self) -> Result<(), &'static str> {
        if self.chars.peek() == Some(&'&') {
            self.chars.next();
            let number = self.chars.next();
            return match (number, self.chars.peek()) {
                (Some('1' | '2'), None | Some(' ' | '\t' | '\n' | ';' | '|' | '&')) => Ok(()),
                _ => Err("this redirection is not understood"),
            };
        }
        if self.chars.peek() == Some(&'>') {
            self.chars.next();
        }
        self.dev_null()
    }

    fn dev_null(&mut self) -> Result<(), &'static str> {
        while matches!(self.chars.peek(), Some(' ' | '\t')) {
            self.chars.next();
        }
        for expected in "/dev/null".chars() {
            if self.chars.next() != Some(expected) {
                return Err("a redirection to or from a file is not understood");
            }
        }
        match self.chars.peek() {
            None | Some(' ' | '\t' | '\n' | ';' | '|' | '&') => Ok(()),
            _ => Err("a redirection to or from a file is not understood"),
        }
    }

    fn end_word(&mut self) -> Result<(), &'static str> {
        let Some(open) = self.word.take() else { return Ok(()) };
        if open.expands {
            return Err("a brace expansion is not understood");
        }
        if let Some((at, char)) = open.glob {
            // What files match is unknown; they are called as the word begins. So a word is understood that has its
            // meaning before the glob.
            let before = open.text.get(..at).unwrap_or_default();
            let query = char == '?' && QUERY_PATHS.iter().any(|path| before.starts_with(path));
            if !query && !before.contains('=') {
                return Err("a glob is not understood");
            }
        }
        self.command.push(Word { text: open.text, plain: open.plain });
        Ok(())
    }

    fn end_command(&mut self) -> Result<(), &'static str> {
        self.end_word()?;
        if !self.command.is_empty() {
            self.pipeline.push(std::mem::take(&mut self.command));
            self.dangling = false;
        }
        Ok(())
    }

    fn end_pipeline(&mut self) {
        if !self.pipeline.is_empty() {
            self.line.pipelines.push(std::mem::take(&mut self.pipeline));
        }
    }

    /// A `;` or `&` (`needs` nothing behind it), `&&` or `||`.
    fn join(&mut self, needs: bool) -> Result<(), &'static str> {
        self.end_command()?;
        if self.pipeline.is_empty() || self.dangling {
            return Err("a separator without a command is not understood");
        }
        self.end_pipeline();
        self.dangling = needs;
        Ok(())
    }
}
