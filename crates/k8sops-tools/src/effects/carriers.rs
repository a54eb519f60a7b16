//! Tools that carry a command line: of a shell, or of one program.

use serde_json::{Map, Value};

use super::{
    Judged,
    lexer::Word,
    line::{self, Program},
    secrets,
};

const SHELL: Option<Program> = None;
const KUBECTL: Option<Program> = Some(Program::Kubectl);
const HELM: Option<Program> = Some(Program::Helm);
const ARGOCD: Option<Program> = Some(Program::Argocd);

/// The tools, and the program whose name their command line may lack.
const TOOLS: &[(&str, Option<Program>)] = &[
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

/// Where the line stands.
const LINES: &[&str] = &["command", "cmd", "script", "commandLine", "command_line"];
/// Where more of it may stand, as a list; or all of it.
const MORE: &[&str] = &["args", "arguments", "argv"];
/// What may stand beside it and changes nothing of it.
const BESIDE: &[&str] = &[
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
/// What it says for people.
const TALK: &[&str] = &["description", "explanation", "reason", "purpose"];

/// How a call passes its command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Carried<'a> {
    /// As one string, under this key.
    Line(&'a str, &'a str),
    /// As words: the key of the list, the word that stands under a key of its own, the others.
    Words(&'a str, Option<&'a str>, Vec<&'a str>),
}

/// The program whose own tool this is. `None`: it carries no command line.
pub(super) fn home(tool: &str) -> Option<Option<Program>> {
    TOOLS.iter().find(|(known, _)| *known == tool).map(|(_, home)| *home)
}

/// The command line in the arguments. `None`: there is none, or something beside it that is not understood.
pub(super) fn carried(arguments: &Map<String, Value>) -> Option<Carried<'_>> {
    let (mut lines, mut lists) = (Vec::new(), Vec::new());
    for (key, value) in arguments {
        let key = key.as_str();
        match value {
            Value::Null => {}
            Value::String(line) if LINES.contains(&key) || MORE.contains(&key) => lines.push((key, line.as_str())),
            Value::Array(words) if LINES.contains(&key) || MORE.contains(&key) => {
                lists.push((key, words.iter().map(Value::as_str).collect::<Option<Vec<_>>>()?));
            }
            Value::String(text) if BESIDE.contains(&key) && is_name(text) => {}
            Value::Bool(_) | Value::Number(_) if BESIDE.contains(&key) => {}
            Value::String(_) if TALK.contains(&key) => {}
            _ => return None,
        }
    }
    match (lines.as_slice(), lists.as_slice()) {
        ([(key, line)], []) => Some(Carried::Line(key, line)),
        ([], [(key, words)]) => Some(Carried::Words(key, None, words.clone())),
        ([(key, line)], [(_, words)]) if words.is_empty() && LINES.contains(key) => Some(Carried::Line(key, line)),
        ([(key, first)], [(list, words)]) if LINES.contains(key) && MORE.contains(list) && is_name(first) => {
            Some(Carried::Words(list, Some(first), words.clone()))
        }
        _ => None,
    }
}

/// A name or a path: no word that anybody could read as more than that.
pub(super) fn is_name(text: &str) -> bool {
    let sign = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/@-".contains(&byte);
    !text.is_empty() && !text.starts_with('-') && text.bytes().all(sign)
}

/// Judges a call of a tool that carries a command line. `None`: it is not known as one.
pub(super) fn judge(tool: &str, arguments: &Map<String, Value>) -> Option<Judged> {
    let home = home(tool)?;
    if arguments.is_empty() {
        return Some(Judged::mutating("it depends on the command line"));
    }
    Some(match carried(arguments) {
        Some(Carried::Line(_, line)) => line::judge(line, home),
        Some(Carried::Words(_, first, words)) => {
            let words: Vec<&str> = first.into_iter().chain(words).collect();
            judge_words(&words, home)
        }
        None => {
            let said = Value::Object(arguments.clone()).to_string();
            Judged::mutating("these arguments are not understood").with(secrets::in_text(&said))
        }
    })
}

/// Judges words that are run as they are, or joined by spaces and given to a shell: servers do either.
pub(super) fn judge_words(words: &[&str], home: Option<Program>) -> Judged {
    let argv: Vec<Word> = words.iter().map(|word| Word::plain(word)).collect();
    line::judge_argv(&argv, home).and(line::judge(&words.join(" "), home))
}
