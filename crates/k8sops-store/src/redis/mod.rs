//! Sessions in Redis: for any number of processes at once.
//!
//! Every write is one Lua script on the keys of one session, which are on one node: all of it happens, or nothing
//! ([`scripts`]). What spans sessions (a user's list, the schedule of those with work) is written beside it and mended when
//! it is read: it may be behind the sessions, never the sessions behind it. Names of keys: [`keys`].

mod bells;
mod index;
mod keys;
mod link;
mod memories;
mod outputs;
mod scripts;
mod usage;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use redis::{FromRedisValue, Value};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep};

pub use link::{RedisConfig, Topology};

use self::{
    bells::Bells,
    index::Index,
    keys::Keys,
    link::{Link, unavailable},
    scripts::{Answer, SCRIPTS, Script},
};
use k8sops_core::{
    CommandId, CommandReceipt, EventBody, EventPage, INBOX_LIMIT, INBOX_LIMIT_ALL, IdleDeletion, Inbox, InboxEntry,
    LeaseEpoch, Leases, ListCursor, LogCommit, MessageId, MessagePreview, NotificationTopic, Notifications,
    PreviewPage, RemainingWork, SessionCommand, SessionEvent, SessionId, SessionIndex, SessionLease, SessionLog,
    SessionState, SessionStore, SessionSummary, StoreError, StoreNotification, UserId,
};

/// Receipts that are kept of a session.
const RECEIPTS: usize = 1000;
/// How long a commit is tried whose answer does not come. Less than a lease, which is renewed at other times.
const COMMIT_FOR: Duration = Duration::from_secs(4);
/// The wait between two such attempts.
const COMMIT_RETRY: Duration = Duration::from_millis(100);
/// How long the preview of a message outlives an owner that died in the middle of it.
const PREVIEW_TTL: Duration = Duration::from_secs(600);
/// A command whose taker dies before an owner hears of it is found after this.
const COMMAND_DUE: Duration = Duration::from_secs(1);

/// Sessions in Redis.
pub struct RedisStore {
    /// For what is short and must not wait.
    writes: Arc<Link>,
    /// For what may be long: a replay of one session must not delay the commits of the others.
    reads: Arc<Link>,
    bells: Bells,
    keys: Keys,
    index: Index,
    shallow: bool,
    session_ttl: u64,
    memories: memories::Known,
}

impl RedisStore {
    /// Sessions in the Redis that `config` names. Connects when it is first used. Must be called on a runtime.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn new(config: &RedisConfig) -> Result<Self, StoreError> {
        let writes = Arc::new(Link::new(config)?);
        let reads = Arc::new(Link::new(config)?);
        let keys = Keys::new(&config.prefix);
        Ok(Self {
            bells: Bells::new(reads.clone(), keys.clone()),
            index: Index::new(writes.clone(), keys.clone()),
            writes,
            reads,
            keys,
            shallow: config.shallow,
            session_ttl: config.session_ttl.map_or(0, |ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)),
            memories: memories::Known::default(),
        })
    }

    async fn run(&self, script: &Script, keys: &[String], args: &[&[u8]]) -> Result<Answer, StoreError> {
        self.writes.ask(&script.with(keys, args)).await
    }
}

/// What the log says there is to do, as the scripts read it.
fn work(summary: &SessionSummary) -> &'static str {
    match (summary.open_run, summary.has_work()) {
        (Some(_), _) => "1",
        (None, true) => "2",
        (None, false) => "0",
    }
}

#[async_trait]
impl SessionStore for RedisStore {
    fn backend_name(&self) -> &'static str {
        "redis"
    }

    async fn ping(&self) -> Result<(), StoreError> {
        // Not PING: a node that answers it may yet not take what is written (a replica, a cluster without a quorum).
        self.index.probe().await?;
        self.reads.ask::<()>(&redis::cmd("PING")).await
    }

    fn notifications(&self) -> Option<&dyn Notifications> {
        Some(self)
    }
}

#[async_trait]
impl SessionLog for RedisStore {
    async fn create_session(&self, created: &SessionEvent) -> Result<(), StoreError> {
        let session = created.session_id;
        let summary = SessionSummary::begin(created)
            .ok_or_else(|| StoreError::Corrupt("a session begins with session_created".into()))?;
        // In the list first: a session that is in no list could never be found and deleted.
        self.index.add(&summary).await?;
        let (summed, event, ttl) = (json(&summary), json(created), self.session_ttl.to_string());
        let args: [&[u8]; 4] = [summary.user_id.as_str().as_bytes(), &summed, &event, ttl.as_bytes()];
        let keys = [self.keys.meta(session), self.keys.log(session)];
        let answer = self.run(&SCRIPTS.create, &keys, &args).await?;
        if answer.tag() == "exists"
            && let Some(there) = self.read_summary(session).await?
        {
            // The list says again what is true.
            self.index.remove(&summary.user_id, session).await?;
            self.index.add(&there).await?;
        }
        answer.expect_ok(session, None)
    }

    async fn commit_events(&self, commit: LogCommit<'_>) -> Result<(), StoreError> {
        let session = commit.session;
        let gapless = commit.events.iter().zip(commit.expected_seq + 1..).all(|(event, seq)| event.seq == seq);
        let checkpoint_fits = commit.checkpoint.is_none_or(|state| state.last_seq() == commit.expected_seq);
        if !gapless || !checkpoint_fits {
            return Err(StoreError::SeqConflict { session, expected: commit.expected_seq, found: commit.expected_seq });
        }
        let closed = commit.events.iter().rev().find_map(|event| match &event.body {
            EventBody::AssistantMessage(message) => Some(message.message_id.to_string()),
            _ => None,
        });
        let void = commit.events.iter().any(|e| e.body.ends_run() || matches!(e.body, EventBody::RunRecovered(_)));
        let flag = |is: bool| if is { b"1".to_vec() } else { b"0".to_vec() };
        let mut args: Vec<Vec<u8>> = vec![
            commit.epoch.0.to_string().into_bytes(),
            commit.expected_seq.to_string().into_bytes(),
            uuid::Uuid::now_v7().to_string().into_bytes(),
            json(commit.summary),
            work(commit.summary).as_bytes().to_vec(),
            commit.checkpoint.map(json).unwrap_or_default(),
            flag(self.shallow),
            closed.unwrap_or_default().into_bytes(),
            flag(void),
            self.session_ttl.to_string().into_bytes(),
            self.keys.channel(session, NotificationTopic::Log).into_bytes(),
            commit.consumed.len().to_string().into_bytes(),
        ];
        args.extend(commit.consumed.iter().map(|place| place.to_string().into_bytes()));
        args.extend(commit.events.iter().map(|event| json(event.as_ref())));
        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        let keys = self.keys.all(session);
        // Beside the commit, in the same packet. The list is put right by the next commit, should this one fail.
        let (answer, touched) = tokio::join!(self.commit_once(&keys, &args), self.index.touch(commit.summary));
        if let Err(error) = touched {
            tracing::debug!(%session, %error, "the list of sessions is behind");
        }
        answer?.expect_ok(session, Some(commit.epoch)).map_err(|error| match error {
            StoreError::SeqConflict { session, found, .. } => {
                StoreError::SeqConflict { session, expected: commit.expected_seq, found }
            }
            error => error,
        })
    }

    async fn read_events(&self, session: SessionId, after: u64, limit: usize) -> Result<EventPage, StoreError> {
        let mut look = redis::pipe();
        look.atomic().cmd("HMGET").arg(self.keys.meta(session)).arg("last_seq").arg("oldest_seq");
        look.cmd("XRANGE").arg(self.keys.log(session)).arg(format!("({after}-0")).arg("+");
        look.arg("COUNT").arg(limit.max(1));
        let (heads, entries): ((Option<u64>, Option<u64>), Vec<Entry>) = self.reads.ask(&look).await?;
        let (Some(last_seq), Some(oldest_seq)) = heads else { return Err(StoreError::NotFound(session)) };
        let events: Result<Vec<Arc<SessionEvent>>, StoreError> =
            entries.iter().map(|entry| parse(entry.field("e")?).map(Arc::new)).collect();
        Ok(EventPage { events: events?, last_seq, oldest_seq })
    }

    async fn read_checkpoint(&self, session: SessionId) -> Result<Option<SessionState>, StoreError> {
        let mut look = redis::pipe();
        look.cmd("EXISTS").arg(self.keys.meta(session)).cmd("GET").arg(self.keys.checkpoint(session));
        let (there, text): (bool, Option<String>) = self.reads.ask(&look).await?;
        if !there {
            return Err(StoreError::NotFound(session));
        }
        text.map(|text| parse(&text)).transpose()
    }
}

#[async_trait]
impl Inbox for RedisStore {
    async fn submit_command(&self, session: SessionId, command: SessionCommand) -> Result<CommandReceipt, StoreError> {
        // First of all, so that the command is found even if this process ends right after it was taken.
        self.index.schedule(session, COMMAND_DUE).await?;
        let ours = CommandReceipt::of(&command, 0);
        let flag = |is: bool| if is { b"1" as &[u8] } else { b"0" };
        let (messages, all) = (INBOX_LIMIT.to_string(), INBOX_LIMIT_ALL.to_string());
        let (receipts, ttl) = (RECEIPTS.to_string(), self.session_ttl.to_string());
        let channel = self.keys.channel(session, NotificationTopic::Inbox);
        let receipt_id = receipt_id(&command.by, &command.command_id);
        let (receipt, body) = (json(&ours), json(&command));
        let args: [&[u8]; 12] = [
            receipt_id.as_bytes(),
            command.fingerprint.as_bytes(),
            &receipt,
            &body,
            flag(command.is_message()),
            flag(command.only_if_idle()),
            messages.as_bytes(),
            all.as_bytes(),
            receipts.as_bytes(),
            ttl.as_bytes(),
            channel.as_bytes(),
            command.command_id.as_str().as_bytes(),
        ];
        let keys = [
            self.keys.meta(session),
            self.keys.inbox(session),
            self.keys.receipts(session),
            self.keys.receipt_order(session),
        ];
        // Asked twice when an answer is lost, it is taken once: by its id.
        let answer = self.run(&SCRIPTS.submit, &keys, &args).await?;
        match (answer.tag(), answer.number(), answer.text()) {
            ("ok", Some(seq), _) => Ok(CommandReceipt { seq, ..ours }),
            ("known", _, Some(known)) => {
                let first = parse_receipt(known)?;
                if first.fingerprint != command.fingerprint {
                    return Err(StoreError::CommandIdReused);
                }
                // The ids of what it causes are made anew for every sending: the same ones are of this very one.
                let this_one = command.is_message() && first.run_id == ours.run_id;
                Ok(CommandReceipt { duplicate: !this_one, ..first })
            }
            ("busy", ..) => Err(StoreError::Busy(session)),
            ("full", Some(limit), _) => Err(StoreError::InboxFull(usize::try_from(limit).unwrap_or(INBOX_LIMIT))),
            ("not_found", ..) => {
                self.index.forget(session).await?;
                Err(StoreError::NotFound(session))
            }
            _ => Err(answer.unexpected()),
        }
    }

    async fn find_receipt(
        &self,
        session: SessionId,
        by: &UserId,
        command: &CommandId,
    ) -> Result<Option<CommandReceipt>, StoreError> {
        let mut look = redis::pipe();
        look.cmd("EXISTS").arg(self.keys.meta(session));
        // Older versions kept it under the id alone.
        let fields = [receipt_id(by, command), command.as_str().to_owned()];
        look.cmd("HMGET").arg(self.keys.receipts(session)).arg(&fields);
        let (there, receipts): (bool, [Option<String>; 2]) = self.reads.ask(&look).await?;
        if !there {
            return Err(StoreError::NotFound(session));
        }
        receipts.into_iter().flatten().next().map(|receipt| parse_receipt(&receipt)).transpose()
    }

    async fn list_inbox(&self, session: SessionId) -> Result<Vec<InboxEntry>, StoreError> {
        let mut look = redis::pipe();
        look.cmd("EXISTS").arg(self.keys.meta(session));
        look.cmd("XRANGE").arg(self.keys.inbox(session)).arg("-").arg("+");
        let (there, entries): (bool, Vec<Entry>) = self.reads.ask(&look).await?;
        if !there {
            return Err(StoreError::NotFound(session));
        }
        entries
            .iter()
            .map(|entry| {
                let accepted_seq = entry.field("seq")?.parse();
                Ok(InboxEntry {
                    position: entry.place()?,
                    accepted_seq: accepted_seq.map_err(|_| StoreError::Corrupt("a command without a seq".into()))?,
                    command: parse(entry.field("command")?)?,
                })
            })
            .collect()
    }
}

#[async_trait]
impl Leases for RedisStore {
    async fn acquire_lease(&self, session: SessionId, owner: &str, ttl: Duration) -> Result<SessionLease, StoreError> {
        let answer = self.run(&SCRIPTS.acquire, &[self.keys.meta(session)], &[owner.as_bytes(), &millis(ttl)]).await?;
        match (answer.tag(), answer.number()) {
            ("ok", Some(epoch)) => Ok(SessionLease { session, epoch: LeaseEpoch(epoch) }),
            ("held", Some(left)) => {
                // Whoever asked had heard of work; it is looked at again when the lease has run out.
                self.index.schedule(session, Duration::from_millis(left)).await?;
                Err(StoreError::Held(session))
            }
            ("not_found", _) => {
                self.index.forget(session).await?;
                Err(StoreError::NotFound(session))
            }
            _ => Err(answer.unexpected()),
        }
    }

    async fn renew_lease(&self, lease: SessionLease, ttl: Duration) -> Result<(), StoreError> {
        let epoch = lease.epoch.0.to_string();
        let keys = [self.keys.meta(lease.session)];
        self.run(&SCRIPTS.renew, &keys, &[epoch.as_bytes(), &millis(ttl)])
            .await?
            .expect_ok(lease.session, Some(lease.epoch))
    }

    async fn release_lease(&self, lease: SessionLease) -> Result<RemainingWork, StoreError> {
        let session = lease.session;
        // Before the look at what is left: what comes in after it changes the schedule, and is not taken off.
        let scheduled = self.index.scheduled(session).await?;
        let keys = [self.keys.meta(session), self.keys.inbox(session)];
        let answer = self.run(&SCRIPTS.release, &keys, &[lease.epoch.0.to_string().as_bytes()]).await?;
        match (answer.tag(), answer.number()) {
            ("ok", Some(0)) => {
                if let Some(scheduled) = scheduled {
                    self.index.settle(session, &scheduled).await?;
                }
                Ok(RemainingWork::None)
            }
            ("ok", Some(_)) => {
                self.index.hand_on(session).await?;
                Ok(RemainingWork::Unfinished)
            }
            // The schedule is what finds the session again, should the owner of now die.
            ("late", _) => Ok(RemainingWork::None),
            _ => Err(answer.unexpected()),
        }
    }
}

#[async_trait]
impl SessionIndex for RedisStore {
    async fn read_summary(&self, session: SessionId) -> Result<Option<SessionSummary>, StoreError> {
        summary(&self.reads, &self.keys, session).await
    }

    async fn list_sessions(
        &self,
        user: &UserId,
        after: Option<ListCursor>,
        limit: usize,
    ) -> Result<Vec<SessionSummary>, StoreError> {
        self.index.list(user, after, limit).await
    }

    async fn count_sessions(&self, user: &UserId) -> Result<usize, StoreError> {
        self.index.count(user).await
    }

    async fn delete_session(&self, session: SessionId) -> Result<(), StoreError> {
        self.remove(session, false).await.map(drop)
    }

    async fn delete_idle_session(&self, session: SessionId) -> Result<IdleDeletion, StoreError> {
        self.remove(session, true).await
    }

    async fn claim_unfinished_sessions(&self) -> Result<Vec<SessionId>, StoreError> {
        self.index.claim().await
    }
}

impl RedisStore {
    /// Removes a session; with `only_idle`, only if it has no work.
    async fn remove(&self, session: SessionId, only_idle: bool) -> Result<IdleDeletion, StoreError> {
        let summary = self.read_summary(session).await?.ok_or(StoreError::NotFound(session))?;
        let (log, inbox) =
            (self.keys.channel(session, NotificationTopic::Log), self.keys.channel(session, NotificationTopic::Inbox));
        let args: [&[u8]; 3] = [log.as_bytes(), inbox.as_bytes(), if only_idle { b"1" } else { b"0" }];
        let answer = self.run(&SCRIPTS.delete, &self.keys.all(session), &args).await?;
        if answer.tag() == "busy" {
            return Ok(IdleDeletion::Busy);
        }
        // The session is gone. Should this fail, its entries are dropped when they are come across.
        for cleared in [self.index.remove(&summary.user_id, session).await, self.index.forget(session).await] {
            if let Err(error) = cleared {
                tracing::debug!(%session, %error, "an entry of a deleted session is left");
            }
        }
        answer.expect_ok(session, None).map(|()| IdleDeletion::Deleted)
    }

    /// Writes a commit. When the answer is lost it is asked for under the same id: what was written is then not written
    /// again, and what was not, is.
    async fn commit_once(&self, keys: &[String], args: &[&[u8]]) -> Result<Answer, StoreError> {
        let until = Instant::now() + COMMIT_FOR;
        loop {
            match self.run(&SCRIPTS.commit, keys, args).await {
                Err(StoreError::Unavailable(_)) if Instant::now() + COMMIT_RETRY < until => sleep(COMMIT_RETRY).await,
                answer => return answer,
            }
        }
    }
}

#[async_trait]
impl Notifications for RedisStore {
    async fn write_preview(
        &self,
        lease: SessionLease,
        message: MessageId,
        pieces: &[MessagePreview],
    ) -> Result<(), StoreError> {
        let session = lease.session;
        let (epoch, message, ttl) = (lease.epoch.0.to_string(), message.to_string(), millis(PREVIEW_TTL));
        let channel = self.keys.channel(session, NotificationTopic::Log);
        let pieces: Vec<Vec<u8>> = pieces.iter().map(json).collect();
        let mut args: Vec<&[u8]> = vec![epoch.as_bytes(), message.as_bytes(), &ttl, channel.as_bytes()];
        args.extend(pieces.iter().map(Vec::as_slice));
        let keys = [self.keys.meta(session), self.keys.preview(session)];
        // Asked once: a piece that is written twice would be seen twice.
        let mut connection = self.writes.get().await?;
        if let Err(error) = SCRIPTS.preview.with(&keys, &args).run::<Answer>(&mut connection).await {
            self.writes.failed(&connection, &error).await;
            return Err(unavailable(error));
        }
        Ok(())
    }

    async fn read_preview(&self, session: SessionId, after: u64) -> Result<PreviewPage, StoreError> {
        let from = format!("({after}-0");
        let entries: Vec<Entry> =
            self.reads.ask(redis::cmd("XRANGE").arg(self.keys.preview(session)).arg(from).arg("+") as &_).await?;
        let mut page = PreviewPage { pieces: Vec::new(), position: after };
        for entry in &entries {
            page.pieces.push(parse(entry.field("p")?)?);
            page.position = entry.place()?;
        }
        Ok(page)
    }

    async fn set_approval_deadline(
        &self,
        session: SessionId,
        until: Option<k8sops_core::Timestamp>,
    ) -> Result<(), StoreError> {
        self.index.note_waiting(session, until).await
    }

    async fn list_awaiting_approval(&self, limit: usize) -> Result<Vec<SessionId>, StoreError> {
        self.index.waiting(limit).await
    }

    fn subscribe(&self, session: SessionId, topic: NotificationTopic) {
        self.bells.listen(session, topic);
    }

    fn unsubscribe(&self, session: SessionId, topic: NotificationTopic) {
        self.bells.leave(session, topic);
    }

    async fn next_notification(&self) -> StoreNotification {
        self.bells.ring().await
    }
}

/// A session's summary as of now.
async fn summary(link: &Link, keys: &Keys, session: SessionId) -> Result<Option<SessionSummary>, StoreError> {
    let mut look = redis::cmd("HMGET");
    look.arg(keys.meta(session)).arg("summary").arg("waiting");
    let (found, waiting): (Option<String>, Option<u64>) = link.ask(&look).await?;
    let waiting = waiting.is_some_and(|messages| messages > 0);
    found.map(|text| Ok(SessionSummary { waiting, ..parse(&text)? })).transpose()
}

/// An entry of a stream: its id and its fields.
struct Entry {
    id: String,
    fields: Vec<(String, String)>,
}

impl FromRedisValue for Entry {
    fn from_redis_value(value: Value) -> Result<Self, redis::ParsingError> {
        let (id, fields) = redis::from_redis_value(value)?;
        Ok(Self { id, fields })
    }
}

impl Entry {
    fn field(&self, name: &str) -> Result<&str, StoreError> {
        let found = self.fields.iter().find(|(field, _)| field == name);
        found
            .map(|(_, value)| value.as_str())
            .ok_or_else(|| StoreError::Corrupt(format!("an entry without {name:?}").into()))
    }

    /// The number in its id.
    fn place(&self) -> Result<u64, StoreError> {
        let number = self.id.split_once('-').and_then(|(number, _)| number.parse().ok());
        number.ok_or_else(|| StoreError::Corrupt(format!("an entry with the id {:?}", self.id).into()))
    }
}

fn json<T: serde::Serialize + ?Sized>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("records have string keys and no failing Serialize")
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::corrupt("Redis", error))
}

/// Under what a receipt is kept: an id is its sender's. A user's id has no spaces.
fn receipt_id(by: &UserId, command: &CommandId) -> String {
    format!("{by} {}", command.as_str())
}

/// A receipt as `submit.lua` keeps it: the seq before the rest.
fn parse_receipt(kept: &str) -> Result<CommandReceipt, StoreError> {
    let (seq, receipt) = kept.split_once(' ').unwrap_or(("", kept));
    let seq = seq.parse().map_err(|_| StoreError::Corrupt("a receipt without a seq".into()))?;
    Ok(CommandReceipt { seq, ..parse(receipt)? })
}

fn millis(duration: Duration) -> Vec<u8> {
    duration.as_millis().to_string().into_bytes()
}
