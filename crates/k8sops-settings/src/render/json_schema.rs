//! A JSON schema of the YAML, for editors and for the chart.

use serde_json::{Map, Value, json};

use crate::{
    catalog::SettingsCatalog,
    descriptor::{FieldShape, SectionDescriptor, SettingDescriptor},
    format::ValueKind,
};

/// Renders the schema of the YAML.
#[must_use]
pub fn render_json_schema(catalog: &SettingsCatalog, title: &str) -> String {
    let mut schema = json!({"$schema": "http://json-schema.org/draft-07/schema#", "title": title});
    if let (Value::Object(schema), Value::Object(settings)) = (&mut schema, settings_schema(catalog)) {
        schema.extend(settings);
    }
    format!("{schema:#}\n")
}

/// Returns the schema of the YAML as a value.
///
/// A value may always be text, since text may contain references to variables; numbers have the range of their setting.
#[must_use]
pub fn settings_schema(catalog: &SettingsCatalog) -> Value {
    let mut root = object_schema("");
    for section in catalog.sections() {
        let mut node = &mut root;
        let keys: Vec<&str> = section.path.split('.').filter(|key| !key.is_empty()).collect();
        for key in &keys {
            node = &mut node["properties"][*key];
            if node.is_null() {
                *node = object_schema("");
            }
        }
        if !keys.is_empty() {
            node["description"] = section.description().into();
        }
        for setting in section.settings {
            node["properties"][setting.key] = setting_schema(setting);
        }
    }
    root
}

/// Returns the schema of an item with known keys.
#[must_use]
pub fn section_schema(section: &SectionDescriptor) -> Value {
    let mut schema = object_schema("");
    for setting in section.settings {
        schema["properties"][setting.key] = setting_schema(setting);
    }
    schema
}

fn object_schema(description: &str) -> Value {
    let mut schema = json!({"type": ["object", "null"], "additionalProperties": false, "properties": {}});
    if !description.is_empty() {
        schema["description"] = description.into();
    }
    schema
}

fn setting_schema(setting: &SettingDescriptor) -> Value {
    let mut schema = match setting.shape {
        FieldShape::Value => value_schema(setting.kind),
        FieldShape::Values => json!({"type": ["array", "null"], "items": value_schema(setting.kind)}),
        FieldShape::NamedValues => {
            json!({"type": ["object", "null"], "additionalProperties": value_schema(setting.kind)})
        }
        FieldShape::Section(section) => section_schema(section),
        FieldShape::Sections(section) => json!({"type": ["array", "null"], "items": section_schema(section)}),
        FieldShape::NamedSections(section) => {
            json!({"type": ["object", "null"], "additionalProperties": section_schema(section)})
        }
    };
    schema["description"] = format!("{} Accepts {}.", setting.description(), setting.accepted_values()).into();
    if !setting.default.is_empty() {
        schema["default"] = setting.default.into();
    }
    schema
}

fn value_schema(kind: ValueKind) -> Value {
    let number = |name: &str, min: Value, max: Option<Value>| {
        let mut schema = Map::new();
        schema.insert("type".into(), json!([name, "string", "null"]));
        schema.insert("minimum".into(), min);
        schema.extend(max.map(|max| ("maximum".to_owned(), max)));
        Value::Object(schema)
    };
    match kind {
        ValueKind::Boolean => json!({"type": ["boolean", "integer", "string", "null"]}),
        ValueKind::WholeNumber { min, max } => number("integer", min.into(), (max < u64::MAX).then(|| max.into())),
        ValueKind::Number { min, max } => number("number", min.into(), Some(max.into())),
        ValueKind::Duration { .. } => json!({"type": ["integer", "string", "null"]}),
        ValueKind::ByteSize { min, max } => number("integer", min.into(), Some(max.into())),
        // A text with a reference is any word once the reference is replaced.
        ValueKind::Words(words) => json!({"anyOf": [
            {"enum": words.iter().map(|word| Value::from(*word)).chain([Value::Null]).collect::<Vec<_>>()},
            {"type": "string", "pattern": "\\$\\{"},
        ]}),
        ValueKind::Described(_) => json!({"type": ["string", "number", "boolean", "null"]}),
    }
}
