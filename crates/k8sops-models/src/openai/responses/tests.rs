#![allow(clippy::needless_pass_by_value)] // `json!` reads better without a borrow at every call

use std::sync::Arc;

use serde_json::{Value, json};

use super::reply::Assembler;
use crate::{
    ChatModel as _, ChatRequest, ModelConfig, ModelError, ModelFeature, ModelReply, OpenAiModel, ProviderConfig,
    ProviderProtocol, RequestedCall, ToolChoice,
    openai::Plan,
    testing,
    testing::{Answer, Server, assembled, assistant, request, take_all, tool, user, watch},
};
use k8sops_core::{AssistantMessage, ChatMessage, ReasoningEffort, StopReason, TokenUsage, ToolStatus};

fn plan() -> Plan {
    Plan { own_blocks: true, ..Plan::default() }
}

fn body(request: &ChatRequest, plan: &Plan) -> Value {
    serde_json::to_value(super::body::of(request, plan)).unwrap()
}

fn sse(events: &[Value]) -> String {
    let event = |event: &Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap());
    events.iter().map(event).collect::<Vec<_>>().concat()
}

fn of(kind: &str, mut fields: Value) -> Value {
    fields["type"] = json!(kind);
    fields
}

fn text(text: &str) -> Value {
    of("response.output_text.delta", json!({"item_id": "msg_1", "output_index": 1, "delta": text}))
}

fn added(index: u64, item: Value) -> Value {
    of("response.output_item.added", json!({"output_index": index, "item": item}))
}

fn whole(index: u64, item: Value) -> Value {
    of("response.output_item.done", json!({"output_index": index, "item": item}))
}

fn function(id: &str, name: &str, arguments: &str) -> Value {
    json!({"type": "function_call", "id": id, "call_id": format!("call_{id}"), "name": name, "arguments": arguments})
}

fn completed(output: Value) -> Value {
    of(
        "response.completed",
        json!({"response": {"id": "resp", "status": "completed", "output": output, "usage": {
            "input_tokens": 90, "input_tokens_details": {"cached_tokens": 64},
            "output_tokens": 12, "output_tokens_details": {"reasoning_tokens": 5},
        }}}),
    )
}

fn reply(events: &[Value]) -> Result<ModelReply, ModelError> {
    take_all(&mut Assembler::new(testing::some_call(), Vec::new()), events)
}

fn summary(parts: &[&str]) -> Value {
    parts.iter().map(|text| json!({"type": "summary_text", "text": text})).collect()
}

/// Two items of reasoning, the first with a summary in two parts, the second without any.
fn thoughts() -> [Value; 2] {
    [
        json!({"type": "reasoning", "id": "rs_1", "summary": summary(&["Pods first ☸", "then logs"]),
            "encrypted_content": "sealed-1", "status": null}),
        json!({"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "sealed-2"}),
    ]
}

fn part(text: &str, n: u64) -> [Value; 2] {
    [
        of("response.reasoning_summary_part.added", json!({"output_index": 0, "summary_index": n, "part": {}})),
        of("response.reasoning_summary_text.delta", json!({"output_index": 0, "summary_index": n, "delta": text})),
    ]
}

fn rich() -> (Vec<Value>, ModelReply) {
    let [first, second] = thoughts();
    let mut events = vec![
        of("response.created", json!({"response": {"status": "in_progress"}})),
        added(0, json!({"type": "reasoning", "id": "rs_1", "summary": []})),
    ];
    events.extend(part("Pods first ☸", 0));
    events.extend(part("then logs", 1));
    events.extend([
        whole(0, first),
        added(1, json!({"type": "message", "id": "msg_1", "content": []})),
        text("Ich prüfe "),
        of("response.brand_new", json!({"output_index": "not a number, and not read"})),
        text("das 🔥."),
        whole(1, json!({"type": "message", "content": [{"type": "output_text", "text": "Ich prüfe das 🔥."}]})),
        added(2, json!({"type": "reasoning", "id": "rs_2", "summary": []})),
        whole(2, second),
        added(3, function("fc_1", "pods_list", "")),
        added(4, function("fc_2", "logs", "")),
        // Their pieces may be mixed.
        of(
            "response.function_call_arguments.delta",
            json!({"item_id": "fc_2", "output_index": 4, "delta": "{\"pod\":"}),
        ),
        of(
            "response.function_call_arguments.delta",
            json!({"item_id": "fc_1", "output_index": 3, "delta": "{\"ns\": \"sh"}),
        ),
        of(
            "response.function_call_arguments.delta",
            json!({"item_id": "fc_2", "output_index": 4, "delta": "\"a-ü\"}"}),
        ),
        of("response.function_call_arguments.done", json!({"item_id": "fc_1", "arguments": "{\"ns\": \"shop\"}"})),
        whole(3, function("fc_1", "pods_list", "{\"ns\": \"shop\"}")),
        whole(4, function("fc_2", "logs", "{\"pod\":\"a-ü\"}")),
        completed(json!([])),
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
fn the_request_is_what_the_protocol_says() {
    let request =
        ChatRequest { max_tokens: Some(9), reasoning: Some(ReasoningEffort::Low), ..request(testing::conversation()) };
    assert_eq!(
        body(&request, &plan()),
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
                    "output": "<tool_output tool=\"x\">\ncart CrashLoopBackOff\n</tool_output>"},
                {"type": "function_call_output", "call_id": "call_2",
                    "output": "[error]\n<tool_output tool=\"x\">\nbad arguments\n</tool_output>"},
                {"type": "function_call", "call_id": "call_3", "name": "restart", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "call_3", "output": "[unknown: no result was recorded]"},
                {"role": "user", "content": [{"type": "input_text", "text": "did it work?"}]},
            ],
        })
    );
}

#[test]
fn what_is_known_of_a_model_is_not_asked_of_it() {
    let request = ChatRequest {
        temperature: Some(0.1),
        reasoning: Some(ReasoningEffort::Off),
        tool_choice: ToolChoice::None,
        ..request(vec![user("hi")])
    };
    let all = body(&request, &plan());
    assert_eq!((&all["temperature"], &all["reasoning"]["effort"]), (&json!(0.1), &json!("none")));
    assert_eq!(all["tool_choice"], "none");
    let plain = body(&request, &Plan { lacks: [ModelFeature::Thinking, ModelFeature::Temperature].into(), ..plan() });
    for field in ["temperature", "reasoning", "include"] {
        assert_eq!(plain.get(field), None, "{field}");
    }
}

#[tokio::test]
async fn a_reply_is_the_same_however_its_bytes_are_cut() {
    let (events, expected) = rich();
    let bytes = sse(&events);
    for size in (1..40).chain([bytes.len()]) {
        let seen = assembled(Assembler::new(testing::some_call(), Vec::new()), bytes.as_bytes(), size).await;
        let seen = seen.end.unwrap();
        assert!(seen.provider_data.is_some());
        assert_eq!(ModelReply { provider_data: None, ..seen }, expected, "{size}");
    }
}

#[test]
fn what_a_model_thought_goes_back_to_it_to_the_letter_and_to_no_other() {
    let (events, _) = rich();
    let reply = reply(&events).unwrap();
    let kept = serde_json::to_string(&reply.provider_data).unwrap();
    assert!(!kept.contains("Pods first"), "nothing is kept twice: {kept}");
    let results = [tool("c0", ToolStatus::Ok, "a"), tool("c1", ToolStatus::Ok, "b")];
    let mut request = request([vec![user("hi"), said(reply)], results.to_vec()].concat());
    let input = |request: &ChatRequest, plan: &Plan| body(request, plan)["input"].as_array().unwrap()[1..].to_vec();
    let [first, second] = thoughts();
    let spoken = json!({"role": "assistant", "content": "Ich prüfe das 🔥."});
    let given = input(&request, &plan());
    assert_eq!(given[..3], [first, spoken.clone(), second]);
    let kinds: Vec<_> = given[3..].iter().map(|item| item["type"].clone()).collect();
    assert_eq!(kinds, ["function_call", "function_call", "function_call_output", "function_call_output"]);
    let without = input(&request, &Plan { own_blocks: false, ..plan() });
    assert_eq!(without[0], spoken);
    request.model = "another".into();
    assert_eq!(input(&request, &plan()), without);
}

#[test]
fn what_is_not_encrypted_cannot_go_back_and_does_not() {
    for item in [
        json!({"type": "reasoning", "id": "rs_1", "summary": summary(&["hm"])}),
        json!({"type": "reasoning", "id": "rs_1", "summary": summary(&["hm"]), "encrypted_content": null}),
        json!({"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]}),
    ] {
        let events = [
            added(0, json!({"type": "reasoning"})),
            of("response.reasoning_text.delta", json!({"delta": "hm"})),
            whole(0, item),
            text("ok"),
            completed(json!([])),
        ];
        let reply = reply(&events).unwrap();
        assert_eq!(reply.reasoning.as_deref(), Some("hm"));
        let request = request(vec![user("hi"), said(reply), user("more")]);
        assert_eq!(body(&request, &plan())["input"][1], json!({"role": "assistant", "content": "ok"}));
    }
}

#[test]
fn a_server_that_leaves_events_out_is_still_understood() {
    let message = json!({"type": "message", "content": [{"type": "output_text", "text": "Hello."}]});
    let call = function("fc", "logs", "{\"a\":1}");
    let thought = json!({"type": "reasoning", "summary": summary(&["hm"]), "encrypted_content": "s"});
    let all = json!([thought, message, call]);
    for events in [
        // Only whole items; only the whole response; pieces without ids; no word of an item's beginning.
        vec![whole(0, thought.clone()), whole(1, message.clone()), whole(2, call.clone()), completed(json!([]))],
        vec![completed(all.clone())],
        vec![
            whole(0, thought.clone()),
            of("response.output_text.delta", json!({"delta": "Hello."})),
            of("response.output_item.added", json!({"item": {"type": "function_call", "name": "logs"}})),
            of("response.function_call_arguments.delta", json!({"delta": "{\"a\":"})),
            of("response.function_call_arguments.delta", json!({"delta": "1}"})),
            completed(all),
        ],
    ] {
        let reply = reply(&events).unwrap();
        assert_eq!((reply.content.as_str(), reply.reasoning.as_deref()), ("Hello.", Some("hm")), "{events:?}");
        assert_eq!(reply.tool_calls, [RequestedCall { name: "logs".into(), arguments: json!({"a": 1}) }]);
        let parts: Vec<_> = reply.provider_data.unwrap().blocks.iter().map(|block| block["part"].clone()).collect();
        assert_eq!(parts, ["reasoning", "text", "call"]);
    }
}

#[test]
fn the_reason_of_the_end_is_told() {
    let incomplete = |reason: &str| {
        of(
            "response.incomplete",
            json!({"response": {"status": "incomplete", "incomplete_details": {"reason": reason}}}),
        )
    };
    for (last, reason) in [
        (completed(json!([])), StopReason::EndTurn),
        (incomplete("max_output_tokens"), StopReason::MaxTokens),
        (incomplete("content_filter"), StopReason::Refusal),
        (incomplete("who knows"), StopReason::Other),
    ] {
        assert_eq!(reply(&[text("a"), last]).unwrap().stop_reason, reason);
    }
    let refused = of("response.refusal.delta", json!({"delta": "I will not."}));
    let refused = reply(&[refused, completed(json!([]))]).unwrap();
    assert_eq!((refused.content.as_str(), refused.stop_reason), ("I will not.", StopReason::Refusal));
}

#[test]
fn a_call_that_was_cut_is_not_one_without_arguments() {
    let cut = of("response.incomplete", json!({"response": {"incomplete_details": {"reason": "max_output_tokens"}}}));
    let reply = reply(&[added(0, function("fc_1", "logs", "")), cut]).unwrap();
    assert_eq!((reply.stop_reason, &reply.tool_calls[0].arguments), (StopReason::MaxTokens, &json!("")));
}

#[test]
fn a_stream_that_is_not_whole_is_no_reply_and_an_error_in_it_is_typed() {
    assert!(matches!(reply(&[text("half")]), Err(ModelError::MalformedStream(_))));
    let failed = |error: Value| of("response.failed", json!({"response": {"status": "failed", "error": error}}));
    for (event, code) in [
        (failed(json!({"code": "server_error", "message": "m"})), "overloaded"),
        (failed(json!({"code": "rate_limit_exceeded", "message": "m"})), "rate_limited"),
        (failed(json!({"code": "context_length_exceeded", "message": "m"})), "context_too_long"),
        (failed(json!({"code": "insufficient_quota", "message": "m"})), "quota_exhausted"),
        (of("error", json!({"code": "server_error", "message": "m", "param": null})), "overloaded"),
        (of("error", json!({"error": {"type": "invalid_request_error", "message": "m"}})), "invalid_request"),
    ] {
        assert_eq!(reply(&[text("half"), event.clone()]).unwrap_err().code(), code, "{event}");
    }
    let mut assembler = Assembler::new(testing::some_call(), Vec::new());
    let garbage = take_all(&mut assembler, &[json!({"type": "response.output_text.delta", "delta": {"no": "text"}})]);
    assert!(matches!(garbage, Err(ModelError::MalformedStream(_))), "{garbage:?}");
}

#[test]
fn a_thought_that_nothing_follows_does_not_go_back() {
    let [first, second] = thoughts();
    let events = [
        added(0, json!({"type": "reasoning"})),
        whole(0, first),
        added(1, json!({"type": "message", "content": []})),
        text("ok"),
        added(2, json!({"type": "reasoning"})),
        whole(2, second.clone()),
        completed(json!([])),
    ];
    let request = request(vec![user("hi"), said(reply(&events).unwrap()), user("more")]);
    let kinds: Vec<_> =
        body(&request, &plan())["input"].as_array().unwrap().iter().map(|i| i["role"].clone()).collect();
    assert_eq!(kinds, [json!("user"), json!(null), json!("assistant"), json!("user")]);
    let alone = reply(&[added(0, json!({"type": "reasoning"})), whole(0, second), completed(json!([]))]).unwrap();
    let request = testing::request(vec![user("hi"), said(alone), user("more")]);
    assert_eq!(body(&request, &plan())["input"].as_array().unwrap().len(), 2);
}

#[test]
fn a_refusal_that_comes_whole_is_one() {
    let message = json!({"type": "message", "content": [{"type": "refusal", "refusal": "I will not."}]});
    let refused = reply(&[whole(0, message), completed(json!([]))]).unwrap();
    assert_eq!((refused.content.as_str(), refused.stop_reason), ("I will not.", StopReason::Refusal));
}

#[tokio::test]
async fn a_model_that_always_thinks_is_asked_for_as_little_of_it_as_it_can() {
    let words = "Unsupported value: 'none' is not supported with this model. Supported values are: 'low' and 'high'.";
    let server = Server::start([refused(words, "reasoning.effort"), good(), good()]).await;
    let model = OpenAiModel::new(&provider(&server));
    for (reasoning, notices) in [(ReasoningEffort::Off, vec!["always_thinks"]), (ReasoningEffort::High, vec![])] {
        let request = ChatRequest { reasoning: Some(reasoning), ..request(vec![user("hi")]) };
        let reply = watch(model.stream(request).await.unwrap()).await.end.unwrap();
        assert_eq!(reply.notices.iter().map(|notice| notice.code).collect::<Vec<_>>(), notices);
    }
    let sent: Vec<_> = server.received().iter().map(|r| r.body["reasoning"]["effort"].clone()).collect();
    assert_eq!(sent, ["none", "low", "high"]);
}

#[tokio::test]
async fn a_thought_without_what_belongs_to_it_is_not_taken_for_a_model_that_does_not_think() {
    for words in [
        "Item 'rs_1' of type 'reasoning' was provided without its required following item.",
        "Item 'msg_1' of type 'message' was provided without its required 'reasoning' item: 'rs_1'.",
    ] {
        let server = Server::start([refused(words, "input"), good()]).await;
        let (events, _) = rich();
        let results = [tool("c0", ToolStatus::Ok, "a"), tool("c1", ToolStatus::Ok, "b")];
        let request = request([vec![user("hi"), said(reply(&events).unwrap())], results.to_vec()].concat());
        let request = ChatRequest { reasoning: Some(ReasoningEffort::High), ..request };
        let reply = watch(OpenAiModel::new(&provider(&server)).stream(request).await.unwrap()).await.end.unwrap();
        assert_eq!(reply.notices, []);
        let again = &server.received()[1].body;
        assert_eq!(
            (again["reasoning"]["effort"].as_str(), again.to_string().contains("sealed-")),
            (Some("high"), false)
        );
    }
}

fn good() -> Answer {
    Answer::stream(&[&sse(&[text("ok"), completed(json!([]))])])
}

fn refused(message: &str, parameter: &str) -> Answer {
    let error = json!({"error": {"type": "invalid_request_error", "message": message, "param": parameter}});
    Answer::plain(400, "content-type: application/json\r\n", &error.to_string())
}

fn provider(server: &Server) -> ProviderConfig {
    testing::provider(ProviderProtocol::OpenaiResponses, &format!("{}/v1", server.url))
}

#[tokio::test]
async fn what_the_model_refuses_is_left_out_and_the_call_made_again() {
    let server = Server::start([
        refused("Unsupported parameter: 'temperature' is not supported with this model.", "temperature"),
        refused("Your organization must be verified to generate reasoning summaries.", "reasoning.summary"),
        refused("Encrypted content is not supported with this model.", "include"),
        good(),
        good(),
    ])
    .await;
    let model = OpenAiModel::new(&provider(&server));
    for _ in 0..2 {
        let request = ChatRequest { temperature: Some(0.3), ..request(vec![user("hi")]) };
        let reply = watch(model.stream(request).await.unwrap()).await.end.unwrap();
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
async fn a_conversation_whose_thoughts_are_not_taken_any_more_goes_on_without_them() {
    let refusal = refused("The encrypted content for item rs_1 could not be verified.", "input");
    let server = Server::start([refusal, good()]).await;
    let (events, _) = rich();
    let results = [tool("c0", ToolStatus::Ok, "a"), tool("c1", ToolStatus::Ok, "b")];
    let request = request([vec![user("hi"), said(reply(&events).unwrap())], results.to_vec()].concat());
    let reply = watch(OpenAiModel::new(&provider(&server)).stream(request).await.unwrap()).await.end.unwrap();
    assert_eq!(reply.notices, []);
    let sealed: Vec<_> = server.received().iter().map(|r| r.body.to_string().matches("sealed-").count()).collect();
    assert_eq!(sealed, [2, 0]);
    assert!(server.received()[1].body.get("include").is_some(), "new thoughts are asked for as before");
}

#[tokio::test]
async fn the_responses_api_is_spoken_at_openai_itself_and_where_it_is_asked_for() {
    let path = async |protocol: ProviderProtocol| {
        let server = Server::start([Answer::plain(401, "", "{}")]).await;
        let config = ProviderConfig { protocol, ..provider(&server) };
        let _ = OpenAiModel::new(&config).stream(request(vec![user("hi")])).await;
        server.received()[0].head.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(path(ProviderProtocol::OpenaiResponses).await, "/v1/responses");
    assert_eq!(path(ProviderProtocol::OpenaiChat).await, "/v1/chat/completions");
    assert_eq!(path(ProviderProtocol::Openai).await, "/v1/chat/completions", "elsewhere than at OpenAI");
}

#[tokio::test]
async fn a_model_of_the_catalog_is_asked_for_what_it_has() {
    let server = Server::start([good()]).await;
    let features = [ModelFeature::Tools].into();
    let models = vec![ModelConfig { features, ..ModelConfig::named("test-model", "") }];
    let model = OpenAiModel::new(&ProviderConfig { models, ..provider(&server) });
    let request = ChatRequest { temperature: Some(0.3), ..request(vec![user("hi")]) };
    watch(model.stream(request).await.unwrap()).await.end.unwrap();
    let sent = server.received()[0].body.clone();
    assert_eq!((sent.get("reasoning"), sent.get("include"), sent.get("temperature")), (None, None, None));
}
