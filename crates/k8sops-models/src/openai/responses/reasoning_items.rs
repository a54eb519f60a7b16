//! A reasoning item: how it is kept, and how it is made again to the letter.

use serde_json::{Map, Value, json};

use crate::provider_blocks::ProviderBlockRecorder;

/// What stands between the parts of a summary, where they are one text.
pub(crate) const PART_SEPARATOR: &str = "\n\n";
/// What is kept with a block of reasoning: the item without its summary, and how long each part of that is.
const ITEM_KEY: &str = "item";
const PART_LENGTHS_KEY: &str = "parts";

/// The texts of an item's summary.
pub(crate) fn summary_texts(item: &Value) -> Vec<&str> {
    let parts = item.get("summary").and_then(Value::as_array);
    parts.into_iter().flatten().filter_map(|part| part.get("text")?.as_str()).collect()
}

/// Notes a whole item, of which `shown` was streamed since it began.
pub(crate) fn record_item(recorder: &mut ProviderBlockRecorder, item: &Value, shown: &str) {
    let parts = summary_texts(item);
    let plain = item.get("summary").and_then(Value::as_array).is_some_and(|all| {
        all.iter().all(|part| {
            let fields = part.as_object().map(Map::len);
            fields == Some(2) && part.get("type").is_some_and(|kind| kind == "summary_text")
        })
    });
    if !plain || parts.join(PART_SEPARATOR) != shown {
        // Text of another kind stands in it: kept as it is.
        recorder.record_opaque(item.clone());
        return;
    }
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    let mut rest = item.clone();
    if let Some(fields) = rest.as_object_mut() {
        fields.remove("summary");
    }
    recorder.annotate_reasoning(ITEM_KEY, rest);
    recorder.annotate_reasoning(PART_LENGTHS_KEY, json!(lengths));
}

/// The item of a block of reasoning with this text; `None` when it cannot go back.
pub(crate) fn rebuild_item(text: &str, mut data: Map<String, Value>) -> Option<Value> {
    let mut item = data.remove(ITEM_KEY)?;
    let mut rest = text;
    let mut summary = Vec::new();
    for (n, length) in data.get(PART_LENGTHS_KEY)?.as_array()?.iter().enumerate() {
        if n > 0 {
            rest = rest.strip_prefix(PART_SEPARATOR)?;
        }
        let (part, after) = rest.split_at_checked(usize::try_from(length.as_u64()?).ok()?)?;
        summary.push(json!({"type": "summary_text", "text": part}));
        rest = after;
    }
    item.as_object_mut()?.insert("summary".to_owned(), Value::Array(summary));
    returnable_item(item).filter(|_| rest.is_empty())
}

/// An item as it came, if it can go back: where nothing is stored, only what is encrypted can.
pub(crate) fn returnable_item(item: Value) -> Option<Value> {
    let encrypted = item.get("encrypted_content").and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    (encrypted && item.get("type").is_some_and(|kind| kind == "reasoning")).then_some(item)
}
