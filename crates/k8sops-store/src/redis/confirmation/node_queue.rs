//! The writes that wait for one server to confirm them.
//!
//! A server that saves its append-only file once a second answers `WAITAOF` after up to a second. So writes are confirmed
//! together: a round marks all that wait and waits once. Several rounds are on their way side by side, so that a write need not
//! wait for the round before; they begin some time apart, so that few rounds serve many writes.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use parking_lot::Mutex;
use redis::{ErrorKind, RedisError, ServerErrorKind, Value};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::task::AbortOnDropHandle;

use super::mode::{ConfirmationMode, WaitOutcome, is_mode_outdated, unconfirmed};
use crate::redis::{
    config::ConfirmationPolicy,
    outage::{classify_error, to_store_error},
    pool::ConnectionPool,
    query::read_reply,
    script::ScriptCall,
    scripts::{MarkReply, MarkWrite},
};
use k8sops_core::{StoreError, StoreOutage};

/// Upper bound of the rounds that are on their way to one server.
pub(in crate::redis) const MAX_ROUNDS: usize = 8;
/// Time between the starts of rounds while others are on their way. Eight of them last for about a second.
const ROUND_INTERVAL: Duration = Duration::from_millis(100);
/// Upper bound of the writes of a round: what the server marks before it serves others.
const MAX_BATCH: usize = 256;
/// Upper bound of the writes that are handed over. More wait in front.
const QUEUE_LIMIT: usize = 1024;
/// Delay before a round is repeated whose connection broke.
const RETRY_DELAY: Duration = Duration::from_millis(100);
/// For how long a server that confirms nothing is not asked again.
const MODE_TTL: Duration = Duration::from_secs(30);

/// What all rounds need.
pub(in crate::redis) struct RoundParameters {
    pub(in crate::redis) policy: ConfirmationPolicy,
    /// How long a write waits for its confirmation.
    pub(in crate::redis) limit: Duration,
    /// Connections that may be blocked for as long.
    pub(in crate::redis) connections: ConnectionPool,
}

/// What became of a write.
pub(super) enum WriteOutcome {
    Confirmed,
    /// The session does not exist.
    NotFound,
    /// The session exists, and the write is gone.
    Lost,
    /// The server does not have the key. Holds the write, which is to be sent to the server that does.
    Misrouted(MarkWrite),
    Failed(StoreError),
}

struct WaitingWrite {
    write: MarkWrite,
    done: oneshot::Sender<WriteOutcome>,
}

/// The queue of one server.
pub(super) struct NodeQueue {
    writes: mpsc::Sender<WaitingWrite>,
    _task: AbortOnDropHandle<()>,
}

/// The entrance of a queue.
pub(super) struct QueueSender(mpsc::Sender<WaitingWrite>);

impl NodeQueue {
    /// Starts the task that confirms what is in the queue.
    pub(super) fn spawn(parameters: Arc<RoundParameters>) -> Self {
        let (writes, queue) = mpsc::channel(QUEUE_LIMIT);
        let task = RoundScheduler {
            parameters,
            mode: Arc::default(),
            queue,
            waiting: Vec::new(),
            rounds: FuturesUnordered::new(),
            last_start: Instant::now(),
        };
        Self { writes, _task: AbortOnDropHandle::new(tokio::spawn(task.run())) }
    }

    pub(super) fn sender(&self) -> QueueSender {
        QueueSender(self.writes.clone())
    }
}

impl QueueSender {
    /// Confirms a write, together with others.
    pub(super) async fn confirm(&self, write: MarkWrite) -> WriteOutcome {
        let (done, outcome) = oneshot::channel();
        let stopped = || WriteOutcome::Failed(StoreError::Unavailable("the store is closed".into()));
        match self.0.send(WaitingWrite { write, done }).await {
            Ok(()) => outcome.await.unwrap_or_else(|_| stopped()),
            Err(_) => stopped(),
        }
    }
}

/// What was found of the server.
#[derive(Debug, Default)]
struct KnownMode {
    /// The mode, and until when it holds.
    current: Option<(ConfirmationMode, Instant)>,
    /// Whether the server has confirmed writes, until a warning said that it does not any more.
    has_confirmed: bool,
}

impl KnownMode {
    /// Records the mode that was found, and logs the end of confirmations: writes go on without them.
    fn record(&mut self, mode: &ConfirmationMode) {
        self.current = Some((mode.clone(), Instant::now() + MODE_TTL));
        if let ConfirmationMode::Off { .. } = mode {
            if std::mem::take(&mut self.has_confirmed) {
                tracing::warn!("writes are not confirmed any more: Redis {}", mode.describe());
            }
        } else {
            self.has_confirmed = true;
        }
    }

    fn forget(&mut self) {
        self.current = None;
    }
}

/// Starts rounds.
struct RoundScheduler {
    parameters: Arc<RoundParameters>,
    mode: Arc<Mutex<KnownMode>>,
    queue: mpsc::Receiver<WaitingWrite>,
    waiting: Vec<WaitingWrite>,
    rounds: FuturesUnordered<BoxFuture<'static, ()>>,
    last_start: Instant,
}

impl RoundScheduler {
    async fn run(mut self) {
        loop {
            let may_start = !self.waiting.is_empty() && self.rounds.len() < MAX_ROUNDS;
            let start_at = if self.rounds.is_empty() { Instant::now() } else { self.last_start + ROUND_INTERVAL };
            tokio::select! {
                biased;
                received = self.queue.recv(), if self.waiting.len() < MAX_BATCH => match received {
                    Some(write) => self.waiting.push(write),
                    None => return,
                },
                Some(()) = self.rounds.next() => {}
                () = sleep_until(start_at), if may_start => self.start_round(),
            }
        }
    }

    fn start_round(&mut self) {
        self.last_start = Instant::now();
        let mut writes = std::mem::take(&mut self.waiting);
        // Nothing waits for these any more.
        writes.retain(|waiting| !waiting.done.is_closed());
        let round = ConfirmationRound { parameters: self.parameters.clone(), mode: self.mode.clone(), writes };
        self.rounds.push(Box::pin(round.run()));
    }
}

/// One round: the writes that are confirmed together.
struct ConfirmationRound {
    parameters: Arc<RoundParameters>,
    mode: Arc<Mutex<KnownMode>>,
    writes: Vec<WaitingWrite>,
}

/// What an attempt at a round came to.
enum RoundAttempt {
    /// The replies to the marks, and what was waited for.
    Answered(Vec<Value>, WaitOutcome),
    /// Nothing needs to be waited for.
    NotNeeded,
    /// The server does not have all keys.
    Misrouted,
}

impl ConfirmationRound {
    async fn run(self) {
        let Some(first) = self.writes.first() else { return };
        let first_key = first.write.meta_key.clone();
        let limit = self.parameters.limit;
        let deadline = Instant::now() + limit;
        let result = loop {
            let attempt = self.attempt(&first_key, deadline).await;
            match attempt {
                Err(error) if is_temporary(&error) && Instant::now() + RETRY_DELAY < deadline => {
                    self.mode.lock().forget();
                    sleep(RETRY_DELAY).await;
                }
                result => break result,
            }
        };
        match result {
            Ok(RoundAttempt::Misrouted) => self.finish(WriteOutcome::Misrouted),
            Ok(RoundAttempt::NotNeeded) => self.finish(|_| WriteOutcome::Confirmed),
            Ok(RoundAttempt::Answered(replies, waited)) => {
                let mut replies = replies.into_iter();
                self.finish(|write| match replies.next() {
                    Some(reply) => write_outcome(write, reply, &waited, limit),
                    None => WriteOutcome::Failed(unconfirmed(limit, "a reply is missing")),
                });
            }
            Err(error) => {
                self.mode.lock().forget();
                let failure = match error.outage() {
                    // What is to be done is the same as for any other use of the server.
                    Some(StoreOutage::Misconfigured | StoreOutage::AccessDenied) => error,
                    _ => unconfirmed(limit, &error.to_string()),
                };
                self.finish(|_| WriteOutcome::Failed(failure.clone()));
            }
        }
    }

    fn finish(self, mut outcome: impl FnMut(MarkWrite) -> WriteOutcome) {
        for WaitingWrite { write, done } in self.writes {
            // Its caller may have given up.
            let _ = done.send(outcome(write));
        }
    }

    /// Marks all writes and waits, on one connection: a wait on another connection would confirm what is not confirmed.
    async fn attempt(&self, first_key: &str, deadline: Instant) -> Result<RoundAttempt, StoreError> {
        let mode = self.find_mode(first_key).await?;
        let left = deadline.saturating_duration_since(Instant::now());
        let Some(wait) = mode.wait_command(left) else { return Ok(RoundAttempt::NotNeeded) };
        let mut commands = redis::pipe();
        for waiting in &self.writes {
            commands.add_command(ScriptCall::new(&waiting.write).whole_command());
        }
        commands.add_command(wait);
        let mut replies = match self.parameters.connections.send_to_node_of(first_key, &commands).await? {
            Ok(replies) => replies,
            Err(error) if is_misrouted(&error) => return Ok(RoundAttempt::Misrouted),
            Err(error) => return Err(to_store_error(error)),
        };
        let waited = replies.pop().unwrap_or(Value::Nil);
        for reply in &replies {
            if let Value::ServerError(error) = reply
                && let error = RedisError::from(error.clone())
                && is_about_server(&error)
            {
                return Err(to_store_error(error));
            }
        }
        match mode.read_wait(waited) {
            Ok(waited) => Ok(RoundAttempt::Answered(replies, waited)),
            Err(error) if is_mode_outdated(&error) => {
                self.mode.lock().forget();
                Err(StoreError::Unavailable("Redis has stopped to write its append-only file".into()))
            }
            Err(error) => Err(to_store_error(error)),
        }
    }

    async fn find_mode(&self, key: &str) -> Result<ConfirmationMode, StoreError> {
        let known = self.mode.lock().current.clone();
        if let Some((mode, until)) = known
            && Instant::now() < until
        {
            return Ok(mode);
        }
        let mode = ConfirmationMode::find(self.parameters.policy, &self.parameters.connections, key).await?;
        self.mode.lock().record(&mode);
        Ok(mode)
    }
}

/// Whether a node of a cluster does not have the key.
fn is_misrouted(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask))
}

/// Whether an error says that the server writes nothing at all now, for example because it has become a replica. Other errors are
/// those of one session.
fn is_about_server(error: &RedisError) -> bool {
    let has_no_master =
        matches!(error.kind(), ErrorKind::Server(ServerErrorKind::MasterDown | ServerErrorKind::ClusterDown));
    has_no_master || (!is_misrouted(error) && classify_error(error).0 != StoreOutage::Unreachable)
}

/// Whether another attempt may succeed.
fn is_temporary(error: &StoreError) -> bool {
    !matches!(error.outage(), None | Some(StoreOutage::Misconfigured | StoreOutage::AccessDenied))
}

fn write_outcome(write: MarkWrite, reply: Value, waited: &WaitOutcome, limit: Duration) -> WriteOutcome {
    let reply = match reply.extract_error() {
        Ok(reply) => reply,
        Err(error) if is_misrouted(&error) => return WriteOutcome::Misrouted(write),
        Err(error) => return WriteOutcome::Failed(unconfirmed(limit, &to_store_error(error).to_string())),
    };
    match (read_reply(reply), waited) {
        (Ok(MarkReply::Marked), WaitOutcome::Confirmed) => WriteOutcome::Confirmed,
        (Ok(MarkReply::Marked), WaitOutcome::TimedOut(why)) => WriteOutcome::Failed(unconfirmed(limit, why)),
        (Ok(MarkReply::NotFound), _) => WriteOutcome::NotFound,
        (Ok(MarkReply::Lost), _) => WriteOutcome::Lost,
        (Err(error), _) => WriteOutcome::Failed(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_of_confirmations_is_reported_once() {
        let mut known = KnownMode::default();
        let off = ConfirmationMode::Off { reason: Some("Redis writes no append-only file".to_owned()) };
        for (mode, has_confirmed) in [
            (&off, false),
            (&ConfirmationMode::AppendOnlyFile { fsync: None }, true),
            (&off, false),
            (&off, false),
            (&ConfirmationMode::Replicas(1), true),
        ] {
            known.record(mode);
            assert_eq!(known.has_confirmed, has_confirmed, "{mode:?}");
            known.forget();
        }
    }
}
