//! Third-party model APIs: the server of llama.cpp, and mock providers.

use serde_json::{Value, json};
use tokio::process::Command;

use crate::service::{ServiceSetup, TestService, shown_text};
use k8sops_testing::{child_program::ChildProgram, testbed};

async fn start_llama_server() -> ChildProgram {
    let mut command = Command::new(testbed::path("K8SOPS_TEST_LLAMA_SERVER"));
    command.args(["-m", &testbed::path("K8SOPS_TEST_LLAMA_MODEL")]);
    command.args(["--host", "127.0.0.1", "--port", "0", "--offline", "--no-webui", "--jinja"]);
    command.args(["-c", "8192", "-np", "1", "-t", "2", "--alias", "qwen2.5-coder-0.5b"]);
    command.args(["--chat-template-file", &testbed::path("K8SOPS_TEST_LLAMA_TEMPLATE")]);
    ChildProgram::start(&mut command).await
}

/// Runs a streamed turn in which the model calls a tool, and checks its frames.
async fn assert_turn_with_a_tool(yaml: String) {
    let env = vec![
        ("LLM_PROVIDER", "llama".into()),
        ("LLM_TEMPERATURE", "0".into()),
        ("LLM_MODEL", "qwen2.5-coder-0.5b".into()),
    ];
    let service = TestService::start(ServiceSetup { env, yaml: Some(yaml), ..ServiceSetup::default() }).await;
    service.wait_for_mcp_servers().await;
    let session = service.create_session().await;
    let frames = service.turn(&session, "Call the tool get-sum with a=17 and b=25, then say the sum.").await;
    let start =
        frames.iter().find(|f| f["type"] == "tool_start").unwrap_or_else(|| panic!("no tool call: {frames:#?}"));
    assert_eq!((&start["name"], &start["arguments"]), (&json!("get-sum"), &json!({"a": 17, "b": 25})));
    let end = frames.iter().find(|f| f["type"] == "tool_end").unwrap();
    assert_eq!(end["content"], "The sum of 17 and 25 is 42.");
    let last = frames.iter().rfind(|f| f["type"] == "assistant_message").unwrap();
    assert_eq!(frames.last().unwrap()["outcome"], "completed");
    assert!(last["content"].as_str().unwrap().contains("42"), "{last}");
    assert!(frames.iter().filter(|f| f["type"] == "token").count() > 1, "the text is streamed");
    let of_last: Vec<Value> = frames.iter().filter(|f| f["message_id"] == last["message_id"]).cloned().collect();
    assert_eq!(shown_text(&of_last), last["content"].as_str().unwrap());
    assert!(frames.last().unwrap()["usage"]["input_tokens"].as_u64().unwrap() > 0);
    service.stop().await;
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn real_model_answers_over_each_protocol() {
    // All turns share one server, because its start takes long. One tool is offered, because reading a prompt does, too.
    let llama = start_llama_server().await;
    let yaml = |protocol: &str| {
        let base = if protocol == "anthropic" { llama.url.clone() } else { format!("{}/v1", llama.url) };
        // The smallest of models calls no tool behind a long prompt, and the prompt is not what is tested.
        let role = "Find out before you answer: use the tools to look. Never calculate yourself.";
        let part = "Be brief.";
        let node = testbed::path("K8SOPS_TEST_NODE");
        let server = testbed::path("K8SOPS_TEST_MCP_EVERYTHING");
        format!(
            "providers:\n  llama:\n    protocol: {protocol}\n    base_url: {base}\n    key_optional: true\n\
             agent:\n  prompt: {{role: {role:?}, investigation: {part}, tools: {part}, safety: {part}, answer: {part}}}\n\
             mcp:\n  servers:\n  - {{name: everything, transport: stdio, command: {node:?}, args: [{server:?}, stdio], \
             tools: {{include: [get-sum]}}, instructions: Call get-sum to add numbers.}}\n"
        )
    };
    for protocol in ["openai-chat", "anthropic", "openai-responses"] {
        assert_turn_with_a_tool(yaml(protocol)).await;
    }
}

/// Returns the YAML of a provider that accepts any model.
fn provider_yaml(protocol: &str, base_url: &str) -> String {
    format!(
        "providers:\n  peer:\n    protocol: {protocol}\n    base_url: {base_url}\n    api_key: none\n    read_timeout: 2s\n"
    )
}

async fn service_of(yaml: String) -> TestService {
    let env = vec![("LLM_PROVIDER", "peer".into()), ("LLM_MODEL", "peer-model".into())];
    TestService::start(ServiceSetup { env, yaml: Some(yaml), ..ServiceSetup::default() }).await
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn third_party_mock_works_in_every_protocol() {
    let dir = tempfile::tempdir().unwrap();
    let fixtures = dir.path().join("fixtures.json");
    let call = json!({"toolCalls": [{"name": "launch_rockets", "arguments": "{\"at\": \"noon\"}"}]});
    let answer = json!({"content": "Three pods, all well.", "reasoning": "One, two, three."});
    let fixture = json!({"fixtures": [
        {"match": {"userMessage": "rockets", "sequenceIndex": 0}, "response": call},
        {"match": {"userMessage": "pods"}, "response": answer},
        {"match": {"userMessage": "rockets"}, "response": {"content": "No such tool."}},
    ]});
    std::fs::write(&fixtures, fixture.to_string()).unwrap();
    for (protocol, path) in [("openai-chat", "/v1"), ("openai-responses", "/v1"), ("anthropic", ""), ("ollama", "")] {
        let mut command = Command::new(testbed::path("K8SOPS_TEST_NODE"));
        command.arg(testbed::path("K8SOPS_TEST_AIMOCK")).args(["-p", "0", "-h", "127.0.0.1", "-f"]).arg(&fixtures);
        let aimock = ChildProgram::start(&mut command).await;
        let service = service_of(provider_yaml(protocol, &format!("{}{path}", aimock.url))).await;
        let session = service.create_session().await;
        let frames = service.turn(&session, "list the pods").await;
        assert_eq!(shown_text(&frames), "Three pods, all well.", "{protocol}: {frames:#?}");
        assert_eq!(frames.last().unwrap()["outcome"], "completed", "{protocol}");
        let frames = service.turn(&session, "launch the rockets").await;
        let end = frames.iter().find(|f| f["type"] == "tool_end").unwrap_or_else(|| panic!("{protocol}: {frames:#?}"));
        assert_eq!(end["status"], "error", "{protocol}");
        assert_eq!(shown_text(&frames), "No such tool.", "{protocol}: {frames:#?}");
        assert_eq!(frames.last().unwrap()["outcome"], "completed", "{protocol}");
    }
}

/// Returns the report of llmock, a third-party mock provider, about its client.
#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn third_party_fault_scenarios_pass() {
    let port = testbed::free_port();
    let url = format!("http://127.0.0.1:{port}");
    let mut command = Command::new(testbed::path("K8SOPS_TEST_LLMOCK"));
    command.args(["serve", "--host", "127.0.0.1", "--port", &port.to_string()]);
    let llmock = ChildProgram::start_at(&mut command, url, "/v1/models").await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut faults = 0;
    for (protocol, path, name) in [("openai-chat", "/v1", "openai"), ("anthropic", "/anthropic", "anthropic")] {
        let service = service_of(provider_yaml(protocol, &format!("{}{path}", llmock.url))).await;
        for behavior in [
            json!({"type": "fail", "status": 429, "retry_after": 1}),
            json!({"type": "fail", "status": 529}),
            json!({"type": "fail", "status": 500}),
            json!({"type": "stream_fault", "kind": "disconnect", "after_chunks": 2}),
            json!({"type": "stream_fault", "kind": "truncate", "after_chunks": 2}),
            json!({"type": "stream_fault", "kind": "malformed", "after_chunks": 2}),
            json!({"type": "stream_fault", "kind": "stall", "after_chunks": 2, "stall_seconds": 4}),
        ] {
            let mut behavior = behavior;
            behavior["match"] = json!({"provider": name});
            let what = format!("{protocol}: {behavior}");
            let scenario =
                http.post(format!("{}/_llmock/scenario", llmock.url)).json(&json!({"behaviors": [behavior]}));
            scenario.send().await.unwrap().error_for_status().unwrap();
            let session = service.create_session().await;
            let frames = service.turn(&session, "hello").await;
            assert_eq!(frames.last().unwrap()["outcome"], "completed", "{what}: {frames:#?}");
            let verdict = http.get(format!("{}/_llmock/verdict", llmock.url)).send().await.unwrap();
            let verdict: Value = verdict.json().await.unwrap();
            faults += 1;
            assert_eq!(
                (&verdict["faults_injected"], &verdict["passed"]),
                (&json!(faults), &json!(true)),
                "{what}: {verdict:#}"
            );
            // Its warnings depend on time: it takes a late retry for a new call.
            assert_eq!(verdict["errors"], 0, "{what}: {verdict:#}");
        }
        service.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_api_key_error_names_the_variable() {
    let env = vec![("LLM_PROVIDER", "anthropic".into())];
    let service = TestService::start(ServiceSetup { env, ..ServiceSetup::default() }).await;
    let session = service.create_session().await;
    assert_eq!(service.get(&session).await["status"]["agent_ready"], false);
    let frames = service.turn(&session, "hi").await;
    let failed = frames.last().unwrap();
    assert_eq!((&failed["type"], &failed["code"]), (&json!("run_failed"), &json!("auth")));
    assert!(failed["message"].as_str().unwrap().contains("ANTHROPIC_API_KEY"), "{failed}");
}
