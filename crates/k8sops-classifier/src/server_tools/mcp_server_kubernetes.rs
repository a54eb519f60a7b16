//! `mcp-server-kubernetes` (npm), as of 4.1: the server makes command lines of typed arguments.

use serde_json::{Map, Value};

use super::{
    effect_rule::{EffectRule, ServerTool},
    typed_arguments::{is_argument_blank, is_argument_true, text_argument},
};
use crate::{
    classification::{Classification, SensitiveOutput, ServerReach},
    command_tools::classify_words,
    program::KnownProgram,
    sensitive_output::{names_secret_resource, sensitivity_of_text},
    server_files::{FileUse, reach_of_file},
};

const READS: EffectRule = EffectRule::Reads(None);

pub(super) const TOOLS: &[ServerTool] = &[
    (
        "kubectl_get",
        EffectRule::DependsOnArguments(classify_get),
        &["resourceType name namespace output allNamespaces labelSelector fieldSelector sortBy context"],
    ),
    (
        "kubectl_describe",
        EffectRule::DependsOnArguments(classify_describe),
        &["resourceType name namespace allNamespaces context"],
    ),
    (
        "kubectl_logs",
        READS,
        &[
            "resourceType name namespace container tail since sinceTime timestamps previous follow labelSelector context",
        ],
    ),
    ("explain_resource", READS, &["resource apiVersion recursive context output"]),
    ("list_api_resources", READS, &["apiGroup namespaced context verbs output"]),
    ("ping", READS, &[]),
    (
        "kubectl_context",
        EffectRule::DependsOnArguments(classify_context),
        &["operation name showCurrent detailed output"],
    ),
    (
        "kubectl_rollout",
        EffectRule::DependsOnArguments(classify_rollout),
        &["subCommand resourceType name namespace revision toRevision timeout watch context"],
    ),
    (
        "kubectl_apply",
        EffectRule::DependsOnArguments(classify_apply),
        &["manifest* filename namespace dryRun force context"],
    ),
    ("kubectl_create", EffectRule::DependsOnArguments(classify_create), CREATE),
    (
        "kubectl_patch",
        EffectRule::DependsOnArguments(classify_patch),
        &["resourceType name namespace patchType patchData* patchFile dryRun context"],
    ),
    ("kubectl_scale", EffectRule::Writes("changes the number of replicas"), &[]),
    ("kubectl_delete", EffectRule::Writes("deletes objects"), &[]),
    // Its arguments become a command line, which is classified as one.
    (
        "kubectl_generic",
        EffectRule::DependsOnArguments(classify_generic),
        &["command* subCommand* resourceType* name* namespace* allNamespaces* outputFormat* flags* args* context*"],
    ),
    ("kubectl_reconnect", EffectRule::ChangesServerState("reconnects the server"), &[]),
    (
        "node_management",
        EffectRule::DependsOnArguments(classify_node),
        &["operation nodeName force gracePeriod deleteLocalData ignoreDaemonsets timeout dryRun confirmDrain"],
    ),
    ("exec_in_pod", EffectRule::Writes("runs a program in a container"), &[]),
    ("port_forward", EffectRule::Writes("opens a port to a pod"), &[]),
    ("stop_port_forward", EffectRule::Writes("closes a port to a pod"), &[]),
    ("install_helm_chart", EffectRule::Writes("installs a release"), &[]),
    ("upgrade_helm_chart", EffectRule::Writes("changes a release"), &[]),
    ("uninstall_helm_chart", EffectRule::Writes("removes a release"), &[]),
    ("cleanup", EffectRule::Writes("removes objects that the server created"), &[]),
];

const CREATE: &[&str] =
    &["dryRun output validate manifest* filename resourceType name namespace fromLiteral fromFile fromFileContent* \
     secretType serviceType tcpPort image replicas port schedule suspend labels annotations context"];

fn names_secrets(arguments: &Map<String, Value>) -> bool {
    names_secret_resource(text_argument(arguments, "resourceType"))
        || names_secret_resource(text_argument(arguments, "name"))
}

fn classify_get(arguments: &Map<String, Value>) -> Classification {
    let output = text_argument(arguments, "output");
    let sensitive = match output {
        "" | "json" | "yaml" | "wide" | "name" | "custom" => SensitiveOutput::Objects,
        _ => SensitiveOutput::Values,
    };
    let classification = Classification::read("`kubectl get` only reads")
        .with_sensitive_output(names_secrets(arguments).then_some(sensitive));
    match output.contains("file") {
        true => classification
            .with_reach(ServerReach::ServerFiles, || "`kubectl get` reads its template from a file".into()),
        false => classification,
    }
}

fn classify_describe(arguments: &Map<String, Value>) -> Classification {
    Classification::read("`kubectl describe` only reads")
        .with_sensitive_output(names_secrets(arguments).then_some(SensitiveOutput::Objects))
}

fn classify_context(arguments: &Map<String, Value>) -> Classification {
    match text_argument(arguments, "operation") {
        "list" | "get" => Classification::read("`kubectl_context` only shows"),
        _ => Classification::mutating("`kubectl_context` chooses another cluster")
            .with_reach(ServerReach::ServerState, String::new),
    }
}

fn classify_rollout(arguments: &Map<String, Value>) -> Classification {
    match text_argument(arguments, "subCommand") {
        sub @ ("status" | "history") => Classification::read(format!("`kubectl rollout {sub}` only reads")),
        "restart" => Classification::mutating("`kubectl rollout restart` restarts pods"),
        _ => Classification::mutating("`kubectl rollout` changes a rollout"),
    }
}

fn classify_apply(arguments: &Map<String, Value>) -> Classification {
    classify_dry_run(arguments, "apply")
}

fn classify_patch(arguments: &Map<String, Value>) -> Classification {
    classify_dry_run(arguments, "patch")
        .with_sensitive_output(names_secrets(arguments).then_some(SensitiveOutput::Objects))
}

fn classify_create(arguments: &Map<String, Value>) -> Classification {
    // With a `command`, the server puts `--dry-run` behind `--`, where it is no flag of kubectl. So the table does not have
    // that key.
    classify_dry_run(arguments, "create").with_sensitive_output(match text_argument(arguments, "output") {
        "" | "json" | "yaml" | "name" => Some(SensitiveOutput::Objects),
        _ => Some(SensitiveOutput::Values),
    })
}

fn classify_dry_run(arguments: &Map<String, Value>, verb: &str) -> Classification {
    let is_remote = text_argument(arguments, "filename").contains(':');
    match is_argument_true(arguments, "dryRun") && !is_remote {
        true => Classification::read(format!("`kubectl {verb}` is a dry run"))
            .with_sensitive_output(Some(SensitiveOutput::Objects))
            .with_reach(reach_of_files(arguments), || format!("`kubectl {verb}` reads files of the server's machine")),
        false => Classification::mutating(format!("`kubectl {verb}` changes the cluster")),
    }
}

/// Returns what the files reach that the arguments name. The content of `fromFile` and `patchFile` shows in the output as it
/// is.
fn reach_of_files(arguments: &Map<String, Value>) -> ServerReach {
    let has_raw_file = ["fromFile", "patchFile"].iter().any(|key| !is_argument_blank(arguments, key));
    let has_template = text_argument(arguments, "output").contains("file");
    match arguments.get("filename").and_then(Value::as_str).filter(|file| !file.is_empty()) {
        _ if has_raw_file || has_template => ServerReach::ServerFiles,
        Some(file) => reach_of_file(file, FileUse::Manifest),
        None => ServerReach::Cluster,
    }
}

fn classify_node(arguments: &Map<String, Value>) -> Classification {
    match (text_argument(arguments, "operation"), is_argument_true(arguments, "dryRun")) {
        ("drain", true) => Classification::read("`kubectl drain` is a dry run"),
        ("drain", false) => Classification::mutating("`kubectl drain` evicts the pods of a node"),
        _ => Classification::mutating("it changes which pods a node accepts"),
    }
}

fn classify_generic(arguments: &Map<String, Value>) -> Classification {
    let Some(words) = build_generic_command(arguments).filter(|_| !is_argument_blank(arguments, "command")) else {
        let text = Value::Object(arguments.clone()).to_string();
        return Classification::mutating("the arguments are not known")
            .with_sensitive_output(sensitivity_of_text(&text));
    };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    classify_words(&words, Some(KnownProgram::Kubectl))
}

/// Returns the command line that the server makes of the arguments, in its order; `None` if an argument has another form
/// than the server's schema allows.
fn build_generic_command(arguments: &Map<String, Value>) -> Option<Vec<String>> {
    let mut words = vec!["kubectl".to_owned()];
    for key in ["command", "subCommand", "resourceType", "name"] {
        match arguments.get(key) {
            None | Some(Value::Null) => {}
            Some(Value::String(word)) if word.is_empty() => {}
            Some(Value::String(word)) if !word.starts_with('-') => words.push(word.clone()),
            Some(_) => return None,
        }
    }
    if is_argument_true(arguments, "allNamespaces") {
        words.push("--all-namespaces".into());
    } else if !is_argument_blank(arguments, "namespace") {
        words.push(format!("--namespace={}", arguments.get("namespace")?.as_str()?));
    }
    if !is_argument_blank(arguments, "outputFormat") {
        words.push(format!("-o={}", arguments.get("outputFormat")?.as_str()?));
    }
    match arguments.get("flags") {
        None | Some(Value::Null) => {}
        Some(Value::Object(flags)) => {
            for (name, value) in flags {
                match value {
                    Value::Null | Value::Bool(false) => {}
                    Value::Bool(true) => words.push(format!("--{name}")),
                    Value::Number(number) => words.push(format!("--{name}={number}")),
                    Value::String(text) => words.push(format!("--{name}={text}")),
                    Value::Array(_) | Value::Object(_) => return None,
                }
            }
        }
        Some(_) => return None,
    }
    match arguments.get("args") {
        None | Some(Value::Null) => {}
        Some(Value::Array(args)) => {
            for word in args {
                words.push(word.as_str()?.to_owned());
            }
        }
        Some(_) => return None,
    }
    if !is_argument_blank(arguments, "context") {
        words.push("--context".into());
        words.push(arguments.get("context")?.as_str()?.to_owned());
    }
    Some(words)
}

/// The tool that runs any command of kubectl.
pub(crate) const KUBECTL_GENERIC: &str = "kubectl_generic";

/// Returns the words behind `kubectl` that the server makes of a call, where the call names no single object: of any command,
/// of files, and of objects that a selector chooses. `None` for other tools and for arguments that are not known.
pub(crate) fn find_kubectl_words(tool: &str, arguments: &Map<String, Value>) -> Option<Vec<String>> {
    const KNOWN: &[&str] = &[
        "resourceType",
        "labelSelector",
        "filename",
        "namespace",
        "allNamespaces",
        "context",
        "force",
        "gracePeriodSeconds",
    ];
    if tool == KUBECTL_GENERIC {
        return build_generic_command(arguments).map(|words| words.into_iter().skip(1).collect());
    }
    let text =
        |key: &str| Some(text_argument(arguments, key)).filter(|text| !text.is_empty() && !text.starts_with('-'));
    let is_known = |(key, value): (&String, &Value)| {
        KNOWN.contains(&key.as_str()) || matches!(value, Value::Null | Value::Bool(false)) || value.as_str() == Some("")
    };
    if !arguments.iter().all(is_known) {
        return None;
    }
    let mut words = match (tool, text("filename"), text("resourceType"), text("labelSelector")) {
        ("kubectl_apply" | "kubectl_delete", Some(file), ..) => {
            vec![tool.strip_prefix("kubectl_")?.to_owned(), format!("--filename={file}")]
        }
        ("kubectl_delete", None, Some(resource), Some(selector)) => {
            vec!["delete".to_owned(), resource.to_owned(), format!("--selector={selector}")]
        }
        _ => return None,
    };
    if is_argument_true(arguments, "allNamespaces") {
        words.push("--all-namespaces".to_owned());
    } else if tool == "kubectl_apply" || text("resourceType").is_some() {
        words.push(format!("--namespace={}", text("namespace").unwrap_or("default")));
    }
    words.extend(text("context").map(|context| format!("--context={context}")));
    Some(words)
}
