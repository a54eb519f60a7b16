//! Counting tokens offline, with the vocabulary of OpenAI's newer models (o200k). For other models it is an estimate: on what
//! clusters print, theirs differ by some ten percent.

use std::sync::LazyLock;

use tiktoken::CoreBpe;

/// Bytes of the longest token of o200k: 128 spaces.
const LONGEST: usize = 128;

/// Unpacked when the first text is counted.
static O200K: LazyLock<&CoreBpe> =
    LazyLock::new(|| tiktoken::get_encoding("o200k_base").expect("the feature vocab-o200k_base is on"));

/// Tokens of a text. Names of special tokens are counted as the text that they are.
#[must_use]
pub fn count(text: &str) -> usize {
    O200K.count(text)
}

/// Whether a text has at most so many tokens. One that is far too long is known by its length.
#[must_use]
pub fn within(text: &str, limit: usize) -> bool {
    text.len() <= limit || (text.len() <= limit.saturating_mul(LONGEST) && count(text) <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_counted_as_the_vocabulary_has_them() {
        assert_eq!(count(""), 0);
        assert_eq!(count("hello world"), 2);
        assert_eq!(count("Über die Straße läuft 日本語 ein Hund."), 9);
        assert_eq!(count("<|endoftext|>"), 7);
        assert!(count(&"payments-api-7d9f 1/1 Running 0 3d\n".repeat(100)) > 1_000);
    }

    #[test]
    fn no_token_is_longer_than_the_longest() {
        assert_eq!(count(&" ".repeat(LONGEST)), 1);
        assert_eq!(O200K.encode(&" ".repeat(LONGEST)).len(), 1);
        let longest = (0..O200K.vocab_size()).map(|id| O200K.decode(&[u32::try_from(id).unwrap()]).len()).max();
        assert_eq!(longest, Some(LONGEST));
    }

    #[test]
    fn a_text_is_within_what_it_counts_and_not_within_less() {
        for text in ["word ".repeat(10_000), " ".repeat(10_000), "a".repeat(10_000), "日本語 und 🙂\n".repeat(1_000)]
        {
            let tokens = count(&text);
            assert!(within(&text, tokens) && within(&text, tokens + 1), "{tokens}");
            assert!(!within(&text, tokens - 1) && !within(&text, 1), "{tokens}");
        }
    }

    /// What comes from outside has no spaces, or nothing else, when somebody wants to keep the machine busy: pieces of a
    /// million bytes that merge in all ways, and must neither overflow the stack nor take the square of their length.
    #[test]
    fn a_piece_without_end_is_counted() {
        for piece in ["a", " ", "\n", "-=", " \t", "é"] {
            assert!(count(&piece.repeat(1_000_000)) > 1_000, "{piece:?}");
        }
    }
}
