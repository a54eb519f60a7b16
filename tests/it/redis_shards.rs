//! Notifications in a Redis Cluster: they stay on the shard of their session, and follow its slot.

use std::{sync::Arc, time::Duration};

use k8sops_core::{Inbox, NotificationTopic, Notifications, SessionId, StoreNotification};
use k8sops_store::{
    RedisConfig, RedisDeployment, RedisStore,
    contract::{create_test_session, message_body, test_command},
};
use serde_json::json;

use crate::{
    redis_store::store_config,
    service::{ServiceSetup, TestService, assert_gapless, shown_text},
};
use k8sops_testing::{
    eventually_within,
    redis::{RedisCluster, RedisFlavor},
    scripted_model::{ReplyStep, ScriptedModel, TestGate, text},
};

/// Upper bound of what takes milliseconds, or a few seconds if a node fails.
const LIMIT: Duration = Duration::from_secs(60);

/// A cluster with two stores, of which one follows the inbox of a session on each master, and the other writes.
struct FollowedCluster {
    cluster: RedisCluster,
    config: RedisConfig,
    reader: RedisStore,
    writer: RedisStore,
    sessions: Vec<SessionId>,
}

impl FollowedCluster {
    async fn follow(cluster: RedisCluster) -> Self {
        let config = store_config(cluster.urls(), RedisDeployment::Cluster);
        let (reader, writer) = (RedisStore::new(&config).unwrap(), RedisStore::new(&config).unwrap());
        let sessions = create_session_on_each_master(&cluster, &config, &writer).await;
        subscribe_inboxes(&reader, &sessions).await;
        Self { cluster, config, reader, writer, sessions }
    }
}

fn meta_key(config: &RedisConfig, session: SessionId) -> String {
    format!("{}:{{{session}}}:meta", config.prefix)
}

/// Creates sessions until each of the three masters has one, and returns one for each, by the index of the master.
async fn create_session_on_each_master(
    cluster: &RedisCluster,
    config: &RedisConfig,
    store: &RedisStore,
) -> Vec<SessionId> {
    let mut sessions = std::collections::BTreeMap::new();
    while sessions.len() < 3 {
        let session = create_test_session(store).await;
        let owner = cluster.find_owner(&meta_key(config, session)).await.unwrap();
        sessions.entry(owner).or_insert(session);
    }
    sessions.into_values().collect()
}

async fn wait_for_notification(store: &RedisStore, wanted: &StoreNotification) {
    let waiting = tokio::time::timeout(LIMIT, async { while store.next_notification().await != *wanted {} });
    waiting.await.unwrap_or_else(|_| panic!("no notification {wanted:?}"));
}

fn inbox_change(session: SessionId) -> StoreNotification {
    StoreNotification::Session(session, NotificationTopic::Inbox)
}

/// Subscribes to the inboxes of sessions, and waits until that has taken effect.
async fn subscribe_inboxes(store: &RedisStore, sessions: &[SessionId]) {
    for session in sessions {
        store.subscribe(*session, NotificationTopic::Inbox);
        wait_for_notification(store, &inbox_change(*session)).await;
    }
}

async fn submit(store: &RedisStore, session: SessionId) {
    let command = test_command(&uuid::Uuid::now_v7().to_string(), message_body("hi"));
    store.submit_command(session, command).await.unwrap();
}

/// The number of messages that the nodes have sent each other because of `PUBLISH`.
async fn count_broadcasts(cluster: &RedisCluster) -> u64 {
    let mut count = 0;
    for node in 0..3 {
        let info = cluster.node(node).cli(&["CLUSTER", "INFO"]).await;
        let sent = info.lines().find_map(|line| line.strip_prefix("cluster_stats_messages_publish_sent:"));
        count += sent.map_or(0, |sent| sent.trim().parse::<u64>().unwrap());
    }
    count
}

/// How many channels of a cluster are subscribed to by `SSUBSCRIBE`.
async fn count_shard_channels(cluster: &RedisCluster) -> usize {
    let mut count = 0;
    for node in 0..3 {
        count += cluster.node(node).cli(&["PUBSUB", "SHARDCHANNELS"]).await.lines().count();
    }
    count
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn notifications_of_a_cluster_are_not_broadcast() {
    for flavor in RedisFlavor::ALL {
        let FollowedCluster { cluster, reader, writer, sessions, .. } =
            FollowedCluster::follow(RedisCluster::start(flavor).await).await;
        for session in &sessions {
            submit(&writer, *session).await;
            wait_for_notification(&reader, &inbox_change(*session)).await;
        }
        assert_eq!(count_broadcasts(&cluster).await, 0, "{flavor:?}");
        // The work channel of each store, and the inboxes.
        eventually_within(LIMIT, "all are subscribed to", async || count_shard_channels(&cluster).await == 4).await;
        for session in &sessions {
            reader.unsubscribe(*session, NotificationTopic::Inbox);
        }
        eventually_within(LIMIT, "none is left", async || count_shard_channels(&cluster).await == 1).await;
        cluster.node(0).cli(&["PUBLISH", "any", "message"]).await;
        assert_eq!(count_broadcasts(&cluster).await, 2, "{flavor:?} counts them");
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn previews_and_commands_reach_another_replica_through_a_cluster() {
    let cluster = RedisCluster::start(RedisFlavor::Redis8).await;
    let gate = TestGate::new();
    let reply = vec![text("one "), ReplyStep::Wait(gate.clone()), text("two")];
    let model = ScriptedModel::new([reply, vec![text("three")]]);
    let start_replica = async |model: &Arc<ScriptedModel>| {
        let env = vec![
            ("MEMORY_BACKEND", "redis".into()),
            ("REDIS_URL", cluster.urls().join(",")),
            ("REDIS_TOPOLOGY", "cluster".into()),
            ("REDIS_CONFIRM", "none".into()),
        ];
        TestService::start(ServiceSetup { model: Some(model.clone()), env, ..ServiceSetup::default() }).await
    };
    let (one, other) = (start_replica(&model).await, start_replica(&model).await);
    let session = one.create_session().await;
    one.post(&format!("{session}/messages"), json!({"content": "go"})).await;
    gate.arrived().await;
    let mut there = other.events(&session, "").await;
    let mut seen = there.until("token").await;
    gate.open();
    seen.extend(there.until("run_finished").await);
    assert_eq!(shown_text(&seen), "one two");
    // A command to the replica that is not the owner.
    other.post(&format!("{session}/messages"), json!({"content": "and?"})).await;
    seen.extend(there.until("run_finished").await);
    assert_gapless(&seen, 1);
    assert_eq!(one.log(&session).await, other.log(&session).await);
    assert_eq!(count_broadcasts(&cluster).await, 0);
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_follow_slots_that_move() {
    for flavor in RedisFlavor::ALL {
        let FollowedCluster { cluster, config, reader, writer, sessions } =
            FollowedCluster::follow(RedisCluster::start(flavor).await).await;
        for target in [1, 2, 0] {
            cluster.move_slot(&meta_key(&config, sessions[0]), target).await;
            // What was published meanwhile may be lost.
            wait_for_notification(&reader, &StoreNotification::All).await;
            for session in &sessions {
                submit(&writer, *session).await;
                wait_for_notification(&reader, &inbox_change(*session)).await;
            }
            let new_session = create_test_session(&writer).await;
            subscribe_inboxes(&reader, &[new_session]).await;
            submit(&writer, new_session).await;
            wait_for_notification(&reader, &inbox_change(new_session)).await;
        }
        assert_eq!(count_broadcasts(&cluster).await, 0, "{flavor:?}");
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_follow_a_failover_of_a_shard() {
    let FollowedCluster { cluster, config, reader, writer, sessions } =
        FollowedCluster::follow(RedisCluster::start_with(RedisFlavor::Redis8, 1).await).await;
    let key = meta_key(&config, sessions[0]);
    let old_master = cluster.find_owner(&key).await.unwrap();
    let replicated = cluster.node(old_master).cli(&["WAIT", "1", "10000"]).await;
    assert_eq!(replicated, "1");
    cluster.node(old_master).kill().await;
    wait_for_notification(&reader, &StoreNotification::All).await;
    eventually_within(LIMIT, "the replica is promoted", async || cluster.find_owner(&key).await.is_some()).await;
    for session in sessions {
        // The reader looks for the new master every few seconds, and until then misses what is published.
        eventually_within(LIMIT, "a command is heard of", async || {
            let command = test_command(&uuid::Uuid::now_v7().to_string(), message_body("hi"));
            if writer.submit_command(session, command).await.is_err() {
                return false;
            }
            let heard = async { while reader.next_notification().await != inbox_change(session) {} };
            tokio::time::timeout(Duration::from_secs(2), heard).await.is_ok()
        })
        .await;
    }
}
