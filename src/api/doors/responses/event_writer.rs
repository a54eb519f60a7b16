//! Writes the events of a response, and keeps the response that they add up to.

use serde_json::{Value, json};

use super::{event_number::EventCounter, response_resource::ResponseResource};

/// Writes events.
pub(super) struct EventWriter {
    /// The newest event that the client had at the beginning.
    starting_after: Option<u64>,
    pub(super) resource: ResponseResource,
    counter: EventCounter,
    /// The newest number so far, that of the client included.
    last_number: Option<u64>,
}

impl EventWriter {
    pub(super) fn new(resource: ResponseResource, starting_after: Option<u64>) -> Self {
        Self { starting_after, resource, counter: EventCounter::at_seq(0), last_number: starting_after }
    }

    /// Returns the number of the newest event that the client has, if it has some.
    pub(super) fn starting_after(&self) -> Option<u64> {
        self.starting_after
    }

    /// Returns the newest number so far.
    pub(super) fn last_number(&self) -> u64 {
        self.last_number.unwrap_or(0)
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

    /// Writes an event, unless the client has seen this number. That is so in a replay, and after a loss of the store: the log is
    /// followed again from before the loss then.
    pub(super) fn write(&mut self, number: u64, kind: &str, mut event: Value, out: &mut String) {
        if self.last_number.is_some_and(|last| number <= last) {
            return;
        }
        self.last_number = Some(number);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_never_go_back() {
        let id = "resp_0190000000007000800000000000000a019af00000007000800000000000000b_1".parse().unwrap();
        for (starting_after, expected) in [(None, vec![0, 3, 8, 9]), (Some(3), vec![8, 9])] {
            let mut writer = EventWriter::new(ResponseResource::new(&id), starting_after);
            let mut out = String::new();
            for number in [0, 3, 8, 2, 8, 9] {
                writer.write(number, "response.in_progress", json!({}), &mut out);
            }
            let data = out.lines().filter_map(|line| line.strip_prefix("data: "));
            let numbers: Vec<u64> = data
                .map(|data| serde_json::from_str::<Value>(data).unwrap()["sequence_number"].as_u64().unwrap())
                .collect();
            assert_eq!(numbers, expected);
        }
    }
}
