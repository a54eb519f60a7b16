//! What one user, and all together, may have: told at once. Bad clients harm no one.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    scripted::{ScriptedModel, call},
    service::{PATIENCE, Service, Setup, problem},
    tools::Counting,
};

async fn service(env: &[(&'static str, &str)]) -> Service {
    let env = env.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Service::start(Setup { env, model: Some(ScriptedModel::new([])), ..Setup::default() }).await
}

fn address(service: &Service) -> String {
    service.base.trim_start_matches("http://").to_owned()
}

/// All that the service says to somebody until it closes.
async fn rest(socket: &mut TcpStream) -> String {
    let mut said = Vec::new();
    // A reset is an end, too.
    let _ = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut said)).await.expect("it is closed");
    String::from_utf8_lossy(&said).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_asks_too_often_is_told_when_to_come_again() {
    let service = service(&[("K8SOPS_MAX_REQUESTS_PER_MINUTE", "5")]).await;
    let mut refused = None;
    for _ in 0..20 {
        let answer = service.request(Method::GET, "/v1/sessions").send().await.unwrap();
        if answer.status() == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("twenty in a row are too many");
    let wait: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(problem(refused).await.1["code"], "too_many_requests");
    // Probes are nobody's.
    service.get("/readyz").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_run_too_many_is_refused_at_once_and_leaves_nothing_in_the_log() {
    for (limits, status, code) in [
        ([("K8SOPS_MAX_RUNS_PER_USER", "1"), ("K8SOPS_MAX_RUNS", "9")], 429, "too_many_runs"),
        ([("K8SOPS_MAX_RUNS_PER_USER", "9"), ("K8SOPS_MAX_RUNS", "1")], 503, "overloaded"),
    ] {
        let (model, tools) = (ScriptedModel::new([vec![call("change", json!({}))]]), Counting::new());
        let env = limits.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let setup = Setup { model: Some(model), servers: vec![tools.server()], env, ..Setup::default() };
        let service = Service::start(setup).await;
        service.connected().await;
        let (busy, other) = (service.session().await, service.session().await);
        service.post(&format!("{busy}/messages"), json!({"content": "change it"})).await;
        let asked = service.events(&busy, "").await.until("approval_requested").await.pop().unwrap();
        let ask = || service.request(Method::POST, &format!("{other}/messages")).json(&json!({"content": "and here"}));
        let answer = ask().send().await.unwrap();
        assert!(answer.headers().contains_key("retry-after"));
        let (found, refused) = problem(answer).await;
        assert_eq!((found, &refused["code"]), (status, &json!(code)), "{refused}");
        assert_eq!(service.log(&other).await.len(), 1, "only its session_created");
        // The busy session takes messages as it always does.
        service.post(&format!("{busy}/messages"), json!({"content": "and then"})).await;
        let path = format!("{busy}/approvals/{}", asked["approval_id"].as_str().unwrap());
        service.post(&path, json!({"decision": "deny"})).await;
        let mut events = service.events(&busy, "").await;
        events.until("run_finished").await;
        events.until("run_finished").await;
        // There is room again.
        let taken = async {
            while ask().send().await.unwrap().status() != 202 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, taken).await.expect("there is room again");
        service.events(&other, "").await.until("run_finished").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_stream_too_many_is_refused_and_a_closed_one_makes_room() {
    let service = service(&[("K8SOPS_MAX_STREAMS_PER_USER", "2")]).await;
    let session = service.session().await;
    let (first, _second) = (service.events(&session, "").await, service.events(&session, "").await);
    let third = || service.request(Method::GET, &format!("{session}/events"));
    let answer = third().send().await.unwrap();
    assert!(answer.headers().contains_key("retry-after"));
    assert_eq!(problem(answer).await, {
        let (status, found) = service.refused(third()).await;
        assert_eq!((status, &found["code"]), (429, &json!("too_many_streams")));
        (status, found)
    });
    // A message that would be answered by a stream is not taken.
    let message = service
        .request(Method::POST, &format!("{session}/messages"))
        .header("accept", "text/event-stream")
        .json(&json!({"content": "x"}));
    assert_eq!(service.refused(message).await.0, 429);
    assert_eq!(service.get(&session).await["message_count"], 0);
    drop(first);
    let room = async {
        while third().send().await.unwrap().status() != 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, room).await.expect("there is room again");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_drips_a_head_is_closed_in_time_and_who_floods_one_is_refused() {
    let service = service(&[]).await;
    let began = Instant::now();
    let mut slow = TcpStream::connect(address(&service)).await.unwrap();
    slow.write_all(b"GET /v1/info HTTP/1.1\r\nhost: localhost\r\n").await.unwrap();
    let (mut down, mut up) = slow.split();
    let dripping = async {
        // One header a time, for as long as it is let.
        while up.write_all(b"x-more: y\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let closed = async {
        let mut said = Vec::new();
        let _ = down.read_to_end(&mut said).await;
    };
    tokio::time::timeout(PATIENCE, async {
        tokio::select! { () = dripping => {}, () = closed => {} }
    })
    .await
    .expect("it is closed");
    assert!(began.elapsed() > Duration::from_secs(2), "it is given some time");

    let many = "x-more: y\r\n".repeat(200);
    let large = format!("x-large: {}\r\n", "y".repeat(300 * 1024));
    for flood in [many, large] {
        let mut socket = TcpStream::connect(address(&service)).await.unwrap();
        // It may be closed before all of it is written.
        let _ = socket.write_all(format!("GET /v1/info HTTP/1.1\r\nhost: localhost\r\n{flood}\r\n").as_bytes()).await;
        let said = rest(&mut socket).await;
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 4"), "{said}");
    }
    service.get("/healthz").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_idle_sockets_keep_nobody_from_being_answered() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    // Both ends of each are in this process.
    let count = usize::try_from(hard).unwrap_or(usize::MAX).saturating_sub(1000).min(4000) / 2;
    let service = service(&[]).await;
    let mut idle = Vec::new();
    for _ in 0..count {
        idle.push(TcpStream::connect(address(&service)).await.unwrap());
    }
    let session = service.session().await;
    service.turn(&session, "are you there?").await;
    // And they are not kept for ever.
    for socket in idle.iter_mut().take(50) {
        rest(socket).await;
    }
    service.get(&session).await;
}
