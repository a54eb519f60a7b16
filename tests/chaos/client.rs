//! A client that works as the documentation recommends: it retries messages with an `Idempotency-Key` until they are
//! accepted, answers approval requests, follows the session's events with `Last-Event-ID`, reconnects when a stream breaks,
//! and sends messages again that the store has lost. It records all events that it receives.

use parking_lot::{Mutex, MutexGuard};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
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

use crate::{
    door_client::ChaosDoor,
    observed_stream::{AcceptedMessage, Acknowledgement, ObservedStream, PreviewText},
    sessions::SessionRegistry,
};

/// A request that takes longer is retried: its replica may be paused.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// A message must be accepted within this time, whatever is disturbed.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(120);
/// A stream is broken after this time without data; heartbeats arrive every 15 s.
const READ_TIMEOUT: Duration = Duration::from_secs(20);
/// A session with work must have a new event within this time: the time of several takeovers.
const STALL_TIMEOUT: Duration = Duration::from_secs(180);
/// After this time without an event, the client asks whether its message is lost.
const SILENCE: Duration = Duration::from_secs(5);
/// A session with more turns than this is replaced, so that conversations stay short.
const MAX_TURNS: usize = 25;

/// A session, with what its client has received.
pub(crate) struct ClientSession {
    pub index: usize,
    pub id: String,
    /// The index of its shard.
    pub shard: usize,
    /// Number of commits since the start of the turn, counted by the commit watcher.
    pub commits: AtomicU32,
    /// Whether the client waits for the end of a run.
    pub has_work: AtomicBool,
    // A synchronous mutex: held to record an event, never across an await.
    observed: Mutex<ObservedStream>,
    newest_event: watch::Sender<u64>,
}

/// How a run ended for its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RunOutcome {
    Ended,
    /// Nothing happened for [`STALL_TIMEOUT`], or a response says that the session is damaged.
    Broken,
}

/// A response to a message.
enum PostOutcome {
    Accepted(AcceptedMessage),
    /// The key is known with another text.
    KeyReused,
    SessionGone,
    Transient(String),
    Rejected(String),
}

impl ClientSession {
    pub(crate) fn new(index: usize, id: String, shard: usize) -> Arc<Self> {
        Arc::new(Self {
            index,
            id,
            shard,
            commits: AtomicU32::new(0),
            has_work: AtomicBool::new(false),
            observed: Mutex::default(),
            newest_event: watch::Sender::new(0),
        })
    }

    pub(crate) fn observed(&self) -> MutexGuard<'_, ObservedStream> {
        self.observed.lock()
    }

    pub(crate) fn record_problem(&self, problem: String) {
        println!("chaos: session {}: {problem}", self.id);
        self.observed().problems.push(problem);
    }

    /// Marks what is acknowledged so far as lost, because the session is gone.
    fn record_gone(&self) {
        self.observed().announcements.push(Instant::now());
    }
}

/// Sends messages to one session after another, through nginx, until `stop` is canceled, and then completes the current turn.
pub(crate) struct ChaosClient {
    pub registry: Arc<SessionRegistry>,
    pub http: reqwest::Client,
    pub base_url: String,
    pub random: fastrand::Rng,
    pub stop: CancellationToken,
    /// What it sends messages and approvals over. It always follows the log over the native API.
    pub door: ChaosDoor,
}

impl ChaosClient {
    /// Runs until `stop` is canceled.
    pub(crate) async fn run(mut self) {
        while !self.stop.is_cancelled() {
            let session = self.registry.create_session(&self.http, &self.base_url).await;
            let following = self.follow_events(&session);
            let random = self.random.fork();
            let sending = async {
                match self.door {
                    ChaosDoor::Native => self.send_messages(&session, random).await,
                    ChaosDoor::AgUi | ChaosDoor::Responses | ChaosDoor::A2a => self.send_over_door(&session).await,
                }
            };
            tokio::select! {
                () = sending => {}
                () = following => unreachable!("the reader never ends"),
            }
            session.has_work.store(false, Ordering::SeqCst);
        }
    }

    /// Reads what a session has lost or received since its client left, and waits until each accepted message has its run.
    pub(crate) async fn settle(self, session: Arc<ClientSession>) {
        let mut attempts = 0..3;
        while attempts.next().is_some() {
            let _ = timeout(STALL_TIMEOUT, self.read_stream(&session, "?follow=false")).await;
            if !session.observed().must_reload {
                break;
            }
        }
        let unfinished = |message: &Acknowledgement<AcceptedMessage>| {
            let observed = session.observed();
            !observed.has_run_ended(&message.what.run_id) && !observed.superseded.contains(&message.what.run_id)
        };
        let accepted = session.observed().accepted.clone();
        if !accepted.iter().any(unfinished) {
            return;
        }
        let following = self.follow_events(&session);
        let settling = async {
            for message in accepted {
                if unfinished(&message) && self.wait_for_run_end(&session, message).await == RunOutcome::Broken {
                    return;
                }
            }
        };
        tokio::select! {
            () = settling => {}
            () = following => unreachable!("the reader never ends"),
        }
    }

    async fn send_over_door(&mut self, session: &ClientSession) {
        for turn in 0..MAX_TURNS {
            if self.stop.is_cancelled() {
                break;
            }
            session.commits.store(0, Ordering::SeqCst);
            session.has_work.store(true, Ordering::SeqCst);
            if !self.complete_turn(session, &format!("s{}-t{turn}", session.index)).await {
                break;
            }
            session.has_work.store(false, Ordering::SeqCst);
        }
    }

    async fn send_messages(&self, session: &ClientSession, mut random: fastrand::Rng) {
        let mut sent = 0;
        while sent < MAX_TURNS && !self.stop.is_cancelled() {
            session.commits.store(0, Ordering::SeqCst);
            session.has_work.store(true, Ordering::SeqCst);
            // Sometimes the next message arrives while the run of the previous one is in progress.
            let messages = if random.u8(..4) == 0 { 2 } else { 1 };
            let mut runs = Vec::new();
            for _ in 0..messages {
                let key = format!("s{}-t{sent}", session.index);
                let Some(accepted) = self.send_message(session, &key, &mut random).await else { return };
                runs.push(accepted);
                sent += 1;
            }
            for accepted in runs {
                if self.wait_for_run_end(session, accepted).await == RunOutcome::Broken {
                    return;
                }
            }
            session.has_work.store(false, Ordering::SeqCst);
            sleep(Duration::from_millis(random.u64(0..200))).await;
        }
    }

    /// Sends a message, with retries, until it is accepted. `None`: the session cannot be used further.
    async fn send_message(
        &self,
        session: &ClientSession,
        key: &str,
        random: &mut fastrand::Rng,
    ) -> Option<Acknowledgement<AcceptedMessage>> {
        let started = Instant::now();
        let mut last_error = String::from("no attempt was made");
        while started.elapsed() < ACCEPT_TIMEOUT {
            match self.post_message(session, key, key).await {
                PostOutcome::Accepted(accepted) => {
                    let accepted = Acknowledgement { what: accepted, at: Instant::now() };
                    session.observed().accepted.push(accepted.clone());
                    // A retry of an accepted message must return the same receipt.
                    if random.u8(..8) == 0
                        && let PostOutcome::Accepted(again) = self.post_message(session, key, key).await
                        && again != accepted.what
                    {
                        return Some(self.record_second_receipt(session, &accepted, again));
                    }
                    return Some(accepted);
                }
                PostOutcome::SessionGone => {
                    session.record_gone();
                    return None;
                }
                PostOutcome::KeyReused => {
                    session.record_problem(format!("message {key} is said to have another text"));
                    return None;
                }
                PostOutcome::Rejected(error) => {
                    session.record_problem(format!("message {key} was rejected: {error}"));
                    return None;
                }
                PostOutcome::Transient(error) => last_error = error,
            }
            session.observed().retries += 1;
            sleep(Duration::from_millis(random.u64(50..300))).await;
        }
        session.record_problem(format!("message {key} was not accepted within {ACCEPT_TIMEOUT:?}: {last_error}"));
        None
    }

    /// A second receipt is right only if the store has lost the message in the meantime.
    fn record_second_receipt(
        &self,
        session: &ClientSession,
        first: &Acknowledgement<AcceptedMessage>,
        again: AcceptedMessage,
    ) -> Acknowledgement<AcceptedMessage> {
        let mut observed = session.observed();
        observed.accepted_twice += u64::from(!self.registry.may_lose_writes);
        observed.superseded.insert(first.what.run_id.clone());
        let again = Acknowledgement { what: again, at: Instant::now() };
        observed.accepted.push(again.clone());
        again
    }

    async fn post_message(&self, session: &ClientSession, key: &str, content: &str) -> PostOutcome {
        let request = self.http.post(format!("{}/v1/sessions/{}/messages", self.base_url, session.id));
        let request =
            request.header("idempotency-key", key).json(&json!({"content": content})).timeout(REQUEST_TIMEOUT);
        let (status, text) = match send_request(request).await {
            Ok(response) => response,
            Err(error) => return PostOutcome::Transient(error),
        };
        match status {
            StatusCode::ACCEPTED => {
                let body: Value = serde_json::from_str(&text).expect("the body of a 202 is JSON");
                let field = |name: &str| body[name].as_str().expect("a 202 names the message and its run").to_owned();
                let (message_id, run_id) = (field("message_id"), field("run_id"));
                PostOutcome::Accepted(AcceptedMessage { key: key.to_owned(), message_id, run_id })
            }
            StatusCode::NOT_FOUND => PostOutcome::SessionGone,
            StatusCode::UNPROCESSABLE_ENTITY if text.contains("command_id_reused") => PostOutcome::KeyReused,
            status if is_transient(status) => PostOutcome::Transient(format!("{status}: {text}")),
            status => PostOutcome::Rejected(format!("{status}: {text}")),
        }
    }

    /// Waits for the end of a run, or of the run that replaces it if the message is lost, and answers approval requests.
    async fn wait_for_run_end(
        &self,
        session: &ClientSession,
        mut message: Acknowledgement<AcceptedMessage>,
    ) -> RunOutcome {
        let mut newest_event = session.newest_event.subscribe();
        let mut last_event_at = Instant::now();
        let mut announcements = session.observed().announcements.len();
        let mut answered: Vec<String> = Vec::new();
        while !session.observed().has_run_ended(&message.what.run_id) {
            let open_approvals = session.observed().open_approvals();
            for approval in open_approvals {
                if !answered.contains(&approval) && self.approve(session, &approval).await {
                    answered.push(approval);
                }
            }
            let is_silent = timeout(SILENCE, newest_event.changed()).await.is_err();
            if !is_silent {
                last_event_at = Instant::now();
            }
            let announced = session.observed().announcements.len();
            if is_silent || std::mem::replace(&mut announcements, announced) != announced {
                answered.clear();
                match self.find_lost_message(session, &message).await {
                    Ok(Some(again)) => message = again,
                    Ok(None) => {}
                    Err(outcome) => return outcome,
                }
            }
            if last_event_at.elapsed() > STALL_TIMEOUT {
                let newest = session.observed().format_newest_events();
                session.record_problem(format!(
                    "no event for {STALL_TIMEOUT:?} while run {} is in progress; newest events:\n{newest}",
                    message.what.run_id
                ));
                return RunOutcome::Broken;
            }
        }
        RunOutcome::Ended
    }

    /// Sends a message again under its key, with another text: it is refused if the message is known, and accepted if it is
    /// lost. The text differs, so that its calls are not those of the lost message.
    async fn find_lost_message(
        &self,
        session: &ClientSession,
        message: &Acknowledgement<AcceptedMessage>,
    ) -> Result<Option<Acknowledgement<AcceptedMessage>>, RunOutcome> {
        let key = &message.what.key;
        let content = format!("{key}-again{}", session.observed().accepted.len());
        match self.post_message(session, key, &content).await {
            PostOutcome::Accepted(again) => Ok(Some(self.record_second_receipt(session, message, again))),
            PostOutcome::SessionGone => {
                session.record_gone();
                Err(RunOutcome::Broken)
            }
            PostOutcome::Rejected(error) => {
                session.record_problem(format!("message {key} was rejected later: {error}"));
                Err(RunOutcome::Broken)
            }
            // A repetition whose answer was lost may have been accepted in place of the message that was lost.
            PostOutcome::KeyReused => match self.post_message(session, key, key).await {
                PostOutcome::Accepted(known) if known != message.what => {
                    Ok(Some(self.record_second_receipt(session, message, known)))
                }
                _ => Ok(None),
            },
            PostOutcome::Transient(_) => Ok(None),
        }
    }

    /// Approves a request. Returns whether it is answered, or gone.
    async fn approve(&self, session: &ClientSession, approval: &str) -> bool {
        let url = format!("{}/v1/sessions/{}/approvals/{approval}", self.base_url, session.id);
        let request = self.http.post(url).header("idempotency-key", format!("approve-{approval}"));
        let request = request.json(&json!({"decision": "approve"})).timeout(REQUEST_TIMEOUT);
        let Ok((status, text)) = send_request(request).await else {
            session.observed().retries += 1;
            return false;
        };
        match status {
            StatusCode::OK => {
                let answer = Acknowledgement { what: approval.to_owned(), at: Instant::now() };
                session.observed().approved.push(answer);
                true
            }
            // The answer has arrived before, or the request is lost.
            StatusCode::CONFLICT | StatusCode::NOT_FOUND => true,
            status if is_transient(status) => {
                session.observed().retries += 1;
                false
            }
            status => {
                session.record_problem(format!("approval {approval} was rejected: {status}: {text}"));
                true
            }
        }
    }

    /// Follows a session's events forever, over one connection after another.
    fn follow_events(&self, session: &Arc<ClientSession>) -> impl Future<Output = ()> + use<> {
        let mut client = Self {
            registry: self.registry.clone(),
            http: self.http.clone(),
            base_url: self.base_url.clone(),
            random: fastrand::Rng::new(),
            stop: self.stop.clone(),
            door: self.door,
        };
        let session = session.clone();
        async move {
            loop {
                // Healthy connections are closed after a while, too, so that most replicas serve the session.
                let longest = Duration::from_millis(client.random.u64(2_000..20_000));
                let _ = timeout(longest, client.read_stream(&session, "")).await;
                session.observed().reconnects += 1;
                sleep(Duration::from_millis(client.random.u64(10..100))).await;
            }
        }
    }

    /// Reads one stream until it ends or breaks.
    async fn read_stream(&self, session: &ClientSession, query: &str) -> Option<()> {
        let mut request = self.http.get(format!("{}/v1/sessions/{}/events{query}", self.base_url, session.id));
        let last_seq = session.observed().last_seq;
        session.observed().must_reload = false;
        if last_seq > 0 {
            request = request.header("last-event-id", last_seq);
        }
        let response = timeout(REQUEST_TIMEOUT, request.send()).await.ok()?.ok()?;
        let status = response.status();
        if is_transient(status) || status == StatusCode::NOT_FOUND {
            return None;
        }
        if !status.is_success() {
            session.record_problem(format!("events after {last_seq} were rejected: {status}"));
            // Once is enough to fail the test.
            sleep(READ_TIMEOUT).await;
            return None;
        }
        let mut stream = response.bytes_stream().eventsource();
        let mut preview = PreviewText::default();
        loop {
            let message = timeout(READ_TIMEOUT, stream.next()).await.ok()??.ok()?;
            let frame: Value = serde_json::from_str(&message.data).expect("messages of the stream are JSON");
            let mut observed = session.observed();
            observed.record_frame(&frame, &mut preview);
            let received = observed.events.len() + observed.announcements.len();
            let must_reload = observed.must_reload;
            drop(observed);
            let received = received as u64;
            session.newest_event.send_if_modified(|newest| std::mem::replace(newest, received) != received);
            if must_reload {
                return None;
            }
        }
    }
}

async fn send_request(request: reqwest::RequestBuilder) -> Result<(StatusCode, String), String> {
    let response = request.send().await.map_err(|error| format!("{error:?}"))?;
    let status = response.status();
    let text = response.text().await.map_err(|error| format!("{error:?}"))?;
    Ok((status, text))
}

/// Whether a retry can succeed: no replica accepted the request, or this one is unavailable. A replica that resumes after
/// SIGSTOP responds with 408, because its read timeout has expired.
pub(crate) fn is_transient(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::REQUEST_TIMEOUT
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}
