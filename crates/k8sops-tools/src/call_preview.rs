//! Makes the preview of a call: reads the objects that it touches through the server that it goes to, and compares them with
//! what the call makes of them.
//!
//! Everything here runs before the call is approved. So only calls that read are made, none of them with the value of a secret.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use k8sops_classifier::{ObjectCommand, ObjectCommandChange, PreviewCall, ReleaseCommand};
use k8sops_core::{AffectedObject, DependentObjects, PreviewKind};
use k8sops_mcp::{CallError, CallOutput};

use crate::{
    ToolRef,
    catalog::PreviewRun,
    preview::{
        ObjectChange, ObjectEdit, ObjectRef, PlannedChange, PreviewBody, ReadCall, WholePreview, parse_names,
        parse_objects, plan_typed_call, qualified_resource,
    },
    redaction::{ContentHint, RedactionVault, arguments_contain_placeholder},
    session_tools::SessionToolExecutor,
};

/// Most objects that are read one by one for a preview.
const MAX_READS: usize = 20;
/// Most objects that an approval request lists.
const MAX_OBJECTS: usize = 50;
/// Most objects that a summary describes.
const MAX_SUMMARIES: usize = 3;
/// Most names of dependent objects that an approval request lists.
const MAX_NAMES: usize = 20;
/// Most characters of a command in a summary.
const MAX_COMMAND: usize = 200;
/// The kinds of which the objects of a deleted namespace are counted.
const NAMESPACE_KINDS: &[(&str, &str)] = &[
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("v1", "Pod"),
    ("v1", "Service"),
    ("v1", "ConfigMap"),
    ("v1", "Secret"),
    ("v1", "PersistentVolumeClaim"),
];

/// The objects that a call touches.
#[derive(Debug, Default)]
struct FoundChanges {
    changes: Vec<ObjectChange>,
    /// Objects that could not be read or compared.
    unread: Vec<AffectedObject>,
    /// The program that runs in a container.
    command: Option<String>,
    /// The release that changes, whose manifests are the objects.
    release: Option<AffectedObject>,
}

/// An object as it is.
enum LiveObject {
    Found(Value),
    Missing,
    /// It is not known whether there is such an object.
    Unread,
}

impl SessionToolExecutor {
    /// Makes the preview of a call.
    pub(crate) async fn make_preview(&self, tool: &ToolRef, arguments: &Map<String, Value>) -> WholePreview {
        let found = self.find_changes(tool, arguments).await.unwrap_or_default();
        let dependents = self.find_dependents(tool, arguments, &found.changes).await;
        let body = match compare(&found) {
            Some(body) => Some(body),
            None => self.run_dry_run(tool, arguments).await.map(|text| PreviewBody {
                kind: PreviewKind::DryRun,
                text,
                digest: None,
            }),
        };
        let summary = summarize(&found, &dependents);
        let release = found.release.into_iter();
        let objects = release.chain(found.changes.into_iter().map(|change| change.object)).chain(found.unread);
        WholePreview { summary, objects: objects.take(MAX_OBJECTS).collect(), dependents, body }
    }

    async fn find_changes(&self, tool: &ToolRef, arguments: &Map<String, Value>) -> Option<FoundChanges> {
        if let Some(plan) = plan_typed_call(tool.tool(), arguments) {
            let mut found = self.read_planned(tool, arguments, plan.changes).await;
            found.command = plan.command;
            return Some(found);
        }
        let command = self.catalog().find_object_command(tool, arguments)?;
        // What a dry run makes of a placeholder would not be what the call does.
        if arguments_contain_placeholder(arguments) {
            return None;
        }
        match command {
            ObjectCommand::DryRunPrints { dry_run, verb } => {
                self.compare_with_dry_run(tool, arguments, dry_run, &verb).await
            }
            ObjectCommand::ReadPrints { read, change } => {
                let (verb, edit) = match change {
                    ObjectCommandChange::Delete => ("delete", ObjectEdit::Delete),
                    ObjectCommandChange::SetReplicas(replicas) => ("scale", ObjectEdit::SetReplicas(replicas)),
                    ObjectCommandChange::Restart => ("restart", ObjectEdit::Restart),
                };
                let objects = parse_objects(&self.read_preview(tool, read).await?)?;
                let vault = self.vault().await;
                let mut found = FoundChanges::default();
                for live in objects {
                    let target = ObjectRef::from_object(&live)?;
                    found.add(&vault, PlannedChange { target, verb, edit: edit.clone() }, LiveObject::Found(live));
                }
                Some(found)
            }
            ObjectCommand::Exec { namespace, pod, command } => {
                let target = ObjectRef { api_version: "v1".into(), kind: "Pod".into(), namespace, name: pod };
                let live = self.read_by_kubectl(tool, arguments, &target).await;
                let vault = self.vault().await;
                let mut found = FoundChanges { command: Some(command), ..FoundChanges::default() };
                found.add(&vault, PlannedChange { target, verb: "exec", edit: ObjectEdit::Keep }, live);
                Some(found)
            }
            ObjectCommand::Release(release) => self.compare_release(tool, release).await,
        }
    }

    /// Reads the objects of a typed call, and applies its edits to them.
    async fn read_planned(
        &self,
        tool: &ToolRef,
        arguments: &Map<String, Value>,
        planned: Vec<PlannedChange>,
    ) -> FoundChanges {
        let reader = self.catalog().find_object_reader(tool.server());
        let vault = self.vault().await;
        let mut found = FoundChanges::default();
        for (at, change) in planned.into_iter().enumerate() {
            let live = match (change.verb, reader) {
                ("create" | "install", _) => LiveObject::Missing,
                (_, Some(reader)) if at < MAX_READS => {
                    self.read_object(tool, reader.read_object(&change.target, arguments)).await
                }
                _ => LiveObject::Unread,
            };
            found.add(&vault, change, live);
        }
        found
    }

    /// Compares what a dry run prints with the objects as they are.
    async fn compare_with_dry_run(
        &self,
        tool: &ToolRef,
        arguments: &Map<String, Value>,
        dry_run: PreviewCall,
        verb: &str,
    ) -> Option<FoundChanges> {
        let desired = parse_objects(&self.read_preview(tool, dry_run).await?)?;
        let verb = match verb {
            "rollout undo" => "rollback",
            _ => "update",
        };
        let vault = self.vault().await;
        let mut found = FoundChanges::default();
        for (at, object) in desired.into_iter().enumerate() {
            let target = ObjectRef::from_object(&object)?;
            let live = match at < MAX_READS {
                true => self.read_by_kubectl(tool, arguments, &target).await,
                false => LiveObject::Unread,
            };
            found.add(&vault, PlannedChange { target, verb, edit: ObjectEdit::Replace(object) }, live);
        }
        Some(found)
    }

    /// Compares the manifests and the values of a release with those that it would have.
    async fn compare_release(&self, tool: &ToolRef, command: ReleaseCommand) -> Option<FoundChanges> {
        let ReleaseCommand { verb, release, namespace, manifest, values, after } = command;
        let current = self.read_preview(tool, manifest).await;
        let (manifest_after, values_after) = match after {
            None => (Some(String::new()), None),
            Some(after) => {
                let text = self.read_preview(tool, after).await?;
                match serde_json::from_str::<Value>(&text) {
                    Ok(rendered) => {
                        let manifest = rendered["manifest"].as_str().map(str::to_owned);
                        (manifest, Some(rendered.get("config").cloned().unwrap_or(Value::Null)))
                    }
                    Err(_) => (Some(text), None),
                }
            }
        };
        let before = current.as_deref().and_then(parse_objects).unwrap_or_default();
        let after = manifest_after.as_deref().and_then(parse_objects).unwrap_or_default();
        if before.is_empty() && after.is_empty() {
            return None;
        }
        let vault = self.vault().await;
        let target = ObjectRef { kind: "Release".into(), namespace, name: release, ..ObjectRef::default() };
        let named = ObjectChange::new(&target, &verb, None, None);
        let mut found = FoundChanges { release: Some(named.object), ..FoundChanges::default() };
        if let Some(values_after) = values_after {
            let text = self.read_preview(tool, values).await;
            let values_before = text.and_then(|text| serde_json::from_str::<Value>(&text).ok()).unwrap_or(Value::Null);
            let target = ObjectRef { kind: "Values of release".into(), ..target };
            let edit = ObjectEdit::Replace(values_after);
            found.add(&vault, PlannedChange { target, verb: "update", edit }, LiveObject::Found(values_before));
        }
        let key = |object: &Value| ObjectRef::from_object(object).map(|found| (found.kind.clone(), found.path()));
        for live in &before {
            let target = ObjectRef::from_object(live)?;
            let edit = match after.iter().find(|object| key(object) == key(live)) {
                Some(object) => ObjectEdit::Replace(object.clone()),
                None => ObjectEdit::Delete,
            };
            let verb = if edit == ObjectEdit::Delete { "delete" } else { "update" };
            found.add(&vault, PlannedChange { target, verb, edit }, LiveObject::Found(live.clone()));
        }
        for object in after.into_iter().filter(|object| !before.iter().any(|live| key(live) == key(object))) {
            let target = ObjectRef::from_object(&object)?;
            let edit = ObjectEdit::Replace(object);
            found.add(&vault, PlannedChange { target, verb: "create", edit }, LiveObject::Missing);
        }
        found.changes.retain(|change| !change.unified_diff().is_empty());
        Some(found)
    }

    /// Finds what goes with the objects that are deleted or restarted: their pods, and what is in a namespace.
    async fn find_dependents(
        &self,
        tool: &ToolRef,
        arguments: &Map<String, Value>,
        changes: &[ObjectChange],
    ) -> Vec<DependentObjects> {
        let mut dependents = Vec::new();
        let ending = changes.iter().filter(|change| matches!(change.object.verb.as_str(), "delete" | "restart"));
        for change in ending.take(MAX_SUMMARIES) {
            let AffectedObject { kind, namespace, name, .. } = &change.object;
            let (what, lists) = if kind == "Namespace" {
                (format!("objects in namespace {name}"), NAMESPACE_KINDS)
            } else if change.pod_labels().is_some() {
                let path = namespace.as_ref().map_or_else(|| name.clone(), |namespace| format!("{namespace}/{name}"));
                (format!("pods of {kind} {path}"), [("v1", "Pod")].as_slice())
            } else {
                continue;
            };
            let labels = change.pod_labels().unwrap_or_default();
            let namespace = if kind == "Namespace" { Some(name.as_str()) } else { namespace.as_deref() };
            let mut names = Vec::new();
            for resource in lists {
                let list = self.list_names(tool, arguments, *resource, namespace, &labels).await;
                let prefix = if lists.len() > 1 { format!("{}/", resource.1) } else { String::new() };
                names.extend(list.into_iter().map(|name| format!("{prefix}{name}")));
            }
            if !names.is_empty() {
                let count = names.len() as u64;
                names.truncate(MAX_NAMES);
                dependents.push(DependentObjects { what, count, names });
            }
        }
        dependents
    }

    async fn list_names(
        &self,
        tool: &ToolRef,
        arguments: &Map<String, Value>,
        (api_version, kind): (&str, &str),
        namespace: Option<&str>,
        labels: &[(String, String)],
    ) -> Vec<String> {
        let catalog = self.catalog();
        let typed = catalog.find_object_reader(tool.server()).and_then(|reader| {
            let ReadCall { tool: name, arguments } =
                reader.list_objects((api_version, kind), namespace, labels, arguments)?;
            catalog.allow_read(tool.server(), name, arguments)
        });
        let by_kubectl = || {
            let resource = qualified_resource(api_version, kind);
            let namespace = namespace.map(|namespace| format!("--namespace={namespace}"));
            let selector: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let selector = (!selector.is_empty()).then(|| format!("--selector={}", selector.join(",")));
            let mut words = vec!["get", resource.as_str(), "-o", "name"];
            words.extend(namespace.as_deref().into_iter().chain(selector.as_deref()));
            catalog.allow_preview(tool.server(), catalog.build_kubectl_read(tool, arguments, &words)?)
        };
        let Some(call) = typed.or_else(by_kubectl) else { return Vec::new() };
        match self.read_unredacted(call).await {
            Ok(CallOutput { text, is_error: false, .. }) => parse_names(&text),
            _ => Vec::new(),
        }
    }

    async fn read_by_kubectl(&self, tool: &ToolRef, arguments: &Map<String, Value>, target: &ObjectRef) -> LiveObject {
        let resource = qualified_resource(&target.api_version, &target.kind);
        let namespace = target.namespace.as_ref().map(|namespace| format!("--namespace={namespace}"));
        // The name of a pod may be the name of what has pods: `deploy/web`.
        let mut words = match target.name.contains('/') {
            true => vec!["get", target.name.as_str()],
            false => vec!["get", resource.as_str(), target.name.as_str()],
        };
        words.extend(namespace.as_deref());
        words.extend(["-o", "yaml"]);
        let catalog = self.catalog();
        let call = catalog.build_kubectl_read(tool, arguments, &words);
        let call = call.and_then(|call| catalog.allow_preview(tool.server(), call));
        self.read_live(call).await
    }

    async fn read_object(&self, tool: &ToolRef, read: Option<ReadCall>) -> LiveObject {
        let call = read
            .and_then(|ReadCall { tool: name, arguments }| self.catalog().allow_read(tool.server(), name, arguments));
        self.read_live(call).await
    }

    async fn read_live(&self, call: Option<PreviewRun>) -> LiveObject {
        let Some(call) = call else { return LiveObject::Unread };
        let failure = match self.read_unredacted(call).await {
            Ok(CallOutput { text, is_error: false, .. }) => {
                return match parse_objects(&text).map(<[Value; 1]>::try_from) {
                    Some(Ok([object])) => LiveObject::Found(object),
                    _ => LiveObject::Unread,
                };
            }
            Ok(CallOutput { text, .. }) => text,
            // Some servers report a failure of the API server as one of their own.
            Err(CallError::Refused(reason) | CallError::Failed(reason)) => reason.to_string(),
            Err(_) => return LiveObject::Unread,
        };
        let failure = failure.to_lowercase();
        // A program that is not found says so in other words: there, nothing is known about the object.
        match failure.contains("\" not found") || failure.contains("(notfound)") {
            true => LiveObject::Missing,
            false => LiveObject::Unread,
        }
    }

    /// Returns what a call prints that the classifier made to show what another call would do.
    async fn read_preview(&self, tool: &ToolRef, call: PreviewCall) -> Option<String> {
        let call = self.catalog().allow_preview(tool.server(), call)?;
        match self.read_unredacted(call).await {
            Ok(CallOutput { text, is_error: false, .. }) => Some(text),
            _ => None,
        }
    }
}

impl FoundChanges {
    /// Adds an object with what the call makes of it. From here on, its secrets are placeholders.
    fn add(&mut self, vault: &RedactionVault, change: PlannedChange, live: LiveObject) {
        let PlannedChange { target, verb, edit } = change;
        let before = match live {
            LiveObject::Found(live) => Some(live),
            LiveObject::Missing => None,
            LiveObject::Unread => {
                self.unread.push(ObjectChange::new(&target, verb, None, None).object);
                return;
            }
        };
        let Ok(mut after) = edit.apply_to(before.as_ref()) else {
            self.unread.push(ObjectChange::new(&target, verb, None, None).object);
            return;
        };
        let mut before = before;
        for object in before.iter_mut().chain(&mut after) {
            vault.redact_json(object, ContentHint::Any);
        }
        self.changes.push(ObjectChange::new(&target, verb, before, after));
    }
}

/// Returns the diff of all objects; `None` if an object could not be read, or if there is none.
fn compare(found: &FoundChanges) -> Option<PreviewBody> {
    if !found.unread.is_empty() && found.command.is_none() {
        return None;
    }
    let mut digest = Sha256::new();
    let mut text = String::new();
    for change in &found.changes {
        let diff = change.unified_diff();
        change.add_to_digest(&mut digest, &diff);
        text.push_str(&diff);
    }
    if let Some(command) = &found.command {
        digest.update(command);
        let digest = found.unread.is_empty().then(|| hex(digest));
        return Some(PreviewBody { kind: PreviewKind::Command, text: format!("{command}\n"), digest });
    }
    if found.changes.is_empty() {
        return None;
    }
    if text.is_empty() {
        text.push_str("The objects stay as they are.\n");
    }
    Some(PreviewBody { kind: PreviewKind::Diff, text, digest: Some(hex(digest)) })
}

fn hex(digest: Sha256) -> String {
    data_encoding::HEXLOWER.encode(&digest.finalize())
}

/// Returns one line on what a call does.
fn summarize(found: &FoundChanges, dependents: &[DependentObjects]) -> String {
    let mut parts: Vec<String> = Vec::new();
    if let Some(AffectedObject { namespace, name, verb, .. }) = &found.release {
        let path = namespace.as_ref().map_or_else(|| name.clone(), |namespace| format!("{namespace}/{name}"));
        parts.push(format!("{path}: {verb} of a release, {} objects change", found.changes.len()));
    }
    let first = found.changes.iter().map(|change| match &found.command {
        Some(command) => {
            let command: String = command.chars().take(MAX_COMMAND).collect();
            format!("{}: runs {command}", change.path())
        }
        None => change.summary(),
    });
    let unread = found.unread.iter().map(|object| {
        let path = object.namespace.as_ref().map_or_else(|| object.name.clone(), |ns| format!("{ns}/{}", object.name));
        format!("{path}: {} {}", object.verb, object.kind)
    });
    parts.extend(first.chain(unread).take(MAX_SUMMARIES));
    let more = (found.changes.len() + found.unread.len()).saturating_sub(MAX_SUMMARIES);
    if more > 0 {
        parts.push(format!("and {more} more objects"));
    }
    parts.extend(dependents.iter().map(|dependent| format!("with {} {}", dependent.count, dependent.what)));
    parts.join("; ")
}
