//! A chat completions server whose reply depends only on the conversation, and not on the replica that requests it or
//! on the number of requests. To a user message with the text `ID` it replies in three steps:
//!
//! 1. text, and parallel calls: `look` twice and `change` once;
//! 2. text, and one call of `change`;
//! 3. text.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use actix_web::{App, HttpResponse, HttpServer, web};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

/// Number of words in a reply.
const REPLY_WORDS: usize = 12;
/// Time between two words; a reply takes about 300 ms.
const WORD_INTERVAL: Duration = Duration::from_millis(25);

/// Counts the requests to the model.
#[derive(Clone, Default)]
pub(crate) struct ModelRequests {
    pub total: Arc<AtomicU64>,
    /// Requests that did not offer both tools.
    pub without_tools: Arc<AtomicU64>,
}

/// Starts the server and returns its base URL.
pub(crate) fn start_model_server(requests: ModelRequests) -> String {
    let server = HttpServer::new(move || {
        // The conversation of a long session is larger than the default limit.
        let json = web::JsonConfig::default().limit(256 * 1024 * 1024);
        App::new()
            .app_data(web::Data::new(requests.clone()))
            .app_data(json)
            .service(web::resource("/v1/chat/completions").route(web::post().to(handle_completion)))
    });
    let server = server.workers(1).disable_signals().bind(("127.0.0.1", 0)).expect("a port is free");
    let url = format!("http://{}/v1", server.addrs()[0]);
    tokio::spawn(server.run());
    url
}

async fn handle_completion(requests: web::Data<ModelRequests>, request: web::Json<Value>) -> HttpResponse {
    requests.total.fetch_add(1, Ordering::Relaxed);
    let offered = |name| request["tools"].as_array().is_some_and(|t| t.iter().any(|t| t["function"]["name"] == name));
    if !(offered("look") && offered("change")) {
        requests.without_tools.fetch_add(1, Ordering::Relaxed);
    }
    let none = Vec::new();
    let messages = request["messages"].as_array().unwrap_or(&none);
    let last_user = messages.iter().rposition(|message| message["role"] == "user").unwrap_or_default();
    let id = messages.get(last_user).and_then(|message| message["content"].as_str()).unwrap_or_default();
    // The line before it says when the message was sent.
    let id = id.lines().last().unwrap_or_default();
    let step = messages.iter().skip(last_user).filter(|message| message["role"] == "assistant").count() + 1;
    let calls: &[&str] = match step {
        1 => &["look", "look", "change"],
        2 => &["change"],
        _ => &[],
    };
    let mut chunks: Vec<Value> =
        (0..REPLY_WORDS).map(|n| completion_chunk(&json!({"content": format!("{id}.{step}.{n} ")}), None)).collect();
    for (n, name) in calls.iter().enumerate() {
        let arguments = json!({"id": format!("{id}.{step}.{n}")}).to_string();
        let call = json!({"index": n, "id": format!("call{n}"), "type": "function",
            "function": {"name": name, "arguments": arguments}});
        chunks.push(completion_chunk(&json!({"tool_calls": [call]}), None));
    }
    let reason = if calls.is_empty() { "stop" } else { "tool_calls" };
    chunks.push(completion_chunk(&json!({}), Some(reason)));
    let lines = chunks.into_iter().map(|chunk| format!("data: {chunk}\n\n")).chain(["data: [DONE]\n\n".to_owned()]);
    let body = stream::iter(lines.enumerate()).then(|(n, line)| async move {
        if n < REPLY_WORDS {
            tokio::time::sleep(WORD_INTERVAL).await;
        }
        Ok::<_, Infallible>(web::Bytes::from(line))
    });
    HttpResponse::Ok().content_type("text/event-stream").streaming(body)
}

fn completion_chunk(delta: &Value, finish_reason: Option<&str>) -> Value {
    json!({"id": "c", "object": "chat.completion.chunk", "model": "chaos",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]})
}
