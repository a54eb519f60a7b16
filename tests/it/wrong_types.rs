//! Bodies with wrong types of JSON: every door says which field is wrong in the words of JSON, and none in those of Rust.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    a2a_client::HITL,
    service::{ServiceSetup, TestService},
};
use k8sops_testing::scripted_model::ScriptedModel;

/// Words of Rust and serde, which no client has to know.
const RUST_WORDS: [&str; 16] = [
    "struct ",
    "enum ",
    "variant ",
    "newtype",
    "untagged",
    "tuple",
    "unit value",
    "a sequence",
    "a map",
    " i32",
    " i64",
    " u16",
    " u32",
    " u64",
    "usize",
    "Option",
];

/// A value of each type of JSON.
fn wrong_values() -> [Value; 8] {
    [json!(null), json!(true), json!(5), json!(-1.5), json!("x"), json!([]), json!([[1]]), json!({"a": 1})]
}

/// Returns the body with each of its values replaced by each wrong one.
fn mutations(body: &Value) -> Vec<(String, Value)> {
    let replaced = wrong_values().map(|wrong| (String::new(), wrong)).to_vec();
    let below: Vec<(String, Value)> = match body {
        Value::Object(fields) => {
            let of_field = |(name, value): (&String, &Value)| {
                let set = |(path, wrong): (String, Value)| {
                    let mut body = body.clone();
                    body[name] = wrong;
                    (format!(".{name}{path}"), body)
                };
                mutations(value).into_iter().map(set).collect::<Vec<_>>()
            };
            fields.iter().flat_map(of_field).collect()
        }
        Value::Array(items) => {
            let of_item = |(at, value): (usize, &Value)| {
                let set = |(path, wrong): (String, Value)| {
                    let mut body = body.clone();
                    body[at] = wrong;
                    (format!("[{at}]{path}"), body)
                };
                mutations(value).into_iter().map(set).collect::<Vec<_>>()
            };
            items.iter().enumerate().flat_map(of_item).collect()
        }
        _ => Vec::new(),
    };
    replaced.into_iter().chain(below).collect()
}

async fn send(service: &TestService, method: &Method, path: &str, body: &Value) -> (StatusCode, String) {
    let request =
        service.request(method.clone(), path).header("accept", "application/json, text/event-stream").json(body);
    let response = request.send().await.unwrap();
    (response.status(), response.text().await.unwrap())
}

async fn check_mutations(service: &TestService, method: Method, path: &str, body: &Value) {
    for (place, wrong) in mutations(body) {
        let (status, text) = send(service, &method, path, &wrong).await;
        let words: Vec<&str> = RUST_WORDS.into_iter().filter(|word| text.contains(word)).collect();
        assert!(words.is_empty(), "{path} with a wrong {place}: {words:?} in {status} {text}\n{wrong}");
        assert!(!status.is_server_error(), "{path} with a wrong {place}: {status} {text}");
    }
}

async fn start_service() -> TestService {
    let env = vec![("MAX_SESSIONS", "100000".to_owned()), ("K8SOPS_NOTIFY_ALLOW", "hooks.example.com".to_owned())];
    TestService::start(ServiceSetup { env, model: Some(ScriptedModel::new([])), ..ServiceSetup::default() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn doors_of_openai_name_wrong_types() {
    let service = start_service().await;
    let message = json!({"role": "user", "content": [{"type": "text", "text": "hi"}]});
    let tool = json!({"type": "function", "function": {"name": "f", "parameters": {}}});
    let completion = json!({"model": "k8sops", "messages": [message], "stream": false, "stream_options": {"include_usage": true},
        "tools": [tool], "user": "u"});
    check_mutations(&service, Method::POST, "/v1/chat/completions", &completion).await;
    let input = json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]});
    let answer = json!({"type": "mcp_approval_response", "approval_request_id": "a", "approve": true, "reason": "r"});
    for input in [input, answer] {
        let request = json!({"model": "k8sops", "input": [input], "conversation": {"id": "conv_1"}, "instructions": "i",
            "stream": false, "background": false, "store": true, "tools": [{"type": "mcp", "server_label": "l"}],
            "metadata": {"a": "b"}});
        check_mutations(&service, Method::POST, "/v1/responses", &request).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn agui_names_wrong_types() {
    let service = start_service().await;
    let message = json!({"id": "1", "role": "user", "content": [{"type": "text", "text": "hi"}]});
    let resume = json!({"interruptId": "i", "status": "resolved", "payload": {"approved": true, "comment": "c"}});
    let run = json!({"threadId": "t", "runId": "r", "protocolVersion": "1.0", "messages": [message], "state": {}, "tools": [],
        "context": [], "resume": [resume]});
    check_mutations(&service, Method::POST, "/agui", &run).await;
    let body = json!({"threadId": "t", "runId": "r", "messages": [{"id": "1", "role": "user", "content": 5}, 7]});
    let (status, text) = send(&service, &Method::POST, "/agui", &body).await;
    assert!(status == 400 && text.contains("`messages[1]` must be an object, not a number"), "{status} {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mcp_names_wrong_types() {
    let service = start_service().await;
    let initialize = json!({"protocolVersion": "2025-11-25", "capabilities": {"elicitation": {"form": {}}},
        "clientInfo": {"name": "n", "version": "1"}});
    let ask = json!({"name": "ask", "arguments": {"question": "hi", "session_id": "s"}, "_meta": {"progressToken": 1}});
    for (method, params) in [("initialize", initialize), ("tools/call", ask)] {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        check_mutations(&service, Method::POST, "/mcp", &request).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a2a_names_wrong_types() {
    let service = start_service().await;
    let approval = json!({"type": "tool_approval_response", "approvals": [{"id": "a", "approved": true, "rejection_reason": "r"}]});
    let answer = json!({"type": "ask_user_response", "id": "i", "answers": [{"answer": ["x"]}]});
    for payload in [approval, answer] {
        let message = json!({"messageId": "m", "contextId": "c", "taskId": "", "role": "ROLE_USER", "parts": [{"text": "hi"}],
            "extensions": [HITL], "metadata": {HITL: payload}});
        let push = json!({"id": "p", "url": "https://hooks.example.com/x", "token": "t",
            "authentication": {"scheme": "Bearer", "credentials": "c"}});
        let configuration = json!({"returnImmediately": true, "historyLength": 1, "taskPushNotificationConfig": push,
            "acceptedOutputModes": ["text/plain"]});
        let send = json!({"message": message, "configuration": configuration, "metadata": {}});
        check_mutations(&service, Method::POST, "/a2a/v1/message:send", &send).await;
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": send});
        check_mutations(&service, Method::POST, "/a2a", &request).await;
    }
    let list = json!({"contextId": "c", "status": "TASK_STATE_WORKING", "pageSize": 1, "pageToken": "t", "historyLength": 1,
        "includeArtifacts": true, "statusTimestampAfter": "2026-01-01T00:00:00Z"});
    for (method, params) in [
        ("ListTasks", list),
        ("GetTask", json!({"id": "t", "historyLength": 1})),
        ("CancelTask", json!({"id": "t"})),
        ("CreateTaskPushNotificationConfig", json!({"taskId": "t", "url": "https://hooks.example.com/x"})),
        ("GetTaskPushNotificationConfig", json!({"taskId": "t", "id": "c"})),
    ] {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        check_mutations(&service, Method::POST, "/a2a", &request).await;
    }
    let body = json!({"message": "hi"});
    let (status, text) = send(&service, &Method::POST, "/a2a/v1/message:send", &body).await;
    let error: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (status.as_u16(), &error["error"]["message"]),
        (400, &json!("`message` must be an object, not a string"))
    );
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": {"parts": ["hi"]}}});
    let (_, text) = send(&service, &Method::POST, "/a2a", &request).await;
    let error = serde_json::from_str::<Value>(&text).unwrap()["error"].clone();
    assert_eq!(
        (&error["code"], &error["message"]),
        (&json!(-32602), &json!("`message.parts[0]` must be an object, not a string"))
    );
    assert_eq!(error["data"][1]["fieldViolations"][0]["field"], "message.parts[0]");
}

#[tokio::test(flavor = "multi_thread")]
async fn native_api_names_wrong_types() {
    let service = start_service().await;
    let session = service.create_session().await;
    let attachment = json!({"name": "a.txt", "media_type": "text/plain", "text": "x"});
    let message = json!({"content": "hi", "on_busy": "enqueue", "attachments": [attachment]});
    check_mutations(&service, Method::POST, &format!("{session}/messages"), &message).await;
    check_mutations(&service, Method::POST, "/v1/sessions", &json!({"title": "t", "model": "m", "temperature": 1.0}))
        .await;
    check_mutations(&service, Method::PATCH, &session, &json!({"title": "t"})).await;
    let decision = json!({"decision": "approve", "arguments": {"a": 1}, "comment": "c"});
    let approval = format!("{session}/approvals/018f0000-0000-7000-8000-000000000000");
    check_mutations(&service, Method::POST, &approval, &decision).await;
}
