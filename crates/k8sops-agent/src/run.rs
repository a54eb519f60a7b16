//! One run: its parts, and the loop that does the next thing that its log asks for.

use std::sync::Arc;

use k8sops_core::{
    ApprovalAudience, ChatMessage, EventBody, OpenRun, RunOutcome, SessionSettings, StopReason, TokenUsage,
};
use k8sops_tools::ToolExecutor;
use tokio_util::sync::CancellationToken;

use crate::{
    budget::UsageSource,
    limits::RunLimits,
    model_selection::{ModelCandidate, ModelRouting},
    prepared_messages::PreparedMessages,
    run_events::run_finished,
    run_log::{LogClosed, RunLog},
    user_text::MemoryRetriever,
};

/// The parts of a run.
pub struct Run {
    /// The log of its session.
    pub log: Arc<dyn RunLog>,
    /// The models it may call: the session's own, then its fallbacks. Never empty.
    pub candidates: Vec<ModelCandidate>,
    /// Reports what its user has used.
    pub usage_source: Arc<dyn UsageSource>,
    /// The long-term memory of its user; `None` when memory is off.
    pub memory: Option<Arc<dyn MemoryRetriever>>,
    /// The tools it may call.
    pub tools: Arc<dyn ToolExecutor>,
    /// Temperature, token limit and reasoning effort.
    pub settings: SessionSettings,
    /// The system prompt, without the MCP servers.
    pub system: Arc<str>,
    /// Who answers its requests for approval.
    pub approval_audience: ApprovalAudience,
    /// What requests need of the messages of its session, kept from one run to the next.
    pub prepared: Arc<PreparedMessages>,
    /// The bounds of the run.
    pub limits: RunLimits,
    /// Cancelled by the user: the run ends with outcome `cancelled`.
    pub cancel: CancellationToken,
    /// Cancelled by a shutdown: the run stops at the next safe point, and the next owner resumes it.
    pub halt: CancellationToken,
}

/// How a run's loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEnd {
    /// The log has its `run_finished` or `run_failed`.
    Closed,
    /// [`Run::halt`] stopped it; the run is still open in the log.
    Halted,
}

impl Run {
    /// Does everything that is left to do of the run.
    ///
    /// # Errors
    /// [`LogClosed`] when the log accepts no more events.
    pub async fn run_to_completion(&self) -> Result<RunEnd, LogClosed> {
        let mut routing = ModelRouting::default();
        loop {
            let view = self.log.view();
            let Some(run) = &view.run else { return Ok(RunEnd::Closed) };
            if self.halt.is_cancelled() {
                return Ok(RunEnd::Halted);
            }
            if !run.calls.is_empty() {
                self.resolve_calls(run, &view, &routing).await?;
            } else if self.cancel.is_cancelled() {
                self.log.append_events(vec![run_finished(run, RunOutcome::Cancelled, TokenUsage::default())]).await?;
            } else if has_final_reply(&view.messages, run) {
                // An earlier owner committed the reply and stopped before it closed the run.
                let outcome =
                    if self.limits.was_reached_before(run) { RunOutcome::Limit } else { RunOutcome::Completed };
                let warning = self.unverified_change_warning(&view).map(EventBody::Warning);
                let end = run_finished(run, outcome, TokenUsage::default());
                self.log.append_events(warning.into_iter().chain([end]).collect()).await?;
            } else if self.announce_unavailable_servers(&view, run).await?
                || self.introduce_servers(&view, run).await?
                || self.recall_memories(&view, run).await?
            {
                // The next round reads what was committed.
            } else {
                self.ask_model(&view, run, &mut routing).await?;
            }
        }
    }
}

/// Returns whether the newest message is this run's final reply, one without tool calls.
fn has_final_reply(messages: &[Arc<ChatMessage>], run: &OpenRun) -> bool {
    matches!(messages.last().map(AsRef::as_ref),
        Some(ChatMessage::Assistant(m)) if m.run_id == Some(run.run_id)
            && m.tool_calls.is_empty() && m.stop_reason != StopReason::Paused)
}
