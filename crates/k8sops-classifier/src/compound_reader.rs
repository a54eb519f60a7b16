//! Reads compound commands: groups, conditions and loops.

use crate::{
    shell_reader::{ReadError, ScriptShape, ShellReader},
    shell_syntax::{CommandKind, CommandList, SyntaxWord, WordPart, WordPlace},
};

/// Words that start what is not supported.
const UNSUPPORTED_WORDS: &[&str] = &["select", "coproc", "function", "in", "]]"];

impl ShellReader {
    /// Reads a compound command; `None` if a simple command stands here.
    pub(crate) fn read_compound(&mut self) -> Result<Option<CommandKind>, ReadError> {
        if self.is_next("((") {
            self.at += 2;
            return self.read_arithmetic(&["))"]).map(CommandKind::Arithmetic).map(Some);
        }
        if self.skip_text("(") {
            return self.read_nested_list().map(CommandKind::Subshell).map(Some);
        }
        let word = self.next_plain_word();
        if UNSUPPORTED_WORDS.contains(&word.as_str()) {
            return Err("this compound command is not supported");
        }
        let is_compound =
            matches!(word.as_str(), "{" | "if" | "while" | "until" | "for" | "case" | "[[") && self.skip_keyword(&word);
        if !is_compound {
            return self.read_timed_compound(&word);
        }
        self.shape = self.shape.max(ScriptShape::SimpleCommands);
        let kind = match word.as_str() {
            "{" => {
                let list = self.read_list()?;
                self.expect_keyword("}")?;
                CommandKind::Group(list)
            }
            "if" => self.read_if()?,
            "for" => self.read_for()?,
            "case" => self.read_case()?,
            "[[" => CommandKind::Condition(self.read_condition_words()?),
            _ => {
                let condition = self.read_list()?;
                let body = self.read_loop_body()?;
                CommandKind::Loop { condition, body }
            }
        };
        Ok(Some(kind))
    }

    /// Reads `time` before a compound command. Before a simple command it is read as a word.
    fn read_timed_compound(&mut self, word: &str) -> Result<Option<CommandKind>, ReadError> {
        let start = self.at;
        if word != "time" || !self.skip_keyword("time") {
            return Ok(None);
        }
        self.skip_blanks();
        if matches!(self.peek(), Some('(')) || matches!(self.next_plain_word().as_str(), "{" | "for" | "while" | "if") {
            return self.read_compound();
        }
        self.at = start;
        Ok(None)
    }

    fn read_loop_body(&mut self) -> Result<CommandList, ReadError> {
        self.expect_keyword("do")?;
        let body = self.read_list()?;
        self.expect_keyword("done")?;
        Ok(body)
    }

    fn read_if(&mut self) -> Result<CommandKind, ReadError> {
        let mut branches = Vec::new();
        loop {
            let condition = self.read_list()?;
            self.expect_keyword("then")?;
            branches.push((condition, self.read_list()?));
            if self.skip_keyword("elif") {
                continue;
            }
            let otherwise = if self.skip_keyword("else") { self.read_list()? } else { CommandList::new() };
            self.expect_keyword("fi")?;
            return Ok(CommandKind::If { branches, otherwise });
        }
    }

    fn read_for(&mut self) -> Result<CommandKind, ReadError> {
        self.skip_blanks();
        if self.skip_text("((") {
            let start = self.read_arithmetic(&[";"])?;
            let condition = self.read_arithmetic(&[";"])?;
            let step = self.read_arithmetic(&["))"])?;
            self.skip_blanks();
            self.skip_text(";");
            let body = self.read_loop_body()?;
            return Ok(CommandKind::CountingFor { start, condition, step, body });
        }
        let variable = self.next_plain_word();
        self.at += variable.chars().count();
        self.expect_keyword("in")?;
        let mut values = Vec::new();
        loop {
            self.skip_blanks();
            match self.read_word(WordPlace::Argument)?.filter(|word| word.plain_text() != Some("#")) {
                Some(value) => values.push(value),
                None => break,
            }
        }
        if !matches!(self.peek(), Some(';' | '\n' | '\r')) || values.is_empty() {
            return Err("this loop is not supported");
        }
        self.skip_text(";");
        let body = self.read_loop_body()?;
        Ok(CommandKind::For { variable, values, body })
    }

    fn read_case(&mut self) -> Result<CommandKind, ReadError> {
        const UNSUPPORTED: &str = "this `case` is not supported";
        self.skip_blanks();
        let subject = self.read_word(WordPlace::Argument)?.ok_or(UNSUPPORTED)?;
        self.expect_keyword("in")?;
        let mut arms = Vec::new();
        loop {
            self.skip_lines()?;
            if self.skip_keyword("esac") {
                return Ok(CommandKind::Case { subject, arms });
            }
            self.skip_text("(");
            let mut patterns = Vec::new();
            loop {
                self.skip_blanks();
                patterns.push(self.read_word(WordPlace::Argument)?.ok_or(UNSUPPORTED)?);
                self.skip_blanks();
                match self.advance() {
                    Some('|') => {}
                    Some(')') => break,
                    _ => return Err(UNSUPPORTED),
                }
            }
            self.skip_lines()?;
            let body = if self.is_at_list_end() { CommandList::new() } else { self.read_list()? };
            if self.is_next(";;&") || !self.skip_text(";;") {
                self.skip_lines()?;
                if !self.skip_keyword("esac") {
                    return Err(UNSUPPORTED);
                }
                arms.push((patterns, body));
                return Ok(CommandKind::Case { subject, arms });
            }
            arms.push((patterns, body));
        }
    }

    /// Reads the words behind `[[`, and the `]]`. Operators become words of their own.
    fn read_condition_words(&mut self) -> Result<Vec<SyntaxWord>, ReadError> {
        let operator =
            |text: &str| SyntaxWord { parts: vec![WordPart::Literal(text.to_owned())], ..SyntaxWord::default() };
        let mut words: Vec<SyntaxWord> = Vec::new();
        loop {
            self.skip_blanks();
            if self.skip_keyword("]]") {
                return Ok(words);
            }
            if let Some(found) = ["&&", "||", "(", ")", "<", ">"].into_iter().find(|text| self.is_next(text)) {
                self.at += found.len();
                words.push(operator(found));
                continue;
            }
            let is_regex = words.last().and_then(SyntaxWord::plain_text) == Some("=~");
            let place = if is_regex { WordPlace::Regex } else { WordPlace::Argument };
            words.push(self.read_word(place)?.ok_or("this condition is not supported")?);
        }
    }
}
