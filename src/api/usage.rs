//! `/v1/usage`: what the calling user has used by day and model, and what remains of the daily budget.

use actix_web::{get, web};
use k8sops_agent::SpendingLimit;
use k8sops_core::{DailyUsage, ModelUsage, TokenUsage, USAGE_RETENTION_DAYS, UsageDay, UsdAmount, UserDailyUsage};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    caller::Caller, error_responses::document_errors, extractors::QueryParameters, problem::ProblemDetails,
    state::ApiState,
};

document_errors!(UsageErrors: InvalidRequest, StoredFileDamaged, StoreUnavailable);

/// The number of days in a report without a start date.
const DEFAULT_DAYS: i64 = 30;

/// Which days the report covers.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct UsageQuery {
    /// The first day, in UTC. By default 29 days before the last day.
    #[param(value_type = Option<String>, format = "date", example = "2026-11-01")]
    from: Option<UsageDay>,
    /// The last day, in UTC. By default today.
    #[param(value_type = Option<String>, format = "date", example = "2026-11-23")]
    to: Option<UsageDay>,
}

/// The usage of a user.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UsageReport {
    /// The first day, in UTC.
    #[schema(value_type = String, format = "date")]
    from: UsageDay,
    /// The last day, in UTC.
    #[schema(value_type = String, format = "date")]
    to: UsageDay,
    /// The usage of all days and models.
    total: TokenUsage,
    /// The usage by model, sorted by tokens in descending order.
    models: Vec<ModelUsage>,
    /// The usage by day. Days without usage are omitted.
    days: Vec<DayReport>,
    /// The budget of today.
    today: BudgetReport,
}

/// The usage of a user on one day.
#[derive(Debug, Serialize, ToSchema)]
struct DayReport {
    /// The day, in UTC.
    #[schema(value_type = String, format = "date")]
    date: UsageDay,
    /// The usage of all models.
    total: TokenUsage,
    /// The usage by model, sorted by tokens in descending order.
    models: Vec<ModelUsage>,
    /// The number of sessions with usage, including deleted ones.
    sessions: usize,
}

/// A budget and what remains of it.
#[derive(Debug, Serialize, ToSchema)]
struct BudgetReport {
    /// What was used.
    used: TokenUsage,
    /// The limit of input and output tokens. Absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_tokens: Option<u64>,
    /// The remaining tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    left_tokens: Option<u64>,
    /// The limit of costs, in US dollars. Absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    budget_usd: Option<UsdAmount>,
    /// The remaining costs, in US dollars.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    left_usd: Option<UsdAmount>,
}

impl BudgetReport {
    fn new(budget: SpendingLimit, used: TokenUsage) -> Self {
        Self {
            used,
            budget_tokens: budget.tokens,
            left_tokens: budget.tokens.map(|limit| limit.saturating_sub(used.total_tokens())),
            budget_usd: budget.usd,
            left_usd: budget.usd.map(|limit| limit.saturating_sub(used.cost_usd)),
        }
    }
}

/// Returns the tokens and costs that the calling user has used, by day and model.
///
/// Days are in UTC; usage is kept for 400 days. A model call is counted when its reply is complete. The partial reply of a
/// canceled call is counted by an estimate.
#[utoipa::path(
    operation_id = "get_usage", tag = "usage",
    params(UsageQuery),
    responses((status = 200, description = "The usage", body = UsageReport), UsageErrors)
)]
#[get("/usage")]
pub(super) async fn get_usage(
    state: web::Data<ApiState>,
    caller: Caller,
    QueryParameters(query): QueryParameters<UsageQuery>,
) -> Result<web::Json<UsageReport>, ProblemDetails> {
    let today = UsageDay::today();
    let to = query.to.unwrap_or(today);
    let from = query.from.unwrap_or_else(|| to.add_days(1 - DEFAULT_DAYS));
    if from > to {
        return Err(ProblemDetails::invalid(format!("the query parameter `from` ({from}) is after `to` ({to})")));
    }
    if from.add_days(USAGE_RETENTION_DAYS) < to {
        return Err(ProblemDetails::invalid(format!(
            "`from` and `to` must not be more than {USAGE_RETENTION_DAYS} days apart, which is how long usage is kept"
        )));
    }
    let reported: Vec<UsageDay> = from.days_through(to).collect();
    let requested: Vec<UsageDay> = reported.iter().copied().chain([today]).collect();
    let mut found = state.store.read_usage(&caller.user, &requested).await?;
    let usage_today = found.split_off(reported.len());
    let mut total = DailyUsage::default();
    let mut days = Vec::new();
    for (date, recorded) in reported.into_iter().zip(found).filter(|(_, recorded)| recorded.session_count() > 0) {
        let sessions = recorded.session_count();
        let usage = sum_by_model(recorded.all_usage());
        for model in &usage.models {
            total.add_usage(UsageDay::default(), &model.provider, &model.model, model.usage);
        }
        days.push(DayReport { date, total: usage.total_usage(), models: usage.models, sessions });
    }
    let used = sum_by_model(usage_today.iter().flat_map(UserDailyUsage::all_usage)).total_usage();
    let total = sort_models(total);
    Ok(web::Json(UsageReport {
        from,
        to,
        total: total.total_usage(),
        models: total.models,
        days,
        today: BudgetReport::new(**state.day_budget.load(), used),
    }))
}

fn sum_by_model<'a>(models: impl Iterator<Item = &'a ModelUsage>) -> DailyUsage {
    let mut sum = DailyUsage::default();
    for model in models {
        sum.add_usage(UsageDay::default(), &model.provider, &model.model, model.usage);
    }
    sort_models(sum)
}

fn sort_models(mut usage: DailyUsage) -> DailyUsage {
    usage.models.sort_by_key(|model| std::cmp::Reverse(model.usage.total_tokens()));
    usage
}
