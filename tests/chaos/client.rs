//! A client as the book tells clients to be: it sends messages with an `Idempotency-Key` until they are taken, follows
//! the session's events with `Last-Event-ID`, and connects again, anywhere, when a stream breaks. It notes all it sees.

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

/// A request that takes longer is broken off and made again: its replica may be stopped.
const ANSWER: Duration = Duration::from_secs(3);
/// A message must be taken within this, whatever happens to single replicas.
const TAKEN: Duration = Duration::from_secs(60);
/// Streams say that they are alive every 15 s.
const SILENCE: Duration = Duration::from_secs(20);
/// Nothing may hold up a session that has work for as long as this: it is the time of several take-overs.
const STALL: Duration = Duration::from_secs(90);

/// A session of a client.
pub(crate) struct Session {
    pub index: usize,
    pub id: String,
    /// Commits since the last time that the session was at rest, counted by who listens to Redis.
    pub commits: AtomicU32,
    // A plain mutex: held for a note, never across an await.
    seen: Mutex<Seen>,
    news: watch::Sender<u64>,
}

/// What the client has seen.
#[derive(Default)]
pub(crate) struct Seen {
    /// Logged events, as they came.
    pub events: Vec<Value>,
    last_seq: u64,
    /// Seqs that were skipped.
    pub lost: u64,
    /// Events that came again.
    pub doubled: u64,
    /// Events that came after later ones, for the first time.
    pub disordered: u64,
    /// Pieces of text that did not fit to what was shown before.
    pub misplaced: u64,
    pub tokens: u64,
    /// Connections after the first.
    pub reconnects: u64,
    /// Attempts to send a message after the first.
    pub resent: u64,
    /// The messages that were taken: id of the message and of its run.
    pub accepted: Vec<Accepted>,
    /// Messages that were taken twice, under one key.
    pub taken_twice: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Accepted {
    pub message_id: String,
    pub run_id: String,
}

/// The text that a connection has shown of a message.
#[derive(Default)]
struct Shown {
    message_id: String,
    text: String,
}

impl Seen {
    /// Records a frame that came on a connection.
    fn record_frame(&mut self, frame: Value, shown: &mut Shown) {
        let text = |name: &str| frame[name].as_str().unwrap_or_default();
        if let Some(seq) = frame["seq"].as_u64() {
            if frame["type"] == "assistant_message" && text("message_id") == shown.message_id {
                // What was shown is the message, or its beginning.
                self.misplaced += u64::from(!text("content").starts_with(&shown.text));
            }
            if seq > self.last_seq {
                self.lost += seq - self.last_seq - 1;
                self.last_seq = seq;
            } else if self.events.iter().any(|event| event["seq"] == seq) {
                self.doubled += 1;
            } else {
                self.disordered += 1;
            }
            self.events.push(frame);
        } else if frame["type"] == "token" {
            self.tokens += 1;
            if frame["offset"] == 0 {
                *shown = Shown { message_id: text("message_id").to_owned(), text: String::new() };
            }
            let fits = frame["offset"] == shown.text.len() && text("message_id") == shown.message_id;
            self.misplaced += u64::from(!fits);
            shown.text.push_str(text("content"));
        }
    }

    fn ended(&self, run_id: &str) -> bool {
        let ends = |event: &&Value| event["type"] == "run_finished" || event["type"] == "run_failed";
        self.events.iter().rev().filter(ends).any(|event| event["run_id"] == run_id)
    }

    /// The newest events, for people.
    fn newest(&self) -> String {
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

impl Session {
    /// Creates a session through nginx.
    pub(crate) async fn create(http: &reqwest::Client, base: &str, index: usize) -> Arc<Self> {
        let answer = http.post(format!("{base}/v1/sessions")).json(&json!({})).timeout(ANSWER).send().await;
        let answer = answer.expect("all replicas are up").error_for_status().expect("a session can be begun");
        let session: Value = answer.json().await.expect("JSON");
        let id = session["session_id"].as_str().expect("an id").to_owned();
        Arc::new(Self { index, id, commits: AtomicU32::new(0), seen: Mutex::default(), news: watch::Sender::new(0) })
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock()
    }
}

/// Drives a session through nginx until `enough`; then the turn that it is in is the last.
pub(crate) struct Client {
    pub session: Arc<Session>,
    pub http: reqwest::Client,
    pub base: String,
    pub random: fastrand::Rng,
    pub enough: CancellationToken,
}

impl Client {
    /// # Panics
    /// When something does not happen for too long.
    pub(crate) async fn run(mut self) {
        let random = self.random.fork();
        let reading = follow(self.session.clone(), self.http.clone(), self.base.clone(), random);
        tokio::select! {
            () = self.talk() => {}
            () = reading => unreachable!("the reader never ends"),
        }
    }

    async fn talk(&mut self) {
        let mut sent = 0;
        while !self.enough.is_cancelled() {
            self.session.commits.store(0, Ordering::SeqCst);
            // Now and then the next message is there before the run of this one is over.
            let messages = if self.random.u8(..4) == 0 { 2 } else { 1 };
            let mut runs = Vec::new();
            for _ in 0..messages {
                runs.push(self.send(&format!("s{}-t{sent}", self.session.index)).await);
                sent += 1;
            }
            for run in runs {
                self.await_end(&run).await;
            }
            sleep(Duration::from_millis(self.random.u64(0..200))).await;
        }
    }

    /// Sends a message until it is taken; the id of its run.
    async fn send(&mut self, key: &str) -> String {
        let began = Instant::now();
        let mut last = String::from("nothing was tried");
        let mut first = true;
        while began.elapsed() < TAKEN {
            if !std::mem::take(&mut first) {
                self.session.seen().resent += 1;
                sleep(Duration::from_millis(self.random.u64(50..300))).await;
            }
            match self.post(key).await {
                Ok(accepted) => {
                    self.session.seen().accepted.push(accepted.clone());
                    // Sent again although it was taken: it must be taken for what it is.
                    if self.random.u8(..8) == 0
                        && let Ok(again) = self.post(key).await
                    {
                        self.session.seen().taken_twice += u64::from(again != accepted);
                    }
                    return accepted.run_id;
                }
                Err(why) => last = why,
            }
        }
        panic!("session {}: message {key} was not taken within {TAKEN:?}; the last answer: {last}", self.session.id);
    }

    async fn post(&self, key: &str) -> Result<Accepted, String> {
        let request = self.http.post(format!("{}/v1/sessions/{}/messages", self.base, self.session.id));
        let request = request.header("idempotency-key", key).json(&json!({"content": key})).timeout(ANSWER);
        let answer = request.send().await.map_err(|error| format!("{error:?}"))?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| format!("{error:?}"))?;
        match status {
            StatusCode::ACCEPTED => {
                let body: Value = serde_json::from_str(&text).expect("a 202 has JSON");
                let field = |name: &str| body[name].as_str().expect("a 202 names the message and its run").to_owned();
                Ok(Accepted { message_id: field("message_id"), run_id: field("run_id") })
            }
            status if passing(status) => Err(format!("{status}: {text}")),
            _ => panic!("session {}: message {key} was refused: {status}: {text}", self.session.id),
        }
    }

    async fn await_end(&self, run_id: &str) {
        let mut news = self.session.news.subscribe();
        while !self.session.seen().ended(run_id) {
            if timeout(STALL, news.changed()).await.is_err() {
                let session = &self.session;
                panic!(
                    "session {}: nothing has happened for {STALL:?}, and run {run_id} has not ended; its client has seen:\n{}",
                    session.id,
                    session.seen().newest()
                );
            }
        }
    }
}

/// Follows a session's events without end, over one connection after another.
async fn follow(session: Arc<Session>, http: reqwest::Client, base: String, mut random: fastrand::Rng) {
    loop {
        // A connection that nothing breaks is left after a while, so that most replicas get to serve the session.
        let enough = Duration::from_millis(random.u64(2_000..20_000));
        let _ = timeout(enough, read(&session, &http, &base)).await;
        session.seen().reconnects += 1;
        sleep(Duration::from_millis(random.u64(10..100))).await;
    }
}

/// Whether a refusal is of a kind that passes: no replica took the request, or this one cannot now. 408 is what one says
/// that was just woken up and thinks that it has waited for the request all the time.
fn passing(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::REQUEST_TIMEOUT
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

/// Reads one stream until it breaks.
async fn read(session: &Session, http: &reqwest::Client, base: &str) -> Option<()> {
    let mut request = http.get(format!("{base}/v1/sessions/{}/events", session.id));
    let last_seq = session.seen().last_seq;
    if last_seq > 0 {
        request = request.header("last-event-id", last_seq);
    }
    let answer = timeout(ANSWER, request.send()).await.ok()?.ok()?;
    let status = answer.status();
    if passing(status) {
        return None;
    }
    assert!(status.is_success(), "session {}: its events after {last_seq} were refused: {status}", session.id);
    let mut stream = answer.bytes_stream().eventsource();
    let mut shown = Shown::default();
    loop {
        let message = timeout(SILENCE, stream.next()).await.ok()??.ok()?;
        let frame: Value = serde_json::from_str(&message.data).expect("a message of the stream is JSON");
        let mut seen = session.seen();
        seen.record_frame(frame, &mut shown);
        let last_seq = seen.last_seq;
        drop(seen);
        session.news.send_if_modified(|news| std::mem::replace(news, last_seq) != last_seq);
    }
}
