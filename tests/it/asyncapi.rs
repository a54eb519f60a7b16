//! The contract of the WebSocket: its frames match `openapi/asyncapi.yaml`.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::{
    program::k8sops_command,
    service::{ServiceSetup, TestService},
    websocket::TestSocket,
};
use k8sops_testing::{
    counting_server::CountingMcpServer,
    scripted_model::{ReplyStep, ScriptedModel, TestGate, call, text},
    testbed,
};

const FILE: &str = include_str!("../../openapi/asyncapi.yaml");

fn asyncapi_document() -> Value {
    serde_saphyr::from_str(FILE).unwrap()
}

/// Returns the keys of an operation's messages.
fn messages<'a>(document: &'a Value, pointer: &str) -> Vec<&'a str> {
    let references = document.pointer(pointer).unwrap().as_array().unwrap();
    references.iter().map(|r| r["$ref"].as_str().unwrap().rsplit('/').next().unwrap()).collect()
}

/// Returns the keys of the listed messages that match a frame: by its `type` and by their schema.
fn matching<'a>(document: &Value, keys: &[&'a str], frame: &Value) -> Vec<&'a str> {
    let is = |key: &&&str| {
        let message = &document["components"]["messages"][**key];
        let schema =
            json!({"$ref": format!("#/components/messages/{key}/payload"), "components": document["components"]});
        message["name"] == frame["type"] && jsonschema::is_valid(&schema, frame)
    };
    keys.iter().filter(is).copied().collect()
}

#[tokio::test]
async fn asyncapi_document_is_served() {
    let service = TestService::start(ServiceSetup::default()).await;
    assert_eq!(service.get("/asyncapi.json").await, asyncapi_document());
}

#[tokio::test]
async fn asyncapi_file_is_up_to_date() {
    let output = k8sops_command().arg("asyncapi").output().await.unwrap();
    let written = String::from_utf8(output.stdout).unwrap();
    assert_eq!(written, FILE, "regenerate it: cargo run -- asyncapi > openapi/asyncapi.yaml");
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test]
async fn official_parser_accepts_the_document() {
    let mut command = Command::new(testbed::path("K8SOPS_TEST_NODE"));
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/asyncapi.mjs"));
    command.arg(testbed::path("K8SOPS_TEST_NODE_MODULES"));
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/openapi/asyncapi.yaml"));
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read: Value = serde_json::from_slice(&output.stdout).unwrap();
    let document = asyncapi_document();
    assert_eq!(read["sendEvents"], json!(messages(&document, "/operations/sendEvents/messages")));
    assert_eq!(read["receiveCommands"], json!(messages(&document, "/operations/receiveCommands/messages")));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_websocket_frame_is_documented() {
    let document = asyncapi_document();
    let down: Vec<_> = ["/operations/sendEvents/messages", "/operations/receiveCommands/reply/messages"]
        .iter()
        .flat_map(|pointer| messages(&document, pointer))
        .collect();
    let up: BTreeSet<_> = messages(&document, "/operations/receiveCommands/messages").into_iter().collect();

    let gate = TestGate::new();
    let model = ScriptedModel::new([
        vec![text("I "), text("look"), call("change", json!({}))],
        vec![call("change", json!({}))],
        vec![text("done")],
        vec![text("more "), ReplyStep::Wait(gate.clone())],
    ]);
    let setup = ServiceSetup {
        model: Some(model),
        servers: vec![CountingMcpServer::new().connector()],
        ..ServiceSetup::default()
    };
    let service = TestService::start(setup).await;
    service.wait_for_mcp_servers().await;
    let session = service.create_session().await;
    let mut socket = TestSocket::open(&service, &session, "?snapshot=true").await;
    let (mut frames, mut tried) = (socket.until("snapshot").await, BTreeSet::from(["text"]));
    let commands = up.iter().copied().collect::<Vec<_>>();
    let mut send = async |socket: &mut TestSocket, command: Value| {
        let kinds = matching(&document, &commands, &command);
        assert_eq!(kinds.len(), 1, "{command} is not a command of the document");
        tried.extend(kinds);
        socket.send(command).await;
    };
    send(&mut socket, json!({"type": "settings", "temperature": 0.5, "command_id": "s"})).await;
    frames.extend(socket.until("settings_changed").await);
    send(&mut socket, json!({"type": "message", "content": "change it", "command_id": "m"})).await;
    for (kind, comment) in [("approve", Value::Null), ("deny", json!("no"))] {
        frames.extend(socket.until("approval_requested").await);
        let id = &frames.last().unwrap()["approval_id"];
        send(&mut socket, json!({"type": kind, "approval_id": id, "comment": comment})).await;
    }
    frames.extend(socket.until("run_finished").await);
    send(&mut socket, json!({"type": "message", "content": "again", "on_busy": "reject"})).await;
    gate.arrived().await;
    send(&mut socket, json!({"type": "cancel"})).await;
    frames.extend(socket.until("run_finished").await);
    let unknown = "018f0000-0000-7000-8000-000000000000";
    send(&mut socket, json!({"type": "answer", "input_id": unknown, "action": "decline"})).await;
    frames.extend(socket.until("error").await);
    let reply = frames.iter().rfind(|frame| frame["type"] == "assistant_message").unwrap()["message_id"].clone();
    send(&mut socket, json!({"type": "feedback", "message_id": reply, "rating": "down", "comment": "no"})).await;
    frames.extend(socket.until("message_feedback").await);
    assert_eq!(tried, up, "a command of the document was not tried");

    let mut seen = BTreeSet::new();
    for frame in &frames {
        let mut kinds = matching(&document, &down, frame);
        // Only its seq distinguishes a logged warning from one about the stream.
        kinds.retain(|kind| *kind != "transient_warning" || frame["seq"].is_null());
        assert_eq!(kinds.len(), 1, "{frame} is {kinds:?} in the document");
        seen.extend(kinds);
    }
    for kind in ["hello", "snapshot", "token", "ack", "error", "approval_resolved", "tool_start", "tool_end"] {
        assert!(seen.contains(kind), "{kind}: {seen:?}");
    }
    assert!(matching(&document, &down, &json!({"type": "token", "content": 7})).is_empty());
    let authentication = messages(&document, "/operations/receiveAuthentication/messages");
    for (frame, valid) in [(json!({"type": "auth", "token": "t"}), true), (json!({"type": "auth"}), false)] {
        assert_eq!(!matching(&document, &authentication, &frame).is_empty(), valid, "{frame}");
    }
}
