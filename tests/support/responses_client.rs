//! A client of the Responses API, as far as tests need it.

use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

use crate::service::TestService;

pub(crate) const RESPONSES: &str = "/v1/responses";

/// Returns a request for a response.
pub(crate) fn post(service: &TestService, mut body: Value) -> RequestBuilder {
    body["model"] = "k8sops".into();
    service.request(Method::POST, RESPONSES).json(&body)
}

/// Creates a response, which succeeds.
pub(crate) async fn create(service: &TestService, body: Value) -> Value {
    let response = post(service, body).send().await.unwrap();
    assert_eq!(response.status(), 200, "{:?}", response.text().await);
    response.json().await.unwrap()
}

pub(crate) async fn retrieve(service: &TestService, response: &Value) -> Value {
    service.get(&format!("{RESPONSES}/{}", id(response))).await
}

pub(crate) fn id(response: &Value) -> &str {
    response["id"].as_str().unwrap()
}

/// Returns the path of the session of a response.
pub(crate) fn session(response: &Value) -> String {
    let digits = response["conversation"]["id"].as_str().unwrap().strip_prefix("conv_").unwrap();
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    format!("/v1/sessions/{}", parts.join("-"))
}

pub(crate) fn items<'a>(response: &'a Value, kind: &str) -> Vec<&'a Value> {
    response["output"].as_array().unwrap().iter().filter(|item| item["type"] == kind).collect()
}

pub(crate) fn said(response: &Value) -> String {
    items(response, "message").iter().filter_map(|item| item["content"][0]["text"].as_str()).collect()
}

/// Returns the input that approves all that a response asks for.
pub(crate) fn approve(response: &Value) -> Value {
    let answer =
        |item: &&Value| json!({"type": "mcp_approval_response", "approval_request_id": item["id"], "approve": true});
    items(response, "mcp_approval_request").iter().map(answer).collect()
}

/// Sends a request that fails. Returns its status and the error.
pub(crate) async fn refused(request: RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    (status, response.json::<Value>().await.unwrap()["error"].clone())
}

/// Reads the events of a stream, which must end with `[DONE]`.
pub(crate) async fn events(response: Response) -> Vec<Value> {
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let text = response.text().await.unwrap();
    let mut data: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert_eq!(data.pop(), Some("[DONE]"), "{text}");
    data.into_iter().map(|data| serde_json::from_str(data).unwrap()).collect()
}

/// Reads the events of a response again.
pub(crate) async fn replay(service: &TestService, response: &str, starting_after: Option<u64>) -> Vec<Value> {
    let after = starting_after.map(|number| format!("&starting_after={number}")).unwrap_or_default();
    let path = format!("{RESPONSES}/{response}?stream=true{after}");
    events(service.request(Method::GET, &path).send().await.unwrap()).await
}

pub(crate) fn number(event: &Value) -> u64 {
    event["sequence_number"].as_u64().unwrap()
}

pub(crate) fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

/// Joins the deltas of each item, and returns all other events as they are.
pub(crate) fn joined(events: &[Value]) -> (Vec<(String, String)>, Vec<Value>) {
    let mut texts: Vec<(String, String)> = Vec::new();
    let mut others = Vec::new();
    for event in events {
        let is_text = event["type"].as_str().unwrap().ends_with("text.delta");
        let Some(delta) = event["delta"].as_str().filter(|_| is_text) else {
            others.push(event.clone());
            continue;
        };
        let item = event["item_id"].as_str().unwrap();
        match texts.last_mut().filter(|(id, _)| id == item) {
            Some((_, text)) => text.push_str(delta),
            None => texts.push((item.to_owned(), delta.to_owned())),
        }
    }
    (texts, others)
}

/// Checks that a stream can be read on from after each of its events, as if it had not been interrupted.
pub(crate) async fn assert_replays(service: &TestService, live: &[Value]) {
    let response = id(&live[0]["response"]);
    assert!(live.is_sorted_by(|a, b| number(a) < number(b)), "{live:?}");
    let whole = joined(live);
    assert_eq!(joined(&replay(service, response, None).await), whole);
    for (at, event) in live.iter().enumerate() {
        let mut read = live[..=at].to_vec();
        read.extend(replay(service, response, Some(number(event))).await);
        assert_eq!(joined(&read), whole, "cut after {event}");
    }
}
