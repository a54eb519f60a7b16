//! Rejections of conversations as servers word them, and what each of them leads to: a quirk that is learned, a simpler form of
//! the conversation (`climb`), or the code of an error that the user can mend. The texts are from public reports.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    Dialect, ModelError,
    error_mapping::ProviderErrorBody,
    quirks::{LearnedQuirks, ModelQuirk, rejects_returned_blocks},
    test_support::test_call,
};

/// One row per line: status (200: in a stream), what it leads to, body.
const ROWS: &str = include_str!("conversation_rejections.jsonl");

fn rejection(status: u16, body: &Value) -> ModelError {
    let parsed = if status == 200 {
        ProviderErrorBody::from_event(&body["error"], &serde_json::Value::Null, &[])
    } else {
        ProviderErrorBody::from_body(status, None, body.to_string().as_bytes(), &[])
    };
    test_call().rejection_error(&parsed)
}

/// Returns what a rejection leads to in chat completions.
fn consequence(error: &ModelError) -> String {
    if !error.is_rejected_request() {
        return error.code().to_owned();
    }
    let mut sent = Dialect::default().possible_adaptations();
    sent.extend([
        ModelQuirk::NoStreamOptions,
        ModelQuirk::LimitIsMaxCompletionTokens,
        ModelQuirk::NoTemperature,
        ModelQuirk::NoReturnedReasoning,
        ModelQuirk::NoThinking,
        ModelQuirk::NoTools,
    ]);
    match LearnedQuirks::default().learn_from_rejection("test-model", error, &sent, &BTreeSet::new()) {
        Some(quirk) => format!("{quirk:?}"),
        None => "climb".to_owned(),
    }
}

#[test]
fn rejections_lead_to_what_helps() {
    let mut wrong = Vec::new();
    for line in ROWS.lines() {
        let (status, expected, body): (u16, String, Value) = serde_json::from_str(line).unwrap();
        let error = rejection(status, &body);
        let found = match expected.as_str() {
            // The clients with signed reasoning look for that first.
            "returned_blocks" if rejects_returned_blocks(&error, "test-model") => expected.clone(),
            _ => consequence(&error),
        };
        if found != expected {
            wrong.push(format!("{found} in place of {expected}: {status} {body}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), ROWS.lines().count(), wrong.join("\n"));
}
