//! Questions of a server to the user in the middle of a call (MCP's elicitation), and what goes with a call besides its
//! arguments.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use secrecy::SecretString;
use serde_json::{Map, Value};

use crate::ProgressCallback;

/// A question of a server to the user. All of it is the server's word.
#[derive(Debug, Clone, PartialEq)]
pub struct ElicitationRequest {
    /// What it wants to know, in words.
    pub message: String,
    /// How it is to be answered.
    pub form: ElicitationForm,
}

/// How a question is to be answered.
#[derive(Debug, Clone, PartialEq)]
pub enum ElicitationForm {
    /// With an object that fits this JSON Schema (flat: strings, numbers, booleans and choices).
    Fields(Map<String, Value>),
    /// By opening a page in a browser; the answer only says whether the user agrees to.
    Page {
        /// The page.
        url: String,
    },
}

/// The user's answer to a [`ElicitationRequest`].
#[derive(Debug, Clone, PartialEq)]
pub enum ElicitationAnswer {
    /// With these values; empty for a page.
    Accept(Map<String, Value>),
    /// The user does not want to.
    Decline,
    /// Nobody answered, or the call was given up.
    Cancel,
}

/// Brings questions to the user.
#[async_trait]
pub trait ElicitationHandler: Send + Sync {
    /// Asks, and waits for the answer for as long as the user may take. Dropping the future withdraws the question.
    async fn handle_elicitation(&self, question: ElicitationRequest) -> ElicitationAnswer;
}

/// How long a call may take. The time that a user takes to answer a question does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallLimits {
    /// Without a sign of life (progress, or a question).
    pub idle: Duration,
    /// Altogether.
    pub total: Duration,
}

impl CallLimits {
    /// One limit for both.
    #[must_use]
    pub fn uniform(limit: Duration) -> Self {
        Self { idle: limit, total: limit }
    }
}

/// What goes with a call besides its arguments.
#[derive(Clone)]
pub struct McpCallContext {
    /// How long it may take.
    pub limits: CallLimits,
    /// Takes its progress; must not block.
    pub progress: ProgressCallback,
    /// Takes the server's questions; `None`: they are declined.
    pub elicitation_handler: Option<Arc<dyn ElicitationHandler>>,
    /// The calling user's own token, for servers whose headers name `${user.token}`.
    pub user_token: Option<SecretString>,
}

impl McpCallContext {
    /// A call that nobody watches.
    #[must_use]
    pub fn with_limits(limits: CallLimits) -> Self {
        Self { limits, progress: Arc::new(|_| {}), elicitation_handler: None, user_token: None }
    }
}

impl fmt::Debug for McpCallContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallContext").field("limits", &self.limits).finish_non_exhaustive()
    }
}
