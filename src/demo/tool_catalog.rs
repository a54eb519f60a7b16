//! The tool descriptions that the demo's MCP server sends to clients.

use std::sync::Arc;

use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use serde_json::{Value, json};

/// How a tool affects the cluster.
#[derive(Clone, Copy)]
enum ToolBehavior {
    /// It changes nothing.
    ReadOnly,
    /// Calling it again changes nothing more.
    Idempotent,
    /// Each call has its own effect.
    NonIdempotent,
}

/// A parameter: name, JSON type, whether it is required, description.
type ToolParameter = (&'static str, &'static str, bool, &'static str);

const ANY_NAMESPACE: ToolParameter = ("namespace", "string", false, "The namespace; all namespaces if omitted");
const NAMESPACE: ToolParameter = ("namespace", "string", true, "The namespace");
const POD: ToolParameter = ("name", "string", true, "The pod's name");
const DEPLOYMENT: ToolParameter = ("name", "string", true, "The deployment's name");
const CONFIG_MAP: ToolParameter = ("name", "string", true, "The ConfigMap's name");

fn build_tool(
    name: &'static str,
    title: &str,
    description: &'static str,
    behavior: ToolBehavior,
    parameters: &[ToolParameter],
) -> Tool {
    let properties: JsonObject = parameters
        .iter()
        .map(|(name, json_type, _, description)| {
            let mut schema = json!({"type": json_type, "description": description});
            if *json_type == "integer" {
                schema["minimum"] = json!(0);
            }
            ((*name).to_owned(), schema)
        })
        .collect();
    let required: Vec<Value> = parameters.iter().filter(|p| p.2).map(|p| json!(p.0)).collect();
    let mut schema = JsonObject::new();
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("properties".to_owned(), Value::Object(properties));
    if !required.is_empty() {
        schema.insert("required".to_owned(), Value::Array(required));
    }
    schema.insert("additionalProperties".to_owned(), json!(false));

    let hints = ToolAnnotations::with_title(title).open_world(false);
    let hints = match behavior {
        ToolBehavior::ReadOnly => hints.read_only(true),
        ToolBehavior::Idempotent => hints.read_only(false).destructive(true).idempotent(true),
        ToolBehavior::NonIdempotent => hints.read_only(false).destructive(true).idempotent(false),
    };
    Tool::new(name, description, Arc::new(schema)).with_title(title).with_annotations(hints)
}

/// Returns all tools, sorted by name.
pub(super) fn demo_tools() -> Vec<Tool> {
    use ToolBehavior::{Idempotent, NonIdempotent, ReadOnly};
    vec![
        build_tool(
            "configmap_get",
            "ConfigMap: Get",
            "Show a ConfigMap with its data",
            ReadOnly,
            &[NAMESPACE, CONFIG_MAP],
        ),
        build_tool(
            "configmap_set",
            "ConfigMap: Set key",
            "Set one key of a ConfigMap; containers read it when they start",
            Idempotent,
            &[
                NAMESPACE,
                CONFIG_MAP,
                ("key", "string", true, "The key to set"),
                ("value", "string", true, "Its new value"),
            ],
        ),
        build_tool("configmaps_list", "ConfigMaps: List", "List ConfigMaps", ReadOnly, &[ANY_NAMESPACE]),
        build_tool(
            "deployment_get",
            "Deployment: Get",
            "Show a deployment as YAML",
            ReadOnly,
            &[NAMESPACE, DEPLOYMENT],
        ),
        build_tool(
            "deployment_restart",
            "Deployment: Restart",
            "Restart a deployment: its pods are replaced one by one",
            NonIdempotent,
            &[NAMESPACE, DEPLOYMENT],
        ),
        build_tool(
            "deployment_rollback",
            "Deployment: Roll back",
            "Return to the previous pod template of the deployment",
            NonIdempotent,
            &[NAMESPACE, DEPLOYMENT],
        ),
        build_tool(
            "deployment_scale",
            "Deployment: Scale",
            "Set the number of replicas of a deployment",
            Idempotent,
            &[NAMESPACE, DEPLOYMENT, ("replicas", "integer", true, "The desired number of pods")],
        ),
        build_tool(
            "deployment_set_image",
            "Deployment: Set image",
            "Set the container image of a deployment; its pods are replaced one by one",
            Idempotent,
            &[NAMESPACE, DEPLOYMENT, ("image", "string", true, "The image with its tag, such as nginx:1.27")],
        ),
        build_tool(
            "deployment_set_resources",
            "Deployment: Set resource requests",
            "Set the memory or CPU that a deployment's pods request; omitted values are kept",
            Idempotent,
            &[
                NAMESPACE,
                DEPLOYMENT,
                ("memory", "string", false, "Such as 512Mi or 2Gi"),
                ("cpu", "string", false, "Such as 250m or 2"),
            ],
        ),
        build_tool(
            "deployments_list",
            "Deployments: List",
            "List deployments with ready and updated pods and their image",
            ReadOnly,
            &[ANY_NAMESPACE],
        ),
        build_tool(
            "events_list",
            "Events: List",
            "List the events of the last hour, newest last",
            ReadOnly,
            &[ANY_NAMESPACE],
        ),
        build_tool("namespaces_list", "Namespaces: List", "List the namespaces", ReadOnly, &[]),
        build_tool("nodes_list", "Nodes: List", "List the nodes with their requested CPU and memory", ReadOnly, &[]),
        build_tool(
            "pod_delete",
            "Pod: Delete",
            "Delete a pod; its deployment creates a replacement",
            NonIdempotent,
            &[NAMESPACE, POD],
        ),
        build_tool("pods_get", "Pods: Get", "Show a pod as YAML", ReadOnly, &[NAMESPACE, POD]),
        build_tool(
            "pods_list",
            "Pods: List",
            "List pods with status, restarts, node and image",
            ReadOnly,
            &[ANY_NAMESPACE],
        ),
        build_tool(
            "pods_log",
            "Pods: Log",
            "Show the last lines of a pod's log",
            ReadOnly,
            &[
                NAMESPACE,
                POD,
                ("tail", "integer", false, "Number of lines (default 50, at most 1000)"),
                ("previous", "boolean", false, "Show the log of the container before its last restart"),
            ],
        ),
        build_tool(
            "resources_describe",
            "Resources: Describe",
            "Describe a pod, deployment, service, node or configmap, with its events",
            ReadOnly,
            &[
                ("kind", "string", true, "pod, deployment, service, node or configmap"),
                ("namespace", "string", false, "The namespace; not used for nodes"),
                ("name", "string", true, "The name"),
            ],
        ),
        build_tool(
            "rollout_history",
            "Rollout: History",
            "Show the ReplicaSets of a deployment as YAML: its pod templates with their revisions, the current one last",
            ReadOnly,
            &[NAMESPACE, DEPLOYMENT],
        ),
        build_tool(
            "rollout_status",
            "Rollout: Status",
            "Wait until a deployment's rollout is complete and show its status; reports progress while waiting",
            ReadOnly,
            &[
                NAMESPACE,
                DEPLOYMENT,
                ("timeout_seconds", "integer", false, "Longest time to wait (default 10, at most 60)"),
            ],
        ),
        build_tool("services_list", "Services: List", "List services", ReadOnly, &[ANY_NAMESPACE]),
    ]
}
