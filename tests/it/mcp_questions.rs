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

use crate::mcp::{cluster, everything_over_http, journal};
use k8sops_testing::{TEST_TIMEOUT, child_program::ChildProgram, testbed};

/// A user who gives the same answer to every request.
struct User {
    answer: ElicitationAnswer,
    asked: Mutex<Vec<ElicitationRequest>>,
}

impl User {
    fn who(answer: ElicitationAnswer) -> Arc<Self> {
        Arc::new(Self { answer, asked: Mutex::default() })
    }

    fn questions(&self) -> Vec<ElicitationRequest> {
        self.asked.lock().clone()
    }
}

#[async_trait]
impl ElicitationHandler for User {
    async fn handle_elicitation(&self, question: ElicitationRequest) -> ElicitationAnswer {
        self.asked.lock().push(question);
        // A person takes longer than the time limit of the call.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        self.answer.clone()
    }
}

fn yes(values: Value) -> ElicitationAnswer {
    ElicitationAnswer::Accept(serde_json::from_value(values).unwrap())
}

async fn hub(transport: McpTransport) -> Arc<McpHub> {
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

fn stdio(command: String, args: &[&str]) -> McpTransport {
    McpTransport::Stdio {
        command,
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        env: BTreeMap::new(),
        pass_env: Vec::new(),
    }
}

fn http(peer: &ChildProgram) -> McpTransport {
    McpTransport::Http { url: format!("{}/mcp", peer.url), headers: BTreeMap::new(), ssl_verify: true }
}

async fn call(hub: &McpHub, tool: &str, arguments: Value, user: &Arc<User>) -> CallOutput {
    let limits = CallLimits::uniform(Duration::from_secs(2));
    let context = McpCallContext { elicitation_handler: Some(user.clone()), ..McpCallContext::with_limits(limits) };
    let arguments: Map<String, Value> = serde_json::from_value(arguments).unwrap();
    let called = tokio::time::timeout(TEST_TIMEOUT, hub.call_tool("one", tool, arguments, context));
    called.await.expect("the call ends").expect("there is an answer")
}

async fn asks_for_a_form(transport: McpTransport) {
    let hub = hub(transport).await;
    let user = User::who(yes(json!({"name": "Anna", "check": true})));
    let output = call(&hub, "trigger-elicitation-request", json!({}), &user).await;
    assert!(output.text.contains("Anna"), "{}", output.text);
    let questions = user.questions();
    assert_eq!(questions.len(), 1);
    let ElicitationForm::Fields(schema) = &questions[0].form else { panic!("{questions:?}") };
    assert_eq!(schema["properties"]["name"]["type"], "string");
    let declining = User::who(ElicitationAnswer::Decline);
    let output = call(&hub, "trigger-elicitation-request", json!({}), &declining).await;
    assert!(output.text.contains("declined"), "{}", output.text);
    hub.close().await;
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn elicitation_form_over_stdio() {
    let node = testbed::path("K8SOPS_TEST_NODE");
    asks_for_a_form(stdio(node, &[&testbed::path("K8SOPS_TEST_MCP_EVERYTHING"), "stdio"])).await;
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn elicitation_form_over_http() {
    let peer = ChildProgram::start(&mut everything_over_http(testbed::free_port())).await;
    asks_for_a_form(http(&peer)).await;
}

/// A configuration that has every deletion of a pod confirmed.
fn rules(dir: &TempDir) -> String {
    let path = dir.path().join("config.toml");
    let rules =
        "confirmation_fallback = \"deny\"\n[[confirmation_rules]]\ntool = \"pods_delete\"\nmessage = \"Delete it?\"\n";
    std::fs::write(&path, rules).unwrap();
    path.to_str().unwrap().to_owned()
}

async fn confirms_a_deletion(transport: McpTransport, cluster: &ChildProgram) {
    let hub = hub(transport).await;
    let deletes = || async { journal(cluster).await.iter().filter(|r| r["method"] == "DELETE").count() };
    let pod = json!({"namespace": "shop", "name": "payments-7d9f8c6b5d-00006"});
    let before = deletes().await;
    for (answer, deleted) in [(ElicitationAnswer::Decline, 0), (ElicitationAnswer::Cancel, 0), (yes(json!({})), 1)] {
        let user = User::who(answer);
        let output = call(&hub, "pods_delete", pod.clone(), &user).await;
        assert_eq!(user.questions().iter().filter(|q| q.message.contains("Delete it?")).count(), 1, "{output:?}");
        assert_eq!(deletes().await - before, deleted, "{output:?}");
    }
    hub.close().await;
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn kubernetes_deletion_is_confirmed_over_stdio() {
    let (cluster, dir, kubeconfig) = cluster().await;
    let command = testbed::path("K8SOPS_TEST_KUBERNETES_MCP");
    confirms_a_deletion(stdio(command, &["--kubeconfig", &kubeconfig, "--config", &rules(&dir)]), &cluster).await;
}

/// The server over HTTP; with sessions it speaks the old era, without them the new one.
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
    let (cluster, dir, kubeconfig) = cluster().await;
    let peer = kubernetes_over_http(&rules(&dir), &kubeconfig, &[]).await;
    confirms_a_deletion(http(&peer), &cluster).await;
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn deletion_fails_without_elicitation_support() {
    let (cluster, dir, kubeconfig) = cluster().await;
    let peer = kubernetes_over_http(&rules(&dir), &kubeconfig, &["--stateless"]).await;
    let hub = hub(http(&peer)).await;
    let user = User::who(yes(json!({})));
    let pod = json!({"namespace": "shop", "name": "payments-7d9f8c6b5d-00006"});
    // It asks in the old way, which its own SDK refuses in the new era. A version that asks in the new way is asked here.
    let output = call(&hub, "pods_delete", pod, &user).await;
    let deletes = journal(&cluster).await.iter().filter(|r| r["method"] == "DELETE").count();
    assert_eq!((output.is_error, deletes), (user.questions().is_empty(), user.questions().len()), "{output:?}");
    hub.close().await;
}
