//! What bounds a run, and how it is noticed that a bound is reached or that the model goes in circles.

use std::{sync::Arc, time::Duration};

use super::{
    budget::{self, Scope},
    context::ContextPolicy,
};
use crate::BudgetConfig;
use k8sops_core::{ChatMessage, OpenRun, Timestamp, ToolCall};
use k8sops_models::RetryPolicy;

/// What bounds a run.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Model calls with tools; then one without, for an answer.
    pub max_steps: u32,
    /// Tool calls.
    pub max_calls: u32,
    /// The time it may work, what it waits for its user not counted.
    pub max_time: Duration,
    /// The same call with the same result, one after another; then it is not run again.
    pub max_repeats: usize,
    /// Attempts at one model call, and the waits between them.
    pub retry: RetryPolicy,
    /// Calls that change nothing and run at the same time.
    pub parallel_tools: usize,
    /// How long a request for approval, or a question, stands.
    pub approval_ttl: Duration,
    /// What may be spent.
    pub budgets: BudgetConfig,
    /// How full a request may be.
    pub context: ContextPolicy,
}

/// The bound that a run has reached. It gets one more reply, without tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reached {
    Steps,
    Calls,
    Time,
    /// The model makes the same calls over and over, though it is told that they are not run.
    Circles,
    /// What may be spent is spent.
    Budget(Scope),
}

impl Reached {
    /// A stable word, for the event.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Steps => "limit_steps",
            Self::Calls => "limit_calls",
            Self::Time => "limit_time",
            Self::Circles => "limit_repeats",
            Self::Budget(scope) => scope.code(),
        }
    }

    pub(super) fn words(self, limits: &Limits) -> String {
        match self {
            Self::Steps => format!("the limit of {} steps for this turn is reached", limits.max_steps),
            Self::Calls => format!("the limit of {} tool calls for this turn is reached", limits.max_calls),
            Self::Time => format!("the {} s that this turn may take are over", limits.max_time.as_secs()),
            Self::Budget(scope) => scope.words(&limits.budgets),
            Self::Circles => "the same calls were made over and over without anything new".to_owned(),
        }
    }
}

/// Replies in a row in which every call was one that is not run again.
const CIRCLES: usize = 2;
/// From this many equal results on, the model is told.
const TOLD_FROM: usize = 3;
/// How the result of a call begins that is not run again.
const REFUSED: &str = "not run again:";

impl Limits {
    /// The bound that the run has reached, if it has.
    pub(super) fn reached(&self, run: &OpenRun, messages: &[Arc<ChatMessage>]) -> Option<Reached> {
        if run.steps >= self.max_steps {
            Some(Reached::Steps)
        } else if run.call_count >= self.max_calls {
            Some(Reached::Calls)
        } else if run.worked(Timestamp::now()) >= self.max_time {
            Some(Reached::Time)
        } else if goes_in_circles(messages) {
            Some(Reached::Circles)
        } else {
            None
        }
    }

    /// Whether the newest reply was the last one that a bound leaves, as far as that can be known afterwards.
    pub(super) fn reached_before(&self, run: &OpenRun) -> bool {
        run.steps > self.max_steps
            || run.call_count >= self.max_calls
            || budget::is_spent(&self.budgets.turn, &run.usage)
    }

    /// What the model is told in place of a result, when the call was made too often already.
    pub(super) fn refuses(&self, call: &ToolCall, messages: &[Arc<ChatMessage>]) -> Option<String> {
        let times = repeats(call, messages);
        (times >= self.max_repeats).then(|| {
            format!(
                "{REFUSED} this very call was made {times} times in this turn, and its result was always the same. Do \
                 something else, or answer with what is known."
            )
        })
    }

    /// What is added to a result that the model has seen before.
    pub(super) fn remark(call: &ToolCall, content: &str, messages: &[Arc<ChatMessage>]) -> Option<String> {
        let times = 1 + repeats_with(call, Some(content), messages);
        (times >= TOLD_FROM).then(|| {
            format!("\n[k8sops: this is the {times}. time in this turn that this very call has this very result]")
        })
    }
}

/// How often a call was made in this turn, at the end of it with always the same result.
fn repeats(call: &ToolCall, messages: &[Arc<ChatMessage>]) -> usize {
    repeats_with(call, None, messages)
}

fn repeats_with(call: &ToolCall, result: Option<&str>, messages: &[Arc<ChatMessage>]) -> usize {
    let turn = turn_of(messages);
    let mut expected = result;
    let mut times = 0;
    for message in turn.iter().rev() {
        let ChatMessage::Tool(result) = message.as_ref() else { continue };
        let same = |m: &Arc<ChatMessage>| {
            matches!(m.as_ref(), ChatMessage::Assistant(m) if m.tool_calls.iter()
                .any(|c| c.id == result.tool_call_id && c.name == call.name && c.arguments == call.arguments))
        };
        if !turn.iter().any(same) || result.content.starts_with(REFUSED) {
            continue;
        }
        let content = said(&result.content);
        if expected.is_some_and(|expected| said(expected) != content) {
            break;
        }
        expected = Some(content);
        times += 1;
    }
    times
}

/// A result without the remark that was added to it.
fn said(content: &str) -> &str {
    content.rfind("\n[k8sops: this is the ").map_or(content, |at| &content[..at])
}

fn goes_in_circles(messages: &[Arc<ChatMessage>]) -> bool {
    let turn = turn_of(messages);
    let replies = turn.iter().rev().filter_map(|m| match m.as_ref() {
        ChatMessage::Assistant(m) => Some(m),
        _ => None,
    });
    let refused = |id| {
        turn.iter().any(
            |m| matches!(m.as_ref(), ChatMessage::Tool(t) if &t.tool_call_id == id && t.content.starts_with(REFUSED)),
        )
    };
    let circles = replies
        .take(CIRCLES)
        .filter(|reply| !reply.tool_calls.is_empty() && reply.tool_calls.iter().all(|call| refused(&call.id)));
    circles.count() == CIRCLES
}

/// The messages since the user's newest.
fn turn_of(messages: &[Arc<ChatMessage>]) -> &[Arc<ChatMessage>] {
    let start = messages.iter().rposition(|m| matches!(m.as_ref(), ChatMessage::User(_))).unwrap_or(0);
    &messages[start..]
}
