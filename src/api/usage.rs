//! `/v1/usage`: what the calling user has used, by day and model, and what is left of the day's budget.

use actix_web::{get, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    ApiState, ProblemDetails,
    extract::{Caller, Query},
    problem::document_errors,
};
use k8sops_agent::SpendingLimit;
use k8sops_core::{DailyUsage, ModelUsage, TokenUsage, USAGE_DAYS, UsageDay, UsdAmount};

document_errors!(UsageErrors: InvalidRequest, StoreUnavailable);

/// Days that are shown when the client does not say which: today and the 29 before.
const DEFAULT_DAYS: i64 = 30;

/// Which days.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Days {
    /// The first, in UTC; 29 days before the last by default.
    #[param(value_type = Option<String>, format = "date", example = "2026-11-01")]
    from: Option<UsageDay>,
    /// The last; today by default.
    #[param(value_type = Option<String>, format = "date", example = "2026-11-23")]
    to: Option<UsageDay>,
}

/// What a user has used.
#[derive(Debug, Serialize, ToSchema)]
pub struct UsageReport {
    /// The first day, in UTC.
    #[schema(value_type = String, format = "date")]
    from: UsageDay,
    /// The last day.
    #[schema(value_type = String, format = "date")]
    to: UsageDay,
    /// All of it.
    total: TokenUsage,
    /// By model, the most tokens first.
    models: Vec<ModelUsage>,
    /// By day; days without any are left out.
    days: Vec<DayReport>,
    /// What may be used today.
    today: BudgetReport,
}

/// What a user has used on a day.
#[derive(Debug, Serialize, ToSchema)]
struct DayReport {
    /// The day, in UTC.
    #[schema(value_type = String, format = "date")]
    date: UsageDay,
    /// All of it.
    total: TokenUsage,
    /// By model, the most tokens first.
    models: Vec<ModelUsage>,
    /// Sessions that used something, those that are deleted since included.
    sessions: usize,
}

/// A budget and what is left of it.
#[derive(Debug, Serialize, ToSchema)]
struct BudgetReport {
    /// What was used of it.
    used: TokenUsage,
    /// The most tokens in and out; absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_tokens: Option<u64>,
    /// What is left of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    left_tokens: Option<u64>,
    /// The most money, in US dollars; absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    budget_usd: Option<UsdAmount>,
    /// What is left of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    left_usd: Option<UsdAmount>,
}

impl BudgetReport {
    fn new(budget: SpendingLimit, used: TokenUsage) -> Self {
        Self {
            used,
            budget_tokens: budget.tokens,
            left_tokens: budget.tokens.map(|most| most.saturating_sub(used.tokens())),
            budget_usd: budget.usd,
            left_usd: budget.usd.map(|most| most.minus(used.cost_usd)),
        }
    }
}

/// What the calling user has used: tokens and money, by day and model.
///
/// Days are those of UTC; 400 of them are kept. A model call is counted when its reply is complete; what had come
/// of one that was cancelled is counted by an estimate.
#[utoipa::path(
    operation_id = "get_usage", tag = "usage",
    params(Days),
    responses((status = 200, description = "What was used", body = UsageReport), UsageErrors)
)]
#[get("/usage")]
pub(super) async fn report(
    api: web::Data<ApiState>,
    caller: Caller,
    query: Query<Days>,
) -> Result<web::Json<UsageReport>, ProblemDetails> {
    let today = UsageDay::today();
    let to = query.0.to.unwrap_or(today);
    let from = query.0.from.unwrap_or_else(|| to.plus(1 - DEFAULT_DAYS));
    if from > to {
        return Err(ProblemDetails::invalid(format!("the query parameter `from` ({from}) is after `to` ({to})")));
    }
    if from.plus(USAGE_DAYS) < to {
        return Err(ProblemDetails::invalid(format!(
            "`from` and `to` are more than the {USAGE_DAYS} days apart that are kept"
        )));
    }
    let mut asked: Vec<UsageDay> = from.through(to).collect();
    let shown = asked.len();
    asked.push(today);
    let mut found = api.store.read_usage(&caller.user, &asked).await?;
    let of_today = found.split_off(shown);
    let mut total = DailyUsage::default();
    let mut days = Vec::new();
    for (date, noted) in asked.into_iter().zip(found).filter(|(_, noted)| noted.count() > 0) {
        let sessions = noted.count();
        let spent = summed(noted.without(None));
        for model in &spent.models {
            total.add(UsageDay::default(), &model.provider, &model.model, model.usage);
        }
        days.push(DayReport { date, total: spent.total(), models: spent.models, sessions });
    }
    let used = summed(of_today.iter().flat_map(|day| day.without(None))).total();
    let total = sorted(total);
    Ok(web::Json(UsageReport {
        from,
        to,
        total: total.total(),
        models: total.models,
        days,
        today: BudgetReport::new(**api.day_budget.load(), used),
    }))
}

/// All of it by model.
fn summed<'a>(models: impl Iterator<Item = &'a ModelUsage>) -> DailyUsage {
    let mut spent = DailyUsage::default();
    for model in models {
        spent.add(UsageDay::default(), &model.provider, &model.model, model.usage);
    }
    sorted(spent)
}

fn sorted(mut spent: DailyUsage) -> DailyUsage {
    spent.models.sort_by_key(|model| std::cmp::Reverse(model.usage.tokens()));
    spent
}
