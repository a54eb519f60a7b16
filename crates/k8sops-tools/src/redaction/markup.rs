//! Secrets in XML: elements and properties whose name sounds like a secret.

use std::sync::LazyLock;

use regex::Regex;

use super::{
    compile_pattern::compile_pattern,
    found_secret::{FoundSecret, SecretReach},
    secret_names::rate_secret_name,
    secret_values::{PairContext, is_secret_value, looks_random},
};

static PATTERNS: LazyLock<[Regex; 4]> = LazyLock::new(|| {
    [
        // `<password>value</password>`
        r"<(?P<k>[A-Za-z][A-Za-z0-9_.:-]+)(?:\s[^<>]*)?>\s*(?:<!\[CDATA\[)?(?P<v>[^<>\s\[\]][^<>\n\]]*)(?:\]\]>)?\s*</",
        // `<property name="password">value</property>`
        r#"<[A-Za-z0-9_]+\s[^<>]*?\b(?:name|key|id)\s*=\s*["'](?P<k>[A-Za-z0-9_.:/-]+)["'][^<>]*>\s*(?P<v>[^<>\s][^<>\n]*)</"#,
        // `<td>DB_PASSWORD</td><td>value</td>`
        r"<t[dh](?:\s[^<>]*)?>\s*(?P<k>[A-Za-z0-9_.-]+)\s*</t[dh]>\s*<td(?:\s[^<>]*)?>\s*(?P<v>[^<>\s][^<>\n]*)</td",
        // `<name>password</name><value>value</value>`
        r"<(?:name|key)>\s*(?P<k>[A-Za-z0-9_.:/ -]+?)\s*</(?:name|key)>\s*<[A-Za-z0-9_]+>(?P<v>[^<>\n]+)</",
    ]
    .map(compile_pattern)
});

/// Adds the secrets in XML to `found`.
pub(super) fn find_markup_secrets(text: &str, found: &mut Vec<FoundSecret>) {
    if !text.contains("</") {
        return;
    }
    for captures in PATTERNS.iter().flat_map(|pattern| pattern.captures_iter(text)) {
        let (Some(name), Some(value)) = (captures.name("k"), captures.name("v")) else { continue };
        let content = value.as_str().trim_end();
        if is_secret_value(rate_secret_name(name.as_str()), content, PairContext::Assignment) {
            let reach = if looks_random(content) { SecretReach::Session } else { SecretReach::InPlace };
            found.push(FoundSecret::plain(value.start()..value.start() + content.len(), name.as_str(), reach));
        }
    }
}
