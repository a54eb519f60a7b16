//! Plain scalars in flow collections of YAML: `{a: b, c: [d]}`. They may not contain brackets, so a placeholder in one has to be
//! quoted.

use std::ops::Range;

use super::placeholder::PLACEHOLDER_PREFIX;

/// Longest flow collection that is read. Text with an open bracket is usually no YAML.
const MAX_FLOW_LEN: usize = 64 << 10;

/// Returns the plain scalars in all flow collections of a text, in their order.
pub(super) fn find_flow_scalars(text: &str) -> Vec<Range<usize>> {
    let bytes = text.as_bytes();
    let mut scalars = Vec::new();
    let mut no_flow_before = 0;
    let mut at = 0;
    while at < bytes.len() {
        let is_open = matches!(bytes[at], b'[' | b'{') && at >= no_flow_before && is_value_position(&bytes[..at])
            // A placeholder is a scalar.
            && !text[at..].starts_with(PLACEHOLDER_PREFIX);
        if !is_open {
            at += 1;
            continue;
        }
        let mut inner = Vec::new();
        if let Some(end) = read_flow(text, at, &mut inner) {
            scalars.append(&mut inner);
            at = end;
        } else {
            // Not again from each bracket in it.
            no_flow_before = at + MAX_FLOW_LEN;
            at += 1;
        }
    }
    scalars
}

/// Returns whether a value may begin behind these bytes: at the begin of a line, of a list item, or behind a key.
fn is_value_position(before: &[u8]) -> bool {
    let blanks = before.iter().rev().take_while(|byte| **byte == b' ').count();
    match before[..before.len() - blanks].last() {
        None | Some(b'\n') => true,
        Some(b'-' | b':') => blanks > 0,
        Some(_) => false,
    }
}

/// Reads the flow collection that begins at a position, and returns its end.
fn read_flow(text: &str, open: usize, scalars: &mut Vec<Range<usize>>) -> Option<usize> {
    let bytes = text.as_bytes();
    let limit = bytes.len().min(open + MAX_FLOW_LEN);
    let mut depth = 0_usize;
    let mut at = open;
    while at < limit {
        match bytes[at] {
            b'[' | b'{' => {
                if text[at..].starts_with(PLACEHOLDER_PREFIX) {
                    at += text[at..].find(']')?;
                } else {
                    depth += 1;
                }
                at += 1;
            }
            b']' | b'}' => {
                depth = depth.saturating_sub(1);
                at += 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            quote @ (b'"' | b'\'') => {
                at += 1;
                while at < limit && bytes[at] != quote {
                    at += 1 + usize::from(quote == b'"' && bytes[at] == b'\\');
                }
                at += 1;
            }
            byte if byte.is_ascii_whitespace() || matches!(byte, b',' | b':') => at += 1,
            _ => {
                let start = at;
                let ends_scalar = |at: usize| match bytes[at] {
                    b',' | b'[' | b']' | b'{' | b'}' => true,
                    b':' => bytes.get(at + 1).is_none_or(|next| next.is_ascii_whitespace() || *next == b','),
                    _ => false,
                };
                while at < limit && !ends_scalar(at) {
                    at += 1;
                }
                let at_boundary = text.floor_char_boundary(at);
                scalars.push(start..start + text[start..at_boundary].trim_end().len());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_of_flow_collections_are_found() {
        for (text, expected) in [
            ("a: {b: c d, e: 'f, g'}\nh: [i, \"j\", k:l]", vec!["b", "c d", "e", "i", "k:l"]),
            ("- [a,\n  b c\n   d]", vec!["a", "b c\n   d"]),
            ("log [info] {a: b", vec![]),
            ("[secret:a:0123456789abcdef]] }", vec![]),
            ("{a: {b: []}, c: d}", vec!["a", "b", "c", "d"]),
        ] {
            let found: Vec<&str> = find_flow_scalars(text).into_iter().map(|range| &text[range]).collect();
            assert_eq!(found, expected, "{text}");
        }
    }
}
