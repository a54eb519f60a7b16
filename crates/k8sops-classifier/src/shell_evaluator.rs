//! Walks through the tree of a line as a shell runs it, and classifies each command with what is known about its words.
//!
//! Where the line may take several ways, what is known afterwards is what is true of all of them. A loop is walked until
//! nothing new is found.

use crate::{
    ambiguity::would_redirect_program,
    classification::{Classification, SensitiveOutput},
    condition_commands::is_plain_condition,
    launchers::launched_words,
    pipe_filters,
    printed_text::PrintedText,
    program::KnownProgram,
    shell_reader::{parse_shell_line, parse_xargs_script},
    shell_state::{CommandResult, ShellState, TextStream, join_into},
    shell_syntax::{
        CommandInput, CommandKind, CommandList, Expansion, ListItem, ParsedLine, Separator, ShellCommand, SyntaxWord,
        WordPart,
    },
    shell_variables::{is_variable_name, kind_of_text},
    shell_word::{ShellWord, TextKind, UnknownText},
};

/// A line whose loops and functions run more commands is not analyzed.
const MAX_COMMANDS: usize = 3000;
pub(crate) const MAX_SCRIPT_DEPTH: usize = 4;

/// Walks through a line, and collects what its commands do.
#[derive(Default)]
pub(crate) struct ShellEvaluator {
    pub(crate) state: ShellState,
    /// The text that stands for [`UNKNOWN_TEXT`](crate::shell_word::UNKNOWN_TEXT) in the script.
    pub(crate) script_item: Option<UnknownText>,
    /// The text that `xargs` puts into the command that it runs.
    pub(crate) xargs_item: Option<UnknownText>,
    /// All commands so far together.
    classification: Option<Classification>,
    pub(crate) has_dry_run: bool,
    /// All words so far, also those that no program gets.
    words: Vec<ShellWord>,
    implied_program: Option<KnownProgram>,
    pub(crate) here_documents: Vec<SyntaxWord>,
    /// The states in which loops and functions are left early, the innermost last.
    pub(crate) exits: Vec<Option<ShellState>>,
    /// The state in which an error may end the line, so that the shell continues with the next one.
    aborted: Option<ShellState>,
    commands: usize,
    list_depth: usize,
    pub(crate) script_depth: usize,
}

impl ShellEvaluator {
    /// Walks through a line. The error is why the line is not supported.
    pub(crate) fn run_line(&mut self, line: &ParsedLine, implied_program: Option<KnownProgram>) -> Result<(), String> {
        let first = line.list.first().and_then(|item| item.pipeline.first());
        let is_simple = matches!(first.map(|command| &command.kind), Some(CommandKind::Simple(_)));
        self.implied_program = implied_program.filter(|_| is_simple);
        if implied_program.is_some() && !is_simple {
            return Err("the program's name is not followed by its arguments".into());
        }
        self.here_documents.clone_from(&line.here_documents);
        self.run_list(&line.list, TextStream::UNKNOWN)?;
        Ok(())
    }

    pub(crate) fn into_findings(self) -> (Option<Classification>, Vec<ShellWord>) {
        (self.classification, self.words)
    }

    /// Walks through a script of another shell, which knows no variables of this one.
    pub(crate) fn run_script(
        &mut self,
        script: &str,
        item: Option<UnknownText>,
        input: TextStream,
    ) -> Result<TextStream, String> {
        if self.script_depth >= MAX_SCRIPT_DEPTH {
            return Err("the scripts are nested too deeply".into());
        }
        let line = if item.is_some() { parse_xargs_script(script)? } else { parse_shell_line(script)? };
        if line.has_carriage_return {
            return Err("a carriage return in a script is not supported".into());
        }
        let outer = (
            std::mem::take(&mut self.state),
            std::mem::replace(&mut self.here_documents, line.here_documents),
            std::mem::take(&mut self.exits),
            self.aborted.take(),
            std::mem::replace(&mut self.script_item, item),
            std::mem::take(&mut self.list_depth),
        );
        self.script_depth += 1;
        let printed = self.run_list(&line.list, input)?;
        self.script_depth -= 1;
        (self.state, self.here_documents, self.exits, self.aborted, self.script_item, self.list_depth) = outer;
        Ok(printed)
    }

    /// Adds what a command does.
    pub(crate) fn record(&mut self, classification: Classification) {
        self.classification = Some(match self.classification.take() {
            Some(before) => before.combine(classification),
            None => classification,
        });
    }

    /// Adds words that no program gets. A reader that knows no shell syntax takes them for arguments.
    pub(crate) fn add_side_words(&mut self, text: &str) -> Result<(), String> {
        let words: Vec<ShellWord> = text.split_whitespace().map(ShellWord::from_argument).collect();
        if would_redirect_program(&words) {
            return Err("another reader may give a text of the line to the program".into());
        }
        self.words.extend(words);
        Ok(())
    }

    /// Returns whether the words of a command are the first ones of the line.
    pub(crate) fn is_first_command(&self, words: &[ShellWord]) -> bool {
        self.words.len() <= words.len()
    }

    /// Records that the shell may stop here and go on with the next line.
    pub(crate) fn record_abort_state(&mut self) {
        join_into(&mut self.aborted, &self.state);
    }

    /// Records that a loop or a function may be left here.
    pub(crate) fn record_exit_state(&mut self) {
        for states in &mut self.exits {
            join_into(states, &self.state);
        }
    }

    /// Runs what may change nothing of the shell that runs the line.
    fn run_apart<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T, String>) -> Result<T, String> {
        let state = self.state.clone();
        let aborted = self.aborted.clone();
        let result = run(self)?;
        self.state = state;
        self.aborted = aborted;
        Ok(result)
    }

    /// Runs the list of a substitution. Bare secret values that it prints may become anything.
    pub(crate) fn run_substitution(&mut self, list: &CommandList, input: TextStream) -> Result<TextStream, String> {
        let implied = self.implied_program.take();
        let printed = self.run_apart(|evaluator| evaluator.run_list(list, input))?;
        self.implied_program = implied;
        if let Some((sensitive, is_table)) = printed.sensitive {
            let sensitive = if is_table { sensitive } else { SensitiveOutput::Values };
            self.record(Classification::read("a substitution only reads").with_sensitive_output(Some(sensitive)));
        }
        Ok(printed)
    }

    pub(crate) fn run_list(&mut self, list: &[ListItem], input: TextStream) -> Result<TextStream, String> {
        self.list_depth += 1;
        let mut printed = TextStream::EMPTY;
        let mut rest = list;
        while !rest.is_empty() {
            let is_linked = |item: &&ListItem| matches!(item.separator, Separator::And | Separator::Or);
            let length = (rest.iter().take_while(is_linked).count() + 1).min(rest.len());
            let (linked, behind) = rest.split_at(length);
            rest = behind;
            let end = linked.last().map_or(Separator::Sequence, |item| item.separator);
            let stream = match end {
                Separator::Background => self.run_apart(|evaluator| evaluator.run_linked(linked, input))?,
                _ => self.run_linked(linked, input)?,
            };
            printed = printed.join(stream);
            if end == Separator::LineEnd
                && self.list_depth == 1
                && let Some(aborted) = self.aborted.take()
            {
                self.state = self.state.join(&aborted);
            }
        }
        self.list_depth -= 1;
        Ok(printed)
    }

    /// Runs pipelines that `&&` and `||` link.
    fn run_linked(&mut self, items: &[ListItem], input: TextStream) -> Result<TextStream, String> {
        let mut printed = TextStream::EMPTY;
        let mut failed = self.state.clone();
        let mut link = Separator::Sequence;
        for item in items {
            match link {
                Separator::And => {
                    printed = printed.join(self.run_pipeline(&item.pipeline, input)?);
                    failed = failed.join(&self.state);
                }
                Separator::Or => {
                    let succeeded = std::mem::replace(&mut self.state, failed);
                    printed = printed.join(self.run_pipeline(&item.pipeline, input)?);
                    failed = self.state.clone();
                    self.state = succeeded.join(&failed);
                }
                _ => {
                    printed = printed.join(self.run_pipeline(&item.pipeline, input)?);
                    failed = self.state.clone();
                }
            }
            link = item.separator;
        }
        self.state = self.state.join(&failed);
        Ok(printed)
    }

    fn run_pipeline(&mut self, commands: &[ShellCommand], input: TextStream) -> Result<TextStream, String> {
        if let [command] = commands {
            return self.run_command(command, input);
        }
        let before = self.state.clone();
        let mut after = before.clone();
        let mut stream = input;
        for command in commands {
            self.state.clone_from(&before);
            stream = self.run_command(command, stream)?;
            // Some shells run the last command of a pipeline themselves.
            after = after.join(&self.state);
        }
        self.state = after;
        Ok(stream)
    }

    fn run_command(&mut self, command: &ShellCommand, input: TextStream) -> Result<TextStream, String> {
        let mut input = input;
        match &command.input {
            None => {}
            Some(CommandInput::HereString(word)) => {
                let word = self.expand_text(word, input)?;
                self.add_side_words(&word.text)?;
                let kind = word.unknown.map_or(kind_of_text(&word.text), |unknown| unknown.kind);
                let is_plain = word.text.chars().count() == 1 || word.is_known();
                let kind = if is_plain { kind.max(TextKind::Name) } else { TextKind::Text };
                input = TextStream { text: PrintedText::Words(kind), ..input };
            }
            Some(CommandInput::HereDocument(index)) => {
                let document = self.here_documents.get(*index).cloned().ok_or("a here-document is missing")?;
                let text = self.expand_text(&document, input)?;
                self.add_side_words(&text.text)?;
                input = TextStream { text: PrintedText::UNKNOWN, ..input };
            }
            Some(CommandInput::Process(list)) => input = self.run_substitution(list, input)?,
        }
        let printed = self.run_kind(&command.kind, input)?;
        Ok(match command.merges_errors {
            true => TextStream { text: PrintedText::UNKNOWN, ..printed },
            false => printed,
        })
    }

    /// Counts what runs, because nested loops run their bodies many times.
    fn count_command(&mut self) -> Result<(), String> {
        self.commands += 1;
        if self.commands > MAX_COMMANDS {
            return Err("the line runs too many commands".into());
        }
        Ok(())
    }

    fn run_kind(&mut self, kind: &CommandKind, input: TextStream) -> Result<TextStream, String> {
        self.count_command()?;
        match kind {
            CommandKind::Simple(words) => self.run_simple(words, input),
            CommandKind::Subshell(list) => self.run_apart(|evaluator| evaluator.run_list(list, input)),
            CommandKind::Group(list) => self.run_list(list, input),
            CommandKind::If { branches, otherwise } => {
                let mut printed = TextStream::EMPTY;
                let mut ends = None;
                for (condition, body) in branches {
                    printed = printed.join(self.run_list(condition, input)?);
                    let after_condition = self.state.clone();
                    printed = printed.join(self.run_list(body, input)?);
                    join_into(&mut ends, &self.state);
                    self.state = after_condition;
                }
                printed = printed.join(self.run_list(otherwise, input)?);
                if let Some(ends) = ends {
                    self.state = self.state.join(&ends);
                }
                Ok(printed)
            }
            CommandKind::Loop { condition, body } => self.run_rounds(|evaluator| {
                let printed = evaluator.run_list(condition, input)?;
                let after_condition = evaluator.state.clone();
                let printed = printed.join(evaluator.run_list(body, input)?);
                Ok((printed, after_condition))
            }),
            CommandKind::For { variable, values, body } => self.run_for(variable, values, body, input),
            CommandKind::CountingFor { start, condition, step, body } => {
                self.calculate(start, input)?;
                self.run_rounds(|evaluator| {
                    evaluator.calculate(condition, input)?;
                    let after_condition = evaluator.state.clone();
                    let printed = evaluator.run_list(body, input)?;
                    evaluator.calculate(step, input)?;
                    Ok((printed, after_condition))
                })
            }
            CommandKind::Case { subject, arms } => {
                let subject = self.expand_text(subject, input)?;
                self.add_side_words(&subject.text)?;
                let mut printed = TextStream::EMPTY;
                let before = self.state.clone();
                let mut ends = before.clone();
                for (patterns, body) in arms {
                    self.state.clone_from(&before);
                    for pattern in patterns {
                        let pattern = self.expand_text(pattern, input)?;
                        self.add_side_words(&pattern.text)?;
                    }
                    printed = printed.join(self.run_list(body, input)?);
                    ends = ends.join(&self.state);
                }
                self.state = ends;
                Ok(printed)
            }
            CommandKind::Condition(words) => {
                let words: Vec<ShellWord> =
                    words.iter().map(|word| self.expand_text(word, input)).collect::<Result<_, _>>()?;
                if !is_plain_condition(&words) {
                    return Err("this condition is not supported".into());
                }
                self.record_abort_state();
                self.words.extend(words);
                self.record(Classification::read("a condition only compares"));
                Ok(TextStream::EMPTY)
            }
            CommandKind::Arithmetic(expression) => {
                if is_command_in_other_shells(expression) {
                    return Err("this arithmetic is not supported".into());
                }
                self.calculate(expression, input)?;
                self.record(Classification::read("arithmetic only calculates"));
                Ok(TextStream::EMPTY)
            }
            CommandKind::Function { name, body } => {
                if !is_variable_name(name) || Self::is_known_command(name) {
                    return Err("a function of this name is not supported".into());
                }
                self.state.functions.insert(name.clone(), body.clone());
                self.record(Classification::read("a function is defined"));
                Ok(TextStream::EMPTY)
            }
        }
    }

    fn run_simple(&mut self, words: &[SyntaxWord], input: TextStream) -> Result<TextStream, String> {
        let implied_program = self.implied_program.take();
        let is_export = words.first().and_then(SyntaxWord::plain_text) == Some("export");
        let assignments = words.iter().skip(usize::from(is_export)).map(split_assignment);
        if implied_program.is_none()
            && words.len() > usize::from(is_export)
            && let Some(assignments) = assignments.collect::<Option<Vec<_>>>()
        {
            for (name, value) in assignments {
                self.assign(&name, &value, input)?;
            }
            self.record(Classification::read("a variable of the line is set"));
            return Ok(TextStream::EMPTY);
        }
        let words = self.expand_words(words, input)?;
        self.run_words(&words, implied_program, input)
    }

    /// Runs the words of one command, as a program gets them without a shell.
    pub(crate) fn run_argv(
        &mut self,
        words: &[ShellWord],
        implied_program: Option<KnownProgram>,
    ) -> Result<(), String> {
        self.run_words(words, implied_program, TextStream::UNKNOWN).map(|_| ())
    }

    fn run_words(
        &mut self,
        words: &[ShellWord],
        implied_program: Option<KnownProgram>,
        input: TextStream,
    ) -> Result<TextStream, String> {
        self.words.extend(words.iter().cloned());
        let CommandResult { class, text } = self.classify_command(words, implied_program, input)?;
        self.has_dry_run |= class.is_dry_run;
        let mut sensitive = input.sensitive;
        match (sensitive, pipe_filters::find_filter(launched_words(words))) {
            (Some((input, is_table)), Some(filter)) => {
                let passed_on = if is_table { input } else { filter.sensitivity_after(input) };
                sensitive = Some((passed_on, is_table));
            }
            (None, Some(filter)) if filter.is_decoder() => sensitive = Some((SensitiveOutput::Values, false)),
            _ => {}
        }
        if let Some(output) = class.classification.sensitive_output {
            sensitive = Some((output, class.is_table));
        }
        self.record(class.classification.with_sensitive_output(sensitive.map(|(output, _)| output)));
        Ok(TextStream { text, sensitive })
    }

    fn assign(&mut self, name: &str, value: &SyntaxWord, input: TextStream) -> Result<(), String> {
        if !is_variable_name(name) {
            return Err(format!(
                "setting the variable `{}` is not known to be harmless",
                crate::flag_parser::printable(name)
            ));
        }
        let value = self.value_of_assignment(value, input)?;
        self.state.variables.assign(name, value);
        Ok(())
    }
}

/// Returns whether a shell that does not know `((…))` may take it for a command in two subshells: `((kubectl delete pod x))`.
fn is_command_in_other_shells(expression: &SyntaxWord) -> bool {
    let texts: Vec<&str> = expression
        .parts
        .iter()
        .map(|part| match part {
            WordPart::Literal(text) | WordPart::Quoted(text) => text.as_str(),
            WordPart::Expansion { .. } => "1",
        })
        .collect();
    let text = texts.concat();
    let first = text.split_whitespace().next().unwrap_or_default();
    let is_name = first.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_./-".contains(&byte))
        && !first.bytes().all(|byte| byte.is_ascii_digit());
    is_name || text.contains(['|', '&', ';', '<', '>', '`', '\n', '('])
}

/// Splits `name=value`; `None` if the word is no assignment.
fn split_assignment(word: &SyntaxWord) -> Option<(String, SyntaxWord)> {
    let (WordPart::Literal(first), others) = word.parts.split_first()? else { return None };
    let (name, start) = first.split_once('=')?;
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !is_name || name.is_empty() || word.is_continued {
        return None;
    }
    // A shell replaces a `~` at the start of a value and behind a `:`.
    let has_tilde = word.parts.iter().any(|part| matches!(part, WordPart::Literal(text) if text.contains('~')));
    let range = WordPart::Expansion { expansion: Expansion::NumberRange, is_quoted: false };
    if has_tilde || others.contains(&range) {
        return None;
    }
    let mut parts = others.to_vec();
    if !start.is_empty() {
        parts.insert(0, WordPart::Literal(start.to_owned()));
    }
    Some((name.to_owned(), SyntaxWord { parts, ..SyntaxWord::default() }))
}
