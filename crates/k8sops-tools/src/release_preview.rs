//! Previews of changes of Helm releases: the manifests and the values of the release as it is and as it would be.

use serde_json::{Map, Value, json};

use k8sops_classifier::{ReleaseAfter, ReleaseCommand, at_revision};

use crate::{
    ToolRef,
    preview::{
        FoundChanges, LiveObject, ObjectDetail, ObjectEdit, ObjectList, ObjectRef, PlannedChange, PlannedRelease,
        ReleaseRecord, compare_manifests, decode_release, newest_record, parse_objects,
    },
    preview_reads::ReadFailure,
    session_tools::SessionToolExecutor,
};

/// A release as it would be.
struct NewRelease {
    manifests: Vec<Value>,
    /// `None` if it is not known.
    values: Option<Value>,
}

impl NewRelease {
    /// Parses what a program prints of a release: the release as JSON, or its manifests.
    fn parse(text: &str) -> Option<Self> {
        match serde_json::from_str::<Value>(text) {
            Ok(release) => Some(Self {
                manifests: parse_manifests(release["manifest"].as_str()?)?,
                values: Some(release.get("config").cloned().unwrap_or(Value::Null)),
            }),
            Err(_) => Some(Self { manifests: parse_manifests(text)?, values: None }),
        }
    }
}

/// Returns the objects of a release, which may have none.
fn parse_manifests(text: &str) -> Option<Vec<Value>> {
    if text.trim().is_empty() { Some(Vec::new()) } else { parse_objects(text) }
}

impl SessionToolExecutor {
    /// Compares a release with what it would be. Returns `None` if one of them cannot be read.
    pub(crate) async fn compare_release(
        &self,
        tool: &ToolRef,
        command: ReleaseCommand,
        found: &mut FoundChanges,
    ) -> Option<()> {
        let ReleaseCommand { verb, release, namespace, manifest, values, after } = command;
        let target = ObjectRef { kind: "Release".into(), namespace, name: release, ..ObjectRef::default() };
        let before = match self.read_text(tool, manifest).await {
            Ok(text) if text.trim().is_empty() => Some(Vec::new()),
            Ok(text) => Some(parse_objects(&text)?),
            Err(ReadFailure::Missing) => None,
            Err(ReadFailure::Unknown) => return None,
        };
        match (&before, verb.as_str()) {
            (None, "rollback" | "uninstall") => {
                found.add_conclusion(format!("There is no release {}, so the call fails.", target.path()));
                return Some(());
            }
            (Some(_), "install") => {
                found.add_conclusion(format!("There is a release {} already, so the call fails.", target.path()));
                return Some(());
            }
            (None, "upgrade") => found.add_note(format!("There is no release {} yet.", target.path())),
            _ => {}
        }
        let values_before = match &before {
            Some(_) => self.read_text(tool, values).await.ok().and_then(|text| serde_json::from_str(&text).ok()),
            None => Some(Value::Null),
        };
        let NewRelease { manifests, values } =
            self.read_new_release(tool, after, values_before.as_ref(), found).await?;
        found.add_release(&target, &verb);
        if let (Some(before), Some(after)) = (values_before, values) {
            self.add_values(&target, before, after, found).await;
        }
        let known = found.changes.len();
        self.add_manifests(&target, before.unwrap_or_default(), manifests, found).await;
        if found.changes.len() == known {
            found.add_conclusion(format!("The manifests of release {} stay as they are.", target.path()));
        }
        Some(())
    }

    async fn read_new_release(
        &self,
        tool: &ToolRef,
        after: ReleaseAfter,
        values: Option<&Value>,
        found: &mut FoundChanges,
    ) -> Option<NewRelease> {
        match after {
            ReleaseAfter::Removed => Some(NewRelease { manifests: Vec::new(), values: None }),
            ReleaseAfter::Printed(call) => NewRelease::parse(&self.read_text(tool, call).await.ok()?),
            ReleaseAfter::DryRun { on_server, on_client } => match self.read_text(tool, on_server).await {
                Ok(text) => NewRelease::parse(&text),
                Err(_) => NewRelease::parse(&self.read_text(tool, on_client).await.ok()?),
            },
            ReleaseAfter::Rendered(rendered) => {
                let current = match values? {
                    Value::Object(values) => values.clone(),
                    _ => Map::new(),
                };
                let computed: Option<Map<String, Value>> = match rendered.computed_values.clone() {
                    None => None,
                    Some(call) => Some(serde_json::from_str(&self.read_text(tool, call).await.ok()?).ok()?),
                };
                let reuses = computed.is_some();
                let (values, template) = rendered.with_values_of(&current, computed.as_ref());
                let manifests = parse_manifests(&self.read_text(tool, template).await.ok()?)?;
                found.add_note(
                    "The chart is rendered without the cluster: what its templates look up there may come out otherwise."
                        .to_owned(),
                );
                if reuses {
                    found.add_note(
                        "The call reuses the values of the release with the defaults of its chart: what is new in the defaults of \
                         the new chart shows in the diff, and is not set by the call."
                            .to_owned(),
                    );
                }
                Some(NewRelease { manifests, values: Some(Value::Object(values)) })
            }
            ReleaseAfter::PreviousRevision { history, manifest } => {
                let history: Value = serde_json::from_str(&self.read_text(tool, history).await.ok()?).ok()?;
                let revisions = history.as_array()?.iter().filter_map(|item| item["revision"].as_u64());
                // Helm rolls back to the number before, whatever became of that revision.
                let previous = revisions.max()?.checked_sub(1).filter(|previous| *previous > 0);
                let Some(previous) = previous else {
                    found.add_conclusion("There is no earlier revision, so the call fails.".to_owned());
                    return None;
                };
                let manifests = parse_manifests(&self.read_text(tool, at_revision(manifest, previous)).await.ok()?)?;
                Some(NewRelease { manifests, values: None })
            }
        }
    }

    /// Compares a release with what a server makes of it that only takes the chart and the values. The release as it is, is read
    /// from the Secret in which Helm keeps it.
    pub(crate) async fn compare_recorded_release(
        &self,
        tool: &ToolRef,
        arguments: &Map<String, Value>,
        planned: PlannedRelease,
        found: &mut FoundChanges,
    ) {
        let PlannedRelease { verb, target, chart, values } = planned;
        let record = self.read_record(tool, arguments, &target).await;
        match (&record, verb) {
            (Ok(_), "install") => {
                found.add_conclusion(format!("There is a release {} already, so the call fails.", target.path()));
                return;
            }
            (Err(ReadFailure::Missing), "uninstall" | "upgrade") => {
                found.add_conclusion(format!("There is no release {}, so the call fails.", target.path()));
                return;
            }
            _ => {}
        }
        found.add_release(&target, verb);
        if verb == "uninstall" {
            match record {
                Ok(record) => self.add_manifests(&target, record.manifests, Vec::new(), found).await,
                Err(_) => found.add_note("The objects of the release could not be read.".to_owned()),
            }
            return;
        }
        let chart = chart.unwrap_or_default();
        let of_what = match &record {
            Ok(record) => format!("chart {} → {chart}", record.chart),
            Err(_) => format!("chart {chart}"),
        };
        found.add_note(format!("{of_what}: which objects it makes is not known before the call."));
        let before = record.map_or(Value::Null, |record| record.values);
        // Without values of its own, an upgrade keeps those of the release.
        let after = match values {
            Some(values) if values.as_object().is_none_or(|values| !values.is_empty()) => values,
            _ if verb == "upgrade" => before.clone(),
            _ => Value::Null,
        };
        self.add_values(&target, before, after, found).await;
    }

    /// Reads the newest record of a release.
    async fn read_record(
        &self,
        tool: &ToolRef,
        arguments: &Map<String, Value>,
        target: &ObjectRef,
    ) -> Result<ReleaseRecord, ReadFailure> {
        let labels = format!("owner=helm,name={}", target.name);
        let list = ObjectList {
            api_version: "v1",
            kind: "Secret",
            namespace: target.namespace.as_deref(),
            label_selector: Some(&labels),
            field_selector: None,
        };
        let names = self.try_list_names(tool, arguments, &list).await?;
        let name = newest_record(&target.name, &names).ok_or(ReadFailure::Missing)?.to_owned();
        let secret =
            ObjectRef { api_version: "v1".into(), kind: "Secret".into(), namespace: target.namespace.clone(), name };
        match self.read_current(tool, arguments, &secret, ObjectDetail::WithoutManagers).await {
            LiveObject::Found(secret) => decode_release(&secret).ok_or(ReadFailure::Unknown),
            LiveObject::Missing | LiveObject::Unread => Err(ReadFailure::Unknown),
        }
    }

    async fn add_values(&self, target: &ObjectRef, before: Value, after: Value, found: &mut FoundChanges) {
        // A release without values has none, `{}` or `null`.
        let or_none = |values: Value| if values.is_null() { json!({}) } else { values };
        let (before, after) = (or_none(before), or_none(after));
        if before == after {
            return;
        }
        let target = ObjectRef { kind: "Values of release".into(), ..target.clone() };
        let change = PlannedChange { target, verb: "update", edit: ObjectEdit::Replace(after) };
        found.add(&*self.vault().await, change, LiveObject::Found(before));
    }

    async fn add_manifests(
        &self,
        release: &ObjectRef,
        before: Vec<Value>,
        after: Vec<Value>,
        found: &mut FoundChanges,
    ) {
        let difference = compare_manifests(&before, &after, release.namespace.as_deref());
        let vault = self.vault().await;
        for (change, live) in difference.changes {
            found.add(&vault, change, live.map_or(LiveObject::Missing, LiveObject::Found));
        }
        if !difference.kept.is_empty() {
            let named = difference.kept.iter().map(|object| format!("{} {}", object.kind, object.path()));
            found.add_note(format!(
                "These objects stay, because their resource policy says so ({}): {}.",
                difference.kept.len(),
                named.collect::<Vec<_>>().join(", ")
            ));
        }
    }
}
