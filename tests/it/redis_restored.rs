//! A Redis whose clock steps back, which fails over to a replica that lags, or of which single keys were restored from a backup.

use std::time::Duration;

use k8sops_core::{
    Inbox, Leases, MessageId, MessagePreview, Notifications, OwnSessions, PreviewExtent, PreviewUpdate, RunId,
    SessionIndex, SessionLog, StoreError, TextDelta, load_state,
};
use k8sops_store::{
    RedisDeployment, RedisStore,
    contract::{
        CheckpointWrite, SessionWriter, create_test_session, message_body, run_drafts, test_command, warning_draft,
    },
};
use k8sops_testing::{
    eventually,
    redis::{RedisFailoverPair, RedisFlavor, RedisServer},
};

use crate::redis_store::store_config;

/// A store, and the prefix of its keys.
async fn start_store() -> (RedisServer, RedisStore, String) {
    let server = RedisServer::start(RedisFlavor::Debian).await;
    let config = store_config(vec![server.url()], RedisDeployment::Single);
    let store = RedisStore::new(&config).unwrap();
    (server, store, config.prefix)
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_taken_over_after_the_clock_stepped_back() {
    let (server, store, prefix) = start_store().await;
    let session = create_test_session(&store).await;
    let ttl = Duration::from_millis(200);
    SessionWriter::acquire(&store, session, "a")
        .await
        .append(run_drafts("hi").into_iter().take(2).collect())
        .await
        .unwrap();
    // As a server whose clock was an hour ahead wrote them, before the owner was killed.
    let ahead = (k8sops_core::Timestamp::now().as_millis() + 3_600_000).to_string();
    server.cli(&["HSET", &format!("{prefix}:{{{session}}}:meta"), "until", &ahead]).await;
    server.cli(&["ZADD", &format!("{prefix}:work"), &ahead, &session.to_string()]).await;
    eventually("the session is claimed", async || {
        let own = OwnSessions { sessions: &[], keep: Duration::from_secs(4) };
        store.claim_unfinished_sessions(own).await.unwrap().sessions.contains(&session)
    })
    .await;
    assert!(matches!(store.acquire_lease(session, "b", ttl).await, Err(StoreError::Held(_))), "its owner may live");
    eventually("the lease expires", async || store.acquire_lease(session, "b", ttl).await.is_ok()).await;
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn reader_that_is_ahead_of_the_store_misses_no_preview() {
    let (server, store, prefix) = start_store().await;
    let session = create_test_session(&store).await;
    let mut writer = SessionWriter::acquire(&store, session, "a").await;
    writer.append(run_drafts("hi").into_iter().take(2).collect()).await.unwrap();
    let lease = writer.lease;
    let write = async |message, extent, offset, content: &str| {
        let delta = TextDelta { message_id: message, run_id: RunId::new(), offset, content: content.into() };
        let update = PreviewUpdate { message, extent, pieces: vec![MessagePreview::Token(delta)] };
        store.write_preview(lease, &update).await.unwrap();
    };
    let [lost, next] = [MessageId::new(), MessageId::new()];
    write(lost, PreviewExtent::Whole, 0, "a").await;
    write(lost, PreviewExtent::Continuation, 1, "b").await;
    let seen = store.read_preview(session, 0).await.unwrap();
    assert_eq!(seen.pieces.len(), 2);
    // The replica that was promoted has none of it.
    server.cli(&["HDEL", &format!("{prefix}:{{{session}}}:meta"), "preview", "open_message"]).await;
    server.cli(&["DEL", &format!("{prefix}:{{{session}}}:preview")]).await;
    write(next, PreviewExtent::Whole, 0, "c").await;
    let read = store.read_preview(session, seen.position).await.unwrap();
    assert_eq!(read.pieces.iter().map(MessagePreview::message_id).collect::<Vec<_>>(), [next]);
    writer.append(vec![warning_draft("still the owner")]).await.unwrap();
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn receipts_of_a_backup_are_made_again() {
    let (server, store, prefix) = start_store().await;
    let session = create_test_session(&store).await;
    let receipts = format!("{prefix}:{{{session}}}:receipts");
    store.submit_command(session, test_command("c1", message_body("hi"))).await.unwrap();
    server.cli(&["COPY", &receipts, "{backup}", "REPLACE"]).await;
    let second = test_command("c2", message_body("again"));
    let first_receipt = store.submit_command(session, second.clone()).await.unwrap();
    server.cli(&["COPY", "{backup}", &receipts, "REPLACE"]).await;
    for _ in 0..2 {
        let repeated = store.submit_command(session, second.clone()).await.unwrap();
        assert_eq!(repeated.run_id, first_receipt.run_id);
    }
    assert_eq!(store.list_inbox(session).await.unwrap().len(), 2, "it is not accepted a second time");
    store.submit_command(session, test_command("c3", message_body("new"))).await.unwrap();
    assert_eq!(store.list_inbox(session).await.unwrap().len(), 3);
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn message_that_comes_back_with_a_backup_is_not_counted() {
    let (server, store, prefix) = start_store().await;
    let session = create_test_session(&store).await;
    let inbox = format!("{prefix}:{{{session}}}:inbox");
    store.submit_command(session, test_command("c1", message_body("hi"))).await.unwrap();
    server.cli(&["COPY", &inbox, "{backup}", "REPLACE"]).await;
    let position = store.list_inbox(session).await.unwrap()[0].position;
    let mut writer = SessionWriter::acquire(&store, session, "a").await;
    writer.commit(run_drafts("hi"), &[position], CheckpointWrite::Skip).await.unwrap();
    server.cli(&["COPY", "{backup}", &inbox, "REPLACE"]).await;
    writer.commit(Vec::new(), &[position], CheckpointWrite::Skip).await.unwrap();
    let waiting = server.cli(&["HGET", &format!("{prefix}:{{{session}}}:meta"), "waiting"]).await;
    assert_eq!(waiting.trim(), "0");
    assert!(store.list_inbox(session).await.unwrap().is_empty());
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn checkpoint_of_another_session_is_not_used() {
    let (server, store, prefix) = start_store().await;
    let [session, other] = [create_test_session(&store).await, create_test_session(&store).await];
    let key = |session| format!("{prefix}:{{{session}}}:checkpoint");
    for (of, turns) in [(session, 1), (other, 3)] {
        let mut writer = SessionWriter::acquire(&store, of, "a").await;
        for turn in 0..turns {
            writer.commit(run_drafts(&format!("{of} {turn}")), &[], CheckpointWrite::Write).await.unwrap();
        }
    }
    let before = store.read_events(session, 0, 100).await.unwrap();
    server.cli(&["COPY", &key(other), &key(session), "REPLACE"]).await;
    let loaded = load_state(&store, session).await.unwrap();
    assert_eq!((loaded.state.summary.session_id, loaded.state.last_seq()), (session, before.last_seq));
    assert!(loaded.damaged_checkpoint.is_some());
}

/// How the first owner of a session comes to lose it to the one whose writes a failover loses.
#[derive(Debug, Clone, Copy)]
enum Break {
    /// There is none: the failover is within its lease.
    Never,
    Released,
    /// Its release is lost as well.
    ReleasedLate,
    Expired,
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn owner_after_a_break_does_not_trust_what_it_knows() {
    for owner_break in [Break::Never, Break::Released, Break::ReleasedLate, Break::Expired] {
        let redis = RedisFailoverPair::start(RedisFlavor::Debian).await;
        let config = store_config(vec![redis.url()], RedisDeployment::Single);
        let [store, other] = [(); 2].map(|()| RedisStore::new(&config).unwrap());
        let session = create_test_session(&store).await;
        let mut first = SessionWriter::acquire(&store, session, "a").await;
        first.append(vec![warning_draft("kept")]).await.unwrap();
        if matches!(owner_break, Break::Released) {
            store.release_lease(first.lease).await.unwrap();
        }
        if matches!(owner_break, Break::Expired) {
            store.renew_lease(first.lease, Duration::from_millis(1)).await.unwrap();
        }
        redis.stop_replication().await;
        if matches!(owner_break, Break::ReleasedLate) {
            store.release_lease(first.lease).await.unwrap();
        }
        if !matches!(owner_break, Break::Never) {
            let mut second = SessionWriter::acquire(&other, session, "b").await;
            second.append(vec![warning_draft("lost")]).await.unwrap();
        }
        redis.promote_replica().await;
        eventually("the replica answers", async || load_state(&store, session).await.is_ok()).await;
        store.acquire_lease(session, "a", Duration::from_secs(4)).await.unwrap();
        let must_say_lost = load_state(&store, session).await.unwrap().lost_branch.is_some();
        assert_eq!(must_say_lost, !matches!(owner_break, Break::Never), "{owner_break:?}");
    }
}
