//! The port through which the agent sees the tools of a session.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Map, Value};

use k8sops_core::{
    AffectedObject, ApprovalId, ApprovalRequested, ChatMessage, DependentObjects, PreviewDetail, SentAttachment,
    ServerIntroduction, SessionId, ToolCallId, ToolStatus, UserId,
};
use k8sops_mcp::{ElicitationHandler, OperatorNote, ProgressCallback};
use k8sops_models::{FoundTools, ToolSpec};

use crate::{ArgumentMismatch, ClassifiedCall, UntrustedWord};

/// Creates the tool executor of each session.
#[async_trait]
pub trait ToolExecutorFactory: Send + Sync + 'static {
    /// Creates the executor of a session, for as long as this process owns the session.
    fn create_executor(&self, session: SessionId, user: &UserId) -> Arc<dyn ToolExecutor>;

    /// Checks arguments that a person edited against the schema of the tool that a call names.
    ///
    /// # Errors
    /// The arguments violate the schema.
    fn validate_arguments(&self, name: &str, arguments: &Map<String, Value>) -> Result<(), ArgumentMismatch>;

    /// Returns the attachments of a message to a session without their secrets, and shortened like outputs of tools for a model with
    /// this context window. Never fails: an attachment that cannot be redacted has no text.
    async fn prepare_attachments(
        &self,
        session: SessionId,
        attachments: Vec<SentAttachment>,
        context_window: Option<u32>,
    ) -> Vec<SentAttachment>;
}

/// The tools of one session.
#[async_trait]
pub trait ToolExecutor: Send + Sync + 'static {
    /// Waits, for a bounded time, until the tools of the MCP servers have been discovered. A run starts after that, so that
    /// a run which is resumed after a restart finds its tools.
    async fn wait_until_ready(&self) {}

    /// Returns what servers say of themselves that are connected and not among `known`, in the order of the configuration.
    async fn introduce_servers(&self, _known: &[ServerIntroduction]) -> Vec<ServerIntroduction> {
        Vec::new()
    }

    /// Returns what the operator says of a server.
    fn operator_note(&self, _server: &str) -> OperatorNote {
        OperatorNote::default()
    }

    /// Returns the tools as the model gets them for a conversation, sorted by name so that the prompt's prefix is stable.
    fn tool_specs(&self, messages: &[Arc<ChatMessage>]) -> Arc<[ToolSpec]>;

    /// Returns the tools that each search in these messages found. The model can call them, and a server that loads tools in
    /// the conversation gets them there.
    fn found_tools(&self, _messages: &[Arc<ChatMessage>]) -> FoundTools {
        FoundTools::default()
    }

    /// Returns the names of the MCP servers that are not connected now.
    fn unavailable_servers(&self) -> Vec<String> {
        Vec::new()
    }

    /// Classifies a call without running it; `None` if there is no tool of that name. `untrusted_word` is a word of the
    /// arguments that no user said, if there is one.
    fn classify_call(
        &self,
        name: &str,
        arguments: &Map<String, Value>,
        untrusted_word: Option<&UntrustedWord>,
    ) -> Option<ClassifiedCall>;

    /// Returns whether a text contains something that must not be stored: a credential, a value of a Secret, or a
    /// placeholder of one.
    fn contains_secret(&self, text: &str) -> bool;

    /// Stores the whole texts of attachments that were shortened, so that the model can read the rest.
    async fn store_attachments(&self, _attachments: &[SentAttachment]) {}

    /// Shows what a call would do, without doing it. The whole preview is stored under the id of the approval.
    async fn preview_call(&self, _name: &str, _arguments: &Map<String, Value>, _approval: ApprovalId) -> CallPreview {
        CallPreview::default()
    }

    /// Finds out directly before a call whether what its approval showed still holds.
    async fn check_preview(&self, _approved: &ApprovalRequested) -> PreviewFreshness {
        PreviewFreshness::Current
    }

    /// Runs the call that was classified. If the tool has become stricter or is gone since then, nothing runs. Dropping the
    /// future cancels the call at its server.
    async fn execute_call(
        &self,
        call: &ClassifiedCall,
        arguments: &Map<String, Value>,
        context: ToolCallContext,
    ) -> ToolOutcome;
}

/// What a person who approves a call is shown of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallPreview {
    /// One line on what the call does; empty if nothing more is known than the arguments.
    pub summary: String,
    /// The objects that the call touches.
    pub objects: Vec<AffectedObject>,
    /// The objects that go with them.
    pub dependents: Vec<DependentObjects>,
    /// The cluster of the server, as the operator calls it.
    pub cluster: Option<String>,
    /// A diff, or what a dry run printed, within the limit of an approval request.
    pub text: Option<String>,
    /// The form of `text`.
    pub detail: Option<PreviewDetail>,
}

/// Whether what an approval showed still holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PreviewFreshness {
    /// It holds, or it cannot be compared.
    Current,
    /// It does not hold.
    Changed {
        /// What has changed, for a person to read.
        what: String,
    },
}

/// What a call needs besides its arguments.
#[derive(Clone)]
pub struct ToolCallContext {
    /// Id of the call in the session.
    pub id: ToolCallId,
    /// Receives the progress that the server reports; must not block.
    pub progress: ProgressCallback,
    /// Receives the questions of the server to the user.
    pub elicitation_handler: Arc<dyn ElicitationHandler>,
    /// Context window of the model in tokens, if it is known. The output gets a share of it.
    pub context_window: Option<u32>,
}

/// Result of a call.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolOutcome {
    /// `ok`, `error`, `timeout` or `unknown`.
    pub status: ToolStatus,
    /// The output, truncated to the budget.
    pub content: String,
    /// The structured output, if it fits the budget.
    pub structured: Option<Value>,
    /// Whether `content` holds less than the server sent.
    pub truncated: bool,
    /// Size of the server's output in bytes.
    pub bytes: u64,
}
