#![allow(clippy::needless_pass_by_value)] // `json!` reads better without a borrow at every call

use super::*;
use crate::{
    ProviderProtocol, RequestedCall, ToolChoice, testing,
    testing::{Answer, Seen, Server, assembled_from, assistant, request, tool, user, watch},
};
use k8sops_core::{ReasoningEffort, StopReason, ToolStatus};

fn plan() -> Plan {
    Plan { window: 8192, keep_alive: None, tools: true, think: true, stream: true }
}

fn lines(lines: &[Value]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect::<Vec<_>>().concat()
}

fn piece(message: Value) -> Value {
    json!({"model": "m", "created_at": "t", "message": message, "done": false})
}

fn text(text: &str) -> Value {
    piece(json!({"role": "assistant", "content": text}))
}

fn call_of(name: &str, arguments: Value) -> Value {
    let call = json!({"function": {"name": name, "arguments": arguments}});
    piece(json!({"role": "assistant", "content": "", "tool_calls": [call]}))
}

fn done(reason: &str) -> Value {
    json!({"model": "m", "message": {"role": "assistant", "content": ""}, "done": true, "done_reason": reason,
        "prompt_eval_count": 90, "eval_count": 12})
}

fn assembler(tools: &[&str]) -> Assembler {
    Assembler::new(testing::some_call(), tools.iter().map(|&name| name.to_owned()).collect(), 8192, Vec::new())
}

async fn reply_of(body: &[Value]) -> Result<ModelReply, ModelError> {
    assembled_from(Framing::Lines, assembler(&["pods_list"]), lines(body).as_bytes(), 7).await.end
}

fn provider(url: &str) -> ProviderConfig {
    ProviderConfig { models: Vec::new(), ..testing::provider(ProviderProtocol::Ollama, url) }
}

fn shown(context: u64) -> Answer {
    let info = json!({"general.architecture": "qwen3", "qwen3.context_length": context});
    Answer::plain(200, "content-type: application/json\r\n", &json!({"model_info": info}).to_string())
}

async fn ask(model: &OllamaModel, request: ChatRequest) -> Seen {
    watch(model.stream(request).await.unwrap()).await
}

fn codes(reply: &ModelReply) -> Vec<&'static str> {
    reply.notices.iter().map(|notice| notice.code).collect()
}

#[test]
fn the_request_is_what_the_protocol_says() {
    let request = ChatRequest { temperature: Some(0.5), max_tokens: Some(9), ..request(testing::conversation()) };
    let plan = Plan { keep_alive: Some(json!("30m")), ..plan() };
    assert_eq!(
        serde_json::to_value(body::of(&request, &plan)).unwrap(),
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
fn thinking_is_asked_for_in_the_models_own_words_and_given_back_within_the_turn() {
    let think = |model: &str, reasoning| {
        let request = ChatRequest { model: model.into(), reasoning, ..request(vec![user("hi")]) };
        serde_json::to_value(body::of(&request, &plan())).unwrap()["think"].clone()
    };
    assert_eq!(think("qwen3", None), json!(null));
    assert_eq!(
        (think("qwen3", Some(ReasoningEffort::Off)), think("qwen3", Some(ReasoningEffort::Low))),
        (json!(false), json!(true))
    );
    assert_eq!(think("gpt-oss:20b", Some(ReasoningEffort::High)), "high");
    assert_eq!(think("gpt-oss:20b", Some(ReasoningEffort::Off)), "low");
    let turn = [
        user("old"),
        assistant("answer", vec![]),
        user("hi"),
        assistant("", vec![testing::call("a", "pods_list", json!({}))]),
        tool("a", ToolStatus::Ok, "none"),
    ];
    let given_back = |request: &ChatRequest| -> Vec<Value> {
        let body = serde_json::to_value(body::of(request, &plan())).unwrap();
        body["messages"].as_array().unwrap().iter().map(|message| message["thinking"].clone()).collect()
    };
    let mut request = request(turn.to_vec());
    let null = json!(null);
    assert_eq!(given_back(&request), [null.clone(), null.clone(), null.clone(), null.clone(), json!("private"), null]);
    request.model = "another".into();
    assert!(given_back(&request).iter().all(Value::is_null), "another model's thoughts are not its own");
}

#[tokio::test]
async fn a_reply_is_the_same_however_its_bytes_are_cut() {
    let body = lines(&[
        piece(json!({"role": "assistant", "content": "", "thinking": "Let me "})),
        piece(json!({"role": "assistant", "content": "", "thinking": "see ☸"})),
        text("Ich prüfe "),
        text("das 🔥."),
        call_of("pods_list", json!({"ns": "shop-ü"})),
        // Some versions write the object as text.
        call_of("nodes", json!("{\"all\": true}")),
        done("stop"),
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
        let seen = assembled_from(Framing::Lines, assembler(&["pods_list"]), body.as_bytes(), size).await;
        assert_eq!(seen.end.as_ref(), Ok(&reply), "{size}");
    }
}

#[tokio::test]
async fn a_thought_in_the_text_is_taken_out_of_it_wherever_it_is_cut() {
    let whole = "\n<think>\nFirst < look, </then>.\n</think>\n\nAll well.";
    for at in whole.char_indices().map(|(at, _)| at) {
        let reply = reply_of(&[text(&whole[..at]), text(&whole[at..]), done("stop")]).await.unwrap();
        assert_eq!(reply.reasoning.as_deref(), Some("First < look, </then>."), "{at}");
        assert_eq!(reply.content, "All well.", "{at}");
    }
    let none = reply_of(&[text("a <think> in the middle"), done("stop")]).await.unwrap();
    assert_eq!((none.content.as_str(), none.reasoning), ("a <think> in the middle", None));
    let unfinished = reply_of(&[text("<think>hmm"), done("length")]).await.unwrap();
    assert_eq!((unfinished.reasoning.as_deref(), unfinished.stop_reason), (Some("hmm"), StopReason::MaxTokens));
}

#[tokio::test]
async fn a_stream_that_is_not_whole_is_no_reply() {
    assert!(matches!(reply_of(&[text("half")]).await, Err(ModelError::MalformedStream(_))));
    let broken = reply_of(&[text("half"), json!({"error": "an error was encountered while running the model"})]).await;
    assert!(matches!(&broken, Err(ModelError::Overloaded(m)) if m.contains("while running")), "{broken:?}");
    let garbage = assembled_from(Framing::Lines, assembler(&[]), b"{\"message\": {{\n", 100).await.end;
    assert!(matches!(garbage, Err(ModelError::MalformedStream(_))), "{garbage:?}");
    assert_eq!(reply_of(&[done("load")]).await.unwrap().stop_reason, StopReason::EndTurn);
    assert_eq!(reply_of(&[done("who knows")]).await.unwrap().stop_reason, StopReason::Other);
}

#[tokio::test]
async fn calls_that_are_written_as_text_are_calls_and_it_is_said() {
    let written = ["<tool_call>{\"name\": \"pods_", "list\", \"arguments\": {}}</tool_call>"];
    let reply = reply_of(&[text(written[0]), text(written[1]), done("stop")]).await.unwrap();
    assert_eq!((reply.content.as_str(), reply.stop_reason), ("", StopReason::ToolUse));
    assert_eq!(reply.tool_calls, [RequestedCall { name: "pods_list".into(), arguments: json!({}) }]);
    assert_eq!(codes(&reply), ["tool_calls_as_text"]);
}

#[tokio::test]
async fn the_context_is_what_the_model_takes_in_and_asked_for_once() {
    let answers = [
        shown(16_384),
        Answer::lines(&[&lines(&[text("a"), done("stop")])]),
        Answer::lines(&[&lines(&[text("b"), done("stop")])]),
    ];
    let server = Server::start(answers).await;
    let model = OllamaModel::new(&provider(&server.url));
    assert_eq!(model.context_window("test-model").await, Some(16_384));
    for _ in 0..2 {
        ask(&model, request(vec![user("hi")])).await.end.unwrap();
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
async fn the_context_has_a_bound_and_the_catalog_the_last_word() {
    let server = Server::start([shown(1_000_000), Answer::plain(500, "", "")]).await;
    let model = OllamaModel::new(&provider(&server.url));
    assert_eq!(model.context_window("large").await, Some(32_768), "memory is taken for all of it");
    assert_eq!(model.context_window("unknown").await, Some(32_768));
    let mut config = provider(&server.url);
    config.models = vec![ModelConfig { context_window: Some(100_000), ..ModelConfig::named("mine", "") }];
    assert_eq!(OllamaModel::new(&config).context_window("mine").await, Some(100_000), "and nobody is asked");
}

#[tokio::test]
async fn a_prompt_that_fills_the_context_was_cut_and_the_setting_is_named() {
    let full = json!({"done": true, "done_reason": "stop", "prompt_eval_count": 8192, "eval_count": 1});
    let reply = reply_of(&[text("hm"), full]).await.unwrap();
    assert_eq!(codes(&reply), ["prompt_cut"]);
    assert!(reply.notices[0].message.contains("OLLAMA_MAX_CONTEXT"));
}

#[tokio::test]
async fn a_usage_that_is_no_count_does_not_cost_the_reply() {
    for nonsense in [json!(-1), json!("many"), json!(1.5), json!(u64::MAX)] {
        let end = json!({"done": true, "done_reason": "stop", "prompt_eval_count": nonsense, "eval_count": nonsense});
        assert_eq!(reply_of(&[text("hm"), end]).await.unwrap().content, "hm", "{nonsense}");
    }
}

#[tokio::test]
async fn a_model_that_is_not_there_is_told_with_the_line_that_fetches_it() {
    let missing = json!({"error": "model 'test-model' not found"}).to_string();
    let server = Server::start([
        Answer::plain(404, "", "{}"),
        Answer::plain(404, "content-type: application/json\r\n", &missing),
        Answer::plain(200, "", &json!({"models": [{"name": "qwen3:8b"}, {"name": "llama:latest"}]}).to_string()),
        Answer::plain(200, "", &json!({"models": [{"name": "qwen3:8b"}, {"name": "llama:latest"}]}).to_string()),
        Answer::plain(404, "", "404 page not found"),
    ])
    .await;
    let model = OllamaModel::new(&provider(&server.url));
    let error = model.stream(request(vec![user("hi")])).await.err().unwrap();
    assert!(matches!(&error, ModelError::ModelNotFound(m) if m.ends_with("Run: ollama pull test-model")), "{error:?}");
    let error = model.check("test-model").await.unwrap_err();
    assert!(
        matches!(&error, ModelError::ModelNotFound(m) if m.contains("qwen3:8b") && m.ends_with("pull test-model")),
        "{error:?}"
    );
    assert_eq!(model.check("llama").await, Ok(()));
    let error = model.check("llama").await.unwrap_err();
    assert!(matches!(&error, ModelError::InvalidRequest(m) if m.contains("without /v1")), "{error:?}");
}

#[tokio::test]
async fn what_the_model_cannot_do_is_left_out_and_said() {
    let refused = |what: &str| {
        let words = json!({"error": format!("registry.ollama.ai/library/x:latest does not support {what}")});
        Answer::plain(400, "content-type: application/json\r\n", &words.to_string())
    };
    let good = || Answer::lines(&[&lines(&[text("ok"), done("stop")])]);
    let server = Server::start([shown(9000), refused("tools"), refused("thinking"), good(), good()]).await;
    let model = OllamaModel::new(&provider(&server.url));
    for _ in 0..2 {
        let request = ChatRequest { reasoning: Some(ReasoningEffort::High), ..request(vec![user("hi")]) };
        let reply = ask(&model, request).await.end.unwrap();
        assert_eq!(codes(&reply), ["reasoning_ignored", "tools_unsupported"]);
    }
    let sent: Vec<_> =
        server.received()[1..].iter().map(|r| (r.body.get("tools").is_some(), r.body.get("think").is_some())).collect();
    assert_eq!(sent, [(true, true), (false, true), (false, false), (false, false)]);
}

#[tokio::test]
async fn a_model_that_calls_tools_only_in_one_piece_is_asked_so_from_then_on() {
    let nothing = Answer::lines(&[&lines(&[done("stop")])]);
    let mut whole = done("stop");
    whole["message"] = json!({"role": "assistant", "content": "",
        "tool_calls": [{"function": {"name": "pods_list", "arguments": {}}}]});
    let whole = || Answer::plain(200, "content-type: application/json\r\n", &whole.to_string());
    let server = Server::start([shown(9000), nothing, whole(), whole()]).await;
    let model = OllamaModel::new(&provider(&server.url));
    for times in [2, 1] {
        let reply = ask(&model, request(vec![user("hi")])).await.end.unwrap();
        assert_eq!(reply.tool_calls[0].name, "pods_list");
        assert_eq!(reply.usage.input_tokens, 90 * times, "both calls are counted");
        assert_eq!(codes(&reply), ["not_streamed"]);
    }
    let streamed: Vec<_> = server.received()[1..].iter().map(|r| r.body["stream"].clone()).collect();
    assert_eq!(streamed, [true, false, false]);
}

#[tokio::test]
async fn a_reply_with_nothing_in_it_either_way_is_an_empty_reply() {
    let whole = Answer::plain(200, "content-type: application/json\r\n", &done("stop").to_string());
    let server = Server::start([shown(9000), Answer::lines(&[&lines(&[done("stop")])]), whole]).await;
    let model = OllamaModel::new(&provider(&server.url));
    let reply = ask(&model, request(vec![user("hi")])).await.end.unwrap();
    assert_eq!((reply.content.as_str(), reply.tool_calls.len(), codes(&reply).len()), ("", 0, 0));
}

#[tokio::test]
async fn the_time_that_a_model_is_kept_is_a_number_or_a_duration() {
    for (configured, sent) in [("30m", json!("30m")), ("-1", json!(-1)), ("300", json!(300))] {
        let server = Server::start([shown(9000), Answer::lines(&[&lines(&[text("ok"), done("stop")])])]).await;
        let config = ProviderConfig { keep_alive: Some(configured.into()), ..provider(&server.url) };
        ask(&OllamaModel::new(&config), request(vec![user("hi")])).await.end.unwrap();
        assert_eq!(server.received()[1].body["keep_alive"], sent);
    }
}

#[tokio::test]
async fn tools_that_may_not_be_called_are_not_offered() {
    let request = ChatRequest { tool_choice: ToolChoice::None, ..request(vec![user("hi")]) };
    let body = serde_json::to_value(body::of(&request, &plan())).unwrap();
    assert_eq!(body.get("tools"), None);
    assert!(body::names(&request).is_empty());
}
