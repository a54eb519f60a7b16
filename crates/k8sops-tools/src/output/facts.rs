//! Facts of a tree: each scalar with its path, so that the same fact can be counted over many objects.

use super::{node::Node, quantity::parse_quantity};

/// Deepest level whose facts are collected.
const MAX_DEPTH: usize = 24;
/// Fields that identify an object or a version of it, and so differ between all objects without saying anything.
const IDENTIFYING_FIELDS: &[&str] = &[
    "uid",
    "resourceVersion",
    "managedFields",
    "selfLink",
    "generation",
    "observedGeneration",
    "podIP",
    "podIPs",
    "hostIP",
    "hostIPs",
    "containerID",
    "machineID",
    "systemUUID",
    "bootID",
    "podCIDR",
    "podCIDRs",
    "pod-template-hash",
    "controller-revision-hash",
    "pod-template-generation",
    "controller-uid",
    "clusterIP",
    "clusterIPs",
    "generateName",
    "spanID",
    "traceID",
    "span_id",
    "trace_id",
    "spanId",
    "traceId",
];

/// Returns whether a field identifies the object that has it: a `uid` in its metadata does, that of a data source does not.
/// `parent` is the path or the key of the map that has the field.
pub(super) fn is_identity(key: &str, parent: &str) -> bool {
    const OWNERS: &[&str] = &["metadata", "ownerReferences", "ref", "object", "regarding", "related", "owner"];
    IDENTIFYING_FIELDS.contains(&key)
        && (key != "uid" || {
            let parent = parent.rsplit('.').next().unwrap_or_default().trim_end_matches("[]");
            parent.is_empty() || OWNERS.iter().any(|owner| ends_with_word(parent, owner))
        })
}

/// Returns whether a key is a word or ends with it: `claimRef` ends with `ref`.
fn ends_with_word(key: &str, word: &str) -> bool {
    key.len() >= word.len()
        && key.is_char_boundary(key.len() - word.len())
        && key[key.len() - word.len()..].eq_ignore_ascii_case(word)
}

/// Calls `visit` with the path and the value of each fact.
///
/// Lists do not number their items: `spec.containers[].image`. A condition is one fact with its reason and its message:
/// `status.conditions{Ready}`. So is an item that is a name with a value: `env{DEBUG}`. The number of items of a list of
/// objects is a fact, too.
pub(super) fn visit_facts(node: &Node<'_>, visit: &mut dyn FnMut(&str, &str)) {
    visit_node(node, &mut String::new(), 0, visit);
}

fn visit_node(node: &Node<'_>, path: &mut String, depth: usize, visit: &mut dyn FnMut(&str, &str)) {
    let length = path.len();
    match node {
        Node::Scalar(text, _) => visit(path, text),
        _ if depth >= MAX_DEPTH => {}
        Node::Map(fields) if fields.is_empty() => visit(path, "{}"),
        Node::Map(fields) => {
            for (key, value) in fields {
                if is_identity(key, path) {
                    continue;
                }
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(key);
                visit_node(value, path, depth + 1, visit);
                path.truncate(length);
            }
        }
        Node::List(items) => {
            if items.len() != 1 && !items.first().is_some_and(|item| matches!(item, Node::Scalar(..))) {
                path.push('#');
                visit(path, &items.len().to_string());
                path.truncate(length);
            }
            // The time and the value of a sample are different facts.
            let is_pair = items.len() == 2
                && items.iter().all(|item| item.as_text().is_some_and(|text| parse_quantity(text).is_some()));
            for (position, item) in items.iter().enumerate() {
                if is_pair {
                    path.push_str(if position == 0 { "[0]" } else { "[1]" });
                    visit_node(item, path, depth + 1, visit);
                    path.truncate(length);
                    continue;
                }
                visit_item(item, path, depth, visit);
                path.truncate(length);
            }
        }
    }
}

fn visit_item(item: &Node<'_>, path: &mut String, depth: usize, visit: &mut dyn FnMut(&str, &str)) {
    if let Some((name, is_condition)) = item_key(item) {
        path.push('{');
        path.push_str(name);
        path.push('}');
        if is_condition {
            let length = path.len();
            for (field, suffix) in [("status", ""), ("reason", ".reason"), ("message", ".message")] {
                if let Some(text) = item.field_text(field) {
                    path.push_str(suffix);
                    visit(path, text);
                    path.truncate(length);
                }
            }
            return;
        }
        for field in ["value", "valueFrom"] {
            if let Some(value) = item.field(field) {
                visit_node(value, path, depth + 1, visit);
            }
        }
        return;
    }
    path.push_str("[]");
    visit_node(item, path, depth + 1, visit);
}

/// Returns what names an item among the others of its list, and whether the item is a condition.
fn item_key<'a>(item: &'a Node<'_>) -> Option<(&'a str, bool)> {
    let fields = item.as_map()?;
    if fields.len() < 9
        && let (Some(name), Some(_)) = (item.field_text("type"), item.field_text("status"))
    {
        return Some((name, true));
    }
    let name = item.field_text("name").or_else(|| item.field_text("key"))?;
    let has_value = fields.len() <= 3 && (item.field("value").is_some() || item.field("valueFrom").is_some());
    has_value.then_some((name, false))
}

/// Parts of the names of fields that hold a state.
const STATE_WORDS: &[&str] = &[
    "status",
    "state",
    "condition",
    "reason",
    "phase",
    "health",
    "message",
    "type",
    "ready",
    "error",
    "fail",
    "restart",
    "exit",
    "sync",
    "code",
    "level",
    "severity",
    "suspend",
    "replicas",
    "result",
];

/// How much a path matters for what is wrong with an object: states most, labels and names least.
pub(super) fn path_weight(path: &str) -> f64 {
    let lower = path.to_ascii_lowercase();
    let has_any = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if matches!(lower.as_str(), "name" | "namespace" | "metadata.name" | "metadata.namespace" | "id") {
        return 0.2;
    }
    // How old a thing is says nothing about what is wrong with it.
    if matches!(lower.as_str(), "age" | "last seen" | "first seen" | "created" | "created at" | "since") {
        return 0.1;
    }
    // The object is to go, and something holds it.
    if lower.ends_with("deletiontimestamp") {
        return 1.2;
    }
    if has_any(&["metadata.annotations", "metadata.labels", "ownerreferences"]) {
        return 0.4;
    }
    if has_any(&[
        "timestamp",
        "lasttransitiontime",
        "lastprobetime",
        "lastupdatetime",
        "startedat",
        "finishedat",
        "creat",
    ]) {
        return 0.3;
    }
    if has_any(STATE_WORDS) { 1.2 } else { 0.8 }
}
