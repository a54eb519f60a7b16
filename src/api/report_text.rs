//! The words of a report, for all of its formats.

use k8sops_core::{
    ApprovalDecision, InputAction, ReportEntry, ReportItem, ReportedApproval, ReportedCall, SessionReport, Timestamp,
    TokenUsage,
};

/// The most characters of a message in the timeline.
const MAX_LINE_CHARS: usize = 160;

/// Returns the title of a report.
pub(super) fn report_title(report: &SessionReport) -> String {
    if report.title.is_empty() { "Untitled session".to_owned() } else { report.title.clone() }
}

/// Returns a point in time in UTC, to the second.
pub(super) fn format_time(ts: Timestamp) -> String {
    let text = ts.to_string();
    let date = text.get(..10).unwrap_or_default();
    let time = text.get(11..19).unwrap_or_default();
    format!("{date} {time} UTC")
}

/// Returns the arguments of a call as indented JSON.
pub(super) fn arguments_text(call: &ReportedCall) -> String {
    serde_json::to_string_pretty(&call.arguments).unwrap_or_default()
}

/// Returns what a call is.
pub(super) fn describe_call(call: &ReportedCall) -> String {
    let what = call.approvals.iter().rev().map(|approval| approval.summary.as_str()).find(|what| !what.is_empty());
    let place = if call.server.is_empty() { String::new() } else { format!(" on {}", call.server) };
    match what {
        Some(what) => format!("{}{place}: {what}", call.name),
        None => format!("{}{place}", call.name),
    }
}

/// Returns how a call ended.
pub(super) fn status_text(call: &ReportedCall) -> String {
    match call.status {
        Some(status) if call.sent_at.is_some() => format!("{} after {} ms", status.as_str(), call.duration_ms),
        Some(status) => status.as_str().to_owned(),
        None => "not ended".to_owned(),
    }
}

/// Returns who decided an approval.
pub(super) fn approval_line(approval: &ReportedApproval) -> String {
    let by = approval.by.as_ref().map(ToString::to_string).unwrap_or_default();
    let at = approval.decided_at.map(|at| format!(" at {}", format_time(at))).unwrap_or_default();
    let comment = approval.comment.as_deref().map(|comment| format!(": {comment}")).unwrap_or_default();
    match approval.decision {
        Some(ApprovalDecision::Approve) => format!("Approved by {by}{at}{comment}"),
        Some(ApprovalDecision::Deny) => format!("Denied by {by}{at}{comment}"),
        Some(ApprovalDecision::Expired) => format!("The approval expired{at}"),
        None => format!("Approval requested at {}, not answered", format_time(approval.requested_at)),
    }
}

/// Returns tokens and cost.
pub(super) fn usage_line(usage: TokenUsage) -> String {
    format!(
        "{} input tokens, {} output tokens, {:.4} US dollars",
        usage.input_tokens,
        usage.output_tokens,
        usage.cost_usd.as_dollars()
    )
}

/// Returns one line on an entry.
pub(super) fn describe_entry(entry: &ReportEntry) -> String {
    match &entry.item {
        ReportItem::Message(message) => format!("User: {}", first_line(&message.content)),
        ReportItem::Reply(reply) => format!("Agent: {}", first_line(&reply.content)),
        ReportItem::Call(call) => format!("{}: {}", describe_call(call), status_text(call)),
        ReportItem::Question(question) => {
            let by = question.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
            let answer = match question.action {
                Some(InputAction::Accept) => format!("answered{by}"),
                Some(InputAction::Decline) => format!("declined{by}"),
                Some(InputAction::Cancel) => "not answered".to_owned(),
                None => "waits for an answer".to_owned(),
            };
            format!("{} asks: {} ({answer})", question.server, first_line(&question.message))
        }
        ReportItem::RunFinished(end) => {
            format!("Run {} after {} s, {}", end.outcome.as_str(), end.duration_ms / 1000, usage_line(end.usage))
        }
        ReportItem::Notice(notice) => format!("{}: {}", notice.code, first_line(&notice.message)),
    }
}

/// Returns the first line of a text that is not empty.
fn first_line(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let mut short: String = line.chars().take(MAX_LINE_CHARS).collect();
    if short.len() < line.len() {
        short.push('…');
    }
    short
}
