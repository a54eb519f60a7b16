//! What the next request to the model consists of, in tokens.

use k8sops_agent::PromptPart;
use serde_json::Value;

use crate::cli::{service::ModelSelection, terminal::format_count};

/// Renders a table of the parts of a request, with estimated tokens, and the share of the model's context window.
pub(super) fn render_context(
    messages: &[Value],
    tools: &[Value],
    providers: &Value,
    model: Option<&ModelSelection>,
) -> String {
    let of_role = |role: &str| {
        let texts = messages.iter().filter(|message| message["role"] == role);
        texts.map(|message| count_tokens(message["content"].as_str().unwrap_or_default())).sum::<usize>()
    };
    let calls = messages.iter().flat_map(|message| message["tool_calls"].as_array().into_iter().flatten());
    let schemas = tools.iter().filter(|tool| tool["offer"] != "search").map(|tool| {
        count_tokens(tool["description"].as_str().unwrap_or_default()) + count_tokens(&tool["input_schema"].to_string())
    });
    let rows = [
        ("your messages", of_role("user")),
        ("replies", of_role("assistant")),
        ("calls", calls.map(|call| count_tokens(&call["arguments"].to_string())).sum()),
        ("tool outputs", of_role("tool")),
        ("tools", schemas.sum()),
    ];
    let total: usize = rows.iter().map(|(_, tokens)| tokens).sum();
    let mut lines: Vec<String> = rows.iter().map(|(name, tokens)| row(name, *tokens)).collect();
    lines.push(row("total", total));
    lines.push(match context_window(providers, model) {
        Some(window) => {
            format!("estimated, without the instructions; {} % of {}", percent(total, window), format_count(window))
        }
        None => "estimated, without the instructions".to_owned(),
    });
    lines.join("\n")
}

fn row(name: &str, tokens: usize) -> String {
    format!("{name:<14}  {:>7}", format_count(tokens as u64))
}

fn count_tokens(text: &str) -> usize {
    PromptPart { name: "text", text: text.to_owned() }.count_tokens()
}

fn percent(tokens: usize, window: u64) -> u64 {
    (tokens as u64 * 100).checked_div(window).unwrap_or(0)
}

fn context_window(providers: &Value, model: Option<&ModelSelection>) -> Option<u64> {
    let ModelSelection { provider, model } = model?;
    let provider = providers["providers"].as_array()?.iter().find(|found| found["id"] == provider.as_str())?;
    let model = provider["models"].as_array()?.iter().find(|found| found["id"] == model.as_str())?;
    model["context_window"].as_u64()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn parts_are_counted_and_compared_with_the_window() {
        let messages = [
            json!({"role": "user", "content": "why?"}),
            json!({"role": "assistant", "content": "", "tool_calls": [{"arguments": {"name": "web"}}]}),
            json!({"role": "tool", "content": "NAME READY\nweb 0/1\n".repeat(100)}),
        ];
        let tools = [json!({"description": "Lists pods", "input_schema": {}, "offer": "always"})];
        let providers = json!({"providers": [{"id": "p", "models": [{"id": "m", "context_window": 10_000}]}]});
        let model = ModelSelection { provider: "p".to_owned(), model: "m".to_owned() };
        let text = render_context(&messages, &tools, &providers, Some(&model));
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("your messages ") && lines[3].starts_with("tool outputs "), "{text}");
        assert!(lines[6].ends_with("% of 10.0k"), "{text}");
    }
}
