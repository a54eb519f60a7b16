//! The OpenAPI document matches the service, and its pages need no network.

use reqwest::Method;
use serde_json::{Value, json};

use crate::service::TestService;
use k8sops_testing::{scripted_model::ScriptedModel, testbed};

fn list_operations(document: &Value) -> Vec<(String, String)> {
    let paths = document["paths"].as_object().unwrap();
    let of = |path: &String, item: &Value| {
        let methods = item
            .as_object()
            .unwrap()
            .keys()
            .filter(|k| ["get", "post", "patch", "delete", "put"].contains(&k.as_str()));
        methods.map(|method| (method.to_uppercase(), path.clone())).collect::<Vec<_>>()
    };
    paths.iter().flat_map(|(path, item)| of(path, item)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn openapi_file_is_up_to_date() {
    let service = TestService::with(&ScriptedModel::new([])).await;
    let served = service.get("/openapi.json").await;
    let file: Value = serde_json::from_str(include_str!("../../openapi/openapi.json")).unwrap();
    assert_eq!(served, file, "regenerate it: cargo run -- openapi > openapi/openapi.json");
}

#[tokio::test(flavor = "multi_thread")]
async fn documented_operations_are_served() {
    let service = TestService::with(&ScriptedModel::new([])).await;
    let session = service.create_session().await;
    let document = service.get("/openapi.json").await;
    let operations = list_operations(&document);
    assert!(operations.len() >= 20, "{operations:?}");
    let id = session.rsplit('/').next().unwrap();
    // The deletion comes last, because the other operations need the session.
    let (deletes, others): (Vec<_>, Vec<_>) = operations.into_iter().partition(|(method, _)| method == "DELETE");
    for (method, path) in others.into_iter().chain(deletes) {
        let target = path.replace("{session_id}", id).replace("{approval_id}", "018f0000-0000-7000-8000-000000000000");
        let target = if target.ends_with("/events") { format!("{target}?follow=false") } else { target };
        let method: Method = method.parse().unwrap();
        let response = service.request(method.clone(), &target).json(&json!({})).send().await.unwrap();
        let status = response.status().as_u16();
        let problem = response.headers().get("content-type").is_some_and(|kind| kind == "application/problem+json");
        let text = response.text().await.unwrap();
        // A missing route responds with `not_found` or `method_not_allowed`.
        let is_missing = (problem && text.contains("\"not_found\"")) || status == 405;
        // There is no stream to open again.
        let is_expected = path == "/mcp" && text.contains("Last-Event-ID");
        assert!(!is_missing || is_expected, "{method} {path} is not served: {text}");
        let answers = &document["paths"][&path][method.as_str().to_lowercase()]["responses"];
        assert!(answers[status.to_string()].is_object(), "{method} {path} answers {status}, which is not documented");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn operation_ids_are_unique_and_errors_are_problems() {
    let document: Value = serde_json::from_str(k8sops::api::openapi_json()).unwrap();
    let mut ids = Vec::new();
    for (method, path) in list_operations(&document) {
        let operation = &document["paths"][&path][method.to_lowercase()];
        ids.push(operation["operationId"].as_str().unwrap().to_owned());
        for (status, answer) in operation["responses"].as_object().unwrap() {
            if status.starts_with(['4', '5']) {
                // Clients of a door read errors in its form.
                let (kind, name) = match operation["tags"][0].as_str() {
                    Some("door: openai" | "door: responses") => ("application/json", "OpenAiError"),
                    Some("door: mcp") => ("application/json", "JsonRpcResponse"),
                    Some("door: a2a") if ["/a2a", "/a2a/"].contains(&path.as_str()) => {
                        ("application/json", "A2aRpcResponse")
                    }
                    Some("door: a2a") if path.starts_with("/a2a") => ("application/json", "A2aStatus"),
                    _ => ("application/problem+json", "Problem"),
                };
                let schema = &answer["content"][kind]["schema"]["$ref"];
                assert_eq!(*schema, format!("#/components/schemas/{name}"), "{method} {path} {status}");
            }
        }
    }
    let all = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), all);
}

#[test]
fn every_operation_documents_the_common_errors() {
    let document: Value = serde_json::from_str(k8sops::api::openapi_json()).unwrap();
    for (method, path) in list_operations(&document) {
        let responses = &document["paths"][&path][method.to_lowercase()]["responses"];
        for (status, code) in [("403", "origin_not_allowed"), ("500", "internal")] {
            let words = responses[status]["description"].as_str().unwrap_or_default();
            assert!(words.contains(code), "{method} {path} {status}: {words:?}");
        }
    }
}

#[test]
fn every_operation_has_description_and_valid_examples() {
    let document: Value = serde_json::from_str(k8sops::api::openapi_json()).unwrap();
    let mut count = 0;
    let mut hold = |place: &str, contents: &Value| {
        let contents = contents["content"].as_object().into_iter().flatten();
        let with_examples = contents.filter(|(_, content)| content.get("example").is_some());
        let mut any = false;
        for (kind, content) in with_examples {
            // Schemas allow additional fields, so that fields can be added. Examples must not have any, unless the schema
            // declares no fields at all.
            let mut schema = content["schema"].clone();
            schema["components"] = document["components"].clone();
            if kind == "application/json" && !["openapi 200", "asyncapi 200"].contains(&place) {
                schema["unevaluatedProperties"] = json!(false);
            }
            let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
            let faults: Vec<_> = validator.iter_errors(&content["example"]).map(|e| e.to_string()).collect();
            assert_eq!(faults, [""; 0], "{place} {kind}");
            let lines = content["example"].as_str().into_iter().flat_map(str::lines);
            let of_doors = ["run_agent", "resume_mcp", "stream_agent", "subscribe_to_agent"];
            let lines = lines.filter(|_| !of_doors.iter().any(|id| place.starts_with(id)));
            for event in lines.filter_map(|line| line.strip_prefix("data: ")) {
                let event: Value = serde_json::from_str(event).unwrap();
                let schema = json!({"$ref": "#/components/schemas/Event", "components": document["components"]});
                assert!(jsonschema::is_valid(&schema, &event), "{place} {kind} {event}");
            }
            any = true;
            count += 1;
        }
        assert!(any, "{place} has no example");
    };
    for (method, path) in list_operations(&document) {
        let operation = &document["paths"][&path][method.to_lowercase()];
        let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{method} {path} has no operationId"));
        assert!(operation["summary"].as_str().is_some_and(|words| !words.is_empty()), "{id} has no summary");
        if operation["requestBody"].is_object() {
            hold(&format!("{id} request"), &operation["requestBody"]);
        }
        let successes =
            operation["responses"].as_object().unwrap().iter().filter(|(status, _)| status.starts_with('2'));
        for (status, answer) in successes.filter(|(_, answer)| answer["content"].is_object()) {
            hold(&format!("{id} {status}"), answer);
        }
    }
    assert!(count >= 30, "{count}");
}

#[test]
fn every_schema_has_a_description() {
    let document: Value = serde_json::from_str(k8sops::api::openapi_json()).unwrap();
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        assert!(schema["description"].as_str().is_some_and(|words| !words.is_empty()), "{name}");
        for link in ["[`", "::"] {
            assert!(!schema.to_string().contains(link), "{name}: {schema}");
        }
    }
}

#[test]
fn documented_settings_limits_match_the_service() {
    let document: Value = serde_json::from_str(k8sops::api::openapi_json()).unwrap();
    let property = |schema: &str, name: &str| document["components"]["schemas"][schema]["properties"][name].clone();
    for schema in ["CreateSession", "SettingsPatch"] {
        assert_eq!(property(schema, "max_tokens")["minimum"], 1, "{schema}");
    }
    for name in ["provider", "model"] {
        assert_eq!(property("SettingsPatch", name)["type"], "string", "{name}");
    }
    assert_eq!(document["components"]["schemas"]["SettingsPatch"].get("required"), None);
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test]
async fn document_is_valid_openapi() {
    let validator = testbed::path("K8SOPS_TEST_OPENAPI_VALIDATOR");
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi/openapi.json");
    let output = tokio::process::Command::new(validator).arg(file).output().await.unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn documentation_pages_need_no_external_hosts() {
    let service = TestService::with(&ScriptedModel::new([])).await;
    let page = service.request(Method::GET, "/docs").send().await.unwrap();
    assert_eq!(page.status(), 200);
    let html = page.text().await.unwrap();
    assert!(html.contains("swagger-ui"), "{html}");
    let mut assets = 0;
    for quoted in html.split('"').filter(|part| [".js", ".css"].iter().any(|end| part.ends_with(end))) {
        assert!(!quoted.contains("//"), "{quoted} comes from elsewhere");
        let asset =
            service.request(Method::GET, &format!("/docs/{}", quoted.trim_start_matches("./"))).send().await.unwrap();
        assert_eq!(asset.status(), 200, "{quoted}");
        assets += 1;
    }
    assert!(assets >= 3, "{html}");
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_and_metrics_respond() {
    let service = TestService::with(&ScriptedModel::new([])).await;
    let session = service.create_session().await;
    service.turn(&session, "hi").await;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(service.get(path).await, json!({"status": "ok"}));
    }
    let metrics = service.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("k8sops_runs_total{outcome=\"completed\"} 1"), "{metrics}");
    let info = service.get("/v1/info").await;
    assert_eq!((&info["mode"], &info["language_model"]), (&json!("serve"), &json!(true)));
    assert_eq!(info["store"], json!({"backend": "filesystem", "durable": true}));
}
