//! Traces and log lines, as a collector and a log file that are not ours get them: one trace per turn, nothing by default,
//! nothing secret ever.

use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
};

use crate::{
    program::{Program, gather, until},
    provider::{Dialect, Providers},
    testbed::{self, Peer, free_port},
};

/// A collector by others, which prints what it gets.
struct Collector {
    url: String,
    printed: Arc<Mutex<Vec<String>>>,
    _child: Child,
}

impl Collector {
    async fn start() -> Self {
        let port = free_port();
        let mut child = Command::new(testbed::path("K8SOPS_TEST_OTELTAP"))
            .args(["--port", &port.to_string()])
            .env("PYTHONUNBUFFERED", "1")
            .stdout(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let printed = Arc::default();
        gather(child.stdout.take().unwrap(), &printed);
        until("the collector listens", async || TcpStream::connect(("127.0.0.1", port)).await.ok()).await;
        Self { url: format!("http://127.0.0.1:{port}"), printed, _child: child }
    }

    fn spans(&self) -> Vec<Value> {
        let printed = self.printed.lock().unwrap();
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
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const ROOT: &str = "b7ad6b7169203331";

/// A model that looks once and then answers, and the MCP server that it looks at.
struct World {
    providers: Providers,
    _server: Peer,
    yaml: String,
}

impl World {
    async fn new() -> Self {
        let providers = Providers::start().await;
        let mut python = Command::new(testbed::path("K8SOPS_TEST_PYTHON"));
        python.arg(testbed::path("K8SOPS_TEST_TRACE_SERVER"));
        let server = Peer::start(python).await;
        let yaml = format!(
            "{}mcp:\n  servers:\n  - {{name: trace, transport: http, url: '{}/mcp', headers: {{x-key: mcp-secret-key}}}}\n",
            providers.yaml(),
            server.url
        );
        Self { providers, _server: server, yaml }
    }

    /// A turn with one call, in a program with these variables; its frames.
    async fn turn(&self, program: &Program) -> Vec<Value> {
        self.providers.script(
            Dialect::Chat,
            "m",
            [Dialect::Chat.call("whence", "{\"replicas\": 4711}"), Dialect::Chat.text("the final word")],
        );
        program.connected().await;
        let session = program.session().await;
        let traceparent = format!("00-{TRACE}-{ROOT}-01");
        program.turn(&session, &[("traceparent", &traceparent), ("x-request-id", "request-7")]).await
    }
}

/// What the tool said that it was sent.
fn told(frames: &[Value]) -> Value {
    let end = frames.iter().find(|frame| frame["type"] == "tool_end").unwrap();
    serde_json::from_str(end["content"].as_str().unwrap()).unwrap_or_else(|_| panic!("{end}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_turn_is_one_trace_from_the_request_to_the_tool() {
    let (collector, world) = (Collector::start().await, World::new().await);
    let env = [&MODEL[..], &[("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.url), ("OTEL_SERVICE_NAME", "ops")]].concat();
    let program = Program::start(&world.yaml, &env).await;
    let frames = world.turn(&program).await;
    assert_eq!(frames.last().unwrap()["outcome"], "completed", "{frames:?}");
    // Stopping sends what is left.
    let (log, _) = program.stop().await;
    let spans = until("the collector has printed them", async || {
        let spans: Vec<Value> = collector.spans().into_iter().filter(|span| span["traceId"] == TRACE).collect();
        (spans.iter().filter(|span| span["name"] == "commit").count() >= 5).then_some(spans)
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
    assert_eq!(request["parentSpanId"], ROOT);
    assert_eq!(run["parentSpanId"], request["spanId"]);
    for child in chats.iter().copied().chain([tool]) {
        assert_eq!(child["parentSpanId"], run["spanId"], "{child}");
    }
    assert!(spans.iter().filter(|s| s["name"] == "commit").all(|commit| commit["parentSpanId"] == run["spanId"]));
    assert_eq!(spans.len(), 1 + 1 + 2 + 1 + 5, "no span per token: {spans:#?}");
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
    // What goes out of the program names the span that it is sent in.
    let expected = |span: &Value| format!("00-{TRACE}-{}-01", span["spanId"].as_str().unwrap());
    let told = told(&frames);
    assert_eq!((&told["header"], &told["meta"]), (&expected(tool).into(), &expected(tool).into()));
    let sent: Vec<String> =
        world.providers.received(Dialect::Chat, "m").iter().map(|r| r.headers["traceparent"].clone()).collect();
    let mut chats: Vec<String> = chats.iter().map(|span| expected(span)).collect();
    chats.sort_by_key(|chat| sent.iter().position(|sent| sent == chat));
    assert_eq!(sent, chats);
    // Nothing of what was said.
    let all = format!("{spans:?}");
    for content in ["my question", "the final word", "4711", "mcp-secret-key", "test-key-of-no-use"] {
        assert!(!all.contains(content), "{content} in {all}");
    }
    assert!(!log.iter().any(|line| line.contains("gen_ai")), "{log:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_is_in_traces_only_when_that_is_asked_for() {
    let (collector, world) = (Collector::start().await, World::new().await);
    let capture = ("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true");
    let env = [&MODEL[..], &[("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.url), capture]].concat();
    let program = Program::start(&world.yaml, &env).await;
    world.turn(&program).await;
    program.stop().await;
    let all = until("the collector has printed them", async || {
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

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_exported_by_default_and_a_dead_collector_harms_nothing() {
    let (collector, world) = (Collector::start().await, World::new().await);
    let program = Program::start(&world.yaml, &MODEL).await;
    let frames = world.turn(&program).await;
    assert_eq!(frames.last().unwrap()["outcome"], "completed");
    assert_eq!(told(&frames)["header"], Value::Null);
    assert!(world.providers.received(Dialect::Chat, "m").iter().all(|r| !r.headers.contains_key("traceparent")));
    program.stop().await;
    assert_eq!(collector.spans(), Vec::<Value>::new());

    let nobody = format!("http://127.0.0.1:{}", free_port());
    let env = [&MODEL[..], &[("OTEL_EXPORTER_OTLP_ENDPOINT", &*nobody)]].concat();
    let program = Program::start(&world.yaml, &env).await;
    let frames = world.turn(&program).await;
    assert_eq!(frames.last().unwrap()["outcome"], "completed");
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn log_lines_are_json_and_hold_no_secret_at_any_level() {
    let world = World::new().await;
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
    let program = Program::start(&world.yaml, &env).await;
    world.turn(&program).await;
    // A key that the provider refuses, and repeats.
    let refused = Dialect::Chat.refusal(401, "invalid_api_key", "Incorrect API key provided: test-key-of-no-use");
    world.providers.script(Dialect::Chat, "m", [refused]);
    let session = program.session().await;
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
}
