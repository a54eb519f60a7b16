//! Fields that hold a value whose name stands elsewhere: in a field beside it, or before the object around it.

use std::{ops::Range, sync::LazyLock};

use regex::Regex;

use super::{
    compile_pattern::compile_pattern,
    secret_names::{SecretNameLevel, is_identifier_name, rate_secret_name},
    secret_values::{is_plain_value, looks_random},
    text_lines::indent_of,
};

/// How far before a field the name of its value may be.
const MAX_DISTANCE: usize = 400;

/// Returns whether a field of this name holds a value that is named elsewhere.
pub(super) fn is_value_field(name: &str) -> bool {
    matches!(
        name,
        "value"
            | "Value"
            | "val"
            | "stringValue"
            | "ParameterValue"
            | "parameterValue"
            | "OutputValue"
            | "inline_string"
            | "inlineString"
            | "default"
            | "defaultValue"
            | "default_value"
            | "current_value"
            | "plaintext"
            | "computed"
            | "secret_string"
    )
}

/// Returns how likely the value of such a field is a secret, and the name that says so.
pub(super) fn rate_value_field(text: &str, field: usize) -> (SecretNameLevel, &str) {
    let beside = find_name_beside(text, field).map(|name| &text[name]);
    if let Some(name) = beside {
        return (rate_secret_name(name), name);
    }
    // An object of a store of secrets: `{"id": "https://…/secrets/db", "value": …}`.
    let object = find_open_brace(text, field).map(|brace| &text[brace..field]);
    if object.is_some_and(|object| object.contains("/secrets/")) {
        return (SecretNameLevel::Likely, "secret");
    }
    match find_name_around(text, field).map(|name| &text[name]) {
        // A schema has examples and defaults that are words.
        Some(name) => (rate_secret_name(name).min(SecretNameLevel::Likely), name),
        None => (SecretNameLevel::Unlikely, ""),
    }
}

/// Returns the name of the object around a field if that name sounds like a secret, and the value looks like one of its members:
/// `"apiKeys": {"stripe": "…"}`.
pub(super) fn rate_member_name<'a>(text: &'a str, name: &str, name_start: usize, separator: usize) -> Option<&'a str> {
    let to = text.floor_char_boundary((separator + 1 + MAX_DISTANCE).min(text.len()));
    let value = text[separator + 1..to].trim_start_matches([' ', '\\', '"', '\'']);
    let value =
        value.split(|char: char| char.is_whitespace() || matches!(char, '"' | '\'' | '\\' | ',' | '}')).next()?;
    if is_identifier_name(name) || !looks_random(value) || is_plain_value(value) {
        return None;
    }
    let parent = &text[find_name_around(text, name_start)?];
    (rate_secret_name(parent) >= SecretNameLevel::Likely).then_some(parent)
}

/// Finds the value of the field `name` or `key` of the same object.
fn find_name_beside(text: &str, field: usize) -> Option<Range<usize>> {
    static BEFORE: LazyLock<Regex> = LazyLock::new(|| {
        compile_pattern(
            r#"(?i)\b(?:name|key|label|path|ParameterKey|OutputKey|OptionName|variable|property|setting)\b\\*["']?\s*[:=]\s*\\*["']?([\w./-]+)\\*["']?[,\s+-]*\\*["']?$"#,
        )
    });
    static IN_OBJECT: LazyLock<Regex> = LazyLock::new(|| {
        compile_pattern(
            r#"(?i)"(?:name|key|keyName|label|path|ParameterKey|OutputKey|OptionName|variable|property|setting)"\s*:\s*"([\w./-]+)""#,
        )
    });
    static BEHIND: LazyLock<Regex> = LazyLock::new(|| {
        compile_pattern(
            r#"^[Vv]alue\\*["']?\s*[:=]\s*(?:\\*"[^"\\\n]*\\*"|\\*'[^'\\\n]*\\*'|[^\s,"'{}\[\]]+)\s*,?[\s+-]*\\*["']?(?i:name|key|label|path|ParameterKey|OutputKey|OptionName|variable|property|setting)\\*["']?\s*[:=]\s*\\*["']?([\w./-]+)"#,
        )
    });
    let from = text.ceil_char_boundary(field.saturating_sub(MAX_DISTANCE));
    let captured = |pattern: &Regex, range: Range<usize>| {
        let name = pattern.captures_iter(&text[range.clone()]).last()?.get(1)?;
        Some(range.start + name.start()..range.start + name.end())
    };
    let to = text.floor_char_boundary((field + MAX_DISTANCE).min(text.len()));
    captured(&BEFORE, from..field)
        .or_else(|| captured(&BEHIND, field..to))
        .or_else(|| captured(&IN_OBJECT, find_open_brace(text, field)?..field))
}

/// Finds the `{` of the object in which a position is.
fn find_open_brace(text: &str, at: usize) -> Option<usize> {
    let from = text.ceil_char_boundary(at.saturating_sub(MAX_DISTANCE));
    let mut closed = 0_usize;
    for (offset, char) in text[from..at].char_indices().rev() {
        match char {
            '}' => closed += 1,
            '{' if closed == 0 => return Some(from + offset),
            '{' => closed -= 1,
            _ => {}
        }
    }
    None
}

/// Finds the name before the object around a field: `"db_password": {"value": …}`, `variable "db_password" {`, or the line
/// of YAML above it that is indented less.
fn find_name_around(text: &str, field: usize) -> Option<Range<usize>> {
    let before = match find_open_brace(text, field) {
        Some(brace) => brace,
        None => find_outer_line(text, field)?,
    };
    let before = text[..before].trim_end().trim_end_matches([':', '=']).trim_end().trim_end_matches(['"', '\'']);
    let is_name = |char: char| char.is_ascii_alphanumeric() || "_-./".contains(char);
    let start = before.trim_end_matches(is_name).len();
    (start < before.len()).then_some(start..before.len())
}

/// Finds the end of the nearest line above that is indented less.
fn find_outer_line(text: &str, field: usize) -> Option<usize> {
    let from = text.ceil_char_boundary(field.saturating_sub(MAX_DISTANCE));
    let start_of_line = |end: usize| {
        let newline = text[from..end].rfind('\n').map(|newline| from + newline + 1);
        newline.or((from == 0).then_some(0))
    };
    let line = start_of_line(field)?;
    let indent = indent_of(text, line);
    let mut end = line;
    loop {
        let previous = start_of_line(end.checked_sub(1)?)?;
        if !text[previous..end].trim().is_empty() && indent_of(text, previous) < indent {
            return Some(end);
        }
        end = previous;
    }
}
