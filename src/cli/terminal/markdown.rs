//! Markdown for a terminal: wrapped by words, with tables, lists, quotes and code.

use pulldown_cmark::{Alignment, CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

use super::{
    diff_colors::color_diff,
    formatting::sanitize_text,
    markdown_layout::{ColorUse, StyledLine, StyledSpan, TextStyle, wrap_spans},
    markdown_table::TableLayout,
};

/// Code is indented by this.
const CODE_INDENT: &str = "  ";

/// What is understood besides CommonMark.
pub(super) const MARKDOWN_OPTIONS: Options =
    Options::ENABLE_TABLES.union(Options::ENABLE_STRIKETHROUGH).union(Options::ENABLE_TASKLISTS);

/// Renders a text to lines. Escape sequences in it are inert, also those that it writes as entities.
pub(super) fn render_markdown(text: &str, width: usize, colors: ColorUse) -> Vec<String> {
    let mut renderer = MarkdownRenderer { width, colors, ..MarkdownRenderer::default() };
    for event in Parser::new_ext(text, MARKDOWN_OPTIONS) {
        renderer.handle_event(event);
    }
    renderer.lines
}

/// What is in front of the lines of a list item or a quotation.
struct BlockPrefix {
    /// In front of the first line, until that is written.
    first: Option<String>,
    rest: String,
}

/// A link whose text is being read.
struct OpenLink {
    target: String,
    text: String,
}

struct CodeBlock {
    language: String,
    text: String,
}

struct MarkdownRenderer {
    lines: Vec<String>,
    width: usize,
    colors: ColorUse,
    prefixes: Vec<BlockPrefix>,
    /// The number of the next item of each open list; none for a list without numbers.
    lists: Vec<Option<u64>>,
    spans: Vec<StyledSpan>,
    style: TextStyle,
    link: Option<OpenLink>,
    code: Option<CodeBlock>,
    table: Option<TableLayout>,
    /// Whether the last block of the open item or quotation was a paragraph.
    after_paragraph: bool,
}

impl Default for MarkdownRenderer {
    fn default() -> Self {
        Self {
            lines: Vec::new(),
            width: 80,
            colors: ColorUse::Plain,
            prefixes: Vec::new(),
            lists: Vec::new(),
            spans: Vec::new(),
            style: TextStyle::default(),
            link: None,
            code: None,
            table: None,
            after_paragraph: false,
        }
    }
}

impl MarkdownRenderer {
    fn handle_event(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start_tag(tag),
            Event::End(tag) => self.end_tag(tag),
            Event::Code(text) => self.add_span(TextStyle { code: true, ..self.style }, &text),
            Event::Text(text) | Event::Html(text) | Event::InlineHtml(text) => self.add_text(&text),
            Event::SoftBreak => self.add_span(self.style, " "),
            Event::HardBreak => self.flush_spans(),
            Event::TaskListMarker(is_done) => self.add_span(self.style, if is_done { "☑ " } else { "☐ " }),
            Event::Rule => {
                self.start_block();
                let rule = "─".repeat(self.content_width().min(40));
                self.write_line(&dim_line(&rule));
            }
            _ => {}
        }
    }

    fn start_tag(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Paragraph => {
                if self.prefixes.is_empty() {
                    self.start_block();
                } else if self.after_paragraph {
                    self.write_line(&StyledLine::default());
                }
            }
            Tag::Heading { .. } => {
                self.start_block();
                self.style.bold = true;
            }
            Tag::BlockQuote(_) => {
                self.start_block();
                self.prefixes.push(BlockPrefix { first: None, rest: "│ ".to_owned() });
                self.after_paragraph = false;
            }
            Tag::CodeBlock(kind) => {
                self.start_block();
                let language = match kind {
                    CodeBlockKind::Fenced(language) => language.to_string(),
                    CodeBlockKind::Indented => String::new(),
                };
                self.code = Some(CodeBlock { language, text: String::new() });
            }
            Tag::HtmlBlock => self.start_block(),
            Tag::List(start) => {
                // The text of the item that the list is in.
                self.flush_spans();
                self.start_block();
                self.lists.push(start);
            }
            Tag::Item => {
                let mark = match self.lists.last_mut() {
                    Some(Some(number)) => {
                        *number += 1;
                        format!("{}. ", *number - 1)
                    }
                    _ => "• ".to_owned(),
                };
                let rest = " ".repeat(mark.chars().count());
                self.prefixes.push(BlockPrefix { first: Some(mark), rest });
                self.after_paragraph = false;
            }
            Tag::Table(alignments) => {
                self.start_block();
                self.table = Some(TableLayout::new(alignments.iter().map(|a| *a == Alignment::Right).collect()));
            }
            Tag::Emphasis => self.style.italic = true,
            Tag::Strong => self.style.bold = true,
            Tag::Strikethrough => self.style.strike = true,
            Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. } => {
                self.link = Some(OpenLink { target: sanitize_text(&dest_url), text: String::new() });
            }
            _ => {}
        }
    }

    fn end_tag(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Paragraph => {
                self.flush_spans();
                self.after_paragraph = true;
            }
            TagEnd::Heading(_) => {
                self.flush_spans();
                self.style.bold = false;
            }
            TagEnd::BlockQuote(_) | TagEnd::Item => {
                self.flush_spans();
                let prefix = self.prefixes.pop();
                // An item without text still has its mark.
                if let Some(BlockPrefix { first: Some(mark), .. }) = prefix {
                    self.write_line(&plain_line(mark.trim_end()));
                }
                self.after_paragraph = false;
            }
            TagEnd::CodeBlock => self.write_code(),
            TagEnd::HtmlBlock => self.flush_spans(),
            TagEnd::List(_) => {
                self.lists.pop();
            }
            TagEnd::TableCell => {
                let cell = std::mem::take(&mut self.spans);
                if let Some(table) = &mut self.table {
                    table.add_cell(cell);
                }
            }
            TagEnd::TableHead | TagEnd::TableRow => {
                if let Some(table) = &mut self.table {
                    table.end_row();
                }
            }
            TagEnd::Table => {
                if let Some(table) = self.table.take() {
                    for line in table.layout(self.content_width()) {
                        self.write_line(&line);
                    }
                }
            }
            TagEnd::Emphasis => self.style.italic = false,
            TagEnd::Strong => self.style.bold = false,
            TagEnd::Strikethrough => self.style.strike = false,
            TagEnd::Link | TagEnd::Image => {
                if let Some(OpenLink { target, text }) = self.link.take()
                    && !target.is_empty()
                    && target != text
                {
                    self.add_span(TextStyle { dim: true, ..self.style }, &format!(" ({target})"));
                }
            }
            _ => {}
        }
    }

    /// Separates a block from the one above.
    fn start_block(&mut self) {
        self.flush_spans();
        if self.prefixes.is_empty() && !self.lines.is_empty() {
            self.lines.push(String::new());
        }
        self.after_paragraph = false;
    }

    fn add_text(&mut self, text: &str) {
        if let Some(code) = &mut self.code {
            code.text.push_str(text);
            return;
        }
        self.add_span(self.style, text);
    }

    fn add_span(&mut self, style: TextStyle, text: &str) {
        let text = sanitize_text(text);
        if let Some(link) = &mut self.link {
            link.text.push_str(&text);
        }
        self.spans.push(StyledSpan { style, text });
    }

    /// Writes the text of a paragraph, a heading or an item.
    fn flush_spans(&mut self) {
        // The text of a cell waits for its table.
        if self.spans.is_empty() || self.table.is_some() {
            return;
        }
        let spans = std::mem::take(&mut self.spans);
        for line in wrap_spans(&spans, self.content_width()) {
            self.write_line(&line);
        }
    }

    fn write_code(&mut self) {
        let Some(CodeBlock { language, text }) = self.code.take() else { return };
        let text = sanitize_text(&text);
        for line in text.lines() {
            let line = match (self.colors, language.as_str()) {
                (ColorUse::Colors, "diff") => color_diff(line),
                (ColorUse::Colors, _) => {
                    let style = TextStyle { code: true, ..TextStyle::default() };
                    StyledLine(vec![StyledSpan { style, text: line.to_owned() }]).render(self.colors)
                }
                (ColorUse::Plain, _) => line.to_owned(),
            };
            let prefix = self.next_prefix();
            self.lines.push(format!("{prefix}{CODE_INDENT}{line}").trim_end().to_owned());
        }
    }

    fn write_line(&mut self, line: &StyledLine) {
        let prefix = self.next_prefix();
        let text = line.render(self.colors);
        self.lines.push(format!("{prefix}{text}").trim_end().to_owned());
    }

    /// Returns what is in front of the next line.
    fn next_prefix(&mut self) -> String {
        self.prefixes.iter_mut().map(|prefix| prefix.first.take().unwrap_or_else(|| prefix.rest.clone())).collect()
    }

    fn content_width(&self) -> usize {
        let prefixes: usize = self.prefixes.iter().map(|prefix| prefix.rest.chars().count()).sum();
        self.width.saturating_sub(prefixes).max(20)
    }
}

fn plain_line(text: &str) -> StyledLine {
    StyledLine(vec![StyledSpan { style: TextStyle::default(), text: text.to_owned() }])
}

fn dim_line(text: &str) -> StyledLine {
    let style = TextStyle { dim: true, ..TextStyle::default() };
    StyledLine(vec![StyledSpan { style, text: text.to_owned() }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_block_is_rendered() {
        let text = "# Checkout is slow\nIts pods **restart**: see `events`, cron `*/5 * * * *` and */10 * * * *.\n\n\
            1. first, which is long enough to be wrapped\n   - nested *item*\n2. second\n\n> quoted\n\n\
            ```yaml\nreplicas: 2\n  x: 1\n```\n\n| Pod | Restarts |\n|---|--:|\n| checkout-1 | 14 |\n| c | 2 |\n\n\
            ---\n[Docs](https://k8s.io/d) <https://k8s.io>\n- [x] done\n<b>html</b>";
        let lines = render_markdown(text, 34, ColorUse::Plain);
        insta::assert_snapshot!(lines.join("\n"), @"
        Checkout is slow

        Its pods restart: see events, cron
        */5 * * * * and */10 * * * *.

        1. first, which is long enough to
           be wrapped
           • nested item
        2. second

        │ quoted

          replicas: 2
            x: 1

        Pod        │ Restarts
        ───────────┼─────────
        checkout-1 │       14
        c          │        2

        ──────────────────────────────────

        Docs (https://k8s.io/d)
        https://k8s.io

        • ☑ done <b>html</b>
        ");
    }

    #[test]
    fn escape_sequences_are_inert() {
        for text in
            ["a\u{1b}[2Jb", "&#27;[2J &#x1b;]0;x&#7;", "```\n\u{1b}[2J\n```", "[a](http://x/\u{1b}[2J)", "`\u{9b}2J`"]
        {
            let lines = render_markdown(text, 40, ColorUse::Plain).join("\n");
            assert!(!lines.contains(['\u{1b}', '\u{9b}', '\u{7}']), "{lines:?}");
        }
    }
}
