//! The commands in a line: programs, filters, commands of the shell, and those that start other commands.

use crate::{
    ambiguity::would_redirect_program,
    argocd,
    classification::{Classification, CommandClass},
    condition_commands::is_plain_test,
    filtered_text::text_of_filter,
    flag_parser::printable,
    helm, kubectl,
    launchers::{LaunchedCommand, is_harmless_assignment, unwrap_launcher},
    pipe_filters,
    printed_text::{PrintedText, text_of_program},
    program::KnownProgram,
    shell_evaluator::ShellEvaluator,
    shell_state::{CommandResult, TextStream},
    shell_variables::{VariableValue, is_variable_name},
    shell_word::{ShellWord, TextKind, WordCount, join_words},
    xargs::parse_xargs,
};

/// Returns the line that `bash -c LINE` runs, and the words behind it; `None` if the command is not a shell, or its flags are
/// not known. The words are positional parameters, which no supported line uses.
fn find_inner_line<'a>(name: &ShellWord, arguments: &'a [ShellWord]) -> Option<(&'a ShellWord, &'a [ShellWord])> {
    if !name.unquoted || !matches!(name.text.as_str(), "bash" | "sh" | "/bin/bash" | "/bin/sh" | "/usr/bin/bash") {
        return None;
    }
    let mut words = arguments.iter();
    loop {
        let word = words.next().filter(|word| word.unquoted)?;
        match word.text.as_str() {
            "-e" | "-u" | "-x" | "-eu" | "-l" => {}
            "-o" | "-eo" | "-euo" => _ = words.next().filter(|option| option.text == "pipefail")?,
            "-c" | "-ec" | "-euc" | "-lc" | "-xc" => {
                let line = words.next()?;
                return Some((line, words.as_slice()));
            }
            _ => return None,
        }
    }
}

/// Commands that are not in the tables of filters.
const OTHER_COMMANDS: &[&str] = &[
    "kubectl", "helm", "argocd", "bash", "sh", "set", "xargs", "read", "unset", "break", "continue", "exit", "return",
    "wait", "time", "timeout", "watch", "nice", "stdbuf", "env", "command", "test", "[", "export",
];

/// Commands of shells that no function may replace.
const SHELL_COMMANDS: &[&str] = &[
    "alias",
    "bg",
    "bind",
    "builtin",
    "caller",
    "cd",
    "complete",
    "compgen",
    "coproc",
    "declare",
    "disown",
    "enable",
    "eval",
    "exec",
    "fc",
    "fg",
    "function",
    "getopts",
    "hash",
    "history",
    "jobs",
    "kill",
    "let",
    "local",
    "mapfile",
    "popd",
    "printf",
    "pushd",
    "pwd",
    "readarray",
    "readonly",
    "select",
    "shift",
    "shopt",
    "source",
    "suspend",
    "times",
    "trap",
    "type",
    "typeset",
    "ulimit",
    "umask",
];

impl ShellEvaluator {
    /// Classifies a command. The error is why the whole line is not supported.
    pub(crate) fn classify_command(
        &mut self,
        words: &[ShellWord],
        implied_program: Option<KnownProgram>,
        input: TextStream,
    ) -> Result<CommandResult, String> {
        classify_command(self, words, implied_program, input)
    }

    /// Returns whether a function must not have that name.
    pub(crate) fn is_known_command(name: &str) -> bool {
        OTHER_COMMANDS.contains(&name) || SHELL_COMMANDS.contains(&name) || pipe_filters::is_known_filter(name)
    }
}

/// Who starts a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CommandStarter {
    /// The shell, which also has functions and commands of its own.
    Shell,
    /// A program.
    Launcher,
}

fn classify_command(
    evaluator: &mut ShellEvaluator,
    words: &[ShellWord],
    implied_program: Option<KnownProgram>,
    input: TextStream,
) -> Result<CommandResult, String> {
    let Some((name, mut arguments)) = words.split_first() else {
        return Ok(Classification::mutating("there is no command").into());
    };
    if let Some(program) = implied_program {
        let is_named = KnownProgram::from_command_name(&name.text) == Some(program) && name.unquoted;
        return Ok(classify_program(program, if is_named { arguments } else { words }).into());
    }
    let mut name = name;
    let mut splits_at = None;
    while let Some((next, others)) = arguments.split_first() {
        match name.text.strip_prefix("IFS=").filter(|_| name.is_known()) {
            Some(separator) => splits_at = Some(separator),
            None if is_harmless_assignment(name) => {}
            None => break,
        }
        (name, arguments) = (next, others);
    }
    if splits_at.is_some() && name.text != "read" {
        return Err("a change of `IFS` is only supported before `read`".into());
    }
    let mut starter = CommandStarter::Shell;
    let mut is_timed = false;
    // More launchers in a row, as in `time timeout 5 nice kubectl …`, are more than anybody writes.
    for _ in 0..3 {
        let Some(launched) = unwrap_launcher(name, arguments) else { break };
        match launched? {
            LaunchedCommand::Words(launched) => {
                let (first, others) = launched.split_first().ok_or("there is no command")?;
                if name.text == "time" {
                    is_timed = true;
                } else {
                    starter = CommandStarter::Launcher;
                }
                (name, arguments) = (first, others);
            }
            LaunchedCommand::Script(script) => {
                let printed = evaluator.run_script(&script, None, input)?;
                let read = CommandResult::read("a script only reads");
                return Ok(CommandResult { text: printed.text, ..read });
            }
        }
    }
    if !name.unquoted || !name.is_known() {
        return Err("a quoted command name is not supported".into());
    }
    let program = KnownProgram::from_command_name(&name.text);
    // `-s` of `helm template` is the address of the server for a program that stands before it.
    let is_redirecting = match program {
        None => would_redirect_program(arguments),
        Some(KnownProgram::Helm) => {
            !evaluator.is_first_command(words) && arguments.iter().any(|word| word.text.starts_with("-s"))
        }
        Some(_) => false,
    };
    let is_script = find_inner_line(name, arguments).is_some();
    if is_redirecting && !is_script {
        let name = printable(&name.text);
        return Err(format!("another reader may give the arguments of `{name}` to another program"));
    }
    if is_timed && evaluator.state.functions.contains_key(&name.text) {
        // In some shells, `time` is a program, which knows no functions.
        return Err("`time` before a function is not supported".into());
    }
    if starter == CommandStarter::Shell {
        if let Some(printed) = evaluator.run_function(&name.text, arguments, input) {
            return Ok(CommandResult { text: printed?.text, ..CommandResult::read("a function only reads") });
        }
        if let Some(result) = classify_shell_command(evaluator, &name.text, arguments, splits_at, input) {
            return result.map(|()| CommandResult::read("a command of the shell changes only the shell"));
        }
    }
    if let Some(program) = program {
        let class = classify_program(program, arguments);
        return Ok(CommandResult { class, text: text_of_program(program.name(), arguments) });
    }
    if let Some((script, parameters)) = find_inner_line(name, arguments) {
        return classify_inner_line(evaluator, script, parameters, input);
    }
    if name.text == "xargs" {
        return classify_xargs(evaluator, arguments, input);
    }
    match pipe_filters::classify_filter(&name.text, arguments) {
        Some(classification) => {
            let text = text_of_filter(&name.text, arguments, input.text);
            Ok(CommandResult { class: classification.into(), text })
        }
        None => Err(format!("`{}` is not a known program", printable(&name.text))),
    }
}

fn classify_inner_line(
    evaluator: &mut ShellEvaluator,
    script: &ShellWord,
    parameters: &[ShellWord],
    input: TextStream,
) -> Result<CommandResult, String> {
    let item = match script.unknown {
        None => None,
        Some(item) if item.kind > TextKind::Name => {
            return Err("a script that is only known when it runs is not supported".into());
        }
        // A name without line ends.
        Some(item) if item.count == WordCount::One => Some(item),
        Some(_) => Some(evaluator.xargs_item.ok_or("a script that is only known when it runs is not supported")?),
    };
    if parameters.iter().any(|word| !word.is_known() || matches!(word.text.as_str(), "bash" | "sh")) {
        return Err("a shell inside of a shell is not supported".into());
    }
    let printed = evaluator.run_script(&script.text, item, input)?;
    if !parameters.is_empty() {
        // Another reader of the quotes may take the parameters for a part of the line.
        let whole = format!("{} {}", script.text, join_words(parameters));
        evaluator.run_script(&whole, item, input)?;
    }
    Ok(CommandResult { text: printed.text, ..CommandResult::read("a script only reads") })
}

fn classify_xargs(
    evaluator: &mut ShellEvaluator,
    arguments: &[ShellWord],
    input: TextStream,
) -> Result<CommandResult, String> {
    let command = parse_xargs(arguments, input.text).ok_or("`xargs` with these flags is not supported")?;
    let name = command.words.first().map(|word| word.text.as_str()).unwrap_or_default();
    if matches!(name, "read" | "xargs" | "watch" | "time") {
        return Err("this command of `xargs` is not supported".into());
    }
    if command.kind > TextKind::Name && name != "echo" && name != "printf" {
        return Err("`xargs` gives a text to a program that is only known when it runs".into());
    }
    // The program starts without the functions of the line, and reads nothing.
    let functions = std::mem::take(&mut evaluator.state.functions);
    let stream = TextStream { text: PrintedText::Nothing, sensitive: input.sensitive };
    let outer_item = std::mem::replace(&mut evaluator.xargs_item, command.line_item);
    let result = evaluator.classify_command(&command.words, None, stream);
    evaluator.xargs_item = outer_item;
    evaluator.state.functions = functions;
    result
}

/// Classifies a command of the shell that changes the shell itself; `None` if it is none.
fn classify_shell_command(
    evaluator: &mut ShellEvaluator,
    name: &str,
    arguments: &[ShellWord],
    splits_at: Option<&str>,
    input: TextStream,
) -> Option<Result<(), String>> {
    let is_number = |word: &ShellWord| match word.unknown {
        None => word.text.bytes().all(|byte| byte.is_ascii_digit()) && !word.text.is_empty(),
        Some(unknown) => unknown.kind == TextKind::Number && unknown.count == WordCount::One,
    };
    let unsupported = || Err(format!("`{name}` with these arguments is not supported"));
    Some(match name {
        "break" | "continue" | "return" | "exit" => {
            evaluator.record_exit_state();
            match arguments {
                [] => Ok(()),
                [number] if is_number(number) => Ok(()),
                _ => unsupported(),
            }
        }
        "wait" if arguments.is_empty() => Ok(()),
        "unset" => {
            // Without a variable of that name, a shell removes the function.
            let is_variable = |word: &ShellWord| {
                word.is_known() && is_variable_name(&word.text) && !evaluator.state.functions.contains_key(&word.text)
            };
            let are_variables = arguments.iter().all(is_variable);
            for word in arguments {
                evaluator.state.variables.remove(&word.text);
            }
            if are_variables { Ok(()) } else { unsupported() }
        }
        "test" if is_plain_test(arguments) => Ok(()),
        "[" => match arguments.split_last() {
            Some((last, words)) if last.is_known() && last.text == "]" && is_plain_test(words) => Ok(()),
            _ => unsupported(),
        },
        "read" => read_variables(evaluator, arguments, splits_at, input),
        _ => return None,
    })
}

/// Sets the variables of `read`.
fn read_variables(
    evaluator: &mut ShellEvaluator,
    arguments: &[ShellWord],
    splits_at: Option<&str>,
    input: TextStream,
) -> Result<(), String> {
    let mut names: Vec<&str> = Vec::new();
    let mut words = arguments.iter();
    let mut reads_lines = true;
    while let Some(word) = words.next() {
        match word.text.as_str() {
            "-r" | "-s" => {}
            "-d" | "-t" | "-n" | "-p" => {
                reads_lines &= word.text == "-p";
                words.next().filter(|value| value.is_known()).ok_or("this `read` is not supported")?;
            }
            name if word.is_known() && is_variable_name(name) => names.push(name),
            _ => return Err("`read` with these arguments is not supported".into()),
        }
    }
    let splits_plainly = matches!(splits_at, None | Some("" | " " | "/" | "," | "\t"));
    let count = names.len();
    for (at, name) in names.into_iter().enumerate() {
        let is_last = at + 1 == count;
        let kind = match input.text {
            _ if !splits_plainly || !reads_lines => TextKind::Text,
            PrintedText::Words(kind) => kind,
            text if is_last || splits_at.is_some() => text.kind(),
            text => text.kind_of_column(at + 1),
        };
        let kind = if splits_at.is_some() { kind.max(TextKind::Name) } else { kind };
        evaluator.state.variables.assign(name, VariableValue::Unknown { kind, count: WordCount::Any });
    }
    Ok(())
}

fn classify_program(program: KnownProgram, arguments: &[ShellWord]) -> CommandClass {
    match program {
        KnownProgram::Kubectl => kubectl::classify_kubectl(arguments),
        KnownProgram::Helm => helm::classify_helm(arguments),
        KnownProgram::Argocd => argocd::classify_argocd(arguments),
    }
}
