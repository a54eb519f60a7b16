//! Who set the fields of an object: `metadata.managedFields`, by which a server-side apply removes what its manager had set before
//! and the manifest leaves out.
//!
//! The format is described at
//! <https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.31/#fieldsv1-v1-meta>: a tree whose keys are `f:NAME` for a
//! field, `k:KEYS` for the item of a list that has these keys, and `v:VALUE` for a single value in a list.

use serde_json::{Map, Value};

/// The manager of kubectl's server-side apply.
const KUBECTL: &str = "kubectl";
/// The manager of kubectl's own apply, whose fields its server-side apply takes over.
const KUBECTL_CLIENT_SIDE: &str = "kubectl-client-side-apply";

/// A tree of fields.
type FieldSet = Map<String, Value>;

/// Whether it is known who set the fields of an object.
pub(super) fn has_managers(object: &Value) -> bool {
    object["metadata"]["managedFields"].as_array().is_some_and(|entries| !entries.is_empty())
}

/// Removes the fields of a live object that only this manager has set, and that its new manifest leaves out.
pub(super) fn remove_managed_fields_left_out(object: &mut Value, manager: &str, manifest: &Value) {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let is_own = |entry: &&Value| {
        let name = entry["manager"].as_str().unwrap_or_default();
        let is_applied = name == manager && entry["operation"] == "Apply";
        (is_applied || (manager == KUBECTL && name == KUBECTL_CLIENT_SIDE)) && entry.get("subresource").is_none()
    };
    let fields = |entry: &'_ Value| entry["fieldsV1"].as_object().cloned();
    let own: Vec<FieldSet> = entries.iter().filter(is_own).filter_map(fields).collect();
    let others: Vec<FieldSet> = entries.iter().filter(|entry| !is_own(entry)).filter_map(fields).collect();
    for fields in &own {
        let others: Vec<&FieldSet> = others.iter().collect();
        remove_left_out(object, fields, Some(manifest), &others);
    }
}

/// Removes what is in a tree of fields and neither in the manifest nor in the trees of others.
fn remove_left_out(value: &mut Value, owned: &FieldSet, manifest: Option<&Value>, others: &[&FieldSet]) {
    for (element, inner) in owned {
        let Some(inner) = inner.as_object().filter(|_| element != ".") else { continue };
        let is_shared = others.iter().any(|other| other.contains_key(element));
        let others: Vec<&FieldSet> = others.iter().filter_map(|other| other.get(element)?.as_object()).collect();
        match (element.split_once(':'), &mut *value) {
            (Some(("f", name)), Value::Object(fields)) => {
                let wanted = manifest.and_then(|manifest| manifest.get(name));
                let Some(field) = fields.get_mut(name) else { continue };
                remove_left_out(field, inner, wanted, &others);
                if wanted.is_none() && !is_shared && (inner.is_empty() || is_empty(field)) {
                    fields.remove(name);
                }
            }
            (Some(("k", keys)), Value::Array(items)) => {
                let Ok(Value::Object(keys)) = serde_json::from_str::<Value>(keys) else { continue };
                let find = |items: &[Value]| items.iter().position(|item| has_keys(item, &keys));
                let Some(at) = find(items) else { continue };
                let list = manifest.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                let wanted = find(list).map(|at| &list[at]);
                if wanted.is_none() && !is_shared {
                    items.remove(at);
                } else {
                    remove_left_out(&mut items[at], inner, wanted, &others);
                }
            }
            (Some(("v", single)), Value::Array(items)) => {
                let Ok(single) = serde_json::from_str::<Value>(single) else { continue };
                let is_wanted = manifest.and_then(Value::as_array).is_some_and(|list| list.contains(&single));
                if !is_wanted && !is_shared {
                    items.retain(|item| *item != single);
                }
            }
            _ => {}
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// Whether an item of a list has these keys. A manifest may leave out the protocol of a port.
fn has_keys(item: &Value, keys: &Map<String, Value>) -> bool {
    keys.iter().all(|(key, value)| match item.get(key) {
        Some(of_item) => of_item == value,
        None => key == "protocol" && value == "TCP",
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn live() -> Value {
        json!({"kind": "Deployment", "metadata": {"name": "web", "labels": {"app": "web", "team": "a", "track": "x"},
            "finalizers": ["a/one", "b/two"],
            "managedFields": [
                {"manager": "kubectl", "operation": "Apply", "fieldsV1": {
                    "f:metadata": {"f:labels": {"f:app": {}, "f:team": {}, "f:track": {}},
                        "f:finalizers": {"v:\"a/one\"": {}}},
                    "f:spec": {"f:replicas": {}, "f:paused": {}, "f:template": {"f:spec": {"f:containers": {
                        "k:{\"name\":\"app\"}": {".": {}, "f:image": {}, "f:name": {}, "f:env": {
                            "k:{\"name\":\"A\"}": {".": {}, "f:name": {}, "f:value": {}}},
                            "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}},
                        "k:{\"name\":\"proxy\"}": {".": {}, "f:image": {}, "f:name": {}}}}}}}},
                {"manager": "ops", "operation": "Update", "fieldsV1": {
                    "f:metadata": {"f:labels": {"f:team": {}}}, "f:spec": {"f:replicas": {}}}}]},
            "spec": {"replicas": 3, "paused": true, "template": {"spec": {"containers": [
                {"name": "app", "image": "web:1", "env": [{"name": "A", "value": "1"}],
                    "ports": [{"containerPort": 80, "protocol": "TCP"}]},
                {"name": "proxy", "image": "proxy:1"}]}}}})
    }

    #[test]
    fn fields_of_the_manager_that_the_manifest_leaves_out_are_removed() {
        let manifest = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"template": {"spec": {"containers": [
            {"name": "app", "image": "web:2", "ports": [{"containerPort": 80}]}]}}}});
        let mut object = live();
        remove_managed_fields_left_out(&mut object, "kubectl", &manifest);
        assert_eq!(
            object["metadata"]["labels"],
            json!({"app": "web", "team": "a"}),
            "another manager has set the team"
        );
        assert_eq!(object["metadata"]["finalizers"], json!(["b/two"]));
        let containers =
            json!([{"name": "app", "image": "web:1", "ports": [{"containerPort": 80, "protocol": "TCP"}]}]);
        assert_eq!(object["spec"], json!({"replicas": 3, "template": {"spec": {"containers": containers}}}));
    }

    #[test]
    fn fields_of_other_managers_stay() {
        let mut object = live();
        remove_managed_fields_left_out(&mut object, "flux", &json!({"metadata": {}}));
        assert_eq!(object, live());
        assert!(has_managers(&object) && !has_managers(&json!({"metadata": {}})));
    }

    #[test]
    fn server_side_apply_of_kubectl_takes_over_what_kubectl_applied() {
        let mut object = json!({"metadata": {"managedFields": [
            {"manager": "kubectl-client-side-apply", "operation": "Update", "fieldsV1": {"f:data": {"f:a": {}, "f:b": {}}}}]},
            "data": {"a": "1", "b": "2"}});
        remove_managed_fields_left_out(&mut object, "kubectl", &json!({"data": {"a": "1"}}));
        assert_eq!(object["data"], json!({"a": "1"}));
    }
}
