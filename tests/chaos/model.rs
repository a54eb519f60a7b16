//! A model behind chat completions whose reply follows from the conversation alone, so that it does not matter
//! which replica asks, or how often. For a message that says `ID` it
//!
//! 1. says something, and calls `look` twice and `change` once, in parallel;
//! 2. says something, and calls `change` once more;
//! 3. says how it went.

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

/// Words of a reply, and how far apart they come: about 300 ms in all.
const WORDS: usize = 12;
const GAP: Duration = Duration::from_millis(25);

/// What the model was asked.
#[derive(Clone, Default)]
pub(crate) struct Asked {
    /// Requests.
    pub times: Arc<AtomicU64>,
    /// Requests that did not offer both tools: the model could not have done its work.
    pub without_tools: Arc<AtomicU64>,
}

/// Starts the server; its base URL.
pub(crate) fn start(asked: Asked) -> String {
    let server = HttpServer::new(move || {
        // The conversation of a long session is large.
        let json = web::JsonConfig::default().limit(256 * 1024 * 1024);
        App::new()
            .app_data(web::Data::new(asked.clone()))
            .app_data(json)
            .service(web::resource("/v1/chat/completions").route(web::post().to(reply)))
    });
    let server = server.workers(1).disable_signals().bind(("127.0.0.1", 0)).expect("a free port");
    let url = format!("http://{}/v1", server.addrs()[0]);
    tokio::spawn(server.run());
    url
}

async fn reply(asked: web::Data<Asked>, request: web::Json<Value>) -> HttpResponse {
    asked.times.fetch_add(1, Ordering::Relaxed);
    let offered = |name| request["tools"].as_array().is_some_and(|t| t.iter().any(|t| t["function"]["name"] == name));
    if !(offered("look") && offered("change")) {
        asked.without_tools.fetch_add(1, Ordering::Relaxed);
    }
    let none = Vec::new();
    let messages = request["messages"].as_array().unwrap_or(&none);
    let last_user = messages.iter().rposition(|message| message["role"] == "user").unwrap_or_default();
    let id = messages.get(last_user).and_then(|message| message["content"].as_str()).unwrap_or_default();
    let step = messages.iter().skip(last_user).filter(|message| message["role"] == "assistant").count() + 1;
    let calls: &[&str] = match step {
        1 => &["look", "look", "change"],
        2 => &["change"],
        _ => &[],
    };
    let mut pieces: Vec<Value> =
        (0..WORDS).map(|n| delta(&json!({"content": format!("{id}.{step}.{n} ")}), None)).collect();
    for (n, name) in calls.iter().enumerate() {
        let arguments = json!({"id": format!("{id}.{step}.{n}")}).to_string();
        let call = json!({"index": n, "id": format!("call{n}"), "type": "function",
            "function": {"name": name, "arguments": arguments}});
        pieces.push(delta(&json!({"tool_calls": [call]}), None));
    }
    let reason = if calls.is_empty() { "stop" } else { "tool_calls" };
    pieces.push(delta(&json!({}), Some(reason)));
    let lines = pieces.into_iter().map(|piece| format!("data: {piece}\n\n")).chain(["data: [DONE]\n\n".to_owned()]);
    let spoken = stream::iter(lines.enumerate()).then(|(n, line)| async move {
        if n < WORDS {
            tokio::time::sleep(GAP).await;
        }
        Ok::<_, Infallible>(web::Bytes::from(line))
    });
    HttpResponse::Ok().content_type("text/event-stream").streaming(spoken)
}

fn delta(delta: &Value, finish_reason: Option<&str>) -> Value {
    json!({"id": "c", "object": "chat.completion.chunk", "model": "chaos",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]})
}
