//! One level of a schema, read leniently: references and `allOf` resolved, keywords of all drafts in one form.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Number, Value, json};

use super::references::SchemaReferences;
use crate::sanitize::sanitize_text;

/// Longest text that is quoted in a description: a pattern, a format, or the values of an enumeration.
pub(super) const MAX_QUOTE_BYTES: usize = 160;
/// Longest pattern that is quoted beside a description, in bytes.
const MAX_EXPLAINED_PATTERN_BYTES: usize = 24;
/// Levels of `allOf` and references that are read as one level.
const MAX_MERGE_DEPTH: usize = 16;

/// Bounds by their keyword, and whether they count something.
const BOUNDS: &[(&str, bool)] = &[
    ("minimum", false),
    ("maximum", false),
    ("minLength", true),
    ("maxLength", true),
    ("minItems", true),
    ("maxItems", true),
];

/// A type of JSON values, without `null`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JsonType {
    String,
    Number,
    Integer,
    Boolean,
    Object,
    Array,
}

impl JsonType {
    /// Parses a type's name as servers write it, also the names of other languages.
    fn parse(name: &str) -> Option<Self> {
        Some(match name.trim().to_ascii_lowercase().as_str() {
            "string" | "str" | "text" | "char" | "uuid" | "date" | "datetime" | "date-time" | "file" | "path" => {
                Self::String
            }
            "number" | "float" | "float32" | "float64" | "double" | "decimal" => Self::Number,
            "integer" | "int" | "int32" | "int64" | "long" | "uint" => Self::Integer,
            "boolean" | "bool" => Self::Boolean,
            "object" | "dict" | "map" | "record" | "struct" => Self::Object,
            "array" | "list" | "tuple" | "set" => Self::Array,
            _ => return None,
        })
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Number => "number",
            Self::Integer => "integer",
            Self::Boolean => "boolean",
            Self::Object => "object",
            Self::Array => "array",
        }
    }

    /// Whether a scalar value has this type.
    pub(super) fn accepts(self, value: &Value) -> bool {
        match self {
            Self::String => value.as_str().is_some_and(|text| text.len() <= MAX_QUOTE_BYTES),
            Self::Number => value.is_number(),
            Self::Integer => value.is_i64() || value.is_u64(),
            Self::Boolean => value.is_boolean(),
            Self::Object | Self::Array => false,
        }
    }
}

/// One level of a schema.
#[derive(Debug, Default)]
pub(super) struct FlatSchema {
    /// Empty: any type.
    pub(super) types: Vec<JsonType>,
    /// Types of the alternatives that say no more than their type.
    pub(super) alternative_types: Vec<JsonType>,
    pub(super) nullable: bool,
    pub(super) description: Option<String>,
    pub(super) properties: BTreeMap<String, Value>,
    pub(super) required: BTreeSet<String>,
    /// The schema of properties that are not listed.
    pub(super) additional: Option<Value>,
    pub(super) items: Option<Value>,
    /// `anyOf` or `oneOf`, without `null`.
    pub(super) alternatives: Vec<Value>,
    pub(super) enumerated: Option<Vec<Value>>,
    pub(super) default: Option<Value>,
    pub(super) bounds: BTreeMap<&'static str, Number>,
    pub(super) pattern: Option<String>,
    pub(super) format: Option<String>,
    /// Sets of properties of which a call needs one.
    pub(super) required_alternatives: Vec<Vec<String>>,
}

impl FlatSchema {
    /// Reads the schema of a value. What is no schema accepts everything; the name of a type stands for a schema.
    pub(super) fn read_value(schema: &Value, references: &mut SchemaReferences<'_>) -> Self {
        match schema {
            Value::Object(fields) => Self::read(fields, references),
            Value::String(name) => Self { types: JsonType::parse(name).into_iter().collect(), ..Self::default() },
            _ => Self::default(),
        }
    }

    /// Reads a schema. The references in it stay active in `references`.
    pub(super) fn read(schema: &Map<String, Value>, references: &mut SchemaReferences<'_>) -> Self {
        let mut flat = Self::default();
        flat.merge(schema, references, 0);
        flat.complete();
        // A single alternative, as there is beside `null`, is no alternative.
        for _ in 0..MAX_MERGE_DEPTH {
            let [only] = &flat.alternatives[..] else { break };
            let only = only.as_object().cloned().unwrap_or_default();
            flat.alternatives.clear();
            flat.merge(&only, references, 0);
            flat.complete();
        }
        flat
    }

    /// Adds what another schema demands of the same value.
    fn merge(&mut self, schema: &Map<String, Value>, references: &mut SchemaReferences<'_>, depth: usize) {
        self.merge_keywords(schema);
        if depth >= MAX_MERGE_DEPTH {
            return;
        }
        for key in ["$ref", "$dynamicRef", "$recursiveRef"] {
            let Some(reference) = schema.get(key).and_then(Value::as_str) else { continue };
            if let Some(target) = references.expand(reference) {
                self.merge(target, references, depth + 1);
            } else if let Some(target) = references.find_target(reference) {
                // Inside of itself, a schema shows its type only.
                self.merge_type(target);
                self.merge_description(target);
            }
        }
        for part in schema.get("allOf").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object) {
            self.merge(part, references, depth + 1);
        }
        self.merge_conditions(schema, references, depth);
    }

    fn merge_keywords(&mut self, schema: &Map<String, Value>) {
        self.merge_type(schema);
        self.merge_description(schema);
        self.merge_properties(schema);
        self.merge_items(schema);
        self.nullable |= schema.get("nullable") == Some(&Value::Bool(true));
        let values = match (schema.get("enum"), schema.get("const")) {
            (Some(Value::Array(values)), _) => Some(values.clone()),
            (_, Some(value)) => Some(vec![value.clone()]),
            _ => None,
        };
        self.enumerated = self.enumerated.take().or(values);
        let alternatives = ["anyOf", "oneOf"].into_iter().filter_map(|key| schema.get(key)?.as_array());
        // With two sets of alternatives, the first is shown.
        if let Some(alternatives) = alternatives.into_iter().find(|list| !list.is_empty())
            && self.alternatives.is_empty()
        {
            self.alternatives.clone_from(alternatives);
        }
        self.default = self.default.take().or_else(|| schema.get("default").cloned());
        let text = |key: &str| schema.get(key).and_then(Value::as_str).map(str::to_owned);
        self.pattern = self.pattern.take().or_else(|| text("pattern"));
        self.format = self.format.take().or_else(|| text("format"));
        for (key, counts) in BOUNDS {
            let bound = schema.get(*key).and_then(Value::as_number).filter(|bound| !counts || bound.is_u64());
            if let Some(bound) = bound {
                self.bounds.entry(key).or_insert_with(|| bound.clone());
            }
        }
        // The bound itself is accepted a little too widely; the server checks it.
        for (key, exclusive) in [("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")] {
            if let Some(bound) = schema.get(exclusive).and_then(Value::as_number) {
                self.bounds.entry(key).or_insert_with(|| bound.clone());
            }
        }
    }

    fn merge_type(&mut self, schema: &Map<String, Value>) {
        let names: Vec<&str> = match schema.get("type") {
            Some(Value::String(name)) => vec![name],
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            _ => return,
        };
        self.nullable |= names.len() > 1 && names.contains(&"null");
        let mut types: Vec<JsonType> = Vec::new();
        for ty in names.iter().filter(|name| **name != "null").map(|name| JsonType::parse(name)) {
            match ty {
                Some(ty) if !types.contains(&ty) => types.push(ty),
                Some(_) => {}
                // A type like `any` accepts what the others do, too.
                None => return,
            }
        }
        if self.types.is_empty() {
            self.types = types;
        }
    }

    fn merge_description(&mut self, schema: &Map<String, Value>) {
        let text = schema.get("description").and_then(Value::as_str).filter(|text| !text.trim().is_empty());
        self.description = self.description.take().or_else(|| text.map(str::to_owned));
    }

    fn merge_properties(&mut self, schema: &Map<String, Value>) {
        for (key, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            // `type` in the place of a property is a keyword that slipped one level down.
            let is_keyword = key == "type" && property == "object";
            if is_keyword || *property == Value::Bool(false) {
                continue;
            }
            let merged = match self.properties.remove(key) {
                Some(other) if other != *property => json!({"allOf": [other, property]}),
                _ => property.clone(),
            };
            self.properties.insert(key.clone(), merged);
        }
        match schema.get("required") {
            Some(Value::Array(keys)) => self.required.extend(keys.iter().filter_map(Value::as_str).map(str::to_owned)),
            Some(Value::String(key)) => drop(self.required.insert(key.clone())),
            _ => {}
        }
        let patterns = schema.get("patternProperties").and_then(Value::as_object);
        let patterns = patterns.into_iter().flat_map(|patterns| patterns.values());
        let additional = patterns.chain(schema.get("additionalProperties")).filter(|value| value.is_object());
        for additional in additional {
            let merged = match self.additional.take() {
                Some(other) if other != *additional => json!({"anyOf": [other, additional]}),
                _ => additional.clone(),
            };
            self.additional = Some(merged);
        }
    }

    /// A list of schemas by position becomes one schema for all items.
    fn merge_items(&mut self, schema: &Map<String, Value>) {
        let positions = [schema.get("prefixItems"), schema.get("items")];
        let positions = positions.into_iter().flatten().find_map(Value::as_array);
        let items = match (positions.map(Vec::as_slice), schema.get("items")) {
            (Some([]), _) => Some(json!({})),
            (Some([only]), _) => Some(only.clone()),
            (Some([first, rest @ ..]), _) if rest.iter().all(|other| other == first) => Some(first.clone()),
            (Some(several), _) => Some(json!({"anyOf": several})),
            (None, items) => items.cloned(),
        };
        self.items = self.items.take().or(items);
    }

    /// What may be demanded of the value under a condition: its properties are optional.
    fn merge_conditions(&mut self, schema: &Map<String, Value>, references: &mut SchemaReferences<'_>, depth: usize) {
        let branches = ["then", "else"].into_iter().filter_map(|key| schema.get(key));
        let dependent = ["dependentSchemas", "dependencies"].into_iter().filter_map(|key| schema.get(key)?.as_object());
        let branches = branches.chain(dependent.flat_map(|schemas| schemas.values()));
        for branch in branches.filter_map(Value::as_object).collect::<Vec<_>>() {
            let mark = references.mark();
            let mut conditional = Self::default();
            conditional.merge(branch, references, depth + 1);
            references.release(mark);
            for (key, property) in conditional.properties {
                self.properties.entry(key).or_insert(property);
            }
        }
    }

    /// Derives what the keywords leave open.
    fn complete(&mut self) {
        if self.types.is_empty() {
            let has_object = !self.properties.is_empty() || !self.required.is_empty() || self.additional.is_some();
            if has_object {
                self.types.push(JsonType::Object);
            } else if self.items.is_some() && self.alternatives.is_empty() {
                self.types.push(JsonType::Array);
            }
        }
        // A property that only `required` names is one of which nothing more is known.
        if self.types.contains(&JsonType::Object) {
            for key in &self.required {
                self.properties.entry(key.clone()).or_insert_with(|| json!({}));
            }
        }
        if let Some(values) = &mut self.enumerated {
            let before = values.len();
            values.retain(|value| !value.is_null());
            self.nullable |= values.len() < before;
            let mut unique: Vec<Value> = Vec::new();
            values.retain(|value| {
                let is_new = !unique.contains(value);
                unique.extend(is_new.then(|| value.clone()));
                is_new
            });
        }
        let before = self.alternatives.len();
        self.alternatives.retain(|schema| schema.get("type").and_then(Value::as_str) != Some("null"));
        self.nullable |= self.alternatives.len() < before;
        self.shorten_alternatives();
    }

    /// Replaces alternatives that say no more than a type by a list of types.
    fn shorten_alternatives(&mut self) {
        let plain_type = |schema: &Value| {
            let fields = schema.as_object()?;
            let is_plain = fields.keys().all(|key| matches!(key.as_str(), "type" | "title"));
            let ty = JsonType::parse(fields.get("type")?.as_str()?)?;
            is_plain.then_some(ty).filter(|ty| !matches!(ty, JsonType::Object | JsonType::Array))
        };
        let types: Option<Vec<JsonType>> = self.alternatives.iter().map(plain_type).collect();
        if let Some(types) = types.filter(|types| types.len() > 1) {
            self.alternatives.clear();
            self.alternative_types = types;
        }
    }

    /// Merges alternatives that are objects: their properties become optional, except for those that all of them require.
    /// At the top of a tool's schema no provider accepts alternatives. What cannot be merged stays an alternative.
    pub(super) fn merge_object_alternatives(&mut self, references: &mut SchemaReferences<'_>) {
        let mut required_by_all: Option<BTreeSet<String>> = None;
        let mut others = Vec::new();
        let mut merged = false;
        for alternative in std::mem::take(&mut self.alternatives) {
            let mark = references.mark();
            let mut branch = Self::read_value(&alternative, references);
            branch.merge_object_alternatives(references);
            references.release(mark);
            if !(branch.types.is_empty() || branch.types.contains(&JsonType::Object)) {
                others.push(alternative);
                continue;
            }
            merged = true;
            let required: Vec<String> = branch.required.iter().cloned().collect();
            required_by_all = Some(match required_by_all {
                Some(all) => all.intersection(&branch.required).cloned().collect(),
                None => branch.required,
            });
            self.required_alternatives.push(required);
            for (key, property) in branch.properties {
                let property = match self.properties.remove(&key) {
                    Some(other) if other != property && is_open(&property) => other,
                    Some(other) if other != property && !is_open(&other) => union_of(&other, &property),
                    _ => property,
                };
                self.properties.insert(key, property);
            }
        }
        if merged {
            self.types = vec![JsonType::Object];
            self.required.extend(required_by_all.unwrap_or_default());
            let required = &self.required;
            for keys in &mut self.required_alternatives {
                keys.retain(|key| !required.contains(key));
            }
            if self.required_alternatives.iter().any(Vec::is_empty) {
                self.required_alternatives.clear();
            }
        } else {
            self.alternatives = others;
        }
    }

    /// Returns in words what the built schema does not express.
    pub(super) fn describe_constraints(&self) -> Vec<String> {
        let quote = |text: &str| sanitize_text(text, MAX_QUOTE_BYTES);
        let is_text = self.types.is_empty() || self.types.contains(&JsonType::String);
        let format = self.format.as_deref().filter(|format| is_text && !format.is_empty());
        // A long pattern costs more tokens than it explains to a reader of the description. The server checks it.
        let max_pattern = if self.description.is_some() { MAX_EXPLAINED_PATTERN_BYTES } else { MAX_QUOTE_BYTES };
        let pattern = self.pattern.as_deref().filter(|pattern| pattern.len() <= max_pattern && !pattern.is_empty());
        let mut words = Vec::new();
        words.extend(format.map(|format| format!("Format: {}.", quote(format))));
        words.extend(pattern.map(|pattern| format!("Pattern: {}", quote(pattern))));
        if self.required_alternatives.len() > 1 {
            let sets = self
                .required_alternatives
                .iter()
                .map(|keys| keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(" and "));
            let sets = sets.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", or ");
            words.push(format!("Needs {}.", quote(&sets)));
        }
        words
    }
}

/// Whether draft 3 marks a property as required in its own schema.
pub(super) fn is_marked_required(schema: &Value) -> bool {
    schema.get("required") == Some(&Value::Bool(true))
}

/// Whether a schema accepts everything.
fn is_open(schema: &Value) -> bool {
    schema.as_object().is_some_and(Map::is_empty)
}

/// Returns a schema that accepts what either of two accepts. Constants, which tell variants apart, become one enumeration.
fn union_of(first: &Value, second: &Value) -> Value {
    let values = |schema: &Value| match (schema.get("enum"), schema.get("const")) {
        (Some(Value::Array(values)), _) => Some(values.clone()),
        (_, Some(value)) => Some(vec![value.clone()]),
        _ => None,
    };
    if let (Some(mut all), Some(more)) = (values(first), values(second)) {
        all.extend(more);
        let mut union = json!({"enum": all});
        if let (Some(ty), Some(fields)) = (first.get("type"), union.as_object_mut()) {
            fields.insert("type".to_owned(), ty.clone());
        }
        return union;
    }
    json!({"anyOf": [first, second]})
}
