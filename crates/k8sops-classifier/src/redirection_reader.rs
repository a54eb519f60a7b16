//! Reads redirections and here-documents.

use crate::{
    shell_reader::{PendingDocument, ReadError, ScriptShape, ShellReader},
    shell_syntax::{CommandInput, ShellCommand, SyntaxWord, WordPart, WordPlace},
};

impl ShellReader {
    /// Reads a redirection: to `/dev/null` or another descriptor, or of a text that the line gives.
    pub(crate) fn read_redirection(
        &mut self,
        command: &mut ShellCommand,
        descriptor: Option<&str>,
    ) -> Result<(), ReadError> {
        const UNSUPPORTED: &str = "this redirection is not supported";
        if !matches!(descriptor, None | Some("1" | "2")) || (descriptor.is_some() && self.peek() == Some('<')) {
            return Err(UNSUPPORTED);
        }
        if self.skip_text("<<<") {
            self.skip_blanks();
            let word = self.read_word(WordPlace::Argument)?.ok_or(UNSUPPORTED)?;
            return set_input(command, CommandInput::HereString(word));
        }
        if self.skip_text("<<") {
            return self.start_here_document(command);
        }
        if self.skip_text("<") {
            self.skip_blanks();
            if self.skip_text("<(") {
                self.shape = ScriptShape::CompoundCommands;
                let list = self.read_nested_list()?;
                return set_input(command, CommandInput::Process(list));
            }
            return self.expect_dev_null();
        }
        self.at += 1;
        if self.skip_text("&") {
            let number = self.advance();
            command.merges_errors |= descriptor == Some("2") && number == Some('1');
            return match (number, self.peek()) {
                (Some('1' | '2'), None | Some(' ' | '\t' | '\n' | '\r' | ';' | '|' | '&' | ')')) => Ok(()),
                _ => Err(UNSUPPORTED),
            };
        }
        self.skip_text(">");
        self.expect_dev_null()
    }

    fn start_here_document(&mut self, command: &mut ShellCommand) -> Result<(), ReadError> {
        const UNSUPPORTED: &str = "this here-document is not supported";
        self.shape = ScriptShape::CompoundCommands;
        let removes_tabs = self.skip_text("-");
        self.skip_blanks();
        let word = self.read_word(WordPlace::Argument)?.ok_or(UNSUPPORTED)?;
        let (delimiter, has_expansions) = match word.parts.as_slice() {
            [WordPart::Literal(text)] => (text.clone(), true),
            [WordPart::Quoted(text)] => (text.clone(), false),
            _ => return Err(UNSUPPORTED),
        };
        let is_plain = !delimiter.is_empty() && delimiter.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !is_plain || word.is_continued {
            return Err(UNSUPPORTED);
        }
        self.pending_documents.push(PendingDocument { delimiter, has_expansions, removes_tabs, is_read: false });
        self.here_documents.push(SyntaxWord::default());
        set_input(command, CommandInput::HereDocument(self.here_documents.len() - 1))
    }

    fn expect_dev_null(&mut self) -> Result<(), ReadError> {
        self.skip_blanks();
        let is_end = |char: Option<char>| matches!(char, None | Some(' ' | '\t' | '\n' | '\r' | ';' | '|' | '&' | ')'));
        match self.skip_text("/dev/null") && is_end(self.peek()) && !self.continues_word {
            true => Ok(()),
            false => Err("a redirection to or from a file is not supported"),
        }
    }

    /// Reads the texts of here-documents that start at this line.
    pub(crate) fn read_pending_documents(&mut self) -> Result<(), ReadError> {
        for index in 0..self.pending_documents.len() {
            let Some(pending) = self.pending_documents.get_mut(index).filter(|pending| !pending.is_read) else {
                continue;
            };
            pending.is_read = true;
            let mut text = String::new();
            loop {
                let rest = self.chars.get(self.at..).unwrap_or_default();
                if rest.is_empty() {
                    return Err("a here-document is not closed");
                }
                let length = rest.iter().take_while(|char| **char != '\n').count();
                let line: String = rest.iter().take(length).collect();
                self.at = (self.at + length + 1).min(self.chars.len());
                let line = if pending.removes_tabs { line.trim_start_matches('\t') } else { &line };
                if line == pending.delimiter {
                    break;
                }
                text.push_str(line);
                text.push('\n');
            }
            let document = Self::read_here_text(&text, pending.has_expansions)?;
            if let Some(place) = self.here_documents.get_mut(index) {
                *place = document;
            }
        }
        Ok(())
    }
}

fn set_input(command: &mut ShellCommand, given: CommandInput) -> Result<(), ReadError> {
    match command.input.replace(given) {
        None => Ok(()),
        Some(_) => Err("several inputs of a command are not supported"),
    }
}
