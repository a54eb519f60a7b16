//! The WebSocket of one session, held up: it connects again with backoff and goes on from the last event seen, and keeps
//! every command until it is acknowledged. A command that is sent again carries the same id, so it is taken once.

use std::{collections::VecDeque, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{self, Message, client::IntoClientRequest as _, http::header::AUTHORIZATION},
};

use super::client::{Client, problem};

/// Connecting may take this long.
const CONNECT: Duration = Duration::from_secs(10);
/// The service sends a ping every 20 s; a connection that is silent for this long is dead.
const SILENCE: Duration = Duration::from_secs(65);

/// What a link reports.
#[derive(Debug, Clone, PartialEq)]
pub enum LinkEvent {
    /// A frame of the service.
    Frame(Value),
    /// The connection is lost, or could not be made; it is tried again after the wait.
    Lost {
        /// Why.
        why: String,
        /// The wait.
        wait: Duration,
    },
    /// The service has no such session (any more): the link has ended.
    Gone(String),
}

/// The handle of a link; the link ends when it is dropped.
pub struct Link {
    commands: mpsc::Sender<Value>,
    events: mpsc::Receiver<LinkEvent>,
    task: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Link {
    /// Begins to connect. Without `after` the session begins with a snapshot.
    #[must_use]
    pub fn open(client: Client, session: String, after: Option<u64>) -> Self {
        let (commands, to_send) = mpsc::channel(32);
        let (report, events) = mpsc::channel(256);
        let keeper =
            Keeper { client, session, cursor: after, to_send, report, unacknowledged: VecDeque::new(), waits: None };
        Self { commands, events, task: tokio::spawn(keeper.run()) }
    }

    /// Sends a command, now or when there is a connection again.
    pub async fn send(&self, command: Value) {
        // The task ends only after it has reported `Gone`, which the caller hears next.
        let _ = self.commands.send(command).await;
    }

    /// The next report; `None` after `Gone`.
    pub async fn next(&mut self) -> Option<LinkEvent> {
        self.events.recv().await
    }
}

struct Unacknowledged {
    command: Value,
    /// How often it was sent.
    sent: u32,
}

struct Keeper {
    client: Client,
    session: String,
    /// The seq of the newest event received; `None` until there is a snapshot.
    cursor: Option<u64>,
    to_send: mpsc::Receiver<Value>,
    report: mpsc::Sender<LinkEvent>,
    unacknowledged: VecDeque<Unacknowledged>,
    /// The waits before the next attempts, while there is no connection.
    waits: Option<backon::ExponentialBackoff>,
}

/// Why a connection ended.
enum End {
    /// Try again.
    Lost(String),
    /// There is nothing to connect to.
    Gone(String),
    /// Nobody listens any more.
    Dropped,
}

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

impl Keeper {
    async fn run(mut self) {
        loop {
            let end = match self.connect().await {
                Ok(socket) => self.exchange(socket).await,
                Err(end) => end,
            };
            let why = match end {
                End::Dropped => return,
                End::Gone(why) => {
                    let _ = self.report.send(LinkEvent::Gone(why)).await;
                    return;
                }
                End::Lost(why) => why,
            };
            let waits = self.waits.get_or_insert_with(|| {
                let (first, longest) = (Duration::from_millis(200), Duration::from_secs(5));
                let builder = ExponentialBuilder::default().with_min_delay(first).with_max_delay(longest);
                builder.with_jitter().without_max_times().build()
            });
            let wait = waits.next().unwrap_or(Duration::from_secs(5));
            if self.report.send(LinkEvent::Lost { why, wait }).await.is_err() {
                return;
            }
            sleep(wait).await;
        }
    }

    async fn connect(&self) -> Result<Socket, End> {
        let url = self.client.events_url(&self.session, self.cursor);
        let mut request = url.into_client_request().map_err(|error| End::Gone(error.to_string()))?;
        if let Some(authorization) = self.client.authorization() {
            request.headers_mut().insert(AUTHORIZATION, authorization);
        }
        match timeout(CONNECT, connect_async(request)).await {
            Ok(Ok((socket, _))) => Ok(socket),
            Ok(Err(tungstenite::Error::Http(response))) => {
                let status = response.status().as_u16();
                let body = response.body().as_deref().unwrap_or_default();
                let words = problem(status, body);
                let code =
                    serde_json::from_slice::<Value>(body).ok().and_then(|p| p["code"].as_str().map(str::to_owned));
                // 408 and 429 ask to come again; any other 4xx, and a damaged session, will be the same the next time.
                let lasting = code.as_deref() == Some("session_damaged");
                let again = (status >= 500 && !lasting) || matches!(status, 408 | 429);
                Err(if again { End::Lost(words) } else { End::Gone(words) })
            }
            Ok(Err(error)) => Err(End::Lost(error.to_string())),
            Err(_) => Err(End::Lost(format!("no answer within {} s", CONNECT.as_secs()))),
        }
    }

    async fn exchange(&mut self, socket: Socket) -> End {
        let (mut up, mut down) = socket.split();
        for waiting in &mut self.unacknowledged {
            waiting.sent += 1;
            if let Err(error) = up.send(Message::text(waiting.command.to_string())).await {
                return End::Lost(error.to_string());
            }
        }
        loop {
            let message = tokio::select! {
                command = self.to_send.recv() => {
                    let Some(command) = command else { return End::Dropped };
                    let text = command.to_string();
                    self.unacknowledged.push_back(Unacknowledged { command, sent: 1 });
                    if let Err(error) = up.send(Message::text(text)).await {
                        return End::Lost(error.to_string());
                    }
                    continue;
                }
                message = timeout(SILENCE, down.next()) => message,
            };
            let text = match message {
                Err(_) => return End::Lost(format!("nothing was heard for {} s", SILENCE.as_secs())),
                Ok(None) => return End::Lost("the connection was closed".to_owned()),
                Ok(Some(Err(error))) => return End::Lost(error.to_string()),
                Ok(Some(Ok(Message::Text(text)))) => text,
                Ok(Some(Ok(Message::Close(frame)))) => {
                    let why = frame.map(|f| f.reason.to_string()).filter(|reason| !reason.is_empty());
                    return End::Lost(why.unwrap_or_else(|| "the service closed the connection".to_owned()));
                }
                // Pings are answered by the library; their coming is all that counts.
                Ok(Some(Ok(_))) => continue,
            };
            let Ok(frame) = serde_json::from_str::<Value>(&text) else { continue };
            if let Some(frame) = self.received(frame)
                && self.report.send(LinkEvent::Frame(frame)).await.is_err()
            {
                return End::Dropped;
            }
        }
    }

    /// Keeps the books: where the stream is, what is acknowledged. `None` for what was seen before.
    fn received(&mut self, frame: Value) -> Option<Value> {
        match frame["type"].as_str() {
            Some("hello") => self.waits = None,
            Some("snapshot") => self.cursor = frame["as_of_seq"].as_u64().or(self.cursor),
            Some(kind @ ("ack" | "error")) => {
                let Some(id) = frame["command_id"].as_str() else { return Some(frame) };
                let at = self.unacknowledged.iter().position(|waiting| waiting.command["command_id"] == id);
                let answered = at.and_then(|at| self.unacknowledged.remove(at));
                let again = answered.is_some_and(|waiting| waiting.sent > 1);
                // The first sending was taken after all, and only its acknowledgement was lost.
                if kind == "error" && again && (frame["code"] == "approval_closed" || frame["code"] == "input_closed") {
                    return None;
                }
            }
            _ => {
                if let Some(seq) = frame["seq"].as_u64() {
                    if self.cursor.is_some_and(|cursor| seq <= cursor) {
                        return None;
                    }
                    self.cursor = Some(seq);
                }
            }
        }
        Some(frame)
    }
}
