//! Compares two claims: names, numbers and negation must agree, however similar their embeddings are.

use std::collections::HashSet;

use super::keywords;

/// Words that negate a sentence.
const NEGATIONS: &[&str] =
    &["not", "no", "never", "nothing", "without", "cannot", "forbidden", "avoid", "don", "isn", "doesn", "won"];
/// Numbers as words. One is left out, because it is mostly a pronoun.
const NUMBERS: &[&str] =
    &["zero", "", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"];
/// Units with their short forms, which follow the number without a space.
const UNITS: &[(&str, &[&str])] = &[
    ("ms", &["millisecond", "milliseconds"]),
    ("s", &["sec", "second", "seconds"]),
    ("m", &["min", "minute", "minutes"]),
    ("h", &["hour", "hours"]),
    ("d", &["day", "days"]),
    ("%", &["percent"]),
];
/// Number of replaced words up to which two sentences have the same structure.
const MAX_REPLACED_WORDS: usize = 2;

/// A sentence, tokenized.
pub(super) struct Claim {
    /// Its words in order, in lower case; names are split at dashes.
    tokens: Vec<String>,
    /// Its names and numbers, each a part of `tokens`.
    names: Vec<String>,
    words: HashSet<String>,
    negated: bool,
}

impl Claim {
    pub(super) fn new(text: &str) -> Self {
        let (mut tokens, mut names): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
        let mut begins = true;
        for chunk in text.split_whitespace() {
            // A possessive is not a separate name.
            let owner = chunk.split_once(['\'', '\u{2019}']).filter(|(_, rest)| rest.starts_with('s'));
            let chunk = owner.map_or(chunk, |(owner, _)| owner);
            for name in chunk.split(|c: char| !(c.is_alphanumeric() || matches!(c, '-' | '.' | '_' | '/' | '%'))) {
                let name = name.trim_matches(|c: char| !c.is_alphanumeric() && c != '%');
                let lower = name.to_lowercase();
                let parts: Vec<String> =
                    lower.split(['-', '_', '/']).filter(|part| !part.is_empty()).map(normalize_part).collect();
                if parts.is_empty() {
                    continue;
                }
                // A unit belongs to the number before it.
                let unit = UNITS.iter().find(|(short, long)| lower == *short || long.contains(&lower.as_str()));
                if let (Some((unit, _)), Some(last)) = (unit, tokens.last_mut().filter(|last| is_number(last))) {
                    if names.last() == Some(last) {
                        names.pop();
                    }
                    last.push_str(unit);
                    names.push(last.clone());
                    continue;
                }
                let is_capital = !begins && name.starts_with(char::is_uppercase) && name.len() > 1;
                let has_digit = parts.iter().any(|part| part.contains(|c: char| c.is_ascii_digit()));
                if (is_capital || parts.len() > 1 || has_digit) && parts != ["1"] {
                    names.push(parts.join(" "));
                }
                tokens.extend(parts);
                begins = false;
            }
            begins = chunk.ends_with(['.', '!', '?', ':']);
        }
        let negated = tokens.iter().any(|token| NEGATIONS.contains(&token.as_str()));
        Self { tokens, names, words: keywords::extract_keywords(text), negated }
    }

    /// Returns whether both may say the same: they share names and numbers, agree in negation, and are not one sentence with a
    /// word replaced. Two facts of one structure are two facts ("orders uses postgres", "users uses postgres"). Losing a fact
    /// is worse than keeping it twice.
    pub(super) fn may_equal(&self, other: &Self) -> bool {
        self.negated == other.negated
            && self.mentions_names_of(other)
            && other.mentions_names_of(self)
            && !self.has_replaced_words(other)
    }

    /// Returns the share of words that both have.
    pub(super) fn word_overlap(&self, other: &Self) -> f32 {
        let common = self.words.intersection(&other.words).count() as f32;
        common / self.words.union(&other.words).count().max(1) as f32
    }

    fn mentions_names_of(&self, other: &Self) -> bool {
        let spaced = format!(" {} ", self.tokens.join(" "));
        let solid = self.tokens.concat();
        other.names.iter().all(|name| {
            // "on-call" is "on call" and "oncall"; a number is only itself.
            let has_digit = name.contains(|c: char| c.is_ascii_digit());
            spaced.contains(&format!(" {name} ")) || (!has_digit && solid.contains(&name.replace(' ', "")))
        })
    }

    fn has_replaced_words(&self, other: &Self) -> bool {
        if self.tokens.len() != other.tokens.len() {
            return false;
        }
        let pairs = self.tokens.iter().zip(&other.tokens);
        let replaced = pairs.filter(|(one, other)| one != other).count();
        (1..=MAX_REPLACED_WORDS).contains(&replaced)
    }
}

fn is_number(token: &str) -> bool {
    !token.is_empty() && token.chars().all(|c| c.is_ascii_digit() || c == '.')
}

/// Returns a number in digits, and any other word without its plural.
fn normalize_part(part: &str) -> String {
    match NUMBERS.iter().position(|word| !word.is_empty() && *word == part) {
        Some(number) => number.to_string(),
        None => keywords::strip_plural(part),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may_be(one: &str, other: &str) -> bool {
        let (one, other) = (Claim::new(one), Claim::new(other));
        assert_eq!(one.may_equal(&other), other.may_equal(&one), "it is the same both ways");
        one.may_equal(&other)
    }

    #[test]
    fn what_differs_in_a_name_a_number_or_a_no_is_another_fact() {
        for (one, other) in [
            ("payments-api needs 2 replicas in the shop", "in the shop payments-api is to have 4 replicas"),
            ("payments-api needs 2 replicas", "orders-api needs 2 replicas"),
            ("Anna is on call on Mondays", "Ben is on call on Mondays"),
            ("On Mondays the pager is with Anna", "Ben is on call on Mondays"),
            ("orders uses postgres", "users uses postgres"),
            ("orders calls payments", "payments calls orders"),
            ("the timeout of the gateway is 30s", "the gateway has a timeout of 30 minutes"),
            ("the canary may be deleted at night", "at night the canary may not be deleted"),
        ] {
            assert!(!may_be(one, other), "{one} / {other}");
        }
    }

    #[test]
    fn the_same_in_other_words_may_be_the_same() {
        for (one, other) in [
            (
                "payments-api needs 2 replicas in the shop",
                "in the shop, at least two replicas of payments-api are wanted",
            ),
            ("The gateway's timeout is 30s.", "Requests at the gateway time out after 30 seconds."),
            ("Anna is on-call on Mondays", "On Mondays the one on call is Anna"),
            ("The shop runs on mars-17.", "mars-17 is the cluster of the shop"),
        ] {
            assert!(may_be(one, other), "{one} / {other}");
        }
    }
}
