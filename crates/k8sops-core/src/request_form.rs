//! How a conversation is simplified for a model that rejects it as it is.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The form in which a conversation is sent to a model, from the fullest to the plainest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RequestForm {
    /// As the dialect of the server has it.
    #[default]
    Native,
    /// By the rules of the strictest servers: short ids of tool calls, alternating roles, one call per message.
    Strict,
    /// Tool calls and their results are text.
    Plain,
    /// Text only, without tools and optional parameters.
    Bare,
}

/// What is simplified of a conversation for one model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConversationForm {
    /// The form of the request.
    #[serde(default)]
    pub form: RequestForm,
    /// The seqs of tool outputs that are left out.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schema(value_type = Vec<u64>)]
    pub outputs_left_out: BTreeSet<u64>,
    /// The seq of the newest message that is left out, together with all before it; 0 if there is none.
    #[serde(default)]
    pub left_out_up_to: u64,
}

/// A step of simplification, in the order in which they are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SimplificationStep {
    /// The strict form.
    Strict,
    /// The plain form.
    Plain,
    /// The newest tool outputs are left out.
    NewestOutputs,
    /// All tool outputs are left out.
    AllOutputs,
    /// Everything before the newest user message is left out, except for the summary.
    History,
    /// Only the newest user message is sent, without tools and optional parameters.
    Bare,
}

impl SimplificationStep {
    /// The value in JSON and in metric labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Plain => "plain",
            Self::NewestOutputs => "newest_outputs",
            Self::AllOutputs => "all_outputs",
            Self::History => "history",
            Self::Bare => "bare",
        }
    }
}

/// A simplification that made a model accept a conversation. Later requests to that model begin with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SimplifiedRequest {
    /// The provider of the model.
    pub provider: String,
    /// The id of the model at its provider.
    pub model: String,
    /// The step that helped.
    pub step: SimplificationStep,
    /// What later requests to the model begin with.
    pub remembered: ConversationForm,
}

/// Returns the key of a model in [`SessionState::simplified`](crate::SessionState::simplified).
#[must_use]
pub fn simplification_key(provider: &str, model: &str) -> String {
    format!("{provider}/{model}")
}
