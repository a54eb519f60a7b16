//! Styled text in lines: wrapping by words, widths of characters, colors.

use unicode_segmentation::UnicodeSegmentation as _;
use unicode_width::UnicodeWidthStr as _;

/// How a piece of text looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each style is on or off")]
pub(super) struct TextStyle {
    pub(super) bold: bool,
    pub(super) italic: bool,
    pub(super) code: bool,
    pub(super) strike: bool,
    pub(super) dim: bool,
}

/// Whether styles become escape sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ColorUse {
    Colors,
    Plain,
}

/// A piece of text of one style.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StyledSpan {
    pub(super) style: TextStyle,
    pub(super) text: String,
}

/// A line of pieces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct StyledLine(pub(super) Vec<StyledSpan>);

impl StyledLine {
    fn push(&mut self, style: TextStyle, text: &str) {
        match self.0.last_mut() {
            Some(last) if last.style == style => last.text.push_str(text),
            _ => self.0.push(StyledSpan { style, text: text.to_owned() }),
        }
    }

    /// Returns the width in columns.
    pub(super) fn width(&self) -> usize {
        self.0.iter().map(|span| span.text.width()).sum()
    }

    /// Returns the text with the escape sequences of its styles.
    pub(super) fn render(&self, colors: ColorUse) -> String {
        self.0.iter().map(|span| span.render(colors)).collect()
    }
}

impl StyledSpan {
    fn render(&self, colors: ColorUse) -> String {
        let TextStyle { bold, italic, code, strike, dim } = self.style;
        let codes = [(bold, "1"), (dim, "2"), (italic, "3"), (strike, "9"), (code, "36")];
        let codes: Vec<&str> = codes.into_iter().filter(|(is_on, _)| *is_on).map(|(_, code)| code).collect();
        if codes.is_empty() || colors == ColorUse::Plain {
            return self.text.clone();
        }
        format!("\x1b[{}m{}\x1b[0m", codes.join(";"), self.text)
    }
}

/// A part of a text that is not broken, and whether a space goes before it.
struct UnbrokenPart {
    spans: StyledLine,
    width: usize,
    after_space: bool,
}

/// Breaks text into lines of at most `width` columns, between words and between wide characters. A longer word has a line of its
/// own: a name or an address that is broken cannot be copied.
pub(super) fn wrap_spans(spans: &[StyledSpan], width: usize) -> Vec<StyledLine> {
    let mut lines = Vec::new();
    let mut line = StyledLine::default();
    let mut used = 0;
    for part in split_parts(spans) {
        let space = usize::from(part.after_space && used > 0);
        if used > 0 && used + space + part.width > width.max(1) {
            lines.push(std::mem::take(&mut line));
            used = 0;
        } else if space > 0 {
            let style = part.spans.0.first().map(|span| span.style).unwrap_or_default();
            let is_inside = line.0.last().is_some_and(|last| last.style == style);
            line.push(if is_inside { style } else { TextStyle::default() }, " ");
            used += 1;
        }
        for span in &part.spans.0 {
            line.push(span.style, &span.text);
        }
        used += part.width;
    }
    if used > 0 || lines.is_empty() {
        lines.push(line);
    }
    lines
}

/// Returns a text after its mark. Lines that are longer than `width` are broken between words, and continue below their beginning.
pub(super) fn wrap_marked_text(mark: &str, text: &str, width: usize) -> String {
    let indent = mark.width();
    let mut lines = Vec::new();
    for line in text.split('\n') {
        let mut current = String::new();
        // Spaces stay as they are: arguments of calls are shown like this.
        for word in line.split_inclusive(' ') {
            if !current.trim().is_empty() && indent + current.width() + word.trim_end().width() > width {
                lines.push(std::mem::take(&mut current).trim_end().to_owned());
            }
            current.push_str(word);
        }
        lines.push(current);
    }
    format!("{mark}{}", lines.join(&format!("\n{}", " ".repeat(indent))))
}

fn split_parts(spans: &[StyledSpan]) -> Vec<UnbrokenPart> {
    let mut parts: Vec<UnbrokenPart> = Vec::new();
    let mut after_space = false;
    let mut is_open = false;
    for span in spans {
        // A person sees what may be several characters as one: a flag, a family, a letter with its accents.
        for c in span.text.graphemes(true) {
            // A no-break space is no place for a line end.
            if matches!(c, " " | "\t" | "\n" | "\r\n") {
                after_space = true;
                is_open = false;
                continue;
            }
            let columns = c.width();
            let is_wide = columns > 1;
            if !is_open || is_wide {
                parts.push(UnbrokenPart { spans: StyledLine::default(), width: 0, after_space });
            }
            is_open = !is_wide;
            after_space = false;
            if let Some(part) = parts.last_mut() {
                part.spans.push(span.style, c);
                part.width += columns;
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrap(text: &str, width: usize) -> Vec<String> {
        let span = StyledSpan { style: TextStyle::default(), text: text.to_owned() };
        wrap_spans(&[span], width).iter().map(|line| line.render(ColorUse::Plain)).collect()
    }

    #[test]
    fn lines_break_between_words_and_wide_characters() {
        assert_eq!(wrap("the pod is  not ready", 9), ["the pod", "is not", "ready"]);
        assert_eq!(wrap("see https://example.com/long now", 10), ["see", "https://example.com/long", "now"]);
        assert_eq!(wrap("名前空間がない", 6), ["名前空", "間がな", "い"]);
        assert_eq!(wrap("", 10), [""]);
        // A family, a flag, a skin tone and an accent are not torn apart.
        assert_eq!(wrap("👩‍👩‍👧‍👦🇯🇵👍🏽", 4), ["👩‍👩‍👧‍👦🇯🇵", "👍🏽"]);
        assert_eq!(wrap("cafe\u{301} ok", 4), ["cafe\u{301}", "ok"]);
    }

    #[test]
    fn remark_is_wrapped_below_its_beginning() {
        assert_eq!(wrap_marked_text("✗ ", "no text and no calls", 12), "✗ no text\n  and no\n  calls");
        assert_eq!(wrap_marked_text("· ", "a  b\n  c", 12), "· a  b\n    c");
        assert_eq!(wrap_marked_text("", "why?", 12), "why?");
        assert_eq!(wrap_marked_text("→ ", "run a=\"b  c\" d", 12), "→ run a=\"b\n  c\" d");
    }

    #[test]
    fn styles_end_with_their_line() {
        let bold = TextStyle { bold: true, ..TextStyle::default() };
        let spans = [StyledSpan { style: bold, text: "not ready yet".to_owned() }];
        let lines: Vec<String> = wrap_spans(&spans, 9).iter().map(|line| line.render(ColorUse::Colors)).collect();
        assert_eq!(lines, ["\x1b[1mnot ready\x1b[0m", "\x1b[1myet\x1b[0m"]);
    }
}
