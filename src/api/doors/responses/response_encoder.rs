//! Turns a run into the events of a response, and into the response as a whole.

use std::collections::HashMap;

use k8sops_core::{
    AssistantMessageEvent, EventBody, MessageId, RunOutcome, SessionEvent, StreamFrame, TextDelta, Timestamp,
    TokenUsage, ToolCallId, ToolEnd, ToolStart, TransientEvent,
};
use serde_json::{Value, json};

use super::{
    event_number::TextKind,
    event_writer::EventWriter,
    item_text::OpenText,
    response_id::{ApprovalItemId, ResponseId},
    response_item::{CallItem, ItemStatus, MessagePhase, approval_item, text_item, text_item_id},
    response_resource::{ResponseError, ResponseResource, ResponseStatus},
};
use crate::api::doors::{
    run_cursor::{RunInterruption, RunRest},
    turn_stream::TurnEncoder,
    waiting_interactions::WaitingInteractions,
};

/// Said before what the run waits for, to a client that sent a message meanwhile.
const NOT_SENT: &str = "Your message was not sent, because the agent waits for an answer.";

/// A message that the model is writing.
#[derive(Debug)]
struct OpenMessage {
    id: MessageId,
    /// The seq of the logged event before the message, counted from the beginning of the response.
    after: u64,
    reasoning: Option<OpenText>,
    text: Option<OpenText>,
}

/// A call that has started.
#[derive(Debug)]
struct OpenCall {
    item: CallItem,
    /// `None` for a call of the response before.
    output_index: Option<usize>,
}

/// Turns a run into a response.
pub(super) struct ResponseEncoder {
    id: ResponseId,
    events: EventWriter,
    calls: HashMap<ToolCallId, OpenCall>,
    message: Option<OpenMessage>,
    /// Where text is counted from: the seq of the newest event that comes before a message, never within one.
    text_after: u64,
    last_ts: Option<Timestamp>,
    usage: TokenUsage,
}

impl ResponseEncoder {
    pub(super) fn new(id: ResponseId, starting_after: Option<u64>) -> Self {
        Self {
            events: EventWriter::new(ResponseResource::new(&id), starting_after),
            id,
            calls: HashMap::new(),
            message: None,
            text_after: 0,
            last_ts: None,
            usage: TokenUsage::default(),
        }
    }

    /// Returns the response as far as it is.
    pub(super) fn into_resource(self) -> ResponseResource {
        self.events.resource
    }

    /// Adds text that the model has just written.
    fn add_text(&mut self, kind: TextKind, delta: &TextDelta, out: &mut String) {
        let after = self.text_after;
        let mut message = match self.message.take() {
            Some(message) if message.id == delta.message_id => message,
            _ => OpenMessage { id: delta.message_id, after, reasoning: None, text: None },
        };
        // Reasoning after text is in the whole message only: its number would be lower than that of the text.
        if kind == TextKind::Text || message.text.is_none() {
            self.add_text_to(&mut message, kind, delta, out);
        }
        self.message = Some(message);
    }

    fn add_text_to(&mut self, message: &mut OpenMessage, kind: TextKind, delta: &TextDelta, out: &mut String) {
        if kind == TextKind::Text
            && message.text.is_none()
            && let Some(reasoning) = &message.reasoning
        {
            let number = kind.opening_number(message.after);
            reasoning.close([number, number + 1, number + 2], None, &mut self.events, out);
        }
        let slot = match kind {
            TextKind::Reasoning => &mut message.reasoning,
            TextKind::Text => &mut message.text,
        };
        let mut open = slot.take().unwrap_or_else(|| {
            let number = kind.item_number(message.after);
            let id = text_item_id(kind, message.id);
            OpenText::open(kind, id, [number, number + 1], &mut self.events, out)
        });
        let known = open.text.len().saturating_sub(delta.offset);
        open.text.push_str(delta.content.get(known..).unwrap_or_default());
        if let Some(number) = kind.delta_number(message.after, open.text.len()) {
            let seen = self.events.starting_after().map_or(0, |number| kind.seen_bytes(message.after, number));
            let from = open.sent.max(seen.min(open.text.len()));
            open.write_delta(number, from, &mut self.events, out);
        }
        *slot = Some(open);
    }

    /// Completes a text at a logged event, which has the whole of it.
    fn complete_text(
        &mut self,
        open: Option<OpenText>,
        kind: TextKind,
        message: &AssistantMessageEvent,
        phase: Option<MessagePhase>,
        out: &mut String,
    ) {
        let whole = match kind {
            TextKind::Reasoning => message.reasoning.as_deref().unwrap_or_default(),
            TextKind::Text => &message.content,
        };
        let mut open = match open {
            Some(open) => open,
            None if whole.is_empty() => return,
            None => {
                let numbers = [self.events.take_number(), self.events.take_number()];
                OpenText::open(kind, text_item_id(kind, message.message_id), numbers, &mut self.events, out)
            }
        };
        whole.clone_into(&mut open.text);
        let number = self.events.take_number();
        let sent = open.sent;
        open.write_delta(number, sent, &mut self.events, out);
        let numbers = [self.events.take_number(), self.events.take_number(), self.events.take_number()];
        open.close(numbers, phase, &mut self.events, out);
    }

    fn end_message(&mut self, event: &AssistantMessageEvent, out: &mut String) {
        let open = self.message.take().filter(|open| open.id == event.message_id);
        let (reasoning, text) = open.map_or((None, None), |open| (open.reasoning, open.text));
        let phase = if event.tool_calls.is_empty() { MessagePhase::FinalAnswer } else { MessagePhase::Commentary };
        match (&reasoning, &text) {
            // Its end was written when the text began. It may have gone on since.
            (Some(open), Some(_)) => {
                let whole = event.reasoning.as_deref().unwrap_or(&open.text);
                let item = text_item(TextKind::Reasoning, &open.item_id, Some(whole), ItemStatus::Completed, None);
                self.events.resource.output[open.output_index] = item;
            }
            _ => self.complete_text(reasoning, TextKind::Reasoning, event, None, out),
        }
        self.complete_text(text, TextKind::Text, event, Some(phase), out);
    }

    /// Writes that messages are void whose text may have been shown.
    fn void_messages(&mut self, superseded: &[MessageId], out: &mut String) {
        for id in superseded {
            let open = self.message.take_if(|open| open.id == *id);
            let after = open.as_ref().map_or(self.text_after, |open| open.after);
            let parts = open.map_or((None, None), |open| (open.reasoning, open.text));
            let voided: Vec<(TextKind, String, usize)> = [parts.0, parts.1]
                .into_iter()
                .flatten()
                .map(|text| (text.kind, text.item_id, text.output_index))
                .collect();
            let voided = if voided.is_empty() {
                // A replay does not know the text. The item is there nevertheless, as it was live.
                let item_id = text_item_id(TextKind::Text, *id);
                let item = text_item(TextKind::Text, &item_id, None, ItemStatus::InProgress, None);
                let index = self.events.add_item(TextKind::Text.item_number(after), item, out);
                vec![(TextKind::Text, item_id, index)]
            } else {
                voided
            };
            for (kind, item_id, index) in voided {
                let item = text_item(kind, &item_id, None, ItemStatus::Incomplete, None);
                let number = self.events.take_number();
                self.events.end_item(number, index, item, out);
            }
        }
    }

    fn start_call(&mut self, start: &ToolStart, out: &mut String) {
        // A call that is sent again after an interruption is the same call.
        if self.calls.get(&start.tool_call_id).is_some_and(|call| call.output_index.is_some()) {
            return;
        }
        let item = CallItem::from_start(start);
        let output_index = self.begin_call(&item, out);
        self.calls.insert(start.tool_call_id.clone(), OpenCall { item, output_index: Some(output_index) });
    }

    fn begin_call(&mut self, item: &CallItem, out: &mut String) -> usize {
        let number = self.events.take_number();
        let output_index = self.events.add_item(number, item.begun(), out);
        let body = |extra: Value| call_event(item, output_index, extra);
        self.events.write_next("response.mcp_call.in_progress", body(json!({})), out);
        let delta = body(json!({"delta": item.arguments}));
        self.events.write_next("response.mcp_call_arguments.delta", delta, out);
        let done = body(json!({"arguments": item.arguments}));
        self.events.write_next("response.mcp_call_arguments.done", done, out);
        self.events.resource.output[output_index] = item.running();
        output_index
    }

    fn end_call(&mut self, end: &ToolEnd, out: &mut String) {
        let (item, known_index) = match self.calls.remove(&end.tool_call_id) {
            Some(call) => (call.item, call.output_index),
            None => (CallItem::from_end(end), None),
        };
        let output_index = known_index.unwrap_or_else(|| self.begin_call(&item, out));
        let ended = item.ended(end);
        let kind = match ended["status"].as_str() {
            Some("completed") => "response.mcp_call.completed",
            _ => "response.mcp_call.failed",
        };
        self.events.write_next(kind, call_event(&item, output_index, json!({})), out);
        let number = self.events.take_number();
        self.events.end_item(number, output_index, ended, out);
    }

    fn encode_event(&mut self, event: &SessionEvent, out: &mut String) {
        self.last_ts = Some(event.ts);
        if event.seq <= self.id.first_seq() {
            self.learn_call(&event.body);
            return;
        }
        let seq = event.seq - self.id.first_seq();
        self.events.move_to_seq(seq);
        if let Some(usage) = event.body.model_usage() {
            self.usage += usage;
        }
        match &event.body {
            EventBody::RunStarted(_) => self.text_after = seq,
            EventBody::AssistantMessage(message) => {
                self.end_message(message, out);
                self.text_after = seq;
            }
            EventBody::ToolStart(start) => self.start_call(start, out),
            EventBody::ToolEnd(end) => {
                self.end_call(end, out);
                self.text_after = seq;
            }
            EventBody::RunRecovered(recovered) => {
                self.void_messages(&recovered.superseded, out);
                self.text_after = seq;
            }
            _ => {}
        }
        if self.events.resource.status == ResponseStatus::Queued {
            self.events.resource.status = ResponseStatus::InProgress;
        }
    }

    /// Remembers what a call of the response before is.
    fn learn_call(&mut self, body: &EventBody) {
        match body {
            EventBody::ToolStart(start) => {
                let call = OpenCall { item: CallItem::from_start(start), output_index: None };
                self.calls.insert(start.tool_call_id.clone(), call);
            }
            EventBody::ToolEnd(end) => {
                self.calls.remove(&end.tool_call_id);
            }
            _ => {}
        }
    }

    /// Writes what the run waits for: as text for people, and as items for programs.
    fn write_waiting(&mut self, waiting: &WaitingInteractions, out: &mut String) {
        let mut open: Vec<OpenCall> = std::mem::take(&mut self.calls).into_values().collect();
        open.sort_by_key(|call| call.output_index);
        for call in open {
            if let Some(index) = call.output_index {
                let number = self.events.take_number();
                self.events.end_item(number, index, call.item.interrupted(), out);
            }
        }
        let rest_seq = self.last_seq();
        let mut words = waiting.describe();
        if self.id.is_repeated_question() {
            words = format!("{NOT_SENT}\n\n{words}");
        }
        let item_id = format!("msg_{}_{rest_seq:x}", data_encoding::HEXLOWER.encode(self.id.address.run.as_bytes()));
        let phase = Some(MessagePhase::Commentary);
        OpenText::write_whole(TextKind::Text, item_id, words, phase, &mut self.events, out);
        for (position, asked) in waiting.approvals.iter().enumerate() {
            let id = ApprovalItemId { address: self.id.address, rest_seq, position };
            let item = approval_item(&id, asked);
            let number = self.events.take_number();
            let index = self.events.add_item(number, item.clone(), out);
            let number = self.events.take_number();
            self.events.end_item(number, index, item, out);
        }
    }

    fn last_seq(&self) -> u64 {
        self.id.first_seq() + self.events.seq()
    }

    fn finish(&mut self, status: ResponseStatus, kind: &str, out: &mut String) {
        // A text whose message was not logged is not in the log.
        if let Some(open) = self.message.take() {
            let first = open.reasoning.iter().chain(&open.text).map(|text| text.output_index).min();
            self.events.resource.output.truncate(first.unwrap_or(usize::MAX));
        }
        self.events.resource.status = status;
        self.events.resource.completed_at = self.last_ts.map(|ts| ts.as_millis() / 1000);
        self.events.resource.usage = Some(self.usage.into());
        self.events.write_response(kind, out);
    }

    fn fail(&mut self, code: &str, message: String, out: &mut String) {
        self.events.resource.error = Some(ResponseError { code: code.to_owned(), message });
        self.finish(ResponseStatus::Failed, "response.failed", out);
    }

    /// Writes that the stream ends before the run rests.
    fn interrupt(&mut self, why: &RunInterruption, out: &mut String) {
        if !why.is_temporary() {
            return self.fail(why.code(), why.message(), out);
        }
        // The number of the event before: what comes next is still to be read.
        let event = json!({"type": "error", "code": why.code(), "message": why.message(), "param": null,
            "sequence_number": self.events.last_number()});
        out.push_str(&format!("event: error\ndata: {event}\n\n"));
    }
}

impl TurnEncoder for ResponseEncoder {
    fn encode_start(&mut self, out: &mut String) {
        self.events.resource.status = ResponseStatus::InProgress;
        self.events.write_response("response.created", out);
        self.events.write_response("response.in_progress", out);
    }

    fn encode_frame(&mut self, frame: &StreamFrame, out: &mut String) {
        match frame {
            StreamFrame::Event(event) => self.encode_event(event, out),
            StreamFrame::Transient(TransientEvent::Token(delta)) => self.add_text(TextKind::Text, delta, out),
            StreamFrame::Transient(TransientEvent::Reasoning(delta)) => self.add_text(TextKind::Reasoning, delta, out),
            StreamFrame::Transient(_) => {}
        }
    }

    fn encode_rest(&mut self, rest: &RunRest, out: &mut String) {
        match rest {
            RunRest::Finished(finished) => match finished.outcome {
                RunOutcome::Completed => self.finish(ResponseStatus::Completed, "response.completed", out),
                RunOutcome::Cancelled => self.finish(ResponseStatus::Cancelled, "response.incomplete", out),
                RunOutcome::Limit => {
                    // The only reason that all clients know.
                    self.events.resource.incomplete_details = Some(json!({"reason": "max_output_tokens"}));
                    self.finish(ResponseStatus::Incomplete, "response.incomplete", out);
                }
            },
            RunRest::Waiting(waiting) => {
                self.write_waiting(waiting, out);
                self.finish(ResponseStatus::Completed, "response.completed", out);
            }
            RunRest::Failed(failed) => self.fail(&failed.code, failed.message.clone(), out),
            RunRest::Interrupted(why) => self.interrupt(why, out),
        }
        out.push_str("data: [DONE]\n\n");
    }
}

fn call_event(item: &CallItem, output_index: usize, mut event: Value) -> Value {
    event["item_id"] = item.id().into();
    event["output_index"] = output_index.into();
    event
}
