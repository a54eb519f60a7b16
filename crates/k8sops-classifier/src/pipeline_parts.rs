//! The commands of a pipeline that may change something, and what each gets as input.

use crate::{
    changing_parts::{CommandInput, CommandWords, LineCommand, LinePart},
    classification::ServerReach,
    echo_output::{is_printing, printed_text},
    program::KnownProgram,
    shell_command::classify_argv,
    shell_word::{ShellWord, UNKNOWN_TEXT},
    xargs::run_xargs,
};

/// Returns what of a pipeline may change something. `given` is what each command gets from elsewhere than the pipe.
pub(crate) fn read_pipeline(
    pipeline: &[CommandWords],
    given: &[CommandInput],
    implied: Option<KnownProgram>,
) -> Vec<LinePart> {
    let print = |words: &CommandWords| words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" ");
    let whole = pipeline.iter().map(print).collect::<Vec<_>>().join(" | ");
    let unknown = || vec![LinePart::Unknown(whole.replace(UNKNOWN_TEXT, "…"))];
    let implied_of = |at: usize| implied.filter(|_| at == 0);
    let changes = |at: &usize| {
        let words = &pipeline[*at];
        // What a program prints can look like a flag of another one, which the classification takes for ambiguous.
        let only_prints = words.first().is_some_and(|word| is_printing(&word.text));
        !only_prints && !classify_argv(words, implied_of(*at)).is_read_within(ServerReach::Manifests)
    };
    let changing: Vec<usize> = (0..pipeline.len()).filter(changes).collect();
    let at = match changing.as_slice() {
        [] => return Vec::new(),
        [at] => *at,
        _ => return unknown(),
    };
    let words = &pipeline[at];
    if !words.iter().all(ShellWord::is_known) {
        return unknown();
    }
    let input = find_input(&pipeline[..at], given, at);
    let runs_xargs = words.first().is_some_and(|word| word.text == "xargs");
    let commands = match &input {
        CommandInput::Text(text) if runs_xargs => run_xargs(&words[1..], text).unwrap_or_default(),
        _ => vec![words.clone()],
    };
    let input = if runs_xargs { CommandInput::Nothing } else { input };
    let parts: Option<Vec<LinePart>> = commands
        .into_iter()
        .map(|mut words| {
            let named = words.first().and_then(|word| KnownProgram::from_command_name(&word.text));
            let program = named.or(implied_of(at))?;
            words.drain(..usize::from(named.is_some()));
            Some(LinePart::Command(LineCommand { program, words, input: input.clone() }))
        })
        .collect();
    parts.filter(|parts| !parts.is_empty()).unwrap_or_else(unknown)
}

/// Returns what a command of a pipeline gets as its input: what stands before it prints it, or the line gives it.
fn find_input(before: &[CommandWords], given: &[CommandInput], at: usize) -> CommandInput {
    let has_document = |at: usize| given.get(at).is_some_and(|input| *input != CommandInput::Nothing);
    match (given.get(at).unwrap_or(&CommandInput::Unknown), before) {
        (CommandInput::Nothing, []) => CommandInput::Nothing,
        (CommandInput::Nothing, [source]) if has_document(0) => match source.as_slice() {
            [cat] if cat.text == "cat" => given.first().cloned().unwrap_or(CommandInput::Unknown),
            _ => CommandInput::Unknown,
        },
        (CommandInput::Nothing, [source]) if source.first().is_some_and(|word| is_printing(&word.text)) => {
            printed_text(source).map_or(CommandInput::Unknown, CommandInput::Text)
        }
        (CommandInput::Nothing, before)
            if !(0..at).any(has_document) && before.iter().flatten().all(ShellWord::is_known) =>
        {
            CommandInput::Printed(before.to_vec())
        }
        (CommandInput::Nothing, _) => CommandInput::Unknown,
        (given, _) => given.clone(),
    }
}
