//! Budgets, which are checked before each model call.

use async_trait::async_trait;

use crate::options::{SpendingLimit, SpendingLimits};
use k8sops_core::TokenUsage;

/// The scope of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BudgetScope {
    ModelAttempt,
    Session,
    UserDay,
}

/// Reports what a user has used, over all sessions and replicas.
#[async_trait]
pub trait UsageSource: Send + Sync {
    /// Returns the usage of the user today (UTC); `None` when the store cannot be read.
    async fn user_usage_today(&self) -> Option<TokenUsage>;
}

impl BudgetScope {
    /// Returns the code of the warning event.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::ModelAttempt => "budget_turn",
            Self::Session => "budget_session",
            Self::UserDay => "budget_user_day",
        }
    }

    pub(crate) fn describe(self, budgets: &SpendingLimits) -> String {
        let (budget, of) = match self {
            Self::ModelAttempt => (budgets.turn, "for this turn"),
            Self::Session => (budgets.session, "for this session"),
            Self::UserDay => (budgets.user_day, "for this user today (UTC)"),
        };
        let tokens = budget.tokens.map(|tokens| format!("{tokens} tokens"));
        let usd = budget.usd.map(|usd| usd.to_string());
        let amount = tokens.into_iter().chain(usd).collect::<Vec<_>>().join(" or ");
        format!("the budget of {amount} {of} is used up")
    }
}

/// Returns whether `usage` has reached a spending limit.
#[must_use]
pub fn is_budget_spent(budget: &SpendingLimit, usage: &TokenUsage) -> bool {
    budget.tokens.is_some_and(|most| usage.total_tokens() >= most)
        || budget.usd.is_some_and(|most| usage.cost_usd >= most)
}

/// Returns the budget that is used up, if any. Reads the usage of the user only when users have a limit.
pub(crate) async fn find_spent_budget(
    budgets: &SpendingLimits,
    turn: &TokenUsage,
    session: &TokenUsage,
    usage_source: &dyn UsageSource,
) -> Option<BudgetScope> {
    if is_budget_spent(&budgets.turn, turn) {
        return Some(BudgetScope::ModelAttempt);
    }
    if is_budget_spent(&budgets.session, session) {
        return Some(BudgetScope::Session);
    }
    if budgets.user_day == SpendingLimit::default() {
        return None;
    }
    let today = usage_source.user_usage_today().await?;
    is_budget_spent(&budgets.user_day, &today).then_some(BudgetScope::UserDay)
}
