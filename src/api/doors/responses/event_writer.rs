//! Writes the events of a response, and keeps the response that they add up to.

use serde_json::{Value, json};

use super::{event_number::EventCounter, response_resource::ResponseResource};

/// Writes events.
pub(super) struct EventWriter {
    /// Events up to this number are left out.
    starting_after: Option<u64>,
    pub(super) resource: ResponseResource,
    counter: EventCounter,
    /// The newest number so far, that of the client included.
    last_number: u64,
}

impl EventWriter {
    pub(super) fn new(resource: ResponseResource, starting_after: Option<u64>) -> Self {
        Self { starting_after, resource, counter: EventCounter::at_seq(0), last_number: starting_after.unwrap_or(0) }
    }

    /// Returns the number of the newest event that the client has, if it has some.
    pub(super) fn starting_after(&self) -> Option<u64> {
        self.starting_after
    }

    /// Returns the newest number so far.
    pub(super) fn last_number(&self) -> u64 {
        self.last_number
    }

    /// Returns the seq of the logged event that is being written, counted from the beginning of the response.
    pub(super) fn seq(&self) -> u64 {
        self.counter.seq()
    }

    /// Starts to count from a logged event on.
    pub(super) fn move_to_seq(&mut self, seq: u64) {
        self.counter = EventCounter::at_seq(seq);
    }

    /// Returns the next number of the logged event.
    pub(super) fn take_number(&mut self) -> u64 {
        self.counter.take()
    }

    pub(super) fn write(&mut self, number: u64, kind: &str, mut event: Value, out: &mut String) {
        self.last_number = self.last_number.max(number);
        if self.starting_after.is_some_and(|seen| number <= seen) {
            return;
        }
        event["type"] = kind.into();
        event["sequence_number"] = number.into();
        out.push_str("event: ");
        out.push_str(kind);
        out.push_str("\ndata: ");
        out.push_str(&event.to_string());
        out.push_str("\n\n");
    }

    /// Writes an event with the next number.
    pub(super) fn write_next(&mut self, kind: &str, event: Value, out: &mut String) {
        let number = self.take_number();
        self.write(number, kind, event, out);
    }

    /// Writes an event with the whole response.
    pub(super) fn write_response(&mut self, kind: &str, out: &mut String) {
        let event = json!({"response": self.resource});
        self.write_next(kind, event, out);
    }

    /// Adds an item, and writes that it begins. Returns its place.
    pub(super) fn add_item(&mut self, number: u64, item: Value, out: &mut String) -> usize {
        let output_index = self.resource.output.len();
        let event = json!({"output_index": output_index, "item": item});
        self.resource.output.push(item);
        self.write(number, "response.output_item.added", event, out);
        output_index
    }

    /// Replaces an item by what it is in the end, and writes that.
    pub(super) fn end_item(&mut self, number: u64, output_index: usize, item: Value, out: &mut String) {
        let event = json!({"output_index": output_index, "item": item});
        self.resource.output[output_index] = item;
        self.write(number, "response.output_item.done", event, out);
    }
}
