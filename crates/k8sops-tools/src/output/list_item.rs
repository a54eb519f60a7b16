//! Objects of a list and their names.

use std::borrow::Cow;

use super::{facts::visit_facts, node::Node};

/// Longest value in bytes in which the object's own name is looked for.
const MAX_NAMED_BYTES: usize = 400;

/// An object of a list, with its name.
#[derive(Debug)]
pub(super) struct ListItem<'a> {
    pub(super) name: String,
    pub(super) node: &'a Node<'a>,
}

impl<'a> ListItem<'a> {
    pub(super) fn new(node: &'a Node<'a>, position: usize) -> Self {
        Self { name: item_name(node).unwrap_or_else(|| format!("#{}", position + 1)), node }
    }

    /// Calls `visit` with each fact. The object's own name in a value becomes `{name}`, so that values which are made from
    /// the name count as the same.
    pub(super) fn visit_facts(&self, visit: &mut dyn FnMut(&str, &str)) {
        let short_name = self.name.rsplit('/').next().unwrap_or_default();
        let stem = name_stem(short_name);
        visit_facts(self.node, &mut |path, value| {
            let value = if stem.len() < 3 || value.len() > MAX_NAMED_BYTES || !value.contains(stem) {
                Cow::Borrowed(value)
            } else {
                Cow::Owned(value.replace(short_name, "{name}").replace(stem, "{name}"))
            };
            visit(path, &value);
        });
    }
}

/// Returns the name of an object, with its namespace.
fn item_name(node: &Node<'_>) -> Option<String> {
    let metadata = node.field("metadata").filter(|metadata| metadata.as_map().is_some()).unwrap_or(node);
    let labels = node.field("metric").or_else(|| node.field("labels")).or_else(|| node.field("stream"));
    let name = ["name", "podName", "pod", "title", "id", "instance", "host", "key"]
        .iter()
        .find_map(|field| metadata.field_text(field).or_else(|| labels?.field_text(field)))
        .or_else(|| node.field("podRef")?.field_text("name"))?;
    let namespace = metadata.field_text("namespace").or_else(|| labels?.field_text("namespace"));
    Some(namespace.map_or_else(|| name.to_owned(), |namespace| format!("{namespace}/{name}")))
}

/// Returns a name without the parts that a controller appends to it: `web-7d9f6c5b8-x2x1q` is `web`.
fn name_stem(name: &str) -> &str {
    let mut stem = name;
    while let Some((before, last)) = stem.rsplit_once('-') {
        // Random parts of names have no vowels, so that they form no words.
        let has_vowel = last.bytes().any(|byte| matches!(byte, b'a' | b'e' | b'i' | b'o' | b'u'));
        let has_digit = last.bytes().any(|byte| byte.is_ascii_digit());
        if before.is_empty() || has_vowel && !has_digit || last.len() < 4 && !has_digit {
            break;
        }
        stem = before;
    }
    stem
}
