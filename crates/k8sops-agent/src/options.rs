//! Options of this crate: budgets.

use k8sops_core::UsdAmount;

/// Budgets; an absent limit does not apply. They are checked between model calls, so that no reply is cut.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BudgetOptions {
    /// Limit of one run.
    pub turn: SpendingLimit,
    /// Limit of all runs of a session.
    pub session: SpendingLimit,
    /// Limit of all sessions of a user on one day (UTC).
    pub user_day: SpendingLimit,
}

/// A limit in tokens, in US dollars, or both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpendingLimit {
    /// Input and output tokens.
    pub tokens: Option<u64>,
    /// US dollars.
    pub usd: Option<UsdAmount>,
}
