//! Literal lines of what is stored and sent: a log or a checkpoint that an earlier version wrote must be read, and what is
//! written must not change. A new optional field may be added to these lines; no field may be renamed or dropped.

use k8sops_core::{InboxEntry, SessionEvent, SessionState};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

const EVENTS: &str = include_str!("stored_formats/events.jsonl");
const OPEN_RUN: &str = include_str!("stored_formats/checkpoint_open_run.json");
const FINISHED: &str = include_str!("stored_formats/checkpoint_finished.json");
const INBOX: &str = include_str!("stored_formats/inbox.jsonl");

fn assert_round_trip<T: Serialize + DeserializeOwned>(line: &str) -> T {
    let value: T = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let written: Value = serde_json::to_value(&value).unwrap();
    assert_eq!(written, serde_json::from_str::<Value>(line).unwrap());
    value
}

fn events() -> Vec<SessionEvent> {
    EVENTS.lines().map(assert_round_trip).collect()
}

#[test]
fn events_keep_their_format() {
    let events = events();
    let mut kinds: Vec<&str> = events.iter().map(|event| event.body.event_type()).collect();
    for (line, kind) in EVENTS.lines().zip(&kinds) {
        assert!(line.contains(&format!("\"type\":\"{kind}\"")), "{line}");
    }
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds.len(), 22, "one line at least of each type of event: {kinds:?}");
}

#[test]
fn checkpoints_keep_their_format() {
    let events = events();
    let pending = events.iter().position(|event| event.body.event_type() == "input_requested").unwrap() + 1;
    for (count, checkpoint) in [(pending, OPEN_RUN), (events.len(), FINISHED)] {
        let state = SessionState::fold_events(None, &events[..count]).unwrap();
        assert_eq!(state, assert_round_trip::<SessionState>(checkpoint));
    }
}

#[test]
fn inbox_entries_keep_their_format() {
    let types: Vec<String> = INBOX
        .lines()
        .map(|line| {
            let entry = serde_json::to_value(assert_round_trip::<InboxEntry>(line)).unwrap();
            entry["command"]["body"]["type"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(types, ["message", "cancel", "resolve", "answer", "settings", "title", "feedback", "message"]);
}
