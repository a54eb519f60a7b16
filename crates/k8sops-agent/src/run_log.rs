//! The port through which a run reads and writes its session's log.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use k8sops_core::{
    ChatMessage, ContextCompaction, ConversationForm, EventBody, LostToolCall, MessageId, OpenRun, ServerIntroduction,
    SessionState, TokenUsage, ToolCallId, ToolProgress,
};
use tokio::sync::watch;

/// The port through which a run reads and writes its session's log.
#[async_trait]
pub trait RunLog: Send + Sync {
    /// Commits events of this run in their order, all or none. The events are durable when it returns.
    ///
    /// # Errors
    /// [`LogClosed`]: this process may no longer write to the session, or cannot. The run must end without another event.
    async fn append_events(&self, events: Vec<EventBody>) -> Result<(), LogClosed>;

    /// Waits until the committed `tool_start` of a call is confirmed: that it survives a failure of the store, as far as the
    /// store is configured to. Cancel safe.
    async fn confirm_call_start(&self, call: &ToolCallId) -> StartConfirmation;

    /// Records that a call is not sent although its `tool_start` was committed. Otherwise it would count as sent if the store
    /// lost what the log says about its end.
    fn record_unsent_call(&self, call: &ToolCallId);

    /// Returns the projection of the run.
    fn view(&self) -> RunView;

    /// Returns whether this process certainly holds the lease now. A recent commit does not prove it: the process may have been
    /// paused since.
    fn holds_lease(&self) -> bool;

    /// Returns a receiver that changes whenever [`RunLog::view`] may have changed.
    fn subscribe(&self) -> watch::Receiver<u64>;

    /// Publishes a chunk of the message that is being written, without waiting for anyone.
    fn send_preview(&self, message: MessageId, chunk: PreviewChunk<'_>);

    /// Publishes the progress of a tool call, without waiting for anyone.
    fn send_progress(&self, progress: ToolProgress);
}

/// A chunk of a message that is being written.
#[derive(Debug, Clone, Copy)]
pub enum PreviewChunk<'a> {
    /// More text.
    Text(&'a str),
    /// More reasoning.
    Reasoning(&'a str),
    /// Everything that was published of the message is void.
    Void,
}

/// Whether the start of a call is confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartConfirmation {
    /// It survives a failure of the store: another owner that resumes the run knows that the call was sent.
    Confirmed,
    /// It may be lost. If the call were sent, it could be sent again by another owner that knows nothing of it.
    Unconfirmed,
}

/// The log accepts no more events of this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the session's log is closed to this run")]
pub struct LogClosed;

/// The projection of a run and its conversation.
#[derive(Debug, Clone)]
pub struct RunView {
    /// The conversation, oldest message first.
    pub messages: Vec<Arc<ChatMessage>>,
    /// The open run; `None` when it has ended.
    pub run: Option<OpenRun>,
    /// The summary that replaces the oldest messages in requests.
    pub compaction: Option<ContextCompaction>,
    /// The codes of the warnings that the session has received.
    pub warned: BTreeSet<String>,
    /// How the conversation is simplified for models that rejected it, see [`SessionState::simplified`].
    pub simplified: BTreeMap<String, ConversationForm>,
    /// What MCP servers said of themselves when the session saw them first.
    pub servers: Vec<ServerIntroduction>,
    /// Calls that may have changed something, were sent, and whose records the store has lost.
    pub lost_calls: Vec<LostToolCall>,
    /// The token usage of the whole session.
    pub used: TokenUsage,
}

impl From<&SessionState> for RunView {
    fn from(state: &SessionState) -> Self {
        Self {
            messages: state.messages.clone(),
            run: state.run.clone(),
            compaction: state.compaction.clone(),
            warned: state.warned.clone(),
            simplified: state.simplified.clone(),
            servers: state.servers.clone(),
            lost_calls: state.lost_calls.clone(),
            used: state.summary.usage,
        }
    }
}
