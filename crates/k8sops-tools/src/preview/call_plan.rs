//! Which objects a call touches, and what it makes of them: tools with typed arguments.

use serde_json::{Map, Value, json};

use k8sops_classifier::ManifestVerb;

use super::{
    cluster_objects::{ObjectRef, parse_objects},
    object_edit::ObjectEdit,
};

/// What a call does, as its arguments say it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct CallPlan {
    pub(crate) changes: Vec<PlannedChange>,
    /// The command that runs in a container.
    pub(crate) command: Option<String>,
    /// The release that changes.
    pub(crate) release: Option<PlannedRelease>,
    /// The node whose pods are evicted.
    pub(crate) drained_node: Option<String>,
}

/// A change of a Helm release by a server that only takes the chart and the values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PlannedRelease {
    /// `install`, `upgrade` or `uninstall`.
    pub(crate) verb: &'static str,
    pub(crate) target: ObjectRef,
    pub(crate) chart: Option<String>,
    /// `None` if the call names no values.
    pub(crate) values: Option<Value>,
}

/// A change of one object.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PlannedChange {
    pub(crate) target: ObjectRef,
    /// As [`k8sops_core::AffectedObject::verb`].
    pub(crate) verb: &'static str,
    pub(crate) edit: ObjectEdit,
}

impl CallPlan {
    fn one(target: ObjectRef, verb: &'static str, edit: ObjectEdit) -> Self {
        Self { changes: vec![PlannedChange { target, verb, edit }], ..Self::default() }
    }

    fn manifests(text: &str, verb: &ManifestVerb, namespace: Option<&str>) -> Option<Self> {
        Some(Self { changes: plan_manifests(text, verb, namespace)?, ..Self::default() })
    }

    fn release(verb: &'static str, named: &NamedArguments<'_>) -> Option<Self> {
        let target = named.target("", "Release")?;
        let values = named.json("values");
        let release = PlannedRelease { verb, target, chart: named.text("chart"), values };
        Some(Self { release: Some(release), ..Self::default() })
    }
}

/// Returns what becomes of the objects whose manifests a text holds; `None` if anything in the text is no object. `namespace` is
/// that of objects whose manifest names none.
pub(crate) fn plan_manifests(text: &str, verb: &ManifestVerb, namespace: Option<&str>) -> Option<Vec<PlannedChange>> {
    let changes = parse_objects(text)?.into_iter().map(|mut manifest| {
        let mut target = ObjectRef::from_object(&manifest)?;
        if target.namespace.is_none() {
            target.namespace = namespace.map(str::to_owned);
        }
        // A manifest of its own is compared with the live object, which has the namespace.
        if let Some(namespace) = &target.namespace {
            manifest["metadata"]["namespace"] = json!(namespace);
        }
        let (verb, edit) = match verb {
            ManifestVerb::Apply => ("update", ObjectEdit::Apply(manifest)),
            ManifestVerb::ApplyOnServer { field_manager } => {
                ("update", ObjectEdit::ApplyOnServer { manifest, field_manager: field_manager.clone() })
            }
            ManifestVerb::Create => ("create", ObjectEdit::Create(manifest)),
            ManifestVerb::Replace => ("update", ObjectEdit::Replace(manifest)),
            ManifestVerb::Delete => ("delete", ObjectEdit::Delete),
        };
        Some(PlannedChange { target, verb, edit })
    });
    changes.collect()
}

/// The arguments of a call, by name.
struct NamedArguments<'a>(&'a Map<String, Value>);

impl NamedArguments<'_> {
    fn text(&self, key: &str) -> Option<String> {
        self.0.get(key)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
    }

    fn integer(&self, key: &str) -> Option<i64> {
        let value = self.0.get(key)?;
        value.as_i64().or_else(|| value.as_str()?.parse().ok())
    }

    /// A value that some servers take as JSON and others as text.
    fn json(&self, key: &str) -> Option<Value> {
        match self.0.get(key)? {
            Value::String(text) => {
                serde_json::from_str(text).ok().or_else(|| serde_saphyr::from_str::<Value>(text).ok())
            }
            other => Some(other.clone()),
        }
    }

    fn target(&self, api_version: &str, kind: &str) -> Option<ObjectRef> {
        let name = self.text("name")?;
        Some(ObjectRef { api_version: api_version.into(), kind: kind.into(), namespace: self.text("namespace"), name })
    }
}

/// Returns what a call of a tool with typed arguments does; `None` if the arguments do not say it.
pub(crate) fn plan_typed_call(tool: &str, arguments: &Map<String, Value>) -> Option<CallPlan> {
    let named = NamedArguments(arguments);
    plan_kubernetes_mcp_server(tool, &named)
        .or_else(|| plan_mcp_server_kubernetes(tool, &named))
        .or_else(|| plan_demo_tool(tool, &named))
}

fn plan_kubernetes_mcp_server(tool: &str, named: &NamedArguments<'_>) -> Option<CallPlan> {
    let resource = || named.target(&named.text("apiVersion")?, &named.text("kind")?);
    match tool {
        "resources_create_or_update" => {
            let verb = ManifestVerb::ApplyOnServer { field_manager: "kubernetes-mcp-server".to_owned() };
            CallPlan::manifests(&named.text("resource")?, &verb, None)
        }
        "resources_delete" => Some(CallPlan::one(resource()?, "delete", ObjectEdit::Delete)),
        "resources_scale" => {
            Some(CallPlan::one(resource()?, "scale", ObjectEdit::SetReplicas(named.integer("scale")?)))
        }
        "pods_delete" => Some(CallPlan::one(named.target("v1", "Pod")?, "delete", ObjectEdit::Delete)),
        "pods_exec" => {
            let mut plan = CallPlan::one(named.target("v1", "Pod")?, "exec", ObjectEdit::Keep);
            let words = named.0.get("command")?.as_array()?;
            plan.command = words.iter().map(Value::as_str).collect::<Option<Vec<_>>>().map(|words| words.join(" "));
            Some(plan)
        }
        "pods_run" => Some(plan_pod(named)?),
        "helm_install" if named.0.contains_key("chart") && !named.0.contains_key("release_name") => {
            let mut plan = CallPlan::release("install", named);
            if plan.is_none() {
                let mut unnamed = named.0.clone();
                unnamed.insert("name".to_owned(), json!(GENERATED_NAME));
                plan = CallPlan::release("install", &NamedArguments(&unnamed));
            }
            plan
        }
        "helm_uninstall" if named.0.contains_key("name") => CallPlan::release("uninstall", named),
        _ => None,
    }
}

/// Stands for a name that the server makes up.
pub(crate) const GENERATED_NAME: &str = "(a generated name)";

/// The pod, and the service if it has a port, that `pods_run` creates.
fn plan_pod(named: &NamedArguments<'_>) -> Option<CallPlan> {
    let name = named.text("name").unwrap_or_else(|| GENERATED_NAME.to_owned());
    let namespace = named.text("namespace");
    let mut container = json!({"image": named.text("image")?, "name": name});
    let port = named.integer("port");
    if let Some(port) = port {
        container["ports"] = json!([{"containerPort": port}]);
    }
    let mut metadata = json!({"name": name});
    if let Some(namespace) = &namespace {
        metadata["namespace"] = json!(namespace);
    }
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata,
        "spec": {"ports": [{"port": port, "targetPort": port}], "type": "ClusterIP"}});
    let created = |object: Value| {
        Some(PlannedChange {
            target: ObjectRef::from_object(&object)?,
            verb: "create",
            edit: ObjectEdit::Create(object),
        })
    };
    let changes = [Some(pod), port.map(|_| service)].into_iter().flatten().map(created);
    Some(CallPlan { changes: changes.collect::<Option<_>>()?, ..CallPlan::default() })
}

fn plan_mcp_server_kubernetes(tool: &str, named: &NamedArguments<'_>) -> Option<CallPlan> {
    let resource = |default: &str| {
        let mut target = named.target("", &named.text("resourceType").unwrap_or_else(|| default.to_owned()))?;
        target.namespace.get_or_insert_with(|| "default".to_owned());
        Some(target)
    };
    let manifests = |verb| {
        let namespace = named.text("namespace").unwrap_or_else(|| "default".to_owned());
        CallPlan::manifests(&named.text("manifest")?, &verb, Some(&namespace))
    };
    match tool {
        "kubectl_apply" => manifests(ManifestVerb::Apply),
        "kubectl_create" => manifests(ManifestVerb::Create),
        "install_helm_chart" => CallPlan::release("install", named),
        "upgrade_helm_chart" => CallPlan::release("upgrade", named),
        "uninstall_helm_chart" => CallPlan::release("uninstall", named),
        "kubectl_patch" => {
            let patch = named.json("patchData")?;
            let edit = match named.text("patchType").as_deref() {
                Some("merge") => ObjectEdit::MergePatch(patch),
                Some("json") => ObjectEdit::JsonPatch(patch),
                _ => ObjectEdit::StrategicPatch(patch),
            };
            Some(CallPlan::one(resource("")?, "update", edit))
        }
        "kubectl_scale" => {
            Some(CallPlan::one(resource("deployment")?, "scale", ObjectEdit::SetReplicas(named.integer("replicas")?)))
        }
        "kubectl_delete" if named.0.contains_key("name") => {
            Some(CallPlan::one(resource("")?, "delete", ObjectEdit::Delete))
        }
        "kubectl_delete" if named.0.contains_key("manifest") => {
            CallPlan::manifests(&named.text("manifest")?, &ManifestVerb::Delete, None)
        }
        "kubectl_rollout" => {
            let edit = |verb, edit| Some(CallPlan::one(resource("deployment")?, verb, edit));
            match named.text("subCommand")?.as_str() {
                "restart" => edit("restart", ObjectEdit::Restart),
                "undo" => {
                    edit("rollback", ObjectEdit::RollBack(named.integer("revision").filter(|revision| *revision != 0)))
                }
                "pause" => edit("update", ObjectEdit::MergePatch(json!({"spec": {"paused": true}}))),
                "resume" => edit("update", ObjectEdit::MergePatch(json!({"spec": {"paused": null}}))),
                _ => None,
            }
        }
        "exec_in_pod" => {
            let mut plan = CallPlan::one(named.target("v1", "Pod")?, "exec", ObjectEdit::Keep);
            plan.command = match named.0.get("command")? {
                Value::String(command) => Some(command.clone()),
                Value::Array(words) => Some(words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")),
                _ => None,
            };
            Some(plan)
        }
        "node_management" => {
            let operation = named.text("operation")?;
            let is_closed = match operation.as_str() {
                "cordon" | "drain" => json!(true),
                "uncordon" => Value::Null,
                _ => return None,
            };
            let name = named.text("nodeName")?;
            let drained_node = (operation == "drain").then(|| name.clone());
            let target = ObjectRef { api_version: "v1".into(), kind: "Node".into(), namespace: None, name };
            let edit = ObjectEdit::MergePatch(json!({"spec": {"unschedulable": is_closed}}));
            Some(CallPlan { drained_node, ..CallPlan::one(target, "update", edit) })
        }
        _ => None,
    }
}

/// The tools of the simulated cluster, and other servers that name their tools for the change of one kind.
fn plan_demo_tool(tool: &str, named: &NamedArguments<'_>) -> Option<CallPlan> {
    let deployment = || named.target("apps/v1", "Deployment");
    match tool {
        "deployment_scale" => {
            Some(CallPlan::one(deployment()?, "scale", ObjectEdit::SetReplicas(named.integer("replicas")?)))
        }
        "deployment_set_image" => {
            let image = named.text("image")?;
            Some(CallPlan::one(deployment()?, "update", ObjectEdit::SetImage { container: None, image }))
        }
        "deployment_set_resources" => {
            let requests: Map<String, Value> =
                ["cpu", "memory"].iter().filter_map(|key| Some(((*key).to_owned(), json!(named.text(key)?)))).collect();
            let target = deployment()?;
            let container = json!({"name": target.name, "resources": {"requests": requests}});
            let patch = json!({"spec": {"template": {"spec": {"containers": [container]}}}});
            Some(CallPlan::one(target, "update", ObjectEdit::StrategicPatch(patch)))
        }
        "deployment_rollback" => Some(CallPlan::one(deployment()?, "rollback", ObjectEdit::RollBack(None))),
        "deployment_restart" => Some(CallPlan::one(deployment()?, "restart", ObjectEdit::Restart)),
        "configmap_set" => {
            let data = Map::from_iter([(named.text("key")?, json!(named.text("value").unwrap_or_default()))]);
            let edit = ObjectEdit::MergePatch(json!({"data": data}));
            Some(CallPlan::one(named.target("v1", "ConfigMap")?, "update", edit))
        }
        "pod_delete" => Some(CallPlan::one(named.target("v1", "Pod")?, "delete", ObjectEdit::Delete)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(tool: &str, arguments: &Value) -> Option<CallPlan> {
        plan_typed_call(tool, arguments.as_object().unwrap())
    }

    #[test]
    fn objects_of_typed_calls() {
        let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: shop}\ndata: {a: b}\n";
        let table = [
            ("resources_create_or_update", json!({"resource": manifest}), "update ConfigMap shop/c"),
            (
                "resources_scale",
                json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "namespace": "shop", "scale": 0}),
                "scale Deployment shop/web",
            ),
            (
                "resources_delete",
                json!({"apiVersion": "v1", "kind": "Namespace", "name": "shop"}),
                "delete Namespace shop",
            ),
            ("pods_delete", json!({"name": "web-0", "namespace": "shop"}), "delete Pod shop/web-0"),
            ("pods_exec", json!({"name": "web-0", "command": ["rm", "-rf", "/data"]}), "exec Pod web-0"),
            (
                "pods_run",
                json!({"image": "busybox", "namespace": "shop", "port": 80}),
                "create Pod shop/(a generated name), create Service shop/(a generated name)",
            ),
            ("kubectl_apply", json!({"manifest": manifest}), "update ConfigMap shop/c"),
            (
                "kubectl_patch",
                json!({"resourceType": "deploy", "name": "web", "patchData": {"spec": {}}}),
                "update deploy default/web",
            ),
            ("kubectl_scale", json!({"name": "web", "replicas": 3}), "scale deployment default/web"),
            ("kubectl_delete", json!({"resourceType": "svc", "name": "web"}), "delete svc default/web"),
            ("kubectl_delete", json!({"manifest": manifest}), "delete ConfigMap shop/c"),
            (
                "kubectl_rollout",
                json!({"subCommand": "restart", "name": "web", "namespace": "shop"}),
                "restart deployment shop/web",
            ),
            ("node_management", json!({"operation": "drain", "nodeName": "n1"}), "update Node n1"),
            (
                "kubectl_rollout",
                json!({"subCommand": "undo", "resourceType": "statefulset", "name": "db", "namespace": "shop"}),
                "rollback statefulset shop/db",
            ),
            (
                "kubectl_apply",
                json!({"manifest": "kind: X\napiVersion: v1\nmetadata: {name: a}\n"}),
                "update X default/a",
            ),
            ("deployment_rollback", json!({"namespace": "shop", "name": "web"}), "rollback Deployment shop/web"),
            (
                "deployment_scale",
                json!({"namespace": "shop", "name": "web", "replicas": 1}),
                "scale Deployment shop/web",
            ),
            (
                "configmap_set",
                json!({"namespace": "shop", "name": "c", "key": "a", "value": "b"}),
                "update ConfigMap shop/c",
            ),
        ];
        for (tool, arguments, expected) in table {
            let changes = plan(tool, &arguments).unwrap_or_else(|| panic!("{tool}: no plan")).changes;
            let shown: Vec<_> =
                changes.iter().map(|c| format!("{} {} {}", c.verb, c.target.kind, c.target.path())).collect();
            assert_eq!(shown.join(", "), expected, "{tool}");
        }
    }

    #[test]
    fn releases_of_typed_calls() {
        for (tool, arguments, expected) in [
            ("helm_uninstall", json!({"name": "db", "namespace": "shop"}), "uninstall shop/db None"),
            ("helm_install", json!({"chart": "nginx"}), "install (a generated name) Some(\"nginx\")"),
            (
                "upgrade_helm_chart",
                json!({"name": "db", "chart": "pg", "namespace": "shop", "values": {"a": 1}}),
                "upgrade shop/db Some(\"pg\")",
            ),
        ] {
            let PlannedRelease { verb, target, chart, .. } = plan(tool, &arguments).unwrap().release.unwrap();
            assert_eq!(format!("{verb} {} {chart:?}", target.path()), expected, "{tool}");
        }
        assert_eq!(plan("helm_install", &json!({"release_name": "a", "chart": "b"})), None, "of another server");
    }

    #[test]
    fn manifests_are_applied_by_the_server_or_the_client() {
        let edit = |tool: &str, key: &str| {
            let arguments = json!({key: "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n"});
            plan(tool, &arguments).unwrap().changes.remove(0).edit
        };
        assert!(matches!(edit("resources_create_or_update", "resource"), ObjectEdit::ApplyOnServer { .. }));
        assert!(matches!(edit("kubectl_apply", "manifest"), ObjectEdit::Apply(_)));
    }

    #[test]
    fn unknown_calls_have_no_plan() {
        assert_eq!(plan("resources_scale", &json!({"apiVersion": "v1", "kind": "X", "name": "a"})), None);
        assert_eq!(plan("resources_create_or_update", &json!({"resource": "no manifest"})), None);
        assert_eq!(plan("kubectl_delete", &json!({"resourceType": "pod", "labelSelector": "app=web"})), None);
        assert_eq!(plan("calendar", &json!({"name": "x"})), None);
    }
}
