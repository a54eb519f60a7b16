//! Offline token counts with the vocabulary of OpenAI's newer models (o200k). For other models they are estimates: on
//! the output of cluster tools, other vocabularies differ by about ten percent.

use std::sync::LazyLock;

use tiktoken::CoreBpe;

/// The length of the longest token of o200k: 128 spaces.
const MAX_TOKEN_BYTES: usize = 128;

/// The vocabulary, which is unpacked at the first use.
static O200K: LazyLock<&CoreBpe> =
    LazyLock::new(|| tiktoken::get_encoding("o200k_base").expect("the feature vocab-o200k_base is on"));

/// Unpacks the vocabulary, which takes about a tenth of a second, so that the first count does not wait for that.
pub fn unpack_vocabulary() {
    LazyLock::force(&O200K);
}

/// Returns the number of tokens of a text. Names of special tokens are counted as plain text.
#[must_use]
pub fn count(text: &str) -> usize {
    O200K.count(text)
}

/// Returns whether a text has at most `limit` tokens. A text that is too long by its length alone is not counted.
#[must_use]
pub fn fits_within(text: &str, limit: usize) -> bool {
    text.len() <= limit || (text.len() <= limit.saturating_mul(MAX_TOKEN_BYTES) && count(text) <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_counts_match_vocabulary() {
        assert_eq!(count(""), 0);
        assert_eq!(count("hello world"), 2);
        assert_eq!(count("Über die Straße läuft 日本語 ein Hund."), 9);
        assert_eq!(count("<|endoftext|>"), 7);
        assert!(count(&"payments-api-7d9f 1/1 Running 0 3d\n".repeat(100)) > 1_000);
    }

    #[test]
    fn longest_token_has_max_token_bytes() {
        assert_eq!(count(&" ".repeat(MAX_TOKEN_BYTES)), 1);
        assert_eq!(O200K.encode(&" ".repeat(MAX_TOKEN_BYTES)).len(), 1);
        let longest = (0..O200K.vocab_size()).map(|id| O200K.decode(&[u32::try_from(id).unwrap()]).len()).max();
        assert_eq!(longest, Some(MAX_TOKEN_BYTES));
    }

    #[test]
    fn text_fits_exactly_its_token_count() {
        for text in ["word ".repeat(10_000), " ".repeat(10_000), "a".repeat(10_000), "日本語 und 🙂\n".repeat(1_000)]
        {
            let tokens = count(&text);
            assert!(fits_within(&text, tokens) && fits_within(&text, tokens + 1), "{tokens}");
            assert!(!fits_within(&text, tokens - 1) && !fits_within(&text, 1), "{tokens}");
        }
    }

    /// An attacker may send text without spaces, or of spaces only, to exhaust the CPU. Such words of a million bytes
    /// merge in every way, and must neither overflow the stack nor take quadratic time.
    #[test]
    fn million_byte_words_are_counted() {
        for piece in ["a", " ", "\n", "-=", " \t", "é"] {
            assert!(count(&piece.repeat(1_000_000)) > 1_000, "{piece:?}");
        }
    }
}
