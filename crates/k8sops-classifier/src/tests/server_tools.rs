//! Tools of common servers, and the forms in which they take command lines.

use serde_json::{Value, json};

use super::arguments;
use crate::{
    EffectClass,
    EffectClass::{Idempotent, Mutating, Read},
    SensitiveOutput, ToolDescription, build_preview_call,
    classification::ServerReach,
    classify_tool_call,
    tool_calls::classify_reach_apart,
};

fn effect(tool: &str, call: Value) -> EffectClass {
    classify_tool_call(&ToolDescription::named(tool), &arguments(call)).unwrap().effect
}

fn sensitive_output(tool: &str, call: Value) -> Option<SensitiveOutput> {
    classify_tool_call(&ToolDescription::named(tool), &arguments(call)).unwrap().sensitive_output
}

/// Tools that `kubernetes-mcp-server` annotates with `readOnlyHint: false`.
const GO_WRITES: &[&str] = &[
    "helm_install",
    "helm_uninstall",
    "kiali_manage_istio_config",
    "pods_delete",
    "pods_exec",
    "pods_run",
    "resources_create_or_update",
    "resources_delete",
    "tekton_pipeline_start",
    "tekton_pipelinerun_lifecycle",
    "tekton_task_start",
    "tekton_taskrun_restart",
    "vm_clone",
    "vm_create",
    "vm_create_from_template",
    "vm_lifecycle",
];
/// Tools that `kubernetes-mcp-server` annotates with `readOnlyHint: true`.
const GO_READS: &[&str] = &[
    "configuration_view",
    "events_list",
    "helm_list",
    "kcp_workspace_describe",
    "kcp_workspaces_list",
    "kiali_get_logs",
    "kiali_get_mesh_status",
    "kiali_get_mesh_traffic_graph",
    "kiali_get_metrics",
    "kiali_get_pod_performance",
    "kiali_get_resource_details",
    "kiali_get_trace_details",
    "kiali_list_mesh_clusters",
    "kiali_list_traces",
    "kiali_manage_istio_config_read",
    "namespaces_list",
    "netobserv_export_flows",
    "netobserv_get_flow_metrics",
    "netobserv_list_flows",
    "nodes_log",
    "nodes_stats_summary",
    "nodes_top",
    "pods_get",
    "pods_list",
    "pods_list_in_namespace",
    "pods_log",
    "pods_top",
    "projects_list",
    "resources_get",
    "resources_list",
    "tekton_pipelinerun_logs",
    "tekton_taskrun_logs",
    "vm_guest_info",
    "vm_troubleshoot",
];
/// Tools that `mcp-server-kubernetes` does not annotate as read-only.
const NODE_WRITES: &[&str] = &[
    "cleanup",
    "exec_in_pod",
    "install_helm_chart",
    "upgrade_helm_chart",
    "uninstall_helm_chart",
    "kubectl_apply",
    "kubectl_create",
    "kubectl_delete",
    "kubectl_generic",
    "kubectl_patch",
    "kubectl_reconnect",
    "kubectl_rollout",
    "kubectl_scale",
    "node_management",
    "port_forward",
    "stop_port_forward",
];
/// Tools that it annotates as read-only, apart from `kubectl_context`, which may choose another cluster.
const NODE_READS: &[&str] =
    &["explain_resource", "kubectl_describe", "kubectl_get", "kubectl_logs", "list_api_resources", "ping"];
const ARGOCD_READS: &[&str] = &[
    "list_applications",
    "list_clusters",
    "get_application",
    "get_appproject",
    "get_application_resource_tree",
    "get_application_managed_resources",
    "get_application_workload_logs",
    "get_application_events",
    "get_resource_events",
    "get_resources",
    "get_resource_actions",
];
const ARGOCD_WRITES: &[&str] =
    &["create_application", "update_application", "delete_application", "sync_application", "run_resource_action"];
const HELM_READS: &[&str] = &[
    "helm_dependency_list",
    "helm_env",
    "helm_get_all",
    "helm_get_hooks",
    "helm_get_manifest",
    "helm_get_metadata",
    "helm_get_notes",
    "helm_get_values",
    "helm_history",
    "helm_lint",
    "helm_list",
    "helm_plugin_list",
    "helm_repo_list",
    "helm_search_hub",
    "helm_search_repo",
    "helm_show_all",
    "helm_show_chart",
    "helm_show_crds",
    "helm_show_readme",
    "helm_show_values",
    "helm_status",
    "helm_template",
    "helm_verify",
    "helm_version",
];
const HELM_WRITES: &[&str] = &[
    "helm_create",
    "helm_dependency_build",
    "helm_dependency_update",
    "helm_install",
    "helm_package",
    "helm_plugin_install",
    "helm_plugin_uninstall",
    "helm_plugin_update",
    "helm_pull",
    "helm_push",
    "helm_registry_login",
    "helm_registry_logout",
    "helm_repo_add",
    "helm_repo_index",
    "helm_repo_remove",
    "helm_repo_update",
    "helm_rollback",
    "helm_test",
    "helm_uninstall",
    "helm_upgrade",
];

#[test]
fn writing_tools_are_mutating() {
    for tool in [GO_WRITES, NODE_WRITES, ARGOCD_WRITES, HELM_WRITES].concat() {
        assert_eq!(effect(tool, json!({})), Mutating, "{tool}");
        assert_eq!(effect(tool, json!({"name": "x", "namespace": "y"})), Mutating, "{tool}");
    }
}

#[test]
fn reading_tools_are_read() {
    for tool in [GO_READS, NODE_READS, ARGOCD_READS, HELM_READS].concat() {
        assert_eq!(effect(tool, json!({})), Read, "{tool}");
        assert_eq!(effect(tool, json!({"an_unknown_argument": "x"})), Mutating, "{tool}");
    }
}

#[test]
fn similar_names_are_unknown() {
    for tool in ["kubectl_get_all", "Kubectl_get", "pods", "xkubectl", ""] {
        assert_eq!(
            classify_tool_call(&ToolDescription::named(tool), &arguments(json!({"command": "kubectl get pods"}))),
            None,
            "{tool}"
        );
    }
}

#[test]
fn arguments_decide_the_effect() {
    assert_eq!(effect("kubectl_context", json!({"operation": "list"})), Read);
    assert_eq!(effect("kubectl_context", json!({"operation": "set", "name": "prod"})), Mutating);
    assert_eq!(
        effect("kubectl_rollout", json!({"subCommand": "status", "resourceType": "deployment", "name": "w"})),
        Read
    );
    assert_eq!(effect("kubectl_rollout", json!({"subCommand": "undo", "resourceType": "deployment"})), Mutating);
    assert_eq!(effect("kubectl_apply", json!({"manifest": "kind: Pod\n", "dryRun": true})), Read);
    assert_eq!(effect("kubectl_apply", json!({"manifest": "kind: Pod\n", "dryRun": "true"})), Mutating);
    assert_eq!(effect("kubectl_apply", json!({"filename": "https://x/y.yaml", "dryRun": true})), Mutating);
    assert_eq!(effect("kubectl_create", json!({"resourceType": "namespace", "name": "x", "dryRun": true})), Read);
    // The server puts the flag behind `--`.
    let job = json!({"resourceType": "job", "name": "x", "image": "i", "command": ["ls"], "dryRun": true});
    assert_eq!(effect("kubectl_create", job), Mutating);
    assert_eq!(effect("node_management", json!({"operation": "drain", "nodeName": "n", "dryRun": true})), Read);
    assert_eq!(effect("node_management", json!({"operation": "cordon", "nodeName": "n", "dryRun": true})), Mutating);
    assert_eq!(effect("helm_upgrade", json!({"release_name": "w", "chart": "./c", "dry_run": "server"})), Read);
    assert_eq!(effect("helm_upgrade", json!({"release_name": "w", "chart": "./c", "dry_run": "none"})), Mutating);
    assert_eq!(effect("helm_show_values", json!({"chart": "oci://x/y"})), Mutating);
    assert_eq!(effect("helm_list", json!({"kube_apiserver": "https://evil"})), Mutating);
    assert_eq!(effect("helm_list", json!({"kube_apiserver": "", "kube_token": null, "debug": false})), Read);
    assert_eq!(effect("sync_application", json!({"applicationName": "w", "dryRun": true})), Idempotent);
    assert_eq!(effect("list_applications", json!({"argocdBaseUrl": "https://evil"})), Mutating);
}

#[test]
fn arguments_of_several_words_are_mutating() {
    for name in
        ["--kubeconfig=x", "x; kubectl delete pod y", "$(id)", "x --server=evil", "a\nb", "`id`", "x|sh", "../x"]
    {
        assert_eq!(effect("kubectl_get", json!({"resourceType": "pods", "name": name})), Mutating, "{name}");
        assert_eq!(effect("pods_get", json!({"name": name})), Mutating, "{name}");
    }
}

#[test]
fn typed_arguments_name_secrets() {
    assert_eq!(sensitive_output("kubectl_get", json!({"resourceType": "secrets"})), Some(SensitiveOutput::Objects));
    assert_eq!(sensitive_output("kubectl_get", json!({"resourceType": "pods,Secret"})), Some(SensitiveOutput::Objects));
    assert_eq!(sensitive_output("kubectl_get", json!({"resourceType": "secret/db"})), Some(SensitiveOutput::Objects));
    assert_eq!(sensitive_output("kubectl_get", json!({"resourceType": "configmaps"})), None);
    assert_eq!(
        sensitive_output("resources_get", json!({"apiVersion": "v1", "kind": "Secret", "name": "db"})),
        Some(SensitiveOutput::Objects)
    );
    assert_eq!(sensitive_output("resources_list", json!({"apiVersion": "v1", "kind": "Pod"})), None);
    assert_eq!(sensitive_output("configuration_view", json!({})), Some(SensitiveOutput::Objects));
    assert_eq!(sensitive_output("helm_get_values", json!({"release_name": "w"})), Some(SensitiveOutput::Objects));
    assert_eq!(
        sensitive_output("get_application_managed_resources", json!({"applicationName": "w"})),
        Some(SensitiveOutput::Objects)
    );
    assert_eq!(
        sensitive_output("kubectl", json!({"args": ["get", "secret", "x", "-o", "jsonpath={.data.a}"]})),
        Some(SensitiveOutput::Values)
    );
}

#[test]
fn command_line_arguments_have_many_forms() {
    assert_eq!(effect("kubectl", json!({"command": "kubectl get pods"})), Read);
    assert_eq!(effect("kubectl", json!({"command": "get pods -n x | grep y", "timeout": 30})), Read);
    assert_eq!(effect("kubectl", json!({"command": "delete pod x"})), Mutating);
    assert_eq!(effect("kubectl", json!({"command": "kubectl delete pod x"})), Mutating);
    assert_eq!(effect("kubectl", json!({"args": ["get", "pods"]})), Read);
    assert_eq!(effect("kubectl", json!({"args": ["kubectl", "get", "pods"]})), Read);
    assert_eq!(effect("kubectl", json!({"command": "get", "args": ["pods", "-A"]})), Read);
    assert_eq!(effect("run_command", json!({"command": "kubectl", "args": ["get", "pods"]})), Read);
    assert_eq!(effect("run_command", json!({"command": "kubectl", "args": ["delete", "pod", "x"]})), Mutating);
    assert_eq!(effect("run_command", json!({"command": "get pods"})), Mutating);
    assert_eq!(effect("helm", json!({"args": "list -A"})), Read);
    assert_eq!(effect("argocd", json!({"command": "app list"})), Read);
    // Joined with spaces, these are two commands.
    assert_eq!(effect("kubectl", json!({"args": ["get", "pods;", "kubectl", "delete", "pod", "x"]})), Mutating);
    assert_eq!(effect("kubectl", json!({"args": ["get", "pods", "$(id)"]})), Mutating);
    assert_eq!(effect("kubectl", json!({"args": ["get pods"]})), Mutating);
    assert_eq!(effect("kubectl", json!({"command": "get pods", "cmd": "delete pod x"})), Mutating);
    assert_eq!(effect("kubectl", json!({"command": "get pods", "stdin": "x"})), Mutating);
    assert_eq!(effect("kubectl", json!({"command": "get pods", "namespace": "x --as=y"})), Mutating);
    assert_eq!(effect("kubectl", json!({"command": 5})), Mutating);
    assert_eq!(effect("kubectl", json!({"args": ["get", 5]})), Mutating);
    assert_eq!(effect("kubectl", json!({})), Mutating);
}

#[test]
fn generic_tool_is_classified_by_its_command_line() {
    let generic = |call: Value| effect("kubectl_generic", call);
    assert_eq!(
        generic(json!({"command": "get", "resourceType": "pods", "namespace": "x", "outputFormat": "yaml"})),
        Read
    );
    assert_eq!(generic(json!({"command": "top", "subCommand": "pods", "allNamespaces": true})), Read);
    assert_eq!(
        generic(json!({"command": "rollout", "subCommand": "status", "resourceType": "deployment", "name": "w"})),
        Read
    );
    assert_eq!(generic(json!({"command": "rollout", "subCommand": "restart", "name": "w"})), Mutating);
    assert_eq!(generic(json!({"command": "get", "resourceType": "pods", "flags": {"as": "admin"}})), Mutating);
    assert_eq!(
        generic(json!({"command": "delete", "resourceType": "pod", "name": "x", "flags": {"dry-run": "server"}})),
        Read
    );
    let twice = json!({"command": "delete", "name": "x", "flags": {"dry-run": "server"}, "args": ["--dry-run=none"]});
    assert_eq!(generic(twice), Mutating);
    assert_eq!(generic(json!({"command": "get", "args": ["pods", "--kubeconfig=x"]})), Mutating);
    assert_eq!(generic(json!({"command": ["get"], "args": ["pods"]})), Mutating);
    assert_eq!(generic(json!({"command": "get", "unknown": 1})), Mutating);
    let call =
        json!({"command": "get", "resourceType": "secret", "name": "db", "flags": {"output": "jsonpath={.data}"}});
    assert_eq!(sensitive_output("kubectl_generic", call), Some(SensitiveOutput::Values));
}

fn preview(tool: &str, call: Value) -> Option<(String, Value)> {
    let preview = build_preview_call(&ToolDescription::named(tool), &arguments(call))?;
    let classification = classify_reach_apart(&ToolDescription::named(&preview.tool), &preview.arguments).unwrap();
    assert!(classification.is_read_within(ServerReach::Manifests), "{preview:?}");
    Some((preview.tool, Value::Object(preview.arguments)))
}

fn preview_line(line: &str) -> Option<String> {
    preview("bash", json!({"command": line})).map(|(_, call)| call["command"].as_str().unwrap().to_owned())
}

#[test]
fn command_lines_are_previewed() {
    let lines = [
        ("kubectl apply -f d.yaml", "kubectl diff -f d.yaml"),
        ("kubectl -n prod apply -k overlays/prod", "kubectl -n prod diff -k overlays/prod"),
        ("kubectl apply -f d.yaml --force", "kubectl apply --dry-run=server -f d.yaml --force"),
        ("kubectl delete pod x", "kubectl delete --dry-run=server pod x"),
        ("kubectl scale deploy/w --replicas=3", "kubectl scale --dry-run=server deploy/w --replicas=3"),
        ("kubectl create deployment w --image=i", "kubectl create deployment --dry-run=server w --image=i"),
        ("kubectl create job w --image=i -- ls -l", "kubectl create job --dry-run=server w --image=i -- ls -l"),
        ("kubectl patch pod x -p '{\"a\": 1}'", "kubectl patch --dry-run=server -o yaml pod x -p '{\"a\": 1}'"),
        ("kubectl rollout undo deploy/w", "kubectl rollout undo --dry-run=server deploy/w"),
        ("helm upgrade w ./c -f v.yaml", "helm upgrade --dry-run=server w ./c -f v.yaml"),
        ("helm rollback w 3", "helm rollback --dry-run w 3"),
    ];
    for (line, expected) in lines {
        assert_eq!(preview_line(line).as_deref(), Some(expected), "{line}");
    }
    let none = [
        "kubectl get pods",
        "kubectl exec x -- ls",
        "kubectl rollout restart deploy/w",
        "kubectl create token x",
        "kubectl delete pod x; kubectl delete pod y",
        "kubectl apply -f d.yaml --dry-run=none",
        "kubectl delete pod x --as=admin",
        "argocd app sync w",
        "helm test w",
        "rm -rf /",
    ];
    for line in none {
        assert_eq!(preview_line(line), None, "{line}");
    }
}

#[test]
fn typed_tools_are_previewed() {
    let dry = |tool: &str, call: Value| preview(tool, call).map(|(_, call)| call);
    assert_eq!(
        dry("kubectl_apply", json!({"manifest": "kind: Pod"})),
        Some(json!({"manifest": "kind: Pod", "dryRun": true}))
    );
    assert_eq!(
        dry("helm_upgrade", json!({"release_name": "w", "chart": "./c"})),
        Some(json!({"release_name": "w", "chart": "./c", "dry_run": "server"}))
    );
    assert_eq!(
        dry("kubectl_generic", json!({"command": "delete", "resourceType": "pod", "name": "x"})),
        Some(json!({"command": "delete", "resourceType": "pod", "name": "x", "flags": {"dry-run": "server"}}))
    );
    assert_eq!(
        preview("kubectl_scale", json!({"name": "w", "replicas": 3, "namespace": "prod"})),
        Some((
            "kubectl_generic".into(),
            json!({"command": "scale", "resourceType": "deployment", "name": "w", "namespace": "prod",
                   "flags": {"replicas": 3, "dry-run": "server"}})
        ))
    );
    assert_eq!(
        dry("kubectl", json!({"args": ["apply", "-f", "d.yaml"]})),
        Some(json!({"args": ["apply", "--dry-run=server", "-f", "d.yaml"]}))
    );
    for (tool, call) in [
        ("exec_in_pod", json!({"name": "x", "command": ["ls"]})),
        ("pods_delete", json!({"name": "x"})),
        ("kubectl_delete", json!({"manifest": "kind: Pod"})),
        ("kubectl_get", json!({"resourceType": "pods"})),
        ("unknown", json!({"command": "kubectl delete pod x"})),
    ] {
        assert_eq!(preview(tool, call), None, "{tool}");
    }
}
