//! A Redis that refuses what it is asked: each reason has its code, and nothing is lost.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{
    program::k8sops_command,
    service::{ServiceSetup, TestService, problem},
};
use k8sops_testing::{
    eventually,
    redis::{RedisFlavor, RedisServer},
    scripted_model::{ReplyStep, ScriptedModel, TestGate, text},
};

const USER: &str = "ops";

async fn start_service(url: String) -> TestService {
    start_service_with(url, ScriptedModel::new([])).await
}

async fn start_service_with(url: String, model: Arc<ScriptedModel>) -> TestService {
    let env = vec![("MEMORY_BACKEND", "redis".into()), ("REDIS_URL", url)];
    TestService::start(ServiceSetup { env, model: Some(model), ..ServiceSetup::default() }).await
}

/// Starts a server with a user that may do what a store needs.
async fn start_server() -> (RedisServer, String) {
    let redis = RedisServer::start(RedisFlavor::Debian).await;
    // The rights that the page on replicas recommends.
    let rights = "~k8sops:* &k8sops:* +@all -@admin -@dangerous +info";
    let user = format!("ACL SETUSER {USER} on >pw {rights}");
    redis.cli(&user.split(' ').collect::<Vec<_>>()).await;
    let url = format!("redis://{USER}:pw@127.0.0.1:{}", redis.port());
    (redis, url)
}

async fn readiness(service: &TestService) -> (u16, Value) {
    let response = service.request(Method::GET, "/readyz").send().await.unwrap();
    match response.status() {
        StatusCode::OK => (200, Value::Null),
        _ => problem(response).await,
    }
}

/// Makes the next save fail: its file cannot be replaced.
async fn break_saving(redis: &RedisServer) {
    let dir = redis.cli(&["CONFIG", "GET", "dir"]).await;
    std::fs::create_dir_all(format!("{}/dump.rdb/in-the-way", dir.lines().last().unwrap())).unwrap();
    redis.cli(&["CONFIG", "SET", "save", "3600 1"]).await;
    redis.cli(&["BGSAVE"]).await;
    eventually("the save fails", async || {
        redis.cli(&["INFO", "persistence"]).await.contains("rdb_last_bgsave_status:err")
    })
    .await;
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_has_its_code_and_ends() {
    /// The code, the commands that begin and end the refusal, whether reads work, and a word of the detail.
    type Case<'a> = (&'a str, &'a [&'a [&'a str]], &'a [&'a [&'a str]], bool, &'a str);
    let cases: [Case<'_>; 6] = [
        (
            "store_full",
            &[&["CONFIG", "SET", "maxmemory", "1"]],
            &[&["CONFIG", "SET", "maxmemory", "0"]],
            true,
            "maxmemory",
        ),
        (
            "store_read_only",
            &[&["REPLICAOF", "127.0.0.1", "1"]],
            &[&["REPLICAOF", "NO", "ONE"]],
            true,
            "read only replica",
        ),
        (
            "store_read_only",
            &[&["CONFIG", "SET", "min-replicas-to-write", "1"]],
            &[&["CONFIG", "SET", "min-replicas-to-write", "0"]],
            true,
            "replicas to write",
        ),
        (
            "store_access_denied",
            &[&["ACL", "SETUSER", USER, "-xadd"]],
            &[&["ACL", "SETUSER", USER, "+xadd"]],
            false,
            "XADD",
        ),
        (
            "store_access_denied",
            &[&["ACL", "SETUSER", USER, "resetpass", ">other"], &["CLIENT", "KILL", "USER", USER]],
            &[&["ACL", "SETUSER", USER, ">pw"]],
            false,
            "",
        ),
        ("store_not_persisting", &[], &[&["CONFIG", "SET", "stop-writes-on-bgsave-error", "no"]], true, "RDB"),
    ];
    let (redis, url) = start_server().await;
    let service = start_service(url).await;
    let session = service.create_session().await;
    for (code, begin, end, is_readable, word) in cases {
        if begin.is_empty() {
            break_saving(&redis).await;
        }
        for command in begin {
            redis.cli(command).await;
        }
        let message = service.request(Method::POST, &format!("{session}/messages")).json(&json!({"content": "hi"}));
        let (status, refusal) = service.refused(message).await;
        assert_eq!((status, &refusal["code"]), (503, &json!(code)), "{refusal}");
        assert!(refusal["detail"].as_str().unwrap().contains(word), "{refusal}");
        let (status, unready) = readiness(&service).await;
        assert_eq!((status, &unready["code"]), (503, &json!(code)), "{unready}");
        if word == "XADD" {
            assert!(unready["detail"].as_str().unwrap().contains("may not run XADD on"), "{unready}");
        }
        if is_readable {
            assert_eq!(service.get(&session).await["status"]["is_processing"], false, "{code}");
        }
        for command in end {
            redis.cli(command).await;
        }
        eventually("the service is ready again", async || readiness(&service).await.0 == 200).await;
        assert_eq!(service.turn(&session, "hi").await.last().unwrap()["outcome"], "completed", "after {code}");
    }
    let log = service.log(&session).await;
    assert_eq!(log.iter().filter(|event| event["type"] == "user_message").count(), cases.len());
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn right_lost_during_a_run_leaves_nothing_half_written() {
    let (redis, url) = start_server().await;
    for right in ["xadd", "hset", "exists", "hmget", "xdel", "hincrby", "set", "del"] {
        let gate = TestGate::new();
        let model = ScriptedModel::new([vec![text("a"), ReplyStep::Wait(gate.clone()), text("b")]]);
        let service = start_service_with(url.clone(), model).await;
        let session = service.create_session().await;
        let mut events = service.events(&session, "").await;
        service.post(&format!("{session}/messages"), json!({"content": "hi"})).await;
        gate.arrived().await;
        redis.cli(&["ACL", "SETUSER", USER, &format!("-{right}")]).await;
        gate.open();
        eventually("the service notices", async || readiness(&service).await.0 == 503).await;
        redis.cli(&["ACL", "SETUSER", USER, &format!("+{right}")]).await;
        let finished = events.until("run_finished").await;
        assert_eq!(finished.last().unwrap()["outcome"], "completed", "without {right}");
        let seqs: Vec<_> = service.log(&session).await.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
        assert!(seqs.iter().copied().eq(1..=seqs.len() as u64), "without {right}: {seqs:?}");
        assert_eq!(service.turn(&session, "again").await.last().unwrap()["outcome"], "completed", "after {right}");
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn damaged_session_does_not_hide_others_and_can_be_deleted() {
    let (redis, url) = start_server().await;
    let service = start_service(url).await;
    let (damaged, whole) = (service.create_session().await, service.create_session().await);
    let id = damaged.rsplit('/').next().unwrap();
    redis.cli(&["HSET", &format!("k8sops:{{{id}}}:meta"), "summary", "{"]).await;
    let listed = service.get("/v1/sessions").await;
    assert_eq!(listed["sessions"].as_array().unwrap().len(), 1, "{listed}");
    assert_eq!(listed["sessions"][0]["session_id"], service.get(&whole).await["session_id"]);
    let (status, refusal) = service.refused(service.request(Method::GET, &damaged)).await;
    assert_eq!((status, &refusal["code"]), (500, &json!("session_damaged")), "{refusal}");
    service.create_session().await;
    assert_eq!(service.request(Method::DELETE, &damaged).send().await.unwrap().status(), 204);
    assert_eq!(service.refused(service.request(Method::GET, &damaged)).await.0, 404);
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn user_without_channels_and_info_can_work() {
    let (redis, url) = start_server().await;
    redis.cli(&["ACL", "SETUSER", USER, "resetchannels", "-info"]).await;
    let service = start_service(url.clone()).await;
    let session = service.create_session().await;
    let frames = service.turn(&session, "hi").await;
    assert_eq!(frames.last().unwrap()["outcome"], "completed", "{frames:#?}");
    let mut doctor = k8sops_command();
    doctor.arg("doctor").env("MEMORY_BACKEND", "redis").env("REDIS_URL", &url).env("HOME", "/nonexistent");
    let said = String::from_utf8(doctor.output().await.unwrap().stdout).unwrap();
    assert!(said.contains("answers and is writable") && said.contains("channels k8sops:*"), "{said}");
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn server_that_evicts_sessions_is_refused() {
    let (redis, url) = start_server().await;
    let service = start_service(url.clone()).await;
    redis.cli(&["CONFIG", "SET", "maxmemory", "100mb", "maxmemory-policy", "volatile-lru"]).await;
    let (status, unready) = readiness(&service).await;
    assert_eq!((status, &unready["code"]), (503, &json!("store_misconfigured")), "{unready}");
    let start = async |allow: &str| {
        let env = [("MEMORY_BACKEND", "redis"), ("REDIS_URL", &url), ("REDIS_ALLOW_EVICTION", allow)];
        let env = env.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        TestService::try_start(ServiceSetup { env, model: Some(ScriptedModel::new([])), ..ServiceSetup::default() })
            .await
    };
    let refused = start("false").await.err().expect("the start is refused").to_string();
    assert!(refused.contains("volatile-lru") && refused.contains("REDIS_ALLOW_EVICTION"), "{refused}");
    assert_eq!(readiness(&start("true").await.unwrap()).await.0, 200);
}

/// A proxy that closes its connections in the middle of a reply.
struct CuttingProxy {
    port: u16,
    /// The number of bytes of the next reply that are forwarded; `usize::MAX`: all.
    reply_bytes: Arc<AtomicUsize>,
}

impl CuttingProxy {
    async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let reply_bytes = Arc::new(AtomicUsize::new(usize::MAX));
        let limit = reply_bytes.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                tokio::spawn(forward_until_cut(client, server, limit.clone()));
            }
        });
        Self { port, reply_bytes }
    }
}

async fn forward_until_cut(mut client: TcpStream, mut server: TcpStream, reply_bytes: Arc<AtomicUsize>) {
    let (mut up, mut down) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let Ok(read @ 1..) = read else { return };
                if server.write_all(&up[..read]).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut down) => {
                let Ok(read @ 1..) = read else { return };
                let limit = reply_bytes.load(Ordering::Relaxed);
                if client.write_all(&down[..read.min(limit)]).await.is_err() || limit < read {
                    return;
                }
            }
        }
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn reply_that_breaks_off_is_an_outage_and_no_damage() {
    let redis = RedisServer::start(RedisFlavor::Debian).await;
    let proxy = CuttingProxy::start(redis.port()).await;
    let service = start_service(format!("redis://127.0.0.1:{}", proxy.port)).await;
    let session = service.create_session().await;
    service.turn(&session, &"a long message ".repeat(200)).await;
    let messages = format!("{session}/messages");
    let mut accepted = 0;
    for bytes in [1, 3, 5, 40, 200, 1000] {
        proxy.reply_bytes.store(bytes, Ordering::Relaxed);
        for path in [session.as_str(), &messages, "/v1/sessions"] {
            let response = service.request(Method::GET, path).send().await.unwrap();
            // A short reply may fit.
            if response.status() != 200 {
                let (status, refusal) = problem(response).await;
                assert_eq!((status, &refusal["code"]), (503, &json!("store_unavailable")), "{refusal}");
            }
        }
        let key = format!("cut-after-{bytes}");
        let send = || {
            let request = service.request(Method::POST, &messages).header("idempotency-key", &key);
            request.json(&json!({"content": "hi"})).send()
        };
        let status = send().await.unwrap().status();
        assert!(status == 202 || status == 503, "{status}");
        proxy.reply_bytes.store(usize::MAX, Ordering::Relaxed);
        eventually("the service is ready again", async || readiness(&service).await.0 == 200).await;
        // Sent again with its key, the message is there once, whatever became of the first attempt.
        eventually("the message is accepted", async || send().await.unwrap().status() == 202).await;
        accepted += 1;
    }
    eventually("all messages are answered", async || {
        let log = service.log(&session).await;
        log.iter().filter(|event| event["type"] == "run_finished").count() == accepted + 1
    })
    .await;
}
