//! The WebSocket of one session, kept open.
//!
//! It reconnects with exponential backoff, resumes after the last event that was received, and keeps every command until
//! the service acknowledges it. A command that is sent again carries the same id, so the service applies it once.

use std::{collections::VecDeque, mem, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use futures_util::{SinkExt as _, StreamExt as _, stream::SplitSink};
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

use super::{
    api_client::{ApiClient, problem_message},
    message_upload::has_attachments,
};

/// Time limit of opening the WebSocket.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The service sends a ping every 20 s; a connection without any data for this long is dead.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(65);
/// Wait before the first attempt to reconnect.
const MIN_RECONNECT_DELAY: Duration = Duration::from_millis(200);
/// Longest wait between two attempts to reconnect.
const MAX_RECONNECT_DELAY: Duration = Duration::from_secs(5);

/// Why a connection was lost, or could not be opened.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum SessionConnectionError {
    /// The service rejected the WebSocket.
    #[error("{0}")]
    Rejected(String),
    /// The WebSocket was not opened in time.
    #[error("no answer within {} s", CONNECT_TIMEOUT.as_secs())]
    ConnectTimeout,
    /// No data arrived for too long, not even a ping.
    #[error("no data received for {} s", SILENCE_TIMEOUT.as_secs())]
    SilenceTimeout,
    /// The service closed the connection.
    #[error("{0}")]
    Closed(String),
    /// The WebSocket failed.
    #[error(transparent)]
    WebSocket(Box<tungstenite::Error>),
}

/// What a connection reports.
#[derive(Debug)]
pub(in crate::cli) enum ConnectionEvent {
    /// A frame from the service.
    Frame(Value),
    /// The connection was lost or could not be opened. Another attempt follows.
    Lost(SessionConnectionError),
    /// The service does not have the session, or not any more. No other event follows.
    Ended(SessionConnectionError),
}

/// The handle of a connection, which is closed when the handle is dropped.
pub(in crate::cli) struct SessionConnection {
    commands: mpsc::Sender<Value>,
    events: mpsc::Receiver<ConnectionEvent>,
    task: JoinHandle<()>,
}

impl Drop for SessionConnection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl SessionConnection {
    /// Opens the WebSocket of a session in the background. Without `after` the first frame is a snapshot.
    #[must_use]
    pub(in crate::cli) fn open(client: ApiClient, session: String, after: Option<u64>) -> Self {
        let (commands, pending) = mpsc::channel(32);
        let (reports, events) = mpsc::channel(256);
        let task = ConnectionTask {
            client,
            session,
            cursor: after,
            pending,
            reports,
            unacknowledged: VecDeque::new(),
            reconnect_delays: None,
        };
        Self { commands, events, task: tokio::spawn(task.run()) }
    }

    /// Sends a command, as soon as there is a connection.
    pub(in crate::cli) async fn send_command(&self, command: Value) {
        // The task ends only after `Ended`, which the caller receives next.
        let _ = self.commands.send(command).await;
    }

    /// Waits for the next event; `None` after `Ended`.
    pub(in crate::cli) async fn next_event(&mut self) -> Option<ConnectionEvent> {
        self.events.recv().await
    }
}

struct UnacknowledgedCommand {
    command: Value,
    times_sent: u32,
}

struct ConnectionTask {
    client: ApiClient,
    session: String,
    /// The seq of the newest event received; `None` until a snapshot arrives.
    cursor: Option<u64>,
    pending: mpsc::Receiver<Value>,
    reports: mpsc::Sender<ConnectionEvent>,
    unacknowledged: VecDeque<UnacknowledgedCommand>,
    /// The waits before the next attempts, while there is no connection.
    reconnect_delays: Option<backon::ExponentialBackoff>,
}

/// Why an attempt to use the WebSocket ended.
enum ConnectionEnd {
    /// Another attempt may succeed.
    Retry(SessionConnectionError),
    /// Another attempt would fail the same way.
    Permanent(SessionConnectionError),
    /// The handle was dropped.
    HandleDropped,
}

impl From<tungstenite::Error> for ConnectionEnd {
    fn from(error: tungstenite::Error) -> Self {
        Self::Retry(SessionConnectionError::WebSocket(Box::new(error)))
    }
}

type SessionSocket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

impl ConnectionTask {
    async fn run(mut self) {
        loop {
            let end = match self.open_socket().await {
                Ok(socket) => self.exchange_messages(socket).await,
                Err(end) => end,
            };
            let error = match end {
                ConnectionEnd::HandleDropped => return,
                ConnectionEnd::Permanent(error) => {
                    let _ = self.reports.send(ConnectionEvent::Ended(error)).await;
                    return;
                }
                ConnectionEnd::Retry(error) => error,
            };
            let delays = self.reconnect_delays.get_or_insert_with(|| {
                let builder = ExponentialBuilder::default().with_min_delay(MIN_RECONNECT_DELAY);
                builder.with_max_delay(MAX_RECONNECT_DELAY).with_jitter().without_max_times().build()
            });
            let delay = delays.next().unwrap_or(MAX_RECONNECT_DELAY);
            if self.reports.send(ConnectionEvent::Lost(error)).await.is_err() {
                return;
            }
            sleep(delay).await;
        }
    }

    async fn open_socket(&self) -> Result<SessionSocket, ConnectionEnd> {
        let url = self.client.events_url(&self.session, self.cursor);
        let invalid = |error| ConnectionEnd::Permanent(SessionConnectionError::WebSocket(Box::new(error)));
        let mut request = url.into_client_request().map_err(invalid)?;
        if let Some(authorization) = self.client.authorization_header() {
            request.headers_mut().insert(AUTHORIZATION, authorization);
        }
        match timeout(CONNECT_TIMEOUT, connect_async(request)).await {
            Ok(Ok((socket, _))) => Ok(socket),
            Ok(Err(tungstenite::Error::Http(response))) => {
                let status = response.status().as_u16();
                let body = response.body().as_deref().unwrap_or_default();
                let error = SessionConnectionError::Rejected(problem_message(status, body));
                Err(if is_retryable(status, body) {
                    ConnectionEnd::Retry(error)
                } else {
                    ConnectionEnd::Permanent(error)
                })
            }
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(ConnectionEnd::Retry(SessionConnectionError::ConnectTimeout)),
        }
    }

    async fn exchange_messages(&mut self, socket: SessionSocket) -> ConnectionEnd {
        let (mut outgoing, mut incoming) = socket.split();
        let mut commands = mem::take(&mut self.unacknowledged);
        while let Some(command) = commands.pop_front() {
            if let Err(end) = self.submit_command(command, &mut outgoing).await {
                self.unacknowledged.append(&mut commands);
                return end;
            }
        }
        loop {
            let message = tokio::select! {
                command = self.pending.recv() => {
                    let Some(command) = command else { return ConnectionEnd::HandleDropped };
                    let command = UnacknowledgedCommand { command, times_sent: 0 };
                    if let Err(end) = self.submit_command(command, &mut outgoing).await {
                        return end;
                    }
                    continue;
                }
                message = timeout(SILENCE_TIMEOUT, incoming.next()) => message,
            };
            let closed = |reason: &str| ConnectionEnd::Retry(SessionConnectionError::Closed(reason.to_owned()));
            let text = match message {
                Err(_) => return ConnectionEnd::Retry(SessionConnectionError::SilenceTimeout),
                Ok(None) => return closed("the connection was closed"),
                Ok(Some(Err(error))) => return error.into(),
                Ok(Some(Ok(Message::Text(text)))) => text,
                Ok(Some(Ok(Message::Close(frame)))) => {
                    let reason = frame.map(|f| f.reason.to_string()).filter(|reason| !reason.is_empty());
                    return closed(reason.as_deref().unwrap_or("the service closed the connection"));
                }
                // The library answers pings; receiving one is enough to show that the connection is alive.
                Ok(Some(Ok(_))) => continue,
            };
            let Ok(frame) = serde_json::from_str::<Value>(&text) else { continue };
            if let Err(end) = self.report_frame(frame).await {
                return end;
            }
        }
    }

    /// Sends a command and keeps it until it is acknowledged.
    async fn submit_command(
        &mut self,
        command: UnacknowledgedCommand,
        outgoing: &mut SplitSink<SessionSocket, Message>,
    ) -> Result<(), ConnectionEnd> {
        let UnacknowledgedCommand { command, times_sent } = command;
        self.unacknowledged.push_back(UnacknowledgedCommand { command: command.clone(), times_sent: times_sent + 1 });
        if !has_attachments(&command) {
            return Ok(outgoing.send(Message::text(command.to_string())).await?);
        }
        match self.client.upload_message(&self.session, &command).await {
            Ok(reply) => self.report_frame(reply).await,
            Err(error) => Err(ConnectionEnd::Retry(SessionConnectionError::Closed(error.to_string()))),
        }
    }

    async fn report_frame(&mut self, frame: Value) -> Result<(), ConnectionEnd> {
        let Some(frame) = self.track_frame(frame) else { return Ok(()) };
        self.reports.send(ConnectionEvent::Frame(frame)).await.map_err(|_| ConnectionEnd::HandleDropped)
    }

    /// Updates the cursor and the unacknowledged commands. Returns `None` for a frame that the user must not see again.
    fn track_frame(&mut self, frame: Value) -> Option<Value> {
        match frame["type"].as_str() {
            Some("hello") => self.reconnect_delays = None,
            Some("snapshot") => self.cursor = frame["as_of_seq"].as_u64().or(self.cursor),
            Some(frame_type @ ("ack" | "error")) => {
                let Some(id) = frame["command_id"].as_str() else { return Some(frame) };
                let at = self.unacknowledged.iter().position(|sent| sent.command["command_id"] == id);
                let acknowledged = at.and_then(|at| self.unacknowledged.remove(at));
                let sent_again = acknowledged.is_some_and(|sent| sent.times_sent > 1);
                let already_answered = frame["code"] == "approval_closed" || frame["code"] == "input_closed";
                // The service applied the command the first time, and only the acknowledgement was lost.
                if frame_type == "error" && sent_again && already_answered {
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

/// Returns whether a rejected WebSocket is worth another attempt: 408 and 429 invite one. Any other 4xx, and a damaged
/// session, would fail the same way.
fn is_retryable(status: u16, body: &[u8]) -> bool {
    let problem: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let damaged = problem["code"] == "session_damaged";
    (status >= 500 && !damaged) || matches!(status, 408 | 429)
}
