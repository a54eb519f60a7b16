//! Counting tokens offline, with the vocabulary of OpenAI's newer models (o200k). For other models it is an estimate: on what
//! clusters print, theirs differ by some ten percent.

use bpe_openai::o200k_base;

/// Tokens of a text.
#[must_use]
pub fn count(text: &str) -> usize {
    o200k_base().count(text)
}

/// Whether a text has at most so many tokens; stops counting where it has more.
#[must_use]
pub fn within(text: &str, limit: usize) -> bool {
    // No token has less than a byte, and few have more than sixteen: neither needs to be counted.
    if text.len() <= limit {
        return true;
    }
    o200k_base().count_till_limit(&o200k_base().normalize(text), limit).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_counted_as_the_vocabulary_has_them() {
        assert_eq!(count(""), 0);
        assert_eq!(count("hello world"), 2);
        assert!(count(&"payments-api-7d9f 1/1 Running 0 3d\n".repeat(100)) > 1_000);
    }

    #[test]
    fn counting_stops_at_the_limit() {
        let text = "word ".repeat(1_000_000);
        assert!(!within(&text, 100));
        assert!(within("word ", 100) && within(&"word ".repeat(50), 52));
    }
}
