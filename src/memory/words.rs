//! Finding by words: an exact name must hit, whatever its meaning is taken for.

use std::collections::{HashMap, HashSet};

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

/// Names and numbers of a text as they stand there, however short: what tells two otherwise equal facts apart.
pub(super) fn exact(text: &str) -> HashSet<String> {
    let lower = text.to_lowercase();
    let is_exact = |name: &&str| name.chars().any(|c| c.is_ascii_digit() || !c.is_alphanumeric());
    names(&lower).filter(is_exact).map(str::to_owned).collect()
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
fn stem(word: &str) -> String {
    let plain = word.len() > SHORTEST && word.ends_with('s') && !word.ends_with("ss");
    word[..word.len() - usize::from(plain)].to_owned()
}

/// How often words stand in a set of texts.
pub(super) struct Frequencies {
    texts: usize,
    of: HashMap<String, usize>,
}

impl Frequencies {
    pub(super) fn new<'a>(texts: impl Iterator<Item = &'a HashSet<String>>) -> Self {
        let mut found = Self { texts: 0, of: HashMap::new() };
        for words in texts {
            found.texts += 1;
            for word in words {
                *found.of.entry(word.clone()).or_default() += 1;
            }
        }
        found
    }

    /// How much a word says: more, the fewer texts have it; nothing, if none has.
    fn weight(&self, word: &str) -> f32 {
        let having = self.of.get(word).copied().unwrap_or_default();
        if having == 0 { 0.0 } else { (1.0 + self.texts as f32 / having as f32).ln() }
    }

    /// How much of what a question says stands in a text, from 0 to 1. Words that no text has are of no account.
    pub(super) fn share(&self, question: &HashSet<String>, text: &HashSet<String>) -> f32 {
        let all: f32 = question.iter().map(|word| self.weight(word)).sum();
        let found: f32 = question.iter().filter(|word| text.contains(*word)).map(|word| self.weight(word)).sum();
        if all > 0.0 { found / all } else { 0.0 }
    }
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

    #[test]
    fn a_rare_word_says_more_than_a_common_one() {
        let texts = [of("payments-api needs redis"), of("orders needs redis"), of("the cluster needs nodes")];
        let frequencies = Frequencies::new(texts.iter());
        let question = of("what does payments-api needs");
        let shares: Vec<f32> = texts.iter().map(|text| frequencies.share(&question, text)).collect();
        assert!(shares[0] > 0.9 && shares[1] < 0.3 && shares[2] < 0.3, "{shares:?}");
        assert!(frequencies.share(&of("entirely unknown"), &texts[0]) < f32::EPSILON);
    }
}
