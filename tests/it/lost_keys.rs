//! A Redis that loses or changes single keys of a session.

use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};

use crate::service::{EventStream, ServiceSetup, TestService, assert_gapless, frame_types};
use k8sops_testing::{
    eventually,
    redis::{RedisFlavor, RedisServer},
    scripted_model::{ReplyStep, ScriptedModel, TestGate, text},
};

/// Two replicas and their store.
struct Replicas {
    redis: RedisServer,
    services: [TestService; 2],
}

impl Replicas {
    async fn start(model: &Arc<ScriptedModel>) -> Self {
        let redis = RedisServer::start(RedisFlavor::Debian).await;
        let start = async || {
            let env = vec![("MEMORY_BACKEND", "redis".into()), ("REDIS_URL", redis.url())];
            TestService::start(ServiceSetup { env, model: Some(model.clone()), ..ServiceSetup::default() }).await
        };
        let services = [start().await, start().await];
        Self { redis, services }
    }

    async fn wait_until_idle(&self, session: &str) {
        eventually("the session is idle", async || {
            self.services[1].get(session).await["status"]["is_processing"] == false
        })
        .await;
    }

    async fn count_events(&self, session: &str, event_type: &str) -> usize {
        let log = self.services[0].log(session).await;
        assert_gapless(&log, 1);
        log.iter().filter(|event| event["type"] == event_type).count()
    }
}

/// The name of a key of a session with this path.
fn key_of(session: &str, key: &str) -> String {
    format!("k8sops:{{{}}}:{key}", session.rsplit('/').next().unwrap())
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn session_that_lost_a_key_is_damaged_everywhere() {
    let losses: [(&str, &[&str]); 9] = [
        ("log", &["DEL", "log"]),
        ("meta", &["DEL", "meta"]),
        ("emptied log", &["XTRIM", "log", "MAXLEN", "0"]),
        ("log without its head", &["XTRIM", "log", "MINID", "3"]),
        ("log of another kind", &["EVAL", "redis.call('DEL', KEYS[1]) redis.call('SET', KEYS[1], 'x')", "1", "log"]),
        ("meta of another kind", &["EVAL", "redis.call('DEL', KEYS[1]) redis.call('SET', KEYS[1], 'x')", "1", "meta"]),
        ("log beyond its head", &["XADD", "log", "9000-0", "e", "{}"]),
        ("head beyond the log", &["HINCRBY", "meta", "last_seq", "1"]),
        ("head before the log", &["HINCRBY", "meta", "last_seq", "-1"]),
    ];
    let replicas = Replicas::start(&ScriptedModel::new([])).await;
    for (what, command) in losses {
        let session = replicas.services[0].create_session().await;
        replicas.services[0].turn(&session, "hi").await;
        let mut watchers = Vec::new();
        for service in &replicas.services {
            let mut watcher = service.events(&session, "").await;
            watcher.until("run_finished").await;
            watchers.push(watcher);
        }
        let command = command.iter().map(|word| match *word {
            "log" | "meta" => key_of(&session, word),
            word => word.to_owned(),
        });
        let command: Vec<String> = command.collect();
        replicas.redis.cli(&command.iter().map(String::as_str).collect::<Vec<_>>()).await;
        for service in &replicas.services {
            let message = service.request(Method::POST, &format!("{session}/messages"));
            let (status, problem) = service.refused(message.json(&json!({"content": "and now?"}))).await;
            assert_eq!((status, &problem["code"]), (500, &json!("session_damaged")), "{what}: {problem}");
            assert!(problem["detail"].as_str().unwrap().contains("delete the session"), "{what}: {problem}");
            let messages = service.request(Method::GET, &format!("{session}/messages"));
            assert_eq!(service.refused(messages).await.1["code"], "session_damaged", "{what}");
            let listed = service.get("/v1/sessions").await;
            let path = |listed: &&Value| session.ends_with(listed["session_id"].as_str().unwrap());
            let listed = listed["sessions"].as_array().unwrap().iter().find(path).cloned();
            assert!(listed.is_none_or(|listed| listed["status"]["is_processing"] == false), "{what}");
        }
        // A head that is only wrong is found by who reads to the end of the log.
        if !what.contains("head") {
            for watcher in watchers {
                let last = watcher.rest().await.pop().unwrap();
                assert_eq!((&last["type"], &last["code"]), (&json!("warning"), &json!("session_damaged")), "{what}");
            }
        }
        let deleted = replicas.services[1].request(Method::DELETE, &session).send().await.unwrap();
        assert!(deleted.status().is_success(), "{what}: {deleted:?}");
        let (status, problem) = replicas.services[0].refused(replicas.services[0].request(Method::GET, &session)).await;
        assert_eq!(status, 404, "{what}: {problem}");
        assert_eq!(replicas.redis.cli(&["KEYS", &key_of(&session, "*")]).await, "", "{what}");
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn run_of_a_damaged_session_ends() {
    let gate = TestGate::new();
    let replies = ["log", "meta"].map(|_| vec![text("never"), ReplyStep::Wait(gate.clone())]);
    let replicas = Replicas::start(&ScriptedModel::new(replies)).await;
    for key in ["log", "meta"] {
        let session = replicas.services[0].create_session().await;
        let messages = format!("{session}/messages");
        let request = replicas.services[0].request(Method::POST, &messages).header("accept", "text/event-stream");
        let response = request.json(&json!({"content": "lost"})).send().await.unwrap();
        gate.arrived().await;
        replicas.redis.cli(&["DEL", &key_of(&session, key)]).await;
        let last = EventStream::new(response).rest().await.pop().unwrap();
        assert_eq!(last["code"], "session_damaged", "{key}: {last}");
        for service in &replicas.services {
            let (_, problem) = service.refused(service.request(Method::GET, &session)).await;
            assert_eq!(problem["code"], "session_damaged", "{key}");
        }
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn lost_receipts_are_made_again() {
    let gate = TestGate::new();
    let slow = vec![text("slow"), ReplyStep::Wait(gate.clone())];
    let replicas = Replicas::start(&ScriptedModel::new([vec![text("hi")], slow])).await;
    let session = replicas.services[0].create_session().await;
    let send = async |service: &TestService, id: &str, content: &str| {
        let request = service.request(Method::POST, &format!("{session}/messages")).header("idempotency-key", id);
        let response = request.json(&json!({"content": content})).send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let (_, first) = send(&replicas.services[0], "one", "hello").await;
    replicas.wait_until_idle(&session).await;
    send(&replicas.services[0], "two", "slow").await;
    gate.arrived().await;
    let (_, queued) = send(&replicas.services[1], "three", "queued").await;
    for service in &replicas.services {
        replicas.redis.cli(&["DEL", &key_of(&session, "receipts")]).await;
        for (id, content, accepted) in [("one", "hello", &first), ("three", "queued", &queued)] {
            let (status, again) = send(service, id, content).await;
            assert_eq!((status, &again["duplicate"]), (202, &json!(true)), "{id}: {again}");
            assert_eq!((&again["run_id"], &again["message_id"]), (&accepted["run_id"], &accepted["message_id"]));
        }
    }
    let (status, reused) = send(&replicas.services[0], "three", "another text").await;
    assert_eq!((status, &reused["code"]), (422, &json!("command_id_reused")));
    gate.open();
    replicas.wait_until_idle(&session).await;
    assert_eq!(replicas.count_events(&session, "user_message").await, 3);
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn message_of_a_lost_inbox_is_announced_and_can_be_sent_again() {
    for keys in [&["inbox"][..], &["inbox", "receipts"]] {
        let gate = TestGate::new();
        let model = ScriptedModel::new([vec![text("slow"), ReplyStep::Wait(gate.clone())], vec![text("done")]]);
        let replicas = Replicas::start(&model).await;
        let session = replicas.services[0].create_session().await;
        let messages = format!("{session}/messages");
        let mut watcher = replicas.services[1].events(&session, "").await;
        replicas.services[0].post(&messages, json!({"content": "slow"})).await;
        gate.arrived().await;
        let queue = async || {
            let request = replicas.services[1].request(Method::POST, &messages).header("accept", "text/event-stream");
            let request = request.header("idempotency-key", "queued").json(&json!({"content": "queued"}));
            EventStream::new(request.send().await.unwrap().error_for_status().unwrap())
        };
        let stream = queue().await;
        for key in keys {
            replicas.redis.cli(&["DEL", &key_of(&session, key)]).await;
        }
        let last = stream.rest().await.pop().unwrap();
        assert_eq!((&last["type"], &last["code"]), (&json!("warning"), &json!("message_lost")), "{keys:?}: {last}");
        watcher.until("warning").await;
        gate.open();
        replicas.wait_until_idle(&session).await;
        let frames = queue().await.rest().await;
        assert_eq!(frame_types(&frames).last(), Some(&"run_finished"), "{keys:?}");
        assert_eq!(replicas.count_events(&session, "user_message").await, 2, "{keys:?}");
        assert_eq!(replicas.count_events(&session, "warning").await, 1, "{keys:?}");
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn lost_list_gets_the_session_back_with_its_next_event() {
    let replicas = Replicas::start(&ScriptedModel::new([])).await;
    let session = replicas.services[0].create_session().await;
    let list = replicas.redis.cli(&["KEYS", "k8sops:user:*"]).await;
    replicas.redis.cli(&["DEL", &list]).await;
    replicas.services[1].turn(&session, "hi").await;
    let listed = replicas.services[0].get("/v1/sessions").await;
    assert!(session.ends_with(listed["sessions"][0]["session_id"].as_str().unwrap()), "{listed}");
}
