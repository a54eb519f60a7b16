//! Descriptions of tools, which are the words of their server: bounded, and without invisible characters.

/// Longest description in bytes. The longest one of the common servers has less than half of it.
const MAX_DESCRIPTION_BYTES: usize = 8 * 1024;

/// Returns a description without invisible characters, truncated to its maximum.
pub(crate) fn sanitize_description(text: &str) -> String {
    let mut visible: String = text.chars().filter(|char| !is_hidden_char(*char)).collect();
    if visible.len() > MAX_DESCRIPTION_BYTES {
        visible.truncate(visible.floor_char_boundary(MAX_DESCRIPTION_BYTES));
        visible.push('…');
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invisible_characters_are_removed() {
        assert_eq!(sanitize_description("Lists pods.\n- äöü 中文 👍"), "Lists pods.\n- äöü 中文 👍");
        assert_eq!(sanitize_description("a\u{200b}b\u{e0041}\u{202e}c\u{1b}[8m"), "abc[8m");
    }

    #[test]
    fn long_descriptions_are_truncated() {
        let long = sanitize_description(&"ä".repeat(10_000));
        assert!(long.len() <= MAX_DESCRIPTION_BYTES + '…'.len_utf8() && long.ends_with('…'));
    }
}
