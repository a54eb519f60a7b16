//! Tests of Ollama's API.

#![allow(clippy::needless_pass_by_value)] // `json!` reads better without a borrow at every call

use k8sops_core::{ReasoningEffort, StopReason, TokenUsage, ToolStatus};
use serde_json::{Map, Value, json};

use super::{
    OllamaModel,
    reply_assembler::OllamaAssembler,
    request_body::{OllamaBody, OllamaPlan},
};
use crate::{
    ChatModel as _, ChatRequest, Dialect, ModelError, ModelErrorKind, ModelOptions, ModelReply, ProviderOptions,
    ProviderProtocol, RequestedCall, ToolChoice, ToolSpec,
    event_framing::EventFraming,
    test_support,
    test_support::{
        ObservedReply, ScriptedProvider, ScriptedResponse, assemble_framed, assistant_message, chat_request,
        collect_reply, tool_message, user_message,
    },
};

fn default_plan() -> OllamaPlan {
    OllamaPlan { dialect: Dialect::default(), window: 8192, keep_alive: None, tools: true, think: true, stream: true }
}

fn json_lines(lines: &[Value]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect::<Vec<_>>().concat()
}

fn message_line(message: Value) -> Value {
    json!({"model": "m", "created_at": "t", "message": message, "done": false})
}

fn text_line(text: &str) -> Value {
    message_line(json!({"role": "assistant", "content": text}))
}

fn call_line(name: &str, arguments: Value) -> Value {
    let call = json!({"function": {"name": name, "arguments": arguments}});
    message_line(json!({"role": "assistant", "content": "", "tool_calls": [call]}))
}

fn done_line(reason: &str) -> Value {
    json!({"model": "m", "message": {"role": "assistant", "content": ""}, "done": true, "done_reason": reason,
        "prompt_eval_count": 90, "eval_count": 12})
}

fn assembler_for(tools: &[&str]) -> OllamaAssembler {
    OllamaAssembler::new(
        test_support::test_call(),
        tools.iter().map(|&name| name.to_owned()).collect(),
        8192,
        Vec::new(),
    )
}

async fn assemble(body: &[Value]) -> Result<ModelReply, ModelError> {
    assemble_framed(EventFraming::Lines, assembler_for(&["pods_list"]), json_lines(body).as_bytes(), 7).await.end
}

fn provider_at(url: &str) -> ProviderOptions {
    ProviderOptions { models: Vec::new(), ..test_support::provider_config(ProviderProtocol::Ollama, url) }
}

fn show_response(context: u64) -> ScriptedResponse {
    let info = json!({"general.architecture": "qwen3", "qwen3.context_length": context});
    ScriptedResponse::plain(200, "content-type: application/json\r\n", &json!({"model_info": info}).to_string())
}

async fn ask_model(model: &OllamaModel, request: ChatRequest) -> ObservedReply {
    collect_reply(model.stream(request).await.unwrap()).await
}

fn notice_codes(reply: &ModelReply) -> Vec<&'static str> {
    reply.notices.iter().map(|notice| notice.code).collect()
}

#[test]
fn request_body_matches_protocol() {
    let request = ChatRequest {
        temperature: Some(0.5),
        max_tokens: Some(9),
        ..chat_request(test_support::sample_conversation())
    };
    let plan = OllamaPlan { keep_alive: Some(json!("30m")), ..default_plan() };
    assert_eq!(
        serde_json::to_value(OllamaBody::build(&request, &plan)).unwrap(),
        json!({
            "model": "test-model",
            "stream": true,
            "keep_alive": "30m",
            "options": {"num_ctx": 8192, "temperature": 0.5, "num_predict": 9},
            "tools": [{"type": "function", "function": {
                "name": "pods_list",
                "description": "Lists pods.",
                "parameters": {"type": "object", "properties": {}},
            }}],
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "what is broken?\n\nin shop"},
                {"role": "assistant", "content": "Looking.", "tool_calls": [
                    {"id": "call_1", "function": {"name": "pods_list", "arguments": {"namespace": "shop"}}},
                    {"id": "call_2", "function": {"name": "pods_get", "arguments": {"invalid_arguments": "{\"name\": "}}},
                ]},
                {"role": "tool", "tool_call_id": "call_1", "tool_name": "pods_list",
                    "content": "<tool_output tool=\"x\">\ncart CrashLoopBackOff\n</tool_output>"},
                {"role": "tool", "tool_call_id": "call_2", "tool_name": "pods_get",
                    "content": "[error]\n<tool_output tool=\"x\">\nbad arguments\n</tool_output>"},
                {"role": "assistant", "content": "", "tool_calls": [
                    {"id": "call_3", "function": {"name": "restart", "arguments": {}}},
                ]},
                {"role": "tool", "tool_call_id": "call_3", "tool_name": "restart",
                    "content": "[unknown: no result was recorded]"},
                {"role": "user", "content": "did it work?"},
            ],
        })
    );
}

#[test]
fn think_value_depends_on_model_and_reasoning_stays_in_turn() {
    let think = |model: &str, reasoning| {
        let request = ChatRequest { model: model.into(), reasoning, ..chat_request(vec![user_message("hi")]) };
        serde_json::to_value(OllamaBody::build(&request, &default_plan())).unwrap()["think"].clone()
    };
    assert_eq!(think("qwen3", None), json!(null));
    assert_eq!(
        (think("qwen3", Some(ReasoningEffort::Off)), think("qwen3", Some(ReasoningEffort::Low))),
        (json!(false), json!(true))
    );
    assert_eq!(think("gpt-oss:20b", Some(ReasoningEffort::High)), "high");
    assert_eq!(think("gpt-oss:20b", Some(ReasoningEffort::Off)), "low");
    let turn = [
        user_message("old"),
        assistant_message("answer", vec![]),
        user_message("hi"),
        assistant_message("", vec![test_support::tool_call("a", "pods_list", json!({}))]),
        tool_message("a", ToolStatus::Ok, "none"),
    ];
    let given_back = |request: &ChatRequest| -> Vec<Value> {
        let body = serde_json::to_value(OllamaBody::build(request, &default_plan())).unwrap();
        body["messages"].as_array().unwrap().iter().map(|message| message["thinking"].clone()).collect()
    };
    let mut request = chat_request(turn.to_vec());
    let null = json!(null);
    assert_eq!(given_back(&request), [null.clone(), null.clone(), null.clone(), null.clone(), json!("private"), null]);
    request.model = "another".into();
    assert!(given_back(&request).iter().all(Value::is_null), "reasoning of another model");
}

#[tokio::test]
async fn reply_is_independent_of_chunk_boundaries() {
    let body = json_lines(&[
        message_line(json!({"role": "assistant", "content": "", "thinking": "Let me "})),
        message_line(json!({"role": "assistant", "content": "", "thinking": "see ☸"})),
        text_line("Ich prüfe "),
        text_line("das 🔥."),
        call_line("pods_list", json!({"ns": "shop-ü"})),
        // Some versions send the object as text.
        call_line("nodes", json!("{\"all\": true}")),
        done_line("stop"),
    ]);
    let reply = ModelReply {
        content: "Ich prüfe das 🔥.".into(),
        reasoning: Some("Let me see ☸".into()),
        tool_calls: vec![
            RequestedCall { name: "pods_list".into(), arguments: json!({"ns": "shop-ü"}) },
            RequestedCall { name: "nodes".into(), arguments: json!({"all": true}) },
        ],
        usage: TokenUsage { input_tokens: 90, output_tokens: 12, ..TokenUsage::default() },
        stop_reason: StopReason::ToolUse,
        ..ModelReply::default()
    };
    for size in (1..40).chain([body.len()]) {
        let seen = assemble_framed(EventFraming::Lines, assembler_for(&["pods_list"]), body.as_bytes(), size).await;
        assert_eq!(seen.end.as_ref(), Ok(&reply), "{size}");
    }
}

#[tokio::test]
async fn think_tags_are_split_at_any_chunk_boundary() {
    let whole = "\n<think>\nFirst < look, </then>.\n</think>\n\nAll well.";
    for at in whole.char_indices().map(|(at, _)| at) {
        let reply = assemble(&[text_line(&whole[..at]), text_line(&whole[at..]), done_line("stop")]).await.unwrap();
        assert_eq!(reply.reasoning.as_deref(), Some("First < look, </then>."), "{at}");
        assert_eq!(reply.content, "All well.", "{at}");
    }
    let none = assemble(&[text_line("a <think> in the middle"), done_line("stop")]).await.unwrap();
    assert_eq!((none.content.as_str(), none.reasoning), ("a <think> in the middle", None));
    let unfinished = assemble(&[text_line("<think>hmm"), done_line("length")]).await.unwrap();
    assert_eq!((unfinished.reasoning.as_deref(), unfinished.stop_reason), (Some("hmm"), StopReason::MaxTokens));
}

#[tokio::test]
async fn incomplete_stream_is_an_error() {
    assert!(matches!(
        assemble(&[text_line("half")]).await,
        Err(ModelError { kind: ModelErrorKind::MalformedStream, .. })
    ));
    let broken =
        assemble(&[text_line("half"), json!({"error": "an error was encountered while running the model"})]).await;
    assert!(
        matches!(&broken, Err(ModelError { kind: ModelErrorKind::Overloaded, message: m, .. }) if m.contains("while running")),
        "{broken:?}"
    );
    let garbage = assemble_framed(EventFraming::Lines, assembler_for(&[]), b"{\"message\": {{\n", 100).await.end;
    assert!(matches!(garbage, Err(ModelError { kind: ModelErrorKind::MalformedStream, .. })), "{garbage:?}");
    assert_eq!(assemble(&[done_line("load")]).await.unwrap().stop_reason, StopReason::EndTurn);
    assert_eq!(assemble(&[done_line("who knows")]).await.unwrap().stop_reason, StopReason::Other);
}

#[tokio::test]
async fn tool_calls_in_text_are_parsed_with_notice() {
    let written = ["<tool_call>{\"name\": \"pods_", "list\", \"arguments\": {}}</tool_call>"];
    let reply = assemble(&[text_line(written[0]), text_line(written[1]), done_line("stop")]).await.unwrap();
    assert_eq!((reply.content.as_str(), reply.stop_reason), ("", StopReason::ToolUse));
    assert_eq!(reply.tool_calls, [RequestedCall { name: "pods_list".into(), arguments: json!({}) }]);
    assert_eq!(notice_codes(&reply), ["tool_calls_as_text"]);
}

#[tokio::test]
async fn context_length_is_queried_once() {
    let answers = [
        show_response(16_384),
        ScriptedResponse::lines(&[&json_lines(&[text_line("a"), done_line("stop")])]),
        ScriptedResponse::lines(&[&json_lines(&[text_line("b"), done_line("stop")])]),
    ];
    let server = ScriptedProvider::start(answers).await;
    let model = OllamaModel::new(&provider_at(&server.url));
    assert_eq!(model.context_window("test-model").await, Some(16_384));
    for _ in 0..2 {
        ask_model(&model, chat_request(vec![user_message("hi")])).await.end.unwrap();
    }
    let received = server.received();
    assert!(received[0].head.starts_with("POST /api/show "), "{}", received[0].head);
    assert!(
        received[1].head.starts_with("POST /api/chat ") && received[1].head.contains("x-ndjson"),
        "{}",
        received[1].head
    );
    let contexts: Vec<_> = received[1..].iter().map(|r| r.body["options"]["num_ctx"].clone()).collect();
    assert_eq!(contexts, [16_384, 16_384]);
}

#[tokio::test]
async fn context_is_bounded_unless_catalog_sets_it() {
    let server = ScriptedProvider::start([show_response(1_000_000), ScriptedResponse::plain(500, "", "")]).await;
    let model = OllamaModel::new(&provider_at(&server.url));
    assert_eq!(model.context_window("large").await, Some(32_768), "the server allocates memory for all of it");
    assert_eq!(model.context_window("unknown").await, Some(32_768));
    let mut config = provider_at(&server.url);
    config.models = vec![ModelOptions { context_window: Some(100_000), ..ModelOptions::named("mine", "") }];
    assert_eq!(OllamaModel::new(&config).context_window("mine").await, Some(100_000), "without a request");
}

#[tokio::test]
async fn full_context_adds_prompt_cut_notice() {
    let full = json!({"done": true, "done_reason": "stop", "prompt_eval_count": 8192, "eval_count": 1});
    let reply = assemble(&[text_line("hm"), full]).await.unwrap();
    assert_eq!(notice_codes(&reply), ["prompt_cut"]);
    assert!(reply.notices[0].message.contains("OLLAMA_MAX_CONTEXT"));
}

#[tokio::test]
async fn invalid_usage_values_are_ignored() {
    for nonsense in [json!(-1), json!("many"), json!(1.5), json!(u64::MAX)] {
        let end = json!({"done": true, "done_reason": "stop", "prompt_eval_count": nonsense, "eval_count": nonsense});
        assert_eq!(assemble(&[text_line("hm"), end]).await.unwrap().content, "hm", "{nonsense}");
    }
}

#[tokio::test]
async fn missing_model_error_names_pull_command() {
    let missing = json!({"error": "model 'test-model' not found"}).to_string();
    let server = ScriptedProvider::start([
        ScriptedResponse::plain(404, "", "{}"),
        ScriptedResponse::plain(404, "content-type: application/json\r\n", &missing),
        ScriptedResponse::plain(
            200,
            "",
            &json!({"models": [{"name": "qwen3:8b"}, {"name": "llama:latest"}]}).to_string(),
        ),
        ScriptedResponse::plain(
            200,
            "",
            &json!({"models": [{"name": "qwen3:8b"}, {"name": "llama:latest"}]}).to_string(),
        ),
        ScriptedResponse::plain(404, "", "404 page not found"),
    ])
    .await;
    let model = OllamaModel::new(&provider_at(&server.url));
    let error = model.stream(chat_request(vec![user_message("hi")])).await.err().unwrap();
    assert!(
        matches!(&error, ModelError { kind: ModelErrorKind::ModelNotFound, message: m, .. } if m.ends_with("Run: ollama pull test-model")),
        "{error:?}"
    );
    let error = model.check("test-model").await.unwrap_err();
    assert!(
        matches!(&error, ModelError { kind: ModelErrorKind::ModelNotFound, message: m, .. } if m.contains("qwen3:8b") && m.ends_with("pull test-model")),
        "{error:?}"
    );
    assert_eq!(model.check("llama").await, Ok(()));
    let error = model.check("llama").await.unwrap_err();
    assert!(
        matches!(&error, ModelError { kind: ModelErrorKind::InvalidRequest, message: m, .. } if m.contains("without /v1")),
        "{error:?}"
    );
}

#[tokio::test]
async fn unsupported_features_are_dropped_with_notice() {
    let refused = |what: &str| {
        let words = json!({"error": format!("registry.ollama.ai/library/x:latest does not support {what}")});
        ScriptedResponse::plain(400, "content-type: application/json\r\n", &words.to_string())
    };
    let good = || ScriptedResponse::lines(&[&json_lines(&[text_line("ok"), done_line("stop")])]);
    let server =
        ScriptedProvider::start([show_response(9000), refused("tools"), refused("thinking"), good(), good()]).await;
    let model = OllamaModel::new(&provider_at(&server.url));
    for _ in 0..2 {
        let request = ChatRequest { reasoning: Some(ReasoningEffort::High), ..chat_request(vec![user_message("hi")]) };
        let reply = ask_model(&model, request).await.end.unwrap();
        assert_eq!(notice_codes(&reply), ["reasoning_ignored", "tools_unsupported"]);
    }
    let sent: Vec<_> =
        server.received()[1..].iter().map(|r| (r.body.get("tools").is_some(), r.body.get("think").is_some())).collect();
    assert_eq!(sent, [(true, true), (false, true), (false, false), (false, false)]);
}

#[tokio::test]
async fn tool_that_the_server_rejects_is_left_out() {
    let tool = |name: &str| ToolSpec { name: name.into(), description: String::new(), input_schema: Map::new() };
    let words = json!({"error": "invalid schema for tool 'odd_tool': parameters.properties.x has no type"});
    let refused = ScriptedResponse::plain(400, "content-type: application/json\r\n", &words.to_string());
    let good = || ScriptedResponse::lines(&[&json_lines(&[text_line("ok"), done_line("stop")])]);
    let server = ScriptedProvider::start([show_response(9000), refused, good(), good()]).await;
    let model = OllamaModel::new(&provider_at(&server.url));
    for _ in 0..2 {
        let tools = vec![tool("odd_tool"), tool("pods_list")].into();
        let request = ChatRequest { tools, ..chat_request(vec![user_message("hi")]) };
        let reply = ask_model(&model, request).await.end.unwrap();
        assert_eq!(notice_codes(&reply), ["tools_left_out"]);
    }
    let sent: Vec<_> = server.received()[1..].iter().map(|r| r.body["tools"].as_array().map_or(0, Vec::len)).collect();
    assert_eq!(sent, [2, 1, 1]);
}

#[tokio::test]
async fn model_without_streamed_calls_is_not_streamed_again() {
    let nothing = ScriptedResponse::lines(&[&json_lines(&[done_line("stop")])]);
    let mut whole = done_line("stop");
    whole["message"] = json!({"role": "assistant", "content": "",
        "tool_calls": [{"function": {"name": "pods_list", "arguments": {}}}]});
    let whole = || ScriptedResponse::plain(200, "content-type: application/json\r\n", &whole.to_string());
    let server = ScriptedProvider::start([show_response(9000), nothing, whole(), whole()]).await;
    let model = OllamaModel::new(&provider_at(&server.url));
    for times in [2, 1] {
        let reply = ask_model(&model, chat_request(vec![user_message("hi")])).await.end.unwrap();
        assert_eq!(reply.tool_calls[0].name, "pods_list");
        assert_eq!(reply.usage.input_tokens, 90 * times, "the usage of both calls");
        assert_eq!(notice_codes(&reply), ["not_streamed"]);
    }
    let streamed: Vec<_> = server.received()[1..].iter().map(|r| r.body["stream"].clone()).collect();
    assert_eq!(streamed, [true, false, false]);
}

#[tokio::test]
async fn empty_unstreamed_reply_stays_empty() {
    let whole = ScriptedResponse::plain(200, "content-type: application/json\r\n", &done_line("stop").to_string());
    let server = ScriptedProvider::start([
        show_response(9000),
        ScriptedResponse::lines(&[&json_lines(&[done_line("stop")])]),
        whole,
    ])
    .await;
    let model = OllamaModel::new(&provider_at(&server.url));
    let reply = ask_model(&model, chat_request(vec![user_message("hi")])).await.end.unwrap();
    assert_eq!((reply.content.as_str(), reply.tool_calls.len(), notice_codes(&reply).len()), ("", 0, 0));
}

#[tokio::test]
async fn keep_alive_is_number_or_duration() {
    for (configured, sent) in [("30m", json!("30m")), ("-1", json!(-1)), ("300", json!(300))] {
        let server = ScriptedProvider::start([
            show_response(9000),
            ScriptedResponse::lines(&[&json_lines(&[text_line("ok"), done_line("stop")])]),
        ])
        .await;
        let config = ProviderOptions { keep_alive: Some(configured.into()), ..provider_at(&server.url) };
        ask_model(&OllamaModel::new(&config), chat_request(vec![user_message("hi")])).await.end.unwrap();
        assert_eq!(server.received()[1].body["keep_alive"], sent);
    }
}

#[tokio::test]
async fn forbidden_tools_are_not_sent() {
    let request = ChatRequest { tool_choice: ToolChoice::None, ..chat_request(vec![user_message("hi")]) };
    let body = serde_json::to_value(OllamaBody::build(&request, &default_plan())).unwrap();
    assert_eq!(body.get("tools"), None);
    assert!(request.callable_tool_names().is_empty());
}
