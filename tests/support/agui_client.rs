//! A client of AG-UI, and what it checks of every stream.

use std::collections::BTreeSet;

use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

use crate::service::TestService;

/// A client of version 1.0.
pub(crate) const VERSION: Option<&str> = Some("1.0");

pub(crate) struct RunRequest<'a> {
    pub(crate) thread: &'a str,
    pub(crate) message: Option<(&'a str, &'a str)>,
    pub(crate) resume: Value,
    pub(crate) version: Option<&'a str>,
}

impl RunRequest<'_> {
    pub(crate) fn message<'a>(thread: &'a str, id: &'a str, text: &'a str) -> RunRequest<'a> {
        RunRequest { thread, message: Some((id, text)), resume: Value::Null, version: VERSION }
    }

    pub(crate) fn attach(thread: &str) -> RunRequest<'_> {
        RunRequest { thread, message: None, resume: Value::Null, version: VERSION }
    }

    pub(crate) fn body(&self) -> Value {
        let mut body =
            json!({"threadId": self.thread, "runId": "run-1", "messages": [], "tools": [], "context": [], "state": {}});
        if let Some((id, text)) = self.message {
            body["messages"] = json!([{"id": id, "role": "user", "content": text}]);
        }
        if !self.resume.is_null() {
            body["resume"] = self.resume.clone();
        }
        if let Some(version) = self.version {
            body["protocolVersion"] = version.into();
        }
        body
    }
}

/// Begins a run over the door at the path of the request.
pub(crate) async fn open_run(request: RequestBuilder, run: &RunRequest<'_>) -> Response {
    let response = request.json(&run.body()).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    response
}

/// Reads the events of a run to the end. They must be valid.
pub(crate) async fn read_events(response: Response) -> Vec<Value> {
    parse_events(&response.text().await.unwrap())
}

pub(crate) fn parse_events(stream: &str) -> Vec<Value> {
    let data = stream.lines().filter_map(|line| line.strip_prefix("data: "));
    let events: Vec<Value> = data.map(|data| serde_json::from_str(data).unwrap()).collect();
    check_events(&events);
    events
}

/// Runs to the end, and returns the events.
pub(crate) async fn run(service: &TestService, request: RunRequest<'_>) -> Vec<Value> {
    read_events(open_run(service.request(Method::POST, "/agui"), &request).await).await
}

/// Checks what all clients rely on: brackets are closed, every call gets a result before success, nothing follows the end.
fn check_events(events: &[Value]) {
    assert_eq!(events[0]["type"], "RUN_STARTED");
    let last = events.last().unwrap();
    assert!(["RUN_FINISHED", "RUN_ERROR"].contains(&last["type"].as_str().unwrap()), "{last}");
    let (mut open, mut calls) = (BTreeSet::new(), BTreeSet::new());
    for (at, event) in events.iter().enumerate() {
        let kind = event["type"].as_str().unwrap();
        let id = event["messageId"].as_str().or(event["toolCallId"].as_str()).unwrap_or_default().to_owned();
        assert!(!event.as_object().unwrap().values().any(Value::is_null), "null in {event}");
        match kind {
            "RUN_STARTED" => assert_eq!(at, 0),
            "RUN_FINISHED" | "RUN_ERROR" => assert_eq!(at, events.len() - 1, "{event} is not the last"),
            "TOOL_CALL_RESULT" => drop(calls.remove(event["toolCallId"].as_str().unwrap())),
            "MESSAGES_SNAPSHOT" => assert!(open.is_empty(), "snapshot within {open:?}"),
            "TEXT_MESSAGE_CONTENT" | "REASONING_MESSAGE_CONTENT" => assert_ne!(event["delta"], ""),
            _ => {}
        }
        if let Some(bracket) = kind.strip_suffix("_START") {
            assert!(open.insert((bracket.to_owned(), id.clone())), "{event} is open");
            if bracket == "TOOL_CALL" {
                calls.insert(id);
            }
        } else if let Some(bracket) = kind.strip_suffix("_END") {
            assert!(open.remove(&(bracket.to_owned(), id)), "{event} is not open");
        } else if let Some(bracket) = kind.strip_suffix("_CONTENT").or(kind.strip_suffix("_ARGS")) {
            assert!(open.contains(&(bracket.to_owned(), id)), "{event} is not open");
        }
    }
    assert!(open.is_empty(), "{open:?} stays open");
    if last["outcome"]["type"] == "success" {
        assert!(calls.is_empty(), "{calls:?} have no result");
    }
}

pub(crate) fn types(events: &[Value]) -> Vec<&str> {
    let mut types: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    types.dedup();
    types
}

pub(crate) fn said(events: &[Value]) -> String {
    events.iter().filter(|e| e["type"] == "TEXT_MESSAGE_CONTENT").filter_map(|e| e["delta"].as_str()).collect()
}

pub(crate) fn outcome(events: &[Value]) -> &Value {
    &events.last().unwrap()["outcome"]
}

pub(crate) fn session_of(events: &[Value]) -> String {
    format!("/v1/sessions/{}", events[0]["metadata"]["k8sops"]["sessionId"].as_str().unwrap())
}

pub(crate) fn approve(events: &[Value]) -> Value {
    let id = &outcome(events)["interrupts"][0]["id"];
    json!([{"interruptId": id, "status": "resolved", "payload": {"approved": true, "comment": "", "editedArgs": {}}}])
}
