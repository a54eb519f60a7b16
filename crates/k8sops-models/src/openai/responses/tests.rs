//! Tests of the Responses API.

#![allow(clippy::needless_pass_by_value)] // `json!` reads better without a borrow at every call

use k8sops_core::{ReasoningEffort, StopReason, TokenUsage, ToolStatus};
use serde_json::{Value, json};

use super::{reply_assembler::ResponsesAssembler, request_body::ResponsesBody};
use crate::{
    ChatModel as _, ChatRequest, ModelError, ModelErrorKind, ModelFeature, ModelOptions, ModelReply, ProviderOptions,
    ProviderProtocol, RequestedCall, ToolChoice,
    openai::{OpenAiModel, request_plan::OpenAiPlan},
    test_support,
    test_support::{
        ScriptedProvider, ScriptedResponse, assemble_events, assemble_sse, chat_request, collect_reply,
        message_from_reply, tool_message, user_message,
    },
};

fn default_plan() -> OpenAiPlan {
    OpenAiPlan { return_blocks: true, ..OpenAiPlan::default() }
}

fn request_body(request: &ChatRequest, plan: &OpenAiPlan) -> Value {
    serde_json::to_value(ResponsesBody::build(request, plan)).unwrap()
}

fn sse_body(events: &[Value]) -> String {
    let event = |event: &Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap());
    events.iter().map(event).collect::<Vec<_>>().concat()
}

fn event(kind: &str, mut fields: Value) -> Value {
    fields["type"] = json!(kind);
    fields
}

fn text_event(text: &str) -> Value {
    event("response.output_text.delta", json!({"item_id": "msg_1", "output_index": 1, "delta": text}))
}

fn item_added(index: u64, item: Value) -> Value {
    event("response.output_item.added", json!({"output_index": index, "item": item}))
}

fn item_done(index: u64, item: Value) -> Value {
    event("response.output_item.done", json!({"output_index": index, "item": item}))
}

fn function_call(id: &str, name: &str, arguments: &str) -> Value {
    json!({"type": "function_call", "id": id, "call_id": format!("call_{id}"), "name": name, "arguments": arguments})
}

fn completed_event(output: Value) -> Value {
    event(
        "response.completed",
        json!({"response": {"id": "resp", "status": "completed", "output": output, "usage": {
            "input_tokens": 90, "input_tokens_details": {"cached_tokens": 64},
            "output_tokens": 12, "output_tokens_details": {"reasoning_tokens": 5},
        }}}),
    )
}

fn assemble(events: &[Value]) -> Result<ModelReply, ModelError> {
    assemble_events(&mut ResponsesAssembler::new(test_support::test_call(), Vec::new()), events)
}

fn summary_parts(parts: &[&str]) -> Value {
    parts.iter().map(|text| json!({"type": "summary_text", "text": text})).collect()
}

/// Returns two reasoning items, the first with a summary in two parts, the second without one.
fn reasoning_items() -> [Value; 2] {
    [
        json!({"type": "reasoning", "id": "rs_1", "summary": summary_parts(&["Pods first ☸", "then logs"]),
            "encrypted_content": "sealed-1", "status": null}),
        json!({"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "sealed-2"}),
    ]
}

fn summary_part_events(text: &str, n: u64) -> [Value; 2] {
    [
        event("response.reasoning_summary_part.added", json!({"output_index": 0, "summary_index": n, "part": {}})),
        event("response.reasoning_summary_text.delta", json!({"output_index": 0, "summary_index": n, "delta": text})),
    ]
}

fn full_reply() -> (Vec<Value>, ModelReply) {
    let [first, second] = reasoning_items();
    let mut events = vec![
        event("response.created", json!({"response": {"status": "in_progress"}})),
        item_added(0, json!({"type": "reasoning", "id": "rs_1", "summary": []})),
    ];
    events.extend(summary_part_events("Pods first ☸", 0));
    events.extend(summary_part_events("then logs", 1));
    events.extend([
        item_done(0, first),
        item_added(1, json!({"type": "message", "id": "msg_1", "content": []})),
        text_event("Ich prüfe "),
        event("response.brand_new", json!({"output_index": "not a number, and not read"})),
        text_event("das 🔥."),
        item_done(1, json!({"type": "message", "content": [{"type": "output_text", "text": "Ich prüfe das 🔥."}]})),
        item_added(2, json!({"type": "reasoning", "id": "rs_2", "summary": []})),
        item_done(2, second),
        item_added(3, function_call("fc_1", "pods_list", "")),
        item_added(4, function_call("fc_2", "logs", "")),
        // Pieces of different calls may be interleaved.
        event(
            "response.function_call_arguments.delta",
            json!({"item_id": "fc_2", "output_index": 4, "delta": "{\"pod\":"}),
        ),
        event(
            "response.function_call_arguments.delta",
            json!({"item_id": "fc_1", "output_index": 3, "delta": "{\"ns\": \"sh"}),
        ),
        event(
            "response.function_call_arguments.delta",
            json!({"item_id": "fc_2", "output_index": 4, "delta": "\"a-ü\"}"}),
        ),
        event("response.function_call_arguments.done", json!({"item_id": "fc_1", "arguments": "{\"ns\": \"shop\"}"})),
        item_done(3, function_call("fc_1", "pods_list", "{\"ns\": \"shop\"}")),
        item_done(4, function_call("fc_2", "logs", "{\"pod\":\"a-ü\"}")),
        completed_event(json!([])),
    ]);
    let reply = ModelReply {
        content: "Ich prüfe das 🔥.".into(),
        reasoning: Some("Pods first ☸\n\nthen logs\n\n".into()),
        tool_calls: vec![
            RequestedCall { name: "pods_list".into(), arguments: json!({"ns": "shop"}) },
            RequestedCall { name: "logs".into(), arguments: json!({"pod": "a-ü"}) },
        ],
        usage: TokenUsage {
            input_tokens: 90,
            output_tokens: 12,
            cached_tokens: 64,
            reasoning_tokens: 5,
            ..TokenUsage::default()
        },
        stop_reason: StopReason::ToolUse,
        ..ModelReply::default()
    };
    (events, reply)
}

#[test]
fn request_body_matches_protocol() {
    let request = ChatRequest {
        max_tokens: Some(9),
        reasoning: Some(ReasoningEffort::Low),
        ..chat_request(test_support::sample_conversation())
    };
    assert_eq!(
        request_body(&request, &default_plan()),
        json!({
            "model": "test-model",
            "instructions": "Be brief.",
            "max_output_tokens": 9,
            "reasoning": {"effort": "low", "summary": "auto"},
            "include": ["reasoning.encrypted_content"],
            "store": false,
            "stream": true,
            "tools": [{
                "type": "function",
                "name": "pods_list",
                "description": "Lists pods.",
                "parameters": {"type": "object", "properties": {}},
                "strict": false,
            }],
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "what is broken?"}]},
                {"role": "user", "content": [{"type": "input_text", "text": "in shop"}]},
                {"role": "assistant", "content": "Looking."},
                {"type": "function_call", "call_id": "call_1", "name": "pods_list", "arguments": "{\"namespace\":\"shop\"}"},
                {"type": "function_call", "call_id": "call_2", "name": "pods_get",
                    "arguments": "{\"invalid_arguments\":\"{\\\"name\\\": \"}"},
                {"type": "function_call_output", "call_id": "call_1",
                    "output": "<tool_output id=\"1\" tool=\"x\">\ncart CrashLoopBackOff\n</tool_output>"},
                {"type": "function_call_output", "call_id": "call_2",
                    "output": "[error]\n<tool_output id=\"1\" tool=\"x\">\nbad arguments\n</tool_output>"},
                {"type": "function_call", "call_id": "call_3", "name": "restart", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "call_3", "output": "[unknown: no result was recorded]"},
                {"role": "user", "content": [{"type": "input_text", "text": "did it work?"}]},
            ],
        })
    );
}

#[test]
fn lacking_features_are_not_sent() {
    let request = ChatRequest {
        temperature: Some(0.1),
        reasoning: Some(ReasoningEffort::Off),
        tool_choice: ToolChoice::None,
        ..chat_request(vec![user_message("hi")])
    };
    let all = request_body(&request, &default_plan());
    assert_eq!((&all["temperature"], &all["reasoning"]["effort"]), (&json!(0.1), &json!("none")));
    assert_eq!(all["tool_choice"], "none");
    let plain = request_body(
        &request,
        &OpenAiPlan { lacks: [ModelFeature::Thinking, ModelFeature::Temperature].into(), ..default_plan() },
    );
    for field in ["temperature", "reasoning", "include"] {
        assert_eq!(plain.get(field), None, "{field}");
    }
}

#[tokio::test]
async fn reply_is_independent_of_chunk_boundaries() {
    let (events, expected) = full_reply();
    let bytes = sse_body(&events);
    for size in (1..40).chain([bytes.len()]) {
        let seen =
            assemble_sse(ResponsesAssembler::new(test_support::test_call(), Vec::new()), bytes.as_bytes(), size).await;
        let seen = seen.end.unwrap();
        assert!(seen.provider_data.is_some());
        assert_eq!(ModelReply { provider_data: None, ..seen }, expected, "{size}");
    }
}

#[test]
fn reasoning_returns_unchanged_to_same_model_only() {
    let (events, _) = full_reply();
    let reply = assemble(&events).unwrap();
    let kept = serde_json::to_string(&reply.provider_data).unwrap();
    assert!(!kept.contains("Pods first"), "nothing is kept twice: {kept}");
    let results = [tool_message("c0", ToolStatus::Ok, "a"), tool_message("c1", ToolStatus::Ok, "b")];
    let mut request = chat_request([vec![user_message("hi"), message_from_reply(reply)], results.to_vec()].concat());
    let input = |request: &ChatRequest, plan: &OpenAiPlan| {
        request_body(request, plan)["input"].as_array().unwrap()[1..].to_vec()
    };
    let [first, second] = reasoning_items();
    let spoken = json!({"role": "assistant", "content": "Ich prüfe das 🔥."});
    let given = input(&request, &default_plan());
    assert_eq!(given[..3], [first, spoken.clone(), second]);
    let kinds: Vec<_> = given[3..].iter().map(|item| item["type"].clone()).collect();
    assert_eq!(kinds, ["function_call", "function_call", "function_call_output", "function_call_output"]);
    let without = input(&request, &OpenAiPlan { return_blocks: false, ..default_plan() });
    assert_eq!(without[0], spoken);
    request.model = "another".into();
    assert_eq!(input(&request, &default_plan()), without);
}

#[test]
fn unencrypted_reasoning_is_not_returned() {
    for item in [
        json!({"type": "reasoning", "id": "rs_1", "summary": summary_parts(&["hm"])}),
        json!({"type": "reasoning", "id": "rs_1", "summary": summary_parts(&["hm"]), "encrypted_content": null}),
        json!({"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]}),
    ] {
        let events = [
            item_added(0, json!({"type": "reasoning"})),
            event("response.reasoning_text.delta", json!({"delta": "hm"})),
            item_done(0, item),
            text_event("ok"),
            completed_event(json!([])),
        ];
        let reply = assemble(&events).unwrap();
        assert_eq!(reply.reasoning.as_deref(), Some("hm"));
        let request = chat_request(vec![user_message("hi"), message_from_reply(reply), user_message("more")]);
        assert_eq!(request_body(&request, &default_plan())["input"][1], json!({"role": "assistant", "content": "ok"}));
    }
}

#[test]
fn missing_events_are_filled_from_done_items() {
    let message = json!({"type": "message", "content": [{"type": "output_text", "text": "Hello."}]});
    let call = function_call("fc", "logs", "{\"a\":1}");
    let thought = json!({"type": "reasoning", "summary": summary_parts(&["hm"]), "encrypted_content": "s"});
    let all = json!([thought, message, call]);
    for events in [
        // Complete items only; the complete response only; pieces without ids and without the start of an item.
        vec![
            item_done(0, thought.clone()),
            item_done(1, message.clone()),
            item_done(2, call.clone()),
            completed_event(json!([])),
        ],
        vec![completed_event(all.clone())],
        vec![
            item_done(0, thought.clone()),
            event("response.output_text.delta", json!({"delta": "Hello."})),
            event("response.output_item.added", json!({"item": {"type": "function_call", "name": "logs"}})),
            event("response.function_call_arguments.delta", json!({"delta": "{\"a\":"})),
            event("response.function_call_arguments.delta", json!({"delta": "1}"})),
            completed_event(all),
        ],
    ] {
        let reply = assemble(&events).unwrap();
        assert_eq!((reply.content.as_str(), reply.reasoning.as_deref()), ("Hello.", Some("hm")), "{events:?}");
        assert_eq!(reply.tool_calls, [RequestedCall { name: "logs".into(), arguments: json!({"a": 1}) }]);
        let parts: Vec<_> = reply.provider_data.unwrap().blocks.iter().map(|block| block["part"].clone()).collect();
        assert_eq!(parts, ["reasoning", "text", "call"]);
    }
}

#[test]
fn stop_reasons_are_mapped() {
    let incomplete = |reason: &str| {
        event(
            "response.incomplete",
            json!({"response": {"status": "incomplete", "incomplete_details": {"reason": reason}}}),
        )
    };
    for (last, reason) in [
        (completed_event(json!([])), StopReason::EndTurn),
        (incomplete("max_output_tokens"), StopReason::MaxTokens),
        (incomplete("content_filter"), StopReason::Refusal),
        (incomplete("who knows"), StopReason::Other),
    ] {
        assert_eq!(assemble(&[text_event("a"), last]).unwrap().stop_reason, reason);
    }
    let refused = event("response.refusal.delta", json!({"delta": "I will not."}));
    let refused = assemble(&[refused, completed_event(json!([]))]).unwrap();
    assert_eq!((refused.content.as_str(), refused.stop_reason), ("I will not.", StopReason::Refusal));
}

#[test]
fn truncated_call_without_arguments_is_invalid() {
    let cut =
        event("response.incomplete", json!({"response": {"incomplete_details": {"reason": "max_output_tokens"}}}));
    let reply = assemble(&[item_added(0, function_call("fc_1", "logs", "")), cut]).unwrap();
    assert_eq!((reply.stop_reason, &reply.tool_calls[0].arguments), (StopReason::MaxTokens, &json!("")));
}

#[test]
fn incomplete_and_failed_streams_are_mapped() {
    assert!(matches!(assemble(&[text_event("half")]), Err(ModelError { kind: ModelErrorKind::MalformedStream, .. })));
    let failed = |error: Value| event("response.failed", json!({"response": {"status": "failed", "error": error}}));
    for (event, code) in [
        (failed(json!({"code": "server_error", "message": "m"})), "overloaded"),
        (failed(json!({"code": "rate_limit_exceeded", "message": "m"})), "rate_limited"),
        (failed(json!({"code": "context_length_exceeded", "message": "m"})), "context_too_long"),
        (failed(json!({"code": "insufficient_quota", "message": "m"})), "quota_exhausted"),
        (event("error", json!({"code": "server_error", "message": "m", "param": null})), "overloaded"),
        (event("error", json!({"error": {"type": "invalid_request_error", "message": "m"}})), "invalid_request"),
    ] {
        assert_eq!(assemble(&[text_event("half"), event.clone()]).unwrap_err().code(), code, "{event}");
    }
    let mut assembler = ResponsesAssembler::new(test_support::test_call(), Vec::new());
    let garbage =
        assemble_events(&mut assembler, &[json!({"type": "response.output_text.delta", "delta": {"no": "text"}})]);
    assert!(matches!(garbage, Err(ModelError { kind: ModelErrorKind::MalformedStream, .. })), "{garbage:?}");
}

#[test]
fn trailing_reasoning_is_not_returned() {
    let [first, second] = reasoning_items();
    let events = [
        item_added(0, json!({"type": "reasoning"})),
        item_done(0, first),
        item_added(1, json!({"type": "message", "content": []})),
        text_event("ok"),
        item_added(2, json!({"type": "reasoning"})),
        item_done(2, second.clone()),
        completed_event(json!([])),
    ];
    let request =
        chat_request(vec![user_message("hi"), message_from_reply(assemble(&events).unwrap()), user_message("more")]);
    let kinds: Vec<_> = request_body(&request, &default_plan())["input"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| i["role"].clone())
        .collect();
    assert_eq!(kinds, [json!("user"), json!(null), json!("assistant"), json!("user")]);
    let alone =
        assemble(&[item_added(0, json!({"type": "reasoning"})), item_done(0, second), completed_event(json!([]))])
            .unwrap();
    let request = test_support::chat_request(vec![user_message("hi"), message_from_reply(alone), user_message("more")]);
    assert_eq!(request_body(&request, &default_plan())["input"].as_array().unwrap().len(), 2);
}

#[test]
fn refusal_in_done_item_is_detected() {
    let message = json!({"type": "message", "content": [{"type": "refusal", "refusal": "I will not."}]});
    let refused = assemble(&[item_done(0, message), completed_event(json!([]))]).unwrap();
    assert_eq!((refused.content.as_str(), refused.stop_reason), ("I will not.", StopReason::Refusal));
}

#[tokio::test]
async fn always_thinking_model_gets_lowest_effort() {
    let words = "Unsupported value: 'none' is not supported with this model. Supported values are: 'low' and 'high'.";
    let server = ScriptedProvider::start([rejection(words, "reasoning.effort"), ok_response(), ok_response()]).await;
    let model = OpenAiModel::new(&provider_at(&server));
    for (reasoning, notices) in [(ReasoningEffort::Off, vec!["always_thinks"]), (ReasoningEffort::High, vec![])] {
        let request = ChatRequest { reasoning: Some(reasoning), ..chat_request(vec![user_message("hi")]) };
        let reply = collect_reply(model.stream(request).await.unwrap()).await.end.unwrap();
        assert_eq!(reply.notices.iter().map(|notice| notice.code).collect::<Vec<_>>(), notices);
    }
    let sent: Vec<_> = server.received().iter().map(|r| r.body["reasoning"]["effort"].clone()).collect();
    assert_eq!(sent, ["none", "low", "high"]);
}

#[tokio::test]
async fn reasoning_item_rejection_keeps_effort() {
    for words in [
        "Item 'rs_1' of type 'reasoning' was provided without its required following item.",
        "Item 'msg_1' of type 'message' was provided without its required 'reasoning' item: 'rs_1'.",
    ] {
        let server = ScriptedProvider::start([rejection(words, "input"), ok_response()]).await;
        let (events, _) = full_reply();
        let results = [tool_message("c0", ToolStatus::Ok, "a"), tool_message("c1", ToolStatus::Ok, "b")];
        let request = chat_request(
            [vec![user_message("hi"), message_from_reply(assemble(&events).unwrap())], results.to_vec()].concat(),
        );
        let request = ChatRequest { reasoning: Some(ReasoningEffort::High), ..request };
        let reply =
            collect_reply(OpenAiModel::new(&provider_at(&server)).stream(request).await.unwrap()).await.end.unwrap();
        assert_eq!(reply.notices, []);
        let again = &server.received()[1].body;
        assert_eq!(
            (again["reasoning"]["effort"].as_str(), again.to_string().contains("sealed-")),
            (Some("high"), false)
        );
    }
}

fn ok_response() -> ScriptedResponse {
    ScriptedResponse::stream(&[&sse_body(&[text_event("ok"), completed_event(json!([]))])])
}

fn rejection(message: &str, parameter: &str) -> ScriptedResponse {
    let error = json!({"error": {"type": "invalid_request_error", "message": message, "param": parameter}});
    ScriptedResponse::plain(400, "content-type: application/json\r\n", &error.to_string())
}

fn provider_at(server: &ScriptedProvider) -> ProviderOptions {
    test_support::provider_config(ProviderProtocol::OpenaiResponses, &format!("{}/v1", server.url))
}

#[tokio::test]
async fn rejected_parameters_are_dropped_and_request_resent() {
    let server = ScriptedProvider::start([
        rejection("Unsupported parameter: 'temperature' is not supported with this model.", "temperature"),
        rejection("Your organization must be verified to generate reasoning summaries.", "reasoning.summary"),
        rejection("Encrypted content is not supported with this model.", "include"),
        ok_response(),
        ok_response(),
    ])
    .await;
    let model = OpenAiModel::new(&provider_at(&server));
    for _ in 0..2 {
        let request = ChatRequest { temperature: Some(0.3), ..chat_request(vec![user_message("hi")]) };
        let reply = collect_reply(model.stream(request).await.unwrap()).await.end.unwrap();
        assert_eq!(reply.notices.iter().map(|notice| notice.code).collect::<Vec<_>>(), ["temperature_ignored"]);
    }
    let received = server.received();
    assert!(received[0].head.starts_with("POST /v1/responses "), "{}", received[0].head);
    let sent: Vec<_> = received
        .iter()
        .map(|r| {
            (r.body.get("temperature").is_some(), r.body.get("reasoning").is_some(), r.body.get("include").is_some())
        })
        .collect();
    let last = (false, false, false);
    assert_eq!(sent, [(true, true, true), (false, true, true), (false, false, true), last, last]);
}

#[tokio::test]
async fn rejected_reasoning_is_dropped_and_request_resent() {
    let refusal = rejection("The encrypted content for item rs_1 could not be verified.", "input");
    let server = ScriptedProvider::start([refusal, ok_response()]).await;
    let (events, _) = full_reply();
    let results = [tool_message("c0", ToolStatus::Ok, "a"), tool_message("c1", ToolStatus::Ok, "b")];
    let request = chat_request(
        [vec![user_message("hi"), message_from_reply(assemble(&events).unwrap())], results.to_vec()].concat(),
    );
    let reply =
        collect_reply(OpenAiModel::new(&provider_at(&server)).stream(request).await.unwrap()).await.end.unwrap();
    assert_eq!(reply.notices, []);
    let sealed: Vec<_> = server.received().iter().map(|r| r.body.to_string().matches("sealed-").count()).collect();
    assert_eq!(sealed, [2, 0]);
    assert!(server.received()[1].body.get("include").is_some(), "new reasoning is still requested");
}

#[tokio::test]
async fn request_path_follows_protocol() {
    let path = async |protocol: ProviderProtocol| {
        let server = ScriptedProvider::start([ScriptedResponse::plain(401, "", "{}")]).await;
        let config = ProviderOptions { protocol, ..provider_at(&server) };
        let _ = OpenAiModel::new(&config).stream(chat_request(vec![user_message("hi")])).await;
        server.received()[0].head.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(path(ProviderProtocol::OpenaiResponses).await, "/v1/responses");
    assert_eq!(path(ProviderProtocol::OpenaiChat).await, "/v1/chat/completions");
    assert_eq!(path(ProviderProtocol::Openai).await, "/v1/chat/completions", "at other hosts");
}

#[tokio::test]
async fn unsupported_catalog_features_are_not_sent() {
    let server = ScriptedProvider::start([ok_response()]).await;
    let features = [ModelFeature::Tools].into();
    let models = vec![ModelOptions { features, ..ModelOptions::named("test-model", "") }];
    let model = OpenAiModel::new(&ProviderOptions { models, ..provider_at(&server) });
    let request = ChatRequest { temperature: Some(0.3), ..chat_request(vec![user_message("hi")]) };
    collect_reply(model.stream(request).await.unwrap()).await.end.unwrap();
    let sent = server.received()[0].body.clone();
    assert_eq!((sent.get("reasoning"), sent.get("include"), sent.get("temperature")), (None, None, None));
}
