//! Tools that take a command line, of a shell or of one program.
//!
//! Servers give these tools any name: `kubectl`, `k8s_kubectl_execute`, `runHelmCommand`, `execute_command`. So a tool is
//! recognized by its shape.

use serde_json::{Map, Value};

use crate::{
    classification::{Classification, ServerReach},
    command_arguments::{CommandLine, find_command_line, has_working_directory, is_command_key},
    program::KnownProgram,
    shell_command::{classify_argv, classify_line, unclear_text},
    shell_word::ShellWord,
    tool_description::{ToolDescription, split_name},
};

/// Words by which a name or a text names a shell.
const SHELL_WORDS: &[&str] = &["bash", "sh", "zsh", "shell", "terminal"];
/// Words of a name like `run_command`, which names no program.
const RUN_WORDS: &[&str] = &["run", "exec", "execute", "executor", "runner", "invoke", "call", "start", "system"];
const COMMAND_WORDS: &[&str] = &["command", "commands", "cmd", "cli"];
/// Words that may stand beside these.
const NEUTRAL_WORDS: &[&str] =
    &["in", "the", "a", "line", "tool", "mcp", "k8s", "kubernetes", "kube", "local", "safe", "any"];

/// Words in the name of a tool that does one thing, to which the command line only adds: a verb, a kind of object, another
/// machine.
const SPECIFIC_WORDS: &[&str] = &[
    "annotate",
    "apply",
    "attach",
    "autoscale",
    "certificate",
    "config",
    "configmap",
    "container",
    "containers",
    "context",
    "copy",
    "cordon",
    "cp",
    "create",
    "debug",
    "delete",
    "deploy",
    "deployment",
    "describe",
    "diff",
    "docker",
    "drain",
    "edit",
    "events",
    "explain",
    "expose",
    "forward",
    "get",
    "help",
    "history",
    "host",
    "install",
    "job",
    "label",
    "lint",
    "list",
    "log",
    "logs",
    "manifest",
    "namespace",
    "node",
    "nodes",
    "patch",
    "pod",
    "pods",
    "podman",
    "port",
    "proxy",
    "release",
    "remote",
    "remove",
    "replace",
    "repo",
    "resource",
    "resources",
    "restart",
    "rollback",
    "rollout",
    "scale",
    "secret",
    "secrets",
    "service",
    "set",
    "ssh",
    "status",
    "sync",
    "taint",
    "template",
    "test",
    "top",
    "uncordon",
    "uninstall",
    "update",
    "upgrade",
    "values",
    "version",
    "vm",
    "wait",
];

/// Words in the name of an argument that says where a command runs, so that it does not run on the machine of the tool.
const PLACE_WORDS: &[&str] =
    &["pod", "pods", "container", "host", "hostname", "node", "ssh", "vm", "machine", "server"];

/// A tool that takes a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CommandTool {
    /// The only program that the tool runs; `None` for a shell, and for a tool of several programs.
    pub(crate) implied_program: Option<KnownProgram>,
}

/// The programs that a text names.
#[derive(Debug, Default)]
struct NamedPrograms {
    programs: Vec<KnownProgram>,
    has_shell: bool,
}

impl NamedPrograms {
    fn find(words: &[String]) -> Self {
        let mut named = Self::default();
        let mut previous = "";
        for word in words {
            let program = match word.as_str() {
                "kubectl" => Some(KnownProgram::Kubectl),
                "helm" => Some(KnownProgram::Helm),
                "argocd" => Some(KnownProgram::Argocd),
                "cd" if previous == "argo" => Some(KnownProgram::Argocd),
                _ => None,
            };
            if let Some(program) = program.filter(|program| !named.programs.contains(program)) {
                named.programs.push(program);
            }
            named.has_shell |= SHELL_WORDS.contains(&word.as_str());
            previous = word;
        }
        named
    }

    fn is_empty(&self) -> bool {
        self.programs.is_empty() && !self.has_shell
    }

    fn into_command_tool(self) -> CommandTool {
        match (self.programs.as_slice(), self.has_shell) {
            ([program], false) => CommandTool { implied_program: Some(*program) },
            _ => CommandTool { implied_program: None },
        }
    }
}

/// Recognizes a tool that takes a command line.
pub(crate) fn find_command_tool(tool: &ToolDescription<'_>) -> Option<CommandTool> {
    let name_words = split_name(tool.name);
    let name_contains = |list: &[&str]| name_words.iter().any(|word| list.contains(&word.as_str()));
    let has_argument = has_command_argument(tool.input_schema);
    if name_contains(SPECIFIC_WORDS) || has_argument == Some(false) {
        return None;
    }
    let by_name = NamedPrograms::find(&name_words);
    if !by_name.is_empty() {
        return Some(by_name.into_command_tool());
    }
    let text = format!("{} {}", tool.title.unwrap_or_default(), tool.description);
    let by_text = NamedPrograms::find(&split_name(&text));
    let is_plain_word =
        |word: &String| [RUN_WORDS, COMMAND_WORDS, NEUTRAL_WORDS].iter().any(|list| list.contains(&word.as_str()));
    let runs_commands =
        name_contains(RUN_WORDS) && name_contains(COMMAND_WORDS) && name_words.iter().all(is_plain_word);
    match (runs_commands, by_text.is_empty()) {
        (true, true) => Some(CommandTool { implied_program: None }),
        (_, false) if runs_commands || has_argument == Some(true) => Some(by_text.into_command_tool()),
        _ => None,
    }
}

/// Returns whether a schema has an argument for a command line and none that says where else the command runs; `None` if it
/// names no arguments.
fn has_command_argument(schema: Option<&Map<String, Value>>) -> Option<bool> {
    let properties = schema?.get("properties")?.as_object().filter(|properties| !properties.is_empty())?;
    let names_place =
        |key: &String| key == "name" || split_name(key).iter().any(|word| PLACE_WORDS.contains(&word.as_str()));
    let may_be_line = |property: &Value| {
        let types = property.get("type");
        types.is_none_or(|types| types.to_string().contains("string") || types.to_string().contains("array"))
    };
    let has_line = properties.iter().any(|(key, property)| is_command_key(key) && may_be_line(property));
    Some(has_line && !properties.keys().any(names_place))
}

/// Classifies a call of a tool that takes a command line; `None` if the tool does not.
pub(crate) fn classify_command_tool(
    tool: &ToolDescription<'_>,
    arguments: &Map<String, Value>,
) -> Option<Classification> {
    let CommandTool { implied_program } = find_command_tool(tool)?;
    if arguments.is_empty() {
        return Some(Classification::mutating("the effect depends on the command line"));
    }
    let classification = match find_command_line(arguments) {
        Some(CommandLine::Line { line, .. }) => classify_line(line, implied_program),
        Some(CommandLine::SplitLine { first, rest }) => classify_line(&format!("{first} {rest}"), implied_program),
        Some(CommandLine::Words { first, rest, .. }) => {
            let words: Vec<&str> = first.into_iter().chain(rest).collect();
            classify_words(&words, implied_program)
        }
        None => unclear_text("the arguments are not known".to_owned(), &Value::Object(arguments.clone()).to_string()),
    };
    // A chart is a look only below the directory that the operator chose.
    Some(match classification.reach == ServerReach::Chart && has_working_directory(arguments) {
        true => classification
            .with_reach(ServerReach::Manifests, || "it reads files of a directory that the call chooses".to_owned()),
        false => classification,
    })
}

/// Classifies words that a server either runs as they are, or joins with spaces and gives to a shell.
pub(crate) fn classify_words(words: &[&str], implied_program: Option<KnownProgram>) -> Classification {
    let argv: Vec<ShellWord> = words.iter().map(|word| ShellWord::from_argument(word)).collect();
    classify_argv(&argv, implied_program).combine(classify_line(&words.join(" "), implied_program))
}
