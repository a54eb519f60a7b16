//! The notifier: posts the notifications of tasks to receivers that clients name.
//!
//! ```text
//! API ─▶ Notifier ─▶ push_store (configurations, positions, claims) ◀─ supervisor of each replica
//!                                                                        │ a task for each configuration
//!                      log ─▶ NotificationSource (a door) ─▶ notification ─▶ HttpSender ─▶ receiver
//! ```
//!
//! A delivery is a reader of the log like any other client: it never holds up a run. It is made by the replica that has claimed
//! it, with the position in the store, so that a replica that is killed loses nothing. A notification can come twice.
//!
//! | module | holds |
//! |---|---|
//! | [`Notifier`] (`service`) | the operations of the API, and the supervisor of the deliveries |
//! | `push_config`, `push_store` | configurations, and what the store keeps of them |
//! | `notification_source` | what a door makes of a log |
//! | `delivery_task` | the delivery of one configuration: order, retries, the end |
//! | `http_sender`, `target_policy` | requests to allowed receivers only |

mod delivery_task;
mod http_sender;
mod notification_source;
mod options;
mod push_config;
mod push_store;
mod service;
mod target_policy;
#[cfg(test)]
mod tests;

pub use notification_source::{
    NotificationPosition, NotificationSource, NotificationSourceError, NotificationStream, PushNotification,
};
pub use options::NotifierOptions;
pub use push_config::{PushAuthentication, PushConfig, PushTask};
pub use service::{MAX_CONFIGS_PER_TASK, Notifier, PushConfigError};
pub use target_policy::{AllowedTarget, TargetRejection};
