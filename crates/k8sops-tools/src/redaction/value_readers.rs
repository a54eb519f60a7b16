//! Readers of the value behind a name: in quotes, in a wrapper, to the end of a line, or to the next pair.

use std::{ops::Range, sync::LazyLock};

use regex::Regex;

use super::text_lines::line_end;

/// Longest value without quotes, in bytes.
const MAX_BARE_LEN: usize = 16 << 10;

/// A value behind a separator.
pub(super) struct PairValue {
    pub(super) range: Range<usize>,
    pub(super) is_quoted: bool,
}

/// Reads a value that its program prints in a wrapper: the type of the value (Rust, Python, PHP, Erlang) or a function.
pub(super) fn read_wrapped(text: &str, start: usize) -> Option<PairValue> {
    static WRAPPER: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r#"^(?:(?:Some|Just|Secret|SecretString|SecretStr|PASSWORD|password|sensitive|String|Text)\s*\(\s*|string\([0-9]+\)\s*|\(string\)\s*|<<|[bruBRU]{1,2})["'`]"#,
        )
        .expect("a constant pattern")
    });
    let rest = &text[start..text.floor_char_boundary((start + 40).min(text.len()))];
    let wrapper = WRAPPER.find(rest)?;
    read_quoted(text, start + wrapper.end() - 1)
}

/// Reads a value in braces, as ODBC writes it: `Pwd={value};`.
pub(super) fn read_braced(text: &str, open: usize) -> Option<PairValue> {
    let content = &text[open + 1..line_end(text, open)];
    let length = content.find('}')?;
    let is_value = length > 0 && !content[..length].contains([' ', '=', ':', ',', '"', '\'', '{']);
    let ends = content[length + 1..].is_empty() || content[length + 1..].starts_with([';', '"', '\'']);
    (is_value && ends).then(|| PairValue { range: open + 1..open + 1 + length, is_quoted: true })
}

/// Reads a value in quotes, which may be escaped. The quotes are not part of it.
pub(super) fn read_quoted(text: &str, start: usize) -> Option<PairValue> {
    let bytes = text.as_bytes();
    let escapes = bytes[start..].iter().take_while(|byte| **byte == b'\\').count();
    let quote = *bytes.get(start + escapes).filter(|byte| matches!(byte, b'"' | b'\'' | b'`'))?;
    let begin = start + escapes + 1;
    let mut at = begin;
    while at < bytes.len() && bytes[at] != b'\n' {
        if bytes[at] == quote {
            let slashes = bytes[begin..at].iter().rev().take_while(|byte| **byte == b'\\').count();
            // The quote that ends the value has as many escapes as the one that begins it.
            if slashes == escapes {
                return Some(PairValue { range: begin..at - escapes, is_quoted: true });
            }
            if slashes < escapes {
                break;
            }
        }
        at += 1;
    }
    // The end is cut off.
    let at = at.min(bytes.len());
    Some(PairValue { range: begin..begin + text[begin..at].trim_end().len(), is_quoted: true })
}

/// Reads the value of `"NAME=value"` up to the quote behind it. A quote must be before the name.
pub(super) fn read_rest_of_quoted(text: &str, name_start: usize, start: usize) -> Option<PairValue> {
    let quote = name_start.checked_sub(1).map(|at| text.as_bytes()[at]).filter(|byte| matches!(byte, b'"' | b'\''))?;
    let end = text[start..].find([char::from(quote), '\n', '\\'])?;
    (text.as_bytes()[start + end] == quote).then(|| PairValue { range: start..start + end, is_quoted: true })
}

/// Reads the rest of a line as a plain scalar of YAML, without a comment.
pub(super) fn read_line_value(text: &str, start: usize) -> PairValue {
    let rest = &text[start..line_end(text, start)];
    let rest = rest.find(" #").map_or(rest, |comment| &rest[..comment]);
    let value = rest.trim_end().trim_end_matches(['"', '\'']).trim_end_matches(['}', ']', ',']);
    PairValue { range: start..start + value.len(), is_quoted: false }
}

/// Reads a value without quotes, up to a blank or to the next pair.
pub(super) fn read_bare_value(text: &str, start: usize, is_line: bool) -> PairValue {
    static NEXT_PAIR: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?:[,;&|)}\]]+|[,;])\s*(?:[A-Za-z_][\w.-]*\s*[=:]|$)").expect("a constant pattern")
    });
    let rest = &text[start..];
    let rest = &rest[..rest.floor_char_boundary(MAX_BARE_LEN.min(rest.len()))];
    let end = rest.find([' ', '\t', '\n', '\r', '\0', '"', '\'', '`', '<', '\\']).unwrap_or(rest.len());
    let mut value = &rest[..end];
    if let Some(next) = NEXT_PAIR.find(value) {
        value = &value[..next.start()];
    }
    let has_more = rest[end..].starts_with([' ', '\t']);
    if !is_line || has_more {
        value = value.trim_end_matches([',', ';']);
        // A bracket at the end belongs to the value only if it was opened in it.
        for (open, close) in [('(', ')'), ('[', ']'), ('{', '}')] {
            while value.ends_with(close) && value.matches(close).count() > value.matches(open).count() {
                value = &value[..value.len() - 1];
            }
        }
    }
    PairValue { range: start..start + value.len(), is_quoted: false }
}

pub(super) fn is_block_sign(text: &str, start: usize) -> bool {
    let rest = text[start..line_end(text, start)].trim_end();
    let rest = rest.find(" #").map_or(rest, |comment| rest[..comment].trim_end());
    rest.len() <= 3 && rest[1..].bytes().all(|byte| matches!(byte, b'+' | b'-' | b'0'..=b'9'))
}
