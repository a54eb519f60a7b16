//! Six typical faults of a cluster from the first look to the verified fix, through three third-party MCP servers.
//!
//! The model is scripted; `faults.yaml` holds the script. What is tested: a look runs without an approval and its result contains
//! the fact that decides, a change asks first and shows exactly what it changes, nothing changes before the answer, and the fix
//! is visible to the model and on the API server.

use std::{collections::BTreeMap, panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt;
use k8sops_core::ChatMessage;
use k8sops_models::{ChatRequest, tokens};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    mcp::{read_journal, start_cluster_stub},
    service::{ServiceSetup, TestService},
};
use k8sops_testing::{
    child_program::ChildProgram,
    scripted_model::{ReplyStep, ScriptedModel, call, text},
    testbed,
};

mod release;

/// Most tokens of the descriptions of all tools of one request: those of the server, and the built-in ones.
const MAX_TOOL_TOKENS: usize = 1_300;
/// Most tokens of a diagnosis: all that its requests send.
pub(crate) const MAX_DIAGNOSIS_TOKENS: usize = 15_000;
/// Most tokens of all messages that a run sends, those that it sends again counted again.
const MAX_MESSAGE_TOKENS: usize = 10_000;

/// A fault with its cure.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultCase {
    fault: String,
    app: String,
    summary: String,
    /// API version and kind of the object that changes. It has the name of the app.
    kind: (String, String),
    diff: Vec<String>,
    healed: (String, String, Value),
    servers: BTreeMap<String, ScriptedRun>,
}

/// What the model calls.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScriptedRun {
    looks: Vec<ScriptedCall>,
    change: ScriptedCall,
    verify: ScriptedCall,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScriptedCall {
    tool: String,
    arguments: Value,
    /// Texts that the result must have, as the model gets it.
    #[serde(default)]
    shows: Vec<String>,
}

impl ScriptedCall {
    fn reply(&self, pod: &str) -> Vec<ReplyStep> {
        let arguments = self.arguments.to_string().replace("{pod}", pod);
        vec![call(&self.tool, serde_json::from_str(&arguments).unwrap())]
    }
}

/// A service with one of the servers, on a stub of the Kubernetes API.
pub(super) struct ClusterService {
    cluster: ChildProgram,
    service: TestService,
    model: Arc<ScriptedModel>,
    http: reqwest::Client,
    kubeconfig: String,
    dir: TempDir,
}

impl ClusterService {
    /// Starts the service with a server: its command, arguments, and further folders of its `PATH`.
    pub(super) async fn start(command: &str, arguments: &[&str], path: &[&str]) -> Self {
        let (cluster, dir, kubeconfig) = start_cluster_stub().await;
        let kubectl = testbed::path("K8SOPS_TEST_KUBECTL");
        let bin = std::path::Path::new(&kubectl).parent().unwrap().to_str().unwrap();
        let path = [path, &[bin, "/usr/local/bin", "/usr/bin", "/bin"]].concat().join(":");
        let env = json!({"KUBECONFIG": kubeconfig, "PATH": path, "HOME": dir.path()});
        let server = json!({"name": "prod", "cluster": "stub", "command": command, "args": arguments, "env": env});
        let yaml = json!({"mcp": {"servers": [server]}}).to_string();
        let model = ScriptedModel::new([]);
        let setup = ServiceSetup { model: Some(model.clone()), yaml: Some(yaml), ..ServiceSetup::default() };
        let service = TestService::start(setup).await;
        service.wait_for_mcp_servers().await;
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { cluster, service, model, http, kubeconfig, dir }
    }

    /// Returns what the API server answers.
    pub(super) async fn get(&self, path: &str) -> Value {
        self.http.get(format!("{}{path}", self.cluster.url)).send().await.unwrap().json().await.unwrap()
    }

    /// Returns the requests so far that changed the cluster.
    pub(super) async fn changes(&self) -> Vec<String> {
        let journal = read_journal(&self.cluster).await.into_iter();
        let requests = journal.map(|request| format!("{} {}?{}", request["method"], request["path"], request["query"]));
        requests
            .filter(|text| !text.starts_with("\"GET\"") && !text.contains("dryRun") && !text.contains("selfsubject"))
            .collect()
    }

    /// Sends a message, and returns the approval request of its run.
    pub(super) async fn ask(&self, replies: Vec<Vec<ReplyStep>>) -> (String, crate::service::EventStream, Value) {
        self.model.add_replies(replies);
        self.http.delete(format!("{}/__stub/journal", self.cluster.url)).send().await.unwrap();
        let session = self.service.create_session().await;
        self.service.post(&format!("{session}/messages"), json!({"content": "What is wrong here? Mend it."})).await;
        let mut stream = self.service.events(&session, "").await;
        let asked = stream.until("approval_requested").await.pop().unwrap();
        (session, stream, asked)
    }

    /// Approves the request, and returns the events to the end of the run.
    pub(super) async fn approve(
        &self,
        session: &str,
        stream: &mut crate::service::EventStream,
        asked: &Value,
    ) -> Vec<Value> {
        let path = format!("{session}/approvals/{}", asked["approval_id"].as_str().unwrap());
        let shown = self.service.get(&format!("{path}/preview")).await;
        assert_eq!(shown["content"], asked["preview"], "the whole preview can be read");
        self.service.request(Method::POST, &path).json(&json!({"decision": "approve"})).send().await.unwrap();
        stream.until("run_finished").await
    }

    async fn check(&self, case: &FaultCase, run: &ScriptedRun) {
        let pods = self.get(&format!("/api/v1/namespaces/store/pods?labelSelector=app={}", case.app)).await;
        let pod = pods["items"][0]["metadata"]["name"].as_str().unwrap();
        let calls = || run.looks.iter().chain([&run.change, &run.verify]);
        let first = self.model.requests().len();
        let replies = calls().map(|call| call.reply(pod)).chain([vec![text("It is mended.")]]).collect();
        let (session, mut stream, asked) = self.ask(replies).await;

        assert_eq!(asked["name"], json!(run.change.tool), "a look asks: {}", asked["arguments"]);
        assert_eq!((&asked["summary"], &asked["cluster"]), (&json!(case.summary), &json!("stub")), "{asked:#}");
        assert_eq!(asked["preview_detail"]["kind"], json!("diff"), "{asked:#}");
        assert_eq!(changed_lines(&asked), case.diff, "{asked:#}");
        let objects = asked["objects"].as_array().unwrap();
        let named = |object: &Value| ["api_version", "kind", "namespace", "name"].map(|key| object[key].clone());
        let expected = json!([case.kind.0, case.kind.1, "store", case.app]);
        assert_eq!(objects.iter().map(named).map(|name| json!(name)).collect::<Vec<_>>(), [expected], "{asked:#}");
        assert_eq!(self.changes().await, Vec::<String>::new(), "nothing changes before the answer");

        let frames = self.approve(&session, &mut stream, &asked).await;
        let outcomes: Vec<&Value> = frames.iter().filter(|f| f["type"] == "tool_end").map(|f| &f["status"]).collect();
        assert!(outcomes.iter().all(|outcome| *outcome == "ok"), "{frames:#?}");
        assert_eq!(self.changes().await.len(), 1, "{:?}", self.changes().await);
        let (path, pointer, value) = &case.healed;
        let object = self.get(path).await;
        assert_eq!(object.pointer(pointer), Some(value), "{object:#}");

        let requests = self.model.requests().split_off(first);
        let results = tool_results(requests.last().unwrap());
        assert_eq!(results.len(), calls().count());
        for (call, result) in calls().zip(results) {
            for fact in &call.shows {
                let is_shown = join_words(&result).contains(&join_words(fact));
                assert!(is_shown, "{} {} does not show {fact:?}: {result}", call.tool, call.arguments);
            }
        }
        let tokens = TokenCount::sum(&requests);
        let diagnosis = TokenCount::sum(&requests[..=run.looks.len()]);
        println!("{}: {tokens}; of them up to the diagnosis: {diagnosis}", case.fault);
        assert!(tokens.tools <= MAX_TOOL_TOKENS * requests.len() && tokens.messages <= MAX_MESSAGE_TOKENS, "{tokens}");
        assert!(diagnosis.total() <= MAX_DIAGNOSIS_TOKENS, "{diagnosis}");
    }
}

/// Tokens of what the requests of a run send to a provider.
pub(crate) struct TokenCount {
    requests: usize,
    prompt: usize,
    tools: usize,
    messages: usize,
}

impl TokenCount {
    pub(crate) fn sum(requests: &[ChatRequest]) -> Self {
        let mut sum = Self { requests: requests.len(), prompt: 0, tools: 0, messages: 0 };
        for request in requests {
            sum.prompt += tokens::count(&request.system);
            for tool in request.tools.iter() {
                let schema = serde_json::to_string(&tool.input_schema).unwrap();
                sum.tools += tokens::count(&tool.name) + tokens::count(&tool.description) + tokens::count(&schema);
            }
            for message in &request.messages {
                sum.messages += match message.as_ref() {
                    ChatMessage::User(message) => tokens::count(&message.content),
                    ChatMessage::Assistant(message) => {
                        let calls = message.tool_calls.iter().map(|call| {
                            let arguments = call.arguments.to_string();
                            tokens::count(call.id.as_str()) + tokens::count(&call.name) + tokens::count(&arguments)
                        });
                        tokens::count(&message.content) + calls.sum::<usize>()
                    }
                    ChatMessage::Tool(message) => {
                        tokens::count(message.tool_call_id.as_str()) + tokens::count(&message.content)
                    }
                };
            }
        }
        sum
    }
}

impl TokenCount {
    pub(crate) fn total(&self) -> usize {
        self.prompt + self.tools + self.messages
    }
}

impl std::fmt::Display for TokenCount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { requests, prompt, tools, messages } = self;
        let sum = self.total();
        write!(f, "{sum} tokens in {requests} requests: prompt {prompt}, tools {tools}, messages {messages}")
    }
}

/// Returns the lines that a preview adds and removes.
pub(super) fn changed_lines(asked: &Value) -> Vec<&str> {
    let preview = asked["preview"].as_str().unwrap_or_default();
    let is_header = |line: &str| line.starts_with("+++ ") || line.starts_with("--- ");
    preview.lines().filter(|line| line.starts_with(['+', '-']) && !is_header(line)).collect()
}

/// Joins the words of a text with one space: servers wrap long lines.
fn join_words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn tool_results(request: &ChatRequest) -> Vec<String> {
    let results = request.messages.iter().filter_map(|message| match message.as_ref() {
        ChatMessage::Tool(message) => Some(message.content.clone()),
        _ => None,
    });
    results.collect()
}

/// Runs all cases through a server, and fails with the names of those that failed.
async fn mend_all_faults(server: &str, start: impl AsyncFn() -> ClusterService) {
    let cases: Vec<FaultCase> = serde_saphyr::from_str(include_str!("faults.yaml")).unwrap();
    let mut started = start().await;
    let mut failed = Vec::new();
    for case in &cases {
        let checked = AssertUnwindSafe(started.check(case, &case.servers[server])).catch_unwind().await;
        if checked.is_err() {
            failed.push(case.fault.as_str());
            started = start().await;
        }
    }
    assert!(failed.is_empty(), "through {server}: {failed:?}");
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn faults_are_mended_through_kubernetes_mcp_server() {
    let command = testbed::path("K8SOPS_TEST_KUBERNETES_MCP");
    mend_all_faults("kubernetes-mcp-server", async || ClusterService::start(&command, &[], &[]).await).await;
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn faults_are_mended_through_mcp_server_kubernetes() {
    let node = testbed::path("K8SOPS_TEST_NODE");
    let script = testbed::path("K8SOPS_TEST_MCP_SERVER_KUBERNETES");
    mend_all_faults("mcp-server-kubernetes", async || ClusterService::start(&node, &[&script], &[]).await).await;
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn faults_are_mended_through_a_command_line_server() {
    mend_all_faults("command line", async || start_command_line_server(&[]).await).await;
}

/// Starts the service with the server of which each tool takes a command line.
pub(super) async fn start_command_line_server(path: &[&str]) -> ClusterService {
    let script = testbed::path("K8SOPS_TEST_COMMAND_LINE_SERVER");
    ClusterService::start(&testbed::path("K8SOPS_TEST_PYTHON"), &[&script], path).await
}
