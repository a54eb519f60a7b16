//! Secrets that are known by their place: credentials in addresses, in statements and commands, and in the fields of tools'
//! outputs. What is around them stays readable.

use std::{ops::Range, sync::LazyLock};

use super::{
    found_secret::{FoundSecret, SecretReach, ValueForm},
    json_secrets::find_json_strings,
    pattern_table::PatternTable,
    placed_value_table::{PLACED_VALUES, ValueCheck},
    secret_names::{SecretNameLevel, rate_secret_name},
    secret_values::{PairContext, is_name_like, is_plain_value, is_secret_value, looks_random},
};

/// How far before an argument the name of its command may be.
const MAX_COMMAND_LEN: usize = 600;

static PATTERNS: LazyLock<PatternTable> = LazyLock::new(|| {
    let rows: Vec<_> = PLACED_VALUES.iter().map(|(_, words, _, pattern)| (*words, *pattern)).collect();
    PatternTable::new(&rows)
});

/// Adds the secrets at known places to `found`.
pub(super) fn find_placed_values(text: &str, found: &mut Vec<FoundSecret>) {
    for (row, pattern) in PATTERNS.candidates(text) {
        let (key, _, check, _) = PLACED_VALUES[row];
        for captures in pattern.captures_iter(text) {
            let Some(value) = captures.name("v") else { continue };
            if check == ValueCheck::Strings {
                for (name, range) in find_json_strings(value.as_str()) {
                    push_value(text, value.start() + range.start..value.start() + range.end, name, check, found);
                }
                continue;
            }
            let content = value.as_str().trim_end_matches([',', ';', '.']);
            let group = |name| captures.name(name).map(|group| group.as_str()).unwrap_or_default();
            let is_secret = match check {
                ValueCheck::Any | ValueCheck::Base64 | ValueCheck::Strings => true,
                ValueCheck::NotName => is_no_name(content),
                ValueCheck::Named => is_secret_value(rate_secret_name(group("k")), content, PairContext::Assignment),
                ValueCheck::NamedCertain => {
                    rate_secret_name(group("k")) == SecretNameLevel::Certain && is_no_name(content)
                }
                ValueCheck::HasDigit => {
                    content.bytes().any(|b| b.is_ascii_digit()) && content.bytes().any(|b| b.is_ascii_alphabetic())
                }
                ValueCheck::Random => looks_random(content),
                ValueCheck::SecretCommand => {
                    let from = text.ceil_char_boundary(value.start().saturating_sub(MAX_COMMAND_LEN));
                    let before = &text[from..value.start()];
                    let last = |words: [&str; 2]| words.iter().filter_map(|word| before.rfind(word)).max();
                    last(["secret ", "secretGenerator"]) > last(["configmap ", "configMapGenerator"])
                }
            };
            if is_secret {
                push_value(text, value.start()..value.start() + content.len(), key, check, found);
            }
        }
    }
}

fn push_value(text: &str, range: Range<usize>, key: &str, check: ValueCheck, found: &mut Vec<FoundSecret>) {
    let value = &text[range.clone()];
    if value.is_empty() || is_plain_value(value) {
        return;
    }
    let reach = if looks_random(value) { SecretReach::Session } else { SecretReach::InPlace };
    let form = if check == ValueCheck::Base64 { ValueForm::Base64 } else { ValueForm::Plain };
    found.push(FoundSecret { form, ..FoundSecret::plain(range, key, reach) });
}

/// Returns whether a value is neither a name, nor a number, nor a digest.
fn is_no_name(value: &str) -> bool {
    value.bytes().any(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
        && !is_name_like(value)
        && !value.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && !value.starts_with("sha256")
}
