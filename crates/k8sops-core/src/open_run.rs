//! The run in progress, as the log tells it: all that a new owner needs to go on with it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    ApprovalId, ApprovalRequested, ApprovalResolved, InputId, InputRequested, InputResolved, RequestContext, RunId,
    Timestamp, TokenUsage, ToolCall, ToolEffect,
};

/// The run in progress: all that a new owner needs to go on with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenRun {
    /// The run.
    pub run_id: RunId,
    /// When it began.
    pub started_at: Timestamp,
    /// The provider it asks.
    pub provider: String,
    /// The model it asks.
    pub model: String,
    /// 1, and one more with every `run_recovered`.
    pub attempt: u32,
    /// Replies of the model so far.
    pub steps: u32,
    /// What they used.
    pub usage: TokenUsage,
    /// See [`super::RunStarted::memory`].
    #[serde(default)]
    pub memory: bool,
    /// Tool calls of the newest reply that have not ended.
    pub calls: Vec<OpenToolCall>,
    /// Approvals of calls that have ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub closed_approvals: Vec<ApprovalId>,
    /// Questions of calls that have ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub closed_inputs: Vec<InputId>,
    /// Tool calls of all its replies.
    #[serde(default)]
    pub call_count: u32,
    /// How long it waited for its user so far, in ms: not counted in what a run may take.
    #[serde(default)]
    pub waited_ms: u64,
    /// Since when it waits for its user, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_since: Option<Timestamp>,
    /// The request that it came from.
    #[serde(default, skip_serializing_if = "RequestContext::is_empty")]
    pub cause: RequestContext,
}

impl OpenRun {
    /// Whether an approval of this run was answered, or its call has ended without; `None`: there is no such approval.
    #[must_use]
    pub fn is_answered(&self, approval: ApprovalId) -> Option<bool> {
        if self.closed_approvals.contains(&approval) {
            return Some(true);
        }
        let mut approvals = self.calls.iter().filter_map(|call| call.approval.as_ref());
        approvals.find(|a| a.requested.approval_id == approval).map(|a| a.resolved.is_some())
    }

    /// The same for a question.
    #[must_use]
    pub fn is_input_answered(&self, input: InputId) -> Option<bool> {
        if self.closed_inputs.contains(&input) {
            return Some(true);
        }
        let mut inputs = self.calls.iter().flat_map(|call| &call.inputs);
        inputs.find(|i| i.requested.input_id == input).map(|i| i.resolved.is_some())
    }

    /// How long it has taken until `now`, what it waited for its user not counted.
    #[must_use]
    pub fn worked(&self, now: Timestamp) -> Duration {
        let waiting = self.waiting_since.map_or(Duration::ZERO, |since| now.since(since));
        now.since(self.started_at).saturating_sub(Duration::from_millis(self.waited_ms) + waiting)
    }

    /// Whether an answer of its user is due.
    fn waits(&self) -> bool {
        self.calls.iter().any(|call| {
            call.approval.as_ref().is_some_and(|a| a.resolved.is_none())
                || call.inputs.iter().any(|i| i.resolved.is_none())
        })
    }

    /// Notes whether the run waits for its user from now on.
    pub(super) fn watch_the_clock(&mut self, now: Timestamp) {
        match (self.waits(), self.waiting_since) {
            (true, None) => self.waiting_since = Some(now),
            (false, Some(since)) => {
                self.waited_ms += u64::try_from(now.since(since).as_millis()).unwrap_or(u64::MAX);
                self.waiting_since = None;
            }
            _ => {}
        }
    }
}

/// A tool call that the model asked for and that has not ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenToolCall {
    /// The call as the model wrote it.
    pub call: ToolCall,
    /// The request for approval, if one was made.
    pub approval: Option<PendingApproval>,
    /// Set once the call was about to be sent.
    pub started: Option<StartedToolCall>,
    /// What its server asked the user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<ElicitationState>,
}

/// A request for approval and its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PendingApproval {
    /// What was asked.
    pub requested: ApprovalRequested,
    /// What was answered.
    pub resolved: Option<ApprovalResolved>,
}

/// A question of an MCP server and its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ElicitationState {
    /// What was asked.
    pub requested: InputRequested,
    /// What was answered.
    pub resolved: Option<InputResolved>,
}

/// A tool call that was about to be sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StartedToolCall {
    /// When.
    pub at: Timestamp,
    /// What the call does to the world.
    pub effect: ToolEffect,
    /// See [`super::ToolStart::attempt`].
    pub attempt: u32,
    /// The server that it goes to; empty in what older versions wrote.
    #[serde(default)]
    pub server: String,
}
