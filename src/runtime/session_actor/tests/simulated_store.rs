//! The store of a simulated actor: one session in memory. Each commit checks that the log stays whole.

use k8sops_agent::run_failure_events;
use k8sops_core::*;
use k8sops_tools::ApprovalBy;
use serde_json::{Value, json};

use crate::runtime::session_actor::{
    effects::CommitBatch,
    inputs::{ActorPolicy, CheckpointNeed, LeftRun, OpenedSession, SessionFacts, StoreSharing},
};

pub(super) fn user() -> UserId {
    "anna".parse().unwrap()
}

pub(super) fn event_body(body: Value) -> EventBody {
    serde_json::from_value(body).unwrap()
}

pub(super) struct SimulatedStore {
    pub(super) log: Vec<SessionEvent>,
    pub(super) session: SessionState,
    pub(super) inbox: Vec<InboxEntry>,
    last_position: u64,
    /// The runs of all messages that were accepted.
    pub(super) accepted: Vec<RunId>,
}

impl SimulatedStore {
    pub(super) fn new(ts: Timestamp) -> Self {
        let created = json!({
            "type": "session_created", "user_id": "anna", "title": null, "by": EventAuthor::System,
            "settings": SessionSettings::for_model("p", "m"),
        });
        let draft = EventDraft { ts, run_id: None, body: event_body(created) };
        let first = draft.into_event(SessionId::new(), 1);
        Self {
            session: SessionState::from_first_event(&first).unwrap(),
            log: vec![first],
            inbox: Vec::new(),
            last_position: 0,
            accepted: Vec::new(),
        }
    }

    pub(super) fn awaits_approval(&self) -> bool {
        self.session.pending_approvals().next().is_some()
    }

    /// Accepts a command.
    pub(super) fn submit(&mut self, body: CommandBody) {
        self.submit_command(Self::create_command(body));
    }

    pub(super) fn create_command(body: CommandBody) -> SessionCommand {
        SessionCommand { command_id: CommandId::generate(), fingerprint: String::new(), by: user(), body }
    }

    /// Accepts a command that may have been accepted before.
    pub(super) fn submit_command(&mut self, command: SessionCommand) {
        let started = command.run_id().filter(|_| command.is_message());
        if started.is_some_and(|run| self.accepted.contains(&run)) {
            return;
        }
        self.accepted.extend(started);
        self.last_position += 1;
        self.inbox.push(InboxEntry { position: self.last_position, accepted_seq: self.session.last_seq(), command });
    }

    /// Accepts a message with the start of its run.
    pub(super) fn commit_message(&mut self, batch: CommitBatch, message: &SessionCommand, ts: Timestamp) {
        assert!(self.inbox.is_empty() && batch.consumed.is_empty());
        let starts =
            |draft: &EventDraft| draft.run_id == message.run_id() && matches!(draft.body, EventBody::RunStarted(_));
        assert!(batch.drafts.iter().any(starts), "a message is accepted with the start of its run");
        self.accepted.extend(message.run_id());
        self.commit(batch, ts);
    }

    /// Returns the session as a new owner finds it.
    pub(super) fn open(&self, sharing: StoreSharing) -> OpenedSession {
        let left_run = self.session.run.as_ref().map(|run| LeftRun {
            run_id: run.run_id,
            provider: run.provider.clone(),
            model: run.model.clone(),
            cause: run.cause.clone(),
            attempt: run.attempt + 1,
            superseded: Vec::new(),
        });
        OpenedSession {
            facts: SessionFacts::from_state(&self.session),
            policy: ActorPolicy { approval_by: ApprovalBy::Owner, has_memory: true, sharing },
            truncation: None,
            left_run,
            lost_messages: LostMessages::default(),
            checkpoint: CheckpointNeed::None,
        }
    }

    /// Writes a batch to the log; returns whether it ends a run.
    pub(super) fn commit(&mut self, batch: CommitBatch, ts: Timestamp) -> bool {
        for position in &batch.consumed {
            let at = self.inbox.iter().position(|entry| entry.position == *position);
            let InboxEntry { command, .. } = self.inbox.remove(at.expect("a command is consumed once"));
            if let Some(run_id) = command.run_id().filter(|_| command.is_message()) {
                let starts =
                    |draft: &EventDraft| draft.run_id == Some(run_id) && matches!(draft.body, EventBody::RunStarted(_));
                assert!(batch.drafts.iter().any(starts), "a message is consumed with the start of its run");
            }
        }
        let run = self.session.run.clone();
        let failure = batch.failure.zip(run).map(|(failure, run)| (run.run_id, run_failure_events(&run, failure)));
        let failure = failure.into_iter().flat_map(|(run_id, bodies)| {
            bodies.into_iter().map(move |body| EventDraft { ts, run_id: Some(run_id), body })
        });
        let mut has_run_end = false;
        for draft in batch.drafts.into_iter().chain(failure).collect::<Vec<_>>() {
            let open = self.session.summary.open_run;
            match &draft.body {
                EventBody::UserMessage(_) => assert_eq!(open, None, "runs interleave"),
                EventBody::RunStarted(_) => {}
                _ => assert!(draft.run_id.is_none() || draft.run_id == open, "an event of another run: {draft:?}"),
            }
            has_run_end |= draft.body.ends_run();
            let event = draft.into_event(self.session.summary.session_id, self.session.last_seq() + 1);
            self.session.apply_event(&event);
            self.log.push(event);
        }
        has_run_end
    }
}
