//! The commands that look: `/show`, `/last`, `/tools`, `/context`, `/cost`, `/approvals`, `/export`.

use std::{
    fmt::Write as _,
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt as _,
};

use jiff::Timestamp;
use serde_json::Value;

use super::{context_report::render_context, export::render_export, terminal_chat::TerminalChat};
use crate::cli::{
    approval_card::{approval_headline, time_left},
    service::ApiClientError,
    terminal::{
        InputSource, LineStyle, format_count, reveal_text, sanitize_text, short_id, show_in_pager, truncate_chars,
    },
};

/// The number of characters of a tool's description that are shown.
const MAX_DESCRIPTION: usize = 70;
const NO_SESSION: &str = "no session is open; a message starts one";

impl<W: Write> TerminalChat<W> {
    /// Runs `/show N` and `/last`: the whole output of a call, in the pager.
    pub(super) async fn show_output(&mut self, number: Option<u64>) -> io::Result<()> {
        let Some(session) = &self.session else { return self.show_note(NO_SESSION) };
        let Some((number, call)) = session.view.find_output(number) else {
            return self.show_line(
                LineStyle::Failure,
                "there is no such output; the lines of finished calls have their numbers",
            );
        };
        let call = call.to_owned();
        match self.client.get_tool_output(&session.id, &call).await {
            Ok(text) => self.show_text(&format!("[{number}]\n{}", reveal_text(&text))).await,
            Err(error) => self.show_error(&error),
        }
    }

    /// Shows a long text: in a pager at a terminal, else as it is.
    async fn show_text(&mut self, text: &str) -> io::Result<()> {
        if self.source == InputSource::Terminal && self.uses_programs {
            self.screen.begin_prompt()?;
            let shown = show_in_pager(text.to_owned()).await;
            self.screen.end_prompt()?;
            if shown.is_ok() {
                return Ok(());
            }
        }
        self.show_line(LineStyle::Plain, text.trim_end())
    }

    /// Runs `/tools`.
    pub(super) async fn show_tools(&mut self) -> io::Result<()> {
        let tools = match self.client.list_tools().await {
            Ok(tools) => tools,
            Err(error) => return self.show_error(&error),
        };
        if tools.is_empty() {
            return self.show_note("there are no tools: no MCP server is connected");
        }
        let mut text = String::new();
        let mut server = String::new();
        for tool in &tools {
            let field = |key: &str| sanitize_text(tool[key].as_str().unwrap_or_default());
            if field("server") != server {
                server = field("server");
                let _ = writeln!(text, "{server}");
            }
            let rule = match (tool["effect"].as_str(), tool["gate"].as_str()) {
                (_, Some("deny")) => "forbidden",
                (Some("read"), Some("open")) => "reads",
                (Some("read"), _) => "reads, asks",
                (_, Some("ask")) => "changes, asks",
                _ => "changes",
            };
            let description = field("description");
            let description = truncate_chars(description.lines().next().unwrap_or_default(), MAX_DESCRIPTION);
            let _ = writeln!(text, "  {:<28} {rule:<14} {description}", field("name"));
        }
        self.show_text(&text).await
    }

    /// Runs `/context`: what the next request to the model consists of.
    pub(super) async fn show_context(&mut self) -> io::Result<()> {
        let Some(session) = &self.session else { return self.show_note(NO_SESSION) };
        let id = session.id.clone();
        let model = session.view.current_model().cloned();
        let read = async {
            let messages = self.client.list_messages(&id).await?;
            let tools = self.client.list_tools().await?;
            let providers = self.client.list_providers().await?;
            Ok::<_, ApiClientError>(render_context(&messages, &tools, &providers, model.as_ref()))
        };
        match read.await {
            Ok(text) => self.show_line(LineStyle::Plain, text),
            Err(error) => self.show_error(&error),
        }
    }

    /// Runs `/cost`.
    pub(super) async fn show_cost(&mut self) -> io::Result<()> {
        let of_session = match &self.session {
            Some(session) => {
                self.client.get_session(&session.id.clone()).await.map(|found| Some(found["usage"].clone()))
            }
            None => Ok(None),
        };
        let usage = self.client.get_usage().await;
        match (of_session, usage) {
            (Ok(of_session), Ok(usage)) => {
                if let Some(of_session) = of_session {
                    self.show_line(LineStyle::Plain, format!("this session  {}", usage_line(&of_session)))?;
                }
                let today = &usage["today"];
                let mut line = format!("today         {}", usage_line(&today["used"]));
                if let Some(left) = today["left_usd"].as_f64() {
                    let _ = write!(line, "; ${left:.2} left");
                }
                if let Some(left) = today["left_tokens"].as_u64() {
                    let _ = write!(line, "; {} tokens left", format_count(left));
                }
                self.show_line(LineStyle::Plain, line)
            }
            (Err(error), _) | (_, Err(error)) => self.show_error(&error),
        }
    }

    /// Runs `/approvals`: what waits in all sessions.
    pub(super) async fn show_approvals(&mut self) -> io::Result<()> {
        let approvals = match self.client.list_approvals().await {
            Ok(approvals) => approvals,
            Err(error) => return self.show_error(&error),
        };
        if approvals.is_empty() {
            return self.show_note("nothing waits for your decision");
        }
        for approval in &approvals {
            let session = short_id(approval["session_id"].as_str().unwrap_or_default()).to_owned();
            let left = time_left(approval, Timestamp::now()).unwrap_or_default();
            let line = format!("{}  ({left}, /switch {session})", approval_headline(approval).replace('\n', " "));
            self.show_line(LineStyle::Question, line)?;
        }
        Ok(())
    }

    /// Runs `/export`: writes the session as Markdown to a file that only the user can read.
    pub(super) async fn export_session(&mut self, path: Option<String>) -> io::Result<()> {
        let Some(session) = &self.session else { return self.show_note(NO_SESSION) };
        let id = session.id.clone();
        let text = match self.client.export_session(&id).await {
            // A service of an older version has no export.
            Err(ApiClientError::Rejected { status: 404, .. }) => match self.client.list_messages(&id).await {
                Ok(messages) => render_export(&messages),
                Err(error) => return self.show_error(&error),
            },
            Ok(text) => text,
            Err(error) => return self.show_error(&error),
        };
        let path = path.unwrap_or_else(|| format!("k8sops-{}.md", short_id(&id)));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        match file.and_then(|mut file| file.write_all(text.as_bytes())) {
            Ok(()) => self.show_note(format!("written to {path}")),
            Err(error) => self.show_line(LineStyle::Failure, format!("{path}: {error}; /export PATH writes elsewhere")),
        }
    }
}

fn usage_line(usage: &Value) -> String {
    let count = |key: &str| usage[key].as_u64().unwrap_or(0);
    let mut line = format!("{} tokens in", format_count(count("input_tokens")));
    if count("cached_tokens") > 0 {
        let _ = write!(line, " ({} cached)", format_count(count("cached_tokens")));
    }
    let _ = write!(line, ", {} out", format_count(count("output_tokens")));
    if let Some(cost) = usage["cost_usd"].as_f64().filter(|cost| *cost > 0.0) {
        let _ = write!(line, ", ${cost:.4}");
    }
    line
}
