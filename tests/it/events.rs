//! Event streams over SSE and NDJSON: replay from any cursor has no gaps and no duplicates.

use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::service::{TestService, assert_gapless, frame_types, shown_text};
use k8sops_testing::scripted_model::{ReplyStep, ScriptedModel, TestGate, text};

#[tokio::test(flavor = "multi_thread")]
async fn every_cursor_replays_the_remaining_events() {
    let service = TestService::with(&ScriptedModel::new([])).await;
    let session = service.create_session().await;
    service.turn(&session, "a").await;
    service.turn(&session, "b").await;
    let log = service.log(&session).await;
    assert_gapless(&log, 1);
    for after in 0..=log.len() {
        let response =
            service.request(Method::GET, &format!("{session}/events?follow=false&after={after}")).send().await.unwrap();
        let frames = crate::service::EventStream::new(response).rest().await;
        assert_eq!((&frames[0]["type"], &frames[0]["last_seq"]), (&json!("hello"), &json!(log.len())));
        assert_eq!(frames[1..], log[after..], "after {after}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn last_event_id_header_overrides_the_query() {
    let service = TestService::with(&ScriptedModel::new([])).await;
    let session = service.create_session().await;
    service.turn(&session, "a").await;
    let log = service.log(&session).await;
    let response = service
        .request(Method::GET, &format!("{session}/events?after=0&follow=false"))
        .header("last-event-id", "3")
        .send()
        .await
        .unwrap();
    assert_eq!(crate::service::EventStream::new(response).rest().await[1..], log[3..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_cursor_beyond_the_newest_event_gets_a_gap_and_a_snapshot() {
    let service = TestService::with(&ScriptedModel::new([])).await;
    let session = service.create_session().await;
    service.turn(&session, "a").await;
    let request = |query: &str| service.request(Method::GET, &format!("{session}/events?follow=false{query}"));
    let response = request("").header("last-event-id", "999").send().await.unwrap();
    assert_eq!(response.status(), 200);
    let frames = crate::service::EventStream::new(response).rest().await;
    assert_eq!(frame_types(&frames), ["hello", "gap", "snapshot"]);
    assert_eq!((&frames[1]["requested"], &frames[1]["reason"]), (&json!(999), &json!("log_truncated")));
    // A store of one process cannot have lost an event whose seq the client chose.
    for chosen in ["&after=999", "&after=999&snapshot=true"] {
        let (status, refusal) = service.refused(request(chosen)).await;
        assert_eq!((status, &refusal["code"]), (400, &json!("cursor_beyond_head")), "{refusal}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_over_http_1_0_has_no_chunks() {
    let service = TestService::with(&ScriptedModel::new([])).await;
    let session = service.create_session().await;
    service.turn(&session, "a").await;
    let mut socket = TcpStream::connect(service.base.trim_start_matches("http://")).await.unwrap();
    let request = format!("GET {session}/events HTTP/1.0\r\nhost: localhost\r\naccept: application/x-ndjson\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    socket.read_to_string(&mut response).await.unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    assert!(!head.to_lowercase().contains("transfer-encoding"), "{head}");
    assert!(body.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{body}");
    assert!(body.contains("run_finished"), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn late_client_gets_the_text_so_far() {
    let gate = TestGate::new();
    let model = ScriptedModel::new([vec![text("early "), text("bird "), ReplyStep::Wait(gate.clone()), text("worm")]]);
    let service = TestService::with(&model).await;
    let session = service.create_session().await;
    service.post(&format!("{session}/messages"), json!({"content": "go"})).await;
    gate.arrived().await;
    let mut late = service.events(&session, "").await;
    let frames = late.until("token").await;
    let token = frames.last().unwrap();
    assert_eq!((&token["offset"], &token["content"]), (&json!(0), &json!("early bird ")));
    gate.open();
    let rest = late.until("run_finished").await;
    assert_eq!(shown_text(&[vec![token.clone()], rest].concat()), "early bird worm");
}

#[tokio::test(flavor = "multi_thread")]
async fn compact_stream_names_a_message_once() {
    let (first, second) = (TestGate::new(), TestGate::new());
    let reply = vec![text("early "), ReplyStep::Wait(first.clone()), text("bird"), ReplyStep::Wait(second.clone())];
    let service = TestService::with(&ScriptedModel::new([reply])).await;
    let session = service.create_session().await;
    let mut compact = service.events(&session, "?compact=true&hold=5ms").await;
    let mut full = service.events(&session, "").await;
    service.post(&format!("{session}/messages"), json!({"content": "go"})).await;
    let start = compact.until("token").await.pop().unwrap();
    assert!(start["message_id"].is_string() && start["run_id"].is_string(), "{start}");
    full.until("token").await;
    first.open();
    assert_eq!(compact.until("token").await, [json!({"type": "token", "offset": 6, "content": "bird"})]);
    let mut named = full.until("token").await.pop().unwrap();
    assert_eq!(named["message_id"], start["message_id"]);
    named.as_object_mut().unwrap().retain(|key, _| key != "message_id" && key != "run_id");
    assert_eq!(named, json!({"type": "token", "offset": 6, "content": "bird"}));
    second.open();
    compact.until("run_finished").await;
    for query in ["hold=51ms", "hold=-1ms", "compact=maybe"] {
        let (status, refusal) =
            service.refused(service.request(Method::GET, &format!("{session}/events?{query}"))).await;
        assert_eq!(status, 400, "{query}: {refusal}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_watchers_see_the_same_stream() {
    let gate = TestGate::new();
    let words: Vec<String> = (0..200).map(|n| format!("w{n} ")).collect();
    let pieces = [ReplyStep::Wait(gate.clone())].into_iter().chain(words.iter().map(|word| text(word)));
    let service = TestService::with(&ScriptedModel::new([pieces.collect()])).await;
    let session = service.create_session().await;
    service.post(&format!("{session}/messages"), json!({"content": "go"})).await;
    gate.arrived().await;
    let mut watchers = Vec::new();
    for _ in 0..20 {
        let mut stream = service.events(&session, "").await;
        stream.until("run_started").await;
        watchers.push(stream);
    }
    // The model replies only after all streams are open.
    gate.open();
    let all =
        watchers.into_iter().map(|mut stream| async move { stream.until("run_finished").await }).collect::<Vec<_>>();
    let all = futures_util::future::join_all(all).await;
    let log = service.log(&session).await;
    let started = log.iter().position(|event| event["type"] == "run_started").unwrap();
    for frames in all {
        let logged: Vec<_> = frames.iter().filter(|f| f["seq"].is_u64()).cloned().collect();
        assert_eq!(logged, log[started + 1..]);
        assert_eq!(shown_text(&frames), words.concat());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ndjson_stream_ends_at_the_head() {
    let service = TestService::with(&ScriptedModel::new([])).await;
    let session = service.create_session().await;
    service.turn(&session, "a").await;
    let response = service
        .request(Method::GET, &format!("{session}/events"))
        .header("accept", "application/x-ndjson")
        .send()
        .await
        .unwrap();
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    let text = response.text().await.unwrap();
    let frames: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(frames[0]["type"], "hello");
    assert_eq!(frames[1..], service.log(&session).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_continues_after_the_snapshot() {
    let service = TestService::with(&ScriptedModel::new([])).await;
    let session = service.create_session().await;
    service.turn(&session, "a").await;
    let mut stream = service.events(&session, "?snapshot=true").await;
    let frames = stream.until("snapshot").await;
    assert_eq!(frame_types(&frames), ["hello", "snapshot"]);
    let snapshot = frames.last().unwrap();
    let as_of = snapshot["as_of_seq"].as_u64().unwrap();
    assert_eq!(snapshot["messages"], service.get(&format!("{session}/messages")).await["messages"]);
    service.turn(&session, "b").await;
    let rest = stream.until("run_finished").await;
    assert_gapless(&rest, as_of + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn reconnect_neither_loses_nor_repeats_events() {
    let service = TestService::with(&ScriptedModel::new([])).await;
    let session = service.create_session().await;
    let mut seen: Vec<Value> = Vec::new();
    for n in 0..4 {
        service.post(&format!("{session}/messages"), json!({"content": format!("m{n}")})).await;
        loop {
            // A new connection for every single event.
            let after = seen.last().map_or(0, |event| event["seq"].as_u64().unwrap());
            let mut stream = service.events(&session, &format!("?after={after}")).await;
            let event = loop {
                let frame = stream.next().await.unwrap();
                if frame["seq"].is_u64() {
                    break frame;
                }
            };
            let ended = event["type"] == "run_finished";
            seen.push(event);
            if ended {
                break;
            }
        }
    }
    assert_eq!(seen, service.log(&session).await);
}
