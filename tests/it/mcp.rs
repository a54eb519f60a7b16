//! Third-party MCP servers over stdio and HTTP: discovery, calls, disconnects, and reconnects.

use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::{
    diagnoses::{MAX_DIAGNOSIS_TOKENS, TokenCount},
    service::{ServiceSetup, TestService},
};
use k8sops_testing::{
    TEST_TIMEOUT,
    child_program::ChildProgram,
    scripted_model::{ScriptedModel, call, text},
    testbed,
};

pub(crate) fn everything_over_http(port: u16) -> Command {
    let mut command = Command::new(testbed::path("K8SOPS_TEST_NODE"));
    command
        .arg("--require")
        .arg(testbed::path("K8SOPS_TEST_LOOPBACK_ONLY_JS"))
        .arg(testbed::path("K8SOPS_TEST_MCP_EVERYTHING"))
        .arg("streamableHttp")
        .env("PORT", port.to_string());
    command
}

fn stdio_env(command: &str, args: &[&str]) -> Vec<(&'static str, String)> {
    vec![
        ("MCP_TRANSPORT", "stdio".into()),
        ("MCP_SERVER_COMMAND", command.into()),
        ("MCP_SERVER_ARGS", serde_json::to_string(args).unwrap()),
    ]
}

async fn start_service(model: &Arc<ScriptedModel>, env: Vec<(&'static str, String)>) -> TestService {
    let service = TestService::start(ServiceSetup { model: Some(model.clone()), env, ..ServiceSetup::default() }).await;
    service.wait_for_mcp_servers().await;
    service
}

fn tool_names(tools: &Value) -> Vec<&str> {
    tools["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect()
}

fn tool_ends(frames: &[Value]) -> Vec<(&str, &str)> {
    let ends = frames.iter().filter(|f| f["type"] == "tool_end");
    ends.map(|f| (f["status"].as_str().unwrap(), f["content"].as_str().unwrap())).collect()
}

fn two_calls() -> Arc<ScriptedModel> {
    ScriptedModel::new([
        vec![call("echo", json!({"message": "hello"})), call("get-sum", json!({"a": 17, "b": 25}))],
        vec![text("There you are.")],
    ])
}

async fn assert_two_calls(service: &TestService) {
    let session = service.create_session().await;
    let frames = service.turn(&session, "echo and add").await;
    let mut ends = tool_ends(&frames);
    ends.sort_unstable();
    assert_eq!(ends, [("ok", "Echo: hello"), ("ok", "The sum of 17 and 25 is 42.")]);
    assert_eq!(frames.last().unwrap()["outcome"], "completed");
    assert_eq!(service.get(&session).await["status"]["mcp_connected"], true);
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn stdio_server_is_discovered_and_called() {
    let model = two_calls();
    let node = testbed::path("K8SOPS_TEST_NODE");
    let service =
        start_service(&model, stdio_env(&node, &[&testbed::path("K8SOPS_TEST_MCP_EVERYTHING"), "stdio"])).await;
    let tools = service.get("/v1/tools").await;
    assert!(tool_names(&tools).contains(&"echo") && tool_names(&tools).contains(&"get-sum"), "{tools}");
    let echo = tools["tools"].as_array().unwrap().iter().find(|t| t["name"] == "echo").unwrap();
    assert_eq!((&echo["server"], &echo["effect"]), (&json!("default"), &json!("read")));
    assert!(echo["reason"].as_str().unwrap().contains("readOnlyHint"), "{echo}");
    assert_two_calls(&service).await;
    // The model gets the discovered tools that fit the budget.
    let is_offered = |tool: &&Value| tool["offer"] == "always";
    let all = tools["tools"].as_array().unwrap();
    let mut expected: Vec<_> = all.iter().filter(is_offered).map(|tool| tool["name"].as_str().unwrap()).collect();
    let requests = model.requests();
    let mut offered: Vec<_> = requests[0].tools.iter().map(|tool| tool.name.as_str()).collect();
    expected.sort_unstable();
    offered.sort_unstable();
    assert_eq!(offered, expected);
    service.stop().await;
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn http_server_reconnects_after_restart() {
    let port = testbed::free_port();
    let peer = ChildProgram::start(&mut everything_over_http(port)).await;
    let env = vec![("MCP_TRANSPORT", "http".into()), ("MCP_SERVER_URL", format!("{}/mcp", peer.url))];
    let service = start_service(&two_calls(), env).await;
    assert_two_calls(&service).await;

    peer.kill().await;
    service.post("/v1/tools/refresh", json!({})).await;
    let info = service.get("/v1/info").await;
    assert_eq!(info["mcp_connected"], false);
    assert!(!info["mcp_servers"][0]["error"].as_str().unwrap().is_empty());
    // The service works without the server, and a call to it is an error that the model sees.
    let session = service.create_session().await;
    assert_eq!(service.turn(&session, "hi").await.last().unwrap()["outcome"], "completed");
    assert_eq!(service.get(&session).await["status"]["mcp_connected"], false);
    assert_eq!(service.get("/readyz").await["status"], "ok");

    let _again = ChildProgram::start(&mut everything_over_http(port)).await;
    service.wait_for_mcp_servers().await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn service_runs_without_its_mcp_server() {
    let url = format!("http://127.0.0.1:{}/mcp", testbed::free_port());
    let model = ScriptedModel::new([]);
    let env = vec![("MCP_TRANSPORT", "http".into()), ("MCP_SERVER_URL", url)];
    let service = TestService::start(ServiceSetup { model: Some(model), env, ..ServiceSetup::default() }).await;
    let session = service.create_session().await;
    assert_eq!(service.turn(&session, "hi").await.last().unwrap()["outcome"], "completed");
    assert_eq!(service.get("/v1/info").await["mcp_connected"], false);
}

/// Starts the stub of the Kubernetes API. Returns it with a kubeconfig.
pub(crate) async fn start_cluster_stub() -> (ChildProgram, TempDir, String) {
    let dir = TempDir::new().unwrap();
    let kubeconfig = dir.path().join("kubeconfig").to_str().unwrap().to_owned();
    let mut command = Command::new(testbed::path("K8SOPS_TEST_PYTHON"));
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/testbed/kube_stub.py"));
    command.args(["--port", "0", "--kubeconfig", &kubeconfig]);
    (ChildProgram::start(&mut command).await, dir, kubeconfig)
}

pub(crate) async fn read_journal(cluster: &ChildProgram) -> Vec<Value> {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    client.get(format!("{}/__stub/journal", cluster.url)).send().await.unwrap().json().await.unwrap()
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn kubernetes_server_explains_a_crashing_pod() {
    let (cluster, _dir, kubeconfig) = start_cluster_stub().await;
    let model = ScriptedModel::new([
        vec![call("pods_list_in_namespace", json!({"namespace": "shop"}))],
        vec![call("pods_log", json!({"namespace": "shop", "name": "payments-7d9f8c6b5d-00006"}))],
        vec![call("events_list", json!({"namespace": "shop"}))],
        vec![call("pods_get", json!({"namespace": "shop", "name": "payments-7d9f8c6b5d-00006"}))],
        vec![text("PAYMENTS_DB_URL is missing.")],
    ]);
    let command = testbed::path("K8SOPS_TEST_KUBERNETES_MCP");
    let service = start_service(&model, stdio_env(&command, &["--kubeconfig", &kubeconfig])).await;
    let session = service.create_session().await;
    let frames = service.turn(&session, "why does payments crash?").await;
    let ends = tool_ends(&frames);
    assert!(ends[0].1.contains("CrashLoopBackOff"), "{ends:?}");
    assert!(ends[1].1.contains("FATAL missing env PAYMENTS_DB_URL"), "{ends:?}");
    let tokens = TokenCount::sum(&model.requests());
    assert!(tokens.total() <= MAX_DIAGNOSIS_TOKENS, "{tokens}");
    service.stop().await;
    drop(cluster);
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn approved_destructive_call_reaches_the_cluster_once() {
    let (cluster, _dir, kubeconfig) = start_cluster_stub().await;
    let port = testbed::free_port();
    let mut command = Command::new(testbed::path("K8SOPS_TEST_KUBERNETES_MCP"));
    command.args(["--kubeconfig", &kubeconfig, "--port", &port.to_string(), "--bind-address", "127.0.0.1"]);
    let peer = ChildProgram::start_at(&mut command, format!("http://127.0.0.1:{port}"), "/healthz").await;
    let model = ScriptedModel::new([vec![call(
        "pods_delete",
        json!({"namespace": "shop", "name": "payments-7d9f8c6b5d-00006"}),
    )]]);
    let env = vec![("MCP_TRANSPORT", "http".into()), ("MCP_SERVER_URL", format!("{}/mcp", peer.url))];
    let service = start_service(&model, env).await;
    let deletes = || async { read_journal(&cluster).await.iter().filter(|r| r["method"] == "DELETE").count() };
    let session = service.create_session().await;
    service.post(&format!("{session}/messages"), json!({"content": "delete the pod"})).await;
    let mut stream = service.events(&session, "").await;
    let asked = stream.until("approval_requested").await.pop().unwrap();
    // The server annotates the tool as idempotent; the built-in classification takes precedence.
    assert_eq!(asked["effect"], "mutating");
    assert_eq!(deletes().await, 0);
    let path = format!("{session}/approvals/{}", asked["approval_id"].as_str().unwrap());
    service.post(&path, json!({"decision": "approve"})).await;
    let frames = stream.until("run_finished").await;
    assert_eq!(tool_ends(&frames)[0].0, "ok");
    assert_eq!(deletes().await, 1);
    // A call is sent after its `tool_start` is in the log, which follows the approval.
    let log = service.log(&session).await;
    let place = |kind: &str| log.iter().position(|event| event["type"] == kind).unwrap();
    assert!(place("approval_resolved") < place("tool_start"), "nothing runs before the answer: {log:?}");
    service.stop().await;
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn tools_of_several_servers_stay_separate() {
    let everything = format!(
        "transport: stdio\n      command: {}\n      args: [{}, stdio]",
        testbed::path("K8SOPS_TEST_NODE"),
        testbed::path("K8SOPS_TEST_MCP_EVERYTHING")
    );
    let yaml = format!("mcp:\n  servers:\n    - name: one\n      {everything}\n    - name: two\n      {everything}\n");
    let model = ScriptedModel::new([vec![call("two_echo", json!({"message": "from two"}))]]);
    let service =
        TestService::start(ServiceSetup { model: Some(model), yaml: Some(yaml), ..ServiceSetup::default() }).await;
    service.wait_for_mcp_servers().await;
    let tools = service.get("/v1/tools").await;
    assert!(tool_names(&tools).contains(&"one_echo") && tool_names(&tools).contains(&"two_echo"), "{tools}");
    let session = service.create_session().await;
    let frames = service.turn(&session, "echo").await;
    let start = frames.iter().find(|f| f["type"] == "tool_start").unwrap();
    assert_eq!(start["server"], "two");
    assert_eq!(tool_ends(&frames), [("ok", "Echo: from two")]);
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn slow_call_reports_progress_and_times_out() {
    let model =
        ScriptedModel::new([vec![call("trigger-long-running-operation", json!({"duration": 60, "steps": 600}))]]);
    let node = testbed::path("K8SOPS_TEST_NODE");
    let mut env = stdio_env(&node, &[&testbed::path("K8SOPS_TEST_MCP_EVERYTHING"), "stdio"]);
    env.push(("K8SOPS_MCP_CALL_TIMEOUT", "2s".into()));
    env.push(("TOOL_APPROVAL", "auto".into()));
    let service = start_service(&model, env).await;
    let session = service.create_session().await;
    let turn = tokio::time::timeout(TEST_TIMEOUT, service.turn(&session, "take your time"));
    let frames = turn.await.expect("the call ends");
    assert_eq!(tool_ends(&frames)[0].0, "timeout");
    let progress: Vec<f64> =
        frames.iter().filter(|f| f["type"] == "tool_progress").map(|f| f["progress"].as_f64().unwrap()).collect();
    assert!(!progress.is_empty() && progress.is_sorted(), "{progress:?}");
    let response = service.request(Method::GET, "/healthz").send().await.unwrap();
    assert_eq!(response.status(), 200);
}

/// `mcp-server-kubernetes` runs a real kubectl against the stub of the Kubernetes API.
#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn kubectl_server_reads_freely_and_previews_changes() {
    let (cluster, _dir, kubeconfig) = start_cluster_stub().await;
    let kubectl = testbed::path("K8SOPS_TEST_KUBECTL");
    let bin = std::path::Path::new(&kubectl).parent().unwrap().to_str().unwrap().to_owned();
    let server = testbed::path("K8SOPS_TEST_MCP_SERVER_KUBERNETES");
    let yaml = format!(
        "mcp:\n  servers:\n  - name: prod\n    command: {}\n    args: ['{server}']\n    env: {{KUBECONFIG: '{kubeconfig}', PATH: '{bin}:/usr/local/bin:/usr/bin:/bin'}}\n",
        testbed::path("K8SOPS_TEST_NODE")
    );
    let model = ScriptedModel::new([
        vec![call("kubectl_get", json!({"resourceType": "pods", "namespace": "shop", "output": "wide"}))],
        vec![call(
            "kubectl_scale",
            json!({"name": "payments", "resourceType": "deployment", "namespace": "shop", "replicas": 3}),
        )],
        vec![text("Scaled.")],
    ]);
    let service =
        TestService::start(ServiceSetup { model: Some(model), yaml: Some(yaml), ..ServiceSetup::default() }).await;
    service.wait_for_mcp_servers().await;
    let tools = service.get("/v1/tools").await;
    let effect =
        |name: &str| tools["tools"].as_array().unwrap().iter().find(|t| t["name"] == name).unwrap()["effect"].clone();
    assert_eq!((effect("kubectl_get"), effect("kubectl_create")), (json!("read"), json!("mutating")));

    let changes = || async {
        let journal = read_journal(&cluster).await;
        let changing =
            journal.iter().filter(|r| ["PUT", "PATCH", "POST", "DELETE"].contains(&r["method"].as_str().unwrap()));
        changing.filter(|r| !r.to_string().contains("dryRun") && !r.to_string().contains("selfsubject")).count()
    };
    let session = service.create_session().await;
    service.post(&format!("{session}/messages"), json!({"content": "scale payments to 3"})).await;
    let mut stream = service.events(&session, "").await;
    let frames = stream.until("approval_requested").await;
    assert!(tool_ends(&frames)[0].1.contains("CrashLoopBackOff"), "{:?}", tool_ends(&frames));
    let asked = frames.last().unwrap();
    assert_eq!(asked["summary"], json!("shop/payments: replicas 1 → 3"), "{asked}");
    assert!(asked["preview"].as_str().unwrap_or_default().contains("-  replicas: 1\n+  replicas: 3\n"), "{asked}");
    assert_eq!(changes().await, 0, "{:?}", read_journal(&cluster).await);
    let path = format!("{session}/approvals/{}", asked["approval_id"].as_str().unwrap());
    service.post(&path, json!({"decision": "approve"})).await;
    let frames = stream.until("run_finished").await;
    assert_eq!(tool_ends(&frames)[0].0, "ok", "{frames:?}");
    assert_eq!(changes().await, 1, "{:?}", read_journal(&cluster).await);
    service.stop().await;
}
