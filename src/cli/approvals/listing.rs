//! The list of what waits, and its changes.

use std::{
    collections::BTreeSet,
    io::{self, Write as _},
    time::Duration,
};

use jiff::Timestamp;
use serde_json::Value;
use tokio::time::timeout;

use crate::cli::{
    approval_card::{approval_headline, time_left},
    service::{AccountStream, ApiClient, ApiClientError},
    terminal::{sanitize_text, short_id},
};

/// How often the list is read without a stream.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// How often the list is read besides what the stream says.
const REFRESH_INTERVAL: Duration = Duration::from_secs(60);
/// The frames after which the list may be another.
const CHANGES: &[&str] =
    &["hello", "gap", "approval_requested", "approval_resolved", "run_finished", "run_failed", "session_deleted"];

/// How requests are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListFormat {
    Lines,
    Json,
}

impl From<bool> for ListFormat {
    fn from(json: bool) -> Self {
        if json { Self::Json } else { Self::Lines }
    }
}

/// Prints what waits.
///
/// # Errors
/// The service rejects the request, or the output is closed.
pub(super) async fn list(client: &ApiClient, format: ListFormat) -> anyhow::Result<()> {
    let approvals = client.list_approvals().await?;
    if approvals.is_empty() && format == ListFormat::Lines {
        eprintln!("Nothing waits for your decision.");
    }
    for approval in &approvals {
        print_request(approval, format)?;
    }
    if !approvals.is_empty() && format == ListFormat::Lines {
        eprintln!("k8sops approvals show ID, approve ID, or deny ID -m \"why not\"");
    }
    Ok(())
}

/// Prints what waits, and each new request. A service that is away for a while is waited for.
///
/// # Errors
/// The service rejects the request, or the output is closed.
pub(super) async fn watch(client: &ApiClient, format: ListFormat) -> anyhow::Result<()> {
    let mut known = BTreeSet::new();
    let mut is_away = false;
    let mut changes = ChangeWatch::Closed;
    loop {
        match client.list_approvals().await {
            Ok(approvals) => {
                if std::mem::take(&mut is_away) {
                    eprintln!("reconnected");
                }
                let mut waiting = BTreeSet::new();
                for approval in &approvals {
                    let id = approval["approval_id"].as_str().unwrap_or_default().to_owned();
                    if !known.contains(&id) {
                        print_request(approval, format)?;
                    }
                    waiting.insert(id);
                }
                if format == ListFormat::Lines {
                    for gone in known.difference(&waiting) {
                        eprintln!("{}  is decided or has expired", short_id(gone));
                    }
                }
                known = waiting;
            }
            Err(error @ (ApiClientError::Unreachable { .. } | ApiClientError::Rejected { status: 500.., .. })) => {
                if !std::mem::replace(&mut is_away, true) {
                    eprintln!("{error}; trying again");
                }
            }
            Err(error) => return Err(error.into()),
        }
        changes.wait_for_change(client).await;
    }
}

/// Tells when to read the list again.
enum ChangeWatch {
    /// No stream is open.
    Closed,
    Open(AccountStream),
    /// The service is older than the stream.
    Unsupported,
}

impl ChangeWatch {
    /// Waits until the list may be another. A stream begins with a frame that says so, so that nothing is missed before it.
    async fn wait_for_change(&mut self, client: &ApiClient) {
        if let Self::Closed = self {
            match client.follow_account().await {
                Ok(stream) => *self = Self::Open(stream),
                Err(ApiClientError::Rejected { status: 404 | 405, .. }) => *self = Self::Unsupported,
                Err(_) => {}
            }
        }
        let Self::Open(stream) = self else { return tokio::time::sleep(POLL_INTERVAL).await };
        let change = async {
            while let Some(frame) = stream.next_frame().await {
                if frame["type"].as_str().is_some_and(|kind| CHANGES.contains(&kind)) {
                    return StreamState::Open;
                }
            }
            StreamState::Ended
        };
        if timeout(REFRESH_INTERVAL, change).await == Ok(StreamState::Ended) {
            *self = Self::Closed;
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

/// Whether a stream can be read further.
#[derive(Debug, PartialEq, Eq)]
enum StreamState {
    Open,
    Ended,
}

fn print_request(approval: &Value, format: ListFormat) -> io::Result<()> {
    let line = match format {
        ListFormat::Json => approval.to_string(),
        ListFormat::Lines => request_line(approval, Timestamp::now()),
    };
    let mut stdout = io::stdout();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}

/// Returns one line: the id, what the call does, whose session it is, and the time that is left.
fn request_line(approval: &Value, now: Timestamp) -> String {
    let id = short_id(approval["approval_id"].as_str().unwrap_or_default());
    let user = sanitize_text(approval["user_id"].as_str().unwrap_or_default());
    let facts: Vec<String> =
        [Some(user).filter(|user| !user.is_empty()), time_left(approval, now)].into_iter().flatten().collect();
    format!("{id}  {}  ({})", approval_headline(approval).replace('\n', " "), facts.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn line_has_the_id_the_change_and_the_time() {
        let approval = json!({"approval_id": "0199f3a3-2b00-7e61-8f52-7d0c9b4a3e15", "user_id": "anna\u{1b}[2J", "name": "scale",
            "effect": "mutating", "summary": "shop/web: replicas 2 → 3", "expires_at": "2026-11-30T10:00:00Z"});
        assert_eq!(
            request_line(&approval, "2026-11-30T09:30:00Z".parse().unwrap()),
            "9b4a3e15  scale changes the cluster: shop/web, replicas 2 → 3  (anna\u{fffd}[2J, 30 min left)"
        );
    }
}
