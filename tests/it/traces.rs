//! Traces and log lines: one trace per turn, no export by default, and no secrets.

use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{program::TestProgram, websocket::TestSocket};
use k8sops_testing::{
    child_program::ChildProgram,
    eventually,
    provider::{FakeProviders, ProviderApi},
    redis::{RedisFlavor, RedisServer},
    testbed,
    testbed::free_port,
};

/// A third-party collector, which prints the spans that it receives.
struct SpanCollector {
    process: ChildProgram,
}

impl SpanCollector {
    async fn start() -> Self {
        let port = free_port();
        let mut command = Command::new(testbed::path("K8SOPS_TEST_OTELTAP"));
        command.args(["--port", &port.to_string()]).env("PYTHONUNBUFFERED", "1");
        Self { process: ChildProgram::start_listening(&mut command, port).await }
    }

    fn spans(&self) -> Vec<Value> {
        let printed = self.process.stdout.lines();
        printed
            .iter()
            .filter_map(|line| serde_json::from_str(line).ok())
            .filter(|v: &Value| v["spanId"].is_string())
            .collect()
    }
}

fn attribute<'a>(span: &'a Value, key: &str) -> Option<&'a str> {
    let all = span["attributes"].as_array().unwrap();
    let value = &all.iter().find(|attribute| attribute["key"] == key)?["value"];
    value["stringValue"].as_str().or_else(|| value["intValue"].as_str())
}

const MODEL: [(&str, &str); 3] = [("LLM_PROVIDER", "test-openai-chat"), ("LLM_MODEL", "m"), ("TOOL_APPROVAL", "auto")];
const CLIENT_TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";
const CLIENT_SPAN_ID: &str = "b7ad6b7169203331";

/// Returns the trace context of the client.
fn traceparent() -> String {
    format!("00-{CLIENT_TRACE_ID}-{CLIENT_SPAN_ID}-01")
}

/// Returns the trace context of a span as a header.
fn span_context(span: &Value) -> String {
    format!("00-{CLIENT_TRACE_ID}-{}-01", span["spanId"].as_str().unwrap())
}

/// Waits for the only span of this name in the client's trace, and returns it.
async fn find_only_span(collector: &SpanCollector, name: &str) -> Value {
    let of_this = |span: &Value| span["traceId"] == CLIENT_TRACE_ID && span["name"] == name;
    let mut found = eventually(name, async || {
        let found: Vec<Value> = collector.spans().into_iter().filter(of_this).collect();
        (!found.is_empty()).then_some(found)
    })
    .await;
    assert_eq!(found.len(), 1, "{name}: {found:#?}");
    found.remove(0)
}

/// A provider whose model calls one read-only tool and then replies, and the MCP server with that tool.
struct TracedPeers {
    providers: FakeProviders,
    _server: Option<ChildProgram>,
    yaml: String,
}

impl TracedPeers {
    async fn new() -> Self {
        let providers = FakeProviders::start().await;
        let mut python = Command::new(testbed::path("K8SOPS_TEST_PYTHON"));
        python.arg(testbed::path("K8SOPS_TEST_TRACE_SERVER"));
        let server = ChildProgram::start(&mut python).await;
        let yaml = format!(
            "{}mcp:\n  servers:\n  - {{name: trace, transport: http, url: '{}/mcp', headers: {{x-key: mcp-secret-key}}}}\n",
            providers.settings_yaml(),
            server.url
        );
        Self { providers, _server: Some(server), yaml }
    }

    /// Starts the provider; the service starts the MCP server over stdio.
    async fn with_stdio_server() -> Self {
        let providers = FakeProviders::start().await;
        let yaml = format!(
            "{}mcp:\n  servers:\n  - {{name: trace, transport: stdio, command: {}, args: [{}, --stdio]}}\n",
            providers.settings_yaml(),
            testbed::path("K8SOPS_TEST_PYTHON"),
            testbed::path("K8SOPS_TEST_TRACE_SERVER")
        );
        Self { providers, _server: None, yaml }
    }

    /// Runs a turn with one tool call. Returns its frames.
    async fn turn(&self, program: &TestProgram) -> Vec<Value> {
        self.script_turn();
        program.wait_for_mcp_servers().await;
        let session = program.create_session().await;
        program.turn(&session, &[("traceparent", &traceparent()), ("x-request-id", "request-7")]).await
    }

    fn script_turn(&self) {
        self.providers.script(
            ProviderApi::Chat,
            "m",
            [ProviderApi::Chat.call("whence", "{\"replicas\": 4711}"), ProviderApi::Chat.text("the final word")],
        );
    }
}

/// Returns the trace context that the tool received.
fn received_context(frames: &[Value]) -> Value {
    let end = frames.iter().find(|frame| frame["type"] == "tool_end").unwrap();
    serde_json::from_str(end["content"].as_str().unwrap()).unwrap_or_else(|_| panic!("{end}"))
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn turn_is_one_trace_from_request_to_tool() {
    let (collector, peers) = (SpanCollector::start().await, TracedPeers::new().await);
    let env = [&MODEL[..], &[("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.process.url), ("OTEL_SERVICE_NAME", "ops")]]
        .concat();
    let program = TestProgram::start(&peers.yaml, &env).await;
    let frames = peers.turn(&program).await;
    assert_eq!(frames.last().unwrap()["outcome"], "completed", "{frames:?}");
    // The shutdown exports the remaining spans.
    let (log, _) = program.stop().await;
    let spans = eventually("the collector has printed them", async || {
        let spans: Vec<Value> =
            collector.spans().into_iter().filter(|span| span["traceId"] == CLIENT_TRACE_ID).collect();
        (spans.iter().filter(|span| span["name"] == "commit").count() >= 6).then_some(spans)
    })
    .await;
    let one = |name: &str| {
        let found: Vec<&Value> = spans.iter().filter(|span| span["name"] == name).collect();
        assert_eq!(found.len(), 1, "{name} in {spans:#?}");
        found[0]
    };
    let (request, run) = (one("POST /v1/sessions/{session_id}/messages"), one("invoke_agent k8sops"));
    let tool = one("execute_tool whence");
    let chats: Vec<&Value> = spans.iter().filter(|span| span["name"] == "chat m").collect();
    assert_eq!(chats.len(), 2);
    assert_eq!(request["parentSpanId"], CLIENT_SPAN_ID);
    assert_eq!(run["parentSpanId"], request["spanId"]);
    for child in chats.iter().copied().chain([tool]) {
        assert_eq!(child["parentSpanId"], run["spanId"], "{child}");
    }
    assert!(spans.iter().filter(|s| s["name"] == "commit").all(|commit| commit["parentSpanId"] == run["spanId"]));
    assert_eq!(spans.len(), 1 + 1 + 2 + 1 + 6, "no span per token: {spans:#?}");
    for (span, key, value) in [
        (run, "gen_ai.operation.name", "invoke_agent"),
        (run, "gen_ai.conversation.id", frames[0]["session_id"].as_str().unwrap()),
        (chats[0], "gen_ai.operation.name", "chat"),
        (chats[0], "gen_ai.provider.name", "test-openai-chat"),
        (chats[0], "gen_ai.request.model", "m"),
        (chats[0], "gen_ai.usage.input_tokens", "100"),
        (tool, "gen_ai.operation.name", "execute_tool"),
        (tool, "gen_ai.tool.name", "whence"),
        (tool, "k8sops.tool.effect", "read"),
    ] {
        assert_eq!(attribute(span, key), Some(value), "{key} of {span}");
    }
    // Outgoing requests carry the context of their span.
    let received = received_context(&frames);
    assert_eq!((&received["header"], &received["meta"]), (&span_context(tool).into(), &span_context(tool).into()));
    let sent: Vec<String> =
        peers.providers.received(ProviderApi::Chat, "m").iter().map(|r| r.headers["traceparent"].clone()).collect();
    let mut chats: Vec<String> = chats.iter().map(|span| span_context(span)).collect();
    chats.sort_by_key(|chat| sent.iter().position(|sent| sent == chat));
    assert_eq!(sent, chats);
    // Spans hold no content of messages.
    let all = format!("{spans:?}");
    for content in ["my question", "the final word", "4711", "mcp-secret-key", "test-key-of-no-use"] {
        assert!(!all.contains(content), "{content} in {all}");
    }
    assert!(!log.iter().any(|line| line.contains("gen_ai")), "{log:?}");
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn stdio_server_receives_the_trace_context() {
    let (collector, peers) = (SpanCollector::start().await, TracedPeers::with_stdio_server().await);
    let env = [&MODEL[..], &[("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.process.url)]].concat();
    let program = TestProgram::start(&peers.yaml, &env).await;
    let received = received_context(&peers.turn(&program).await);
    program.stop().await;
    let tool = find_only_span(&collector, "execute_tool whence").await;
    assert_eq!((&received["header"], &received["meta"]), (&Value::Null, &span_context(&tool).into()));
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn websocket_commands_join_the_trace_of_the_handshake() {
    let (collector, peers) = (SpanCollector::start().await, TracedPeers::new().await);
    let env = [&MODEL[..], &[("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.process.url)]].concat();
    let program = TestProgram::start(&peers.yaml, &env).await;
    peers.script_turn();
    program.wait_for_mcp_servers().await;
    let path = format!("{}/ws", program.create_session().await);
    let mut socket = TestSocket::open_at(&program.process.url, &path, &[("traceparent", &traceparent())]).await;
    socket.send(json!({"type": "message", "content": "my question"})).await;
    let received = received_context(&socket.until("run_finished").await);
    drop(socket);
    program.stop().await;
    let upgrade = find_only_span(&collector, "GET /v1/sessions/{session_id}/ws").await;
    let command = find_only_span(&collector, "WebSocket command").await;
    let run = find_only_span(&collector, "invoke_agent k8sops").await;
    let tool = find_only_span(&collector, "execute_tool whence").await;
    assert_eq!(upgrade["parentSpanId"], CLIENT_SPAN_ID);
    assert_eq!(command["parentSpanId"], upgrade["spanId"]);
    assert_eq!(run["parentSpanId"], command["spanId"]);
    assert_eq!(tool["parentSpanId"], run["spanId"]);
    assert_eq!(received["meta"], span_context(&tool));
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn taken_over_run_stays_in_its_trace() {
    let (collector, peers) = (SpanCollector::start().await, TracedPeers::new().await);
    let redis = RedisServer::start(RedisFlavor::Debian).await;
    let redis_url = redis.url();
    let shared = [("MEMORY_BACKEND", "redis"), ("REDIS_URL", &*redis_url)];
    let env = [&MODEL[..], &shared, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.process.url)]].concat();
    let (one, other) = (TestProgram::start(&peers.yaml, &env).await, TestProgram::start(&peers.yaml, &env).await);
    peers.providers.script(ProviderApi::Chat, "m", [ProviderApi::Chat.truncated(1).stall()]);
    peers.script_turn();
    let session = one.create_session().await;
    let message = one.request(Method::POST, &format!("{session}/messages")).json(&json!({"content": "my question"}));
    message.header("traceparent", traceparent()).send().await.unwrap().error_for_status().unwrap();
    let request = find_only_span(&collector, "POST /v1/sessions/{session_id}/messages").await;
    eventually("the model is asked", async || {
        (!peers.providers.received(ProviderApi::Chat, "m").is_empty()).then_some(())
    })
    .await;
    other.wait_for_mcp_servers().await;
    one.process.send_signal(Signal::SIGKILL);
    let frames = other.events(&session, "").await.until("run_finished").await;
    assert!(frames.iter().any(|frame| frame["type"] == "run_recovered"), "{frames:?}");
    assert_eq!(frames.last().unwrap()["outcome"], "completed", "{frames:?}");
    other.stop().await;
    // The span of the first attempt was lost with its process.
    let run = find_only_span(&collector, "invoke_agent k8sops").await;
    assert_eq!((attribute(&run, "k8sops.run.attempt"), &run["parentSpanId"]), (Some("2"), &request["spanId"]), "{run}");
    let tool = find_only_span(&collector, "execute_tool whence").await;
    assert_eq!(
        (&tool["parentSpanId"], &received_context(&frames)["meta"]),
        (&run["spanId"], &span_context(&tool).into())
    );
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn memory_extraction_is_a_separate_trace() {
    let (collector, peers) = (SpanCollector::start().await, TracedPeers::new().await);
    let learns = [("MEMORY_LONG_TERM_ENABLED", "true"), ("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.process.url)];
    let program = TestProgram::start(&peers.yaml, &[&MODEL[..], &learns].concat()).await;
    let frames = peers.turn(&program).await;
    peers.providers.script(ProviderApi::Chat, "m", [ProviderApi::Chat.text("[]"), ProviderApi::Chat.text("[]")]);
    let session = frames[0]["session_id"].as_str().unwrap();
    program.events(&format!("/v1/sessions/{session}"), "").await.until("memory_saved").await;
    program.stop().await;
    let learning = eventually("the look for memories", async || {
        collector.spans().into_iter().find(|span| span["name"] == "learn memories")
    })
    .await;
    assert_ne!(learning["traceId"], CLIENT_TRACE_ID);
    assert_eq!(attribute(&learning, "gen_ai.conversation.id"), Some(session));
    let asked = |span: &Value| span["name"] == "chat m" && span["parentSpanId"] == learning["spanId"];
    let chat = eventually("its call of the model", async || collector.spans().into_iter().find(asked)).await;
    assert_eq!(attribute(&chat, "gen_ai.usage.input_tokens"), Some("100"));
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn content_is_traced_only_on_request() {
    let (collector, peers) = (SpanCollector::start().await, TracedPeers::new().await);
    let capture = ("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true");
    let env = [&MODEL[..], &[("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.process.url), capture]].concat();
    let program = TestProgram::start(&peers.yaml, &env).await;
    peers.turn(&program).await;
    program.stop().await;
    let all = eventually("the collector has printed them", async || {
        let spans = collector.spans();
        spans.iter().any(|span| span["name"] == "invoke_agent k8sops").then(|| format!("{spans:?}"))
    })
    .await;
    for content in ["my question", "the final word", "4711"] {
        assert!(all.contains(content), "{content} in {all}");
    }
    for secret in ["mcp-secret-key", "test-key-of-no-use"] {
        assert!(!all.contains(secret), "{secret} in {all}");
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn dead_collector_does_not_affect_the_service() {
    let (collector, peers) = (SpanCollector::start().await, TracedPeers::new().await);
    let program = TestProgram::start(&peers.yaml, &MODEL).await;
    let frames = peers.turn(&program).await;
    assert_eq!(frames.last().unwrap()["outcome"], "completed");
    assert_eq!(received_context(&frames)["header"], Value::Null);
    assert!(peers.providers.received(ProviderApi::Chat, "m").iter().all(|r| !r.headers.contains_key("traceparent")));
    program.stop().await;
    assert_eq!(collector.spans(), Vec::<Value>::new());

    let closed = format!("http://127.0.0.1:{}", free_port());
    let env = [&MODEL[..], &[("OTEL_EXPORTER_OTLP_ENDPOINT", &*closed)]].concat();
    let program = TestProgram::start(&peers.yaml, &env).await;
    let frames = peers.turn(&program).await;
    assert_eq!(frames.last().unwrap()["outcome"], "completed");
    program.stop().await;
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn log_lines_are_json_without_secrets() {
    let peers = TracedPeers::new().await;
    let env = [
        &MODEL[..],
        &[
            ("LOG_LEVEL", "trace,hyper=trace,reqwest=trace"),
            ("ANTHROPIC_API_KEY", "sk-ant-secret-in-config"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=otel-secret-header"),
        ],
    ]
    .concat();
    let program = TestProgram::start(&peers.yaml, &env).await;
    peers.turn(&program).await;
    // The provider rejects the key and repeats it in its error.
    let refused =
        ProviderApi::Chat.error_response(401, "invalid_api_key", "Incorrect API key provided: test-key-of-no-use");
    peers.providers.script(ProviderApi::Chat, "m", [refused]);
    let session = program.create_session().await;
    let frames = program.turn(&session, &[("authorization", "Bearer users-secret-token")]).await;
    assert_eq!(frames.last().unwrap()["type"], "run_failed");
    let (log, _) = program.stop().await;
    for line in &log {
        assert!(serde_json::from_str::<Value>(line).is_ok() || line.starts_with("k8sops: "), "{line}");
        for secret in [
            "sk-ant-secret-in-config",
            "otel-secret-header",
            "test-key-of-no-use",
            "users-secret-token",
            "mcp-secret-key",
        ] {
            assert!(!line.contains(secret), "{line}");
        }
    }
    let lines: Vec<Value> = log.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of_run = lines.iter().filter(|line| line["span"]["run_id"].is_string());
    assert!(of_run.clone().count() > 0 && of_run.clone().all(|line| line["span"]["session_id"].is_string()));
    assert!(lines.iter().any(|line| line["span"]["request_id"] == "request-7"), "of the request, or of its run");
    let said = |line: &Value| line["message"].as_str().unwrap_or_default().to_owned();
    // One line per run.
    let ends: Vec<&Value> =
        lines.iter().filter(|line| ["run finished", "run failed"].contains(&said(line).as_str())).collect();
    let facts: Vec<_> = ends.iter().map(|end| (said(end), &end["level"], &end["outcome"], &end["code"])).collect();
    let (outcome, code) = (json!("completed"), json!("auth"));
    assert_eq!(
        facts,
        [
            ("run finished".to_owned(), &json!("INFO"), &outcome, &Value::Null),
            ("run failed".to_owned(), &json!("WARN"), &Value::Null, &code),
        ]
    );
    for field in ["model", "provider", "steps", "input_tokens", "cost_usd", "duration_ms", "session", "run", "user"] {
        assert!(ends.iter().all(|end| !end[field].is_null()), "{field}: {ends:?}");
    }
}
