use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use k8sops_core::ErrorChain;
use parking_lot::Mutex;
use secrecy::SecretString;
use serde_json::{Map, Value};

use super::http_server::{HttpRequest, HttpResponse, discover_server, initialize_server, serve, start_hub};
use crate::{
    CallError, CallOutput, ConnectionHandler, McpCallContext, McpHub, McpTransport, WAITS_FOR_TOKEN, build_connector,
    test_server::{TEST_TIMEOUT, eventually, test_call_context},
};

/// A request that the server received.
struct ReceivedRequest {
    method: String,
    token: String,
    session: String,
}

type ReceivedRequests = Arc<Mutex<Vec<ReceivedRequest>>>;

/// Starts a server that accepts the tokens `anna` and `ben`, and gives each a separate session.
async fn start_server(respond: fn(&HttpRequest) -> HttpResponse) -> (SocketAddr, ReceivedRequests) {
    let received = ReceivedRequests::default();
    let log = received.clone();
    let address = serve(move |request| {
        let token = request.header("authorization");
        let session = request.header("mcp-session-id");
        log.lock().push(ReceivedRequest { method: request.method.clone(), token: token.clone(), session });
        match (token.as_str(), request.method.as_str()) {
            ("Bearer anna", "initialize") => ("200 OK\r\nmcp-session-id: of-anna", respond(request).1),
            ("Bearer ben", "initialize") => ("200 OK\r\nmcp-session-id: of-ben", respond(request).1),
            ("Bearer anna" | "Bearer ben", _) => respond(request),
            _ => ("401 Unauthorized", Value::Null),
        }
    })
    .await;
    (address, received)
}

fn per_user_transport(address: SocketAddr) -> McpTransport {
    let headers = BTreeMap::from([("Authorization".to_owned(), SecretString::from("Bearer ${user.token}"))]);
    McpTransport::Http { url: format!("http://{address}/mcp"), headers, ssl_verify: true }
}

async fn call_as(hub: &McpHub, token: Option<&str>) -> Result<CallOutput, CallError> {
    let context = McpCallContext { user_token: token.map(SecretString::from), ..test_call_context(TEST_TIMEOUT) };
    hub.call_tool("web", "t", Map::new(), context).await
}

fn tokens_and_sessions(received: &ReceivedRequests, method: &str) -> Vec<(String, String)> {
    let received = received.lock();
    let matching = received.iter().filter(|request| request.method == method);
    matching.map(|request| (request.token.clone(), request.session.clone())).collect()
}

#[tokio::test]
async fn each_user_has_their_own_token_and_session() {
    let (address, received) = start_server(initialize_server).await;
    let hub = start_hub(&per_user_transport(address));
    for user in ["anna", "ben", "anna"] {
        assert_eq!(call_as(&hub, Some(user)).await.unwrap().text, "fine");
    }
    let pair = |token: &str, session: &str| (token.to_owned(), session.to_owned());
    assert_eq!(
        tokens_and_sessions(&received, "tools/call"),
        [pair("Bearer anna", "of-anna"), pair("Bearer ben", "of-ben"), pair("Bearer anna", "of-anna")]
    );
    assert_eq!(tokens_and_sessions(&received, "initialize").len(), 2, "a user's connection is kept");
    hub.close().await;
    for ReceivedRequest { method, token, session } in received.lock().iter() {
        let is_own_session = token.strip_prefix("Bearer ") == session.strip_prefix("of-");
        assert!(session.is_empty() || is_own_session, "{method} with {token} in {session}");
    }
}

#[tokio::test]
async fn users_without_sessions_are_separate_too() {
    let (address, received) = start_server(discover_server).await;
    let hub = start_hub(&per_user_transport(address));
    let (anna, ben) = tokio::join!(call_as(&hub, Some("anna")), call_as(&hub, Some("ben")));
    assert!(anna.is_ok() && ben.is_ok(), "{anna:?} {ben:?}");
    let calls = tokens_and_sessions(&received, "tools/call");
    let mut tokens = calls.into_iter().map(|(token, _)| token).collect::<Vec<_>>();
    tokens.sort_unstable();
    assert_eq!(tokens, ["Bearer anna", "Bearer ben"]);
    hub.close().await;
}

#[tokio::test]
async fn nothing_is_sent_without_a_token() {
    let (address, received) = start_server(initialize_server).await;
    let hub = start_hub(&per_user_transport(address));
    hub.wait_for_first_attempts().await;
    hub.refresh_tools().await;
    assert!(!hub.all_connected());
    assert_eq!(hub.statuses()[0].error.as_deref(), Some(WAITS_FOR_TOKEN));
    for token in [None, Some(""), Some(" ")] {
        let outcome = call_as(&hub, token).await;
        let Err(CallError::NotSent(reason)) = &outcome else { panic!("{outcome:?}") };
        assert!(reason.to_string().contains("requires the calling user's own token"), "{reason}");
    }
    // Not through the connection of another user.
    assert!(call_as(&hub, Some("anna")).await.is_ok());
    let request_count = received.lock().len();
    assert!(matches!(call_as(&hub, None).await, Err(CallError::NotSent(_))));
    assert_eq!(received.lock().len(), request_count);
    // Not by the connector itself, which would send the text `${user.token}`.
    let connector = build_connector(&per_user_transport(address)).unwrap();
    assert!(connector.connect(ConnectionHandler::new("web".into()), TEST_TIMEOUT).await.is_err());
    assert_eq!(received.lock().len(), request_count);
    hub.close().await;
}

#[tokio::test]
async fn rejected_user_does_not_use_the_connection_of_another() {
    let (address, received) = start_server(initialize_server).await;
    let hub = start_hub(&per_user_transport(address));
    assert!(call_as(&hub, Some("anna")).await.is_ok());
    for token in ["mallory", "no\nheader"] {
        let outcome = call_as(&hub, Some(token)).await;
        let Err(CallError::NotSent(reason)) = &outcome else { panic!("{outcome:?}") };
        let text = format!("{} {reason:?}", ErrorChain(reason));
        assert!(!text.contains(token), "{text}");
    }
    assert_eq!(tokens_and_sessions(&received, "tools/call").len(), 1);
    assert!(hub.all_connected(), "other users stay connected");
    hub.close().await;
}

#[tokio::test]
async fn connecting_a_user_discovers_the_tools() {
    let (address, _) = start_server(discover_server).await;
    let hub = start_hub(&per_user_transport(address));
    hub.connect_user(&SecretString::from("mallory")).await;
    assert!(hub.statuses()[0].tools.is_empty());
    hub.connect_user(&SecretString::from("ben")).await;
    eventually("the tools are listed", || hub.statuses()[0].tools.len() == 1 && hub.all_connected()).await;
    hub.close().await;
    assert!(!hub.all_connected());
    assert_eq!(hub.statuses()[0].tools.len(), 1, "the tools stay known");
}

#[tokio::test]
async fn token_is_not_sent_to_another_origin() {
    let (other_origin, received) = start_server(initialize_server).await;
    let status: &'static str = format!("307 Temporary Redirect\r\nlocation: http://{other_origin}/mcp").leak();
    let redirecting = serve(move |_| (status, Value::Null)).await;
    let hub = start_hub(&per_user_transport(redirecting));
    assert!(matches!(call_as(&hub, Some("anna")).await, Err(CallError::NotSent(_))));
    assert!(received.lock().is_empty());
    hub.close().await;
}
