//! `kubernetes-mcp-server` (Go), all its toolsets. It talks to the API itself; its annotations are complete, and the
//! tests hold this table against them.

use serde_json::{Map, Value};

use super::{
    super::{Judged, Sensitive, secrets::is_secret},
    Does, Tool, text,
};

const NONE: Does = Does::Reads(None);

/// The Helm tools, which it shares by name with another server, are in that server's table.
pub(super) const TOOLS: &[Tool] = &[
    ("configuration_view", Does::Reads(Some(Sensitive::Objects)), &["minified"]),
    ("configuration_contexts_list", NONE, &[]),
    ("targets_list", NONE, &[]),
    ("events_list", NONE, &["fieldSelector namespace context"]),
    ("namespaces_list", NONE, &["fieldSelector context"]),
    ("projects_list", NONE, &["context"]),
    ("nodes_log", NONE, &["name query tailLines context"]),
    ("nodes_stats_summary", NONE, &["name context"]),
    ("nodes_top", NONE, &["label_selector name context"]),
    ("pods_get", NONE, &["name namespace context"]),
    ("pods_list", NONE, &["fieldSelector labelSelector context"]),
    ("pods_list_in_namespace", NONE, &["fieldSelector labelSelector namespace context"]),
    ("pods_log", NONE, &["container name namespace previous tail context"]),
    ("pods_top", NONE, &["all_namespaces label_selector name namespace context"]),
    ("pods_delete", Does::Writes("deletes a pod"), &[]),
    ("pods_exec", Does::Writes("runs a program in a container"), &[]),
    ("pods_run", Does::Writes("starts a pod"), &[]),
    ("resources_get", Does::Depends(resources), &["apiVersion kind name namespace context"]),
    ("resources_list", Does::Depends(resources), &["apiVersion fieldSelector kind labelSelector namespace context"]),
    ("resources_create_or_update", Does::Writes("creates or changes an object"), &[]),
    ("resources_delete", Does::Writes("deletes an object"), &[]),
    ("resources_scale", Does::Writes("changes a number of replicas"), &[]),
    ("kcp_workspace_describe", NONE, &["workspace"]),
    ("kcp_workspaces_list", NONE, &[]),
    ("kiali_get_logs", NONE, &["container format meshCluster name namespace previous severity tail workload"]),
    ("kiali_get_mesh_status", NONE, &[]),
    ("kiali_get_mesh_traffic_graph", NONE, &["graphType meshCluster namespaces"]),
    (
        "kiali_get_metrics",
        NONE,
        &["byLabels direction meshCluster namespace quantiles rateInterval reporter requestProtocol resourceName \
           resourceType step"],
    ),
    ("kiali_get_pod_performance", NONE, &["meshCluster namespace podName queryTime timeRange workloadName"]),
    ("kiali_get_resource_details", NONE, &["meshCluster namespaces resourceName resourceType"]),
    ("kiali_get_trace_details", NONE, &["traceId"]),
    ("kiali_list_mesh_clusters", NONE, &[]),
    ("kiali_list_traces", NONE, &["errorOnly limit lookbackSeconds meshCluster namespace serviceName"]),
    ("kiali_manage_istio_config", Does::Writes("changes Istio's configuration"), &[]),
    (
        "kiali_manage_istio_config_read",
        Does::Depends(istio),
        &["action group kind meshCluster namespace object serviceName version"],
    ),
    ("netobserv_export_flows", NONE, NETOBSERV),
    ("netobserv_get_flow_metrics", NONE, NETOBSERV),
    ("netobserv_list_flows", NONE, NETOBSERV),
    ("tekton_pipeline_start", Does::Writes("starts a pipeline"), &[]),
    ("tekton_pipelinerun_lifecycle", Does::Writes("steers a pipeline's run"), &[]),
    ("tekton_pipelinerun_logs", NONE, &["name namespace step tail task context"]),
    ("tekton_task_start", Does::Writes("starts a task"), &[]),
    ("tekton_taskrun_logs", NONE, &["name namespace step tail context"]),
    ("tekton_taskrun_restart", Does::Writes("starts a task anew"), &[]),
    ("vm_clone", Does::Writes("clones a virtual machine"), &[]),
    ("vm_create", Does::Writes("creates a virtual machine"), &[]),
    ("vm_create_from_template", Does::Writes("creates a virtual machine"), &[]),
    ("vm_guest_info", NONE, &["info_type name namespace context"]),
    ("vm_lifecycle", Does::Writes("starts or stops a virtual machine"), &[]),
    ("vm_troubleshoot", NONE, &["name namespace context"]),
];

const NETOBSERV: &[&str] = &[
    "aggregateBy columns dataSource endTime filters* format function groups limit namespace packetLoss rateInterval \
     recordType startTime step timeRange type",
];

fn resources(arguments: &Map<String, Value>) -> Judged {
    let held = is_secret(text(arguments, "kind")).then_some(Sensitive::Objects);
    Judged::read("it only reads objects").with(held)
}

fn istio(arguments: &Map<String, Value>) -> Judged {
    match text(arguments, "action") {
        "" | "list" | "get" => Judged::read("`kiali_manage_istio_config_read` only reads"),
        _ => Judged::mutating("`kiali_manage_istio_config_read`: this action is not known"),
    }
}
