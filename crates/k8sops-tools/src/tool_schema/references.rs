//! References inside of a schema, with cycles bounded.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

/// Expansions of references in one schema. Schemas that refer to each other twice grow exponentially.
const MAX_EXPANSIONS: usize = 400;

/// The references of one schema. A reference that is being expanded is not expanded again inside of itself.
pub(super) struct SchemaReferences<'a> {
    root: &'a Map<String, Value>,
    active: Vec<String>,
    expansions: usize,
}

impl<'a> SchemaReferences<'a> {
    pub(super) fn new(root: &'a Map<String, Value>) -> Self {
        Self { root, active: Vec::new(), expansions: 0 }
    }

    /// Returns how many references are active, for [`release`](Self::release).
    pub(super) fn mark(&self) -> usize {
        self.active.len()
    }

    /// Ends the references that became active after `mark`.
    pub(super) fn release(&mut self, mark: usize) {
        self.active.truncate(mark);
    }

    /// Returns the schema that a reference names, and counts it as active. `None` if it is not part of this document, if it
    /// is active already, or after too many expansions.
    pub(super) fn expand(&mut self, reference: &str) -> Option<&'a Map<String, Value>> {
        if self.expansions >= MAX_EXPANSIONS || self.active.iter().any(|active| active == reference) {
            return None;
        }
        let target = self.find_target(reference)?;
        self.expansions += 1;
        self.active.push(reference.to_owned());
        Some(target)
    }

    /// Returns the schema that a reference names without expanding what is in it.
    pub(super) fn find_target(&self, reference: &str) -> Option<&'a Map<String, Value>> {
        let fragment = reference.split_once('#').map_or(reference, |(_, fragment)| fragment);
        let fragment = percent_decode_str(fragment).decode_utf8().unwrap_or(Cow::Borrowed(fragment));
        if fragment.is_empty() && reference.starts_with('#') {
            return Some(self.root);
        }
        let mut target = fragment.starts_with('/').then(|| self.follow_pointer(&fragment)).flatten();
        if target.is_none() {
            // Generators that extract a part of a document keep its pointers, and others refer to a name or an anchor.
            let name = reference.rsplit(['/', '#']).next().unwrap_or_default();
            target = self.find_definition(&unescape_pointer(name));
        }
        target?.as_object()
    }

    fn follow_pointer(&self, pointer: &str) -> Option<&'a Value> {
        let mut parts = pointer.split('/').skip(1).map(unescape_pointer);
        let mut value = self.root.get(&*parts.next()?)?;
        for part in parts {
            value = match value {
                Value::Object(fields) => fields.get(&*part)?,
                Value::Array(items) => items.get(part.parse::<usize>().ok()?)?,
                _ => return None,
            };
        }
        Some(value)
    }

    fn find_definition(&self, name: &str) -> Option<&'a Value> {
        let definitions = ["$defs", "definitions"].into_iter().filter_map(|key| self.root.get(key)?.as_object());
        let has_name = |schema: &Value| {
            ["$anchor", "$dynamicAnchor", "$id", "id"]
                .iter()
                .filter_map(|key| schema.get(key)?.as_str())
                .any(|id| id.trim_start_matches('#') == name)
        };
        definitions
            .flat_map(|definitions| definitions.iter())
            .find(|(key, schema)| !name.is_empty() && (*key == name || has_name(schema)))
            .map(|(_, schema)| schema)
    }
}

fn unescape_pointer(part: &str) -> Cow<'_, str> {
    if part.contains('~') { Cow::Owned(part.replace("~1", "/").replace("~0", "~")) } else { Cow::Borrowed(part) }
}
