//! The client: connects as the service does, and calls every tool that the scenario's server offers.

use std::{process::ExitCode, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::future::join_all;
use k8sops_mcp::{
    CallLimits, ElicitationAnswer, ElicitationForm, ElicitationHandler, ElicitationRequest, McpCallContext, McpHub,
    McpOptions, McpTransport, RemoteTool, build_connector,
};
use serde_json::{Map, Value, json};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The scenario, set by the suite.
pub(crate) const SCENARIO: &str = "MCP_CONFORMANCE_SCENARIO";
const CONTEXT: &str = "MCP_CONFORMANCE_CONTEXT";

/// The name of the server in the configuration.
const SERVER: &str = "scenario";

/// A user who accepts every request and fills in the required fields.
struct AcceptingUser;

#[async_trait]
impl ElicitationHandler for AcceptingUser {
    async fn handle_elicitation(&self, question: ElicitationRequest) -> ElicitationAnswer {
        ElicitationAnswer::Accept(match &question.form {
            ElicitationForm::Fields(schema) => sample(schema),
            ElicitationForm::Page { .. } => Map::new(),
        })
    }
}

pub(crate) async fn run(scenario: &str) -> ExitCode {
    let Some(url) = std::env::args().next_back().filter(|url| url.starts_with("http")) else {
        eprintln!("the suite gives the URL of its server as the last argument");
        return ExitCode::FAILURE;
    };
    let config = McpOptions {
        servers: Vec::new(),
        call_timeout: Duration::from_secs(20),
        idle_timeout: Duration::from_secs(20),
        max_message_bytes: 64 << 20,
        connect_timeout: Duration::from_secs(10),
        health_interval: Duration::from_secs(60),
        max_backoff: Duration::from_secs(1),
    };
    let transport = McpTransport::Http { url, headers: Default::default(), ssl_verify: true };
    let connector = match build_connector(&transport) {
        Ok(connector) => connector,
        Err(error) => {
            eprintln!("{}", k8sops_core::ErrorChain(&error));
            return ExitCode::FAILURE;
        }
    };
    let servers = vec![(SERVER.to_owned(), connector)];
    let hub = McpHub::start(servers, &config, TaskTracker::new(), &CancellationToken::new());
    hub.wait_for_first_attempts().await;
    let status = hub.statuses().remove(0);
    if let Some(error) = &status.error {
        eprintln!("not connected: {error}");
        hub.close().await;
        return ExitCode::FAILURE;
    }
    println!("{scenario}: {} tools", status.tools.len());
    call_all(&hub, &status.tools).await;
    hub.close().await;
    ExitCode::SUCCESS
}

/// Makes the calls that the scenario requests, or else calls every tool once, concurrently.
async fn call_all(hub: &McpHub, tools: &[RemoteTool]) {
    let context: Value =
        std::env::var(CONTEXT).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let calls: Vec<(String, Map<String, Value>)> = match context["toolCalls"].as_array() {
        Some(calls) => calls
            .iter()
            .filter_map(|call| Some((call["name"].as_str()?.to_owned(), call["arguments"].as_object()?.clone())))
            .collect(),
        None => tools.iter().map(|tool| (tool.name.clone(), arguments(tool, tools))).collect(),
    };
    let limits = CallLimits::uniform(Duration::from_secs(20));
    join_all(calls.into_iter().map(async |(name, arguments)| {
        let context = McpCallContext {
            elicitation_handler: Some(Arc::new(AcceptingUser)),
            ..McpCallContext::with_limits(limits)
        };
        println!("{name}: {:?}", hub.call_tool(SERVER, &name, arguments, context).await);
    }))
    .await;
}

/// Returns arguments that match the schema of a tool.
fn arguments(tool: &RemoteTool, tools: &[RemoteTool]) -> Map<String, Value> {
    // One scenario checks that the client knows the schema of another tool.
    if tool.name == "json_schema_echo"
        && let Some(other) = tools.iter().find(|other| other.name == "json_schema_2020_12_tool")
    {
        return Map::from_iter([("schema".to_owned(), Value::Object(other.input_schema.clone()))]);
    }
    sample(&tool.input_schema)
}

/// Returns a minimal value for a flat schema.
fn sample(schema: &Map<String, Value>) -> Map<String, Value> {
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    required.map(|name| (name.to_owned(), value_for(&schema["properties"][name]))).collect()
}

fn value_for(field: &Value) -> Value {
    match field["type"].as_str() {
        Some("number" | "integer") => json!(7),
        Some("boolean") => json!(true),
        Some("array") => json!([]),
        Some("object") => json!({}),
        _ => field["enum"][0].as_str().map_or(json!("some text"), |first| json!(first)),
    }
}
