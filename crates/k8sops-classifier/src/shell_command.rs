//! Whole command lines, and the commands in them: the class of a line is that of its worst command.

use crate::{
    ambiguity::is_dry_run_for_every_reader,
    classification::{Classification, EffectClass, ServerReach},
    program::KnownProgram,
    sensitive_output::sensitivity_of_text,
    server_state::mentions_server_state,
    shell_evaluator::ShellEvaluator,
    shell_reader::parse_shell_line,
    shell_state::TextStream,
    shell_syntax::{CommandKind, ParsedLine},
    shell_word::{ShellWord, join_words},
};

/// Classifies a command line as a shell runs it.
///
/// The line may hold several commands, in pipes, lists, substitutions, loops, conditions and functions; its class is that of
/// the worst command. What is only known when the line runs, as the output of a substitution, may become an argument where
/// it cannot become a flag. Anything that is not fully analyzed (other variables, redirections to files, unknown programs,
/// verbs and flags) makes the line [`EffectClass::Mutating`].
///
/// ```
/// use k8sops_classifier::{EffectClass, SensitiveOutput, classify_command_line};
///
/// let list = classify_command_line("kubectl get pods -A | grep -v Running");
/// assert_eq!(list.effect, EffectClass::Read);
///
/// let secret = classify_command_line("kubectl get secret db -o yaml");
/// assert_eq!(secret.sensitive_output, Some(SensitiveOutput::Objects));
///
/// let logs = classify_command_line("for pod in $(kubectl get pods -o name); do kubectl logs $pod; done");
/// assert_eq!(logs.effect, EffectClass::Read);
///
/// let delete = classify_command_line("kubectl get pods; kubectl delete pod web-0");
/// assert_eq!((delete.effect, delete.reason.as_str()), (EffectClass::Mutating, "`kubectl delete` deletes objects"));
/// ```
#[must_use]
pub fn classify_command_line(line: &str) -> Classification {
    classify_line(line, None).with_reach_in_effect()
}

/// Classifies a line as a shell runs it. If the tool runs only one program, `implied_program` is that program, and the line
/// may omit its name.
pub(crate) fn classify_line(text: &str, implied_program: Option<KnownProgram>) -> Classification {
    match parse_shell_line(text) {
        Ok(line) => classify_parsed_line(&line, implied_program).unwrap_or_else(|reason| unclear_text(reason, text)),
        Err(reason) => unclear_text(reason.to_owned(), text),
    }
}

/// Classifies what is not analyzed, by the words in it.
pub(crate) fn unclear_text(reason: String, text: &str) -> Classification {
    let classification = Classification::mutating(reason).with_sensitive_output(sensitivity_of_text(text));
    match mentions_server_state(text) {
        true => classification.with_reach(ServerReach::ServerState, String::new),
        false => classification,
    }
}

/// Classifies the words of one command, as a program gets them without a shell.
pub(crate) fn classify_argv(words: &[ShellWord], implied_program: Option<KnownProgram>) -> Classification {
    let mut evaluator = ShellEvaluator::default();
    match evaluator.run_argv(words, implied_program) {
        Ok(()) => conclude(evaluator, false),
        Err(reason) => unclear_text(reason, &join_words(words)),
    }
}

fn classify_parsed_line(line: &ParsedLine, implied_program: Option<KnownProgram>) -> Result<Classification, String> {
    let mut evaluator = ShellEvaluator::default();
    evaluator.run_line(line, implied_program)?;
    Ok(conclude(evaluator, line.has_carriage_return))
}

/// Returns the class of all commands together.
fn conclude(evaluator: ShellEvaluator, has_carriage_return: bool) -> Classification {
    let has_dry_run = evaluator.has_dry_run;
    let (combined, words) = evaluator.into_findings();
    let combined = combined.unwrap_or_else(|| Classification::mutating("there is no command"));
    let is_certain = !has_carriage_return && is_dry_run_for_every_reader(&words);
    if has_dry_run && combined.effect == EffectClass::Read && !is_certain {
        return Classification::mutating("another reader of the line may not see the `--dry-run`")
            .with_sensitive_output(combined.sensitive_output);
    }
    combined
}

/// Returns the words of a line that is a single command without anything that is only known when it runs.
pub(crate) fn parse_single_command(line: &str) -> Option<Vec<ShellWord>> {
    let parsed = parse_shell_line(line).ok()?;
    let [item] = parsed.list.as_slice() else { return None };
    let [command] = item.pipeline.as_slice() else { return None };
    let CommandKind::Simple(words) = &command.kind else { return None };
    if command.input.is_some() {
        return None;
    }
    let words = ShellEvaluator::default().expand_words(words, TextStream::UNKNOWN).ok()?;
    words.iter().all(ShellWord::is_known).then_some(words)
}
