//! A scripted service: real HTTP, real WebSockets, fixed responses.

use parking_lot::Mutex;
use std::{collections::VecDeque, sync::Arc};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::{accept_hdr_async, tungstenite::Message};

/// A step of a scripted WebSocket.
pub(super) enum ScriptStep {
    /// Sends this frame.
    Send(Value),
    /// Waits for a command of this type and sends the frames that the function returns for it.
    Expect(&'static str, fn(&Value) -> Vec<Value>),
    /// Drops the connection without a close frame.
    Break,
}

/// The requests and commands that a service received.
#[derive(Default)]
struct ServiceLog {
    requests: Vec<String>,
    commands: Vec<Value>,
}

/// A service that answers REST calls and plays the next script for each WebSocket.
pub(super) struct ScriptedService {
    pub(super) url: String,
    log: Arc<Mutex<ServiceLog>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for ScriptedService {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ScriptedService {
    pub(super) async fn start(scripts: Vec<Vec<ScriptStep>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let log = Arc::new(Mutex::new(ServiceLog::default()));
        let shared = log.clone();
        let task = tokio::spawn(async move {
            let mut scripts = VecDeque::from(scripts);
            let mut open = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                let mut first = [0; 1024];
                let read = stream.peek(&mut first).await.unwrap();
                let socket = String::from_utf8_lossy(&first[..read]).contains("/ws?");
                match scripts.pop_front_if(|_| socket) {
                    Some(script) => open.push(tokio::spawn(play_script(stream, script, shared.clone()))),
                    None => answer_rest_call(stream, &shared).await,
                }
            }
        });
        Self { url, log, task }
    }

    pub(super) fn commands(&self, command_type: &str) -> Vec<Value> {
        self.log.lock().commands.iter().filter(|c| c["type"] == command_type).cloned().collect()
    }

    pub(super) fn requests(&self) -> Vec<String> {
        self.log.lock().requests.clone()
    }
}

async fn answer_rest_call(mut stream: TcpStream, log: &Mutex<ServiceLog>) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    // Bodies are small and arrive with their head, or right after it.
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
            log.lock().requests.push(format!("{line} {body}").trim_end().to_owned());
            let (status, body) = response_to(line);
            let body = body.to_string();
            let response = format!(
                "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(response.as_bytes()).await.unwrap();
            return;
        }
    }
}

fn response_to(line: &str) -> (&'static str, Value) {
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

async fn play_script(stream: TcpStream, script: Vec<ScriptStep>, log: Arc<Mutex<ServiceLog>>) {
    let request_log = log.clone();
    #[allow(clippy::result_large_err)] // the library's signature
    let callback = move |request: &http::Request<()>, response: http::Response<()>| {
        request_log.lock().requests.push(format!("WS {}", request.uri()));
        Ok(response)
    };
    let mut socket = accept_hdr_async(stream, callback).await.unwrap();
    for step in script {
        match step {
            ScriptStep::Send(frame) => socket.send(Message::text(frame.to_string())).await.unwrap(),
            ScriptStep::Expect(command_type, reply) => loop {
                let Some(Ok(message)) = socket.next().await else { return };
                let Message::Text(text) = message else { continue };
                let command: Value = serde_json::from_str(&text).unwrap();
                log.lock().commands.push(command.clone());
                assert_eq!(command["type"], command_type);
                for frame in reply(&command) {
                    socket.send(Message::text(frame.to_string())).await.unwrap();
                }
                break;
            },
            ScriptStep::Break => return,
        }
    }
    // The connection stays open after the end of the script.
    while let Some(Ok(message)) = socket.next().await {
        if let Message::Text(text) = message {
            log.lock().commands.push(serde_json::from_str(&text).unwrap());
        }
    }
}
