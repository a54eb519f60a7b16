//! A rule-based stand-in for a language model. It looks for words that it knows, calls the tools that go with them, and
//! reports what they return. It is **not** a language model, and says so wherever it is named.
//!
//! ```text
//! ChatRequest ─▶ Turn (what was said, what tools answered) ─▶ intent (words) ─▶ plan ─▶ calls, or the last words
//! ```
//!
//! It keeps nothing between two calls: like any model it works from the messages of the request alone.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, stream};

use super::{
    MODEL_ID, planner,
    run_progress::{NextStep, RunProgress},
    wording::truncate_chars,
};
use k8sops_core::StopReason;
use k8sops_models::{
    ChatModel, ChatRequest, ModelError, ModelReply, ReplyDelta, ReplyStream, RequestedCall, ToolChoice,
};

/// How long it waits between two words: about as fast as a model would write.
const WORD_PAUSE: Duration = Duration::from_millis(15);
/// After so many calls in one turn something is not as the rules expect; they stop rather than go round in a circle.
const MAX_TOOL_CALLS: usize = 40;

/// The stand-in for a model.
#[derive(Debug, Clone)]
pub struct RuleModel {
    pause: Duration,
}

impl Default for RuleModel {
    fn default() -> Self {
        Self { pause: WORD_PAUSE }
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
        let reply = build_reply(&request);
        let deltas = split_pieces(&reply.content).into_iter().map(ReplyDelta::Text).collect::<Vec<_>>();
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
        Err(ModelError::InvalidRequest(format!("the demo has the model `{MODEL_ID}` and no `{model}`")))
    }
}

/// The reply to a request.
fn build_reply(request: &ChatRequest) -> ModelReply {
    let Some(run) = RunProgress::from_request(request) else { return text_reply(planner::HELP_TEXT.to_owned()) };
    match planner::plan_next_step(&run) {
        NextStep::Reply(text) => text_reply(text),
        NextStep::CallTools { .. } if request.tool_choice == ToolChoice::None => {
            text_reply(unfinished_text(&run, "I may not call a tool now"))
        }
        NextStep::CallTools { .. } if run.calls.len() > MAX_TOOL_CALLS => {
            text_reply(unfinished_text(&run, "I have called too many tools"))
        }
        NextStep::CallTools { text, calls } => ModelReply {
            content: text,
            tool_calls: calls.into_iter().map(|(name, arguments)| RequestedCall { name, arguments }).collect(),
            stop_reason: StopReason::ToolUse,
            ..ModelReply::default()
        },
    }
}

fn text_reply(content: String) -> ModelReply {
    ModelReply { content, ..ModelReply::default() }
}

/// What to say when the turn has to end before its time.
fn unfinished_text(run: &RunProgress<'_>, why: &str) -> String {
    let mut text = format!("{why}, so this is as far as I get.");
    for outcome in &run.calls {
        let first = outcome.content.lines().next().unwrap_or("");
        text += &format!("\n- `{}` ({}): {}", outcome.tool, outcome.status.as_str(), truncate_chars(first, 100));
    }
    text
}

/// Cuts a text into words with the white space after them, and code blocks into lines.
pub(super) fn split_pieces(text: &str) -> Vec<String> {
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
