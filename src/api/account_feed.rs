//! What a stream of an account sends: a beginning, then what changes. How it is written is not known here.

use std::{
    collections::{HashSet, VecDeque},
    num::NonZeroUsize,
    time::Duration,
};

use k8sops_core::{
    AccountChange, AccountGap, AccountHello, LazyDeadline, PROTOCOL_VERSION, SessionId, SessionWarning, Timestamp,
    UserId,
};
use k8sops_tools::ApprovalBy;
use lru::LruCache;
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    caller::Caller,
    event_stream::{StreamGuard, StreamStop, wait_for_store_retry},
    problem::ProblemDetails,
    state::ApiState,
};
use crate::{
    auth::UserRole,
    runtime::{AccountNews, AccountSubscription, Sessions},
};

/// How often a quiet stream sends a sign of life.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// The sessions of which a stream remembers what it has sent.
const REMEMBERED_SESSIONS: NonZeroUsize = NonZeroUsize::new(4096).expect("the constant is not zero");

/// A frame of the stream.
pub(super) struct AccountFrame {
    /// The value of `type`.
    pub(super) kind: &'static str,
    /// The position after this frame; `None` if the frame has none.
    pub(super) cursor: Option<String>,
    /// The frame as JSON.
    pub(super) json: String,
}

/// What a stream has to send next.
pub(super) enum AccountOutput {
    Frame(AccountFrame),
    /// Nothing has changed for a while.
    Quiet,
}

/// Where a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StreamExtent {
    /// It follows the account.
    Live,
    /// It ends with what is known.
    Known,
}

/// What ended the wait of a feed.
enum FeedInput {
    News(AccountNews),
    Quiet,
    Stopped(StreamStop),
}

/// The changes of an account, from a position on.
pub(super) struct AccountFeed {
    sessions: Sessions,
    user: UserId,
    own: AccountSubscription,
    of_others: Option<AccountSubscription>,
    guard: StreamGuard,
    shutdown: CancellationToken,
    /// The newest change that was sent.
    position: Timestamp,
    /// The newest seq that was sent of each session.
    sent: LruCache<SessionId, u64>,
    /// The sessions whose end was sent.
    deleted: HashSet<SessionId>,
    keep_alive: LazyDeadline,
    frames: VecDeque<AccountFrame>,
    /// Whether changes were missed and are not read yet.
    has_missed: bool,
    extent: StreamExtent,
    /// What stopped the feed from outside.
    stopped_by: Option<StreamStop>,
}

impl AccountFeed {
    /// Opens the feed of a caller after a position, or from now on.
    pub(super) async fn open(
        state: &ApiState,
        caller: &Caller,
        after: Option<Timestamp>,
        extent: StreamExtent,
    ) -> Result<Self, ProblemDetails> {
        let guard = StreamGuard::new(state, &caller.identity)?;
        let answers_others =
            state.sessions.approval_by() == ApprovalBy::Approver && caller.identity.roles.contains(UserRole::Approver);
        // Before anything is read: what changes meanwhile is in the queue.
        let own = state.sessions.watch_account(&caller.user);
        let of_others = answers_others.then(|| state.sessions.watch_approvals());
        let mut feed = Self {
            sessions: state.sessions.clone(),
            user: caller.user.clone(),
            own,
            of_others,
            guard,
            shutdown: state.shutdown.clone(),
            position: after.unwrap_or_else(Timestamp::now),
            sent: LruCache::new(REMEMBERED_SESSIONS),
            deleted: HashSet::new(),
            keep_alive: LazyDeadline::new(),
            frames: VecDeque::new(),
            has_missed: false,
            extent,
            stopped_by: None,
        };
        feed.push_hello(answers_others).await?;
        if let Some(after) = after {
            feed.push_backlog(after).await?;
        }
        Ok(feed)
    }

    /// Returns what to send next, or `None` at the end. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Option<AccountOutput> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return Some(AccountOutput::Frame(frame));
            }
            if self.extent == StreamExtent::Known {
                return None;
            }
            if self.has_missed {
                self.catch_up().await;
                self.has_missed = false;
                continue;
            }
            match self.next_input().await {
                FeedInput::News(AccountNews::Change(change)) => self.push_change(&change),
                FeedInput::News(AccountNews::Missed) => self.has_missed = true,
                FeedInput::Quiet => return Some(AccountOutput::Quiet),
                FeedInput::Stopped(stop) => self.stop(stop),
            }
        }
    }

    /// Returns what stopped the feed from outside, if that was its end.
    pub(super) fn stopped_by(&self) -> Option<StreamStop> {
        self.stopped_by
    }

    async fn next_input(&mut self) -> FeedInput {
        let Self { own, of_others, guard, keep_alive, .. } = self;
        let news = async {
            match of_others {
                Some(of_others) => tokio::select! {
                    news = own.next() => news,
                    news = of_others.next() => news,
                },
                None => own.next().await,
            }
        };
        tokio::select! {
            news = keep_alive.wait_until(Instant::now() + KEEP_ALIVE_INTERVAL, news) => {
                news.map_or(FeedInput::Quiet, FeedInput::News)
            }
            stop = guard.stopped() => FeedInput::Stopped(stop),
        }
    }

    fn stop(&mut self, stop: StreamStop) {
        self.extent = StreamExtent::Known;
        self.stopped_by = Some(stop);
        if stop == StreamStop::CredentialsExpired {
            let why = "the key or token is no longer valid; reconnect with a valid one";
            self.push_frame("warning", to_object(&SessionWarning::new("unauthenticated", why)));
        }
    }

    async fn push_hello(&mut self, answers_others: bool) -> Result<(), ProblemDetails> {
        let approvals = self.sessions.list_pending_approvals(&self.user, answers_others).await?;
        let inputs = self.sessions.list_pending_inputs(&self.user).await?;
        let hello = AccountHello {
            protocol: PROTOCOL_VERSION,
            user_id: self.user.clone(),
            cursor: self.position.as_millis().to_string(),
            approvals: approvals.into_iter().map(|approval| approval.asked.approval_id).collect(),
            inputs: inputs.into_iter().map(|input| input.asked.input_id).collect(),
        };
        self.push_frame("hello", to_object(&hello));
        Ok(())
    }

    /// Adds the changes since a point in time.
    async fn push_backlog(&mut self, since: Timestamp) -> Result<(), ProblemDetails> {
        let backlog = self.sessions.read_account_changes(&self.user, since).await?;
        if backlog.has_gap {
            self.push_gap(Some(since));
        }
        for change in &backlog.changes {
            self.push_change(change);
        }
        Ok(())
    }

    /// Reads what may have been missed.
    async fn catch_up(&mut self) {
        let since = self.position;
        while self.push_backlog(since).await.is_err() && !self.shutdown.is_cancelled() {
            wait_for_store_retry().await;
        }
        // What was missed of the sessions of others is not read.
        if self.of_others.is_some() {
            self.push_gap(None);
        }
    }

    fn push_gap(&mut self, requested: Option<Timestamp>) {
        let gap = AccountGap { requested: requested.map(|at| at.as_millis().to_string()) };
        self.push_frame("gap", to_object(&gap));
    }

    fn push_change(&mut self, change: &AccountChange) {
        let (kind, mut frame, at) = match change {
            AccountChange::Logged { user, event } => {
                let sent = self.sent.get_or_insert_mut(event.session_id, || 0);
                if event.seq <= *sent {
                    return;
                }
                *sent = event.seq;
                let mut frame = to_object(event.as_ref());
                frame.insert("user_id".to_owned(), json!(user));
                (event.body.event_type(), frame, event.ts)
            }
            AccountChange::Deleted(deleted) => {
                if !self.deleted.insert(deleted.session_id) {
                    return;
                }
                ("session_deleted", to_object(deleted), deleted.ts)
            }
            AccountChange::Queued(queued) => ("message_queued", to_object(queued), queued.ts),
        };
        self.position = self.position.max(at);
        frame.insert("cursor".to_owned(), json!(self.position.as_millis().to_string()));
        self.push_frame(kind, frame);
    }

    fn push_frame(&mut self, kind: &'static str, mut frame: Map<String, Value>) {
        frame.insert("type".to_owned(), json!(kind));
        let cursor = frame.get("cursor").and_then(Value::as_str).map(str::to_owned);
        self.frames.push_back(AccountFrame { kind, cursor, json: Value::Object(frame).to_string() });
    }
}

fn to_object(value: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(value) {
        Ok(Value::Object(object)) => object,
        _ => Map::new(),
    }
}
