//! An MCP server that is called with every user's own token: it sees that one, or nothing at all.

use std::sync::{Arc, Mutex};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use reqwest::{Method, header};
use serde_json::{Value, json};

use crate::{
    scripted::{ScriptedModel, call},
    service::{Service, Setup},
};

type Seen = Arc<Mutex<Vec<(String, Option<String>)>>>;

/// A stateless server of the era of 2025, which notes who asks.
async fn answer(request: HttpRequest, body: web::Json<Value>, seen: web::Data<Seen>) -> HttpResponse {
    let token = request.headers().get("authorization").and_then(|v| v.to_str().ok()).map(str::to_owned);
    let method = body["method"].as_str().unwrap_or_default().to_owned();
    seen.lock().unwrap().push((method.clone(), token.clone()));
    let result = match method.as_str() {
        "initialize" => json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
            "serverInfo": {"name": "mine", "version": "1"}}),
        "tools/list" => json!({"tools": [{"name": "whoami", "inputSchema": {"type": "object"},
            "annotations": {"readOnlyHint": true}}]}),
        "tools/call" => json!({"content": [{"type": "text", "text": format!("you are {}", token.is_some())}]}),
        "ping" => json!({}),
        _ if body.get("id").is_none() => return HttpResponse::Accepted().finish(),
        _ => {
            let error = json!({"code": -32601, "message": "method not found"});
            return HttpResponse::Ok().json(json!({"jsonrpc": "2.0", "id": body["id"], "error": error}));
        }
    };
    HttpResponse::Ok().json(json!({"jsonrpc": "2.0", "id": body["id"], "result": result}))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_sees_the_token_that_came_with_the_message_and_without_one_nothing_is_sent() {
    let seen = Seen::default();
    let data = web::Data::new(seen.clone());
    let server = HttpServer::new(move || App::new().app_data(data.clone()).route("/mcp", web::post().to(answer)))
        .workers(1)
        .disable_signals()
        .bind(("127.0.0.1", 0))
        .unwrap();
    let url = format!("http://127.0.0.1:{}/mcp", server.addrs()[0].port());
    let server = server.run();
    let handle = server.handle();
    let running = tokio::spawn(server);

    let yaml = format!(
        "mcp:\n  servers:\n  - name: mine\n    url: {url}\n    headers: {{Authorization: 'Bearer ${{user.token}}'}}\n"
    );
    let model = ScriptedModel::new([vec![call("whoami", json!({}))]]);
    let setup = Setup { model: Some(model.clone()), yaml: Some(yaml), ..Setup::default() };
    let service = Service::start(setup).await;
    let session = service.session().await;
    // Without a token there is no tool, and nobody is asked as anybody else.
    let frames = service.turn(&session, "who am I?").await;
    let end = frames.iter().find(|frame| frame["type"] == "tool_end").unwrap();
    assert_eq!(end["status"], json!("error"), "{end}");
    assert!(seen.lock().unwrap().is_empty(), "{seen:?}");

    model.say([vec![call("whoami", json!({}))]]);
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
    let seen = seen.lock().unwrap().clone();
    assert!(seen.iter().all(|(_, token)| token.as_deref() == Some("Bearer annas-own-token")), "{seen:?}");
    assert!(seen.iter().any(|(method, _)| method == "tools/call"));
    // The token is in no file.
    let log = service.log(&session).await;
    assert!(!json!(log).to_string().contains("annas-own-token"));
    service.stop().await;
    handle.stop(false).await;
    let _ = running.await;
}
