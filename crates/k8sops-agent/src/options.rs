//! Options of this crate: what runs may spend.

use k8sops_core::UsdAmount;

/// What may be spent; absent: without limit. Looked at between model calls, so that the call which reaches one is not cut.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BudgetConfig {
    /// Of one run.
    pub turn: Budget,
    /// Of all runs of one session.
    pub session: Budget,
    /// Of all sessions of one user on one day (UTC).
    pub user_day: Budget,
}

/// What may be spent on one thing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Budget {
    /// Tokens in and out.
    pub tokens: Option<u64>,
    /// Money.
    pub usd: Option<UsdAmount>,
}
