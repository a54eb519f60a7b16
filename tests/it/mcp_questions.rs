//! Elicitation requests of real MCP servers, in both protocol eras.

use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use k8sops_mcp::{
    CallLimits, CallOutput, ElicitationAnswer, ElicitationForm, ElicitationHandler, ElicitationRequest, McpCallContext,
    McpHub, McpOptions, McpTransport, build_connector,
};
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::mcp::{everything_over_http, read_journal, start_cluster_stub};
use k8sops_testing::{TEST_TIMEOUT, child_program::ChildProgram, testbed};

/// A user who gives the same answer to every request.
struct ScriptedUser {
    answer: ElicitationAnswer,
    received: Mutex<Vec<ElicitationRequest>>,
}

impl ScriptedUser {
    fn answering(answer: ElicitationAnswer) -> Arc<Self> {
        Arc::new(Self { answer, received: Mutex::default() })
    }

    fn received_requests(&self) -> Vec<ElicitationRequest> {
        self.received.lock().clone()
    }
}

#[async_trait]
impl ElicitationHandler for ScriptedUser {
    async fn handle_elicitation(&self, request: ElicitationRequest) -> ElicitationAnswer {
        self.received.lock().push(request);
        // The answer takes longer than the time limit of the call.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        self.answer.clone()
    }
}

fn accept_answer(values: Value) -> ElicitationAnswer {
    ElicitationAnswer::Accept(serde_json::from_value(values).unwrap())
}

async fn start_hub(transport: McpTransport) -> Arc<McpHub> {
    let config = McpOptions {
        servers: Vec::new(),
        call_timeout: Duration::from_secs(2),
        idle_timeout: Duration::from_secs(2),
        max_message_bytes: 16 << 20,
        connect_timeout: Duration::from_secs(30),
        health_interval: Duration::from_secs(5),
        max_backoff: Duration::from_secs(1),
    };
    let servers = vec![("one".to_owned(), build_connector(&transport).unwrap())];
    let hub = McpHub::start(servers, &config, TaskTracker::new(), &CancellationToken::new());
    hub.wait_for_first_attempts().await;
    assert!(hub.all_connected(), "{:?}", hub.statuses());
    hub
}

fn stdio_transport(command: String, args: &[&str]) -> McpTransport {
    McpTransport::Stdio {
        command,
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        env: BTreeMap::new(),
        pass_env: Vec::new(),
    }
}

fn http_transport(peer: &ChildProgram) -> McpTransport {
    McpTransport::Http { url: format!("{}/mcp", peer.url), headers: BTreeMap::new(), ssl_verify: true }
}

async fn call_tool(hub: &McpHub, tool: &str, arguments: Value, user: &Arc<ScriptedUser>) -> CallOutput {
    let limits = CallLimits::uniform(Duration::from_secs(2));
    let context = McpCallContext { elicitation_handler: Some(user.clone()), ..McpCallContext::with_limits(limits) };
    let arguments: Map<String, Value> = serde_json::from_value(arguments).unwrap();
    let called = tokio::time::timeout(TEST_TIMEOUT, hub.call_tool("one", tool, arguments, context));
    called.await.expect("the call ends").expect("the call has a result")
}

async fn asks_for_a_form(transport: McpTransport) {
    let hub = start_hub(transport).await;
    let user = ScriptedUser::answering(accept_answer(json!({"name": "Anna", "check": true})));
    let output = call_tool(&hub, "trigger-elicitation-request", json!({}), &user).await;
    assert!(output.text.contains("Anna"), "{}", output.text);
    let questions = user.received_requests();
    assert_eq!(questions.len(), 1);
    let ElicitationForm::Fields(schema) = &questions[0].form else { panic!("{questions:?}") };
    assert_eq!(schema["properties"]["name"]["type"], "string");
    let declining = ScriptedUser::answering(ElicitationAnswer::Decline);
    let output = call_tool(&hub, "trigger-elicitation-request", json!({}), &declining).await;
    assert!(output.text.contains("declined"), "{}", output.text);
    hub.close().await;
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn elicitation_form_over_stdio() {
    let node = testbed::path("K8SOPS_TEST_NODE");
    asks_for_a_form(stdio_transport(node, &[&testbed::path("K8SOPS_TEST_MCP_EVERYTHING"), "stdio"])).await;
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn elicitation_form_over_http() {
    let peer = ChildProgram::start(&mut everything_over_http(testbed::free_port())).await;
    asks_for_a_form(http_transport(&peer)).await;
}

/// Writes a configuration that requires confirmation of every pod deletion.
fn write_confirm_rules(dir: &TempDir) -> String {
    let path = dir.path().join("config.toml");
    let rules =
        "confirmation_fallback = \"deny\"\n[[confirmation_rules]]\ntool = \"pods_delete\"\nmessage = \"Delete it?\"\n";
    std::fs::write(&path, rules).unwrap();
    path.to_str().unwrap().to_owned()
}

async fn confirms_a_deletion(transport: McpTransport, cluster: &ChildProgram) {
    let hub = start_hub(transport).await;
    let deletes = || async { read_journal(cluster).await.iter().filter(|r| r["method"] == "DELETE").count() };
    let pod = json!({"namespace": "shop", "name": "payments-7d9f8c6b5d-00006"});
    let before = deletes().await;
    for (answer, deleted) in
        [(ElicitationAnswer::Decline, 0), (ElicitationAnswer::Cancel, 0), (accept_answer(json!({})), 1)]
    {
        let user = ScriptedUser::answering(answer);
        let output = call_tool(&hub, "pods_delete", pod.clone(), &user).await;
        assert_eq!(
            user.received_requests().iter().filter(|q| q.message.contains("Delete it?")).count(),
            1,
            "{output:?}"
        );
        assert_eq!(deletes().await - before, deleted, "{output:?}");
    }
    hub.close().await;
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn kubernetes_deletion_is_confirmed_over_stdio() {
    let (cluster, dir, kubeconfig) = start_cluster_stub().await;
    let command = testbed::path("K8SOPS_TEST_KUBERNETES_MCP");
    confirms_a_deletion(
        stdio_transport(command, &["--kubeconfig", &kubeconfig, "--config", &write_confirm_rules(&dir)]),
        &cluster,
    )
    .await;
}

/// Starts the server over HTTP. With sessions it uses the old protocol era, without them the new one.
async fn kubernetes_over_http(config: &str, kubeconfig: &str, more: &[&str]) -> ChildProgram {
    let port = testbed::free_port();
    let mut command = Command::new(testbed::path("K8SOPS_TEST_KUBERNETES_MCP"));
    command
        .args(["--kubeconfig", kubeconfig, "--port", &port.to_string(), "--bind-address", "127.0.0.1"])
        .args(["--config", config])
        .args(more);
    ChildProgram::start_at(&mut command, format!("http://127.0.0.1:{port}"), "/healthz").await
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn kubernetes_deletion_is_confirmed_over_http() {
    let (cluster, dir, kubeconfig) = start_cluster_stub().await;
    let peer = kubernetes_over_http(&write_confirm_rules(&dir), &kubeconfig, &[]).await;
    confirms_a_deletion(http_transport(&peer), &cluster).await;
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn deletion_fails_without_elicitation_support() {
    let (cluster, dir, kubeconfig) = start_cluster_stub().await;
    let peer = kubernetes_over_http(&write_confirm_rules(&dir), &kubeconfig, &["--stateless"]).await;
    let hub = start_hub(http_transport(&peer)).await;
    let user = ScriptedUser::answering(accept_answer(json!({})));
    let pod = json!({"namespace": "shop", "name": "payments-7d9f8c6b5d-00006"});
    // The server sends elicitation requests of the old era, which its SDK rejects in the new one. This covers versions
    // that send requests of the new era.
    let output = call_tool(&hub, "pods_delete", pod, &user).await;
    let deletes = read_journal(&cluster).await.iter().filter(|r| r["method"] == "DELETE").count();
    assert_eq!(
        (output.is_error, deletes),
        (user.received_requests().is_empty(), user.received_requests().len()),
        "{output:?}"
    );
    hub.close().await;
}
