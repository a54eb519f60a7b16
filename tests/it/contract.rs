//! Compatibility with the released API. `openapi/released.json` is the document of the last release; each release
//! replaces it.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{process::Command, time::timeout};

use crate::service::{ServiceSetup, TestService};
use k8sops_testing::{
    TEST_TIMEOUT,
    counting_server::CountingMcpServer,
    scripted_model::{ScriptedModel, call},
    testbed,
};

/// Direction of a value. It decides which changes are compatible.
#[derive(Clone, Copy, PartialEq)]
enum ValueDirection {
    ToService,
    ToClient,
}

/// Compares two documents and collects changes that break clients of the old one.
struct Comparison<'a> {
    old: &'a Value,
    new: &'a Value,
    /// Compared pairs of schemas; schemas may be recursive.
    compared: BTreeSet<(String, String, bool)>,
    breaks: Vec<String>,
}

fn find_breaking_changes(old: &Value, new: &Value) -> Vec<String> {
    let mut comparison = Comparison { old, new, compared: BTreeSet::new(), breaks: Vec::new() };
    for (path, item) in object_entries(&old["paths"]) {
        for (method, operation) in object_entries(item) {
            comparison.compare_operation(
                &format!("{} {path}", method.to_uppercase()),
                operation,
                &new["paths"][path][method],
            );
        }
    }
    // Events are read from streams, so they are in no response of an operation.
    for name in ["Event", "Transient"] {
        let events = json!({"$ref": format!("#/components/schemas/{name}")});
        comparison.compare_schema(name, &events, &events, ValueDirection::ToClient);
    }
    comparison.breaks
}

fn object_entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn value_set(value: &Value) -> BTreeSet<String> {
    match value {
        Value::Array(all) => all.iter().map(Value::to_string).collect(),
        Value::Null => BTreeSet::new(),
        one => BTreeSet::from([one.to_string()]),
    }
}

fn array_items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

impl Comparison<'_> {
    fn compare_operation(&mut self, name: &str, old: &Value, new: &Value) {
        if new.is_null() {
            return self.breaks.push(format!("{name} is gone"));
        }
        if old["operationId"] != new["operationId"] {
            self.breaks.push(format!("{name} has another operationId"));
        }
        let key = |parameter: &Value| (parameter["in"].clone(), parameter["name"].clone());
        let named = |all: &Value, wanted: &Value| array_items(all).iter().find(|p| key(p) == key(wanted)).cloned();
        for parameter in array_items(&old["parameters"]) {
            let where_ = format!("{name} parameter {}", parameter["name"]);
            match named(&new["parameters"], parameter) {
                None => self.breaks.push(format!("{where_} is gone")),
                Some(now) => {
                    self.compare_schema(&where_, &parameter["schema"], &now["schema"], ValueDirection::ToService);
                }
            }
        }
        for parameter in array_items(&new["parameters"]).iter().filter(|p| p["required"] == true) {
            if named(&old["parameters"], parameter).is_none_or(|before| before["required"] != true) {
                self.breaks.push(format!("{name} parameter {} is required now", parameter["name"]));
            }
        }
        let (before, now) = (&old["requestBody"], &new["requestBody"]);
        if now["required"] == true && before["required"] != true {
            self.breaks.push(format!("{name} body is required now"));
        }
        self.compare_contents(&format!("{name} body"), before, now, ValueDirection::ToService);
        for (status, answer) in object_entries(&old["responses"]) {
            self.compare_contents(
                &format!("{name} {status}"),
                answer,
                &new["responses"][status],
                ValueDirection::ToClient,
            );
            if new["responses"][status].is_null() {
                self.breaks.push(format!("{name} {status} is gone"));
            }
        }
    }

    fn compare_contents(&mut self, name: &str, old: &Value, new: &Value, way: ValueDirection) {
        for (kind, content) in object_entries(&old["content"]) {
            match &new["content"][kind] {
                Value::Null => self.breaks.push(format!("{name} {kind} is gone")),
                now => self.compare_schema(&format!("{name} {kind}"), &content["schema"], &now["schema"], way),
            }
        }
    }

    fn compare_schema(&mut self, name: &str, old: &Value, new: &Value, way: ValueDirection) {
        if let (Some(before), Some(now)) = (old["$ref"].as_str(), new["$ref"].as_str())
            && !self.compared.insert((before.to_owned(), now.to_owned(), way == ValueDirection::ToClient))
        {
            return;
        }
        let (all_old, all_new) = (self.old, self.new);
        let (old, new) = (&whole_schema(all_old, old), &whole_schema(all_new, new));
        let (before, now) = (value_set(&old["type"]), value_set(&new["type"]));
        let fits = match way {
            ValueDirection::ToService => before.is_subset(&now) || now.is_empty(),
            ValueDirection::ToClient => {
                now.is_subset(&before) && now.is_empty() == before.is_empty() || before.is_empty()
            }
        };
        if !fits {
            self.breaks.push(format!("{name} was {before:?} and is {now:?}"));
        }
        let (before, now) = (value_set(&old["enum"]), value_set(&new["enum"]));
        let closed = now.is_empty() || before.is_empty() && way == ValueDirection::ToClient;
        for gone in before.difference(&now).filter(|_| !closed) {
            self.breaks.push(format!("{name} may not be {gone} any more"));
        }
        if way == ValueDirection::ToService && before.is_empty() && !now.is_empty() {
            self.breaks.push(format!("{name} may only be one of {now:?} now"));
        }
        self.compare_bounds(name, old, new, way);
        let (before, now) = (value_set(&old["required"]), value_set(&new["required"]));
        match way {
            ValueDirection::ToService => {
                for field in now.difference(&before) {
                    self.breaks.push(format!("{name} needs {field} now"));
                }
            }
            ValueDirection::ToClient => {
                for field in before.difference(&now) {
                    self.breaks.push(format!("{name} may lack {field} now"));
                }
            }
        }
        for (field, before) in object_entries(&old["properties"]) {
            match &new["properties"][field] {
                Value::Null => self.breaks.push(format!("{name}.{field} is gone")),
                now => self.compare_schema(&format!("{name}.{field}"), before, now, way),
            }
        }
        if old["items"].is_object() {
            self.compare_schema(&format!("{name}[]"), &old["items"], &new["items"], way);
        }
        if old["additionalProperties"].is_object() {
            self.compare_schema(&format!("{name}.*"), &old["additionalProperties"], &new["additionalProperties"], way);
        }
        for kind in ["oneOf", "anyOf", "allOf"] {
            for (n, variant) in array_items(&old[kind]).iter().enumerate() {
                let same = |other: &&Value| variant_tag(all_new, other) == variant_tag(all_old, variant);
                let found = match variant_tag(all_old, variant) {
                    Some(_) => array_items(&new[kind]).iter().find(same),
                    None => array_items(&new[kind]).get(n),
                };
                let name = format!("{name} {kind}[{n}]");
                match found {
                    None => self
                        .breaks
                        .push(format!("{name} {} is gone", variant_tag(all_old, variant).unwrap_or_default())),
                    Some(now) => self.compare_schema(&name, variant, now, way),
                }
            }
        }
    }

    fn compare_bounds(&mut self, name: &str, old: &Value, new: &Value, way: ValueDirection) {
        if way == ValueDirection::ToClient {
            return;
        }
        for (bound, upper) in [
            ("maximum", true),
            ("maxLength", true),
            ("maxItems", true),
            ("minimum", false),
            ("minLength", false),
            ("minItems", false),
        ] {
            let (before, now) = (old[bound].as_f64(), new[bound].as_f64());
            let narrower = match (before, now) {
                (_, None) => false,
                (None, Some(_)) => true,
                (Some(before), Some(now)) => {
                    if upper {
                        now < before
                    } else {
                        now > before
                    }
                }
            };
            if narrower {
                self.breaks.push(format!("{name} {bound} is narrower"));
            }
        }
        if new["pattern"].is_string() && new["pattern"] != old["pattern"] {
            self.breaks.push(format!("{name} has another pattern"));
        }
    }
}

fn resolve_reference<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(target) => document.pointer(&target[1..]).unwrap_or_else(|| panic!("{target} is not in the document")),
        None => schema,
    }
}

/// Resolves a schema, and joins the parts of an `allOf`: objects mean the same as one with all their fields, and a union beside an
/// object the same as a union of variants with the object's fields.
fn whole_schema(document: &Value, schema: &Value) -> Value {
    let schema = resolve_reference(document, schema);
    let parts: Vec<Value> = array_items(&schema["allOf"]).iter().map(|part| whole_schema(document, part)).collect();
    if let [union, shared] = &parts[..]
        && union["oneOf"].is_array()
    {
        let variants = array_items(&union["oneOf"]).iter().map(|variant| json!({"allOf": [variant, shared]}));
        return json!({"oneOf": variants.collect::<Vec<_>>()});
    }
    if parts.is_empty() || parts.iter().any(|part| part["type"] != "object") {
        return schema.clone();
    }
    let mut whole = json!({"type": "object", "properties": {}, "required": []});
    for part in parts {
        for (field, schema) in object_entries(&part["properties"]) {
            whole["properties"][field] = schema.clone();
        }
        whole["required"].as_array_mut().unwrap().extend(array_items(&part["required"]).iter().cloned());
    }
    whole
}

/// Returns what identifies a variant of a union: the value of its `type`, or the schema that it refers to.
fn variant_tag(document: &Value, variant: &Value) -> Option<String> {
    let kind = &whole_schema(document, variant)["properties"]["type"]["enum"][0];
    // The `type` comes first, because an inline variant may become a named schema.
    if kind.is_null() { Some(variant["$ref"].as_str()?.to_owned()) } else { Some(kind.to_string()) }
}

fn released_document() -> Value {
    serde_json::from_str(include_str!("../../openapi/released.json")).unwrap()
}

#[test]
fn released_api_is_not_broken() {
    let now: Value = serde_json::from_str(k8sops::api::openapi_json()).unwrap();
    assert_eq!(find_breaking_changes(&released_document(), &now), [""; 0]);
}

#[test]
fn unchanged_or_extended_document_is_compatible() {
    let old = released_document();
    assert_eq!(find_breaking_changes(&old, &old), [""; 0]);
    let mut new = old.clone();
    new["paths"]["/v1/new"] = json!({"get": {"operationId": "new", "responses": {}}});
    new["components"]["schemas"]["Info"]["properties"]["more"] = json!({"type": "string"});
    new["components"]["schemas"]["CreateSession"]["properties"]["more"] = json!({"type": "string"});
    assert_eq!(find_breaking_changes(&old, &new), [""; 0]);
}

#[test]
fn breaking_changes_are_detected() {
    let old = released_document();
    let schema = |name: &str| format!("/components/schemas/{name}");
    let broken = |pointer: &str, change: &dyn Fn(&mut Value)| {
        let mut new = old.clone();
        change(new.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")));
        find_breaking_changes(&old, &new).join("\n")
    };
    let gone = |key: &'static str| move |value: &mut Value| drop(value.as_object_mut().unwrap().remove(key).unwrap());
    for (found, said) in [
        (broken("/paths", &gone("/v1/info")), "GET /v1/info is gone"),
        (broken("/paths/~1v1~1sessions", &gone("post")), "POST /v1/sessions is gone"),
        (broken("/paths/~1v1~1info/get", &|o| o["operationId"] = json!("facts")), "has another operationId"),
        (broken("/paths/~1v1~1info/get/responses", &gone("200")), "GET /v1/info 200 is gone"),
        (broken(&format!("{}/properties", schema("Info")), &gone("version")), "version is gone"),
        (broken(&schema("Info"), &|s| s["required"].as_array_mut().unwrap().clear()), "may lack \"version\" now"),
        (broken(&schema("Info"), &|s| s["properties"]["version"]["type"] = json!("integer")), "version was"),
        (broken(&schema("CreateSession"), &|s| s["required"] = json!(["title"])), "needs \"title\" now"),
        (broken(&format!("{}/properties", schema("CreateSession")), &gone("title")), "title is gone"),
        (
            broken(&schema("OnBusy"), &|s| *s = json!({"type": "string", "enum": ["enqueue"]})),
            "may not be \"reject\" any more",
        ),
        (
            broken(&schema("Mode"), &|s| *s = json!({"type": "string", "enum": ["serve"]})),
            "may not be \"demo\" any more",
        ),
        (
            broken("/paths/~1v1~1sessions/get", &|o| {
                o["parameters"].as_array_mut().unwrap().push(json!({"in": "query", "name": "x", "required": true}));
            }),
            "parameter \"x\" is required now",
        ),
        (broken("/paths/~1v1~1sessions/get/parameters", &|p| p.as_array_mut().unwrap().clear()), "is gone"),
    ] {
        assert!(found.contains(said), "{said} is not in: {found}");
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn fuzzed_requests_get_documented_responses() {
    // Sessions that the requests create must not evict the session under test.
    let env = vec![("MAX_SESSIONS", "100000".to_owned())];
    let model = ScriptedModel::new([vec![call("look", json!({}))], vec![call("change", json!({}))]]);
    let servers = vec![CountingMcpServer::new().connector()];
    let service =
        TestService::start(ServiceSetup { model: Some(model), servers, env, ..ServiceSetup::default() }).await;
    service.wait_for_mcp_servers().await;
    // One session for all requests, and one whose run waits for an approval.
    let (session, asking) = (service.create_session().await, service.create_session().await);
    service.post(&format!("{asking}/messages"), json!({"content": "change it"})).await;
    let frames = service.events(&asking, "").await.until("approval_requested").await;
    let approval = frames.last().unwrap()["approval_id"].as_str().unwrap();
    let looked = frames.iter().find(|frame| frame["type"] == "tool_end").unwrap()["tool_call_id"].as_str().unwrap();
    let id = |session: &str| session.rsplit('/').next().unwrap().to_owned();
    let folder = TempDir::new().unwrap();
    let config = format!(
        r#"
        [parameters]
        "path.session_id" = "{}"
        "query.follow" = false
        [checks]
        enabled = false
        not_a_server_error.enabled = true
        status_code_conformance.enabled = true
        content_type_conformance.enabled = true
        response_headers_conformance.enabled = true
        response_schema_conformance.enabled = true
        # It compares the fields of each event with the schema of the text that holds them.
        [[operations]]
        include-operation-id = [
            "stream_events", "stream_account", "run_agent", "run_agent_for_headlamp", "create_chat_completion",
            "send_mcp_message", "resume_mcp_stream", "create_response", "get_response", "call_agent",
            "stream_agent_message", "subscribe_to_agent_task", "subscribe_to_agent_task_by_post",
        ]
        checks.response_schema_conformance.enabled = false
        [[operations]]
        include-name = "DELETE /v1/sessions/{{session_id}}"
        parameters = {{ "path.session_id" = "018f0000-0000-7000-8000-000000000000" }}
        # It cancels the tasks that it finds in the list, also the one that waits for the approval.
        [[operations]]
        include-operation-id = "cancel_agent_task"
        parameters = {{ "path.task_id" = "unknown" }}
        [[operations]]
        include-operation-id = "resolve_approval"
        parameters = {{ "path.session_id" = "{asking}", "path.approval_id" = "{approval}" }}
        [[operations]]
        include-operation-id = "get_tool_output"
        parameters = {{ "path.session_id" = "{asking}", "path.tool_call_id" = "{looked}" }}
        "#,
        id(&session),
        asking = id(&asking),
    );
    let file = folder.path().join("schemathesis.toml");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(testbed::path("K8SOPS_TEST_SCHEMATHESIS"));
    command.arg("--config-file").arg(file).arg("run").arg(format!("{}/openapi.json", service.base));
    command.args(["--phases", "examples,coverage,fuzzing", "--max-examples", "25", "--seed", "1", "--no-color"]);
    // A WebSocket cannot be opened by such a request.
    command.args(["--exclude-path-regex", "/ws$", "--request-timeout", "60"]);
    command.env("NO_PROXY", "*").env("no_proxy", "*").current_dir(folder.path()).kill_on_drop(true);
    let output = timeout(TEST_TIMEOUT, command.output()).await.expect("the program exits").unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    let (_, cases) = said.split_once("Test cases:").unwrap();
    let made: u64 = cases.split_whitespace().next().unwrap().parse().unwrap();
    assert!(made >= 300, "{said}");
    // The approval was found, and one of the answers was accepted.
    let resolved = service.log(&asking).await.into_iter().find(|event| event["type"] == "approval_resolved");
    assert_eq!(resolved.expect("the approval is resolved")["by"], "user:default");
}
