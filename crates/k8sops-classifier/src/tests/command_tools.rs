//! Tools that take a command line, as servers name and describe them.

use serde_json::{Map, Value, json};

use super::arguments;
use crate::{
    EffectClass::{self, Mutating, Read},
    SensitiveOutput, ServerReach, ToolDescription, build_preview_call, classify_tool_call,
};

/// Classifies a call of a tool with a title, a description and the arguments of its schema.
fn classify(name: &str, description: &str, properties: &[&str], call: Value) -> Option<EffectClass> {
    let properties: Map<String, Value> =
        properties.iter().map(|key| ((*key).to_owned(), json!({"type": "string"}))).collect();
    let schema = arguments(json!({"type": "object", "properties": properties}));
    let tool = ToolDescription { name, title: None, description, input_schema: Some(&schema) };
    classify_tool_call(&tool, &arguments(call)).map(|classification| classification.effect)
}

#[test]
fn command_tools_are_recognized_by_their_shape() {
    let tools: &[(&str, &str, &[&str], &str)] = &[
        ("k8s_kubectl_execute", "Execute a kubectl command", &["command", "timeout"], "get pods -n prod"),
        ("k8s_kubectl_execute", "", &["command"], "kubectl get pods"),
        ("k8s_helm_execute", "", &["command"], "list -A"),
        ("k8s_helm_execute", "", &["command"], "helm history web"),
        ("k8s_argocd_execute", "", &["command"], "app get web"),
        ("kubectl_run", "", &["kubectl_command"], "get pods"),
        ("runKubectlCommand", "", &["cmd"], "get pods"),
        ("run-kubectl-command-ro", "", &["command"], "get pods"),
        ("execute_kubectl", "", &["command", "timeout"], "kubectl get pods | grep web"),
        ("kubectl-exec", "", &["args"], "get pods"),
        ("k8s_cli", "Runs kubectl against the cluster", &["args"], "get nodes"),
        ("query", "Execute a kubectl command and return its output", &["kubectlCommand"], "get nodes"),
        ("cluster_command", "Run any helm command.", &["command"], "status web"),
        ("execute", "Run a command in the shell of the operator", &["command"], "kubectl get pods"),
        ("run_command", "", &["command"], "kubectl get pods"),
        ("system_exec_cmd", "", &["cmd"], "kubectl get pods; helm list"),
        ("acme_bash", "", &["script"], "kubectl get pods"),
        ("argo_cd_cli", "", &["command"], "app list"),
    ];
    for (name, description, properties, line) in tools {
        let key = properties[0];
        let read = classify(name, description, properties, json!({key: line}));
        assert_eq!(read, Some(Read), "{name} {line}");
        for change in
            ["kubectl delete pod x", "delete pod x", "uninstall web", "app sync web", "rm x", "get pods; rm x"]
        {
            assert_eq!(
                classify(name, description, properties, json!({key: change})),
                Some(Mutating),
                "{name} {change}"
            );
        }
        assert_eq!(classify(name, description, properties, json!({})), Some(Mutating), "{name}");
    }
}

#[test]
fn arguments_beside_the_line_may_be_blank() {
    let effect = |call: Value| classify("shell_execute", "", &["command", "stdin", "shell"], call);
    assert_eq!(effect(json!({"command": ["kubectl", "get", "pods"], "stdin": "", "timeout": 30})), Some(Read));
    assert_eq!(effect(json!({"command": "kubectl get pods", "shell": "/bin/bash", "sudo": false})), Some(Read));
    assert_eq!(effect(json!({"command": "kubectl get pods", "shell": "python3"})), Some(Mutating));
    assert_eq!(effect(json!({"command": "kubectl get pods", "stdin": "x"})), Some(Mutating));
    assert_eq!(effect(json!({"command": "kubectl get pods", "sudo": true})), Some(Mutating));
    assert_eq!(effect(json!({"command": ""})), Some(Mutating));
}

#[test]
fn title_names_the_program() {
    let schema = arguments(json!({"properties": {"command": {"type": "string"}}}));
    let tool =
        ToolDescription { name: "k8s_run", title: Some("Run kubectl"), description: "", input_schema: Some(&schema) };
    let call = classify_tool_call(&tool, &arguments(json!({"command": "get pods"}))).unwrap();
    assert_eq!(call.effect, Read);
}

#[test]
fn tools_of_another_shape_are_unknown() {
    let tools: &[(&str, &str, &[&str])] = &[
        // The command runs in a pod or on another machine.
        ("k8s_exec", "Execute a command in a pod with kubectl exec", &["pod_name", "command"]),
        ("exec_in_container", "Run a shell command", &["command"]),
        ("run_command", "Run a shell command over SSH", &["host", "command"]),
        ("ssh_execute", "Run a shell command", &["command"]),
        ("exec", "kubectl exec", &["name", "command"]),
        // The tool adds a verb of its own.
        ("kubectl_delete_many", "", &["args"]),
        ("apply_manifest", "Runs kubectl apply", &["args"]),
        ("helm_upgrade_release", "", &["args"]),
        ("scale", "Runs kubectl scale", &["args"]),
        // There is no argument for a command line.
        ("ask_cluster", "Answers questions with kubectl", &["question"]),
        ("kubectl_docs", "Searches the docs of kubectl", &["query"]),
        ("pipeline_run", "Runs a pipeline", &["command"]),
    ];
    for (name, description, properties) in tools {
        for line in ["kubectl get pods", "get pods", "events"] {
            let key = properties.last().unwrap();
            assert_eq!(classify(name, description, properties, json!({*key: line})), None, "{name} {line}");
        }
    }
}

#[test]
fn parts_of_a_command_line_are_joined() {
    let azure = |tool: &str, call: Value| classify(tool, "", &["operation", "resource", "args"], call).unwrap();
    assert_eq!(azure("kubectl_resources", json!({"operation": "get", "resource": "pods", "args": "-n prod"})), Read);
    assert_eq!(azure("kubectl_resources", json!({"operation": "delete", "resource": "pods", "args": "x"})), Mutating);
    assert_eq!(azure("kubectl_workloads", json!({"operation": "rollout", "resource": "status deploy/web"})), Read);
    assert_eq!(azure("kubectl_workloads", json!({"operation": "rollout", "resource": "undo deploy/web"})), Mutating);
    assert_eq!(azure("kubectl_resources", json!({"operation": "get", "resource": "pods", "args": "--as=x"})), Mutating);
    let split = |call: Value| classify("kubectl", "", &["command", "args"], call).unwrap();
    assert_eq!(split(json!({"command": "get", "args": "pods -n prod"})), Read);
    assert_eq!(split(json!({"command": "delete", "args": "pod x"})), Mutating);
    assert_eq!(split(json!({"command": "get", "args": "pods; rm x"})), Mutating);
}

#[test]
fn what_is_known_of_a_line_holds_for_every_command_tool() {
    let tool = ToolDescription::named("k8s_kubectl_execute");
    let call = arguments(json!({"command": "get secret db -o jsonpath={.data.password}"}));
    assert_eq!(classify_tool_call(&tool, &call).unwrap().sensitive_output, Some(SensitiveOutput::Values));
    let scale = arguments(json!({"command": "scale deploy/web --replicas=3"}));
    let preview = build_preview_call(&tool, &scale).unwrap();
    assert_eq!(preview.arguments["command"], "scale --dry-run=server deploy/web --replicas=3");
}

#[test]
fn changes_of_the_server_process_are_marked() {
    let reach = |tool: &str, call: Value| {
        classify_tool_call(&ToolDescription::named(tool), &arguments(call)).map(|classification| classification.reach)
    };
    let state = Some(ServerReach::ServerState);
    for (tool, call) in [
        ("kubectl_context", json!({"operation": "set", "name": "prod"})),
        ("kubectl_reconnect", json!({})),
        ("configuration_use_context", json!({"context": "prod"})),
        ("configuration_set", json!({})),
        ("switch_context", json!({"name": "prod"})),
        ("use-kube-context", json!({"name": "prod"})),
        ("set_current_namespace", json!({"namespace": "prod"})),
        ("bash", json!({"command": "kubectl config use-context prod"})),
        ("bash", json!({"command": "kubectl get pods && kubectl config set-context --current --namespace=x"})),
        ("bash", json!({"command": "for c in a b; do kubectl config use-context $c; done"})),
        ("bash", json!({"command": "bash -c 'kubectl config use-context prod'"})),
        ("kubectl", json!({"args": ["config", "use-context", "prod"]})),
        ("kubectl_generic", json!({"command": "config", "subCommand": "use-context", "name": "prod"})),
        ("k8s_argocd_execute", json!({"command": "context prod"})),
        ("run_command", json!({"command": "aws eks update-kubeconfig --name prod"})),
    ] {
        assert_eq!(reach(tool, call.clone()), state, "{tool} {call}");
    }
    for (tool, call) in [
        ("kubectl_context", json!({"operation": "list"})),
        ("kubectl", json!({"command": "config get-contexts"})),
        ("kubectl", json!({"command": "config unset users.x"})),
        ("kubectl", json!({"command": "get pods --context prod"})),
        ("configuration_view", json!({})),
        ("helm", json!({"command": "repo add x https://example.com"})),
    ] {
        assert_ne!(reach(tool, call.clone()), state, "{tool} {call}");
    }
    for unknown in ["namespace_list", "set_image", "load_balancer_update", "cluster_health", "context_search"] {
        assert_eq!(reach(unknown, json!({})), None, "{unknown}");
    }
}

#[test]
fn typed_tools_that_read_files_are_mutating() {
    let effect =
        |tool: &str, call: Value| classify_tool_call(&ToolDescription::named(tool), &arguments(call)).unwrap().effect;
    for (tool, call) in [
        ("kubectl_create", json!({"resourceType": "configmap", "name": "x", "fromFile": ["k=/etc/x"], "dryRun": true})),
        ("kubectl_create", json!({"filename": "/srv/x.yaml", "dryRun": true})),
        ("kubectl_apply", json!({"filename": "x.yaml", "dryRun": true})),
        ("kubectl_patch", json!({"resourceType": "pod", "name": "x", "patchFile": "p.json", "dryRun": true})),
        ("kubectl_get", json!({"resourceType": "pods", "output": "jsonpath-file=/etc/x"})),
        (
            "kubectl_generic",
            json!({"command": "create", "subCommand": "configmap", "name": "x",
            "flags": {"from-file": "/etc/x", "dry-run": "client"}}),
        ),
        ("helm_template", json!({"release_name": "w", "chart": "./c", "values_files": ["/root/.kube/config"]})),
        ("helm_lint", json!({"paths": ["/srv/chart"]})),
        ("helm_verify", json!({"chart_file": "/etc/x.tgz"})),
        ("helm_upgrade", json!({"release_name": "w", "chart": "/srv/c", "dry_run": "server"})),
        ("bash", json!({"command": "helm template w ./c -f values.yaml", "cwd": "/root"})),
    ] {
        assert_eq!(effect(tool, call.clone()), Mutating, "{tool} {call}");
    }
    assert_eq!(effect("helm_template", json!({"release_name": "w", "chart": "./c", "values_files": ["v.yaml"]})), Read);
}

#[test]
fn arguments_that_choose_what_is_shown_do_not_matter() {
    let effect =
        |tool: &str, call: Value| classify_tool_call(&ToolDescription::named(tool), &arguments(call)).unwrap().effect;
    for (tool, call) in [
        ("pods_list", json!({"namespace": "shop"})),
        ("events_list", json!({"namespace": "shop", "limit": 10})),
        ("namespaces_list", json!({"labelSelector": "team=web"})),
        ("nodes_top", json!({"labelSelector": "a=b"})),
        ("pods_log", json!({"name": "x", "namespace": "y", "since": "1h", "tailLines": 5})),
        ("resources_scale", json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "namespace": "x"})),
        ("kubectl_get", json!({"resourceType": "pods", "sortBy": ".metadata.name", "limit": 5})),
        ("helm_list", json!({"namespace": "x", "output": "json"})),
    ] {
        assert_eq!(effect(tool, call.clone()), Read, "{tool} {call}");
    }
    for (tool, call) in [
        ("resources_scale", json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "scale": 3})),
        ("resources_scale", json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "scale": null})),
        ("pods_list", json!({"namespace": "x --kubeconfig=/tmp/k"})),
        ("pods_list", json!({"output": "/tmp/x"})),
    ] {
        assert_eq!(effect(tool, call.clone()), Mutating, "{tool} {call}");
    }
}
