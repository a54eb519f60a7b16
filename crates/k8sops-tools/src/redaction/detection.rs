//! All detectors of secrets, and the texts within a text.

use super::{
    command_arguments::find_argument_secrets,
    content_hint::ContentHint,
    directives::find_directive_secrets,
    found_secret::FoundSecret,
    json_secrets::{find_json_fragment_secrets, find_json_secrets},
    markup::find_markup_secrets,
    named_values::find_named_values,
    placed_values::find_placed_values,
    placeholder::{PLACEHOLDER_PREFIX, is_only_placeholders},
    sql_inserts::find_insert_secrets,
    table_cells::find_table_secrets,
    text_view::{decode_embedded_strings, split_diff, strip_ansi},
    token_formats::find_known_tokens,
    yaml_secrets::find_yaml_secrets,
};

/// Levels of strings in strings: the `last-applied-configuration` annotation in the JSON of a tool, and one more.
const MAX_EMBEDDING: usize = 3;

/// Returns whether a text contains something that looks like a secret, or a placeholder of one.
#[must_use]
pub fn contains_secret(text: &str) -> bool {
    // A model may have copied only the beginning of the placeholder.
    text.contains(PLACEHOLDER_PREFIX) || !find_secrets(text, ContentHint::Any).is_empty()
}

/// Returns the secrets in a text that can be found without knowing any. They may overlap.
pub(super) fn find_secrets(text: &str, hint: ContentHint) -> Vec<FoundSecret> {
    let mut found = Vec::new();
    find_secrets_within(text, hint, MAX_EMBEDDING, &mut found);
    found.retain(|secret| !secret.range.is_empty() && !is_only_placeholders(&text[secret.range.clone()]));
    found
}

fn find_secrets_within(text: &str, hint: ContentHint, depth: usize, found: &mut Vec<FoundSecret>) {
    if let Some(view) = strip_ansi(text) {
        return view.collect_secrets(found, |inner, found| find_secrets_within(inner, hint, depth, found));
    }
    find_secret_objects(text, hint, found);
    find_known_tokens(text, found);
    find_named_values(text, found);
    find_argument_secrets(text, found);
    find_placed_values(text, found);
    find_directive_secrets(text, found);
    find_table_secrets(text, found);
    find_markup_secrets(text, found);
    find_insert_secrets(text, found);
    if depth > 0 {
        for view in decode_embedded_strings(text) {
            view.collect_secrets(found, |inner, found| find_secrets_within(inner, hint, depth - 1, found));
        }
    }
}

/// Adds the data of Secret objects.
fn find_secret_objects(text: &str, hint: ContentHint, found: &mut Vec<FoundSecret>) {
    // The items of a list of Secrets have no `kind`.
    let hint = if text.contains("SecretList") { ContentHint::Objects } else { hint };
    find_json_secrets(text, hint, found);
    find_yaml_secrets(text, hint, found);
    for section in split_diff(text) {
        let hint = if section.is_secret { ContentHint::Objects } else { hint };
        section.view.collect_secrets(found, |inner, found| {
            find_yaml_secrets(inner, hint, found);
            find_json_fragment_secrets(inner, hint, found);
        });
    }
}
