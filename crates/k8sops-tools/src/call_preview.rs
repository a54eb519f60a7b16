//! Makes the preview of a call: reads the objects that it touches through the server that it goes to, and compares them with
//! what the call makes of them.
//!
//! Everything here runs before the call is approved. So only calls that read are made, none of them with the value of a secret.

use futures_util::{StreamExt, stream};
use serde_json::{Map, Value, json};

use k8sops_classifier::{
    ManifestSource, ManifestVerb, ObjectCommand, ObjectCommandChange, ObjectCommands, PreviewCall,
};
use k8sops_core::{AffectedObject, DependentObjects, PreviewKind};

use crate::{
    ToolRef,
    preview::{
        CallPlan, FoundChanges, GENERATED_NAME, LiveObject, ObjectDetail, ObjectEdit, ObjectList, ObjectRef,
        PlannedChange, PreviewBody, WholePreview, history_kind, is_empty_list, parse_objects, plan_manifests,
        plan_typed_call, pod_selector, roll_back, shorten,
    },
    preview_reads::ReadFailure,
    redaction::{ContentHint, RedactionVault},
    session_tools::SessionToolExecutor,
};

/// Most objects that are read one by one for a preview.
const MAX_READS: usize = 20;
/// Most objects that an approval request lists.
const MAX_OBJECTS: usize = 50;
/// Most objects whose dependents are looked for.
const MAX_OWNERS: usize = 5;
/// Most names of dependent objects that an approval request lists.
const MAX_NAMES: usize = 20;
/// The kinds of which the objects of a deleted namespace are counted. Those that the cluster makes of other ones are not, except
/// for pods: ReplicaSets, Endpoints, events.
const NAMESPACE_KINDS: &[(&str, &str)] = &[
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "DaemonSet"),
    ("batch/v1", "Job"),
    ("batch/v1", "CronJob"),
    ("v1", "Pod"),
    ("v1", "Service"),
    ("networking.k8s.io/v1", "Ingress"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("v1", "ConfigMap"),
    ("v1", "Secret"),
    ("v1", "PersistentVolumeClaim"),
    ("v1", "ServiceAccount"),
    ("v1", "ResourceQuota"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ("policy/v1", "PodDisruptionBudget"),
];
/// Lists of objects that are read at the same time.
const PARALLEL_READS: usize = 6;

/// Whether a line has one command, which the preview is about, or several, of which each has a part in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LineShape {
    OneCommand,
    SeveralCommands,
}

impl SessionToolExecutor {
    /// Makes the preview of a call. `reason` says what the call does, for a call of which nothing else is known.
    pub(crate) async fn make_preview(
        &self,
        tool: &ToolRef,
        arguments: &Map<String, Value>,
        reason: &str,
    ) -> WholePreview {
        let mut found = FoundChanges::default();
        if let Some(plan) = plan_typed_call(tool.tool(), arguments) {
            self.read_plan(tool, arguments, plan, &mut found).await;
        } else if let Some(commands) = self.catalog().find_object_commands(tool, arguments) {
            self.read_commands(tool, arguments, commands, &mut found).await;
        }
        let mut dependents = self.find_dependents(tool, arguments, &found).await;
        let mut body = found.body(&dependents);
        if !found.is_conclusive()
            && let Some(text) = self.run_dry_run(tool, arguments).await
        {
            // What a dry run prints may differ each time. What goes with the call can be compared.
            let digest = body.as_ref().and_then(|body| body.digest.clone()).filter(|_| !dependents.is_empty());
            let notes = body.map(|body| format!("\n{}", body.text)).unwrap_or_default();
            let text = format!("{}{notes}", text.trim_end());
            body = Some(PreviewBody { kind: PreviewKind::DryRun, text: text + "\n", digest });
        }
        let mut summary = found.summary(&dependents);
        if summary.is_empty() {
            summary = self.describe_call(arguments, reason).await;
        }
        let objects: Vec<AffectedObject> = found.into_objects().take(MAX_OBJECTS).collect();
        for dependent in &mut dependents {
            dependent.names.truncate(MAX_NAMES);
        }
        WholePreview { summary, objects, dependents, body }
    }

    /// Returns a sentence on a call of whose objects nothing is known.
    async fn describe_call(&self, arguments: &Map<String, Value>, reason: &str) -> String {
        let mut texts = arguments.values().filter(|value| value.is_string() || value.is_array());
        let arguments = if let (Some(Value::String(line)), None) = (texts.next(), texts.next()) {
            // The only text of a tool that takes a command line is the line.
            line.clone()
        } else {
            let given = arguments.iter().filter(|(_, value)| !value.is_null() && **value != json!(false));
            let given = given.map(|(key, value)| match value {
                Value::String(text) => format!("{key}={text}"),
                other => format!("{key}={other}"),
            });
            given.collect::<Vec<_>>().join(", ")
        };
        let text = match (arguments.is_empty(), reason.starts_with('`')) {
            (true, _) => reason.to_owned(),
            // What is known of the verb or the tool says more than anything else.
            (false, true) => format!("{reason}: {}", shorten(&arguments)),
            (false, false) => {
                format!("what this changes is not known before it runs: {} ({reason})", shorten(&arguments))
            }
        };
        self.vault().await.redact_text(&text, ContentHint::Any).into_owned()
    }

    async fn read_commands(
        &self,
        tool: &ToolRef,
        arguments: &Map<String, Value>,
        commands: ObjectCommands,
        found: &mut FoundChanges,
    ) {
        let ObjectCommands { known, unknown, has_alternatives } = commands;
        if has_alternatives {
            found.add_note("What stands behind `||` runs only if what stands before it fails.".to_owned());
        }
        let shape = if known.len() + unknown.len() == 1 { LineShape::OneCommand } else { LineShape::SeveralCommands };
        // A line of one command of which nothing is known is described as a whole.
        for text in unknown.into_iter().filter(|_| shape == LineShape::SeveralCommands) {
            let text = self.vault().await.redact_text(&shorten(&text), ContentHint::Any).into_owned();
            found.add_note(format!("What this changes is not known before it runs: {text}"));
        }
        let count = known.len();
        for (at, command) in known.into_iter().enumerate() {
            let read = self.read_command(tool, arguments, command, shape, found).await;
            if read.is_none() && shape == LineShape::SeveralCommands {
                found.add_note(format!("Change {} of {count} in this line could not be compared.", at + 1));
            }
        }
    }

    /// Reads the objects of one command. Returns `None` if nothing could be found out.
    async fn read_command(
        &self,
        tool: &ToolRef,
        arguments: &Map<String, Value>,
        command: ObjectCommand,
        shape: LineShape,
        found: &mut FoundChanges,
    ) -> Option<()> {
        match command {
            ObjectCommand::DryRunPrints { dry_run, verb } => {
                self.compare_with_dry_run(tool, arguments, dry_run, &verb, found).await
            }
            ObjectCommand::ReadPrints { read, change } => {
                self.change_printed_objects(tool, arguments, read, change, found).await
            }
            ObjectCommand::Manifests { source, verb, namespace } => {
                let text = match source {
                    ManifestSource::Text(text) => text,
                    ManifestSource::Printed(call) => self.read_text(tool, call).await.ok()?,
                };
                let planned = plan_manifests(&text, &verb, namespace.as_deref())?;
                if verb == ManifestVerb::Replace && planned.iter().any(|change| is_bare_manifest(&change.edit)) {
                    found.add_note(
                        "A replaced object gets the defaults of the cluster for what its manifest leaves out; the diff shows \
                         such fields as removed."
                            .to_owned(),
                    );
                }
                self.read_planned(tool, arguments, planned, found).await;
                Some(())
            }
            ObjectCommand::Exec { namespace, pod, command } if shape == LineShape::OneCommand => {
                let target = ObjectRef { api_version: "v1".into(), kind: "Pod".into(), namespace, name: pod };
                let live = self.read_current(tool, arguments, &target, ObjectDetail::WithoutManagers).await;
                found.command = Some(command);
                let vault = self.vault().await;
                found.add(&vault, PlannedChange { target, verb: "exec", edit: ObjectEdit::Keep }, live);
                Some(())
            }
            ObjectCommand::Exec { pod, command, .. } => {
                found.add_note(format!("In {pod} this runs: {}", shorten(&command)));
                Some(())
            }
            ObjectCommand::Release(release) => self.compare_release(tool, release, found).await,
        }
    }

    /// Reads the objects of a typed call, and applies its edits to them.
    async fn read_plan(
        &self,
        tool: &ToolRef,
        arguments: &Map<String, Value>,
        plan: CallPlan,
        found: &mut FoundChanges,
    ) {
        let CallPlan { changes, command, release, drained_node } = plan;
        found.command = command;
        found.drained_nodes.extend(drained_node);
        self.read_planned(tool, arguments, changes, found).await;
        if let Some(release) = release {
            self.compare_recorded_release(tool, arguments, release, found).await;
        }
    }

    async fn read_planned(
        &self,
        tool: &ToolRef,
        arguments: &Map<String, Value>,
        planned: Vec<PlannedChange>,
        found: &mut FoundChanges,
    ) {
        let vault = self.vault().await;
        for (at, change) in planned.into_iter().enumerate() {
            if at >= MAX_READS {
                found.add_uncompared(&change.target, change.verb);
                continue;
            }
            let is_generated = change.target.name == GENERATED_NAME || change.target.name.ends_with('*');
            let live = match is_generated {
                true => LiveObject::Missing,
                false => self.read_current(tool, arguments, &change.target, ObjectDetail::of_edit(&change.edit)).await,
            };
            self.add_change(tool, arguments, change, live, &vault, found).await;
        }
    }

    /// Adds a change. What a rollback makes of an object is read first.
    async fn add_change(
        &self,
        tool: &ToolRef,
        arguments: &Map<String, Value>,
        mut change: PlannedChange,
        live: LiveObject,
        vault: &RedactionVault,
        found: &mut FoundChanges,
    ) {
        if let (ObjectEdit::RollBack(revision), LiveObject::Found(object)) = (&change.edit, &live) {
            match self.read_rolled_back(tool, arguments, object, *revision).await {
                Some(Ok(after)) => change.edit = ObjectEdit::Replace(after),
                Some(Err(reason)) => {
                    found.add_conclusion(format!("{} {}: {reason}.", change.target.kind, change.target.path()));
                    return;
                }
                None => {
                    found.add(vault, change, LiveObject::Unread);
                    return;
                }
            }
        }
        found.add(vault, change, live);
    }

    /// Returns an object after a rollback, or why there is none; `None` if its revisions cannot be read.
    async fn read_rolled_back(
        &self,
        tool: &ToolRef,
        arguments: &Map<String, Value>,
        live: &Value,
        revision: Option<i64>,
    ) -> Option<Result<Value, String>> {
        let target = ObjectRef::from_object(live)?;
        let (api_version, kind) = history_kind(&target.kind)?;
        let selector = pod_selector(live)?;
        let list = ObjectList {
            api_version,
            kind,
            namespace: target.namespace.as_deref(),
            label_selector: Some(&selector),
            field_selector: None,
        };
        let history = match self.read_history(tool, arguments, &target).await {
            Some(history) => history,
            None => self.list_objects(tool, arguments, &list).await?,
        };
        Some(roll_back(live, &history, revision))
    }

    /// Applies a change to the objects that a call prints.
    async fn change_printed_objects(
        &self,
        tool: &ToolRef,
        arguments: &Map<String, Value>,
        read: PreviewCall,
        change: ObjectCommandChange,
        found: &mut FoundChanges,
    ) -> Option<()> {
        let merge = |patch: Value| ObjectEdit::MergePatch(json!({"spec": patch}));
        let (verb, edit) = match change {
            ObjectCommandChange::Delete | ObjectCommandChange::DeleteAlone => ("delete", ObjectEdit::Delete),
            ObjectCommandChange::SetReplicas(replicas) => ("scale", ObjectEdit::SetReplicas(replicas)),
            ObjectCommandChange::Restart => ("restart", ObjectEdit::Restart),
            ObjectCommandChange::RollBack(revision) => ("rollback", ObjectEdit::RollBack(revision)),
            ObjectCommandChange::Pause => ("update", merge(json!({"paused": true}))),
            ObjectCommandChange::Resume => ("update", merge(json!({"paused": null}))),
            ObjectCommandChange::Cordon | ObjectCommandChange::Drain => {
                ("update", merge(json!({"unschedulable": true})))
            }
            ObjectCommandChange::Uncordon => ("update", merge(json!({"unschedulable": null}))),
        };
        if change == ObjectCommandChange::DeleteAlone {
            found.keeps_dependents = true;
            found.add_note("What depends on the deleted objects stays.".to_owned());
        }
        let text = self.read_text(tool, read).await.ok()?;
        if is_empty_list(&text) {
            found.add_conclusion("No object matches this call now.".to_owned());
            return Some(());
        }
        let vault = self.vault().await;
        for live in parse_objects(&text)? {
            let target = ObjectRef::from_object(&live)?;
            if change == ObjectCommandChange::Drain {
                found.drained_nodes.push(target.name.clone());
            }
            let change = PlannedChange { target, verb, edit: edit.clone() };
            self.add_change(tool, arguments, change, LiveObject::Found(live), &vault, found).await;
        }
        Some(())
    }

    /// Compares what a dry run prints with the objects as they are.
    async fn compare_with_dry_run(
        &self,
        tool: &ToolRef,
        arguments: &Map<String, Value>,
        dry_run: PreviewCall,
        verb: &str,
        found: &mut FoundChanges,
    ) -> Option<()> {
        let desired = parse_objects(&self.read_text(tool, dry_run).await.ok()?)?;
        let group = verb.split(' ').next().unwrap_or_default();
        let creates = matches!(group, "create" | "expose" | "run" | "autoscale");
        let planned = desired.into_iter().map(|object| {
            let target = ObjectRef::from_object(&object)?;
            let (verb, edit) = match creates {
                true => ("create", ObjectEdit::Create(object)),
                false => ("update", ObjectEdit::Replace(object)),
            };
            Some(PlannedChange { target, verb, edit })
        });
        self.read_planned(tool, arguments, planned.collect::<Option<_>>()?, found).await;
        Some(())
    }

    /// Finds what goes with the objects that are deleted, restarted or drained: their pods, and what is in a namespace. All of
    /// their names are returned.
    async fn find_dependents(
        &self,
        tool: &ToolRef,
        arguments: &Map<String, Value>,
        found: &FoundChanges,
    ) -> Vec<DependentObjects> {
        let mut dependents = Vec::new();
        let ending = found.changes.iter().filter(|change| match change.object.verb.as_str() {
            "delete" => !found.keeps_dependents,
            verb => verb == "restart",
        });
        for change in ending.take(MAX_OWNERS) {
            let AffectedObject { kind, namespace, name, .. } = &change.object;
            let selector = change.pod_selector();
            let pods = ObjectList { api_version: "v1", kind: "Pod", ..ObjectList::default() };
            let (what, names) = if kind == "Namespace" {
                self.list_namespace(tool, arguments, name).await
            } else if let Some(selector) = &selector {
                let list = ObjectList { namespace: namespace.as_deref(), label_selector: Some(selector), ..pods };
                (format!("pods of {kind} {}", change.path()), self.list_names(tool, arguments, &list).await)
            } else {
                continue;
            };
            dependents.extend(count_names(what, names));
        }
        for node in found.drained_nodes.iter().take(MAX_OWNERS) {
            let field_selector = format!("spec.nodeName={node}");
            let pods = ObjectList {
                api_version: "v1",
                kind: "Pod",
                field_selector: Some(&field_selector),
                ..ObjectList::default()
            };
            let listed = self.list_objects(tool, arguments, &pods).await.unwrap_or_default();
            let evicted = listed.iter().filter(|pod| is_evicted(pod)).filter_map(ObjectRef::from_object);
            let names = evicted.map(|pod| pod.path()).collect();
            dependents.extend(count_names(format!("pods of node {node}, without those of DaemonSets"), names));
        }
        dependents
    }

    /// Lists what is in a namespace, and says what was counted.
    async fn list_namespace(
        &self,
        tool: &ToolRef,
        arguments: &Map<String, Value>,
        namespace: &str,
    ) -> (String, Vec<String>) {
        let lists: Vec<_> = NAMESPACE_KINDS
            .iter()
            .map(|(api_version, kind)| self.list_kind(tool, arguments, namespace, api_version, kind))
            .collect();
        let listed: Vec<_> = stream::iter(lists).buffered(PARALLEL_READS).collect().await;
        let mut names = Vec::new();
        let mut uncounted = Vec::new();
        for ((_, kind), listed) in NAMESPACE_KINDS.iter().zip(listed) {
            match listed {
                Ok(listed) => names.extend(listed.into_iter().map(|name| format!("{kind}/{name}"))),
                Err(_) => uncounted.push(*kind),
            }
        }
        let mut what = format!("objects in namespace {namespace}, without custom resources");
        if !uncounted.is_empty() {
            what.push_str(&format!(" and without the kinds that could not be listed: {}", uncounted.join(", ")));
        }
        (what, names)
    }

    async fn list_kind(
        &self,
        tool: &ToolRef,
        arguments: &Map<String, Value>,
        namespace: &str,
        api_version: &str,
        kind: &str,
    ) -> Result<Vec<String>, ReadFailure> {
        let list = ObjectList { api_version, kind, namespace: Some(namespace), ..ObjectList::default() };
        self.try_list_names(tool, arguments, &list).await
    }
}

fn count_names(what: String, names: Vec<String>) -> Option<DependentObjects> {
    let count = names.len() as u64;
    (count > 0).then_some(DependentObjects { what, count, names })
}

/// Whether a drain evicts a pod: not if a DaemonSet or the node itself runs it.
fn is_evicted(pod: &Value) -> bool {
    let owners = pod["metadata"]["ownerReferences"].as_array();
    let is_of_daemon_set = owners.is_some_and(|owners| owners.iter().any(|owner| owner["kind"] == "DaemonSet"));
    let is_static = pod["metadata"]["annotations"].get("kubernetes.io/config.mirror").is_some();
    !is_of_daemon_set && !is_static
}

/// Whether an object becomes what a person wrote, and not what the cluster printed.
fn is_bare_manifest(edit: &ObjectEdit) -> bool {
    matches!(edit, ObjectEdit::Replace(manifest) if manifest["metadata"].get("uid").is_none())
}
