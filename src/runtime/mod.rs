//! Sessions alive in this process: who works on which session, and the operations that the API calls.
//!
//! The runtime joins `k8sops_core`, a store and `k8sops_agent`. A session without an owner and without watchers takes no
//! memory here. A command is written to the store's inbox first; then the session's actor is woken or started. A message for
//! an idle session is handed to the actor, which writes it together with the start of its run. The
//! [session actor](session_actor) is the one task that writes to the session's log; it ends when no work is left.
//!
//! | module | holds |
//! |---|---|
//! | [`Sessions`] | the operations of the API: `commands`, `queries`, `lifecycle`, `approvals`, `shares` |
//! | `session_actor` | the owner of a session, a state machine: inbox, run, pending interactions |
//! | `message_offer` | messages that are accepted with the start of their runs |
//! | `log_writer`, `run_handle` | group commit, and the log as its run sees it |
//! | `lease`, `takeover`, `session_registry` | ownership, renewal, and sessions whose owner is gone |
//! | `remote_tail`, `preview_writer` | sessions that other replicas work on |
//! | `worker_threads`, `worker_watch` | the threads on which sessions live, and what holds them |
//! | `account_hub`, `account_queries` | streams of what changes of all sessions of a user |
//! | `conversation_cache` | conversations that were read lately |
//! | `known_logs` | what shows that the store has lost events |
//! | `store_watch` | outages of the store in the log of the service |
//! | `admission`, `pending_approvals` | capacity limits, and sessions that wait for an approval |
//! | `memory_extraction`, `usage_recorder`, `model_candidates`, `instrumented` | what a run is given, and what is recorded about it |

mod account_hub;
mod account_queries;
mod admission;
mod approvals;
mod commands;
mod conversation_cache;
mod error;
mod inner;
mod instrumented;
mod known_logs;
mod lease;
mod lifecycle;
mod log_writer;
mod memory_extraction;
mod message_offer;
mod model_candidates;
mod options;
mod pending_approvals;
mod preview_writer;
mod queries;
mod remote_tail;
mod run_handle;
mod run_queries;
mod session_actor;
mod session_registry;
mod sessions;
mod shares;
mod store_watch;
mod takeover;
#[cfg(test)]
mod tests;
mod usage_recorder;
mod wall_clock;
mod worker_threads;
mod worker_watch;

pub use account_hub::{AccountNews, AccountSubscription};
pub use account_queries::AccountBacklog;
pub use admission::CapacityLimits;
pub use approvals::{PreviewReader, WaitingApproval, WaitingInput};
pub use error::SessionsError;
pub use inner::Dependencies;
pub use lifecycle::{CreatedSession, CreationKey, NewSession, SessionOpening};
pub use options::SessionOptions;
pub use queries::{ToolOutputPart, WaitingMessage};
pub use run_queries::RunLocation;
pub use sessions::Sessions;
pub use shares::SessionShare;
pub use store_watch::StoreWatch;
pub use wall_clock::WallClock;
