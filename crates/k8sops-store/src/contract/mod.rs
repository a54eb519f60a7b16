//! What every store promises, as a test suite. Each rule takes an empty store, and panics with a message that says which
//! part of the promise is broken.
//!
//! ```text
//! for rule in contract::RULES { (rule.check)(Arc::new(my_store())).await }
//! ```

mod fixtures;
mod inbox;
mod memories;
mod outputs;
mod rules;
mod session_index;
mod session_log;
mod usage;

pub use fixtures::{
    CheckpointWrite, SessionWriter, create_test_session, fold_drafts, message_body, message_body_if_idle, read_log,
    run_drafts, session_created_at, test_command, test_user, warning_draft,
};
pub use rules::{ContractRule, RULES};
