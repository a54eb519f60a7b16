//! Repairs JSON texts with words that JSON does not have, for which parsers reject the whole document.

/// The words that Python, Go and JavaScript write for numbers and for missing values.
const FOREIGN_WORDS: &[&str] = &["-Infinity", "Infinity", "-inf", "inf", "NaN", "nan", "undefined", "None"];

/// Replaces each of these words outside of strings by `null`. Returns `None` if there are none.
#[must_use]
pub fn replace_foreign_words(json: &str) -> Option<String> {
    let mut replaced = String::new();
    // Everything before this position is in `replaced`, if that is not empty.
    let mut copied = 0;
    let mut at = 0;
    let bytes = json.as_bytes();
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => at = string_end(bytes, at + 1),
            _ => {
                if let Some(word) = word_at(bytes, at) {
                    replaced.push_str(&json[copied..at]);
                    replaced.push_str("null");
                    at += word.len();
                    copied = at;
                    continue;
                }
            }
        }
        at += 1;
    }
    (copied > 0).then(|| replaced + json.get(copied..).unwrap_or_default())
}

/// Returns the position of the quote that ends a string, or the end of the text. `at` is in the string. A function of its own,
/// because most of an event is in strings.
fn string_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(rest) = bytes.get(at..) {
        let Some(found) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\')) else { break };
        at += found;
        if bytes[at] == b'"' {
            return at;
        }
        at += 2;
    }
    bytes.len()
}

/// Returns the word at a position, if a value begins and ends with it.
fn word_at(bytes: &[u8], at: usize) -> Option<&'static str> {
    let starts = matches!(bytes[at], b'-' | b'I' | b'i' | b'N' | b'n' | b'u');
    let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    if !starts || at.checked_sub(1).and_then(|before| bytes.get(before)).is_some_and(is_letter) {
        return None;
    }
    let rest = &bytes[at..];
    FOREIGN_WORDS
        .iter()
        .find(|word| rest.starts_with(word.as_bytes()) && !rest.get(word.len()).is_some_and(is_letter))
        .copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_strings_stay() {
        let repaired = replace_foreign_words(r#"{"a":NaN,"b":[-Infinity,nan],"t":"NaN, \"None\"","n":None}"#);
        assert_eq!(repaired.as_deref(), Some(r#"{"a":null,"b":[null,null],"t":"NaN, \"None\"","n":null}"#));
        assert_eq!(replace_foreign_words(r#"{"a":null,"t":"NaN","infinite":1}"#), None);
        for cut in [r#"{"a":"NaN"#, r#"{"a":"NaN\"#, r#"{"a":"\"NaN\"#, r#"{"a""#, "\"", ""] {
            assert_eq!(replace_foreign_words(cut), None, "{cut}");
        }
    }
}
