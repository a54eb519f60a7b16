//! Shared test code: builders, and a provider that sends scripted responses over TCP.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt as _;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinSet,
};

use k8sops_core::{
    AssistantMessage, ChatMessage, MessageId, RequestForm, StopReason, Timestamp, TokenUsage, ToolCall, ToolMessage,
    ToolStatus, UserMessage,
};

use crate::{
    ChatRequest, DialectChoice, FoundTools, ModelError, ModelErrorKind, ModelOptions, ModelReply, ProviderOptions,
    ProviderProtocol, ReplyDelta, ReplyStream, ToolChoice, ToolSpec,
    error_mapping::{ProviderCall, ProviderEndpoint},
    event_framing::{EventFraming, ProviderEvent},
    event_stream::ProviderEventStream,
    reply_assembly::{EventProgress, ReplyAssembler, reply_stream},
};

pub(crate) const KEY: &str = "sk-test-key-that-must-not-leak";

pub(crate) fn user_message(text: &str) -> Arc<ChatMessage> {
    let content = text.to_owned();
    Arc::new(ChatMessage::User(UserMessage { seq: 1, ..UserMessage::unlogged(content) }))
}

pub(crate) fn assistant_message(text: &str, tool_calls: Vec<ToolCall>) -> Arc<ChatMessage> {
    Arc::new(ChatMessage::Assistant(AssistantMessage {
        message_id: MessageId::new(),
        seq: 1,
        ts: Timestamp::now(),
        run_id: None,
        content: text.to_owned(),
        reasoning: Some("private".to_owned()),
        tool_calls,
        citations: Vec::new(),
        stop_reason: StopReason::EndTurn,
        provider: Some("test".to_owned()),
        model: Some("test-model".to_owned()),
        provider_data: None,
        usage: TokenUsage::default(),
        feedback: None,
    }))
}

pub(crate) fn tool_call(id: &str, name: &str, arguments: Value) -> ToolCall {
    ToolCall { id: id.parse().unwrap(), name: name.to_owned(), arguments }
}

pub(crate) fn tool_message(id: &str, status: ToolStatus, content: &str) -> Arc<ChatMessage> {
    Arc::new(ChatMessage::Tool(ToolMessage {
        tool_call_id: id.parse().unwrap(),
        seq: 1,
        ts: Timestamp::now(),
        number: 1,
        name: "x".to_owned(),
        status,
        content: content.to_owned(),
    }))
}

/// Returns the logged message of a reply, with calls that have the ids `c0`, `c1`, ….
pub(crate) fn message_from_reply(reply: ModelReply) -> Arc<ChatMessage> {
    let calls = reply.tool_calls.iter().enumerate();
    let calls = calls.map(|(n, call)| tool_call(&format!("c{n}"), &call.name, call.arguments.clone())).collect();
    match &*assistant_message(&reply.content, calls) {
        ChatMessage::Assistant(message) => Arc::new(ChatMessage::Assistant(AssistantMessage {
            reasoning: reply.reasoning,
            provider_data: reply.provider_data,
            ..message.clone()
        })),
        _ => unreachable!(),
    }
}

/// Returns a conversation with everything that a provider has to convert.
pub(crate) fn sample_conversation() -> Vec<Arc<ChatMessage>> {
    vec![
        user_message("what is broken?"),
        user_message("in shop"),
        assistant_message(
            "Looking.",
            vec![
                tool_call("call_1", "pods_list", json!({"namespace": "shop"})),
                tool_call("call_2", "pods get", json!("{\"name\": ")),
            ],
        ),
        tool_message("call_2", ToolStatus::Error, "bad arguments"),
        tool_message("call_1", ToolStatus::Ok, "cart CrashLoopBackOff"),
        assistant_message("", vec![tool_call("call_3", "restart", json!({}))]),
        user_message("did it work?"),
        assistant_message(" ", vec![]),
    ]
}

fn pods_list_tool() -> ToolSpec {
    let input_schema = Map::from_iter([("type".to_owned(), json!("object")), ("properties".to_owned(), json!({}))]);
    ToolSpec { name: "pods_list".into(), description: "Lists pods.".into(), input_schema }
}

pub(crate) fn chat_request(messages: Vec<Arc<ChatMessage>>) -> ChatRequest {
    ChatRequest {
        provider: "test".to_owned(),
        model: "test-model".to_owned(),
        system: "Be brief.".into(),
        messages,
        tools: [pods_list_tool()].into(),
        found_tools: FoundTools::default(),
        tool_choice: ToolChoice::Auto,
        temperature: None,
        max_tokens: None,
        reasoning: None,
        form: RequestForm::Native,
    }
}

/// Returns a tool without arguments.
pub(crate) fn tool_spec(name: &str) -> ToolSpec {
    ToolSpec { name: name.to_owned(), description: format!("The tool {name}."), ..pods_list_tool() }
}

/// Returns what each search found: the id of its call, and the names of the tools in one text.
pub(crate) fn found_tools(searches: &[(&str, &str)]) -> FoundTools {
    searches.iter().map(|(id, names)| (id.parse().unwrap(), names.split(' ').map(tool_spec).collect())).collect()
}

pub(crate) fn provider_config(protocol: ProviderProtocol, base_url: &str) -> ProviderOptions {
    ProviderOptions {
        name: "Test provider".to_owned(),
        protocol,
        dialect: DialectChoice::default(),
        base_url: base_url.to_owned(),
        api_key: Some(KEY.into()),
        key_optional: false,
        key_variable: "TEST_API_KEY".to_owned(),
        connect_timeout: Duration::from_secs(5),
        read_timeout: Duration::from_secs(20),
        headers: BTreeMap::new(),
        max_context: 32_768,
        keep_alive: None,
        models: vec![ModelOptions { name: "Test".to_owned(), ..ModelOptions::named("test-model", "") }],
    }
}

pub(crate) fn test_call() -> ProviderCall {
    let endpoint = ProviderEndpoint {
        name: "Test provider".to_owned(),
        host: "127.0.0.1".to_owned(),
        key: Some(KEY.into()),
        secrets: Vec::new(),
        key_variable: "TEST_API_KEY".to_owned(),
    };
    ProviderCall {
        endpoint: Arc::new(endpoint),
        model: "test-model".to_owned(),
        request_id: None,
        wait_fields: Vec::new(),
    }
}

/// A reply as its consumer sees it.
#[derive(Debug, PartialEq)]
pub(crate) struct ObservedReply {
    pub(crate) text: String,
    pub(crate) reasoning: String,
    pub(crate) end: Result<ModelReply, ModelError>,
}

pub(crate) async fn collect_reply(mut stream: ReplyStream) -> ObservedReply {
    let mut seen = ObservedReply {
        text: String::new(),
        reasoning: String::new(),
        end: Err(ModelError::new(ModelErrorKind::Network, "none")),
    };
    while let Some(item) = stream.next().await {
        match item {
            Ok(ReplyDelta::Text(text)) => seen.text.push_str(&text),
            Ok(ReplyDelta::Reasoning(text)) => seen.reasoning.push_str(&text),
            Ok(ReplyDelta::Done(reply)) => {
                seen.end = Ok(*reply);
                assert!(stream.next().await.is_none(), "an item follows the reply");
                break;
            }
            Err(error) => {
                seen.end = Err(error);
                assert!(stream.next().await.is_none(), "an item follows the error");
                break;
            }
        }
    }
    if let Ok(reply) = &seen.end {
        assert_eq!(reply.content, seen.text, "the reply equals the streamed text");
        assert_eq!(reply.reasoning.as_deref().unwrap_or_default(), seen.reasoning);
    }
    seen
}

/// Assembles the reply in a body that arrives in pieces of `size` bytes.
pub(crate) async fn assemble_sse<A: ReplyAssembler>(assembler: A, body: &[u8], size: usize) -> ObservedReply {
    assemble_framed(EventFraming::Sse, assembler, body, size).await
}

/// Assembles the reply in a body with this framing.
pub(crate) async fn assemble_framed<A: ReplyAssembler>(
    framing: EventFraming,
    assembler: A,
    body: &[u8],
    size: usize,
) -> ObservedReply {
    let pieces: Vec<_> = body.chunks(size).map(|piece| Ok(bytes::Bytes::copy_from_slice(piece))).collect();
    let events =
        ProviderEventStream::new(futures_util::stream::iter(pieces), framing, Duration::from_secs(5), test_call());
    collect_reply(reply_stream(events, assembler, Vec::new())).await
}

/// Returns a reply that arrives slowly: every 20 s one event, `first` for `count` times and then only `then`. The read
/// timeout is 30 s. The test must pause the time.
pub(crate) fn slow_reply_stream(
    assembler: impl ReplyAssembler,
    first: &'static str,
    count: usize,
    then: &'static str,
) -> ReplyStream {
    let pieces = std::iter::repeat_n(first, count).chain(std::iter::repeat(then));
    let bytes = futures_util::stream::iter(pieces).then(|piece| async move {
        tokio::time::sleep(Duration::from_secs(20)).await;
        Ok(bytes::Bytes::from(format!("{piece}\n\n")))
    });
    reply_stream(
        ProviderEventStream::new(bytes, EventFraming::Sse, Duration::from_secs(30), test_call()),
        assembler,
        Vec::new(),
    )
}

/// Feeds events to an assembler without a stream.
pub(crate) fn assemble_events<A: ReplyAssembler>(
    assembler: &mut A,
    events: &[Value],
) -> Result<ModelReply, ModelError> {
    let mut out = VecDeque::new();
    for data in events {
        let event = ProviderEvent { data: data.to_string(), ..ProviderEvent::default() };
        if assembler.apply_event(&event, &mut out)? == EventProgress::End {
            break;
        }
    }
    assembler.finish_reply()
}

/// A response of the scripted provider.
pub(crate) struct ScriptedResponse {
    bytes: Vec<u8>,
    then: Then,
}

#[derive(Clone, Copy, PartialEq)]
enum Then {
    /// The connection can be reused for the next request.
    KeepAlive,
    Close,
    /// The connection stays open without further data until the client closes it.
    Stall,
}

impl ScriptedResponse {
    /// Sends an event stream in these chunks, with a regular end.
    pub(crate) fn stream(chunks: &[&str]) -> Self {
        let mut answer = Self::open(chunks);
        answer.bytes.extend_from_slice(b"0\r\n\r\n");
        answer.then = Then::KeepAlive;
        answer
    }

    /// Sends an event stream that is cut after these chunks.
    pub(crate) fn cut(chunks: &[&str]) -> Self {
        Self::open(chunks)
    }

    /// Sends an event stream that stalls after these chunks.
    pub(crate) fn stall(chunks: &[&str]) -> Self {
        Self { then: Then::Stall, ..Self::open(chunks) }
    }

    /// Sends nothing and keeps the connection open.
    pub(crate) fn silence() -> Self {
        Self { bytes: Vec::new(), then: Then::Stall }
    }

    /// Sends JSON lines in these chunks, with a regular end.
    pub(crate) fn lines(chunks: &[&str]) -> Self {
        let mut answer = Self::stream(chunks);
        let head = String::from_utf8_lossy(&answer.bytes).replacen("text/event-stream", "application/x-ndjson", 1);
        answer.bytes = head.into_bytes();
        answer
    }

    /// Sends a complete response that is not a stream.
    pub(crate) fn plain(status: u16, headers: &str, body: &str) -> Self {
        let head = format!("HTTP/1.1 {status} Status\r\n{headers}content-length: {}\r\n\r\n{body}", body.len());
        Self { bytes: head.into_bytes(), then: Then::Close }
    }

    fn open(chunks: &[&str]) -> Self {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        let mut bytes = head.as_bytes().to_vec();
        for chunk in chunks {
            bytes.extend_from_slice(format!("{:x}\r\n{chunk}\r\n", chunk.len()).as_bytes());
        }
        Self { bytes, then: Then::Close }
    }
}

/// A request that the scripted provider received.
#[derive(Debug, Clone)]
pub(crate) struct ReceivedRequest {
    pub(crate) head: String,
    pub(crate) body: Value,
}

#[derive(Default)]
struct ProviderScript {
    answers: Mutex<VecDeque<ScriptedResponse>>,
    received: Mutex<Vec<ReceivedRequest>>,
    connections: AtomicUsize,
    hung_up: Notify,
}

/// A provider on the loopback interface that sends scripted responses. It stops when it is dropped.
pub(crate) struct ScriptedProvider {
    pub(crate) url: String,
    script: Arc<ProviderScript>,
    _tasks: JoinSet<()>,
}

impl ScriptedProvider {
    pub(crate) async fn start(answers: impl IntoIterator<Item = ScriptedResponse>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let script = Arc::new(ProviderScript {
            answers: Mutex::new(answers.into_iter().collect()),
            ..ProviderScript::default()
        });
        let mut tasks = JoinSet::new();
        let shared = Arc::clone(&script);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                shared.connections.fetch_add(1, Ordering::Relaxed);
                connections.spawn(serve(socket, Arc::clone(&shared)));
            }
        });
        Self { url, script, _tasks: tasks }
    }

    pub(crate) fn received(&self) -> Vec<ReceivedRequest> {
        self.script.received.lock().clone()
    }

    /// Waits until the client closes a stalled connection.
    pub(crate) async fn hung_up(&self) {
        let limit = Duration::from_secs(10);
        tokio::time::timeout(limit, self.script.hung_up.notified()).await.expect("the client hangs up");
    }

    pub(crate) fn connections(&self) -> usize {
        self.script.connections.load(Ordering::Relaxed)
    }
}

async fn serve(mut socket: TcpStream, script: Arc<ProviderScript>) {
    while let Some(received) = read_request(&mut socket).await {
        script.received.lock().push(received);
        let answer = script.answers.lock().pop_front().expect("the script has an answer for each request");
        if socket.write_all(&answer.bytes).await.is_err() {
            return;
        }
        match answer.then {
            Then::KeepAlive => {}
            Then::Close => return,
            Then::Stall => {
                while socket.read(&mut [0; 64]).await.is_ok_and(|n| n > 0) {}
                script.hung_up.notify_one();
                return;
            }
        }
    }
}

async fn read_request(socket: &mut TcpStream) -> Option<ReceivedRequest> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |v| v.parse().unwrap());
    while bytes.len() < end + length {
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some(ReceivedRequest { head, body: serde_json::from_slice(&bytes[end..]).unwrap_or_default() })
}
