//! Translation of the SDK's types into the types of this crate.

use std::{borrow::Cow, sync::Arc};

use rmcp::model::{CallToolResult, ContentBlock, ResourceContents, Tool};
use serde_json::Value;

use crate::{CallOutput, RemoteTool, ToolHints, server_text::quote_server_text};

pub(crate) fn to_remote_tool(tool: Tool) -> RemoteTool {
    let hints = tool.annotations.as_ref().map_or_else(ToolHints::default, |annotations| ToolHints {
        read_only: annotations.read_only_hint,
        destructive: annotations.destructive_hint,
        idempotent: annotations.idempotent_hint,
        open_world: annotations.open_world_hint,
    });
    let title = tool.title.or_else(|| tool.annotations.and_then(|annotations| annotations.title));
    RemoteTool {
        name: tool.name.into_owned(),
        description: tool.description.map(Cow::into_owned).or_else(|| title.clone()).unwrap_or_default(),
        title,
        input_schema: Arc::unwrap_or_clone(tool.input_schema),
        hints,
    }
}

pub(crate) fn to_call_output(result: CallToolResult) -> CallOutput {
    let mut text = String::new();
    for (i, block) in result.content.into_iter().enumerate() {
        if i > 0 {
            text.push('\n');
        }
        match to_text(block) {
            // Most results are one large block, which is not copied.
            only if text.is_empty() => text = only,
            next => text.push_str(&next),
        }
    }
    CallOutput { text, structured: result.structured_content, is_error: result.is_error.unwrap_or(false) }
}

/// Converts an answer that the SDK does not take for the result of a tool. The tool has run, so what can be read of the
/// answer is its output: a block of an unknown kind costs only itself.
pub(crate) fn to_lenient_output(answer: &Value) -> CallOutput {
    let blocks = match answer.get("content") {
        Some(Value::Array(blocks)) => blocks.iter().map(to_lenient_text).collect::<Vec<_>>(),
        Some(Value::Null) => Vec::new(),
        Some(block) => vec![to_lenient_text(block)],
        None if answer.get("structuredContent").is_some_and(|structured| !structured.is_null()) => Vec::new(),
        None => vec![answer.to_string()],
    };
    CallOutput {
        text: blocks.join("\n"),
        structured: answer.get("structuredContent").filter(|structured| !structured.is_null()).cloned(),
        is_error: answer.get("isError").is_some_and(|flag| *flag == Value::Bool(true) || flag == "true"),
    }
}

fn to_lenient_text(block: &Value) -> String {
    if let Ok(block) = serde_json::from_value::<ContentBlock>(block.clone()) {
        return to_text(block);
    }
    match block {
        Value::String(text) => text.clone(),
        Value::Object(fields) => match fields.get("text") {
            Some(Value::String(text)) => text.clone(),
            Some(other) if !other.is_null() => other.to_string(),
            // An embedded resource, or a link to one, that lacks something.
            _ if fields.get("resource").is_some_and(Value::is_object) => to_lenient_text(&fields["resource"]),
            _ if fields.get("uri").is_some_and(Value::is_string) => {
                format!("[resource {}]", quote_server_text(fields["uri"].as_str().unwrap_or_default()))
            }
            _ => {
                let kind = fields.get("type").and_then(Value::as_str).unwrap_or("unknown");
                format!("[content of the unknown kind {}]", quote_server_text(kind))
            }
        },
        other => other.to_string(),
    }
}

fn to_text(block: ContentBlock) -> String {
    match block {
        ContentBlock::Text(text) => text.text,
        ContentBlock::Image(image) => format!("[image, {}, {} bytes]", image.mime_type, decoded_len(&image.data)),
        ContentBlock::Audio(audio) => format!("[audio, {}, {} bytes]", audio.mime_type, decoded_len(&audio.data)),
        ContentBlock::Resource(embedded) => match embedded.resource {
            ResourceContents::TextResourceContents { uri, text, .. } => format!("[resource {uri}]\n{text}"),
            ResourceContents::BlobResourceContents { uri, mime_type, blob, .. } => {
                let mime_type = mime_type.unwrap_or_else(|| "unknown type".to_owned());
                format!("[resource {uri}, {mime_type}, {} bytes]", decoded_len(&blob))
            }
            _ => "[resource of an unknown kind]".to_owned(),
        },
        ContentBlock::ResourceLink(link) => {
            let mime_type = link.mime_type.map(|mime_type| format!(", {mime_type}")).unwrap_or_default();
            format!("[resource link {}: {}{mime_type}]", link.name, link.uri)
        }
        _ => "[content of an unknown kind]".to_owned(),
    }
}

/// Returns the number of bytes that a base64 text encodes.
fn decoded_len(base64: &str) -> usize {
    base64.trim_end_matches('=').len() * 3 / 4
}

#[cfg(test)]
mod tests {
    use rmcp::model::Resource;
    use serde_json::json;

    use super::*;

    #[test]
    fn non_text_content_is_described() {
        let output = to_call_output(CallToolResult::success(vec![
            ContentBlock::text("pods:"),
            ContentBlock::image("aGVsbG8=", "image/png"),
            ContentBlock::embedded_text("file:///a.yaml", "kind: Pod"),
            ContentBlock::resource_link(Resource::new("file:///b.log", "b.log")),
        ]));
        assert_eq!(
            output.text,
            "pods:\n[image, image/png, 5 bytes]\n[resource file:///a.yaml]\nkind: Pod\n[resource link b.log: file:///b.log]"
        );
        assert!(!output.is_error);
    }

    #[test]
    fn unknown_content_costs_only_itself() {
        let rows = [
            (
                json!({"content": [{"type": "text", "text": "a"}, {"type": "video", "url": "x"}, {"type": "text", "text": "b"}]}),
                "a\n[content of the unknown kind video]\nb",
            ),
            (
                json!({"content": [{"type": "text", "text": {"pods": 3}}, {"text": "no type"}, "bare", 5]}),
                "{\"pods\":3}\nno type\nbare\n5",
            ),
            (json!({"content": [{"type": "image", "data": 5}, null]}), "[content of the unknown kind image]\nnull"),
            (json!({"content": [{"type": "resource", "resource": {"text": "kind: Pod"}}]}), "kind: Pod"),
            (json!({"content": [{"type": "resource_link", "uri": "file:///a.log"}]}), "[resource file:///a.log]"),
            (
                json!({"content": [{"type": "resource", "resource": {"blob": 5}}]}),
                "[content of the unknown kind unknown]",
            ),
            (json!({"content": "all of it"}), "all of it"),
            (json!({"content": {"type": "text", "text": "one"}}), "one"),
            (json!({"content": null}), ""),
            (json!({"pods": 3}), "{\"pods\":3}"),
        ];
        for (answer, text) in rows {
            assert_eq!(to_lenient_output(&answer).text, text, "{answer}");
        }
        let failed =
            to_lenient_output(&json!({"content": [{"type": "odd"}], "isError": "true", "structuredContent": [1]}));
        assert!(failed.is_error);
        assert_eq!(failed.structured, Some(json!([1])));
    }

    #[test]
    fn structured_content_is_kept() {
        let output = to_call_output(CallToolResult::structured(json!({"ready": 3})));
        assert_eq!(output.structured, Some(json!({"ready": 3})));
    }
}
