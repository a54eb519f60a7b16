//! Keywords: an exact name must match, whatever its embedding says.

use std::collections::HashSet;

/// Words without meaning for a search.
const STOP_WORDS: &[&str] = &[
    "about", "all", "and", "any", "are", "but", "can", "did", "does", "for", "from", "had", "has", "have", "how",
    "into", "its", "not", "now", "our", "should", "that", "the", "their", "them", "then", "there", "these", "they",
    "this", "was", "were", "what", "when", "where", "which", "who", "why", "will", "with", "you", "your",
];
/// Minimum length of a keyword in characters.
const MIN_LENGTH: usize = 3;

/// Returns the keywords of a text: names with their dashes and dots, and the parts of names.
pub(super) fn extract_keywords(text: &str) -> HashSet<String> {
    let mut words = HashSet::new();
    for name in split_names(&text.to_lowercase()) {
        let parts = name.split(|c: char| !c.is_alphanumeric());
        words.extend(parts.chain([name]).filter(is_keyword).map(strip_plural));
    }
    words
}

/// Returns the words of a text, including inner dashes, dots and slashes.
fn split_names(text: &str) -> impl Iterator<Item = &str> {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_' | '/');
    text.split(move |c: char| !is_part(c)).map(|name| name.trim_matches(|c: char| !c.is_alphanumeric()))
}

fn is_keyword(word: &&str) -> bool {
    word.chars().count() >= MIN_LENGTH && !STOP_WORDS.contains(word)
}

/// Returns a word without its plural.
pub(super) fn strip_plural(word: &str) -> String {
    let plain = word.len() > MIN_LENGTH && word.ends_with('s') && !word.ends_with("ss");
    word[..word.len() - usize::from(plain)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_and_so_are_their_parts() {
        let words = extract_keywords("Why is payments-api down? See v1.2/Pods, the pods!");
        for word in ["payments-api", "payment", "api", "down", "v1.2/pod", "pod", "see"] {
            assert!(words.contains(word), "{word} in {words:?}");
        }
        assert!(!words.contains("the") && !words.contains("is") && !words.contains("why"), "{words:?}");
    }
}
