//! The AsyncAPI 3.0 document of the WebSocket. It is built from the schemas of the OpenAPI document, so that the two always
//! agree.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};
use utoipa::OpenApi as _;

use super::{
    openapi::openapi_contract,
    openapi_unions::{name_whole_variants, reachable_schemas, referenced_schema},
    ws,
};

/// The path of the WebSocket in the OpenAPI document.
const WEBSOCKET_PATH: &str = "/v1/sessions/{session_id}/ws";

/// Returns the AsyncAPI document as YAML, as it is stored in `openapi/asyncapi.yaml`.
#[must_use]
pub fn asyncapi_yaml() -> String {
    serde_saphyr::to_string(&asyncapi_document()).expect("the document is made of plain data")
}

/// Returns the AsyncAPI document as JSON, as it is served.
pub(super) fn asyncapi_json() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| asyncapi_document().to_string());
    &TEXT
}

/// The messages of one operation, by their key in the document.
#[derive(Default)]
struct MessageSet(Map<String, Value>);

impl MessageSet {
    /// Adds a message with this `type`. A second message of the same type (a warning that is logged and one that is transient)
    /// gets another key.
    fn add(&mut self, kind: &str, summary: &Value, payload: &Value) {
        let taken = self.0.contains_key(kind);
        let key = if taken { format!("transient_{kind}") } else { kind.to_owned() };
        self.0.insert(key, json!({"name": kind, "summary": summary, "payload": payload}));
    }

    /// Adds all variants of a tagged union.
    fn add_union(&mut self, schemas: &Map<String, Value>, union: &str) {
        for variant in schemas[union]["oneOf"].as_array().into_iter().flatten() {
            let schema = &schemas[referenced_schema(variant).expect("variants have names")];
            let kind = schema["properties"]["type"]["enum"][0].as_str();
            self.add(kind.expect("variants have a type"), &schema["description"], variant);
        }
    }

    /// Returns references to the messages of the channel.
    fn channel_references(&self) -> Vec<Value> {
        self.0.keys().map(|key| json!({"$ref": format!("#/channels/session/messages/{key}")})).collect()
    }
}

fn asyncapi_document() -> Value {
    let contract = serde_json::to_value(openapi_contract()).expect("the document is made of plain data");
    let mut schemas = collect_schemas(&contract);
    let mut events = MessageSet::default();
    events.add_union(&schemas, "Event");
    events.add_union(&schemas, "Transient");
    let mut replies = MessageSet::default();
    replies.add_union(&schemas, "CommandReply");
    let mut commands = MessageSet::default();
    for (kind, payload, summary) in ws::COMMANDS {
        let name = format!("Command{}{}", kind[..1].to_uppercase(), &kind[1..]);
        let schema = command_schema(kind, summary, &schemas[payload]);
        commands.add(kind, &json!(summary), &json!({"$ref": format!("#/components/schemas/{name}")}));
        schemas.insert(name, schema);
    }
    commands.0.insert(
        "text".into(),
        json!({
            "name": "text",
            "summary": "A frame that is not a JSON object is the text of a message.",
            "contentType": "text/plain",
            "payload": {"type": "string"},
        }),
    );
    let mut authentication = MessageSet::default();
    let summary =
        "Authenticates a client whose handshake had no credentials. It must be the first frame of the client.";
    authentication.add("auth", &json!(summary), &json!({"$ref": "#/components/schemas/AuthFrame"}));

    let all: Map<String, Value> =
        [&events, &replies, &commands, &authentication].into_iter().flat_map(|set| set.0.clone()).collect();
    let references: Map<String, Value> =
        all.keys().map(|key| (key.clone(), json!({"$ref": format!("#/components/messages/{key}")}))).collect();
    let reachable = reachable_schemas(&schemas, &json!(all));
    schemas.retain(|name, _| reachable.contains(name));
    let handshake = &contract["paths"][WEBSOCKET_PATH]["get"];
    let channel = json!({"$ref": "#/channels/session"});
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "k8sops: the WebSocket of a session",
            "version": contract["info"]["version"],
            "description": "The server sends the events of a session, the client sends commands. `openapi.json` describes the \
                            rest of the API.\n\nThe first frame of the server is `hello`. Logged events have a `seq` without \
                            gaps, except before `log_truncated`. A client that reconnects with `after` set to the last `seq` that it received misses no \
                            event and receives none twice.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "local": {"host": "127.0.0.1:8080", "protocol": "ws", "description": "The default address of the service",
                      "security": [{"$ref": "#/components/securitySchemes/bearer"}]},
        },
        "channels": {
            "session": {
                "address": WEBSOCKET_PATH,
                "description": handshake["description"],
                "parameters": {"session_id": {"description": "The session"}},
                "messages": references,
                "bindings": {
                    "ws": {
                        "method": "GET",
                        "query": parameters_in(&handshake["parameters"], "query"),
                        "headers": parameters_in(&handshake["parameters"], "header"),
                        "bindingVersion": "0.1.0",
                    },
                },
            },
        },
        "operations": {
            "receiveAuthentication": {
                "action": "receive",
                "summary": "Sent only by a client whose handshake had no credentials. The server sends nothing before.",
                "channel": channel,
                "messages": authentication.channel_references(),
            },
            "sendEvents": {
                "action": "send",
                "summary": "The events of the session as they are logged, and previews that are not logged.",
                "channel": channel,
                "messages": events.channel_references(),
            },
            "receiveCommands": {
                "action": "receive",
                "summary": "Commands of the client. Each is answered when it is durable or rejected.",
                "channel": channel,
                "messages": commands.channel_references(),
                "reply": {"channel": channel, "messages": replies.channel_references()},
            },
        },
        "components": {
            "schemas": schemas,
            "messages": all,
            "securitySchemes": contract["components"]["securitySchemes"],
        },
    })
}

/// Returns the schemas of the OpenAPI document and those that only occur on the WebSocket.
fn collect_schemas(contract: &Value) -> Map<String, Value> {
    let mut frames = ws::WebSocketSchemas::openapi();
    name_whole_variants(&mut frames);
    let frames = serde_json::to_value(frames.components).expect("the document is made of plain data");
    let mut schemas = frames["schemas"].as_object().cloned().unwrap_or_default();
    // The OpenAPI document has better descriptions of the schemas that both contain.
    schemas.extend(contract["components"]["schemas"].as_object().cloned().unwrap_or_default());
    for schema in schemas.values_mut().filter_map(Value::as_object_mut) {
        // AsyncAPI has only the name of the field here.
        if let Some(field) = schema.get("discriminator").map(|discriminator| discriminator["propertyName"].clone()) {
            schema.insert("discriminator".into(), field);
        }
    }
    schemas
}

/// Returns the schema of a command: that of its payload with `type` and the optional `command_id`.
fn command_schema(kind: &str, summary: &str, payload: &Value) -> Value {
    let mut schema = payload.clone();
    schema["description"] = json!(summary);
    schema["properties"]["type"] = json!({"type": "string", "enum": [kind]});
    schema["properties"]["command_id"] = json!({"$ref": "#/components/schemas/CommandId"});
    let mut required = vec![json!("type")];
    required.extend(payload["required"].as_array().cloned().unwrap_or_default());
    schema["required"] = json!(required);
    schema
}

/// Returns the parameters of one location (`query` or `header`) as one schema.
fn parameters_in(all: &Value, location: &str) -> Value {
    let matching = all.as_array().into_iter().flatten().filter(|parameter| parameter["in"] == location);
    let property = |parameter: &Value| {
        let mut schema = parameter["schema"].clone();
        schema["description"] = parameter["description"].clone();
        Some((parameter["name"].as_str()?.to_owned(), schema))
    };
    json!({"type": "object", "properties": matching.filter_map(property).collect::<Map<_, _>>()})
}
