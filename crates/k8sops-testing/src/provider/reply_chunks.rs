//! Events of replies in the format of each API.

use serde_json::{Value, json};

use super::api::ProviderApi;

impl ProviderApi {
    /// Returns an event in the framing of the API's streams.
    pub(super) fn frame(self, event: &Value) -> Vec<u8> {
        match self {
            Self::Ollama => format!("{event}\n").into_bytes(),
            Self::Chat => format!("data: {event}\n\n").into_bytes(),
            Self::Anthropic | Self::Responses => {
                format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or("message")).into_bytes()
            }
        }
    }

    /// Returns the bytes of a whole reply in three chunks: the content in two, split after the event that contains "half" if
    /// there is one, and the end mark. A call is a name and its arguments.
    pub(super) fn reply_chunks(self, texts: &[&str], calls: &[(&str, &str)]) -> Vec<Vec<u8>> {
        let events = match self {
            Self::Anthropic => anthropic_events(texts, calls),
            Self::Chat => chat_events(texts, calls),
            Self::Responses => responses_events(texts, calls),
            Self::Ollama => ollama_events(texts, calls),
        };
        // Two chunks before the end mark, so that a test can stop between them.
        let last = if matches!(self, Self::Anthropic | Self::Chat) { 2 } else { 1 };
        let (before, after) = events.split_at(events.len() - last);
        let half = before
            .iter()
            .position(|event| event.to_string().contains("half"))
            .map_or(before.len() / 2, |index| index + 1);
        let (first, second) = before.split_at(half.min(before.len()));
        let mut chunks: [Vec<u8>; 3] =
            [first, second, after].map(|events| events.iter().flat_map(|event| self.frame(event)).collect());
        if self == Self::Chat {
            chunks[2].extend_from_slice(b"data: [DONE]\n\n");
        }
        chunks.into()
    }
}

fn anthropic_events(texts: &[&str], calls: &[(&str, &str)]) -> Vec<Value> {
    let mut events = Vec::new();
    let usage = json!({"input_tokens": 10, "cache_read_input_tokens": 90, "output_tokens": 1});
    events.push(json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant",
        "model": "m", "content": [], "stop_reason": null, "usage": usage}}));
    if !texts.is_empty() {
        events.push(json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}));
    }
    for text in texts {
        events.push(json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}));
    }
    if !texts.is_empty() {
        events.push(json!({"type": "content_block_stop", "index": 0}));
    }
    for (n, (name, arguments)) in calls.iter().enumerate() {
        let block = json!({"type": "tool_use", "id": format!("toolu_{n}"), "name": name, "input": {}});
        events.push(json!({"type": "content_block_start", "index": n + 1, "content_block": block}));
        let delta = json!({"type": "input_json_delta", "partial_json": arguments});
        events.push(json!({"type": "content_block_delta", "index": n + 1, "delta": delta}));
        events.push(json!({"type": "content_block_stop", "index": n + 1}));
    }
    let reason = if calls.is_empty() { "end_turn" } else { "tool_use" };
    events.push(json!({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": null},
        "usage": {"output_tokens": 20}}));
    events.push(json!({"type": "message_stop"}));
    events
}

fn chat_events(texts: &[&str], calls: &[(&str, &str)]) -> Vec<Value> {
    let mut events = Vec::new();
    let chunk = |delta: Value, finish: Value| {
        json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
    };
    for text in texts {
        events.push(chunk(json!({"role": "assistant", "content": text}), Value::Null));
    }
    for (n, (name, arguments)) in calls.iter().enumerate() {
        let call = json!({"index": n, "id": format!("call_{n}"), "type": "function",
            "function": {"name": name, "arguments": arguments}});
        events.push(chunk(json!({"tool_calls": [call]}), Value::Null));
    }
    events.push(chunk(json!({}), json!(if calls.is_empty() { "stop" } else { "tool_calls" })));
    events.push(json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120,
            "prompt_tokens_details": {"cached_tokens": 90}}}));
    events
}

fn responses_events(texts: &[&str], calls: &[(&str, &str)]) -> Vec<Value> {
    let mut events = Vec::new();
    let mut output = Vec::new();
    events.push(json!({"type": "response.created", "sequence_number": 0,
        "response": {"id": "resp_1", "object": "response", "status": "in_progress", "output": []}}));
    if !texts.is_empty() {
        let item =
            json!({"type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress", "content": []});
        events.push(json!({"type": "response.output_item.added", "output_index": 0, "item": item}));
    }
    for text in texts {
        events.push(json!({"type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0,
            "content_index": 0, "delta": text}));
    }
    if !texts.is_empty() {
        let content = json!([{"type": "output_text", "text": texts.concat(), "annotations": []}]);
        let item =
            json!({"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content});
        events.push(json!({"type": "response.output_item.done", "output_index": 0, "item": item}));
        output.push(item);
    }
    for (n, (name, arguments)) in calls.iter().enumerate() {
        let (id, call_id) = (format!("fc_{n}"), format!("call_{n}"));
        let item = |arguments: &str, status: &str| {
            json!({"type": "function_call", "id": id, "call_id": call_id, "name": name,
                "arguments": arguments, "status": status})
        };
        events.push(
            json!({"type": "response.output_item.added", "output_index": n + 1, "item": item("", "in_progress")}),
        );
        events.push(json!({"type": "response.function_call_arguments.delta", "item_id": id,
            "output_index": n + 1, "delta": arguments}));
        events.push(json!({"type": "response.function_call_arguments.done", "item_id": id,
            "output_index": n + 1, "arguments": arguments}));
        events.push(
            json!({"type": "response.output_item.done", "output_index": n + 1, "item": item(arguments, "completed")}),
        );
        output.push(item(arguments, "completed"));
    }
    events.push(json!({"type": "response.completed", "response": {"id": "resp_1", "object": "response",
        "status": "completed", "output": output, "usage": {"input_tokens": 100, "output_tokens": 20,
            "total_tokens": 120, "input_tokens_details": {"cached_tokens": 90},
            "output_tokens_details": {"reasoning_tokens": 0}}}}));
    events
}

fn ollama_events(texts: &[&str], calls: &[(&str, &str)]) -> Vec<Value> {
    let mut events = Vec::new();
    let line =
        |message: Value| json!({"model": "m", "created_at": "2026-11-23T00:00:00Z", "message": message, "done": false});
    for text in texts {
        events.push(line(json!({"role": "assistant", "content": text})));
    }
    for (name, arguments) in calls {
        // Ollama sends arguments as an object; invalid ones become a text.
        let arguments = serde_json::from_str(arguments).unwrap_or_else(|_| json!(arguments));
        let call = json!({"function": {"name": name, "arguments": arguments}});
        events.push(line(json!({"role": "assistant", "content": "", "tool_calls": [call]})));
    }
    events.push(json!({"model": "m", "created_at": "2026-11-23T00:00:00Z", "done": true, "done_reason": "stop",
        "message": {"role": "assistant", "content": ""}, "prompt_eval_count": 100, "eval_count": 20}));
    events
}

/// Returns the events that stream reasoning in a reply.
pub(super) fn reasoning_events(api: ProviderApi, reasoning: &str) -> Vec<Value> {
    match api {
        ProviderApi::Anthropic => vec![
            json!({"type": "content_block_start", "index": 7, "content_block": {"type": "thinking", "thinking": "", "signature": ""}}),
            json!({"type": "content_block_delta", "index": 7, "delta": {"type": "thinking_delta", "thinking": reasoning}}),
            json!({"type": "content_block_delta", "index": 7, "delta": {"type": "signature_delta", "signature": "sealed-by-anthropic"}}),
            json!({"type": "content_block_stop", "index": 7}),
        ],
        ProviderApi::Chat => vec![chat_reasoning(reasoning)],
        ProviderApi::Responses => {
            let item = |summary: Value, sealed: Value| json!({"type": "reasoning", "id": "rs_1", "summary": summary, "encrypted_content": sealed});
            let part = json!({"type": "summary_text", "text": reasoning});
            vec![
                json!({"type": "response.output_item.added", "output_index": 0, "item": item(json!([]), Value::Null)}),
                json!({"type": "response.reasoning_summary_part.added", "item_id": "rs_1", "output_index": 0,
                    "summary_index": 0, "part": {"type": "summary_text", "text": ""}}),
                json!({"type": "response.reasoning_summary_text.delta", "item_id": "rs_1", "output_index": 0,
                    "summary_index": 0, "delta": reasoning}),
                json!({"type": "response.reasoning_summary_text.done", "item_id": "rs_1", "output_index": 0,
                    "summary_index": 0, "text": reasoning}),
                json!({"type": "response.output_item.done", "output_index": 0,
                    "item": item(json!([part]), json!("sealed-by-openai"))}),
            ]
        }
        ProviderApi::Ollama => {
            vec![json!({"model": "m", "created_at": "2026-11-23T00:00:00Z", "done": false,
                "message": {"role": "assistant", "content": "", "thinking": reasoning}})]
        }
    }
}

/// Returns a piece of reasoning as chat completion servers stream it.
pub(super) fn chat_reasoning(piece: &str) -> Value {
    json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{"index": 0, "delta": {"reasoning_content": piece}, "finish_reason": null}]})
}
