//! Markdown that is still being written: lines are shown when they cannot change any more.
//!
//! Nothing that is printed is ever printed again, so that the text neither flickers nor repeats, whatever happens to the size of the
//! terminal. A table waits for its end, because its columns depend on all rows.

use pulldown_cmark::{Event, Parser, Tag};

use super::{
    markdown::{MARKDOWN_OPTIONS, render_markdown},
    markdown_layout::ColorUse,
};

/// What may follow and change how the text before it looks: the end of emphasis, code, a link or an entity.
const POSSIBLE_ENDS: [&str; 9] = ["x*", "x**", "x***", "x`", "x~~", "x](y)", "(y)", "x>", ";"];

/// A block that is longer, in bytes, is rendered again only when it has grown by a share of its length: each word of a table of
/// thousands would cost as much as the table otherwise.
const LONG_BLOCK: usize = 2_000;
/// The share, as a divisor.
const GROWTH_DIVISOR: usize = 16;

/// A text that grows.
pub(super) struct MarkdownStream {
    /// The text from the start of the first block that is not printed completely.
    source: String,
    /// The number of lines of `source` that are printed.
    printed: usize,
    /// The length of `source` from which on it is rendered again.
    next_check: usize,
    /// Whether a block above is printed, so that the next one is separated from it.
    has_block_above: bool,
    /// The width with which the printed lines of `source` were wrapped.
    width: Option<usize>,
    colors: ColorUse,
}

impl MarkdownStream {
    pub(super) fn new(colors: ColorUse) -> Self {
        Self { source: String::new(), printed: 0, next_check: 0, has_block_above: false, width: None, colors }
    }

    /// Whether the text is empty, or printed.
    pub(super) fn is_empty(&self) -> bool {
        self.source.trim().is_empty()
    }

    /// Adds text, and returns the lines that are complete. A new `width` holds from the next block on.
    pub(super) fn push(&mut self, text: &str, width: usize) -> Vec<String> {
        self.source.push_str(text);
        let mut lines = Vec::new();
        if self.source.len() < self.next_check {
            return lines;
        }
        // What the last line is, is known when it is complete.
        let last_start = last_block_start(whole_lines(&self.source));
        if last_start > 0 {
            let complete = self.source[..last_start].to_owned();
            lines.extend(self.take_lines(&complete, usize::MAX, width));
            self.source.drain(..last_start);
            self.printed = 0;
            self.has_block_above = true;
            self.width = None;
        }
        let count = self.stable_lines(width);
        let source = std::mem::take(&mut self.source);
        lines.extend(self.take_lines(&source, count, width));
        self.source = source;
        let length = self.source.len();
        self.next_check = if length < LONG_BLOCK { 0 } else { length + length / GROWTH_DIVISOR };
        lines
    }

    /// Returns how many lines of the block look the same whatever follows.
    fn stable_lines(&self, width: usize) -> usize {
        if is_code(&self.source) {
            // The last line may be the beginning of the closing fence.
            return self.render(whole_lines(&self.source), width).len();
        }
        // A table, or what becomes one with its second line.
        if self.source.lines().any(|line| line.contains('|')) {
            return 0;
        }
        let rendered = self.render(&self.source, width);
        let count_equal = |other: &str| {
            let other = self.render(other, width);
            rendered.iter().zip(&other).take_while(|(one, other)| one == other).count()
        };
        let with_ends = POSSIBLE_ENDS.iter().map(|end| count_equal(&format!("{}{end}", self.source)));
        // A last line such as `-` makes something else of the lines before it.
        let without_last_line = Some(whole_lines(&self.source)).filter(|lines| !lines.is_empty()).map(count_equal);
        // The last line may become longer.
        let longest = rendered.len().saturating_sub(1);
        with_ends.chain(without_last_line).min().unwrap_or(0).min(longest)
    }

    /// Returns the rest of the text, and starts with another text.
    pub(super) fn finish(&mut self, width: usize) -> Vec<String> {
        let source = std::mem::take(&mut self.source);
        let lines = self.take_lines(&source, usize::MAX, width);
        *self = Self::new(self.colors);
        lines
    }

    /// Returns the last line so far, which may still change. Marks that nothing closes yet are left out.
    pub(super) fn unfinished_line(&self, width: usize) -> String {
        let lines = render_markdown(self.newest_text(), self.width.unwrap_or(width), ColorUse::Plain);
        lines.last().map(|line| line.replace("**", "").replace('`', "")).unwrap_or_default()
    }

    /// Returns the text, or the end of its last line if it is long.
    fn newest_text(&self) -> &str {
        if self.source.len() < LONG_BLOCK {
            return &self.source;
        }
        let last_line = &self.source[whole_lines(&self.source).len()..];
        let start = last_line.len().saturating_sub(LONG_BLOCK / 4);
        let start = (start..last_line.len()).find(|at| last_line.is_char_boundary(*at)).unwrap_or(last_line.len());
        &last_line[start..]
    }

    fn take_lines(&mut self, text: &str, count: usize, width: usize) -> Vec<String> {
        let rendered = self.render(text, width);
        let count = count.min(rendered.len());
        if count <= self.printed {
            return Vec::new();
        }
        self.width.get_or_insert(width);
        let mut lines = rendered[self.printed..count].to_vec();
        if self.printed == 0 && self.has_block_above {
            lines.insert(0, String::new());
        }
        self.printed = count;
        lines
    }

    fn render(&self, text: &str, width: usize) -> Vec<String> {
        render_markdown(text, self.width.unwrap_or(width), self.colors)
    }
}

/// Returns where the last block of the outermost level starts.
fn last_block_start(source: &str) -> usize {
    let mut depth = 0_usize;
    let mut start = 0;
    for (event, range) in Parser::new_ext(source, MARKDOWN_OPTIONS).into_offset_iter() {
        match event {
            Event::Start(_) => {
                if depth == 0 {
                    start = range.start;
                }
                depth += 1;
            }
            Event::End(_) => depth = depth.saturating_sub(1),
            Event::Rule if depth == 0 => start = range.start,
            _ => {}
        }
    }
    start
}

/// Returns the text without an incomplete line at its end.
fn whole_lines(source: &str) -> &str {
    &source[..source.rfind('\n').map_or(0, |line_end| line_end + 1)]
}

fn is_code(source: &str) -> bool {
    let mut events = Parser::new_ext(source, MARKDOWN_OPTIONS);
    matches!(events.next(), Some(Event::Start(Tag::CodeBlock(_))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Checkout is **slow** today\n\nIts pods *restart every few minutes* because `postgres.payment` has no \
        address; the cron `*/5 * * * *` and the glob *.svc are fine, see [the docs](https://k8s.io/docs) or <https://k8s.io>. AT&amp;T.\n\
        \n1. first item of the list, long enough to be wrapped twice\n   - nested **bold\n     text** here\n2. second\n\n\
        ```yaml\nreplicas: 2\n# a ``` inside\n\nspec: {}\n```\n\n| Pod | Restarts |\n|---|--:|\n| checkout-1 | 14 |\n\n\
        > quoted text that is long enough to need another line\n\n---\n\nLast 名前空間 ~~word~~ snake_case_name 2 * 3 * 4";

    #[test]
    fn streamed_text_is_the_text_rendered_at_once() {
        for colors in [ColorUse::Plain, ColorUse::Colors] {
            let whole = render_markdown(TEXT, 40, colors);
            let chars: Vec<char> = TEXT.chars().collect();
            for size in [1, 2, 3, 7, 40, 1000] {
                let mut stream = MarkdownStream::new(colors);
                let mut lines = Vec::new();
                for piece in chars.chunks(size) {
                    lines.extend(stream.push(&piece.iter().collect::<String>(), 40));
                }
                lines.extend(stream.finish(40));
                assert_eq!(lines, whole, "pieces of {size} characters");
            }
        }
    }

    #[test]
    fn lines_appear_before_the_block_ends() {
        let mut stream = MarkdownStream::new(ColorUse::Plain);
        let lines = stream.push("The pods of checkout are not ready, because", 20);
        assert_eq!(lines, ["The pods of checkout", "are not ready,"]);
        assert_eq!(stream.push(" their image cannot be **pulled", 20), ["because their image"]);
        assert_eq!(stream.unfinished_line(20), "cannot be pulled");
        assert_eq!(stream.finish(20), ["cannot be **pulled"]);
    }

    #[test]
    fn long_table_costs_no_more_than_its_length() {
        let cells: Vec<String> = (0..20_000).map(|n| format!("| cell {n} ")).collect();
        let rows: Vec<String> = cells.chunks(8).map(|row| row.concat() + "|\n").collect();
        let table = format!("{}{}|\n{}", rows[0], "|---".repeat(8), rows.concat());
        let mut stream = MarkdownStream::new(ColorUse::Plain);
        let (mut lines, mut checks) = (Vec::new(), 0);
        for word in table.split_inclusive(' ') {
            checks += usize::from(stream.source.len() + word.len() >= stream.next_check);
            lines.extend(stream.push(word, 120));
            assert!(stream.newest_text().len() < LONG_BLOCK);
        }
        lines.extend(stream.finish(120));
        assert_eq!(lines, render_markdown(&table, 120, ColorUse::Plain));
        assert!(checks < 2_000, "{checks} of 40,000 words were rendered with all before them");
    }

    #[test]
    fn resized_terminal_neither_repeats_nor_loses_a_word() {
        let mut stream = MarkdownStream::new(ColorUse::Plain);
        let words: Vec<String> = (0..60).map(|n| format!("w{n}")).collect();
        let mut lines = Vec::new();
        for (index, word) in words.iter().enumerate() {
            lines.extend(stream.push(&format!("{word} "), if index < 30 { 60 } else { 24 }));
        }
        lines.extend(stream.finish(24));
        assert_eq!(lines.join(" ").split_whitespace().collect::<Vec<_>>(), words);
    }
}
