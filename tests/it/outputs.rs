//! Outputs of any size: the model gets a bounded part, and the user and the model can read the whole output.

use std::sync::Arc;

use reqwest::{Method, header};
use serde_json::{Value, json};

use crate::service::{ServiceSetup, TestService};
use k8sops_testing::{
    fake_mcp_server::FakeMcpServer,
    scripted_model::{ReplyStep, ScriptedModel, call, text},
};

const NEEDLE: &str = "2026-11-23T10:00:00Z ERROR payment 4711 was refused by the bank";

/// Returns log lines that all differ, with one error among them.
fn varied_log(lines: usize) -> String {
    let line = |n: usize| match n {
        n if n == lines / 2 => format!("{NEEDLE}\n"),
        n => format!("2026-11-23T09:{:02}:{:02}Z INFO {:x} request served\n", n / 60 % 60, n % 60, n * 2_654_435_761),
    };
    (0..lines).map(line).collect()
}

async fn start_service(model: &Arc<ScriptedModel>, cluster: &FakeMcpServer) -> (TestService, String) {
    let servers = vec![cluster.connector("prod")];
    let service =
        TestService::start(ServiceSetup { model: Some(model.clone()), servers, ..ServiceSetup::default() }).await;
    service.wait_for_mcp_servers().await;
    let session = service.create_session().await;
    (service, session)
}

fn tool_end(frames: &[Value], n: usize) -> &Value {
    frames.iter().filter(|frame| frame["type"] == "tool_end").nth(n).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn truncated_output_is_readable_in_pages() {
    let whole = varied_log(40_000);
    let (said, cluster) = (whole.clone(), FakeMcpServer::new());
    let cluster = cluster.read_only_tool("pods_log", "The log of a pod.", move |_| Ok(said.clone()));
    let model = ScriptedModel::new([vec![call("pods_log", json!({}))], vec![text("I see")]]);
    let (service, session) = start_service(&model, &cluster).await;
    let frames = service.turn(&session, "see the log").await;
    let end = tool_end(&frames, 0);
    assert_eq!((&end["truncated"], &end["bytes"], &end["status"]), (&json!(true), &json!(whole.len()), &json!("ok")));
    let content = end["content"].as_str().unwrap();
    assert!(content.len() < 64 * 1024 && content.contains("read_output"), "{} bytes", content.len());

    let path = format!("{session}/tool_calls/{}/output", end["tool_call_id"].as_str().unwrap());
    let (mut offset, mut read) = (0, String::new());
    loop {
        let page = service.get(&format!("{path}?offset={offset}&limit=1000000")).await;
        assert_eq!((&page["offset"], &page["total_bytes"]), (&json!(offset), &json!(whole.len())));
        read.push_str(page["content"].as_str().unwrap());
        match page["next_offset"].as_u64() {
            Some(next) => offset = next,
            None => break,
        }
    }
    assert!(read == whole, "the parts are the whole");
    let plain = service.request(Method::GET, &format!("{path}?limit=100")).header(header::ACCEPT, "text/plain");
    assert_eq!(plain.send().await.unwrap().text().await.unwrap(), whole[..100]);
    // The output is stored, so it can be read after a restart, too.
    let data = service.stop().await;
    let again = TestService::start(ServiceSetup { data: Some(data), ..ServiceSetup::default() }).await;
    assert_eq!(again.get(&format!("{path}?limit=100")).await["total_bytes"], json!(whole.len()));
    let missing = again.request(Method::GET, &format!("{session}/tool_calls/none/output"));
    assert_eq!(again.refused(missing).await.1["code"], json!("output_not_found"));
    // A part that is not stored any more is not passed over.
    let data = again.stop().await;
    let (folder, call) = (session.rsplit('/').next().unwrap(), end["tool_call_id"].as_str().unwrap());
    let file = data.path().join("outputs").join(folder).join(format!("{call}.output"));
    let stored = std::fs::read_to_string(&file).unwrap();
    let header = stored.find('\n').unwrap() + 1;
    assert!(stored.starts_with("{\"format\":{"), "the file names its format");
    std::fs::write(&file, &stored[..header + 1000]).unwrap();
    let again = TestService::start(ServiceSetup { data: Some(data), ..ServiceSetup::default() }).await;
    let page = again.get(&path).await;
    assert_eq!((&page["total_bytes"], &page["missing_bytes"]), (&json!(1000), &json!(whole.len() - 1000)));
    for left in ["", "removed"] {
        std::fs::write(&file, "").unwrap();
        if left == "removed" {
            std::fs::remove_file(&file).unwrap();
        }
        let (status, problem) = again.refused(again.request(Method::GET, &path)).await;
        assert_eq!((status, &problem["code"]), (404, &json!("output_not_found")), "{left}");
        assert!(problem["detail"].as_str().unwrap().contains("no longer stored"), "{problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn model_finds_a_line_in_a_truncated_output() {
    let whole = varied_log(60_000);
    let cluster = FakeMcpServer::new().read_only_tool("pods_log", "The log of a pod.", move |_| Ok(whole.clone()));
    let model = ScriptedModel::new([vec![call("pods_log", json!({}))], vec![text("hm")]]);
    let (service, session) = start_service(&model, &cluster).await;
    let frames = service.turn(&session, "see the log").await;
    let id = tool_end(&frames, 0)["tool_call_id"].as_str().unwrap().to_owned();
    model.add_replies([
        vec![
            call("search_output", json!({"call": id, "pattern": "error|fatal", "context": 0})),
            call("read_output", json!({"call": id, "from_line": 30_001, "lines": 1})),
            call("read_output", json!({"call": "call_of_missing"})),
        ],
        vec![ReplyStep::Text("found".into())],
    ]);
    let frames = service.turn(&session, "find the error").await;
    let of = |name: &str| -> Vec<Value> {
        let starts = frames.iter().filter(|f| f["type"] == "tool_start" && f["name"] == name);
        let end_of = |start: &Value| {
            let mut ends = frames.iter().filter(|f| f["type"] == "tool_end");
            ends.find(|f| f["tool_call_id"] == start["tool_call_id"]).unwrap().clone()
        };
        starts.map(end_of).collect()
    };
    let found = &of("search_output")[0];
    assert!(found["content"].as_str().unwrap().contains(NEEDLE), "{found}");
    let read = of("read_output");
    assert!(read[0]["content"].as_str().unwrap().contains(NEEDLE), "{}", read[0]);
    assert_eq!(read[1]["status"], json!("error"));
    assert_eq!(cluster.count_calls("pods_log"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn short_output_is_returned_unchanged() {
    let cluster = FakeMcpServer::new().read_only_tool("pods_log", "The log of a pod.", |_| Ok("täil".into()));
    let model = ScriptedModel::new([vec![call("pods_log", json!({}))]]);
    let (service, session) = start_service(&model, &cluster).await;
    let frames = service.turn(&session, "see the log").await;
    let path = format!("{session}/tool_calls/{}/output", tool_end(&frames, 0)["tool_call_id"].as_str().unwrap());
    let page = service.get(&format!("{path}?limit=4")).await;
    assert_eq!((&page["content"], &page["next_offset"]), (&json!("täi"), &json!(4)));
    // An offset in the middle of a character is moved to its first byte.
    let page = service.get(&format!("{path}?offset=2")).await;
    assert_eq!((&page["content"], &page["offset"], &page["next_offset"]), (&json!("äil"), &json!(1), &Value::Null));
    let wrong = service.request(Method::GET, &format!("{path}?limit=0"));
    assert_eq!(service.refused(wrong).await.0, 400);
}
