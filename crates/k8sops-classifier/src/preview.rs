//! The call that shows what another call would do.

use serde_json::{Map, Value, json};

use crate::{
    classification::{EffectClass, ServerReach},
    command_arguments::{CommandLine, find_command_line},
    command_tools::{CommandTool, find_command_tool},
    flag_parser::{FlagTable, parse_arguments},
    helm::find_helm_verb,
    kubectl::{self, find_kubectl_verb},
    program::KnownProgram,
    server_tools::is_server_tool,
    shell_command::parse_single_command,
    shell_word::ShellWord,
    tool_calls::classify_reach_apart,
    tool_description::ToolDescription,
};

/// A call, of a tool of the same server, that only shows what another call would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewCall {
    /// Name of the tool.
    pub tool: String,
    /// Arguments of the call.
    pub arguments: Map<String, Value>,
}

/// Returns the call that shows what this one would do: the same call as a dry run, or a diff. It changes nothing. It may read
/// the manifests and charts that the call itself reads, but no other file of the tool's machine, so its output is for the
/// person who decides on the call.
///
/// Returns `None` if the call only reads, or if there is no such preview.
///
/// ```
/// use k8sops_classifier::{ToolDescription, build_preview_call};
/// use serde_json::json;
///
/// let arguments = json!({"command": "kubectl apply -f web.yaml"});
/// let preview = build_preview_call(&ToolDescription::named("bash"), arguments.as_object().unwrap()).unwrap();
/// assert_eq!(preview.arguments["command"], "kubectl diff -f web.yaml");
/// ```
#[must_use]
pub fn build_preview_call(tool: &ToolDescription<'_>, arguments: &Map<String, Value>) -> Option<PreviewCall> {
    if classify_reach_apart(tool, arguments)?.effect == EffectClass::Read {
        return None;
    }
    let preview = match find_command_tool(tool).filter(|_| !is_server_tool(tool.name)) {
        Some(command_tool) => preview_command_tool(tool.name, arguments, command_tool)?,
        None => preview_server_tool(tool.name, arguments)?,
    };
    let previewed = if preview.tool == tool.name { *tool } else { ToolDescription::named(&preview.tool) };
    let classification = classify_reach_apart(&previewed, &preview.arguments)?;
    classification.is_read_within(ServerReach::Manifests).then_some(preview)
}

/// Previews a tool with typed arguments.
fn preview_server_tool(tool: &str, arguments: &Map<String, Value>) -> Option<PreviewCall> {
    let with_argument = |key: &str, value: Value| {
        let mut arguments = arguments.clone();
        arguments.insert(key.into(), value);
        Some(PreviewCall { tool: tool.into(), arguments })
    };
    match tool {
        "kubectl_apply" | "kubectl_create" | "kubectl_patch" | "node_management" => {
            with_argument("dryRun", json!(true))
        }
        "helm_install" | "helm_upgrade" => with_argument("dry_run", json!("server")),
        "helm_rollback" | "helm_uninstall" => with_argument("dry_run", json!(true)),
        "kubectl_generic" => {
            let mut flags = match arguments.get("flags") {
                None | Some(Value::Null) => Map::new(),
                Some(Value::Object(flags)) => flags.clone(),
                Some(_) => return None,
            };
            flags.insert("dry-run".into(), json!("server"));
            with_argument("flags", Value::Object(flags))
        }
        "kubectl_scale" => preview_with_generic_tool(arguments, "scale", &[("replicas", "replicas")]),
        "kubectl_delete" => preview_with_generic_tool(
            arguments,
            "delete",
            &[("labelSelector", "selector"), ("force", "force"), ("gracePeriodSeconds", "grace-period")],
        ),
        _ => None,
    }
}

/// Previews a tool of `mcp-server-kubernetes` that has no dry run, with the tool of that server that runs any kubectl
/// command. `argument_flags` maps arguments of the tool to flags.
fn preview_with_generic_tool(
    arguments: &Map<String, Value>,
    verb: &str,
    argument_flags: &[(&str, &str)],
) -> Option<PreviewCall> {
    let mut flags = Map::new();
    let mut generic = Map::new();
    generic.insert("command".into(), json!(verb));
    for (key, value) in arguments {
        match key.as_str() {
            "resourceType" | "name" | "namespace" | "allNamespaces" | "context" => {
                generic.insert(key.clone(), value.clone());
            }
            _ => {
                let (_, flag) = argument_flags.iter().find(|(known, _)| known == key)?;
                flags.insert((*flag).into(), value.clone());
            }
        }
    }
    if verb == "scale" {
        generic.entry("resourceType").or_insert_with(|| json!("deployment"));
    }
    generic.entry("namespace").or_insert_with(|| json!("default"));
    flags.insert("dry-run".into(), json!("server"));
    generic.insert("flags".into(), Value::Object(flags));
    Some(PreviewCall { tool: "kubectl_generic".into(), arguments: generic })
}

/// Previews a tool that takes a command line, if the line is a single command. The preview has the same form.
fn preview_command_tool(tool: &str, arguments: &Map<String, Value>, command_tool: CommandTool) -> Option<PreviewCall> {
    rewrite_command(tool, arguments, |words, style| make_preview(words, command_tool.implied_program, style))
}

/// Returns the call of the same tool with another command line, if the line is a single command.
fn rewrite_command(
    tool: &str,
    arguments: &Map<String, Value>,
    rewrite: impl FnOnce(&mut Vec<ShellWord>, PreviewStyle) -> Option<()>,
) -> Option<PreviewCall> {
    let mut rewritten = arguments.clone();
    match find_command_line(arguments)? {
        CommandLine::SplitLine { .. } => return None,
        CommandLine::Line { key, line } => {
            let mut words = parse_single_command(line)?;
            rewrite(&mut words, PreviewStyle::DiffOrDryRun)?;
            let quoted: Option<Vec<String>> = words.iter().map(|word| quote_for_shell(&word.text)).collect();
            rewritten.insert(key.into(), json!(quoted?.join(" ")));
        }
        CommandLine::Words { key, first, rest } => {
            let mut words: Vec<ShellWord> = first.into_iter().chain(rest).map(ShellWord::from_argument).collect();
            rewrite(&mut words, PreviewStyle::DryRun)?;
            // Another argument holds the first word, so it must stay what it is.
            if first.is_some() && words.first().map(|word| word.text.as_str()) != first {
                return None;
            }
            let words = words.iter().map(|word| word.text.as_str()).skip(usize::from(first.is_some()));
            rewritten.insert(key.into(), words.collect());
        }
    }
    Some(PreviewCall { tool: tool.into(), arguments: rewritten })
}

/// How a preview may be made.
///
/// `kubectl diff` exits with status 1 if there is a difference, which only the tools that run a shell report as a result.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PreviewStyle {
    DiffOrDryRun,
    DryRun,
}

/// Changes a command so that it only shows what it would do; `None` if that is not possible.
fn make_preview(words: &mut Vec<ShellWord>, implied_program: Option<KnownProgram>, style: PreviewStyle) -> Option<()> {
    let named_program = KnownProgram::from_command_name(&words.first()?.text);
    let program = named_program.or(implied_program)?;
    let start = usize::from(named_program.is_some());
    let arguments = words.get(start..)?;
    match program {
        KnownProgram::Kubectl => {
            let verb = find_kubectl_verb(arguments).ok()?;
            let end = start + verb.end;
            if style == PreviewStyle::DiffOrDryRun && verb.path == "apply" && is_supported_by_diff(&verb.other_words) {
                words.get_mut(end.checked_sub(1)?)?.text = "diff".into();
                return Some(());
            }
            let prints_object =
                matches!(verb.path.split(' ').next(), Some("patch" | "set")) && !has_output_flag(&verb.other_words);
            let flags: &[&str] =
                if prints_object { &["--dry-run=server", "-o", "yaml"] } else { &["--dry-run=server"] };
            words.splice(end..end, flags.iter().map(|flag| ShellWord::from_argument(flag)));
        }
        KnownProgram::Helm => {
            let verb = find_helm_verb(arguments).ok()?;
            let flag = match verb.path.as_str() {
                "install" | "upgrade" => "--dry-run=server",
                "rollback" | "uninstall" => "--dry-run",
                _ => return None,
            };
            let end = start + verb.end;
            words.splice(end..end, [ShellWord::from_argument(flag)]);
        }
        KnownProgram::Argocd => return None,
    }
    Some(())
}

/// Returns whether `kubectl diff` has all flags of an `apply`.
fn is_supported_by_diff(words: &[&ShellWord]) -> bool {
    let shared: FlagTable = &[kubectl::FILE_FLAGS, "field-manager= force-conflicts l,selector= server-side"];
    parse_arguments(words.iter().copied(), &[kubectl::GLOBAL_FLAGS, shared])
        .is_ok_and(|parsed| parsed.operands.is_empty())
}

pub(crate) fn has_output_flag(words: &[&ShellWord]) -> bool {
    words.iter().any(|word| word.text.starts_with("-o") || word.text.starts_with("--output"))
}

/// Quotes a word for a shell; `None` if it contains a single quote.
pub(crate) fn quote_for_shell(word: &str) -> Option<String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=.,/:@%+".contains(&byte);
    match word {
        _ if !word.is_empty() && word.bytes().all(is_plain) => Some(word.to_owned()),
        _ if !word.contains('\'') => Some(format!("'{word}'")),
        _ => None,
    }
}
