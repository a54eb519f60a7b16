//! What a call makes of an object, where no dry run can tell: patches and manifests merged over the live object, as kubectl
//! and the API server do it.

use serde_json::{Map, Value, json};

use super::{
    cluster_objects::last_applied,
    field_ownership::{has_managers, remove_managed_fields_left_out},
    strategic_merge::{ListMerge, merge_strategically, remove_fields_left_out},
};

/// Annotation with which `kubectl rollout restart` changes a pod template.
const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";

/// A change of one object.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ObjectEdit {
    /// A manifest is applied.
    Apply(Value),
    /// A manifest is applied by the API server, which knows the manager of each field, and removes what this manager had set and the
    /// manifest leaves out.
    ApplyOnServer { manifest: Value, field_manager: String },
    /// The object is created.
    Create(Value),
    /// The object becomes this one.
    Replace(Value),
    /// A JSON merge patch (RFC 7386).
    MergePatch(Value),
    /// A strategic merge patch: lists are merged by the key of their items.
    StrategicPatch(Value),
    /// A JSON patch (RFC 6902), as far as it adds, replaces and removes.
    JsonPatch(Value),
    /// Another number of replicas.
    SetReplicas(i64),
    /// Another image for a container, or for the only container.
    SetImage { container: Option<String>, image: String },
    /// The pods are replaced.
    Restart,
    /// The pod template of an earlier revision, which is read apart, takes the place of the current one.
    RollBack(Option<i64>),
    /// The object is deleted.
    Delete,
    /// The object stays as it is.
    Keep,
}

impl ObjectEdit {
    /// Returns the object after the edit; `None` if it is gone then. The error says why that is not known.
    pub(crate) fn apply_to(&self, live: Option<&Value>) -> Result<Option<Value>, String> {
        if let Self::Delete = self {
            return Ok(None);
        }
        if let (
            Self::Apply(manifest)
            | Self::ApplyOnServer { manifest, .. }
            | Self::Create(manifest)
            | Self::Replace(manifest),
            None,
        ) = (self, live)
        {
            return Ok(Some(manifest.clone()));
        }
        if let Self::Create(_) = self {
            return Err("it exists already, so the call fails".to_owned());
        }
        let live = live.ok_or("there is no such object")?;
        let mut object = live.clone();
        match self {
            Self::Create(_) | Self::Delete | Self::Keep => {}
            Self::Replace(manifest) => object = manifest.clone(),
            Self::Apply(manifest) => {
                let lists = ListMerge::of_object(live);
                if let Some(before) = last_applied(live) {
                    remove_fields_left_out(&mut object, &Value::Object(before), manifest, lists);
                }
                merge_strategically(&mut object, manifest, lists)?;
            }
            Self::ApplyOnServer { manifest, field_manager } => {
                remove_managed_fields_left_out(&mut object, field_manager, manifest);
                merge_strategically(&mut object, manifest, ListMerge::of_applied_object(live))?;
            }
            Self::MergePatch(patch) => merge_json(&mut object, patch),
            Self::StrategicPatch(patch) => merge_strategically(&mut object, patch, ListMerge::of_object(live))?,
            Self::JsonPatch(operations) => {
                for operation in operations.as_array().ok_or("a JSON patch is a list of operations")? {
                    apply_operation(&mut object, operation)?;
                }
            }
            Self::SetReplicas(replicas) => merge_json(&mut object, &json!({"spec": {"replicas": replicas}})),
            Self::SetImage { container, image } => {
                let containers = object.pointer_mut("/spec/template/spec/containers").and_then(Value::as_array_mut);
                let containers = containers.ok_or("it has no containers")?;
                let is_only = containers.len() == 1;
                let found = containers.iter_mut().find(|item| match container {
                    Some(name) => item["name"] == name.as_str(),
                    None => is_only,
                });
                found.ok_or("it has no such container")?["image"] = json!(image);
            }
            Self::RollBack(_) => return Err("the earlier revision is not known".to_owned()),
            Self::Restart => {
                let annotations = json!({RESTARTED_AT: "(the time of the call)"});
                let patch = json!({"spec": {"template": {"metadata": {"annotations": annotations}}}});
                merge_json(&mut object, &patch);
            }
        }
        Ok(Some(object))
    }
}

impl ObjectEdit {
    /// Returns a sentence on what [`Self::apply_to`] cannot know of a live object.
    pub(crate) fn limitation(&self, live: &Value) -> Option<&'static str> {
        matches!(self, Self::ApplyOnServer { .. } if !has_managers(live)).then_some(
            "Fields that this server has set before and that the manifest leaves out are removed, too; the diff does not \
             show them.",
        )
    }
}

/// Merges a JSON merge patch.
fn merge_json(object: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let Value::Object(fields) = object else { return };
    for (key, value) in patch {
        if value.is_null() {
            fields.remove(key);
        } else if fields.contains_key(key) || !only_removes(value) {
            merge_json(fields.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Whether a patch has nothing but fields to remove.
fn only_removes(patch: &Value) -> bool {
    patch
        .as_object()
        .is_some_and(|fields| !fields.is_empty() && fields.values().all(|value| value.is_null() || only_removes(value)))
}

/// Applies one operation of a JSON patch.
fn apply_operation(object: &mut Value, operation: &Value) -> Result<(), String> {
    let path = operation["path"].as_str().ok_or("an operation has no path")?;
    let (parent, key) = path.rsplit_once('/').ok_or("an operation is about the whole object")?;
    let key = key.replace("~1", "/").replace("~0", "~");
    let missing = || format!("the object has no {path}");
    let parent = object.pointer_mut(parent).ok_or_else(missing)?;
    let value = operation.get("value").cloned();
    match (operation["op"].as_str().unwrap_or_default(), parent) {
        ("add" | "replace", Value::Object(fields)) => {
            fields.insert(key, value.ok_or("an operation has no value")?);
        }
        ("remove", Value::Object(fields)) => drop(fields.remove(&key).ok_or_else(missing)?),
        (op @ ("add" | "replace" | "remove"), Value::Array(items)) => {
            let at = if key == "-" { items.len() } else { key.parse().map_err(|_| missing())? };
            match (op, at < items.len()) {
                ("add", _) if at <= items.len() => items.insert(at, value.ok_or("an operation has no value")?),
                ("replace", true) => items[at] = value.ok_or("an operation has no value")?,
                ("remove", true) => drop(items.remove(at)),
                _ => return Err(missing()),
            }
        }
        ("test", _) => {}
        (other, _) => return Err(format!("the operation {other:?} is not known")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment() -> Value {
        json!({"kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": 2, "template": {"spec": {
            "containers": [{"name": "app", "image": "web:1", "env": [{"name": "A", "value": "1"}]},
                {"name": "proxy", "image": "proxy:1"}]}}}})
    }

    #[test]
    fn edits_change_what_they_name_and_nothing_else() {
        let containers = "/spec/template/spec/containers";
        let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "app", "image": "web:2"}]}}}});
        let table: Vec<(ObjectEdit, String, Value)> = vec![
            (ObjectEdit::SetReplicas(0), "/spec/replicas".into(), json!(0)),
            (ObjectEdit::StrategicPatch(patch.clone()), format!("{containers}/0/image"), json!("web:2")),
            (ObjectEdit::StrategicPatch(patch.clone()), format!("{containers}/0/env/0/value"), json!("1")),
            (ObjectEdit::StrategicPatch(patch.clone()), format!("{containers}/1/image"), json!("proxy:1")),
            (ObjectEdit::MergePatch(patch.clone()), format!("{containers}/1"), Value::Null),
            (ObjectEdit::Apply(patch), format!("{containers}/1/name"), json!("proxy")),
            (
                ObjectEdit::JsonPatch(json!([{"op": "replace", "path": "/spec/replicas", "value": 7},
                    {"op": "remove", "path": format!("{containers}/0/env")},
                    {"op": "add", "path": "/metadata/labels", "value": {"a/b": "c"}}])),
                "/metadata/labels/a~1b".into(),
                json!("c"),
            ),
            (
                ObjectEdit::SetImage { container: Some("proxy".into()), image: "proxy:9".into() },
                format!("{containers}/1/image"),
                json!("proxy:9"),
            ),
        ];
        for (edit, path, expected) in table {
            let edited = edit.apply_to(Some(&deployment())).unwrap().unwrap();
            assert_eq!(edited.pointer(&path).unwrap_or(&Value::Null), &expected, "{edit:?} {path}");
        }
    }

    #[test]
    fn server_side_apply_replaces_selectors_as_a_whole() {
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
            "spec": {"type": "ClusterIP", "selector": {"app": "web", "track": "canary"}}});
        let manifest = json!({"spec": {"selector": {"app": "web"}}});
        let selector = |edit: ObjectEdit| edit.apply_to(Some(&service)).unwrap().unwrap()["spec"].clone();
        let on_server = |manifest: Value| ObjectEdit::ApplyOnServer { manifest, field_manager: "kubectl".into() };
        let applied = selector(on_server(manifest.clone()));
        assert_eq!(applied, json!({"type": "ClusterIP", "selector": {"app": "web"}}));
        assert_eq!(selector(ObjectEdit::StrategicPatch(manifest)), service["spec"]);
        let env = |source: &str, key: &str| json!([{"name": "A", "valueFrom": {source: {"name": "c", "key": key}}}]);
        let pod = |env: Value| json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "a", "env": env}]}});
        let edit = on_server(pod(env("configMapKeyRef", "new")));
        let live = pod(env("configMapKeyRef", "old"));
        assert_eq!(edit.apply_to(Some(&live)), Ok(Some(pod(env("configMapKeyRef", "new")))));
        assert!(edit.limitation(&live).is_some() && ObjectEdit::Delete.limitation(&live).is_none());
        let mut managed = live;
        managed["metadata"]["managedFields"] = json!([{"manager": "kubectl", "operation": "Apply", "fieldsV1": {}}]);
        assert_eq!(edit.limitation(&managed), None);
    }

    #[test]
    fn patch_that_only_removes_adds_nothing() {
        let node = json!({"kind": "Node", "metadata": {"name": "n"}});
        let uncordon = ObjectEdit::MergePatch(json!({"spec": {"unschedulable": null}}));
        assert_eq!(uncordon.apply_to(Some(&node)), Ok(Some(node.clone())));
    }

    #[test]
    fn field_that_the_new_manifest_leaves_out_is_removed() {
        let mut live = deployment();
        let before = json!({"spec": {"template": {"spec": {"containers": [
            {"name": "app", "image": "web:1", "env": [{"name": "A", "value": "1"}]}, {"name": "proxy", "image": "proxy:1"}]}}}});
        live["metadata"]["annotations"] = json!({super::super::cluster_objects::LAST_APPLIED: before.to_string()});
        let manifest = json!({"spec": {"template": {"spec": {"containers": [{"name": "app", "image": "web:2"}]}}}});
        let edited = ObjectEdit::Apply(manifest).apply_to(Some(&live)).unwrap().unwrap();
        let containers = &edited["spec"]["template"]["spec"]["containers"];
        assert_eq!(containers, &json!([{"name": "app", "image": "web:2"}]));
        assert_eq!(edited["spec"]["replicas"], json!(2), "what was never applied stays");
    }

    #[test]
    fn edit_of_a_missing_object_is_an_error_unless_it_creates_it() {
        assert!(ObjectEdit::SetReplicas(1).apply_to(None).is_err());
        assert_eq!(ObjectEdit::Delete.apply_to(None), Ok(None));
        assert_eq!(ObjectEdit::Apply(json!({"a": 1})).apply_to(None), Ok(Some(json!({"a": 1}))));
        let image = ObjectEdit::SetImage { container: None, image: "x".into() };
        assert!(image.apply_to(Some(&deployment())).is_err(), "two containers, and none is named");
    }
}
