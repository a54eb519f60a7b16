//! Opens a turn: sends a message or answers to a session, and returns the cursor that follows the run.
//!
//! A message for a session that waits for its user is not sent: it would queue behind the approval in silence, for as long as
//! the approval lasts. The caller learns at once what the session waits for.

use k8sops_core::{
    ApprovalId, CommandId, CommandReceipt, InputAction, InputId, OnBusy, OpenRun, RunId, SessionId, SessionState,
};

use super::{
    preceding_run::PrecedingRun,
    run_cursor::RunCursor,
    waiting_interactions::{InteractionId, WaitingInteractions},
};
use crate::{
    api::{
        caller::{Caller, CanApprove, CanWrite},
        commands::{
            AnswerInput, ApprovalVerdict, ResolveApproval, SendMessage, approval_command, input_command,
            message_command,
        },
        extractors::UserToken,
        problem::ProblemDetails,
        problem_code::ProblemCode,
        state::ApiState,
    },
    auth::CallerIdentity,
    runtime::WaitingMessage,
};

/// A message of a user.
#[derive(Debug, Clone)]
pub(super) struct TurnMessage {
    pub(super) content: String,
    /// The same id is the same message; `None` for a message that is not repeated.
    pub(super) command_id: Option<CommandId>,
    pub(super) on_busy: OnBusy,
}

/// An answer to something that a run waits for.
#[derive(Debug, Clone)]
pub(super) enum InteractionAnswer {
    Approval(ApprovalId, ResolveApproval),
    Input(InputId, AnswerInput),
}

impl InteractionAnswer {
    pub(super) fn target(&self) -> InteractionId {
        match self {
            Self::Approval(id, _) => InteractionId::Approval(*id),
            Self::Input(id, _) => InteractionId::Input(*id),
        }
    }

    /// The same answer to the same request is the same command: a client that lost the response sends it again.
    fn command_id(&self) -> Result<CommandId, ProblemDetails> {
        let (verb, id) = match self {
            Self::Approval(id, answer) => match answer.decision {
                ApprovalVerdict::Approve => ("approve", id.to_string()),
                ApprovalVerdict::Deny => ("deny", id.to_string()),
            },
            Self::Input(id, answer) => match answer.action {
                InputAction::Accept => ("accept", id.to_string()),
                InputAction::Decline => ("decline", id.to_string()),
                InputAction::Cancel => ("cancel", id.to_string()),
            },
        };
        Ok(format!("{verb}-{id}").parse()?)
    }
}

/// What became of a message.
pub(super) enum MessageTurn {
    /// It was sent. The cursor follows its run.
    Sent(Box<RunCursor>),
    /// It was not sent: the session waits for its user.
    Blocked(WaitingInteractions),
}

/// Where a message is that was accepted before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MessagePlace {
    /// In the log, at a seq.
    Logged { seq: u64 },
    /// In the inbox: no owner has read it. It starts this run.
    Waiting(RunId),
}

/// A session, and a cursor over what is in progress.
pub(super) struct AttachedSession {
    pub(super) state: SessionState,
    /// Starts after the newest event of the state; `None` if nothing is in progress.
    pub(super) cursor: Option<Box<RunCursor>>,
}

/// A caller and the session that it talks to.
pub(super) struct TurnOpener<'a> {
    pub(super) state: &'a ApiState,
    pub(super) identity: &'a CallerIdentity,
    pub(super) session: SessionId,
}

impl TurnOpener<'_> {
    /// Sends a message, unless the session waits for its user.
    pub(super) async fn send_message(&self, message: TurnMessage) -> Result<MessageTurn, ProblemDetails> {
        let caller = Caller::<CanWrite>::new(self.identity.clone())?;
        let sessions = &self.state.sessions;
        self.store_user_token().await?;
        let known = match &message.command_id {
            Some(id) => sessions.find_receipt(&caller.user, self.session, id).await?,
            None => None,
        };
        // A message that was accepted before has its own run, which may be the one that waits.
        if known.is_none() && sessions.get_session(&caller.user, self.session).await?.is_processing() {
            let open = sessions.load_session(&caller.user, self.session).await?.run;
            let waiting = open.filter(OpenRun::is_blocked_on_user).map(|run| WaitingInteractions::from_run(&run));
            if let Some(waiting) = waiting.filter(|waiting| !waiting.is_empty()) {
                return Ok(MessageTurn::Blocked(waiting));
            }
        }
        let TurnMessage { content, command_id, on_busy } = message;
        let command_id = command_id.unwrap_or_else(CommandId::generate);
        let body = SendMessage { content, attachments: Vec::new(), on_busy };
        let command = message_command(&caller.user, command_id, body, &self.state.server)?;
        let receipt = sessions.submit_command(self.session, command).await?;
        let cursor = self.follow_receipt(&receipt).await?;
        Ok(MessageTurn::Sent(Box::new(match on_busy {
            OnBusy::Enqueue => cursor.behind(self.find_preceding_run().await?),
            // What is in progress ends now, or nothing was.
            OnBusy::Interrupt | OnBusy::Reject => cursor,
        })))
    }

    /// Returns the run in progress, which queued messages wait behind.
    pub(super) async fn find_preceding_run(&self) -> Result<PrecedingRun, ProblemDetails> {
        let (user, sessions) = (&self.identity.user, &self.state.sessions);
        if !sessions.get_session(user, self.session).await?.is_processing() {
            return Ok(PrecedingRun::default());
        }
        Ok(PrecedingRun::in_session(sessions.load_session(user, self.session).await?))
    }

    /// Follows the run of a message that was accepted before.
    async fn follow_receipt(&self, receipt: &CommandReceipt) -> Result<RunCursor, ProblemDetails> {
        let Some(run_id) = receipt.run_id else {
            return Err(ProblemDetails::new(ProblemCode::CommandIdReused, "the key was used for another command"));
        };
        let events = self.state.sessions.open_cursor(&self.identity.user, self.session, receipt.seq).await?;
        Ok(RunCursor::after_message(events, run_id, receipt.seq))
    }

    /// Follows the run of a message that was accepted before.
    pub(super) async fn follow_message(&self, place: MessagePlace) -> Result<Box<RunCursor>, ProblemDetails> {
        match place {
            MessagePlace::Logged { seq } => self.follow_logged_message(seq).await,
            MessagePlace::Waiting(run) => {
                let read = || ProblemDetails::new(ProblemCode::Busy, "the message is being read; send it again");
                self.follow_waiting_message(run).await?.ok_or_else(read)
            }
        }
    }

    /// Follows the run of a message that is in the log at a seq.
    pub(super) async fn follow_logged_message(&self, seq: u64) -> Result<Box<RunCursor>, ProblemDetails> {
        let open = || self.state.sessions.open_cursor(&self.identity.user, self.session, seq.saturating_sub(1));
        let first = open().await?.next().await?;
        let Some(run_id) = first.filter(|frame| frame.seq() == Some(seq)).and_then(|frame| frame.run_id()) else {
            return Err(ProblemDetails::new(
                ProblemCode::SessionNotFound,
                "the message is no longer in the session's log",
            ));
        };
        Ok(Box::new(RunCursor::after_message(open().await?, run_id, seq.saturating_sub(1))))
    }

    /// Gives answers to what the open run waits for. The state and the cursor are from before the answers, so that all that they
    /// cause is seen.
    pub(super) async fn send_answers(
        &self,
        answers: Vec<InteractionAnswer>,
    ) -> Result<AttachedSession, ProblemDetails> {
        let sessions = &self.state.sessions;
        check_consistent(&answers)?;
        self.store_user_token().await?;
        let state = sessions.load_session(&self.identity.user, self.session).await?;
        let targets: Vec<InteractionId> = answers.iter().map(InteractionAnswer::target).collect();
        for answer in answers {
            let command_id = answer.command_id()?;
            let command = match answer {
                InteractionAnswer::Approval(id, answer) => {
                    let caller = Caller::<CanApprove>::new(self.identity.clone())?;
                    approval_command(&caller.identity, command_id, id, answer)?
                }
                InteractionAnswer::Input(id, answer) => {
                    let caller = Caller::<CanWrite>::new(self.identity.clone())?;
                    input_command(&caller.user, command_id, id, answer)?
                }
            };
            sessions.submit_command(self.session, command).await?;
        }
        self.follow_open_run(state, targets).await
    }

    /// Follows the open run from now on, without sending anything.
    pub(super) async fn attach(&self) -> Result<AttachedSession, ProblemDetails> {
        let state = self.state.sessions.load_session(&self.identity.user, self.session).await?;
        self.follow_open_run(state, Vec::new()).await
    }

    /// Follows the open run and the runs of messages that no owner has read, without sending anything.
    pub(super) async fn attach_to_all_runs(&self) -> Result<AttachedSession, ProblemDetails> {
        let (user, sessions) = (&self.identity.user, &self.state.sessions);
        // The inbox before the state: a message that its owner reads in between is in the state.
        let waiting = sessions.list_waiting_messages(user, self.session).await?;
        let state = sessions.load_session(user, self.session).await?;
        let is_unread = |message: &&WaitingMessage| !state.has_user_message(message.message_id);
        let mut runs: Vec<RunId> = waiting.iter().filter(is_unread).map(|message| message.run_id).collect();
        if state.run.is_some() || runs.is_empty() {
            let AttachedSession { state, cursor } = self.follow_open_run(state, Vec::new()).await?;
            return Ok(AttachedSession {
                state,
                cursor: cursor.map(|cursor| Box::new(cursor.with_waiting_runs(runs))),
            });
        }
        let events = sessions.open_cursor(user, self.session, state.last_seq()).await?;
        let cursor = RunCursor::after_message(events, runs.remove(0), state.last_seq()).with_waiting_runs(runs);
        Ok(AttachedSession { state, cursor: Some(Box::new(cursor)) })
    }

    /// Follows the run of a message that waits for an owner. Returns `None` if it has been read.
    pub(super) async fn follow_waiting_message(&self, run: RunId) -> Result<Option<Box<RunCursor>>, ProblemDetails> {
        let waiting = self.state.sessions.list_waiting_messages(&self.identity.user, self.session).await?;
        let Some(message) = waiting.into_iter().find(|message| message.run_id == run) else { return Ok(None) };
        let events = self.state.sessions.open_cursor(&self.identity.user, self.session, message.accepted_seq).await?;
        Ok(Some(Box::new(RunCursor::after_message(events, run, message.accepted_seq))))
    }

    async fn follow_open_run(
        &self,
        state: SessionState,
        awaited: Vec<InteractionId>,
    ) -> Result<AttachedSession, ProblemDetails> {
        let cursor = match &state.run {
            Some(run) => {
                let events =
                    self.state.sessions.open_cursor(&self.identity.user, self.session, state.last_seq()).await?;
                Some(Box::new(RunCursor::in_run(events, run.clone(), state.last_seq(), awaited)))
            }
            None => None,
        };
        Ok(AttachedSession { state, cursor })
    }

    /// Returns what the session waits for.
    pub(super) async fn find_waiting(&self) -> Result<WaitingInteractions, ProblemDetails> {
        let state = self.state.sessions.load_session(&self.identity.user, self.session).await?;
        Ok(state.run.as_ref().map(WaitingInteractions::from_run).unwrap_or_default())
    }

    async fn store_user_token(&self) -> Result<(), ProblemDetails> {
        let token = UserToken(self.identity.user_token.clone());
        token.store_for_session(self.state, &self.identity.user, self.session).await
    }
}

/// Refuses answers that contradict each other: the first one would win, and the client could not tell.
fn check_consistent(answers: &[InteractionAnswer]) -> Result<(), ProblemDetails> {
    for (at, answer) in answers.iter().enumerate() {
        for earlier in answers[..at].iter().filter(|earlier| earlier.target() == answer.target()) {
            if earlier.command_id()? != answer.command_id()? {
                return Err(ProblemDetails::invalid("the request has two different answers for the same question"));
            }
        }
    }
    Ok(())
}
