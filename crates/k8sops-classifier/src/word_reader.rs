//! Reads the words of a command line: quotes, escapes and expansions.

use crate::{
    shell_reader::{MAX_DEPTH, ReadError, ScriptSource, ShellReader},
    shell_syntax::{Expansion, SyntaxWord, VariableChange, WordPart, WordPlace},
    shell_word::UNKNOWN_TEXT,
};

/// Prefixes of words in which an unquoted `?` is accepted, although it is a glob: the query of a `--raw` path. No file is
/// called like this.
const QUERY_PATHS: &[&str] = &["/api/", "/apis/", "/readyz", "/livez", "/healthz", "/metrics"];

const UNSUPPORTED_EXPANSION: &str = "a shell variable or substitution is not supported";

/// Where a text with expansions, and without other quotes, ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum QuotedEnd {
    DoubleQuote,
    /// A here-document, which is read on its own.
    Text,
}

/// Collects the parts of a word.
#[derive(Default)]
pub(crate) struct WordBuilder {
    word: SyntaxWord,
    /// The unquoted text before the first expansion or quote.
    literal_start: String,
    has_quoted_part: bool,
    has_open_brace: bool,
}

impl WordBuilder {
    fn push_literal(&mut self, char: char) {
        if !self.has_quoted_part {
            self.literal_start.push(char);
        }
        match self.word.parts.last_mut() {
            Some(WordPart::Literal(text)) => text.push(char),
            _ => self.word.parts.push(WordPart::Literal(char.to_string())),
        }
    }

    fn start_quotes(&mut self) {
        self.has_quoted_part = true;
        if !matches!(self.word.parts.last(), Some(WordPart::Quoted(_))) {
            self.word.parts.push(WordPart::Quoted(String::new()));
        }
    }

    fn push_quoted(&mut self, char: char) {
        self.start_quotes();
        if let Some(WordPart::Quoted(text)) = self.word.parts.last_mut() {
            text.push(char);
        }
    }

    fn push_expansion(&mut self, expansion: Expansion, is_quoted: bool) {
        self.has_quoted_part = true;
        self.word.parts.push(WordPart::Expansion { expansion, is_quoted });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.word.parts.is_empty()
    }

    fn into_word(self) -> SyntaxWord {
        self.word
    }
}

impl ShellReader {
    /// Reads the word at the current place; `None` if there is none.
    pub(crate) fn read_word(&mut self, place: WordPlace) -> Result<Option<SyntaxWord>, ReadError> {
        let mut builder = WordBuilder::default();
        builder.word.is_continued = std::mem::take(&mut self.continues_word);
        while let Some(char) = self.peek() {
            match char {
                '(' | ')' | '|' if place == WordPlace::Regex => {
                    self.advance();
                    builder.push_literal(char);
                }
                '<' if self.peek_at(1) == Some('(') && builder.is_empty() => {
                    self.advance();
                    self.advance();
                    let list = self.read_nested_list()?;
                    builder.push_expansion(Expansion::Process(list), true);
                }
                ' ' | '\t' | '\n' | ';' | '|' | '&' | '<' | '>' | '(' | ')' => break,
                '\'' => self.read_single_quotes(&mut builder)?,
                '"' => {
                    self.advance();
                    builder.start_quotes();
                    self.read_quoted_text(&mut builder, QuotedEnd::DoubleQuote)?;
                }
                '\\' => self.read_escape(&mut builder)?,
                '$' | '`' => self.read_expansion(&mut builder, false)?,
                '\r' if matches!(self.peek_at(1), None | Some('\n')) => {
                    self.advance();
                    self.has_carriage_return = true;
                }
                '~' if builder.is_empty() => return Err("`~` is not supported"),
                '{' if builder.is_empty() && self.read_number_range(&mut builder) => {}
                UNKNOWN_TEXT if self.source == ScriptSource::Xargs => {
                    self.advance();
                    builder.push_expansion(Expansion::XargsItem, false);
                }
                _ => {
                    self.advance();
                    push_unquoted(&mut builder, char)?;
                }
            }
        }
        let mut word = builder.into_word();
        // A lone bracket is the command, and no glob.
        word.has_glob &= word.plain_text() != Some("[");
        Ok((!word.parts.is_empty()).then_some(word))
    }

    /// Reads `{1..5}`, if it stands here and is a whole word.
    fn read_number_range(&mut self, builder: &mut WordBuilder) -> bool {
        let rest: String =
            self.chars.iter().skip(self.at).take_while(|char| !" \t\n;|&<>()".contains(**char)).collect();
        let range = rest.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).and_then(|r| r.split_once(".."));
        let is_number = |text: &str| (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        let is_range = range.is_some_and(|(from, to)| is_number(from) && is_number(to));
        if is_range {
            self.at += rest.chars().count();
            builder.push_expansion(Expansion::NumberRange, false);
        }
        is_range
    }

    fn read_single_quotes(&mut self, builder: &mut WordBuilder) -> Result<(), ReadError> {
        self.advance();
        builder.start_quotes();
        loop {
            match self.advance() {
                None => return Err("a quote is not closed"),
                Some('\'') => return Ok(()),
                Some(char) => self.push_quoted(builder, char)?,
            }
        }
    }

    fn push_quoted(&self, builder: &mut WordBuilder, char: char) -> Result<(), ReadError> {
        if char == UNKNOWN_TEXT && self.source == ScriptSource::Xargs {
            builder.push_expansion(Expansion::XargsItem, true);
            return Ok(());
        }
        // A person approves what they read, so characters that are invisible or look like others are rejected.
        let is_usual = char == '\t' || char.is_ascii_graphic() || char == ' ' || char.is_alphanumeric();
        let is_line_end = char == '\n' && matches!(self.source, ScriptSource::HereDocument | ScriptSource::Preview);
        if !(is_usual || is_line_end) {
            return Err("a control character or an unusual character in quotes is not supported");
        }
        builder.push_quoted(char);
        Ok(())
    }

    /// Reads text with expansions up to its end.
    fn read_quoted_text(&mut self, builder: &mut WordBuilder, end: QuotedEnd) -> Result<(), ReadError> {
        loop {
            let Some(char) = self.peek() else {
                return if end == QuotedEnd::Text { Ok(()) } else { Err("a quote is not closed") };
            };
            match char {
                '"' if end == QuotedEnd::DoubleQuote => {
                    self.advance();
                    return Ok(());
                }
                '$' if matches!(self.peek_at(1), None | Some('"' | ' ')) => {
                    self.advance();
                    self.push_quoted(builder, '$')?;
                }
                '$' | '`' => self.read_expansion(builder, true)?,
                '\\' => {
                    self.advance();
                    match self.peek() {
                        Some('\n') => return Err("a line continuation in quotes is not supported"),
                        Some(escaped @ ('$' | '`' | '"' | '\\')) if escaped != '"' || end == QuotedEnd::DoubleQuote => {
                            self.advance();
                            self.push_quoted(builder, escaped)?;
                        }
                        _ => self.push_quoted(builder, '\\')?,
                    }
                }
                _ => {
                    self.advance();
                    self.push_quoted(builder, char)?;
                }
            }
        }
    }

    fn read_escape(&mut self, builder: &mut WordBuilder) -> Result<(), ReadError> {
        self.advance();
        match self.advance() {
            Some('\n') => {
                builder.word.is_continued = true;
                Ok(())
            }
            Some(char) if char.is_ascii_graphic() || char == ' ' => {
                builder.push_quoted(char);
                Ok(())
            }
            _ => Err("a backslash before a character that is not ASCII is not supported"),
        }
    }

    /// Reads what starts with a `$` or a backtick.
    fn read_expansion(&mut self, builder: &mut WordBuilder, is_quoted: bool) -> Result<(), ReadError> {
        if self.advance() == Some('`') {
            let list = self.read_backticks()?;
            builder.push_expansion(Expansion::Command(list), is_quoted);
            return Ok(());
        }
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("the commands are nested too deeply");
        }
        let expansion = match self.peek() {
            Some('\'') if !is_quoted => {
                self.depth -= 1;
                return self.read_escaped_quotes(builder);
            }
            Some('?' | '#' | '$' | '!') => {
                self.advance();
                Expansion::ShellNumber
            }
            Some('(') if self.peek_at(1) == Some('(') => {
                self.advance();
                self.advance();
                Expansion::Arithmetic(self.read_arithmetic(&["))"])?)
            }
            Some('(') => {
                self.advance();
                Expansion::Command(self.read_nested_list()?)
            }
            Some('{') => {
                self.advance();
                self.read_braced_variable()?
            }
            Some(parameter) if parameter.is_ascii_digit() || matches!(parameter, '@' | '*') => {
                self.advance();
                Expansion::Variable { name: parameter.to_string(), change: VariableChange::None }
            }
            _ => Expansion::Variable { name: self.read_variable_name()?, change: VariableChange::None },
        };
        self.depth -= 1;
        builder.push_expansion(expansion, is_quoted);
        Ok(())
    }

    fn read_variable_name(&mut self) -> Result<String, ReadError> {
        let mut name = String::new();
        while let Some(char) = self.peek().filter(|char| char.is_ascii_alphanumeric() || *char == '_') {
            name.push(char);
            self.advance();
        }
        let is_name = name.starts_with(|char: char| !char.is_ascii_digit());
        is_name.then_some(name).ok_or(UNSUPPORTED_EXPANSION)
    }

    /// Reads what follows `${`.
    fn read_braced_variable(&mut self) -> Result<Expansion, ReadError> {
        if self.peek() == Some('#') {
            self.advance();
            let name = self.read_variable_name()?;
            return match self.advance() {
                Some('}') => Ok(Expansion::Variable { name, change: VariableChange::Length }),
                _ => Err(UNSUPPORTED_EXPANSION),
            };
        }
        let name = match self.peek() {
            Some(digit) if digit.is_ascii_digit() => {
                self.advance();
                digit.to_string()
            }
            _ => self.read_variable_name()?,
        };
        let mut change = String::new();
        loop {
            match self.advance() {
                Some('}') => break,
                Some(char) if char.is_ascii_alphanumeric() || " .,_/:#%*-=+^@".contains(char) => change.push(char),
                _ => return Err(UNSUPPORTED_EXPANSION),
            }
        }
        let change = parse_variable_change(&change).ok_or(UNSUPPORTED_EXPANSION)?;
        Ok(Expansion::Variable { name, change })
    }

    /// Reads `$'…'`, with the escapes of a tab and of a line feed.
    fn read_escaped_quotes(&mut self, builder: &mut WordBuilder) -> Result<(), ReadError> {
        self.advance();
        builder.start_quotes();
        loop {
            match self.advance() {
                None => return Err("a quote is not closed"),
                Some('\'') => return Ok(()),
                Some('\\') => match self.advance() {
                    Some('t') => builder.push_quoted('\t'),
                    Some('n') => builder.push_quoted('\n'),
                    _ => return Err("this escape in quotes is not supported"),
                },
                Some(char) => self.push_quoted(builder, char)?,
            }
        }
    }

    /// Reads an arithmetic expression up to one of the ends, and the end.
    pub(crate) fn read_arithmetic(&mut self, ends: &[&str]) -> Result<SyntaxWord, ReadError> {
        let mut builder = WordBuilder::default();
        let mut depth = 0_usize;
        loop {
            if depth == 0
                && let Some(end) = ends.iter().find(|end| self.is_next(end))
            {
                self.at += end.len();
                return Ok(builder.into_word());
            }
            match self.peek() {
                Some('$') => self.read_expansion(&mut builder, true)?,
                Some(char) if char.is_ascii_alphanumeric() || "_ \t+-*/%<>=!&|^?:,()#".contains(char) => {
                    match char {
                        '(' => depth += 1,
                        ')' => depth = depth.checked_sub(1).ok_or("this arithmetic is not supported")?,
                        _ => {}
                    }
                    self.advance();
                    builder.push_literal(char);
                }
                _ => return Err("this arithmetic is not supported"),
            }
        }
    }

    /// Reads the text of a here-document.
    pub(crate) fn read_here_text(text: &str, has_expansions: bool) -> Result<SyntaxWord, ReadError> {
        let mut builder = WordBuilder::default();
        builder.start_quotes();
        let mut reader = Self::new(text);
        reader.source = ScriptSource::HereDocument;
        if has_expansions {
            reader.read_quoted_text(&mut builder, QuotedEnd::Text)?;
        } else {
            while let Some(char) = reader.advance() {
                reader.push_quoted(&mut builder, char)?;
            }
        }
        if reader.has_here_documents() {
            return Err("a here-document inside of another is not supported");
        }
        Ok(builder.into_word())
    }
}

fn push_unquoted(builder: &mut WordBuilder, char: char) -> Result<(), ReadError> {
    if !char.is_ascii_graphic() {
        return Err("a character that is not ASCII is not supported outside of quotes");
    }
    match char {
        // A shell replaces the word by names of files that begin as the word does. No file begins like a query path or like
        // `--flag=`, so these words stay as they are.
        '*' | '?' | '[' => {
            let start = &builder.literal_start;
            let is_query = char == '?' && QUERY_PATHS.iter().any(|path| start.starts_with(path));
            let is_flag = start.contains('=') && !builder.has_quoted_part;
            builder.word.has_glob |= !is_query && !is_flag;
        }
        '{' => builder.has_open_brace = true,
        ',' if builder.has_open_brace => builder.word.has_braces = true,
        '.' if builder.has_open_brace => {
            let follows_dot = matches!(builder.word.parts.last(), Some(WordPart::Literal(text)) if text.ends_with('.'));
            builder.word.has_braces |= follows_dot;
        }
        _ => {}
    }
    builder.push_literal(char);
    Ok(())
}

fn parse_variable_change(text: &str) -> Option<VariableChange> {
    // `${x@P}` runs substitutions in the value, `:=` and `=` assign, `:?` and `?` end the shell, and `${x:…}` calculates.
    let is_letter_or_digit = |char: char| char.is_ascii_alphanumeric();
    if text.is_empty() {
        return Some(VariableChange::None);
    }
    if let Some(default) = text.strip_prefix(":-").or_else(|| text.strip_prefix('-')) {
        let is_plain = default.chars().all(|char| is_letter_or_digit(char) || "._/-".contains(char));
        return (is_plain && !default.starts_with('-')).then(|| VariableChange::Default(default.to_owned()));
    }
    if let Some(pattern) = text.strip_prefix("##").or_else(|| text.strip_prefix('#')) {
        return Some(if pattern.ends_with('/') { VariableChange::RemoveDirectory } else { VariableChange::Other });
    }
    if text.starts_with('%') {
        return Some(VariableChange::RemoveEnd);
    }
    let is_case_change = matches!(text, "," | ",," | "^" | "^^");
    let is_slice = text.strip_prefix(':').is_some_and(|range| {
        let mut numbers = range.split(':');
        let is_number = |number: &str| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        numbers.clone().count() <= 2 && numbers.all(is_number)
    });
    (is_case_change || is_slice || text.starts_with('/')).then_some(VariableChange::Other)
}
