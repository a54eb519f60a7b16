//! The scalars of JSON in a text, so that only they are replaced, and JSON stays valid.

use std::ops::Range;

use serde::de::IgnoredAny;

use super::{found_secret::Replacement, text_lines::lines_from};

/// A scalar of JSON.
struct JsonLeaf {
    /// Content of a string without its quotes, or a number or a word.
    range: Range<usize>,
    is_string: bool,
}

/// Returns whether a text is one value of JSON.
pub(super) fn is_json(text: &str) -> bool {
    text.trim_start().starts_with(['{', '[']) && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// Cuts replacements in valid JSON to its scalars: the part in each string is replaced, and a number becomes a string.
pub(super) fn confine_to_json_leaves(text: &str, replacements: Vec<Replacement>) -> Vec<Replacement> {
    confine(text, 0..text.len(), replacements)
}

/// Does the same with the lines of a text that are valid JSON, as those of a log may be.
pub(super) fn confine_to_json_lines(text: &str, replacements: Vec<Replacement>) -> Vec<Replacement> {
    let mut confined = Vec::with_capacity(replacements.len());
    let mut rest = replacements;
    rest.sort_by_key(|(range, _)| range.start);
    let mut rest = rest.into_iter().peekable();
    for line in lines_from(text, 0) {
        let mut in_line = Vec::new();
        while let Some(replacement) = rest.next_if(|(range, _)| range.start < line.end) {
            in_line.push(replacement);
        }
        if !in_line.is_empty() && is_json(&text[line.clone()]) && in_line.iter().all(|(range, _)| range.end <= line.end)
        {
            in_line = confine(text, line, in_line);
        }
        confined.extend(in_line);
    }
    confined.extend(rest);
    confined
}

fn confine(text: &str, json: Range<usize>, replacements: Vec<Replacement>) -> Vec<Replacement> {
    let leaves = find_leaves(text, json);
    let mut confined = Vec::with_capacity(replacements.len());
    for (range, placeholder) in replacements {
        let first = leaves.partition_point(|leaf| leaf.range.end <= range.start);
        for leaf in leaves[first..].iter().take_while(|leaf| leaf.range.start < range.end) {
            let part = leaf.range.start.max(range.start)..leaf.range.end.min(range.end);
            if leaf.is_string {
                confined.push((include_escapes(text, &leaf.range, part), placeholder.clone()));
            } else {
                confined.push((leaf.range.clone(), format!("\"{placeholder}\"")));
            }
        }
    }
    confined
}

/// Extends a part of a string over escape sequences that it would cut.
fn include_escapes(text: &str, string: &Range<usize>, part: Range<usize>) -> Range<usize> {
    let bytes = text.as_bytes();
    // The escape sequences around both ends begin at most six bytes earlier.
    let cut_escape = |at: usize| {
        let from = at.saturating_sub(6).max(string.start);
        (from..at).rev().find_map(|slash| {
            let is_escape = bytes[slash] == b'\\'
                && bytes[string.start..slash].iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 0;
            let end = slash + if bytes.get(slash + 1) == Some(&b'u') { 6 } else { 2 };
            (is_escape && end > at).then_some(slash..end.min(string.end))
        })
    };
    let start = cut_escape(part.start).map_or(part.start, |escape| escape.start);
    let end = cut_escape(part.end).map_or(part.end, |escape| escape.end);
    start..end
}

/// Returns the scalars of valid JSON.
fn find_leaves(text: &str, json: Range<usize>) -> Vec<JsonLeaf> {
    let bytes = text.as_bytes();
    let mut leaves = Vec::new();
    let mut at = json.start;
    while at < json.end {
        let start = at;
        match bytes[at] {
            b'"' => {
                at += 1;
                while at < json.end && bytes[at] != b'"' {
                    at += 1 + usize::from(bytes[at] == b'\\');
                }
                leaves.push(JsonLeaf { range: start + 1..at, is_string: true });
                at += 1;
            }
            b'{' | b'}' | b'[' | b']' | b',' | b':' => at += 1,
            byte if byte.is_ascii_whitespace() => at += 1,
            _ => {
                while at < json.end && !matches!(bytes[at], b',' | b'}' | b']') && !bytes[at].is_ascii_whitespace() {
                    at += 1;
                }
                leaves.push(JsonLeaf { range: start..at, is_string: false });
            }
        }
    }
    leaves
}
