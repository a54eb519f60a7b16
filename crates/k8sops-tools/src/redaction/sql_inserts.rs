//! Secrets in `INSERT` statements of SQL, whose columns and values are two lists.

use std::{ops::Range, sync::LazyLock};

use regex::Regex;

use super::{
    compile_pattern::compile_pattern,
    found_secret::{FoundSecret, SecretReach},
    secret_names::rate_secret_name,
    secret_values::{PairContext, is_secret_value, looks_random},
};

/// Most columns of a statement that is read.
const MAX_COLUMNS: usize = 200;

/// Adds the values of columns that sound like a secret to `found`.
pub(super) fn find_insert_secrets(text: &str, found: &mut Vec<FoundSecret>) {
    static INSERT: LazyLock<Regex> = LazyLock::new(|| {
        compile_pattern(
            r"(?i)\binsert\s+into\s+\S+\s*\((?P<columns>[^()]*)\)\s*values\s*(?P<rows>\([^()]*\)(?:\s*,\s*\([^()]*\))*)",
        )
    });
    static ROW: LazyLock<Regex> = LazyLock::new(|| compile_pattern(r"\((?P<row>[^()]*)\)"));
    for statement in INSERT.captures_iter(text) {
        let (Some(columns), Some(rows)) = (statement.name("columns"), statement.name("rows")) else { continue };
        let names: Vec<&str> =
            columns.as_str().split(',').map(|name| name.trim().trim_matches(['"', '`'])).take(MAX_COLUMNS).collect();
        for row in ROW.captures_iter(rows.as_str()).filter_map(|captures| captures.name("row")) {
            let values = split_values(text, rows.start() + row.start()..rows.start() + row.end());
            for (name, range) in names.iter().zip(values) {
                let value = &text[range.clone()];
                if is_secret_value(rate_secret_name(name), value, PairContext::Assignment) {
                    let reach = if looks_random(value) { SecretReach::Session } else { SecretReach::InPlace };
                    found.push(FoundSecret::plain(range, *name, reach));
                }
            }
        }
    }
}

/// Splits a list at the commas that are not in a string. The quotes of a string are not part of its value.
fn split_values(text: &str, list: Range<usize>) -> Vec<Range<usize>> {
    let mut values = Vec::new();
    let mut start = list.start;
    let mut is_quoted = false;
    for (offset, char) in text[list.clone()].char_indices().chain([(list.len(), ',')]) {
        match char {
            '\'' => is_quoted = !is_quoted,
            ',' if !is_quoted || offset == list.len() => {
                let end = list.start + offset;
                let value = text[start..end].trim();
                let inner = value.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')).unwrap_or(value);
                let from = start + text[start..end].find(inner).unwrap_or_default();
                values.push(from..from + inner.len());
                start = end + 1;
            }
            _ => {}
        }
    }
    values
}
