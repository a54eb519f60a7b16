//! A text without what is in the way of reading it (colors, escapes of a JSON string, signs of a diff), with the positions
//! of its parts in the original text.

use std::ops::Range;

use super::found_secret::FoundSecret;

/// Shortest string whose escapes are decoded.
const MIN_EMBEDDED_LEN: usize = 16;

/// A text that was made of parts of another text.
pub(super) struct TextView {
    text: String,
    /// Range in the original text of the character that each byte belongs to.
    origins: Vec<(usize, usize)>,
}

impl TextView {
    fn new(capacity: usize) -> Self {
        Self { text: String::with_capacity(capacity), origins: Vec::with_capacity(capacity) }
    }

    fn push_char(&mut self, char: char, origin: Range<usize>) {
        self.text.push(char);
        self.origins.resize(self.text.len(), (origin.start, origin.end));
    }

    fn push_part(&mut self, part: &str, start: usize) {
        for (at, char) in part.char_indices() {
            self.push_char(char, start + at..start + at + char.len_utf8());
        }
    }

    /// Adds what `find` finds in this view to `found`, with positions in the original text.
    pub(super) fn collect_secrets(&self, found: &mut Vec<FoundSecret>, find: impl FnOnce(&str, &mut Vec<FoundSecret>)) {
        let mut inner = Vec::new();
        find(&self.text, &mut inner);
        found.extend(inner.into_iter().filter_map(|secret| {
            let start = self.origins.get(secret.range.start)?.0;
            let end = self.origins.get(secret.range.end.checked_sub(1)?)?.1;
            Some(FoundSecret { range: start..end, ..secret })
        }));
    }
}

/// Returns a text without its ANSI escape sequences; `None` if it has none.
pub(super) fn strip_ansi(text: &str) -> Option<TextView> {
    if !text.contains('\u{1b}') {
        return None;
    }
    let bytes = text.as_bytes();
    let mut view = TextView::new(text.len());
    let mut done = 0;
    while let Some(skip) = text[done..].find('\u{1b}') {
        let escape = done + skip;
        view.push_part(&text[done..escape], done);
        done = escape + 1;
        if bytes.get(done) == Some(&b'[') {
            let is_parameter = |b: &u8| matches!(b, b'0'..=b'9' | b';' | b':' | b'?');
            done += 1 + bytes[done + 1..].iter().take_while(|b| is_parameter(b)).count();
            // The letter that ends the sequence.
            done += usize::from(bytes.get(done).is_some_and(u8::is_ascii));
        }
    }
    view.push_part(&text[done..], done);
    Some(view)
}

/// A part of a diff: the changes of one object, without their signs.
pub(super) struct DiffSection {
    pub(super) view: TextView,
    /// Whether the name of the compared file says that the object is a Secret.
    pub(super) is_secret: bool,
}

/// Returns the parts of a unified diff; none if the text is no diff.
pub(super) fn split_diff(text: &str) -> Vec<DiffSection> {
    let mut sections: Vec<DiffSection> = Vec::new();
    let has_hunk = text.starts_with("@@ -") || text.contains("\n@@ -");
    let adds_secret = || ["\n+kind: Secret", "\n-kind: Secret"].iter().any(|line| text.contains(line));
    if !(has_hunk || text.contains(", Secret (v1) has ") || adds_secret()) {
        return sections;
    }
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let start = at;
        at += line.len();
        // `kubectl diff` names the files `v1.Secret.NAMESPACE.NAME`; helm-diff writes `NAMESPACE, NAME, Secret (v1) has changed:`.
        let is_header = line.starts_with("--- ") || line.starts_with("diff ") || line.contains(") has ");
        if is_header || sections.is_empty() {
            let is_secret = line.contains("/v1.Secret.") || line.contains(", Secret (v1) has ");
            sections.push(DiffSection { view: TextView::new(0), is_secret });
        }
        // Git repeats the line above a hunk behind its position.
        if let Some((position, context)) = line.strip_prefix("@@ -").and_then(|hunk| hunk.split_once(" @@ "))
            && let Some(section) = sections.last_mut()
        {
            section.view.push_part(context, start + "@@ -".len() + position.len() + " @@ ".len());
        }
        let is_content = line.starts_with(['+', '-', ' ']) && !line.starts_with("+++ ") && !is_header;
        if let Some(section) = sections.last_mut()
            && is_content
        {
            section.view.push_part(&line[1..], start + 1);
        }
    }
    sections
}

/// Returns the strings in quotes whose escapes hide lines or other quotes, decoded.
pub(super) fn decode_embedded_strings(text: &str) -> Vec<TextView> {
    let bytes = text.as_bytes();
    let mut views = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let quote = bytes[at];
        at += 1;
        if !matches!(quote, b'"' | b'\'') || !may_precede_string(&bytes[..at - 1]) {
            continue;
        }
        let start = at;
        let mut end = start;
        let mut has_escape = false;
        // A string without an end may be cut off.
        while end < bytes.len() && bytes[end] != quote && bytes[end] != b'\n' {
            if bytes[end] == b'\\' {
                has_escape |= bytes.get(end + 1).is_some_and(|b| matches!(b, b'n' | b'"' | b'u' | b'x' | b't'));
                end += 1;
            }
            end += 1;
        }
        let end = end.min(bytes.len());
        if !has_escape {
            // What looks like a string may be the rest of a line with an apostrophe.
            at = if quote == b'"' { end } else { start };
            continue;
        }
        at = end;
        if end - start >= MIN_EMBEDDED_LEN
            && let Some(content) = text.get(start..end)
        {
            views.push(decode_escapes(content, start));
        }
    }
    views
}

fn may_precede_string(before: &[u8]) -> bool {
    let last = before.iter().rev().find(|b| !matches!(b, b' ' | b'\t'));
    last.is_none_or(|b| matches!(b, b':' | b',' | b'[' | b'{' | b'(' | b'=' | b'\n' | b'>' | b'-'))
}

fn decode_escapes(content: &str, offset: usize) -> TextView {
    let mut view = TextView::new(content.len());
    let mut chars = content.char_indices().peekable();
    while let Some((at, char)) = chars.next() {
        let mut decoded = char;
        if char == '\\'
            && let Some((escape_at, escape)) = chars.next()
        {
            decoded = match escape {
                'n' | 'r' => '\n',
                't' => '\t',
                'u' | 'x' => {
                    let digits = if escape == 'u' { 4 } else { 2 };
                    let code = content.get(escape_at + 1..escape_at + 1 + digits);
                    let code = code.and_then(|code| u32::from_str_radix(code, 16).ok());
                    if code.is_some() {
                        for _ in 0..digits {
                            chars.next();
                        }
                    }
                    code.and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER)
                }
                other => other,
            };
        }
        let end = chars.peek().map_or(content.len(), |(next, _)| *next);
        view.push_char(decoded, offset + at..offset + end);
    }
    view
}
