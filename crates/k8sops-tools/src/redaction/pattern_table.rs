//! Patterns that are tried only on texts that contain one of their words.

use aho_corasick::AhoCorasick;
use regex::Regex;

use super::compile_pattern::compile_pattern;

/// Compiled patterns, and the words of which one must occur in a text.
pub(super) struct PatternTable {
    /// Finds the words of all patterns, in any case.
    words: AhoCorasick,
    /// Index of the pattern of each word.
    word_patterns: Vec<usize>,
    patterns: Vec<Regex>,
}

impl PatternTable {
    /// Compiles rows of words, separated by spaces, and a pattern.
    pub(super) fn new(rows: &[(&'static str, &'static str)]) -> Self {
        let words: Vec<(usize, &str)> = rows
            .iter()
            .enumerate()
            .flat_map(|(pattern, (words, _))| words.split(' ').map(move |word| (pattern, word)))
            .collect();
        Self {
            words: AhoCorasick::builder()
                .ascii_case_insensitive(true)
                .build(words.iter().map(|(_, word)| *word))
                .expect("constant words"),
            word_patterns: words.iter().map(|(pattern, _)| *pattern).collect(),
            patterns: rows.iter().map(|(_, pattern)| compile_pattern(pattern)).collect(),
        }
    }

    /// Returns the patterns that may match a text, each with the index of its row.
    pub(super) fn candidates(&self, text: &str) -> impl Iterator<Item = (usize, &Regex)> {
        let mut is_present = vec![false; self.patterns.len()];
        for word in self.words.find_overlapping_iter(text) {
            is_present[self.word_patterns[word.pattern().as_usize()]] = true;
        }
        self.patterns.iter().enumerate().filter(move |(row, _)| is_present[*row])
    }
}
