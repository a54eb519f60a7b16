//! Logs and checkpoints of sessions.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use backon::{ConstantBuilder, Retryable};
use tokio::time::Instant;

use super::{
    encoding::{StreamEntry, parse_json, to_json},
    inbox::{COMMAND_DUE_AFTER, RECEIPT_LIMIT, receipt_id},
    lost_keys::{
        LogExtent, SmallFields, add_integrity_checks, foreign_log, has_required_fields, missing_log, name_foreign_key,
    },
    offload::offload_large,
    registry::{ListUpdate, RedisSessionRegistry},
    scripts::{
        ChainedEvent, CommitEvents, CommitReply, CreateReply, CreateSession, OpenWork, ReportLostBranch, ReportReply,
    },
    store::{RedisStore, ReplySize},
};
use k8sops_core::{
    CommandReceipt, EventBody, EventPage, LeaseEpoch, LogCommit, LogHead, LogLineage, LostBranch, NewCommandCommit,
    NotificationTopic, SessionCommand, SessionEvent, SessionId, SessionLog, SessionState, SessionSummary, StoreError,
    load_state,
};

/// How long a commit is retried whose reply is lost. Less than the duration of a lease.
const COMMIT_RETRY_LIMIT: Duration = Duration::from_secs(3);
const COMMIT_RETRY_DELAY: Duration = Duration::from_millis(100);
/// A larger commit, mostly one with a checkpoint, would hold up others on the shared connection. On which connection a commit
/// is sent makes no difference to the session: its writer awaits each one, and the script checks what it follows.
const LARGE_COMMIT_BYTES: usize = 64 * 1024;

#[async_trait]
impl SessionLog for RedisStore {
    async fn create_session(&self, created: &SessionEvent) -> Result<(), StoreError> {
        let session = created.session_id;
        let summary = SessionSummary::from_first_event(created)
            .ok_or_else(|| StoreError::Corrupt("the first event of a session must be session_created".into()))?;
        // The list comes first: a session that no list has could never be found and deleted.
        self.registry.add_session(&summary).await?;
        let first_event = to_json(created);
        let create = CreateSession {
            meta_key: self.keys.meta(session),
            log_key: self.keys.log(session),
            user: summary.user_id.to_string(),
            summary: to_json(&summary),
            lineage: LogLineage::extend(None, &first_event).to_string(),
            first_event,
            session_ttl_ms: self.session_ttl,
        };
        match self.writes.run_script(&create).await? {
            CreateReply::Created => Ok(()),
            CreateReply::Exists => {
                if let Some(existing) = self.registry.session_summary(session).await? {
                    // The existing session may belong to another user: puts the lists right.
                    self.registry.remove_session(&summary.user_id, session).await?;
                    self.registry.add_session(&existing).await?;
                }
                Err(StoreError::Exists(session))
            }
        }
    }

    async fn commit_events(&self, commit: LogCommit<'_>) -> Result<Option<LogLineage>, StoreError> {
        let (reply, lineage) = self.run_commit(commit, None).await?;
        self.finish_commit(commit, reply).await.map(|()| lineage)
    }

    async fn commit_new_command(
        &self,
        commit: LogCommit<'_>,
        command: &SessionCommand,
    ) -> Result<NewCommandCommit, StoreError> {
        if !commit.consumed.is_empty() || commit.checkpoint.is_some() {
            return Ok(NewCommandCommit::Declined);
        }
        let receipt = CommandReceipt::for_command(command, commit.expected_seq);
        // The session is scheduled while it has an owner, unless that was lost. Both are sent at the same time, this first. The commit
        // is not held up by it, and does not fail with it: the log would have to be opened again.
        let schedule = schedule_owned_session(self.registry.clone(), commit.session);
        let committing = Box::pin(self.run_commit(commit, Some(&receipt)));
        let (reply, lineage) = self.background.write_beside(schedule, committing).await?;
        if reply == CommitReply::Declined {
            self.held_logs.insert(commit.session);
            return Ok(NewCommandCommit::Declined);
        }
        self.finish_commit(commit, reply).await?;
        Ok(NewCommandCommit::Committed { receipt, lineage })
    }

    async fn read_events(&self, session: SessionId, after: u64, limit: usize) -> Result<EventPage, StoreError> {
        let StoredPage { fields, entries, has_log, has_fields, length } =
            self.read_stored_page(session, after, limit).await?;
        let (Some(last_seq), Some(oldest_seq), true) = (fields.0, fields.1, has_fields) else {
            return Err(self.registry.missing_session(session).await);
        };
        // With all events in a checkpoint, the log is empty.
        if !has_log || (length == 0 && oldest_seq <= last_seq) {
            return Err(missing_log(session));
        }
        if let Some(extent) = fields.5.as_deref().and_then(LogExtent::parse) {
            extent.check(session, oldest_seq, last_seq, length)?;
        }
        let bytes = entries.iter().map(StreamEntry::value_bytes).sum();
        offload_large(bytes, move || parse_page(session, last_seq, oldest_seq, &fields, &entries)).await
    }

    async fn read_checkpoint(&self, session: SessionId) -> Result<Option<SessionState>, StoreError> {
        let mut read = redis::pipe();
        read.cmd("EXISTS").arg(self.keys.meta(session)).cmd("GET").arg(self.keys.checkpoint(session));
        let (exists, checkpoint): (bool, Option<String>) = self.bulk_reads.query(&read).await?;
        if !exists {
            return Err(self.registry.missing_session(session).await);
        }
        let Some(json) = checkpoint else { return Ok(None) };
        offload_large(json.len(), move || parse_json("a session checkpoint", &json).map(Some)).await
    }

    async fn report_lost_branch(&self, session: SessionId, lost: &LostBranch) -> Result<(), StoreError> {
        let calls: String =
            lost.calls.iter().map(|call| String::from_utf8_lossy(&to_json(call)).into_owned() + "\n").collect();
        let report = ReportLostBranch {
            meta_key: self.keys.meta(session),
            known_seq: lost.known_seq,
            calls: Some(calls).filter(|calls| !calls.is_empty()),
        };
        match self.writes.run_script(&report).await? {
            ReportReply::Recorded => Ok(()),
            ReportReply::NotFound => Err(self.registry.missing_session(session).await),
        }
    }
}

/// How often a page is read while the log changes.
const PAGE_ATTEMPTS: usize = 16;

/// A page of a log, and the fields of the session's hash that were current when it was read.
struct StoredPage {
    fields: LogFields,
    entries: Vec<StreamEntry>,
    has_log: bool,
    /// Whether the hash has all fields that an owner needs.
    has_fields: bool,
    length: u64,
}

/// The fields of a session's hash that say how its log stands.
const LOG_FIELDS: &[&str] = &["last_seq", "oldest_seq", "head", "lost_seq", "lost_calls", "log_extent"];
/// The values of [`LOG_FIELDS`].
type LogFields = (Option<u64>, Option<u64>, Option<String>, Option<u64>, Option<String>, Option<String>);

/// What [`RedisStore::read_stored_page`] reads.
type PageReplies = (LogFields, Vec<StreamEntry>, bool, u64, LogFields, u64, u64, u64, SmallFields, bool);

/// Checks that events follow each other, and that the last one is not beyond `head`, or another one than there.
fn check_events(
    session: SessionId,
    events: &[Arc<SessionEvent>],
    head: LogHead,
    lineage_after: Option<LogLineage>,
) -> Result<(), StoreError> {
    let follows = |pair: &[Arc<SessionEvent>]| pair[1].body.may_follow(pair[0].seq, pair[1].seq);
    if let Some(gap) = events.windows(2).find(|pair| !follows(pair)) {
        let found = format!("the log of session {session} has a gap after seq {}", gap[0].seq);
        return Err(StoreError::Corrupt(found.into()));
    }
    let Some(last) = events.last() else { return Ok(()) };
    let end = LogHead { seq: last.seq, lineage: lineage_after };
    if last.seq > head.seq {
        return Err(foreign_log(session, head.seq, &format!("it has an event at seq {}", last.seq)));
    }
    if last.seq == head.seq && end.contradicts(head) {
        return Err(foreign_log(session, head.seq, "the event there is another one"));
    }
    Ok(())
}

/// Parses a page of a log, and checks it.
fn parse_page(
    session: SessionId,
    last_seq: u64,
    oldest_seq: u64,
    fields: &LogFields,
    entries: &[StreamEntry],
) -> Result<EventPage, StoreError> {
    let events = entries.iter().map(|entry| parse_json("a session event", entry.field("e")?).map(Arc::new));
    let events: Vec<Arc<SessionEvent>> = events.collect::<Result<_, StoreError>>()?;
    let lineage_after = entries.last().map(lineage_after_entry).transpose()?.flatten();
    let stored_head = fields.2.as_deref().and_then(parse_head);
    let head = stored_head.filter(|head| head.seq == last_seq).and_then(|head| head.lineage);
    check_events(session, &events, LogHead { seq: last_seq, lineage: head }, lineage_after)?;
    Ok(EventPage {
        events,
        last_seq,
        oldest_seq,
        lineage_before: entries.first().and_then(lineage_before_entry),
        lineage_after,
        head_lineage: head,
        lost_branch: parse_lost_branch(fields.3, fields.4.as_deref())?,
    })
}

/// Chains the events of a commit. Returns them with the chain value after them, which is `None` if nothing is known.
fn chain_events(commit: &LogCommit<'_>) -> (Vec<ChainedEvent>, Option<LogLineage>) {
    let mut lineage = commit.expected_lineage;
    let events = commit.events.iter().map(|event| {
        let json = to_json(event.as_ref());
        let next = LogLineage::extend(lineage, &json);
        let previous = lineage.replace(next).map(|lineage| lineage.to_string());
        ChainedEvent { json, previous }
    });
    (events.collect(), lineage)
}

/// Parses the field `head`: a seq, a space, the chain value there.
fn parse_head(stored: &str) -> Option<LogHead> {
    let (seq, lineage) = stored.split_once(' ')?;
    Some(LogHead { seq: seq.parse().ok()?, lineage: Some(lineage.parse().ok()?) })
}

/// The chain value before an event; `None` if the chain begins with it, or an older version wrote it.
fn lineage_before_entry(entry: &StreamEntry) -> Option<LogLineage> {
    entry.optional_field("p")?.parse().ok()
}

/// The chain value after an event; `None` if an older version wrote it.
fn lineage_after_entry(entry: &StreamEntry) -> Result<Option<LogLineage>, StoreError> {
    if entry.optional_field("p").is_none() {
        return Ok(None);
    }
    Ok(Some(LogLineage::extend(lineage_before_entry(entry), entry.field("e")?.as_bytes())))
}

/// Parses what `report_lost_branch.lua` wrote: a seq, and calls, one per line.
fn parse_lost_branch(known_seq: Option<u64>, calls: Option<&str>) -> Result<Option<LostBranch>, StoreError> {
    let Some(known_seq) = known_seq else { return Ok(None) };
    let mut lost = LostBranch { known_seq, calls: Vec::new() };
    for line in calls.unwrap_or_default().lines() {
        let call = parse_json("a lost tool call", line)?;
        lost.merge(LostBranch { known_seq, calls: vec![call] });
    }
    Ok(Some(lost))
}

impl RedisStore {
    /// Reads a page and the fields before and after it: if they are the same, the page is as of one instant. A transaction
    /// would be simpler, but a server that is full rejects it.
    async fn read_stored_page(&self, session: SessionId, after: u64, limit: usize) -> Result<StoredPage, StoreError> {
        let mut read = redis::pipe();
        read.cmd("HMGET").arg(self.keys.meta(session)).arg(LOG_FIELDS);
        read.cmd("XRANGE").arg(self.keys.log(session)).arg(format!("({after}-0")).arg("+");
        read.arg("COUNT").arg(limit.max(1));
        read.cmd("EXISTS").arg(self.keys.log(session)).cmd("XLEN").arg(self.keys.log(session));
        read.cmd("HMGET").arg(self.keys.meta(session)).arg(LOG_FIELDS);
        add_integrity_checks(&mut read, &self.keys, session);
        for _ in 0..PAGE_ATTEMPTS {
            let found = self.read(&read, ReplySize::of_page(limit)).await;
            let (before, entries, has_log, length, fields, .., small_fields, has_summary): PageReplies = match found {
                Ok(found) => found,
                Err(error) => return Err(name_foreign_key(&self.reads, &self.keys, session, error).await),
            };
            if before == fields {
                let has_fields = has_required_fields(&small_fields, has_summary);
                return Ok(StoredPage { fields, entries, has_log, has_fields, length });
            }
        }
        Err(StoreError::Unavailable(format!("the log of session {session} changed in {PAGE_ATTEMPTS} reads").into()))
    }

    /// Runs the script of a commit, and keeps the list of sessions. With a receipt, the commit accepts its command.
    async fn run_commit(
        &self,
        commit: LogCommit<'_>,
        accepted: Option<&CommandReceipt>,
    ) -> Result<(CommitReply, Option<LogLineage>), StoreError> {
        let session = commit.session;
        let expected = commit.expected_seq;
        if !commit.has_valid_seqs() {
            return Err(StoreError::SeqConflict { session, expected, found: expected });
        }
        let (events, lineage) = chain_events(&commit);
        let checkpoint = match commit.checkpoint {
            Some(state) => {
                let (bytes, state) = (usize::try_from(state.estimated_bytes()).unwrap_or(usize::MAX), state.clone());
                Some(offload_large(bytes, move || Ok(to_json(&state))).await?)
            }
            None => None,
        };
        let accepted =
            accepted.and_then(|receipt| Some((receipt_id(receipt.by.as_ref()?, &receipt.command_id), receipt)));
        let (receipt_id, receipt) = accepted.unzip();
        let script = CommitEvents {
            checkpoint,
            receipt_id,
            command_id: receipt.map(|receipt| receipt.command_id.as_str().to_owned()),
            receipt: receipt.map(to_json),
            ..self.commit_script(&commit, events, lineage)
        };
        self.held_logs.remove(session);
        // Both are sent together. If the list falls behind, the next commit puts it right.
        let (reply, touched) = tokio::join!(self.send_commit(&script), self.registry.touch_session(commit.summary));
        let reply = reply?;
        let listed = match touched {
            // A list that was lost gets its sessions back. Not before the commit: the session may be deleted.
            Ok(ListUpdate::Unchanged) if reply == CommitReply::Committed => {
                self.registry.add_session(commit.summary).await
            }
            touched => touched.map(drop),
        };
        if let Err(error) = listed {
            tracing::debug!(%session, %error, "session list not updated");
        }
        Ok((reply, lineage))
    }

    async fn finish_commit(&self, commit: LogCommit<'_>, reply: CommitReply) -> Result<(), StoreError> {
        let session = commit.session;
        let expected = commit.expected_seq;
        match reply {
            CommitReply::Committed => {
                self.held_logs.insert(session);
                Ok(())
            }
            CommitReply::Declined => Err(StoreError::Unavailable("the commit was declined".into())),
            CommitReply::NotFound => Err(self.registry.missing_session(session).await),
            CommitReply::Fenced { current_epoch } => {
                let current = LeaseEpoch(current_epoch);
                Err(StoreError::Fenced { session, attempted: commit.epoch, current })
            }
            CommitReply::SeqConflict { last_seq } => {
                Err(StoreError::SeqConflict { session, expected, found: last_seq })
            }
            CommitReply::Forked { seq } => Err(StoreError::Forked { session, seq }),
            CommitReply::LogDamaged { last_seq } => Err(self.explain_damage(session, last_seq).await),
        }
    }

    /// The error of a session whose log a script found not to be whole, up to `last_seq`. It names what is wrong.
    pub(super) async fn explain_damage(&self, session: SessionId, last_seq: u64) -> StoreError {
        match load_state(self, session).await {
            Err(error) => error,
            Ok(_) => foreign_log(session, last_seq, "it does not"),
        }
    }

    /// Returns the script of a commit, without its checkpoint.
    fn commit_script(
        &self,
        commit: &LogCommit<'_>,
        events: Vec<ChainedEvent>,
        lineage: Option<LogLineage>,
    ) -> CommitEvents {
        let session = commit.session;
        let closed_message = commit.events.iter().rev().find_map(|event| match &event.body {
            EventBody::AssistantMessage(message) => Some(message.message_id.to_string()),
            _ => None,
        });
        let discard_preview =
            commit.events.iter().any(|e| e.body.ends_run() || matches!(e.body, EventBody::RunRecovered(_)));
        CommitEvents {
            meta_key: self.keys.meta(session),
            log_key: self.keys.log(session),
            checkpoint_key: self.keys.checkpoint(session),
            inbox_key: self.keys.inbox(session),
            preview_key: self.keys.preview(session),
            receipts_key: self.keys.receipts(session),
            receipt_order_key: self.keys.receipt_order(session),
            outputs_key: self.keys.outputs(session),
            epoch: commit.epoch.0,
            expected_seq: commit.expected_seq,
            expected_lineage: commit.expected_lineage.map(|lineage| lineage.to_string()),
            first_seq: commit.events.first().map_or(commit.expected_seq + 1, |first| first.seq),
            lineage: lineage.map(|lineage| lineage.to_string()).filter(|_| !commit.events.is_empty()),
            says_lost: commit.says_lost(),
            says_messages_lost: commit.says_messages_lost(),
            commit_id: uuid::Uuid::now_v7().to_string(),
            summary: to_json(commit.summary),
            open_work: open_work(commit.summary),
            checkpoint: None,
            trim_log: self.shallow,
            closed_message,
            discard_preview,
            session_ttl_ms: self.session_ttl,
            publish_command: self.keys.publish_command(),
            log_channel: self.keys.session_channel(session, NotificationTopic::Log),
            receipt_id: None,
            command_id: None,
            receipt: None,
            receipt_limit: RECEIPT_LIMIT,
            consumed: commit.consumed.to_vec(),
            events,
        }
    }

    /// Sends a commit, and sends it again with the same id if the reply is lost: the script writes it once.
    async fn send_commit(&self, script: &CommitEvents) -> Result<CommitReply, StoreError> {
        let is_large = script.payload_bytes() > LARGE_COMMIT_BYTES;
        let send = || async {
            if is_large { self.bulk_writes.run_script(script).await } else { self.writes.run_script(script).await }
        };
        send.retry(commit_retries()).when(is_worth_commit_retry(Instant::now())).await
    }
}

/// Schedules a session that this process owns.
async fn schedule_owned_session(registry: Arc<RedisSessionRegistry>, session: SessionId) {
    let schedule = || registry.schedule_session(session, COMMAND_DUE_AFTER);
    if let Err(error) = schedule.retry(commit_retries()).when(is_worth_commit_retry(Instant::now())).await {
        tracing::warn!(%session, %error, "session with a new run not scheduled");
    }
}

/// When a commit is sent again whose reply is lost, and what is sent with it.
fn commit_retries() -> ConstantBuilder {
    ConstantBuilder::new().with_delay(COMMIT_RETRY_DELAY).with_jitter().without_max_times()
}

fn is_worth_commit_retry(started: Instant) -> impl Fn(&StoreError) -> bool {
    move |error| {
        let next_attempt = started.elapsed() + COMMIT_RETRY_DELAY;
        matches!(error, StoreError::Unavailable(_)) && next_attempt < COMMIT_RETRY_LIMIT
    }
}

impl CommitEvents {
    /// The bytes of what can be large.
    fn payload_bytes(&self) -> usize {
        let events: usize = self.events.iter().map(|event| event.json.len()).sum();
        events + self.checkpoint.as_ref().map_or(0, Vec::len)
    }
}

fn open_work(summary: &SessionSummary) -> OpenWork {
    match (summary.open_run, summary.has_work()) {
        (Some(_), _) => OpenWork::Run,
        (None, true) => OpenWork::Memories,
        (None, false) => OpenWork::None,
    }
}
