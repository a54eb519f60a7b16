//! Approvals over the API: no change runs without one.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use k8sops_mcp::{ConnectError, ConnectionHandler, McpConnection, McpConnector, ServerScope};
use parking_lot::Mutex;
use reqwest::Method;
use serde_json::{Value, json};

use crate::service::{ServiceSetup, TestService};
use k8sops_testing::{
    counting_server::CountingMcpServer,
    fake_mcp_server::FakeMcpServer,
    scripted_model::{ReplyStep, ScriptedModel, call, text},
};

async fn start_with_approval(
    model: &Arc<ScriptedModel>,
    tools: &CountingMcpServer,
    env: Vec<(&'static str, String)>,
) -> (TestService, String, Value) {
    let setup =
        ServiceSetup { model: Some(model.clone()), servers: vec![tools.connector()], env, ..ServiceSetup::default() };
    let service = TestService::start(setup).await;
    service.wait_for_mcp_servers().await;
    let session = service.create_session().await;
    service.post(&format!("{session}/messages"), json!({"content": "change it"})).await;
    let asked = service.events(&session, "").await.until("approval_requested").await.pop().unwrap();
    (service, session, asked)
}

fn approval_path(session: &str, asked: &Value) -> String {
    format!("{session}/approvals/{}", asked["approval_id"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn approved_change_runs_once_with_edited_arguments() {
    let (model, tools) = (ScriptedModel::new([vec![call("change", json!({"replicas": 0}))]]), CountingMcpServer::new());
    let (service, session, asked) = start_with_approval(&model, &tools, Vec::new()).await;
    assert_eq!((&asked["effect"], &asked["name"]), (&json!("mutating"), &json!("change")));
    assert_eq!(tools.count_calls("change"), 0);
    let answer = json!({"decision": "approve", "arguments": {"replicas": 3}, "comment": "three"});
    let resolved = service.post(&approval_path(&session, &asked), answer).await;
    assert_eq!((&resolved["decision"], &resolved["by"]), (&json!("approve"), &json!("user:default")));
    let frames = service.events(&session, "").await.until("run_finished").await;
    let start = frames.iter().find(|f| f["type"] == "tool_start").unwrap();
    assert_eq!(start["arguments"], json!({"replicas": 3}));
    assert_eq!(tools.count_calls("change"), 1);
}

/// Returns a server that changes Deployments as `kubernetes-mcp-server` does, with one Deployment. The number in the mutex is its
/// replicas.
fn deployment_server(replicas: &Arc<Mutex<i64>>) -> FakeMcpServer {
    let shown = replicas.clone();
    let scaled = replicas.clone();
    FakeMcpServer::new()
        .read_only_tool("resources_get", "Get", move |arguments| {
            let replicas = *shown.lock();
            if arguments["name"] != "web" {
                return Err("deployments.apps \"other\" not found".to_owned());
            }
            Ok(format!(
                "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\n  namespace: shop\n  uid: u1\n  \
                 resourceVersion: \"{replicas}\"\nspec:\n  replicas: {replicas}\n  template:\n    spec:\n      \
                 containers:\n      - name: app\n        image: web:1\n        env:\n        - name: DB_PASSWORD\n          \
                 value: made-up-hunter2-4711\nstatus:\n  readyReplicas: {replicas}\n"
            ))
        })
        .tool("resources_scale", "Scale", Some(false), move |arguments| {
            *scaled.lock() = arguments["scale"].as_i64().unwrap();
            Ok("scaled".to_owned())
        })
        .tool("resources_delete", "Delete", Some(false), |_| Ok("deleted".to_owned()))
}

fn scale_call(scale: i64) -> Vec<ReplyStep> {
    let arguments =
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "namespace": "shop", "scale": scale});
    vec![call("resources_scale", arguments)]
}

/// A server of which every session has a process of its own.
struct PerSessionConnector(Arc<dyn McpConnector>);

#[async_trait]
impl McpConnector for PerSessionConnector {
    fn transport(&self) -> &'static str {
        self.0.transport()
    }

    async fn connect(&self, handler: ConnectionHandler, limit: Duration) -> Result<McpConnection, ConnectError> {
        self.0.connect(handler, limit).await
    }

    fn scope(&self) -> ServerScope {
        ServerScope::Session
    }

    fn for_owner(&self, _owner: &str) -> Result<Arc<dyn McpConnector>, ConnectError> {
        Ok(self.0.clone())
    }
}

async fn start_with(server: &FakeMcpServer, model: &Arc<ScriptedModel>, rules: &str) -> (TestService, String) {
    start_with_connector(server.connector("prod"), model, rules).await
}

async fn start_with_connector(
    server: (String, Arc<dyn McpConnector>),
    model: &Arc<ScriptedModel>,
    rules: &str,
) -> (TestService, String) {
    let yaml = (!rules.is_empty()).then(|| rules.to_owned());
    let setup = ServiceSetup { model: Some(model.clone()), servers: vec![server], yaml, ..ServiceSetup::default() };
    let service = TestService::start(setup).await;
    service.wait_for_mcp_servers().await;
    let session = service.create_session().await;
    service.post(&format!("{session}/messages"), json!({"content": "change it"})).await;
    (service, session)
}

#[tokio::test(flavor = "multi_thread")]
async fn approval_shows_the_diff_of_the_live_object_without_its_secrets() {
    let replicas = Arc::new(Mutex::new(2));
    let server = deployment_server(&replicas);
    let delete = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "namespace": "shop"});
    let model = ScriptedModel::new([[scale_call(5), vec![call("resources_delete", delete)]].concat()]);
    let (service, session) = start_with(&server, &model, "").await;
    let mut stream = service.events(&session, "").await;
    let mut asked = vec![stream.until("approval_requested").await.pop().unwrap()];
    asked.push(stream.until("approval_requested").await.pop().unwrap());
    asked.sort_by_key(|asked| asked["name"].to_string());
    let (deleted, scaled) = (&asked[0], &asked[1]);
    assert_eq!(scaled["summary"], json!("shop/web: replicas 2 → 5"));
    let object = json!({"api_version": "apps/v1", "kind": "Deployment", "namespace": "shop", "name": "web",
        "verb": "scale", "uid": "u1", "resource_version": "2"});
    assert_eq!(scaled["objects"], json!([object]));
    let diff = scaled["preview"].as_str().unwrap();
    assert!(diff.contains("-  replicas: 2\n+  replicas: 5\n") && !diff.contains("readyReplicas"), "{diff}");
    assert_eq!(scaled["preview_detail"]["kind"], json!("diff"));
    assert_eq!(deleted["summary"], json!("shop/web: Deployment is deleted"));
    let diff = deleted["preview"].as_str().unwrap();
    assert!(diff.contains("-        image: web:1\n") || diff.contains("-      - image: web:1\n"), "{diff}");
    assert!(diff.contains("[secret:DB_PASSWORD:") && !diff.contains("hunter2"), "{diff}");
    let whole = service.get(&format!("{}/preview", approval_path(&session, deleted))).await;
    assert_eq!(whole["content"], deleted["preview"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn approval_shows_the_diff_of_a_server_with_a_process_per_session() {
    let server = deployment_server(&Arc::new(Mutex::new(2)));
    let model = ScriptedModel::new([scale_call(5)]);
    let (name, connector) = server.connector("prod");
    let connector = Arc::new(PerSessionConnector(connector));
    let (service, session) = start_with_connector((name, connector), &model, "").await;
    let asked = service.events(&session, "").await.until("approval_requested").await.pop().unwrap();
    assert_eq!(asked["summary"], json!("shop/web: replicas 2 → 5"));
    assert!(asked["preview"].as_str().is_some_and(|diff| diff.contains("-  replicas: 2\n+  replicas: 5\n")), "{asked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn approval_lapses_when_the_object_has_changed_in_what_the_diff_shows() {
    let replicas = Arc::new(Mutex::new(2));
    let server = deployment_server(&replicas);
    let model = ScriptedModel::new([scale_call(5), vec![text("done")]]);
    let (service, session) = start_with(&server, &model, "").await;
    let mut stream = service.events(&session, "").await;
    let first = stream.until("approval_requested").await.pop().unwrap();
    *replicas.lock() = 4;
    service.post(&approval_path(&session, &first), json!({"decision": "approve"})).await;
    let frames = stream.until("approval_requested").await;
    let warning = frames.iter().find(|frame| frame["type"] == "warning").unwrap();
    assert_eq!(warning["code"], json!("approval_stale"));
    assert!(warning["message"].as_str().unwrap().contains("replicas 4 → 5"), "{warning}");
    let again = frames.last().unwrap();
    assert_eq!((&again["replaces"], &again["summary"]), (&first["approval_id"], &json!("shop/web: replicas 4 → 5")));
    assert_eq!(server.count_calls("resources_scale"), 0);
    // The approval that lapsed is closed.
    let late = service.request(Method::POST, &approval_path(&session, &first)).json(&json!({"decision": "approve"}));
    assert_eq!(service.refused(late).await.0, 409);
    service.post(&approval_path(&session, again), json!({"decision": "approve"})).await;
    stream.until("run_finished").await;
    assert_eq!((server.count_calls("resources_scale"), *replicas.lock()), (1, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_lets_an_approved_call_run_although_its_preview_changed() {
    let replicas = Arc::new(Mutex::new(2));
    let server = deployment_server(&replicas);
    let model = ScriptedModel::new([scale_call(5), vec![text("done")]]);
    let rules = "tools:\n  rules:\n  - {tool: resources_scale, on_stale: run}\n";
    let (service, session) = start_with(&server, &model, rules).await;
    let mut stream = service.events(&session, "").await;
    let asked = stream.until("approval_requested").await.pop().unwrap();
    *replicas.lock() = 4;
    service.post(&approval_path(&session, &asked), json!({"decision": "approve"})).await;
    let frames = stream.until("run_finished").await;
    assert!(!frames.iter().any(|frame| frame["type"] == "approval_requested"));
    assert_eq!(server.count_calls("resources_scale"), 1);
}

/// Returns a server with a shell, in which kubectl knows one ConfigMap and one Deployment with a history. It records its lines.
fn kubectl_shell(lines: &Arc<Mutex<Vec<String>>>) -> FakeMcpServer {
    const CONFIG: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web, namespace: shop, uid: c1}\ndata: {level: info, password: hunter2}\n";
    const MANAGED_CONFIG: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: web\n  namespace: shop\n  uid: c1\n  managedFields:\n  \
                                  - {manager: kubectl, operation: Apply, fieldsV1: {\"f:data\": {\"f:level\": {}, \"f:color\": {}}}}\n\
                                  data: {level: info, color: red, size: big}\n";
    let template = |image: &str| format!("  template:\n    spec: {{containers: [{{name: app, image: {image}}}]}}\n");
    let deployment = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web, namespace: shop, uid: d1}}\nspec:\n  \
         selector: {{matchLabels: {{app: web}}}}\n{}",
        template("web:3")
    );
    let set = |revision: u8, image: &str| {
        format!(
            "---\napiVersion: apps/v1\nkind: ReplicaSet\nmetadata:\n  name: web-{revision}\n  namespace: shop\n  \
             ownerReferences: [{{uid: d1}}]\n  annotations: {{deployment.kubernetes.io/revision: \"{revision}\"}}\nspec:\n{}",
            template(image)
        )
    };
    let history = format!("{}{}", set(2, "web:2"), set(3, "web:3"));
    let lines = lines.clone();
    FakeMcpServer::new().command_tool("bash", move |arguments| {
        let line = arguments["command"].as_str().unwrap().to_owned();
        lines.lock().push(line.clone());
        if line.starts_with("kubectl get configmap web") && line.ends_with(" --show-managed-fields") {
            Ok(MANAGED_CONFIG.to_owned())
        } else if line.starts_with("kubectl get configmap web") {
            Ok(CONFIG.to_owned())
        } else if line.starts_with("kubectl get deploy/web") {
            Ok(deployment.clone())
        } else if line.starts_with("kubectl get replicaset.apps") {
            Ok(history.clone())
        } else {
            Err("error: not expected".to_owned())
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn approval_shows_what_each_command_of_a_line_changes() {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: web\n  namespace: shop\ndata:\n  level: debug\n  password: hunter2\n";
    let line = format!(
        "cat <<'EOF' | kubectl apply -f -\n{manifest}EOF\nkubectl rollout undo deploy/web -n shop && ./notify.sh done"
    );
    let model = ScriptedModel::new([vec![call("bash", json!({"command": line}))]]);
    let (service, session) = start_with(&kubectl_shell(&lines), &model, "").await;
    let asked = service.events(&session, "").await.until("approval_requested").await.pop().unwrap();
    let diff = asked["preview"].as_str().unwrap();
    assert!(diff.contains("-  level: info\n+  level: debug\n"), "{diff}");
    assert!(diff.contains("image: web:3\n+") && diff.contains("image: web:2\n"), "{diff}");
    assert!(diff.contains("What this changes is not known before it runs: ./notify.sh done"), "{diff}");
    assert_eq!(asked["preview_detail"]["kind"], json!("diff"));
    assert!(
        asked["summary"]
            .as_str()
            .unwrap()
            .starts_with("shop/web: level info → debug; shop/web: app image web:3 → web:2")
    );
    assert!(!asked["preview"].to_string().contains("hunter2"), "{asked}");
    assert!(lines.lock().iter().all(|line| line.starts_with("kubectl get ")), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn approval_shows_what_a_server_side_apply_removes() {
    let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web, namespace: shop}\ndata: {level: debug}\n";
    let line = format!("kubectl apply --server-side -f - <<'EOF'\n{manifest}EOF\n");
    let model = ScriptedModel::new([vec![call("bash", json!({"command": line}))]]);
    let (service, session) = start_with(&kubectl_shell(&Arc::default()), &model, "").await;
    let asked = service.events(&session, "").await.until("approval_requested").await.pop().unwrap();
    let diff = asked["preview"].as_str().unwrap();
    assert!(diff.contains("-  color: red\n-  level: info\n+  level: debug\n   size: big\n"), "{diff}");
    assert!(!diff.contains("the diff does not show them"), "{diff}");
}

/// Returns a diff of many objects, one of which is scaled to 0.
fn long_diff() -> String {
    let object = |n: usize, hunk: &str| format!("--- live/web-{n}\n+++ new/web-{n}\n@@ -1,2 +1,2 @@\n spec:\n{hunk}");
    let image = |n: usize| object(n, &format!("-  image: web:1.{n}\n+  image: web:2.{n}\n"));
    let alike = |from: usize| (from..from + 600).map(image).collect::<String>();
    alike(0) + &object(9999, "-  replicas: 3\n+  replicas: 0\n") + &alike(600)
}

#[tokio::test(flavor = "multi_thread")]
async fn long_preview_is_cut_and_can_be_read_whole() {
    let shell = FakeMcpServer::new().command_tool("bash", |_| Ok(long_diff()));
    let model = ScriptedModel::new([vec![call("bash", json!({"command": "kubectl apply -f all.yaml"}))]]);
    let servers = vec![shell.connector("shell")];
    let service = TestService::start(ServiceSetup { model: Some(model), servers, ..ServiceSetup::default() }).await;
    service.wait_for_mcp_servers().await;
    let session = service.create_session().await;
    service.post(&format!("{session}/messages"), json!({"content": "apply it"})).await;
    let asked = service.events(&session, "").await.until("approval_requested").await.pop().unwrap();
    let preview = asked["preview"].as_str().unwrap();
    assert!(preview.len() <= 48 * 1024 && preview.contains("-  replicas: 3\n+  replicas: 0\n"), "{preview}");
    let omitted = asked["preview_detail"]["lines_omitted"].as_u64().unwrap();
    assert!(omitted > 1000 && preview.contains(&format!("this preview leaves out {omitted} lines")), "{omitted}");
    assert_eq!(asked["server"], json!("shell"));

    let path = format!("{}/preview", approval_path(&session, &asked));
    let first = service.get(&format!("{path}?limit=65536")).await;
    let next = first["next_offset"].as_u64().unwrap();
    let rest = service.get(&format!("{path}?limit=65536&offset={next}")).await;
    let whole = [&first, &rest].map(|page| page["content"].as_str().unwrap()).concat();
    assert_eq!((whole, rest["next_offset"].is_null()), (long_diff(), true));
    let other = format!("{session}/approvals/{}/preview", session.rsplit('/').next().unwrap());
    assert_eq!(service.refused(service.request(Method::GET, &other)).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn denied_change_does_not_run() {
    let (model, tools) =
        (ScriptedModel::new([vec![call("change", json!({})), call("change", json!({}))]]), CountingMcpServer::new());
    let (service, session, asked) = start_with_approval(&model, &tools, Vec::new()).await;
    let wrong = json!({"decision": "deny", "arguments": {}});
    let (status, _) =
        service.refused(service.request(Method::POST, &approval_path(&session, &asked)).json(&wrong)).await;
    assert_eq!(status, 400);
    service.post(&approval_path(&session, &asked), json!({"decision": "deny", "comment": "not today"})).await;
    // The other call still waits for approval, so the run is open.
    let again = service.request(Method::POST, &approval_path(&session, &asked)).json(&json!({"decision": "approve"}));
    let (status, problem) = service.refused(again).await;
    assert_eq!((status, &problem["code"]), (409, &json!("approval_closed")), "{problem}");
    service.post(&format!("{session}/cancel"), json!({})).await;
    let frames = service.events(&session, "").await.until("run_finished").await;
    let mut statuses: Vec<_> =
        frames.iter().filter(|f| f["type"] == "tool_end").map(|f| f["status"].as_str().unwrap()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, ["cancelled", "denied"]);
    assert_eq!(tools.count_calls("change"), 0);
    // A call that was denied has a start, so that clients can show it, but was never sent.
    let starts: Vec<&Value> = frames.iter().filter(|frame| frame["type"] == "tool_start").collect();
    let denied = frames.iter().find(|frame| frame["status"] == "denied").unwrap();
    assert_eq!(starts.len(), 1, "{frames:#?}");
    assert_eq!((&starts[0]["sent"], &starts[0]["tool_call_id"]), (&json!(false), &denied["tool_call_id"]));
    assert!(starts[0]["seq"].as_u64() < denied["seq"].as_u64());
    for end in frames.iter().filter(|frame| frame["type"] == "tool_end") {
        assert_eq!((&end["name"], &end["server"]), (&json!("change"), &starts[0]["server"]), "{end}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_approval_answer_is_idempotent() {
    let (model, tools) = (ScriptedModel::new([vec![call("change", json!({}))]]), CountingMcpServer::new());
    let (service, session, asked) = start_with_approval(&model, &tools, Vec::new()).await;
    let answer = || {
        let request =
            service.request(Method::POST, &approval_path(&session, &asked)).header("idempotency-key", "my-answer");
        request.json(&json!({"decision": "approve"})).send()
    };
    let first: Value = answer().await.unwrap().error_for_status().unwrap().json().await.unwrap();
    service.events(&session, "").await.until("run_finished").await;
    let again: Value = answer().await.unwrap().error_for_status().unwrap().json().await.unwrap();
    assert_eq!(again, first);
    assert_eq!(tools.count_calls("change"), 1);
    let (status, problem) = service
        .refused(service.request(Method::POST, &approval_path(&session, &asked)).json(&json!({"decision": "approve"})))
        .await;
    assert_eq!((status, &problem["code"]), (404, &json!("approval_not_found")));
}

#[tokio::test(flavor = "multi_thread")]
async fn unanswered_approval_expires() {
    let (model, tools) = (ScriptedModel::new([vec![call("change", json!({}))]]), CountingMcpServer::new());
    let (service, session, _) = start_with_approval(&model, &tools, vec![("K8SOPS_APPROVAL_TTL", "1s".into())]).await;
    let frames = service.events(&session, "").await.until("run_finished").await;
    let resolved = frames.iter().find(|f| f["type"] == "approval_resolved").unwrap();
    assert_eq!((&resolved["decision"], &resolved["by"]), (&json!("expired"), &json!("system")));
    assert_eq!(tools.count_calls("change"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn approval_mode_denies_or_allows_changes() {
    for (mode, status, calls) in [("deny", "denied", 0), ("auto", "ok", 1)] {
        let (model, tools) = (ScriptedModel::new([vec![call("change", json!({}))]]), CountingMcpServer::new());
        let setup = ServiceSetup {
            model: Some(model),
            servers: vec![tools.connector()],
            env: vec![("TOOL_APPROVAL", mode.into())],
            ..ServiceSetup::default()
        };
        let service = TestService::start(setup).await;
        service.wait_for_mcp_servers().await;
        let session = service.create_session().await;
        let frames = service.turn(&session, "change it").await;
        let end = frames.iter().find(|f| f["type"] == "tool_end").unwrap();
        assert_eq!((end["status"].as_str().unwrap(), tools.count_calls("change")), (status, calls), "{mode}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_edited_arguments_keep_the_approval_pending() {
    let cluster = FakeMcpServer::new().tool("scale", "Scales.", Some(false), |_| Ok("scaled".into()));
    let model = ScriptedModel::new([vec![call("scale", json!({"replicas": 0}))]]);
    let setup =
        ServiceSetup { model: Some(model), servers: vec![cluster.connector("prod")], ..ServiceSetup::default() };
    let service = TestService::start(setup).await;
    service.wait_for_mcp_servers().await;
    let session = service.create_session().await;
    service.post(&format!("{session}/messages"), json!({"content": "scale it"})).await;
    let asked = service.events(&session, "").await.until("approval_requested").await.pop().unwrap();
    for wrong in [json!({"replicas": "three"}), json!({"replicas": -1})] {
        let answer = json!({"decision": "approve", "arguments": wrong});
        let request = service.request(Method::POST, &approval_path(&session, &asked)).json(&answer);
        let (status, problem) = service.refused(request).await;
        assert_eq!((status, &problem["code"]), (422, &json!("does_not_fit")), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains("/replicas"), "{problem}");
    }
    service.post(&approval_path(&session, &asked), json!({"decision": "approve", "arguments": {"replicas": 3}})).await;
    service.events(&session, "").await.until("run_finished").await;
    assert_eq!(cluster.calls(), [("scale".to_owned(), json!({"replicas": 3}).as_object().unwrap().clone())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tool_policy_overrides_approval_mode() {
    let rules = "tools:\n  rules:\n  - {tool: look, approval: ask, reason: looks are shown}\n  - {tool: change, arguments: {replicas: '[1-9]'}, approval: auto}\n  - {tool: change, approval: deny}\n";
    let calls =
        vec![call("change", json!({"replicas": 3})), call("change", json!({"replicas": 0})), call("look", json!({}))];
    let (model, tools) = (ScriptedModel::new([calls]), CountingMcpServer::new());
    let yaml = Some(rules.to_owned());
    let setup = ServiceSetup { model: Some(model), servers: vec![tools.connector()], yaml, ..ServiceSetup::default() };
    let service = TestService::start(setup).await;
    service.wait_for_mcp_servers().await;
    let listed = service.get("/v1/tools").await;
    let change = listed["tools"].as_array().unwrap().iter().find(|tool| tool["name"] == "change").unwrap().clone();
    assert_eq!((&change["gate"], &change["effect"]), (&json!("deny"), &json!("mutating")));
    let session = service.create_session().await;
    service.post(&format!("{session}/messages"), json!({"content": "go"})).await;
    let asked = service.events(&session, "").await.until("approval_requested").await.pop().unwrap();
    assert_eq!((&asked["name"], &asked["reason"]), (&json!("look"), &json!("the operator's rule: looks are shown")));
    service.post(&approval_path(&session, &asked), json!({"decision": "approve"})).await;
    let frames = service.events(&session, "").await.until("run_finished").await;
    let ends = frames.iter().filter(|f| f["type"] == "tool_end");
    let mut statuses: Vec<&str> = ends.map(|f| f["status"].as_str().unwrap()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, ["denied", "ok", "ok"]);
    assert_eq!((tools.count_calls("change"), tools.count_calls("look")), (1, 1));
}
