//! The projection: what a session is, as a pure fold of its log.

use std::{collections::BTreeSet, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    ApprovalRequested, AssistantMessage, ChatMessage, DailyUsage, ElicitationState, EventBody, InputRequested, OpenRun,
    OpenToolCall, PendingApproval, ProviderData, SessionEvent, SessionSummary, StartedToolCall, Timestamp, TokenUsage,
    ToolCallId, ToolMessage, UsageDay, UserMessage,
};

/// The whole projection "as of" the event [`SessionSummary::last_seq`]; stored, it is a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionState {
    /// The small part.
    pub summary: SessionSummary,
    /// The conversation. Shared, because a run takes a copy of the list for every model call.
    pub messages: Vec<Arc<ChatMessage>>,
    /// What stands for the oldest messages when the model is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compaction: Option<ContextCompaction>,
    /// The codes of the warnings since the settings were last changed: what is to be said once is not said again.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub warned: BTreeSet<String>,
    /// The newest event that was looked at for memories.
    #[serde(default)]
    pub learned_up_to: u64,
    /// What was used on the day of the newest reply.
    #[serde(default)]
    pub spent: DailyUsage,
    /// The run in progress.
    pub run: Option<OpenRun>,
}

/// A summary of the oldest messages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContextCompaction {
    /// The event that it is of.
    pub seq: u64,
    /// The newest message that it stands for.
    pub up_to_seq: u64,
    /// The summary.
    pub summary: Arc<str>,
}

impl SessionState {
    /// The state after the log's first event; `None` when `event` is not one that begins a session.
    #[must_use]
    pub fn begin(event: &SessionEvent) -> Option<Self> {
        let summary = SessionSummary::begin(event)?;
        Some(Self {
            summary,
            messages: Vec::new(),
            run: None,
            compaction: None,
            warned: BTreeSet::new(),
            learned_up_to: 0,
            spent: DailyUsage::default(),
        })
    }

    /// Folds a log, or what comes after a checkpoint.
    #[must_use]
    pub fn fold<'a>(checkpoint: Option<Self>, events: impl IntoIterator<Item = &'a SessionEvent>) -> Option<Self> {
        let mut events = events.into_iter();
        let mut state = match checkpoint {
            Some(state) => state,
            None => Self::begin(events.next()?)?,
        };
        for event in events {
            state.apply(event);
        }
        Some(state)
    }

    /// The seq of the newest event that is in this state.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.summary.last_seq
    }

    /// About how many bytes a checkpoint of it takes; the counterpart of [`SessionEvent::weight`].
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.messages.iter().map(|m| Self::message_weight(m)).sum()
    }

    fn message_weight(message: &ChatMessage) -> u64 {
        let content = match message {
            ChatMessage::User(m) => m.content.len() + m.recalled.iter().map(|note| note.content.len()).sum::<usize>(),
            ChatMessage::Assistant(m) => {
                m.content.len()
                    + m.reasoning.as_ref().map_or(0, String::len)
                    + m.provider_data.as_ref().map_or(0, ProviderData::weight)
            }
            ChatMessage::Tool(m) => m.content.len(),
        };
        256 + content as u64
    }

    /// Forgets the oldest turns until the rest weighs at most `keep`; the newest turn stays, whatever it weighs.
    pub fn forget_oldest(&mut self, keep: u64) {
        let (mut left, mut cut) = (self.weight(), 0);
        for (at, message) in self.messages.iter().enumerate() {
            if matches!(message.as_ref(), ChatMessage::User(_)) {
                cut = at;
                if left <= keep {
                    break;
                }
            }
            left -= Self::message_weight(message);
        }
        self.messages.drain(..cut);
    }

    /// The approvals that wait for an answer.
    pub fn pending_approvals(&self) -> impl Iterator<Item = &ApprovalRequested> {
        self.run
            .iter()
            .flat_map(|run| &run.calls)
            .filter_map(|call| call.approval.as_ref().filter(|a| a.resolved.is_none()).map(|a| &a.requested))
    }

    /// The questions that wait for an answer.
    pub fn pending_inputs(&self) -> impl Iterator<Item = &InputRequested> {
        let inputs = self.run.iter().flat_map(|run| &run.calls).flat_map(|call| &call.inputs);
        inputs.filter(|input| input.resolved.is_none()).map(|input| &input.requested)
    }

    /// Takes in the next event.
    pub fn apply(&mut self, event: &SessionEvent) {
        self.summary.apply(event);
        self.take_in(event);
        if let Some(run) = &mut self.run {
            run.watch_the_clock(event.ts);
        }
    }

    fn take_in(&mut self, event: &SessionEvent) {
        let (seq, ts) = (event.seq, event.ts);
        match &event.body {
            EventBody::UserMessage(e) => {
                let (message_id, content) = (e.message_id, e.content.clone());
                let message = UserMessage { message_id, seq, ts, content, memory: false, recalled: Vec::new() };
                self.messages.push(Arc::new(ChatMessage::User(message)));
            }
            EventBody::RunStarted(e) => {
                if let Some(message) = self.answered().filter(|_| e.memory) {
                    message.memory = true;
                }
                // A run event without a run id is not written by any version; a log that has one is read without a panic.
                self.run = event.run_id.map(|run_id| OpenRun {
                    closed_approvals: Vec::new(),
                    closed_inputs: Vec::new(),
                    call_count: 0,
                    waited_ms: 0,
                    waiting_since: None,
                    cause: e.cause.clone(),
                    run_id,
                    started_at: ts,
                    provider: e.provider.clone(),
                    model: e.model.clone(),
                    attempt: e.attempt,
                    steps: 0,
                    usage: TokenUsage::default(),
                    memory: e.memory,
                    calls: Vec::new(),
                });
            }
            EventBody::AssistantMessage(e) => {
                self.messages.push(Arc::new(ChatMessage::Assistant(AssistantMessage {
                    message_id: e.message_id,
                    seq,
                    ts,
                    run_id: event.run_id,
                    content: e.content.clone(),
                    reasoning: e.reasoning.clone(),
                    tool_calls: e.tool_calls.clone(),
                    stop_reason: e.stop_reason,
                    provider: e.provider.clone(),
                    model: e.model.clone(),
                    provider_data: e.provider_data.clone(),
                    usage: e.usage,
                })));
                self.spend(ts, e.provider.as_deref(), e.model.as_deref(), e.usage);
                if let Some(run) = &mut self.run {
                    run.steps += 1;
                    run.usage += e.usage;
                    run.calls = e
                        .tool_calls
                        .iter()
                        .map(|call| OpenToolCall {
                            call: call.clone(),
                            approval: None,
                            started: None,
                            inputs: Vec::new(),
                        })
                        .collect();
                    run.call_count += u32::try_from(run.calls.len()).unwrap_or(u32::MAX);
                }
            }
            EventBody::ApprovalRequested(e) => {
                if let Some(call) = self.open_call(&e.tool_call_id) {
                    call.approval = Some(PendingApproval { requested: e.clone(), resolved: None });
                }
            }
            EventBody::ApprovalResolved(e) => {
                let approvals = self.run.iter_mut().flat_map(|run| &mut run.calls).filter_map(|c| c.approval.as_mut());
                // The first answer counts.
                if let Some(a) =
                    approvals.into_iter().find(|a| a.requested.approval_id == e.approval_id && a.resolved.is_none())
                {
                    a.resolved = Some(e.clone());
                }
            }
            EventBody::InputRequested(e) => {
                if let Some(call) = self.open_call(&e.tool_call_id) {
                    call.inputs.push(ElicitationState { requested: e.clone(), resolved: None });
                }
            }
            EventBody::InputResolved(e) => {
                let inputs = self.run.iter_mut().flat_map(|run| &mut run.calls).flat_map(|c| &mut c.inputs);
                // The first answer counts.
                if let Some(i) = inputs.into_iter().find(|i| i.requested.input_id == e.input_id && i.resolved.is_none())
                {
                    i.resolved = Some(e.clone());
                }
            }
            EventBody::ToolStart(e) => {
                if let Some(call) = self.open_call(&e.tool_call_id) {
                    call.started = Some(StartedToolCall {
                        at: ts,
                        effect: e.effect,
                        attempt: e.attempt,
                        server: e.server.clone(),
                    });
                }
            }
            EventBody::ToolEnd(e) => {
                let Some(run) = &mut self.run else { return };
                let Some(at) = run.calls.iter().position(|c| c.call.id == e.tool_call_id) else { return };
                let OpenToolCall { call, approval, inputs, .. } = run.calls.remove(at);
                run.closed_inputs.extend(inputs.into_iter().map(|input| input.requested.input_id));
                run.closed_approvals.extend(approval.map(|approval| approval.requested.approval_id));
                self.messages.push(Arc::new(ChatMessage::Tool(ToolMessage {
                    tool_call_id: call.id,
                    seq,
                    ts,
                    name: call.name,
                    status: e.status,
                    content: e.content.clone(),
                })));
            }
            EventBody::RunRecovered(e) => {
                if let Some(run) = &mut self.run {
                    run.attempt = e.attempt;
                }
            }
            EventBody::RunFinished(_) | EventBody::RunFailed(_) => self.run = None,
            EventBody::ContextCompacted(e) => {
                self.compaction =
                    Some(ContextCompaction { seq, up_to_seq: e.up_to_seq, summary: e.summary.as_str().into() });
                self.spend(ts, e.provider.as_deref(), e.model.as_deref(), e.usage);
                if let Some(run) = &mut self.run {
                    run.usage += e.usage;
                }
            }
            EventBody::MemoryRecalled(e) => {
                if let Some(message) = self.answered() {
                    message.recalled.clone_from(&e.memories);
                }
            }
            EventBody::MemorySaved(e) => {
                self.learned_up_to = e.up_to_seq;
                self.spend(ts, e.provider.as_deref(), e.model.as_deref(), e.usage);
            }
            EventBody::Warning(e) => drop(self.warned.insert(e.code.clone())),
            EventBody::SettingsChanged(_) => self.warned.clear(),
            EventBody::SessionCreated(_) | EventBody::TitleChanged(_) => {}
        }
    }

    /// The message that the run in progress answers: the newest of the user.
    fn answered(&mut self) -> Option<&mut UserMessage> {
        let newest = self.messages.iter_mut().rev().find(|message| matches!(message.as_ref(), ChatMessage::User(_)))?;
        match Arc::make_mut(newest) {
            ChatMessage::User(message) => Some(message),
            _ => None,
        }
    }

    /// Counts what was used, by the run's own model where none is named.
    fn spend(&mut self, ts: Timestamp, provider: Option<&str>, model: Option<&str>, usage: TokenUsage) {
        let (own_provider, own_model) =
            self.run.as_ref().map_or(("", ""), |run| (run.provider.as_str(), run.model.as_str()));
        self.spent.add(UsageDay::of(ts), provider.unwrap_or(own_provider), model.unwrap_or(own_model), usage);
    }

    fn open_call(&mut self, id: &ToolCallId) -> Option<&mut OpenToolCall> {
        self.run.as_mut()?.calls.iter_mut().find(|c| &c.call.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{EventAuthor, EventDraft, SessionCreated, SessionId, SessionSettings},
        *,
    };

    #[test]
    fn the_oldest_turns_are_forgotten_and_the_newest_never() {
        let message =
            |content: &str| Arc::new(ChatMessage::User(UserMessage { seq: 1, ..UserMessage::unlogged(content) }));
        let settings = SessionSettings::of("p", "m");
        let (user_id, by) = ("anna".parse().unwrap(), EventAuthor::System);
        let created = EventBody::SessionCreated(SessionCreated { user_id, title: None, settings, by });
        let mut state = SessionState::begin(&EventDraft::new(created).at(SessionId::new(), 1)).unwrap();
        state.messages = (0..5).map(|n| message(&format!("{n}").repeat(1000))).collect();
        let kept = |state: &SessionState| -> Vec<char> {
            state
                .messages
                .iter()
                .map(|m| match m.as_ref() {
                    ChatMessage::User(m) => m.content.chars().next().unwrap(),
                    _ => '?',
                })
                .collect()
        };
        state.forget_oldest(10_000);
        assert_eq!(kept(&state).len(), 5);
        state.forget_oldest(3_000);
        assert_eq!(kept(&state), ['3', '4']);
        state.forget_oldest(0);
        assert_eq!(kept(&state), ['4']);
    }
}
