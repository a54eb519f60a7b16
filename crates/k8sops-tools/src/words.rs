//! Words of a server about its tools, as they are passed on: bounded, and without characters that nobody sees.

/// The most bytes of a description. The longest of the servers that people use has less than half of it.
const MAX_DESCRIPTION: usize = 8 * 1024;

/// A description of a tool or of one of its arguments.
pub(super) fn description(text: &str) -> String {
    let mut seen: String = text.chars().filter(|c| !is_hidden(*c)).collect();
    if seen.len() > MAX_DESCRIPTION {
        seen.truncate(seen.floor_char_boundary(MAX_DESCRIPTION));
        seen.push('…');
    }
    seen
}

/// Whether a character shows nothing and can carry words that a person who reads the description does not see: controls,
/// zero-width and bidirectional marks, variation selectors beyond the usual, tags, private use.
fn is_hidden(c: char) -> bool {
    (c.is_control() && !matches!(c, '\n' | '\t'))
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e000}'..='\u{f8ff}' | '\u{e0000}'..='\u{e0fff}' | '\u{f0000}'..='\u{10ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_left_out() {
        assert_eq!(description("Lists pods.\n- äöü 中文 👍"), "Lists pods.\n- äöü 中文 👍");
        assert_eq!(description("a\u{200b}b\u{e0041}\u{202e}c\u{1b}[8m"), "abc[8m");
    }

    #[test]
    fn a_description_is_bounded() {
        let long = description(&"ä".repeat(10_000));
        assert!(long.len() <= MAX_DESCRIPTION + '…'.len_utf8() && long.ends_with('…'));
    }
}
