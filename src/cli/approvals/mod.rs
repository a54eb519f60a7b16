//! `k8sops approvals`: what waits for the caller's decision, over all sessions.

mod command;
mod decision;
mod listing;

pub use command::{ApprovalsOptions, run};
