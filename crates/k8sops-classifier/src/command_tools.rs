//! Tools that take a command line, of a shell or of one program.

use serde_json::{Map, Value};

use crate::{
    classification::Classification,
    program::KnownProgram,
    sensitive_output::sensitivity_of_text,
    shell_command::{classify_argv, classify_line},
    shell_lexer::ShellWord,
};

const SHELL: Option<KnownProgram> = None;
const KUBECTL: Option<KnownProgram> = Some(KnownProgram::Kubectl);
const HELM: Option<KnownProgram> = Some(KnownProgram::Helm);
const ARGOCD: Option<KnownProgram> = Some(KnownProgram::Argocd);

/// Names of the tools, and the program whose name their command line may omit.
const COMMAND_TOOLS: &[(&str, Option<KnownProgram>)] = &[
    ("kubectl", KUBECTL),
    ("kubectl_command", KUBECTL),
    ("kubectl_execute", KUBECTL),
    ("run_kubectl", KUBECTL),
    ("run_kubectl_command", KUBECTL),
    ("execute_kubectl", KUBECTL),
    ("execute_kubectl_command", KUBECTL),
    ("call_kubectl", KUBECTL),
    ("helm", HELM),
    ("helm_command", HELM),
    ("run_helm", HELM),
    ("run_helm_command", HELM),
    ("execute_helm", HELM),
    ("call_helm", HELM),
    ("argocd", ARGOCD),
    ("argocd_command", ARGOCD),
    ("run_argocd", ARGOCD),
    ("execute_argocd", ARGOCD),
    ("call_argocd", ARGOCD),
    ("bash", SHELL),
    ("sh", SHELL),
    ("shell", SHELL),
    ("terminal", SHELL),
    ("run_bash", SHELL),
    ("run_command", SHELL),
    ("run_in_terminal", SHELL),
    ("run_shell", SHELL),
    ("run_shell_command", SHELL),
    ("run_terminal_cmd", SHELL),
    ("exec_command", SHELL),
    ("execute_bash", SHELL),
    ("execute_command", SHELL),
    ("execute_shell", SHELL),
    ("execute_shell_command", SHELL),
    ("shell_command", SHELL),
    ("shell_exec", SHELL),
    ("shell_execute", SHELL),
];

/// Keys of an argument that is the command line.
const LINE_KEYS: &[&str] = &["command", "cmd", "script", "commandLine", "command_line"];
/// Keys of an argument that is the rest of the command line or all of it, usually as a list.
const LIST_KEYS: &[&str] = &["args", "arguments", "argv"];
/// Keys of arguments that do not change what the command line does.
const SIDE_KEYS: &[&str] = &[
    "timeout",
    "timeout_ms",
    "timeoutMs",
    "timeout_seconds",
    "timeoutSeconds",
    "timeout_secs",
    "namespace",
    "context",
    "cwd",
    "workdir",
    "working_dir",
    "working_directory",
    "workingDirectory",
    "modifies_resource",
    "is_background",
    "run_in_background",
    "background",
];
/// Keys of arguments that only describe the call to a person.
const DESCRIPTION_KEYS: &[&str] = &["description", "explanation", "reason", "purpose"];

/// A tool that takes a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CommandTool {
    /// The only program that the tool runs; `None` for a shell.
    pub(crate) implied_program: Option<KnownProgram>,
}

/// The command line in the arguments of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CommandLine<'a> {
    /// One string.
    Line {
        /// Key of the argument.
        key: &'a str,
        line: &'a str,
    },
    /// A list of words.
    Words {
        /// Key of the list.
        key: &'a str,
        /// The first word, if another argument holds it.
        first: Option<&'a str>,
        /// The words in the list.
        rest: Vec<&'a str>,
    },
}

/// Returns the tool of that name, if it takes a command line.
pub(crate) fn find_command_tool(name: &str) -> Option<CommandTool> {
    COMMAND_TOOLS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, implied_program)| CommandTool { implied_program: *implied_program })
}

/// Returns the command line in the arguments; `None` if there is none, or if an argument is not known to leave it unchanged.
pub(crate) fn find_command_line(arguments: &Map<String, Value>) -> Option<CommandLine<'_>> {
    let mut lines = Vec::new();
    let mut lists = Vec::new();
    for (key, value) in arguments {
        let key = key.as_str();
        let may_be_command = LINE_KEYS.contains(&key) || LIST_KEYS.contains(&key);
        match value {
            Value::Null => {}
            Value::String(line) if may_be_command => lines.push((key, line.as_str())),
            Value::Array(words) if may_be_command => {
                lists.push((key, words.iter().map(Value::as_str).collect::<Option<Vec<_>>>()?));
            }
            Value::String(text) if SIDE_KEYS.contains(&key) && is_plain_name(text) => {}
            Value::Bool(_) | Value::Number(_) if SIDE_KEYS.contains(&key) => {}
            Value::String(_) if DESCRIPTION_KEYS.contains(&key) => {}
            _ => return None,
        }
    }
    match (lines.as_slice(), lists.as_slice()) {
        ([(key, line)], []) => Some(CommandLine::Line { key, line }),
        ([], [(key, words)]) => Some(CommandLine::Words { key, first: None, rest: words.clone() }),
        ([(key, line)], [(_, words)]) if words.is_empty() && LINE_KEYS.contains(key) => {
            Some(CommandLine::Line { key, line })
        }
        ([(key, first)], [(list, words)])
            if LINE_KEYS.contains(key) && LIST_KEYS.contains(list) && is_plain_name(first) =>
        {
            Some(CommandLine::Words { key: list, first: Some(first), rest: words.clone() })
        }
        _ => None,
    }
}

/// Returns whether a text is a name or a path, and one word for every reader.
fn is_plain_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/@-".contains(&byte);
    !text.is_empty() && !text.starts_with('-') && text.bytes().all(is_plain)
}

/// Classifies a call of a tool that takes a command line; `None` if no such tool is known.
pub(crate) fn classify_command_tool(name: &str, arguments: &Map<String, Value>) -> Option<Classification> {
    let CommandTool { implied_program } = find_command_tool(name)?;
    if arguments.is_empty() {
        return Some(Classification::mutating("the effect depends on the command line"));
    }
    Some(match find_command_line(arguments) {
        Some(CommandLine::Line { line, .. }) => classify_line(line, implied_program),
        Some(CommandLine::Words { first, rest, .. }) => {
            let words: Vec<&str> = first.into_iter().chain(rest).collect();
            classify_words(&words, implied_program)
        }
        None => {
            let text = Value::Object(arguments.clone()).to_string();
            Classification::mutating("the arguments are not known").with_sensitive_output(sensitivity_of_text(&text))
        }
    })
}

/// Classifies words that a server either runs as they are, or joins with spaces and gives to a shell.
pub(crate) fn classify_words(words: &[&str], implied_program: Option<KnownProgram>) -> Classification {
    let argv: Vec<ShellWord> = words.iter().map(|word| ShellWord::from_argument(word)).collect();
    classify_argv(&argv, implied_program).combine(classify_line(&words.join(" "), implied_program))
}
