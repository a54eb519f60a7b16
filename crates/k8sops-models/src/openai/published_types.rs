//! Compares what is sent and read with the published types of OpenAI's APIs, those of the crate `async-openai`.
//!
//! Requests are built with structs of our own, see the decision "Own structs for OpenAI's requests". These tests keep them
//! conforming: a body must deserialize into the published type, and nothing of it may be lost there except for what
//! [`DEVIATIONS`] lists.

#![allow(clippy::needless_pass_by_value)] // `json!` reads better without a borrow at every call

use async_openai::types::{
    chat::{
        ChatChoiceStream, ChatCompletionMessageToolCallChunk, ChatCompletionStreamResponseDelta, CompletionUsage,
        CreateChatCompletionRequest, CreateChatCompletionStreamResponse, FinishReason, FunctionCallStream,
    },
    embeddings::{CreateEmbeddingRequest, CreateEmbeddingResponse, Embedding},
    responses::{CreateResponse, Response, ResponseStreamEvent, ResponseTextDeltaEvent},
};
use k8sops_core::{ReasoningEffort, StopReason};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    chat::{ChatCompletionsAssembler, ChatCompletionsBody},
    request_plan::OpenAiPlan,
    responses::{ResponsesAssembler, ResponsesBody},
};
use crate::{
    CallIdForm, ChatRequest, ContentWithCalls, Dialect, EmbeddingModel as _, ModelReply, ProviderEmbedder,
    ProviderProtocol, ReasoningReturn, ReplyLimitField, RequestedCall, SystemRole, ToolChoice,
    quirks::ModelQuirk,
    test_support,
    test_support::{ScriptedProvider, ScriptedResponse, assemble_events, chat_request, test_call, user_message},
};

/// Fields of a chat message or of one of its calls that compatible servers want and OpenAI does not have.
const DEVIATIONS: [&str; 4] = ["reasoning_content", "reasoning", "reasoning_details", "extra_content"];

/// Returns a body as the published type understands it.
fn published<T: DeserializeOwned + Serialize>(body: &Value) -> Value {
    let text = body.to_string();
    let typed: T = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    serde_json::to_value(typed).unwrap()
}

/// Asserts that everything in `sent` is in `understood`.
fn assert_contained(sent: &Value, understood: &Value, path: &str) {
    match (sent, understood) {
        (Value::Object(sent), Value::Object(understood)) => {
            for (key, value) in sent {
                let is_deviation = DEVIATIONS.contains(&key.as_str()) && path.contains("/messages");
                // The published type leaves the key out.
                let is_absent = value.is_null() && key == "content";
                if !is_deviation && !is_absent {
                    let found = understood.get(key).unwrap_or_else(|| panic!("{path}/{key} is lost: {value}"));
                    assert_contained(value, found, &format!("{path}/{key}"));
                }
            }
        }
        (Value::Array(sent), Value::Array(understood)) => {
            assert_eq!(sent.len(), understood.len(), "{path}");
            for (at, (sent, understood)) in sent.iter().zip(understood).enumerate() {
                assert_contained(sent, understood, &format!("{path}/{at}"));
            }
        }
        // The published temperature has half the digits.
        (Value::Number(sent), Value::Number(understood)) if path.ends_with("/temperature") => {
            assert!((sent.as_f64().unwrap() - understood.as_f64().unwrap()).abs() < 1e-6, "{path}");
        }
        _ => assert_eq!(sent, understood, "{path}"),
    }
}

/// Returns requests that use every parameter.
fn sample_requests() -> Vec<ChatRequest> {
    let full = chat_request(test_support::sample_conversation());
    let efforts = [ReasoningEffort::Off, ReasoningEffort::Low, ReasoningEffort::Medium, ReasoningEffort::High];
    let mut requests = vec![chat_request(vec![user_message("hi")]), full.clone()];
    requests.push(ChatRequest { tools: [].into(), system: "".into(), ..full.clone() });
    requests.push(ChatRequest {
        temperature: Some(0.2),
        max_tokens: Some(4096),
        tool_choice: ToolChoice::None,
        ..full.clone()
    });
    requests.extend(efforts.map(|effort| ChatRequest { reasoning: Some(effort), ..full.clone() }));
    requests
}

/// Returns the rules of servers that change a body.
fn sample_dialects() -> Vec<Dialect> {
    let plain = Dialect::default();
    vec![
        plain.clone(),
        Dialect { reply_limit_field: ReplyLimitField::MaxCompletionTokens, ..plain.clone() },
        Dialect { call_ids: CallIdForm::NineCharacters, alternating_roles: true, ..plain.clone() },
        Dialect { parallel_calls: false, content_with_calls: ContentWithCalls::Text, ..plain.clone() },
        Dialect { system_role: SystemRole::Developer, tools_with_calls: true, ..plain.clone() },
        Dialect { system_role: SystemRole::FirstUserMessage, stream_options: false, ..plain.clone() },
        Dialect {
            reasoning: ReasoningReturn::Always,
            reasoning_placeholder: "unknown".to_owned(),
            signature_placeholder: "skip".to_owned(),
            ..plain
        },
    ]
}

#[test]
fn chat_requests_conform() {
    for dialect in sample_dialects() {
        let plan = OpenAiPlan { dialect, return_blocks: true, ..OpenAiPlan::default() };
        for request in sample_requests() {
            let body = serde_json::to_value(ChatCompletionsBody::build(&request, &plan)).unwrap();
            assert_contained(&body, &published::<CreateChatCompletionRequest>(&body), "");
        }
    }
}

#[test]
fn responses_requests_conform() {
    let reply = assemble_events(
        &mut ResponsesAssembler::new(test_call(), Vec::new()),
        &[
            json!({"type": "response.output_item.done", "output_index": 0, "item": {
                "type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Pods first"}],
                "encrypted_content": "sealed",
            }}),
            json!({"type": "response.output_item.done", "output_index": 1, "item": {
                "type": "message", "id": "m", "role": "assistant", "status": "completed", "phase": "commentary",
                "content": [{"type": "output_text", "text": "Looking.", "annotations": []}],
            }}),
            json!({"type": "response.output_item.done", "output_index": 2, "item": {
                "type": "function_call", "id": "fc", "call_id": "call", "name": "pods_list", "arguments": "{}",
            }}),
            json!({"type": "response.completed", "response": {"status": "completed", "output": []}}),
        ],
    );
    let returned = chat_request(vec![user_message("go"), test_support::message_from_reply(reply.unwrap())]);
    let found_tools = test_support::found_tools(&[("call_1", "scale logs")]);
    let found = ChatRequest { found_tools, ..chat_request(test_support::sample_conversation()) };
    for quirk in [None, Some(ModelQuirk::NoEncryptedReasoning), Some(ModelQuirk::NoReasoningSummary)] {
        let quirks = quirk.into_iter().collect();
        let plan = OpenAiPlan { return_blocks: true, quirks, ..OpenAiPlan::default() };
        for request in sample_requests().into_iter().chain([returned.clone(), found.clone()]) {
            let body = serde_json::to_value(ResponsesBody::build(&request, &plan)).unwrap();
            assert_contained(&body, &published::<CreateResponse>(&body), "");
        }
    }
}

#[tokio::test]
async fn embeddings_conform() {
    let vector = |index, embedding| Embedding { index, object: "embedding".to_owned(), embedding };
    let answer = CreateEmbeddingResponse {
        object: "list".to_owned(),
        model: "m".to_owned(),
        data: vec![vector(0, vec![3.0, 4.0]), vector(1, vec![0.0, 2.0])],
        ..CreateEmbeddingResponse::default()
    };
    let answer = serde_json::to_string(&answer).unwrap();
    let server = ScriptedProvider::start([ScriptedResponse::plain(200, "", &answer)]).await;
    let config = test_support::provider_config(ProviderProtocol::OpenaiChat, &format!("{}/v1", server.url));
    let embedder = ProviderEmbedder::new("p", &config, "m", Some(2)).unwrap();
    let vectors = embedder.embed(&["a".to_owned(), "b".to_owned()]).await.unwrap();
    assert_eq!(vectors.iter().map(|vector| vector.values.to_vec()).collect::<Vec<_>>(), [[0.6, 0.8], [0.0, 1.0]]);
    let body = &server.received()[0].body;
    assert_contained(body, &published::<CreateEmbeddingRequest>(body), "");
}

fn assemble_chunks(chunks: &[CreateChatCompletionStreamResponse]) -> ModelReply {
    let chunks: Vec<Value> = chunks.iter().map(|chunk| serde_json::to_value(chunk).unwrap()).collect();
    let mut assembler = ChatCompletionsAssembler::new(test_call(), vec!["look".to_owned()], Vec::new());
    assemble_events(&mut assembler, &chunks).unwrap()
}

#[allow(deprecated)] // Fields of the published types.
fn chunk(delta: ChatCompletionStreamResponseDelta, finish: Option<FinishReason>) -> CreateChatCompletionStreamResponse {
    CreateChatCompletionStreamResponse {
        id: "c".to_owned(),
        choices: vec![ChatChoiceStream { index: 0, delta, finish_reason: finish, logprobs: None }],
        created: 1,
        model: "m".to_owned(),
        service_tier: None,
        system_fingerprint: None,
        object: "chat.completion.chunk".to_owned(),
        usage: None,
        obfuscation: Some("x".to_owned()),
        moderation: None,
    }
}

#[test]
fn published_chat_chunks_are_understood() {
    let delta = ChatCompletionStreamResponseDelta::default;
    let text = |text: &str| ChatCompletionStreamResponseDelta { content: Some(text.to_owned()), ..delta() };
    let call = |id: Option<&str>, name: Option<&str>, arguments: &str| {
        let function = FunctionCallStream { name: name.map(str::to_owned), arguments: Some(arguments.to_owned()) };
        let call = ChatCompletionMessageToolCallChunk {
            index: 0,
            id: id.map(str::to_owned),
            r#type: None,
            function: Some(function),
        };
        ChatCompletionStreamResponseDelta { tool_calls: Some(vec![call]), ..delta() }
    };
    let usage = CompletionUsage { prompt_tokens: 9, completion_tokens: 4, total_tokens: 13, ..Default::default() };
    let mut last = chunk(delta(), None);
    last.choices.clear();
    last.usage = Some(usage);
    let reply = assemble_chunks(&[
        chunk(text("Loo"), None),
        chunk(text("king."), None),
        chunk(call(Some("call_1"), Some("look"), "{\"name\""), None),
        chunk(call(None, None, ": \"web\"}"), None),
        chunk(delta(), Some(FinishReason::ToolCalls)),
        last,
    ]);
    assert_eq!(reply.content, "Looking.");
    assert_eq!(reply.tool_calls, [RequestedCall { name: "look".to_owned(), arguments: json!({"name": "web"}) }]);
    assert_eq!((reply.usage.input_tokens, reply.usage.output_tokens), (9, 4));
    for (reason, stop) in [
        (FinishReason::Stop, StopReason::EndTurn),
        (FinishReason::Length, StopReason::MaxTokens),
        (FinishReason::ContentFilter, StopReason::Refusal),
    ] {
        assert_eq!(assemble_chunks(&[chunk(text("a"), None), chunk(delta(), Some(reason))]).stop_reason, stop);
    }
    let refusal = ChatCompletionStreamResponseDelta { refusal: Some("No.".to_owned()), ..delta() };
    let refused = assemble_chunks(&[chunk(refusal, None), chunk(delta(), Some(FinishReason::Stop))]);
    assert_eq!((refused.content.as_str(), refused.stop_reason), ("No.", StopReason::Refusal));
}

/// Returns events of features that are not used, which must not disturb a reply.
fn foreign_events() -> Vec<ResponseStreamEvent> {
    use ResponseStreamEvent as Event;

    vec![
        Event::CompactionCompacting(Default::default()),
        Event::ResponseAudioDelta(Default::default()),
        Event::ResponseAudioDone(Default::default()),
        Event::ResponseAudioTranscriptDelta(Default::default()),
        Event::ResponseAudioTranscriptDone(Default::default()),
        Event::ResponseOutputTextDone(Default::default()),
        Event::ResponseRefusalDone(Default::default()),
        Event::ResponseFileSearchCallInProgress(Default::default()),
        Event::ResponseFileSearchCallSearching(Default::default()),
        Event::ResponseFileSearchCallCompleted(Default::default()),
        Event::ResponseWebSearchCallInProgress(Default::default()),
        Event::ResponseWebSearchCallSearching(Default::default()),
        Event::ResponseWebSearchCallCompleted(Default::default()),
        Event::ResponseReasoningSummaryTextDone(Default::default()),
        Event::ResponseReasoningTextDone(Default::default()),
        Event::ResponseImageGenerationCallCompleted(Default::default()),
        Event::ResponseImageGenerationCallGenerating(Default::default()),
        Event::ResponseImageGenerationCallInProgress(Default::default()),
        Event::ResponseImageGenerationCallPartialImage(Default::default()),
        Event::ResponseMCPCallArgumentsDelta(Default::default()),
        Event::ResponseMCPCallArgumentsDone(Default::default()),
        Event::ResponseMCPCallCompleted(Default::default()),
        Event::ResponseMCPCallFailed(Default::default()),
        Event::ResponseMCPCallInProgress(Default::default()),
        Event::ResponseMCPListToolsCompleted(Default::default()),
        Event::ResponseMCPListToolsFailed(Default::default()),
        Event::ResponseMCPListToolsInProgress(Default::default()),
        Event::ResponseCodeInterpreterCallInProgress(Default::default()),
        Event::ResponseCodeInterpreterCallInterpreting(Default::default()),
        Event::ResponseCodeInterpreterCallCompleted(Default::default()),
        Event::ResponseCodeInterpreterCallCodeDelta(Default::default()),
        Event::ResponseCodeInterpreterCallCodeDone(Default::default()),
        Event::ResponseCustomToolCallInputDelta(Default::default()),
        Event::ResponseCustomToolCallInputDone(Default::default()),
        Event::ResponseShellCallCommandAdded(Default::default()),
        Event::ResponseShellCallCommandDelta(Default::default()),
        Event::ResponseShellCallCommandDone(Default::default()),
        Event::ResponseShellCallOutputContentDelta(Default::default()),
        Event::ResponseShellCallOutputContentDone(Default::default()),
    ]
}

/// Returns a response with these fields.
fn response(fields: Value) -> Response {
    let mut all = json!({"id": "resp", "object": "response", "created_at": 1, "model": "m", "output": [],
        "status": "in_progress"});
    all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    serde_json::from_value(all).unwrap()
}

fn to_event(value: Value) -> ResponseStreamEvent {
    serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {value}"))
}

#[test]
fn published_responses_events_are_understood() {
    let text = |delta: &str| {
        ResponseStreamEvent::ResponseOutputTextDelta(ResponseTextDeltaEvent {
            item_id: "m".to_owned(),
            output_index: 1,
            delta: delta.to_owned(),
            ..Default::default()
        })
    };
    let usage = json!({"input_tokens": 9, "input_tokens_details": {"cached_tokens": 2}, "output_tokens": 4,
        "output_tokens_details": {"reasoning_tokens": 1}, "total_tokens": 13});
    let call = json!({"type": "function_call", "id": "fc", "call_id": "call_1", "name": "look", "arguments": "{}"});
    let reasoning = json!({"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "Pods."}],
        "encrypted_content": "sealed"});
    let part = json!({"type": "summary_text", "text": ""});
    let mut events = vec![
        to_event(json!({"type": "response.created", "sequence_number": 0, "response": response(json!({}))})),
        to_event(json!({"type": "response.in_progress", "sequence_number": 1, "response": response(json!({}))})),
        to_event(json!({"type": "response.reasoning_summary_part.added", "sequence_number": 2, "item_id": "rs",
            "output_index": 0, "summary_index": 0, "part": part})),
        to_event(json!({"type": "response.reasoning_summary_text.delta", "sequence_number": 3, "item_id": "rs",
            "output_index": 0, "summary_index": 0, "delta": "Pods."})),
        to_event(json!({"type": "response.output_item.done", "sequence_number": 4, "output_index": 0,
            "item": reasoning})),
        text("Loo"),
    ];
    events.extend(foreign_events());
    events.extend([
        text("king."),
        to_event(json!({"type": "response.output_item.added", "sequence_number": 5, "output_index": 2, "item": call})),
        to_event(json!({"type": "response.function_call_arguments.delta", "sequence_number": 6, "item_id": "fc",
            "output_index": 2, "delta": "{}"})),
        to_event(json!({"type": "response.function_call_arguments.done", "sequence_number": 7, "item_id": "fc",
            "output_index": 2, "name": "look", "arguments": "{\"name\": \"web\"}"})),
        to_event(json!({"type": "response.completed", "sequence_number": 8,
            "response": response(json!({"status": "completed", "usage": usage}))})),
    ]);
    let events: Vec<Value> = events.iter().map(|event| serde_json::to_value(event).unwrap()).collect();
    let reply = assemble_events(&mut ResponsesAssembler::new(test_call(), Vec::new()), &events).unwrap();
    assert_eq!((reply.content.as_str(), reply.reasoning.as_deref()), ("Looking.", Some("Pods.")));
    assert_eq!(reply.tool_calls, [RequestedCall { name: "look".to_owned(), arguments: json!({"name": "web"}) }]);
    assert_eq!((reply.usage.input_tokens, reply.usage.reasoning_tokens), (9, 1));
}

#[test]
fn published_failures_are_errors() {
    let assemble = |event: ResponseStreamEvent| {
        let events = [serde_json::to_value(event).unwrap()];
        assemble_events(&mut ResponsesAssembler::new(test_call(), Vec::new()), &events).unwrap_err()
    };
    let error = json!({"code": "rate_limit_exceeded", "message": "Please try again in 12s."});
    let failed = to_event(json!({"type": "response.failed", "sequence_number": 1,
        "response": response(json!({"status": "failed", "error": error}))}));
    let failed = assemble(failed);
    assert_eq!((failed.code(), failed.details.retry_after.map(|wait| wait.as_secs())), ("rate_limited", Some(12)));
    let event = ResponseStreamEvent::ResponseError(async_openai::types::responses::ResponseErrorEvent {
        code: Some("server_error".to_owned()),
        message: "Overloaded".to_owned(),
        ..Default::default()
    });
    assert_eq!(assemble(event).code(), "overloaded");
}
