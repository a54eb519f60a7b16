//! Tasks, messages, artifacts and updates as clients get them.

use k8sops_core::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// How far a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = A2aTaskState)]
pub(super) enum TaskState {
    /// The run has not started.
    #[serde(rename = "TASK_STATE_SUBMITTED")]
    Submitted,
    /// The run is in progress.
    #[serde(rename = "TASK_STATE_WORKING")]
    Working,
    /// The run completed.
    #[serde(rename = "TASK_STATE_COMPLETED")]
    Completed,
    /// The run failed, or reached a limit.
    #[serde(rename = "TASK_STATE_FAILED")]
    Failed,
    /// The run was cancelled.
    #[serde(rename = "TASK_STATE_CANCELED")]
    Canceled,
    /// The run waits for its user: for an approval, or for an answer.
    #[serde(rename = "TASK_STATE_INPUT_REQUIRED")]
    InputRequired,
    /// No task is in this state.
    #[serde(rename = "TASK_STATE_REJECTED")]
    Rejected,
    /// No task is in this state.
    #[serde(rename = "TASK_STATE_AUTH_REQUIRED")]
    AuthRequired,
}

impl TaskState {
    /// Whether nothing comes any more.
    pub(super) fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Canceled | Self::Rejected)
    }

    /// Returns the state in words.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Submitted => "submitted",
            Self::Working => "in progress",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::InputRequired => "waiting for input",
            Self::Rejected => "rejected",
            Self::AuthRequired => "waiting for credentials",
        }
    }
}

/// Who wrote a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = A2aRole)]
pub(super) enum MessageRole {
    /// The client.
    #[serde(rename = "ROLE_USER")]
    User,
    /// The agent.
    #[serde(rename = "ROLE_AGENT")]
    Agent,
}

/// A part of a message or an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = A2aPart)]
pub(super) struct TextPart {
    /// Text in Markdown.
    pub(super) text: String,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = A2aMessage)]
#[serde(rename_all = "camelCase")]
pub(super) struct AgentMessage {
    /// The id of the message.
    pub(super) message_id: String,
    /// The context.
    pub(super) context_id: String,
    /// The task, if the message belongs to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) task_id: Option<String>,
    pub(super) role: MessageRole,
    /// The text.
    pub(super) parts: Vec<TextPart>,
    /// What programs read: by the URI of an extension, or under `k8sops`.
    #[serde(skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = Object)]
    pub(super) metadata: Map<String, Value>,
    /// The extensions that the message uses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) extensions: Vec<&'static str>,
}

/// How far a task is, and since when.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = A2aTaskStatus)]
pub(super) struct TaskStatus {
    pub(super) state: TaskState,
    /// What the agent does, what it waits for, or why the task failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) message: Option<AgentMessage>,
    /// When the status was set.
    pub(super) timestamp: Timestamp,
}

/// A text of the agent.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = A2aArtifact)]
#[serde(rename_all = "camelCase")]
pub(super) struct TaskArtifact {
    /// The id of the artifact, which is that of the message in the log.
    pub(super) artifact_id: String,
    /// `answer`, or `commentary` for what the agent said before it called tools. Absent while the text is not complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<&'static str>,
    /// The text.
    pub(super) parts: Vec<TextPart>,
}

/// A task.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = A2aTask)]
#[serde(rename_all = "camelCase")]
pub(super) struct TaskResource {
    /// The id, which names a run of a session.
    pub(super) id: String,
    /// The context: the session, by the name that the request has for it.
    pub(super) context_id: String,
    pub(super) status: TaskStatus,
    /// What the agent wrote. Absent in lists unless it is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) artifacts: Option<Vec<TaskArtifact>>,
    /// The message of the client, and what the agent asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) history: Vec<AgentMessage>,
    /// `k8sops` has the ids of session and run in the native API.
    #[schema(value_type = Object)]
    pub(super) metadata: Value,
}

/// A new status of a task.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = A2aStatusUpdate)]
#[serde(rename_all = "camelCase")]
pub(super) struct StatusUpdate {
    pub(super) task_id: String,
    pub(super) context_id: String,
    pub(super) status: TaskStatus,
}

/// More text of a task.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = A2aArtifactUpdate)]
#[serde(rename_all = "camelCase")]
pub(super) struct ArtifactUpdate {
    pub(super) task_id: String,
    pub(super) context_id: String,
    pub(super) artifact: TaskArtifact,
    /// Whether the text follows what was sent of the artifact. If not, it replaces that.
    pub(super) append: bool,
    /// Whether the artifact is complete.
    pub(super) last_chunk: bool,
}

/// What a method returns, or an item of a stream.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = A2aStreamResponse)]
#[serde(rename_all = "camelCase")]
pub(super) enum StreamItem {
    /// The task as it is.
    Task(Box<TaskResource>),
    /// An answer without a task.
    Message(AgentMessage),
    /// A new status.
    StatusUpdate(StatusUpdate),
    /// More text.
    ArtifactUpdate(ArtifactUpdate),
}

/// A page of tasks.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = A2aTaskList)]
#[serde(rename_all = "camelCase")]
pub(super) struct TaskPage {
    /// The tasks, newest status first.
    pub(super) tasks: Vec<TaskResource>,
    /// Names the next page; empty on the last one.
    pub(super) next_page_token: String,
    /// How many tasks a page has at most.
    pub(super) page_size: usize,
    /// How many tasks there are.
    pub(super) total_size: usize,
}
