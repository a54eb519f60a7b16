//! Values of Secret objects in YAML as kubectl and Helm print it: the entries of `data` and `stringData`.
//!
//! The text is read line by line, because it may be cut off anywhere. Comments may stand behind everything.

use std::ops::Range;

use super::{
    content_hint::ContentHint,
    found_secret::{FoundSecret, SecretReach, ValueForm},
    placeholder::is_only_placeholders,
    secret_object::{has_secret_type, is_size},
    secret_values::looks_random,
};

/// A mapping whose end was not read yet.
#[derive(Debug)]
struct OpenMapping {
    /// Column of its keys.
    column: usize,
    /// Whether its `kind` is `Secret`, if it has a `kind`.
    is_secret: Option<bool>,
    values: Vec<FoundSecret>,
}

/// The `data` or `stringData` in which the lines are.
struct DataBlock {
    /// Column of its own key. Lines with more indentation belong to it.
    column: usize,
    form: ValueForm,
    /// Column of its entries.
    entry_column: Option<usize>,
    /// Key of the entry whose value may continue on the next line.
    last_key: Option<String>,
    /// The quote that the value of that entry began with, until it ends.
    open_quote: Option<char>,
}

/// Adds the values of all Secret objects to `found`.
pub(super) fn find_yaml_secrets(text: &str, hint: ContentHint, found: &mut Vec<FoundSecret>) {
    let mut open: Vec<OpenMapping> = Vec::new();
    let mut block: Option<DataBlock> = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let start = at;
        at += line.len();
        let content = line.trim_end_matches(['\n', '\r']);
        let bare = content.trim_start_matches(' ');
        if bare.is_empty() {
            continue;
        }
        let indent = content.len() - bare.len();
        if let Some(inside) = &mut block {
            if indent > inside.column {
                if let Some(mapping) = open.last_mut() {
                    read_entry_line(content, start, indent, inside, &mut mapping.values);
                }
                continue;
            }
            block = None;
        }
        if bare == "---" {
            open.drain(..).for_each(|mapping| close_mapping(mapping, hint, found));
            continue;
        }
        // Each `- ` begins a list item, and the mapping in it begins two columns further.
        let mut column = indent;
        let mut rest = bare;
        while let Some(item) = rest.strip_prefix("- ") {
            close_mappings_from(&mut open, column + 1, hint, found);
            let inner = item.trim_start_matches(' ');
            column += rest.len() - inner.len();
            rest = inner;
        }
        let Some((key, value)) = split_key(rest) else { continue };
        close_mappings_from(&mut open, column + 1, hint, found);
        if open.last().is_none_or(|mapping| mapping.column != column) {
            open.push(OpenMapping { column, is_secret: None, values: Vec::new() });
        }
        let Some(mapping) = open.last_mut() else { continue };
        match (key, strip_properties(strip_comment(value))) {
            ("kind", kind) => mapping.is_secret = Some(kind.trim_matches(['"', '\'']) == "Secret"),
            ("type", kind) if mapping.is_secret.is_none() && has_secret_type(kind.trim_matches(['"', '\''])) => {
                mapping.is_secret = Some(true);
            }
            ("data" | "stringData", "") => {
                let form = ValueForm::of_secret_mapping(key);
                block = Some(DataBlock { column, form, entry_column: None, last_key: None, open_quote: None });
            }
            ("data" | "stringData", flow) if flow.starts_with('{') => {
                let offset = start + content.len() - value.len() + value.find('{').unwrap_or_default();
                read_flow_mapping(text, offset, ValueForm::of_secret_mapping(key), &mut mapping.values);
            }
            _ => {}
        }
    }
    open.drain(..).for_each(|mapping| close_mapping(mapping, hint, found));
}

fn close_mappings_from(open: &mut Vec<OpenMapping>, column: usize, hint: ContentHint, found: &mut Vec<FoundSecret>) {
    while let Some(mapping) = open.pop_if(|mapping| mapping.column >= column) {
        close_mapping(mapping, hint, found);
    }
}

fn close_mapping(mapping: OpenMapping, hint: ContentHint, found: &mut Vec<FoundSecret>) {
    if mapping.is_secret.unwrap_or(hint == ContentHint::Objects) {
        found.extend(mapping.values);
    }
}

/// Splits a line into its key and the value behind it.
fn split_key(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.split_once(':')?;
    let spaced = value.is_empty() || value.starts_with([' ', '\t']);
    let key = key.trim_matches(['"', '\'']);
    (spaced && !key.is_empty() && !key.contains(' ')).then(|| (key, value.trim()))
}

/// Returns a value without the comment behind it.
fn strip_comment(value: &str) -> &str {
    if value.starts_with('#') {
        return "";
    }
    value.find(" #").map_or(value, |comment| value[..comment].trim_end())
}

/// Returns a value without the anchor or tag before it.
fn strip_properties(value: &str) -> &str {
    match value.strip_prefix(['&', '!']) {
        Some(property) => property.split_once(' ').map_or("", |(_, value)| value.trim_start()),
        None => value,
    }
}

/// Reads a line of a `data` block.
fn read_entry_line(content: &str, start: usize, indent: usize, block: &mut DataBlock, values: &mut Vec<FoundSecret>) {
    let entry_column = *block.entry_column.get_or_insert(indent);
    let form = block.form;
    let whole_line = start + indent..start + content.trim_end().len();
    // Data has no lists.
    if content[indent..].starts_with("- ") || (content[indent..].starts_with('#') && indent <= entry_column) {
        return;
    }
    let entry_value = |range: &Range<usize>| &content[range.start - start..range.end - start];
    let mut push = |range: Range<usize>, key: &str| {
        if range.is_empty() {
            return;
        }
        // A line of a file may be in any log; the secrets in the file are learned with the whole of it.
        let is_ordinary_line = form == ValueForm::Plain && indent > entry_column && !looks_random(entry_value(&range));
        let reach = if is_ordinary_line { SecretReach::InPlace } else { SecretReach::Session };
        values.push(FoundSecret { range, key: key.to_owned(), form, reach });
    };
    if indent > entry_column {
        let Some(key) = &block.last_key else { return };
        let mut range = whole_line;
        if let Some(quote) = block.open_quote
            && content.trim_end().ends_with(quote)
        {
            range.end -= 1;
            block.open_quote = None;
        }
        return push(range, key);
    }
    let Some((key, value)) = split_key(&content[indent..]) else {
        // A continued value without the right indentation, or a line that is cut off.
        return push(whole_line, "value");
    };
    block.open_quote = None;
    // Data has no mappings and no lists.
    let has_lines = !strip_comment(value).is_empty() && !value.starts_with(['{', '[']) || value.starts_with("[secret:");
    block.last_key = has_lines.then(|| key.to_owned());
    if !has_lines || value.starts_with('|') || value.starts_with('>') || is_size(value) {
        return;
    }
    let begin = start + content.trim_end().len() - value.len();
    let quote = value.chars().next().filter(|char| matches!(char, '"' | '\''));
    let range = match quote {
        Some(quote) => {
            let end = value[1..].rfind(quote).map(|end| end + 1);
            block.open_quote = end.is_none().then_some(quote);
            begin + 1..begin + end.unwrap_or(value.len())
        }
        None => begin..begin + strip_comment(value).len(),
    };
    let bare = value.trim_matches(['"', '\'']);
    if !is_only_placeholders(bare) && !matches!(bare, "null" | "~" | "<no value>") {
        push(range, key);
    }
}

/// Reads the mapping in braces that begins at a position: `{a: b, c: "d,e"}`.
fn read_flow_mapping(text: &str, open: usize, form: ValueForm, values: &mut Vec<FoundSecret>) {
    let bytes = text.as_bytes();
    let mut at = open + 1;
    let mut key: Option<Range<usize>> = None;
    let count = values.len();
    while at < bytes.len() && bytes[at] != b'}' {
        let start = at;
        match bytes[at] {
            // Data has no mappings and no lists.
            b'{' | b'[' if !text[at..].starts_with("[secret:") => return values.truncate(count),
            quote @ (b'"' | b'\'') => {
                at += 1;
                while at < bytes.len() && bytes[at] != quote {
                    at += 1 + usize::from(quote == b'"' && bytes[at] == b'\\');
                }
                at = at.min(bytes.len());
                push_flow_scalar(text, start + 1..at, &mut key, form, values);
                at += 1;
            }
            b',' => {
                key = None;
                at += 1;
            }
            byte if byte.is_ascii_whitespace() || byte == b':' => at += 1,
            _ => {
                let ends_scalar = |at: usize| match bytes[at] {
                    b',' | b'}' => true,
                    b':' => bytes.get(at + 1).is_none_or(u8::is_ascii_whitespace) && key.is_none(),
                    _ => false,
                };
                while at < bytes.len() && !ends_scalar(at) {
                    at += 1;
                }
                let end = start + text[start..at].trim_end().len();
                push_flow_scalar(text, start..end, &mut key, form, values);
            }
        }
    }
}

/// Adds a scalar of a flow mapping: as the key, or as the value of the key before it.
fn push_flow_scalar(
    text: &str,
    range: Range<usize>,
    key: &mut Option<Range<usize>>,
    form: ValueForm,
    values: &mut Vec<FoundSecret>,
) {
    match key.take() {
        None => *key = Some(range),
        Some(name) if !range.is_empty() && !matches!(&text[range.clone()], "null" | "~") => {
            let key = text.get(name).unwrap_or_default().to_owned();
            values.push(FoundSecret { range, key, form, reach: SecretReach::Session });
        }
        Some(_) => {}
    }
}
