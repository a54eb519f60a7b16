//! A client that works as the documentation recommends: it retries messages with an `Idempotency-Key` until they are
//! accepted, follows the session's events with `Last-Event-ID`, and reconnects when a stream breaks. It records all
//! events that it receives.

use parking_lot::{Mutex, MutexGuard};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use eventsource_stream::Eventsource;
use futures_util::StreamExt;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// A request that takes longer is retried: its replica may be paused.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// A message must be accepted within this time, regardless of faults of single replicas.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(60);
/// A stream is broken after this time without data; heartbeats arrive every 15 s.
const READ_TIMEOUT: Duration = Duration::from_secs(20);
/// A session with work must have a new event within this time: the time of several takeovers.
const STALL_TIMEOUT: Duration = Duration::from_secs(90);

/// A session, with the events that its client has received.
pub(crate) struct ClientSession {
    pub index: usize,
    pub id: String,
    /// Number of commits since the start of the turn, counted by the commit watcher.
    pub commits: AtomicU32,
    // A synchronous mutex: held to record an event, never across an await.
    observed: Mutex<ObservedStream>,
    newest_seq: watch::Sender<u64>,
}

/// What the client has received.
#[derive(Default)]
pub(crate) struct ObservedStream {
    /// Logged events in the order of their arrival.
    pub events: Vec<Value>,
    last_seq: u64,
    /// Seqs that were skipped.
    pub skipped: u64,
    /// Events that arrived again.
    pub repeated: u64,
    /// Events that first arrived after later ones.
    pub out_of_order: u64,
    /// Previews whose offset or text did not match the text before.
    pub misplaced_previews: u64,
    pub tokens: u64,
    /// Connections after the first.
    pub reconnects: u64,
    /// Retries of messages.
    pub retries: u64,
    pub accepted: Vec<AcceptedMessage>,
    /// Messages for which one `Idempotency-Key` returned different receipts.
    pub accepted_twice: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct AcceptedMessage {
    pub message_id: String,
    pub run_id: String,
}

/// The text of a message that a connection has received as previews.
#[derive(Default)]
struct PreviewText {
    message_id: String,
    text: String,
}

impl ObservedStream {
    /// Records a frame of a connection.
    fn record_frame(&mut self, frame: Value, preview: &mut PreviewText) {
        let text = |name: &str| frame[name].as_str().unwrap_or_default();
        if let Some(seq) = frame["seq"].as_u64() {
            if frame["type"] == "assistant_message" && text("message_id") == preview.message_id {
                // The previews are the message or its beginning.
                self.misplaced_previews += u64::from(!text("content").starts_with(&preview.text));
            }
            if seq > self.last_seq {
                self.skipped += seq - self.last_seq - 1;
                self.last_seq = seq;
            } else if self.events.iter().any(|event| event["seq"] == seq) {
                self.repeated += 1;
            } else {
                self.out_of_order += 1;
            }
            self.events.push(frame);
        } else if frame["type"] == "token" {
            self.tokens += 1;
            if frame["offset"] == 0 {
                *preview = PreviewText { message_id: text("message_id").to_owned(), text: String::new() };
            }
            let continues = frame["offset"] == preview.text.len() && text("message_id") == preview.message_id;
            self.misplaced_previews += u64::from(!continues);
            preview.text.push_str(text("content"));
        }
    }

    fn has_run_ended(&self, run_id: &str) -> bool {
        let ends = |event: &&Value| event["type"] == "run_finished" || event["type"] == "run_failed";
        self.events.iter().rev().filter(ends).any(|event| event["run_id"] == run_id)
    }

    /// Formats the newest events for an error text.
    fn format_newest_events(&self) -> String {
        let lines = self.events[self.events.len().saturating_sub(15)..].iter().map(|event| {
            let mut line = format!("   {} {} {}", event["seq"], event["ts"], event["type"]);
            for field in ["tool_call_id", "status", "code", "reason"] {
                if let Some(value) = event.get(field) {
                    line += &format!(" {field}={value}");
                }
            }
            line
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

impl ClientSession {
    /// Creates a session through nginx.
    pub(crate) async fn create(http: &reqwest::Client, base_url: &str, index: usize) -> Arc<Self> {
        let response =
            http.post(format!("{base_url}/v1/sessions")).json(&json!({})).timeout(REQUEST_TIMEOUT).send().await;
        let response = response.expect("all replicas are up").error_for_status().expect("sessions can be created");
        let session: Value = response.json().await.expect("the response is JSON");
        let id = session["session_id"].as_str().expect("the response has an id").to_owned();
        let commits = AtomicU32::new(0);
        Arc::new(Self { index, id, commits, observed: Mutex::default(), newest_seq: watch::Sender::new(0) })
    }

    pub(crate) fn observed(&self) -> MutexGuard<'_, ObservedStream> {
        self.observed.lock()
    }
}

/// Sends messages to a session through nginx until `stop` is canceled, and then completes the current turn.
pub(crate) struct ChaosClient {
    pub session: Arc<ClientSession>,
    pub http: reqwest::Client,
    pub base_url: String,
    pub random: fastrand::Rng,
    pub stop: CancellationToken,
}

impl ChaosClient {
    /// Runs until `stop` is canceled.
    ///
    /// # Panics
    /// A request or a run exceeds its timeout.
    pub(crate) async fn run(mut self) {
        let random = self.random.fork();
        let following = follow_events(self.session.clone(), self.http.clone(), self.base_url.clone(), random);
        tokio::select! {
            () = self.send_messages() => {}
            () = following => unreachable!("the reader never ends"),
        }
    }

    async fn send_messages(&mut self) {
        let mut sent = 0;
        while !self.stop.is_cancelled() {
            self.session.commits.store(0, Ordering::SeqCst);
            // Sometimes the next message arrives while the run of the previous one is in progress.
            let messages = if self.random.u8(..4) == 0 { 2 } else { 1 };
            let mut runs = Vec::new();
            for _ in 0..messages {
                runs.push(self.send_message(&format!("s{}-t{sent}", self.session.index)).await);
                sent += 1;
            }
            for run in runs {
                self.wait_for_run_end(&run).await;
            }
            sleep(Duration::from_millis(self.random.u64(0..200))).await;
        }
    }

    /// Sends a message, with retries, until it is accepted. Returns the id of its run.
    async fn send_message(&mut self, key: &str) -> String {
        let started = Instant::now();
        let mut last_error = String::from("no attempt was made");
        let mut is_first = true;
        while started.elapsed() < ACCEPT_TIMEOUT {
            if !std::mem::take(&mut is_first) {
                self.session.observed().retries += 1;
                sleep(Duration::from_millis(self.random.u64(50..300))).await;
            }
            match self.post_message(key).await {
                Ok(accepted) => {
                    self.session.observed().accepted.push(accepted.clone());
                    // A retry of an accepted message must return the same receipt.
                    if self.random.u8(..8) == 0
                        && let Ok(again) = self.post_message(key).await
                    {
                        self.session.observed().accepted_twice += u64::from(again != accepted);
                    }
                    return accepted.run_id;
                }
                Err(error) => last_error = error,
            }
        }
        panic!(
            "session {}: message {key} was not accepted within {ACCEPT_TIMEOUT:?}; last error: {last_error}",
            self.session.id
        );
    }

    async fn post_message(&self, key: &str) -> Result<AcceptedMessage, String> {
        let request = self.http.post(format!("{}/v1/sessions/{}/messages", self.base_url, self.session.id));
        let request = request.header("idempotency-key", key).json(&json!({"content": key})).timeout(REQUEST_TIMEOUT);
        let response = request.send().await.map_err(|error| format!("{error:?}"))?;
        let status = response.status();
        let text = response.text().await.map_err(|error| format!("{error:?}"))?;
        match status {
            StatusCode::ACCEPTED => {
                let body: Value = serde_json::from_str(&text).expect("the body of a 202 is JSON");
                let field = |name: &str| body[name].as_str().expect("a 202 names the message and its run").to_owned();
                Ok(AcceptedMessage { message_id: field("message_id"), run_id: field("run_id") })
            }
            status if is_transient(status) => Err(format!("{status}: {text}")),
            _ => panic!("session {}: message {key} was rejected: {status}: {text}", self.session.id),
        }
    }

    async fn wait_for_run_end(&self, run_id: &str) {
        let mut newest_seq = self.session.newest_seq.subscribe();
        while !self.session.observed().has_run_ended(run_id) {
            if timeout(STALL_TIMEOUT, newest_seq.changed()).await.is_err() {
                let session = &self.session;
                panic!(
                    "session {}: no event for {STALL_TIMEOUT:?} while run {run_id} is in progress; last events:\n{}",
                    session.id,
                    session.observed().format_newest_events()
                );
            }
        }
    }
}

/// Follows a session's events forever, over one connection after another.
async fn follow_events(
    session: Arc<ClientSession>,
    http: reqwest::Client,
    base_url: String,
    mut random: fastrand::Rng,
) {
    loop {
        // Healthy connections are closed after a while, too, so that most replicas serve the session.
        let longest = Duration::from_millis(random.u64(2_000..20_000));
        let _ = timeout(longest, read_stream(&session, &http, &base_url)).await;
        session.observed().reconnects += 1;
        sleep(Duration::from_millis(random.u64(10..100))).await;
    }
}

/// Whether a retry can succeed: no replica accepted the request, or this one is unavailable. A replica that resumes after
/// SIGSTOP responds with 408, because its read timeout has expired.
fn is_transient(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::REQUEST_TIMEOUT
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

/// Reads one stream until it breaks.
async fn read_stream(session: &ClientSession, http: &reqwest::Client, base_url: &str) -> Option<()> {
    let mut request = http.get(format!("{base_url}/v1/sessions/{}/events", session.id));
    let last_seq = session.observed().last_seq;
    if last_seq > 0 {
        request = request.header("last-event-id", last_seq);
    }
    let response = timeout(REQUEST_TIMEOUT, request.send()).await.ok()?.ok()?;
    let status = response.status();
    if is_transient(status) {
        return None;
    }
    assert!(status.is_success(), "session {}: events after {last_seq} were rejected: {status}", session.id);
    let mut stream = response.bytes_stream().eventsource();
    let mut preview = PreviewText::default();
    loop {
        let message = timeout(READ_TIMEOUT, stream.next()).await.ok()??.ok()?;
        let frame: Value = serde_json::from_str(&message.data).expect("messages of the stream are JSON");
        let mut observed = session.observed();
        observed.record_frame(frame, &mut preview);
        let last_seq = observed.last_seq;
        drop(observed);
        session.newest_seq.send_if_modified(|newest| std::mem::replace(newest, last_seq) != last_seq);
    }
}
