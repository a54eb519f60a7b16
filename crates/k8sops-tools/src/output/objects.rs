//! Objects of Kubernetes in an output, each as a row of the table that `kubectl get -o wide` would show. They are read one by
//! one, so that a list of any length takes no more memory than its rows.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// Larger YAML is not read as objects: it takes much longer than JSON.
const MAX_YAML: usize = 32 << 20;

/// An object as a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) kind: String,
    pub(super) headings: &'static [&'static str],
    pub(super) cells: Vec<String>,
    /// What it is counted by.
    pub(super) status: String,
    /// Whether there is nothing about it that anybody would look for.
    pub(super) ordinary: bool,
}

/// The objects in a text; `None` when it is no list of some.
pub(super) fn rows(text: &str) -> Option<Vec<Row>> {
    let bare = text.trim_start();
    let mut rows = Vec::new();
    if bare.starts_with(['{', '[']) {
        let mut deserializer = serde_json::Deserializer::from_str(bare);
        Objects(&mut rows).deserialize(&mut deserializer).ok()?;
    } else if text.len() <= MAX_YAML
        && (bare.starts_with("apiVersion:") || bare.starts_with("- ") || bare.starts_with("items:"))
    {
        for item in yaml_items(text) {
            let value: Value = serde_saphyr::from_str(&item).ok()?;
            rows.extend(row(&value));
        }
    }
    (rows.len() > 1).then_some(rows)
}

/// A list in JSON: an array, or an object with `items`.
struct Objects<'a>(&'a mut Vec<Row>);

impl<'de> DeserializeSeed<'de> for Objects<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Objects<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(item) = items.next_element::<Value>()? {
            self.0.extend(row(&item));
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        while let Some(key) = fields.next_key::<String>()? {
            if key == "items" {
                fields.next_value_seed(Objects(self.0))?;
            } else {
                fields.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// The items of a list in YAML, each as a document of its own: `items:` with its `- `, a bare list, or documents.
fn yaml_items(text: &str) -> Vec<String> {
    let column =
        text.lines().find_map(|line| line.trim_start().starts_with("- ").then(|| line.len() - line.trim_start().len()));
    let is_list = text.starts_with("- ") || text.lines().any(|line| line == "items:");
    let mut items: Vec<String> = Vec::new();
    let mut open = !is_list;
    if open {
        items.push(String::new());
    }
    for line in text.split_inclusive('\n') {
        let bare = line.trim_start();
        let indent = line.len() - bare.len();
        if is_list {
            let Some(column) = column else { break };
            if indent == column && line[column..].starts_with("- ") {
                items.push(format!("  {}", &line[column + 2..]));
                open = true;
            } else if open && (indent > column || bare.is_empty()) {
                if let Some(item) = items.last_mut() {
                    item.push_str(line.get(column..).unwrap_or("\n"));
                }
            } else {
                open = false;
            }
        } else if line.trim_end() == "---" {
            items.push(String::new());
        } else if let Some(item) = items.last_mut() {
            item.push_str(line);
        }
    }
    items.retain(|item| !item.trim().is_empty());
    items
}

/// An object as a row; `None` when it is none of Kubernetes.
fn row(object: &Value) -> Option<Row> {
    let at = |pointer: &str| object.pointer(pointer);
    let text = |pointer: &str| at(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let number = |pointer: &str| at(pointer).and_then(Value::as_i64).unwrap_or(0);
    let name = at("/metadata/name").and_then(Value::as_str)?.to_owned();
    let (namespace, created) = (text("/metadata/namespace"), text("/metadata/creationTimestamp"));
    let kind = at("/kind").and_then(Value::as_str).unwrap_or_else(|| guess(object));
    let made = |headings, cells, status: String, ordinary| {
        Some(Row { kind: kind.to_owned(), headings, cells, status, ordinary })
    };
    match kind {
        "Pod" => {
            let (ready, all, restarts) = containers(object);
            let status = pod_status(object);
            let settled = matches!(status.as_str(), "Completed" | "Succeeded");
            let ordinary = restarts == 0 && (settled || (status == "Running" && ready == all));
            let cells = vec![
                namespace,
                name,
                format!("{ready}/{all}"),
                status.clone(),
                restarts.to_string(),
                created,
                text("/spec/nodeName"),
            ];
            made(&["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "CREATED", "NODE"], cells, status, ordinary)
        }
        "Deployment" | "StatefulSet" | "ReplicaSet" => {
            let wanted = at("/spec/replicas").and_then(Value::as_i64).unwrap_or(1);
            let ready = number("/status/readyReplicas");
            let ordinary = ready == wanted;
            let status = if ordinary { "ready" } else { "not ready" };
            made(
                &["NAMESPACE", "NAME", "READY", "CREATED"],
                vec![namespace, name, format!("{ready}/{wanted}"), created],
                status.into(),
                ordinary,
            )
        }
        "DaemonSet" => {
            let (wanted, ready) = (number("/status/desiredNumberScheduled"), number("/status/numberReady"));
            let status = if ready == wanted { "ready" } else { "not ready" };
            made(
                &["NAMESPACE", "NAME", "READY", "CREATED"],
                vec![namespace, name, format!("{ready}/{wanted}"), created],
                status.into(),
                ready == wanted,
            )
        }
        "Node" => {
            let mut status = condition(object, "Ready")
                .map_or("Unknown", |ready| if ready { "Ready" } else { "NotReady" })
                .to_owned();
            let pressed = ["MemoryPressure", "DiskPressure", "PIDPressure"]
                .into_iter()
                .filter(|c| condition(object, c) == Some(true));
            for pressure in pressed {
                status.push(',');
                status.push_str(pressure);
            }
            if at("/spec/unschedulable").and_then(Value::as_bool) == Some(true) {
                status.push_str(",SchedulingDisabled");
            }
            let ordinary = status == "Ready";
            made(
                &["NAME", "STATUS", "VERSION", "CREATED"],
                vec![name, status.clone(), text("/status/nodeInfo/kubeletVersion"), created],
                status,
                ordinary,
            )
        }
        "Event" => {
            let object_of = format!("{}/{}", text("/involvedObject/kind"), text("/involvedObject/name"));
            let last = [text("/lastTimestamp"), text("/eventTime"), created].into_iter().find(|t| !t.is_empty());
            let status = text("/type");
            let cells = vec![
                namespace,
                last.unwrap_or_default(),
                status.clone(),
                text("/reason"),
                object_of,
                number("/count").max(1).to_string(),
                text("/message"),
            ];
            let ordinary = status == "Normal";
            made(&["NAMESPACE", "LAST", "TYPE", "REASON", "OBJECT", "COUNT", "MESSAGE"], cells, status, ordinary)
        }
        "Job" => {
            let wanted = at("/spec/completions").and_then(Value::as_i64).unwrap_or(1);
            let (done, failed) = (number("/status/succeeded"), number("/status/failed"));
            let status = if failed > 0 {
                "failed"
            } else if done >= wanted {
                "complete"
            } else {
                "running"
            };
            made(
                &["NAMESPACE", "NAME", "COMPLETIONS", "FAILED", "CREATED"],
                vec![namespace, name, format!("{done}/{wanted}"), failed.to_string(), created],
                status.into(),
                failed == 0,
            )
        }
        "Service" => {
            let cells = vec![namespace, name, text("/spec/type"), text("/spec/clusterIP"), created];
            made(&["NAMESPACE", "NAME", "TYPE", "CLUSTER-IP", "CREATED"], cells, text("/spec/type"), true)
        }
        _ => {
            let status = text("/status/phase");
            let ordinary =
                matches!(status.as_str(), "" | "Active" | "Bound" | "Available" | "Running" | "Succeeded" | "Ready");
            made(
                &["NAMESPACE", "NAME", "STATUS", "CREATED"],
                vec![namespace, name, status.clone(), created],
                status,
                ordinary,
            )
        }
    }
}

/// The kind of an object that does not say it, as in a list of one kind.
fn guess(object: &Value) -> &'static str {
    if object.pointer("/spec/containers").is_some() {
        "Pod"
    } else if object.pointer("/involvedObject").is_some() {
        "Event"
    } else if object.pointer("/status/nodeInfo").is_some() {
        "Node"
    } else {
        "object"
    }
}

/// Containers that are ready, all of them, and their restarts.
fn containers(pod: &Value) -> (usize, usize, i64) {
    let statuses =
        pod.pointer("/status/containerStatuses").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let all = pod.pointer("/spec/containers").and_then(Value::as_array).map_or(statuses.len(), Vec::len);
    let ready = statuses.iter().filter(|s| s["ready"] == true).count();
    let restarts = statuses.iter().filter_map(|s| s["restartCount"].as_i64()).sum();
    (ready, all, restarts)
}

/// What kubectl would show as a pod's status: the reason of what is wrong, else its phase.
fn pod_status(pod: &Value) -> String {
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let statuses = |key: &str| pod.pointer(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let all = statuses("/status/initContainerStatuses").iter().chain(statuses("/status/containerStatuses"));
    let reasons = all.filter_map(|status| {
        let state = &status["state"];
        text(&state["waiting"]["reason"]).or_else(|| text(&state["terminated"]["reason"]).filter(|r| r != "Completed"))
    });
    if let Some(reason) = reasons.into_iter().next() {
        return reason;
    }
    let deleted = pod.pointer("/metadata/deletionTimestamp").is_some();
    if deleted {
        return "Terminating".to_owned();
    }
    let status = pod.pointer("/status/reason").and_then(text).or_else(|| pod.pointer("/status/phase").and_then(text));
    status.unwrap_or_else(|| "Unknown".to_owned())
}

fn condition(object: &Value, name: &str) -> Option<bool> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    let found = conditions.iter().find(|condition| condition["type"] == name)?;
    Some(found["status"] == "True")
}
