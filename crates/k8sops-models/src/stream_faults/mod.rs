//! Tests of what servers and gateways do to streams, in all protocols and at every cut of the bytes.

mod conversation_rejections;
mod rejections;
mod server_streams;

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use k8sops_core::StopReason;
use serde_json::{Value, json};

use crate::{
    ModelReply, ProviderProtocol, RequestedCall,
    anthropic::MessagesAssembler,
    event_framing::EventFraming,
    event_stream::ProviderEventStream,
    ollama::OllamaAssembler,
    openai::{ChatCompletionsAssembler, ResponsesAssembler},
    reply_assembly::reply_stream,
    test_support::{ObservedReply, collect_reply, test_call},
};

const PROTOCOLS: [ProviderProtocol; 4] = [
    ProviderProtocol::OpenaiChat,
    ProviderProtocol::OpenaiResponses,
    ProviderProtocol::Anthropic,
    ProviderProtocol::Ollama,
];
const TEXT: &str = "Größe 😀 完了";
const TOOLS: [&str; 2] = ["scale", "look"];

/// What a server does after the last byte.
#[derive(Debug, Clone, Copy, PartialEq)]
enum AfterBody {
    Close,
    Reset,
    /// Keeps the connection open without a byte.
    Hold,
    /// Sends this without end.
    Repeat(&'static str),
}

/// Returns the events of a reply with text and one call, and the number of them that precede the end mark.
fn events(protocol: ProviderProtocol) -> (Vec<String>, usize) {
    let chat = |delta: Value, finish: Value| json!({"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]});
    let call = json!({"id": "c1", "index": 0, "function": {"name": "scale", "arguments": "{\"x\": \"web\"}"}});
    let (events, complete): (Vec<Value>, usize) = match protocol {
        ProviderProtocol::OpenaiResponses => {
            let item = json!({"type": "function_call", "id": "f1", "call_id": "c1", "name": "scale", "arguments": "{\"x\": \"web\"}"});
            let events = vec![
                json!({"type": "response.created", "response": {"status": "in_progress"}}),
                json!({"type": "response.output_text.delta", "output_index": 0, "delta": TEXT}),
                json!({"type": "response.output_item.done", "output_index": 1, "item": item}),
                json!({"type": "response.completed", "response": {"status": "completed", "output": []}}),
            ];
            (events, 4)
        }
        ProviderProtocol::Anthropic => {
            let block = json!({"type": "tool_use", "id": "c1", "name": "scale", "input": {}});
            let input = json!({"type": "input_json_delta", "partial_json": "{\"x\": \"web\"}"});
            let events = vec![
                json!({"type": "message_start", "message": {"usage": {"input_tokens": 1}}}),
                json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": TEXT}}),
                json!({"type": "content_block_start", "index": 1, "content_block": block}),
                json!({"type": "content_block_delta", "index": 1, "delta": input}),
                json!({"type": "content_block_stop", "index": 1}),
                json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 5}}),
                json!({"type": "message_stop"}),
            ];
            (events, 6)
        }
        ProviderProtocol::Ollama => {
            let call = json!({"function": {"name": "scale", "arguments": {"x": "web"}}});
            let events = vec![
                json!({"message": {"role": "assistant", "content": TEXT}, "done": false}),
                json!({"message": {"role": "assistant", "content": "", "tool_calls": [call]}, "done": false}),
                json!({"message": {"role": "assistant", "content": ""}, "done": true, "done_reason": "stop"}),
            ];
            (events, 3)
        }
        _ => {
            let events = vec![
                chat(json!({"role": "assistant", "content": TEXT}), Value::Null),
                chat(json!({"tool_calls": [call]}), Value::Null),
                chat(json!({}), json!("tool_calls")),
                json!({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 5}}),
            ];
            (events, 3)
        }
    };
    (events.iter().map(Value::to_string).collect(), complete)
}

fn framing_of(protocol: ProviderProtocol) -> EventFraming {
    if protocol == ProviderProtocol::Ollama { EventFraming::Lines } else { EventFraming::Sse }
}

/// Returns the body of a response with these events.
fn body(protocol: ProviderProtocol, events: &[String]) -> String {
    let lines = events.iter().map(|event| match framing_of(protocol) {
        EventFraming::Lines => format!("{event}\n"),
        EventFraming::Sse => format!("data: {event}\n\n"),
    });
    lines.collect()
}

async fn collect(protocol: ProviderProtocol, body: &[u8], size: usize, after: AfterBody) -> ObservedReply {
    let pieces: Vec<_> = body.chunks(size).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    let tail = match after {
        AfterBody::Close => stream::empty().boxed(),
        AfterBody::Reset => stream::iter([Err("reset by peer".into())]).boxed(),
        AfterBody::Hold => stream::pending().boxed(),
        AfterBody::Repeat(text) => stream::repeat(text)
            .then(|text| async move {
                tokio::time::sleep(Duration::from_millis(500)).await;
                Ok(Bytes::from_static(text.as_bytes()))
            })
            .boxed(),
    };
    let bytes = stream::iter(pieces).chain(tail);
    let events = ProviderEventStream::new(bytes, framing_of(protocol), Duration::from_secs(30), test_call());
    let tools: Vec<String> = TOOLS.map(str::to_owned).into();
    collect_reply(match protocol {
        ProviderProtocol::OpenaiResponses => {
            reply_stream(events, ResponsesAssembler::new(test_call(), Vec::new()), tools)
        }
        ProviderProtocol::Anthropic => reply_stream(events, MessagesAssembler::new(test_call(), Vec::new()), tools),
        ProviderProtocol::Ollama => {
            reply_stream(events, OllamaAssembler::new(test_call(), tools.clone(), 8192, Vec::new()), tools)
        }
        _ => reply_stream(events, ChatCompletionsAssembler::new(test_call(), tools.clone(), Vec::new()), tools),
    })
    .await
}

fn check_reply(seen: &ObservedReply, case: &str) {
    let reply = seen.end.as_ref().unwrap_or_else(|error| panic!("{case}: {error}"));
    assert_eq!((seen.text.as_str(), reply.stop_reason), (TEXT, StopReason::ToolUse), "{case}");
    assert_eq!(reply.tool_calls, [RequestedCall { name: "scale".into(), arguments: json!({"x": "web"}) }], "{case}");
}

#[tokio::test(start_paused = true)]
async fn reply_is_complete_when_its_stop_reason_has_come() {
    for protocol in PROTOCOLS {
        let (events, complete) = events(protocol);
        let keep_alive = if protocol == ProviderProtocol::Ollama { "\n" } else { ": keep-alive\n\n" };
        let ping = if protocol == ProviderProtocol::Ollama { "{}\n" } else { "data: {\"type\": \"ping\"}\n\n" };
        let broken = if protocol == ProviderProtocol::Ollama { "{\"broken\n" } else { "data: {\"broken\n\n" };
        let failed = if protocol == ProviderProtocol::Ollama {
            "{\"error\": \"too late\"}\n"
        } else {
            "data: {\"type\": \"error\", \"error\": {\"message\": \"too late\"}}\n\n"
        };
        for after in [AfterBody::Close, AfterBody::Reset, AfterBody::Hold]
            .into_iter()
            .chain([keep_alive, ping, broken, failed].map(AfterBody::Repeat))
        {
            for count in complete..=events.len() {
                let whole = body(protocol, &events[..count]);
                let unterminated =
                    if matches!(after, AfterBody::Repeat(_)) { whole.as_str() } else { whole.trim_end() };
                for body in [whole.as_str(), unterminated] {
                    let started_at = tokio::time::Instant::now();
                    let case = format!("{protocol:?} {after:?} after {count} events");
                    check_reply(&collect(protocol, body.as_bytes(), 7, after).await, &case);
                    // The end of the last event may be missing as well.
                    assert!(started_at.elapsed() <= Duration::from_millis(4100), "{case}: {:?}", started_at.elapsed());
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn reply_without_a_stop_reason_is_never_complete() {
    for protocol in PROTOCOLS {
        let (events, complete) = events(protocol);
        let complete = body(protocol, &events[..complete]);
        let whole = complete.trim_end();
        // Every cut before the last brace of the stop reason.
        for end in 0..whole.len() {
            for after in [AfterBody::Close, AfterBody::Reset] {
                let seen = collect(protocol, &whole.as_bytes()[..end], 64, after).await;
                let error = seen.end.expect_err("an incomplete reply is not an answer");
                assert!(error.is_retryable(), "{protocol:?} {after:?} at {end}: {error}");
            }
        }
    }
}

#[tokio::test]
async fn framing_costs_no_reply_at_any_cut() {
    let between: [&str; 8] = [
        ": comment\n\n",
        "data:\n\n",
        "event: keepalive\n\n",
        "data: ping\n\n",
        "data: {\"type\":\"ping\"}\n\n",
        "event: ping\ndata: ping\n\n",
        "retry: 3000\nid: 7\n\n",
        "data: [1]\n\n",
    ];
    for protocol in PROTOCOLS {
        let (events, _) = events(protocol);
        let whole = body(protocol, &events);
        let mut bodies = vec![
            whole.clone(),
            whole.replace('\n', "\r"),
            whole.replace('\n', "\r\n"),
            whole.replace("\n\n", "\n"),
            whole.replace("data: ", "data:"),
            format!("\u{feff}{whole}"),
            whole.trim_end().to_owned(),
        ];
        match framing_of(protocol) {
            EventFraming::Sse => bodies.extend(between.map(|noise| {
                events.iter().map(|event| format!("{noise}data: {event}\n\n{noise}")).collect::<Vec<_>>().concat()
            })),
            EventFraming::Lines => {
                bodies.extend(["\n", "{}\n", "ping\n"].map(|noise| {
                    events.iter().map(|event| format!("{noise}{event}\n{noise}")).collect::<Vec<_>>().concat()
                }));
                // Not one value per line.
                let pretty = events.iter().map(|event| serde_json::from_str::<Value>(event).unwrap());
                bodies.push(pretty.map(|value| format!("{value:#}\n")).collect::<Vec<_>>().concat());
            }
        }
        for body in bodies {
            for size in [1, 2, 3, 5, 8, 13, 50, body.len()] {
                let seen = collect(protocol, body.as_bytes(), size, AfterBody::Close).await;
                check_reply(&seen, &format!("{protocol:?} in pieces of {size}: {body:?}"));
            }
        }
    }
}

#[tokio::test]
async fn half_of_a_pair_costs_one_character() {
    for protocol in PROTOCOLS {
        let (events, _) = events(protocol);
        let split = |half: &str| {
            events[usize::from(events.len() > 4 || protocol == ProviderProtocol::OpenaiResponses)].replace(TEXT, half)
        };
        let start = usize::from(events.len() > 4 || protocol == ProviderProtocol::OpenaiResponses);
        let mut pieces = events.clone();
        pieces.splice(start..=start, [split("a \\ud83d"), split("\\ude80 b")]);
        let seen = collect(protocol, body(protocol, &pieces).as_bytes(), 5, AfterBody::Close).await;
        assert_eq!((seen.text.as_str(), seen.end.is_ok()), ("a 🚀 b", true), "{protocol:?}");
        let mut pieces = events.clone();
        pieces.splice(start..=start, [split("a \\ud83d b \\ude80")]);
        let seen = collect(protocol, body(protocol, &pieces).as_bytes(), 5, AfterBody::Close).await;
        assert_eq!((seen.text.as_str(), seen.end.is_ok()), ("a \u{fffd} b \u{fffd}", true), "{protocol:?}");
    }
}

#[tokio::test]
async fn word_for_a_failure_is_no_stop_reason() {
    for protocol in PROTOCOLS {
        let (events, _) = events(protocol);
        let whole = body(protocol, &events);
        for word in ["error", "abort", "cancelled", "failed"] {
            let failed = match protocol {
                ProviderProtocol::OpenaiResponses => {
                    whole.replace("\"status\":\"completed\"", &format!("\"status\":\"{word}\""))
                }
                ProviderProtocol::Anthropic => {
                    whole.replace("\"stop_reason\":\"tool_use\"", &format!("\"stop_reason\":\"{word}\""))
                }
                ProviderProtocol::Ollama => {
                    whole.replace("\"done_reason\":\"stop\"", &format!("\"done_reason\":\"{word}\""))
                }
                _ => whole.replace("\"finish_reason\":\"tool_calls\"", &format!("\"finish_reason\":\"{word}\"")),
            };
            assert_ne!(failed, whole);
            let error = collect(protocol, failed.as_bytes(), 64, AfterBody::Close).await.end.unwrap_err();
            assert!(error.is_retryable() && error.to_string().contains(word), "{protocol:?}: {error}");
        }
    }
}

#[tokio::test]
async fn reply_that_is_not_streamed_is_read() {
    let call = json!({"id": "c1", "type": "function", "function": {"name": "scale", "arguments": "{\"x\": \"web\"}"}});
    let message = json!({"role": "assistant", "content": TEXT, "tool_calls": [call]});
    let wholes = [
        (
            ProviderProtocol::OpenaiChat,
            json!({"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}], "usage": {"prompt_tokens": 1}}),
        ),
        (
            ProviderProtocol::OpenaiResponses,
            json!({"object": "response", "status": "completed", "output": [
            {"type": "message", "content": [{"type": "output_text", "text": TEXT}]},
            {"type": "function_call", "call_id": "c1", "name": "scale", "arguments": "{\"x\": \"web\"}"}]}),
        ),
        (
            ProviderProtocol::Anthropic,
            json!({"type": "message", "role": "assistant", "stop_reason": "tool_use", "content": [
            {"type": "text", "text": TEXT}, {"type": "tool_use", "id": "c1", "name": "scale", "input": {"x": "web"}}]}),
        ),
        (
            ProviderProtocol::Ollama,
            json!({"done": true, "done_reason": "stop", "message": {"content": TEXT,
            "tool_calls": [{"function": {"name": "scale", "arguments": {"x": "web"}}}]}}),
        ),
    ];
    for (protocol, whole) in wholes {
        for body in [whole.to_string(), format!("{whole:#}"), format!("{whole:#}\n")] {
            for size in [1, 7, body.len()] {
                check_reply(
                    &collect(protocol, body.as_bytes(), size, AfterBody::Close).await,
                    &format!("{protocol:?}"),
                );
            }
        }
    }
}

/// Returns the reply to a chat request whose calls arrive in these chunks.
async fn chat_calls(chunks: Value) -> ModelReply {
    let mut events: Vec<String> = chunks
        .as_array()
        .unwrap()
        .iter()
        .map(|call| json!({"choices": [{"delta": {"tool_calls": [call]}, "finish_reason": null}]}).to_string())
        .collect();
    events.push(json!({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}).to_string());
    let body = body(ProviderProtocol::OpenaiChat, &events);
    collect(ProviderProtocol::OpenaiChat, body.as_bytes(), 9, AfterBody::Close).await.end.unwrap()
}

#[tokio::test]
async fn one_call_is_made_of_what_servers_repeat_and_split() {
    let scale = json!({"x": "web"});
    let whole = |id: &str, index: u64| json!({"id": id, "index": index, "function": {"name": "scale", "arguments": "{\"x\": \"web\"}"}});
    let piece = |arguments: &str| json!({"index": 0, "function": {"arguments": arguments}});
    let start = |name: &str, arguments: &str| json!({"id": "a", "index": 0, "function": {"name": name, "arguments": arguments}});
    for chunks in [
        json!([whole("a", 0), whole("a", 0)]),
        json!([whole("a", 0), whole("a", 1)]),
        json!([whole("a", 0), whole("a", 1), whole("a", 0)]),
        json!([start("scale", "{}"), whole("a", 1)]),
        json!([start("scale", "{}"), piece("{\"x\": "), piece("\"web\"}")]),
        json!([start("scale", "{}{\"x\": \"web\"}")]),
        json!([start("scale", "{\"x\": \"web\"}"), piece("{\"x\": \"web\"}")]),
        json!([start("scale", "{\"x\""), piece("{\"x\": \"we"), piece("{\"x\": \"web\"}")]),
        json!([start("sca", ""), start("le", ""), piece("{\"x\": \"web\"}")]),
        json!([start("sca", ""), start("scale", ""), piece("{\"x\": \"web\"}")]),
        json!([start("scale", ""), start("scale", "{\"x\":"), start("scale", " \"web\"}")]),
        json!([start("functions.scale", ""), piece("{\"x\": \"web\"}")]),
        json!([start("scale<|channel|>commentary", "{\"x\": \"web\"}")]),
        json!([start("scale<|chan", ""), start("nel|>json", ""), piece("{\"x\": \"web\"}")]),
    ] {
        let reply = chat_calls(chunks.clone()).await;
        assert_eq!(reply.tool_calls, [RequestedCall { name: "scale".into(), arguments: scale.clone() }], "{chunks}");
    }
    for chunks in [
        json!([whole("a", 0), whole("b", 1)]),
        json!([{"function": {"name": "look"}}, {"function": {"name": "scale"}}]),
        json!([start("look", "{}"), {"id": "a", "index": 0, "function": {"name": "scale", "arguments": "{}"}}]),
    ] {
        assert_eq!(chat_calls(chunks.clone()).await.tool_calls.len(), 2, "{chunks}");
    }
}
