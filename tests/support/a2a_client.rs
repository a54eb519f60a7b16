//! A client of A2A, as far as tests need it.

use eventsource_stream::Eventsource;
use futures_util::{StreamExt, stream::BoxStream};
use k8sops_testing::TEST_TIMEOUT;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::service::TestService;

pub(crate) const RPC: &str = "/a2a";
pub(crate) const HTTP: &str = "/a2a/v1";
pub(crate) const HITL: &str = "https://kagent.dev/extensions/hitl/v1";

/// Returns a message of a user, as the parameters of `SendMessage`.
pub(crate) fn message(id: &str, text: &str) -> Value {
    json!({"message": {"messageId": id, "role": "ROLE_USER", "parts": [{"text": text}]}})
}

/// Returns a message in a context.
pub(crate) fn in_context(context: &str, id: &str, text: &str) -> Value {
    let mut message = message(id, text);
    message["message"]["contextId"] = context.into();
    message
}

/// Returns a message to a task.
pub(crate) fn to_task(task: &Value, id: &str, text: &str) -> Value {
    let mut message = message(id, text);
    message["message"]["taskId"] = task["id"].clone();
    message
}

/// Returns a message to a task with answers for the extension.
pub(crate) fn with_answers(task: &Value, id: &str, payload: Value) -> Value {
    let mut message = to_task(task, id, "answered");
    message["message"]["extensions"] = json!([HITL]);
    message["message"]["metadata"] = [(HITL, payload)].into_iter().collect();
    message
}

/// Returns the request for a method over JSON-RPC.
pub(crate) fn rpc_request(service: &TestService, method: &str, params: &Value) -> RequestBuilder {
    let body = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params});
    service.request(Method::POST, RPC).header("a2a-version", "1.0").json(&body)
}

async fn rpc_response(response: Response) -> Value {
    assert_eq!(response.status(), 200);
    let body: Value = response.json().await.unwrap();
    assert_eq!((&body["jsonrpc"], &body["id"]), (&json!("2.0"), &json!(7)), "{body}");
    body
}

/// Calls a method, which succeeds.
pub(crate) async fn call_method(service: &TestService, method: &str, params: Value) -> Value {
    let body = rpc_response(rpc_request(service, method, &params).send().await.unwrap()).await;
    assert!(body["error"].is_null(), "{body}");
    body["result"].clone()
}

/// Calls a method, which fails. Returns the code and the reason.
pub(crate) async fn failed_call(service: &TestService, method: &str, params: Value) -> (i64, String) {
    let body = rpc_response(rpc_request(service, method, &params).send().await.unwrap()).await;
    let reason = body["error"]["data"][0]["reason"].as_str().unwrap_or_else(|| panic!("{body}"));
    (body["error"]["code"].as_i64().unwrap(), reason.to_owned())
}

/// Sends a message, and returns its task.
pub(crate) async fn send(service: &TestService, params: Value) -> Value {
    call_method(service, "SendMessage", params).await["task"].clone()
}

pub(crate) async fn get_task(service: &TestService, task: &Value) -> Value {
    call_method(service, "GetTask", json!({"id": task["id"]})).await
}

/// Reads the items of a stream.
pub(crate) async fn items(response: Response) -> Vec<Value> {
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let text = response.text().await.unwrap();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let items = data.map(|data| serde_json::from_str::<Value>(data).unwrap());
    items.map(|item| if item["jsonrpc"] == "2.0" { item["result"].clone() } else { item }).collect()
}

/// The items of a stream, read one after the other.
pub(crate) struct StreamedItems(BoxStream<'static, Value>);

impl StreamedItems {
    pub(crate) fn read(response: Response) -> Self {
        let events = response.bytes_stream().eventsource();
        let items = events.map(|event| serde_json::from_str::<Value>(&event.unwrap().data).unwrap());
        Self(items.map(|item| if item["jsonrpc"] == "2.0" { item["result"].clone() } else { item }).boxed())
    }

    /// Waits for the next item; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        timeout(TEST_TIMEOUT, self.0.next()).await.expect("the stream is not silent")
    }
}

/// Calls a method that streams, and reads its items.
pub(crate) async fn stream(service: &TestService, method: &str, params: Value) -> Vec<Value> {
    items(rpc_request(service, method, &params).send().await.unwrap()).await
}

pub(crate) fn state(task: &Value) -> &str {
    task["status"]["state"].as_str().unwrap_or_else(|| panic!("{task}"))
}

/// Returns what the status of a task says.
pub(crate) fn status_text(task: &Value) -> String {
    let parts = task["status"]["message"]["parts"].as_array().unwrap_or_else(|| panic!("{task}"));
    parts.iter().map(|part| part["text"].as_str().unwrap()).collect::<Vec<_>>().join("\n")
}

/// Returns the texts of the artifacts of a task.
pub(crate) fn texts(task: &Value) -> Vec<&str> {
    let artifacts = task["artifacts"].as_array().unwrap_or_else(|| panic!("{task}"));
    artifacts.iter().map(|artifact| artifact["parts"][0]["text"].as_str().unwrap()).collect()
}

/// Returns the path of the session of a task.
pub(crate) fn session(task: &Value) -> String {
    format!("/v1/sessions/{}", task["metadata"]["k8sops"]["sessionId"].as_str().unwrap())
}

/// Applies the updates of a stream to its first item, as clients do. Returns the task, without history and metadata of artifacts.
pub(crate) fn applied(items: &[Value]) -> Value {
    let mut task = items[0]["task"].clone();
    assert!(task.is_object(), "{items:?}");
    for item in &items[1..] {
        if let Some(update) = item.get("statusUpdate") {
            assert_eq!((&update["taskId"], &update["contextId"]), (&task["id"], &task["contextId"]));
            task["status"] = update["status"].clone();
            continue;
        }
        let update = &item["artifactUpdate"];
        let artifact = &update["artifact"];
        let artifacts = task["artifacts"].as_array_mut().unwrap();
        let at = artifacts.iter().position(|known| known["artifactId"] == artifact["artifactId"]);
        match (at, update["append"] == true) {
            (Some(at), true) => {
                let known = artifacts[at]["parts"][0]["text"].as_str().unwrap();
                let text = format!("{known}{}", artifact["parts"][0]["text"].as_str().unwrap());
                artifacts[at] = artifact.clone();
                artifacts[at]["parts"][0]["text"] = text.into();
            }
            (Some(at), false) => artifacts[at] = artifact.clone(),
            (None, append) => {
                assert!(!append, "nothing to append to: {update}");
                artifacts.push(artifact.clone());
            }
        }
    }
    task
}
