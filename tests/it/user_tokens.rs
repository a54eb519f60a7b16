//! MCP servers that are called with the token of each user.

use parking_lot::Mutex;
use std::{path::Path, sync::Arc};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, dev::ServerHandle, web};
use k8sops::auth::UserRole;
use reqwest::{Method, header};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::{
    keys::ApiKeyFile,
    program::TestProgram,
    service::{ServiceSetup, TestService},
    websocket::TestSocket,
};
use k8sops_testing::{
    provider::{FakeProviders, ProviderApi},
    scripted_model::{ScriptedModel, call},
};

/// A request to the server: its method and headers.
#[derive(Clone)]
struct ReceivedCall {
    method: String,
    authorization: Option<String>,
    headers: String,
}

/// A stateless MCP server (protocol of 2025) with one tool. It records all requests.
struct RecordingServer {
    url: String,
    asked: Arc<Mutex<Vec<ReceivedCall>>>,
    handle: ServerHandle,
    running: JoinHandle<std::io::Result<()>>,
}

impl RecordingServer {
    fn start(tool: &'static str) -> Self {
        let asked = Arc::<Mutex<Vec<ReceivedCall>>>::default();
        let (data, tool) = (web::Data::from(asked.clone()), web::Data::new(tool));
        let routes = move || {
            App::new().app_data(data.clone()).app_data(tool.clone()).route("/mcp", web::post().to(handle_request))
        };
        let server = HttpServer::new(routes).workers(1).disable_signals().bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://127.0.0.1:{}/mcp", server.addrs()[0].port());
        let server = server.run();
        let handle = server.handle();
        Self { url, asked, handle, running: tokio::spawn(server) }
    }

    fn received_calls(&self) -> Vec<ReceivedCall> {
        self.asked.lock().clone()
    }

    /// Returns the tokens of the tool calls, in order.
    fn caller_tokens(&self) -> Vec<String> {
        let calls = self.received_calls().into_iter().filter(|asked| asked.method == "tools/call");
        calls.map(|asked| asked.authorization.unwrap_or_default()).collect()
    }

    async fn stop(self) {
        self.handle.stop(false).await;
        let _ = self.running.await;
    }
}

async fn handle_request(
    request: HttpRequest,
    body: web::Json<Value>,
    asked: web::Data<Mutex<Vec<ReceivedCall>>>,
    tool: web::Data<&'static str>,
) -> HttpResponse {
    let authorization = request.headers().get("authorization").and_then(|v| v.to_str().ok()).map(str::to_owned);
    let method = body["method"].as_str().unwrap_or_default().to_owned();
    let said = format!("you are {}", authorization.is_some());
    let headers = format!("{:?}", request.headers());
    asked.lock().push(ReceivedCall { method: method.clone(), authorization, headers });
    let result = match method.as_str() {
        "initialize" => json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
            "serverInfo": {"name": "mine", "version": "1"}}),
        "tools/list" => json!({"tools": [{"name": *tool, "inputSchema": {"type": "object"},
            "annotations": {"readOnlyHint": true}}]}),
        "tools/call" => json!({"content": [{"type": "text", "text": said}]}),
        "ping" => json!({}),
        _ if body.get("id").is_none() => return HttpResponse::Accepted().finish(),
        _ => {
            let error = json!({"code": -32601, "message": "method not found"});
            return HttpResponse::Ok().json(json!({"jsonrpc": "2.0", "id": body["id"], "error": error}));
        }
    };
    HttpResponse::Ok().json(json!({"jsonrpc": "2.0", "id": body["id"], "result": result}))
}

/// Returns the YAML of a server that is called with the user's token.
fn with_users_token(name: &str, url: &str) -> String {
    format!("  - name: {name}\n    url: {url}\n    headers: {{Authorization: 'Bearer ${{user.token}}'}}\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn user_token_is_forwarded_to_the_server() {
    let server = RecordingServer::start("whoami");
    let yaml = format!("mcp:\n  servers:\n{}", with_users_token("mine", &server.url));
    let model = ScriptedModel::new([vec![call("whoami", json!({}))]]);
    let setup = ServiceSetup { model: Some(model.clone()), yaml: Some(yaml), ..ServiceSetup::default() };
    let service = TestService::start(setup).await;
    let session = service.create_session().await;
    // Without a token there is no tool, and no connection under another identity.
    let frames = service.turn(&session, "who am I?").await;
    let end = frames.iter().find(|frame| frame["type"] == "tool_end").unwrap();
    assert_eq!(end["status"], json!("error"), "{end}");
    assert!(server.received_calls().is_empty());

    model.add_replies([vec![call("whoami", json!({}))]]);
    let message = service
        .request(Method::POST, &format!("{session}/messages"))
        .header(header::AUTHORIZATION, "Bearer annas-own-token")
        .json(&json!({"content": "and now?"}));
    assert_eq!(message.send().await.unwrap().status(), 202);
    let mut events = service.events(&session, "").await;
    events.until("run_finished").await;
    let frames = events.until("run_finished").await;
    let end = frames.iter().find(|frame| frame["type"] == "tool_end").unwrap();
    assert_eq!((&end["status"], &end["content"]), (&json!("ok"), &json!("you are true")), "{end}");
    assert!(
        server.received_calls().iter().all(|asked| asked.authorization.as_deref() == Some("Bearer annas-own-token"))
    );
    assert_eq!(server.caller_tokens(), ["Bearer annas-own-token"]);
    // The token is not stored in any file.
    let log = service.log(&session).await;
    assert!(!json!(log).to_string().contains("annas-own-token"));
    service.stop().await;
    server.stop().await;
}

/// Returns path and text of every file below a folder.
fn read_files(folder: &Path) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| {
            if path.is_dir() {
                read_files(&path)
            } else {
                vec![(path.display().to_string(), String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned())]
            }
        })
        .collect()
}

/// Returns the statuses of the tool calls of a turn.
fn call_statuses(frames: &[Value]) -> Vec<&str> {
    frames.iter().filter(|f| f["type"] == "tool_end").map(|f| f["status"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn user_token_header_reaches_only_its_server() {
    let (mine, other, providers) =
        (RecordingServer::start("whoami"), RecordingServer::start("weather"), FakeProviders::start().await);
    let yaml = format!(
        "{}mcp:\n  servers:\n{}  - name: other\n    url: {}\n",
        providers.settings_yaml(),
        with_users_token("mine", &mine.url),
        other.url
    );
    let mut keys = ApiKeyFile::new();
    let (anna, ben) = (keys.add("anna", &[UserRole::User]), keys.add("ben", &[UserRole::User]));
    let keys_file = keys.path();
    let env = [
        ("AUTH_MODE", "api_key"),
        ("AUTH_API_KEYS_FILE", keys_file.to_str().unwrap()),
        ("LLM_PROVIDER", "test-openai-chat"),
        ("LLM_MODEL", "m"),
        ("MEMORY_BACKEND", "filesystem"),
        ("AUDIT_LOG", "audit.jsonl"),
        ("LOG_LEVEL", "trace,hyper=trace,reqwest=trace"),
    ];
    let mut program = TestProgram::start(&yaml, &env).await;
    program.token = Some(anna.clone());
    let asks = |tools: &[&str]| {
        let dialect = ProviderApi::Chat;
        providers.script(dialect, "m", tools.iter().map(|tool| dialect.call(tool, "{}")));
        providers.script(dialect, "m", [dialect.text("There you are.")]);
    };
    let session = program.create_session().await;

    // The API key alone is not forwarded.
    asks(&["whoami"]);
    assert_eq!(call_statuses(&program.turn(&session, &[]).await), ["error"]);
    assert!(mine.received_calls().is_empty(), "without a token no request is sent");
    // The token is accepted in addition to the key, with or without `Bearer`.
    let (mut expected, mut last) = (Vec::new(), 0);
    for value in ["Bearer annas-first-token", "annas-second-token"] {
        asks(&["whoami", "weather"]);
        let frames = program.turn(&session, &[("x-mcp-authorization", value)]).await;
        assert_eq!(call_statuses(&frames), ["ok", "ok"], "{frames:?}");
        last = frames.last().unwrap()["seq"].as_u64().unwrap();
        expected.push(format!("Bearer {}", value.trim_start_matches("Bearer ")));
        assert_eq!(mine.caller_tokens(), expected);
    }
    // On a WebSocket: as a header, or in the first message of a client that cannot send headers.
    let bearer = format!("Bearer {anna}");
    for (value, browser) in
        [("Bearer annas-third-token", false), ("Bearer annas-fourth-token", true), ("annas-fifth-token", true)]
    {
        asks(&["whoami", "weather"]);
        let headers = match browser {
            true => vec![("sec-websocket-protocol", "k8sops.v1")],
            false => vec![("authorization", &*bearer), ("x-mcp-authorization", value)],
        };
        let mut socket =
            TestSocket::open_at(&program.process.url, &format!("{session}/ws?after={last}"), &headers).await;
        if browser {
            socket.send(json!({"type": "auth", "token": anna, "mcp_token": value})).await;
        }
        socket.send(json!({"type": "message", "content": "who am I?"})).await;
        let frames = socket.until("run_finished").await;
        assert_eq!(call_statuses(&frames), ["ok", "ok"], "{frames:?}");
        last = frames.last().unwrap()["seq"].as_u64().unwrap();
        expected.push(format!("Bearer {}", value.trim_start_matches("Bearer ")));
        assert_eq!(mine.caller_tokens(), expected);
    }
    // Another user's session does not use the token.
    program.token = Some(ben.clone());
    asks(&["whoami"]);
    let session = program.create_session().await;
    assert_eq!(call_statuses(&program.turn(&session, &[]).await), ["error"]);
    assert_eq!(mine.caller_tokens(), expected);

    assert_eq!(other.caller_tokens(), [""; 5]);
    let (log, dir) = program.stop().await;
    let mut places = read_files(dir.path());
    assert!(places.iter().any(|(_, text)| text.contains("my question")), "the sessions are among them: {places:?}");
    assert!(places.iter().any(|(path, text)| path.ends_with("audit.jsonl") && text.contains("whoami")), "{places:?}");
    assert!(log.len() > 100, "much is logged: {log:?}");
    places.push(("the log".into(), log.join("\n")));
    places.extend(other.received_calls().into_iter().map(|asked| ("the other server".into(), asked.headers)));
    let tokens = ["first", "second", "third", "fourth", "fifth"].map(|which| format!("annas-{which}-token"));
    for (place, text) in &places {
        for secret in tokens.iter().chain([&anna, &ben]) {
            assert!(!text.contains(secret), "{secret} is in {place}: {text}");
        }
    }
    for asked in mine.received_calls() {
        for foreign in [&anna, &ben, "x-mcp-authorization"] {
            assert!(!asked.headers.contains(foreign), "{foreign} is sent along: {}", asked.headers);
        }
    }
    mine.stop().await;
    other.stop().await;
}
