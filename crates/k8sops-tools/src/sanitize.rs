//! The words of servers without invisible characters: descriptions of tools, which are bounded as well, and outputs.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// Returns the description of a tool without invisible characters, shortened to the `max_bytes` that all providers accept.
pub(crate) fn sanitize_description(text: &str, max_bytes: usize) -> String {
    sanitize_text(text.trim(), max_bytes)
}

/// Returns a text without invisible characters and with at most `max_bytes`. It is cut after a line or a sentence if one
/// ends in its second half.
pub(crate) fn sanitize_text(text: &str, max_bytes: usize) -> String {
    let mut visible: String = text.chars().filter(|char| !is_hidden_char(*char)).collect();
    if visible.len() > max_bytes {
        visible.truncate(visible.floor_char_boundary(max_bytes.saturating_sub('…'.len_utf8())));
        let end = visible.rfind('\n').max(visible.rfind(". ").map(|end| end + 1)).filter(|end| *end > max_bytes / 2);
        visible.truncate(end.unwrap_or(visible.len()));
        if max_bytes >= '…'.len_utf8() {
            visible.push('…');
        }
    }
    visible
}

/// Returns whether a character is invisible and can carry text that a person who reads the description does not see:
/// control characters, zero-width and bidirectional marks, unusual variation selectors, tags, and private use.
fn is_hidden_char(char: char) -> bool {
    (char.is_control() && !matches!(char, '\n' | '\t'))
        || matches!(char,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e000}'..='\u{f8ff}' | '\u{e0000}'..='\u{e0fff}' | '\u{f0000}'..='\u{10ffff}')
}

/// Returns an output without the characters in it that are invisible or turn the direction of the text. Colors of a terminal stay, and
/// so does what joins emojis and letters.
pub(crate) fn remove_hidden_chars(text: &str) -> Cow<'_, str> {
    let is_kept = |char: char| {
        !is_hidden_char(char)
            || matches!(char, '\r' | '\u{1b}' | '\u{200c}' | '\u{200d}' | '\u{ad}' | '\u{e000}'..='\u{f8ff}')
    };
    if text.chars().all(is_kept) {
        text.into()
    } else {
        text.chars().filter(|char| is_kept(*char)).collect::<String>().into()
    }
}

/// Removes the same characters from the texts and the keys of a JSON value.
pub(crate) fn remove_hidden_in_json(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Cow::Owned(visible) = remove_hidden_chars(text) {
                *text = visible;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(remove_hidden_in_json),
        Value::Object(fields) => {
            fields.values_mut().for_each(remove_hidden_in_json);
            if fields.keys().any(|key| matches!(remove_hidden_chars(key), Cow::Owned(_))) {
                let visible = std::mem::take(fields).into_iter();
                *fields =
                    visible.map(|(key, value)| (remove_hidden_chars(&key).into_owned(), value)).collect::<Map<_, _>>();
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invisible_characters_are_removed() {
        assert_eq!(sanitize_description("Lists pods.\n- äöü 中文 👍", 1024), "Lists pods.\n- äöü 中文 👍");
        assert_eq!(sanitize_description("a\u{200b}b\u{e0041}\u{202e}c\u{1b}[8m", 1024), "abc[8m");
    }

    #[test]
    fn long_descriptions_are_truncated() {
        let long = sanitize_description(&"ä".repeat(10_000), 1024);
        assert!(long.len() <= 1024 && long.ends_with('…'));
        let sentences = sanitize_description(&"Looks at things. ".repeat(100), 1024);
        assert!(sentences.len() <= 1024 && sentences.ends_with("things.…"), "{sentences}");
        for max in 0..8 {
            assert!(sanitize_text("äöüäöü", max).len() <= max);
        }
    }
}
