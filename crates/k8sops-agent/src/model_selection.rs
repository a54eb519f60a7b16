//! Model selection: the session's own model first, then its fallbacks while that one is unavailable.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::timeout;

use k8sops_core::{ConversationForm, DroppedCall, TokenUsage, UsdAmount, simplification_key};
use k8sops_models::{ChatModel, CircuitAdmission, CircuitBreaker, LearnedForm, ModelPrices, RetryPolicy};

/// Time limit of asking a provider for the context window of a model.
const CONTEXT_WINDOW_TIMEOUT: Duration = Duration::from_secs(5);

/// A model that a run may call.
#[derive(Clone)]
pub struct ModelCandidate {
    /// The provider's id in the catalog.
    pub provider: String,
    /// The model's id at that provider.
    pub model: String,
    /// The client of the model.
    pub chat: Arc<dyn ChatModel>,
    /// The context window in tokens, if known.
    pub context_window: Option<u32>,
    /// Upper bound of a reply in tokens, if known.
    pub max_tokens: Option<u32>,
    /// Its prices, if known.
    pub prices: Option<ModelPrices>,
    /// The form of requests that it accepted last.
    pub form: Arc<LearnedForm>,
    /// Its circuit breaker.
    pub circuit: Arc<CircuitBreaker>,
}

impl ModelCandidate {
    /// Returns the context window: as the provider reports it, else as the catalog states it.
    pub(crate) async fn resolve_context_window(&self) -> Option<u32> {
        let asked = timeout(CONTEXT_WINDOW_TIMEOUT, self.chat.context_window(&self.model)).await;
        asked.ok().flatten().or(self.context_window)
    }

    /// Returns its name in events, `provider/model`.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.provider, self.model)
    }

    /// Returns how conversations are sent to this model, by what a log and this process know of it. `simplified` is
    /// [`SessionState::simplified`](k8sops_core::SessionState::simplified).
    #[must_use]
    pub fn known_form(&self, simplified: &BTreeMap<String, ConversationForm>) -> ConversationForm {
        let key = simplification_key(&self.provider, &self.model);
        let mut known = simplified.get(&key).cloned().unwrap_or_default();
        known.form = known.form.max(self.form.current());
        known
    }

    /// Returns the record of a call of this model whose reply is dropped, or `None` if it used no tokens.
    pub(crate) fn dropped_call(&self, usage: TokenUsage) -> Option<Box<DroppedCall>> {
        (usage != TokenUsage::default()).then(|| {
            Box::new(DroppedCall {
                provider: self.provider.clone(),
                model: self.model.clone(),
                usage: self.with_cost(usage),
            })
        })
    }

    /// Returns `usage` with its cost by the prices of this model.
    #[must_use]
    pub fn with_cost(&self, usage: TokenUsage) -> TokenUsage {
        TokenUsage { cost_usd: self.prices.map_or(UsdAmount::ZERO, |prices| prices.cost(&usage)), ..usage }
    }
}

/// What a run has learned about its models. Not logged: another process learns it again.
#[derive(Debug, Default)]
pub(crate) struct ModelRouting {
    /// Index of the model that wrote the last reply, or was announced to write the next.
    pub(crate) index: usize,
    /// Its context window in tokens.
    pub(crate) context_window: Option<u32>,
    /// Upper bound of the conversation in bytes, after a model rejected a longer one.
    pub(crate) max_bytes: Option<usize>,
    /// Whether the model was unavailable for a summary; it is not asked for one again in this run.
    pub(crate) summary_unavailable: bool,
}

/// A model to call now.
pub(crate) struct ModelAttempt<'a> {
    pub(crate) index: usize,
    pub(crate) candidate: &'a ModelCandidate,
    /// Whether the call probes an open circuit breaker: one attempt without retries.
    pub(crate) is_probe: bool,
}

impl ModelAttempt<'_> {
    /// Returns the retry policy of this call: the configured one, or a single attempt for a probe.
    pub(crate) fn retry_policy(&self, configured: RetryPolicy) -> RetryPolicy {
        if self.is_probe { RetryPolicy::new(1, Duration::ZERO) } else { configured }
    }
}

/// Returns the models to call in their order; `Err` holds one whose circuit breaker is open, with the time until it closes.
pub(crate) fn attempt_order(
    candidates: &[ModelCandidate],
) -> impl Iterator<Item = Result<ModelAttempt<'_>, (usize, Duration)>> {
    // If every circuit breaker is open, the first model is called: no run ends without a model call.
    let mut refused = 0;
    let last = candidates.len();
    candidates.iter().enumerate().map(move |(at, candidate)| match candidate.circuit.admit_call() {
        CircuitAdmission::Allowed => Ok(ModelAttempt { index: at, candidate, is_probe: false }),
        CircuitAdmission::Probe => Ok(ModelAttempt { index: at, candidate, is_probe: last > 1 }),
        CircuitAdmission::Rejected(left) => {
            refused += 1;
            if refused == last {
                Ok(ModelAttempt { index: 0, candidate: &candidates[0], is_probe: false })
            } else {
                Err((at, left))
            }
        }
    })
}
