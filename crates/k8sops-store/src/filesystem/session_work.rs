//! What is left to do in a session.

use serde::{Deserialize, Serialize};

/// What is left to do in a session. It is stored in the lines of the index.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct SessionWork {
    /// The session has work for an owner.
    pub(super) unfinished: bool,
    /// The session has an open run or commands in its inbox, and is not deleted to make room.
    #[serde(default)]
    pub(super) busy: bool,
    /// See [`SessionSummary::waiting`](k8sops_core::SessionSummary::waiting), which is not stored with the summary.
    #[serde(default)]
    pub(super) waiting: bool,
}
