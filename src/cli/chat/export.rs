//! A session as Markdown, from a service that has no export of its own.

use std::fmt::Write as _;

use serde_json::Value;

use crate::cli::terminal::{sanitize_text, yaml_text};

/// Renders the messages of a session, oldest first.
pub(super) fn render_export(messages: &[Value]) -> String {
    let mut text = "# Session\n".to_owned();
    for message in messages {
        let content = sanitize_text(message["content"].as_str().unwrap_or_default());
        let time = message["ts"].as_str().unwrap_or_default();
        match message["role"].as_str() {
            Some("user") => drop(write!(text, "\n## Question ({time})\n\n{}\n", content.trim())),
            Some("assistant") => {
                if !content.trim().is_empty() {
                    let _ = write!(text, "\n{}\n", content.trim());
                }
                for call in message["tool_calls"].as_array().into_iter().flatten() {
                    let name = sanitize_text(call["name"].as_str().unwrap_or_default());
                    let arguments = sanitize_text(yaml_text(&call["arguments"]).trim_end());
                    let _ = write!(text, "\n### {name}\n\n{}\n", fenced(&arguments));
                }
            }
            Some("tool") => {
                let number = message["number"].as_u64().unwrap_or(0);
                let _ = write!(text, "\nOutput [{number}]:\n\n{}\n", fenced(content.trim_end()));
            }
            _ => {}
        }
    }
    text
}

/// Returns a text in a code block that it cannot end.
fn fenced(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}\n{text}\n{fence}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn messages_calls_and_outputs_are_exported() {
        let messages = [
            json!({"role": "user", "content": "why?", "ts": "2026-11-30T10:00:00Z"}),
            json!({"role": "assistant", "content": "", "tool_calls": [{"name": "pods_list", "arguments": {"namespace": "shop"}}]}),
            json!({"role": "tool", "content": "web 0/1\n```\n", "number": 1}),
            json!({"role": "assistant", "content": "It is **down** [1]."}),
        ];
        assert_eq!(
            render_export(&messages),
            "# Session\n\n## Question (2026-11-30T10:00:00Z)\n\nwhy?\n\n### pods_list\n\n```\nnamespace: shop\n```\n\nOutput \
             [1]:\n\n````\nweb 0/1\n```\n````\n\nIt is **down** [1].\n"
        );
    }
}
