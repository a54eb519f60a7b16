//! Tools with typed arguments, of servers that are in wide use. A name is known exactly, with its arguments: one that
//! the table does not name makes the call mutating, for nobody knows what it would do.

mod argocd;
mod go;
mod helm;
pub(super) mod node;

use serde_json::{Map, Value};

use super::{Judged, Sensitive, flags::show, line::hides_a_flag};

/// What a tool does.
#[derive(Clone, Copy)]
enum Does {
    /// It only reads; what its output holds.
    Reads(Option<Sensitive>),
    /// It changes something: what, in words.
    Writes(&'static str),
    /// It depends on the arguments, which are known to be tame.
    Depends(fn(&Map<String, Value>) -> Judged),
}

/// A tool, what it does, and its arguments: `key` is a tame word or number, `key*` is anything.
type Tool = (&'static str, Does, &'static [&'static str]);

const TABLES: &[&[Tool]] = &[node::TOOLS, go::TOOLS, argocd::TOOLS, helm::TOOLS];

/// Judges a call by the tables. `None`: no server has such a tool.
pub(super) fn judge(tool: &str, arguments: &Map<String, Value>) -> Option<Judged> {
    let (name, does, keys) = TABLES.iter().flat_map(|table| table.iter()).find(|(name, ..)| *name == tool)?;
    let what = match does {
        Does::Writes(what) => return Some(Judged::mutating(format!("`{name}` {what}"))),
        Does::Reads(held) => Judged::read(format!("`{name}` only reads")).with(*held),
        Does::Depends(judge) => judge(arguments),
    };
    let strange = arguments.iter().find(|(key, value)| !is_known(key, value, keys));
    Some(match strange {
        Some((key, _)) => {
            Judged::mutating(format!("`{name}`: its argument `{}` is not understood", show(key))).with(what.sensitive)
        }
        None => what,
    })
}

fn is_known(key: &str, value: &Value, keys: &[&str]) -> bool {
    if is_absent(value) {
        return true;
    }
    keys.iter().flat_map(|group| group.split_ascii_whitespace()).any(|known| match known.strip_suffix('*') {
        Some(known) => known == key,
        None => known == key && is_tame(value),
    })
}

/// Models fill in what they do not mean; so do schemas with defaults.
fn is_absent(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// Whether a value is one word to whoever handles it: to a shell as well, which older servers used.
fn is_tame(value: &Value) -> bool {
    match value {
        Value::Bool(_) | Value::Number(_) => true,
        Value::String(text) => is_tame_text(text),
        Value::Array(items) => items.iter().all(|item| item.as_str().is_some_and(is_tame_text) || item.is_number()),
        _ => false,
    }
}

fn is_tame_text(text: &str) -> bool {
    let sign = |sign: char| match sign {
        ';' | '&' | '|' | '`' | '$' | '<' | '>' | '\\' | '\'' | '"' | '#' => false,
        ' ' => true,
        _ => sign.is_ascii_graphic() || sign.is_alphanumeric(),
    };
    !text.starts_with('-') && !hides_a_flag(text) && !text.contains("..") && text.chars().all(sign)
}

/// An argument as text; empty when it is missing.
fn text<'a>(arguments: &'a Map<String, Value>, key: &str) -> &'a str {
    arguments.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Whether an argument is missing, or says nothing.
fn lacks(arguments: &Map<String, Value>, key: &str) -> bool {
    arguments.get(key).is_none_or(is_absent)
}

/// Whether an argument is `true`, and not merely something like it.
fn is_true(arguments: &Map<String, Value>, key: &str) -> bool {
    arguments.get(key) == Some(&Value::Bool(true))
}
