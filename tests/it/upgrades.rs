//! Requests to take over their connection (`Upgrade: websocket`), byte by byte.

use k8sops::auth::UserRole;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    keys::ApiKeyFile,
    service::{ServiceSetup, TestService},
};
use k8sops_testing::{TEST_TIMEOUT, eventually, scripted_model::ScriptedModel};

/// Opens a connection to the service and sends these bytes.
async fn send_bytes(service: &TestService, bytes: &[u8]) -> TcpStream {
    let mut client = TcpStream::connect(service.base.trim_start_matches("http://")).await.unwrap();
    client.write_all(bytes).await.unwrap();
    client
}

/// Receives until there is this text.
async fn receive_until(client: &mut TcpStream, end: &str) -> String {
    let mut received = Vec::new();
    let receiving = async {
        loop {
            let text = String::from_utf8_lossy(&received);
            if text.contains(end) {
                return text.into_owned();
            }
            assert_ne!(client.read_buf(&mut received).await.unwrap(), 0, "the connection is open");
        }
    };
    timeout(TEST_TIMEOUT, receiving).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn request_to_upgrade_what_is_no_websocket_is_answered() {
    let service = TestService::start(ServiceSetup::default()).await;
    let session = service.create_session().await;
    for (request, status, part) in [
        ("GET /v1/info HTTP/1.1\r\n", "200", "\"version\""),
        ("GET /v1/none HTTP/1.1\r\n", "404", "not_found"),
        ("POST /v1/sessions HTTP/1.1\r\ncontent-type: application/json\r\n", "201", "session_id"),
        ("HEAD /v1/info HTTP/1.1\r\n", "200", "content-length"),
        // The body would be lost.
        ("POST /v1/sessions HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 2\r\n", "400", "body"),
        (&format!("GET {session}/events?follow=false HTTP/1.1\r\n"), "200", "\r\n\r\nretry: "),
    ] {
        let head = format!("{request}host: 127.0.0.1\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n");
        let mut client = send_bytes(&service, head.as_bytes()).await;
        let mut response = String::new();
        timeout(TEST_TIMEOUT, client.read_to_string(&mut response)).await.unwrap().unwrap();
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {response}");
        assert!(response.contains("connection: close") && response.contains(part), "{request}: {response}");
        assert!(!response.contains("transfer-encoding"), "{request}: {response}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frame_sent_with_the_handshake_is_a_command() {
    let service = TestService::start(ServiceSetup::default()).await;
    let session = service.create_session().await;
    let mut bytes = format!(
        "GET {session}/ws HTTP/1.1\r\nhost: 127.0.0.1\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into_bytes();
    // A masked text frame of two bytes.
    bytes.extend([0x81, 0x82, 0, 0, 0, 0, b'h', b'i']);
    receive_until(&mut send_bytes(&service, &bytes).await, "\"ack\"").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_ends_when_its_client_sends_no_more() {
    let service = TestService::with(&ScriptedModel::new([])).await;
    let session = service.create_session().await;
    for accept in ["text/event-stream", "application/x-ndjson"] {
        for upgrade in ["", "upgrade: websocket\r\nconnection: upgrade\r\n"] {
            let head = format!("GET {session}/events HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: {accept}\r\n{upgrade}\r\n");
            let mut client = send_bytes(&service, head.as_bytes()).await;
            receive_until(&mut client, "\"hello\"").await;
            // A frame for a WebSocket that is none does not hide the end behind it.
            client.write_all(if upgrade.is_empty() { b"" } else { b"\x81\x82\0\0\0\0hi" }).await.unwrap();
            client.shutdown().await.unwrap();
            let mut rest = Vec::new();
            let following = client.read_to_end(&mut rest);
            let ended = timeout(TEST_TIMEOUT, following).await;
            assert!(ended.is_ok(), "{accept}, {upgrade:?}: still open");
        }
    }
    eventually("no stream is counted as open", async || {
        let metrics = service.request(reqwest::Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
        let open = metrics.lines().filter(|line| line.starts_with("k8sops_streams_open{"));
        open.clone().count() > 0 && open.clone().all(|line| line.ends_with(" 0"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn handshake_of_another_version_is_told_ours() {
    let service = TestService::with(&ScriptedModel::new([])).await;
    let session = service.create_session().await;
    for path in [format!("{session}/ws"), "/v1/events".to_owned()] {
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
             sec-websocket-version: 8\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        let mut client = send_bytes(&service, head.as_bytes()).await;
        let mut response = String::new();
        timeout(TEST_TIMEOUT, client.read_to_string(&mut response)).await.unwrap().unwrap();
        assert!(response.starts_with("HTTP/1.1 426 "), "{path}: {response}");
        for part in ["\r\nsec-websocket-version: 13\r\n", "\r\nupgrade: websocket\r\n", "\"upgrade_required\""] {
            assert!(response.contains(part), "{path}: no {part:?} in {response}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn client_that_names_no_host_is_told_the_address_it_called() {
    let mut keys = ApiKeyFile::new();
    keys.add("anna", &[UserRole::User]);
    let mut env = keys.env();
    env.push(("K8SOPS_HOST", "0.0.0.0".into()));
    let service = TestService::start(ServiceSetup { env, ..ServiceSetup::default() }).await;
    let mut client = send_bytes(&service, b"GET /.well-known/agent-card.json HTTP/1.0\r\n\r\n").await;
    let mut response = String::new();
    timeout(TEST_TIMEOUT, client.read_to_string(&mut response)).await.unwrap().unwrap();
    let card: Value = serde_json::from_str(response.split_once("\r\n\r\n").unwrap().1).unwrap();
    let url = card["supportedInterfaces"][0]["url"].as_str().unwrap();
    assert!(url.starts_with(&service.base), "{url} is not at {}", service.base);
}

#[tokio::test(flavor = "multi_thread")]
async fn handshake_behind_a_pending_request_is_answered() {
    let service = TestService::with(&ScriptedModel::new([])).await;
    let session = service.create_session().await;
    let requests = format!(
        "POST /v1/sessions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}\
         GET {session}/ws HTTP/1.1\r\nhost: 127.0.0.1\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let mut client = send_bytes(&service, requests.as_bytes()).await;
    let received = receive_until(&mut client, "\"hello\"").await;
    let positions = ["HTTP/1.1 201 ", "HTTP/1.1 101 "].map(|status| received.find(status));
    assert!(positions[0] == Some(0) && positions[1].is_some(), "{received}");
}
