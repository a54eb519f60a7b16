//! Tests of chat completions.

#![allow(clippy::needless_pass_by_value)] // `json!` reads better without a borrow at every call

mod model;
mod reply_assembler;
mod request_body;
mod usual_chunks;

use std::{sync::Arc, time::Duration};

use k8sops_core::{ChatMessage, ProviderData, StopReason, TokenUsage, ToolStatus};
use serde_json::{Value, json};

use super::{reply_assembler::ChatCompletionsAssembler, request_body::ChatCompletionsBody};
use crate::{
    ChatModel as _, ChatRequest, Dialect, ModelError, ModelErrorKind, ModelReply, ProviderProtocol, ReplyLimitField,
    RequestedCall, ToolChoice,
    openai::{OpenAiModel, request_plan::OpenAiPlan},
    test_support,
    test_support::{
        ObservedReply, ScriptedProvider, ScriptedResponse, assemble_events, assemble_sse, chat_request, collect_reply,
        message_from_reply, user_message,
    },
};

fn request_body(request: &ChatRequest, reply_limit_field: ReplyLimitField) -> Value {
    let dialect = Dialect { reply_limit_field, ..Dialect::default() };
    let plan = OpenAiPlan { dialect, return_blocks: true, ..OpenAiPlan::default() };
    serde_json::to_value(ChatCompletionsBody::build(request, &plan)).unwrap()
}

fn sse_body(chunks: &[Value]) -> String {
    let mut data: Vec<_> = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    data.push("data: [DONE]\n\n".to_owned());
    data.concat()
}

fn delta_chunk(delta: Value) -> Value {
    json!({"id": "c", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
}

fn finish_chunk(reason: &str) -> Value {
    json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
}

fn call_chunk(calls: Value) -> Value {
    delta_chunk(json!({ "tool_calls": calls }))
}

fn requested_call(name: &str, arguments: Value) -> RequestedCall {
    RequestedCall { name: name.to_owned(), arguments }
}

fn model_at(server: &ScriptedProvider) -> OpenAiModel {
    OpenAiModel::new(&test_support::provider_config(ProviderProtocol::Openai, &format!("{}/v1", server.url)))
}

async fn ask_once(answer: ScriptedResponse) -> (ObservedReply, ScriptedProvider) {
    let server = ScriptedProvider::start([answer]).await;
    let seen = match model_at(&server).stream(chat_request(vec![user_message("hi")])).await {
        Ok(stream) => collect_reply(stream).await,
        Err(error) => ObservedReply { text: String::new(), reasoning: String::new(), end: Err(error) },
    };
    (seen, server)
}

fn full_reply() -> (String, ModelReply) {
    let body = sse_body(&[
        delta_chunk(json!({"role": "assistant", "content": ""})),
        delta_chunk(json!({"reasoning_content": "Let me "})),
        delta_chunk(json!({"reasoning": "see ☸"})),
        delta_chunk(json!({"content": "Ich prüfe "})),
        delta_chunk(json!({"content": "das 🔥."})),
        call_chunk(
            json!([{"index": 0, "id": "a", "type": "function", "function": {"name": "pods_list", "arguments": ""}}]),
        ),
        call_chunk(
            json!([{"index": 1, "id": "b", "type": "function", "function": {"name": "logs", "arguments": "{\"pod\":"}}]),
        ),
        call_chunk(json!([{"index": 0, "function": {"arguments": "{\"ns\": \"sh"}}])),
        call_chunk(
            json!([{"index": 1, "function": {"arguments": "\"cart-ü\"}"}}, {"index": 0, "function": {"arguments": "op\"}"}}]),
        ),
        finish_chunk("tool_calls"),
        json!({"choices": [], "usage": {"prompt_tokens": 90, "completion_tokens": 12, "total_tokens": 102,
            "prompt_tokens_details": {"cached_tokens": 64}, "completion_tokens_details": {"reasoning_tokens": 5}}}),
    ]);
    let reply = ModelReply {
        content: "Ich prüfe das 🔥.".into(),
        reasoning: Some("Let me see ☸".into()),
        tool_calls: vec![
            requested_call("pods_list", json!({"ns": "shop"})),
            requested_call("logs", json!({"pod": "cart-ü"})),
        ],
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

fn assemble(chunks: &[Value]) -> Result<ModelReply, ModelError> {
    assemble_events(&mut ChatCompletionsAssembler::new(test_support::test_call(), Vec::new(), Vec::new()), chunks)
}
