//! Approvals: the list for those who may answer, their previews, and the authorization of an answer.

use super::{error::SessionsError, queries::cut_text, sessions::Sessions};
use k8sops_core::{
    ApprovalId, ApprovalRequested, CommandBody, InputRequested, OutputPart, RunId, SessionCommand, SessionId, UserId,
    load_state,
};
use k8sops_tools::ApprovalBy;

/// An approval request that waits for an answer.
#[derive(Debug, Clone)]
pub struct WaitingApproval {
    /// The session.
    pub session: SessionId,
    /// The user of the session.
    pub user: UserId,
    /// The run that waits.
    pub run: RunId,
    /// The approval request.
    pub asked: ApprovalRequested,
}

/// A question of an MCP server that waits for an answer.
#[derive(Debug, Clone)]
pub struct WaitingInput {
    /// The session.
    pub session: SessionId,
    /// The run that waits.
    pub run: RunId,
    /// The question.
    pub asked: InputRequested,
}

/// Who reads the preview of an approval.
#[derive(Debug, Clone)]
pub struct PreviewReader {
    /// The user.
    pub user: UserId,
    /// Whether the user has the role `approver`.
    pub is_approver: bool,
}

impl Sessions {
    /// Lists the pending approvals that a user may answer, by expiry: those of the user's own sessions or, with
    /// `TOOL_APPROVAL_BY=approver`, those of all other users for a caller with the role `approver`.
    ///
    /// # Errors
    /// Store errors.
    pub async fn list_pending_approvals(
        &self,
        user: &UserId,
        approver: bool,
    ) -> Result<Vec<WaitingApproval>, SessionsError> {
        let store = self.0.dependencies.store.as_ref();
        let mut found = Vec::new();
        if self.0.dependencies.approval_by == ApprovalBy::Approver && !approver {
            return Ok(found);
        }
        for session in self.0.pending_approvals.list_sessions(store).await? {
            // A session that cannot be read does not hide the others.
            let Ok(Some(summary)) = store.read_summary(session).await else { continue };
            let theirs = summary.user_id == *user;
            if theirs != (self.0.dependencies.approval_by == ApprovalBy::Owner) {
                continue;
            }
            let Ok(loaded) = load_state(store, session).await else { continue };
            let Some(run) = loaded.state.run.as_ref().map(|run| run.run_id) else { continue };
            let now = self.0.dependencies.clock.now();
            let pending = loaded.state.pending_approvals().filter(|asked| asked.expires_at > now).cloned();
            found.extend(pending.map(|asked| WaitingApproval { session, user: summary.user_id.clone(), run, asked }));
        }
        found.sort_by_key(|approval| approval.asked.expires_at);
        Ok(found)
    }

    /// Lists the questions of MCP servers in a user's sessions that wait for an answer, by expiry.
    ///
    /// # Errors
    /// Store errors.
    pub async fn list_pending_inputs(&self, user: &UserId) -> Result<Vec<WaitingInput>, SessionsError> {
        let store = self.0.dependencies.store.as_ref();
        let mut found = Vec::new();
        for session in self.0.pending_approvals.list_sessions(store).await? {
            // A session that cannot be read does not hide the others.
            let Ok(Some(summary)) = store.read_summary(session).await else { continue };
            if summary.user_id != *user {
                continue;
            }
            let Ok(loaded) = load_state(store, session).await else { continue };
            let Some(run) = loaded.state.run.as_ref().map(|run| run.run_id) else { continue };
            let now = self.0.dependencies.clock.now();
            let pending = loaded.state.pending_inputs().filter(|asked| asked.expires_at > now).cloned();
            found.extend(pending.map(|asked| WaitingInput { session, run, asked }));
        }
        found.sort_by_key(|input| input.asked.expires_at);
        Ok(found)
    }

    /// Reads at most `limit` bytes of the whole preview of an approval, starting at `offset`. Those who may answer the approval
    /// may read it, besides the user of the session.
    ///
    /// # Errors
    /// `NotFound`, `ApprovalNotFound`, `PreviewMissing`, and store errors.
    pub async fn read_approval_preview(
        &self,
        reader: &PreviewReader,
        session: SessionId,
        approval: ApprovalId,
        offset: u64,
        limit: usize,
    ) -> Result<OutputPart, SessionsError> {
        let store = self.0.dependencies.store.as_ref();
        if self.0.dependencies.approval_by == ApprovalBy::Approver && reader.is_approver {
            store.read_summary(session).await?.ok_or(SessionsError::NotFound(session))?;
        } else {
            self.get_session(&reader.user, session).await?;
        }
        if let Some(part) = store.read_output(session, &approval.preview_output_id(), offset, limit).await? {
            return Ok(part);
        }
        // A preview that could not be stored is in the log, as far as it fits there.
        let state = load_state(store, session).await?.state;
        let asked = state.pending_approvals().find(|asked| asked.approval_id == approval);
        if asked.and_then(|asked| asked.preview_detail.as_ref()).is_some_and(|detail| detail.lines_omitted > 0) {
            return Err(SessionsError::PreviewMissing(approval));
        }
        let preview = asked.and_then(|asked| asked.preview.clone());
        Ok(cut_text(&preview.ok_or(SessionsError::ApprovalNotFound(approval))?, offset, limit))
    }
}

/// Returns whether the sender of an approval answer may give it. Checked at submission and again before it is committed.
pub(super) fn is_allowed_to_answer(approval_by: ApprovalBy, command: &SessionCommand, owner: &UserId) -> bool {
    let CommandBody::Resolve { approver, arguments, .. } = &command.body else { return false };
    match approval_by {
        ApprovalBy::Owner => command.by == *owner,
        ApprovalBy::Approver => *approver && command.by != *owner && arguments.is_none(),
    }
}
