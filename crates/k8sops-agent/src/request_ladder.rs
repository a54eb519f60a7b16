//! The ladder of a rejected conversation: it is sent again in forms that ask less and less of the server, until one is accepted.
//!
//! ```text
//! as it is ─▶ strict ─▶ plain ─▶ newest outputs left out ─▶ all outputs ─▶ history ─▶ newest message, without tools
//! ```
//!
//! What a rejection names is learned by the model's client and needs no step. A step is remembered for the model in the log, so
//! that the next request and the next owner begin with it, and a form also in the process. Only what helped is remembered: if it
//! was the content, the conversation keeps its form.

use std::sync::Arc;

use k8sops_core::{
    ChatMessage, ConversationForm, RequestForm, SessionWarning, SimplificationStep, SimplifiedRequest, ToolMessage,
};
use k8sops_models::{ModelError, ModelErrorKind};

use crate::{context::messages_after_summary, model_selection::ModelCandidate, run_log::RunView};

/// The code of the warning that a conversation is simplified.
const REQUEST_SIMPLIFIED: &str = "request_simplified";
/// Stands for an output that is left out.
const OUTPUT_LEFT_OUT: &str =
    "[left out: the model's provider rejected the request with this output in it. Go on without it.]";

/// All steps, in the order in which they are tried.
const STEPS: [SimplificationStep; 6] = [
    SimplificationStep::Strict,
    SimplificationStep::Plain,
    SimplificationStep::NewestOutputs,
    SimplificationStep::AllOutputs,
    SimplificationStep::History,
    SimplificationStep::Bare,
];

/// The simplification of a conversation for one model and one reply.
pub(crate) struct RequestLadder {
    /// What was known to be accepted before.
    accepted: ConversationForm,
    current: ConversationForm,
    /// The step that was taken last.
    step: Option<SimplificationStep>,
    /// The text of the first rejection.
    reason: String,
    facts: ConversationFacts,
}

/// What of a conversation can be simplified.
struct ConversationFacts {
    /// The number of messages of the conversation.
    messages: usize,
    has_calls: bool,
    /// The seq of the newest user message.
    newest_user: u64,
    /// The seqs of the outputs after the newest reply.
    newest_outputs: Vec<u64>,
    /// The seqs of all outputs.
    outputs: Vec<u64>,
}

impl ConversationFacts {
    fn read_view(view: &RunView) -> Self {
        let messages = messages_after_summary(view);
        let tool_seq = |message: &Arc<ChatMessage>| match &**message {
            ChatMessage::Tool(message) => Some(message.seq),
            _ => None,
        };
        let is_reply = |message: &Arc<ChatMessage>| matches!(**message, ChatMessage::Assistant(_));
        let after_reply = messages.iter().rposition(is_reply).map_or(0, |at| at + 1);
        let users = messages.iter().rev().filter(|message| matches!(***message, ChatMessage::User(_)));
        let outputs: Vec<u64> = messages.iter().filter_map(tool_seq).collect();
        Self {
            messages: messages.len() + usize::from(view.compaction.is_some()),
            has_calls: !outputs.is_empty()
                || messages.iter().any(|m| matches!(&**m, ChatMessage::Assistant(m) if !m.tool_calls.is_empty())),
            newest_user: users.map(|message| message.seq()).next().unwrap_or_default(),
            newest_outputs: messages[after_reply..].iter().filter_map(tool_seq).collect(),
            outputs,
        }
    }
}

impl RequestLadder {
    /// Starts with what the log and this process know of the model.
    pub(crate) fn new(view: &RunView, candidate: &ModelCandidate) -> Self {
        let accepted = candidate.known_form(&view.simplified);
        Self {
            current: accepted.clone(),
            accepted,
            step: None,
            reason: String::new(),
            facts: ConversationFacts::read_view(view),
        }
    }

    /// Returns how the conversation is sent.
    pub(crate) fn form(&self) -> &ConversationForm {
        &self.current
    }

    /// Takes the next step after a rejection. Returns false if there is none that changes the request, or if another form of
    /// the conversation is no help.
    pub(crate) fn climb(&mut self, error: &ModelError) -> bool {
        let is_content = error.kind == ModelErrorKind::ContentFiltered;
        // The first message of a session has no form but this one.
        if !is_content && !error.is_rejected_request() || self.facts.messages < 2 {
            return false;
        }
        if is_content && matches!(self.step, Some(SimplificationStep::Strict | SimplificationStep::Plain)) {
            // The form was the first problem, and the content is the next.
            self.accepted.form = self.current.form;
        }
        if self.reason.is_empty() {
            self.reason = error.to_string();
        }
        let next = STEPS.into_iter().filter(|step| self.step.is_none_or(|taken| *step > taken)).find_map(|step| {
            if is_content && step < SimplificationStep::NewestOutputs {
                return None;
            }
            self.form_after(step).filter(|form| *form != self.current).map(|form| (step, form))
        });
        let Some((step, form)) = next else { return false };
        tracing::info!(step = step.as_str(), code = error.code(), "conversation simplified for another attempt");
        self.step = Some(step);
        self.current = form;
        true
    }

    fn form_after(&self, step: SimplificationStep) -> Option<ConversationForm> {
        let facts = &self.facts;
        let mut form = self.current.clone();
        match step {
            SimplificationStep::Strict => form.form = form.form.max(RequestForm::Strict),
            SimplificationStep::Plain if facts.has_calls => form.form = form.form.max(RequestForm::Plain),
            SimplificationStep::Plain => return None,
            SimplificationStep::NewestOutputs => form.outputs_left_out.extend(&facts.newest_outputs),
            SimplificationStep::AllOutputs => form.outputs_left_out.extend(&facts.outputs),
            SimplificationStep::History => {
                form.left_out_up_to = form.left_out_up_to.max(facts.newest_user.saturating_sub(1));
            }
            SimplificationStep::Bare => form.form = RequestForm::Bare,
        }
        Some(form)
    }

    /// Remembers what helped after a reply. Returns the warning if it is news.
    pub(crate) fn finish(&self, candidate: &ModelCandidate) -> Option<SessionWarning> {
        let step = self.step?;
        let is_form = matches!(step, SimplificationStep::Strict | SimplificationStep::Plain);
        let mut remembered = self.current.clone();
        if is_form {
            candidate.form.remember(self.current.form);
        } else {
            remembered.form = self.accepted.form;
        }
        if step == SimplificationStep::Bare {
            // Outputs are part of the history that is left out.
            remembered.left_out_up_to = self.facts.newest_user.saturating_sub(1);
        }
        remembered.outputs_left_out.retain(|seq| *seq > remembered.left_out_up_to);
        let name = candidate.name();
        let done = match step {
            SimplificationStep::Strict => "it is sent by stricter rules from now on",
            SimplificationStep::Plain => "its tool calls and their results are sent as text from now on",
            SimplificationStep::NewestOutputs => "the newest outputs of tools are left out",
            SimplificationStep::AllOutputs => "the outputs of tools so far are left out",
            SimplificationStep::History => "the conversation before the newest message is left out",
            SimplificationStep::Bare => {
                "only the newest message was sent, without tools, and the conversation before it stays left out"
            }
        };
        let message = format!("{name} rejected the conversation ({}); {done}", self.reason);
        let simplified = SimplifiedRequest {
            provider: candidate.provider.clone(),
            model: candidate.model.clone(),
            step,
            remembered,
        };
        Some(SessionWarning { simplified: Some(simplified), ..SessionWarning::new(REQUEST_SIMPLIFIED, message) })
    }
}

/// Returns the part of a conversation that `form` leaves. `messages` begins with the summary, if there is one.
pub(crate) fn simplify_conversation(
    view: &RunView,
    messages: Vec<Arc<ChatMessage>>,
    form: &ConversationForm,
) -> Vec<Arc<ChatMessage>> {
    if *form == ConversationForm::default() {
        return messages;
    }
    if form.form == RequestForm::Bare {
        let newest = messages.into_iter().rev().find(|message| matches!(**message, ChatMessage::User(_)));
        return newest.into_iter().collect();
    }
    let summarized_up_to = view.compaction.as_ref().map(|compaction| compaction.up_to_seq);
    let is_kept =
        |message: &Arc<ChatMessage>| message.seq() > form.left_out_up_to || Some(message.seq()) == summarized_up_to;
    messages.into_iter().filter(is_kept).map(|message| with_stub(message, form)).collect()
}

/// Returns the messages whose content `form` keeps, for a request that quotes them.
#[must_use]
pub fn without_rejected_content(messages: &[Arc<ChatMessage>], form: &ConversationForm) -> Vec<Arc<ChatMessage>> {
    let kept = messages.iter().filter(|message| message.seq() > form.left_out_up_to);
    kept.map(|message| with_stub(Arc::clone(message), form)).collect()
}

/// Replaces an output that `form` leaves out.
fn with_stub(message: Arc<ChatMessage>, form: &ConversationForm) -> Arc<ChatMessage> {
    match &*message {
        ChatMessage::Tool(tool) if form.outputs_left_out.contains(&tool.seq) => {
            Arc::new(ChatMessage::Tool(ToolMessage { content: OUTPUT_LEFT_OUT.to_owned(), ..tool.clone() }))
        }
        _ => message,
    }
}
