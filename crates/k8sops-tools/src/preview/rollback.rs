//! What a rollback makes of an object, after `kubectl rollout undo`: the pod template of an earlier revision.

use serde_json::{Map, Value, json};

/// The annotation with the number of the revision, of Deployments and their ReplicaSets.
const REVISION: &str = "deployment.kubernetes.io/revision";
/// Annotations that a Deployment keeps.
const KEPT_ANNOTATIONS: &[&str] = &[
    super::cluster_objects::LAST_APPLIED,
    REVISION,
    "deployment.kubernetes.io/revision-history",
    "deployment.kubernetes.io/desired-replicas",
    "deployment.kubernetes.io/max-replicas",
    "deprecated.deployment.rollback.to",
];
const TEMPLATE_HASH: &str = "pod-template-hash";

/// Returns the kind of the objects that hold the earlier revisions of an object.
pub(crate) fn history_kind(kind: &str) -> Option<(&'static str, &'static str)> {
    match kind {
        "Deployment" => Some(("apps/v1", "ReplicaSet")),
        "StatefulSet" | "DaemonSet" => Some(("apps/v1", "ControllerRevision")),
        _ => None,
    }
}

/// Returns an object after a rollback to a revision, or to the one before the current. The error says why there is none.
pub(crate) fn roll_back(live: &Value, history: &[Value], revision: Option<i64>) -> Result<Value, String> {
    if live["spec"]["paused"] == true {
        return Err("its rollout is paused, so the rollback fails".to_owned());
    }
    let mut revisions: Vec<(i64, &Value)> =
        history.iter().filter(|item| is_owned(item, live)).filter_map(|item| Some((number_of(item)?, item))).collect();
    revisions.sort_by_key(|(number, _)| *number);
    let found = match revision {
        Some(wanted) => revisions.iter().find(|(number, _)| *number == wanted),
        None => revisions.iter().rev().find(|(number, _)| revisions.last().is_some_and(|(last, _)| number < last)),
    };
    let (_, earlier) = found.ok_or_else(|| match revision {
        Some(wanted) => format!("it has no revision {wanted}, so the rollback fails"),
        None => "it has no earlier revision, so the rollback fails".to_owned(),
    })?;
    let template = earlier.pointer("/spec/template").or_else(|| earlier.pointer("/data/spec/template"));
    let mut template = template.cloned().ok_or("the earlier revision has no pod template")?;
    if let Some(fields) = template.as_object_mut() {
        // The template of a ControllerRevision is a patch.
        fields.remove("$patch");
    }
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(TEMPLATE_HASH);
    }
    let mut object = live.clone();
    object["spec"]["template"] = template;
    if live["kind"] == "Deployment" {
        replace_annotations(&mut object, earlier);
    }
    Ok(object)
}

/// Gives a Deployment the annotations of the ReplicaSet, except for those that are about the object itself.
fn replace_annotations(object: &mut Value, earlier: &Value) {
    let annotations_of = |object: &Value| object.pointer("/metadata/annotations").and_then(Value::as_object).cloned();
    let is_kept = |key: &String| KEPT_ANNOTATIONS.contains(&key.as_str());
    let kept = annotations_of(object).unwrap_or_default().into_iter().filter(|(key, _)| is_kept(key));
    let taken = annotations_of(earlier).unwrap_or_default().into_iter().filter(|(key, _)| !is_kept(key));
    let annotations: Map<String, Value> = kept.chain(taken).collect();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        match annotations.is_empty() {
            true => drop(metadata.remove("annotations")),
            false => drop(metadata.insert("annotations".to_owned(), json!(annotations))),
        }
    }
}

fn number_of(item: &Value) -> Option<i64> {
    let annotated = || item["metadata"]["annotations"][REVISION].as_str()?.parse().ok();
    item["revision"].as_i64().or_else(annotated)
}

/// Whether an object belongs to another. A server without owner references lists only what belongs to it.
fn is_owned(item: &Value, owner: &Value) -> bool {
    let owners = item["metadata"]["ownerReferences"].as_array();
    owners.is_none_or(|owners| owners.iter().any(|reference| reference["uid"] == owner["metadata"]["uid"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica_set(revision: &str, image: &str, owner: &str) -> Value {
        json!({"kind": "ReplicaSet", "metadata": {"name": format!("web-{revision}"), "ownerReferences": [{"uid": owner}],
            "annotations": {REVISION: revision, "deployment.kubernetes.io/desired-replicas": "9",
                "kubernetes.io/change-cause": format!("image {image}")}},
            "spec": {"template": {"metadata": {"labels": {"app": "web", TEMPLATE_HASH: "abc"}},
                "spec": {"containers": [{"name": "app", "image": image}]}}}})
    }

    fn deployment() -> Value {
        json!({"kind": "Deployment", "metadata": {"name": "web", "uid": "u",
            "annotations": {REVISION: "11", "kubernetes.io/change-cause": "image web:3"}},
            "spec": {"replicas": 2, "template": {"metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "app", "image": "web:3"}]}}}})
    }

    #[test]
    fn deployment_gets_the_template_and_annotations_of_the_replica_set() {
        let history = [
            replica_set("2", "web:1", "u"),
            replica_set("11", "web:3", "u"),
            replica_set("10", "web:2", "u"),
            replica_set("10", "other:1", "another"),
        ];
        for (revision, image) in [(None, "web:2"), (Some(2), "web:1")] {
            let object = roll_back(&deployment(), &history, revision).unwrap();
            assert_eq!(object["spec"]["template"]["spec"]["containers"][0]["image"], image);
            assert_eq!(object["spec"]["template"]["metadata"]["labels"], json!({"app": "web"}));
            assert_eq!(
                object["metadata"]["annotations"],
                json!({REVISION: "11", "kubernetes.io/change-cause": format!("image {image}")})
            );
            assert_eq!(object["spec"]["replicas"], 2);
        }
        assert!(roll_back(&deployment(), &history, Some(7)).unwrap_err().contains("no revision 7"));
        assert!(roll_back(&deployment(), &history[..1], None).unwrap_err().contains("no earlier revision"));
        let mut paused = deployment();
        paused["spec"]["paused"] = json!(true);
        assert!(roll_back(&paused, &history, None).unwrap_err().contains("paused"));
    }

    #[test]
    fn stateful_set_gets_the_template_of_the_controller_revision() {
        let revision = |number: i64, image: &str| {
            json!({"kind": "ControllerRevision", "revision": number, "metadata": {"name": format!("db-{number}")},
                "data": {"spec": {"template": {"$patch": "replace", "spec": {"containers": [{"image": image}]}}}}})
        };
        let live = json!({"kind": "StatefulSet", "metadata": {"name": "db", "uid": "u"},
            "spec": {"template": {"spec": {"containers": [{"image": "db:2"}]}}}});
        let object = roll_back(&live, &[revision(2, "db:2"), revision(1, "db:1")], None).unwrap();
        assert_eq!(object["spec"]["template"], json!({"spec": {"containers": [{"image": "db:1"}]}}));
    }
}
