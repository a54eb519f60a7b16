//! Placeholders: what stands in the place of a secret value.
//!
//! `[secret:KEY:DIGEST]` for the value itself, `[secret:KEY:DIGEST:b64]` for its base64 form. The key is for the reader; the
//! digest says which value it is.

use std::{ops::Range, sync::LazyLock};

use regex::Regex;

/// The most characters of a key.
const MAX_KEY: usize = 40;

/// How every placeholder begins.
pub(super) const BEGINS: &str = "[secret:";

static PATTERN: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\[secret:[A-Za-z0-9._-]{1,40}:([0-9a-f]{16})(:b64)?\]").expect("a constant pattern"));

/// A placeholder in a text.
pub(super) struct Placeholder<'a> {
    pub(super) range: Range<usize>,
    pub(super) digest: &'a str,
    pub(super) is_base64: bool,
}

/// The placeholder of a value.
pub(super) fn of(key: &str, digest: &str, is_base64: bool) -> String {
    let mut name: String = key
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' })
        .take(MAX_KEY)
        .collect();
    if name.is_empty() {
        name.push_str("value");
    }
    format!("[secret:{name}:{digest}{}]", if is_base64 { ":b64" } else { "" })
}

/// The placeholders in a text, in their order.
pub(super) fn all(text: &str) -> impl Iterator<Item = Placeholder<'_>> {
    PATTERN.captures_iter(text).filter_map(|found| {
        let (whole, digest) = (found.get(0)?, found.get(1)?);
        Some(Placeholder { range: whole.range(), digest: digest.as_str(), is_base64: found.get(2).is_some() })
    })
}

/// Whether a text has a placeholder.
pub(super) fn is_in(text: &str) -> bool {
    PATTERN.is_match(text)
}

/// Whether a text is made of placeholders and nothing else.
pub(super) fn is_all_of(text: &str) -> bool {
    let mut end = 0;
    for found in all(text) {
        if found.range.start != end {
            return false;
        }
        end = found.range.end;
    }
    end == text.len() && end > 0
}
