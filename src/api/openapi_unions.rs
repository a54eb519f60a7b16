//! Tagged unions in the OpenAPI document, in the form that client generators agree on: a plain `oneOf` of whole objects that
//! have names, with a discriminator.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use utoipa::openapi::{
    self, Components, Discriminator, Object, RefOr, Schema,
    schema::{AllOf, OneOf},
};

/// Makes each variant of a tagged union one object with a name, for example `MessageUser`, and what all variants share (an
/// object beside the union in an `allOf`) a part of each variant. Generators cannot compose such parts: some leave the union
/// out, others make a type of it that no value has.
pub(super) fn name_whole_variants(contract: &mut openapi::OpenApi) {
    let Some(components) = &mut contract.components else { return };
    share_among_variants(components);
    let mut named = Vec::new();
    for (union, schema) in &components.schemas {
        let RefOr::T(Schema::OneOf(schema)) = schema else { continue };
        let variants: Option<Vec<_>> =
            schema.items.iter().map(|variant| whole_variant(components, union, variant)).collect();
        named.extend(variants.filter(|variants| !variants.is_empty()).map(|variants| (union.clone(), variants)));
    }
    for (union, variants) in named {
        let Some(RefOr::T(Schema::OneOf(schema))) = components.schemas.get_mut(&union) else { continue };
        schema.discriminator = variants.first().map(|first| {
            let mapping = variants.iter().map(|variant| (variant.tag.clone(), schema_reference(&variant.name)));
            Discriminator { mapping: mapping.collect(), ..Discriminator::new(first.tag_field.clone()) }
        });
        schema.items = variants.iter().map(|variant| reference_to(&variant.name)).collect();
        components
            .schemas
            .extend(variants.into_iter().map(|variant| (variant.name, RefOr::T(Schema::Object(variant.object)))));
    }
}

/// Names the values of enums that share one, for example `GATE_DENY` and `DECISION_DENY`. Languages whose constants have no
/// namespace, such as Go, cannot compile two of one name.
pub(super) fn name_shared_values(contract: &mut openapi::OpenApi) {
    let Some(components) = &mut contract.components else { return };
    let mut uses: BTreeMap<String, usize> = BTreeMap::new();
    for value in components.schemas.values_mut().filter_map(as_enum).flat_map(|object| enum_values(object)) {
        *uses.entry(value).or_default() += 1;
    }
    for (name, schema) in &mut components.schemas {
        let Some(object) = as_enum(schema) else { continue };
        let values = enum_values(object);
        if values.iter().any(|value| uses[value] > 1) {
            let prefix = name.chars().enumerate().flat_map(|(i, c)| {
                let boundary = (i > 0 && c.is_uppercase()).then_some('_');
                boundary.into_iter().chain(c.to_uppercase())
            });
            let prefix: String = prefix.collect();
            let names: Vec<String> = values.iter().map(|value| format!("{prefix}_{}", value.to_uppercase())).collect();
            object.extensions.get_or_insert_default().insert("x-enum-varnames".into(), names.into());
        }
    }
}

/// Removes the schemas that nothing references.
pub(super) fn remove_unused_schemas(contract: &mut openapi::OpenApi) {
    let document = serde_json::to_value(&*contract).expect("the document is made of plain data");
    let empty = Map::new();
    let schemas = document["components"]["schemas"].as_object().unwrap_or(&empty);
    let used = reachable_schemas(schemas, &document["paths"]);
    if let Some(components) = &mut contract.components {
        components.schemas.retain(|name, _| used.contains(name));
    }
}

/// Returns the name of the schema that a reference points to.
pub(super) fn referenced_schema(value: &Value) -> Option<&str> {
    value["$ref"].as_str()?.strip_prefix("#/components/schemas/")
}

/// Returns the names of all schemas that a value references, directly or through other schemas.
pub(super) fn reachable_schemas(schemas: &Map<String, Value>, from: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut unvisited = vec![from];
    while let Some(value) = unvisited.pop() {
        match value {
            Value::Array(items) => unvisited.extend(items),
            Value::Object(fields) => unvisited.extend(fields.values()),
            _ => continue,
        }
        if let Some(name) = referenced_schema(value)
            && found.insert(name.to_owned())
        {
            unvisited.extend(schemas.get(name));
        }
    }
    found
}

/// A variant of a tagged union as one object.
struct WholeVariant {
    name: String,
    /// The field that tells the variants apart, and its value here.
    tag_field: String,
    tag: String,
    object: Object,
}

/// Replaces each `allOf` of a union and an object with a union of variants that have the fields of the object.
fn share_among_variants(components: &mut Components) {
    let mut unions = BTreeMap::new();
    for (name, schema) in &components.schemas {
        let RefOr::T(Schema::AllOf(whole)) = schema else { continue };
        let [inner @ RefOr::Ref(_), shared @ RefOr::T(Schema::Object(_))] = &whole.items[..] else { continue };
        let Some(Schema::OneOf(union)) = resolve(components, inner) else { continue };
        let with_shared = |variant: &RefOr<Schema>| {
            let RefOr::T(Schema::AllOf(variant)) = variant else { return variant.clone() };
            let items = variant.items.iter().cloned().chain([shared.clone()]).collect();
            RefOr::T(Schema::AllOf(AllOf { items, ..variant.clone() }))
        };
        let items = union.items.iter().map(with_shared).collect();
        unions.insert(name.clone(), OneOf { items, description: whole.description.clone(), ..union.clone() });
    }
    components.schemas.extend(unions.into_iter().map(|(name, union)| (name, RefOr::T(Schema::OneOf(union)))));
}

/// Joins the parts of a variant; `None` if it is no variant of a tagged union.
fn whole_variant(components: &Components, union: &str, variant: &RefOr<Schema>) -> Option<WholeVariant> {
    let RefOr::T(Schema::AllOf(variant)) = variant else { return None };
    let (tag_field, tag) = variant.items.iter().find_map(variant_tag)?;
    let mut object = Object::new();
    for part in &variant.items {
        let Schema::Object(part) = resolve(components, part)? else { return None };
        object.properties.extend(part.properties.clone());
        object.required.extend(part.required.iter().cloned());
        object.description = object.description.or_else(|| part.description.clone());
    }
    object.description = variant.description.clone().or(object.description);
    let capitalized = tag.split('_').flat_map(|part| [part[..1].to_uppercase(), part[1..].to_owned()]);
    let name = format!("{union}{}", capitalized.collect::<String>());
    Some(WholeVariant { name, tag_field: tag_field.to_owned(), tag: tag.to_owned(), object })
}

/// Returns the field that tells variants apart and its value, if this part of a variant is the field: the only one, with one
/// value.
fn variant_tag(part: &RefOr<Schema>) -> Option<(&str, &str)> {
    let RefOr::T(Schema::Object(part)) = part else { return None };
    match part.properties.iter().next()? {
        (name, RefOr::T(Schema::Object(field))) if part.properties.len() == 1 => {
            Some((name, field.enum_values.as_ref()?.first()?.as_str()?))
        }
        _ => None,
    }
}

/// A schema with a name that only lists values.
fn as_enum(schema: &mut RefOr<Schema>) -> Option<&mut Object> {
    match schema {
        RefOr::T(Schema::Object(object)) if object.enum_values.is_some() => Some(object),
        _ => None,
    }
}

fn enum_values(object: &Object) -> Vec<String> {
    object.enum_values.iter().flatten().filter_map(|value| value.as_str().map(str::to_owned)).collect()
}

fn resolve<'a>(components: &'a Components, schema: &'a RefOr<Schema>) -> Option<&'a Schema> {
    match schema {
        RefOr::T(schema) => Some(schema),
        RefOr::Ref(reference) => match components.schemas.get(reference.ref_location.rsplit('/').next()?)? {
            RefOr::T(schema) => Some(schema),
            RefOr::Ref(_) => None,
        },
    }
}

fn reference_to(name: &str) -> RefOr<Schema> {
    RefOr::Ref(openapi::Ref::from_schema_name(name))
}

fn schema_reference(name: &str) -> String {
    format!("#/components/schemas/{name}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_of_several_enums_have_names_of_their_own() {
        let list = |values: &[&str]| json!({"type": "string", "enum": values});
        let mut contract: openapi::OpenApi = serde_json::from_value(json!({
            "openapi": "3.1.0",
            "info": {"title": "t", "version": "1"},
            "paths": {},
            "components": {"schemas": {
                "RunOutcome": list(&["done", "cancelled"]), "Status": list(&["cancelled"]), "Color": list(&["red"]),
            }},
        }))
        .unwrap();
        name_shared_values(&mut contract);
        let schemas = serde_json::to_value(&contract.components.unwrap().schemas).unwrap();
        let names = ["RunOutcome", "Status", "Color"].map(|name| schemas[name]["x-enum-varnames"].clone());
        assert_eq!(
            names,
            [json!(["RUN_OUTCOME_DONE", "RUN_OUTCOME_CANCELLED"]), json!(["STATUS_CANCELLED"]), json!(null)]
        );
    }

    #[test]
    fn variants_are_whole_objects_and_unused_parts_go() {
        let tag = |value: &str| {
            json!({"type": "object", "required": ["type"],
                   "properties": {"type": {"type": "string", "enum": [value]}}})
        };
        let payload =
            |field: &str| json!({"type": "object", "required": [field], "properties": {field: {"type": "string"}}});
        let variant = |part: Value, kind: &str| json!({"allOf": [part, tag(kind)], "description": kind});
        let reference = |name: &str| json!({"$ref": schema_reference(name)});
        let mut contract: openapi::OpenApi = serde_json::from_value(json!({
            "openapi": "3.1.0",
            "info": {"title": "t", "version": "1"},
            "paths": {"/e": {"get": {"responses": {"200": {"description": "d", "content": {
                "application/json": {"schema": reference("Event")}}}}}}},
            "components": {"schemas": {
                "Event": {"allOf": [reference("EventBody"), payload("seq")], "description": "An event."},
                "EventBody": {"oneOf": [variant(reference("Start"), "start"), variant(payload("why"), "the_end")]},
                "Start": payload("name"),
            }},
        }))
        .unwrap();
        name_whole_variants(&mut contract);
        remove_unused_schemas(&mut contract);
        let schemas = serde_json::to_value(&contract.components.unwrap().schemas).unwrap();
        let names: Vec<&String> = schemas.as_object().unwrap().keys().collect();
        assert_eq!(names, ["Event", "EventStart", "EventTheEnd"]);
        assert_eq!(
            schemas["Event"],
            json!({
                "oneOf": [reference("EventStart"), reference("EventTheEnd")],
                "description": "An event.",
                "discriminator": {"propertyName": "type", "mapping": {
                    "start": schema_reference("EventStart"), "the_end": schema_reference("EventTheEnd")}},
            })
        );
        assert_eq!(schemas["EventTheEnd"]["required"], json!(["why", "type", "seq"]));
        assert_eq!(schemas["EventStart"]["properties"]["seq"], json!({"type": "string"}));
        assert_eq!(schemas["EventStart"]["description"], "start");
    }
}
