//! Opens a session: acquires its lease and loads its log.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use k8sops_core::{
    BackendError, LogHead, LogTruncated, LostBranch, LostMessages, MessageId, MessagePreview, SessionId, StoreError,
    load_state,
};
use tokio::{sync::mpsc, time::sleep};
use tokio_util::task::AbortOnDropHandle;

use super::{
    inputs::{ActorPolicy, CheckpointNeed, LeftRun, LogTruncation, OpenedSession, SessionFacts, StoreSharing},
    resources::{OwnerRegistration, SessionResources},
};
use crate::runtime::{
    inner::RuntimeInner,
    instrumented::{InstrumentedTools, RunSpan},
    known_logs::DamageFinding,
    lease::HeldLease,
    log_writer::LogWriter,
    preview_writer::PreviewWriter,
    run_handle::SessionProjection,
    session_registry::OwnerSlot,
};

/// How long the owner of an open run waits, after the store has failed over, for what other processes know of it. They compare
/// as soon as they reach the store again, and a change that one of them tells of is not made a second time.
const REPORT_WAIT: Duration = Duration::from_secs(1);
/// About as many as a reply has parallel calls; further messages wait in the tasks.
const MAILBOX_SIZE: usize = 16;

/// A session that was opened: what the actor holds, and what its state machine is told.
pub(super) type OpenedResources = (Box<SessionResources>, Box<OpenedSession>);

/// Acquires the lease of a session and loads its log. After an error, the lease is not held.
pub(super) async fn open_session(
    shared: Arc<RuntimeInner>,
    session: SessionId,
    slot: OwnerSlot,
) -> Result<OpenedResources, StoreError> {
    let store = &shared.dependencies.store;
    let held = HeldLease::acquire(store, session, &shared.replica, slot.wakeup.clone()).await?;
    let lease = held.lease;
    let opened = load_session(&shared, held, &slot).await;
    if opened.is_err()
        && let Err(error) = store.release_lease(lease).await
    {
        // The lease expires.
        tracing::debug!(%session, %error, "lease release failed");
    }
    opened
}

async fn load_session(
    shared: &Arc<RuntimeInner>,
    held: HeldLease,
    slot: &OwnerSlot,
) -> Result<OpenedResources, StoreError> {
    let lease = held.lease;
    let session = lease.session;
    let dependencies = &shared.dependencies;
    let store = dependencies.store.as_ref();
    let registration = OwnerRegistration::new(shared.clone(), session, slot.feed.clone());
    let mut loaded = load_state(store, session).await?;
    if loaded.lost_branch.is_some() && loaded.state.run.is_some() && store.notifications().is_some() {
        sleep(REPORT_WAIT).await;
        loaded = load_state(store, session).await?;
    }
    let loaded_head = loaded.head;
    let known = shared.known_logs.find_lost_branch(store, session, loaded_head).await?;
    let lost_branch = known.into_iter().chain(loaded.lost_branch).reduce(|mut lost, reported| {
        lost.merge(reported);
        lost
    });
    let left_run = match &loaded.state.run {
        Some(run) => Some(LeftRun {
            run_id: run.run_id,
            provider: run.provider.clone(),
            model: run.model.clone(),
            cause: run.cause.clone(),
            attempt: run.attempt + 1,
            superseded: superseded_messages(shared, session, slot).await?,
        }),
        None => None,
    };
    let lost_messages = find_lost_messages(shared, session).await?;
    let checkpoint = match &loaded.damaged_checkpoint {
        Some(error) => {
            report_damaged_checkpoint(shared, session, error);
            CheckpointNeed::Due
        }
        None => CheckpointNeed::None,
    };
    let truncation = lost_branch.map(|lost| truncate_log(session, loaded_head, lost));
    if truncation.is_none() {
        shared.known_logs.record_read(session, &loaded.tool_starts, loaded_head);
    }
    if left_run.is_some() {
        dependencies.metrics.count_takeover();
    }
    let tools = dependencies.tools.create_executor(session, &loaded.state.summary.user_id);
    let projection = Arc::new(SessionProjection::new(loaded.state));
    let is_shared = store.notifications().is_some();
    let opened = OpenedSession {
        facts: projection.read(SessionFacts::from_state),
        policy: ActorPolicy {
            approval_by: dependencies.approval_by,
            has_memory: dependencies.memory.is_some(),
            sharing: if is_shared { StoreSharing::Replicas } else { StoreSharing::SingleProcess },
        },
        truncation,
        left_run,
        lost_messages,
        checkpoint,
    };
    let tools = InstrumentedTools {
        inner: tools,
        projection: projection.clone(),
        audit: dependencies.audit.clone(),
        lease_validity: held.validity(),
    };
    let writer = LogWriter::new(
        shared.clone(),
        lease,
        slot.feed.clone(),
        projection.clone(),
        loaded_head.lineage,
        loaded.replayed_bytes,
    );
    shared.known_logs.record_repair(session);
    slot.feed.reset_for_owner(loaded_head);
    let (to_mailbox, mailbox) = mpsc::channel(MAILBOX_SIZE);
    let previews = is_shared.then(|| {
        let previews = Arc::new(PreviewWriter::default());
        let (feed, watchers) = (slot.feed.clone(), slot.wakeup.remote_watchers.clone());
        let writing = previews.clone().run(dependencies.store.clone(), lease, feed, watchers);
        let writing = tokio::spawn(shared.worker_watch.watch_task("previews", writing));
        (previews, AbortOnDropHandle::new(writing))
    });
    let resources = SessionResources {
        shared: shared.clone(),
        session,
        feed: slot.feed.clone(),
        held,
        registration,
        projection,
        writer,
        tools: Arc::new(tools),
        span: RunSpan::default(),
        previews,
        mailbox,
        to_mailbox,
        waiting_appends: VecDeque::new(),
        run: None,
        extraction: None,
        has_unrecorded_usage: false,
    };
    Ok((Box::new(resources), Box::new(opened)))
}

/// Returns the message that an earlier owner was streaming, whose preview is void.
async fn superseded_messages(
    shared: &RuntimeInner,
    session: SessionId,
    slot: &OwnerSlot,
) -> Result<Vec<MessageId>, StoreError> {
    let mut open = slot.feed.open_message_id();
    if let Some(store) = shared.dependencies.store.notifications() {
        let seen = store.read_preview(session, 0).await?;
        open = open.or(seen.pieces.last().map(MessagePreview::message_id));
    }
    Ok(open.into_iter().collect())
}

/// Finds accepted messages that the store has lost.
pub(super) async fn find_lost_messages(shared: &RuntimeInner, session: SessionId) -> Result<LostMessages, StoreError> {
    let lost = shared.dependencies.store.find_lost_messages(session).await?;
    if lost.count > 0 {
        tracing::error!(%session, count = lost.count, "store lost accepted messages");
    }
    Ok(lost)
}

/// Returns the event that says what the store has lost of a log.
fn truncate_log(session: SessionId, head: LogHead, lost: LostBranch) -> LogTruncation {
    let last_seq = head.seq;
    let seq = lost.next_seq(last_seq, getrandom::u32().unwrap_or_else(|_| std::process::id()));
    let body = LogTruncated { from_seq: last_seq + 1, lost: lost.count_lost(last_seq), lost_calls: lost.calls };
    let lost_calls = body.lost_calls.len();
    if body.lost == 0 && lost_calls == 0 {
        tracing::warn!(%session, last_seq, next_seq = seq, "store failed over or was restarted, and may have lost events");
    } else {
        tracing::error!(%session, last_seq, lost = body.lost, lost_calls, next_seq = seq, "store lost acknowledged events");
    }
    LogTruncation { seq, body }
}

/// Reports a checkpoint without which a session was loaded, once.
fn report_damaged_checkpoint(shared: &RuntimeInner, session: SessionId, error: &BackendError) {
    const MESSAGE: &str = "checkpoint damaged, log replayed without it, writing another one";
    match shared.known_logs.record_damage(session) {
        DamageFinding::New => tracing::warn!(%session, %error, "{MESSAGE}"),
        DamageFinding::Known => tracing::debug!(%session, %error, "{MESSAGE}"),
    }
}
