use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use k8sops_core::ErrorChain;
use parking_lot::Mutex;
use secrecy::SecretString;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

use super::http_server::{initialize_server, serve, start_hub, transport_with_secrets};
use crate::{
    CallError, ConnectError, ConnectionHandler, McpTransport, build_connector,
    test_server::{TEST_TIMEOUT, eventually, test_call_context},
};

async fn connect_error(address: SocketAddr) -> ConnectError {
    let connector = build_connector(&transport_with_secrets(address)).unwrap();
    connector.connect(ConnectionHandler::new("web".into()), TEST_TIMEOUT).await.expect_err("it cannot connect")
}

#[tokio::test]
async fn falls_back_to_initialize() {
    let hub = start_hub(&transport_with_secrets(serve(initialize_server).await));
    eventually("the server is connected", || hub.all_connected()).await;
    let output = hub.call_tool("web", "t", Map::new(), test_call_context(TEST_TIMEOUT)).await.unwrap();
    assert_eq!(output.text, "fine");
    hub.close().await;
}

#[tokio::test]
async fn error_without_id_fails_its_call_and_has_the_server_checked() {
    let restarted = Arc::new(AtomicBool::new(false));
    let address = serve({
        let restarted = restarted.clone();
        move |request| {
            let restarted = restarted.load(Ordering::SeqCst);
            if restarted && request.headers.contains("mcp-session-id: one") {
                let error = json!({"code": -32000, "message": "no valid session"});
                return ("400 Bad Request", json!({"jsonrpc": "2.0", "id": null, "error": error}));
            }
            let (status, body) = initialize_server(request);
            let is_second_session = restarted && request.method == "initialize";
            (if is_second_session { "200 OK\r\nmcp-session-id: two" } else { status }, body)
        }
    })
    .await;
    let hub = start_hub(&transport_with_secrets(address));
    eventually("the server is connected", || hub.all_connected()).await;
    restarted.store(true, Ordering::SeqCst);
    let outcome = hub.call_tool("web", "t", Map::new(), test_call_context(TEST_TIMEOUT)).await;
    assert_eq!(outcome, Err(CallError::Refused("no valid session".into())));
    eventually("a new session is open", || hub.version() >= 3 && hub.all_connected()).await;
    assert!(hub.call_tool("web", "t", Map::new(), test_call_context(TEST_TIMEOUT)).await.is_ok());
    hub.close().await;
}

#[tokio::test]
async fn errors_contain_neither_url_nor_headers() {
    let closed_port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = connect_error(closed_port).await;
    let text = ErrorChain(&error).to_string();
    assert!(text.starts_with("cannot reach the server: connection failed: "), "{text}");
    assert!(!text.contains("hunter2") && !format!("{error:?}").contains("hunter2"), "{error:?}");
    let error = connect_error(serve(|_| ("401 Unauthorized", Value::Null)).await).await;
    let text = ErrorChain(&error).to_string();
    assert!(text.contains("401") && !text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn redirect_to_another_origin_is_not_followed() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let other_origin = serve({
        let seen = seen.clone();
        move |request| {
            seen.lock().push(request.headers.clone());
            initialize_server(request)
        }
    })
    .await;
    let status: &'static str = format!("307 Temporary Redirect\r\nlocation: http://{other_origin}/mcp").leak();
    let error = connect_error(serve(move |_| (status, Value::Null)).await).await;
    assert!(matches!(error, ConnectError::Handshake(_)), "{error:?}");
    assert!(seen.lock().is_empty(), "the credentials were sent to another origin");
}

#[test]
fn invalid_urls_and_headers_are_rejected_without_quoting_them() {
    let build = |url: &str, name: &str, value: &str| {
        let headers = BTreeMap::from([(name.to_owned(), SecretString::from(value))]);
        build_connector(&McpTransport::Http { url: url.to_owned(), headers, ssl_verify: true }).err()
    };
    assert_eq!(build("https://mcp.example/mcp", "x-key", "v"), None);
    for error in [build("ftp://hunter2@x", "a", "v"), build("no url", "a", "v"), build("http://x", "a", "hunter2\n")] {
        let error = error.expect("it is rejected");
        let text = format!("{} {error:?}", ErrorChain(&error));
        assert!(!text.contains("hunter2"), "{text}");
    }
    assert!(build("http://x", "a b", "v").is_some());
}
