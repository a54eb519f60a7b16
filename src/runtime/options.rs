//! Options of sessions.

use k8sops_core::UserId;
use k8sops_settings::{
    declaration::required,
    formats::{USER_ID, whole_number},
    options,
};

options! {
    /// Sessions and long-term memory.
    #[derive(Debug, Clone)]
    pub struct SessionOptions at "memory" {
        /// Sessions per user; one more deletes the one that was active least recently. One that runs, waits for its user, or that
        /// an alert opened is never deleted.
        pub max_sessions: usize = required(whole_number(1), "1000").variable("MAX_SESSIONS").live(),
        /// The user whose sessions they are when callers are not authenticated.
        pub user_id: UserId = required(USER_ID, "default").variable("MEMORY_USER_ID"),
    }
}
