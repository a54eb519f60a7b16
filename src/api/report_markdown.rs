//! The report of a session as Markdown, for a wiki or an issue.

use std::{fmt::Write as _, ops::Range};

use k8sops_core::{ReportItem, ReportedApproval, ReportedCall, SessionReport};
use pulldown_cmark::{Event, Options, Parser};

use super::report_text::{
    approval_line, arguments_text, describe_attachment, describe_call, describe_entry, describe_work, feedback_line,
    format_time, report_title, status_text, usage_line,
};

/// Renders a report.
pub(super) fn render_markdown(report: &SessionReport) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "# {}\n", inline(&report_title(report)));
    let _ = writeln!(
        text,
        "Session `{}` of {}, {} to {}. {}.\n",
        report.session_id,
        inline(report.user_id.as_str()),
        format_time(report.created_at),
        format_time(report.updated_at),
        usage_line(report.usage)
    );
    if let Some(seq) = report.begins_at_seq {
        let _ = writeln!(text, "The events before number {seq} are not kept.\n");
    }
    text.push_str("## Summary\n\n");
    match &report.question {
        Some(question) => push_quote(&mut text, &plain(question)),
        None => text.push_str("No message was sent.\n\n"),
    }
    if let Some(conclusion) = &report.conclusion {
        push_quote(&mut text, &without_markup(conclusion));
    }
    let _ = writeln!(text, "{}\n", describe_work(report));
    text.push_str("## Changes\n\n");
    if report.changes.is_empty() {
        text.push_str("Nothing was changed.\n\n");
    }
    for call in &report.changes {
        push_change(&mut text, call);
    }
    text.push_str("## Timeline\n\n");
    for entry in &report.entries {
        let _ = writeln!(text, "- {} {}", format_time(entry.ts), inline(&describe_entry(entry)));
    }
    text.push_str("\n## Conversation\n\n");
    for entry in &report.entries {
        match &entry.item {
            ReportItem::Message(message) => {
                let _ = writeln!(text, "### User, {}\n", format_time(entry.ts));
                push_quote(&mut text, &plain(&message.content));
                for attachment in &message.attachments {
                    let _ =
                        writeln!(text, "<details><summary>{}</summary>\n", inline(&describe_attachment(attachment)));
                    push_code(&mut text, "text", &attachment.text);
                    text.push_str("</details>\n\n");
                }
            }
            ReportItem::Reply(reply) => {
                let _ = writeln!(text, "### Agent, {}\n", format_time(entry.ts));
                push_quote(&mut text, &without_markup(&reply.content));
                if let Some(feedback) = &reply.feedback {
                    let _ = writeln!(text, "{}\n", inline(&feedback_line(feedback)));
                }
            }
            ReportItem::Call(call) => push_evidence(&mut text, call),
            ReportItem::Question(_) | ReportItem::RunFinished(_) | ReportItem::Notice(_) => {
                let _ = writeln!(text, "{}\n", inline(&describe_entry(entry)));
            }
        }
    }
    text.push_str("## Usage\n\n| Model | Input tokens | Output tokens | US dollars |\n|---|---|---|---|\n");
    let rows = report.models.iter().map(|model| (format!("{}/{}", model.provider, model.model), model.usage));
    for (name, usage) in rows.chain([("all".to_owned(), report.usage)]) {
        let (input, output, cost) = (usage.input_tokens, usage.output_tokens, usage.cost_usd.as_dollars());
        let _ = writeln!(text, "| {} | {input} | {output} | {cost:.4} |", inline(&name));
    }
    text
}

fn push_change(text: &mut String, call: &ReportedCall) {
    let _ = writeln!(text, "### {}\n", inline(&describe_call(call)));
    let sent = call.sent_at.map_or_else(|| "Not sent".to_owned(), |at| format!("Sent {}", format_time(at)));
    let _ = writeln!(text, "{sent}, {}.\n", status_text(call));
    for approval in &call.approvals {
        push_approval(text, approval);
    }
    push_code(text, "json", &arguments_text(call));
}

fn push_approval(text: &mut String, approval: &ReportedApproval) {
    let _ = writeln!(text, "{}\n", inline(&approval_line(approval)));
    for object in &approval.objects {
        let place = object.namespace.as_deref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
        let _ = writeln!(text, "- {}", inline(&format!("{} {} {place}{}", object.verb, object.kind, object.name)));
    }
    if !approval.objects.is_empty() {
        text.push('\n');
    }
    if let Some(preview) = &approval.preview {
        push_code(text, "diff", preview);
    }
}

fn push_evidence(text: &mut String, call: &ReportedCall) {
    let summary = inline(&format!("{}: {}", describe_call(call), status_text(call)));
    let _ = writeln!(text, "<details><summary>{summary}</summary>\n");
    push_code(text, "json", &arguments_text(call));
    for approval in &call.approvals {
        let _ = writeln!(text, "{}\n", inline(&approval_line(approval)));
    }
    push_code(text, "text", &call.output);
    text.push_str("</details>\n\n");
}

/// Adds a block of code, with a fence that does not occur in it.
fn push_code(text: &mut String, language: &str, code: &str) {
    if code.is_empty() {
        return;
    }
    let longest = code.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat((longest + 1).max(3));
    let _ = writeln!(text, "{fence}{language}\n{}\n{fence}\n", code.trim_end_matches('\n'));
}

/// Adds a quotation: headings and lists in it do not end the part of the report that it is in.
fn push_quote(text: &mut String, quoted: &str) {
    for line in quoted.lines() {
        let _ = writeln!(text, "> {line}");
    }
    text.push('\n');
}

/// Escapes a text that is to be read as it is, on one line.
fn inline(text: &str) -> String {
    plain(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Escapes a text that is to be read as it is.
fn plain(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '#' | '|' | '!' | '~' => escaped.extend(['\\', c]),
            c if c.is_control() && c != '\n' && c != '\t' => {}
            c => escaped.push(c),
        }
    }
    escaped
}

/// Escapes the HTML in Markdown, which some readers of Markdown run.
fn without_markup(markdown: &str) -> String {
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH;
    let markup: Vec<Range<usize>> = Parser::new_ext(markdown, options)
        .into_offset_iter()
        .filter_map(|(event, range)| matches!(event, Event::Html(_) | Event::InlineHtml(_)).then_some(range))
        .collect();
    let mut escaped = String::with_capacity(markdown.len());
    let mut done = 0;
    for Range { start, end } in markup {
        if start < done {
            continue;
        }
        escaped.push_str(&markdown[done..start]);
        escaped.push_str(&markdown[start..end].replace('&', "&amp;").replace('<', "&lt;"));
        done = end;
    }
    escaped.push_str(&markdown[done..]);
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fence_is_longer_than_those_in_the_code() {
        let mut text = String::new();
        push_code(&mut text, "text", "a\n````\n<script>\n````");
        assert!(text.starts_with("`````text\n") && text.ends_with("\n`````\n\n"), "{text}");
    }

    #[test]
    fn markup_is_text() {
        assert_eq!(plain("<b> *x* [a](b)"), "&lt;b&gt; \\*x\\* \\[a\\](b)");
        let escaped = without_markup("**bold** <script>x</script> `<code>`\n\n<iframe src=x>\n\n- a <b>\n");
        assert!(escaped.contains("**bold** &lt;script>") && escaped.contains("`<code>`"), "{escaped}");
        assert!(!escaped.contains("<script") && !escaped.contains("<iframe") && !escaped.contains("<b>"), "{escaped}");
        assert_eq!(inline("a\n# b"), "a \\# b");
    }
}
