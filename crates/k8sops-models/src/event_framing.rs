//! Divides the bytes of a response into events: server-sent events, or JSON values.
//!
//! The standard discards an event without a blank line after it, and joins events that no blank line separates. Gateways
//! do both, and each payload of the protocols is one JSON value, so that an event also ends where its JSON value does.

use std::collections::VecDeque;

use k8sops_core::{SurrogateJoiner, replace_foreign_words};
use serde::de::IgnoredAny;

/// The end mark of OpenAI's streams, the only payload that is not JSON.
pub(crate) const DONE_MARK: &str = "[DONE]";
/// The byte order mark, which some gateways send before the first event.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// An event of a response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ProviderEvent {
    /// The name of the event; empty if it has none.
    pub(crate) name: String,
    /// The payload.
    pub(crate) data: String,
}

/// How a response is divided into events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventFraming {
    /// Server-sent events. A JSON value without a field name is an event, too: an error, or a reply that is not streamed.
    Sse,
    /// One JSON value per line (NDJSON). A value may span lines.
    Lines,
}

/// Divides bytes into events, however they arrive.
#[derive(Debug)]
pub(crate) struct EventFramer {
    framing: EventFraming,
    /// The current line, without its end.
    line: Vec<u8>,
    /// Whether the last line ended with a carriage return, to which a line feed may belong.
    ends_with_return: bool,
    event: PendingEvent,
    surrogates: SurrogateJoiner,
    ready: VecDeque<ProviderEvent>,
}

/// An event whose end has not arrived.
#[derive(Debug, Default)]
struct PendingEvent {
    name: String,
    data: String,
    /// Whether the data is a JSON value without field names.
    is_bare: bool,
}

impl EventFramer {
    pub(crate) fn new(framing: EventFraming) -> Self {
        Self {
            framing,
            line: Vec::new(),
            ends_with_return: false,
            event: PendingEvent::default(),
            surrogates: SurrogateJoiner::default(),
            ready: VecDeque::new(),
        }
    }

    /// Adds bytes of the response.
    pub(crate) fn push_bytes(&mut self, bytes: &[u8]) {
        let bytes = self.take_usual_events(bytes);
        for piece in bytes.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            let (text, end) = match piece.split_last() {
                Some((end @ (b'\n' | b'\r'), text)) => (text, Some(*end)),
                _ => (piece, None),
            };
            let is_second_half = std::mem::take(&mut self.ends_with_return) && piece == b"\n";
            if is_second_half {
                continue;
            }
            self.line.extend_from_slice(text);
            if let Some(end) = end {
                self.ends_with_return = end == b'\r';
                self.end_line();
            }
        }
    }

    /// Takes the events at the start of `bytes` that consist of one line of data with an object, and returns what is left. Most
    /// events are of this form; what is left is read line by line, with the same result.
    fn take_usual_events<'a>(&mut self, mut bytes: &'a [u8]) -> &'a [u8] {
        let is_within_event = !self.line.is_empty()
            || self.ends_with_return
            || self.event.is_bare
            || !self.event.name.is_empty()
            || !self.event.data.is_empty();
        if self.framing != EventFraming::Sse || is_within_event {
            return bytes;
        }
        let mut text = match str::from_utf8(bytes) {
            Ok(text) => text,
            // A character may be cut at the end of the bytes.
            Err(error) => str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
        };
        while let Some((data, rest)) = split_usual_event(text) {
            self.push_event(String::new(), data);
            bytes = &bytes[text.len() - rest.len()..];
            text = rest;
        }
        bytes
    }

    /// Ends the last line and the last event, which may lack their ends.
    pub(crate) fn finish(&mut self) {
        if !self.line.is_empty() {
            self.end_line();
        }
        self.end_event();
    }

    /// Ends the last event if only its end is missing. Returns whether there is an event now.
    pub(crate) fn release_complete_event(&mut self) -> bool {
        let line = String::from_utf8_lossy(&self.line);
        let value = line.strip_prefix("data:").unwrap_or(&line).trim();
        if self.event.data.is_empty() && (value == DONE_MARK || is_json(value)) {
            self.end_line();
        }
        !self.ready.is_empty()
    }

    pub(crate) fn next_event(&mut self) -> Option<ProviderEvent> {
        self.ready.pop_front()
    }

    /// Returns the number of bytes that wait for the end of their event.
    pub(crate) fn pending_bytes(&self) -> usize {
        self.line.len() + self.event.data.len()
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        // A line end is never part of a character, so that an invalid byte costs one character.
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_start_matches(BYTE_ORDER_MARK);
        if line.trim().is_empty() {
            self.end_event();
        } else if self.event.is_bare || self.framing == EventFraming::Lines && !line.starts_with("data:") {
            self.push_bare_line(line);
        } else {
            self.apply_field(line);
        }
    }

    fn apply_field(&mut self, line: &str) {
        if line.trim_start().starts_with(['{', '[']) {
            self.push_bare_line(line);
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                // Proxies that wrap a stream once more have repeated the name of the field.
                let mut value = value;
                while let Some(inner) = value.strip_prefix("data:") {
                    value = inner.trim_start();
                }
                self.push_data(value);
            }
            // llama.cpp has sent errors under a field of their own.
            "error" => {
                self.end_event();
                "error".clone_into(&mut self.event.name);
                self.push_data(value);
            }
            "event" => {
                self.end_event();
                value.trim().clone_into(&mut self.event.name);
            }
            // Comments, ids, times to reconnect and unknown fields.
            _ => {}
        }
    }

    /// Adds a line of a JSON value without a field name. Any other text is an event of its own.
    fn push_bare_line(&mut self, line: &str) {
        self.event.is_bare = true;
        let is_text = self.event.data.is_empty() && !line.trim_start().starts_with(['{', '[']);
        self.push_data(line);
        if is_text {
            self.end_event();
        }
    }

    fn push_data(&mut self, value: &str) {
        let is_whole = value.trim() == DONE_MARK || is_json(value.trim());
        if self.event.data.is_empty() {
            value.clone_into(&mut self.event.data);
            if is_whole {
                self.end_event();
            }
        } else if is_whole && value.starts_with(['{', '[']) {
            // The blank line between two events is missing. The lines within a value are indented.
            let PendingEvent { name, is_bare, .. } = &self.event;
            let (name, is_bare) = (name.clone(), *is_bare);
            self.end_event();
            self.event = PendingEvent { name, is_bare, data: value.to_owned() };
            self.end_event();
        } else {
            self.event.data.push('\n');
            self.event.data.push_str(value);
            // A value over several lines ends with a bracket that is not indented.
            if value.starts_with(['}', ']']) && is_json(self.event.data.trim()) {
                self.end_event();
            }
        }
    }

    fn end_event(&mut self) {
        let PendingEvent { name, data, .. } = std::mem::take(&mut self.event);
        let data = data.trim();
        if !data.is_empty() {
            self.push_event(name, data);
        }
    }

    fn push_event(&mut self, name: String, data: &str) {
        let mut data = self.surrogates.repair_document(data).into_owned();
        if data.starts_with(['{', '['])
            && let Some(repaired) = replace_foreign_words(&data)
        {
            data = repaired;
        }
        self.ready.push_back(ProviderEvent { name, data });
    }
}

/// Splits an event off that is one line of data with an object, and the blank line after it.
fn split_usual_event(text: &str) -> Option<(&str, &str)> {
    let value = text.strip_prefix("data:")?;
    let (data, rest) = value.strip_prefix(' ').unwrap_or(value).split_once('\n')?;
    let rest = rest.strip_prefix('\n')?;
    (data.starts_with('{') && data.ends_with('}') && !data.contains('\r')).then_some((data, rest))
}

/// Returns whether a text is one JSON value.
fn is_json(text: &str) -> bool {
    text.starts_with(['{', '[']) && text.ends_with(['}', ']']) && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(framing: EventFraming, body: &[u8], size: usize) -> Vec<(String, String)> {
        let mut framer = EventFramer::new(framing);
        body.chunks(size).for_each(|piece| framer.push_bytes(piece));
        framer.finish();
        std::iter::from_fn(|| framer.next_event()).map(|event| (event.name, event.data)).collect()
    }

    /// Checks the events of a body at every size of its pieces.
    fn check(framing: EventFraming, body: &str, expected: &[(&str, &str)]) {
        for size in 1..=body.len() {
            let found = frame(framing, body.as_bytes(), size);
            let found: Vec<_> = found.iter().map(|(name, data)| (name.as_str(), data.as_str())).collect();
            assert_eq!(found, expected, "{body:?} in pieces of {size}");
        }
    }

    #[test]
    fn every_framing_of_gateways_is_read() {
        let two = [("", r#"{"a":"é😀"}"#), ("x", r#"{"b":1}"#), ("", "[DONE]")];
        for body in [
            "data: {\"a\":\"é😀\"}\n\nevent: x\ndata: {\"b\":1}\n\ndata: [DONE]\n\n",
            "data: {\"a\":\"é😀\"}\r\n\r\nevent: x\r\ndata: {\"b\":1}\r\n\r\ndata: [DONE]\r\n\r\n",
            "data: {\"a\":\"é😀\"}\r\revent: x\rdata: {\"b\":1}\r\rdata: [DONE]\r\r",
            "data: {\"a\":\"é😀\"}\nevent: x\ndata: {\"b\":1}\ndata: [DONE]\n",
            "data: {\"a\":\"é😀\"}\n\nevent: x\ndata: {\"b\":1}\n\ndata: [DONE]",
            "\u{feff}data:{\"a\":\"é😀\"}\n\n\u{feff}event:x\ndata:{\"b\":1}\n\ndata:[DONE]\n\n",
            ": hi\n\nid: 1\nretry: 3\ndata: {\"a\":\"é😀\"}\n\nevent: x\ndata: {\"b\":1}\n\ndata:\n\ndata: [DONE]\n\n",
            "event: keepalive\n\ndata: {\"a\":\"é😀\"}\n\nevent: x\n: between\ndata: {\"b\":1}\n\ndata: [DONE]\n\n",
            "{\"a\":\"é😀\"}\nevent: x\ndata: {\"b\":1}\n\n[DONE]\n",
        ] {
            check(EventFraming::Sse, body, &two);
        }
        check(EventFraming::Sse, "data: ping\n\ndata: {}\n\n", &[("", "ping"), ("", "{}")]);
        check(EventFraming::Sse, "data: ping\ndata: {}\n\n", &[("", "ping"), ("", "{}")]);
        check(EventFraming::Sse, "event: error\ndata: out of\ndata: memory\n\n", &[("error", "out of\nmemory")]);
        check(EventFraming::Sse, "data: data: {}\n\ndata: data:[DONE]\n\n", &[("", "{}"), ("", "[DONE]")]);
        check(EventFraming::Sse, "data: {\"a\":NaN,\"t\":\"NaN\"}\n\n", &[("", "{\"a\":null,\"t\":\"NaN\"}")]);
        check(EventFraming::Sse, "error: {\"code\":500}\n\n", &[("error", "{\"code\":500}")]);
        check(EventFraming::Sse, "data: {\ndata:   \"a\": {}\ndata: }\n\n", &[("", "{\n  \"a\": {}\n}")]);
        check(EventFraming::Sse, "{\n  \"a\": [\n    {}\n  ]\n}\n", &[("", "{\n  \"a\": [\n    {}\n  ]\n}")]);
        check(EventFraming::Sse, "data: {\"cut\": \n\ndata: {}\n\n", &[("", "{\"cut\":"), ("", "{}")]);
    }

    #[test]
    fn json_lines_may_span_lines_and_lack_their_end() {
        let two = [("", r#"{"a":"é"}"#), ("", "{}")];
        for body in ["{\"a\":\"é\"}\r\n\n  \n{}\n", "\u{feff}{\"a\":\"é\"}\r{}", "{\"a\":\"é\"}\n{}"] {
            check(EventFraming::Lines, body, &two);
        }
        check(EventFraming::Lines, "{\n  \"a\": 1\n}\n{}", &[("", "{\n  \"a\": 1\n}"), ("", "{}")]);
        check(EventFraming::Lines, "ping\n{\"cut\":\n{}\n", &[("", "ping"), ("", "{\"cut\":"), ("", "{}")]);
    }

    #[test]
    fn damaged_characters_cost_only_themselves() {
        assert_eq!(
            frame(EventFraming::Sse, b"data: {\"a\":\"caf\xe9\"}\n\n", 3),
            [(String::new(), "{\"a\":\"caf\u{fffd}\"}".into())]
        );
        let halves = r#"data: {"a":"\ud83d"}"#.to_owned() + "\n\n" + r#"data: {"a":"\ude80"}"#;
        check(EventFraming::Sse, &halves, &[("", r#"{"a":""}"#), ("", r#"{"a":"\ud83d\ude80"}"#)]);
    }

    proptest! {
        /// Pieces of one byte never hold a whole event, so that each line is read by itself.
        #[test]
        fn whole_events_are_read_like_single_lines(
            lines in prop::collection::vec(prop::sample::select(&[
                "data: {\"a\":\"é\"}", "data:{}", "data: {", "data: }", "data: {\"a\":NaN}", "data:  {}", "data: {} ", "data: data: {}",
                "data: [DONE]", "data: [1]", "data: text", "{}", "{", "}", "event: x", "event:", ": hi", "error: {}", "data",
                "data: {\"a\":\"\\ud83d\"}", "data: {\"a\":\"\\ude80\"}", "\u{feff}data: {}", "",
            ][..]), 1..8),
            ends in prop::collection::vec(prop::sample::select(&["\n\n", "\n\n", "\n", "\r\n\r\n", "\r", "\r\n", "\n\r\n", ""][..]), 8),
            size in 1_usize..40,
        ) {
            let body = lines.iter().zip(ends).flat_map(|(line, end)| [*line, end]).collect::<String>();
            let expected = frame(EventFraming::Sse, body.as_bytes(), 1);
            prop_assert_eq!(&frame(EventFraming::Sse, body.as_bytes(), body.len().max(1)), &expected);
            prop_assert_eq!(&frame(EventFraming::Sse, body.as_bytes(), size), &expected);
        }
    }

    #[test]
    fn complete_event_is_released_without_its_end() {
        for body in ["data: {}", "{}"] {
            let mut framer = EventFramer::new(EventFraming::Sse);
            framer.push_bytes(body.as_bytes());
            assert!(framer.next_event().is_none());
            assert!(framer.release_complete_event(), "{body}");
        }
        let mut framer = EventFramer::new(EventFraming::Lines);
        framer.push_bytes(b"{\"a\": 1");
        assert!(!framer.release_complete_event());
        assert_eq!(framer.pending_bytes(), 7);
    }
}
