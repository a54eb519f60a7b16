//! Repairs JSON texts in which an escape of half a UTF-16 pair stands alone (`"\ud83d"`).
//!
//! Programs that cut texts by UTF-16 units (JavaScript, Java, C#) write such escapes, and JSON parsers reject the whole
//! document because of one character.

use std::borrow::Cow;

/// A lone half of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LoneSurrogate {
    /// The first half. `ends_string` if the string ends after it.
    High { unit: u16, ends_string: bool },
    /// The second half. `starts_string` if the string starts with it.
    Low { unit: u16, starts_string: bool },
}

/// Replaces each lone half by the replacement character U+FFFD.
#[must_use]
pub fn replace_lone_surrogates(json: &str) -> Cow<'_, str> {
    rewrite_lone_surrogates(json, |_| REPLACEMENT.to_owned())
}

/// Joins pairs whose halves stand in two consecutive documents, as the pieces of a streamed text do.
#[derive(Debug, Default)]
pub struct SurrogateJoiner {
    /// The first half at the end of a string of an earlier document.
    open_high: Option<u16>,
}

impl SurrogateJoiner {
    /// Returns the next document with its lone halves repaired. A first half at the end of a string is left out, and
    /// precedes the second half at the start of a string of a later document. Any other half becomes U+FFFD.
    pub fn repair_document<'a>(&mut self, json: &'a str) -> Cow<'a, str> {
        let earlier = self.open_high;
        let mut is_used = false;
        let mut open_high = None;
        let repaired = rewrite_lone_surrogates(json, |lone| match (lone, earlier) {
            (LoneSurrogate::High { unit, ends_string: true }, _) => {
                open_high = Some(unit);
                String::new()
            }
            // A document may repeat its piece in another field.
            (LoneSurrogate::Low { unit, starts_string: true }, Some(high)) => {
                is_used = true;
                format!("\\u{high:04x}\\u{unit:04x}")
            }
            _ => REPLACEMENT.to_owned(),
        });
        self.open_high = open_high.or(earlier.filter(|_| !is_used));
        repaired
    }
}

/// The escape of U+FFFD.
const REPLACEMENT: &str = "\\ufffd";

/// Rewrites each lone half as `repair` says.
fn rewrite_lone_surrogates(json: &str, mut repair: impl FnMut(LoneSurrogate) -> String) -> Cow<'_, str> {
    // Most texts have no escape at all, which is found out faster.
    if !json.contains('\\') || !json.contains("\\ud") && !json.contains("\\uD") {
        return Cow::Borrowed(json);
    }
    let bytes = json.as_bytes();
    let mut repaired = String::new();
    let mut copied = 0;
    let mut at = 0;
    while let Some(found) = bytes[at..].iter().position(|byte| *byte == b'\\') {
        at += found;
        let Some(unit) = read_unicode_escape(bytes, at) else {
            // The escaped character is skipped, since it may be a backslash.
            at += 2;
            if at >= bytes.len() {
                break;
            }
            continue;
        };
        let end = at + ESCAPE_BYTES;
        let lone = match unit {
            0xd800..=0xdbff => match read_unicode_escape(bytes, end) {
                Some(0xdc00..=0xdfff) => {
                    at = end + ESCAPE_BYTES;
                    continue;
                }
                _ => LoneSurrogate::High { unit, ends_string: bytes.get(end) == Some(&b'"') },
            },
            0xdc00..=0xdfff => LoneSurrogate::Low { unit, starts_string: at > 0 && bytes[at - 1] == b'"' },
            _ => {
                at = end;
                continue;
            }
        };
        repaired.push_str(&json[copied..at]);
        repaired.push_str(&repair(lone));
        (copied, at) = (end, end);
    }
    if copied == 0 {
        return Cow::Borrowed(json);
    }
    repaired.push_str(&json[copied..]);
    Cow::Owned(repaired)
}

/// The length of `\u` and four digits.
const ESCAPE_BYTES: usize = 6;

/// Returns the UTF-16 unit of the escape at this position, if there is one.
fn read_unicode_escape(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + ESCAPE_BYTES)?.strip_prefix(b"\\u")?;
    digits.iter().try_fold(0, |unit, digit| Some(unit << 4 | u16::try_from(char::from(*digit).to_digit(16)?).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lone_halves_are_replaced_and_other_texts_kept() {
        for (json, repaired) in [
            (r#""\ud83d""#, r#""\ufffd""#),
            (r#""a\uDE80b""#, r#""a\ufffdb""#),
            (r#""\ud83d\ud83d\ude80""#, r#""\ufffd\ud83d\ude80""#),
            (r#""\ud83d\n""#, r#""\ufffd\n""#),
        ] {
            assert_eq!(replace_lone_surrogates(json), repaired, "{json}");
        }
        for kept in [r#""\ud83d\ude80 \u00e9""#, r#""a\\ud83d""#, r#""plain \u0000""#, r#""cut \ud8"#, r#""cut \"#] {
            assert!(matches!(replace_lone_surrogates(kept), Cow::Borrowed(same) if same == kept), "{kept}");
        }
    }

    #[test]
    fn halves_of_consecutive_documents_are_joined() {
        let mut joiner = SurrogateJoiner::default();
        assert_eq!(joiner.repair_document(r#"{"t":"a\ud83d"}"#), r#"{"t":"a"}"#);
        assert_eq!(joiner.repair_document(r#"{"usage":1}"#), r#"{"usage":1}"#);
        let twice = r#"{"t":"\ude80b","log":"\ude80b"}"#;
        assert_eq!(joiner.repair_document(twice), r#"{"t":"\ud83d\ude80b","log":"\ud83d\ude80b"}"#);
        assert_eq!(joiner.repair_document(r#"{"t":"\ude80"}"#), r#"{"t":"\ufffd"}"#, "no first half is left");
    }
}
