//! Options of this crate: limits of a run, its context window, budgets, and long-term memory.

use std::time::Duration;

use k8sops_core::UsdAmount;
use k8sops_settings::{
    ValueFormat,
    declaration::{optional, or_empty, required},
    formats::{BOOLEAN, DOLLARS, DURATION, MODEL_ID, TEXT, whole_number},
    options,
};

options! {
    /// Limits of one run.
    #[derive(Debug, Clone)]
    pub struct AgentOptions at "agent" {
        /// Model calls with tools in one run. One more call without tools follows for the final answer.
        pub max_steps: u32 = required(whole_number(1), "25").variable("K8SOPS_MAX_STEPS").live(),
        /// Attempts at one model call.
        pub max_attempts: u32 = required(whole_number(1), "4").variable("K8SOPS_MAX_ATTEMPTS").live(),
        /// Time limit for all waits between the attempts at one model call together. The call fails if a provider requests a
        /// longer wait.
        pub max_wait: Duration = required(DURATION, "2m").variable("K8SOPS_MAX_WAIT").live(),
        /// Tool calls in one run.
        pub max_calls: u32 = required(whole_number(1), "100").variable("K8SOPS_MAX_TOOL_CALLS").live(),
        /// Time limit of a run. Waiting for the user does not count.
        pub max_time: Duration = required(DURATION, "30m").variable("K8SOPS_MAX_RUN_TIME").live(),
        /// How often one run may make the same call with the same result.
        pub max_repeats: usize = required(whole_number(1), "5").variable("K8SOPS_MAX_REPEATS").live(),
        /// Tool calls that run at the same time.
        pub parallel_tools: usize = required(whole_number(1), "8").variable("K8SOPS_PARALLEL_TOOLS").live(),
        /// Text to add to the built-in system prompt.
        pub instructions: String =
            or_empty(TEXT).variable("K8SOPS_INSTRUCTIONS").example("Our production namespaces begin with prod-."),
    }
}

options! {
    /// Parts of the system prompt. A text replaces the built-in one; `{built_in}` in it stands for the built-in text, so that
    /// it can be extended. `k8sops prompt` prints the result.
    #[derive(Debug, Clone)]
    pub struct PromptOptions at "agent.prompt" {
        /// Who the agent is.
        pub role: String = or_empty(TEXT),
        /// How a cause is found, and when a diagnosis is done.
        pub investigation: String = or_empty(TEXT),
        /// What tool outputs are.
        pub tools: String = or_empty(TEXT),
        /// What to mind before, during and after a change.
        pub safety: String = or_empty(TEXT),
        /// The form of an answer.
        pub answer: String = or_empty(TEXT),
        /// Where the agent works: clusters, conventions. Empty by default.
        pub place: String = or_empty(TEXT).example("Production runs in the clusters eu-1 and us-1."),
    }
}

options! {
    /// Budgets; empty: no limit. They are checked between model calls, so that the call that reaches one is not interrupted.
    #[derive(Debug, Clone, Copy)]
    pub struct BudgetOptions at "budgets" {
        /// Token budget of one run (prompts and replies).
        pub turn_tokens: Option<u64> =
            optional(whole_number(1)).variable("K8SOPS_BUDGET_TURN_TOKENS").example("500000").live(),
        /// Cost budget of one run, by the prices of the catalog.
        pub turn_usd: Option<UsdAmount> = optional(DOLLARS).variable("K8SOPS_BUDGET_TURN_USD").example("1.00").live(),
        /// Token budget of one session.
        pub session_tokens: Option<u64> =
            optional(whole_number(1)).variable("K8SOPS_BUDGET_SESSION_TOKENS").example("5000000").live(),
        /// Cost budget of one session.
        pub session_usd: Option<UsdAmount> =
            optional(DOLLARS).variable("K8SOPS_BUDGET_SESSION_USD").example("10").live(),
        /// Token budget of all sessions of a user on one day (UTC).
        pub user_day_tokens: Option<u64> =
            optional(whole_number(1)).variable("K8SOPS_BUDGET_USER_DAY_TOKENS").example("20000000").live(),
        /// Cost budget of all sessions of a user on one day (UTC).
        pub user_day_usd: Option<UsdAmount> =
            optional(DOLLARS).variable("K8SOPS_BUDGET_USER_DAY_USD").example("25").live(),
    }
}

options! {
    /// Sessions and long-term memory.
    #[derive(Debug, Clone, Copy)]
    pub struct ContextOptions at "memory" {
        /// Share of the context window that a request may fill before older turns are summarized, in percent.
        pub context_threshold: u8 =
            required(CONTEXT_SHARE, "0.75").variable("MEMORY_CONTEXT_THRESHOLD").live(),
        /// Upper bound, in tokens, of the context that is used, even if the model has more.
        pub max_context_tokens: u32 =
            required(whole_number(1000), "100000").variable("MEMORY_MAX_CONTEXT_TOKENS").live(),
    }
}

options! {
    /// Long-term memory of users.
    #[derive(Debug, Clone, Copy)]
    pub struct LongTermMemoryOptions at "memory.long_term" {
        /// Whether facts and incidents are remembered beyond a session.
        pub enabled: bool = required(BOOLEAN, "false").variable("MEMORY_LONG_TERM_ENABLED"),
        /// Largest number of memories that are recalled for a message.
        pub max_memories: usize = required(whole_number(1), "5").variable("MEMORY_MAX_MEMORIES"),
    }
}

options! {
    /// How memories are compared.
    #[derive(Debug, Clone)]
    pub struct EmbeddingOptions at "memory.embeddings" {
        /// Provider of embeddings with the API of OpenAI or Ollama; empty: memories are compared by their words only.
        pub provider: Option<String> = optional(EMBEDDING_PROVIDER).variable("EMBEDDING_PROVIDER"),
        /// Embedding model; OpenAI and Ollama have a default.
        pub model: Option<String> = optional(MODEL_ID).variable("EMBEDDING_MODEL"),
        /// Dimensions of the vectors, if the model supports a choice; empty: the default of the model.
        pub dims: Option<usize> = optional(whole_number(1)).variable("EMBEDDING_DIMS"),
    }
}

const CONTEXT_SHARE: ValueFormat<u8> =
    ValueFormat::described("a share from 0.1 to 0.95, like 0.75", parse_context_share);

const EMBEDDING_PROVIDER: ValueFormat<String> =
    ValueFormat::described("the id of a provider that speaks the API of OpenAI or Ollama", |text| {
        Some(text.to_owned())
    });

impl BudgetOptions {
    /// Returns the budgets by their scope.
    #[must_use]
    pub fn spending_limits(&self) -> SpendingLimits {
        SpendingLimits {
            turn: SpendingLimit { tokens: self.turn_tokens, usd: self.turn_usd },
            session: SpendingLimit { tokens: self.session_tokens, usd: self.session_usd },
            user_day: SpendingLimit { tokens: self.user_day_tokens, usd: self.user_day_usd },
        }
    }
}

/// Budgets by their scope. They are checked between model calls, so that the call that reaches one is not interrupted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpendingLimits {
    /// Budget of one run.
    pub turn: SpendingLimit,
    /// Budget of all runs of one session.
    pub session: SpendingLimit,
    /// Budget of all sessions of one user on one day (UTC).
    pub user_day: SpendingLimit,
}

/// Upper bounds of usage; `None`: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpendingLimit {
    /// Tokens in and out.
    pub tokens: Option<u64>,
    /// Cost.
    pub usd: Option<UsdAmount>,
}

/// Reads a share like `0.75`, or `75%`, as percent.
fn parse_context_share(text: &str) -> Option<u8> {
    let percent = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().ok()?,
        None => text.parse::<f64>().ok()? * 100.0,
    };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 10 to 95")]
    (10.0..=95.0).contains(&percent).then(|| percent.round() as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_share_is_a_fraction_or_percent() {
        for (text, percent) in [("0.75", 75), ("0.1", 10), ("95%", 95), ("50 %", 50)] {
            assert_eq!(CONTEXT_SHARE.parse(text), Some(percent), "{text}");
        }
        for text in ["", "75", "0.05", "96%", "1"] {
            assert_eq!(CONTEXT_SHARE.parse(text), None, "{text}");
        }
    }
}
