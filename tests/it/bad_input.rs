//! Invalid input: requests are rejected with a clear problem, and the session stays usable.

use reqwest::{Method, RequestBuilder};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::service::{ServiceSetup, TestService};
use k8sops_testing::scripted_model::ScriptedModel;

/// Method, path and body of a request; expected status, code and part of the detail.
type Case<'a> = (Method, String, &'a [u8], u16, &'a str, &'a str);

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_return_helpful_problems() {
    let model = ScriptedModel::new([]);
    let service = TestService::start(ServiceSetup {
        model: Some(model),
        env: vec![("K8SOPS_MAX_MESSAGE_BYTES", "100".into()), ("K8SOPS_MAX_FRAME_BYTES", "4096".into())],
        ..ServiceSetup::default()
    })
    .await;
    let session = service.create_session().await;
    let messages = format!("{session}/messages");
    let settings = format!("{session}/settings");
    let unknown = "/v1/sessions/018f0000-0000-7000-8000-000000000000";
    let long = format!(r#"{{"content": "{}"}}"#, "x".repeat(101));
    let huge = format!(r#"{{"content": "{}"}}"#, "x".repeat(5000));
    let cases: Vec<Case> = vec![
        (Method::POST, messages.clone(), b"{", 400, "invalid_json", "EOF"),
        (Method::POST, messages.clone(), b"[]", 400, "invalid_json", ""),
        (Method::POST, messages.clone(), b"", 400, "invalid_json", "content"),
        (Method::POST, messages.clone(), b"{\"content\": \"\xff\"}", 400, "invalid_json", ""),
        (Method::POST, messages.clone(), br#"{"content": 7}"#, 400, "invalid_json", "string"),
        (Method::POST, messages.clone(), br#"{"contnet": "x"}"#, 400, "invalid_json", "contnet"),
        (Method::POST, messages.clone(), br#"{"content": ""}"#, 400, "invalid_request", "empty"),
        (Method::POST, messages.clone(), br#"{"content": " \n "}"#, 400, "invalid_request", "empty"),
        (Method::POST, messages.clone(), br#"{"content": "x", "on_busy": "explode"}"#, 400, "invalid_json", "enqueue"),
        (Method::POST, messages.clone(), long.as_bytes(), 413, "message_too_long", "limit is 100"),
        (Method::POST, messages.clone(), huge.as_bytes(), 413, "message_too_long", "limit is 100"),
        (Method::POST, "/v1/sessions".into(), huge.as_bytes(), 413, "payload_too_large", "K8SOPS_MAX_FRAME_BYTES"),
        (Method::PATCH, settings.clone(), b"{}", 400, "invalid_request", "changes nothing"),
        (Method::PATCH, settings.clone(), br#"{"provider": "gpt-corp"}"#, 400, "invalid_request", "gpt-corp"),
        (Method::PATCH, settings.clone(), br#"{"model": "gpt-0"}"#, 400, "invalid_request", "gpt-0"),
        (Method::PATCH, settings.clone(), br#"{"provider": null}"#, 400, "invalid_json", "leave"),
        (Method::PATCH, settings.clone(), br#"{"model": null, "temperature": 1}"#, 400, "invalid_json", "leave"),
        (Method::PATCH, settings.clone(), br#"{"temperature": 2.5}"#, 400, "invalid_request", "temperature"),
        (Method::PATCH, settings.clone(), br#"{"temperature": -1}"#, 400, "invalid_request", "temperature"),
        (Method::PATCH, settings.clone(), br#"{"temperature": "hot"}"#, 400, "invalid_json", ""),
        (Method::PATCH, settings.clone(), br#"{"max_tokens": 0}"#, 400, "invalid_request", "max_tokens"),
        (Method::PATCH, settings.clone(), br#"{"max_tokens": -5}"#, 400, "invalid_json", ""),
        (Method::PATCH, session.clone(), br#"{"title": "  "}"#, 400, "invalid_request", "title"),
        (Method::PATCH, session.clone(), b"{}", 400, "invalid_json", "title"),
        (Method::POST, "/v1/sessions".into(), br#"{"model": "gpt-0"}"#, 400, "invalid_request", "gpt-0"),
        (Method::POST, "/v1/sessions".into(), br#"{"titel": "x"}"#, 400, "invalid_json", "titel"),
        (Method::GET, "/v1/sessions?limit=0".into(), b"", 400, "invalid_request", "limit"),
        (Method::POST, "/v1/sessions".into(), b"[]", 400, "invalid_json", "object"),
        (Method::GET, "/v1/sessions?cursor=a&limit=many".into(), b"", 400, "invalid_request", "limit=many"),
        (Method::GET, "/docs/nope".into(), b"", 404, "not_found", "/docs/nope"),
        (Method::GET, "/v1/sessions?cursor=x".into(), b"", 400, "invalid_request", "next_cursor"),
        (Method::GET, "/v1/sessions?colour=red".into(), b"", 400, "invalid_request", "colour"),
        (Method::GET, format!("{session}/events?after=-1"), b"", 400, "invalid_request", "after=-1"),
        (Method::GET, format!("{session}/events?after=x"), b"", 400, "invalid_request", ""),
        (Method::GET, format!("{session}/ws"), b"", 426, "upgrade_required", "WebSocket"),
        (Method::GET, "/v1/sessions/7".into(), b"", 400, "invalid_request", "UUID"),
        (Method::GET, "/v1/sessions/..%2f..%2fetc%2fpasswd".into(), b"", 400, "invalid_request", "UUID"),
        (Method::DELETE, format!("/v1/sessions/{}", "A".repeat(300)), b"", 400, "invalid_request", "UUID"),
        (Method::GET, unknown.into(), b"", 404, "session_not_found", ""),
        (Method::POST, format!("{unknown}/messages"), br#"{"content": "x"}"#, 404, "session_not_found", ""),
        (Method::POST, format!("{session}/approvals/7"), br#"{"decision": "approve"}"#, 400, "invalid_request", "UUID"),
        (
            Method::POST,
            format!("{session}/approvals/018f0000-0000-7000-8000-000000000000"),
            br#"{"decision": "approve"}"#,
            404,
            "approval_not_found",
            "",
        ),
        (Method::GET, "/v1/nothing".into(), b"", 404, "not_found", "/openapi.json"),
        (Method::GET, "/nothing".into(), b"", 404, "not_found", "/docs"),
        (Method::PUT, "/v1/sessions".into(), b"", 405, "method_not_allowed", "POST"),
        (Method::POST, session.clone(), b"", 405, "method_not_allowed", "PATCH"),
        (Method::DELETE, "/healthz".into(), b"", 405, "method_not_allowed", "GET"),
    ];
    for (method, path, body, status, code, says) in cases {
        let request =
            service.request(method.clone(), &path).header("content-type", "application/json").body(body.to_vec());
        let (found, problem) = service.refused(request).await;
        let what = format!("{method} {path} {}: {problem}", String::from_utf8_lossy(&body[..body.len().min(60)]));
        assert_eq!((found, problem["code"].as_str().unwrap()), (status, code), "{what}");
        assert!(problem["detail"].as_str().unwrap().contains(says), "{what}");
        assert_eq!(problem["type"], format!("urn:k8sops:problem:{code}"), "{what}");
    }
    let frames = service.turn(&session, "still there?").await;
    assert_eq!(frames.last().unwrap()["outcome"], "completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_header_values_are_rejected() {
    let service = TestService::with(&ScriptedModel::new([])).await;
    let session = service.create_session().await;
    let long = "k".repeat(129);
    for key in ["", "two words", long.as_str()] {
        let request = service
            .request(Method::POST, &format!("{session}/messages"))
            .header("idempotency-key", key)
            .json(&json!({"content": "x"}));
        let (status, problem) = service.refused(request).await;
        assert_eq!((status, &problem["code"]), (400, &json!("invalid_request")), "{key:?}");
    }
    let request = service.request(Method::GET, &format!("{session}/events")).header("last-event-id", "abc");
    assert_eq!(service.refused(request).await.0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_response_has_security_headers() {
    let service = TestService::with(&ScriptedModel::new([])).await;
    let session = service.create_session().await;
    let foreign = |request: RequestBuilder| request.header("origin", "https://elsewhere.example");
    let cases = [
        (service.request(Method::GET, &session), 200),
        (service.request(Method::GET, &format!("{session}/events?follow=false")), 200),
        (service.request(Method::POST, &format!("{session}/messages")).body("{"), 400),
        (service.request(Method::GET, "/v1/nothing"), 404),
        (service.request(Method::DELETE, "/v1/info"), 405),
        (foreign(service.request(Method::GET, &session)), 403),
        (service.request(Method::GET, "/healthz"), 200),
        (service.request(Method::GET, "/metrics"), 200),
        (service.request(Method::GET, "/openapi.json"), 200),
        (service.request(Method::GET, "/docs/"), 200),
    ];
    for (request, status) in cases {
        let response = request.send().await.unwrap();
        let path = response.url().path().to_owned();
        assert_eq!(response.status(), status, "{path}");
        let header = |name: &str| response.headers().get(name).map_or("", |value| value.to_str().unwrap());
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!((header("x-frame-options"), header("referrer-policy")), ("DENY", "no-referrer"), "{path}");
        assert_eq!(header("cross-origin-resource-policy"), "same-origin", "{path}");
        assert!(header("content-security-policy").contains("frame-ancestors 'none'"), "{path}");
        assert_eq!(header("cache-control") == "no-store", path.starts_with("/v1/"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_method_returns_allow_header() {
    let service = TestService::with(&ScriptedModel::new([])).await;
    let response = service.request(Method::PUT, "/v1/sessions").send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers()["allow"].to_str().unwrap()), (405, "GET, HEAD, POST"));
}

#[tokio::test(flavor = "multi_thread")]
async fn full_inbox_is_reported() {
    let gate = k8sops_testing::scripted_model::TestGate::new();
    let model = ScriptedModel::new([vec![k8sops_testing::scripted_model::ReplyStep::Wait(gate.clone())]]);
    let service = TestService::with(&model).await;
    let session = service.create_session().await;
    let path = format!("{session}/messages");
    service.post(&path, json!({"content": "long"})).await;
    gate.arrived().await;
    for n in 0..k8sops_core::INBOX_LIMIT {
        service.post(&path, json!({"content": format!("m{n}")})).await;
    }
    let response = service.request(Method::POST, &path).json(&json!({"content": "one more"})).send().await.unwrap();
    assert_eq!(response.headers()["retry-after"], "1");
    let (status, problem) = crate::service::problem(response).await;
    assert_eq!((status, &problem["code"]), (429, &json!("inbox_full")));
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_origins_and_hosts_are_rejected() {
    let service = TestService::with(&ScriptedModel::new([])).await;
    let own = service.base.clone();
    for (header, value, status) in [
        ("origin", "https://evil.example", 403),
        ("origin", "null", 403),
        ("host", "evil.example", 403),
        ("origin", own.as_str(), 201),
        ("host", "localhost:8080", 201),
    ] {
        let response = service.request(Method::POST, "/v1/sessions").header(header, value).send().await.unwrap();
        assert_eq!(response.status(), status, "{header}: {value}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn client_that_sends_too_large_a_body_before_it_reads_learns_why() {
    let env = vec![("K8SOPS_MAX_FRAME_BYTES", "4096".into())];
    let service = TestService::start(ServiceSetup { env, ..ServiceSetup::default() }).await;
    let address = service.base.trim_start_matches("http://");
    let mut client = TcpStream::connect(address).await.unwrap();
    let part = vec![b'x'; 1 << 20];
    let length = 12 * part.len();
    let head = format!("POST /v1/sessions HTTP/1.1\r\nhost: {address}\r\ncontent-length: {length}\r\n\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..12 {
        client.write_all(&part).await.expect("the service reads the body");
    }
    let mut status = [0; 12];
    client.read_exact(&mut status).await.unwrap();
    assert_eq!(status, *b"HTTP/1.1 413");
}
