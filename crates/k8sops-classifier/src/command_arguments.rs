//! The command line in the arguments of a call.

use serde_json::{Map, Value};

use crate::tool_description::split_name;

/// Words of which one must be in the name of an argument that is a command line.
const COMMAND_WORDS: &[&str] =
    &["command", "commands", "cmd", "args", "arguments", "argv", "script", "cli", "commandline"];
/// Words that may stand beside it.
const BESIDE_COMMAND_WORDS: &[&str] = &[
    "kubectl", "helm", "argocd", "argo", "cd", "shell", "bash", "sh", "line", "full", "raw", "string", "text", "k8s",
    "kube",
];
/// Names of an argument that are only the program.
const PROGRAM_KEYS: &[&str] = &["kubectl", "helm", "argocd", "bash", "shell"];
/// Words in the name of an argument that is the rest of a command line.
const REST_WORDS: &[&str] = &["args", "arguments", "argv"];

/// Keys of arguments that choose where the command looks for files.
const DIRECTORY_KEYS: &[&str] =
    &["cwd", "workdir", "working_dir", "working_directory", "workingDirectory", "directory", "dir"];
/// Keys of further arguments that do not change what the command line does.
const SIDE_KEYS: &[&str] = &[
    "namespace",
    "context",
    "kube_context",
    "kubeContext",
    "cluster",
    "cluster_name",
    "clusterName",
    "cluster_id",
    "modifies_resource",
    "is_background",
    "run_in_background",
    "background",
    "verbose",
    "quiet",
    "dry_run",
    "dryRun",
    "max_lines",
    "max_output",
    "limit",
];
/// Values of an argument `shell` that choose the shell of the tool.
const SHELLS: &[&str] = &["bash", "sh", "zsh", "/bin/bash", "/bin/sh", "/usr/bin/bash"];
/// Keys of arguments that choose a format of the output, and the formats.
const FORMAT_KEYS: &[&str] = &["output", "format", "output_format", "outputFormat"];
const FORMATS: &[&str] = &["", "json", "yaml", "wide", "name", "text", "table", "markdown", "raw", "plain"];
/// Keys of arguments that only describe the call to a person.
const DESCRIPTION_KEYS: &[&str] = &["description", "explanation", "reason", "purpose", "thought", "intent"];

/// The command line in the arguments of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CommandLine<'a> {
    /// One string.
    Line {
        /// Key of the argument.
        key: &'a str,
        line: &'a str,
    },
    /// Two strings: a verb or a program, and what follows it.
    SplitLine { first: &'a str, rest: &'a str },
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

/// Returns whether an argument of that name is a command line: `command`, `kubectl_command`, `helmArgs`, `kubectl`.
pub(crate) fn is_command_key(key: &str) -> bool {
    let words = split_name(key);
    let is_command = |word: &String| COMMAND_WORDS.contains(&word.as_str());
    let is_beside = |word: &String| BESIDE_COMMAND_WORDS.contains(&word.as_str());
    PROGRAM_KEYS.contains(&key)
        || (words.iter().any(is_command) && words.iter().all(|word| is_command(word) || is_beside(word)))
}

fn is_rest_key(key: &str) -> bool {
    split_name(key).iter().any(|word| REST_WORDS.contains(&word.as_str()))
}

/// Returns whether the call chooses the directory in which the command runs.
pub(crate) fn has_working_directory(arguments: &Map<String, Value>) -> bool {
    let is_given = |value: &Value| !value.is_null() && value.as_str() != Some("");
    arguments.iter().any(|(key, value)| DIRECTORY_KEYS.contains(&key.as_str()) && is_given(value))
}

/// Returns the command line in the arguments; `None` if there is none, or if an argument is not known to leave it unchanged.
pub(crate) fn find_command_line(arguments: &Map<String, Value>) -> Option<CommandLine<'_>> {
    let mut lines = Vec::new();
    let mut lists = Vec::new();
    for (key, value) in arguments {
        let key = key.as_str();
        match value {
            Value::Null | Value::Bool(false) => {}
            // Models fill in arguments that they do not mean.
            Value::String(text) if text.is_empty() => {}
            Value::String(shell) if key == "shell" && SHELLS.contains(&shell.as_str()) => {}
            Value::String(line) if is_command_key(key) => lines.push((key, line.as_str())),
            Value::Array(words) if is_command_key(key) => {
                lists.push((key, words.iter().map(Value::as_str).collect::<Option<Vec<_>>>()?));
            }
            _ if is_side_argument(key, value) => {}
            _ => return None,
        }
    }
    match (lines.as_slice(), lists.as_slice()) {
        ([(key, line)], []) => Some(CommandLine::Line { key, line }),
        ([], [(key, words)]) => Some(CommandLine::Words { key, first: None, rest: words.clone() }),
        ([(key, line)], [(_, words)]) if words.is_empty() && !is_rest_key(key) => Some(CommandLine::Line { key, line }),
        ([(key, first)], [(list, words)]) if !is_rest_key(key) && is_rest_key(list) && is_plain_name(first) => {
            Some(CommandLine::Words { key: list, first: Some(first), rest: words.clone() })
        }
        ([(one_key, one), (other_key, other)], []) if is_rest_key(one_key) != is_rest_key(other_key) => {
            let (first, rest) = if is_rest_key(one_key) { (*other, *one) } else { (*one, *other) };
            is_plain_name(first).then_some(CommandLine::SplitLine { first, rest })
        }
        _ => None,
    }
}

/// Returns whether an argument leaves the command line as it is.
fn is_side_argument(key: &str, value: &Value) -> bool {
    let is_timeout = split_name(key).iter().any(|word| word == "timeout");
    let is_side = SIDE_KEYS.contains(&key) || DIRECTORY_KEYS.contains(&key) || is_timeout;
    match value {
        Value::Bool(_) | Value::Number(_) => is_side,
        Value::String(text) if FORMAT_KEYS.contains(&key) => FORMATS.contains(&text.as_str()),
        Value::String(text) => DESCRIPTION_KEYS.contains(&key) || (is_side && (text.is_empty() || is_plain_name(text))),
        _ => false,
    }
}

/// Returns whether a text is a name or a path, and one word for every reader.
fn is_plain_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/@-".contains(&byte);
    !text.is_empty() && !text.starts_with('-') && text.bytes().all(is_plain)
}
