//! Repair of messages that a JSON parser or the SDK rejects as a whole, although what matters in them can be read.
//!
//! A tool's output may contain any bytes: half of an emoji at the edge of a cut, the output of a program that is no UTF-8,
//! `NaN` of a metric. An answer that is lost because of them leaves a done change `unknown`. An error without a code would lose
//! the server's words.

use std::borrow::Cow;

use k8sops_core::{replace_foreign_words, replace_lone_surrogates};
use rmcp::model::{ErrorCode, ServerJsonRpcMessage};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

/// Parses a message, or the messages of a batch, and repairs them if that is needed. Elements of a batch that are no messages are
/// left out, and so a line of a log that happens to be an array has none.
pub(super) fn parse_messages(bytes: &[u8]) -> Result<Vec<ServerJsonRpcMessage>, serde_json::Error> {
    if !bytes.trim_ascii_start().starts_with(b"[") {
        return Ok(vec![parse_message(bytes)?]);
    }
    let parse_batch = |batch: &[u8]| {
        let elements: Vec<&RawValue> = serde_json::from_slice(batch)?;
        let elements = elements.into_iter().map(|element| element.get().as_bytes());
        Ok(elements
            .filter(|element| element.starts_with(b"{"))
            .filter_map(|element| parse_message(element).ok())
            .collect())
    };
    // The first error says more about a message that cannot be repaired either.
    parse_batch(bytes).or_else(|error| parse_batch(repair_message(bytes).as_bytes()).map_err(|_| error))
}

fn parse_message(bytes: &[u8]) -> Result<ServerJsonRpcMessage, serde_json::Error> {
    serde_json::from_slice(bytes)
        .or_else(|error| serde_json::from_str(&repair_message(bytes)).map_err(|_: serde_json::Error| error))
}

/// Returns a message as JSON that the SDK can parse, as far as that is possible: bytes that are no UTF-8 and unpaired
/// surrogates become U+FFFD, numbers that JSON does not have become `null`, and an error gets the code that it lacks.
pub(super) fn repair_message(message: &[u8]) -> Cow<'_, str> {
    let mut text = String::from_utf8_lossy(message);
    for repair in [replace_surrogates, replace_foreign_words, repair_error] {
        if let Some(repaired) = repair(&text) {
            text = Cow::Owned(repaired);
        }
    }
    text
}

fn replace_surrogates(text: &str) -> Option<String> {
    match replace_lone_surrogates(text) {
        Cow::Borrowed(_) => None,
        Cow::Owned(replaced) => Some(replaced),
    }
}

/// Completes an error that is not as JSON-RPC wants it; `None` if the message has none, or a complete one.
fn repair_error(text: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Probe<'a> {
        #[serde(borrow, default)]
        error: Option<&'a RawValue>,
    }
    // An array can be parsed as the fields of a struct, too.
    let probe = text.trim_start().starts_with('{').then(|| serde_json::from_str::<Probe<'_>>(text).ok())??;
    let error: Value = serde_json::from_str(probe.error?.get()).ok()?;
    let code = error.get("code").and_then(Value::as_i64).and_then(|code| i32::try_from(code).ok());
    if error.is_null() || code.is_some() && error.get("message").is_some_and(Value::is_string) {
        return None;
    }
    let code = code.or_else(|| error.get("code")?.as_str()?.parse().ok()).unwrap_or(ErrorCode::INTERNAL_ERROR.0);
    let words = ["message", "error", "detail", "reason"].iter().find_map(|key| error.get(*key)?.as_str());
    let message = match (words, &error) {
        (Some(words), _) => words.to_owned(),
        (None, Value::String(words)) => words.clone(),
        (None, other) => other.to_string(),
    };
    let mut message_value: Value = serde_json::from_str(text).ok()?;
    message_value["error"] = json!({"code": code, "message": message});
    let fields = message_value.as_object_mut()?;
    fields.remove("result");
    fields.insert("jsonrpc".to_owned(), "2.0".into());
    Some(message_value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repaired(text: &str) -> Value {
        let repaired = repair_message(text.as_bytes());
        serde_json::from_str(&repaired).unwrap_or_else(|error| panic!("{text}: {repaired}: {error}"))
    }

    #[test]
    fn what_is_no_json_is_replaced() {
        let rows = [
            (r#"{"t":"half \ud83d of it"}"#, json!({"t": "half \u{fffd} of it"})),
            (r#"{"t":"\udc00\ud83d"}"#, json!({"t": "\u{fffd}\u{fffd}"})),
            (r#"{"t":"\ud83d\ude00 \\ud83d \"\ud800\""}"#, json!({"t": "😀 \\ud83d \"\u{fffd}\""})),
            (
                r#"{"a":NaN,"b":[Infinity,-Infinity,nan],"t":"NaN, Infinity"}"#,
                json!({"a": null, "b": [null, null, null], "t": "NaN, Infinity"}),
            ),
            (r#"{"a":null,"b":1,"inf":-1.5e3}"#, json!({"a": null, "b": 1, "inf": -1500.0})),
            (r#"{"a":undefined}"#, json!({"a": null})),
        ];
        for (text, expected) in rows {
            assert_eq!(repaired(text), expected, "{text}");
        }
        let bytes = repair_message(b"{\"t\":\"caf\xe9\xff\"}").into_owned();
        assert_eq!(bytes, "{\"t\":\"caf\u{fffd}\u{fffd}\"}");
        let valid = r#"{"result":{"content":[{"text":"\ud83d\ude00"}]}}"#;
        assert!(matches!(repair_message(valid.as_bytes()), Cow::Borrowed(same) if same == valid));
    }

    #[test]
    fn arrays_are_batches_of_messages() {
        let answer = |id: u32| json!({"jsonrpc": "2.0", "id": id, "result": {"content": []}});
        let rows = [
            (answer(1).to_string(), vec![1]),
            (json!([answer(1)]).to_string(), vec![1]),
            (json!([answer(1), "noise", [answer(5)], answer(2)]).to_string(), vec![1, 2]),
            (json!(["starting"]).to_string(), vec![]),
            (json!([{"status": "starting"}]).to_string(), vec![]),
            (json!([]).to_string(), vec![]),
            (json!([1, "2"]).to_string(), vec![]),
            (format!("[{{\"x\":NaN}},{}]", answer(3)), vec![3]),
            (r#"[{"jsonrpc":"2.0","id":4,"error":{"message":"no code"}}]"#.to_owned(), vec![4]),
        ];
        for (text, ids) in rows {
            let messages = parse_messages(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
            let found = messages.iter().map(|message| serde_json::to_value(message).unwrap()["id"].as_u64().unwrap());
            assert_eq!(found.collect::<Vec<_>>(), ids, "{text}");
        }
        assert!(parse_messages(b"[\"cut").is_err() && parse_messages(b"{}").is_err());
    }

    #[test]
    fn errors_keep_their_words() {
        let rows = [
            (r#"{"id":1,"error":{"message":"no such pod"}}"#, -32603, "no such pod"),
            (r#"{"id":1,"error":"no such pod"}"#, -32603, "no such pod"),
            (r#"{"id":1,"error":{"code":"-32602","message":"bad"}}"#, -32602, "bad"),
            (r#"{"id":1,"error":{"code":4294967296,"message":"bad"}}"#, -32603, "bad"),
            (r#"{"id":1,"error":{"code":-32602,"message":null,"detail":"bad"}}"#, -32602, "bad"),
            (r#"{"id":1,"error":{"reason":"away"},"result":null}"#, -32603, "away"),
            (r#"{"id":1,"error":{"status":5}}"#, -32603, r#"{"status":5}"#),
        ];
        for (text, code, message) in rows {
            assert_eq!(repaired(text)["error"], json!({"code": code, "message": message}), "{text}");
        }
        let complete = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"x","data":{"a":1}}}"#;
        assert_eq!(repaired(complete)["error"]["data"], json!({"a": 1}));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_accepted(bytes: Vec<u8>, text in r#"[\[\]{}",:a1 ]{0,12}"#) {
            repair_message(&bytes);
            let _ = parse_messages(&bytes);
            let _ = parse_messages(text.as_bytes());
        }

        #[test]
        fn valid_json_stays(text: String, number: f64) {
            let value = json!({"t": text, "n": number, text.clone(): [null, true]});
            let valid = value.to_string();
            proptest::prop_assert_eq!(&*repair_message(valid.as_bytes()), &valid);
        }
    }
}
