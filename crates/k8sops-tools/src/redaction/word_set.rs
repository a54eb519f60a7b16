//! Lists of words that are looked up.

use std::collections::HashSet;

/// Words in lower case.
pub(super) type WordSet = HashSet<&'static str>;

/// Returns the words of a list that is separated by spaces.
pub(super) fn word_set(words: &'static str) -> WordSet {
    words.split_whitespace().collect()
}
