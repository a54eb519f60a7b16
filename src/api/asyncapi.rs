//! The contract of the WebSocket, AsyncAPI 3.0: what goes down and what comes up, made of the schemas that the OpenAPI
//! document is made of, so that the two cannot differ.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use utoipa::OpenApi as _;

use super::{docs, ws};

/// Where the WebSocket is, in the OpenAPI document.
const ADDRESS: &str = "/v1/sessions/{session_id}/ws";

/// The AsyncAPI document, as the program writes it.
#[must_use]
pub fn asyncapi_yaml() -> String {
    serde_saphyr::to_string(&document()).expect("the document is made of plain data")
}

/// The messages of one way, as they are found in the document.
#[derive(Default)]
struct Messages(Map<String, Value>);

impl Messages {
    /// A message of this `type`. Two of one type (a warning that is logged, and one that cannot be) have two keys.
    fn add(&mut self, kind: &str, summary: &Value, payload: &Value) {
        let taken = self.0.contains_key(kind);
        let key = if taken { format!("transient_{kind}") } else { kind.to_owned() };
        self.0.insert(key, json!({"name": kind, "summary": summary, "payload": payload}));
    }

    /// All variants of a union of the schemas; `payload` makes what is sent of a reference to a variant.
    fn add_union(&mut self, schemas: &Map<String, Value>, union: &str, payload: impl Fn(&Value) -> Value) {
        for variant in schemas[union]["oneOf"].as_array().into_iter().flatten() {
            let schema = &schemas[target(variant).expect("variants have names")];
            let mut parts = schema["allOf"].as_array().into_iter().flatten();
            let kind = parts.find_map(|part| part["properties"]["type"]["enum"][0].as_str());
            self.add(kind.expect("variants have a type"), &schema["description"], &payload(variant));
        }
    }

    /// References to them, by way of the channel where they are exchanged.
    fn of_channel(&self) -> Vec<Value> {
        self.0.keys().map(|key| json!({"$ref": format!("#/channels/session/messages/{key}")})).collect()
    }
}

/// The document, as it is served.
pub(super) fn document() -> Value {
    let contract = serde_json::to_value(docs::contract()).expect("the document is made of plain data");
    let mut frames = ws::Frames::openapi();
    docs::name_variants(&mut frames);
    let frames = serde_json::to_value(frames.components).expect("the document is made of plain data");
    let mut schemas = frames["schemas"].as_object().cloned().unwrap_or_default();
    // What both have is the same, but for what the contract says better.
    schemas.extend(contract["components"]["schemas"].as_object().cloned().unwrap_or_default());

    let mut place = schemas["Event"]["allOf"][1].clone();
    place["description"] = json!("An event's place in the log.");
    schemas.insert("EventPlace".into(), place);
    let (mut events, mut replies, mut commands) = (Messages::default(), Messages::default(), Messages::default());
    events.add_union(
        &schemas,
        "EventBody",
        |body| json!({"allOf": [body, {"$ref": "#/components/schemas/EventPlace"}]}),
    );
    events.add_union(&schemas, "Transient", Value::clone);
    replies.add_union(&schemas, "Reply", Value::clone);
    for (kind, rest, summary) in ws::COMMANDS {
        let name = format!("Command{}{}", kind[..1].to_uppercase(), &kind[1..]);
        let schema = command(kind, summary, &schemas[rest]);
        commands.add(kind, &json!(summary), &json!({"$ref": format!("#/components/schemas/{name}")}));
        schemas.insert(name, schema);
    }
    commands.0.insert(
        "text".into(),
        json!({
            "name": "text",
            "summary": "A frame that is not a JSON object is a message, as it is.",
            "contentType": "text/plain",
            "payload": {"type": "string"},
        }),
    );

    let mut introduction = Messages::default();
    let summary = "Who the client is, where neither a header nor a sub-protocol has said so: the first frame up.";
    introduction.add("auth", &json!(summary), &json!({"$ref": "#/components/schemas/Introduction"}));

    let all: Map<String, Value> =
        [&events, &replies, &commands, &introduction].into_iter().flat_map(|messages| messages.0.clone()).collect();
    let references: Map<String, Value> =
        all.keys().map(|key| (key.clone(), json!({"$ref": format!("#/components/messages/{key}")}))).collect();
    let wanted = reachable(&schemas, &json!(all));
    schemas.retain(|name, _| wanted.contains(name));
    let open = &contract["paths"][ADDRESS]["get"];
    let channel = json!({"$ref": "#/channels/session"});
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "k8sops: the WebSocket of a session",
            "version": contract["info"]["version"],
            "description": "A session's events down, commands up. `openapi.json` describes the rest of the API.\n\nThe first \
                            frame is `hello`. Events that are logged have a `seq`, without gaps: who connects again with \
                            `after` set to the last that was seen misses nothing and gets nothing twice.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "local": {"host": "127.0.0.1:8080", "protocol": "ws", "description": "Where the service listens by default",
                      "security": [{"$ref": "#/components/securitySchemes/bearer"}]},
        },
        "channels": {
            "session": {
                "address": ADDRESS,
                "description": open["description"],
                "parameters": {"session_id": {"description": "The session"}},
                "messages": references,
                "bindings": {
                    "ws": {
                        "method": "GET",
                        "query": parameters(&open["parameters"], "query"),
                        "headers": parameters(&open["parameters"], "header"),
                        "bindingVersion": "0.1.0",
                    },
                },
            },
        },
        "operations": {
            "receiveIntroduction": {
                "action": "receive",
                "summary": "Only from a client that the handshake did not make known; nothing is sent before.",
                "channel": channel,
                "messages": introduction.of_channel(),
            },
            "sendEvents": {
                "action": "send",
                "summary": "What happens in the session, as it is logged, and previews that are not.",
                "channel": channel,
                "messages": events.of_channel(),
            },
            "receiveCommands": {
                "action": "receive",
                "summary": "What the client asks for. Each command is answered once it is durable, or refused.",
                "channel": channel,
                "messages": commands.of_channel(),
                "reply": {"channel": channel, "messages": replies.of_channel()},
            },
        },
        "components": {
            "schemas": schemas,
            "messages": all,
            "securitySchemes": contract["components"]["securitySchemes"],
        },
    })
}

/// The schema of a command: what the rest of it has, its `type`, and the name that it may have.
fn command(kind: &str, summary: &str, rest: &Value) -> Value {
    let mut schema = rest.clone();
    schema["description"] = json!(summary);
    schema["properties"]["type"] = json!({"type": "string", "enum": [kind]});
    schema["properties"]["command_id"] = json!({"$ref": "#/components/schemas/CommandId"});
    let mut required = vec![json!("type")];
    required.extend(rest["required"].as_array().cloned().unwrap_or_default());
    schema["required"] = json!(required);
    schema
}

/// The parameters of the query, or of the headers, as one schema.
fn parameters(all: &Value, place: &str) -> Value {
    let wanted = all.as_array().into_iter().flatten().filter(|parameter| parameter["in"] == place);
    let property = |parameter: &Value| {
        let mut schema = parameter["schema"].clone();
        schema["description"] = parameter["description"].clone();
        Some((parameter["name"].as_str()?.to_owned(), schema))
    };
    json!({"type": "object", "properties": wanted.filter_map(property).collect::<Map<_, _>>()})
}

/// The name of the schema that a reference points to.
fn target(value: &Value) -> Option<&str> {
    value["$ref"].as_str()?.strip_prefix("#/components/schemas/")
}

/// The names of the schemas that something is made of.
fn reachable(schemas: &Map<String, Value>, from: &Value) -> BTreeSet<String> {
    let (mut found, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(value) = open.pop() {
        match value {
            Value::Array(items) => open.extend(items),
            Value::Object(fields) => open.extend(fields.values()),
            _ => continue,
        }
        if let Some(name) = target(value)
            && found.insert(name.to_owned())
        {
            open.extend(schemas.get(name));
        }
    }
    found
}
