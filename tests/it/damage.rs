//! Sessions whose stored data is damaged while they are owned: no stream waits for them, and they can be deleted.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::service::{EventStream, ServiceSetup, TestService};
use k8sops_testing::{
    counting_server::CountingMcpServer,
    eventually,
    redis::{RedisFlavor, RedisServer},
    scripted_model::{ScriptedModel, call},
};

/// Longer than an owner or a watcher takes to notice on a busy machine.
const NOTICE_LIMIT: Duration = Duration::from_secs(30);

/// A run that waits for an approval, and its watchers.
struct PendingApproval {
    session: String,
    path: String,
    watchers: Vec<EventStream>,
}

impl PendingApproval {
    async fn start(services: &[TestService]) -> Self {
        let session = services[0].create_session().await;
        services[0].post(&format!("{session}/messages"), json!({"content": "change it"})).await;
        let mut watchers = Vec::new();
        let mut asked = Value::Null;
        for service in services {
            let mut watcher = service.events(&session, "").await;
            asked = watcher.until("approval_requested").await.pop().unwrap();
            watchers.push(watcher);
        }
        let path = format!("{session}/approvals/{}", asked["approval_id"].as_str().unwrap());
        Self { session, path, watchers }
    }

    /// Checks that all who have to do with the session learn that it is damaged, and that it can be deleted.
    async fn assert_damaged_everywhere(self, services: &[TestService], what: &str) {
        let Self { session, path, watchers } = self;
        for watcher in watchers {
            let rest = timeout(NOTICE_LIMIT, watcher.rest()).await;
            let last = rest.unwrap_or_else(|_| panic!("{what}: a stream goes on")).pop().unwrap();
            assert_eq!((&last["type"], &last["code"]), (&json!("warning"), &json!("session_damaged")), "{what}");
        }
        for service in services {
            let requests = [
                service.request(Method::POST, &path).json(&json!({"decision": "approve"})),
                service.request(Method::POST, &format!("{session}/cancel")),
                service.request(Method::POST, &format!("{session}/messages")).json(&json!({"content": "hello?"})),
                service.request(Method::GET, &session),
                service.request(Method::GET, &format!("{session}/events")),
            ];
            for request in requests {
                let (status, problem) = service.refused(request).await;
                assert_eq!((status, &problem["code"]), (500, &json!("session_damaged")), "{what}: {problem}");
            }
            let listed = service.get("/v1/sessions").await;
            let path = |listed: &&Value| session.ends_with(listed["session_id"].as_str().unwrap());
            let listed = listed["sessions"].as_array().unwrap().iter().find(path).cloned();
            assert!(listed.is_none_or(|listed| listed["status"]["is_processing"] == false), "{what}");
        }
        let deleted = services[services.len() - 1].request(Method::DELETE, &session).send().await.unwrap();
        assert_eq!(deleted.status(), 204, "{what}");
        for service in services {
            assert_eq!(service.refused(service.request(Method::GET, &session)).await.0, 404, "{what}");
        }
    }
}

fn key_of(session: &str, key: &str) -> String {
    format!("k8sops:{{{}}}:{key}", session.rsplit('/').next().unwrap())
}

async fn start_services(count: usize, env: &[(&'static str, String)], tools: &CountingMcpServer) -> Vec<TestService> {
    let replies = (0..20).map(|_| vec![call("change", json!({}))]);
    let model = ScriptedModel::new(replies);
    let mut services = Vec::new();
    for _ in 0..count {
        let setup = ServiceSetup {
            env: env.to_vec(),
            model: Some(model.clone()),
            servers: vec![tools.connector()],
            ..ServiceSetup::default()
        };
        let service = TestService::start(setup).await;
        service.wait_for_mcp_servers().await;
        services.push(service);
    }
    services
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn keys_damaged_while_an_approval_is_pending_end_the_session() {
    const OF_ANOTHER_TYPE: &str = "redis.call('DEL', KEYS[1]) redis.call('SET', KEYS[1], 'x')";
    let redis = RedisServer::start(RedisFlavor::Debian).await;
    let env = [("MEMORY_BACKEND", "redis".to_owned()), ("REDIS_URL", redis.url())];
    let tools = CountingMcpServer::new();
    let services = start_services(2, &env, &tools).await;
    let damage: [(&str, &[&str]); 8] = [
        ("event in the middle of the log", &["XDEL", "log", "3-0"]),
        ("first events of the log", &["XTRIM", "log", "MINID", "3"]),
        (
            "newest event of the log",
            &[
                "EVAL",
                "redis.call('XDEL', KEYS[1], redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1][1])",
                "1",
                "log",
            ],
        ),
        ("inbox of another type", &["EVAL", OF_ANOTHER_TYPE, "1", "inbox"]),
        ("receipts of another type", &["EVAL", OF_ANOTHER_TYPE, "1", "receipts"]),
        ("summary", &["HDEL", "meta", "summary"]),
        ("fields of meta", &["HDEL", "meta", "epoch", "open"]),
        ("last_seq that is no number", &["HSET", "meta", "last_seq", "x"]),
    ];
    for (what, command) in damage {
        let pending = PendingApproval::start(&services).await;
        let command = command.iter().map(|word| match *word {
            "log" | "inbox" | "receipts" | "meta" => key_of(&pending.session, word),
            word => word.to_owned(),
        });
        let command: Vec<String> = command.collect();
        redis.cli(&command.iter().map(String::as_str).collect::<Vec<_>>()).await;
        pending.assert_damaged_everywhere(&services, what).await;
    }
    assert_eq!(tools.count_calls("change"), 0);
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn keys_that_only_pass_something_on_are_replaced() {
    const OF_ANOTHER_TYPE: &str = "redis.call('DEL', KEYS[1]) redis.call('SET', KEYS[1], 'x')";
    let redis = RedisServer::start(RedisFlavor::Debian).await;
    let env = [("MEMORY_BACKEND", "redis".to_owned()), ("REDIS_URL", redis.url())];
    let tools = CountingMcpServer::new();
    let services = start_services(2, &env, &tools).await;
    let mut pending = PendingApproval::start(&services).await;
    for key in ["watchers", "preview"] {
        redis.cli(&["EVAL", OF_ANOTHER_TYPE, "1", &key_of(&pending.session, key)]).await;
    }
    eventually("the watchers are announced again", async || {
        redis.cli(&["TYPE", &key_of(&pending.session, "watchers")]).await.trim() == "zset"
    })
    .await;
    services[1].post(&pending.path, json!({"decision": "approve"})).await;
    for watcher in &mut pending.watchers {
        watcher.until("tool_end").await;
    }
    assert_eq!(tools.count_calls("change"), 1);
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn loss_in_the_middle_of_a_log_without_an_owner_is_found_before_a_message_is_accepted() {
    let redis = RedisServer::start(RedisFlavor::Debian).await;
    let env = [("MEMORY_BACKEND", "redis".to_owned()), ("REDIS_URL", redis.url())];
    let services = start_services(2, &env, &CountingMcpServer::new()).await;
    let session = services[0].create_session().await;
    for title in ["one", "two", "three"] {
        services[0].patch(&session, json!({"title": title})).await;
    }
    redis.cli(&["XDEL", &key_of(&session, "log"), "2-0"]).await;
    for service in &services {
        let message = service.request(Method::POST, &format!("{session}/messages"));
        let (status, problem) = service.refused(message.json(&json!({"content": "hello?"}))).await;
        assert_eq!((status, &problem["code"]), (500, &json!("session_damaged")), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains("must have 4 events"), "{problem}");
    }
    assert_eq!(redis.cli(&["XLEN", &key_of(&session, "inbox")]).await.trim(), "0");
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn shared_key_of_another_type_is_a_misconfiguration_that_is_named() {
    let redis = RedisServer::start(RedisFlavor::Debian).await;
    let env = [("MEMORY_BACKEND", "redis".to_owned()), ("REDIS_URL", redis.url())];
    let services = start_services(1, &env, &CountingMcpServer::new()).await;
    let service = &services[0];
    let session = service.create_session().await;
    for (key, method, path, is_in_readiness) in [
        ("work", Method::POST, format!("{session}/messages"), true),
        ("approvals", Method::GET, "/v1/approvals".to_owned(), true),
        ("user:default", Method::GET, "/v1/sessions".to_owned(), false),
        ("key", Method::GET, "/readyz".to_owned(), true),
    ] {
        let (name, saved) = (format!("k8sops:{key}"), format!("saved:{key}"));
        let existed = redis.cli(&["EXISTS", &name]).await.trim() == "1";
        if existed {
            redis.cli(&["RENAME", &name, &saved]).await;
        }
        redis.cli(&["HSET", &name, "of", "another program"]).await;
        let mut requests = vec![service.request(method, &path).json(&json!({"content": "hi"}))];
        if is_in_readiness {
            requests.push(service.request(Method::GET, "/readyz"));
        }
        for request in requests {
            let (status, problem) = service.refused(request).await;
            assert_eq!((status, &problem["code"]), (503, &json!("store_misconfigured")), "{key}: {problem}");
            assert!(problem["detail"].as_str().unwrap().contains(&format!("the key {name}")), "{problem}");
        }
        redis.cli(&["DEL", &name]).await;
        if existed {
            redis.cli(&["RENAME", &saved, &name]).await;
        }
        eventually("the service is ready", async || {
            service.request(Method::GET, "/readyz").send().await.unwrap().status() == 200
        })
        .await;
    }
    assert_eq!(service.get(&session).await["status"]["is_processing"], false);
}

fn session_file(service: &TestService, session: &str) -> PathBuf {
    let users = fs::read_dir(service.data_folder().join("sessions")).unwrap();
    let id = session.rsplit('/').next().unwrap();
    users.map(|user| user.unwrap().path().join(format!("{id}.jsonl"))).find(|path| path.exists()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn file_damaged_while_an_approval_is_pending_ends_the_session() {
    type Damage = fn(&PathBuf);
    let damage: [(&str, Damage); 5] = [
        ("byte flipped", |path| {
            let mut bytes = fs::read(path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(path, bytes).unwrap();
            // Not within the few milliseconds in which the file was written last.
            let later = SystemTime::now() + Duration::from_secs(1);
            fs::OpenOptions::new().write(true).open(path).unwrap().set_modified(later).unwrap();
        }),
        ("emptied", |path| fs::write(path, "").unwrap()),
        ("removed", |path| fs::remove_file(path).unwrap()),
        ("replaced by a folder", |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }),
        ("line removed", |path| {
            let text = fs::read_to_string(path).unwrap();
            let lines: Vec<&str> = text.split_inclusive('\n').collect();
            fs::write(path, [&lines[..2], &lines[3..]].concat().concat()).unwrap();
        }),
    ];
    let tools = CountingMcpServer::new();
    let services = start_services(1, &[], &tools).await;
    for (what, damage) in damage {
        let pending = PendingApproval::start(&services).await;
        let path = session_file(&services[0], &pending.session);
        damage(&path);
        pending.assert_damaged_everywhere(&services, what).await;
        assert!(!path.exists(), "{what}");
    }
    assert_eq!(tools.count_calls("change"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn run_goes_on_once_its_file_is_repaired() {
    let tools = CountingMcpServer::new();
    let services = start_services(1, &[], &tools).await;
    let service = &services[0];
    let PendingApproval { session, path, watchers } = PendingApproval::start(&services).await;
    let file = session_file(service, &session);
    let good = fs::read(&file).unwrap();
    fs::write(&file, "").unwrap();
    for watcher in watchers {
        assert_eq!(timeout(NOTICE_LIMIT, watcher.rest()).await.unwrap().pop().unwrap()["code"], "session_damaged");
    }
    fs::write(&file, good).unwrap();
    assert_eq!(service.get(&session).await["status"]["is_processing"], true);
    let mut watcher = service.events(&session, "").await;
    watcher.until("run_recovered").await;
    service.post(&path, json!({"decision": "approve"})).await;
    watcher.until("tool_end").await;
    assert_eq!(tools.count_calls("change"), 1);
}
