//! Tests of rejections that arrive in other forms than a status, and of what a rejection says.

use serde_json::{Value, json};

use super::PROTOCOLS;
use crate::{
    ChatModel, ChatRequest, ModelError, ModelErrorKind, ProviderProtocol, RequestedCall,
    anthropic::{AnthropicModel, MessagesAssembler},
    error_mapping::ProviderCall,
    event_framing::EventFraming,
    ollama::OllamaAssembler,
    openai::{ChatCompletionsAssembler, OpenAiModel, ResponsesAssembler},
    test_support::{
        ScriptedProvider, ScriptedResponse, assemble_framed, chat_request, collect_reply, message_from_reply,
        provider_config, test_call, user_message,
    },
};

fn chat_reply(text: &str) -> ScriptedResponse {
    let text = json!({"choices": [{"delta": {"content": text}, "finish_reason": "stop"}]});
    ScriptedResponse::stream(&[&format!("data: {text}\n\ndata: [DONE]\n\n")])
}

fn model_at(protocol: ProviderProtocol, server: &ScriptedProvider) -> OpenAiModel {
    OpenAiModel::new(&provider_config(protocol, &format!("{}/v1", server.url)))
}

#[tokio::test]
async fn parameter_is_dropped_whether_rejected_by_status_or_in_the_stream() {
    let error = json!({"error": {"message": "Unsupported parameter: 'temperature'", "type": "invalid_request_error"}});
    for response in [
        ScriptedResponse::plain(400, "", &error.to_string()),
        ScriptedResponse::stream(&[&format!("data: {error}\n\n")]),
        ScriptedResponse::stream(&[": comment\n\n", &format!("event: error\ndata: {error}\n\n")]),
        ScriptedResponse::stream(&[&error.to_string()]),
        ScriptedResponse::plain(200, "content-type: application/json\r\n", &error.to_string()),
    ] {
        let server = ScriptedProvider::start([response, chat_reply("ok")]).await;
        let request = ChatRequest { temperature: Some(0.5), ..chat_request(vec![user_message("hi")]) };
        let stream = model_at(ProviderProtocol::OpenaiChat, &server).stream(request).await.unwrap();
        assert_eq!(collect_reply(stream).await.end.unwrap().content, "ok");
        let sent: Vec<bool> = server.received().iter().map(|r| r.body.get("temperature").is_some()).collect();
        assert_eq!(sent, [true, false]);
    }
}

fn responses_stream(events: &[Value]) -> ScriptedResponse {
    let body: Vec<String> = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    ScriptedResponse::stream(&[&body.concat()])
}

fn completed() -> Value {
    json!({"type": "response.completed", "response": {"status": "completed", "output": []}})
}

#[tokio::test]
async fn encrypted_reasoning_rejected_in_a_stream_is_left_out() {
    let reasoning = json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "sealed"});
    let call = json!({"type": "function_call", "id": "f", "call_id": "c", "name": "pods_list", "arguments": "{}"});
    let first = responses_stream(&[
        json!({"type": "response.output_item.done", "output_index": 0, "item": reasoning}),
        json!({"type": "response.output_item.done", "output_index": 1, "item": call}),
        completed(),
    ]);
    let text = "The encrypted content for item rs_1 could not be verified.";
    let refused = responses_stream(&[
        json!({"type": "response.created", "response": {"status": "in_progress"}}),
        json!({"type": "error", "code": "invalid_encrypted_content", "message": text}),
    ]);
    let answer = responses_stream(&[json!({"type": "response.output_text.delta", "delta": "ok"}), completed()]);
    let server = ScriptedProvider::start([first, refused, answer]).await;
    let model = model_at(ProviderProtocol::OpenaiResponses, &server);
    let hello = chat_request(vec![user_message("hi")]);
    let reply = collect_reply(model.stream(hello).await.unwrap()).await.end.unwrap();
    assert_eq!(reply.tool_calls, [RequestedCall { name: "pods_list".into(), arguments: json!({}) }]);
    let request = chat_request(vec![user_message("hi"), message_from_reply(reply), user_message("and?")]);
    assert_eq!(collect_reply(model.stream(request).await.unwrap()).await.end.unwrap().content, "ok");
    let sealed: Vec<bool> = server.received().iter().map(|r| r.body.to_string().contains("sealed")).collect();
    assert_eq!(sealed, [false, true, false]);
}

#[tokio::test]
async fn phase_of_a_message_is_sent_back() {
    let message = |phase: &str, text: &str| json!({"type": "message", "role": "assistant", "phase": phase, "content": [{"type": "output_text", "text": text}]});
    let events = [
        json!({"type": "response.output_item.added", "output_index": 0, "item": {"type": "message", "phase": "commentary"}}),
        json!({"type": "response.output_text.delta", "output_index": 0, "delta": "I look."}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": message("commentary", "I look.")}),
        json!({"type": "response.output_item.added", "output_index": 1, "item": {"type": "message"}}),
        json!({"type": "response.output_text.delta", "output_index": 1, "delta": "All run."}),
        json!({"type": "response.output_item.done", "output_index": 1, "item": message("final_answer", "All run.")}),
        completed(),
    ];
    let server = ScriptedProvider::start([responses_stream(&events), responses_stream(&[completed()])]).await;
    let model = model_at(ProviderProtocol::OpenaiResponses, &server);
    let reply = collect_reply(model.stream(chat_request(vec![user_message("hi")])).await.unwrap()).await.end.unwrap();
    assert_eq!(reply.content, "I look.All run.");
    let request = chat_request(vec![user_message("hi"), message_from_reply(reply), user_message("and?")]);
    let _ = model.stream(request).await;
    let input = server.received()[1].body["input"].clone();
    let sent: Vec<_> = (1..3).map(|at| (input[at]["content"].clone(), input[at]["phase"].clone())).collect();
    assert_eq!(sent, [(json!("I look."), json!("commentary")), (json!("All run."), json!("final_answer"))]);
}

#[tokio::test]
async fn reply_limit_is_lowered_and_the_conversation_kept() {
    let text = "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens (1000 in the messages, \
                8000 in the completion).";
    let error = json!({"error": {"message": text, "type": "BadRequestError", "code": 400}}).to_string();
    let server =
        ScriptedProvider::start([ScriptedResponse::plain(400, "", &error), chat_reply("ok"), chat_reply("ok")]).await;
    let model = model_at(ProviderProtocol::OpenaiChat, &server);
    for _ in 0..2 {
        let request = ChatRequest { max_tokens: Some(8000), ..chat_request(vec![user_message("hi")]) };
        assert!(collect_reply(model.stream(request).await.unwrap()).await.end.is_ok());
    }
    let sent: Vec<u64> = server.received().iter().map(|r| r.body["max_tokens"].as_u64().unwrap()).collect();
    assert_eq!(sent[..2], [8000, 8192 - 1000 - 32]);
    assert!(sent[2] < 8192, "the window is known: {sent:?}");
    assert_eq!(model.context_window("test-model").await, Some(8192));
    // Anthropic requires a limit, so that it is always sent.
    let text = "input length and `max_tokens` exceed context limit: 198000 + 4096 > 200000, decrease input length";
    let error = json!({"type": "error", "error": {"type": "invalid_request_error", "message": text}}).to_string();
    let stop = json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}});
    let answer = ScriptedResponse::stream(&[&format!("data: {stop}\n\ndata: {{\"type\":\"message_stop\"}}\n\n")]);
    let server = ScriptedProvider::start([ScriptedResponse::plain(400, "", &error), answer]).await;
    let model = AnthropicModel::new(&provider_config(ProviderProtocol::Anthropic, &server.url));
    assert!(collect_reply(model.stream(chat_request(vec![user_message("hi")])).await.unwrap()).await.end.is_ok());
    let sent: Vec<u64> = server.received().iter().map(|r| r.body["max_tokens"].as_u64().unwrap()).collect();
    assert_eq!(sent, [4096, 200_000 - 198_000 - 32]);
}

#[tokio::test]
async fn error_has_the_fields_of_the_answer() {
    let error = json!({"error": {"message": "Slow down, try again in 12 s", "type": "requests", "code": "rate_limit_exceeded"}});
    for (header, body, id) in [
        ("x-request-id: req_1\r\n", error.clone(), "req_1"),
        ("", json!({"error": error["error"], "request_id": "req_2"}), "req_2"),
    ] {
        let server = ScriptedProvider::start([ScriptedResponse::plain(429, header, &body.to_string())]).await;
        let model = model_at(ProviderProtocol::OpenaiChat, &server);
        let error = model.stream(chat_request(vec![user_message("hi")])).await.err().unwrap();
        assert_eq!((error.kind, error.details.status), (ModelErrorKind::RateLimited, Some(429)));
        assert_eq!(error.details.request_id.as_deref(), Some(id));
        assert_eq!(error.details.code.as_deref(), Some("requests rate_limit_exceeded"));
        assert_eq!(error.details.message.as_deref(), Some("Slow down, try again in 12 s"));
        assert_eq!(error.details.retry_after.map(|wait| wait.as_secs()), Some(12));
        assert_eq!((error.details.provider.as_str(), error.details.model.as_str()), ("Test provider", "test-model"));
    }
    // The id of a stream's response is in the errors of the stream.
    let cut = ScriptedResponse::plain(
        200,
        "content-type: text/event-stream\r\nrequest-id: req_3\r\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"half\"}}]}\n\n",
    );
    let server = ScriptedProvider::start([cut]).await;
    let stream = model_at(ProviderProtocol::OpenaiChat, &server).stream(chat_request(vec![user_message("hi")])).await;
    let error = collect_reply(stream.unwrap()).await.end.unwrap_err();
    assert_eq!((error.kind, error.details.request_id.as_deref()), (ModelErrorKind::MalformedStream, Some("req_3")));
}

/// Returns a stream of this protocol that fails with `error` after some text and a report of usage.
fn failing_stream(protocol: ProviderProtocol, error: Value) -> (EventFraming, String) {
    let sse = |events: &[Value]| -> String {
        let events: Vec<String> = events.iter().map(|event| format!("data: {event}\n\n")).collect();
        events.concat()
    };
    match protocol {
        ProviderProtocol::Anthropic => {
            let usage = json!({"input_tokens": 900, "cache_read_input_tokens": 100, "output_tokens": 1});
            let mut failure = json!({"type": "error"});
            failure.as_object_mut().unwrap().extend(error.as_object().unwrap().clone());
            let events = [
                json!({"type": "message_start", "message": {"usage": usage}}),
                json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Loo"}}),
                failure,
            ];
            (EventFraming::Sse, sse(&events))
        }
        ProviderProtocol::OpenaiResponses => {
            let mut response = json!({"status": "failed", "usage": {"input_tokens": 1000, "output_tokens": 1}});
            response.as_object_mut().unwrap().extend(error.as_object().unwrap().clone());
            let events = [
                json!({"type": "response.output_text.delta", "delta": "Loo"}),
                json!({"type": "response.failed", "response": response}),
            ];
            (EventFraming::Sse, sse(&events))
        }
        ProviderProtocol::Ollama => {
            let mut failure = json!({"done": false});
            failure.as_object_mut().unwrap().extend(error.as_object().unwrap().clone());
            (EventFraming::Lines, format!("{}\n{failure}\n", json!({"message": {"content": "Loo"}, "done": false})))
        }
        _ => {
            let usage = json!({"prompt_tokens": 1000, "completion_tokens": 1});
            let chunk = json!({"choices": [{"delta": {"content": "Loo"}}], "usage": usage});
            (EventFraming::Sse, sse(&[chunk, error]))
        }
    }
}

async fn assemble_failure(protocol: ProviderProtocol, error: Value, wait_fields: &[&str]) -> ModelError {
    let (framing, body) = failing_stream(protocol, error);
    let wait_fields = wait_fields.iter().map(|field| (*field).to_owned()).collect();
    let call = ProviderCall { wait_fields, ..test_call() };
    let seen = match protocol {
        ProviderProtocol::Anthropic => {
            assemble_framed(framing, MessagesAssembler::new(call, Vec::new()), body.as_bytes(), 7).await
        }
        ProviderProtocol::OpenaiResponses => {
            assemble_framed(framing, ResponsesAssembler::new(call, Vec::new()), body.as_bytes(), 7).await
        }
        ProviderProtocol::Ollama => {
            assemble_framed(framing, OllamaAssembler::new(call, Vec::new(), 4096, Vec::new()), body.as_bytes(), 7).await
        }
        _ => {
            let assembler = ChatCompletionsAssembler::new(call, Vec::new(), Vec::new());
            assemble_framed(framing, assembler, body.as_bytes(), 7).await
        }
    };
    seen.end.unwrap_err()
}

#[tokio::test]
async fn waits_named_in_a_stream_count_as_those_in_a_body() {
    let retry_info = json!([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "12s"}]);
    let rows: [(Value, &[&str]); 7] = [
        (json!({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "m", "details": retry_info}}), &[]),
        (json!({"error": {"type": "rate_limit_error", "message": "Please try again in 12s."}}), &[]),
        (json!({"error": {"type": "overloaded_error", "message": "m", "retry_after": 12}}), &[]),
        (json!({"error": {"code": "rate_limit_exceeded", "message": "m"}, "retry_after": 12}), &[]),
        (json!({"error": {"code": 429, "message": "m", "innererror": {"retry": 12}}}), &["/innererror/retry"]),
        (json!({"error": {"code": 429, "message": "m"}, "detail": {"wait": "12"}}), &["/detail/wait"]),
        (json!({"error": {"message": "engine is busy, retry after 12 seconds"}}), &[]),
    ];
    for protocol in PROTOCOLS {
        for (error, wait_fields) in &rows {
            let failed = assemble_failure(protocol, error.clone(), wait_fields).await;
            assert!(failed.is_retryable(), "{protocol:?} {error}: {failed}");
            let wait = failed.details.retry_after.map(|wait| wait.as_secs());
            assert_eq!(wait, Some(12), "{protocol:?} {error}");
        }
    }
}

#[tokio::test]
async fn tokens_of_a_reply_that_fails_are_reported() {
    let error = json!({"error": {"type": "overloaded_error", "message": "m"}});
    for protocol in PROTOCOLS {
        let failed = assemble_failure(protocol, error.clone(), &[]).await;
        let reported = if protocol == ProviderProtocol::Ollama { 0 } else { 1000 };
        assert_eq!(failed.details.usage.input_tokens, reported, "{protocol:?}");
    }
    let (framing, body) = failing_stream(ProviderProtocol::Anthropic, error);
    let cut = body.find("data: {\"error\"").or_else(|| body.rfind("data:")).unwrap();
    let assembler = MessagesAssembler::new(test_call(), Vec::new());
    let broken = assemble_framed(framing, assembler, &body.as_bytes()[..cut], 7).await.end.unwrap_err();
    assert_eq!((broken.kind, broken.details.usage.cached_tokens), (ModelErrorKind::MalformedStream, 100));
}

#[tokio::test]
async fn responses_with_whole_texts_and_other_ends_are_read() {
    let message = json!({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi"}]});
    let text = json!({"type": "response.output_text.done", "output_index": 0, "text": "Hi"});
    let item = json!({"type": "response.output_item.done", "output_index": 0, "item": message});
    let done = json!({"type": "response.done", "response": {"status": "completed", "output": []}});
    let delta = json!({"type": "response.output_text.delta", "output_index": 0, "delta": "Hi"});
    for events in
        [vec![text.clone(), completed()], vec![text.clone(), item.clone(), completed()], vec![delta, text, item, done]]
    {
        let server = ScriptedProvider::start([responses_stream(&events)]).await;
        let stream = model_at(ProviderProtocol::OpenaiResponses, &server).stream(chat_request(Vec::new())).await;
        assert_eq!(collect_reply(stream.unwrap()).await.end.unwrap().content, "Hi", "{events:?}");
    }
}
