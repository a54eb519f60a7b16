//! Authentication by API keys, JWTs and proxy headers, and isolation of users.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use k8sops::auth::UserRole;
use k8sops_core::SessionId;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::Command,
};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{self, Message, client::IntoClientRequest as _},
};

use crate::{
    keys::ApiKeyFile,
    service::{ServiceSetup, TestService, problem},
};
use k8sops_testing::{
    TEST_TIMEOUT,
    child_program::ChildProgram,
    counting_server::CountingMcpServer,
    eventually,
    scripted_model::{ScriptedModel, call},
    testbed,
};

async fn request_status(service: &TestService, token: Option<&str>) -> StatusCode {
    let mut request = reqwest::Client::builder().no_proxy().build().unwrap().get(format!("{}/v1/info", service.base));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    request.send().await.unwrap().status()
}

/// Creates a session in which a change waits for approval. Returns its path and the `approval_requested` event.
pub(crate) async fn start_waiting_session(service: &TestService) -> (String, Value) {
    service.wait_for_mcp_servers().await;
    let session = service.create_session().await;
    service.post(&format!("{session}/messages"), json!({"content": "change it"})).await;
    let asked = service.events(&session, "").await.until("approval_requested").await.pop().unwrap();
    (session, asked)
}

pub(crate) fn with_change(env: Vec<(&'static str, String)>, tools: &CountingMcpServer) -> ServiceSetup {
    let model = ScriptedModel::new([vec![call("change", json!({"replicas": 3}))]]);
    ServiceSetup { model: Some(model), servers: vec![tools.connector()], env, ..ServiceSetup::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_enforces_authentication_and_ownership() {
    let mut keys = ApiKeyFile::new();
    let (anna, ben) = (keys.add("anna", &[UserRole::User]), keys.add("ben", &[UserRole::User, UserRole::Approver]));
    let tools = CountingMcpServer::new();
    let mut service = TestService::start(with_change(keys.env(), &tools)).await;
    service.token = Some(anna);
    let (session, asked) = start_waiting_session(&service).await;
    let before = service.log(&session).await.len();

    let document: Value = serde_json::from_str(k8sops::api::openapi_json()).unwrap();
    let open = ["/healthz", "/readyz", "/openapi.json", "/asyncapi.json", "/metrics"];
    // Routes that return the caller's own data. A route that is added later is listed here.
    let own = [
        "/v1/sessions",
        "/v1/usage",
        "/v1/providers",
        "/v1/tools",
        "/v1/tools/refresh",
        "/v1/info",
        "/v1/approvals",
        "/v1/inputs",
        "/v1/memories",
        "/v1/memories/export",
        "/v1/tickets",
    ];
    let (mut unknown, mut foreign) = (0, 0);
    let paths = document["paths"].as_object().unwrap().iter();
    // The link is the credential, and the stream of the account has tests of its own.
    for (path, item) in paths.filter(|(path, _)| !path.starts_with("/shared/") && *path != "/v1/events") {
        for method in ["get", "post", "patch", "delete", "put"] {
            let operation = &item[method];
            let tag = operation["tags"][0].as_str().unwrap_or_default();
            if operation.is_null() || ["door: openai", "door: responses", "door: mcp", "door: a2a"].contains(&tag) {
                continue;
            }
            let target = path
                .replace("{session_id}", session.rsplit('/').next().unwrap())
                .replace("{tool_call_id}", asked["tool_call_id"].as_str().unwrap());
            let id = |path: String, name: &str| path.replace(name, asked["approval_id"].as_str().unwrap());
            let names = ["{approval_id}", "{input_id}", "{memory_id}", "{share_id}", "{message_id}"];
            let target = names.into_iter().fold(target, id);
            let body = match operation["operationId"].as_str().unwrap() {
                "send_message" | "correct_memory" => json!({"content": "mine now"}),
                "update_session" => json!({"title": "mine now"}),
                "update_settings" => json!({"max_tokens": 7}),
                "resolve_approval" => json!({"decision": "approve"}),
                "rate_message" => json!({"rating": "up"}),
                "answer_input" => json!({"action": "decline"}),
                _ => json!({}),
            };
            let ask = |token: Option<&str>| {
                let http = reqwest::Client::builder().no_proxy().build().unwrap();
                let method: Method = method.to_uppercase().parse().unwrap();
                let mut request = http.request(method, format!("{}{target}", service.base)).json(&body);
                if path.ends_with("/ws") {
                    request = request
                        .header("connection", "upgrade")
                        .header("upgrade", "websocket")
                        .header("sec-websocket-version", "13")
                        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
                }
                token.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth)
            };
            if open.contains(&path.as_str()) {
                assert!(ask(None).send().await.unwrap().status().is_success(), "{method} {path}");
                continue;
            }
            assert!(operation["responses"]["401"].is_object() && operation["security"].is_array(), "{method} {path}");
            for token in [None, Some("k8sops_made-up")] {
                let answer = ask(token).send().await.unwrap();
                let challenge = answer.headers().get("www-authenticate").cloned().expect("a challenge");
                assert!(challenge.to_str().unwrap().starts_with("Bearer realm="), "{challenge:?}");
                unknown += 1;
                let (status, found) = problem(answer).await;
                assert_eq!((status, &found["code"]), (401, &json!("unauthenticated")), "{method} {path}");
            }
            if own.contains(&path.as_str()) || tag.starts_with("door: ") {
                let text = ask(Some(&ben)).send().await.unwrap().text().await.unwrap();
                assert!(!text.contains(session.rsplit('/').next().unwrap()), "{method} {path}: {text}");
                continue;
            }
            let (status, found) = problem(ask(Some(&ben)).send().await.unwrap()).await;
            assert_eq!(status, 404, "{method} {path} as another user: {found}");
            foreign += 1;
        }
    }
    assert!(unknown >= 40 && foreign >= 12, "{unknown} {foreign}");
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let (status, _) = problem(http.get(format!("{}/v1/nothing", service.base)).send().await.unwrap()).await;
    assert_eq!(status, 401, "an unknown route does not reveal that it is unknown");
    // No request had an effect.
    assert_eq!(service.log(&session).await.len(), before);
    assert_eq!(tools.count_calls("change"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn key_file_changes_apply_without_restart() {
    let mut keys = ApiKeyFile::new();
    let anna = keys.add("anna", &[UserRole::User]);
    let mut service = TestService::start(ServiceSetup {
        env: keys.env(),
        model: Some(ScriptedModel::new([])),
        ..ServiceSetup::default()
    })
    .await;
    let ben = keys.add("ben", &[UserRole::User]);
    eventually("a new key is known", async || request_status(&service, Some(&ben)).await == 200).await;
    service.token = Some(ben.clone());
    let session = service.create_session().await;
    let mut stream = service.events(&session, "").await;
    stream.until("session_created").await;
    let url = format!("{}{session}/ws", service.base.replace("http", "ws"));
    let mut request = url.into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {ben}").parse().unwrap());
    let (mut socket, _) = connect_async(request).await.unwrap();
    // An invalid file revokes no key.
    std::fs::write(keys.path(), "- user: [").unwrap();
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(
        (request_status(&service, Some(&ben)).await, request_status(&service, Some(&anna)).await),
        (StatusCode::OK, StatusCode::OK)
    );
    keys.remove("ben");
    eventually("a revoked key is not known", async || request_status(&service, Some(&ben)).await == 401).await;
    let rest = stream.rest().await;
    assert_eq!(rest.last().unwrap()["code"], "unauthenticated", "{rest:?}");
    let closed = async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Close(Some(frame)))) => return u16::from(frame.code),
                Some(Ok(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    };
    assert_eq!(tokio::time::timeout(TEST_TIMEOUT, closed).await.expect("the service closes the connection"), 1008);
    assert_eq!(request_status(&service, Some(&anna)).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn mounted_secret_update_changes_the_keys() {
    let mut keys = ApiKeyFile::mounted();
    let (anna, ben) = (keys.add("anna", &[UserRole::User]), keys.add("ben", &[UserRole::User]));
    let setup = ServiceSetup { env: keys.env(), model: Some(ScriptedModel::new([])), ..ServiceSetup::default() };
    let mut service = TestService::start(setup).await;
    service.token = Some(ben.clone());
    let session = service.create_session().await;
    let stream = service.events(&session, "").await;
    let cleo = keys.add("cleo", &[UserRole::User]);
    eventually("a new key is known", async || request_status(&service, Some(&cleo)).await == 200).await;
    keys.remove("ben");
    eventually("a revoked key is not known", async || request_status(&service, Some(&ben)).await == 401).await;
    assert_eq!(stream.rest().await.last().unwrap()["code"], "unauthenticated");
    for others in [&anna, &cleo] {
        assert_eq!(request_status(&service, Some(others)).await, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_limit_what_a_caller_may_do() {
    let mut keys = ApiKeyFile::new();
    let (anna, viewer) = (keys.add("anna", &[UserRole::User]), keys.add("anna", &[UserRole::Viewer]));
    let admin = keys.add("root", &[UserRole::Admin]);
    let mut env = keys.env();
    env.push(("AUTH_METRICS", "admin".into()));
    let mut service =
        TestService::start(ServiceSetup { env, model: Some(ScriptedModel::new([])), ..ServiceSetup::default() }).await;
    service.token = Some(anna);
    let session = service.create_session().await;
    let (status, found) = service.refused(service.request(Method::GET, "/metrics")).await;
    assert_eq!((status, &found["code"]), (403, &json!("role_required")));
    service.token = Some(viewer);
    service.get(&session).await;
    let message = service.request(Method::POST, &format!("{session}/messages")).json(&json!({"content": "x"}));
    let (status, found) = service.refused(message).await;
    assert_eq!((status, &found["code"]), (403, &json!("role_required")));
    // Every spelling of the path is rejected. A URL library would normalize it.
    let mut socket = TcpStream::connect(service.base.trim_start_matches("http://")).await.unwrap();
    let token = service.token.as_ref().unwrap();
    let ask = format!(
        "GET /%6detrics HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
    );
    socket.write_all(ask.as_bytes()).await.unwrap();
    let mut said = String::new();
    socket.read_to_string(&mut said).await.unwrap();
    assert!(said.starts_with("HTTP/1.1 403"), "{said}");
    service.token = Some(admin);
    assert_eq!(service.request(Method::GET, "/metrics").send().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn change_needs_approval_by_another_user() {
    let mut keys = ApiKeyFile::new();
    let anna = keys.add("anna", &[UserRole::User, UserRole::Approver]);
    let (ben, cleo) = (keys.add("ben", &[UserRole::Approver]), keys.add("cleo", &[UserRole::User]));
    let tools = CountingMcpServer::new();
    let mut env = keys.env();
    env.push(("TOOL_APPROVAL_BY", "approver".into()));
    let mut service = TestService::start(with_change(env.clone(), &tools)).await;
    service.token = Some(anna.clone());
    let (session, asked) = start_waiting_session(&service).await;
    let path = format!("{session}/approvals/{}", asked["approval_id"].as_str().unwrap());
    let yes = json!({"decision": "approve"});
    // Anna is an approver, but she owns the session: the approval is not listed for her.
    let (status, found) = service.refused(service.request(Method::POST, &path).json(&yes)).await;
    assert_eq!((status, &found["code"]), (403, &json!("approver_required")), "{found}");
    assert_eq!(service.get("/v1/approvals").await["approvals"], json!([]));
    // For a user without the role the session does not exist.
    service.token = Some(cleo);
    assert_eq!(service.refused(service.request(Method::POST, &path).json(&yes)).await.0, 404);
    assert_eq!(service.get("/v1/approvals").await["approvals"], json!([]));
    // The approval is listed after a restart, too.
    let data = service.stop().await;
    let setup = ServiceSetup { data: Some(data), model: Some(ScriptedModel::new([])), ..with_change(env, &tools) };
    service = TestService::start(setup).await;
    service.token = Some(ben);
    eventually("the approver finds it", async || service.get("/v1/approvals").await["approvals"][0].is_object()).await;
    let listed = service.get("/v1/approvals").await["approvals"][0].clone();
    assert_eq!((&listed["user_id"], &listed["arguments"]), (&json!("anna"), &json!({"replicas": 3})), "{listed}");
    assert_eq!(listed["approval_id"], asked["approval_id"]);
    // Ben sees the approval request and nothing else of the session.
    assert_eq!(service.refused(service.request(Method::GET, &session)).await.0, 404);
    service.wait_for_mcp_servers().await;
    // Requester and approver must differ: editing the arguments makes the approver a requester.
    let own = json!({"decision": "approve", "arguments": {"replicas": 300}});
    let (status, found) = service.refused(service.request(Method::POST, &path).json(&own)).await;
    assert_eq!((status, &found["code"]), (422, &json!("does_not_fit")), "{found}");
    let resolved = service.post(&path, yes.clone()).await;
    assert!(resolved["by"].to_string().contains("ben"), "{resolved}");
    service.token = Some(anna);
    let frames = service.events(&session, "").await.until("run_finished").await;
    let logged = frames.iter().find(|frame| frame["type"] == "approval_resolved").unwrap();
    assert!(logged["by"].to_string().contains("ben"), "{logged}");
    assert_eq!(tools.count_calls("change"), 1);
}

pub(crate) async fn start_issuer() -> ChildProgram {
    let mut command = Command::new(testbed::path("K8SOPS_TEST_PYTHON"));
    command.arg(testbed::path("K8SOPS_TEST_ISSUER")).arg("0");
    ChildProgram::start(&mut command).await
}

async fn post_to_issuer(issuer: &ChildProgram, path: &str, body: Value) -> Value {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    http.post(format!("{}{path}", issuer.url)).json(&body).send().await.unwrap().json().await.unwrap()
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn only_valid_jwts_of_the_issuer_are_accepted() {
    let issuer = start_issuer().await;
    let env = vec![
        ("AUTH_MODE", "jwt".into()),
        ("AUTH_JWT_ISSUER", issuer.url.clone()),
        ("AUTH_JWT_AUDIENCE", "k8sops".into()),
        ("AUTH_JWT_CLOCK_SKEW", "5s".into()),
        ("AUTH_JWT_ROLES_CLAIM", "realm_access.roles".into()),
    ];
    let mut service =
        TestService::start(ServiceSetup { env, model: Some(ScriptedModel::new([])), ..ServiceSetup::default() }).await;
    let roles = json!({"roles": ["user", "offline_access"]});
    let token = async |mut ask: Value| -> String {
        if ask["claims"].get("realm_access").is_none() {
            ask["claims"]["realm_access"] = roles.clone();
        }
        post_to_issuer(&issuer, "/token", ask).await.as_str().unwrap().to_owned()
    };
    for good in [json!({}), json!({"alg": "ES256"}), json!({"claims": {"aud": ["other", "k8sops"]}})] {
        let token = token(good.clone()).await;
        assert_eq!(request_status(&service, Some(&token)).await, 200, "{good}");
    }
    // A user name need not be a valid folder name.
    service.token = Some(token(json!({"claims": {"sub": "auth0|anna"}})).await);
    let session = service.create_session().await;
    service.get(&session).await;
    service.token = Some(token(json!({"claims": {"sub": "auth0-anna"}})).await);
    assert_eq!(service.refused(service.request(Method::GET, &session)).await.0, 404);

    let now = k8sops_core::Timestamp::now().as_millis() / 1000;
    for (bad, why) in [
        (json!({"claims": {"iss": "https://other.example"}}), "another issuer"),
        (json!({"claims": {"aud": "other"}}), "another audience"),
        (json!({"claims": {"aud": null}}), "aud"),
        (json!({"claims": {"exp": now - 60}}), "expired"),
        (json!({"claims": {"exp": null}}), "exp"),
        (json!({"claims": {"nbf": now + 60}}), "not valid yet"),
        (json!({"claims": {"sub": null}}), "does not identify a user"),
        (json!({"claims": {"sub": 7}}), "does not identify a user"),
        (json!({"forge": "other_key"}), "signature"),
        (json!({"forge": "none"}), ""),
        (json!({"alg": "HS256", "forge": "public_key_as_secret"}), "not allowed"),
        (json!({"alg": "PS256"}), "not allowed"),
        (json!({"header": {"kid": "made-up"}}), "does not publish"),
        (json!({"forge": "critical"}), "crit"),
    ] {
        let token = token(bad.clone()).await;
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = http.get(format!("{}/v1/info", service.base)).bearer_auth(&token).send().await.unwrap();
        let (status, found) = problem(answer).await;
        assert_eq!(status, 401, "{bad}: {found}");
        assert!(found["detail"].as_str().unwrap().contains(why), "{bad}: {found}");
        assert!(!found.to_string().contains(&token), "{found}");
    }
    // The token names no key, and only one key fits RS256.
    assert_eq!(request_status(&service, Some(&token(json!({"header": {"kid": null}})).await)).await, 200);
    let without_roles = token(json!({"claims": {"realm_access": {"roles": ["offline_access"]}}})).await;
    assert_eq!(request_status(&service, Some(&without_roles)).await, 403);

    // The issuer rotates its keys: the new key is accepted, the old one is rejected.
    let old = token(json!({})).await;
    assert_eq!(request_status(&service, Some(&old)).await, 200);
    post_to_issuer(&issuer, "/rotate", json!({})).await;
    let new = token(json!({})).await;
    eventually("the new key is fetched", async || request_status(&service, Some(&new)).await == 200).await;
    assert_eq!(request_status(&service, Some(&old)).await, 401);
    // Many tokens with unknown keys do not cause many requests to the issuer.
    let count = async || -> u64 {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        http.get(format!("{}/count", issuer.url)).send().await.unwrap().json().await.unwrap()
    };
    let (before, began) = (count().await, std::time::Instant::now());
    let forged = token(json!({"header": {"kid": "unknown"}})).await;
    for _ in 0..200 {
        assert_eq!(request_status(&service, Some(&forged)).await, 401);
    }
    let most = began.elapsed().as_secs() / 10 + 1;
    assert!(count().await - before <= most, "{} in {:?}", count().await - before, began.elapsed());
    // While the issuer is unavailable, its last keys are used.
    issuer.kill().await;
    assert_eq!(request_status(&service, Some(&new)).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn proxy_header_is_accepted_from_trusted_addresses_only() {
    for (sources, known) in [("127.0.0.0/8", true), ("10.0.0.0/8", false)] {
        let env = vec![
            ("AUTH_MODE", "proxy".into()),
            ("AUTH_PROXY_USER_HEADER", "X-Auth-Request-User".into()),
            ("AUTH_PROXY_SOURCES", sources.into()),
        ];
        let service =
            TestService::start(ServiceSetup { env, model: Some(ScriptedModel::new([])), ..ServiceSetup::default() })
                .await;
        let request = service
            .request(Method::GET, "/v1/sessions")
            .header("x-auth-request-user", "anna")
            .header("x-forwarded-for", "10.0.0.1");
        assert_eq!(request.send().await.unwrap().status() == 200, known, "{sources}");
        let (status, _) = service.refused(service.request(Method::GET, "/v1/sessions")).await;
        assert_eq!(status, 401);
        // A WebSocket needs no `auth` frame: the proxy authenticates its handshake.
        let url = format!("{}/v1/sessions/{}/ws", service.base.replace("http", "ws"), SessionId::new());
        let mut handshake = url.into_client_request().unwrap();
        handshake.headers_mut().insert("sec-websocket-protocol", "k8sops.v1".parse().unwrap());
        handshake.headers_mut().insert("x-auth-request-user", "anna".parse().unwrap());
        let refused = connect_async(handshake).await.expect_err("there is no such session").to_string();
        assert!(refused.contains(if known { "404" } else { "401" }), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn websocket_authenticates_by_subprotocol_or_first_message() {
    let mut keys = ApiKeyFile::new();
    let (anna, ben) = (keys.add("anna", &[UserRole::User]), keys.add("ben", &[UserRole::User]));
    let mut service = TestService::start(ServiceSetup {
        env: keys.env(),
        model: Some(ScriptedModel::new([])),
        ..ServiceSetup::default()
    })
    .await;
    service.token = Some(anna.clone());
    let session = service.create_session().await;
    let open = async |protocols: &str| {
        let url = format!("{}{session}/ws", service.base.replace("http", "ws"));
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", protocols.parse().unwrap());
        connect_async(request).await
    };
    let next = async |socket: &mut tokio_tungstenite::WebSocketStream<_>| {
        tokio::time::timeout(TEST_TIMEOUT, socket.next()).await.expect("a frame").unwrap().unwrap()
    };
    let (mut socket, response) = open(&format!("k8sops.v1, bearer.{anna}")).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "k8sops.v1");
    assert!(next(&mut socket).await.to_text().unwrap().contains("\"hello\""));

    let say = |token: &str| Message::text(json!({"type": "auth", "token": token}).to_string());
    let (mut socket, _) = open("k8sops.v1").await.unwrap();
    socket.send(say(&anna)).await.unwrap();
    assert!(next(&mut socket).await.to_text().unwrap().contains("\"hello\""));

    for (token, code) in [("k8sops_no", "unauthenticated"), (ben.as_str(), "session_not_found")] {
        let (mut socket, _) = open("k8sops.v1").await.unwrap();
        socket.send(say(token)).await.unwrap();
        let refused: Value = serde_json::from_str(next(&mut socket).await.to_text().unwrap()).unwrap();
        assert_eq!((&refused["type"], &refused["code"]), (&json!("error"), &json!(code)));
        assert!(next(&mut socket).await.is_close());
    }
    for first in ["{\"type\":\"message\",\"content\":\"x\"}", "hello", ""] {
        let (mut socket, _) = open("k8sops.v1").await.unwrap();
        if !first.is_empty() {
            socket.send(Message::text(first)).await.unwrap();
        }
        // No frame is sent before authentication, and a client that does not authenticate is disconnected.
        assert!(next(&mut socket).await.is_close(), "{first}");
    }
    for offered in ["other", "bearer.k8sops_no, k8sops.v1"] {
        let Err(tungstenite::Error::Http(answer)) = open(offered).await else { panic!("{offered} is let in") };
        assert_eq!(answer.status(), 401, "{offered}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cors_allows_only_listed_origins() {
    let mut keys = ApiKeyFile::new();
    let anna = keys.add("anna", &[UserRole::User]);
    let mut env = keys.env();
    env.push(("K8SOPS_CORS_ORIGINS", "https://ops.example.com".into()));
    let service =
        TestService::start(ServiceSetup { env, model: Some(ScriptedModel::new([])), ..ServiceSetup::default() }).await;
    let ask =
        |method: Method, origin: &str| service.request(method, "/v1/sessions").header("origin", origin.to_owned());
    let preflight = |origin: &str| ask(Method::OPTIONS, origin).header("access-control-request-method", "POST");
    let answer = preflight("https://ops.example.com").send().await.unwrap();
    assert_eq!(answer.status(), 204);
    assert_eq!(answer.headers()["access-control-allow-origin"], "https://ops.example.com");
    assert!(answer.headers()["access-control-allow-headers"].to_str().unwrap().contains("authorization"));
    assert!(answer.headers().get("access-control-allow-credentials").is_none());
    // The page can read rejections, too.
    let answer = ask(Method::GET, "https://ops.example.com").send().await.unwrap();
    assert_eq!(
        (answer.status(), answer.headers().contains_key("access-control-allow-origin")),
        (StatusCode::UNAUTHORIZED, true)
    );
    let answer = ask(Method::GET, "https://ops.example.com").bearer_auth(&anna).send().await.unwrap();
    assert_eq!(
        (answer.status(), answer.headers().contains_key("access-control-expose-headers")),
        (StatusCode::OK, true)
    );
    for foreign in ["https://ops.example.com.evil.example", "http://ops.example.com", "null"] {
        assert_eq!(preflight(foreign).send().await.unwrap().status(), 403, "{foreign}");
        let answer = ask(Method::GET, foreign).bearer_auth(&anna).send().await.unwrap();
        assert_eq!(answer.status(), 403, "{foreign}");
        assert!(answer.headers().get("access-control-allow-origin").is_none());
    }
}
