#![allow(clippy::needless_pass_by_value)] // `json!` reads better without a borrow at every call

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::reply::Assembler;
use crate::{
    ChatModel as _, ChatRequest, ModelError, ModelReply, OpenAiModel, ProviderProtocol, RequestedCall, ToolChoice,
    openai::Plan,
    testing,
    testing::{Answer, Seen, Server, assembled, request, take_all, user, watch},
};
use k8sops_core::{AssistantMessage, ChatMessage, ProviderData, StopReason, TokenUsage, ToolStatus};

fn body(request: &ChatRequest, completion_limit: bool) -> Value {
    let plan = Plan { completion_limit, own_blocks: true, ..Plan::default() };
    serde_json::to_value(super::body::of(request, &plan)).unwrap()
}

fn sse(chunks: &[Value]) -> String {
    let mut data: Vec<_> = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    data.push("data: [DONE]\n\n".to_owned());
    data.concat()
}

fn delta(delta: Value) -> Value {
    json!({"id": "c", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
}

fn finish(reason: &str) -> Value {
    json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
}

fn calls(calls: Value) -> Value {
    delta(json!({ "tool_calls": calls }))
}

fn requested(name: &str, arguments: Value) -> RequestedCall {
    RequestedCall { name: name.to_owned(), arguments }
}

fn model(server: &Server) -> OpenAiModel {
    OpenAiModel::new(&testing::provider(ProviderProtocol::Openai, &format!("{}/v1", server.url)))
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
        body(&request, false),
        json!({
            "model": "test-model",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "what is broken?\n\nin shop"},
                {"role": "assistant", "content": "Looking.", "tool_calls": [
                    {"id": "call_1", "type": "function",
                        "function": {"name": "pods_list", "arguments": "{\"namespace\":\"shop\"}"}},
                    {"id": "call_2", "type": "function",
                        "function": {"name": "pods_get", "arguments": "{\"invalid_arguments\":\"{\\\"name\\\": \"}"}},
                ]},
                {"role": "tool", "tool_call_id": "call_1", "content": "<tool_output tool=\"x\">\ncart CrashLoopBackOff\n</tool_output>"},
                {"role": "tool", "tool_call_id": "call_2", "content": "[error]\n<tool_output tool=\"x\">\nbad arguments\n</tool_output>"},
                {"role": "assistant", "content": null, "tool_calls": [
                    {"id": "call_3", "type": "function", "function": {"name": "restart", "arguments": "{}"}},
                ]},
                {"role": "tool", "tool_call_id": "call_3", "content": "[unknown: no result was recorded]"},
                {"role": "user", "content": "did it work?"},
            ],
            "tools": [{"type": "function", "function": {
                "name": "pods_list",
                "description": "Lists pods.",
                "parameters": {"type": "object", "properties": {}},
            }}],
            "stream": true,
            "stream_options": {"include_usage": true},
        })
    );
}

#[test]
fn options_are_sent_only_when_they_are_set() {
    let mut request = request(vec![user("hi")]);
    request.temperature = Some(0.5);
    request.max_tokens = Some(100);
    request.tool_choice = ToolChoice::None;
    let plain = body(&request, false);
    assert_eq!(
        (&plain["temperature"], &plain["max_tokens"], &plain["tool_choice"]),
        (&json!(0.5), &json!(100), &json!("none"))
    );
    let completion = body(&request, true);
    assert_eq!((completion.get("max_tokens"), &completion["max_completion_tokens"]), (None, &json!(100)));
    request.tools = [].into();
    let without = body(&request, false);
    assert_eq!((without.get("tools"), without.get("tool_choice")), (None, None));
}

fn rich() -> (String, ModelReply) {
    let body = sse(&[
        delta(json!({"role": "assistant", "content": ""})),
        delta(json!({"reasoning_content": "Let me "})),
        delta(json!({"reasoning": "see ☸"})),
        delta(json!({"content": "Ich prüfe "})),
        delta(json!({"content": "das 🔥."})),
        calls(json!([{"index": 0, "id": "a", "type": "function", "function": {"name": "pods_list", "arguments": ""}}])),
        calls(
            json!([{"index": 1, "id": "b", "type": "function", "function": {"name": "logs", "arguments": "{\"pod\":"}}]),
        ),
        calls(json!([{"index": 0, "function": {"arguments": "{\"ns\": \"sh"}}])),
        calls(
            json!([{"index": 1, "function": {"arguments": "\"cart-ü\"}"}}, {"index": 0, "function": {"arguments": "op\"}"}}]),
        ),
        finish("tool_calls"),
        json!({"choices": [], "usage": {"prompt_tokens": 90, "completion_tokens": 12, "total_tokens": 102,
            "prompt_tokens_details": {"cached_tokens": 64}, "completion_tokens_details": {"reasoning_tokens": 5}}}),
    ]);
    let reply = ModelReply {
        content: "Ich prüfe das 🔥.".into(),
        reasoning: Some("Let me see ☸".into()),
        tool_calls: vec![requested("pods_list", json!({"ns": "shop"})), requested("logs", json!({"pod": "cart-ü"}))],
        usage: TokenUsage {
            input_tokens: 90,
            output_tokens: 12,
            cached_tokens: 64,
            reasoning_tokens: 5,
            ..TokenUsage::default()
        },
        stop_reason: StopReason::ToolUse,
        provider_data: Some(ProviderData {
            api: "chat_completions".into(),
            blocks: vec![
                json!({"part": "reasoning", "length": 14, "data": {"field": "reasoning"}}),
                json!({"part": "text", "length": 20}),
                json!({"part": "call"}),
                json!({"part": "call"}),
            ],
        }),
        ..ModelReply::default()
    };
    (body, reply)
}

#[tokio::test]
async fn a_reply_is_the_same_however_its_bytes_are_cut() {
    let (body, reply) = rich();
    for size in (1..40).chain([body.len()]) {
        let seen = assembled(Assembler::new(testing::some_call(), Vec::new(), Vec::new()), body.as_bytes(), size).await;
        assert_eq!(seen.end.as_ref(), Ok(&reply), "{size}");
    }
}

#[tokio::test]
async fn a_reply_comes_over_http_and_the_key_goes_in_one_header() {
    let (body, reply) = rich();
    let (seen, server) = ask(Answer::stream(&[&body[..100], &body[100..]])).await;
    assert_eq!(seen.end, Ok(reply));
    let received = server.received();
    assert!(received[0].head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{}", received[0].head);
    assert_eq!(received[0].head.matches(testing::KEY).count(), 1);
    assert!(received[0].head.contains(&format!("authorization: Bearer {}\r\n", testing::KEY)));
    assert_eq!(received[0].body["stream_options"], json!({"include_usage": true}));
}

#[tokio::test]
async fn one_connection_serves_one_call_after_the_other() {
    let (body, reply) = rich();
    let server = Server::start((0..3).map(|_| Answer::stream(&[&body]))).await;
    let model = model(&server);
    for _ in 0..3 {
        let stream = model.stream(request(vec![user("hi")])).await.unwrap();
        assert_eq!(watch(stream).await.end.as_ref(), Ok(&reply));
    }
    assert_eq!(server.connections(), 1);
}

fn reply(chunks: &[Value]) -> Result<ModelReply, ModelError> {
    take_all(&mut Assembler::new(testing::some_call(), Vec::new(), Vec::new()), chunks)
}

#[test]
fn tool_calls_are_told_apart_whatever_the_server_leaves_out() {
    let two = vec![requested("a", json!({"x": 1})), requested("b", json!({"y": 2}))];
    let variants = [
        // By id, without index.
        vec![
            calls(json!([{"id": "1", "function": {"name": "a", "arguments": "{\"x\":"}}])),
            calls(json!([{"id": "2", "function": {"name": "b", "arguments": "{\"y\":"}}])),
            calls(json!([{"id": "1", "function": {"arguments": "1}"}}, {"id": "2", "function": {"arguments": "2}"}}])),
        ],
        // Neither: a piece goes on with the last call, a name begins one.
        vec![
            calls(json!([{"function": {"name": "a", "arguments": "{\"x\":"}}])),
            calls(json!([{"function": {"arguments": "1}"}}])),
            calls(json!([{"function": {"name": "b", "arguments": "{\"y\":2}"}}])),
        ],
        // All with the index 0.
        vec![
            calls(json!([{"index": 0, "id": "1", "function": {"name": "a", "arguments": "{\"x\":1}"}}])),
            calls(json!([{"index": 0, "id": "2", "function": {"name": "b", "arguments": "{\"y\":2}"}}])),
        ],
        // Name and id with every piece.
        vec![
            calls(json!([{"index": 0, "id": "1", "function": {"name": "a", "arguments": "{\"x\""}}])),
            calls(json!([{"index": 0, "id": "1", "function": {"name": "a", "arguments": ":1}"}}])),
            calls(json!([{"index": 1, "id": "2", "function": {"name": "b", "arguments": "{\"y\":2}"}}])),
        ],
        // All with the index 0 and without an id; the first with its name in each piece, and an empty one at its end.
        vec![
            calls(json!([{"index": 0, "function": {"name": "a", "arguments": "{\"x\":"}}])),
            calls(json!([{"index": 0, "function": {"name": "a", "arguments": "1}"}}])),
            calls(json!([{"index": 0, "function": {"name": "a", "arguments": ""}}])),
            calls(json!([{"index": 0, "function": {"name": "b", "arguments": "{\"y\":"}}])),
            calls(json!([{"index": 0, "function": {"arguments": "2}"}}])),
        ],
        // All with the same id, and no index.
        vec![
            calls(json!([{"id": "1", "function": {"name": "a", "arguments": "{\"x\":1}"}}])),
            calls(json!([{"id": "1", "function": {"name": "b", "arguments": "{\"y\":2}"}}])),
        ],
        // All with the same id, and an index each; or with ids and indices of another kind.
        vec![
            calls(json!([{"index": 0, "id": "1", "function": {"name": "a", "arguments": "{\"x\":1}"}}])),
            calls(json!([{"index": 1, "id": "1", "function": {"name": "b", "arguments": "{\"y\":2}"}}])),
        ],
        vec![
            calls(json!([{"index": -1, "id": 17, "function": {"name": "a", "arguments": "{\"x\":1}"}}])),
            calls(json!([{"index": "0", "id": 18, "function": {"name": "b", "arguments": "{\"y\":2}"}}])),
        ],
        // The arguments as an object, whole.
        vec![calls(json!([
            {"index": 0, "function": {"name": "a", "arguments": {"x": 1}}},
            {"index": 7, "function": {"name": "b", "arguments": {"y": 2}}},
        ]))],
    ];
    for mut chunks in variants {
        chunks.push(finish("stop"));
        let reply = reply(&chunks).unwrap();
        assert_eq!(reply.tool_calls, two, "{chunks:?}");
        assert_eq!(reply.stop_reason, StopReason::ToolUse);
    }
}

#[test]
fn a_reply_of_which_much_is_missing_is_still_a_reply() {
    let seen = reply(&[
        json!({}),
        json!({"choices": null}),
        delta(json!({"content": null, "tool_calls": null})),
        delta(json!({"content": [{"type": "text", "text": "hi"}]})),
        json!({"choices": [{"finish_reason": "eos_token"}]}),
        json!({"choices": [], "usage": null, "timings": {"n": 1}}),
    ])
    .unwrap();
    assert_eq!(
        (seen.content.as_str(), seen.stop_reason, seen.usage),
        ("hi", StopReason::EndTurn, TokenUsage::default())
    );
}

#[test]
fn the_reason_of_the_end_is_told() {
    for (word, reason) in [
        ("stop", StopReason::EndTurn),
        ("length", StopReason::MaxTokens),
        ("content_filter", StopReason::Refusal),
        ("something_new", StopReason::Other),
    ] {
        assert_eq!(reply(&[delta(json!({"content": "x"})), finish(word)]).unwrap().stop_reason, reason, "{word}");
    }
    let refusal = reply(&[delta(json!({"refusal": "I can't."})), finish("stop")]).unwrap();
    assert_eq!((refusal.content.as_str(), refusal.stop_reason), ("I can't.", StopReason::Refusal));
    // Cut in the middle of its arguments, a call is kept as it was written, and nobody takes it for a whole one.
    let cut =
        reply(&[calls(json!([{"index": 0, "function": {"name": "a", "arguments": "{\"x\": \"1"}}])), finish("length")]);
    let cut = cut.unwrap();
    assert_eq!((cut.stop_reason, &cut.tool_calls[0].arguments), (StopReason::MaxTokens, &json!("{\"x\": \"1")));
}

#[test]
fn a_call_that_was_cut_before_its_arguments_is_not_one_without_arguments() {
    let call = |index: u64, arguments: &str| {
        calls(json!([{"index": index, "function": {"name": "a", "arguments": arguments}}]))
    };
    let arguments = |end: &str| -> Vec<_> {
        let reply = reply(&[call(0, ""), call(1, ""), finish(end)]).unwrap();
        reply.tool_calls.into_iter().map(|call| call.arguments).collect()
    };
    assert_eq!(arguments("tool_calls"), [json!({}), json!({})]);
    // The first one is whole: another came after it.
    assert_eq!(arguments("length"), [json!({}), json!("")]);
    let whole = reply(&[call(0, "{}"), finish("length")]).unwrap();
    assert_eq!(whole.tool_calls[0].arguments, json!({}));
}

#[tokio::test]
async fn a_stream_that_ends_too_early_is_no_reply() {
    let begun = format!("data: {}\n\n", delta(json!({"content": "half a"})));
    let (seen, _server) = ask(Answer::stream(&[&begun])).await;
    assert!(matches!(seen.end, Err(ModelError::MalformedStream(_))), "{seen:?}");
    assert_eq!(seen.text, "half a");
    let (seen, _server) = ask(Answer::stream(&[&begun, "data: [DONE]\n\n"])).await;
    assert!(matches!(seen.end, Err(ModelError::MalformedStream(_))), "{seen:?}");
    let (seen, _server) = ask(Answer::cut(&[&begun])).await;
    assert!(matches!(&seen.end, Err(ModelError::Network(m)) if m.contains("middle of the reply")), "{seen:?}");
    let (seen, _server) = ask(Answer::stream(&[&begun, "data: {\"choices\": [{\n\n"])).await;
    assert!(matches!(seen.end, Err(ModelError::MalformedStream(_))), "{seen:?}");
    // The end mark may be missing when the finish reason is there.
    let end = format!("data: {}\n\n", finish("stop"));
    let (seen, _server) = ask(Answer::stream(&[&begun, &end])).await;
    assert_eq!(seen.end.unwrap().content, "half a");
}

#[tokio::test]
async fn an_error_in_the_stream_is_typed() {
    let begun = format!("data: {}\n\n", delta(json!({"content": "half a"})));
    for (event, code) in [
        ("data: {\"error\":{\"message\":\"busy\",\"type\":\"overloaded_error\"}}\n\n", "overloaded"),
        (
            "data: {\"error\":{\"message\":\"no\",\"code\":400,\"type\":\"exceed_context_size_error\"}}\n\n",
            "context_too_long",
        ),
        (
            "data: {\"object\":\"error\",\"message\":\"bad\",\"type\":\"BadRequestError\",\"code\":400}\n\n",
            "invalid_request",
        ),
        ("event: error\ndata: {\"message\":\"slow down\",\"code\":429}\n\n", "rate_limited"),
    ] {
        let (seen, _server) = ask(Answer::stream(&[&begun, event])).await;
        assert_eq!(seen.end.unwrap_err().code(), code, "{event}");
    }
}

#[tokio::test]
async fn a_refused_request_is_a_typed_error_that_names_no_key() {
    let echo = format!("{{\"error\":{{\"message\":\"bad: Bearer {}\"}}}}", testing::KEY);
    for (status, headers, code) in [
        (401, "", "auth"),
        (404, "", "model_not_found"),
        (400, "", "invalid_request"),
        (413, "", "context_too_long"),
        (302, "location: http://elsewhere.example/\r\n", "invalid_request"),
        (429, "retry-after: 7\r\n", "rate_limited"),
        (503, "", "overloaded"),
        (503, "retry-after: 2\r\n", "rate_limited"),
        (200, "content-type: application/json\r\n", "overloaded"),
    ] {
        let (seen, _server) = ask(Answer::plain(status, headers, &echo)).await;
        let error = seen.end.unwrap_err();
        assert_eq!(error.code(), code, "{status}");
        assert!(!format!("{error} {error:?}").contains(testing::KEY), "{error}");
        if let ModelError::RateLimited { retry_after, .. } = &error {
            assert_eq!(*retry_after, Some(Duration::from_secs(if status == 429 { 7 } else { 2 })));
        }
    }
    let (seen, _server) = ask(Answer::plain(200, "content-type: text/html\r\n", "<html>welcome</html>")).await;
    assert!(matches!(seen.end, Err(ModelError::InvalidRequest(_))), "{seen:?}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_with_what_to_do() {
    // A port that nobody listens on: bound here, and let go of.
    let host = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let model = OpenAiModel::new(&testing::provider(ProviderProtocol::Openai, &format!("http://{host}/v1")));
    let error = model.stream(request(vec![user("hi")])).await.err().unwrap();
    let ModelError::Network(message) = error else { panic!("{error:?}") };
    assert!(message.contains(&host) && message.contains("refused") && message.contains("Check"), "{message}");

    let nowhere = OpenAiModel::new(&testing::provider(ProviderProtocol::Openai, "http://nowhere.invalid/v1"));
    let error = nowhere.stream(request(vec![user("hi")])).await.err().unwrap();
    assert!(matches!(&error, ModelError::Network(m) if m.contains("nowhere.invalid")), "{error:?}");
    let unparsed = OpenAiModel::new(&testing::provider(ProviderProtocol::Openai, "not a url"));
    let error = unparsed.stream(request(vec![user("hi")])).await.err().unwrap();
    assert!(matches!(&error, ModelError::InvalidRequest(m) if m.contains("base URL")), "{error:?}");
}

#[tokio::test]
async fn a_server_that_falls_silent_is_given_up() {
    let begun = format!("data: {}\n\n", delta(json!({"content": "half a"})));
    let server = Server::start([Answer::stall(&[&begun]), Answer::silence()]).await;
    let mut config = testing::provider(ProviderProtocol::Openai, &server.url);
    config.connect_timeout = Duration::from_millis(100);
    config.read_timeout = Duration::from_millis(200);
    let model = OpenAiModel::new(&config);
    let seen = watch(model.stream(request(vec![user("hi")])).await.unwrap()).await;
    assert_eq!(seen.text, "half a");
    assert!(matches!(&seen.end, Err(ModelError::Timeout(m)) if m.contains("0.2 s")), "{seen:?}");
    let error = model.stream(request(vec![user("hi")])).await.err().unwrap();
    assert!(matches!(error, ModelError::Timeout(_)), "{error:?}");
}

#[tokio::test]
async fn a_reply_that_nobody_waits_for_is_ended_at_the_provider() {
    let begun = format!("data: {}\n\n", delta(json!({"content": "half a"})));
    let server = Server::start([Answer::stall(&[&begun])]).await;
    let stream = model(&server).stream(request(vec![user("hi")])).await.unwrap();
    drop(stream);
    server.hung_up().await;
}

#[tokio::test]
async fn a_check_finds_the_model_or_says_what_there_is() {
    let list = r#"{"object":"list","data":[{"id":"test-model"},{"id":"llama:latest"}]}"#;
    let none = || Answer::plain(404, "", "");
    let server = Server::start([
        Answer::plain(200, "", list),
        Answer::plain(200, "", list),
        Answer::plain(200, "", list),
        none(),
        Answer::plain(200, "", list),
        Answer::plain(200, "", r#"{"id":"org/alias"}"#),
        none(),
        Answer::plain(400, "", r#"{"error":"messages is required"}"#),
        Answer::plain(401, "", "{}"),
    ])
    .await;
    let model = model(&server);
    assert_eq!(model.check("test-model").await, Ok(()));
    assert_eq!(model.check("llama").await, Ok(()));
    let error = model.check("other").await.unwrap_err();
    assert!(matches!(&error, ModelError::InvalidRequest(m) if m.contains("test-model, llama:latest")), "{error:?}");
    assert_eq!(model.check("org/alias").await, Ok(()));
    assert_eq!(model.check("a server without a list").await, Ok(()));
    assert_eq!(model.check("x").await.unwrap_err().code(), "auth");
    let received = server.received();
    assert!(received[0].head.starts_with("GET /v1/models HTTP/1.1\r\n"));
    assert!(received[5].head.starts_with("GET /v1/models/org%2Falias HTTP/1.1\r\n"), "{}", received[5].head);
    assert!(received[7].head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{}", received[7].head);
    assert_eq!(received[7].body.get("messages"), None, "nothing that costs tokens");
}

#[tokio::test]
async fn a_check_of_a_base_url_with_nothing_behind_it_names_the_status_and_the_version() {
    for (list, chat) in [(404, 404), (501, 501), (404, 405), (200, 404)] {
        let server = Server::start([Answer::plain(list, "", "{}"), Answer::plain(chat, "", "<html>")]).await;
        let model = OpenAiModel::new(&testing::provider(ProviderProtocol::Openai, &format!("{}/v1/v1", server.url)));
        let error = model.check("test-model").await.unwrap_err();
        let ModelError::InvalidRequest(message) = &error else { panic!("{list} {chat}: {error:?}") };
        let says = [&format!("({chat})"), "/v1/v1/chat/completions", "missing or doubled /v1"];
        assert!(says.iter().all(|word| message.contains(word)), "{message}");
    }
    let server = Server::start([Answer::plain(404, "", ""), Answer::plain(401, "", "{}")]).await;
    assert_eq!(model(&server).check("x").await.unwrap_err().code(), "auth");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_only_says_that_it_is_alive_is_given_up() {
    for sign in [": ping", "data: {\"choices\":[]}", "data: {\"choices\":[{\"delta\":{\"content\":\"\"}}]}"] {
        let start = tokio::time::Instant::now();
        let stream = testing::slow_reply(Assembler::new(testing::some_call(), Vec::new(), Vec::new()), sign, 0, sign);
        let error = watch(stream).await.end.unwrap_err();
        assert!(matches!(&error, ModelError::Timeout(m) if m.contains("150 s")), "{error:?}");
        assert!(error.retryable());
        assert_eq!(start.elapsed().as_secs(), 150, "{sign}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_arguments_are_long_in_coming_is_waited_for() {
    let piece = "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\" \"}}]}}]}";
    let stream =
        testing::slow_reply(Assembler::new(testing::some_call(), Vec::new(), Vec::new()), piece, 60, "data: [DONE]");
    let error = watch(stream).await.end.unwrap_err();
    // It came to its end, though without a finish reason.
    assert!(matches!(error, ModelError::MalformedStream(_)), "{error:?}");
}

/// The message that a reply becomes, with calls of the ids `c0`, `c1`, ….
fn said(reply: ModelReply) -> Arc<ChatMessage> {
    let calls = reply.tool_calls.iter().enumerate();
    let calls = calls.map(|(n, call)| testing::call(&format!("c{n}"), &call.name, call.arguments.clone())).collect();
    match &*testing::assistant(&reply.content, calls) {
        ChatMessage::Assistant(message) => Arc::new(ChatMessage::Assistant(AssistantMessage {
            reasoning: reply.reasoning,
            provider_data: reply.provider_data,
            ..message.clone()
        })),
        _ => unreachable!(),
    }
}

#[test]
fn what_a_server_gave_of_a_models_thoughts_goes_back_under_the_same_name() {
    let done = || {
        [
            calls(
                json!([{"index": 0, "id": "a", "function": {"name": "x", "arguments": "{}"}, "extra_content": {"google": {"thought_signature": "sig"}}}]),
            ),
            finish("tool_calls"),
        ]
    };
    let message = |fields: &[Value]| {
        let thought = fields.iter().map(|fields| delta(fields.clone()));
        said(reply(&thought.chain(done()).collect::<Vec<_>>()).unwrap())
    };
    let given_back = |message: Arc<ChatMessage>, more: &[Arc<ChatMessage>]| {
        let result = testing::tool("c0", ToolStatus::Ok, "r");
        let request = request([vec![user("hi"), message, result], more.to_vec()].concat());
        body(&request, false)["messages"][2].clone()
    };
    for field in ["reasoning_content", "reasoning"] {
        let thought = || message(&[json!({field: "hm, "}), json!({field: "so"})]);
        let sent = given_back(thought(), &[]);
        assert_eq!(sent[field], "hm, so");
        assert_eq!(sent["tool_calls"][0]["extra_content"], json!({"google": {"thought_signature": "sig"}}));
        let later = given_back(thought(), &[user("more")]);
        assert_eq!(
            (later.get(field), later["tool_calls"][0].get("extra_content").is_some()),
            (None, true),
            "within its turn"
        );
    }
    let details =
        [json!({"type": "reasoning.encrypted", "data": "e"}), json!({"type": "reasoning.text", "text": "hm"})];
    let detailed = message(&[
        json!({"reasoning": "hm", "reasoning_details": [details[0]]}),
        json!({"reasoning_details": [details[1]]}),
    ]);
    let sent = given_back(detailed, &[user("more")]);
    assert_eq!((&sent["reasoning_details"], sent.get("reasoning")), (&json!(details), None));
}

#[test]
fn older_and_odder_forms_of_a_reply_are_read() {
    let whole =
        reply(&[json!({"choices": [{"message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}]})]);
    assert_eq!(whole.unwrap().content, "hello");
    let single = reply(&[
        delta(json!({"function_call": {"name": "logs", "arguments": ""}})),
        delta(json!({"function_call": {"arguments": "{\"a\":1}"}})),
        finish("function_call"),
    ]);
    assert_eq!(single.unwrap().tool_calls, [requested("logs", json!({"a": 1}))]);
    let both = reply(&[delta(json!({"reasoning_content": "hm", "reasoning": "hm"})), finish("stop")]).unwrap();
    assert_eq!(both.reasoning.as_deref(), Some("hm"));
}

#[tokio::test]
async fn a_stream_is_known_by_what_it_is_and_not_by_what_it_is_called() {
    let body = sse(&[delta(json!({"content": "ok"})), finish("stop")]);
    for kind in ["application/json", "text/html; charset=utf-8", "text/plain", "application/octet-stream"] {
        let (seen, _) = ask(Answer::plain(200, &format!("content-type: {kind}\r\n"), &body)).await;
        assert_eq!(seen.end.unwrap().content, "ok", "{kind}");
    }
    for (kind, body, code, says) in [
        (
            "application/json",
            r#"{"error": {"message": "no room", "type": "overloaded_error"}}"#,
            "overloaded",
            "no room",
        ),
        (
            "application/json",
            r#"{"object": "error", "message": "worker died", "code": 500}"#,
            "overloaded",
            "worker died",
        ),
        ("application/json", r#"[{"error": {"message": "slow down", "code": 429}}]"#, "rate_limited", "slow down"),
        ("application/json", r#"{"hello": "world"}"#, "invalid_request", "stream of events"),
        ("text/html", "<html>Please log in</html>", "invalid_request", "stream of events"),
        ("text/html", "", "invalid_request", "stream of events"),
    ] {
        let (seen, _) = ask(Answer::plain(200, &format!("content-type: {kind}\r\n"), body)).await;
        let error = seen.end.unwrap_err();
        assert_eq!(error.code(), code, "{body}: {error}");
        assert!(error.to_string().contains(says), "{body}: {error}");
    }
    let (seen, _) =
        ask(Answer::plain(200, "content-type: text/event-stream\r\ncontent-encoding: gzip\r\n", "\u{1f}")).await;
    let error = seen.end.unwrap_err();
    assert!(matches!(&error, ModelError::InvalidRequest(m) if m.contains("gzip")), "{error:?}");
}

#[tokio::test]
async fn a_thought_in_the_text_is_taken_out_of_it_wherever_it_is_cut() {
    let body = sse(&[
        delta(json!({"content": "<think>\nHm ☸, "})),
        delta(json!({"content": "so\n</think>\n\n{\"name\": \"logs\", \"arguments\": {}}"})),
        finish("stop"),
    ]);
    for size in (1..20).chain([body.len()]) {
        let assembler = Assembler::new(testing::some_call(), vec!["logs".into()], Vec::new());
        let reply = assembled(assembler, body.as_bytes(), size).await.end.unwrap();
        assert_eq!((reply.content.as_str(), reply.reasoning.as_deref()), ("", Some("Hm ☸, so")), "{size}");
        assert_eq!(reply.tool_calls, [requested("logs", json!({}))], "{size}");
    }
}

#[test]
fn a_call_whose_name_comes_with_each_of_many_pieces_is_put_together_in_time() {
    let piece = |text: &str| calls(json!([{"function": {"name": "a", "arguments": text}}]));
    let mut chunks = vec![piece("{\"x\":\"")];
    chunks.extend((0..20_000).map(|_| piece("{ and more of the same text")));
    chunks.extend([piece("\"}"), finish("tool_calls")]);
    let reply = reply(&chunks).unwrap();
    assert_eq!(reply.tool_calls.len(), 1);
    assert!(reply.tool_calls[0].arguments["x"].as_str().unwrap().len() > 500_000);
}

#[test]
fn calls_that_a_model_writes_as_text_are_calls_and_it_is_said() {
    let mut assembler = Assembler::new(testing::some_call(), vec!["logs".into()], Vec::new());
    let events = [
        delta(json!({"content": "<tool_call>{\"name\": \"lo"})),
        delta(json!({"content": "gs\", \"arguments\": {}}</tool_call>"})),
        finish("stop"),
    ];
    let reply = take_all(&mut assembler, &events).unwrap();
    assert_eq!((reply.content.as_str(), reply.stop_reason), ("", StopReason::ToolUse));
    assert_eq!(reply.tool_calls, [requested("logs", json!({}))]);
    assert_eq!(reply.notices[0].code, "tool_calls_as_text");
}

#[tokio::test]
async fn what_a_server_does_not_know_is_left_out_or_said_otherwise() {
    let refused = |words: &str| Answer::plain(400, "", &json!({"error": {"message": words}}).to_string());
    let good = || Answer::stream(&[&sse(&[delta(json!({"content": "ok"})), finish("stop")])]);
    let server = Server::start([
        refused("Unknown field: stream_options"),
        refused("Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."),
        refused("tool_choice is not supported"),
        refused("This model does not support tools"),
        good(),
        good(),
    ])
    .await;
    let model = model(&server);
    for _ in 0..2 {
        let request = ChatRequest { max_tokens: Some(9), tool_choice: ToolChoice::None, ..request(vec![user("hi")]) };
        let reply = watch(model.stream(request).await.unwrap()).await.end.unwrap();
        assert_eq!(reply.notices.iter().map(|notice| notice.code).collect::<Vec<_>>(), ["tools_unsupported"]);
    }
    let last = server.received().pop().unwrap().body;
    assert_eq!(server.received().len(), 6, "what was learnt is not tried again");
    for field in ["stream_options", "max_tokens", "tool_choice", "tools"] {
        assert_eq!(last.get(field), None, "{field}");
    }
    assert_eq!(last["max_completion_tokens"], 9);
}
