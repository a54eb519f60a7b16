//! The rules, driven as the agent drives a model, over a real MCP connection to the simulated cluster.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use rmcp::{
    ClientHandler, RoleClient, ServiceExt,
    model::{CallToolRequestParams, ClientCapabilities, ClientConfig, Implementation, ProtocolVersion},
    service::RunningService,
};
use serde_json::{Map, Value};

use super::{
    MODEL_ID, PROVIDER_ID,
    model::{RuleModel, split_pieces},
};
use crate::demo::{cluster::SimulatedCluster, mcp_server::connect_demo_server};
use k8sops_core::{
    AssistantMessage, ChatMessage, MessageId, StopReason, Timestamp, ToolCall, ToolCallId, ToolMessage, ToolStatus,
    UserMessage,
};
use k8sops_models::{ChatModel, ChatRequest, ModelReply, ReplyDelta, ToolChoice, ToolSpec};

struct TestClient;

impl ClientHandler for TestClient {
    fn get_info(&self) -> ClientConfig {
        ClientConfig::new(ClientCapabilities::default(), Implementation::new("test", "0"))
            .with_protocol_version(ProtocolVersion::LATEST_WITH_INITIALIZE)
    }
}

/// A chat with the rules. The clock of its cluster advances one second with every read.
struct RuleChat {
    client: RunningService<RoleClient, TestClient>,
    cluster: Arc<SimulatedCluster>,
    tools: Arc<[ToolSpec]>,
    prefix: &'static str,
    messages: Vec<Arc<ChatMessage>>,
    choice: ToolChoice,
    /// A tool whose calls return this status instead of being executed.
    forced_status: Option<(&'static str, ToolStatus)>,
    /// The tools of the last run, by step.
    steps: Vec<Vec<String>>,
}

impl RuleChat {
    async fn new() -> Self {
        Self::with_prefix("").await
    }

    async fn with_prefix(prefix: &'static str) -> Self {
        let seconds = AtomicU64::new(0);
        let start = "2026-03-02T09:00:00Z".parse().unwrap();
        let clock = move || Duration::from_secs(seconds.fetch_add(1, Ordering::Relaxed));
        let cluster = Arc::new(SimulatedCluster::with_clock(start, clock));
        let client = TestClient.serve(connect_demo_server(Arc::clone(&cluster))).await.unwrap();
        let tools = client.list_all_tools().await.unwrap();
        let tools = tools
            .into_iter()
            .map(|t| ToolSpec {
                name: format!("{prefix}{}", t.name),
                description: t.description.unwrap_or_default().into_owned(),
                input_schema: (*t.input_schema).clone(),
            })
            .collect();
        Self {
            client,
            cluster,
            tools,
            prefix,
            messages: Vec::new(),
            choice: ToolChoice::Auto,
            forced_status: None,
            steps: Vec::new(),
        }
    }

    fn request(&self) -> ChatRequest {
        ChatRequest {
            provider: PROVIDER_ID.to_owned(),
            model: MODEL_ID.to_owned(),
            system: "".into(),
            messages: self.messages.clone(),
            tools: Arc::clone(&self.tools),
            found_tools: k8sops_models::FoundTools::default(),
            tool_choice: self.choice,
            temperature: None,
            max_tokens: None,
            reasoning: None,
            form: k8sops_core::RequestForm::Native,
        }
    }

    fn push(&mut self, message: ChatMessage) {
        self.messages.push(Arc::new(message));
    }

    /// Sends a message and returns the final reply of its run.
    async fn say(&mut self, text: &str) -> String {
        let seq = 0;
        let ts = Timestamp::from_millis(0);
        self.steps.clear();
        self.push(ChatMessage::User(UserMessage::unlogged(text)));
        for _ in 0..8 {
            let reply = reply(&RuleModel::with_pause(Duration::ZERO), self.request()).await;
            let calls: Vec<ToolCall> = reply
                .tool_calls
                .into_iter()
                .map(|c| ToolCall { id: ToolCallId::generate(), name: c.name, arguments: c.arguments })
                .collect();
            self.push(ChatMessage::Assistant(AssistantMessage {
                message_id: MessageId::new(),
                seq,
                ts,
                run_id: None,
                content: reply.content.clone(),
                reasoning: None,
                tool_calls: calls.clone(),
                citations: Vec::new(),
                stop_reason: reply.stop_reason,
                provider: None,
                model: None,
                provider_data: None,
                usage: k8sops_core::TokenUsage::default(),
                feedback: None,
            }));
            if calls.is_empty() {
                assert_eq!(reply.stop_reason, StopReason::EndTurn);
                return reply.content;
            }
            assert_eq!(reply.stop_reason, StopReason::ToolUse);
            self.steps.push(calls.iter().map(|c| c.name.clone()).collect());
            for call in calls {
                let (status, content) = self.call(&call.name, &call.arguments).await;
                self.push(ChatMessage::Tool(ToolMessage {
                    tool_call_id: call.id,
                    seq,
                    ts,
                    number: 1,
                    name: call.name,
                    status,
                    content,
                }));
            }
        }
        panic!("no end after 8 steps: {:?}", self.steps);
    }

    async fn call(&self, name: &str, arguments: &Value) -> (ToolStatus, String) {
        let name = name.strip_prefix(self.prefix).expect("an offered tool").to_owned();
        if let Some((tool, status)) = self.forced_status
            && tool == name
        {
            return (status, "no answer".to_owned());
        }
        let arguments: Map<String, Value> = arguments.as_object().expect("arguments are an object").clone();
        let params = CallToolRequestParams::new(name).with_arguments(arguments);
        let result = self.client.call_tool(params).await.unwrap();
        let status = if result.is_error == Some(true) { ToolStatus::Error } else { ToolStatus::Ok };
        (status, result.content[0].as_text().unwrap().text.clone())
    }

    /// Returns the number of running pods of a deployment.
    fn running(&self, app: &str) -> usize {
        let pods = self.cluster.list_pods(None);
        pods.lines().filter(|l| l.contains(&format!(" {app}-")) && l.contains(" Running ")).count()
    }
}

async fn reply(model: &RuleModel, request: ChatRequest) -> ModelReply {
    let mut stream = model.stream(request).await.unwrap();
    let mut text = String::new();
    let mut done = None;
    while let Some(delta) = stream.next().await {
        assert!(done.is_none(), "nothing follows the end");
        match delta.unwrap() {
            ReplyDelta::Text(more) => text += &more,
            ReplyDelta::Reasoning(_) => {}
            ReplyDelta::Done(reply) => done = Some(*reply),
        }
    }
    let done = done.expect("a reply ends with Done");
    assert_eq!(text, done.content);
    done
}

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}

#[tokio::test]
async fn diagnosis_has_cause_evidence_and_fix() {
    let mut chat = RuleChat::new().await;
    let text = chat.say("what is broken?").await;
    has(&text, &["5 of 17 pods are not ready, in 4 workloads."]);
    has(
        &text,
        &[
            "**payments/ledger-worker**: CreateContainerConfigError (1 pod)",
            "the key `LEDGER_TOPIC` is missing in the ConfigMap `ledger-config`",
            "Evidence: Error: couldn't find key LEDGER_TOPIC in ConfigMap payments/ledger-config",
            "`set LEDGER_TOPIC in ledger-config to ledger-topic`",
        ],
    );
    has(
        &text,
        &[
            "**payments/payments-api**: CrashLoopBackOff (2 pods)",
            "cannot find the host `postgres.payment.svc.cluster.local`",
            "no such host",
            "`set DB_HOST in payments-config to postgres.payments.svc.cluster.local`",
        ],
    );
    has(
        &text,
        &[
            "**shop/recommendations**: Pending (1 pod)",
            "requests 24Gi of memory",
            "2 Insufficient memory",
            "`set memory of recommendations to ",
        ],
    );
    has(
        &text,
        &[
            "**shop/storefront**: ImagePullBackOff (1 pod)",
            "the image `nginx:1.72` cannot be pulled; pods with nginx:1.26 still serve requests",
            "Failed to pull image \"nginx:1.72\"",
            "`roll back storefront`",
        ],
    );
    assert_eq!(chat.steps[0], ["pods_list", "events_list"], "the first step calls two tools");
    assert!(chat.steps[1].contains(&"pods_log".to_owned()), "the second step reads logs");
    assert_eq!(chat.steps.len(), 3);
}

#[tokio::test]
async fn diagnosis_covers_only_the_named_workload() {
    let mut chat = RuleChat::new().await;
    let text = chat.say("Why is payments-api crashing?").await;
    has(&text, &["payments/payments-api", "no such host"]);
    assert!(!text.contains("storefront") && !text.contains("ledger"), "{text}");
    let text = chat.say("why is payments crashing?").await;
    has(&text, &["In the namespace payments:", "ledger-worker", "payments-api"]);
    let text = chat.say("what is wrong in monitoring?").await;
    has(&text, &["No problems found: 2 pods in the namespace monitoring are ready."]);
    let text = chat.say("what is wrong with the gadgets?").await;
    has(&text, &["No pod is named \"gadgets\"", "in 4 workloads"]);
    let text = chat.say("problems in nowhere?").await;
    has(&text, &["There are no pods in the namespace nowhere."]);
}

#[tokio::test]
async fn suggestions_fix_what_is_broken() {
    let mut chat = RuleChat::new().await;
    chat.say("why is ledger-worker failing?").await;
    let text = chat.say("yes").await;
    has(&text, &["configmap/ledger-config patched", "payments/ledger-worker uses it"]);
    assert!(!text.contains("payments-api"), "{text}");
    let text = chat.say("status of ledger-worker").await;
    has(&text, &["The rollout of payments/ledger-worker is complete"]);

    chat.say("why is payments-api crashing?").await;
    let text = chat.say("yes please").await;
    has(&text, &["Done: configmap/payments-config patched", "Next: `restart payments-api`"]);
    let text = chat.say("restart payments-api").await;
    has(&text, &["Done: deployment.apps/payments-api restarted", "is complete", "successfully rolled out"]);

    chat.say("why is recommendations pending?").await;
    has(&chat.say("do it").await, &["resource requirements updated", "is complete"]);

    chat.say("diagnose storefront").await;
    has(&chat.say("go ahead").await, &["rolled back", "is complete"]);

    has(&chat.say("what is broken?").await, &["No problems found: 16 pods in all namespaces are ready."]);
}

#[tokio::test]
async fn an_image_is_set_and_a_wrong_one_is_reported_as_stuck() {
    let mut chat = RuleChat::new().await;
    let text = chat.say("fix the image of storefront to nginx:1.27").await;
    has(&text, &["Done: deployment.apps/storefront image updated", "is complete"]);
    assert_eq!(chat.steps, [["deployments_list"], ["deployment_set_image"], ["rollout_status"]]);
    chat.forced_status = Some(("rollout_status", ToolStatus::Error));
    has(&chat.say("set image of cart to nginx:9").await, &["is not available", "Next:"]);
}

#[tokio::test]
async fn deployments_are_scaled_and_pods_deleted() {
    let mut chat = RuleChat::new().await;
    let text = chat.say("scale checkout to 3").await;
    has(&text, &["Done: deployment.apps/checkout scaled", "complete"]);
    assert_eq!(chat.running("checkout"), 3);
    let text = chat.say("delete pod cart").await;
    has(&text, &["2 pods match.", "- shop/cart-"]);
    let name = text.split("- shop/").nth(1).unwrap().trim().to_owned();
    let text = chat.say(&format!("delete pod {name}")).await;
    has(&text, &["deleted", "Its deployment creates a replacement."]);
    assert!(!chat.cluster.list_pods(None).contains(&name));
    has(&chat.say("scale gizmo to 2").await, &["No deployment is named \"gizmo\"", "- shop/cart"]);
}

#[tokio::test]
async fn lists_logs_and_descriptions_show_what_the_tools_returned() {
    let mut chat = RuleChat::new().await;
    has(&chat.say("list pods in shop").await, &["8 pods in shop:", "ImagePullBackOff", "2 are not ready."]);
    has(&chat.say("list pods in monitoring").await, &["All of them are ready."]);
    has(&chat.say("list pods in nowhere").await, &["There are no pods in nowhere.", "No resources found"]);
    has(&chat.say("events").await, &["FailedScheduling", "BackOff"]);
    has(&chat.say("list nodes").await, &["3 nodes", "control-plane"]);
    has(&chat.say("show services").await, &["postgres", "kube-dns"]);
    has(&chat.say("list namespaces").await, &["5 namespaces", "kube-system"]);
    has(&chat.say("deployments in payments").await, &["3 deployments in payments", "0/2"]);
    has(&chat.say("logs of payments-api").await, &["no such host", "(CrashLoopBackOff)", "1 other pod also matches"]);
    has(&chat.say("logs of checkout").await, &["The last 20 lines of shop/checkout-", "order "]);
    has(&chat.say("logs of recommendations").await, &["`pods_log` failed", "does not have a host assigned"]);
    has(&chat.say("describe storefront").await, &["The deployment shop/storefront", "nginx:1.72"]);
    has(&chat.say("describe node node-2").await, &["The node node-2", "Allocatable"]);
    has(&chat.say("show configmap payments-config").await, &["DB_HOST: postgres.payment.svc.cluster.local"]);
    has(&chat.say("describe gizmo").await, &["Nothing is named \"gizmo\""]);
}

#[tokio::test]
async fn unknown_messages_get_help_without_tool_calls() {
    let mut chat = RuleChat::new().await;
    for text in ["hello", "write me a poem", "", "🚀", "yes"] {
        let said = chat.say(text).await;
        assert!(chat.steps.is_empty());
        has(&said, &["`what is broken?`"]);
    }
    has(&chat.say("help").await, &["not a language model"]);
    has(&chat.say("scale checkout").await, &["`scale checkout to 3`"]);
}

#[tokio::test]
async fn failed_changes_are_reported_and_not_repeated() {
    for (status, words) in [
        (ToolStatus::Denied, "was not approved, so it did not run"),
        (ToolStatus::Unknown, "It is unknown whether `deployment_scale` took effect"),
        (ToolStatus::Timeout, "A change may have taken effect"),
        (ToolStatus::Cancelled, "was cancelled"),
        (ToolStatus::Error, "`deployment_scale` failed with this output:"),
    ] {
        let mut chat = RuleChat::new().await;
        chat.forced_status = Some(("deployment_scale", status));
        has(&chat.say("scale checkout to 5").await, &[words]);
        assert_eq!(chat.steps, [["deployments_list"], ["deployment_scale"]]);
    }
}

#[tokio::test]
async fn prefixed_tools_are_used_and_missing_tools_reported() {
    let mut chat = RuleChat::with_prefix("demo__").await;
    has(&chat.say("what is broken?").await, &["in 4 workloads"]);
    assert_eq!(chat.steps[0], ["demo__pods_list", "demo__events_list"]);
    chat.tools = chat.tools.iter().filter(|t| t.name.ends_with("pods_list")).cloned().collect();
    has(&chat.say("what is broken?").await, &["in 4 workloads", "no event or log line was found"]);
    assert_eq!(chat.steps, [["demo__pods_list"]]);
    chat.tools = Arc::new([]);
    has(&chat.say("what is broken?").await, &["needs the tool `pods_list`", "which no connected server offers"]);
}

#[tokio::test]
async fn tool_choice_none_prevents_tool_calls() {
    let mut chat = RuleChat::new().await;
    chat.choice = ToolChoice::None;
    has(&chat.say("what is broken?").await, &["Tool calls are not allowed"]);
    assert!(chat.steps.is_empty());
}

#[tokio::test]
async fn only_the_demo_model_exists() {
    let model = RuleModel::default();
    model.check(MODEL_ID).await.unwrap();
    assert_eq!(model.check("gpt").await.unwrap_err().code(), "invalid_request");
}

#[test]
fn text_streams_by_word_and_code_by_line() {
    let text = "One two,  three.\n\n- four\n```\na   b\n```\n end";
    let cut = split_pieces(text);
    assert_eq!(cut.concat(), text);
    assert_eq!(cut, ["One ", "two,  ", "three.\n", "\n", "- ", "four\n", "```\n", "a   b\n", "```\n", " end"]);
}
