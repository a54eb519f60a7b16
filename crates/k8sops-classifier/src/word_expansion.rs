//! What the words of a line become when a shell expands them.

use crate::{
    shell_evaluator::ShellEvaluator,
    shell_state::TextStream,
    shell_syntax::{Expansion, SyntaxWord, VariableChange, WordPart},
    shell_variables::{VariableValue, has_flag_behind_separator, is_variable_name, kind_of_text},
    shell_word::{PIPE_FILE, ShellWord, TextKind, UNKNOWN_TEXT, UnknownText, WordCount},
};

const UNKNOWN_VARIABLE: &str = "a shell variable or substitution is not supported";

/// A longer arithmetic expression is not analyzed.
const MAX_EXPRESSION_BYTES: usize = 500;

/// Whether a shell splits an expansion that is not quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WordSplitting {
    Splits,
    /// In assignments, conditions and here-strings.
    Keeps,
}

impl ShellEvaluator {
    /// Expands the words of a command.
    pub(crate) fn expand_words(&mut self, words: &[SyntaxWord], input: TextStream) -> Result<Vec<ShellWord>, String> {
        let mut expanded = Vec::new();
        for word in words {
            if word.has_glob {
                return Err("a glob is not supported".into());
            }
            if word.has_braces {
                return Err("a brace expansion is not supported".into());
            }
            expanded.extend(self.expand_word(word, WordSplitting::Splits, input)?);
        }
        Ok(expanded)
    }

    /// Expands a word that a shell does not split.
    pub(crate) fn expand_text(&mut self, word: &SyntaxWord, input: TextStream) -> Result<ShellWord, String> {
        let words = self.expand_word(word, WordSplitting::Keeps, input)?;
        let [word] = <[ShellWord; 1]>::try_from(words).map_err(|_| UNKNOWN_VARIABLE)?;
        Ok(word)
    }

    fn expand_word(
        &mut self,
        word: &SyntaxWord,
        splitting: WordSplitting,
        input: TextStream,
    ) -> Result<Vec<ShellWord>, String> {
        let mut words: Vec<ShellWord> = Vec::new();
        let mut current = ShellWord { text: String::new(), unquoted: !word.is_continued, unknown: None };
        for part in &word.parts {
            match part {
                WordPart::Literal(text) => current.text.push_str(text),
                WordPart::Quoted(text) => {
                    current.text.push_str(text);
                    current.unquoted = false;
                }
                WordPart::Expansion { expansion, is_quoted } => {
                    current.unquoted = false;
                    if let Expansion::Process(list) = expansion {
                        self.run_substitution(list, input)?;
                        current.text.push_str(PIPE_FILE);
                        continue;
                    }
                    // `"$@"` becomes the words that it consists of.
                    let is_word_list = matches!(expansion, Expansion::Variable { name, .. } if name == "@");
                    let splits = splitting == WordSplitting::Splits && (!is_quoted || is_word_list);
                    match self.expand_value(expansion, input)? {
                        VariableValue::Known(text) if !splits => current.text.push_str(&text),
                        VariableValue::Known(text) => {
                            if text.is_empty() || text.contains(['*', '?', '[', '\\', '~']) {
                                return Err("this value of a variable is not supported without quotes".into());
                            }
                            let mut pieces = text.split_whitespace();
                            if text.starts_with(char::is_whitespace) || text.ends_with(char::is_whitespace) {
                                return Err("this value of a variable is not supported without quotes".into());
                            }
                            current.text.push_str(pieces.next().unwrap_or_default());
                            for piece in pieces {
                                let next = ShellWord { text: piece.to_owned(), unquoted: false, unknown: None };
                                words.push(std::mem::replace(&mut current, next));
                            }
                        }
                        VariableValue::Unknown { kind, count } => {
                            let count = match (splits, count) {
                                (true, count) => count,
                                (false, WordCount::One) => WordCount::One,
                                (false, _) => WordCount::OneOrEmpty,
                            };
                            let part = UnknownText { kind, count };
                            current.text.push(UNKNOWN_TEXT);
                            current.unknown = Some(current.unknown.map_or(part, |unknown| unknown.join(part)));
                        }
                    }
                }
            }
        }
        words.push(current);
        Ok(words)
    }

    /// Returns the value of an expansion.
    fn expand_value(&mut self, expansion: &Expansion, input: TextStream) -> Result<VariableValue, String> {
        let number = |count| VariableValue::Unknown { kind: TextKind::Number, count };
        match expansion {
            Expansion::ShellNumber => Ok(number(WordCount::One)),
            Expansion::NumberRange => Ok(number(WordCount::Any)),
            Expansion::Variable { name, change } => self.variable_value(name, change),
            Expansion::Command(list) => {
                let kind = self.run_substitution(list, input)?.text.kind();
                Ok(VariableValue::Unknown { kind, count: WordCount::Any })
            }
            Expansion::Arithmetic(expression) => {
                self.calculate(expression, input)?;
                Ok(number(WordCount::One))
            }
            Expansion::XargsItem => {
                let item = self.script_item.filter(|item| item.kind <= TextKind::Name).ok_or(UNKNOWN_VARIABLE)?;
                Ok(VariableValue::Unknown { kind: item.kind, count: item.count })
            }
            Expansion::Process(_) => Err(UNKNOWN_VARIABLE.into()),
        }
    }

    fn variable_value(&self, name: &str, change: &VariableChange) -> Result<VariableValue, String> {
        let value = self.state.variables.value(name).ok_or(UNKNOWN_VARIABLE)?;
        let kind = value.kind();
        let unknown = |kind| VariableValue::Unknown { kind, count: WordCount::Any };
        Ok(match change {
            VariableChange::None => value.clone(),
            VariableChange::Length => VariableValue::Unknown { kind: TextKind::Number, count: WordCount::One },
            VariableChange::RemoveDirectory | VariableChange::RemoveEnd if kind <= TextKind::Name => {
                unknown(TextKind::Name)
            }
            VariableChange::Default(default) => match value {
                VariableValue::Known(text) if !text.is_empty() => value.clone(),
                _ => unknown(kind.max(kind_of_text(default)).max(TextKind::Name)),
            },
            VariableChange::RemoveDirectory | VariableChange::RemoveEnd | VariableChange::Other => {
                unknown(TextKind::Text)
            }
        })
    }

    /// Checks an arithmetic expression, and sets the variables that it sets. A shell evaluates the values of the variables
    /// in it as expressions, in which an index of an array may run a command, so that all of them have to be numbers.
    pub(crate) fn calculate(&mut self, expression: &SyntaxWord, input: TextStream) -> Result<(), String> {
        const UNSUPPORTED: &str = "this arithmetic is not supported";
        self.record_abort_state();
        let mut text = String::new();
        let is_name_part = |char: char| char.is_ascii_alphanumeric() || char == '_';
        let mut is_behind_expansion = false;
        for part in &expression.parts {
            match part {
                // Together with a number beside it, a text is a name.
                WordPart::Literal(literal) if is_behind_expansion && literal.starts_with(is_name_part) => {
                    return Err(UNSUPPORTED.into());
                }
                WordPart::Literal(literal) => {
                    text.push_str(literal);
                    is_behind_expansion &= literal.is_empty();
                }
                WordPart::Quoted(_) => return Err(UNSUPPORTED.into()),
                WordPart::Expansion { expansion, .. } => {
                    if text.ends_with(is_name_part) && !text.ends_with("10#") {
                        return Err(UNSUPPORTED.into());
                    }
                    is_behind_expansion = true;
                    if self.expand_value(expansion, input)?.kind() > TextKind::Number {
                        return Err("arithmetic with something else than numbers is not supported".into());
                    }
                    text.push('1');
                }
            }
        }
        if text.len() > MAX_EXPRESSION_BYTES {
            return Err(UNSUPPORTED.into());
        }
        let chars: Vec<char> = text.chars().collect();
        let mut at = 0;
        while let Some(char) = chars.get(at) {
            if !char.is_ascii_alphanumeric() && *char != '_' {
                at += 1;
                continue;
            }
            let length = chars[at..].iter().take_while(|char| char.is_ascii_alphanumeric() || **char == '_').count();
            let name: String = chars[at..at + length].iter().collect();
            let behind: String = chars[at + length..].iter().collect();
            let before: String = chars[..at].iter().collect();
            at += length;
            if name.starts_with(|char: char| char.is_ascii_digit()) {
                continue;
            }
            let behind = behind.trim_start();
            let is_set = behind.starts_with('=') && !behind.starts_with("==");
            let is_changed = behind.starts_with("++")
                || behind.starts_with("--")
                || before.trim_end().ends_with("++")
                || before.trim_end().ends_with("--")
                || (behind.chars().nth(1) == Some('=') && !behind.starts_with(['=', '!', '<', '>']));
            let is_number = self.state.variables.value(&name).is_some_and(|value| value.kind() == TextKind::Number);
            if !(is_number || is_set) || !is_variable_name(&name) {
                return Err("arithmetic with something else than numbers is not supported".into());
            }
            if is_set || is_changed {
                let value = VariableValue::Unknown { kind: TextKind::Number, count: WordCount::One };
                self.state.variables.assign(&name, value);
            }
        }
        Ok(())
    }

    /// Returns the value of an assignment.
    pub(crate) fn value_of_assignment(
        &mut self,
        value: &SyntaxWord,
        input: TextStream,
    ) -> Result<VariableValue, String> {
        if let [WordPart::Expansion { expansion, .. }] = value.parts.as_slice()
            && !matches!(expansion, Expansion::Process(_))
        {
            return self.expand_value(expansion, input);
        }
        let word = self.expand_text(value, input)?;
        self.add_side_words(&word.text)?;
        if word.text.contains(PIPE_FILE) {
            return Err(UNKNOWN_VARIABLE.into());
        }
        Ok(match word.unknown {
            None => VariableValue::Known(word.text),
            Some(unknown) => {
                VariableValue::Unknown { kind: kind_of_mixed_text(&word.text, unknown), count: WordCount::Any }
            }
        })
    }
}

/// Returns the kind of a text of which parts are unknown.
fn kind_of_mixed_text(text: &str, unknown: UnknownText) -> TextKind {
    let known = text.replace(UNKNOWN_TEXT, "");
    let starts_known = !text.starts_with(UNKNOWN_TEXT);
    let starts_plain = starts_known || unknown.count == WordCount::One || !known.starts_with('-');
    let is_plain = known.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:/@- ".contains(&byte));
    // A word inside of the text must not start with `-` either.
    let has_plain_words = !known.contains(" -")
        && !has_flag_behind_separator(&known)
        && !has_flag_behind_separator(text)
        && !text.contains(&format!(" {UNKNOWN_TEXT}-"))
        && !known.ends_with(' ');
    match is_plain && starts_plain && has_plain_words && !known.starts_with(['-', '.', '/', ':', '@', ' ']) {
        true if unknown.kind <= TextKind::Name => TextKind::Name,
        true if unknown.kind == TextKind::Word => TextKind::Word,
        _ => TextKind::Text,
    }
}
