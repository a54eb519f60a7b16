//! Submits commands: authorization, validation against the current state, and the write to the inbox.

use std::{sync::Arc, time::Duration};

use super::{
    admission::RunAdmission,
    approvals::is_allowed_to_answer,
    error::SessionsError,
    message_offer::{OfferOutcome, is_offerable},
    sessions::Sessions,
};
use k8sops_core::{
    CommandBody, CommandReceipt, ConfirmableWrite, InboxEntry, InputAction, InteractionStatus, MessageQueued, OnBusy,
    SessionCommand, SessionEvent, SessionId, SessionSettings, SessionState, SessionSummary, StoreError, StreamFrame,
    UserId, load_state,
};
use k8sops_tools::ApprovalBy;

/// How long a caller waits for a command to take effect before it gets `Pending`.
const APPLY_TIMEOUT: Duration = Duration::from_secs(10);

impl Sessions {
    /// Submits a command. It is durable and confirmed when this returns, and takes effect in the order of the inbox. Dropping
    /// the future does not interrupt the submission. After an error of the outage `Unconfirmed`, the command was accepted and
    /// may be lost; the same command can be submitted again.
    ///
    /// # Errors
    /// `NotFound`, `Stopping`, `Settings`, `ApprovalNotFound`, `ApprovalClosed`, `ApproverRequired`, `TooManyRuns`,
    /// `Overloaded`, and store errors: `Busy`, `CommandIdReused`, `InboxFull`. A command that was
    /// accepted before is never rejected for later changes.
    pub async fn submit_command(
        &self,
        session: SessionId,
        command: SessionCommand,
    ) -> Result<CommandReceipt, SessionsError> {
        self.ensure_running()?;
        let this = self.clone();
        self.run_to_completion(async move { this.submit_checked(session, command).await }).await
    }

    async fn submit_checked(
        &self,
        session: SessionId,
        mut command: SessionCommand,
    ) -> Result<CommandReceipt, SessionsError> {
        let store = &self.0.dependencies.store;
        let mut summary = self.find_target_session(session, &command).await?;
        if let CommandBody::Cancel { run_id: run_id @ None } = &mut command.body {
            // The inbox before the summary: a message whose run starts in between is seen in one of the two.
            let waiting = store.list_inbox(session).await?;
            summary = self.get_session(&command.by, session).await?;
            *run_id = summary.open_run.or_else(|| next_message(&waiting)?.command.run_id());
        }
        self.prepare_attachments(&summary, &mut command).await;
        let admission = match self.admit_command(&summary, &command).await {
            Ok(admission) => admission,
            // An accepted command stays accepted, whatever has changed since.
            Err(rejection) => {
                let receipt = match store.find_receipt(session, &command.by, &command.command_id).await? {
                    Some(first) if first.is_of_request(&command.fingerprint) => {
                        CommandReceipt { duplicate: true, ..first }
                    }
                    Some(_) => return Err(StoreError::CommandIdReused.into()),
                    None => return Err(rejection),
                };
                return self.confirm_receipt(session, &command.by, receipt).await;
            }
        };
        let by = command.by.clone();
        let command = Arc::new(command);
        let outcome = if is_offerable(&command, &summary) {
            self.0.offer_message(session, &command).await
        } else {
            OfferOutcome::NotOffered
        };
        let is_queued = match &outcome {
            OfferOutcome::Accepted(receipt) => return self.confirm_receipt(session, &by, receipt.clone()).await,
            OfferOutcome::Declined | OfferOutcome::Begun(_) => self.is_behind_another_message(session, &command).await,
            OfferOutcome::NotOffered => command.is_message() && summary.is_processing(),
        };
        let mut taken = store.submit_command(session, Arc::unwrap_or_clone(command)).await;
        // A message that its owner still accepts is not refused.
        if taken.is_err()
            && let OfferOutcome::Begun(commit) = outcome
            && let Some(receipt) = commit.wait().await
        {
            taken = Ok(receipt);
        }
        if taken.is_err() && admission == RunAdmission::Reserved {
            self.0.admission.release(session);
        }
        let receipt = taken?;
        if is_queued && !receipt.duplicate {
            self.publish_queued_message(session, &summary.user_id, &receipt);
        }
        // The owner does not wait: what must not happen twice is confirmed before it happens.
        self.0.wake_owner(session);
        self.confirm_receipt(session, &by, receipt).await
    }

    /// Returns whether a message that is about to be submitted has to wait for another one.
    async fn is_behind_another_message(&self, session: SessionId, command: &SessionCommand) -> bool {
        // The submission says what is wrong with the store.
        let Ok(Some(now)) = self.0.dependencies.store.read_summary(session).await else { return false };
        now.waiting || now.open_run.is_some_and(|run| Some(run) != command.run_id())
    }

    /// Removes secrets from the attachments of a message and shortens them, before anything is stored.
    async fn prepare_attachments(&self, summary: &SessionSummary, command: &mut SessionCommand) {
        let CommandBody::Message { attachments, .. } = &mut command.body else { return };
        if attachments.is_empty() {
            return;
        }
        let dependencies = &self.0.dependencies;
        let SessionSettings { provider, model, .. } = &summary.settings;
        let window = dependencies.catalog.context_window(provider, model);
        let sent = std::mem::take(attachments);
        *attachments = dependencies.tools.prepare_attachments(summary.session_id, sent, window).await;
    }

    fn publish_queued_message(&self, session_id: SessionId, user: &UserId, receipt: &CommandReceipt) {
        if let CommandReceipt { run_id: Some(run_id), message_id: Some(message_id), .. } = *receipt {
            let (user_id, ts) = (user.clone(), self.0.dependencies.clock.now());
            self.0.accounts.publish_queued(MessageQueued { session_id, user_id, message_id, run_id, ts });
        }
    }

    /// Returns the receipt of an accepted command once the command is confirmed. A repeated command waits as well: its first
    /// submission may not have been confirmed.
    async fn confirm_receipt(
        &self,
        session: SessionId,
        by: &UserId,
        receipt: CommandReceipt,
    ) -> Result<CommandReceipt, SessionsError> {
        let write = ConfirmableWrite::Command { by, command_id: &receipt.command_id };
        self.0.confirm_write(session, write).await?;
        Ok(receipt)
    }

    /// Returns the session of a command: one of the sender, or with `TOOL_APPROVAL_BY=approver` one that waits for an
    /// approval.
    async fn find_target_session(
        &self,
        session: SessionId,
        command: &SessionCommand,
    ) -> Result<SessionSummary, SessionsError> {
        let of_others = self.0.dependencies.approval_by == ApprovalBy::Approver
            && matches!(command.body, CommandBody::Resolve { approver: true, .. });
        if !of_others {
            return self.get_session(&command.by, session).await;
        }
        // Approvers learn of damage as the session's user does: its approvals were listed to them.
        self.0.dependencies.store.read_summary(session).await?.ok_or(SessionsError::NotFound(session))
    }

    /// Validates a command against the state of the session, and reserves capacity for the run of a message.
    async fn admit_command(
        &self,
        summary: &SessionSummary,
        command: &SessionCommand,
    ) -> Result<RunAdmission, SessionsError> {
        if let CommandBody::Message { .. } = &command.body {
            // A busy session queues messages, as `on_busy` says.
            let idle = !summary.is_processing();
            return if idle {
                self.0.admission.reserve(&self.0.dependencies.capacity.load(), summary.session_id, &summary.user_id)
            } else {
                Ok(RunAdmission::AlreadyReserved)
            };
        }
        self.validate_command(summary, command).await.map(|()| RunAdmission::AlreadyReserved)
    }

    async fn validate_command(&self, summary: &SessionSummary, command: &SessionCommand) -> Result<(), SessionsError> {
        match &command.body {
            CommandBody::Settings(patch) => {
                Ok(self.0.dependencies.catalog.validate_settings(&patch.apply_to(&summary.settings))?)
            }
            CommandBody::Resolve { approval_id, arguments, .. } => {
                let state = self.load_for_answer(summary.session_id).await?;
                let now = self.0.dependencies.clock.now();
                match state.run.as_ref().and_then(|run| run.approval_status(*approval_id, now)) {
                    Some(InteractionStatus::Pending) => {}
                    Some(status) => {
                        self.log_expiry(summary.session_id, status);
                        return Err(SessionsError::ApprovalClosed(*approval_id));
                    }
                    None if summary.user_id == command.by => {
                        return Err(SessionsError::ApprovalNotFound(*approval_id));
                    }
                    // The existence of another user's session is not revealed.
                    None => return Err(SessionsError::NotFound(summary.session_id)),
                }
                if self.0.dependencies.approval_by == ApprovalBy::Approver && arguments.is_some() {
                    return Err(SessionsError::ArgumentsNotEditable);
                }
                if !is_allowed_to_answer(self.0.dependencies.approval_by, command, &summary.user_id) {
                    return Err(SessionsError::ApproverRequired);
                }
                let asked = state.pending_approvals().find(|asked| asked.approval_id == *approval_id);
                match (asked, arguments.as_ref().and_then(|arguments| arguments.as_object())) {
                    (Some(asked), Some(edited)) => {
                        Ok(self.0.dependencies.tools.validate_arguments(&asked.name, edited)?)
                    }
                    _ => Ok(()),
                }
            }
            CommandBody::Answer { input_id, action, content } => {
                let state = self.load_for_answer(summary.session_id).await?;
                let now = self.0.dependencies.clock.now();
                match state.run.as_ref().and_then(|run| run.input_status(*input_id, now)) {
                    Some(InteractionStatus::Pending) => {}
                    Some(status) => {
                        self.log_expiry(summary.session_id, status);
                        return Err(SessionsError::InputClosed(*input_id));
                    }
                    None => return Err(SessionsError::InputNotFound(*input_id)),
                }
                let asked = state.pending_inputs().find(|asked| asked.input_id == *input_id);
                match (action, asked.and_then(|asked| asked.schema.as_ref())) {
                    (InputAction::Accept, Some(schema)) => {
                        let mut content = content.clone().unwrap_or_default();
                        k8sops_tools::fill_elicitation_defaults(schema, &mut content);
                        Ok(k8sops_tools::validate_elicitation_answer(schema, &content)?)
                    }
                    _ => Ok(()),
                }
            }
            CommandBody::Feedback { message_id, .. } => {
                let state = self.load_for_answer(summary.session_id).await?;
                state.find_reply(*message_id).map(drop).ok_or(SessionsError::ReplyNotFound(*message_id))
            }
            CommandBody::Message { .. } | CommandBody::Cancel { .. } | CommandBody::Title { .. } => Ok(()),
        }
    }

    /// Loads the state that an answer is checked against. If it is damaged, the owner in this process checks its log as well, and
    /// gives the session up.
    async fn load_for_answer(&self, session: SessionId) -> Result<SessionState, StoreError> {
        let loaded = load_state(self.0.dependencies.store.as_ref(), session).await;
        if let Err(error @ StoreError::Corrupt(_)) = &loaded {
            tracing::debug!(%session, %error, "answer cannot be checked");
            self.0.known_logs.record_damage(session);
        }
        Ok(loaded?.state)
    }

    /// Wakes the owner of a session, which logs that something has expired: its timer may be late.
    fn log_expiry(&self, session: SessionId, status: InteractionStatus) {
        if status == InteractionStatus::Expired {
            self.0.wake_owner(session);
        }
    }

    /// Submits a command and waits for the event that `done` accepts.
    ///
    /// # Errors
    /// As [`Self::submit_command`], and `Pending`.
    pub async fn apply_command(
        &self,
        session: SessionId,
        command: SessionCommand,
        done: impl Fn(&SessionEvent) -> bool,
    ) -> Result<Arc<SessionEvent>, SessionsError> {
        self.apply_command_after(u64::MAX, session, command, done).await
    }

    /// Submits a command and waits for the event that `done` accepts, which may precede the command but comes after the
    /// event `seq`.
    ///
    /// # Errors
    /// As [`Self::apply_command`].
    pub async fn apply_command_after(
        &self,
        seq: u64,
        session: SessionId,
        command: SessionCommand,
        done: impl Fn(&SessionEvent) -> bool,
    ) -> Result<Arc<SessionEvent>, SessionsError> {
        let receipt = self.submit_command(session, command).await?;
        // A caller that may submit may read the result.
        let mut cursor = self.open_cursor_unchecked(None, session, seq.min(receipt.seq)).await?;
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

/// Returns the message whose run is next: the first that interrupts, else the first.
pub(super) fn next_message(entries: &[InboxEntry]) -> Option<&InboxEntry> {
    let mut messages = entries.iter().filter(|entry| entry.command.is_message());
    let first = messages.clone().next();
    let interrupts =
        messages.find(|e| matches!(e.command.body, CommandBody::Message { on_busy: OnBusy::Interrupt, .. }));
    interrupts.or(first)
}
