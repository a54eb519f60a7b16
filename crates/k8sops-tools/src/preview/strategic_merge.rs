//! Strategic merge: how a manifest or a strategic merge patch changes an object.
//!
//! Which lists are merged, and by which key, is part of the API's types (`patchMergeKey` and `patchStrategy` in `k8s.io/api`), so
//! it is decided by the name of the field. All other lists are replaced as a whole, however their items look. A diff that merged
//! a list that the API server replaces would hide what is removed.

use serde_json::{Map, Value};

/// The lists that are merged, with the keys of their items. The first key that an item has is the one.
const MERGED_LISTS: &[(&str, &[&str])] = &[
    ("conditions", &["type"]),
    ("containers", &["name"]),
    ("env", &["name"]),
    ("ephemeralContainers", &["name"]),
    ("hostAliases", &["ip"]),
    ("imagePullSecrets", &["name"]),
    ("initContainers", &["name"]),
    ("matchConditions", &["name"]),
    ("ownerReferences", &["uid"]),
    ("ports", PORT_KEYS),
    ("resourceClaims", &["name"]),
    ("schedulingGates", &["name"]),
    ("secrets", &["name"]),
    ("topologySpreadConstraints", &["topologyKey"]),
    ("variables", &["name"]),
    ("volumeDevices", &["devicePath"]),
    ("volumeMounts", &["mountPath"]),
    ("volumes", &["name"]),
    ("webhooks", &["name"]),
];
/// The keys of ports, of which there can be one for each protocol.
const PORT_KEYS: &[&str] = &["containerPort", "port"];
/// The lists of single values that are merged.
const MERGED_VALUE_LISTS: &[&str] = &["finalizers"];
/// The maps that a server-side apply replaces as a whole (`mapType` and `structType` of `atomic` in `k8s.io/api`).
const ATOMIC_MAPS: &[&str] = &[
    "configMapKeyRef",
    "fieldRef",
    "labelSelector",
    "namespaceSelector",
    "nodeSelector",
    "objectSelector",
    "podSelector",
    "resourceFieldRef",
    "secretKeyRef",
    "selector",
];
/// The API groups whose types are built in. Those of custom resources have no merge keys.
const BUILT_IN_GROUPS: &[&str] = &[
    "",
    "admissionregistration.k8s.io",
    "apps",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "extensions",
    "flowcontrol.apiserver.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
];

/// What happens to the lists and maps of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListMerge {
    /// Those of [`MERGED_LISTS`] are merged.
    ByKey,
    /// Those of [`MERGED_LISTS`] are merged, and [`ATOMIC_MAPS`] are replaced as a whole: a server-side apply.
    OnServer,
    /// All are replaced as a whole: the object is a custom resource.
    Never,
}

impl ListMerge {
    /// Returns what happens to the lists of an object of this kind.
    pub(super) fn of_object(object: &Value) -> Self {
        let api_version = object["apiVersion"].as_str().unwrap_or_default();
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        if BUILT_IN_GROUPS.contains(&group) { Self::ByKey } else { Self::Never }
    }

    /// Returns what a server-side apply does with the lists of an object of this kind.
    pub(super) fn of_applied_object(object: &Value) -> Self {
        match Self::of_object(object) {
            Self::ByKey => Self::OnServer,
            other => other,
        }
    }

    /// Returns the key by which the items of a list are told apart; `None` if the list is replaced as a whole.
    fn key_of(self, field: &str, items: &[Value]) -> Option<&'static str> {
        let (_, keys) = MERGED_LISTS.iter().find(|(list, _)| self != Self::Never && *list == field)?;
        keys.iter().copied().find(|key| items.iter().any(|item| item.get(key).is_some()))
    }
}

/// Merges a manifest or a strategic merge patch. The error says what is not known.
pub(super) fn merge_strategically(object: &mut Value, patch: &Value, lists: ListMerge) -> Result<(), String> {
    let Value::Object(patch) = patch else {
        *object = patch.clone();
        return Ok(());
    };
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let Value::Object(fields) = object else { return Ok(()) };
    apply_directives(fields, patch)?;
    for (field, value) in patch.iter().filter(|(field, _)| !field.starts_with('$')) {
        if value.is_null() || value.get("$patch").and_then(Value::as_str) == Some("delete") {
            fields.remove(field);
            continue;
        }
        let current = fields.entry(field.clone()).or_insert(Value::Null);
        match (current, value) {
            (current, Value::Object(_)) if lists == ListMerge::OnServer && ATOMIC_MAPS.contains(&field.as_str()) => {
                *current = value.clone();
            }
            (Value::Array(items), Value::Array(patch)) => merge_list(items, patch, field, lists)?,
            (current, Value::Array(patch)) => {
                let mut items = Vec::new();
                merge_list(&mut items, patch, field, lists)?;
                *current = Value::Array(items);
            }
            (current, _) => merge_strategically(current, value, lists)?,
        }
    }
    Ok(())
}

/// Applies the directives of a mapping. One that is not known could change anything.
fn apply_directives(fields: &mut Map<String, Value>, patch: &Map<String, Value>) -> Result<(), String> {
    for (directive, value) in patch.iter().filter(|(field, _)| field.starts_with('$')) {
        match (directive.split_once('/').unwrap_or((directive, "")), value) {
            (("$patch", ""), Value::String(strategy)) if strategy == "replace" => fields.clear(),
            (("$patch", ""), Value::String(strategy)) if strategy == "merge" => {}
            (("$retainKeys", ""), Value::Array(keys)) => {
                fields.retain(|field, _| keys.iter().any(|key| key == field));
            }
            (("$deleteFromPrimitiveList", list), Value::Array(removed)) => {
                if let Some(Value::Array(items)) = fields.get_mut(list) {
                    items.retain(|item| !removed.contains(item));
                }
            }
            // It decides only in which order the items stand.
            (("$setElementOrder", _), Value::Array(_)) => {}
            _ => return Err(format!("the directive {directive} of the patch is not known")),
        }
    }
    Ok(())
}

fn merge_list(items: &mut Vec<Value>, patch: &[Value], field: &str, lists: ListMerge) -> Result<(), String> {
    if lists != ListMerge::Never && MERGED_VALUE_LISTS.contains(&field) {
        let added: Vec<Value> = patch.iter().filter(|value| !items.contains(value)).cloned().collect();
        items.extend(added);
        return Ok(());
    }
    let is_directive = |item: &Value| item.as_object().is_some_and(|item| item.keys().any(|key| key.starts_with('$')));
    let key = lists.key_of(field, patch).or_else(|| lists.key_of(field, items));
    let Some(key) = key else {
        if patch.iter().any(is_directive) {
            return Err(format!("the list {field} is replaced as a whole, and the patch has a directive in it"));
        }
        patch.clone_into(items);
        return Ok(());
    };
    for item in patch {
        if item.get(key).is_none() {
            return Err(format!("an item of {field} has no {key}"));
        }
        let at = items.iter().position(|current| is_same_item(current, item, key));
        match (item.get("$patch").and_then(Value::as_str), at) {
            (Some("delete"), Some(at)) => drop(items.remove(at)),
            (Some("delete"), None) => {}
            (_, Some(at)) => merge_strategically(&mut items[at], item, lists)?,
            (_, None) => {
                let mut added = Value::Null;
                merge_strategically(&mut added, item, lists)?;
                items.push(added);
            }
        }
    }
    Ok(())
}

/// Whether two items of a list are the same. A port is another one with another protocol.
fn is_same_item(a: &Value, b: &Value, key: &str) -> bool {
    let protocol = |item: &Value| item.get("protocol").and_then(Value::as_str).unwrap_or("TCP").to_owned();
    a.get(key).is_some() && a.get(key) == b.get(key) && (!PORT_KEYS.contains(&key) || protocol(a) == protocol(b))
}

/// Removes what the manifest that was applied before has and the new one has not.
pub(super) fn remove_fields_left_out(object: &mut Value, before: &Value, manifest: &Value, lists: ListMerge) {
    let (Value::Object(fields), Value::Object(before), Value::Object(manifest)) = (object, before, manifest) else {
        return;
    };
    for (field, value) in before {
        match (manifest.get(field), fields.get_mut(field)) {
            (None, Some(_)) => drop(fields.remove(field)),
            (Some(Value::Array(new)), Some(Value::Array(items))) => {
                let Some(old) = value.as_array() else { continue };
                remove_items_left_out(items, old, new, field, lists);
            }
            (Some(new), Some(current)) => remove_fields_left_out(current, value, new, lists),
            (_, None) => {}
        }
    }
}

fn remove_items_left_out(items: &mut Vec<Value>, before: &[Value], manifest: &[Value], field: &str, lists: ListMerge) {
    if lists != ListMerge::Never && MERGED_VALUE_LISTS.contains(&field) {
        items.retain(|item| manifest.contains(item) || !before.contains(item));
        return;
    }
    let Some(key) = lists.key_of(field, before) else { return };
    for old in before {
        let at = items.iter().position(|item| is_same_item(item, old, key));
        match (manifest.iter().find(|item| is_same_item(item, old, key)), at) {
            (None, Some(at)) => drop(items.remove(at)),
            (Some(new), Some(at)) => remove_fields_left_out(&mut items[at], old, new, lists),
            (_, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merged(object: &Value, patch: &Value) -> Result<Value, String> {
        let mut object = object.clone();
        let lists = ListMerge::of_object(&object);
        merge_strategically(&mut object, patch, lists).map(|()| object)
    }

    #[test]
    fn lists_are_merged_only_where_the_api_merges_them() {
        let table = [
            // The subjects of a binding have names, and are replaced as a whole nevertheless.
            (
                json!({"apiVersion": "rbac.authorization.k8s.io/v1", "subjects": [{"name": "anna"}]}),
                json!({"subjects": [{"name": "ben"}]}),
                json!([{"name": "ben"}]),
            ),
            (
                json!({"apiVersion": "v1", "containers": [{"name": "app", "image": "a:1"}, {"name": "proxy"}]}),
                json!({"containers": [{"name": "app", "image": "a:2"}]}),
                json!([{"name": "app", "image": "a:2"}, {"name": "proxy"}]),
            ),
            (
                json!({"apiVersion": "v1", "tolerations": [{"key": "a"}, {"key": "b"}]}),
                json!({"tolerations": [{"key": "a"}]}),
                json!([{"key": "a"}]),
            ),
            // A custom resource has no merge keys.
            (
                json!({"apiVersion": "example.com/v1", "containers": [{"name": "app"}, {"name": "proxy"}]}),
                json!({"containers": [{"name": "app"}]}),
                json!([{"name": "app"}]),
            ),
            (
                json!({"apiVersion": "v1", "ports": [{"port": 53}]}),
                json!({"ports": [{"port": 53, "protocol": "UDP"}]}),
                json!([{"port": 53}, {"port": 53, "protocol": "UDP"}]),
            ),
            (json!({"apiVersion": "v1", "finalizers": ["a"]}), json!({"finalizers": ["b"]}), json!(["a", "b"])),
        ];
        for (object, patch, expected) in table {
            let list = patch.as_object().unwrap().keys().next().unwrap().clone();
            assert_eq!(merged(&object, &patch).unwrap()[&list], expected, "{patch}");
        }
    }

    #[test]
    fn directives_change_the_object_or_are_an_error() {
        let object = json!({"apiVersion": "apps/v1", "strategy": {"type": "RollingUpdate", "rollingUpdate": {}},
            "finalizers": ["a", "b"], "env": [{"name": "A"}, {"name": "B"}], "args": ["x"]});
        for (patch, field, expected) in [
            (json!({"strategy": {"$patch": "delete"}}), "strategy", Value::Null),
            (json!({"strategy": {"$patch": "replace", "type": "Recreate"}}), "strategy", json!({"type": "Recreate"})),
            (
                json!({"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}),
                "strategy",
                json!({"type": "Recreate"}),
            ),
            (json!({"$deleteFromPrimitiveList/finalizers": ["a"]}), "finalizers", json!(["b"])),
            (json!({"env": [{"name": "A", "$patch": "delete"}]}), "env", json!([{"name": "B"}])),
            (json!({"$setElementOrder/env": [{"name": "B"}], "env": [{"name": "C"}]}), "args", json!(["x"])),
        ] {
            let merged = merged(&object, &patch).unwrap();
            assert_eq!(merged.get(field).unwrap_or(&Value::Null), &expected, "{patch}");
        }
        for patch in [
            json!({"strategy": {"$patch": "clear"}}),
            json!({"env": [{"$patch": "replace"}, {"name": "C"}]}),
            json!({"args": [{"$patch": "replace"}]}),
            json!({"$unknown": 1}),
        ] {
            assert!(merged(&object, &patch).is_err(), "{patch}");
        }
    }

    #[test]
    fn directives_never_stand_in_what_is_added() {
        let object = json!({"apiVersion": "apps/v1", "spec": {}});
        let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"},
            "containers": [{"name": "a", "env": [{"name": "B", "$patch": "delete"}]}]}});
        let spec = merged(&object, &patch).unwrap()["spec"].take();
        assert_eq!(spec, json!({"strategy": {"type": "Recreate"}, "containers": [{"name": "a", "env": []}]}));
    }
}
