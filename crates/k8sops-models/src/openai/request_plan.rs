//! The plan of a request: which parameters to send, from what is known of the model and its server.

use std::collections::BTreeSet;

use k8sops_core::{ReasoningEffort, RequestForm};

use crate::{ChatRequest, Dialect, ModelFeature, quirks::ModelQuirk, tool_placement::FoundToolPlace};

/// How a body is built, in addition to the request.
#[derive(Debug, Default)]
pub(crate) struct OpenAiPlan {
    /// The rules of the server, with what the model rejects and in the form of the request.
    pub(crate) dialect: Dialect,
    /// The form of the request.
    pub(crate) form: RequestForm,
    /// The features that the model is known to lack.
    pub(crate) lacks: BTreeSet<ModelFeature>,
    /// Whether the model gets its own reasoning back.
    pub(crate) return_blocks: bool,
    /// Where the tools that a search found are described.
    pub(crate) found_tool_place: FoundToolPlace,
    /// The features to leave out.
    pub(crate) quirks: BTreeSet<ModelQuirk>,
}

impl OpenAiPlan {
    /// Returns whether the parameter that a quirk would remove can be sent.
    pub(crate) fn allows(&self, without: ModelQuirk) -> bool {
        let lacking = match without {
            ModelQuirk::NoThinking | ModelQuirk::NoEncryptedReasoning => self.lacks.contains(&ModelFeature::Thinking),
            ModelQuirk::NoTemperature => self.lacks.contains(&ModelFeature::Temperature),
            ModelQuirk::NoStreamOptions => !self.dialect.stream_options,
            _ => false,
        };
        !lacking && self.form != RequestForm::Bare && !self.quirks.contains(&without)
    }
}

/// Returns whether a quirk changes what the request asks for.
pub(crate) fn affects_request(quirk: ModelQuirk, request: &ChatRequest) -> bool {
    match quirk {
        ModelQuirk::NoTemperature => request.temperature.is_some(),
        ModelQuirk::AlwaysThinks => request.reasoning == Some(ReasoningEffort::Off),
        ModelQuirk::NoThinking => request.reasoning.is_some(),
        ModelQuirk::NoTools => !request.tools.is_empty(),
        _ => true,
    }
}

/// The effort that turns reasoning off.
pub(crate) const NO_EFFORT: &str = "none";

/// Returns the reasoning effort to send, or `None` to leave it to the model.
pub(crate) fn reasoning_effort_value(request: &ChatRequest, plan: &OpenAiPlan) -> Option<&'static str> {
    Some(match request.reasoning? {
        ReasoningEffort::Off if plan.allows(ModelQuirk::AlwaysThinks) => NO_EFFORT,
        ReasoningEffort::Off => ReasoningEffort::Low.as_str(),
        effort => effort.as_str(),
    })
}
