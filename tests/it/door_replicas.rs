//! Doors while the replica that owns the session stands still.

use nix::sys::signal::Signal;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::{
    agui_client::{RunRequest, open_run, outcome, read_events, said},
    program::TestProgram,
    two_replicas::TwoReplicas,
};
use k8sops_testing::provider::ProviderApi;

/// Starts two replicas, of which one owns the session of a thread and stands still.
async fn start_with_stopped_owner() -> TwoReplicas {
    let replicas = TwoReplicas::start().await;
    replicas.providers.script(ProviderApi::Chat, "m", ["hello", "the answer"].map(|text| ProviderApi::Chat.text(text)));
    read_events(open(&replicas.one, &RunRequest::message("t-1", "m-1", "hi")).await).await;
    replicas.one.process.send_signal(Signal::SIGSTOP);
    replicas
}

/// Returns the text of an event of chat completions or of the Responses API.
fn read_delta(line: &str) -> Option<String> {
    let event: Value = serde_json::from_str(line.strip_prefix("data: ")?).ok()?;
    let delta = event["choices"][0]["delta"]["content"].as_str();
    let delta = delta.or(event["delta"].as_str().filter(|_| event["type"] == "response.output_text.delta"));
    delta.map(str::to_owned)
}

async fn open(program: &TestProgram, request: &RunRequest<'_>) -> Response {
    open_run(program.request(Method::POST, "/agui"), request).await
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn message_that_no_owner_has_read_is_followed() {
    for request in [RunRequest::message("t-1", "m-2", "hi"), RunRequest::attach("t-1")] {
        let replicas = start_with_stopped_owner().await;
        drop(open(&replicas.other, &RunRequest::message("t-1", "m-2", "hi")).await);
        let followed = open(&replicas.other, &request).await;
        replicas.one.process.send_signal(Signal::SIGCONT);
        let events = read_events(followed).await;
        assert_eq!((said(&events).as_str(), &outcome(&events)["type"]), ("the answer", &"success".into()));
        replicas.stop().await;
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn question_that_no_owner_has_read_is_followed_by_mcp() {
    let replicas = start_with_stopped_owner().await;
    let other = &replicas.other;
    let sessions: Value = other.request(Method::GET, "/v1/sessions").send().await.unwrap().json().await.unwrap();
    let session = &sessions["sessions"][0]["session_id"];
    let initialize = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize",
        "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}});
    let begun = other.request(Method::POST, "/mcp").json(&initialize).send().await.unwrap();
    let client = begun.headers()["mcp-session-id"].to_str().unwrap().to_owned();
    let request = |method: Method| {
        let request = other.request(method, "/mcp").header("mcp-protocol-version", "2025-11-25");
        request.header("mcp-session-id", &client)
    };
    let ask = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": "ask", "arguments": {"question": "and now?", "session_id": session}}});
    let mut asked = request(Method::POST).json(&ask).send().await.unwrap();
    let first = String::from_utf8(asked.chunk().await.unwrap().unwrap().to_vec()).unwrap();
    let stream = first.lines().find_map(|line| line.strip_prefix("id: ")).unwrap().to_owned();
    drop(asked);
    let resumed = request(Method::GET).header("last-event-id", stream).send().await.unwrap();
    let repeated = request(Method::POST).json(&ask).send().await.unwrap();
    replicas.one.process.send_signal(Signal::SIGCONT);
    for response in [resumed, repeated] {
        assert_eq!(response.status(), 200);
        let body = response.text().await.unwrap();
        assert!(body.contains("the answer") && body.contains("completed"), "{body}");
    }
    replicas.stop().await;
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn message_that_no_owner_has_read_is_not_sent_twice() {
    let user = |text: &str| json!({"role": "user", "content": text});
    let history = json!([user("hi"), {"role": "assistant", "content": "hello"}, user("and now?")]);
    for (path, body) in [
        ("/v1/chat/completions", json!({"model": "k8sops", "messages": history, "stream": true})),
        ("/v1/responses", json!({"model": "k8sops", "input": history, "stream": true})),
    ] {
        let replicas = start_with_stopped_owner().await;
        let other = &replicas.other;
        let post =
            |retries: &str| other.request(Method::POST, path).header("x-stainless-retry-count", retries).json(&body);
        let first = post("0").send().await.unwrap();
        let session = first.headers()["x-k8sops-session"].clone();
        drop(first);
        let repeated = post("1").send().await.unwrap();
        assert_eq!((repeated.status().as_u16(), &repeated.headers()["x-k8sops-session"]), (200, &session), "{path}");
        replicas.one.process.send_signal(Signal::SIGCONT);
        let body = repeated.text().await.unwrap();
        let said: String = body.lines().filter_map(read_delta).collect();
        assert_eq!(said, "the answer", "{path}: {body}");
        let messages = format!("/v1/sessions/{}/messages", session.to_str().unwrap());
        let messages: Value = other.request(Method::GET, &messages).send().await.unwrap().json().await.unwrap();
        let sent = messages["messages"].as_array().unwrap().iter().filter(|message| message["role"] == "user").count();
        assert_eq!(sent, 2, "{path}: {messages}");
        replicas.stop().await;
    }
}
