use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use secrecy::SecretString;
use serde_json::{Map, Value};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::http::{Request, new_server, old_server, serve};
use crate::{
    CallError, CallOutput, ConnectionHandler, McpCallContext, McpHub, McpTransport, WAITS_FOR_TOKEN, build_connector,
    test_server::{TEST_TIMEOUT, eventually, test_call_context, test_options},
};

/// What every request came with: its method, its token and its session.
type Seen = Arc<Mutex<Vec<(String, String, String)>>>;

fn header(request: &Request, name: &str) -> String {
    let lines = request.headers.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).collect()
}

/// A server that lets `anna` and `ben` in, and gives each a session of their own.
async fn server(era: fn(&Request) -> (&'static str, Value)) -> (SocketAddr, Seen) {
    let seen = Seen::default();
    let log = seen.clone();
    let address = serve(move |request| {
        let token = header(request, "authorization");
        log.lock().unwrap().push((request.method.clone(), token.clone(), header(request, "mcp-session-id")));
        match (token.as_str(), request.method.as_str()) {
            ("Bearer anna", "initialize") => ("200 OK\r\nmcp-session-id: of-anna", era(request).1),
            ("Bearer ben", "initialize") => ("200 OK\r\nmcp-session-id: of-ben", era(request).1),
            ("Bearer anna" | "Bearer ben", _) => era(request),
            _ => ("401 Unauthorized", Value::Null),
        }
    })
    .await;
    (address, seen)
}

fn per_user(address: SocketAddr) -> McpTransport {
    let headers = BTreeMap::from([("Authorization".to_owned(), SecretString::from("Bearer ${user.token}"))]);
    McpTransport::Http { url: format!("http://{address}/mcp"), headers, ssl_verify: true }
}

fn hub_on(address: SocketAddr) -> Arc<McpHub> {
    let servers = vec![("web".to_owned(), build_connector(&per_user(address)).unwrap())];
    McpHub::start(servers, &test_options(), TaskTracker::new(), &CancellationToken::new())
}

async fn call_as(hub: &McpHub, token: Option<&str>) -> Result<CallOutput, CallError> {
    let context = McpCallContext { user_token: token.map(SecretString::from), ..test_call_context(TEST_TIMEOUT) };
    hub.call_tool("web", "t", Map::new(), context).await
}

fn sessions_and_tokens_of(seen: &Seen, method: &str) -> Vec<(String, String)> {
    let seen = seen.lock().unwrap();
    seen.iter().filter(|(m, ..)| m == method).map(|(_, token, session)| (token.clone(), session.clone())).collect()
}

#[tokio::test]
async fn each_user_calls_with_their_own_token_and_in_their_own_session() {
    let (address, seen) = server(old_server).await;
    let hub = hub_on(address);
    for user in ["anna", "ben", "anna"] {
        assert_eq!(call_as(&hub, Some(user)).await.unwrap().text, "fine");
    }
    let pair = |token: &str, session: &str| (token.to_owned(), session.to_owned());
    assert_eq!(
        sessions_and_tokens_of(&seen, "tools/call"),
        [pair("Bearer anna", "of-anna"), pair("Bearer ben", "of-ben"), pair("Bearer anna", "of-anna")]
    );
    assert_eq!(sessions_and_tokens_of(&seen, "initialize").len(), 2, "a user's connection is kept");
    hub.close().await;
    // To the very end: every request of a session came with the token that it was opened with.
    for (method, token, session) in seen.lock().unwrap().iter() {
        assert!(session.is_empty() || token.strip_prefix("Bearer ") == session.strip_prefix("of-"), "{method}");
    }
}

#[tokio::test]
async fn users_of_a_server_without_sessions_are_kept_apart_too() {
    let (address, seen) = server(new_server).await;
    let hub = hub_on(address);
    let (anna, ben) = tokio::join!(call_as(&hub, Some("anna")), call_as(&hub, Some("ben")));
    assert!(anna.is_ok() && ben.is_ok(), "{anna:?} {ben:?}");
    let mut tokens = sessions_and_tokens_of(&seen, "tools/call").into_iter().map(|(t, _)| t).collect::<Vec<_>>();
    tokens.sort_unstable();
    assert_eq!(tokens, ["Bearer anna", "Bearer ben"]);
    hub.close().await;
}

#[tokio::test]
async fn without_a_token_nothing_is_sent() {
    let (address, seen) = server(old_server).await;
    let hub = hub_on(address);
    hub.wait_for_first_attempts().await;
    hub.refresh_tools().await;
    assert!(!hub.all_connected());
    assert_eq!(hub.statuses()[0].error.as_deref(), Some(WAITS_FOR_TOKEN));
    for token in [None, Some(""), Some(" ")] {
        let outcome = call_as(&hub, token).await;
        assert!(
            matches!(&outcome, Err(CallError::NotSent(why)) if why.contains("needs the calling user's own token")),
            "{outcome:?}"
        );
    }
    // Not by somebody who is connected either.
    assert!(call_as(&hub, Some("anna")).await.is_ok());
    let before = seen.lock().unwrap().len();
    assert!(matches!(call_as(&hub, None).await, Err(CallError::NotSent(_))));
    assert_eq!(seen.lock().unwrap().len(), before);
    // Nor by the connector itself, which would send the words `${user.token}`.
    let alone = build_connector(&per_user(address)).unwrap();
    assert!(alone.connect(ConnectionHandler::new("web".into()), TEST_TIMEOUT).await.is_err());
    assert_eq!(seen.lock().unwrap().len(), before);
    hub.close().await;
}

#[tokio::test]
async fn a_user_who_is_not_let_in_has_nobody_elses_connection() {
    let (address, seen) = server(old_server).await;
    let hub = hub_on(address);
    assert!(call_as(&hub, Some("anna")).await.is_ok());
    for token in ["mallory", "no\nheader"] {
        let outcome = call_as(&hub, Some(token)).await;
        assert!(matches!(&outcome, Err(CallError::NotSent(why)) if !why.contains(token)), "{outcome:?}");
    }
    assert_eq!(sessions_and_tokens_of(&seen, "tools/call").len(), 1);
    assert!(hub.all_connected(), "it works for others");
    hub.close().await;
}

#[tokio::test]
async fn the_tools_are_known_as_soon_as_a_user_is_welcomed() {
    let (address, _) = server(new_server).await;
    let hub = hub_on(address);
    hub.connect_user(&SecretString::from("mallory")).await;
    assert!(hub.statuses()[0].tools.is_empty());
    hub.connect_user(&SecretString::from("ben")).await;
    eventually("the tools are there", || hub.statuses()[0].tools.len() == 1 && hub.all_connected()).await;
    hub.close().await;
    assert!(!hub.all_connected());
    assert_eq!(hub.statuses()[0].tools.len(), 1, "the tools stay known");
}

#[tokio::test]
async fn a_token_does_not_follow_to_another_origin() {
    let (elsewhere, seen) = server(old_server).await;
    let status: &'static str = format!("307 Temporary Redirect\r\nlocation: http://{elsewhere}/mcp").leak();
    let hub = hub_on(serve(move |_| (status, Value::Null)).await);
    assert!(matches!(call_as(&hub, Some("anna")).await, Err(CallError::NotSent(_))));
    assert!(seen.lock().unwrap().is_empty());
    hub.close().await;
}
