//! Variables whose values the line itself gives: `ns=prod; kubectl get pods -n $ns`, and the variable of a `for` loop.
//!
//! A value is one plain word, so that a shell neither splits nor expands it. Only names that no program reads from its
//! environment are accepted.

use std::collections::BTreeMap;

use crate::shell_word::ShellWord;

/// Names that people give to such variables.
const VARIABLE_NAMES: &[&str] = &[
    "a",
    "app",
    "c",
    "cluster",
    "container",
    "ctx",
    "d",
    "dep",
    "deploy",
    "deployment",
    "i",
    "k",
    "kind",
    "label",
    "n",
    "name",
    "namespace",
    "node",
    "ns",
    "p",
    "pod",
    "r",
    "rel",
    "release",
    "res",
    "resource",
    "s",
    "selector",
    "sel",
    "svc",
    "service",
    "t",
    "type",
    "x",
];

/// A loop with more values is not analyzed.
const MAX_LOOP_VALUES: usize = 32;

/// Returns whether a name is that of a variable that only the line uses, in either case.
pub(crate) fn is_variable_name(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    (name == lower || name == name.to_ascii_uppercase()) && VARIABLE_NAMES.contains(&lower.as_str())
}

/// Returns whether a value is one plain word, which is no flag.
pub(crate) fn is_plain_value(value: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._/-".contains(&byte);
    !value.is_empty() && !value.starts_with('-') && value.bytes().all(is_plain)
}

/// Where a line stands in a loop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum LoopState {
    #[default]
    Outside,
    /// Behind `for NAME in …`.
    BeforeDo,
    Inside,
}

/// What is left of a command when its keywords are read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LoopCommand {
    /// An ordinary command.
    Command(Vec<ShellWord>),
    /// Only keywords.
    Keywords,
}

/// Whether an assignment is certain to run before the commands behind it, in the same shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Certainty {
    Certain,
    Uncertain,
}

/// The variables at a place of the line.
#[derive(Debug, Default)]
pub(crate) struct ShellVariables {
    values: BTreeMap<String, String>,
    loop_state: LoopState,
    loop_variable: String,
    /// Which of its values a loop's variable has. A line is read once for each.
    loop_pass: usize,
    /// The most values that a loop of the line has.
    pub(crate) loop_passes: usize,
}

impl ShellVariables {
    pub(crate) fn for_loop_pass(loop_pass: usize) -> Self {
        Self { loop_pass, loop_passes: 1, ..Self::default() }
    }

    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Whether a loop is open, so that the line cannot end here.
    pub(crate) fn is_in_loop(&self) -> bool {
        self.loop_state != LoopState::Outside
    }

    /// Sets a variable. An assignment that may not run, or whose value is not plain, makes the variable unknown. In a loop,
    /// commands before the assignment would see its value in the next round.
    pub(crate) fn assign(&mut self, name: &str, value: &str, certainty: Certainty) -> Result<(), &'static str> {
        if self.is_in_loop() {
            return Err("an assignment in a loop is not supported");
        }
        match certainty == Certainty::Certain && is_variable_name(name) && is_plain_value(value) {
            true => _ = self.values.insert(name.to_owned(), value.to_owned()),
            false => _ = self.values.remove(name),
        }
        Ok(())
    }

    /// Reads the keywords of a loop at the start of a command.
    pub(crate) fn read_keywords(&mut self, mut words: Vec<ShellWord>) -> Result<LoopCommand, &'static str> {
        let is_keyword =
            |word: Option<&ShellWord>, keyword: &str| word.is_some_and(|word| word.unquoted && word.text == keyword);
        match self.loop_state {
            LoopState::Outside if is_keyword(words.first(), "for") => {
                self.start_loop(&words)?;
                Ok(LoopCommand::Keywords)
            }
            LoopState::BeforeDo => {
                if !is_keyword(words.first(), "do") {
                    return Err("this loop is not supported");
                }
                words.remove(0);
                if words.first().is_some_and(|word| word.text.contains('=')) {
                    return Err("an assignment in a loop is not supported");
                }
                self.loop_state = LoopState::Inside;
                Ok(if words.is_empty() { LoopCommand::Keywords } else { LoopCommand::Command(words) })
            }
            LoopState::Inside if words.len() == 1 && is_keyword(words.first(), "done") => {
                self.loop_state = LoopState::Outside;
                self.values.remove(&self.loop_variable);
                Ok(LoopCommand::Keywords)
            }
            LoopState::Outside | LoopState::Inside => Ok(LoopCommand::Command(words)),
        }
    }

    fn start_loop(&mut self, words: &[ShellWord]) -> Result<(), &'static str> {
        let [_, name, keyword, values @ ..] = words else { return Err("this loop is not supported") };
        let is_supported = name.unquoted
            && is_variable_name(&name.text)
            && keyword.unquoted
            && keyword.text == "in"
            && (1..=MAX_LOOP_VALUES).contains(&values.len())
            && values.iter().all(|value| is_plain_value(&value.text));
        if !is_supported {
            return Err("this loop is not supported");
        }
        self.loop_passes = self.loop_passes.max(values.len());
        let value = values.get(self.loop_pass).or(values.last());
        self.loop_variable.clone_from(&name.text);
        self.values.insert(name.text.clone(), value.map(|value| value.text.clone()).unwrap_or_default());
        self.loop_state = LoopState::BeforeDo;
        Ok(())
    }
}
