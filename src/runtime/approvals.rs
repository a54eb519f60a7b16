//! Who may answer approvals, and what waits for an answer.

use super::{Sessions, SessionsError, Shared};
use k8sops_core::{ApprovalRequested, CommandBody, RunId, SessionCommand, SessionId, UserId, load_state};
use k8sops_tools::ApprovalBy;

/// An approval that waits for an answer.
#[derive(Debug, Clone)]
pub struct WaitingApproval {
    /// The session.
    pub session: SessionId,
    /// Whose it is.
    pub user: UserId,
    /// The run that waits.
    pub run: RunId,
    /// What is asked.
    pub asked: ApprovalRequested,
}

impl Sessions {
    /// The approvals that a user may answer and that wait, those that run out first coming first: of their own sessions or,
    /// where they are given by others, of all others' sessions to somebody with the role `approver`.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn approvals(&self, user: &UserId, approver: bool) -> Result<Vec<WaitingApproval>, SessionsError> {
        let store = self.0.parts.store.as_ref();
        let mut found = Vec::new();
        if self.0.parts.approval_by == ApprovalBy::Approver && !approver {
            return Ok(found);
        }
        for session in self.0.waiting.sessions(store).await? {
            // One that cannot be read keeps nobody from the others.
            let Ok(Some(summary)) = store.read_summary(session).await else { continue };
            let theirs = summary.user_id == *user;
            if theirs != (self.0.parts.approval_by == ApprovalBy::Owner) {
                continue;
            }
            let Ok(loaded) = load_state(store, session).await else { continue };
            let Some(run) = loaded.state.run.as_ref().map(|run| run.run_id) else { continue };
            let pending = loaded.state.pending_approvals().cloned();
            found.extend(pending.map(|asked| WaitingApproval { session, user: summary.user_id.clone(), run, asked }));
        }
        found.sort_by_key(|approval| approval.asked.expires_at);
        Ok(found)
    }
}

impl Shared {
    /// Whether who sent an answer to an approval may give it. Asked at the door and again before it is logged.
    pub(super) fn may_answer(&self, command: &SessionCommand, owner: &UserId) -> bool {
        let CommandBody::Resolve { approver, arguments, .. } = &command.body else { return false };
        match self.parts.approval_by {
            ApprovalBy::Owner => command.by == *owner,
            ApprovalBy::Approver => *approver && command.by != *owner && arguments.is_none(),
        }
    }
}
