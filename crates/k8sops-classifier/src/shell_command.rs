//! Whole command lines: the class of a line is that of its worst command.

use crate::{
    ambiguity::{is_dry_run_for_every_reader, would_redirect_program},
    argocd,
    classification::{Classification, CommandClass, EffectClass, SensitiveOutput, ServerReach},
    flag_parser::printable,
    helm, kubectl, pipe_filters,
    program::KnownProgram,
    sensitive_output::sensitivity_of_text,
    server_state::mentions_server_state,
    shell_lexer::{ShellLine, ShellWord, parse_shell_line},
    shell_variables::{is_plain_value, is_variable_name},
};

/// Classifies a command line as a shell runs it.
///
/// The line may hold several commands, with pipes and separators between them; its class is that of the worst command.
/// Anything that is not fully analyzed (expansions, substitutions, redirections to files, unknown programs, verbs and
/// flags) makes the line [`EffectClass::Mutating`].
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
        Ok(line) => classify_parsed_line(&line, implied_program),
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
    let line = ShellLine { pipelines: vec![vec![words.to_vec()]], has_carriage_return: false };
    classify_parsed_line(&line, implied_program)
}

fn classify_parsed_line(line: &ShellLine, mut implied_program: Option<KnownProgram>) -> Classification {
    let mut combined: Option<Classification> = None;
    let mut has_dry_run = false;
    for pipeline in &line.pipelines {
        // What flows through the pipe, and whether it is a table without values.
        let mut piped: Option<(SensitiveOutput, bool)> = None;
        for command in pipeline {
            let class = classify_command(command, implied_program.take());
            has_dry_run |= class.is_dry_run;
            let mut classification = class.classification;
            match (piped, pipe_filters::find_filter(command)) {
                (Some((sensitive, is_table)), Some(filter)) => {
                    let passed_on = if is_table { sensitive } else { filter.sensitivity_after(sensitive) };
                    piped = Some((passed_on, is_table));
                }
                (None, Some(filter)) if filter.is_decoder() => piped = Some((SensitiveOutput::Values, false)),
                _ => {}
            }
            if let Some(sensitive) = classification.sensitive_output {
                piped = Some((sensitive, class.is_table));
            }
            classification = classification.with_sensitive_output(piped.map(|(sensitive, _)| sensitive));
            combined = Some(match combined {
                Some(before) => before.combine(classification),
                None => classification,
            });
        }
    }
    let combined = combined.unwrap_or_else(|| Classification::mutating("there is no command"));
    let is_read = combined.effect == EffectClass::Read;
    let is_certain =
        !line.has_carriage_return && is_dry_run_for_every_reader(line.pipelines.iter().flatten().flatten());
    if has_dry_run && is_read && !is_certain {
        return Classification::mutating("another reader of the line may not see the `--dry-run`")
            .with_sensitive_output(combined.sensitive_output);
    }
    combined
}

/// Variables that only change how a program prints.
const HARMLESS_VARIABLES: &[&str] = &["LANG", "LC_ALL", "LC_CTYPE", "LC_TIME", "TZ", "NO_COLOR", "TERM", "COLUMNS"];

/// Returns whether a word before a command sets such a variable to a plain value.
fn is_harmless_assignment(word: &ShellWord) -> bool {
    let is_plain = |value: &str| value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte));
    word.unquoted
        && word.text.split_once('=').is_some_and(|(name, value)| HARMLESS_VARIABLES.contains(&name) && is_plain(value))
}

/// Returns the line that `bash -c LINE` runs, and the words behind it; `None` if the command is not a shell, or its flags are
/// not known. The words are positional parameters, which no supported line uses.
fn find_inner_line<'a>(name: &ShellWord, arguments: &'a [ShellWord]) -> Option<(&'a str, &'a [ShellWord])> {
    if !name.unquoted || !matches!(name.text.as_str(), "bash" | "sh" | "/bin/bash" | "/bin/sh" | "/usr/bin/bash") {
        return None;
    }
    let mut words = arguments.iter();
    loop {
        let word = words.next().filter(|word| word.unquoted)?;
        match word.text.as_str() {
            "-e" | "-u" | "-x" | "-eu" => {}
            "-o" | "-eo" | "-euo" => _ = words.next().filter(|option| option.text == "pipefail")?,
            "-c" | "-ec" | "-euc" => {
                let line = words.next()?.text.as_str();
                return Some((line, words.as_slice()));
            }
            _ => return None,
        }
    }
}

fn classify_command(words: &[ShellWord], implied_program: Option<KnownProgram>) -> CommandClass {
    let Some((name, mut arguments)) = words.split_first() else {
        return Classification::mutating("there is no command").into();
    };
    if let Some(program) = implied_program {
        let is_named = KnownProgram::from_command_name(&name.text) == Some(program) && name.unquoted;
        return classify_program(program, if is_named { arguments } else { words });
    }
    if let ([], Some((variable, value))) = (arguments, name.text.split_once('='))
        && is_variable_name(variable)
        && is_plain_value(value)
    {
        return Classification::read("a variable of the line is set").into();
    }
    let mut name = name;
    while let Some((next, others)) = arguments.split_first().filter(|_| is_harmless_assignment(name)) {
        (name, arguments) = (next, others);
    }
    let unknown = |reason: String| -> CommandClass { unclear_text(reason, &join_words(words)).into() };
    // Two launchers in a row, as in `time timeout 5 kubectl …`, are more than anybody writes.
    for _ in 0..2 {
        match unwrap_launcher(name, arguments) {
            None => break,
            Some(Err(reason)) => return unknown(reason),
            Some(Ok(launched)) => match launched.split_first() {
                Some((first, others)) => (name, arguments) = (first, others),
                None => return Classification::mutating("there is no command").into(),
            },
        }
    }
    if !name.unquoted {
        return unknown("a quoted command name is not supported".to_owned());
    }
    if let Some(program) = KnownProgram::from_command_name(&name.text) {
        return classify_program(program, arguments);
    }
    if let Some((inner, parameters)) = find_inner_line(name, arguments) {
        if parameters.iter().any(|word| matches!(word.text.as_str(), "bash" | "sh")) {
            return unknown("a shell inside of a shell is not supported".to_owned());
        }
        let lower = join_words(words).to_ascii_lowercase();
        // Another reader of the quotes may take the parameters for a part of the line.
        let whole = format!("{inner} {}", join_words(parameters));
        return CommandClass {
            classification: classify_line(inner, None).combine(classify_line(&whole, None)),
            is_dry_run: lower.contains("dry-run") || lower.contains("dry_run"),
            is_table: false,
        };
    }
    if would_redirect_program(arguments) {
        let name = printable(&name.text);
        return unknown(format!("another reader may give the arguments of `{name}` to another program"));
    }
    match pipe_filters::classify_filter(&name.text, arguments) {
        Some(classification) => classification.into(),
        None => unknown(format!("`{}` is not a known program", printable(&name.text))),
    }
}

fn classify_program(program: KnownProgram, arguments: &[ShellWord]) -> CommandClass {
    match program {
        KnownProgram::Kubectl => kubectl::classify_kubectl(arguments),
        KnownProgram::Helm => helm::classify_helm(arguments),
        KnownProgram::Argocd => argocd::classify_argocd(arguments),
    }
}

fn join_words(words: &[ShellWord]) -> String {
    let words: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
    words.join(" ")
}

/// Returns the command that `time`, `timeout` or `watch` starts, or why that command is not certain; `None` for any other
/// program.
fn unwrap_launcher<'a>(name: &ShellWord, arguments: &'a [ShellWord]) -> Option<Result<&'a [ShellWord], String>> {
    let mut at = 0;
    let text = |at: usize| arguments.get(at).map_or("", |word| word.text.as_str());
    let flags_with_value: &[&str] = match name.text.as_str() {
        _ if !name.unquoted => return None,
        "time" => return Some(Ok(arguments)),
        "timeout" => &["-k", "-s", "--kill-after", "--signal"],
        "watch" => &["-n", "--interval"],
        _ => return None,
    };
    while text(at).starts_with('-') {
        let is_switch = matches!(text(at), "--preserve-status" | "--foreground" | "-t" | "-d" | "-x");
        match flags_with_value.contains(&text(at)) {
            true => at += 2,
            false if is_switch => at += 1,
            false => return Some(Err(format!("`{} {}` is not supported", name.text, printable(text(at))))),
        }
    }
    if name.text == "timeout" {
        let duration = text(at);
        let number = duration.strip_suffix(['s', 'm', 'h']).unwrap_or(duration);
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            return Some(Err("`timeout` has no duration".into()));
        }
        at += 1;
    }
    let launched = arguments.get(at..).unwrap_or_default();
    // `watch` gives its arguments to a shell, which reads quotes and operators a second time.
    let survives_second_reading = |word: &ShellWord| {
        word.unquoted && word.text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_=.,/:@%+".contains(&b))
    };
    if name.text == "watch" && !launched.iter().all(survives_second_reading) {
        return Some(Err("`watch` gives its arguments to a second shell".into()));
    }
    Some(Ok(launched))
}
