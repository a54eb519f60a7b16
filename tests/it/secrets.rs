//! Values of Secrets reach only the tool that needs them.

use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};

use crate::service::{ServiceSetup, TestService};
use k8sops_testing::{
    fake_mcp_server::FakeMcpServer,
    scripted_model::{ScriptedModel, call, text},
};

const PLAIN: &str = "tr0ub4dor-and-3-more";
const ENCODED: &str = "dHIwdWI0ZG9yLWFuZC0zLW1vcmU=";

fn cluster_server() -> FakeMcpServer {
    let secret = format!("apiVersion: v1\ndata:\n  password: {ENCODED}\nkind: Secret\nmetadata:\n  name: db");
    FakeMcpServer::new()
        .read_only_tool("resources_get", "Gets an object.", move |_| Ok(secret.clone()))
        .read_only_tool("pods_log", "The log of a pod.", |_| Err(format!("cannot log in as app with {PLAIN}")))
        .read_only_tool("login", "Tries a password.", |arguments| {
            Ok(format!("logged in with {}", arguments["password"]))
        })
}

/// Appends the text of every file below a folder.
fn read_all_files(folder: &Path, into: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_all_files(&path, into);
        } else {
            into.push_str(&String::from_utf8_lossy(&std::fs::read(&path).unwrap()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secret_values_reach_only_the_tool() {
    let (cluster, model) = (cluster_server(), ScriptedModel::new([]));
    let get = call("resources_get", json!({"apiVersion": "v1", "kind": "Secret", "name": "db"}));
    model.add_replies([vec![get], vec![call("pods_log", json!({}))], vec![text("I see")]]);
    let setup = ServiceSetup {
        model: Some(model.clone()),
        servers: vec![cluster.connector("prod")],
        ..ServiceSetup::default()
    };
    let service = TestService::start(setup).await;
    service.wait_for_mcp_servers().await;
    let session = service.create_session().await;
    let frames = service.turn(&session, "look at the secret").await;
    let ends: Vec<&str> =
        frames.iter().filter(|f| f["type"] == "tool_end").map(|f| f["content"].as_str().unwrap()).collect();
    let mark = ends[0].lines().find_map(|line| line.trim().strip_prefix("password: ")).unwrap();
    assert!(mark.starts_with("[secret:password:") && mark.ends_with(":b64]"), "{mark}");
    // The decoded value in an error of another tool is the same secret.
    let digest = mark.split(':').nth(2).unwrap();
    assert!(ends[1].contains(digest) && !ends[1].contains(PLAIN), "{}", ends[1]);

    // In arguments the placeholder is replaced by the value after an approval, even though the tool is read-only.
    let plain_mark = mark.replace(":b64]", "]");
    model.add_replies([vec![call("login", json!({"password": plain_mark}))], vec![text("done")]]);
    service.post(&format!("{session}/messages"), json!({"content": "try it"})).await;
    let asked = service.events(&session, "").await.until("approval_requested").await.pop().unwrap();
    assert!(asked["reason"].as_str().unwrap().contains("the value of a secret"), "{asked}");
    assert_eq!(cluster.count_calls("login"), 0);
    let approval = format!("{session}/approvals/{}", asked["approval_id"].as_str().unwrap());
    service.post(&approval, json!({"decision": "approve"})).await;
    let mut events = service.events(&session, "").await;
    events.until("run_finished").await;
    let frames = events.until("run_finished").await;
    assert_eq!(cluster.calls().last().unwrap().1["password"], json!(PLAIN));
    let end = frames.iter().find(|f| f["type"] == "tool_end").unwrap();
    assert!(end["content"].as_str().unwrap().starts_with("logged in with \"[secret:"), "{end}");

    // The value reached neither the model, nor a client, nor the disk.
    let requests: Vec<Value> = model
        .requests()
        .iter()
        .map(|request| json!(request.messages.iter().map(|m| json!(m.as_ref())).collect::<Vec<_>>()))
        .collect();
    let mut everything = json!([requests, service.log(&session).await]).to_string();
    everything.push_str(&service.get(&format!("{session}/messages")).await.to_string());
    let data = service.stop().await;
    read_all_files(data.path(), &mut everything);
    assert!(everything.contains(digest) && !everything.contains(PLAIN) && !everything.contains(ENCODED));
}

#[tokio::test(flavor = "multi_thread")]
async fn placeholder_resolves_after_rereading_the_secret() {
    let (cluster, model) = (cluster_server(), ScriptedModel::new([]));
    let get = || call("resources_get", json!({"apiVersion": "v1", "kind": "Secret", "name": "db"}));
    model.add_replies([vec![get()], vec![text("I see")]]);
    let env = || vec![("TOOL_APPROVAL", "auto".to_owned())];
    let start = |data| {
        let servers = vec![cluster.connector("prod")];
        let yaml = Some("tools:\n  rules:\n  - {tool: login, approval: auto}\n".to_owned());
        TestService::start(ServiceSetup { model: Some(model.clone()), servers, env: env(), yaml, data })
    };
    let service = start(None).await;
    service.wait_for_mcp_servers().await;
    let session = service.create_session().await;
    let frames = service.turn(&session, "look").await;
    let of = |frames: &[Value]| {
        frames.iter().find(|f| f["type"] == "tool_end").unwrap()["content"].as_str().unwrap().to_owned()
    };
    let before = of(&frames);
    let mark = before.lines().find_map(|line| line.trim().strip_prefix("password: ")).unwrap().to_owned();
    let data = service.stop().await;

    let service = start(Some(data)).await;
    service.wait_for_mcp_servers().await;
    model.add_replies([
        vec![call("login", json!({"password": mark}))],
        vec![get()],
        vec![call("login", json!({"password": mark}))],
    ]);
    let frames = service.turn(&session, "log in").await;
    let ends: Vec<&Value> = frames.iter().filter(|f| f["type"] == "tool_end").collect();
    assert_eq!(ends[0]["status"], json!("error"));
    assert!(ends[0]["content"].as_str().unwrap().contains("Read its Secret again"), "{}", ends[0]);
    assert_eq!(ends[1]["content"], json!(before), "the same value has the same placeholder");
    assert_eq!(ends[2]["status"], json!("ok"));
    assert_eq!(cluster.calls().last().unwrap().1["password"], json!(ENCODED));
    let refused = service.request(Method::GET, &format!("{session}/tool_calls/none/output"));
    assert_eq!(service.refused(refused).await.0, 404);
}
