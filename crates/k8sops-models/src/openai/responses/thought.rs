//! A reasoning item: how it is kept, and how it is made again to the letter.

use serde_json::{Map, Value, json};

use crate::native::Recorder;

/// What stands between the parts of a summary, where they are one text.
pub(super) const GAP: &str = "\n\n";
/// What is kept with a block of reasoning: the item without its summary, and how long each part of that is.
const ITEM: &str = "item";
const PARTS: &str = "parts";

/// The texts of an item's summary.
pub(super) fn summary(item: &Value) -> Vec<&str> {
    let parts = item.get("summary").and_then(Value::as_array);
    parts.into_iter().flatten().filter_map(|part| part.get("text")?.as_str()).collect()
}

/// Notes a whole item, of which `shown` was streamed since it began.
pub(super) fn record(recorder: &mut Recorder, item: &Value, shown: &str) {
    let parts = summary(item);
    let plain = item.get("summary").and_then(Value::as_array).is_some_and(|all| {
        all.iter().all(|part| {
            let fields = part.as_object().map(Map::len);
            fields == Some(2) && part.get("type").is_some_and(|kind| kind == "summary_text")
        })
    });
    if !plain || parts.join(GAP) != shown {
        // Text of another kind stands in it: kept as it is.
        recorder.opaque(item.clone());
        return;
    }
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    let mut rest = item.clone();
    if let Some(fields) = rest.as_object_mut() {
        fields.remove("summary");
    }
    recorder.reasoning_data(ITEM, rest);
    recorder.reasoning_data(PARTS, json!(lengths));
}

/// The item of a block of reasoning with this text; `None` when it cannot go back.
pub(super) fn rebuilt(text: &str, mut data: Map<String, Value>) -> Option<Value> {
    let mut item = data.remove(ITEM)?;
    let mut rest = text;
    let mut summary = Vec::new();
    for (n, length) in data.get(PARTS)?.as_array()?.iter().enumerate() {
        if n > 0 {
            rest = rest.strip_prefix(GAP)?;
        }
        let (part, after) = rest.split_at_checked(usize::try_from(length.as_u64()?).ok()?)?;
        summary.push(json!({"type": "summary_text", "text": part}));
        rest = after;
    }
    item.as_object_mut()?.insert("summary".to_owned(), Value::Array(summary));
    given_back(item).filter(|_| rest.is_empty())
}

/// An item as it came, if it can go back: where nothing is stored, only what is encrypted can.
pub(super) fn given_back(item: Value) -> Option<Value> {
    let encrypted = item.get("encrypted_content").and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    (encrypted && item.get("type").is_some_and(|kind| kind == "reasoning")).then_some(item)
}
