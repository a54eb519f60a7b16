//! One request: shown, approved or denied.

use std::io;

use serde_json::Value;

use crate::cli::{
    approval_card::{approval_headline, render_approval},
    service::{ApiClient, ApiClientError},
    terminal::{LineStyle, ScreenUpdate, TerminalCapabilities, TerminalScreen, author_name, short_id},
};

/// What the user decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    Approve,
    Deny,
}

impl Decision {
    fn wire_name(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Deny => "deny",
        }
    }
}

/// Shows a request, with all of its diff.
///
/// # Errors
/// There is no such request, or the output is closed.
pub(super) async fn show(client: &ApiClient, given: Option<&str>) -> anyhow::Result<()> {
    let mut approval = find_approval(client, given).await?;
    let session = approval["session_id"].as_str().unwrap_or_default().to_owned();
    let id = approval["approval_id"].as_str().unwrap_or_default().to_owned();
    if approval["preview_detail"]["lines_omitted"].as_u64().is_some_and(|omitted| omitted > 0) {
        approval["preview"] = Value::String(client.get_approval_preview(&session, &id).await?);
        approval["preview_detail"]["lines_omitted"] = Value::from(0);
    }
    let mut updates = render_approval(&approval);
    updates.push(ScreenUpdate::Line(
        LineStyle::Note,
        format!("k8sops approvals approve {0}, or deny {0} -m \"why not\"", short_id(&id)),
    ));
    let mut screen = TerminalScreen::new(io::stdout(), TerminalCapabilities::detect(&io::stdout()), None);
    match screen.apply_updates(updates) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        shown => Ok(shown?),
    }
}

/// Sends a decision, and says what it was about.
///
/// # Errors
/// There is no such request, the caller may not answer it, or it is closed.
pub(super) async fn decide(
    client: &ApiClient,
    given: &str,
    decision: Decision,
    comment: Option<String>,
) -> anyhow::Result<()> {
    let approval = find_approval(client, Some(given)).await?;
    let resolved = client.resolve_approval(&approval, decision.wire_name(), comment.as_deref()).await?;
    let by = author_name(resolved["by"].as_str().unwrap_or_default());
    let done = match resolved["decision"].as_str() {
        Some("approve") => "approved",
        Some("deny") => "denied",
        _ => "closed",
    };
    println!("{done} by {by}: {}", approval_headline(&approval));
    Ok(())
}

/// Returns the request that the user means.
async fn find_approval(client: &ApiClient, given: Option<&str>) -> Result<Value, ApiClientError> {
    let approvals = client.list_approvals().await?;
    let is_meant = |approval: &&Value| {
        let id = approval["approval_id"].as_str().unwrap_or_default();
        given.is_none_or(|given| !given.is_empty() && (id.starts_with(given) || id.ends_with(given)))
    };
    let matches: Vec<&Value> = approvals.iter().filter(is_meant).collect();
    match (&matches[..], given) {
        ([approval], _) => Ok((*approval).clone()),
        ([], _) => Err(ApiClientError::NoSuchApproval { given: given.unwrap_or_default().to_owned() }),
        (_, None) => Err(ApiClientError::WhichApproval { waiting: matches.len() }),
        (_, Some(given)) => Err(ApiClientError::AmbiguousApproval { given: given.to_owned(), matches: matches.len() }),
    }
}
