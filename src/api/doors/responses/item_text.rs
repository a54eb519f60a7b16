//! The text of an item, as the model writes it.

use serde_json::{Value, json};

use super::{
    event_number::TextKind,
    event_writer::EventWriter,
    response_item::{ItemStatus, MessagePhase, text_item, text_part},
};

/// How far a text is.
#[derive(Debug, Clone, Copy)]
enum TextStep {
    Written,
    Ended,
}

/// A text of a message that is being written.
#[derive(Debug)]
pub(super) struct OpenText {
    pub(super) kind: TextKind,
    pub(super) item_id: String,
    pub(super) output_index: usize,
    pub(super) text: String,
    /// How many bytes of it are in deltas.
    pub(super) sent: usize,
}

impl OpenText {
    /// Begins the text of an item.
    pub(super) fn open(
        kind: TextKind,
        item_id: String,
        numbers: [u64; 2],
        events: &mut EventWriter,
        out: &mut String,
    ) -> Self {
        let item = text_item(kind, &item_id, None, ItemStatus::InProgress, None);
        let output_index = events.add_item(numbers[0], item, out);
        let text = Self { kind, item_id, output_index, text: String::new(), sent: 0 };
        events.write(numbers[1], text.part_event(TextStep::Written), text.part_body(""), out);
        text
    }

    /// Writes a text that is known as a whole.
    pub(super) fn write_whole(
        kind: TextKind,
        item_id: String,
        text: String,
        phase: Option<MessagePhase>,
        events: &mut EventWriter,
        out: &mut String,
    ) {
        let numbers = [events.take_number(), events.take_number()];
        let mut open = Self::open(kind, item_id, numbers, events, out);
        open.text = text;
        let number = events.take_number();
        open.write_delta(number, 0, events, out);
        let numbers = [events.take_number(), events.take_number(), events.take_number()];
        open.close(numbers, phase, events, out);
    }

    /// Writes the text from a byte on.
    pub(super) fn write_delta(&mut self, number: u64, from: usize, events: &mut EventWriter, out: &mut String) {
        if let Some(rest) = self.text.get(from..).filter(|rest| !rest.is_empty()) {
            events.write(number, self.text_event(TextStep::Written), self.body(json!({"delta": rest})), out);
        }
        self.sent = self.text.len();
    }

    /// Writes the end of the text.
    pub(super) fn close(
        &self,
        numbers: [u64; 3],
        phase: Option<MessagePhase>,
        events: &mut EventWriter,
        out: &mut String,
    ) {
        let Self { kind, text, .. } = self;
        events.write(numbers[0], self.text_event(TextStep::Ended), self.body(json!({"text": text})), out);
        events.write(numbers[1], self.part_event(TextStep::Ended), self.part_body(text), out);
        let item = text_item(*kind, &self.item_id, Some(text), ItemStatus::Completed, phase);
        events.end_item(numbers[2], self.output_index, item, out);
    }

    /// Returns the type of an event of the text.
    fn text_event(&self, step: TextStep) -> &'static str {
        match (self.kind, step) {
            (TextKind::Reasoning, TextStep::Written) => "response.reasoning_summary_text.delta",
            (TextKind::Reasoning, TextStep::Ended) => "response.reasoning_summary_text.done",
            (TextKind::Text, TextStep::Written) => "response.output_text.delta",
            (TextKind::Text, TextStep::Ended) => "response.output_text.done",
        }
    }

    /// Returns the type of an event of the part that holds the text.
    fn part_event(&self, step: TextStep) -> &'static str {
        match (self.kind, step) {
            (TextKind::Reasoning, TextStep::Written) => "response.reasoning_summary_part.added",
            (TextKind::Reasoning, TextStep::Ended) => "response.reasoning_summary_part.done",
            (TextKind::Text, TextStep::Written) => "response.content_part.added",
            (TextKind::Text, TextStep::Ended) => "response.content_part.done",
        }
    }

    /// Returns an event of the text.
    fn body(&self, mut event: Value) -> Value {
        event["item_id"] = self.item_id.as_str().into();
        event["output_index"] = self.output_index.into();
        match self.kind {
            TextKind::Reasoning => event["summary_index"] = 0.into(),
            TextKind::Text => {
                event["content_index"] = 0.into();
                if event.get("part").is_none() {
                    event["logprobs"] = json!([]);
                }
            }
        }
        event
    }

    fn part_body(&self, text: &str) -> Value {
        self.body(json!({"part": text_part(self.kind, text)}))
    }
}
