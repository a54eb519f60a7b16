//! The report of a session as one HTML file. It has no script and loads nothing; whatever a log has in it is text.

use std::{fmt::Write as _, sync::LazyLock};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use k8sops_core::{ReportEntry, ReportItem, ReportedApproval, ReportedCall, SessionReport, ToolEffect};
use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd, html};
use sha2::{Digest as _, Sha256};

use super::report_text::{
    approval_line, arguments_text, describe_attachment, describe_call, describe_entry, describe_work, feedback_line,
    format_time, report_title, status_text, usage_line,
};

const STYLE: &str = include_str!("report.css");

/// What a browser may do with the file: nothing but apply its style.
pub(super) static POLICY: LazyLock<String> = LazyLock::new(|| {
    let digest = BASE64_STANDARD.encode(Sha256::digest(STYLE));
    format!(
        "default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
});

/// Renders a report.
pub(super) fn render_html(report: &SessionReport) -> String {
    let mut page = HtmlPage::default();
    // `frame-ancestors` is for the response header only.
    let policy = POLICY.replace("; frame-ancestors 'none'", "");
    let title = report_title(report);
    page.raw("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    page.raw(&format!("<meta http-equiv=\"content-security-policy\" content=\"{policy}\">"));
    page.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta name=\"robots\" content=\"noindex\">");
    page.raw("<meta name=\"referrer\" content=\"no-referrer\">");
    page.element("title", &title);
    page.raw(&format!("<style>{STYLE}</style></head><body><main>\n"));
    page.element("h1", &title);
    let span = format!("{} to {}", format_time(report.created_at), format_time(report.updated_at));
    page.raw("<p class=\"facts\">");
    page.text(&format!("Session {} of {}, {span}. {}", report.session_id, report.user_id, usage_line(report.usage)));
    page.raw("</p>\n");
    if let Some(seq) = report.begins_at_seq {
        page.raw("<p class=\"notice\">");
        page.text(&format!("The events before number {seq} are not kept."));
        page.raw("</p>\n");
    }
    page.summary(report);
    page.changes(&report.changes);
    page.timeline(&report.entries);
    page.conversation(&report.entries);
    page.usage(report);
    page.raw("</main></body></html>\n");
    page.0
}

#[derive(Default)]
struct HtmlPage(String);

impl HtmlPage {
    fn raw(&mut self, markup: &str) {
        self.0.push_str(markup);
    }

    /// Adds text. Characters that no one can see are shown by their number: a name must not look like another one.
    fn text(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                '\n' | '\t' => self.0.push(c),
                c if is_invisible(c) => drop(write!(self.0, "<span class=\"code\">U+{:04X}</span>", u32::from(c))),
                c => self.0.push(c),
            }
        }
    }

    fn element(&mut self, name: &str, text: &str) {
        self.raw(&format!("<{name}>"));
        self.text(text);
        self.raw(&format!("</{name}>\n"));
    }

    fn preformatted(&mut self, text: &str) {
        self.raw("<pre>");
        self.text(text);
        self.raw("</pre>\n");
    }

    fn summary(&mut self, report: &SessionReport) {
        self.element("h2", "Summary");
        match &report.question {
            Some(question) => {
                self.raw("<blockquote class=\"question\">");
                self.text(question);
                self.raw("</blockquote>\n");
            }
            None => self.element("p", "No message was sent."),
        }
        if let Some(conclusion) = &report.conclusion {
            self.markdown(conclusion);
        }
        self.element("p", &describe_work(report));
    }

    fn changes(&mut self, changes: &[ReportedCall]) {
        self.element("h2", "Changes");
        if changes.is_empty() {
            self.element("p", "Nothing was changed.");
        }
        for call in changes {
            self.raw("<section class=\"change\">");
            self.element("h3", &describe_call(call));
            let sent = call.sent_at.map_or_else(|| "not sent".to_owned(), |at| format!("sent {}", format_time(at)));
            self.element("p", &format!("{sent}, {}", status_text(call)));
            for approval in &call.approvals {
                self.approval(approval);
            }
            self.details("Arguments", &arguments_text(call));
            self.details("Output", &call.output);
            self.raw("</section>\n");
        }
    }

    fn approval(&mut self, approval: &ReportedApproval) {
        self.element("p", &approval_line(approval));
        if !approval.objects.is_empty() {
            self.raw("<ul>");
            for object in &approval.objects {
                let place = object.namespace.as_deref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
                self.element("li", &format!("{} {} {place}{}", object.verb, object.kind, object.name));
            }
            self.raw("</ul>\n");
        }
        if let Some(preview) = &approval.preview {
            self.raw("<pre class=\"diff\">");
            for line in preview.lines() {
                let class = match line.as_bytes().first() {
                    Some(b'+') => "added",
                    Some(b'-') => "removed",
                    Some(b'@') => "place",
                    _ => "same",
                };
                self.raw(&format!("<span class=\"{class}\">"));
                self.text(line);
                self.raw("\n</span>");
            }
            self.raw("</pre>\n");
        }
    }

    fn timeline(&mut self, entries: &[ReportEntry]) {
        self.element("h2", "Timeline");
        self.raw("<ol class=\"timeline\">\n");
        for entry in entries {
            let is_change = matches!(&entry.item, ReportItem::Call(call) if is_change(call));
            let class = if is_change { "changed" } else { "other" };
            self.raw(&format!(
                "<li class=\"{class}\"><time>{}</time> <a href=\"#seq-{}\">",
                format_time(entry.ts),
                entry.seq
            ));
            self.text(&describe_entry(entry));
            self.raw("</a></li>\n");
        }
        self.raw("</ol>\n");
    }

    fn conversation(&mut self, entries: &[ReportEntry]) {
        self.element("h2", "Conversation");
        let mut last_seq = 0;
        for entry in entries {
            // A reply and its calls have one event.
            if entry.seq != last_seq {
                self.raw(&format!("<a id=\"seq-{}\"></a>", entry.seq));
                last_seq = entry.seq;
            }
            match &entry.item {
                ReportItem::Message(message) => {
                    self.raw("<section class=\"user\">");
                    self.element("h3", &format!("User, {}", format_time(entry.ts)));
                    self.raw("<p class=\"plain\">");
                    self.text(&message.content);
                    self.raw("</p>\n");
                    for attachment in &message.attachments {
                        self.details(&describe_attachment(attachment), &attachment.text);
                    }
                    self.raw("</section>\n");
                }
                ReportItem::Reply(reply) => {
                    self.raw("<section class=\"reply\">");
                    let model = reply.model.as_deref().map(|model| format!(" ({model})")).unwrap_or_default();
                    self.element("h3", &format!("Agent{model}, {}", format_time(entry.ts)));
                    self.markdown(&reply.content);
                    if let Some(feedback) = &reply.feedback {
                        self.element("p", &feedback_line(feedback));
                    }
                    self.raw("</section>\n");
                }
                ReportItem::Call(call) => {
                    self.raw("<details class=\"evidence\"><summary>");
                    self.text(&format!("{}: {}", describe_call(call), status_text(call)));
                    self.raw("</summary>\n");
                    self.preformatted(&arguments_text(call));
                    for approval in &call.approvals {
                        self.element("p", &approval_line(approval));
                    }
                    self.preformatted(&call.output);
                    self.raw("</details>\n");
                }
                ReportItem::Question(_) | ReportItem::RunFinished(_) | ReportItem::Notice(_) => {
                    self.raw("<p class=\"notice\">");
                    self.text(&describe_entry(entry));
                    self.raw("</p>\n");
                }
            }
        }
    }

    fn usage(&mut self, report: &SessionReport) {
        self.element("h2", "Usage");
        self.raw("<table><thead><tr><th>Model</th><th>Input tokens</th><th>Output tokens</th><th>US dollars</th></tr></thead><tbody>\n");
        let rows = report.models.iter().map(|model| (format!("{}/{}", model.provider, model.model), model.usage));
        for (name, usage) in rows.chain([("all".to_owned(), report.usage)]) {
            self.raw("<tr>");
            self.element("td", &name);
            for number in [usage.input_tokens.to_string(), usage.output_tokens.to_string()] {
                self.element("td", &number);
            }
            self.element("td", &format!("{:.4}", usage.cost_usd.as_dollars()));
            self.raw("</tr>\n");
        }
        self.raw("</tbody></table>\n");
    }

    fn details(&mut self, summary: &str, text: &str) {
        if text.is_empty() {
            return;
        }
        self.raw("<details>");
        self.element("summary", summary);
        self.preformatted(text);
        self.raw("</details>\n");
    }

    /// Adds Markdown. Markup in it is text, images are links, and only links to the web and to mail addresses are links.
    fn markdown(&mut self, text: &str) {
        let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH;
        let mut hidden = Vec::new();
        let events = Parser::new_ext(text, options).filter_map(|event| match event {
            Event::Html(markup) | Event::InlineHtml(markup) => Some(Event::Text(markup)),
            // A block of markup has no paragraph of its own.
            Event::Start(Tag::HtmlBlock) => Some(Event::Start(Tag::Paragraph)),
            Event::End(TagEnd::HtmlBlock) => Some(Event::End(TagEnd::Paragraph)),
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                let is_shown = is_web_address(&dest_url);
                hidden.push(!is_shown);
                is_shown.then(|| {
                    let title = CowStr::Borrowed("");
                    Event::Start(Tag::Link {
                        link_type: pulldown_cmark::LinkType::Inline,
                        dest_url,
                        title,
                        id: CowStr::Borrowed(""),
                    })
                })
            }
            Event::End(TagEnd::Link | TagEnd::Image) => {
                (hidden.pop() == Some(false)).then_some(Event::End(TagEnd::Link))
            }
            event => Some(event),
        });
        self.raw("<div class=\"markdown\">");
        html::push_html(&mut self.0, events);
        self.raw("</div>\n");
    }
}

fn is_change(call: &ReportedCall) -> bool {
    call.effect.is_some_and(|effect| effect != ToolEffect::Read) && call.sent_at.is_some()
}

fn is_web_address(address: &str) -> bool {
    let address = address.trim_start().to_ascii_lowercase();
    ["https://", "http://", "mailto:"].iter().any(|scheme| address.starts_with(scheme))
}

/// Whether a character is invisible, or changes the order of those around it.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_is_inert() {
        let mut page = HtmlPage::default();
        page.text("<script>alert(1)</script>&\"' \u{202e}gpj.exe\u{1b}[2J");
        for forbidden in ["<script", "\u{202e}", "\u{1b}"] {
            assert!(!page.0.contains(forbidden), "{}", page.0);
        }
        let mut page = HtmlPage::default();
        page.markdown(concat!(
            "<script>alert(1)</script>\n\ntext <img src=x onerror=alert(1)> [go](javascript:alert(1)) ",
            "![x](https://e.example/p.png) [ok](https://e.example/?a=\"><script>) <https://e.example>\n\n",
            "<iframe srcdoc='<script>'></iframe>\n\n[data](data:text/html,<script>) [j]( JaVaScRiPt:1) [ref]\n\n",
            "[ref]: javascript:alert(2)\n\n| a | b |\n|---|---|\n| <b onclick=x> | `<i>` |\n",
        ));
        let lower = page.0.to_lowercase();
        for forbidden in ["<script", "<img", "<iframe", "<b ", "href=\"javascript", "href=\"data:", "href=\" java"] {
            assert!(!lower.contains(forbidden), "{forbidden}: {}", page.0);
        }
        assert!(
            page.0.contains("<table>") && page.0.contains("<a href=\"https://e.example/p.png\">x</a>"),
            "{}",
            page.0
        );
    }

    #[test]
    fn policy_allows_the_style_alone() {
        assert!(POLICY.starts_with("default-src 'none'; style-src 'sha256-"), "{}", *POLICY);
        assert!(!STYLE.contains("url(") && !STYLE.contains("@import") && !STYLE.contains('<'));
    }
}
