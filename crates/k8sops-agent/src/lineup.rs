//! Who is asked: the session's own model first, then its fallbacks while that one is down.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use k8sops_core::{TokenUsage, UsdAmount};
use k8sops_models::{ChatModel, CircuitAdmission, CircuitBreaker, ModelPrices};

/// How long a provider may take to say how much a model takes in.
const ASK_LIMIT: Duration = Duration::from_secs(5);

/// A model that a run may ask.
#[derive(Clone)]
pub struct Candidate {
    /// The provider's id in the catalog.
    pub provider: String,
    /// The model's id at that provider.
    pub model: String,
    /// The way to it.
    pub chat: Arc<dyn ChatModel>,
    /// Tokens that it can take in, where that is known.
    pub context_window: Option<u32>,
    /// The most tokens of a reply.
    pub max_tokens: Option<u32>,
    /// What it costs, where that is known.
    pub prices: Option<ModelPrices>,
    /// Whether it is known to be down.
    pub circuit: Arc<CircuitBreaker>,
}

impl Candidate {
    /// Tokens that it can take in: what its provider says, else what the catalog says.
    pub(super) async fn window(&self) -> Option<u32> {
        let asked = timeout(ASK_LIMIT, self.chat.context_window(&self.model)).await;
        asked.ok().flatten().or(self.context_window)
    }

    /// As events name it.
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.provider, self.model)
    }

    /// A usage with what it cost.
    #[must_use]
    pub fn priced(&self, usage: TokenUsage) -> TokenUsage {
        TokenUsage { cost_usd: self.prices.map_or(UsdAmount::ZERO, |prices| prices.cost(&usage)), ..usage }
    }
}

/// How a run has come through its models so far. Not logged: another process finds it out anew.
#[derive(Debug, Default)]
pub(super) struct Course {
    /// Who wrote the last reply, or was named as the one who will: its place in the lineup.
    pub(super) at: usize,
    /// Tokens that it can take in.
    pub(super) window: Option<u32>,
    /// Bytes of conversation that are known to fit, when a model has said that more does not.
    pub(super) room: Option<usize>,
    /// It was away when it was asked for a summary, and is not asked for one again in this run.
    pub(super) unsummarised: bool,
}

/// A candidate that is to be asked now.
pub(super) struct Turn<'a> {
    pub(super) at: usize,
    pub(super) candidate: &'a Candidate,
    /// One attempt, without waiting.
    pub(super) probe: bool,
}

/// Those to ask, one after another until one answers, and those that are left alone, with the time until they are asked.
pub(super) fn order(lineup: &[Candidate]) -> impl Iterator<Item = Result<Turn<'_>, (usize, Duration)>> {
    // When all are down, the first is asked all the same: a turn never ends without anybody having been asked.
    let mut refused = 0;
    let last = lineup.len();
    lineup.iter().enumerate().map(move |(at, candidate)| match candidate.circuit.admit_call() {
        CircuitAdmission::Allowed => Ok(Turn { at, candidate, probe: false }),
        CircuitAdmission::Probe => Ok(Turn { at, candidate, probe: last > 1 }),
        CircuitAdmission::Rejected(left) => {
            refused += 1;
            if refused == last { Ok(Turn { at: 0, candidate: &lineup[0], probe: false }) } else { Err((at, left)) }
        }
    })
}
