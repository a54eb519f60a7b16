//! Events: everything that happens in a session, as it is logged and as it is streamed.

mod approval_preview;
mod author;
mod body;
mod feedback;
mod memory;
mod run;
mod servers;
mod session;
mod session_event;
mod tools;

pub use approval_preview::{AffectedObject, DependentObjects, PreviewDetail, PreviewKind};
pub use author::EventAuthor;
pub use body::EventBody;
pub use feedback::{FeedbackRating, MessageFeedback};
pub use memory::{MemoryRecalled, MemorySaved};
pub use run::{
    AssistantMessageEvent, ContextCompacted, DroppedCall, RunFailed, RunFinished, RunOutcome, RunRecovered, RunStarted,
    SessionWarning, UserMessageEvent,
};
pub use servers::{ServerIntroduction, ServersIntroduced};
pub use session::{LogTruncated, SessionCreated, SessionOrigin, SettingsChanged, TitleChanged};
pub use session_event::{EventDraft, SessionEvent};
pub use tools::{
    ApprovalAudience, ApprovalDecision, ApprovalRequested, ApprovalResolved, InputAction, InputRequested,
    InputResolved, ToolEnd, ToolStart,
};
