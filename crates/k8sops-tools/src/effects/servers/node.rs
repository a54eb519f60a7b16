//! `mcp-server-kubernetes` (npm), as of 4.1: typed arguments that become command lines.

use serde_json::{Map, Value};

use super::{
    super::{
        Judged, Sensitive, carriers,
        line::Program,
        secrets::{in_text, is_secret},
    },
    Does, Tool, is_true, lacks, text,
};

pub(super) const TOOLS: &[Tool] = &[
    (
        "kubectl_get",
        Does::Depends(get),
        &["resourceType name namespace output allNamespaces labelSelector fieldSelector sortBy context"],
    ),
    ("kubectl_describe", Does::Depends(describe), &["resourceType name namespace allNamespaces context"]),
    (
        "kubectl_logs",
        Does::Reads(None),
        &[
            "resourceType name namespace container tail since sinceTime timestamps previous follow labelSelector context",
        ],
    ),
    ("explain_resource", Does::Reads(None), &["resource apiVersion recursive context output"]),
    ("list_api_resources", Does::Reads(None), &["apiGroup namespaced context verbs output"]),
    ("ping", Does::Reads(None), &[]),
    ("kubectl_context", Does::Depends(context), &["operation name showCurrent detailed output"]),
    (
        "kubectl_rollout",
        Does::Depends(rollout),
        &["subCommand resourceType name namespace revision toRevision timeout watch context"],
    ),
    ("kubectl_apply", Does::Depends(apply), &["manifest* filename namespace dryRun force context"]),
    ("kubectl_create", Does::Depends(create), CREATE),
    (
        "kubectl_patch",
        Does::Depends(patch),
        &["resourceType name namespace patchType patchData* patchFile dryRun context"],
    ),
    ("kubectl_scale", Does::Writes("changes a number of replicas"), &[]),
    ("kubectl_delete", Does::Writes("deletes objects"), &[]),
    // What it is given becomes flags and words, and is judged as such.
    (
        "kubectl_generic",
        Does::Depends(generic),
        &["command* subCommand* resourceType* name* namespace* allNamespaces* outputFormat* flags* args* context*"],
    ),
    ("kubectl_reconnect", Does::Writes("connects the server anew"), &[]),
    (
        "node_management",
        Does::Depends(node),
        &["operation nodeName force gracePeriod deleteLocalData ignoreDaemonsets timeout dryRun confirmDrain"],
    ),
    ("exec_in_pod", Does::Writes("runs a program in a container"), &[]),
    ("port_forward", Does::Writes("opens a port to a pod"), &[]),
    ("stop_port_forward", Does::Writes("closes a port to a pod"), &[]),
    ("install_helm_chart", Does::Writes("installs a release"), &[]),
    ("upgrade_helm_chart", Does::Writes("changes a release"), &[]),
    ("uninstall_helm_chart", Does::Writes("removes a release"), &[]),
    ("cleanup", Does::Writes("removes what the server made"), &[]),
];

const CREATE: &[&str] =
    &["dryRun output validate manifest* filename resourceType name namespace fromLiteral fromFile fromFileContent* \
     secretType serviceType tcpPort image replicas port schedule suspend labels annotations context"];

fn about_secrets(arguments: &Map<String, Value>) -> bool {
    is_secret(text(arguments, "resourceType")) || is_secret(text(arguments, "name"))
}

fn get(arguments: &Map<String, Value>) -> Judged {
    let held = match text(arguments, "output") {
        "" | "json" | "yaml" | "wide" | "name" | "custom" => Sensitive::Objects,
        _ => Sensitive::Values,
    };
    Judged::read("`kubectl get` only reads").with(about_secrets(arguments).then_some(held))
}

fn describe(arguments: &Map<String, Value>) -> Judged {
    Judged::read("`kubectl describe` only reads").with(about_secrets(arguments).then_some(Sensitive::Objects))
}

fn context(arguments: &Map<String, Value>) -> Judged {
    match text(arguments, "operation") {
        "list" | "get" => Judged::read("`kubectl_context` only shows"),
        _ => Judged::mutating("`kubectl_context` chooses another cluster"),
    }
}

fn rollout(arguments: &Map<String, Value>) -> Judged {
    match text(arguments, "subCommand") {
        sub @ ("status" | "history") => Judged::read(format!("`kubectl rollout {sub}` only reads")),
        "restart" => Judged::mutating("`kubectl rollout restart` restarts pods"),
        _ => Judged::mutating("`kubectl rollout` changes a rollout"),
    }
}

fn apply(arguments: &Map<String, Value>) -> Judged {
    tried(arguments, "apply")
}

fn patch(arguments: &Map<String, Value>) -> Judged {
    tried(arguments, "patch").with(about_secrets(arguments).then_some(Sensitive::Objects))
}

fn create(arguments: &Map<String, Value>) -> Judged {
    // The server puts `--dry-run` behind the command's `--`, where it is none; so there is no such key in the table.
    tried(arguments, "create").with(match text(arguments, "output") {
        "" | "json" | "yaml" | "name" => Some(Sensitive::Objects),
        _ => Some(Sensitive::Values),
    })
}

fn tried(arguments: &Map<String, Value>, verb: &str) -> Judged {
    let remote = text(arguments, "filename").contains(':') || text(arguments, "output").contains("file");
    match is_true(arguments, "dryRun") && !remote {
        true => Judged::read(format!("`kubectl {verb}` only tries, by `dryRun`")).with(Some(Sensitive::Objects)),
        false => Judged::mutating(format!("`kubectl {verb}` changes the cluster")),
    }
}

fn node(arguments: &Map<String, Value>) -> Judged {
    match (text(arguments, "operation"), is_true(arguments, "dryRun")) {
        ("drain", true) => Judged::read("`kubectl drain` only tries, by `dryRun`"),
        ("drain", false) => Judged::mutating("`kubectl drain` evicts the pods of a node"),
        _ => Judged::mutating("it changes what a node may run"),
    }
}

fn generic(arguments: &Map<String, Value>) -> Judged {
    let Some(words) = generic_words(arguments).filter(|_| !lacks(arguments, "command")) else {
        let said = Value::Object(arguments.clone()).to_string();
        return Judged::mutating("these arguments are not understood").with(in_text(&said));
    };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    carriers::judge_words(&words, Some(Program::Kubectl))
}

/// The words in the order in which the server puts them.
fn generic_words(arguments: &Map<String, Value>) -> Option<Vec<String>> {
    let mut words = vec!["kubectl".to_owned()];
    for key in ["command", "subCommand", "resourceType", "name"] {
        match arguments.get(key) {
            None | Some(Value::Null) => {}
            Some(Value::String(word)) if word.is_empty() => {}
            Some(Value::String(word)) if !word.starts_with('-') => words.push(word.clone()),
            Some(_) => return None,
        }
    }
    if is_true(arguments, "allNamespaces") {
        words.push("--all-namespaces".into());
    } else if !lacks(arguments, "namespace") {
        words.push(format!("--namespace={}", arguments.get("namespace")?.as_str()?));
    }
    if !lacks(arguments, "outputFormat") {
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
    if !lacks(arguments, "context") {
        words.push("--context".into());
        words.push(arguments.get("context")?.as_str()?.to_owned());
    }
    Some(words)
}
