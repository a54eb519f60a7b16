//! The words of a report, for all of its formats.

use k8sops_core::{
    ApprovalDecision, FeedbackRating, InputAction, MessageAttachment, ReplyFeedback, ReportEntry, ReportItem,
    ReportedApproval, ReportedCall, SessionReport, Timestamp, TokenUsage, ToolStatus,
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

/// Returns what the session did, in one sentence.
pub(super) fn describe_work(report: &SessionReport) -> String {
    let calls: Vec<&ReportedCall> = report
        .entries
        .iter()
        .filter_map(|entry| match &entry.item {
            ReportItem::Call(call) => Some(call),
            _ => None,
        })
        .collect();
    let is_unsuccessful = |call: &&&ReportedCall| call.sent_at.is_some() && call.status != Some(ToolStatus::Ok);
    let made = report.changes.iter().filter(|call| call.sent_at.is_some()).count();
    let refused = report.changes.iter().filter(|call| call.status == Some(ToolStatus::Denied)).count();
    let facts = [
        Some(count_of(calls.len() - report.changes.len(), "look")),
        Some(format!("{} made", count_of(made, "change"))),
        (refused > 0).then(|| format!("{refused} denied")),
        Some(calls.iter().filter(is_unsuccessful).count()).filter(|n| *n > 0).map(|n| format!("{n} without success")),
    ];
    format!("{}.", facts.into_iter().flatten().collect::<Vec<_>>().join(", "))
}

fn count_of(count: usize, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

/// Returns what an attachment is.
pub(super) fn describe_attachment(attachment: &MessageAttachment) -> String {
    let MessageAttachment { name, media_type, bytes, .. } = attachment;
    let shortened = if attachment.truncated { ", shortened here" } else { "" };
    format!("Attachment {name} ({media_type}, {bytes} bytes{shortened})")
}

/// Returns what a user thinks of a reply.
pub(super) fn feedback_line(feedback: &ReplyFeedback) -> String {
    let rating = match feedback.rating {
        FeedbackRating::Up => "helpful",
        FeedbackRating::Down => "not helpful",
    };
    let comment = feedback.comment.as_deref().map(|comment| format!(": {comment}")).unwrap_or_default();
    format!("Rated as {rating} by {}{comment}", feedback.by)
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
