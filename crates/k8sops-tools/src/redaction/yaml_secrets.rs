//! Values of Secret objects in YAML as kubectl and Helm print it: the entries of `data` and `stringData`.
//!
//! The text is read line by line, because it may be cut off anywhere.

use std::ops::Range;

use super::{
    content_hint::ContentHint,
    found_secret::{FoundSecret, ValueForm},
    placeholder::is_only_placeholders,
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
        match (key, value) {
            ("kind", kind) => mapping.is_secret = Some(kind.trim_matches(['"', '\'']) == "Secret"),
            ("data" | "stringData", "") => {
                let form = ValueForm::of_secret_mapping(key);
                block = Some(DataBlock { column, form, entry_column: None, last_key: None });
            }
            ("data" | "stringData", flow) if flow.starts_with('{') => {
                let offset = start + content.len() - flow.len();
                read_flow_mapping(flow, offset, ValueForm::of_secret_mapping(key), &mut mapping.values);
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

/// Reads a line of a `data` block.
fn read_entry_line(content: &str, start: usize, indent: usize, block: &mut DataBlock, values: &mut Vec<FoundSecret>) {
    let entry_column = *block.entry_column.get_or_insert(indent);
    let form = block.form;
    let whole_line = start + indent..start + content.len();
    if indent > entry_column
        && let Some(key) = &block.last_key
    {
        values.push(FoundSecret { range: whole_line, key: key.clone(), form });
        return;
    }
    let Some((key, value)) = split_key(&content[indent..]) else {
        // A continued value without the right indentation, or a line that is cut off.
        values.push(FoundSecret { range: whole_line, key: "value".to_owned(), form });
        return;
    };
    block.last_key = Some(key.to_owned());
    if value.is_empty() || value.starts_with('|') || value.starts_with('>') {
        return;
    }
    let end = start + content.trim_end().len();
    let begin = end - value.len();
    let is_quoted = value.len() >= 2 && matches!(value.as_bytes()[0], b'"' | b'\'');
    let range = if is_quoted { begin + 1..end - 1 } else { begin..end };
    if !range.is_empty() && !is_only_placeholders(value.trim_matches(['"', '\''])) {
        values.push(FoundSecret { range, key: key.to_owned(), form });
    }
}

/// Reads a mapping on one line: `{a: b, c: d}`.
fn read_flow_mapping(flow: &str, offset: usize, form: ValueForm, values: &mut Vec<FoundSecret>) {
    let inner = flow.trim_start_matches('{').trim_end_matches('}');
    let mut at = offset + flow.len() - flow.trim_start_matches('{').len();
    for entry in inner.split(',') {
        if let Some((key, value)) = entry.split_once(':') {
            let bare = value.trim().trim_matches(['"', '\'']);
            if let Some(index) = value.find(bare).filter(|_| !bare.is_empty()) {
                let begin = at + key.len() + 1 + index;
                let range: Range<usize> = begin..begin + bare.len();
                let key = key.trim().trim_matches(['"', '\'']).to_owned();
                values.push(FoundSecret { range, key, form });
            }
        }
        at += entry.len() + 1;
    }
}
