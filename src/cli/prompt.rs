//! `k8sops prompt`: prints what the model of a new session is sent before the first message, with the tokens of each part.

use std::{fmt::Write as _, io::Write, sync::Arc};

use k8sops_agent::{PromptPart, describe_servers, prompt_parts};
use k8sops_mcp::{McpConnector, McpHub, build_server_connector};
use k8sops_tools::{OfferedTools, ToolCatalog, introduce_connected_servers};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::config::AppConfig;

/// Options of `k8sops prompt`.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct PromptOptions {
    /// Print the descriptions and schemas of the tools as well.
    #[arg(long)]
    pub tools: bool,
}

/// Starts the MCP servers, and prints the system prompt and the tools that a new session has.
///
/// # Errors
/// A server's configuration cannot be used, or the output cannot be written.
pub async fn run(config: &AppConfig, options: PromptOptions, out: &mut impl Write) -> anyhow::Result<()> {
    let mut servers: Vec<(String, Arc<dyn McpConnector>)> = Vec::new();
    for server in &config.mcp.servers {
        servers.push((server.name.clone(), build_server_connector(server)?));
    }
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let hub = McpHub::start(servers, &config.mcp, tasks, &stop);
    hub.wait_until_started().await;
    let tools = ToolCatalog::new(hub.clone(), &config.tools, config.tool_bounds()).offered_tools();
    for status in hub.statuses().iter().filter(|status| !status.connected) {
        let error = status.error.as_deref().unwrap_or("not connected");
        eprintln!("k8sops: warning: {} is left out: {error}", status.name);
    }
    let mut parts = prompt_parts(&config.prompt, &config.agent.instructions);
    let servers = describe_servers(&"".into(), &introduce_connected_servers(&hub), |name| hub.operator_note(name));
    if !servers.is_empty() {
        parts.push(PromptPart { name: "servers", text: servers.trim().to_owned() });
    }
    hub.close().await;
    out.write_all(render_prompt(&parts, &tools, options).as_bytes())?;
    Ok(())
}

/// Renders the texts, then a table of the tokens.
fn render_prompt(parts: &[PromptPart], tools: &[OfferedTools], options: PromptOptions) -> String {
    let mut text = String::new();
    let mut rows = Vec::new();
    for part in parts {
        let _ = write!(text, "## {}\n\n{}\n\n", part.name, part.text);
        rows.push((part.name.to_owned(), part.count_tokens()));
    }
    for of_server in tools {
        let title = format!("tools of {}", of_server.server);
        if options.tools {
            let _ = write!(text, "## {title}\n\n");
            for spec in &of_server.specs {
                let schema = serde_json::Value::Object(spec.input_schema.clone());
                let _ = write!(text, "### {}\n\n{}\n\n{schema}\n\n", spec.name, spec.description);
            }
        }
        rows.push((format!("{title} ({})", of_server.specs.len()), of_server.tokens));
    }
    rows.push(("total".to_owned(), rows.iter().map(|(_, tokens)| tokens).sum()));
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    text.push_str("## tokens (estimated)\n\n");
    for (name, tokens) in rows {
        let _ = writeln!(text, "{name:width$}  {tokens:>6}");
    }
    text
}

#[cfg(test)]
mod tests {
    use k8sops_models::ToolSpec;
    use serde_json::{Map, json};

    use super::*;

    #[test]
    fn prompt_ends_with_the_tokens_of_each_part() {
        let part = |name, text: &str| PromptPart { name, text: text.into() };
        let parts = [part("role", "You are an agent."), part("place", "Production is eu-1.")];
        let input_schema: Map<_, _> = json!({"type": "object"}).as_object().unwrap().clone();
        let spec = ToolSpec { name: "pods_list".into(), description: "Lists pods.".into(), input_schema };
        let tools = [OfferedTools { server: "kubernetes".into(), specs: vec![spec], tokens: 42 }];
        insta::assert_snapshot!(render_prompt(&parts, &tools, PromptOptions { tools: true }));
        let short = render_prompt(&parts, &tools, PromptOptions::default());
        assert!(short.contains("tools of kubernetes (1)") && !short.contains("Lists pods."), "{short}");
    }
}
