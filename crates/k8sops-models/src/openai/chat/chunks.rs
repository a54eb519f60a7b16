//! The chunks of chat completions, as servers send them: ids and indices are missing or repeated, values have other types, an
//! error arrives in place of a chunk.

use serde::Deserialize;
use serde_json::Value;

use crate::{
    event_framing::ProviderEvent,
    lenient_json::{deserialize_one_or_many, deserialize_or_none},
};

#[derive(Deserialize)]
pub(super) struct CompletionChunk {
    #[serde(default)]
    pub(super) object: Option<String>,
    #[serde(default)]
    pub(super) choices: Option<Vec<ChunkChoice>>,
    #[serde(default)]
    pub(super) usage: Option<Value>,
    #[serde(default)]
    pub(super) error: Option<Value>,
}

#[derive(Deserialize)]
pub(super) struct ChunkChoice {
    #[serde(default)]
    pub(super) delta: Option<ChunkDelta>,
    /// Sent by some servers in place of `delta`, mostly with the whole reply.
    #[serde(default)]
    pub(super) message: Option<ChunkDelta>,
    #[serde(default, deserialize_with = "deserialize_or_none")]
    pub(super) finish_reason: Option<String>,
    /// What went wrong, in place of a finish reason or with one.
    #[serde(default)]
    pub(super) error: Option<Value>,
}

/// A chunk that adds text and nothing else, as nearly all do. Unlike [`CompletionChunk`], it is read without copies of values
/// whose form is not known.
#[derive(Deserialize)]
struct TextChunk<'a> {
    #[serde(default)]
    object: Option<&'a str>,
    choices: (TextChoice,),
    // A unit is read only from `null`.
    #[serde(default)]
    usage: (),
    #[serde(default)]
    error: (),
}

#[derive(Deserialize)]
struct TextChoice {
    delta: TextDelta,
    #[serde(default)]
    message: (),
    #[serde(default)]
    finish_reason: (),
    #[serde(default)]
    error: (),
}

#[derive(Deserialize)]
struct TextDelta {
    content: String,
    #[serde(default)]
    reasoning_content: (),
    #[serde(default)]
    reasoning: (),
    #[serde(default)]
    refusal: (),
    #[serde(default)]
    tool_calls: (),
    #[serde(default)]
    function_call: (),
    #[serde(default)]
    reasoning_details: (),
}

/// Returns the text of an event that adds text and nothing else.
pub(super) fn parse_text_chunk(event: &ProviderEvent) -> Option<String> {
    let chunk: TextChunk<'_> = serde_json::from_str(&event.data).ok()?;
    let TextChunk { object, choices: (choice,), usage: (), error: () } = chunk;
    let TextChoice { delta, message: (), finish_reason: (), error: () } = choice;
    let TextDelta {
        content,
        reasoning_content: (),
        reasoning: (),
        refusal: (),
        tool_calls: (),
        function_call: (),
        reasoning_details: (),
    } = delta;
    (event.name != "error" && object != Some("error")).then_some(content)
}

#[derive(Deserialize)]
pub(super) struct ChunkDelta {
    /// Text, or a list of parts with text.
    #[serde(default)]
    pub(super) content: Option<Value>,
    #[serde(default)]
    pub(super) reasoning_content: Option<Value>,
    #[serde(default)]
    pub(super) reasoning: Option<Value>,
    #[serde(default, deserialize_with = "deserialize_or_none")]
    pub(super) refusal: Option<String>,
    #[serde(default, deserialize_with = "deserialize_one_or_many")]
    pub(super) tool_calls: Option<Vec<ToolCallChunk>>,
    /// The legacy form of a single call.
    #[serde(default)]
    pub(super) function_call: Option<FunctionChunk>,
    #[serde(default)]
    pub(super) reasoning_details: Option<Vec<Value>>,
}

#[derive(Deserialize)]
pub(super) struct ToolCallChunk {
    #[serde(default, deserialize_with = "deserialize_or_none")]
    pub(super) index: Option<u64>,
    #[serde(default, deserialize_with = "deserialize_or_none")]
    pub(super) id: Option<String>,
    #[serde(default)]
    pub(super) function: Option<FunctionChunk>,
    #[serde(default)]
    pub(super) extra_content: Option<Value>,
}

#[derive(Default, Deserialize)]
pub(super) struct FunctionChunk {
    #[serde(default)]
    pub(super) name: Option<String>,
    /// A piece of JSON text. Some servers send the object itself.
    #[serde(default)]
    pub(super) arguments: Option<Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_text_is_read_as_text() {
        let text = |json: &str| parse_text_chunk(&ProviderEvent { data: json.to_owned(), ..ProviderEvent::default() });
        let chunk = |choice: &str, more: &str| format!(r#"{{"id":"1","choices":[{choice}]{more}}}"#);
        for (choice, more) in [
            (r#"{"index":0,"delta":{"content":"a\n"},"finish_reason":null}"#, ""),
            (r#"{"delta":{"role":"assistant","content":"a\n","tool_calls":null}}"#, r#","usage":null,"error":null"#),
            (
                r#"{"delta":{"content":"a\n"},"logprobs":{"content":[]}}"#,
                r#","object":"chat.completion.chunk","x":[1]"#,
            ),
        ] {
            assert_eq!(text(&chunk(choice, more)).as_deref(), Some("a\n"), "{choice} {more}");
        }
        for (choice, more) in [
            (r#"{"delta":{"content":null}}"#, ""),
            (r#"{"delta":{"content":[{"text":"a"}]}}"#, ""),
            (r#"{"delta":{"content":"a","reasoning_content":"b"}}"#, ""),
            (r#"{"delta":{"content":"a","tool_calls":[]}}"#, ""),
            (r#"{"delta":{"content":"a"},"finish_reason":"stop"}"#, ""),
            (r#"{"delta":{"content":"a"},"error":{"message":"b"}}"#, ""),
            (r#"{"delta":{"content":"a"},"message":{"content":"b"}}"#, ""),
            (r#"{"delta":{"content":"a"}},{"delta":{"content":"b"}}"#, ""),
            (r#"{"delta":{"content":"a"}}"#, r#","usage":{}"#),
            (r#"{"delta":{"content":"a"}}"#, r#","error":"b""#),
            (r#"{"delta":{"content":"a"}}"#, r#","object":"error""#),
            ("", ""),
        ] {
            assert_eq!(text(&chunk(choice, more)), None, "{choice} {more}");
        }
    }
}
