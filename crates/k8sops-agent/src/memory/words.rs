//! Finding by words: an exact name must hit, whatever its meaning is taken for.

use std::collections::HashSet;

/// Words that say nothing of what is meant.
const EMPTY: &[&str] = &[
    "about", "all", "and", "any", "are", "but", "can", "did", "does", "for", "from", "had", "has", "have", "how",
    "into", "its", "not", "now", "our", "should", "that", "the", "their", "them", "then", "there", "these", "they",
    "this", "was", "were", "what", "when", "where", "which", "who", "why", "will", "with", "you", "your",
];
/// Shorter words are not looked for.
const SHORTEST: usize = 3;

/// The words of a text: names with their dashes and dots, and the parts of those.
pub(super) fn of(text: &str) -> HashSet<String> {
    let mut words = HashSet::new();
    for name in names(&text.to_lowercase()) {
        let parts = name.split(|c: char| !c.is_alphanumeric());
        words.extend(parts.chain([name]).filter(says_something).map(stem));
    }
    words
}

/// The words of a text, with dashes, dots and slashes inside of them.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_' | '/');
    text.split(move |c: char| !is_part(c)).map(|name| name.trim_matches(|c: char| !c.is_alphanumeric()))
}

fn says_something(word: &&str) -> bool {
    word.chars().count() >= SHORTEST && !EMPTY.contains(word)
}

/// A word without its plural.
pub(super) fn stem(word: &str) -> String {
    let plain = word.len() > SHORTEST && word.ends_with('s') && !word.ends_with("ss");
    word[..word.len() - usize::from(plain)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_and_so_are_their_parts() {
        let words = of("Why is payments-api down? See v1.2/Pods, the pods!");
        for word in ["payments-api", "payment", "api", "down", "v1.2/pod", "pod", "see"] {
            assert!(words.contains(word), "{word} in {words:?}");
        }
        assert!(!words.contains("the") && !words.contains("is") && !words.contains("why"), "{words:?}");
    }
}
