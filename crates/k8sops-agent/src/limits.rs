//! The bounds of a run, and the detection of calls that repeat without progress.

use std::{sync::Arc, time::Duration};

use crate::{
    budget::{self, BudgetScope},
    context::ContextPolicy,
    options::SpendingLimits,
};
use k8sops_core::{ChatMessage, OpenRun, Timestamp, ToolCall};
use k8sops_models::RetryPolicy;

/// The bounds of a run.
#[derive(Debug, Clone)]
pub struct RunLimits {
    /// Model calls with tools. One more call without tools gives the answer.
    pub max_steps: u32,
    /// Upper bound of tool calls.
    pub max_calls: u32,
    /// Working time. Waiting for the user does not count.
    pub max_time: Duration,
    /// Equal results of the same call in a row, after which the call is refused.
    pub max_repeats: usize,
    /// The retry policy of model calls.
    pub retry: RetryPolicy,
    /// Upper bound of `read` calls that run concurrently.
    pub parallel_tools: usize,
    /// How long an approval request or a question waits for the user.
    pub approval_ttl: Duration,
    /// The budgets.
    pub budgets: SpendingLimits,
    /// How much of the context window a request may fill.
    pub context: ContextPolicy,
}

/// The bound that a run has reached. The run gets one more reply, without tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LimitReached {
    Steps,
    Calls,
    Time,
    /// The model repeats calls that were refused as repetitions.
    Repeats,
    /// A budget is used up.
    Budget(BudgetScope),
}

impl LimitReached {
    /// Returns the code of the warning event.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Steps => "limit_steps",
            Self::Calls => "limit_calls",
            Self::Time => "limit_time",
            Self::Repeats => "limit_repeats",
            Self::Budget(scope) => scope.code(),
        }
    }

    pub(crate) fn describe(self, limits: &RunLimits) -> String {
        match self {
            Self::Steps => format!("the limit of {} steps for this turn is reached", limits.max_steps),
            Self::Calls => format!("the limit of {} tool calls for this turn is reached", limits.max_calls),
            Self::Time => format!("the {} s that this turn may take are over", limits.max_time.as_secs()),
            Self::Budget(scope) => scope.describe(&limits.budgets),
            Self::Repeats => "the same calls were made over and over without anything new".to_owned(),
        }
    }
}

/// Replies in a row whose calls were all refused as repetitions, after which the run ends.
const MAX_REPEATED_REPLIES: usize = 2;
/// The number of equal results from which on the model is told about the repetition.
const REMARK_FROM: usize = 3;
/// Prefix of the result of a call that was refused as a repetition.
const REFUSED_PREFIX: &str = "not run again:";

impl RunLimits {
    /// Returns the bound that the run has reached, if any.
    pub(crate) fn find_reached(&self, run: &OpenRun, messages: &[Arc<ChatMessage>]) -> Option<LimitReached> {
        if run.steps >= self.max_steps {
            Some(LimitReached::Steps)
        } else if run.call_count >= self.max_calls {
            Some(LimitReached::Calls)
        } else if run.active_time(Timestamp::now()) >= self.max_time {
            Some(LimitReached::Time)
        } else if is_repeating(messages) {
            Some(LimitReached::Repeats)
        } else {
            None
        }
    }

    /// Returns whether the newest reply was the last one that a bound allows, as far as the log shows it.
    pub(crate) fn was_reached_before(&self, run: &OpenRun) -> bool {
        run.steps > self.max_steps
            || run.call_count >= self.max_calls
            || budget::is_budget_spent(&self.budgets.turn, &run.usage)
    }

    /// Returns the message in place of a result, if the call was repeated too often.
    pub(crate) fn refuse_repeated_call(&self, call: &ToolCall, messages: &[Arc<ChatMessage>]) -> Option<String> {
        let times = count_repeats(call, messages);
        (times >= self.max_repeats).then(|| {
            format!(
                "{REFUSED_PREFIX} this very call was made {times} times in this turn, and its result was always the same. Do \
                 something else, or answer with what is known."
            )
        })
    }

    /// Returns the remark that is appended to a result which the model has seen before.
    pub(crate) fn repeat_remark(call: &ToolCall, content: &str, messages: &[Arc<ChatMessage>]) -> Option<String> {
        let times = 1 + count_repeats_of_result(call, Some(content), messages);
        (times >= REMARK_FROM).then(|| {
            format!("\n[k8sops: this is the {times}. time in this turn that this very call has this very result]")
        })
    }
}

/// Counts how often a call was made at the end of this turn with the same result.
fn count_repeats(call: &ToolCall, messages: &[Arc<ChatMessage>]) -> usize {
    count_repeats_of_result(call, None, messages)
}

fn count_repeats_of_result(call: &ToolCall, result: Option<&str>, messages: &[Arc<ChatMessage>]) -> usize {
    let turn = current_turn(messages);
    let mut expected = result;
    let mut times = 0;
    for message in turn.iter().rev() {
        let ChatMessage::Tool(result) = message.as_ref() else { continue };
        let same = |m: &Arc<ChatMessage>| {
            matches!(m.as_ref(), ChatMessage::Assistant(m) if m.tool_calls.iter()
                .any(|c| c.id == result.tool_call_id && c.name == call.name && c.arguments == call.arguments))
        };
        if !turn.iter().any(same) || result.content.starts_with(REFUSED_PREFIX) {
            continue;
        }
        let content = strip_repeat_remark(&result.content);
        if expected.is_some_and(|expected| strip_repeat_remark(expected) != content) {
            break;
        }
        expected = Some(content);
        times += 1;
    }
    times
}

/// Returns a result without the remark of [`RunLimits::repeat_remark`].
fn strip_repeat_remark(content: &str) -> &str {
    content.rfind("\n[k8sops: this is the ").map_or(content, |at| &content[..at])
}

fn is_repeating(messages: &[Arc<ChatMessage>]) -> bool {
    let turn = current_turn(messages);
    let replies = turn.iter().rev().filter_map(|m| match m.as_ref() {
        ChatMessage::Assistant(m) => Some(m),
        _ => None,
    });
    let refused = |id| {
        turn.iter().any(
            |m| matches!(m.as_ref(), ChatMessage::Tool(t) if &t.tool_call_id == id && t.content.starts_with(REFUSED_PREFIX)),
        )
    };
    let circles = replies
        .take(MAX_REPEATED_REPLIES)
        .filter(|reply| !reply.tool_calls.is_empty() && reply.tool_calls.iter().all(|call| refused(&call.id)));
    circles.count() == MAX_REPEATED_REPLIES
}

/// Returns the messages from the user's newest on.
fn current_turn(messages: &[Arc<ChatMessage>]) -> &[Arc<ChatMessage>] {
    let start = messages.iter().rposition(|m| matches!(m.as_ref(), ChatMessage::User(_))).unwrap_or(0);
    &messages[start..]
}
