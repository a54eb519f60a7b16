//! The door for clients of MCP: what it refuses, and how it says so.

use k8sops::auth::UserRole;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::{
    keys::ApiKeyFile,
    mcp_door::{McpStream, McpTestClient, rpc_error},
    service::{ServiceSetup, TestService},
};
use k8sops_testing::scripted_model::ScriptedModel;

const VERSION: &str = "2026-07-28";

fn stateless(service: &TestService, method: &str, params: Value) -> RequestBuilder {
    let mut params = params;
    params["_meta"] = json!({"io.modelcontextprotocol/protocolVersion": VERSION,
        "io.modelcontextprotocol/clientCapabilities": {}});
    let body = json!({"jsonrpc": "2.0", "id": 5, "method": method, "params": params});
    let request = service.request(Method::POST, "/mcp").header("mcp-protocol-version", VERSION);
    request.header("mcp-method", method).json(&body)
}

fn plain(service: &TestService, body: &Value) -> RequestBuilder {
    service.request(Method::POST, "/mcp").json(body)
}

#[tokio::test(flavor = "multi_thread")]
async fn server_says_what_it_is_in_both_eras() {
    let service = TestService::with(&ScriptedModel::new([])).await;
    let result = |response: Value| response["result"].clone();
    let discovered =
        result(stateless(&service, "server/discover", json!({})).send().await.unwrap().json().await.unwrap());
    assert_eq!(discovered["supportedVersions"], json!([VERSION]));
    assert_eq!(discovered["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "k8sops");
    let listed = result(stateless(&service, "tools/list", json!({})).send().await.unwrap().json().await.unwrap());
    assert!(listed["ttlMs"].is_u64() && listed["cacheScope"] == "public" && listed["resultType"] == "complete");
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    let old = result(plain(&service, &body).send().await.unwrap().json().await.unwrap());
    assert_eq!(old["tools"], listed["tools"]);
    assert!(old.get("ttlMs").is_none() && old.get("resultType").is_none());
    let names: Vec<&Value> = old["tools"].as_array().unwrap().iter().map(|tool| &tool["name"]).collect();
    assert_eq!(names, ["ask", "get_session"], "and no tool that approves");
    let ping = json!({"jsonrpc": "2.0", "id": "a", "method": "ping"});
    let answered: Value = plain(&service, &ping).send().await.unwrap().json().await.unwrap();
    assert_eq!(answered, json!({"jsonrpc": "2.0", "id": "a", "result": {}}));
    let info = service.get("/v1/info").await;
    assert!(info["doors"].as_array().unwrap().contains(&json!("mcp")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_of_the_protocol_is_refused() {
    let service = TestService::with(&ScriptedModel::new([])).await;
    let rpc = |method: &str| json!({"jsonrpc": "2.0", "id": 5, "method": method});
    for (request, status, code) in [
        (plain(&service, &json!({"id": 1, "method": "ping"})), 400, -32600),
        (plain(&service, &json!([rpc("ping")])), 400, -32600),
        (plain(&service, &json!("ping")), 400, -32600),
        (plain(&service, &json!({"jsonrpc": "2.0", "id": null, "method": "ping"})), 400, -32600),
        (plain(&service, &json!({"jsonrpc": 2, "id": 5, "method": "ping"})), 400, -32600),
        (service.request(Method::POST, "/mcp").body("{"), 400, -32700),
        (plain(&service, &rpc("resources/list")), 200, -32601),
        (plain(&service, &rpc("tools/call")), 200, -32602),
        (plain(&service, &json!({"jsonrpc": "2.0", "id": 7, "result": {}})), 400, -32600),
        (plain(&service, &rpc("ping")).header("mcp-protocol-version", "1999-01-01"), 400, -32022),
        (plain(&service, &rpc("ping")).header("mcp-session-id", "unknown"), 404, -32600),
        (plain(&service, &rpc("server/discover")), 400, -32602),
        (plain(&service, &rpc("tools/list")).header("mcp-protocol-version", VERSION), 400, -32602),
        (stateless(&service, "ping", json!({})), 404, -32601),
        (stateless(&service, "initialize", json!({})), 404, -32601),
        (stateless(&service, "tools/call", json!({"name": "ask"})), 400, -32020),
        (stateless(&service, "tools/call", json!({"name": "approve"})).header("mcp-name", "approve"), 200, -32602),
        (service.request(Method::POST, "/mcp").header("origin", "http://evil.example").json(&rpc("ping")), 403, -32600),
        (service.request(Method::POST, "/mcp").header("host", "evil.example").json(&rpc("ping")), 403, -32600),
        (service.request(Method::DELETE, "/mcp"), 405, -32600),
    ] {
        let shown = format!("{request:?}");
        let (got, error) = rpc_error(request.send().await.unwrap()).await;
        assert_eq!((got, &error["code"]), (status, &json!(code)), "{shown}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn error_names_the_request_if_it_has_an_id() {
    let service = TestService::with(&ScriptedModel::new([])).await;
    for (body, id) in [
        (json!({"jsonrpc": "1.0", "id": "a", "method": "ping"}), Some(json!("a"))),
        (json!({"jsonrpc": "2.0", "id": {}, "method": "ping"}), None),
        (json!([{"jsonrpc": "2.0", "id": 5, "method": "ping"}]), None),
    ] {
        let response: Value = plain(&service, &body).send().await.unwrap().json().await.unwrap();
        assert_eq!(response.get("id"), id.as_ref(), "{body}");
    }
    let batch = plain(&service, &json!([])).send().await.unwrap().json::<Value>().await.unwrap();
    assert!(batch["error"]["message"].as_str().unwrap().contains("batches"), "{batch}");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_cannot_be_made_are_explained_to_the_model() {
    let mut keys = ApiKeyFile::new();
    let (anna, viewer) = (keys.add("anna", &[UserRole::User]), keys.add("vera", &[UserRole::Viewer]));
    let env = keys.env();
    let setup = ServiceSetup { env, model: Some(ScriptedModel::new([])), ..ServiceSetup::default() };
    let mut service = TestService::start(setup).await;
    let ping = json!({"jsonrpc": "2.0", "id": 5, "method": "ping"});
    let (status, error) = rpc_error(plain(&service, &ping).send().await.unwrap()).await;
    assert_eq!((status, &error["data"]["code"]), (401, &json!("unauthenticated")));

    service.token = Some(anna);
    let foreign = service.create_session().await.rsplit('/').next().unwrap().to_owned();
    let client = McpTestClient::with_handshake(&service, json!({})).await;
    service.token = Some(viewer);
    for (tool, arguments, why) in [
        ("ask", json!({"question": "hi"}), "role_required"),
        ("get_session", json!({"session_id": foreign}), "session_not_found"),
        ("get_session", json!({"session_id": "default"}), "there is no session"),
        ("get_session", json!({}), "missing"),
    ] {
        let result = McpStream::open(client.call(&service, 1, tool, &arguments)).await.result().await;
        let text = result["content"][0]["text"].as_str().unwrap();
        assert!(result["isError"] == true && text.contains(why), "{tool} {arguments}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn client_without_a_token_learns_where_it_gets_one() {
    let start = async |env: Vec<(&'static str, String)>| {
        let setup = ServiceSetup { env, model: Some(ScriptedModel::new([])), ..ServiceSetup::default() };
        TestService::start(setup).await
    };
    let ping = json!({"jsonrpc": "2.0", "id": 5, "method": "ping"});
    let metadata = "/.well-known/oauth-protected-resource/mcp";
    let issuer = "http://127.0.0.1:9/realms/ops";
    let service = start(vec![
        ("AUTH_MODE", "jwt".to_owned()),
        ("AUTH_JWT_ISSUER", issuer.to_owned()),
        ("AUTH_JWT_AUDIENCE", "k8sops".to_owned()),
    ])
    .await;
    let refused = plain(&service, &ping).send().await.unwrap();
    let challenge = refused.headers()["www-authenticate"].to_str().unwrap().to_owned();
    let url = format!("{}{metadata}", service.base);
    assert_eq!(
        (refused.status().as_u16(), challenge),
        (401, format!("Bearer realm=\"k8sops\", resource_metadata=\"{url}\""))
    );
    let native = service.request(Method::GET, "/v1/sessions").send().await.unwrap();
    assert_eq!(native.headers()["www-authenticate"], "Bearer realm=\"k8sops\"");
    let found = service.get(metadata).await;
    assert_eq!(
        (&found["resource"], &found["authorization_servers"]),
        (&json!(format!("{}/mcp", service.base)), &json!([issuer]))
    );
    let service = start(Vec::new()).await;
    assert_eq!(service.refused(service.request(Method::GET, metadata)).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_door_does_not_answer() {
    let env = vec![("K8SOPS_DOORS", "native".to_owned())];
    let setup = ServiceSetup { env, model: Some(ScriptedModel::new([])), ..ServiceSetup::default() };
    let service = TestService::start(setup).await;
    let ping = json!({"jsonrpc": "2.0", "id": 5, "method": "ping"});
    let (status, error) = rpc_error(plain(&service, &ping).send().await.unwrap()).await;
    assert_eq!((status, &error["data"]["code"]), (404, &json!("not_found")));
}
