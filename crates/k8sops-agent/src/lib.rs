//! One run: the loop over model and tools that answers a user's message.
//!
//! The loop has no memory of its own. Each turn of it looks at the projection of the log ([`RunView`]) and does the next
//! thing; what it does becomes events, and only what is committed is acted upon. So a run that another process began goes
//! on by the very same path as one that was never interrupted.
//!
//! ```text
//!        ┌────────────── RunView (what the log says) ◀─────────────┐
//!        ▼                                                         │
//!  calls open? ──yes──▶ calls.rs: approve, run, end each ──────────┤ append (durable)
//!        │no                                                       │
//!  model spoke last? ──no──▶ reply.rs: stream a reply ─────────────┘
//!        │yes
//!        ▼
//!  run_finished
//! ```
//!
//! It knows neither HTTP nor a store: model, tools and log are parameters.

mod aside;
mod ask;
mod attempts;
mod budget;
mod calls;
mod compaction;
mod context;
mod history;
mod limits;
mod lineup;
pub mod memory;
mod options;
mod prompt;
mod recall;
mod reply;
#[cfg(test)]
mod tests;
mod trust;

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use lineup::Course;

use k8sops_core::{
    ChatMessage, ContextCompaction, EventBody, MessageId, OpenRun, RunFailed, RunFinished, RunOutcome, SessionSettings,
    SessionState, StopReason, Timestamp, TokenUsage, ToolEnd, ToolProgress, ToolStatus,
};
use k8sops_tools::ToolExecutor;

pub use aside::Aside;
pub use budget::{Spending, is_spent};
pub use compaction::told;
pub use context::ContextPolicy;
pub use limits::Limits;
pub use lineup::Candidate;
pub use options::*;
pub use prompt::system_prompt;
pub use recall::Recall;

/// The way from a run to its session's log.
#[async_trait]
pub trait RunLog: Send + Sync {
    /// Commits events of this run, in their order, all or none. They are durable when it returns.
    ///
    /// # Errors
    /// [`LogClosed`]: this process may no longer write to the session, or cannot; the run must end without a word.
    async fn append(&self, events: Vec<EventBody>) -> Result<(), LogClosed>;

    /// The run as the log says it is.
    fn view(&self) -> RunView;

    /// Whether this process surely may act for the session now. What was committed a moment ago says nothing of that when
    /// the process was paused in between.
    fn holds(&self) -> bool;

    /// Changes whenever [`RunLog::view`] may have changed.
    fn changes(&self) -> watch::Receiver<u64>;

    /// Shows a piece of the message that is being written; nothing waits for it.
    fn preview(&self, message: MessageId, piece: Piece<'_>);

    /// Shows how far a tool call is; nothing waits for it.
    fn progress(&self, progress: ToolProgress);
}

/// A piece of a message that is being written.
#[derive(Debug, Clone, Copy)]
pub enum Piece<'a> {
    /// More text.
    Text(&'a str),
    /// More reasoning.
    Reasoning(&'a str),
    /// All that was shown of the message is void.
    Void,
}

/// The log does not take events of this run any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the session's log is closed to this run")]
pub struct LogClosed;

/// A run as the log says it is.
#[derive(Debug, Clone)]
pub struct RunView {
    /// The conversation.
    pub messages: Vec<Arc<ChatMessage>>,
    /// The run; `None` when it has ended.
    pub run: Option<OpenRun>,
    /// What stands for the oldest messages.
    pub compaction: Option<ContextCompaction>,
    /// The codes of the warnings that the session was given.
    pub warned: BTreeSet<String>,
    /// What the whole session has used.
    pub used: TokenUsage,
}

impl From<&SessionState> for RunView {
    fn from(state: &SessionState) -> Self {
        Self {
            messages: state.messages.clone(),
            run: state.run.clone(),
            compaction: state.compaction.clone(),
            warned: state.warned.clone(),
            used: state.summary.usage,
        }
    }
}

/// All that a run needs.
pub struct Run {
    /// Its log.
    pub log: Arc<dyn RunLog>,
    /// The models it may ask: the session's own, then those that stand in for it. Never empty.
    pub lineup: Vec<Candidate>,
    /// What its user has used.
    pub spending: Arc<dyn Spending>,
    /// What is remembered of its user; `None`: nothing is.
    pub memory: Option<Arc<dyn Recall>>,
    /// The tools it may call.
    pub tools: Arc<dyn ToolExecutor>,
    /// Temperature, tokens, reasoning.
    pub settings: SessionSettings,
    /// The system prompt.
    pub system: Arc<str>,
    /// What bounds it.
    pub limits: Limits,
    /// The user's cancel: the run ends with outcome `cancelled`.
    pub cancel: CancellationToken,
    /// The service's stop: the run leaves off at the next place where nothing is half done, to be gone on with later.
    pub halt: CancellationToken,
}

/// How a run's loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEnd {
    /// The log has its `run_finished` or `run_failed`.
    Closed,
    /// It left off because of [`Run::halt`]; the run is open in the log.
    Halted,
}

impl Run {
    /// Does what is left to do of the run, to its end.
    ///
    /// # Errors
    /// [`LogClosed`], when the log takes nothing any more.
    pub async fn drive(&self) -> Result<RunEnd, LogClosed> {
        let mut course = Course::default();
        loop {
            let view = self.log.view();
            let Some(run) = &view.run else { return Ok(RunEnd::Closed) };
            if self.halt.is_cancelled() {
                return Ok(RunEnd::Halted);
            }
            if !run.calls.is_empty() {
                self.resolve_calls(run, &view.messages, &course).await?;
            } else if self.cancel.is_cancelled() {
                self.log.append(vec![finished(run, RunOutcome::Cancelled, TokenUsage::default())]).await?;
            } else if answered(&view.messages, run) {
                // The reply was committed by an owner that did not come to close the run.
                let outcome = if self.limits.reached_before(run) { RunOutcome::Limit } else { RunOutcome::Completed };
                self.log.append(vec![finished(run, outcome, TokenUsage::default())]).await?;
            } else if !self.recall(&view, run).await? {
                self.ask_model(&view, run, &mut course).await?;
            }
        }
    }
}

/// Whether the newest message is this run's reply without tool calls: then there is nothing left to do.
fn answered(messages: &[Arc<ChatMessage>], run: &OpenRun) -> bool {
    matches!(messages.last().map(AsRef::as_ref),
        Some(ChatMessage::Assistant(m)) if m.run_id == Some(run.run_id)
            && m.tool_calls.is_empty() && m.stop_reason != StopReason::Paused)
}

/// The event that ends `run`; `more` is used by a reply that is committed with it.
fn finished(run: &OpenRun, outcome: RunOutcome, more: TokenUsage) -> EventBody {
    let mut usage = run.usage;
    usage += more;
    EventBody::RunFinished(RunFinished { outcome, usage, duration_ms: since(run.started_at) })
}

fn since(start: Timestamp) -> u64 {
    u64::try_from(Timestamp::now().since(start).as_millis()).unwrap_or(u64::MAX)
}

/// The events that close a run which cannot be driven any further: its open tool calls end, then the run fails.
/// No tool call is left without an end, whatever happened.
#[must_use]
pub fn failing(run: &OpenRun, failure: RunFailed) -> Vec<EventBody> {
    let mut events: Vec<EventBody> = run.calls.iter().map(calls::end_of_interrupted).collect();
    events.push(EventBody::RunFailed(RunFailed { usage: run.usage, ..failure }));
    events
}

/// The end of a call that was not run, or of which nothing came back.
fn ended(call: &k8sops_core::ToolCall, status: ToolStatus, content: impl Into<String>) -> EventBody {
    let content = content.into();
    EventBody::ToolEnd(ToolEnd {
        tool_call_id: call.id.clone(),
        status,
        bytes: content.len() as u64,
        content,
        structured: None,
        truncated: false,
        duration_ms: 0,
    })
}
