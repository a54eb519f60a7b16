#![allow(clippy::needless_pass_by_value)] // `json!` reads better without a borrow at every call

use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Value, json};

use super::{reply::Assembler, *};
use crate::{
    ModelReply, ProviderProtocol, RequestedCall, ToolChoice, testing,
    testing::{Answer, Seen, Server, assembled, assistant, request, take_all, tool, user, watch},
};
use k8sops_core::{AssistantMessage, ChatMessage, ProviderData, ReasoningEffort, StopReason, TokenUsage, ToolStatus};

fn body(request: &ChatRequest, max_tokens: u32) -> body::Body<'_> {
    body::of(request, &plan(max_tokens))
}

fn plan(max_tokens: u32) -> Plan {
    let quirks = BTreeSet::new();
    Plan { max_tokens, thinking: Thinking::Unknown, takes_temperature: true, own_blocks: true, quirks }
}

fn sse(events: &[Value]) -> String {
    let event = |e: &Value| format!("event: {}\ndata: {e}\n\n", e["type"].as_str().unwrap());
    events.iter().map(event).collect::<Vec<_>>().concat()
}

fn delta(index: u64, delta: Value) -> Value {
    json!({"type": "content_block_delta", "index": index, "delta": delta})
}

fn start(index: u64, block: Value) -> Value {
    json!({"type": "content_block_start", "index": index, "content_block": block})
}

fn end(reason: &str) -> [Value; 2] {
    [
        json!({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": null}, "usage": {"output_tokens": 12}}),
        json!({"type": "message_stop"}),
    ]
}

fn rich() -> (String, ModelReply) {
    let mut events = vec![
        json!({"type": "message_start", "message": {"id": "m", "role": "assistant", "content": [], "usage":
            {"input_tokens": 10, "cache_read_input_tokens": 60, "cache_creation_input_tokens": 20, "output_tokens": 1}}}),
        start(0, json!({"type": "thinking", "thinking": "", "signature": ""})),
        json!({"type": "ping"}),
        delta(0, json!({"type": "thinking_delta", "thinking": "Let me see ☸"})),
        delta(0, json!({"type": "signature_delta", "signature": "c2ln"})),
        json!({"type": "content_block_stop", "index": 0}),
        start(1, json!({"type": "text", "text": ""})),
        delta(1, json!({"type": "text_delta", "text": "Ich prüfe "})),
        json!({"type": "brand_new_event", "index": "not a number, and not read"}),
        delta(1, json!({"type": "text_delta", "text": "das 🔥."})),
        json!({"type": "content_block_stop", "index": 1}),
        start(2, json!({"type": "tool_use", "id": "toolu_1", "name": "pods_list", "input": {}})),
        delta(2, json!({"type": "input_json_delta", "partial_json": ""})),
        delta(2, json!({"type": "input_json_delta", "partial_json": "{\"ns\": \"sh"})),
        delta(2, json!({"type": "input_json_delta", "partial_json": "op-ü\"}"})),
        json!({"type": "content_block_stop", "index": 2}),
        start(3, json!({"type": "tool_use", "id": "toolu_2", "name": "nodes", "input": {}})),
        json!({"type": "content_block_stop", "index": 3}),
    ];
    events.extend(end("tool_use"));
    let reply = ModelReply {
        content: "Ich prüfe das 🔥.".into(),
        reasoning: Some("Let me see ☸".into()),
        tool_calls: vec![
            RequestedCall { name: "pods_list".into(), arguments: json!({"ns": "shop-ü"}) },
            RequestedCall { name: "nodes".into(), arguments: json!({}) },
        ],
        usage: TokenUsage {
            input_tokens: 90,
            output_tokens: 12,
            cached_tokens: 60,
            cache_write_tokens: 20,
            ..TokenUsage::default()
        },
        stop_reason: StopReason::ToolUse,
        provider_data: Some(ProviderData {
            api: "anthropic_messages".into(),
            blocks: vec![
                json!({"part": "reasoning", "length": 14, "data": {"signature": "c2ln"}}),
                json!({"part": "text", "length": 20}),
                json!({"part": "call"}),
                json!({"part": "call"}),
            ],
        }),
        ..ModelReply::default()
    };
    (sse(&events), reply)
}

fn model(server: &Server) -> AnthropicModel {
    AnthropicModel::new(&testing::provider(ProviderProtocol::Anthropic, &server.url))
}

async fn ask(answer: Answer) -> (Seen, Server) {
    let server = Server::start([answer]).await;
    let seen = match model(&server).stream(request(vec![user("hi")])).await {
        Ok(stream) => watch(stream).await,
        Err(error) => Seen { text: String::new(), reasoning: String::new(), end: Err(error) },
    };
    (seen, server)
}

#[test]
fn the_request_is_what_the_protocol_says() {
    let request = request(testing::conversation());
    assert_eq!(
        serde_json::to_value(body(&request, 100)).unwrap(),
        json!({
            "model": "test-model",
            "max_tokens": 100,
            "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
            "tools": [{
                "name": "pods_list",
                "description": "Lists pods.",
                "input_schema": {"type": "object", "properties": {}},
                "cache_control": {"type": "ephemeral"},
            }],
            "messages": [
                {"role": "user", "content": [
                    {"type": "text", "text": "what is broken?"},
                    {"type": "text", "text": "in shop"},
                ]},
                {"role": "assistant", "content": [
                    {"type": "text", "text": "Looking."},
                    {"type": "tool_use", "id": "call_1", "name": "pods_list", "input": {"namespace": "shop"}},
                    {"type": "tool_use", "id": "call_2", "name": "pods_get",
                        "input": {"invalid_arguments": "{\"name\": "}},
                ]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "call_1", "content": "<tool_output tool=\"x\">\ncart CrashLoopBackOff\n</tool_output>"},
                    {"type": "tool_result", "tool_use_id": "call_2", "content": "[error]\n<tool_output tool=\"x\">\nbad arguments\n</tool_output>", "is_error": true,
                        "cache_control": {"type": "ephemeral"}},
                ]},
                {"role": "assistant", "content": [
                    {"type": "tool_use", "id": "call_3", "name": "restart", "input": {}},
                ]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "call_3", "content": "[unknown: no result was recorded]",
                        "is_error": true},
                    {"type": "text", "text": "did it work?", "cache_control": {"type": "ephemeral"}},
                ]},
            ],
            "stream": true,
        })
    );
}

#[test]
fn what_a_request_begins_with_is_marked_for_the_cache_with_and_without_a_system_prompt() {
    let mut request = request(testing::conversation());
    request.tools = [request.tools[0].clone(), request.tools[0].clone()].into();
    let marks = |request: &ChatRequest| {
        let body = serde_json::to_value(body(request, 100)).unwrap();
        let marked = |block: &&Value| block["cache_control"] == json!({"type": "ephemeral"});
        let all = |blocks: &Value| blocks.as_array().into_iter().flatten().filter(marked).count();
        let messages = body["messages"].as_array().unwrap();
        let blocks: usize = messages.iter().map(|message| all(&message["content"])).sum();
        let last = messages.last().and_then(|message| message["content"].as_array()?.last().cloned());
        (all(&body["system"]), all(&body["tools"]), blocks, last.as_ref().is_some_and(|block| marked(&block)))
    };
    // Never more than the four that the API takes.
    assert_eq!(marks(&request), (1, 1, 2, true));
    request.system = "".into();
    assert_eq!(marks(&request), (0, 1, 2, true));
    let body = serde_json::to_value(body(&request, 100)).unwrap();
    assert_eq!(body.get("system"), None);
    assert_eq!(body["tools"][1]["cache_control"], json!({"type": "ephemeral"}), "the last one stands for all");
    // The last block is a tool's result as often as a text.
    request.messages.truncate(5);
    assert_eq!(marks(&request), (0, 1, 2, true));
}

#[test]
fn forbidden_tools_are_still_listed_and_lost_ones_are_listed_again() {
    let mut request = request(testing::conversation());
    request.tool_choice = ToolChoice::None;
    request.temperature = Some(0.5);
    let forbidden = serde_json::to_value(body(&request, 100)).unwrap();
    assert_eq!(forbidden["tool_choice"], json!({"type": "none"}));
    assert_eq!(forbidden["tools"][0]["name"], "pods_list");
    assert_eq!(forbidden["temperature"], 0.5);
    request.tool_choice = ToolChoice::Auto;
    request.tools = [].into();
    let gone = serde_json::to_value(body(&request, 100)).unwrap();
    let names: Vec<_> = gone["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["pods_get", "pods_list", "restart"]);
    assert_eq!(gone["tool_choice"], json!({"type": "none"}));
    request.messages = vec![user("hi")];
    let plain = serde_json::to_value(body(&request, 100)).unwrap();
    assert_eq!((plain.get("tools"), plain.get("tool_choice")), (None, None));
}

#[test]
fn the_user_begins_and_roles_take_turns() {
    let request = request(vec![
        assistant("a", vec![]),
        assistant("b", vec![testing::call("1", "x", json!({}))]),
        user("c"),
        user("d"),
        tool("1", ToolStatus::Unknown, "partial"),
    ]);
    let body = serde_json::to_value(body(&request, 1)).unwrap();
    let messages = body["messages"].as_array().unwrap();
    let roles: Vec<_> = messages.iter().map(|m| m["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["user", "assistant", "user"]);
    let kinds: Vec<_> =
        messages[2]["content"].as_array().unwrap().iter().map(|b| b["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["tool_result", "text", "text"]);
    assert_eq!(messages[2]["content"][0]["is_error"], true);
}

#[tokio::test]
async fn a_reply_is_the_same_however_its_bytes_are_cut() {
    let (body, reply) = rich();
    for size in (1..40).chain([body.len()]) {
        let seen = assembled(Assembler::new(testing::some_call(), Vec::new()), body.as_bytes(), size).await;
        assert_eq!(seen.end.as_ref(), Ok(&reply), "{size}");
    }
}

#[tokio::test]
async fn a_reply_comes_over_http_with_the_headers_of_the_protocol() {
    let (body, reply) = rich();
    let (seen, server) = ask(Answer::stream(&[&body[..100], &body[100..]])).await;
    assert_eq!(seen.end, Ok(reply));
    let received = server.received();
    let head = &received[0].head;
    assert!(head.starts_with("POST /v1/messages HTTP/1.1\r\n"), "{head}");
    for header in [
        format!("x-api-key: {}\r\n", testing::KEY),
        format!("authorization: Bearer {}\r\n", testing::KEY),
        "anthropic-version: 2023-06-01\r\n".to_owned(),
    ] {
        assert!(head.contains(&header), "{head}");
    }
    assert_eq!(received[0].body["max_tokens"], DEFAULT_MAX_TOKENS);
}

#[test]
fn anthropic_itself_gets_the_key_in_its_own_header_only() {
    let model = AnthropicModel::new(&testing::provider(ProviderProtocol::Anthropic, "https://api.anthropic.com"));
    let headers = model.headers().unwrap();
    assert_eq!(headers["x-api-key"], testing::KEY);
    assert!(headers["x-api-key"].is_sensitive());
    assert!(!headers.contains_key("authorization"));
}

#[tokio::test]
async fn the_limit_of_a_reply_is_the_requests_then_the_catalogs() {
    let (body, _) = rich();
    let server = Server::start((0..2).map(|_| Answer::stream(&[&body]))).await;
    let mut config = testing::provider(ProviderProtocol::Anthropic, &server.url);
    config.models[0].max_output_tokens = Some(64_000);
    let model = AnthropicModel::new(&config);
    for limit in [None, Some(5)] {
        let request = ChatRequest { max_tokens: limit, ..request(vec![user("hi")]) };
        watch(model.stream(request).await.unwrap()).await.end.unwrap();
    }
    let sent: Vec<_> = server.received().iter().map(|r| r.body["max_tokens"].clone()).collect();
    assert_eq!(sent, [64_000, 5]);
}

fn reply(events: &[Value]) -> Result<ModelReply, ModelError> {
    take_all(&mut Assembler::new(testing::some_call(), Vec::new()), events)
}

#[test]
fn the_reason_of_the_end_is_told() {
    for (word, reason) in [
        ("end_turn", StopReason::EndTurn),
        ("stop_sequence", StopReason::EndTurn),
        ("max_tokens", StopReason::MaxTokens),
        ("model_context_window_exceeded", StopReason::MaxTokens),
        ("refusal", StopReason::Refusal),
        ("pause_turn", StopReason::Paused),
        ("something new", StopReason::Other),
    ] {
        assert_eq!(reply(&end(word)).unwrap().stop_reason, reason, "{word}");
    }
}

#[test]
fn input_that_comes_whole_is_taken_and_input_that_is_cut_is_kept_as_written() {
    let mut events = vec![start(0, json!({"type": "tool_use", "name": "a", "input": {"x": 1}}))];
    events.extend(end("end_turn"));
    let whole = reply(&events).unwrap();
    assert_eq!((&whole.tool_calls[0].arguments, whole.stop_reason), (&json!({"x": 1}), StopReason::ToolUse));
    events.insert(1, delta(0, json!({"type": "input_json_delta", "partial_json": "{\"x\": "})));
    assert_eq!(reply(&events).unwrap().tool_calls[0].arguments, json!("{\"x\": "));
}

#[test]
fn a_call_that_was_cut_before_its_input_is_not_one_without_input() {
    let call = |index: u64, input: Value| start(index, json!({"type": "tool_use", "name": "a", "input": input}));
    let arguments = |events: &[Value], reason: &str| -> Vec<_> {
        let reply = reply(&[events, &end(reason)].concat()).unwrap();
        reply.tool_calls.into_iter().map(|call| call.arguments).collect()
    };
    let two = [call(0, json!({})), call(1, json!({}))];
    assert_eq!(arguments(&two, "tool_use"), [json!({}), json!({})]);
    // The first one is whole: another came after it.
    assert_eq!(arguments(&two, "max_tokens"), [json!({}), json!("")]);
    assert_eq!(arguments(&[call(0, json!({"x": 1}))], "max_tokens"), [json!({"x": 1})]);
    let written = [call(0, json!({})), delta(0, json!({"type": "input_json_delta", "partial_json": "{}"}))];
    assert_eq!(arguments(&written, "max_tokens"), [json!({})]);
}

#[tokio::test]
async fn a_stream_that_ends_too_early_is_no_reply() {
    let begun = sse(&[delta(0, json!({"type": "text_delta", "text": "half a"}))]);
    let (seen, _server) = ask(Answer::stream(&[&begun])).await;
    assert!(matches!(seen.end, Err(ModelError::MalformedStream(_))), "{seen:?}");
    assert_eq!(seen.text, "half a");
    let (seen, _server) = ask(Answer::cut(&[&begun])).await;
    assert!(matches!(seen.end, Err(ModelError::Network(_))), "{seen:?}");
    let (seen, _server) = ask(Answer::stream(&[&begun, "event: content_block_delta\ndata: {\"type\": \n\n"])).await;
    assert!(matches!(seen.end, Err(ModelError::MalformedStream(_))), "{seen:?}");
}

#[tokio::test]
async fn an_error_in_the_stream_is_typed() {
    for (kind, code) in [
        ("overloaded_error", "overloaded"),
        ("api_error", "overloaded"),
        ("rate_limit_error", "rate_limited"),
        ("authentication_error", "auth"),
        ("permission_error", "auth"),
        ("invalid_request_error", "invalid_request"),
        ("request_too_large", "context_too_long"),
        ("timeout_error", "timeout"),
    ] {
        let body = sse(&[json!({"type": "error", "error": {"type": kind, "message": "Overloaded"}})]);
        let (seen, _server) = ask(Answer::stream(&[&body])).await;
        assert_eq!(seen.end.unwrap_err().code(), code, "{kind}");
    }
}

#[tokio::test]
async fn a_refused_request_is_a_typed_error() {
    let body = r#"{"type":"error","error":{"type":"x","message":"no"}}"#;
    for (status, code) in [(401, "auth"), (404, "model_not_found"), (429, "rate_limited"), (529, "overloaded")] {
        let (seen, _server) = ask(Answer::plain(status, "", body)).await;
        assert_eq!(seen.end.unwrap_err().code(), code, "{status}");
    }
}

#[tokio::test]
async fn a_base_url_may_end_in_the_version() {
    let (body, _) = rich();
    let server = Server::start([Answer::stream(&[&body])]).await;
    let model =
        AnthropicModel::new(&testing::provider(ProviderProtocol::Anthropic, &format!("{}/proxy/v1/", server.url)));
    watch(model.stream(request(vec![user("hi")])).await.unwrap()).await.end.unwrap();
    let received = server.received();
    assert!(received[0].head.starts_with("POST /proxy/v1/messages HTTP/1.1\r\n"), "{}", received[0].head);
}

#[tokio::test]
async fn a_check_finds_the_model_or_says_what_there_is() {
    let list = r#"{"data":[{"type":"model","id":"claude-x"}],"has_more":false}"#;
    let server =
        Server::start([Answer::plain(200, "", list), Answer::plain(200, "", list), Answer::plain(404, "", "{}")]).await;
    let model = model(&server);
    assert_eq!(model.check("claude-x").await, Ok(()));
    let error = model.check("claude-y").await.unwrap_err();
    assert!(
        matches!(&error, ModelError::InvalidRequest(m) if m.contains("claude-y") && m.contains("claude-x")),
        "{error:?}"
    );
    let received = server.received();
    assert!(received[0].head.starts_with("GET /v1/models HTTP/1.1\r\n"), "{}", received[0].head);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_only_says_that_it_is_alive_is_given_up_and_one_that_writes_slowly_is_not() {
    let start = tokio::time::Instant::now();
    let ping = "event: ping\ndata: {\"type\": \"ping\"}";
    let input = "data: {\"type\":\"content_block_delta\",\"delta\":{\"partial_json\":\" \"}}";
    let stream = testing::slow_reply(Assembler::new(testing::some_call(), Vec::new()), input, 60, ping);
    let error = watch(stream).await.end.unwrap_err();
    assert!(matches!(&error, ModelError::Timeout(m) if m.contains("150 s")), "{error:?}");
    assert_eq!(start.elapsed().as_secs(), 60 * 20 + 150);
}

/// The message that a reply becomes, with calls of the ids `c0`, `c1`, ….
fn said(reply: ModelReply) -> Arc<ChatMessage> {
    let calls = reply.tool_calls.iter().enumerate();
    let calls = calls.map(|(n, call)| testing::call(&format!("c{n}"), &call.name, call.arguments.clone())).collect();
    match &*assistant(&reply.content, calls) {
        ChatMessage::Assistant(message) => Arc::new(ChatMessage::Assistant(AssistantMessage {
            reasoning: reply.reasoning,
            provider_data: reply.provider_data,
            ..message.clone()
        })),
        _ => unreachable!(),
    }
}

#[test]
fn what_a_model_thought_goes_back_to_it_unchanged_and_to_no_other() {
    let events = [
        vec![
            start(0, json!({"type": "thinking", "thinking": "", "signature": ""})),
            delta(0, json!({"type": "thinking_delta", "thinking": "Pods first"})),
            delta(0, json!({"type": "signature_delta", "signature": "s1"})),
            start(1, json!({"type": "redacted_thinking", "data": "secret"})),
            start(2, json!({"type": "text", "text": ""})),
            delta(2, json!({"type": "text_delta", "text": "I look."})),
            start(3, json!({"type": "thinking", "thinking": "", "signature": "s2"})),
            start(4, json!({"type": "tool_use", "id": "t", "name": "pods_list", "input": {}})),
            delta(4, json!({"type": "input_json_delta", "partial_json": "{}"})),
        ],
        end("tool_use").to_vec(),
    ]
    .concat();
    let message = said(reply(&events).unwrap());
    let mut request = request(vec![user("hi"), message, tool("c0", ToolStatus::Ok, "none")]);
    let content =
        |request: &ChatRequest| serde_json::to_value(body(request, 100)).unwrap()["messages"][1]["content"].clone();
    let call = json!({"type": "tool_use", "id": "c0", "name": "pods_list", "input": {}});
    assert_eq!(
        content(&request),
        json!([
            {"type": "thinking", "thinking": "Pods first", "signature": "s1"},
            {"type": "redacted_thinking", "data": "secret"},
            {"type": "text", "text": "I look."},
            {"type": "thinking", "thinking": "", "signature": "s2"},
            call,
        ])
    );
    request.model = "another".into();
    assert_eq!(content(&request), json!([{"type": "text", "text": "I look."}, call]));
}

#[test]
fn a_paused_reply_goes_back_with_the_blocks_of_the_servers_own_tools() {
    let search = json!({"type": "server_tool_use", "id": "srv", "name": "web_search", "input": {}});
    let found = json!({"type": "web_search_tool_result", "tool_use_id": "srv", "content": [{"url": "u"}]});
    let events = [
        vec![
            start(0, json!({"type": "text", "text": "Searching."})),
            start(1, search),
            delta(1, json!({"type": "input_json_delta", "partial_json": "{\"query\": "})),
            delta(1, json!({"type": "input_json_delta", "partial_json": "\"k8s\"}"})),
            start(2, found.clone()),
        ],
        end("pause_turn").to_vec(),
    ]
    .concat();
    let paused = reply(&events).unwrap();
    assert_eq!((paused.stop_reason, paused.tool_calls.len()), (StopReason::Paused, 0));
    let body = serde_json::to_value(body(&request(vec![user("hi"), said(paused)]), 100)).unwrap();
    let search = json!({"type": "server_tool_use", "id": "srv", "name": "web_search", "input": {"query": "k8s"}});
    assert_eq!(body["messages"][1]["content"], json!([{"type": "text", "text": "Searching."}, search, found]));
    assert_eq!(body["messages"].as_array().unwrap().len(), 2, "the model goes on from where it was");
}

#[test]
fn thinking_is_asked_for_as_the_model_wants_it() {
    let asked = |effort: Option<ReasoningEffort>, plan: &Plan, messages: Vec<Arc<ChatMessage>>| {
        let request = ChatRequest { reasoning: effort, temperature: Some(0.1), ..request(messages) };
        let body = serde_json::to_value(body::of(&request, plan)).unwrap();
        (body["thinking"].clone(), body["output_config"].clone(), body["temperature"].clone())
    };
    let hi = || vec![user("hi")];
    let adaptive = json!({"type": "adaptive", "display": "summarized"});
    let none = || (json!(null), json!(null), json!(0.1));
    assert_eq!(asked(None, &plan(100), hi()), none());
    let high = (adaptive.clone(), json!({"effort": "high"}), json!(null));
    assert_eq!(asked(Some(ReasoningEffort::High), &plan(100), hi()), high);
    assert_eq!(asked(Some(ReasoningEffort::Off), &plan(100), hi()).0, json!({"type": "disabled"}));
    let thinks = Plan { thinking: Thinking::Adaptive, ..plan(100) };
    assert_eq!(asked(None, &thinks, hi()), (adaptive, json!(null), json!(null)), "what it thinks is to be seen");
    let no = Plan { thinking: Thinking::No, ..plan(100) };
    assert_eq!(asked(Some(ReasoningEffort::High), &no, hi()), none());
    let cold = Plan { takes_temperature: false, ..plan(100) };
    assert_eq!(asked(None, &cold, hi()).2, json!(null));
    let budget = Plan { thinking: Thinking::Budget, ..plan(20_000) };
    assert_eq!(asked(None, &budget, hi()), none());
    assert_eq!(
        asked(Some(ReasoningEffort::High), &budget, hi()).0,
        json!({"type": "enabled", "budget_tokens": 10_000})
    );
    // Within a turn that began without thinking it cannot be begun.
    let unthought = vec![user("hi"), assistant("", vec![testing::call("a", "x", json!({}))])];
    assert_eq!(asked(Some(ReasoningEffort::High), &budget, unthought).0, json!(null));
}

#[tokio::test]
async fn what_the_model_refuses_is_left_out_and_the_call_made_again() {
    let refusal = json!({"type": "error", "error": {"type": "invalid_request_error", "message": "`temperature` is not supported"}});
    let body = sse(&end("end_turn"));
    let server = Server::start([
        Answer::plain(400, "", &refusal.to_string()),
        Answer::stream(&[&body]),
        Answer::stream(&[&body]),
    ])
    .await;
    let model = AnthropicModel::new(&testing::provider(ProviderProtocol::Anthropic, &server.url));
    for _ in 0..2 {
        let request = ChatRequest { temperature: Some(0.3), ..request(vec![user("hi")]) };
        let reply = watch(model.stream(request).await.unwrap()).await.end.unwrap();
        assert_eq!(reply.notices.iter().map(|notice| notice.code).collect::<Vec<_>>(), ["temperature_ignored"]);
    }
    let sent: Vec<_> = server.received().iter().map(|r| r.body.get("temperature").is_some()).collect();
    assert_eq!(sent, [true, false, false], "and is not tried again");
}

#[tokio::test]
async fn a_model_that_always_thinks_is_asked_for_as_little_of_it_as_it_can() {
    let refusal = "thinking.type: `disabled` is not supported by this model, whose thinking is always on";
    let refusal = json!({"type": "error", "error": {"type": "invalid_request_error", "message": refusal}});
    let body = sse(&end("end_turn"));
    let good = || Answer::stream(&[&body]);
    let server = Server::start([Answer::plain(400, "", &refusal.to_string()), good(), good(), good()]).await;
    let model = AnthropicModel::new(&testing::provider(ProviderProtocol::Anthropic, &server.url));
    let ask = async |reasoning| {
        let request = ChatRequest { reasoning: Some(reasoning), ..request(vec![user("hi")]) };
        let reply = watch(model.stream(request).await.unwrap()).await.end.unwrap();
        reply.notices.iter().map(|notice| notice.code).collect::<Vec<_>>()
    };
    assert_eq!(ask(ReasoningEffort::Off).await, ["always_thinks"]);
    assert_eq!(ask(ReasoningEffort::Off).await, ["always_thinks"]);
    assert_eq!(ask(ReasoningEffort::High).await, Vec::<&str>::new(), "what others want of it is as it was");
    let sent: Vec<_> = server.received().iter().map(|r| r.body["output_config"]["effort"].clone()).collect();
    assert_eq!(sent, [json!(null), json!("low"), json!("low"), json!("high")]);
}

/// A reply that thinks and says nothing, signed.
fn thought_alone() -> ModelReply {
    let thinking = start(0, json!({"type": "thinking", "thinking": "", "signature": "s1"}));
    reply(&[vec![thinking], end("end_turn").to_vec()].concat()).unwrap()
}

#[test]
fn a_reply_that_ends_in_a_thought_goes_back_without_it() {
    let asked = |messages: Vec<Arc<ChatMessage>>| -> Value {
        let body = serde_json::to_value(body(&request(messages), 100)).unwrap();
        body["messages"].as_array().unwrap().iter().map(|m| json!([m["role"], m["content"]])).collect()
    };
    let alone = asked(vec![user("hi"), said(thought_alone()), user("well?")]);
    let texts = |role: &str| alone.as_array().unwrap().iter().filter(|m| m[0] == role).count();
    assert_eq!((texts("user"), texts("assistant")), (1, 0), "nothing is left of it: {alone}");
    let events = [
        start(0, json!({"type": "thinking", "thinking": "", "signature": "s1"})),
        start(1, json!({"type": "text", "text": "So."})),
        start(2, json!({"type": "thinking", "thinking": "", "signature": "s2"})),
        start(3, json!({"type": "redacted_thinking", "data": "x"})),
    ];
    let spoken = reply(&[events.to_vec(), end("max_tokens").to_vec()].concat()).unwrap();
    let sent = asked(vec![user("hi"), said(spoken), user("go on")]);
    let kinds: Vec<_> = sent[1][1].as_array().unwrap().iter().map(|block| block["type"].clone()).collect();
    assert_eq!(kinds, ["thinking", "text"]);
}

#[tokio::test]
async fn no_message_is_sent_without_anything_in_it() {
    let refusal =
        json!({"type": "error", "error": {"type": "invalid_request_error", "message": "Invalid `signature`"}});
    let body = sse(&end("end_turn"));
    let server = Server::start([Answer::plain(400, "", &refusal.to_string()), Answer::stream(&[&body])]).await;
    let model = AnthropicModel::new(&testing::provider(ProviderProtocol::Anthropic, &server.url));
    let (_, signed) = rich();
    let results = [tool("c0", ToolStatus::Ok, "a"), tool("c1", ToolStatus::Ok, "b")];
    let first = [vec![user("hi"), said(signed)], results.to_vec()].concat();
    let asked = request([first, vec![user("and?"), said(thought_alone()), user("well?")]].concat());
    watch(model.stream(asked).await.unwrap()).await.end.unwrap();
    for received in server.received() {
        let messages = received.body["messages"].as_array().unwrap().clone();
        assert!(messages.iter().all(|m| !m["content"].as_array().unwrap().is_empty()), "{messages:?}");
    }
}

#[test]
fn blocks_that_all_have_the_same_index_are_told_apart() {
    let events = [
        start(0, json!({"type": "text", "text": "Both."})),
        start(0, json!({"type": "tool_use", "id": "t1", "name": "a", "input": {}})),
        delta(0, json!({"type": "input_json_delta", "partial_json": "{\"x\":1}"})),
        start(0, json!({"type": "tool_use", "id": "t1", "name": "b", "input": {}})),
        delta(0, json!({"type": "input_json_delta", "partial_json": "{\"y\":"})),
        delta(0, json!({"type": "input_json_delta", "partial_json": "2}"})),
    ];
    let reply = reply(&[events.to_vec(), end("tool_use").to_vec()].concat()).unwrap();
    let calls: Vec<_> = reply.tool_calls.iter().map(|call| (call.name.as_str(), call.arguments.clone())).collect();
    assert_eq!(calls, [("a", json!({"x": 1})), ("b", json!({"y": 2}))]);
}

#[test]
fn a_usage_that_is_no_count_does_not_cost_the_reply() {
    for nonsense in [json!(-1), json!("many"), json!(1.5), json!(null), json!([]), json!(u64::MAX)] {
        let usage = json!({"input_tokens": nonsense, "output_tokens": nonsense, "cache_read_input_tokens": nonsense,
            "cache_creation_input_tokens": nonsense, "output_tokens_details": nonsense});
        let events = [
            json!({"type": "message_start", "message": {"usage": usage}}),
            start(0, json!({"type": "text", "text": "ok"})),
            json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}),
            json!({"type": "message_stop"}),
        ];
        assert_eq!(reply(&events).unwrap().content, "ok", "{nonsense}");
    }
}

#[test]
fn a_temperature_for_another_scale_is_the_highest_of_this_one() {
    let request = ChatRequest { temperature: Some(1.7), ..request(vec![user("hi")]) };
    assert_eq!(serde_json::to_value(body(&request, 100)).unwrap()["temperature"], 1.0);
}

#[tokio::test]
async fn a_conversation_whose_signatures_are_not_taken_any_more_goes_on_without_them() {
    let refusal = "messages.1.content.0: `thinking` blocks in the latest assistant message cannot be modified.";
    let refusal = json!({"type": "error", "error": {"type": "invalid_request_error", "message": refusal}});
    let body = sse(&end("end_turn"));
    let server = Server::start([Answer::plain(400, "", &refusal.to_string()), Answer::stream(&[&body])]).await;
    let model = AnthropicModel::new(&testing::provider(ProviderProtocol::Anthropic, &server.url));
    let (_, reply) = rich();
    let results = [tool("c0", ToolStatus::Ok, "a"), tool("c1", ToolStatus::Ok, "b")];
    let request = request([vec![user("hi"), said(reply)], results.to_vec()].concat());
    let reply = watch(model.stream(request).await.unwrap()).await.end.unwrap();
    assert_eq!(reply.notices, []);
    let kinds = |n: usize| -> Vec<Value> {
        let content = server.received()[n].body["messages"][1]["content"].clone();
        content.as_array().unwrap().iter().map(|block| block["type"].clone()).collect()
    };
    assert_eq!(kinds(0), ["thinking", "text", "tool_use", "tool_use"]);
    assert_eq!(kinds(1), ["text", "tool_use", "tool_use"]);
}
