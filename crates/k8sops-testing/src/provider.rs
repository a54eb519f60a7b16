//! Providers of models that answer by a script, over real TCP, in each of the protocols; for what no real one does on demand.
//! The script is chosen by the model that a request names; after its end, and without one, the answer is a good one.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// What the good answer says.
pub const GOOD: &str = "All three pods are well.";

/// The protocol of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    Anthropic,
    Chat,
    Responses,
    Ollama,
}

impl Dialect {
    pub const ALL: [Self; 4] = [Self::Anthropic, Self::Chat, Self::Responses, Self::Ollama];

    /// The name that such a provider has in the tests.
    pub fn provider(self) -> String {
        format!("test-{}", self.protocol())
    }

    /// The word in the configuration.
    pub fn protocol(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::Chat => "openai-chat",
            Self::Responses => "openai-responses",
            Self::Ollama => "ollama",
        }
    }

    fn of_path(path: &str) -> Option<Self> {
        match path {
            "/v1/messages" => Some(Self::Anthropic),
            "/chat/completions" | "/v1/chat/completions" => Some(Self::Chat),
            "/responses" | "/v1/responses" => Some(Self::Responses),
            "/api/chat" => Some(Self::Ollama),
            _ => None,
        }
    }

    /// The end mark's place in [`Self::text`]: how many chunks stand before it.
    const BEFORE_END: usize = 2;

    /// A whole reply of text, in two pieces, and its end.
    pub fn text(self, text: &str) -> Answer {
        let (a, b) = text.split_at(text.floor_char_boundary(text.len() / 2));
        Answer::stream(self, self.pieces(&[a, b], &[], "stop"))
    }

    /// A whole reply that calls a tool with arguments as they are written.
    pub fn call(self, tool: &str, arguments: &str) -> Answer {
        Answer::stream(self, self.pieces(&[], &[(tool, arguments)], "tool"))
    }

    /// A whole reply that thinks, says something and calls a tool; with what the provider wants back of it.
    pub fn thought(self, thought: &str, text: &str, tool: &str, arguments: &str) -> Answer {
        let mut chunks = self.pieces(&[text], &[(tool, arguments)], "tool");
        let events = match self {
            Self::Anthropic => vec![
                json!({"type": "content_block_start", "index": 7, "content_block": {"type": "thinking", "thinking": "", "signature": ""}}),
                json!({"type": "content_block_delta", "index": 7, "delta": {"type": "thinking_delta", "thinking": thought}}),
                json!({"type": "content_block_delta", "index": 7, "delta": {"type": "signature_delta", "signature": "sealed-by-anthropic"}}),
                json!({"type": "content_block_stop", "index": 7}),
            ],
            Self::Chat => vec![chat_thought(thought)],
            Self::Responses => {
                let item = |summary: Value, sealed: Value| json!({"type": "reasoning", "id": "rs_1", "summary": summary, "encrypted_content": sealed});
                let part = json!({"type": "summary_text", "text": thought});
                vec![
                    json!({"type": "response.output_item.added", "output_index": 0, "item": item(json!([]), Value::Null)}),
                    json!({"type": "response.reasoning_summary_part.added", "item_id": "rs_1", "output_index": 0,
                        "summary_index": 0, "part": {"type": "summary_text", "text": ""}}),
                    json!({"type": "response.reasoning_summary_text.delta", "item_id": "rs_1", "output_index": 0,
                        "summary_index": 0, "delta": thought}),
                    json!({"type": "response.reasoning_summary_text.done", "item_id": "rs_1", "output_index": 0,
                        "summary_index": 0, "text": thought}),
                    json!({"type": "response.output_item.done", "output_index": 0,
                        "item": item(json!([part]), json!("sealed-by-openai"))}),
                ]
            }
            Self::Ollama => {
                vec![json!({"model": "m", "created_at": "2026-11-23T00:00:00Z", "done": false,
                    "message": {"role": "assistant", "content": "", "thinking": thought}})]
            }
        };
        chunks.insert(0, events.iter().flat_map(|event| self.frame(event)).collect());
        Answer::stream(self, chunks)
    }

    /// A whole reply of [`Self::Chat`] that thinks this piece so many times before it says something.
    pub fn long_thought(piece: &str, times: usize, text: &str) -> Answer {
        let mut answer = Self::Chat.text(text);
        answer.chunks.insert(0, Self::Chat.frame(&chat_thought(piece)).repeat(times));
        answer
    }

    /// A whole reply without anything in it.
    pub fn empty(self) -> Answer {
        Answer::stream(self, self.pieces(&[], &[], "stop"))
    }

    /// A reply that ends in its middle, after `chunks` pieces.
    pub fn beginning(self, chunks: usize) -> Answer {
        let mut answer = self.text("This half is lost for good.");
        answer.chunks.truncate(chunks);
        answer
    }

    /// The beginning of a reply, and then these bytes.
    pub fn then_bytes(self, bytes: &[u8]) -> Answer {
        let mut answer = self.beginning(1);
        answer.chunks.push(bytes.to_vec());
        answer
    }

    /// A good reply with an event in it that nobody knows.
    pub fn with_unknown_event(self) -> Answer {
        let mut answer = self.text(GOOD);
        let event = json!({"type": "brand_new", "object": "brand.new", "index": "seven", "model": "m", "done": false});
        answer.chunks.insert(1, self.frame(&event));
        answer
    }

    /// The beginning of a reply, and then an error in the place of a piece.
    pub fn error_in_stream(self) -> Answer {
        let error = json!({"type": "overloaded_error", "code": "server_error", "message": "Overloaded"});
        let event = match self {
            Self::Anthropic => json!({"type": "error", "error": error}),
            Self::Chat => json!({"error": error}),
            Self::Responses => json!({"type": "error", "code": "server_error", "message": "Overloaded"}),
            Self::Ollama => json!({"error": "an error was encountered while running the model: overloaded"}),
        };
        self.then_bytes(&self.frame(&event))
    }

    /// An error where a stream should be, under a status that says that all is well.
    pub fn error_alone(self) -> Answer {
        let refusal = self.refusal(200, "overloaded_error", "Overloaded");
        Answer {
            content_type: if self == Self::Ollama { "application/x-ndjson" } else { "application/json" },
            ..refusal
        }
    }

    /// A refusal, with the body that this provider gives it.
    pub fn refusal(self, status: u16, kind: &str, message: &str) -> Answer {
        let body = match self {
            Self::Anthropic => json!({"type": "error", "error": {"type": kind, "message": message}}),
            Self::Chat | Self::Responses => {
                json!({"error": {"type": kind, "code": kind, "message": message, "param": null}})
            }
            Self::Ollama => json!({"error": message}),
        };
        Answer::plain(status, "application/json", body.to_string().into_bytes())
    }

    fn frame(self, event: &Value) -> Vec<u8> {
        match self {
            Self::Ollama => format!("{event}\n").into_bytes(),
            Self::Chat => format!("data: {event}\n\n").into_bytes(),
            Self::Anthropic | Self::Responses => {
                format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or("message")).into_bytes()
            }
        }
    }

    fn pieces(self, texts: &[&str], calls: &[(&str, &str)], end: &str) -> Vec<Vec<u8>> {
        let mut events: Vec<Value> = Vec::new();
        let mut chunks: Vec<Vec<u8>> = Vec::new();
        match self {
            Self::Anthropic => {
                let usage = json!({"input_tokens": 10, "cache_read_input_tokens": 90, "output_tokens": 1});
                events.push(
                    json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant",
                    "model": "m", "content": [], "stop_reason": null, "usage": usage}}),
                );
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
                let reason = if end == "tool" { "tool_use" } else { "end_turn" };
                events.push(json!({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": null},
                    "usage": {"output_tokens": 20}}));
                events.push(json!({"type": "message_stop"}));
            }
            Self::Chat => {
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
                events.push(chunk(json!({}), json!(if end == "tool" { "tool_calls" } else { "stop" })));
                events.push(json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m",
                    "choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120,
                        "prompt_tokens_details": {"cached_tokens": 90}}}));
            }
            Self::Responses => {
                let mut output = Vec::new();
                events.push(json!({"type": "response.created", "sequence_number": 0,
                    "response": {"id": "resp_1", "object": "response", "status": "in_progress", "output": []}}));
                if !texts.is_empty() {
                    let item = json!({"type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress", "content": []});
                    events.push(json!({"type": "response.output_item.added", "output_index": 0, "item": item}));
                }
                for text in texts {
                    events.push(json!({"type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0,
                        "content_index": 0, "delta": text}));
                }
                if !texts.is_empty() {
                    let content = json!([{"type": "output_text", "text": texts.concat(), "annotations": []}]);
                    let item = json!({"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content});
                    events.push(json!({"type": "response.output_item.done", "output_index": 0, "item": item}));
                    output.push(item);
                }
                for (n, (name, arguments)) in calls.iter().enumerate() {
                    let (id, call_id) = (format!("fc_{n}"), format!("call_{n}"));
                    let item = |arguments: &str, status: &str| {
                        json!({"type": "function_call", "id": id, "call_id": call_id, "name": name,
                            "arguments": arguments, "status": status})
                    };
                    events.push(json!({"type": "response.output_item.added", "output_index": n + 1, "item": item("", "in_progress")}));
                    events.push(json!({"type": "response.function_call_arguments.delta", "item_id": id,
                        "output_index": n + 1, "delta": arguments}));
                    events.push(json!({"type": "response.function_call_arguments.done", "item_id": id,
                        "output_index": n + 1, "arguments": arguments}));
                    events.push(json!({"type": "response.output_item.done", "output_index": n + 1, "item": item(arguments, "completed")}));
                    output.push(item(arguments, "completed"));
                }
                events.push(json!({"type": "response.completed", "response": {"id": "resp_1", "object": "response",
                    "status": "completed", "output": output, "usage": {"input_tokens": 100, "output_tokens": 20,
                        "total_tokens": 120, "input_tokens_details": {"cached_tokens": 90},
                        "output_tokens_details": {"reasoning_tokens": 0}}}}));
            }
            Self::Ollama => {
                let line = |message: Value| json!({"model": "m", "created_at": "2026-11-23T00:00:00Z", "message": message, "done": false});
                for text in texts {
                    events.push(line(json!({"role": "assistant", "content": text})));
                }
                for (name, arguments) in calls {
                    // Its arguments are an object; what is none comes as text.
                    let arguments = serde_json::from_str(arguments).unwrap_or_else(|_| json!(arguments));
                    let call = json!({"function": {"name": name, "arguments": arguments}});
                    events.push(line(json!({"role": "assistant", "content": "", "tool_calls": [call]})));
                }
                events.push(
                    json!({"model": "m", "created_at": "2026-11-23T00:00:00Z", "done": true, "done_reason": "stop",
                    "message": {"role": "assistant", "content": ""}, "prompt_eval_count": 100, "eval_count": 20}),
                );
            }
        }
        // What comes before the end mark in two chunks, so that a test can stop between them.
        let last = if matches!(self, Self::Anthropic | Self::Chat) { 2 } else { 1 };
        let (before, after) = events.split_at(events.len() - last);
        let half =
            before.iter().position(|event| event.to_string().contains("half")).map_or(before.len() / 2, |at| at + 1);
        let (first, second) = before.split_at(half.min(before.len()));
        for events in [first, second, after] {
            chunks.push(events.iter().flat_map(|event| self.frame(event)).collect());
        }
        debug_assert_eq!(chunks.len(), Self::BEFORE_END + 1);
        if self == Self::Chat {
            chunks.last_mut().expect("three").extend_from_slice(b"data: [DONE]\n\n");
        }
        chunks
    }
}

/// A piece of reasoning as servers that speak chat completions give it.
fn chat_thought(piece: &str) -> Value {
    json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{"index": 0, "delta": {"reasoning_content": piece}, "finish_reason": null}]})
}

/// One answer.
#[derive(Debug, Clone)]
pub struct Answer {
    status: u16,
    content_type: &'static str,
    headers: Vec<(&'static str, String)>,
    chunks: Vec<Vec<u8>>,
    /// Waits between the bytes of a chunk, when they are to drip.
    drip: Option<Duration>,
    end: End,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Whole,
    Cut,
    Stall,
    /// Not even a head comes.
    Silence,
}

impl Answer {
    fn stream(dialect: Dialect, chunks: Vec<Vec<u8>>) -> Self {
        let content_type = if dialect == Dialect::Ollama { "application/x-ndjson" } else { "text/event-stream" };
        Self { status: 200, content_type, headers: Vec::new(), chunks, drip: None, end: End::Whole }
    }

    /// A whole answer that is no stream.
    pub fn plain(status: u16, content_type: &'static str, body: Vec<u8>) -> Self {
        Self { status, content_type, headers: Vec::new(), chunks: vec![body], drip: None, end: End::Whole }
    }

    /// No answer at all, on a connection that stays open.
    pub fn silence() -> Self {
        Self { end: End::Silence, ..Self::plain(200, "text/plain", Vec::new()) }
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The connection is cut after what there is.
    pub fn cut(self) -> Self {
        Self { end: End::Cut, ..self }
    }

    /// Nothing comes after what there is, and the connection stays open.
    pub fn stall(self) -> Self {
        Self { end: End::Stall, ..self }
    }

    /// The bytes come one by one.
    pub fn dripping(self) -> Self {
        Self { drip: Some(Duration::from_micros(200)), ..self }
    }

    async fn send(&self, socket: &mut TcpStream) -> std::io::Result<()> {
        if self.end == End::Silence {
            return wait_for_hang_up(socket).await;
        }
        let mut head = format!("HTTP/1.1 {} Status\r\ncontent-type: {}\r\n", self.status, self.content_type);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        socket.write_all(format!("{head}transfer-encoding: chunked\r\nconnection: close\r\n\r\n").as_bytes()).await?;
        for chunk in self.chunks.iter().filter(|chunk| !chunk.is_empty()) {
            let size = if self.drip.is_some() { 1 } else { chunk.len() };
            for piece in chunk.chunks(size) {
                socket.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await?;
                socket.write_all(piece).await?;
                socket.write_all(b"\r\n").await?;
                if let Some(pause) = self.drip {
                    tokio::time::sleep(pause).await;
                }
            }
        }
        match self.end {
            End::Whole => socket.write_all(b"0\r\n\r\n").await,
            End::Stall => wait_for_hang_up(socket).await,
            End::Cut | End::Silence => Ok(()),
        }
    }
}

async fn wait_for_hang_up(socket: &mut TcpStream) -> std::io::Result<()> {
    while socket.read(&mut [0; 64]).await? > 0 {}
    Ok(())
}

/// A request that came.
#[derive(Debug, Clone)]
pub struct Received {
    pub path: String,
    pub dialect: Option<Dialect>,
    pub body: Value,
    /// By their names in lower case.
    pub headers: HashMap<String, String>,
}

impl Received {
    pub fn model(&self) -> &str {
        self.body["model"].as_str().unwrap_or_default()
    }
}

#[derive(Default)]
struct Shared {
    scripts: Mutex<HashMap<(Dialect, String), VecDeque<Answer>>>,
    received: Mutex<Vec<Received>>,
}

/// All the providers, at one address. They end when this is dropped.
pub struct Providers {
    pub url: String,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

impl Providers {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared::default());
        let mut tasks = JoinSet::new();
        let state = shared.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                connections.spawn(serve(socket, state.clone()));
            }
        });
        Self { url, shared, _tasks: tasks }
    }

    /// What a model answers, one request after another.
    pub fn script(&self, dialect: Dialect, model: &str, answers: impl IntoIterator<Item = Answer>) {
        let mut scripts = self.shared.scripts.lock().unwrap();
        scripts.entry((dialect, model.to_owned())).or_default().extend(answers);
    }

    /// The requests for replies so far.
    pub fn received(&self, dialect: Dialect, model: &str) -> Vec<Received> {
        let received = self.shared.received.lock().unwrap();
        received.iter().filter(|r| r.dialect == Some(dialect) && r.model() == model).cloned().collect()
    }

    /// The YAML of these providers: one of each protocol by its name, which takes any model.
    pub fn yaml(&self) -> String {
        "providers:\n".to_owned() + &Dialect::ALL.map(|d| self.entry(&d.provider(), d, "60s")).concat()
    }

    /// The YAML of one more, which waits for so long.
    pub fn entry(&self, name: &str, dialect: Dialect, read_timeout: &str) -> String {
        let (protocol, url) = (dialect.protocol(), &self.url);
        format!(
            "  {name}:\n    protocol: {protocol}\n    base_url: {url}\n    api_key: test-key-of-no-use\n    read_timeout: {read_timeout}\n"
        )
    }
}

async fn serve(mut socket: TcpStream, shared: Arc<Shared>) {
    let Some(received) = read_request(&mut socket).await else { return };
    let (dialect, model) = (received.dialect, received.model().to_owned());
    let show = received.path == "/api/show";
    shared.received.lock().unwrap().push(received);
    let answer = match dialect {
        Some(dialect) => {
            let mut scripts = shared.scripts.lock().unwrap();
            let next = scripts.get_mut(&(dialect, model)).and_then(VecDeque::pop_front);
            next.unwrap_or_else(|| dialect.text(GOOD))
        }
        None if show => {
            let info = json!({"general.architecture": "test", "test.context_length": 40_960});
            Answer::plain(200, "application/json", json!({"model_info": info}).to_string().into_bytes())
        }
        None => Answer::plain(404, "text/plain", b"404 page not found".to_vec()),
    };
    // A client that has hung up is no fault of the server.
    let _ = answer.send(&mut socket).await;
}

async fn read_request(socket: &mut TcpStream) -> Option<Received> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let mut lines = head.lines();
    let path = lines.next()?.split(' ').nth(1)?.split('?').next()?.to_owned();
    let headers: HashMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers.get("content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
    while bytes.len() < end + length {
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let body = serde_json::from_slice(&bytes[end..]).unwrap_or_default();
    Some(Received { dialect: Dialect::of_path(&path), path, body, headers })
}
