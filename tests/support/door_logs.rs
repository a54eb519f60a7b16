//! Compares the logs of turns over different doors.

use serde_json::Value;

/// What differs from turn to turn.
const VARYING_FIELDS: [&str; 11] = [
    "session_id",
    "ts",
    "run_id",
    "message_id",
    "command_id",
    "cause",
    "duration_ms",
    "approval_id",
    "tool_call_id",
    "expires_at",
    "up_to_seq",
];

/// Returns what the events of a log say, without what differs from turn to turn.
pub(crate) fn plain_log(log: &[Value]) -> Vec<Value> {
    log.iter().map(without_varying_fields).collect()
}

fn without_varying_fields(event: &Value) -> Value {
    let mut event = event.clone();
    for field in VARYING_FIELDS {
        event.as_object_mut().unwrap().remove(field);
    }
    for call in event["tool_calls"].as_array_mut().into_iter().flatten() {
        call.as_object_mut().unwrap().remove("id");
    }
    event
}
