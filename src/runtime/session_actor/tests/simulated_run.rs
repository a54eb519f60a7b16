//! The run and the memory extraction of a simulated actor: what they append, and how they end.

use std::{mem, time::Duration};

use k8sops_core::*;
use serde_json::json;

use super::{
    simulated_store::event_body,
    simulation::{Simulation, WaitingAppend},
};
use crate::runtime::session_actor::inputs::{ActorInput, RunEnding, TaskReport};

/// How long an approval is pending.
const APPROVAL_TTL: Duration = Duration::from_secs(20);

fn run_finished(outcome: &str) -> EventBody {
    event_body(json!({"type": "run_finished", "outcome": outcome, "usage": TokenUsage::default(), "duration_ms": 1}))
}

fn tool_end(call: &ToolCallId, status: &str) -> EventBody {
    event_body(json!({
        "type": "tool_end", "tool_call_id": call, "status": status, "content": "", "structured": null,
        "truncated": false, "bytes": 0, "duration_ms": 1,
    }))
}

#[derive(Debug)]
pub(super) struct SimulatedRun {
    pub(super) run_id: RunId,
    /// Whether its start is acknowledged.
    pub(super) is_started: bool,
    pub(super) is_cancelled: bool,
    /// Appends that are not acknowledged.
    pub(super) waiting: usize,
    /// Whether its end was appended.
    pub(super) is_finished: bool,
}

impl Simulation {
    /// The run appends what comes next in it.
    pub(super) fn append(&mut self) {
        let approval = self.store.session.pending_approvals().next().is_some();
        let open_call =
            self.store.session.run.as_ref().and_then(|run| run.calls.first()).map(|open| open.call.id.clone());
        let Some(run) = self.run.as_mut().filter(|run| run.is_started && !run.is_finished) else { return };
        let bodies = match open_call {
            _ if run.waiting > 0 || approval => {
                vec![EventBody::Warning(SessionWarning::new(format!("w{}", self.store.log.len()), "said meanwhile"))]
            }
            Some(call) => vec![tool_end(&call, "ok")],
            None => {
                let call = ToolCallId::generate();
                let expires_at = self.now.wall.saturating_add(APPROVAL_TTL);
                let reply = json!({
                    "type": "assistant_message", "message_id": MessageId::new(), "content": "", "reasoning": null,
                    "tool_calls": [{"id": call, "name": "change", "arguments": {}}], "usage": TokenUsage::default(),
                    "stop_reason": StopReason::EndTurn, "citations": [],
                });
                let asked = json!({
                    "type": "approval_requested", "approval_id": ApprovalId::new(), "tool_call_id": call,
                    "name": "change", "arguments": {}, "effect": "mutating", "reason": "", "expires_at": expires_at,
                });
                vec![event_body(reply), event_body(asked)]
            }
        };
        self.append_events(bodies);
    }

    fn append_events(&mut self, bodies: Vec<EventBody>) {
        let Some(run) = &mut self.run else { return };
        run.waiting += 1;
        let (run_id, ts) = (run.run_id, self.now.wall);
        let drafts: Vec<_> = bodies.into_iter().map(|body| EventDraft { ts, run_id: Some(run_id), body }).collect();
        self.waiting.push_back(WaitingAppend::Append(run_id, drafts.clone()));
        self.input(ActorInput::Reported(vec![TaskReport::Appended(drafts)]));
    }

    /// The run ends as far as it can: it stops for a shutdown, appends its end, or ends its task after that.
    pub(super) fn finish_run(&mut self) {
        let Some(run) = self.run.as_mut().filter(|run| run.is_started && run.waiting == 0) else { return };
        let ending = if run.is_finished {
            RunEnding::Closed
        } else if self.is_halted {
            RunEnding::Halted
        } else if run.is_cancelled {
            run.is_finished = true;
            let calls = self.store.session.run.iter().flat_map(|run| &run.calls);
            let ends = calls.map(|open| tool_end(&open.call.id, "cancelled")).collect::<Vec<_>>();
            return self.append_events(ends.into_iter().chain([run_finished("cancelled")]).collect());
        } else if self.store.session.run.as_ref().is_some_and(|run| run.calls.is_empty()) {
            run.is_finished = true;
            return self.append_events(vec![run_finished("completed")]);
        } else {
            return self.append();
        };
        self.end_run(ending);
    }

    /// The task of the run ends.
    pub(super) fn end_run(&mut self, ending: RunEnding) {
        if self.run.take().is_some() {
            self.input(ActorInput::Reported(vec![TaskReport::RunEnded(ending)]));
        }
    }

    pub(super) fn finish_extraction(&mut self) {
        if mem::take(&mut self.is_extracting) {
            let saved = MemorySaved { up_to_seq: self.store.session.last_seq(), ..MemorySaved::default() };
            self.input(ActorInput::Reported(vec![TaskReport::MemoriesExtracted(saved)]));
        }
    }
}
