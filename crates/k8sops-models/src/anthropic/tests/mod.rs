//! Tests of the Messages API.

#![allow(clippy::needless_pass_by_value)] // `json!` reads better without a borrow at every call

mod model;
mod reply_assembler;
mod request_body;

use std::{collections::BTreeSet, sync::Arc};

use k8sops_core::{ChatMessage, ProviderData, ReasoningEffort, RequestForm, StopReason, TokenUsage, ToolStatus};
use serde_json::{Value, json};

use super::{
    AnthropicModel,
    model::DEFAULT_MAX_TOKENS,
    reply_assembler::MessagesAssembler,
    request_body::{MessagesBody, MessagesPlan, TOOLS_LOADED, ThinkingMode},
};
use crate::{
    ChatModel as _, ChatRequest, DeferredTools, Dialect, DialectChoice, DialectProtocol, ModelError, ModelErrorKind,
    ModelFeature, ModelReply, ProviderProtocol, RequestedCall, ToolChoice, test_support,
    test_support::{
        ObservedReply, ScriptedProvider, ScriptedResponse, assemble_events, assemble_sse, assistant_message,
        chat_request, collect_reply, found_tools, message_from_reply, tool_call, tool_message, tool_spec, user_message,
    },
    tool_placement::FoundToolPlace,
};

fn request_body(request: &ChatRequest, max_tokens: u32) -> MessagesBody<'_> {
    MessagesBody::build(request, &default_plan(max_tokens))
}

fn default_plan(max_tokens: u32) -> MessagesPlan {
    let quirks = BTreeSet::new();
    MessagesPlan {
        dialect: Dialect::default(),
        form: RequestForm::Native,
        max_tokens,
        thinking: ThinkingMode::Unknown,
        takes_temperature: true,
        return_blocks: true,
        found_tool_place: FoundToolPlace::List,
        quirks,
    }
}

fn sse_body(events: &[Value]) -> String {
    let event = |e: &Value| format!("event: {}\ndata: {e}\n\n", e["type"].as_str().unwrap());
    events.iter().map(event).collect::<Vec<_>>().concat()
}

fn delta_event(index: u64, delta: Value) -> Value {
    json!({"type": "content_block_delta", "index": index, "delta": delta})
}

fn start_block(index: u64, block: Value) -> Value {
    json!({"type": "content_block_start", "index": index, "content_block": block})
}

fn end_events(reason: &str) -> [Value; 2] {
    [
        json!({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": null}, "usage": {"output_tokens": 12}}),
        json!({"type": "message_stop"}),
    ]
}

fn full_reply() -> (String, ModelReply) {
    let mut events = vec![
        json!({"type": "message_start", "message": {"id": "m", "role": "assistant", "content": [], "usage":
            {"input_tokens": 10, "cache_read_input_tokens": 60, "cache_creation_input_tokens": 20, "output_tokens": 1}}}),
        start_block(0, json!({"type": "thinking", "thinking": "", "signature": ""})),
        json!({"type": "ping"}),
        delta_event(0, json!({"type": "thinking_delta", "thinking": "Let me see ☸"})),
        delta_event(0, json!({"type": "signature_delta", "signature": "c2ln"})),
        json!({"type": "content_block_stop", "index": 0}),
        start_block(1, json!({"type": "text", "text": ""})),
        delta_event(1, json!({"type": "text_delta", "text": "Ich prüfe "})),
        json!({"type": "brand_new_event", "index": "not a number, and not read"}),
        delta_event(1, json!({"type": "text_delta", "text": "das 🔥."})),
        json!({"type": "content_block_stop", "index": 1}),
        start_block(2, json!({"type": "tool_use", "id": "toolu_1", "name": "pods_list", "input": {}})),
        delta_event(2, json!({"type": "input_json_delta", "partial_json": ""})),
        delta_event(2, json!({"type": "input_json_delta", "partial_json": "{\"ns\": \"sh"})),
        delta_event(2, json!({"type": "input_json_delta", "partial_json": "op-ü\"}"})),
        json!({"type": "content_block_stop", "index": 2}),
        start_block(3, json!({"type": "tool_use", "id": "toolu_2", "name": "nodes", "input": {}})),
        json!({"type": "content_block_stop", "index": 3}),
    ];
    events.extend(end_events("tool_use"));
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
    (sse_body(&events), reply)
}

fn model_at(server: &ScriptedProvider) -> AnthropicModel {
    AnthropicModel::new(&test_support::provider_config(ProviderProtocol::Anthropic, &server.url))
}

async fn ask_once(answer: ScriptedResponse) -> (ObservedReply, ScriptedProvider) {
    let server = ScriptedProvider::start([answer]).await;
    let seen = match model_at(&server).stream(chat_request(vec![user_message("hi")])).await {
        Ok(stream) => collect_reply(stream).await,
        Err(error) => ObservedReply { text: String::new(), reasoning: String::new(), end: Err(error) },
    };
    (seen, server)
}

fn assemble(events: &[Value]) -> Result<ModelReply, ModelError> {
    assemble_events(&mut MessagesAssembler::new(test_support::test_call(), Vec::new()), events)
}

/// Returns a reply that consists of signed reasoning only.
fn thought_alone() -> ModelReply {
    let thinking = start_block(0, json!({"type": "thinking", "thinking": "", "signature": "s1"}));
    assemble(&[vec![thinking], end_events("end_turn").to_vec()].concat()).unwrap()
}
