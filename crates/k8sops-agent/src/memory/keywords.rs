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

/// Returns the keywords of a text: names with their dashes and dots, and the parts of names. Where a script has no spaces
/// between words, each two neighboring characters are a keyword.
pub(super) fn extract_keywords(text: &str) -> HashSet<String> {
    let mut words = HashSet::new();
    let text = text.to_lowercase();
    for piece in text.split_inclusive(|c: char| !is_unspaced(c)) {
        let unspaced: Vec<char> = piece.chars().filter(|c| is_unspaced(*c)).collect();
        words.extend(unspaced.windows(2).map(|pair| pair.iter().collect::<String>()));
    }
    for name in text.split(is_unspaced).flat_map(split_names) {
        let parts = name.split(|c: char| !c.is_alphanumeric());
        words.extend(parts.chain([name]).filter(is_keyword).map(strip_plural));
    }
    words
}

/// Returns whether a character belongs to a script whose words are not separated, or, in Korean, carry their particles: Thai, Lao,
/// Burmese, Khmer, Japanese, Chinese, Korean. The ranges are blocks of Unicode.
fn is_unspaced(c: char) -> bool {
    matches!(c,
        '\u{0E00}'..='\u{0EFF}' | '\u{1000}'..='\u{109F}' | '\u{1780}'..='\u{17FF}' | '\u{3040}'..='\u{30FF}'
        | '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}' | '\u{AC00}'..='\u{D7AF}' | '\u{F900}'..='\u{FAFF}'
        | '\u{20000}'..='\u{323AF}')
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
    fn scripts_without_spaces_have_pairs_of_characters() {
        let shared = |memory: &str, question: &str| {
            let (memory, question) = (extract_keywords(memory), extract_keywords(question));
            memory.intersection(&question).count()
        };
        for (memory, question) in [
            ("结账服务运行在 eu-1 集群", "结账服务在哪里？"),
            ("決済サービスはフランクフルトで動いている", "決済サービスはどこですか"),
            ("결제서비스는 eu-1에서 실행된다", "결제서비스가 느려요"),
            ("ระบบชำระเงินทำงานที่กรุงเทพ", "ระบบชำระเงินอยู่ที่ไหน"),
        ] {
            assert!(shared(memory, question) >= 3, "{memory} / {question}");
        }
        assert_eq!(shared("结账服务", "天气怎么样"), 0);
        let words = extract_keywords("用checkout-api重启");
        assert!(words.contains("checkout-api") && words.contains("重启"), "{words:?}");
    }

    #[test]
    fn names_are_words_and_so_are_their_parts() {
        let words = extract_keywords("Why is payments-api down? See v1.2/Pods, the pods!");
        for word in ["payments-api", "payment", "api", "down", "v1.2/pod", "pod", "see"] {
            assert!(words.contains(word), "{word} in {words:?}");
        }
        assert!(!words.contains("the") && !words.contains("is") && !words.contains("why"), "{words:?}");
    }
}
