//! The events that end a run or one of its tool calls.

use k8sops_core::{
    EventBody, OpenRun, OpenToolCall, RunFailed, RunFinished, RunOutcome, Timestamp, TokenUsage, ToolCall, ToolEffect,
    ToolEnd, ToolStatus,
};

/// Said of a call that was sent and whose outcome is unknown.
pub(crate) const OUTCOME_UNKNOWN: &str =
    "The call was sent, and it is not known whether it took effect. Look at the state before doing it again.";

/// Said of a call that was sent and whose record the store has lost.
pub(crate) const RECORD_LOST: &str = "The same call was sent before, and the store has lost the record of it, so it was not sent again. It is not known \
     whether it took effect. Look at the state before doing it again.";

/// Returns the event that ends `run`. `more` is the usage of a reply that is committed with it.
pub(crate) fn run_finished(run: &OpenRun, outcome: RunOutcome, more: TokenUsage) -> EventBody {
    let mut usage = run.usage;
    usage += more;
    EventBody::RunFinished(RunFinished { outcome, usage, duration_ms: elapsed_ms(run.started_at) })
}

pub(crate) fn elapsed_ms(start: Timestamp) -> u64 {
    u64::try_from(Timestamp::now().saturating_duration_since(start).as_millis()).unwrap_or(u64::MAX)
}

/// Returns the events that close a run which cannot continue: the ends of its open tool calls, then the failure of the run.
#[must_use]
pub fn run_failure_events(run: &OpenRun, failure: RunFailed) -> Vec<EventBody> {
    let mut events: Vec<EventBody> = run.calls.iter().map(end_interrupted_call).collect();
    events.push(EventBody::RunFailed(RunFailed { usage: run.usage, ..failure }));
    events
}

/// Returns the end of a call that was not executed, or that returned nothing.
pub(crate) fn tool_call_ended(
    call: &ToolCall,
    server: &str,
    status: ToolStatus,
    content: impl Into<String>,
) -> EventBody {
    let content = content.into();
    EventBody::ToolEnd(ToolEnd {
        tool_call_id: call.id.clone(),
        name: call.name.clone(),
        server: server.to_owned(),
        status,
        bytes: content.len() as u64,
        content,
        structured: None,
        truncated: false,
        duration_ms: 0,
    })
}

/// Returns the end of a call whose run cannot continue.
pub(crate) fn end_interrupted_call(open: &OpenToolCall) -> EventBody {
    let (status, content) = match &open.started {
        Some(started) if started.effect != ToolEffect::Read => (ToolStatus::Unknown, OUTCOME_UNKNOWN),
        Some(_) => (ToolStatus::Error, "the run failed while the call ran"),
        None => (ToolStatus::Cancelled, "not run: the run failed before"),
    };
    tool_call_ended(&open.call, open.server(), status, content)
}
