//! Helm releases: what the manifests of a release become, and the record that Helm keeps of a release in a Secret.

use std::io::Read as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::read::GzDecoder;
use serde_json::Value;

use super::{
    call_plan::PlannedChange,
    cluster_objects::{ObjectRef, parse_objects},
    object_edit::ObjectEdit,
};

/// Most bytes of a record.
const MAX_RECORD_BYTES: u64 = 16 * 1024 * 1024;
/// Kinds whose objects are in no namespace.
const CLUSTER_KINDS: &[&str] = &[
    "APIService",
    "CSIDriver",
    "ClusterIssuer",
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "GatewayClass",
    "IngressClass",
    "MutatingWebhookConfiguration",
    "Namespace",
    "Node",
    "PersistentVolume",
    "PriorityClass",
    "RuntimeClass",
    "StorageClass",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration",
];

/// What becomes of the objects of a release.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct ReleaseDifference {
    /// The changes, with the object as it is.
    pub(crate) changes: Vec<(PlannedChange, Option<Value>)>,
    /// Objects that are no part of the release any more, and that Helm does not delete.
    pub(crate) kept: Vec<ObjectRef>,
}

/// Compares the manifests of a release with those that it would have.
pub(crate) fn compare_manifests(before: &[Value], after: &[Value], namespace: Option<&str>) -> ReleaseDifference {
    let key = |object: &Value| named(object, namespace).map(|target| (target.kind.clone(), target.path()));
    let mut difference = ReleaseDifference::default();
    let created: Vec<&Value> =
        after.iter().filter(|object| !before.iter().any(|live| key(live) == key(object))).collect();
    for live in before {
        let Some(target) = named(live, namespace) else { continue };
        let (verb, edit) = match after.iter().find(|object| key(object) == key(live)) {
            Some(object) if object == live => continue,
            Some(object) => ("update", ObjectEdit::Replace(object.clone())),
            None if is_kept(live) => {
                difference.kept.push(target);
                continue;
            }
            None => ("delete", ObjectEdit::Delete),
        };
        difference.changes.push((PlannedChange { target, verb, edit }, Some(live.clone())));
    }
    for object in created {
        let Some(target) = named(object, namespace) else { continue };
        let edit = ObjectEdit::Replace(object.clone());
        difference.changes.push((PlannedChange { target, verb: "create", edit }, None));
    }
    difference
}

/// Returns the name of an object, whose manifest may leave out the namespace.
fn named(object: &Value, namespace: Option<&str>) -> Option<ObjectRef> {
    let mut target = ObjectRef::from_object(object)?;
    if target.namespace.is_none() && !CLUSTER_KINDS.contains(&target.kind.as_str()) {
        target.namespace = namespace.map(str::to_owned);
    }
    Some(target)
}

fn is_kept(object: &Value) -> bool {
    let policy = object["metadata"]["annotations"]["helm.sh/resource-policy"].as_str();
    policy.is_some_and(|policy| policy.trim().eq_ignore_ascii_case("keep"))
}

/// What Helm knows of a release.
#[derive(Debug, PartialEq)]
pub(crate) struct ReleaseRecord {
    pub(crate) manifests: Vec<Value>,
    pub(crate) values: Value,
    /// `nginx-1.2.3`.
    pub(crate) chart: String,
}

/// Returns the record in a Secret of a release: JSON, compressed and encoded twice. `None` if it is none.
pub(crate) fn decode_release(secret: &Value) -> Option<ReleaseRecord> {
    let encoded = STANDARD.decode(secret.pointer("/data/release")?.as_str()?).ok()?;
    let compressed = STANDARD.decode(encoded).ok()?;
    let mut text = String::new();
    GzDecoder::new(compressed.as_slice()).take(MAX_RECORD_BYTES).read_to_string(&mut text).ok()?;
    let release: Value = serde_json::from_str(&text).ok()?;
    let chart = |field: &str| release["chart"]["metadata"][field].as_str().unwrap_or_default().to_owned();
    let manifest = release["manifest"].as_str()?;
    Some(ReleaseRecord {
        manifests: if manifest.trim().is_empty() { Vec::new() } else { parse_objects(manifest)? },
        values: release.get("config").cloned().unwrap_or(Value::Null),
        chart: format!("{}-{}", chart("name"), chart("version")),
    })
}

/// Returns the name of the Secret with the newest record of a release among names of Secrets.
pub(crate) fn newest_record<'a>(release: &str, names: &'a [String]) -> Option<&'a str> {
    let prefix = format!("sh.helm.release.v1.{release}.v");
    let revision = |name: &&str| name.strip_prefix(&prefix)?.parse::<u64>().ok();
    names.iter().map(String::as_str).filter(|name| revision(name).is_some()).max_by_key(revision)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_of_a_release_are_compared_one_by_one() {
        let object = |kind: &str, name: &str, data: &str| json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, "data": {"a": data}});
        let mut kept = object("ConfigMap", "kept", "1");
        kept["metadata"]["annotations"] = json!({"helm.sh/resource-policy": "keep"});
        let mut moved = object("ConfigMap", "changed", "2");
        moved["metadata"]["namespace"] = json!("shop");
        let before = vec![
            object("ConfigMap", "same", "1"),
            object("ConfigMap", "changed", "1"),
            object("ClusterRole", "gone", "1"),
            kept,
        ];
        let after = vec![object("ConfigMap", "same", "1"), moved, object("Secret", "new", "1")];
        let ReleaseDifference { changes, kept } = compare_manifests(&before, &after, Some("shop"));
        let shown: Vec<_> =
            changes.iter().map(|(change, _)| format!("{} {}", change.verb, change.target.path())).collect();
        assert_eq!(shown, ["update shop/changed", "delete gone", "create shop/new"]);
        assert_eq!(kept.iter().map(ObjectRef::path).collect::<Vec<_>>(), ["shop/kept"]);
    }

    #[test]
    fn record_of_a_release_is_read_from_its_secret() {
        let release = json!({"manifest": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n", "config": {"a": 1},
            "chart": {"metadata": {"name": "web", "version": "1.2.3"}}});
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(release.to_string().as_bytes()).unwrap();
        let data = STANDARD.encode(STANDARD.encode(encoder.finish().unwrap()));
        let record = decode_release(&json!({"kind": "Secret", "data": {"release": data}})).unwrap();
        assert_eq!((record.manifests.len(), &record.values, record.chart.as_str()), (1, &json!({"a": 1}), "web-1.2.3"));
        assert_eq!(decode_release(&json!({"data": {"release": "x"}})), None);
        let names = ["sh.helm.release.v1.web.v9", "sh.helm.release.v1.web.v10", "sh.helm.release.v1.web2.v11"];
        assert_eq!(newest_record("web", &names.map(str::to_owned)), Some(names[1]));
    }
}
