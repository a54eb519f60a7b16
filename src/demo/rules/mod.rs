//! A rule-based stand-in for a language model. It looks for words that it knows, calls the tools that go with them, and
//! reports what they return. It is **not** a language model, and says so wherever it is named.
//!
//! ```text
//! ChatRequest ─▶ Turn (what was said, what tools answered) ─▶ intent (words) ─▶ plan ─▶ calls, or the last words
//! ```
//!
//! It keeps nothing between two calls: like any model it works from the messages of the request alone.

mod diagnose;
mod find;
mod intent;
mod plan;
mod table;
#[cfg(test)]
mod tests;
mod turn;
mod vocabulary;

use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, stream};

use k8sops_core::StopReason;
use k8sops_models::{
    ChatModel, ChatRequest, ModelError, ModelReply, ReplyDelta, ReplyStream, RequestedCall, ToolChoice,
};

use turn::{Step, Turn};

/// The id under which the rules stand among the providers.
pub const PROVIDER_ID: &str = "demo";
/// The provider's name, as people are shown it.
pub const PROVIDER_NAME: &str = "Demo (rules, not a language model)";
/// The id of the one "model".
pub const MODEL_ID: &str = "rules";
/// The model's name, as people are shown it.
pub const MODEL_NAME: &str = "Rules (not a language model)";

/// How long it waits between two words: about as fast as a model would write.
const PAUSE: Duration = Duration::from_millis(15);
/// After so many calls in one turn something is not as the rules expect; they stop rather than go round in a circle.
const MOST_CALLS: usize = 40;

/// The stand-in for a model.
#[derive(Debug, Clone)]
pub struct RuleModel {
    pause: Duration,
}

impl Default for RuleModel {
    fn default() -> Self {
        Self { pause: PAUSE }
    }
}

impl RuleModel {
    /// With another pause between two words; zero for none.
    #[must_use]
    pub fn with_pause(pause: Duration) -> Self {
        Self { pause }
    }
}

#[async_trait]
impl ChatModel for RuleModel {
    async fn stream(&self, request: ChatRequest) -> Result<ReplyStream, ModelError> {
        let reply = answer(&request);
        let deltas = pieces(&reply.content).into_iter().map(ReplyDelta::Text).collect::<Vec<_>>();
        let pause = self.pause;
        let paced = stream::iter(deltas.into_iter().enumerate()).then(move |(i, delta)| async move {
            if i > 0 && !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            Ok(delta)
        });
        Ok(paced.chain(stream::iter([Ok(ReplyDelta::Done(reply))])).boxed())
    }

    async fn check(&self, model: &str) -> Result<(), ModelError> {
        if model == MODEL_ID {
            return Ok(());
        }
        Err(ModelError::InvalidRequest(format!("the demo has the model `{MODEL_ID}` and no `{model}`").into()))
    }
}

/// The reply to a request.
fn answer(request: &ChatRequest) -> ModelReply {
    let Some(turn) = Turn::read(request) else { return say(plan::HELP.to_owned()) };
    match plan::next(&turn) {
        Step::Say(text) => say(text),
        Step::Call { .. } if request.tool_choice == ToolChoice::None => {
            say(unfinished(&turn, "I may not call a tool now"))
        }
        Step::Call { .. } if turn.outcomes.len() > MOST_CALLS => say(unfinished(&turn, "I have called too many tools")),
        Step::Call { say, calls } => ModelReply {
            content: say,
            tool_calls: calls.into_iter().map(|(name, arguments)| RequestedCall { name, arguments }).collect(),
            stop_reason: StopReason::ToolUse,
            ..ModelReply::default()
        },
    }
}

fn say(content: String) -> ModelReply {
    ModelReply { content, ..ModelReply::default() }
}

/// What to say when the turn has to end before its time.
fn unfinished(turn: &Turn<'_>, why: &str) -> String {
    let mut text = format!("{why}, so this is as far as I get.");
    for outcome in &turn.outcomes {
        let first = outcome.content.lines().next().unwrap_or("");
        text += &format!("\n- `{}` ({}): {}", outcome.tool, outcome.status.as_str(), table::cut(first, 100));
    }
    text
}

/// Cuts a text into words with the white space after them, and code blocks into lines.
fn pieces(text: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut in_block = false;
    for line in text.split_inclusive('\n') {
        let fence = line.starts_with("```");
        if in_block || fence {
            pieces.push(line.to_owned());
            in_block ^= fence;
            continue;
        }
        let mut rest = line;
        while !rest.is_empty() {
            let word = rest.len() - rest.trim_start().len();
            let word = rest[word..].find(char::is_whitespace).map_or(rest.len(), |i| i + word);
            let next = rest[word..].find(|c: char| !c.is_whitespace()).map_or(rest.len(), |i| i + word);
            pieces.push(rest[..next].to_owned());
            rest = &rest[next..];
        }
    }
    pieces
}
