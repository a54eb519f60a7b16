//! Confirmation of writes: what is acknowledged or sent survives a failure of Redis, as far as `REDIS_CONFIRM` asks for it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::{join_all, try_join_all};
use k8sops_core::{
    CommandId, ConfirmableWrite, LogHead, LogLineage, SessionId, SessionLog as _, StoreError, StoreOutage,
    WriteConfirmation as _,
};
use k8sops_store::{
    ConfirmationPolicy, RedisConfig, RedisDeployment, RedisStore,
    contract::{SessionWriter, create_test_session, test_user, warning_draft},
};
use k8sops_testing::{
    counting_server::CountingMcpServer,
    eventually, eventually_within,
    redis::{RedisCluster, RedisFailoverPair, RedisFlavor, RedisSentinel, RedisServer},
    scripted_model::{ReplyStep, ScriptedModel, call, text},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    program::k8sops_command,
    redis_store,
    service::{ServiceSetup, TestService, problem},
    websocket::TestSocket,
};

struct ConfirmedService {
    service: TestService,
    tools: CountingMcpServer,
}

impl ConfirmedService {
    async fn start(url: String, confirm: &str, replies: impl IntoIterator<Item = Vec<ReplyStep>>) -> Self {
        let (model, tools) = (ScriptedModel::new(replies), CountingMcpServer::new());
        // Replicas answer at once or, in these tests, not at all; a disk may be slow.
        let timeout = if confirm == "1" { "800ms" } else { "20s" };
        let env = vec![
            ("MEMORY_BACKEND", "redis".into()),
            ("REDIS_URL", url),
            ("REDIS_CONFIRM", confirm.into()),
            ("REDIS_CONFIRM_TIMEOUT", timeout.into()),
        ];
        let servers = vec![tools.connector()];
        let mut service =
            TestService::start(ServiceSetup { env, model: Some(model), servers, ..ServiceSetup::default() }).await;
        service.repeats_reads = true;
        service.wait_for_mcp_servers().await;
        Self { service, tools }
    }

    async fn readiness(&self) -> Value {
        let response = self.service.request(Method::GET, "/readyz").send().await.unwrap();
        if response.status() == 200 { json!({"code": "ready"}) } else { problem(response).await.1 }
    }

    /// Sends a command with its key; returns the status and the body.
    async fn send(&self, path: &str, key: &str, body: Value) -> (u16, Value) {
        let request = self.service.request(Method::POST, path).header("idempotency-key", key).json(&body);
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        if status == 503 {
            assert!(response.headers().contains_key("retry-after"));
        }
        (status, response.json().await.unwrap())
    }

    /// Sends a message whose run asks for an approval; returns the path of the approval.
    async fn ask_for_change(&self, session: &str) -> String {
        let mut stream = self.service.events(session, "").await;
        let (status, body) = self.send(&format!("{session}/messages"), "m1", json!({"content": "change it"})).await;
        assert_eq!(status, 202, "{body}");
        let asked = stream.until("approval_requested").await.pop().unwrap();
        format!("{session}/approvals/{}", asked["approval_id"].as_str().unwrap())
    }

    async fn tool_ends(&self, session: &str) -> Vec<Value> {
        self.service.log(session).await.into_iter().filter(|event| event["type"] == "tool_end").collect()
    }
}

fn change() -> Vec<ReplyStep> {
    vec![call("change", json!({"replicas": 0}))]
}

fn assert_not_sent(end: &Value) {
    assert_eq!(end["status"], "error", "{end}");
    assert!(end["content"].as_str().unwrap().starts_with("not sent, and nothing was changed"), "{end}");
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn change_is_not_sent_and_nothing_acknowledged_while_the_replica_is_stopped() {
    for flavor in [RedisFlavor::Debian, RedisFlavor::Valkey] {
        let redis = RedisFailoverPair::start(flavor).await;
        let replies = [
            change(),
            vec![text("it was not sent")],
            vec![text("hello")],
            vec![text("hello")],
            change(),
            vec![text("done")],
        ];
        let fixture = ConfirmedService::start(redis.url(), "1", replies).await;
        let session = fixture.service.create_session().await;
        let approval = fixture.ask_for_change(&session).await;
        assert_eq!(fixture.readiness().await["code"], "ready");
        redis.replica().pause().await;

        // Accepted and not confirmed: the answer takes effect, and the call is not sent.
        for _ in 0..2 {
            let (status, body) = fixture.send(&approval, "a1", json!({"decision": "approve"})).await;
            assert_eq!((status, &body["code"]), (503, &json!("store_unconfirmed")), "{body}");
            assert!(body["detail"].as_str().unwrap().contains("0 of 1 replicas"), "{body}");
        }
        eventually("the run ends", async || {
            fixture.service.log(&session).await.last().unwrap()["type"] == "run_finished"
        })
        .await;
        assert_not_sent(&fixture.tool_ends(&session).await[0]);
        let messages = format!("{session}/messages");
        let (status, body) = fixture.send(&messages, "m2", json!({"content": "hi"})).await;
        assert_eq!((status, &body["code"]), (503, &json!("store_unconfirmed")), "{body}");
        eventually_within(Duration::from_secs(20), "it is not ready", async || {
            fixture.readiness().await["code"] == "store_unconfirmed"
        })
        .await;
        // Events do not wait, also where the command came from.
        let mut socket = TestSocket::open(&fixture.service, &session, "").await;
        socket.send(json!({"type": "message", "content": "hi", "command_id": "w1"})).await;
        let frames = socket.until("error").await;
        let refused = frames.last().unwrap();
        assert_eq!((&refused["code"], &refused["command_id"]), (&json!("store_unconfirmed"), &json!("w1")));
        let shown = frames.iter().filter(|frame| frame["type"] == "user_message" && frame["content"] == "hi").count();
        assert_eq!(shown, 2, "{frames:#?}");
        // Reads do not wait. Each would, and the machine is not always busy.
        let mut fastest = Duration::MAX;
        for _ in 0..10 {
            let began = Instant::now();
            fixture.service.get("/v1/sessions").await;
            fastest = fastest.min(began.elapsed());
        }
        assert!(fastest < Duration::from_millis(700), "{fastest:?}");

        redis.replica().resume().await;
        eventually("the service is ready again", async || fixture.readiness().await["code"] == "ready").await;
        let (status, body) = fixture.send(&approval, "a1", json!({"decision": "approve"})).await;
        assert!(status == 200 || status == 202, "{status} {body}");
        let (status, body) = fixture.send(&messages, "m2", json!({"content": "hi"})).await;
        assert_eq!((status, &body["duplicate"]), (202, &json!(true)), "{body}");
        eventually("the message is answered", async || {
            fixture.service.log(&session).await.iter().filter(|event| event["type"] == "run_finished").count() == 3
        })
        .await;
        assert_eq!(fixture.tools.count_calls("change"), 0);

        // The same change is made once it can be confirmed.
        let mut stream = fixture.service.events(&session, "").await;
        fixture.send(&messages, "m3", json!({"content": "now change it"})).await;
        let mut asked = stream.until("approval_requested").await.pop().unwrap();
        if approval.ends_with(asked["approval_id"].as_str().unwrap()) {
            asked = stream.until("approval_requested").await.pop().unwrap();
        }
        let approval = format!("{session}/approvals/{}", asked["approval_id"].as_str().unwrap());
        fixture.service.post(&approval, json!({"decision": "approve"})).await;
        eventually("the change is made", async || fixture.tool_ends(&session).await.len() == 2).await;
        assert_eq!(fixture.tool_ends(&session).await[1]["status"], "ok");
        assert_eq!(fixture.tools.count_calls("change"), 1);
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn failover_loses_nothing_that_was_acknowledged_and_no_change_is_made_twice() {
    let redis = RedisFailoverPair::start(RedisFlavor::Redis8).await;
    let replies = [change(), vec![text("not sent")], vec![text("done")], vec![text("hello")]];
    let fixture = ConfirmedService::start(redis.url(), "1", replies).await;
    let session = fixture.service.create_session().await;
    let approval = fixture.ask_for_change(&session).await;
    // From now on, the primary has no replica.
    redis.stop_replication().await;
    let (status, body) = fixture.send(&approval, "a1", json!({"decision": "approve"})).await;
    assert_eq!((status, &body["code"]), (503, &json!("store_unconfirmed")), "{body}");
    eventually("the call ends", async || !fixture.tool_ends(&session).await.is_empty()).await;
    assert_not_sent(&fixture.tool_ends(&session).await[0]);
    let messages = format!("{session}/messages");
    let (status, _) = fixture.send(&messages, "m2", json!({"content": "hi"})).await;
    assert_eq!(status, 503);
    let (status, body) = {
        let response = fixture.service.request(Method::POST, "/v1/sessions").json(&json!({})).send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    assert_eq!((status, &body["code"]), (503, &json!("store_unconfirmed")), "{body}");
    let unconfirmed = fixture.service.log(&session).await;

    redis.promote_replica().await;
    redis.restart_as_replica().await;
    fixture.service.events(&session, "").await.until("log_truncated").await;
    let log = fixture.service.log(&session).await;
    let truncated = log.iter().find(|event| event["type"] == "log_truncated").unwrap();
    assert!(truncated["lost_calls"].as_array().is_none_or(Vec::is_empty), "no call was sent: {truncated}");
    assert!(unconfirmed.iter().any(|event| event["type"] == "tool_start"));

    // The approval is asked for as before, and the call is made for the first time.
    eventually("the answer is acknowledged", async || {
        fixture.send(&approval, "a2", json!({"decision": "approve"})).await.0 < 300
    })
    .await;
    eventually("the call ends", async || !fixture.tool_ends(&session).await.is_empty()).await;
    assert_eq!(fixture.tool_ends(&session).await[0]["status"], "ok");
    assert_eq!(fixture.tools.count_calls("change"), 1);
    let (status, body) = fixture.send(&messages, "m2", json!({"content": "hi"})).await;
    assert_eq!((status, &body["duplicate"]), (202, &json!(false)), "{body}");
    eventually("the message is answered", async || {
        fixture.service.log(&session).await.iter().filter(|event| event["type"] == "run_finished").count() == 2
    })
    .await;
    let log = fixture.service.log(&session).await;
    assert_eq!(log.iter().filter(|event| event["content"] == "hi").count(), 1);
    assert_eq!(fixture.tools.count_calls("change"), 1);
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn append_only_file_confirms_by_default_where_it_can() {
    for (flavor, fsync, in_force) in [
        (RedisFlavor::Valkey, "everysec", "confirms writes by the AOF (appendfsync everysec"),
        (RedisFlavor::Redis8, "always", "confirms writes by the AOF (appendfsync always)"),
        (RedisFlavor::Redis8, "no", "does not confirm writes: Redis leaves it to the operating system"),
        (RedisFlavor::Debian, "everysec", "has no WAITAOF"),
    ] {
        let redis = RedisServer::start(flavor).await;
        redis.cli(&["CONFIG", "SET", "appendfsync", fsync]).await;
        let fixture = ConfirmedService::start(redis.url(), "auto", [change(), vec![text("done")]]).await;
        let session = fixture.service.create_session().await;
        let approval = fixture.ask_for_change(&session).await;
        fixture.service.post(&approval, json!({"decision": "approve"})).await;
        eventually("the change is made", async || fixture.tool_ends(&session).await.len() == 1).await;
        assert_eq!(
            (fixture.tool_ends(&session).await[0]["status"].as_str(), fixture.tools.count_calls("change")),
            (Some("ok"), 1)
        );
        assert_eq!(fixture.readiness().await["code"], "ready");
        let marks = redis.cli(&["EVAL", MARKS, "0"]).await;
        assert_eq!(marks != "0", in_force.starts_with("confirms"), "{flavor:?} {fsync}: {marks} marks");
        let said = doctor(&redis.url(), "auto").await;
        assert!(said.contains(in_force), "{flavor:?} {fsync}: {said}");
    }
}

/// The number of sessions with confirmed writes.
const MARKS: &str = "local n = 0 for _, key in ipairs(redis.call('KEYS', '*:meta')) do n = n + redis.call('HEXISTS', key, \
                     'marks') end return n";

async fn doctor(url: &str, confirm: &str) -> String {
    let mut doctor = k8sops_command();
    doctor.arg("doctor").envs([("MEMORY_BACKEND", "redis"), ("HOME", "/nonexistent"), ("REDIS_CONFIRM", confirm)]);
    String::from_utf8(doctor.env("REDIS_URL", url).output().await.unwrap().stdout).unwrap()
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn server_that_cannot_confirm_as_configured_is_refused() {
    let start = async |url: String| {
        let env = vec![("MEMORY_BACKEND", "redis".into()), ("REDIS_URL", url), ("REDIS_CONFIRM", "aof".into())];
        TestService::try_start(ServiceSetup { env, model: Some(ScriptedModel::new([])), ..ServiceSetup::default() })
            .await
    };
    let old = RedisServer::start(RedisFlavor::Debian).await;
    let refused = start(old.url()).await.err().expect("the start is refused").to_string();
    assert!(refused.contains("no WAITAOF") && refused.contains("REDIS_CONFIRM"), "{refused}");

    let redis = RedisServer::start(RedisFlavor::Redis8).await;
    let fixture = ConfirmedService::start(redis.url(), "aof", []).await;
    let session = fixture.service.create_session().await;
    redis.cli(&["CONFIG", "SET", "appendonly", "no"]).await;
    let unready = fixture.readiness().await;
    assert_eq!(unready["code"], "store_misconfigured", "{unready}");
    let (status, body) = fixture.send(&format!("{session}/messages"), "m1", json!({"content": "hi"})).await;
    assert_eq!((status, &body["code"]), (503, &json!("store_misconfigured")), "{body}");
    redis.cli(&["CONFIG", "SET", "appendonly", "yes"]).await;
    eventually("it is ready again", async || fixture.readiness().await["code"] == "ready").await;
    eventually("the message is acknowledged", async || {
        fixture.send(&format!("{session}/messages"), "m1", json!({"content": "hi"})).await.0 == 202
    })
    .await;

    // Without an append-only file, the default confirms nothing.
    let redis = RedisServer::start(RedisFlavor::Valkey).await;
    redis.cli(&["CONFIG", "SET", "appendonly", "no"]).await;
    let fixture = ConfirmedService::start(redis.url(), "auto", []).await;
    let session = fixture.service.create_session().await;
    fixture.service.turn(&session, "hi").await;
    assert!(doctor(&redis.url(), "auto").await.contains("does not confirm writes: Redis writes no append-only file"));
}

fn store_config(urls: Vec<String>, topology: RedisDeployment, confirm: ConfirmationPolicy) -> RedisConfig {
    RedisConfig { confirm, ..redis_store::store_config(urls, topology) }
}

fn is_unconfirmed(result: &Result<(), StoreError>) -> bool {
    result.as_ref().is_err_and(|error| error.outage() == Some(StoreOutage::Unconfirmed))
}

/// Confirms writes to many sessions at once, and finds out what was never written.
async fn confirm_many(store: &RedisStore, damage_receipts: impl AsyncFn(SessionId)) {
    let sessions = join_all((0..100).map(|_| create_test_session(store))).await;
    let began = Instant::now();
    let confirm = sessions.iter().map(async |session| {
        let mut writer = SessionWriter::acquire(store, *session, "a").await;
        writer.append(vec![warning_draft("confirm me")]).await?;
        let head = LogHead { seq: writer.state.last_seq(), lineage: writer.lineage };
        store.confirm_write(*session, ConfirmableWrite::Events(head)).await
    });
    try_join_all(confirm).await.unwrap();
    // One after the other, those to a file would take 100 s: Redis syncs it once a second.
    assert!(began.elapsed() < Duration::from_secs(30), "writes are confirmed together: {:?}", began.elapsed());

    let session = sessions[0];
    let head = store.read_events(session, 0, 10).await.unwrap().head();
    let other = LogLineage::extend(None, b"another branch");
    let (by, command_id) = (test_user("anna"), CommandId::generate());
    for lost in [
        ConfirmableWrite::Events(LogHead { seq: head.seq, lineage: Some(other) }),
        ConfirmableWrite::Events(LogHead { seq: 1, lineage: Some(other) }),
        ConfirmableWrite::Events(LogHead { seq: head.seq + 1, lineage: None }),
        ConfirmableWrite::Command { by: &by, command_id: &command_id },
    ] {
        let result = store.confirm_write(session, lost).await;
        assert!(is_unconfirmed(&result), "{lost:?}: {result:?}");
    }
    // A damaged session costs only its own confirmation.
    let damaged = ConfirmableWrite::Command { by: &by, command_id: &command_id };
    let whole = ConfirmableWrite::Events(LogHead { seq: 1, lineage: None });
    let (damaged, others) = tokio::join!(
        async {
            damage_receipts(sessions[1]).await;
            store.confirm_write(sessions[1], damaged).await
        },
        join_all(sessions[2..20].iter().map(|session| store.confirm_write(*session, whole)))
    );
    assert!(is_unconfirmed(&damaged), "{damaged:?}");
    assert!(others.iter().all(Result::is_ok), "{others:?}");
    let gone = store.confirm_write(SessionId::new(), ConfirmableWrite::Events(head)).await;
    assert!(matches!(gone, Err(StoreError::NotFound(_))), "{gone:?}");
    assert!(is_unconfirmed(&store.confirm_write(SessionId::new(), ConfirmableWrite::Creation).await));
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn writes_of_many_sessions_are_confirmed_together() {
    let redis = RedisServer::start(RedisFlavor::Valkey).await;
    let aof = ConfirmationPolicy::AppendOnlyFile;
    let config = store_config(vec![redis.url()], RedisDeployment::Single, aof);
    let prefix = config.prefix.clone();
    let receipts = |session: SessionId| format!("{prefix}:{{{session}}}:receipts");
    confirm_many(&RedisStore::new(&config).unwrap(), async |session| {
        redis.cli(&["SET", &receipts(session), "damaged"]).await;
    })
    .await;
    let cluster = RedisCluster::start(RedisFlavor::Redis8).await;
    let config = RedisConfig { prefix: prefix.clone(), ..store_config(cluster.urls(), RedisDeployment::Cluster, aof) };
    confirm_many(&RedisStore::new(&config).unwrap(), async |session| {
        cluster.cli(&["SET", &receipts(session), "damaged"]).await;
    })
    .await;
    let sentinel = RedisSentinel::start(RedisFlavor::Valkey).await;
    let topology = RedisDeployment::Sentinel(sentinel.service_name().into());
    let config = store_config(sentinel.urls(), topology, ConfirmationPolicy::Replicas(1));
    let config = RedisConfig { prefix: prefix.clone(), ..config };
    confirm_many(&RedisStore::new(&config).unwrap(), async |session| {
        sentinel.master().await.cli(&["SET", &receipts(session), "damaged"]).await;
    })
    .await;
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn write_that_a_failover_lost_is_not_confirmed_by_the_new_primary() {
    let redis = RedisFailoverPair::start(RedisFlavor::Valkey).await;
    // By the new primary's own disk: nothing but the search for the write keeps it from a false answer.
    let config = store_config(vec![redis.url()], RedisDeployment::Single, ConfirmationPolicy::AppendOnlyFile);
    let store = Arc::new(RedisStore::new(&config).unwrap());
    let session = create_test_session(store.as_ref()).await;
    let mut writer = SessionWriter::acquire(store.as_ref(), session, "a").await;
    writer.append(vec![warning_draft("kept")]).await.unwrap();
    let kept = LogHead { seq: writer.state.last_seq(), lineage: writer.lineage };
    store.confirm_write(session, ConfirmableWrite::Events(kept)).await.unwrap();
    redis.stop_replication().await;
    writer.append(vec![warning_draft("lost")]).await.unwrap();
    let lost = LogHead { seq: writer.state.last_seq(), lineage: writer.lineage };
    redis.promote_replica().await;
    let result = store.confirm_write(session, ConfirmableWrite::Events(lost)).await;
    assert!(is_unconfirmed(&result), "{result:?}");
    store.confirm_write(session, ConfirmableWrite::Events(kept)).await.unwrap();
}
