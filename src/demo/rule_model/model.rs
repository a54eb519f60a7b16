//! The model itself: builds a reply from the planned step and streams it.

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
    ChatModel, ChatRequest, ModelError, ModelErrorKind, ModelReply, ReplyDelta, ReplyStream, RequestedCall, ToolChoice,
};

/// Pause between two streamed words, so that text arrives about as fast as from a model.
const WORD_PAUSE: Duration = Duration::from_millis(15);
/// A run with more tool calls than this is stopped, because the rules are probably in a loop.
const MAX_TOOL_CALLS: usize = 40;

/// A rule-based stand-in for a model.
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
    /// Creates a model that pauses for `pause` between two words.
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
        Ok(paced.chain(stream::iter([Ok(ReplyDelta::Done(Box::new(reply)))])).boxed())
    }

    fn uses_tokens(&self) -> bool {
        false
    }

    async fn check(&self, model: &str) -> Result<(), ModelError> {
        if model == MODEL_ID {
            return Ok(());
        }
        Err(ModelError::new(
            ModelErrorKind::InvalidRequest,
            format!("the demo has only the model `{MODEL_ID}`, not `{model}`"),
        ))
    }
}

/// Returns the reply to a request.
fn build_reply(request: &ChatRequest) -> ModelReply {
    let Some(run) = RunProgress::from_request(request) else { return text_reply(planner::HELP_TEXT.to_owned()) };
    match planner::plan_next_step(&run) {
        NextStep::Reply(text) => text_reply(text),
        NextStep::CallTools { .. } if request.tool_choice == ToolChoice::None => {
            text_reply(unfinished_text(&run, "Tool calls are not allowed in this request"))
        }
        NextStep::CallTools { .. } if run.calls.len() > MAX_TOOL_CALLS => {
            text_reply(unfinished_text(&run, "The limit of tool calls is reached"))
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

/// Returns the reply of a run that has to end early.
fn unfinished_text(run: &RunProgress<'_>, why: &str) -> String {
    let mut text = format!("{why}, so the run ends here.");
    for call in &run.calls {
        let first = call.content.lines().next().unwrap_or("");
        text += &format!("\n- `{}` ({}): {}", call.tool, call.status.as_str(), truncate_chars(first, 100));
    }
    text
}

/// Splits a text into words with their trailing white space, and code blocks into lines.
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
