//! The core of k8sops: what a session is.
//!
//! A session is a log of events, and everything else is a fold of it. This crate owns the vocabulary (events, commands,
//! ids), the projection that turns a log into a conversation, the cursor that replays a log and then follows it, and the
//! ports through which sessions are stored. It does no I/O, and knows no HTTP, no provider and no storage technology.
//!
//! ```text
//! SessionCommand ─▶ Inbox ─▶ session owner ─▶ LogCommit { epoch, expected_seq, events } ─▶ SessionLog
//!                                                                                          │       │
//!                                                  SessionState (stored: a checkpoint) ◀─ fold     │
//!                                                  stream ◀─ StreamFrame ◀─ EventCursor ◀──────────┘
//! ```
//!
//! | module | holds |
//! |---|---|
//! | `event` | [`SessionEvent`] and the body of each type of event |
//! | `command` | [`SessionCommand`], [`InboxEntry`], [`CommandReceipt`] |
//! | `message` | the conversation: [`ChatMessage`], [`ToolCall`], [`TokenUsage`] |
//! | `state`, `summary`, `open_run` | the projection: [`SessionState`], [`SessionSummary`], [`OpenRun`] |
//! | `ports` | what a storage backend implements: [`SessionStore`] and its parts, [`StoreError`] |
//! | `replay` | [`load_state`]: checkpoint and events from the store to a state |
//! | `lineage` | what shows that a store lost acknowledged writes: [`LogLineage`], [`LogHead`], [`LostBranch`] |
//! | `feed`, `cursor`, `frame`, `preview` | streams: [`SessionFeed`], [`EventCursor`], [`StreamFrame`], [`TextDelta`] |
//! | `settings`, `request_context` | [`SessionSettings`], [`RequestContext`] |
//! | `request_form` | how a conversation is simplified for a model: [`ConversationForm`] |
//! | `user_memory`, `usage` | long-term memory and usage by day: [`UserMemory`], [`DailyUsage`] |
//! | `ids`, `time`, `money`, `net` | values: ids, [`Timestamp`], [`UsdAmount`], hosts and URLs |

mod account;
mod attachment;
mod command;
mod cursor;
mod error_chain;
mod event;
mod feed;
mod feed_waiters;
mod frame;
mod ids;
mod json_surrogates;
mod json_words;
mod lazy_deadline;
mod lineage;
mod long_work;
mod message;
mod money;
mod net;
mod open_run;
mod ports;
mod preview;
mod preview_reader;
mod preview_update;
mod replay;
mod report;
mod request_context;
mod request_form;
mod settings;
mod state;
mod stream_position;
mod summary;
mod time;
mod usage;
mod user_memory;

pub use account::{
    AccountChange, AccountGap, AccountHello, AccountTopic, DeletionReason, MessageQueued, SessionDeleted,
};
pub use attachment::{MessageAttachment, SentAttachment};
pub use command::{CommandBody, CommandReceipt, InboxEntry, OnBusy, SessionCommand};
pub use cursor::EventCursor;
pub use error_chain::ErrorChain;
pub use event::{
    AffectedObject, ApprovalAudience, ApprovalDecision, ApprovalRequested, ApprovalResolved, AssistantMessageEvent,
    ContextCompacted, DependentObjects, DroppedCall, EventAuthor, EventBody, EventDraft, FeedbackRating, InputAction,
    InputRequested, InputResolved, LogTruncated, MemoryRecalled, MemorySaved, MessageFeedback, PreviewDetail,
    PreviewKind, RunFailed, RunFinished, RunOutcome, RunRecovered, RunStarted, ServerIntroduction, ServersIntroduced,
    SessionCreated, SessionEvent, SessionOrigin, SessionWarning, SettingsChanged, TitleChanged, ToolEnd, ToolStart,
    UserMessageEvent,
};
pub use feed::{HeldPosition, MessageOpening, SessionFeed};
pub use frame::{
    FrameDetail, GapReason, PROTOCOL_VERSION, SessionSnapshot, SessionStatus, StreamFrame, StreamGap, StreamHello,
    ToolProgress, TransientEvent,
};
pub use ids::{ApprovalId, CommandId, InputId, InvalidId, MemoryId, MessageId, RunId, SessionId, ToolCallId, UserId};
pub use json_surrogates::{SurrogateJoiner, replace_lone_surrogates};
pub use json_words::replace_foreign_words;
pub use lazy_deadline::LazyDeadline;
pub use lineage::{LogContinuity, LogHead, LogLineage, LostBranch, LostToolCall};
pub use long_work::{offload_work, run_long_work};
pub use message::{
    AssistantMessage, ChatMessage, Citation, ProviderData, ReplyFeedback, StopReason, TokenUsage, ToolCall, ToolEffect,
    ToolMessage, ToolStatus, UserMessage,
};
pub use money::UsdAmount;
pub use net::{is_loopback, mask_url, printable_excerpt};
pub use open_run::{ApprovalState, ElicitationState, InteractionStatus, OpenRun, OpenToolCall, StartedToolCall};
pub use ports::{
    BackendError, ClaimedSessions, ConfirmableWrite, DamagedSession, EventPage, ExpiringRecord, INBOX_LIMIT,
    INBOX_LIMIT_ALL, IdleDeletion, Inbox, LeaseEpoch, LeaseRenewal, Leases, ListCursor, LogCommit, LostMessages,
    MemoryStore, MemoryWrite, NewCommandCommit, NotificationTopic, Notifications, OutputPart, OutputStore, OwnSessions,
    PreviewPage, RecordGroup, RecordId, RecordInsertion, RecordStore, RemainingWork, RemoteAudience, ReplayStart,
    SessionIndex, SessionLease, SessionLog, SessionStore, StoreError, StoreNotification, StoreOutage, UpkeepClaim,
    UsageStore, WATCHER_TTL, WriteConfirmation, random_key,
};
pub use preview::{MessagePreview, TextDelta};
pub use preview_reader::PreviewReader;
pub use preview_update::{PreviewExtent, PreviewUpdate};
pub use replay::{LoadedSession, REPLAY_PAGE_SIZE, SMALL_PAGE_SIZE, find_tool_end, load_state};
pub use report::{
    ReportBuilder, ReportEntry, ReportItem, ReportedApproval, ReportedCall, ReportedMessage, ReportedNotice,
    ReportedOutcome, ReportedQuestion, ReportedReply, SessionReport,
};
pub use request_context::RequestContext;
pub use request_form::{ConversationForm, RequestForm, SimplificationStep, SimplifiedRequest, simplification_key};
pub use settings::{ReasoningEffort, SessionSettings, SettingsPatch};
pub use state::{ContextCompaction, SessionState};
pub use summary::{SessionSummary, derive_title};
pub use time::{Timestamp, is_time_zone};
pub use usage::{DailyUsage, ModelUsage, USAGE_RETENTION_DAYS, UsageDay, UserDailyUsage};
pub use user_memory::{
    EmbeddingChange, EmbeddingSpace, EmbeddingVector, MemoryChange, MemoryKind, MemoryNote, MemorySource,
    MemoryVersion, StoredMemory, UserMemories, UserMemory,
};
