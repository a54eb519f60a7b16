//! The transitions of a session actor. They are a function: no clock is read, and nothing is waited for.

use std::mem;

use k8sops_core::{EventBody, RemainingWork, RunRecovered};

use super::{
    effects::{ActorEffect, ClosedSession, CommitBatch, RunStart},
    inputs::{ActorInput, ActorTime, CheckpointNeed, LeftRun, OpenedSession, StoreSharing},
    owned::after_failure,
    state::{
        AfterRelease, ApprovalRecord, ExtractionTask, InboxNews, LOOK_INTERVAL, OwnedSession, RetryBackoff,
        SessionActivity, SessionActorState, ShutdownNotice,
    },
};

/// Returns the first state of an actor, and what is to be done.
pub(super) fn first_state() -> (SessionActorState, Vec<ActorEffect>) {
    let mut effects = Vec::new();
    (reopen(RetryBackoff::default(), &mut effects), effects)
}

/// Returns the state after an input, and what is to be done.
pub(super) fn step(
    state: SessionActorState,
    input: ActorInput,
    now: ActorTime,
) -> (SessionActorState, Vec<ActorEffect>) {
    use SessionActorState as State;
    let mut effects = Vec::new();
    let next = match (state, input) {
        (State::Ended, _)
        | (State::Retrying { .. }, ActorInput::ShutdownRequested)
        | (State::Leaving { .. }, ActorInput::RegistryLeft) => State::Ended,
        (_, ActorInput::SessionDeleted) => {
            effects.push(ActorEffect::CloseFeed(ClosedSession::Deleted));
            State::Ended
        }
        (State::Owned(session), input) => session.step(input, now, &mut effects),

        (State::Opening { backoff, shutdown }, ActorInput::Opened(opened)) => {
            own_session(*opened, backoff, shutdown, now, &mut effects)
        }
        (State::Opening { backoff, shutdown }, ActorInput::OpenFailed(error)) => {
            let next = after_failure(&error, backoff, shutdown);
            effects.push(ActorEffect::ReportFailure(error));
            continue_after_release(next, now, &mut effects)
        }
        (State::Opening { backoff, .. }, ActorInput::ShutdownRequested) => {
            State::Opening { backoff, shutdown: ShutdownNotice::Received }
        }

        (State::Retrying { at, backoff }, ActorInput::DeadlineReached) if at <= now.elapsed => {
            reopen(backoff, &mut effects)
        }

        // A command arrived, without a notification or with one.
        (
            State::Releasing { next: AfterRelease::Leave { backoff } },
            ActorInput::LeaseReleased(RemainingWork::Unfinished),
        )
        | (State::Leaving { backoff }, ActorInput::RegistryKept) => reopen(backoff, &mut effects),
        (State::Releasing { next }, ActorInput::LeaseReleased(_)) => continue_after_release(next, now, &mut effects),
        (
            State::Releasing { next: AfterRelease::Leave { .. } | AfterRelease::Retry { .. } },
            ActorInput::ShutdownRequested,
        ) => State::Releasing { next: AfterRelease::End },

        // Whatever else happens does not concern an actor without a lease.
        (
            state @ (State::Opening { .. } | State::Retrying { .. } | State::Releasing { .. } | State::Leaving { .. }),
            _,
        ) => state,
    };
    (next, effects)
}

fn reopen(backoff: RetryBackoff, effects: &mut Vec<ActorEffect>) -> SessionActorState {
    effects.push(ActorEffect::OpenSession);
    SessionActorState::Opening { backoff, shutdown: ShutdownNotice::None }
}

fn continue_after_release(next: AfterRelease, now: ActorTime, effects: &mut Vec<ActorEffect>) -> SessionActorState {
    match next {
        AfterRelease::Leave { backoff } => {
            effects.push(ActorEffect::LeaveRegistry);
            SessionActorState::Leaving { backoff }
        }
        AfterRelease::Retry { backoff } => {
            SessionActorState::Retrying { at: now.elapsed + backoff.delay(), backoff: backoff.doubled() }
        }
        AfterRelease::Close(why) => {
            effects.push(ActorEffect::CloseFeed(why));
            SessionActorState::Ended
        }
        AfterRelease::End => SessionActorState::Ended,
    }
}

/// Returns the state of a session that was opened. What the log must say first is queued, and an open run is resumed.
fn own_session(
    opened: OpenedSession,
    backoff: RetryBackoff,
    shutdown: ShutdownNotice,
    now: ActorTime,
    effects: &mut Vec<ActorEffect>,
) -> SessionActorState {
    let OpenedSession { facts, policy, truncation, left_run, lost_messages, checkpoint } = opened;
    let mut session = Box::new(OwnedSession {
        activity: match shutdown {
            ShutdownNotice::None => SessionActivity::Working { extraction: ExtractionTask::None },
            ShutdownNotice::Received => SessionActivity::Draining { run: None },
        },
        facts,
        policy,
        queue: CommitBatch { checkpoint: checkpoint == CheckpointNeed::Due, ..CommitBatch::default() },
        operation: None,
        inbox: InboxNews::Unread,
        offered: None,
        // The log was checked when it was loaded.
        next_look: (policy.sharing == StoreSharing::Replicas).then(|| now.elapsed + LOOK_INTERVAL),
        approvals: ApprovalRecord::Recorded(None),
        backoff,
    });
    if let Some(truncation) = truncation {
        session.queue.first_seq = Some(truncation.seq);
        session.queue_event(None, EventBody::LogTruncated(truncation.body), now);
    }
    if let Some(mut left) = left_run {
        let recovered = RunRecovered {
            attempt: left.attempt,
            superseded: mem::take(&mut left.superseded),
            reason: "the process that owned it ended, or lost the connection to its store".into(),
        };
        session.queue_event(Some(left.run_id), EventBody::RunRecovered(recovered), now);
        if !session.is_draining() {
            let LeftRun { run_id, provider, model, cause, attempt, .. } = left;
            session.start_run(
                RunStart { run_id, provider, model, cause, attempt, attachments: Vec::new(), recall: None },
                effects,
            );
        }
    }
    session.announce_lost_messages(lost_messages, now);
    session.settle(now, effects)
}
