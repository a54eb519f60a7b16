//! Builds the schema that models get.

use serde_json::{Map, Value, json};

use super::{
    argument_keys::{ArgumentKeys, assign_sent_key},
    flat_schema::{FlatSchema, JsonType, MAX_QUOTE_BYTES, is_marked_required},
    references::SchemaReferences,
};
use crate::sanitize::sanitize_text;

/// Schemas that a tool's schema may consist of. Beyond this number, an object shows its type only.
const MAX_NODES: usize = 600;
/// Levels of nesting that are shown.
const MAX_DEPTH: usize = 12;
/// Longest description of an argument, in bytes.
const MAX_DESCRIPTION_BYTES: usize = 512;
/// Values of an `enum` that are kept, and their bytes in total.
const MAX_ENUM_VALUES: usize = 100;
const MAX_ENUM_BYTES: usize = 2_000;
/// Bounds from this size on are those of a data type and say nothing about the argument.
const MAX_BOUND: f64 = 2_147_483_647.0;

/// A tool's schema in the form that every provider accepts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MendedSchema {
    /// The schema for models.
    pub(crate) schema: Map<String, Value>,
    /// The way back from the keys in it to the keys that the server expects.
    pub(crate) keys: ArgumentKeys,
}

/// Why no model can call a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnusableSchema {
    /// Arguments of a call are named, so they are an object.
    #[error("its schema does not accept an object as arguments")]
    NotAnObject,
}

/// Builds the schema that models get from the schema of a server. `max_key_bytes` is the longest key of a property that all
/// dialects accept.
///
/// # Errors
/// [`UnusableSchema`] if no call could satisfy the schema.
pub(crate) fn mend_tool_schema(
    schema: &Map<String, Value>,
    max_key_bytes: usize,
) -> Result<MendedSchema, UnusableSchema> {
    let references = SchemaReferences::new(schema);
    let mut mender = SchemaMender { references, remaining_nodes: MAX_NODES, max_key_bytes };
    let mut flat = FlatSchema::read(schema, &mut mender.references);
    flat.merge_object_alternatives(&mut mender.references);
    let accepts_any = flat.types.is_empty() && flat.alternatives.is_empty() && flat.alternative_types.is_empty();
    if !accepts_any && !flat.types.contains(&JsonType::Object) {
        return Err(UnusableSchema::NotAnObject);
    }
    flat.types = vec![JsonType::Object];
    flat.alternatives.clear();
    flat.alternative_types.clear();
    flat.nullable = false;
    flat.enumerated = None;
    let MendedNode { schema, keys, .. } = mender.build_node(flat, Occurrence::Required, 0);
    Ok(MendedSchema { schema, keys })
}

/// Whether a value must be there. A value that may be left out does not also need `null`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Occurrence {
    Required,
    Optional,
}

struct SchemaMender<'a> {
    references: SchemaReferences<'a>,
    remaining_nodes: usize,
    max_key_bytes: usize,
}

/// The schema of one value.
#[derive(Default)]
struct MendedNode {
    schema: Map<String, Value>,
    keys: ArgumentKeys,
}

impl SchemaMender<'_> {
    /// Builds the schema of one value inside of the arguments.
    fn mend_value(&mut self, schema: &Value, occurrence: Occurrence, depth: usize) -> MendedNode {
        let mark = self.references.mark();
        let mut flat = FlatSchema::read_value(schema, &mut self.references);
        if flat.types.contains(&JsonType::Object) {
            flat.merge_object_alternatives(&mut self.references);
        }
        let node = self.build_node(flat, occurrence, depth);
        self.references.release(mark);
        node
    }

    fn build_node(&mut self, mut flat: FlatSchema, occurrence: Occurrence, depth: usize) -> MendedNode {
        self.remaining_nodes = self.remaining_nodes.saturating_sub(1);
        if depth >= MAX_DEPTH || self.remaining_nodes == 0 {
            flat = FlatSchema { types: flat.types, description: flat.description, ..FlatSchema::default() };
        }
        let mut node = MendedNode::default();
        let mut words = Vec::new();
        let sends_null = flat.nullable && occurrence == Occurrence::Required;
        if flat.alternatives.is_empty() {
            self.build_typed(&mut flat, sends_null, &mut node, &mut words, depth);
        } else {
            self.build_alternatives(&flat, sends_null, &mut node, depth);
        }
        words.extend(flat.describe_constraints());
        let description = join_description(flat.description.as_deref(), &words);
        if !description.is_empty() {
            node.schema.insert("description".to_owned(), description.into());
        }
        node
    }

    fn build_typed(
        &mut self,
        flat: &mut FlatSchema,
        sends_null: bool,
        node: &mut MendedNode,
        words: &mut Vec<String>,
        depth: usize,
    ) {
        for ty in std::mem::take(&mut flat.alternative_types) {
            if !flat.types.contains(&ty) {
                flat.types.push(ty);
            }
        }
        if let Some(values) = flat.enumerated.take() {
            build_enum(flat, values, sends_null, &mut node.schema, words);
        }
        if flat.types.contains(&JsonType::Object) {
            self.build_object(flat, node, depth);
        }
        if flat.types.contains(&JsonType::Array) {
            self.build_items(flat, node, depth);
        }
        build_type(&flat.types, sends_null, &mut node.schema);
        build_bounds(flat, &mut node.schema);
    }

    /// Builds `anyOf`. Alternatives that turn out to be the same count once, and a single one needs no `anyOf`.
    fn build_alternatives(&mut self, flat: &FlatSchema, sends_null: bool, node: &mut MendedNode, depth: usize) {
        let mut branches: Vec<Map<String, Value>> = Vec::new();
        for alternative in &flat.alternatives {
            let MendedNode { schema, keys } = self.mend_value(alternative, Occurrence::Optional, depth + 1);
            node.keys.merge(keys);
            if !branches.contains(&schema) {
                branches.push(schema);
            }
        }
        if sends_null && !branches.is_empty() {
            let null = json!({"type": "null"});
            branches.extend(null.as_object().cloned());
        }
        match branches.len() {
            0 => {}
            1 => node.schema.extend(branches.pop().unwrap_or_default()),
            _ => drop(node.schema.insert("anyOf".to_owned(), branches.into_iter().map(Value::Object).collect())),
        }
    }

    fn build_object(&mut self, flat: &FlatSchema, node: &mut MendedNode, depth: usize) {
        let mut properties = Map::new();
        let mut required = Vec::new();
        for (key, schema) in &flat.properties {
            let is_required = flat.required.contains(key) || is_marked_required(schema);
            if self.remaining_nodes == 0 && !is_required {
                continue;
            }
            let occurrence = if is_required { Occurrence::Required } else { Occurrence::Optional };
            let MendedNode { schema: mut mended, keys } = self.mend_value(schema, occurrence, depth + 1);
            let sent = assign_sent_key(key, self.max_key_bytes, |candidate| {
                properties.contains_key(candidate) || flat.properties.contains_key(candidate)
            });
            if sent != *key {
                let name = format!("`{key}`");
                let described = mended.get("description").and_then(Value::as_str);
                let description = described.map_or_else(|| name.clone(), |text| format!("{name}: {text}"));
                mended.insert("description".to_owned(), sanitize_text(&description, MAX_DESCRIPTION_BYTES).into());
            }
            if is_required {
                required.push(Value::from(sent.clone()));
            }
            node.keys.add_property(&sent, key, keys);
            properties.insert(sent, Value::Object(mended));
        }
        node.schema.insert("properties".to_owned(), Value::Object(properties));
        if !required.is_empty() {
            node.schema.insert("required".to_owned(), Value::Array(required));
        }
        if let Some(additional) = &flat.additional {
            let MendedNode { schema, keys } = self.mend_value(additional, Occurrence::Required, depth + 1);
            node.keys.set_additional(keys);
            // An empty schema says what is true without it.
            if !schema.is_empty() {
                node.schema.insert("additionalProperties".to_owned(), Value::Object(schema));
            }
        }
    }

    fn build_items(&mut self, flat: &FlatSchema, node: &mut MendedNode, depth: usize) {
        let any = Value::Object(Map::new());
        let items = flat.items.as_ref().unwrap_or(&any);
        let MendedNode { schema, keys } = self.mend_value(items, Occurrence::Required, depth + 1);
        node.keys.set_items(keys);
        node.schema.insert("items".to_owned(), Value::Object(schema));
    }
}

fn build_type(types: &[JsonType], sends_null: bool, schema: &mut Map<String, Value>) {
    let mut names: Vec<&str> = types.iter().map(|ty| ty.as_str()).collect();
    if sends_null && !names.is_empty() {
        names.push("null");
    }
    match names[..] {
        [] => {}
        [name] => drop(schema.insert("type".to_owned(), name.into())),
        _ => drop(schema.insert("type".to_owned(), names.into())),
    }
}

/// Keeps an enumeration of texts. Any other becomes words, because Gemini accepts texts only.
fn build_enum(
    flat: &mut FlatSchema,
    values: Vec<Value>,
    sends_null: bool,
    schema: &mut Map<String, Value>,
    words: &mut Vec<String>,
) {
    let texts: Option<Vec<&str>> = values.iter().map(Value::as_str).collect();
    let kept = texts.filter(|texts| {
        (flat.types.is_empty() || flat.types == [JsonType::String])
            && (1..=MAX_ENUM_VALUES).contains(&texts.len())
            && texts.iter().map(|text| text.len()).sum::<usize>() <= MAX_ENUM_BYTES
            && texts.iter().all(|text| !text.is_empty())
    });
    if kept.is_none() {
        let list = values.iter().map(Value::to_string).collect::<Vec<_>>().join(", ");
        if !list.is_empty() {
            words.push(format!("One of: {}.", sanitize_text(&list, MAX_QUOTE_BYTES)));
        }
        return;
    }
    flat.types = vec![JsonType::String];
    let mut values = values;
    if sends_null {
        values.push(Value::Null);
    }
    schema.insert("enum".to_owned(), Value::Array(values));
}

/// Keeps the bounds that all drafts have. A default that is not one of the declared types would make the schema invalid.
fn build_bounds(flat: &FlatSchema, schema: &mut Map<String, Value>) {
    for (key, bound) in &flat.bounds {
        if bound.as_f64().is_some_and(|bound| bound.abs() < MAX_BOUND) {
            schema.insert((*key).to_owned(), Value::Number(bound.clone()));
        }
    }
    if let Some(default) = &flat.default
        && flat.types.iter().any(|ty| ty.accepts(default))
    {
        schema.insert("default".to_owned(), default.clone());
    }
}

fn join_description(own: Option<&str>, words: &[String]) -> String {
    let words = words.join(" ");
    let kept = MAX_DESCRIPTION_BYTES.saturating_sub(words.len() + 1);
    let own = sanitize_text(own.unwrap_or_default().trim(), kept);
    match (own.is_empty(), words.is_empty()) {
        (_, true) => own,
        (true, false) => words,
        (false, false) => format!("{own} {words}"),
    }
}
