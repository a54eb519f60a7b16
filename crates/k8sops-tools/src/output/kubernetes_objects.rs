//! Kubernetes objects in an output, each as a row of the table that `kubectl get -o wide` would print. They are read one by
//! one, so that a list takes only the memory of its rows.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// Largest YAML that is read as objects. Reading YAML takes much longer than reading JSON.
const MAX_YAML_BYTES: usize = 32 << 20;

/// An object as a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ObjectRow {
    pub(super) kind: String,
    pub(super) headings: &'static [&'static str],
    pub(super) cells: Vec<String>,
    /// Status by which the objects are counted.
    pub(super) status: String,
    /// The object is in its usual state.
    pub(super) is_ordinary: bool,
}

/// Returns the objects in a text; `None` if the text is no list of Kubernetes objects.
pub(super) fn parse_object_rows(text: &str) -> Option<Vec<ObjectRow>> {
    let bare = text.trim_start();
    let mut rows = Vec::new();
    if bare.starts_with(['{', '[']) {
        let mut deserializer = serde_json::Deserializer::from_str(bare);
        ObjectListSeed(&mut rows).deserialize(&mut deserializer).ok()?;
    } else if text.len() <= MAX_YAML_BYTES
        && (bare.starts_with("apiVersion:") || bare.starts_with("- ") || bare.starts_with("items:"))
    {
        for item in split_yaml_items(text) {
            let value: Value = serde_saphyr::from_str(&item).ok()?;
            rows.extend(parse_object(&value));
        }
    }
    (rows.len() > 1).then_some(rows)
}

/// Reads a list in JSON: an array, or an object with `items`.
struct ObjectListSeed<'a>(&'a mut Vec<ObjectRow>);

impl<'de> DeserializeSeed<'de> for ObjectListSeed<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ObjectListSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(item) = items.next_element::<Value>()? {
            self.0.extend(parse_object(&item));
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        while let Some(key) = fields.next_key::<String>()? {
            if key == "items" {
                fields.next_value_seed(ObjectListSeed(self.0))?;
            } else {
                fields.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// Splits YAML into the items of a list, each as a document: `items:` with its `- `, a bare list, or several documents.
fn split_yaml_items(text: &str) -> Vec<String> {
    let item_column =
        text.lines().find_map(|line| line.trim_start().starts_with("- ").then(|| line.len() - line.trim_start().len()));
    let is_list = text.starts_with("- ") || text.lines().any(|line| line == "items:");
    let mut items: Vec<String> = Vec::new();
    let mut is_in_item = !is_list;
    if is_in_item {
        items.push(String::new());
    }
    for line in text.split_inclusive('\n') {
        let bare = line.trim_start();
        let indent = line.len() - bare.len();
        if is_list {
            let Some(column) = item_column else { break };
            if indent == column && line[column..].starts_with("- ") {
                items.push(format!("  {}", &line[column + 2..]));
                is_in_item = true;
            } else if is_in_item && (indent > column || bare.is_empty()) {
                if let Some(item) = items.last_mut() {
                    item.push_str(line.get(column..).unwrap_or("\n"));
                }
            } else {
                is_in_item = false;
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

/// Returns an object as a row; `None` if it is no Kubernetes object.
fn parse_object(value: &Value) -> Option<ObjectRow> {
    let name = value.pointer("/metadata/name").and_then(Value::as_str)?;
    let object = KubernetesObject { value, name };
    let kind = value.pointer("/kind").and_then(Value::as_str).unwrap_or_else(|| guess_kind(value));
    let row = match kind {
        "Pod" => object.pod_row(),
        "Deployment" | "StatefulSet" | "ReplicaSet" => {
            let wanted = value.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1);
            object.workload_row(object.number("/status/readyReplicas"), wanted)
        }
        "DaemonSet" => {
            object.workload_row(object.number("/status/numberReady"), object.number("/status/desiredNumberScheduled"))
        }
        "Node" => object.node_row(),
        "Event" => object.event_row(),
        "Job" => object.job_row(),
        "Service" => object.service_row(),
        _ => object.other_row(),
    };
    Some(ObjectRow { kind: kind.to_owned(), ..row })
}

/// Returns the kind of an object that does not say it, as in a list of one kind.
fn guess_kind(object: &Value) -> &'static str {
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

struct KubernetesObject<'a> {
    value: &'a Value,
    name: &'a str,
}

impl KubernetesObject<'_> {
    /// Returns a field as text; empty if it is missing.
    fn text(&self, pointer: &str) -> String {
        self.value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// Returns a field as a number; 0 if it is missing.
    fn number(&self, pointer: &str) -> i64 {
        self.value.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
    }

    fn array(&self, pointer: &str) -> &[Value] {
        self.value.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
    }

    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn namespace(&self) -> String {
        self.text("/metadata/namespace")
    }

    fn created(&self) -> String {
        self.text("/metadata/creationTimestamp")
    }

    fn pod_row(&self) -> ObjectRow {
        let statuses = self.array("/status/containerStatuses");
        let containers =
            self.value.pointer("/spec/containers").and_then(Value::as_array).map_or(statuses.len(), Vec::len);
        let ready = statuses.iter().filter(|status| status["ready"] == true).count();
        let restarts: i64 = statuses.iter().filter_map(|status| status["restartCount"].as_i64()).sum();
        let status = self.pod_status();
        let is_finished = matches!(status.as_str(), "Completed" | "Succeeded");
        let is_ordinary = restarts == 0 && (is_finished || (status == "Running" && ready == containers));
        let cells = vec![
            self.namespace(),
            self.name(),
            format!("{ready}/{containers}"),
            status.clone(),
            restarts.to_string(),
            self.created(),
            self.text("/spec/nodeName"),
        ];
        new_row(&["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "CREATED", "NODE"], cells, status, is_ordinary)
    }

    /// Returns what kubectl prints as the status of a pod: the reason of a failure, or else the phase.
    fn pod_status(&self) -> String {
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let init_statuses = self.array("/status/initContainerStatuses");
        let statuses = self.array("/status/containerStatuses");
        let failure = init_statuses.iter().chain(statuses).find_map(|status| {
            let state = &status["state"];
            text(&state["waiting"]["reason"])
                .or_else(|| text(&state["terminated"]["reason"]).filter(|reason| reason != "Completed"))
        });
        if let Some(reason) = failure {
            return reason;
        }
        if self.value.pointer("/metadata/deletionTimestamp").is_some() {
            return "Terminating".to_owned();
        }
        let reason = self.value.pointer("/status/reason").and_then(text);
        let phase = || self.value.pointer("/status/phase").and_then(text);
        reason.or_else(phase).unwrap_or_else(|| "Unknown".to_owned())
    }

    fn workload_row(&self, ready: i64, wanted: i64) -> ObjectRow {
        let is_ready = ready == wanted;
        let cells = vec![self.namespace(), self.name(), format!("{ready}/{wanted}"), self.created()];
        let status = if is_ready { "ready" } else { "not ready" };
        new_row(&["NAMESPACE", "NAME", "READY", "CREATED"], cells, status.to_owned(), is_ready)
    }

    fn node_row(&self) -> ObjectRow {
        let mut status = match self.condition("Ready") {
            None => "Unknown".to_owned(),
            Some(true) => "Ready".to_owned(),
            Some(false) => "NotReady".to_owned(),
        };
        for pressure in ["MemoryPressure", "DiskPressure", "PIDPressure"] {
            if self.condition(pressure) == Some(true) {
                status.push(',');
                status.push_str(pressure);
            }
        }
        if self.value.pointer("/spec/unschedulable").and_then(Value::as_bool) == Some(true) {
            status.push_str(",SchedulingDisabled");
        }
        let is_ordinary = status == "Ready";
        let cells = vec![self.name(), status.clone(), self.text("/status/nodeInfo/kubeletVersion"), self.created()];
        new_row(&["NAME", "STATUS", "VERSION", "CREATED"], cells, status, is_ordinary)
    }

    fn condition(&self, name: &str) -> Option<bool> {
        let found = self.array("/status/conditions").iter().find(|condition| condition["type"] == name)?;
        Some(found["status"] == "True")
    }

    fn event_row(&self) -> ObjectRow {
        let times = [self.text("/lastTimestamp"), self.text("/eventTime"), self.created()];
        let last = times.into_iter().find(|time| !time.is_empty()).unwrap_or_default();
        let status = self.text("/type");
        let cells = vec![
            self.namespace(),
            last,
            status.clone(),
            self.text("/reason"),
            format!("{}/{}", self.text("/involvedObject/kind"), self.text("/involvedObject/name")),
            self.number("/count").max(1).to_string(),
            self.text("/message"),
        ];
        let is_ordinary = status == "Normal";
        new_row(&["NAMESPACE", "LAST", "TYPE", "REASON", "OBJECT", "COUNT", "MESSAGE"], cells, status, is_ordinary)
    }

    fn job_row(&self) -> ObjectRow {
        let wanted = self.value.pointer("/spec/completions").and_then(Value::as_i64).unwrap_or(1);
        let succeeded = self.number("/status/succeeded");
        let failed = self.number("/status/failed");
        let status = if failed > 0 {
            "failed"
        } else if succeeded >= wanted {
            "complete"
        } else {
            "running"
        };
        let completions = format!("{succeeded}/{wanted}");
        let cells = vec![self.namespace(), self.name(), completions, failed.to_string(), self.created()];
        new_row(&["NAMESPACE", "NAME", "COMPLETIONS", "FAILED", "CREATED"], cells, status.to_owned(), failed == 0)
    }

    fn service_row(&self) -> ObjectRow {
        let service_type = self.text("/spec/type");
        let cluster_ip = self.text("/spec/clusterIP");
        let cells = vec![self.namespace(), self.name(), service_type.clone(), cluster_ip, self.created()];
        new_row(&["NAMESPACE", "NAME", "TYPE", "CLUSTER-IP", "CREATED"], cells, service_type, true)
    }

    fn other_row(&self) -> ObjectRow {
        let status = self.text("/status/phase");
        let is_ordinary =
            matches!(status.as_str(), "" | "Active" | "Bound" | "Available" | "Running" | "Succeeded" | "Ready");
        let cells = vec![self.namespace(), self.name(), status.clone(), self.created()];
        new_row(&["NAMESPACE", "NAME", "STATUS", "CREATED"], cells, status, is_ordinary)
    }
}

/// Creates a row without its kind, which the caller adds.
fn new_row(headings: &'static [&'static str], cells: Vec<String>, status: String, is_ordinary: bool) -> ObjectRow {
    ObjectRow { kind: String::new(), headings, cells, status, is_ordinary }
}
