//! What a call carries in addition to its arguments: limits, progress, elicitation, the user's token.

use std::{fmt, sync::Arc, time::Duration};

use k8sops_core::{SessionId, UserId};
use secrecy::SecretString;

use crate::ElicitationHandler;

/// A progress notification of a running call.
#[derive(Debug, Clone, PartialEq)]
pub struct CallProgress {
    /// The progress so far, in the server's own unit.
    pub progress: f64,
    /// Upper bound of `progress`, if the server reports one.
    pub total: Option<f64>,
    /// What the server is doing, if it says so.
    pub message: Option<String>,
}

/// Receives the progress of a call. It must not block.
pub type ProgressCallback = Arc<dyn Fn(CallProgress) + Send + Sync>;

/// How long a call may take. The time that a user takes to answer an elicitation does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallLimits {
    /// Longest time without progress and without an elicitation.
    pub idle: Duration,
    /// Longest duration of the whole call.
    pub total: Duration,
}

impl CallLimits {
    /// Returns limits that are both `limit`.
    #[must_use]
    pub fn uniform(limit: Duration) -> Self {
        Self { idle: limit, total: limit }
    }
}

/// What a call carries in addition to its arguments.
#[derive(Clone)]
pub struct McpCallContext {
    /// How long the call may take.
    pub limits: CallLimits,
    /// Receives the progress of the call.
    pub progress: ProgressCallback,
    /// Answers the elicitations of the server; they are declined if it is `None`.
    pub elicitation_handler: Option<Arc<dyn ElicitationHandler>>,
    /// The calling user, for servers with a process per user.
    pub user: Option<UserId>,
    /// The session that the call belongs to, for servers with a process per session.
    pub session: Option<SessionId>,
    /// The calling user's own token, for servers whose headers contain `${user.token}`.
    pub user_token: Option<SecretString>,
}

impl McpCallContext {
    /// Returns a context that ignores progress, declines elicitations and names no caller.
    #[must_use]
    pub fn with_limits(limits: CallLimits) -> Self {
        Self {
            limits,
            progress: Arc::new(|_| {}),
            elicitation_handler: None,
            user: None,
            session: None,
            user_token: None,
        }
    }
}

impl fmt::Debug for McpCallContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("McpCallContext").field("limits", &self.limits).finish_non_exhaustive()
    }
}
