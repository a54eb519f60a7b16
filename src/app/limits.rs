//! Limits from the configuration.

use k8sops_agent as agent;
use k8sops_models::RetryPolicy;

use crate::{config::AppConfig, runtime::CapacityLimits};

/// Returns the limits of a run.
pub(super) fn run_limits(config: &AppConfig) -> agent::RunLimits {
    agent::RunLimits {
        max_steps: config.agent.max_steps,
        max_calls: config.agent.max_calls,
        max_time: config.agent.max_time,
        max_repeats: config.agent.max_repeats,
        retry: RetryPolicy::new(config.agent.max_attempts, config.agent.max_wait),
        budgets: config.budgets,
        context: agent::ContextPolicy {
            threshold: config.context.context_threshold,
            max_tokens: config.context.max_context_tokens,
        },
        parallel_tools: config.agent.parallel_tools,
        approval_ttl: config.tools.approval_ttl,
    }
}

/// Returns the limits of sessions and concurrent runs.
pub(super) fn capacity_limits(config: &AppConfig) -> CapacityLimits {
    CapacityLimits {
        sessions_per_user: config.sessions.max_sessions,
        runs: config.limits.runs,
        runs_per_user: config.limits.runs_per_user,
    }
}
