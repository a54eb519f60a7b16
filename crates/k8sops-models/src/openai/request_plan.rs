//! What of a request is sent to a model, by what is known of the model and its server.

use std::collections::BTreeSet;

use k8sops_core::ReasoningEffort;

use crate::{ChatRequest, ModelFeature, quirks::ModelQuirk};

/// How a body is to be, beyond the request.
#[derive(Debug, Default)]
pub(crate) struct OpenAiPlan {
    /// The limit on the reply goes by its newer name, `max_completion_tokens`.
    pub(crate) completion_limit: bool,
    /// What the model is known to lack.
    pub(crate) lacks: BTreeSet<ModelFeature>,
    /// Whether it gets back what it thought itself.
    pub(crate) return_blocks: bool,
    /// What is to be left out.
    pub(crate) quirks: BTreeSet<ModelQuirk>,
}

impl OpenAiPlan {
    /// Whether a part of the request may be sent.
    pub(crate) fn allows(&self, without: ModelQuirk) -> bool {
        let lacking = match without {
            ModelQuirk::NoThinking | ModelQuirk::NoEncryptedReasoning => self.lacks.contains(&ModelFeature::Thinking),
            ModelQuirk::NoTemperature => self.lacks.contains(&ModelFeature::Temperature),
            _ => false,
        };
        !lacking && !self.quirks.contains(&without)
    }
}

/// Whether a request asks for what a quirk leaves out.
pub(crate) fn affects_request(quirk: ModelQuirk, request: &ChatRequest) -> bool {
    match quirk {
        ModelQuirk::NoTemperature => request.temperature.is_some(),
        ModelQuirk::AlwaysThinks => request.reasoning == Some(ReasoningEffort::Off),
        ModelQuirk::NoThinking => request.reasoning.is_some(),
        ModelQuirk::NoTools => !request.tools.is_empty(),
        _ => true,
    }
}

/// Not at all.
pub(crate) const NO_EFFORT: &str = "none";

/// The word for how much the model is to think, if something is to be said about that.
pub(crate) fn reasoning_effort_value(request: &ChatRequest, plan: &OpenAiPlan) -> Option<&'static str> {
    Some(match request.reasoning? {
        ReasoningEffort::Off if plan.allows(ModelQuirk::AlwaysThinks) => NO_EFFORT,
        ReasoningEffort::Off => ReasoningEffort::Low.as_str(),
        effort => effort.as_str(),
    })
}
