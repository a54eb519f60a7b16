//! Reasoning items: how they are stored and rebuilt exactly.

use serde_json::{Map, Value, json};

use crate::provider_blocks::ProviderBlockRecorder;

/// The separator of the parts of a summary in the reasoning text.
pub(crate) const PART_SEPARATOR: &str = "\n\n";
/// Stored with a block of reasoning: the item without its summary, and the length of each part of the summary.
const ITEM_KEY: &str = "item";
const PART_LENGTHS_KEY: &str = "parts";

/// The field of a message that tells a comment between tool calls from the answer. The model works worse without it.
pub(crate) const PHASE_FIELD: &str = "phase";

/// Returns the parts of an item's summary.
pub(crate) fn summary_texts(item: &Value) -> Vec<&str> {
    let parts = item.get("summary").and_then(Value::as_array);
    parts.into_iter().flatten().filter_map(|part| part.get("text")?.as_str()).collect()
}

/// Records a complete item. `shown` is the reasoning that was streamed since the item started.
pub(crate) fn record_item(recorder: &mut ProviderBlockRecorder, item: &Value, shown: &str) {
    let parts = summary_texts(item);
    let plain = item.get("summary").and_then(Value::as_array).is_some_and(|all| {
        all.iter().all(|part| {
            let fields = part.as_object().map(Map::len);
            fields == Some(2) && part.get("type").is_some_and(|kind| kind == "summary_text")
        })
    });
    if !plain || parts.join(PART_SEPARATOR) != shown {
        // The item contains other kinds of text and is stored unchanged.
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

/// Rebuilds the item of a block of reasoning with this text. Returns `None` if it cannot be returned to the model.
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

/// Returns the item if it can be sent back: without storage at the provider, only encrypted items can.
pub(crate) fn returnable_item(item: Value) -> Option<Value> {
    let encrypted = item.get("encrypted_content").and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    (encrypted && item.get("type").is_some_and(|kind| kind == "reasoning")).then_some(item)
}
