//! Schemas of servers as they are, and what becomes of them.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{MendedSchema, dialect_rules::find_violation, mend_tool_schema, mender::UnusableSchema};

fn mend(schema: &Value) -> Result<MendedSchema, UnusableSchema> {
    mend_tool_schema(schema.as_object().expect("a schema is an object"), 64)
}

fn mended(schema: &Value) -> Value {
    Value::Object(mend(schema).expect("the schema can be mended").schema)
}

fn with_property(property: Value) -> Value {
    let mut schema = json!({"type": "object", "properties": {}});
    schema["properties"]["p"] = property;
    schema
}

/// Each row: a property as a server sends it, and what models get.
#[test]
fn odd_properties_are_mended() {
    let rows = [
        // Arrays.
        (json!({"type": "array"}), json!({"type": "array", "items": {}})),
        (json!({"type": "array", "items": null}), json!({"type": "array", "items": {}})),
        (json!({"type": "array", "items": true}), json!({"type": "array", "items": {}})),
        (json!({"type": "array", "items": []}), json!({"type": "array", "items": {}})),
        (json!({"type": "array", "items": "string"}), json!({"type": "array", "items": {"type": "string"}})),
        (
            json!({"type": "array", "items": [{"type": "number"}, {"type": "number"}]}),
            json!({"type": "array", "items": {"type": "number"}}),
        ),
        (
            json!({"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": false}),
            json!({"type": "array", "items": {"type": ["string", "integer"]}}),
        ),
        (json!({"items": {"type": "string"}}), json!({"type": "array", "items": {"type": "string"}})),
        // Types.
        (json!({"type": "any"}), json!({})),
        (json!({"type": "mixed", "description": "x"}), json!({"description": "x"})),
        (json!({"type": ["string", "null"]}), json!({"type": "string"})),
        (json!({"type": ["string", "integer", "string"]}), json!({"type": ["string", "integer"]})),
        (json!({"type": []}), json!({})),
        (json!({"type": null}), json!({})),
        (json!({"type": {"type": "string"}}), json!({})),
        (json!({"type": "Integer"}), json!({"type": "integer"})),
        (json!({"type": "dict"}), json!({"type": "object", "properties": {}})),
        (json!("string"), json!({"type": "string"})),
        (json!(true), json!({})),
        (json!([]), json!({})),
        (json!(null), json!({})),
        // Objects.
        (json!({"type": "object", "properties": []}), json!({"type": "object", "properties": {}})),
        (json!({"type": "object", "properties": null}), json!({"type": "object", "properties": {}})),
        (
            json!({"type": "object", "required": ["a", "a", 1]}),
            json!({"type": "object", "properties": {"a": {}}, "required": ["a"]}),
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
            json!({"type": "object", "properties": {}, "additionalProperties": {"type": "string"}}),
        ),
        (json!({"type": "object", "additionalProperties": []}), json!({"type": "object", "properties": {}})),
        (
            json!({"type": "object", "patternProperties": {"^x": {"type": "integer"}}}),
            json!({"type": "object", "properties": {}, "additionalProperties": {"type": "integer"}}),
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string", "required": true}, "b": {"required": false}}}),
            json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {}}, "required": ["a"]}),
        ),
        (
            json!({"type": "object", "properties": {"a": false, "b": {}}}),
            json!({"type": "object", "properties": {"b": {}}}),
        ),
        // Alternatives.
        (json!({"anyOf": [{"type": "string"}, {"type": "null"}], "default": null}), json!({"type": "string"})),
        (
            json!({"oneOf": [{"type": "string"}, {"type": "integer"}], "description": "A port."}),
            json!({"type": ["string", "integer"], "description": "A port."}),
        ),
        (
            json!({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
            json!({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
        ),
        (
            json!({"allOf": [{"type": "object", "properties": {"a": {"type": "string"}}}, {"required": ["a"]}]}),
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}),
        ),
        (json!({"anyOf": []}), json!({})),
        // Enumerations.
        (json!({"enum": ["a", "b", "a"]}), json!({"type": "string", "enum": ["a", "b"]})),
        (json!({"const": "a"}), json!({"type": "string", "enum": ["a"]})),
        (json!({"type": "string", "enum": []}), json!({"type": "string"})),
        (json!({"type": "integer", "enum": [1, 2]}), json!({"type": "integer", "description": "One of: 1, 2."})),
        (json!({"type": "string", "enum": {"a": 1}}), json!({"type": "string"})),
        (
            json!({"type": "string", "enum": ["", "a"]}),
            json!({"type": "string", "description": "One of: \"\", \"a\"."}),
        ),
        // Draft 4 and other drafts.
        (json!({"type": "integer", "minimum": 1, "exclusiveMinimum": true}), json!({"type": "integer", "minimum": 1})),
        (json!({"type": "integer", "exclusiveMinimum": 0}), json!({"type": "integer", "minimum": 0})),
        (json!({"type": "integer", "minimum": "1", "maxLength": -1}), json!({"type": "integer"})),
        (json!({"type": "integer", "maximum": 9_007_199_254_740_991_i64}), json!({"type": "integer"})),
        (json!({"type": "string", "pattern": "(?<x>[a"}), json!({"type": "string", "description": "Pattern: (?<x>[a"})),
        (
            json!({"type": "string", "format": "uri", "description": "Where."}),
            json!({"type": "string", "description": "Where. Format: uri."}),
        ),
        (json!({"type": "integer", "format": "int32"}), json!({"type": "integer"})),
        (json!({"type": "string", "description": 5, "title": "P", "examples": "x"}), json!({"type": "string"})),
        (json!({"type": "string", "default": {"a": 1}}), json!({"type": "string"})),
        (json!({"type": "string", "default": "x", "nullable": true}), json!({"type": "string", "default": "x"})),
        // References.
        (json!({"$ref": "#/nowhere"}), json!({})),
        (json!({"$ref": "https://example.com/schema.json"}), json!({})),
        (json!({"$ref": 5}), json!({})),
    ];
    for (sent, expected) in rows {
        let schema = mended(&with_property(sent.clone()));
        assert_eq!(schema["properties"]["p"], expected, "{sent}");
        assert_eq!(find_violation(schema.as_object().unwrap()), None, "{sent}");
    }
}

#[test]
fn required_value_stays_nullable() {
    let schema = json!({"type": "object", "required": ["a", "b"], "properties": {
        "a": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "b": {"enum": ["x", null]},
    }});
    let expected = json!({"type": "object", "required": ["a", "b"], "properties": {
        "a": {"type": ["string", "null"]},
        "b": {"type": ["string", "null"], "enum": ["x", null]},
    }});
    assert_eq!(mended(&schema), expected);
}

/// Each row: a whole schema, and what models get.
#[test]
fn odd_tops_are_mended() {
    let rows = [
        (json!({}), json!({"type": "object", "properties": {}})),
        (json!({"type": "any"}), json!({"type": "object", "properties": {}})),
        (json!({"type": ["object", "null"], "properties": []}), json!({"type": "object", "properties": {}})),
        (
            json!({"properties": {"filePath": {"type": "string"}, "type": "object"}}),
            json!({"type": "object", "properties": {"filePath": {"type": "string"}}}),
        ),
        (
            json!({"$ref": "#/definitions/A", "definitions": {"A": {
                "type": "object", "properties": {"ns": {"type": "string"}}, "required": ["ns"]
            }}}),
            json!({"type": "object", "properties": {"ns": {"type": "string"}}, "required": ["ns"]}),
        ),
        (
            json!({"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
                "properties": {"a": {"type": "string"}, "b": {"type": "string"}}}),
            json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                "description": "Needs `a`, or `b`."}),
        ),
        (
            json!({"anyOf": [
                {"type": "object", "properties": {"kind": {"const": "pod"}, "name": {"type": "string"}}, "required": ["kind", "name"]},
                {"type": "object", "properties": {"kind": {"const": "node"}}, "required": ["kind"]},
            ]}),
            json!({"type": "object", "required": ["kind"], "properties": {
                "kind": {"type": "string", "enum": ["pod", "node"]}, "name": {"type": "string"}
            }}),
        ),
        (
            json!({"type": "object", "properties": {"a": {}}, "if": {"required": ["a"]},
                "then": {"properties": {"b": {"type": "string"}}, "required": ["b"]}}),
            json!({"type": "object", "properties": {"a": {}, "b": {"type": "string"}}}),
        ),
        (json!({"enum": [{}], "not": {}}), json!({"type": "object", "properties": {}})),
    ];
    for (sent, expected) in rows {
        let schema = mended(&sent);
        assert_eq!(schema, expected, "{sent}");
        assert_eq!(find_violation(schema.as_object().unwrap()), None, "{sent}");
    }
}

#[test]
fn schemas_that_accept_no_object_are_refused() {
    for schema in [
        json!({"type": "string"}),
        json!({"type": ["array", "null"]}),
        json!({"anyOf": [{"type": "string"}, {"type": "integer"}]}),
        json!({"anyOf": [{"type": "array", "items": {}}, {"type": "string", "format": "uri"}]}),
    ] {
        assert_eq!(mend(&schema), Err(UnusableSchema::NotAnObject), "{schema}");
    }
}

#[test]
fn references_are_inlined_and_cycles_end() {
    let schema = json!({"type": "object",
    "$defs": {
        "a/b": {"type": "string", "description": "A label."},
        "Tree": {"type": "object", "description": "A tree.", "properties": {
            "kids": {"type": "array", "items": {"$ref": "#/$defs/Tree"}}, "label": {"$ref": "#/$defs/a~1b"}}},
        "Named": {"$anchor": "named", "type": "integer"},
    },
    "properties": {
        "one": {"$ref": "#/$defs/Tree"}, "two": {"$ref": "#/%24defs/Tree", "description": "Another."},
        "three": {"$ref": "#named"}, "four": {"$ref": "#/components/schemas/Named"},
        "body": {"type": "object", "properties": {"kids": {"type": "array", "items": {"$ref": "#/properties/body"}}}},
        "root": {"$ref": "#"},
    }});
    let schema = mended(&schema);
    assert_eq!(find_violation(schema.as_object().unwrap()), None);
    let tree = &schema["properties"]["one"];
    assert_eq!(tree["properties"]["label"], json!({"type": "string", "description": "A label."}));
    let inner = json!({"type": "object", "description": "A tree.", "properties": {}});
    assert_eq!(tree["properties"]["kids"]["items"], inner);
    assert_eq!(schema["properties"]["two"]["description"], "Another.");
    assert_eq!(schema["properties"]["three"], json!({"type": "integer"}));
    assert_eq!(schema["properties"]["four"], json!({"type": "integer"}));
    assert!(schema.to_string().len() < 20_000);
}

#[test]
fn schema_that_would_grow_exponentially_is_bounded() {
    let mut definitions = Map::new();
    for level in 0..40 {
        let next = json!({"$ref": format!("#/$defs/L{}", level + 1)});
        definitions
            .insert(format!("L{level}"), json!({"type": "object", "properties": {"a": next, "b": next, "c": next}}));
    }
    let schema = json!({"type": "object", "$defs": definitions, "properties": {"p": {"$ref": "#/$defs/L0"}}});
    assert!(mended(&schema).to_string().len() < 60_000);
}

#[test]
fn renamed_keys_are_restored_at_their_place_only() {
    let schema = json!({"type": "object", "required": ["$filter"], "properties": {
        "$filter": {"type": "string", "description": "OData."},
        "filter[x]": {"type": "array", "items": {"type": "object", "properties": {"@id": {"type": "string"}}}},
        "free": {"type": "object"},
        "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"a b": {}}}},
    }});
    let MendedSchema { schema, keys } = mend(&schema).unwrap();
    assert_eq!(find_violation(&schema), None);
    assert_eq!(schema["required"], json!(["filter"]));
    assert_eq!(schema["properties"]["filter"]["description"], "`$filter`: OData.");
    let call =
        json!({"filter": "x", "filter_x": [{"id": "1"}], "free": {"filter": 1, "id": 2}, "map": {"k": {"a_b": 1}}});
    let restored = keys.restore(call.as_object().unwrap());
    let expected =
        json!({"$filter": "x", "filter[x]": [{"@id": "1"}], "free": {"filter": 1, "id": 2}, "map": {"k": {"a b": 1}}});
    assert_eq!(Value::Object(restored.into_owned()), expected);
    let original = expected.as_object().unwrap();
    assert_eq!(&*keys.restore(original), original, "the original keys stay");
}

/// Any JSON in the place of a schema, with the keywords of schemas as keys more often than others.
fn any_schema() -> impl Strategy<Value = Value> {
    let words =
        ["string", "object", "array", "integer", "null", "any", "#", "#/properties/a", "#/$defs/a", "$filter", "a", ""];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-10_i64..10).prop_map(Value::from),
        prop::sample::select(words.to_vec()).prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    let keys = [
        "type",
        "properties",
        "items",
        "prefixItems",
        "required",
        "enum",
        "const",
        "anyOf",
        "oneOf",
        "allOf",
        "not",
        "$ref",
        "$defs",
        "definitions",
        "additionalProperties",
        "patternProperties",
        "description",
        "default",
        "minimum",
        "exclusiveMinimum",
        "minLength",
        "pattern",
        "format",
        "nullable",
        "if",
        "then",
        "dependencies",
        "a",
        "$filter",
        "filter[x]",
        "",
    ];
    leaf.prop_recursive(6, 60, 6, move |inner| {
        let key = prop_oneof![8 => prop::sample::select(keys.to_vec()).prop_map(str::to_owned), 1 => "\\PC{0,70}"];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..7).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn mended_schema_satisfies_every_dialect(schema in any_schema()) {
        let schema = match schema {
            Value::Object(fields) => Value::Object(fields),
            other => with_property(other),
        };
        if let Ok(MendedSchema { schema, .. }) = mend(&schema) {
            prop_assert_eq!(find_violation(&schema), None);
            let meta = jsonschema::meta::is_valid(&Value::Object(schema));
            prop_assert!(meta);
        }
    }

    #[test]
    fn restoring_original_arguments_changes_nothing(schema in any_schema(), arguments in any_schema()) {
        let (Value::Object(schema), Value::Object(arguments)) = (schema, arguments) else { return Ok(()) };
        if let Ok(MendedSchema { keys, .. }) = mend_tool_schema(&schema, 64) {
            let once = keys.restore(&arguments).into_owned();
            prop_assert_eq!(once.len(), arguments.len());
        }
    }
}
