//! Answers in plain JSON that no JSON parser accepts.

use std::net::SocketAddr;

use k8sops_core::ErrorChain;
use serde_json::Map;
use tokio::io::AsyncWriteExt;

use super::http_server::{HttpRequest, initialize_server, listen, start_hub, transport_with_secrets};
use crate::{
    CallError, CallOutput,
    test_server::{TEST_TIMEOUT, eventually, test_call_context},
};

/// Starts a server that answers calls with this status line and body, in which `ID` stands for the id of the request.
async fn serve_calls(status: &'static str, body: &'static [u8]) -> SocketAddr {
    listen(move |mut stream| async move {
        let Some(request) = HttpRequest::read_from(&mut stream).await? else { return Ok(()) };
        let (status, body) = if request.method == "tools/call" {
            let id = request.id.to_string();
            let at = body.windows(2).position(|bytes| bytes == b"ID").unwrap_or(body.len());
            let rest = body.get(at + 2..).unwrap_or_default();
            (status, [&body[..at], id.as_bytes(), rest].concat())
        } else {
            let (status, body) = initialize_server(&request);
            (status, if body.is_null() { Vec::new() } else { body.to_string().into_bytes() })
        };
        let kind =
            if status.contains("content-type") { "" } else { "\r\ncontent-type: application/json; charset=utf-8" };
        let head = format!("HTTP/1.1 {status}{kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&body).await
    })
    .await
}

async fn call(status: &'static str, body: &'static [u8]) -> Result<CallOutput, CallError> {
    let hub = start_hub(&transport_with_secrets(serve_calls(status, body).await));
    eventually("the server is connected", || hub.all_connected()).await;
    let outcome = hub.call_tool("web", "t", Map::new(), test_call_context(TEST_TIMEOUT)).await;
    hub.close().await;
    outcome
}

#[tokio::test]
async fn invalid_parts_of_an_answer_cost_only_themselves() {
    let rows: [(&[u8], &str); 5] = [
        (br#"{"jsonrpc":"2.0","id":ID,"result":{"content":[{"type":"text","text":"cut \ud83d"}]}}"#, "cut \u{fffd}"),
        (b"{\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{\"content\":[{\"type\":\"text\",\"text\":\"caf\xe9\"}]}}", "caf\u{fffd}"),
        (
            br#"{"jsonrpc":"2.0","id":ID,"result":{"content":[{"type":"text","text":"ok"}],"structuredContent":{"cpu":NaN}}}"#,
            "ok",
        ),
        (
            br#"{"jsonrpc":"2.0","id":ID,"result":{"content":[{"type":"text","text":"m"}],"_meta":{"load":-Infinity}}}"#,
            "m",
        ),
        (br#"{"jsonrpc":"2.0","id":ID,"result":{"content":[{"type":"text","text":"fine"}]}}"#, "fine"),
    ];
    for (body, expected) in rows {
        let output = call("200 OK", body).await.unwrap();
        assert_eq!(output.text, expected);
    }
}

#[tokio::test]
async fn plain_texts_of_failures_are_told() {
    for (status, is_certain) in [
        ("500 Internal Server Error\r\ncontent-type: text/plain", false),
        ("503 Service Unavailable", false),
        ("429 Too Many Requests\r\ncontent-type: text/plain; charset=utf-8", true),
        ("401 Unauthorized\r\ncontent-type: text/plain", true),
    ] {
        let error = call(status, b"zebra is asleep").await.unwrap_err();
        assert_eq!(matches!(error, CallError::Refused(_)), is_certain, "{status}: {error:?}");
        let text = ErrorChain(&error).to_string();
        assert!(text.contains("zebra is asleep") && text.contains(&status[..3]), "{status}: {text}");
    }
}

#[tokio::test]
async fn failures_keep_their_meaning() {
    let error = br#"{"jsonrpc":"2.0","id":ID,"error":{"message":"no such pod"}}"#;
    for status in ["200 OK", "400 Bad Request", "500 Internal Server Error"] {
        let outcome = call(status, error).await;
        let Err(CallError::Failed(reason) | CallError::Broken(reason)) = &outcome else { panic!("{outcome:?}") };
        assert!(ErrorChain(reason).to_string().contains("no such pod"), "{status}: {reason:?}");
    }
    let rows = [
        ("401 Unauthorized\r\nwww-authenticate: Bearer", "401"),
        ("403 Forbidden", "403"),
        ("429 Too Many Requests", "429"),
        ("503 Service Unavailable\r\ncontent-type: text/html", "503"),
        ("404 Not Found", "does not know the session"),
        ("200 OK\r\ncontent-type: text/html", "ontent type"),
        ("200 OK", "not valid"),
    ];
    for (status, expected) in rows {
        let error = call(status, b"<html>hunter3</html>").await.unwrap_err();
        let text = ErrorChain(&error).to_string();
        assert!(text.contains(expected) && !text.contains("hunter2"), "{status}: {text}");
    }
}
