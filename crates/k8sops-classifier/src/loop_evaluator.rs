//! Walks through loops and functions, whose commands run with several values.

use crate::{
    shell_evaluator::{MAX_SCRIPT_DEPTH, ShellEvaluator},
    shell_state::{ShellState, TextStream},
    shell_syntax::{CommandList, SyntaxWord},
    shell_variables::{VariableValue, is_variable_name, kind_of_text},
    shell_word::{ShellWord, TextKind, WordCount, join_words},
};

/// A loop with more values is not walked value by value.
const MAX_LOOP_VALUES: usize = 32;
const MAX_LOOP_ROUNDS: usize = 8;

impl ShellEvaluator {
    /// Runs the rounds of a loop until nothing new is known. A round returns what it prints, and the state behind its
    /// condition.
    pub(crate) fn run_rounds(
        &mut self,
        mut round: impl FnMut(&mut Self) -> Result<(TextStream, ShellState), String>,
    ) -> Result<TextStream, String> {
        self.exits.push(None);
        for _ in 0..MAX_LOOP_ROUNDS {
            let start = self.state.clone();
            let (printed, after_condition) = round(self)?;
            let mut next = start.join(&self.state);
            let left = self.exits.last().cloned().flatten();
            if let Some(left) = &left {
                next = next.join(left);
            }
            if next == start {
                self.exits.pop();
                self.state = left.map_or(after_condition.clone(), |left| after_condition.join(&left));
                return Ok(printed);
            }
            self.state = next;
        }
        Err("a loop whose variables change is not supported".into())
    }

    pub(crate) fn run_for(
        &mut self,
        variable: &str,
        values: &[SyntaxWord],
        body: &CommandList,
        input: TextStream,
    ) -> Result<TextStream, String> {
        if !is_variable_name(variable) {
            return Err("a loop with this variable is not supported".into());
        }
        let words = self.expand_words(values, input)?;
        self.add_side_words(&join_words(&words))?;
        if words.iter().all(ShellWord::is_known) && words.len() <= MAX_LOOP_VALUES {
            self.exits.push(None);
            let mut printed = TextStream::EMPTY;
            for word in words {
                self.state.variables.assign(variable, VariableValue::Known(word.text));
                printed = printed.join(self.run_list(body, input)?);
                // `continue` leads to the next value.
                if let Some(left) = self.exits.last().cloned().flatten() {
                    self.state = self.state.join(&left);
                }
            }
            self.exits.pop();
            return Ok(printed);
        }
        let mut kind = TextKind::Number;
        let mut count = WordCount::One;
        for word in &words {
            match word.unknown {
                None => kind = kind.max(kind_of_text(&word.text)),
                Some(unknown) if word.text.chars().count() == 1 => {
                    kind = kind.max(unknown.kind);
                    // A text that is split becomes words that are not empty.
                    count =
                        count.max(if unknown.count == WordCount::OneOrEmpty { WordCount::Any } else { WordCount::One });
                }
                Some(_) => kind = TextKind::Text,
            }
            // A shell replaces globs in a text that it splits by names of files.
            if word.may_be_hidden_flag() && !word.is_one_word() {
                return Err("a loop over a text is not supported".into());
            }
        }
        self.run_rounds(|evaluator| {
            let before = evaluator.state.clone();
            evaluator.state.variables.assign(variable, VariableValue::Unknown { kind, count });
            Ok((evaluator.run_list(body, input)?, before.join(&evaluator.state)))
        })
    }

    /// Runs a function of the line with its arguments; `None` if there is no such function.
    pub(crate) fn run_function(
        &mut self,
        name: &str,
        arguments: &[ShellWord],
        input: TextStream,
    ) -> Option<Result<TextStream, String>> {
        let body = self.state.functions.get(name)?.clone();
        Some(self.run_function_body(&body, arguments, input))
    }

    fn run_function_body(
        &mut self,
        body: &CommandList,
        arguments: &[ShellWord],
        input: TextStream,
    ) -> Result<TextStream, String> {
        if self.script_depth >= MAX_SCRIPT_DEPTH {
            return Err("functions that call each other are not supported".into());
        }
        if arguments.len() > 9 || !arguments.iter().all(ShellWord::is_one_word) {
            return Err("these arguments of a function are not supported".into());
        }
        let names: Vec<String> =
            (1..=9).map(|number| number.to_string()).chain(["@", "*"].map(str::to_owned)).collect();
        let outer: Vec<Option<VariableValue>> =
            names.iter().map(|name| self.state.variables.value(name).cloned()).collect();
        for (at, name) in names.iter().take(9).enumerate() {
            let value = match arguments.get(at) {
                None => VariableValue::Known(String::new()),
                Some(word) => match word.unknown {
                    None => VariableValue::Known(word.text.clone()),
                    Some(unknown) if word.text.chars().count() == 1 => {
                        let count = if unknown.count == WordCount::One { WordCount::One } else { WordCount::Any };
                        VariableValue::Unknown { kind: unknown.kind, count }
                    }
                    Some(_) => VariableValue::Unknown { kind: TextKind::Text, count: WordCount::Any },
                },
            };
            self.state.variables.assign(name, value);
        }
        // All arguments together, if a shell splits them into the same words again.
        let is_plain = |word: &ShellWord| {
            word.is_known() && !word.text.is_empty() && !word.text.contains([' ', '\t', '\n', '*', '?', '[', '\\', '~'])
        };
        for name in ["@", "*"] {
            match arguments.iter().all(is_plain) {
                true => self.state.variables.assign(name, VariableValue::Known(join_words(arguments))),
                false => self.state.variables.remove(name),
            }
        }
        self.exits.push(None);
        self.script_depth += 1;
        let printed = self.run_list(body, input)?;
        self.script_depth -= 1;
        if let Some(left) = self.exits.pop().flatten() {
            self.state = self.state.join(&left);
        }
        for (name, value) in names.iter().zip(outer) {
            match value {
                Some(value) => self.state.variables.assign(name, value),
                None => self.state.variables.remove(name),
            }
        }
        Ok(printed)
    }
}
