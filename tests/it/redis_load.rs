//! What the service asks of Redis: previews only while another replica has watchers, few scripts, and claims that take all that
//! is due.

use std::{sync::Arc, time::Duration};

use k8sops_core::{
    Inbox, Leases, MessageId, MessagePreview, NotificationTopic, Notifications, OwnSessions, PreviewExtent,
    PreviewUpdate, RemoteAudience, RunId, SessionId, SessionIndex, StoreNotification, TextDelta,
};
use k8sops_store::{
    RedisDeployment, RedisStore,
    contract::{
        CheckpointWrite, SessionWriter, create_test_session, message_body, run_drafts, test_command, warning_draft,
    },
};
use serde_json::{Value, json};

use crate::{
    redis_store::store_config,
    service::{EventStream, ServiceSetup, TestService, assert_gapless, frame_types, shown_text},
};
use k8sops_testing::{
    eventually,
    redis::{RedisCluster, RedisFlavor, RedisServer},
    scripted_model::{ReplyStep, ScriptedModel, TestGate, text},
};

async fn start_replica(url: String, model: &Arc<ScriptedModel>) -> TestService {
    let env = vec![("MEMORY_BACKEND", "redis".into()), ("REDIS_URL", url), ("REDIS_CONFIRM", "none".into())];
    TestService::start(ServiceSetup { model: Some(model.clone()), env, ..ServiceSetup::default() }).await
}

/// The key of a session's data.
fn session_key(session: &str, name: &str) -> String {
    format!("k8sops:{{{}}}:{name}", session.rsplit('/').next().unwrap())
}

/// The position of the newest chunk of a preview.
async fn preview_position(redis: &RedisServer, session: &str) -> String {
    redis.cli(&["HGET", &session_key(session, "meta"), "preview"]).await
}

async fn count_previews(redis: &RedisServer, session: &str) -> usize {
    redis.cli(&["XLEN", &session_key(session, "preview")]).await.trim().parse().unwrap()
}

async fn count_watchers(redis: &RedisServer, session: &str) -> usize {
    redis.cli(&["ZCARD", &session_key(session, "watchers")]).await.trim().parse().unwrap()
}

/// Reads frames until their tokens show this text, in as many pieces as it comes in.
async fn read_text(stream: &mut EventStream, seen: &mut Vec<Value>, expected: &str) {
    while shown_text(seen).len() < expected.len() {
        seen.extend(stream.until("token").await);
    }
    assert_eq!(shown_text(seen), expected);
}

/// A reply that stops before each of its pieces but the first.
fn gated_reply(pieces: &[&str]) -> (Vec<ReplyStep>, Vec<TestGate>) {
    let mut gates = Vec::new();
    let mut reply = Vec::new();
    for piece in pieces {
        if !reply.is_empty() {
            gates.push(TestGate::new());
            reply.push(ReplyStep::Wait(gates[gates.len() - 1].clone()));
        }
        reply.push(text(piece));
    }
    (reply, gates)
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn previews_are_written_while_another_replica_has_watchers() {
    let redis = RedisServer::start(RedisFlavor::Debian).await;
    let (reply, gates) = gated_reply(&["one ", "two ", "three ", "four"]);
    let (second_reply, second_gates) = gated_reply(&["five ", "six"]);
    let model = ScriptedModel::new([reply, second_reply]);
    let (one, other) = (start_replica(redis.url(), &model).await, start_replica(redis.url(), &model).await);
    let session = one.create_session().await;
    let mut here = one.events(&session, "").await;
    one.post(&format!("{session}/messages"), json!({"content": "go"})).await;
    gates[0].arrived().await;
    here.until("token").await;
    eventually("the message is known to be open", async || count_previews(&redis, &session).await == 1).await;
    gates[0].open();
    gates[1].arrived().await;
    here.until("token").await;
    assert_eq!(count_previews(&redis, &session).await, 1, "no other replica has watchers");
    // A watcher in the middle of the message.
    let mut there = other.events(&session, "").await;
    let mut seen = Vec::new();
    read_text(&mut there, &mut seen, "one two ").await;
    gates[1].open();
    gates[2].arrived().await;
    read_text(&mut there, &mut seen, "one two three ").await;
    // A second one, when the first one is gone.
    drop(there);
    eventually("the announcement is withdrawn", async || count_watchers(&redis, &session).await == 0).await;
    let mut again = other.events(&session, "").await;
    let mut seen = Vec::new();
    read_text(&mut again, &mut seen, "one two three ").await;
    gates[2].open();
    seen.extend(again.until("run_finished").await);
    assert_eq!(shown_text(&seen), "one two three four");
    assert_gapless(&seen, 1);
    drop(again);
    eventually("the announcement is withdrawn", async || count_watchers(&redis, &session).await == 0).await;
    one.post(&format!("{session}/messages"), json!({"content": "go"})).await;
    second_gates[0].arrived().await;
    eventually("the message is known to be open", async || count_previews(&redis, &session).await == 1).await;
    let opened = preview_position(&redis, &session).await;
    second_gates[0].open();
    here.until("run_finished").await;
    here.until("run_finished").await;
    assert_eq!(preview_position(&redis, &session).await, opened, "no other replica reads the rest");
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn announcement_of_a_killed_replica_expires() {
    let redis = RedisServer::start(RedisFlavor::Debian).await;
    let (reply, gates) = gated_reply(&["one ", "two ", "three ", "four"]);
    let model = ScriptedModel::new([reply]);
    let one = start_replica(redis.url(), &model).await;
    let session = one.create_session().await;
    let mut here = one.events(&session, "").await;
    // A replica that announced watchers, and was killed right afterwards.
    let now = redis.cli(&["TIME"]).await.lines().next().unwrap().parse::<u64>().unwrap() * 1000;
    let expires_at = (now + 3_000).to_string();
    redis.cli(&["ZADD", &session_key(&session, "watchers"), &expires_at, "killed"]).await;
    one.post(&format!("{session}/messages"), json!({"content": "go"})).await;
    gates[0].arrived().await;
    eventually("the message is known to be open", async || count_previews(&redis, &session).await == 1).await;
    gates[0].open();
    eventually("previews are written", async || count_previews(&redis, &session).await >= 2).await;
    gates[1].arrived().await;
    tokio::time::sleep(Duration::from_millis(3_500)).await;
    gates[1].open();
    gates[2].arrived().await;
    // The reply to this one says that it has no reader.
    eventually("the next preview is written", async || count_previews(&redis, &session).await >= 3).await;
    let written = preview_position(&redis, &session).await;
    gates[2].open();
    let frames = here.until("run_finished").await;
    assert_eq!(shown_text(&frames), "one two three four");
    assert_eq!(preview_position(&redis, &session).await, written);
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn lost_notifications_delay_and_lose_nothing() {
    let redis = RedisServer::start(RedisFlavor::Debian).await;
    redis.cli(&["ACL", "SETUSER", "deaf", "on", ">secret", "~*", "+@all", "resetchannels"]).await;
    let url = format!("redis://deaf:secret@127.0.0.1:{}", redis.port());
    let (reply, gates) = gated_reply(&["one ", "two ", "three"]);
    let model = ScriptedModel::new([reply, vec![text("queued")]]);
    let (one, other) = (start_replica(url.clone(), &model).await, start_replica(url, &model).await);
    let session = one.create_session().await;
    one.post(&format!("{session}/messages"), json!({"content": "go"})).await;
    gates[0].arrived().await;
    let mut there = other.events(&session, "").await;
    let mut seen = Vec::new();
    read_text(&mut there, &mut seen, "one ").await;
    // Written when the owner renewed its lease, or read before that.
    gates[0].open();
    gates[1].arrived().await;
    read_text(&mut there, &mut seen, "one two ").await;
    // A command whose notification is lost is found at the renewal.
    other.post(&format!("{session}/messages"), json!({"content": "and?"})).await;
    gates[1].open();
    seen.extend(there.until("run_finished").await);
    assert_eq!(shown_text(&seen), "one two three");
    seen.extend(there.until("run_finished").await);
    assert_gapless(&seen, 1);
    assert_eq!(frame_types(&seen).iter().filter(|kind| **kind == "run_finished").count(), 2);
    assert_eq!(one.log(&session).await, other.log(&session).await);
}

/// The calls of scripts so far.
async fn count_scripts(redis: &RedisServer) -> u64 {
    let info = redis.cli(&["INFO", "commandstats"]).await;
    let calls = info.lines().filter_map(|line| {
        let (name, fields) = line.split_once(':')?;
        let is_script = ["cmdstat_eval", "cmdstat_evalsha"].contains(&name);
        fields.strip_prefix("calls=").filter(|_| is_script)?.split(',').next()?.parse::<u64>().ok()
    });
    calls.sum()
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn plain_turn_runs_few_scripts() {
    let redis = RedisServer::start(RedisFlavor::Debian).await;
    let reply = || (0..300).map(|n| text(&format!("piece{n} "))).collect::<Vec<_>>();
    let model = ScriptedModel::new((0..3).map(|_| reply()));
    let one = start_replica(redis.url(), &model).await;
    let session = one.create_session().await;
    one.turn(&session, "go").await;
    let before = count_scripts(&redis).await;
    let began = std::time::Instant::now();
    for _ in 0..2 {
        let frames = one.turn(&session, "go").await;
        assert_eq!(shown_text(&frames).split_whitespace().count(), 300);
    }
    // A turn has five, the lease is renewed every 1.5 s, and sessions are claimed every 2 s.
    let by_time = began.elapsed().as_secs() * 2 + 2;
    let scripts = count_scripts(&redis).await - before;
    assert!(scripts <= 2 * 5 + by_time, "{scripts} scripts in {:?}", began.elapsed());
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn claims_take_all_that_is_due_and_leave_what_is_owned() {
    let redis = RedisServer::start(RedisFlavor::Debian).await;
    let store = RedisStore::new(&store_config(vec![redis.url()], RedisDeployment::Single)).unwrap();
    let mut sessions = Vec::new();
    for n in 0..150 {
        let session = create_test_session(&store).await;
        store.submit_command(session, test_command(&format!("c{n}"), message_body("hi"))).await.unwrap();
        sessions.push(session);
    }
    let own: Vec<SessionId> = sessions[..20].to_vec();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let mut claimed = Vec::new();
    loop {
        let own = OwnSessions { sessions: &own, keep: Duration::from_secs(60) };
        let found = store.claim_unfinished_sessions(own).await.unwrap();
        claimed.extend(found.sessions);
        if found.next_due != Some(Duration::ZERO) {
            let next_due = found.next_due.unwrap();
            assert!(next_due <= Duration::from_millis(250), "claimed sessions are due again: {next_due:?}");
            break;
        }
    }
    claimed.sort();
    let mut expected = sessions[20..].to_vec();
    expected.sort();
    assert_eq!(claimed, expected);
    // What is not scheduled is not scheduled by its owner.
    let idle = create_test_session(&store).await;
    let own = OwnSessions { sessions: &[idle], keep: Duration::ZERO };
    assert!(!store.claim_unfinished_sessions(own).await.unwrap().sessions.contains(&idle));
}

fn update(message: MessageId, extent: PreviewExtent, offset: usize, content: &str) -> PreviewUpdate {
    let delta = TextDelta { message_id: message, run_id: RunId::new(), offset, content: content.into() };
    PreviewUpdate { message, extent, pieces: vec![MessagePreview::Token(delta)] }
}

/// Checks who learns of watchers, and what they read.
async fn check_watchers(store: RedisStore, other: RedisStore) {
    let session = create_test_session(&store).await;
    let mut writer = SessionWriter::acquire(&store, session, "a").await;
    store.subscribe(session, NotificationTopic::Inbox);
    store.submit_command(session, test_command("c1", message_body("hi"))).await.unwrap();
    let position = store.list_inbox(session).await.unwrap()[0].position;
    let started = run_drafts("hi").into_iter().take(2).collect();
    writer.commit(started, &[position], CheckpointWrite::Skip).await.unwrap();
    let (lease, ttl) = (writer.lease, Duration::from_secs(60));
    let message = MessageId::new();
    let write = async |extent, offset, content: &str| {
        store.write_preview(lease, &update(message, extent, offset, content)).await.unwrap()
    };
    assert_eq!(write(PreviewExtent::Whole, 0, "a").await, RemoteAudience::Absent);
    // Its own announcement, from before it was the owner, counts for nothing.
    store.announce_watcher(session, "a").await.unwrap();
    assert_eq!(write(PreviewExtent::Continuation, 1, "b").await, RemoteAudience::Absent);
    let renewal = store.renew_lease(lease, ttl).await.unwrap();
    assert_eq!((renewal.inbox_position, renewal.audience), (position, RemoteAudience::Absent));
    other.announce_watcher(session, "b").await.unwrap();
    let told = tokio::time::timeout(Duration::from_secs(10), async {
        while store.next_notification().await != StoreNotification::Watched(session) {}
    });
    told.await.expect("the owner is notified");
    assert_eq!(store.renew_lease(lease, ttl).await.unwrap().audience, RemoteAudience::Present);
    assert_eq!(write(PreviewExtent::Whole, 0, "abc").await, RemoteAudience::Present);
    assert_eq!(write(PreviewExtent::Continuation, 3, "d").await, RemoteAudience::Present);
    let page = other.read_preview(session, 0).await.unwrap();
    let contents = page.pieces.iter().map(|piece| match piece {
        MessagePreview::Token(delta) | MessagePreview::Reasoning(delta) => (delta.offset, delta.content.as_str()),
    });
    assert_eq!(contents.collect::<Vec<_>>(), [(0, "abc"), (3, "d")], "a whole text replaces what was there");
    other.withdraw_watcher(session, "b").await.unwrap();
    assert_eq!(write(PreviewExtent::Continuation, 4, "e").await, RemoteAudience::Absent);
    writer.append(vec![warning_draft("still the owner")]).await.unwrap();
    // Nothing is left of a deleted session.
    other.announce_watcher(session, "b").await.unwrap();
    store.delete_session(session).await.unwrap();
    assert!(other.announce_watcher(session, "b").await.is_err());
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn owner_learns_of_watchers() {
    let redis = RedisServer::start(RedisFlavor::Debian).await;
    let config = store_config(vec![redis.url()], RedisDeployment::Single);
    check_watchers(RedisStore::new(&config).unwrap(), RedisStore::new(&config).unwrap()).await;
    assert_eq!(redis.cli(&["KEYS", "*{*"]).await, "");
    let cluster = RedisCluster::start(RedisFlavor::Redis8).await;
    let config = store_config(cluster.urls(), RedisDeployment::Cluster);
    for _ in 0..4 {
        check_watchers(RedisStore::new(&config).unwrap(), RedisStore::new(&config).unwrap()).await;
    }
}
