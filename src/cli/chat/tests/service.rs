//! A scripted service: real HTTP, real WebSockets, canned answers.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::{accept_hdr_async, tungstenite::Message};

/// One step of a scripted WebSocket.
pub(super) enum Step {
    /// Send this frame.
    Say(Value),
    /// Wait for a command of this type; its answer may use the command.
    Hear(&'static str, fn(&Value) -> Vec<Value>),
    /// Break the connection off without a word.
    Break,
}

/// What a service was asked and told.
#[derive(Default)]
struct Heard {
    requests: Vec<String>,
    commands: Vec<Value>,
}

/// A service that answers REST calls and plays one script for each WebSocket, in turn.
pub(super) struct Service {
    pub(super) url: String,
    heard: Arc<Mutex<Heard>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Service {
    pub(super) async fn start(scripts: Vec<Vec<Step>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let heard = Arc::new(Mutex::new(Heard::default()));
        let shared = heard.clone();
        let task = tokio::spawn(async move {
            let mut scripts = VecDeque::from(scripts);
            let mut open = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                let mut first = [0; 1024];
                let read = stream.peek(&mut first).await.unwrap();
                let socket = String::from_utf8_lossy(&first[..read]).contains("/ws?");
                match scripts.pop_front_if(|_| socket) {
                    Some(script) => open.push(tokio::spawn(play(stream, script, shared.clone()))),
                    None => rest(stream, &shared).await,
                }
            }
        });
        Self { url, heard, task }
    }

    pub(super) fn commands(&self, kind: &str) -> Vec<Value> {
        self.heard.lock().unwrap().commands.iter().filter(|c| c["type"] == kind).cloned().collect()
    }

    pub(super) fn requests(&self) -> Vec<String> {
        self.heard.lock().unwrap().requests.clone()
    }
}

async fn rest(mut stream: TcpStream, log: &Mutex<Heard>) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    // Bodies are small and come with their head, or right after it.
    loop {
        let read = stream.read(&mut buffer).await.unwrap();
        request.extend(&buffer[..read]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head
            .to_lowercase()
            .split_once("content-length: ")
            .map_or(0, |(_, rest)| rest.split("\r\n").next().unwrap_or_default().parse().unwrap());
        if body.len() >= length {
            let line = head.lines().next().unwrap_or_default().trim_end_matches(" HTTP/1.1");
            log.lock().unwrap().requests.push(format!("{line} {body}").trim_end().to_owned());
            let (status, answer) = answer(line);
            let answer = answer.to_string();
            let response = format!(
                "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}",
                answer.len()
            );
            stream.write_all(response.as_bytes()).await.unwrap();
            return;
        }
    }
}

fn answer(line: &str) -> (&'static str, Value) {
    let session = |id: &str, title: &str| {
        json!({"session_id": id, "title": title, "preview": "p", "status": {"is_processing": false},
            "message_count": 3, "updated_at": "2026-11-24T10:00:00.000Z"})
    };
    match line {
        "GET /v1/providers" => (
            "200 OK",
            json!({"default_provider": "demo", "default_model": "rules", "providers": [
                {"id": "demo", "name": "Demo", "configured": true, "models": [{"id": "rules", "description": "d"}]},
                {"id": "openai", "name": "OpenAI", "configured": false, "models": [{"id": "gpt", "description": "g"}]},
                {"id": "free", "name": "Takes any", "configured": true, "models": []}]}),
        ),
        "GET /v1/sessions?limit=50" => {
            ("200 OK", json!({"sessions": [session("s-new", "Payments"), session("s-old", "")]}))
        }
        "POST /v1/sessions" => ("201 Created", session("s-made", "")),
        "GET /v1/sessions/s-new" => ("200 OK", session("s-new", "Payments")),
        "PATCH /v1/sessions/s-new" | "PATCH /v1/sessions/s-new/settings" => ("200 OK", json!({})),
        "DELETE /v1/sessions/s-new" => ("204 No Content", json!("")),
        _ => ("404 Not Found", json!({"code": "session_not_found", "detail": "there is no such session"})),
    }
}

async fn play(stream: TcpStream, script: Vec<Step>, heard: Arc<Mutex<Heard>>) {
    let log = heard.clone();
    #[allow(clippy::result_large_err)] // the library's signature
    let callback = move |request: &http::Request<()>, response: http::Response<()>| {
        log.lock().unwrap().requests.push(format!("WS {}", request.uri()));
        Ok(response)
    };
    let mut socket = accept_hdr_async(stream, callback).await.unwrap();
    for step in script {
        match step {
            Step::Say(frame) => socket.send(Message::text(frame.to_string())).await.unwrap(),
            Step::Hear(kind, reply) => loop {
                let Some(Ok(message)) = socket.next().await else { return };
                let Message::Text(text) = message else { continue };
                let command: Value = serde_json::from_str(&text).unwrap();
                heard.lock().unwrap().commands.push(command.clone());
                assert_eq!(command["type"], kind);
                for frame in reply(&command) {
                    socket.send(Message::text(frame.to_string())).await.unwrap();
                }
                break;
            },
            Step::Break => return,
        }
    }
    // The end of a script is no end of the connection.
    while let Some(Ok(message)) = socket.next().await {
        if let Message::Text(text) = message {
            heard.lock().unwrap().commands.push(serde_json::from_str(&text).unwrap());
        }
    }
}
