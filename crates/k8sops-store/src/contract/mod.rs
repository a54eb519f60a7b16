//! What every store promises, as a test suite. Each rule takes an empty store, and panics with a message that says which
//! part of the promise is broken.
//!
//! The suite is compiled with the feature `contract` only, for tests. An `unwrap` in it asserts that the store succeeds: its
//! panic is a failed test, and no program that serves requests contains it.
//!
//! ```text
//! for rule in contract::RULES { (rule.check)(Arc::new(my_store())).await }
//! ```

mod fixtures;
mod inbox;
mod memories;
mod outputs;
mod records;
mod rules;
mod session_index;
mod session_log;
mod usage;

pub use fixtures::{
    CheckpointWrite, SessionWriter, create_test_session, fold_drafts, message_body, message_body_if_idle, read_log,
    run_drafts, run_start_drafts, session_created_at, test_command, test_memory, test_user, warning_draft,
};
pub use rules::{ContractRule, RULES};
