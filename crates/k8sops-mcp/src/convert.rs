//! What comes back from a server, in our own words.

use rmcp::model::{CallToolResult, ContentBlock, ResourceContents, Tool};

use crate::{CallOutput, RemoteTool, ToolHints};

/// A tool as its server describes it.
pub(crate) fn remote_tool(tool: Tool) -> RemoteTool {
    let hints = tool.annotations.as_ref().map_or_else(ToolHints::default, |a| ToolHints {
        read_only: a.read_only_hint,
        destructive: a.destructive_hint,
        idempotent: a.idempotent_hint,
        open_world: a.open_world_hint,
    });
    RemoteTool {
        name: tool.name.into_owned(),
        description: tool.description.map(std::borrow::Cow::into_owned).or(tool.title).unwrap_or_default(),
        input_schema: std::sync::Arc::unwrap_or_clone(tool.input_schema),
        hints,
    }
}

/// The result of a call.
pub(crate) fn call_output(result: CallToolResult) -> CallOutput {
    let mut text = String::new();
    for (i, block) in result.content.into_iter().enumerate() {
        if i > 0 {
            text.push('\n');
        }
        match block_text(block) {
            whole if text.is_empty() => text = whole,
            more => text.push_str(&more),
        }
    }
    CallOutput { text, structured: result.structured_content, is_error: result.is_error.unwrap_or(false) }
}

fn block_text(block: ContentBlock) -> String {
    match block {
        ContentBlock::Text(text) => text.text,
        ContentBlock::Image(image) => format!("[image, {}, {} bytes]", image.mime_type, decoded_len(&image.data)),
        ContentBlock::Audio(audio) => format!("[audio, {}, {} bytes]", audio.mime_type, decoded_len(&audio.data)),
        ContentBlock::Resource(embedded) => match embedded.resource {
            ResourceContents::TextResourceContents { uri, text, .. } => format!("[resource {uri}]\n{text}"),
            ResourceContents::BlobResourceContents { uri, mime_type, blob, .. } => {
                let kind = mime_type.unwrap_or_else(|| "unknown type".to_owned());
                format!("[resource {uri}, {kind}, {} bytes]", decoded_len(&blob))
            }
            _ => "[resource of a kind that is not known here]".to_owned(),
        },
        ContentBlock::ResourceLink(link) => {
            let kind = link.mime_type.map(|kind| format!(", {kind}")).unwrap_or_default();
            format!("[resource link {}: {}{kind}]", link.name, link.uri)
        }
        _ => "[content of a kind that is not known here]".to_owned(),
    }
}

/// Bytes behind a base64 text.
fn decoded_len(base64: &str) -> usize {
    base64.trim_end_matches('=').len() * 3 / 4
}

#[cfg(test)]
mod tests {
    use rmcp::model::Resource;
    use serde_json::json;

    use super::*;

    #[test]
    fn content_that_is_not_text_becomes_a_note() {
        let output = call_output(CallToolResult::success(vec![
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
    fn structured_content_is_kept() {
        let output = call_output(CallToolResult::structured(json!({"ready": 3})));
        assert_eq!(output.structured, Some(json!({"ready": 3})));
    }
}
