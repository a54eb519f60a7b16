//! One object before and after a call: its diff, and what it says in one line.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use k8sops_core::AffectedObject;

use super::cluster_objects::{ObjectRef, pod_selector, remove_server_fields, to_yaml};

/// Unchanged lines that are shown before and after a change.
const CONTEXT_LINES: usize = 3;
/// Most changed fields that a summary names.
const MAX_SUMMARY_FIELDS: usize = 3;
/// Most characters of a value in a summary.
const MAX_SUMMARY_VALUE: usize = 60;

/// An object as it is and as it would be, without secrets and without what the cluster sets.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ObjectChange {
    pub(crate) object: AffectedObject,
    before: Option<Value>,
    after: Option<Value>,
}

impl ObjectChange {
    /// Creates the change of an object. The secrets in `before` and `after` are placeholders already.
    pub(crate) fn new(target: &ObjectRef, verb: &str, mut before: Option<Value>, mut after: Option<Value>) -> Self {
        let known = before.as_ref().or(after.as_ref()).and_then(ObjectRef::from_object);
        let ObjectRef { api_version, kind, namespace, name } = known.unwrap_or_else(|| target.clone());
        let metadata = |field: &str| Some(before.as_ref()?["metadata"][field].as_str()?.to_owned());
        let verb = if before.is_none() && after.is_some() && verb == "update" { "create" } else { verb };
        let object = AffectedObject {
            api_version,
            kind,
            namespace: namespace.or_else(|| target.namespace.clone()),
            name,
            verb: verb.to_owned(),
            uid: metadata("uid"),
            resource_version: metadata("resourceVersion"),
        };
        before.iter_mut().chain(&mut after).for_each(remove_server_fields);
        Self { object, before, after }
    }

    /// Returns the unified diff; empty if nothing changes.
    pub(crate) fn unified_diff(&self) -> String {
        let text = |side: &Option<Value>| side.as_ref().map(to_yaml).unwrap_or_default();
        let (before, after) = (text(&self.before), text(&self.after));
        let AffectedObject { kind, .. } = &self.object;
        let path = format!("{kind} {}", self.path());
        let name = |side: &Option<Value>| side.as_ref().map_or_else(|| "/dev/null".to_owned(), |_| path.clone());
        let diff = similar::TextDiff::from_lines(&before, &after);
        let mut unified = diff.unified_diff();
        unified.context_radius(CONTEXT_LINES).header(&name(&self.before), &name(&self.after)).to_string()
    }

    /// Whether both are changes of one object.
    pub(crate) fn is_about_the_same(&self, other: &Self) -> bool {
        self.object.kind == other.object.kind && self.path() == other.path()
    }

    /// Adds what a person sees of the change to a fingerprint: which object it is, and the lines that change. Lines around a
    /// change do not count.
    pub(crate) fn add_to_digest(&self, digest: &mut Sha256, diff: &str) {
        let AffectedObject { kind, uid, .. } = &self.object;
        digest.update(format!("{kind} {} {}\n", self.path(), uid.as_deref().unwrap_or_default()));
        let changed = diff.lines().filter(|line| line.starts_with(['+', '-']) && !is_assigned_by_server(line));
        for line in changed {
            digest.update(line);
            digest.update("\n");
        }
    }

    /// Returns what happens to the object, in a few words: `shop/checkout: replicas 2 → 5`.
    pub(crate) fn summary(&self) -> String {
        let AffectedObject { kind, verb, .. } = &self.object;
        let path = self.path();
        match (&self.before, &self.after) {
            (None, None) => format!("{path}: {verb} {kind}"),
            (None, Some(_)) => format!("{path}: {kind} is created"),
            (Some(_), None) => format!("{path}: {kind} is deleted"),
            (Some(before), Some(after)) => {
                let mut fields = Vec::new();
                collect_changes(before, after, &mut Vec::new(), &mut fields);
                if verb == "restart" {
                    return format!("{path}: pods of {kind} are restarted");
                }
                match fields.len() {
                    0 if verb == "exec" => format!("{path}: a command runs in {kind}"),
                    0 => format!("{path}: {kind} stays as it is"),
                    count if count <= MAX_SUMMARY_FIELDS => format!("{path}: {}", fields.join(", ")),
                    count => format!("{path}: {count} fields of {kind} change"),
                }
            }
        }
    }

    /// Returns the selector by which the object chooses its pods, as kubectl takes it.
    pub(crate) fn pod_selector(&self) -> Option<String> {
        pod_selector(self.before.as_ref()?)
    }

    /// `shop/checkout`, or the name alone.
    pub(crate) fn path(&self) -> String {
        let AffectedObject { namespace, name, .. } = &self.object;
        namespace.as_ref().map_or_else(|| name.clone(), |namespace| format!("{namespace}/{name}"))
    }
}

/// Collects the changed fields: `replicas 2 → 5`, `app image web:1 → web:2`.
fn collect_changes(before: &Value, after: &Value, path: &mut Vec<String>, changes: &mut Vec<String>) {
    match (before, after) {
        _ if before == after => {}
        (Value::Object(old), Value::Object(new)) => {
            let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                path.push(key.clone());
                collect_changes(
                    &old.get(key).cloned().unwrap_or(Value::Null),
                    new.get(key).unwrap_or(&Value::Null),
                    path,
                    changes,
                );
                path.pop();
            }
        }
        (Value::Array(old), Value::Array(new)) if is_named_list(old) && is_named_list(new) => {
            let is_in = |list: &[Value], item: &Value| list.iter().any(|other| other["name"] == item["name"]);
            for item in old.iter().chain(new.iter().filter(|item| !is_in(old, item))) {
                // An item that is missing on one side has its name there, so that only its other fields are named.
                let absent = json!({"name": item["name"]});
                let find = |list: &'_ [Value]| list.iter().find(|other| other["name"] == item["name"]).cloned();
                path.push(item["name"].as_str().unwrap_or_default().to_owned());
                let before = find(old).unwrap_or_else(|| absent.clone());
                collect_changes(&before, &find(new).unwrap_or(absent), path, changes);
                path.pop();
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (at, (old, new)) in old.iter().zip(new).enumerate() {
                path.push(at.to_string());
                collect_changes(old, new, path, changes);
                path.pop();
            }
        }
        (old, new) => {
            let named = path.len().saturating_sub(2);
            let field = match path.get(named..) {
                Some([.., list, field]) if path.len() > 2 && !is_common(list) => format!("{list} {field}"),
                Some([.., field]) => field.clone(),
                _ => "object".to_owned(),
            };
            changes.push(format!("{field} {} → {}", shorten(old), shorten(new)));
        }
    }
}

/// Returns whether the items of a list are told apart by their names.
fn is_named_list(items: &[Value]) -> bool {
    let is_named = |(at, item): (usize, &Value)| {
        item["name"].is_string() && !items.iter().take(at).any(|other| other["name"] == item["name"])
    };
    items.iter().enumerate().all(is_named)
}

/// Returns whether a dry run shows another value in such a line each time: an address or a name that the server assigns.
fn is_assigned_by_server(line: &str) -> bool {
    let text = line.trim_start_matches(['+', '-', ' ']);
    ["clusterIP", "nodePort:", "healthCheckNodePort:"].iter().any(|field| text.starts_with(field))
        || ["controller-uid", "kube-api-access-"].iter().any(|name| text.contains(name))
        || text.parse::<std::net::IpAddr>().is_ok()
}

fn is_common(key: &str) -> bool {
    matches!(key, "spec" | "metadata" | "data" | "template" | "stringData" | "containers")
}

fn shorten(value: &Value) -> String {
    let text = match value {
        Value::Null => return "(none)".to_owned(),
        Value::String(text) => text.replace('\n', "⏎"),
        other => other.to_string(),
    };
    if text.chars().count() <= MAX_SUMMARY_VALUE {
        return text;
    }
    text.chars().take(MAX_SUMMARY_VALUE).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(replicas: u32, image: &str) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "status": {"replicas": replicas},
            "metadata": {"name": "checkout", "namespace": "shop", "uid": "u1", "resourceVersion": replicas.to_string()},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "checkout"}},
                "template": {"spec": {"containers": [{"name": "app", "image": image}]}}}})
    }

    fn change(before: Option<Value>, after: Option<Value>) -> ObjectChange {
        ObjectChange::new(&ObjectRef::default(), "update", before, after)
    }

    #[test]
    fn diff_and_summary_show_what_changes() {
        let scaled = change(Some(deployment(2, "web:1")), Some(deployment(5, "web:1")));
        assert_eq!(scaled.summary(), "shop/checkout: replicas 2 → 5");
        let diff = scaled.unified_diff();
        assert!(diff.starts_with("--- Deployment shop/checkout\n+++ Deployment shop/checkout\n@@ "), "{diff}");
        assert!(diff.contains("-  replicas: 2\n+  replicas: 5\n") && !diff.contains("status"), "{diff}");
        assert_eq!(scaled.object.uid.as_deref(), Some("u1"));
        let image = change(Some(deployment(2, "web:1")), Some(deployment(2, "web:2")));
        assert_eq!(image.summary(), "shop/checkout: app image web:1 → web:2");
        let with_env = |env: Value| {
            let mut object = deployment(2, "web:1");
            object["spec"]["template"]["spec"]["containers"][0]["env"] = env;
            Some(object)
        };
        let before = json!([{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]);
        let after = json!([{"name": "B", "value": "3"}, {"name": "C", "value": "4"}]);
        let renamed = change(with_env(before), with_env(after));
        assert_eq!(renamed.summary(), "shop/checkout: A value 1 → (none), B value 2 → 3, C value (none) → 4");
        let gone = change(Some(deployment(2, "web:1")), None);
        assert_eq!(gone.summary(), "shop/checkout: Deployment is deleted");
        assert!(gone.unified_diff().contains("+++ /dev/null\n"));
        let new = change(None, Some(deployment(2, "web:1")));
        assert_eq!(
            (new.summary().as_str(), new.object.verb.as_str()),
            ("shop/checkout: Deployment is created", "create")
        );
        assert_eq!(change(Some(deployment(2, "a")), Some(deployment(2, "a"))).unified_diff(), "");
    }

    #[test]
    fn digest_depends_on_the_object_and_on_changed_lines_only() {
        let digest = |before: Value, after: Value| {
            let change = change(Some(before), Some(after));
            let mut digest = Sha256::new();
            change.add_to_digest(&mut digest, &change.unified_diff());
            digest.finalize()
        };
        let scaled = digest(deployment(2, "web:1"), deployment(5, "web:1"));
        let elsewhere = digest(deployment(2, "web:2"), deployment(5, "web:2"));
        assert_eq!(scaled, elsewhere, "the image is not what the diff is about");
        assert_ne!(scaled, digest(deployment(3, "web:1"), deployment(5, "web:1")));
        let mut recreated = deployment(2, "web:1");
        recreated["metadata"]["uid"] = json!("u2");
        assert_ne!(scaled, digest(recreated, deployment(5, "web:1")));
    }
}
