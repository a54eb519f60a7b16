//! How a command is taken in: it is looked at by whom it comes and whether it makes sense now, and is then in the inbox.

use std::{sync::Arc, time::Duration};

use super::{Sessions, SessionsError};
use k8sops_core::{
    CommandBody, CommandReceipt, InboxEntry, InputAction, OnBusy, SessionCommand, SessionEvent, SessionId,
    SessionSummary, StoreError, StreamFrame, load_state,
};
use k8sops_tools::ApprovalBy;

/// How long a caller waits for a command to take effect before it is told to look again.
const APPLY_TIMEOUT: Duration = Duration::from_secs(10);

impl Sessions {
    /// Takes a command in. It is durable when this returns, and done as soon as its turn comes; taken in as a whole or not
    /// at all, also when this is dropped before it returns.
    ///
    /// # Errors
    /// `NotFound`, `Stopping`, `Settings`, `ApprovalNotFound`, `ApprovalClosed`, `ApproverRequired`, `TooManyRuns`,
    /// `Overloaded`, and those of the store: `Busy`, `CommandIdReused`, `InboxFull`. A command that was taken
    /// before is not refused for what has happened since.
    pub async fn submit(&self, session: SessionId, command: SessionCommand) -> Result<CommandReceipt, SessionsError> {
        self.refuse_when_stopping()?;
        let this = self.clone();
        self.to_the_end(async move { this.take_in(session, command).await }).await
    }

    async fn take_in(&self, session: SessionId, mut command: SessionCommand) -> Result<CommandReceipt, SessionsError> {
        let store = &self.0.parts.store;
        let mut summary = self.addressed(session, &command).await?;
        if let CommandBody::Cancel { run_id } = &mut command.body {
            // What waits before what runs: a message that is taken up in between is then seen in one of the two.
            let waiting = store.list_inbox(session).await?;
            summary = self.get(&command.by, session).await?;
            *run_id = summary.open_run.or_else(|| next_message(&waiting)?.command.run_id());
        }
        let claimed = match self.admit(&summary, &command).await {
            Ok(claimed) => claimed,
            // What was taken once stays taken, whatever has become since of what it was about.
            Err(refused) => {
                return match store.find_receipt(session, &command.by, &command.command_id).await? {
                    Some(first) if first.fingerprint == command.fingerprint => {
                        Ok(CommandReceipt { duplicate: true, ..first })
                    }
                    Some(_) => Err(StoreError::CommandIdReused.into()),
                    None => Err(refused),
                };
            }
        };
        let taken = store.submit_command(session, command).await;
        if taken.is_err() && claimed {
            self.0.load.end(session);
        }
        let receipt = taken?;
        self.0.ring(session);
        Ok(receipt)
    }

    /// The session that a command is for: the sender's own or, where approvals are given by others, one that waits for them.
    async fn addressed(&self, session: SessionId, command: &SessionCommand) -> Result<SessionSummary, SessionsError> {
        let of_others = self.0.parts.approval_by == ApprovalBy::Approver
            && matches!(command.body, CommandBody::Resolve { approver: true, .. });
        if !of_others {
            return self.get(&command.by, session).await;
        }
        match self.0.parts.store.read_summary(session).await {
            Ok(Some(summary)) => Ok(summary),
            Ok(None) | Err(StoreError::Corrupt(_)) => Err(SessionsError::NotFound(session)),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a command makes sense as the session stands. True: room was made for a run that it will cause.
    async fn admit(&self, summary: &SessionSummary, command: &SessionCommand) -> Result<bool, SessionsError> {
        if let CommandBody::Message { .. } = &command.body {
            // A session that is busy takes messages into its inbox, by the rules of `on_busy`.
            let idle = !summary.is_processing();
            return if idle {
                self.0.load.claim(&self.0.parts.room.load(), summary.session_id, &summary.user_id)
            } else {
                Ok(false)
            };
        }
        self.check(summary, command).await.map(|()| false)
    }

    async fn check(&self, summary: &SessionSummary, command: &SessionCommand) -> Result<(), SessionsError> {
        match &command.body {
            CommandBody::Settings(patch) => {
                Ok(self.0.parts.catalog.validate_settings(&patch.apply(&summary.settings))?)
            }
            CommandBody::Resolve { approval_id, arguments, .. } => {
                let state = load_state(self.0.parts.store.as_ref(), summary.session_id).await?.state;
                match state.run.as_ref().and_then(|run| run.is_answered(*approval_id)) {
                    Some(false) => {}
                    Some(true) => return Err(SessionsError::ApprovalClosed(*approval_id)),
                    None if summary.user_id == command.by => {
                        return Err(SessionsError::ApprovalNotFound(*approval_id));
                    }
                    // Nothing is said of a session of others that does not wait for them.
                    None => return Err(SessionsError::NotFound(summary.session_id)),
                }
                if self.0.parts.approval_by == ApprovalBy::Approver && arguments.is_some() {
                    return Err(SessionsError::DoesNotFit(
                        "where approvals are given by others, nobody changes what is asked: that would be one person's \
                         word again; deny it, and say in the comment what to ask for instead"
                            .into(),
                    ));
                }
                if !self.0.may_answer(command, &summary.user_id) {
                    return Err(SessionsError::ApproverRequired);
                }
                let asked = state.pending_approvals().find(|asked| asked.approval_id == *approval_id);
                match (asked, arguments.as_ref().and_then(|arguments| arguments.as_object())) {
                    (Some(asked), Some(edited)) => {
                        let valid = self.0.parts.tools.validate_arguments(&asked.name, edited);
                        valid.map_err(|mismatch| SessionsError::DoesNotFit(mismatch.to_string()))
                    }
                    _ => Ok(()),
                }
            }
            CommandBody::Answer { input_id, action, content } => {
                let state = load_state(self.0.parts.store.as_ref(), summary.session_id).await?.state;
                match state.run.as_ref().and_then(|run| run.is_input_answered(*input_id)) {
                    Some(false) => {}
                    Some(true) => return Err(SessionsError::InputClosed(*input_id)),
                    None => return Err(SessionsError::InputNotFound(*input_id)),
                }
                let asked = state.pending_inputs().find(|asked| asked.input_id == *input_id);
                match (action, asked.and_then(|asked| asked.schema.as_ref())) {
                    (InputAction::Accept, Some(schema)) => {
                        let mut content = content.clone().unwrap_or_default();
                        k8sops_tools::fill_elicitation_defaults(schema, &mut content);
                        let valid = k8sops_tools::validate_elicitation_answer(schema, &content);
                        valid.map_err(|mismatch| SessionsError::DoesNotFit(mismatch.to_string()))
                    }
                    _ => Ok(()),
                }
            }
            CommandBody::Message { .. } | CommandBody::Cancel { .. } | CommandBody::Title { .. } => Ok(()),
        }
    }

    /// Takes a command in and waits until `done` says that an event shows it done.
    ///
    /// # Errors
    /// As [`Self::submit`], and `Pending`.
    pub async fn apply(
        &self,
        session: SessionId,
        command: SessionCommand,
        done: impl Fn(&SessionEvent) -> bool,
    ) -> Result<Arc<SessionEvent>, SessionsError> {
        let receipt = self.submit(session, command).await?;
        // Who could submit may see what comes of it.
        let mut cursor = self.cursor(None, session, receipt.seq).await?;
        let event = tokio::time::timeout(APPLY_TIMEOUT, async {
            while let Some(frame) = cursor.next().await? {
                if let StreamFrame::Event(event) = frame
                    && done(&event)
                {
                    return Ok(event);
                }
            }
            Err(SessionsError::NotFound(session))
        });
        event.await.unwrap_or(Err(SessionsError::Pending))
    }
}

/// The message whose run is next: the first that interrupts, else the first.
pub(super) fn next_message(entries: &[InboxEntry]) -> Option<&InboxEntry> {
    let mut messages = entries.iter().filter(|entry| entry.command.is_message());
    let first = messages.clone().next();
    let interrupts =
        messages.find(|e| matches!(e.command.body, CommandBody::Message { on_busy: OnBusy::Interrupt, .. }));
    interrupts.or(first)
}
