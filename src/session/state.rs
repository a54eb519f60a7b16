//! The projection: what a session is, as a pure fold of its log.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    ApprovalId, ApprovalRequested, ApprovalResolved, AssistantMessage, Cause, Day, Effect, Event, EventBody, InputId,
    InputRequested, InputResolved, Message, ProviderData, RunId, SessionId, Settings, Spent, Timestamp, ToolCall,
    ToolCallId, ToolMessage, Usage, UserId, UserMessage,
};

/// Characters of a title that is made from a message.
const TITLE_CHARS: usize = 60;
/// Characters of the preview in a list of sessions.
const PREVIEW_CHARS: usize = 160;

/// What a list of sessions shows of one: small, and of the same size however long the conversation is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SessionSummary {
    /// The session.
    pub session_id: SessionId,
    /// Whose it is.
    pub user_id: UserId,
    /// Its title; empty until somebody gives one or the first message makes one.
    pub title: String,
    /// The beginning of the newest message of the user or the model.
    pub preview: String,
    /// Messages of the user and the model so far.
    pub message_count: u64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its newest event was logged.
    pub updated_at: Timestamp,
    /// The seq of its newest event.
    pub last_seq: u64,
    /// Its settings.
    pub settings: Settings,
    /// The run in progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_run: Option<RunId>,
    /// What all its model calls used.
    pub usage: Usage,
    /// Whether something was said since the conversation was last looked at for memories.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub to_learn: bool,
    /// Whether a message is in the inbox, whose run has not begun. Not of the log: a store says it of the instant at which it
    /// is asked, and a fold never does.
    #[serde(skip)]
    pub waiting: bool,
}

impl SessionSummary {
    /// The summary after the log's first event; `None` when `event` is not one that begins a session.
    #[must_use]
    pub fn begin(event: &Event) -> Option<Self> {
        let EventBody::SessionCreated(created) = &event.body else { return None };
        Some(Self {
            session_id: event.session_id,
            user_id: created.user_id.clone(),
            title: created.title.clone().unwrap_or_default(),
            preview: String::new(),
            message_count: 0,
            created_at: event.ts,
            updated_at: event.ts,
            last_seq: event.seq,
            settings: created.settings.clone(),
            open_run: None,
            usage: Usage::default(),
            to_learn: false,
            waiting: false,
        })
    }

    /// Whether a message is being answered, or is about to be.
    #[must_use]
    pub fn is_processing(&self) -> bool {
        self.open_run.is_some() || self.waiting
    }

    /// Whether the log says that there is something to do: a run to go on with, or memories to find.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.open_run.is_some() || self.to_learn
    }

    /// Takes in the next event.
    pub fn apply(&mut self, event: &Event) {
        debug_assert_eq!(event.seq, self.last_seq + 1, "a projection takes the log's events in their order, each once");
        self.last_seq = event.seq;
        self.updated_at = event.ts;
        match &event.body {
            EventBody::SettingsChanged(e) => self.settings.clone_from(&e.settings),
            EventBody::TitleChanged(e) => self.title.clone_from(&e.title),
            EventBody::UserMessage(e) => {
                self.message_count += 1;
                self.preview = one_line(&e.content, PREVIEW_CHARS);
            }
            EventBody::AssistantMessage(e) => {
                self.message_count += 1;
                self.usage += e.usage;
                if !e.content.trim().is_empty() {
                    self.preview = one_line(&e.content, PREVIEW_CHARS);
                }
            }
            EventBody::ContextCompacted(e) => self.usage += e.usage,
            EventBody::MemorySaved(e) => {
                self.usage += e.usage;
                self.to_learn = false;
            }
            EventBody::RunStarted(e) => {
                self.open_run = event.run_id;
                self.to_learn |= e.memory;
            }
            EventBody::RunFinished(_) | EventBody::RunFailed(_) => self.open_run = None,
            _ => {}
        }
    }
}

/// The whole projection "as of" the event [`SessionSummary::last_seq`]; stored, it is a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionState {
    /// The small part.
    pub summary: SessionSummary,
    /// The conversation. Shared, because a run takes a copy of the list for every model call.
    pub messages: Vec<Arc<Message>>,
    /// What stands for the oldest messages when the model is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compaction: Option<Compaction>,
    /// The codes of the warnings since the settings were last changed: what is to be said once is not said again.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub warned: BTreeSet<String>,
    /// The newest event that was looked at for memories.
    #[serde(default)]
    pub learned_up_to: u64,
    /// What was used on the day of the newest reply.
    #[serde(default)]
    pub spent: Spent,
    /// The run in progress.
    pub run: Option<OpenRun>,
}

/// The run in progress: all that a new owner needs to go on with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenRun {
    /// The run.
    pub run_id: RunId,
    /// When it began.
    pub started_at: Timestamp,
    /// The provider it asks.
    pub provider: String,
    /// The model it asks.
    pub model: String,
    /// 1, and one more with every `run_recovered`.
    pub attempt: u32,
    /// Replies of the model so far.
    pub steps: u32,
    /// What they used.
    pub usage: Usage,
    /// See [`super::RunStarted::memory`].
    #[serde(default)]
    pub memory: bool,
    /// Tool calls of the newest reply that have not ended.
    pub calls: Vec<OpenCall>,
    /// Approvals of calls that have ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub closed_approvals: Vec<ApprovalId>,
    /// Questions of calls that have ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub closed_inputs: Vec<InputId>,
    /// Tool calls of all its replies.
    #[serde(default)]
    pub call_count: u32,
    /// How long it waited for its user so far, in ms: not counted in what a run may take.
    #[serde(default)]
    pub waited_ms: u64,
    /// Since when it waits for its user, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_since: Option<Timestamp>,
    /// The request that it came from.
    #[serde(default, skip_serializing_if = "Cause::is_empty")]
    pub cause: Cause,
}

impl OpenRun {
    /// Whether an approval of this run was answered, or its call has ended without; `None`: there is no such approval.
    #[must_use]
    pub fn is_answered(&self, approval: ApprovalId) -> Option<bool> {
        if self.closed_approvals.contains(&approval) {
            return Some(true);
        }
        let mut approvals = self.calls.iter().filter_map(|call| call.approval.as_ref());
        approvals.find(|a| a.requested.approval_id == approval).map(|a| a.resolved.is_some())
    }

    /// The same for a question.
    #[must_use]
    pub fn is_input_answered(&self, input: InputId) -> Option<bool> {
        if self.closed_inputs.contains(&input) {
            return Some(true);
        }
        let mut inputs = self.calls.iter().flat_map(|call| &call.inputs);
        inputs.find(|i| i.requested.input_id == input).map(|i| i.resolved.is_some())
    }

    /// How long it has taken until `now`, what it waited for its user not counted.
    #[must_use]
    pub fn worked(&self, now: Timestamp) -> Duration {
        let waiting = self.waiting_since.map_or(Duration::ZERO, |since| now.since(since));
        now.since(self.started_at).saturating_sub(Duration::from_millis(self.waited_ms) + waiting)
    }

    /// Whether an answer of its user is due.
    fn waits(&self) -> bool {
        self.calls.iter().any(|call| {
            call.approval.as_ref().is_some_and(|a| a.resolved.is_none())
                || call.inputs.iter().any(|i| i.resolved.is_none())
        })
    }

    /// Notes whether the run waits for its user from now on.
    fn watch_the_clock(&mut self, now: Timestamp) {
        match (self.waits(), self.waiting_since) {
            (true, None) => self.waiting_since = Some(now),
            (false, Some(since)) => {
                self.waited_ms += u64::try_from(now.since(since).as_millis()).unwrap_or(u64::MAX);
                self.waiting_since = None;
            }
            _ => {}
        }
    }
}

/// A summary of the oldest messages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compaction {
    /// The event that it is of.
    pub seq: u64,
    /// The newest message that it stands for.
    pub up_to_seq: u64,
    /// The summary.
    pub summary: Arc<str>,
}

/// A tool call that the model asked for and that has not ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenCall {
    /// The call as the model wrote it.
    pub call: ToolCall,
    /// The request for approval, if one was made.
    pub approval: Option<Approval>,
    /// Set once the call was about to be sent.
    pub started: Option<StartedCall>,
    /// What its server asked the user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Input>,
}

/// A request for approval and its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Approval {
    /// What was asked.
    pub requested: ApprovalRequested,
    /// What was answered.
    pub resolved: Option<ApprovalResolved>,
}

/// A question of an MCP server and its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// What was asked.
    pub requested: InputRequested,
    /// What was answered.
    pub resolved: Option<InputResolved>,
}

/// A tool call that was about to be sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StartedCall {
    /// When.
    pub at: Timestamp,
    /// What the call does to the world.
    pub effect: Effect,
    /// See [`super::ToolStart::attempt`].
    pub attempt: u32,
    /// The server that it goes to; empty in what older versions wrote.
    #[serde(default)]
    pub server: String,
}

impl SessionState {
    /// The state after the log's first event; `None` when `event` is not one that begins a session.
    #[must_use]
    pub fn begin(event: &Event) -> Option<Self> {
        let summary = SessionSummary::begin(event)?;
        Some(Self {
            summary,
            messages: Vec::new(),
            run: None,
            compaction: None,
            warned: BTreeSet::new(),
            learned_up_to: 0,
            spent: Spent::default(),
        })
    }

    /// Folds a log, or what comes after a checkpoint.
    #[must_use]
    pub fn fold<'a>(checkpoint: Option<Self>, events: impl IntoIterator<Item = &'a Event>) -> Option<Self> {
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

    /// About how many bytes a checkpoint of it takes; the counterpart of [`Event::weight`].
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.messages.iter().map(|m| Self::message_weight(m)).sum()
    }

    fn message_weight(message: &Message) -> u64 {
        let content = match message {
            Message::User(m) => m.content.len() + m.recalled.iter().map(|note| note.content.len()).sum::<usize>(),
            Message::Assistant(m) => {
                m.content.len()
                    + m.reasoning.as_ref().map_or(0, String::len)
                    + m.provider_data.as_ref().map_or(0, ProviderData::weight)
            }
            Message::Tool(m) => m.content.len(),
        };
        256 + content as u64
    }

    /// Forgets the oldest turns until the rest weighs at most `keep`; the newest turn stays, whatever it weighs.
    pub fn forget_oldest(&mut self, keep: u64) {
        let (mut left, mut cut) = (self.weight(), 0);
        for (at, message) in self.messages.iter().enumerate() {
            if matches!(message.as_ref(), Message::User(_)) {
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
    pub fn apply(&mut self, event: &Event) {
        self.summary.apply(event);
        self.take_in(event);
        if let Some(run) = &mut self.run {
            run.watch_the_clock(event.ts);
        }
    }

    fn take_in(&mut self, event: &Event) {
        let (seq, ts) = (event.seq, event.ts);
        match &event.body {
            EventBody::UserMessage(e) => {
                let (message_id, content) = (e.message_id, e.content.clone());
                let message = UserMessage { message_id, seq, ts, content, memory: false, recalled: Vec::new() };
                self.messages.push(Arc::new(Message::User(message)));
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
                    usage: Usage::default(),
                    memory: e.memory,
                    calls: Vec::new(),
                });
            }
            EventBody::AssistantMessage(e) => {
                self.messages.push(Arc::new(Message::Assistant(AssistantMessage {
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
                        .map(|call| OpenCall { call: call.clone(), approval: None, started: None, inputs: Vec::new() })
                        .collect();
                    run.call_count += u32::try_from(run.calls.len()).unwrap_or(u32::MAX);
                }
            }
            EventBody::ApprovalRequested(e) => {
                if let Some(call) = self.open_call(&e.tool_call_id) {
                    call.approval = Some(Approval { requested: e.clone(), resolved: None });
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
                    call.inputs.push(Input { requested: e.clone(), resolved: None });
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
                    call.started =
                        Some(StartedCall { at: ts, effect: e.effect, attempt: e.attempt, server: e.server.clone() });
                }
            }
            EventBody::ToolEnd(e) => {
                let Some(run) = &mut self.run else { return };
                let Some(at) = run.calls.iter().position(|c| c.call.id == e.tool_call_id) else { return };
                let OpenCall { call, approval, inputs, .. } = run.calls.remove(at);
                run.closed_inputs.extend(inputs.into_iter().map(|input| input.requested.input_id));
                run.closed_approvals.extend(approval.map(|approval| approval.requested.approval_id));
                self.messages.push(Arc::new(Message::Tool(ToolMessage {
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
                self.compaction = Some(Compaction { seq, up_to_seq: e.up_to_seq, summary: e.summary.as_str().into() });
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
        let newest = self.messages.iter_mut().rev().find(|message| matches!(message.as_ref(), Message::User(_)))?;
        match Arc::make_mut(newest) {
            Message::User(message) => Some(message),
            _ => None,
        }
    }

    /// Counts what was used, by the run's own model where none is named.
    pub fn spend(&mut self, ts: Timestamp, provider: Option<&str>, model: Option<&str>, usage: Usage) {
        let (own_provider, own_model) =
            self.run.as_ref().map_or(("", ""), |run| (run.provider.as_str(), run.model.as_str()));
        self.spent.add(Day::of(ts), provider.unwrap_or(own_provider), model.unwrap_or(own_model), usage);
    }

    fn open_call(&mut self, id: &ToolCallId) -> Option<&mut OpenCall> {
        self.run.as_mut()?.calls.iter_mut().find(|c| &c.call.id == id)
    }
}

/// A session's title, made from its first message.
#[must_use]
pub fn title_from(message: &str) -> String {
    one_line(message, TITLE_CHARS)
}

/// The beginning of a text with its white space folded, at most `max` characters, with `…` where something was cut.
fn one_line(text: &str, max: usize) -> String {
    let mut line = String::new();
    let mut left = max;
    for word in text.split_whitespace() {
        let gap = usize::from(!line.is_empty());
        let length = word.chars().count();
        if length + gap > left {
            if line.is_empty() {
                line.extend(word.chars().take(max.saturating_sub(1)));
            }
            line.push('…');
            return line;
        }
        if gap == 1 {
            line.push(' ');
        }
        line.push_str(word);
        left -= length + gap;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Actor, EventDraft, SessionCreated},
        *,
    };

    #[test]
    fn a_title_is_one_line_of_bounded_length_cut_between_words() {
        assert_eq!(title_from("  why is\n payments   down? "), "why is payments down?");
        let long = title_from(&"word ".repeat(40));
        assert!(long.chars().count() <= TITLE_CHARS + 1 && long.ends_with("word…"), "{long}");
        let one = title_from(&"ä".repeat(200));
        assert_eq!(one.chars().count(), TITLE_CHARS);
    }

    #[test]
    fn the_oldest_turns_are_forgotten_and_the_newest_never() {
        let message = |content: &str| Arc::new(Message::User(UserMessage { seq: 1, ..UserMessage::unlogged(content) }));
        let settings = Settings::of("p", "m");
        let (user_id, by) = ("anna".parse().unwrap(), Actor::System);
        let created = EventBody::SessionCreated(SessionCreated { user_id, title: None, settings, by });
        let mut state = SessionState::begin(&EventDraft::new(created).at(SessionId::new(), 1)).unwrap();
        state.messages = (0..5).map(|n| message(&format!("{n}").repeat(1000))).collect();
        let kept = |state: &SessionState| -> Vec<char> {
            state
                .messages
                .iter()
                .map(|m| match m.as_ref() {
                    Message::User(m) => m.content.chars().next().unwrap(),
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
