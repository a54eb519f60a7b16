//! What stands between the model and a tool: the catalog of tools under names that providers accept, the effect class of
//! a call with its reason, the policy on approvals, and the budget of the output.
//!
//! ```text
//! model ─▶ name ─▶ catalog ─▶ classify ─▶ (gate: the agent asks) ─▶ mcp ─▶ output budget ─▶ outcome
//! ```
//!
//! It knows what a tool may do; it knows neither how a server is reached nor who the user is.

mod builtin;
mod catalog;
mod classify;
mod effects;
mod naming;
mod options;
mod output;
mod schema;
mod secrets;
mod session;

#[cfg(test)]
mod tests;
mod user_tokens;
mod words;

use async_trait::async_trait;
use serde::Serialize;
use serde_json::{Map, Value};
use std::sync::Arc;
use utoipa::ToSchema;

pub use catalog::{ToolCatalog, ToolInfo};
pub use options::*;
pub use secrets::holds_secret;
pub use session::SessionToolbox;
pub use user_tokens::UserTokens;

use k8sops_core::{SessionId, ToolCallId, ToolEffect, ToolStatus, UserId};
use k8sops_models::ToolSpec;

pub use k8sops_mcp::{Answer, Asker, Form, Question, check_answer, complete_answer};

/// Gives each session its tools.
pub trait Toolbox: Send + Sync + 'static {
    /// The tools of a session, for as long as one process works on it: what it learns of secrets is remembered there.
    fn open(&self, session: SessionId, user: &UserId) -> Arc<dyn ToolExecutor>;

    /// Whether arguments that a person wrote fit the tool that a call names.
    ///
    /// # Errors
    /// What does not fit, and where.
    fn check(&self, name: &str, arguments: &Map<String, Value>) -> Result<(), String>;
}

/// The tools of a session as the agent sees them.
#[async_trait]
pub trait ToolExecutor: Send + Sync + 'static {
    /// Waits until it is known which tools there are, as far as that can be known in a bounded time. A run begins after it,
    /// so that one that is gone on with after a restart finds its tools.
    async fn ready(&self) {}

    /// What the model is told of; sorted by name, so that the prompt's prefix is stable.
    fn specs(&self) -> Arc<[ToolSpec]>;

    /// What a call would be; `None` when there is no tool of this name.
    fn classify(&self, name: &str, arguments: &Map<String, Value>) -> Option<CallClass>;

    /// Whether a text has something in it that must not be kept: a credential, a value of a Secret, or what stands for one.
    fn is_secret(&self, text: &str) -> bool;

    /// What a call would do, found out without doing it (a dry run, or a diff); `None` where that cannot be known.
    async fn preview(&self, _name: &str, _arguments: &Map<String, Value>) -> Option<String> {
        None
    }

    /// Makes the call that was classed, and no other: when what it would be now is not that any more, nothing is run.
    /// Dropping the future gives it up (the server is told so).
    async fn call(&self, class: &CallClass, arguments: &Map<String, Value>, site: CallSite) -> ToolOutcome;
}

/// Where a call comes from, and what it may need of its user.
#[derive(Clone)]
pub struct CallSite {
    /// The call.
    pub id: ToolCallId,
    /// Takes its progress.
    pub progress: ProgressSink,
    /// Takes its server's questions to the user.
    pub asker: Arc<dyn Asker>,
    /// Tokens that the model can take in, where that is known.
    pub context_window: Option<u32>,
}

/// Takes the progress of a call; must not block.
pub type ProgressSink = Arc<dyn Fn(Progress) + Send + Sync>;

/// How far a running call is, in its tool's words.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// How far.
    pub progress: f64,
    /// Of how much.
    pub total: Option<f64>,
    /// In words.
    pub message: Option<String>,
}

/// What a call would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallClass {
    /// What would run it.
    pub target: Target,
    /// What it does to the world.
    pub effect: ToolEffect,
    /// Whether a user must say yes, nobody needs to, or it is never run.
    pub gate: Gate,
    /// Where the class comes from, in words.
    pub reason: String,
}

/// The one tool that a name stood for when a call was classed. The name may come to stand for another while the call waits
/// for its approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    server: String,
    tool: String,
}

impl Target {
    /// A tool by the name that its server has for it.
    pub fn new(server: impl Into<String>, tool: impl Into<String>) -> Self {
        Self { server: server.into(), tool: tool.into() }
    }

    /// The server.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The tool's name there.
    #[must_use]
    pub fn tool(&self) -> &str {
        &self.tool
    }
}

/// Whether a call may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// At once.
    Open,
    /// At once, unless its arguments come from what a tool returned; then after a user's approval.
    Trusted,
    /// After a user's approval.
    Ask,
    /// Never.
    Deny,
}

/// How a call went.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolOutcome {
    /// `ok`, `error`, `timeout` or `unknown`.
    pub status: ToolStatus,
    /// The output, cut to the budget.
    pub content: String,
    /// The structured output, if it fits the budget.
    pub structured: Option<Value>,
    /// Whether `content` is less than what came.
    pub truncated: bool,
    /// The size of what came, in bytes.
    pub bytes: u64,
}
