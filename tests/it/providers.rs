//! Real model APIs that none of us wrote: llama.cpp's server, and a scripted provider by others.

use serde_json::{Value, json};
use tokio::process::Command;

use crate::{
    service::{Service, Setup, printed},
    testbed::{self, Peer},
};

async fn llama() -> Peer {
    let mut command = Command::new(testbed::path("K8SOPS_TEST_LLAMA_SERVER"));
    command.args(["-m", &testbed::path("K8SOPS_TEST_LLAMA_MODEL")]);
    command.args(["--host", "127.0.0.1", "--port", "0", "--offline", "--no-webui", "--jinja"]);
    command.args(["-c", "8192", "-np", "1", "-t", "2", "--alias", "qwen2.5-coder-0.5b"]);
    command.args(["--chat-template-file", &testbed::path("K8SOPS_TEST_LLAMA_TEMPLATE")]);
    Peer::start(command).await
}

fn everything() -> Vec<(&'static str, String)> {
    let args = [testbed::path("K8SOPS_TEST_MCP_EVERYTHING"), "stdio".into()];
    vec![
        ("MCP_TRANSPORT", "stdio".into()),
        ("MCP_SERVER_COMMAND", testbed::path("K8SOPS_TEST_NODE")),
        ("MCP_SERVER_ARGS", serde_json::to_string(&args).unwrap()),
    ]
}

/// One streamed turn in which the model calls a tool.
async fn assert_turn_with_a_tool(env: Vec<(&'static str, String)>) {
    let env =
        [env, everything(), vec![("LLM_TEMPERATURE", "0".into()), ("LLM_MODEL", "qwen2.5-coder-0.5b".into())]].concat();
    let service = Service::start(Setup { env, ..Setup::default() }).await;
    service.connected().await;
    let session = service.session().await;
    let frames = service.turn(&session, "What is the sum of 17 and 25?").await;
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
    assert_eq!(printed(&of_last), last["content"].as_str().unwrap());
    assert!(frames.last().unwrap()["usage"]["input_tokens"].as_u64().unwrap() > 0);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_model_answers_over_chat_completions_and_over_the_messages_api() {
    // One server for both: its start and the reading of the tools cost most of the time.
    let llama = llama().await;
    assert_turn_with_a_tool(vec![
        ("LLM_PROVIDER", "openai".into()),
        ("OPENAI_BASE_URL", format!("{}/v1", llama.url)),
        ("OPENAI_API_KEY", "none".into()),
    ])
    .await;
    assert_turn_with_a_tool(vec![
        ("LLM_PROVIDER", "anthropic".into()),
        ("ANTHROPIC_BASE_URL", llama.url.clone()),
        ("ANTHROPIC_API_KEY", "none".into()),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scripted_provider_by_others_is_understood_in_both_protocols() {
    let dir = tempfile::tempdir().unwrap();
    let fixtures = dir.path().join("fixtures.json");
    let fixture =
        json!({"fixtures": [{"match": {"userMessage": "pods"}, "response": {"content": "Three pods, all well."}}]});
    std::fs::write(&fixtures, fixture.to_string()).unwrap();
    let mut command = Command::new(testbed::path("K8SOPS_TEST_NODE"));
    command.arg(testbed::path("K8SOPS_TEST_AIMOCK")).args(["-p", "0", "-h", "127.0.0.1", "-f"]).arg(&fixtures);
    let aimock = Peer::start(command).await;
    for env in [
        vec![
            ("LLM_PROVIDER", "openai".into()),
            ("LLM_MODEL", "gpt-test".into()),
            ("OPENAI_BASE_URL", format!("{}/v1", aimock.url)),
            ("OPENAI_API_KEY", "none".into()),
        ],
        vec![
            ("LLM_PROVIDER", "anthropic".into()),
            ("LLM_MODEL", "claude-test".into()),
            ("ANTHROPIC_BASE_URL", aimock.url.clone()),
            ("ANTHROPIC_API_KEY", "none".into()),
        ],
    ] {
        let service = Service::start(Setup { env, ..Setup::default() }).await;
        let session = service.session().await;
        let frames = service.turn(&session, "list the pods").await;
        assert_eq!(printed(&frames), "Three pods, all well.", "{frames:#?}");
        assert_eq!(frames.last().unwrap()["outcome"], "completed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_the_run_fails_and_names_the_variable() {
    let env = vec![("LLM_PROVIDER", "anthropic".into())];
    let service = Service::start(Setup { env, ..Setup::default() }).await;
    let session = service.session().await;
    assert_eq!(service.get(&session).await["status"]["agent_ready"], false);
    let frames = service.turn(&session, "hi").await;
    let failed = frames.last().unwrap();
    assert_eq!((&failed["type"], &failed["code"]), (&json!("run_failed"), &json!("auth")));
    assert!(failed["message"].as_str().unwrap().contains("ANTHROPIC_API_KEY"), "{failed}");
}
