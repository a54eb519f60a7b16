//! The run in progress, as the log tells it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    event::{
        ApprovalRequested, ApprovalResolved, AssistantMessageEvent, EventBody, InputRequested, InputResolved,
        RunStarted, SessionEvent, SessionWarning,
    },
    ids::{ApprovalId, InputId, RunId, ToolCallId},
    message::{TokenUsage, ToolCall, ToolEffect},
    request_context::RequestContext,
    time::Timestamp,
};

/// The longest time between two events of a run that counts as work, in milliseconds: longer than a model call or a tool call
/// usually takes. A longer one is taken for a jump of the wall clock.
const MAX_COUNTED_INTERVAL_MS: i64 = 10 * 60 * 1000;

/// The run in progress: everything that a new session owner needs to resume it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenRun {
    /// The id of the run.
    pub run_id: RunId,
    /// When the run started.
    pub started_at: Timestamp,
    /// The provider that the run asks.
    pub provider: String,
    /// The model that the run asks.
    pub model: String,
    /// 1, and one more with every `run_recovered`.
    pub attempt: u32,
    /// The number of replies of the model so far.
    pub steps: u32,
    /// Tokens and cost of the model calls so far.
    pub usage: TokenUsage,
    /// See [`RunStarted::memory`].
    #[serde(default)]
    pub memory: bool,
    /// The tool calls of the newest reply that have not ended.
    pub calls: Vec<OpenToolCall>,
    /// The approvals of calls that have ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub closed_approvals: Vec<ApprovalId>,
    /// The requests for input of calls that have ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub closed_inputs: Vec<InputId>,
    /// The number of tool calls of all replies.
    #[serde(default)]
    pub call_count: u32,
    /// The time so far, in milliseconds, that does not count toward the time limit of the run, see [`OpenRun::active_time`].
    #[serde(default)]
    pub waited_ms: u64,
    /// Since when the run waits for its user, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_since: Option<Timestamp>,
    /// When the newest event was logged. `None` in a checkpoint of an older version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted_until: Option<Timestamp>,
    /// The request that caused the run.
    #[serde(default, skip_serializing_if = "RequestContext::is_empty")]
    pub cause: RequestContext,
}

/// Whether an approval or a request for input still waits for its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InteractionStatus {
    /// It waits for an answer.
    Pending,
    /// It was not answered in time, and cannot be answered any more.
    Expired,
    /// It was answered, or its call has ended without an answer.
    Closed,
}

impl InteractionStatus {
    fn from_answer<T>(answer: Option<&T>, expires_at: Timestamp, now: Timestamp) -> Self {
        match answer {
            Some(_) => Self::Closed,
            None if expires_at <= now => Self::Expired,
            None => Self::Pending,
        }
    }
}

impl OpenRun {
    /// The run after its `run_started`.
    #[must_use]
    pub fn from_started(run_id: RunId, started: &RunStarted, started_at: Timestamp) -> Self {
        Self {
            run_id,
            started_at,
            provider: started.provider.clone(),
            model: started.model.clone(),
            attempt: started.attempt,
            steps: 0,
            usage: TokenUsage::default(),
            memory: started.memory,
            calls: Vec::new(),
            closed_approvals: Vec::new(),
            closed_inputs: Vec::new(),
            call_count: 0,
            waited_ms: 0,
            waiting_since: None,
            counted_until: Some(started_at),
            cause: started.cause.clone(),
        }
    }

    /// The status of an approval of this run at the time `now`; `None` if the run has no such approval.
    #[must_use]
    pub fn approval_status(&self, approval: ApprovalId, now: Timestamp) -> Option<InteractionStatus> {
        if self.closed_approvals.contains(&approval) {
            return Some(InteractionStatus::Closed);
        }
        let mut approvals = self.calls.iter().filter_map(|call| call.approval.as_ref());
        let found = approvals.find(|a| a.requested.approval_id == approval)?;
        Some(InteractionStatus::from_answer(found.resolved.as_ref(), found.requested.expires_at, now))
    }

    /// The status of a request for input of this run at the time `now`; `None` if the run has no such request.
    #[must_use]
    pub fn input_status(&self, input: InputId, now: Timestamp) -> Option<InteractionStatus> {
        if self.closed_inputs.contains(&input) {
            return Some(InteractionStatus::Closed);
        }
        let mut inputs = self.calls.iter().flat_map(|call| &call.inputs);
        let found = inputs.find(|i| i.requested.input_id == input)?;
        Some(InteractionStatus::from_answer(found.resolved.as_ref(), found.requested.expires_at, now))
    }

    /// How long the run has worked until `now`, not counting the time it waited for its user, or had no owner. A wall clock
    /// that jumps adds ten minutes at most.
    #[must_use]
    pub fn active_time(&self, now: Timestamp) -> Duration {
        let worked_until = |at: Timestamp| {
            let elapsed = at.saturating_duration_since(self.started_at);
            elapsed.saturating_sub(Duration::from_millis(self.waited_ms))
        };
        match (self.waiting_since, self.counted_until) {
            (Some(since), _) => worked_until(since),
            (None, Some(newest)) => {
                let uncounted = now.as_millis() - newest.as_millis();
                worked_until(newest) + Duration::from_millis(uncounted.clamp(0, MAX_COUNTED_INTERVAL_MS).unsigned_abs())
            }
            (None, None) => worked_until(now),
        }
    }

    /// Applies an event of the run. The end of a call and of the run itself are applied by the session's state.
    pub(crate) fn apply_event(&mut self, body: &EventBody, ts: Timestamp) {
        match body {
            EventBody::AssistantMessage(e) => self.apply_reply(e),
            EventBody::ContextCompacted(e) => self.usage += e.usage,
            EventBody::Warning(SessionWarning { dropped_call: Some(call), .. }) => self.usage += call.usage,
            EventBody::RunRecovered(e) => self.attempt = e.attempt,
            EventBody::ApprovalRequested(e) => {
                let lapsed = self
                    .open_call(&e.tool_call_id)
                    .and_then(|call| call.approval.replace(ApprovalState { requested: e.clone(), resolved: None }));
                self.closed_approvals.extend(lapsed.map(|approval| approval.requested.approval_id));
            }
            EventBody::ApprovalResolved(e) => {
                let mut approvals = self.calls.iter_mut().filter_map(|call| call.approval.as_mut());
                // The first decision counts.
                if let Some(approval) =
                    approvals.find(|a| a.requested.approval_id == e.approval_id && a.resolved.is_none())
                {
                    approval.resolved = Some(e.clone());
                }
            }
            EventBody::InputRequested(e) => {
                if let Some(call) = self.open_call(&e.tool_call_id) {
                    call.inputs.push(ElicitationState { requested: e.clone(), resolved: None });
                }
            }
            EventBody::InputResolved(e) => {
                let mut inputs = self.calls.iter_mut().flat_map(|call| &mut call.inputs);
                // The first answer counts.
                if let Some(input) = inputs.find(|i| i.requested.input_id == e.input_id && i.resolved.is_none()) {
                    input.resolved = Some(e.clone());
                }
            }
            EventBody::ToolStart(e) if e.sent => {
                if let Some(call) = self.open_call(&e.tool_call_id) {
                    call.started = Some(StartedToolCall {
                        at: ts,
                        effect: e.effect,
                        attempt: e.attempt,
                        server: e.server.clone(),
                    });
                }
            }
            _ => {}
        }
    }

    fn apply_reply(&mut self, reply: &AssistantMessageEvent) {
        self.steps += 1;
        self.usage += reply.usage;
        let calls = reply.tool_calls.iter().cloned();
        self.calls =
            calls.map(|call| OpenToolCall { call, approval: None, started: None, inputs: Vec::new() }).collect();
        self.call_count += u32::try_from(self.calls.len()).unwrap_or(u32::MAX);
    }

    /// Removes a call that has ended.
    pub(crate) fn end_call(&mut self, id: &ToolCallId) -> Option<ToolCall> {
        let at = self.calls.iter().position(|open| &open.call.id == id)?;
        let OpenToolCall { call, approval, inputs, .. } = self.calls.remove(at);
        self.closed_inputs.extend(inputs.into_iter().map(|input| input.requested.input_id));
        self.closed_approvals.extend(approval.map(|approval| approval.requested.approval_id));
        Some(call)
    }

    fn open_call(&mut self, id: &ToolCallId) -> Option<&mut OpenToolCall> {
        self.calls.iter_mut().find(|open| &open.call.id == id)
    }

    /// Counts the time since the event before, after an event was applied.
    pub(crate) fn count_time(&mut self, body: &EventBody, ts: Timestamp) {
        match (self.awaits_user(), self.waiting_since) {
            (false, Some(since)) => {
                self.waited_ms = self.waited_ms.saturating_add_signed(ts.as_millis() - since.as_millis());
                self.waiting_since = None;
            }
            (_, Some(_)) => {}
            (awaits_user, None) => {
                let interval = ts.as_millis() - self.counted_until.unwrap_or(ts).as_millis();
                // Between two owners, a run is not worked on.
                let is_resumed = matches!(body, EventBody::RunRecovered(_));
                let worked = if is_resumed { 0 } else { interval.clamp(0, MAX_COUNTED_INTERVAL_MS) };
                self.waited_ms = self.waited_ms.saturating_add_signed(interval - worked);
                self.waiting_since = awaits_user.then_some(ts);
            }
        }
        self.counted_until = Some(ts);
    }

    fn awaits_user(&self) -> bool {
        self.calls.iter().any(OpenToolCall::awaits_user)
    }

    /// Applies the next event of the run for a reader that follows one run and not the whole session.
    pub fn follow_event(&mut self, event: &SessionEvent) {
        self.apply_event(&event.body, event.ts);
        if let EventBody::ToolEnd(e) = &event.body {
            self.end_call(&e.tool_call_id);
        }
        self.count_time(&event.body, event.ts);
    }

    /// The approvals that wait for a decision.
    pub fn pending_approvals(&self) -> impl Iterator<Item = &ApprovalRequested> {
        let approvals = self.calls.iter().filter_map(|call| call.approval.as_ref());
        approvals.filter(|approval| approval.resolved.is_none()).map(|approval| &approval.requested)
    }

    /// The requests for input that wait for an answer.
    pub fn pending_inputs(&self) -> impl Iterator<Item = &InputRequested> {
        let inputs = self.calls.iter().flat_map(|call| &call.inputs);
        inputs.filter(|input| input.resolved.is_none()).map(|input| &input.requested)
    }

    /// Whether the run does nothing until its user answers: all its open calls wait for an answer, or for the turn of a change
    /// that does.
    #[must_use]
    pub fn is_blocked_on_user(&self) -> bool {
        let holds_changes = |call: &OpenToolCall| {
            call.awaits_user() && call.started.as_ref().is_some_and(|started| started.effect != ToolEffect::Read)
        };
        let are_changes_held = self.calls.iter().any(holds_changes);
        self.awaits_user()
            && self.calls.iter().all(|call| call.awaits_user() || (are_changes_held && call.awaits_its_turn()))
    }
}

/// A tool call that has not ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenToolCall {
    /// The call as the model wrote it.
    pub call: ToolCall,
    /// Its approval, if one was requested.
    pub approval: Option<ApprovalState>,
    /// Set once the call was about to be sent.
    pub started: Option<StartedToolCall>,
    /// Its server's requests for input.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<ElicitationState>,
}

impl OpenToolCall {
    fn awaits_user(&self) -> bool {
        self.approval.as_ref().is_some_and(|a| a.resolved.is_none()) || self.inputs.iter().any(|i| i.resolved.is_none())
    }

    /// Whether the call is approved and was not sent yet.
    fn awaits_its_turn(&self) -> bool {
        self.started.is_none() && self.approval.as_ref().is_some_and(|approval| approval.resolved.is_some())
    }

    /// The server of the call, as far as the log says it; empty otherwise.
    #[must_use]
    pub fn server(&self) -> &str {
        let started = self.started.as_ref().map(|started| started.server.as_str()).filter(|server| !server.is_empty());
        let asked = self.approval.as_ref().map(|approval| approval.requested.server.as_str());
        started.or(asked).unwrap_or_default()
    }
}

/// A request for approval and its decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApprovalState {
    /// The request.
    pub requested: ApprovalRequested,
    /// The decision, once there is one.
    pub resolved: Option<ApprovalResolved>,
}

/// An MCP server's request for input and its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ElicitationState {
    /// The request.
    pub requested: InputRequested,
    /// The answer, once there is one.
    pub resolved: Option<InputResolved>,
}

/// A tool call that was about to be sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StartedToolCall {
    /// When it was about to be sent.
    pub at: Timestamp,
    /// The effect of the call on the outside world.
    pub effect: ToolEffect,
    /// See [`ToolStart::attempt`](crate::ToolStart::attempt).
    pub attempt: u32,
    /// The server that the call goes to; empty in checkpoints of older versions.
    #[serde(default)]
    pub server: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{event::EventAuthor, ids::MessageId, message::StopReason};

    const RUN: &str = "01900000-0000-7000-8000-000000000001";

    fn call(id: &str) -> ToolCall {
        ToolCall { id: id.parse().unwrap(), name: "scale".into(), arguments: serde_json::json!({}) }
    }

    fn event(body: EventBody) -> SessionEvent {
        crate::EventDraft::in_run(RUN.parse().unwrap(), body).into_event(crate::SessionId::new(), 2)
    }

    fn asked(id: &str) -> EventBody {
        EventBody::ApprovalRequested(ApprovalRequested {
            approval_id: ApprovalId::new(),
            tool_call_id: id.parse().unwrap(),
            name: "scale".into(),
            arguments: serde_json::json!({}),
            effect: ToolEffect::Mutating,
            reason: "mutating".into(),
            preview: None,
            expires_at: Timestamp::now(),
            summary: String::new(),
            objects: Vec::new(),
            dependents: Vec::new(),
            server: "k8s".into(),
            cluster: None,
            preview_detail: None,
            replaces: None,
            answered_by: crate::ApprovalAudience::default(),
        })
    }

    fn started(id: &str, effect: ToolEffect) -> EventBody {
        EventBody::ToolStart(crate::ToolStart {
            tool_call_id: id.parse().unwrap(),
            name: "scale".into(),
            server: "k8s".into(),
            arguments: serde_json::json!({}),
            effect,
            attempt: 1,
            sent: true,
        })
    }

    fn input(id: &str) -> EventBody {
        EventBody::InputRequested(InputRequested {
            input_id: InputId::new(),
            tool_call_id: id.parse().unwrap(),
            server: "k8s".into(),
            message: "which?".into(),
            schema: None,
            url: None,
            expires_at: Timestamp::now(),
        })
    }

    fn approved(approval_id: ApprovalId) -> EventBody {
        EventBody::ApprovalResolved(ApprovalResolved {
            approval_id,
            decision: crate::ApprovalDecision::Approve,
            arguments: None,
            by: EventAuthor::System,
            comment: None,
            command_id: None,
        })
    }

    fn ended(id: &str) -> EventBody {
        EventBody::ToolEnd(crate::ToolEnd {
            tool_call_id: id.parse().unwrap(),
            name: "scale".into(),
            server: "k8s".into(),
            status: crate::ToolStatus::Ok,
            content: String::new(),
            structured: None,
            truncated: false,
            bytes: 0,
            duration_ms: 0,
        })
    }

    fn run_with(calls: &[&str]) -> OpenRun {
        let started = RunStarted {
            cause: RequestContext::default(),
            provider: "p".into(),
            model: "m".into(),
            attempt: 1,
            memory: false,
        };
        let mut run = OpenRun::from_started(RUN.parse().unwrap(), &started, Timestamp::now());
        run.follow_event(&event(EventBody::AssistantMessage(AssistantMessageEvent {
            message_id: MessageId::new(),
            content: String::new(),
            reasoning: None,
            tool_calls: calls.iter().map(|id| call(id)).collect(),
            citations: Vec::new(),
            usage: TokenUsage::default(),
            stop_reason: StopReason::ToolUse,
            provider: None,
            model: None,
            provider_data: None,
        })));
        run
    }

    fn is_blocked_after(run: &mut OpenRun, body: EventBody) -> bool {
        run.follow_event(&event(body));
        run.is_blocked_on_user()
    }

    #[test]
    fn run_is_blocked_once_all_open_calls_wait() {
        let mut run = run_with(&["a", "b", "r"]);
        assert!(!is_blocked_after(&mut run, started("r", ToolEffect::Read)));
        assert!(!is_blocked_after(&mut run, asked("a")));
        assert!(!is_blocked_after(&mut run, asked("b")), "the read call goes on");
        assert!(is_blocked_after(&mut run, ended("r")));
        let pending: Vec<ApprovalId> = run.pending_approvals().map(|asked| asked.approval_id).collect();
        assert_eq!(pending.len(), 2);
        assert!(!is_blocked_after(&mut run, approved(pending[0])), "the approved call goes on");
        assert!(!is_blocked_after(&mut run, started("a", ToolEffect::Mutating)));
        assert!(is_blocked_after(&mut run, input("a")), "the call asks its user");
        assert!(is_blocked_after(&mut run, approved(pending[1])), "a change has its turn after the one before");
        assert_eq!(run.pending_inputs().count(), 1);
    }

    #[test]
    fn run_without_calls_is_not_blocked() {
        assert!(!run_with(&[]).is_blocked_on_user());
        assert!(!run_with(&["a"]).is_blocked_on_user());
    }
}
