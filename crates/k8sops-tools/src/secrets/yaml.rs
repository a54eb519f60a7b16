//! Secret objects in YAML as kubectl and Helm print it: the values of `data` and `stringData`, line by line, however the
//! text is cut off.

use std::ops::Range;

use super::{detect::Found, placeholder};

/// The mapping that is open at a column.
#[derive(Debug)]
struct Mapping {
    column: usize,
    is_secret: Option<bool>,
    values: Vec<Found>,
}

/// The block of values that the lines are in.
struct Block {
    /// The column of `data`; what is deeper belongs to it.
    column: usize,
    is_base64: bool,
    /// The column of its keys.
    keys_at: Option<usize>,
    /// The key whose value goes over several lines.
    scalar: Option<String>,
}

/// Adds the values of all Secret objects. With `expected`, `data` counts even where the kind was cut off.
pub(super) fn secrets(text: &str, expected: bool, found: &mut Vec<Found>) {
    let mut open: Vec<Mapping> = Vec::new();
    let mut block: Option<Block> = None;
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
                    value_line(content, start, indent, inside, &mut mapping.values);
                }
                continue;
            }
            block = None;
        }
        if bare == "---" {
            open.drain(..).for_each(|mapping| close(mapping, expected, found));
            continue;
        }
        // Each `- ` begins an item, whose mapping begins two columns further.
        let mut column = indent;
        let mut rest = bare;
        while let Some(item) = rest.strip_prefix("- ") {
            close_from(&mut open, column + 1, expected, found);
            let inner = item.trim_start_matches(' ');
            column += rest.len() - inner.len();
            rest = inner;
        }
        let Some((key, value)) = key_of(rest) else { continue };
        close_from(&mut open, column + 1, expected, found);
        if open.last().is_none_or(|mapping| mapping.column != column) {
            open.push(Mapping { column, is_secret: None, values: Vec::new() });
        }
        let Some(mapping) = open.last_mut() else { continue };
        match (key, value) {
            ("kind", kind) => mapping.is_secret = Some(kind.trim_matches(['"', '\'']) == "Secret"),
            ("data" | "stringData", "") => {
                block = Some(Block { column, is_base64: key == "data", keys_at: None, scalar: None });
            }
            ("data" | "stringData", flow) if flow.starts_with('{') => {
                let offset = start + content.len() - flow.len();
                flow_values(flow, offset, key == "data", &mut mapping.values);
            }
            _ => {}
        }
    }
    open.drain(..).for_each(|mapping| close(mapping, expected, found));
}

fn close_from(open: &mut Vec<Mapping>, column: usize, expected: bool, found: &mut Vec<Found>) {
    while let Some(mapping) = open.pop_if(|mapping| mapping.column >= column) {
        close(mapping, expected, found);
    }
}

fn close(mapping: Mapping, expected: bool, found: &mut Vec<Found>) {
    if mapping.is_secret.unwrap_or(expected) {
        found.extend(mapping.values);
    }
}

/// The key of a line and what stands behind it, without white space and comment.
fn key_of(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.split_once(':')?;
    let spaced = value.is_empty() || value.starts_with([' ', '\t']);
    let key = key.trim_matches(['"', '\'']);
    (spaced && !key.is_empty() && !key.contains(' ')).then(|| (key, value.trim()))
}

/// A line within `data`.
fn value_line(content: &str, start: usize, indent: usize, block: &mut Block, values: &mut Vec<Found>) {
    let keys_at = *block.keys_at.get_or_insert(indent);
    let whole = start + indent..start + content.len();
    if indent > keys_at
        && let Some(key) = &block.scalar
    {
        values.push(Found { range: whole, key: key.clone(), is_base64: block.is_base64 });
        return;
    }
    let Some((key, value)) = key_of(&content[indent..]) else {
        // The end of a value of several lines that is not indented as it should be, or a cut.
        values.push(Found { range: whole, key: "value".to_owned(), is_base64: block.is_base64 });
        return;
    };
    block.scalar = Some(key.to_owned());
    if value.is_empty() || value.starts_with('|') || value.starts_with('>') {
        return;
    }
    let at = start + content.len() - content.trim_end().len();
    let end = start + content.trim_end().len();
    let _ = at;
    let begin = end - value.len();
    let quoted = value.len() >= 2 && matches!(value.as_bytes()[0], b'"' | b'\'');
    let range = if quoted { begin + 1..end - 1 } else { begin..end };
    if !range.is_empty() && !placeholder::is_all_of(value.trim_matches(['"', '\''])) {
        values.push(Found { range, key: key.to_owned(), is_base64: block.is_base64 });
    }
}

/// `{a: b, c: d}` on one line.
fn flow_values(flow: &str, offset: usize, is_base64: bool, values: &mut Vec<Found>) {
    let inner = flow.trim_start_matches('{').trim_end_matches('}');
    let mut at = offset + flow.len() - flow.trim_start_matches('{').len();
    for entry in inner.split(',') {
        if let Some((key, value)) = entry.split_once(':') {
            let bare = value.trim().trim_matches(['"', '\'']);
            if let Some(place) = value.find(bare).filter(|_| !bare.is_empty()) {
                let begin = at + key.len() + 1 + place;
                let range: Range<usize> = begin..begin + bare.len();
                let key = key.trim().trim_matches(['"', '\'']).to_owned();
                values.push(Found { range, key, is_base64 });
            }
        }
        at += entry.len() + 1;
    }
}
