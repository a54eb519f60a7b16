//! Objects in what tools print, and as people compare them.

use serde_json::{Map, Value};

/// Fields of `metadata` that the cluster sets, and that no change of a person is about.
const SERVER_METADATA: &[&str] =
    &["managedFields", "uid", "resourceVersion", "generation", "creationTimestamp", "selfLink"];
/// A copy of the manifest that was applied last, which says nothing that the object does not.
pub(super) const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Names an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ObjectRef {
    /// `apps/v1`; empty if it is not known.
    pub(crate) api_version: String,
    /// The kind, or what the caller calls it: `Deployment`, `deploy`.
    pub(crate) kind: String,
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
}

impl ObjectRef {
    /// Returns the name of an object; `None` if the value is no object of a cluster.
    pub(crate) fn from_object(object: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let metadata = &object["metadata"];
        Some(Self {
            api_version: text(&object["apiVersion"])?,
            kind: text(&object["kind"])?,
            namespace: text(&metadata["namespace"]).filter(|namespace| !namespace.is_empty()),
            name: text(&metadata["name"]).or_else(|| text(&metadata["generateName"]).map(|name| name + "*"))?,
        })
    }

    /// `shop/checkout`, or the name alone.
    pub(crate) fn path(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{namespace}/{}", self.name),
            None => self.name.clone(),
        }
    }
}

/// Returns the objects in a text: JSON or YAML, one or several documents, lists taken apart. `None` if anything in the text
/// is no object of a cluster. Warnings of kubectl among the lines do not count.
pub(crate) fn parse_objects(text: &str) -> Option<Vec<Value>> {
    let documents: Vec<Value> = match serde_json::from_str::<Value>(text) {
        Ok(value) => vec![value],
        Err(_) if !text.contains("kind:") && !text.contains("\"kind\"") => return None,
        Err(_) => {
            let text = without_warnings(text);
            // `kubectl label` prints several objects without anything between them.
            let parsed = serde_saphyr::from_multiple(&text).or_else(|_| serde_saphyr::from_multiple(&separated(&text)));
            parsed.ok()?
        }
    };
    let mut objects = Vec::new();
    for document in documents {
        collect_objects(document, &mut objects)?;
    }
    (!objects.is_empty()).then_some(objects)
}

/// Returns a text without the warnings that kubectl prints beside its output. No line of an object begins like them.
fn without_warnings(text: &str) -> String {
    let is_log = |line: &str| {
        let mut chars = line.chars();
        matches!(chars.next(), Some('I' | 'W' | 'E'))
            && line.len() > 5
            && chars.take(4).all(|char| char.is_ascii_digit())
    };
    let is_warning = |line: &str| {
        ["Warning: ", "WARNING: ", "label \"", "Flag --"].iter().any(|start| line.starts_with(start)) || is_log(line)
    };
    text.split_inclusive('\n').filter(|line| !is_warning(line)).collect()
}

/// Returns a text with the mark of a new document before each object.
fn separated(text: &str) -> String {
    let lines = text.split_inclusive('\n');
    lines.map(|line| if line.starts_with("apiVersion:") { format!("---\n{line}") } else { line.to_owned() }).collect()
}

/// Whether a text is a list of objects without any.
pub(crate) fn is_empty_list(text: &str) -> bool {
    let text = text.trim();
    text.is_empty()
        || text.starts_with("No resources found")
        || serde_saphyr::from_str::<Value>(text)
            .is_ok_and(|list| list.get("items").and_then(Value::as_array).is_some_and(Vec::is_empty))
}

/// Returns the names in a list of objects: objects, a table with a column `NAME`, or lines like `pod/web-0`.
pub(crate) fn parse_names(text: &str) -> Vec<String> {
    if let Some(objects) = parse_objects(text) {
        return objects.iter().filter_map(|object| object["metadata"]["name"].as_str().map(str::to_owned)).collect();
    }
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let column = text.lines().next().and_then(|head| head.split_whitespace().position(|title| title == "NAME"));
    match column {
        Some(column) => {
            lines.next();
            lines.filter_map(|line| line.split_whitespace().nth(column).map(str::to_owned)).collect()
        }
        None => lines.filter_map(|line| Some(line.trim().split_once('/')?.1.to_owned())).collect(),
    }
}

fn collect_objects(value: Value, objects: &mut Vec<Value>) -> Option<()> {
    match value {
        Value::Null => Some(()),
        Value::Array(items) => items.into_iter().try_for_each(|item| collect_objects(item, objects)),
        Value::Object(mut fields) if fields.get("items").is_some_and(Value::is_array) => {
            collect_objects(fields.remove("items")?, objects)
        }
        object @ Value::Object(_) => {
            ObjectRef::from_object(&object)?;
            objects.push(object);
            Some(())
        }
        _ => None,
    }
}

/// Removes what the cluster sets: the status, and metadata that no change is about.
pub(crate) fn remove_server_fields(object: &mut Value) {
    let Value::Object(fields) = object else { return };
    fields.remove("status");
    let Some(Value::Object(metadata)) = fields.get_mut("metadata") else { return };
    for key in SERVER_METADATA {
        metadata.remove(*key);
    }
    if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
        annotations.remove(LAST_APPLIED);
    }
    // An empty mapping says as much as none.
    for key in ["annotations", "labels"] {
        if metadata.get(key).and_then(Value::as_object).is_some_and(Map::is_empty) {
            metadata.remove(key);
        }
    }
}

/// Returns an object as YAML, with its fields in the order in which kubectl prints them.
pub(crate) fn to_yaml(object: &Value) -> String {
    let options = serde_saphyr::ser_options! { folded_wrap_chars: usize::MAX };
    serde_saphyr::to_string_with_options(object, options).unwrap_or_else(|_| object.to_string() + "\n")
}

/// Returns the selector by which an object chooses its pods, as kubectl takes it: `app=web,tier in (a,b)`.
pub(crate) fn pod_selector(object: &Value) -> Option<String> {
    let selector = object.pointer("/spec/selector")?;
    let mut terms: Vec<String> = Vec::new();
    for (key, value) in selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten() {
        terms.push(format!("{key}={}", value.as_str()?));
    }
    for expression in selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten() {
        let key = expression["key"].as_str()?;
        let values: Vec<&str> =
            expression["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        terms.push(match expression["operator"].as_str()? {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            _ => return None,
        });
    }
    (!terms.is_empty()).then(|| terms.join(","))
}

/// Returns the text in an output that is a JSON object around it, as servers make that report what a program printed. Any other
/// output is returned as it is.
pub(crate) fn unwrap_output(text: String) -> String {
    const TEXT_KEYS: &[&str] = &["stdout", "output", "result", "content", "text"];
    if !text.trim_start().starts_with('{') {
        return text;
    }
    let Ok(Value::Object(mut fields)) = serde_json::from_str::<Value>(&text) else { return text };
    if fields.contains_key("kind") || fields.contains_key("manifest") {
        return text;
    }
    let key = TEXT_KEYS.iter().find(|key| fields.get(**key).is_some_and(Value::is_string));
    match key.and_then(|key| fields.remove(*key)) {
        Some(Value::String(inner)) => inner,
        _ => text,
    }
}

/// Returns the manifest that was applied last.
pub(super) fn last_applied(object: &Value) -> Option<Map<String, Value>> {
    let text = object["metadata"]["annotations"][LAST_APPLIED].as_str()?;
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_found_in_lists_documents_and_json() {
        let names = |text: &str| {
            parse_objects(text).map(|objects| {
                objects.iter().filter_map(|object| Some(ObjectRef::from_object(object)?.path())).collect::<Vec<_>>()
            })
        };
        let one = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: x}\n";
        assert_eq!(names(one).unwrap(), ["x/a"]);
        assert_eq!(names(&format!("---\n{one}---\n{one}")).unwrap(), ["x/a", "x/a"]);
        let list =
            r#"{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Node","metadata":{"name":"n"}}]}"#;
        assert_eq!(names(list).unwrap(), ["n"]);
        let warned =
            format!("Warning: x is deprecated\nW1130 01:00:00.1 1 a.go:1] b\n{one}{one}label \"env\" not found.\n");
        assert_eq!(names(&warned).unwrap(), ["x/a", "x/a"]);
        for text in ["", "deployment.apps/web scaled (server dry run)\n", "kind: of a mess", "[1, 2]", "kind: Pod\n"] {
            assert_eq!(names(text), None, "{text:?}");
        }
    }

    #[test]
    fn selectors_are_written_as_kubectl_takes_them() {
        let object = serde_json::json!({"spec": {"selector": {"matchLabels": {"app": "web"},
            "matchExpressions": [{"key": "tier", "operator": "In", "values": ["a", "b"]}, {"key": "x", "operator": "Exists"}]}}});
        assert_eq!(pod_selector(&object).unwrap(), "app=web,tier in (a,b),x");
        assert_eq!(pod_selector(&serde_json::json!({"spec": {"selector": {}}})), None);
    }

    #[test]
    fn output_in_a_report_of_the_server_is_taken_out() {
        let plain = "kind: Pod\n".to_owned();
        assert_eq!(unwrap_output(plain.clone()), plain);
        assert_eq!(unwrap_output(r#"{"success": true, "stdout": "kind: Pod\n", "stderr": ""}"#.to_owned()), plain);
        let object = r#"{"kind": "Pod", "output": "x"}"#;
        assert_eq!(unwrap_output(object.to_owned()), object);
        assert!(is_empty_list("apiVersion: v1\nitems: []\nkind: List\n") && is_empty_list("\n"));
        assert!(!is_empty_list("kind: Pod\n"));
    }

    #[test]
    fn yaml_shows_the_object_without_what_the_server_sets() {
        let mut object = serde_json::json!({
            "apiVersion": "v1", "kind": "ConfigMap", "status": {"x": 1}, "data": {"a": "x".repeat(200), "b": "1"},
            "metadata": {"name": "c", "uid": "u", "resourceVersion": "7", "managedFields": [], "generation": 3,
                "annotations": {LAST_APPLIED: "{}"}}});
        remove_server_fields(&mut object);
        let expected = format!(
            "apiVersion: v1\ndata:\n  a: {}\n  b: '1'\nkind: ConfigMap\nmetadata:\n  name: c\n",
            "x".repeat(200)
        );
        assert_eq!(to_yaml(&object).replace('"', "'"), expected);
    }
}
