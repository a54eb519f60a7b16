//! How an object is read through the server whose tool is about to change it.

use serde_json::{Map, Value, json};

use super::{cluster_objects::ObjectRef, object_edit::ObjectEdit};

/// A call that reads an object or a list of objects.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ReadCall {
    pub(crate) tool: &'static str,
    pub(crate) arguments: Map<String, Value>,
}

/// Which objects of a kind are listed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ObjectList<'a> {
    pub(crate) api_version: &'a str,
    pub(crate) kind: &'a str,
    /// `None` for all namespaces.
    pub(crate) namespace: Option<&'a str>,
    pub(crate) label_selector: Option<&'a str>,
    pub(crate) field_selector: Option<&'a str>,
}

impl ObjectList<'_> {
    /// Returns the words behind `kubectl` that list the objects as YAML.
    pub(crate) fn kubectl_words(&self) -> Vec<String> {
        let mut words = vec!["get".to_owned(), qualified_resource(self.api_version, self.kind)];
        words.push(match self.namespace {
            Some(namespace) => format!("--namespace={namespace}"),
            None => "--all-namespaces".to_owned(),
        });
        words.extend(self.label_selector.map(|selector| format!("--selector={selector}")));
        words.extend(self.field_selector.map(|selector| format!("--field-selector={selector}")));
        words.extend(["-o", "yaml"].map(str::to_owned));
        words
    }
}

/// How much of an object is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ObjectDetail {
    WithoutManagers,
    /// Also who has set its fields, if the server can print that.
    WithManagers,
}

impl ObjectDetail {
    /// Returns what has to be known of an object for an edit.
    pub(crate) fn of_edit(edit: &ObjectEdit) -> Self {
        if matches!(edit, ObjectEdit::ApplyOnServer { .. }) { Self::WithManagers } else { Self::WithoutManagers }
    }
}

/// The tools by which a server reads objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ObjectReader {
    /// `resources_get` and `resources_list` of `kubernetes-mcp-server`.
    Resources,
    /// `kubectl_get` of `mcp-server-kubernetes`.
    KubectlGet,
    /// A tool for each kind, of the simulated cluster.
    ToolPerKind,
}

impl ObjectReader {
    /// Finds out how a server reads objects. `has_tool` says whether it has a tool of that name.
    pub(crate) fn find(has_tool: impl Fn(&str) -> bool) -> Option<Self> {
        if has_tool("resources_get") {
            Some(Self::Resources)
        } else if has_tool("kubectl_get") {
            Some(Self::KubectlGet)
        } else if has_tool("deployment_get") && has_tool("configmap_get") {
            Some(Self::ToolPerKind)
        } else {
            None
        }
    }

    /// Returns the call that reads one object. `arguments` are those of the call that changes it: what they say about the
    /// cluster holds for the reading call, too.
    pub(crate) fn read_object(self, target: &ObjectRef, arguments: &Map<String, Value>) -> Option<ReadCall> {
        let ObjectRef { api_version, kind, namespace, name } = target;
        let (tool, fields) = match self {
            Self::Resources if api_version.is_empty() => return None,
            Self::Resources => ("resources_get", json!({"apiVersion": api_version, "kind": kind, "name": name})),
            // `kubectl_get` prints Secrets without their values, so that every value would look changed.
            Self::KubectlGet if is_secret(kind) => {
                let mut words = vec!["secret".to_owned(), name.clone(), "-o".to_owned(), "yaml".to_owned()];
                words.extend(namespace.as_ref().map(|namespace| format!("--namespace={namespace}")));
                let fields = json!({"command": "get", "args": words});
                return Some(Self::with_place("kubectl_generic", &fields, None, arguments));
            }
            Self::KubectlGet => {
                let resource = qualified_resource(api_version, kind);
                ("kubectl_get", json!({"resourceType": resource, "name": name, "output": "yaml"}))
            }
            Self::ToolPerKind => match kind.as_str() {
                "Deployment" => ("deployment_get", json!({"name": name})),
                "ConfigMap" => ("configmap_get", json!({"name": name})),
                "Pod" => ("pods_get", json!({"name": name})),
                _ => return None,
            },
        };
        Some(Self::with_place(tool, &fields, namespace.as_deref(), arguments))
    }

    /// Returns the call that lists objects of a kind.
    pub(crate) fn list_objects(self, list: &ObjectList<'_>, arguments: &Map<String, Value>) -> Option<ReadCall> {
        let ObjectList { api_version, kind, namespace, label_selector, field_selector } = list;
        let (tool, mut fields) = match self {
            Self::Resources => ("resources_list", json!({"apiVersion": api_version, "kind": kind})),
            Self::KubectlGet => {
                let resource = qualified_resource(api_version, kind);
                let all = namespace.is_none();
                ("kubectl_get", json!({"resourceType": resource, "output": "yaml", "allNamespaces": all}))
            }
            Self::ToolPerKind => return None,
        };
        for (key, selector) in [("labelSelector", label_selector), ("fieldSelector", field_selector)] {
            if let Some(selector) = selector {
                fields[key] = json!(selector);
            }
        }
        Some(Self::with_place(tool, &fields, *namespace, arguments))
    }

    /// Returns the call that shows the earlier pod templates of an object, if the server has a tool for that.
    pub(crate) fn read_history(self, target: &ObjectRef, arguments: &Map<String, Value>) -> Option<ReadCall> {
        let fields = json!({"name": target.name});
        match self {
            Self::ToolPerKind => {
                Some(Self::with_place("rollout_history", &fields, target.namespace.as_deref(), arguments))
            }
            Self::Resources | Self::KubectlGet => None,
        }
    }

    fn with_place(
        tool: &'static str,
        fields: &Value,
        namespace: Option<&str>,
        arguments: &Map<String, Value>,
    ) -> ReadCall {
        let mut fields = fields.as_object().cloned().unwrap_or_default();
        if let Some(namespace) = namespace {
            fields.insert("namespace".into(), json!(namespace));
        }
        if let Some(context) = arguments.get("context").filter(|context| context.is_string()) {
            fields.insert("context".into(), context.clone());
        }
        ReadCall { tool, arguments: fields }
    }
}

fn is_secret(kind: &str) -> bool {
    matches!(kind.to_lowercase().as_str(), "secret" | "secrets")
}

/// Returns a kind with its group, as kubectl takes it: `deployment.apps`, so that no other group's kind is meant.
pub(crate) fn qualified_resource(api_version: &str, kind: &str) -> String {
    let kind = kind.to_lowercase();
    match api_version.split_once('/') {
        Some((group, _)) => format!("{kind}.{group}"),
        None => kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_read_where_the_call_changes_them() {
        let target = ObjectRef {
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            namespace: Some("shop".into()),
            name: "web".into(),
        };
        let arguments = json!({"context": "prod", "scale": 3}).as_object().unwrap().clone();
        let call = ObjectReader::Resources.read_object(&target, &arguments).unwrap();
        assert_eq!(call.tool, "resources_get");
        assert_eq!(
            Value::Object(call.arguments),
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "namespace": "shop", "context": "prod"})
        );
        let call = ObjectReader::KubectlGet.read_object(&target, &Map::new()).unwrap();
        assert_eq!((call.tool, &call.arguments["resourceType"]), ("kubectl_get", &json!("deployment.apps")));
        let list = ObjectList {
            api_version: "v1",
            kind: "Pod",
            namespace: Some("shop"),
            label_selector: Some("app=web"),
            field_selector: None,
        };
        let call = ObjectReader::Resources.list_objects(&list, &Map::new()).unwrap();
        assert_eq!(call.arguments["labelSelector"], json!("app=web"));
        assert_eq!(list.kubectl_words().join(" "), "get pod --namespace=shop --selector=app=web -o yaml");
        let secret = ObjectRef { api_version: "v1".into(), kind: "Secret".into(), ..target };
        let call = ObjectReader::KubectlGet.read_object(&secret, &Map::new()).unwrap();
        assert_eq!((call.tool, &call.arguments["args"][1]), ("kubectl_generic", &json!("web")));
        assert_eq!(ObjectReader::find(|tool| tool == "kubectl_get"), Some(ObjectReader::KubectlGet));
        assert_eq!(ObjectReader::find(|_| false), None);
    }
}
