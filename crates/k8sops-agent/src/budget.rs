//! What may be spent: looked at before each model call.

use async_trait::async_trait;

use crate::{Budget, BudgetConfig};
use k8sops_core::TokenUsage;

/// What is budgeted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Turn,
    Session,
    UserDay,
}

/// The way to what a user has used, over all sessions and replicas.
#[async_trait]
pub trait Spending: Send + Sync {
    /// What the user has used today (UTC); `None` when it cannot be known now.
    async fn of_user_today(&self) -> Option<TokenUsage>;
}

impl Scope {
    /// A stable word, for the event.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Turn => "budget_turn",
            Self::Session => "budget_session",
            Self::UserDay => "budget_user_day",
        }
    }

    pub(super) fn words(self, budgets: &BudgetConfig) -> String {
        let (budget, of) = match self {
            Self::Turn => (budgets.turn, "for this turn"),
            Self::Session => (budgets.session, "for this session"),
            Self::UserDay => (budgets.user_day, "for this user today (UTC)"),
        };
        let tokens = budget.tokens.map(|tokens| format!("{tokens} tokens"));
        let usd = budget.usd.map(|usd| usd.to_string());
        let amount = tokens.into_iter().chain(usd).collect::<Vec<_>>().join(" or ");
        format!("the budget of {amount} {of} is used up")
    }
}

/// Whether a budget is used up.
#[must_use]
pub fn is_spent(budget: &Budget, usage: &TokenUsage) -> bool {
    budget.tokens.is_some_and(|most| usage.tokens() >= most) || budget.usd.is_some_and(|most| usage.cost_usd >= most)
}

/// The budget that is used up, if one is. Without a limit on users nobody is asked what they used.
pub(super) async fn spent(
    budgets: &BudgetConfig,
    turn: &TokenUsage,
    session: &TokenUsage,
    spending: &dyn Spending,
) -> Option<Scope> {
    if is_spent(&budgets.turn, turn) {
        return Some(Scope::Turn);
    }
    if is_spent(&budgets.session, session) {
        return Some(Scope::Session);
    }
    if budgets.user_day == Budget::default() {
        return None;
    }
    let today = spending.of_user_today().await?;
    is_spent(&budgets.user_day, &today).then_some(Scope::UserDay)
}
