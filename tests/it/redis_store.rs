//! The Redis store with Redis servers of several vendors and versions: the contract of all stores, and what is specific to
//! Redis (lost replies, keys of deleted sessions, bounded storage, time to live).

use parking_lot::Mutex;
use std::{sync::Arc, time::Duration};

use k8sops_core::{Inbox, Leases, ListCursor, SessionIndex, SessionLog, StoreError};
use k8sops_store::{
    ConfirmationPolicy, RedisConfig, RedisDeployment, RedisStore, contract,
    contract::{
        CheckpointWrite, SessionWriter, create_test_session, message_body, run_drafts, test_command, test_user,
        warning_draft,
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::service::{ServiceSetup, TestService};
use k8sops_testing::{
    eventually_within,
    redis::{RedisCluster, RedisFlavor, RedisSentinel, RedisServer},
    scripted_model::ScriptedModel,
};

/// Returns the configuration of a separate deployment.
pub(crate) fn store_config(urls: Vec<String>, topology: RedisDeployment) -> RedisConfig {
    RedisConfig {
        urls: urls.into_iter().map(Into::into).collect(),
        topology,
        ca: None,
        prefix: format!("test-{}", uuid::Uuid::now_v7()),
        session_ttl: None,
        allow_eviction: false,
        confirm: ConfirmationPolicy::Auto,
        confirm_timeout: Duration::from_secs(5),
        shallow: false,
    }
}

async fn the_contract_holds(new_config: impl Fn() -> RedisConfig) {
    for rule in contract::RULES {
        println!("{}", rule.name);
        (rule.check)(Arc::new(RedisStore::new(&new_config()).unwrap())).await;
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn store_contract_on_redis_and_valkey() {
    for kind in [RedisFlavor::Debian, RedisFlavor::Redis8, RedisFlavor::Valkey] {
        let server = RedisServer::start(kind).await;
        the_contract_holds(|| store_config(vec![server.url()], RedisDeployment::Single)).await;
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn store_contract_on_a_cluster() {
    let cluster = RedisCluster::start(RedisFlavor::Redis8).await;
    the_contract_holds(|| store_config(cluster.urls(), RedisDeployment::Cluster)).await;
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn store_contract_behind_sentinel_and_over_tls() {
    let sentinel = RedisSentinel::start(RedisFlavor::Debian).await;
    the_contract_holds(|| store_config(sentinel.urls(), RedisDeployment::Sentinel(sentinel.service_name().into())))
        .await;
    let server = RedisServer::start_tls().await;
    let ca = std::fs::read(server.ca_file()).unwrap();
    the_contract_holds(|| RedisConfig {
        ca: Some(ca.clone()),
        ..store_config(vec![server.url()], RedisDeployment::Single)
    })
    .await;
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn deleted_session_leaves_no_keys() {
    let server = RedisServer::start(RedisFlavor::Debian).await;
    let store = RedisStore::new(&store_config(vec![server.url()], RedisDeployment::Single)).unwrap();
    let session = create_test_session(&store).await;
    store.submit_command(session, test_command("c1", message_body("hi"))).await.unwrap();
    let mut writer = SessionWriter::acquire(&store, session, "a").await;
    let position = store.list_inbox(session).await.unwrap()[0].position;
    writer.commit(run_drafts("hi"), &[position], CheckpointWrite::Write).await.unwrap();
    assert!(!server.cli(&["keys", "*"]).await.is_empty());
    store.delete_session(session).await.unwrap();
    assert!(matches!(
        writer.commit(vec![warning_draft("late")], &[], CheckpointWrite::Write).await,
        Err(StoreError::NotFound(_))
    ));
    assert!(matches!(
        store.submit_command(session, test_command("c2", message_body("hi"))).await,
        Err(StoreError::NotFound(_))
    ));
    assert!(matches!(store.acquire_lease(session, "b", Duration::from_secs(1)).await, Err(StoreError::NotFound(_))));
    assert_eq!(server.cli(&["keys", "*"]).await, "");
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn commit_with_lost_reply_is_written_once() {
    let server = RedisServer::start(RedisFlavor::Debian).await;
    let proxy = LossyProxy::start(server.port()).await;
    let store = RedisStore::new(&store_config(vec![proxy.url()], RedisDeployment::Single)).unwrap();
    let session = create_test_session(&store).await;
    let mut writer = SessionWriter::acquire(&store, session, "a").await;
    writer.append(vec![warning_draft("known to the server from now on")]).await.unwrap();
    for lose in [LostMessage::Reply, LostMessage::Request] {
        let head = writer.state.last_seq();
        proxy.lose_next(lose);
        writer.append(vec![warning_draft("once")]).await.unwrap();
        assert_eq!(proxy.pending_losses(), 0, "{lose:?} was lost");
        let page = store.read_events(session, head, 10).await.unwrap();
        assert_eq!((page.events.len(), page.last_seq), (1, head + 1), "{lose:?}");
    }
    // A command is accepted once, too, and its receipt is the same.
    for n in 0..2 {
        // A command runs two scripts; the reply to each is lost once.
        proxy.lose_after(n, LostMessage::Reply);
        let receipt = store.submit_command(session, test_command(&format!("c{n}"), message_body("hi"))).await.unwrap();
        assert!(!receipt.duplicate);
    }
    assert_eq!(store.list_inbox(session).await.unwrap().len(), 2);
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn command_that_a_failover_lost_is_not_run() {
    let server = RedisServer::start(RedisFlavor::Debian).await;
    let store = RedisStore::new(&store_config(vec![server.url()], RedisDeployment::Single)).unwrap();
    let session = create_test_session(&store).await;
    let mut writer = SessionWriter::acquire(&store, session, "a").await;
    store.submit_command(session, test_command("c1", message_body("hi"))).await.unwrap();
    let lost = store.list_inbox(session).await.unwrap()[0].position;
    // What a server has that is promoted without the command: neither the entry nor the receipt.
    let key = server.cli(&["KEYS", "*:meta"]).await;
    let key = key.strip_suffix("meta").unwrap();
    server.cli(&["DEL", &format!("{key}inbox"), &format!("{key}receipts"), &format!("{key}receipt_order")]).await;
    server.cli(&["HSET", &format!("{key}meta"), "inbox", "0", "waiting", "0"]).await;

    // Its client sends it again. The owner still holds the first one.
    assert!(!store.submit_command(session, test_command("c1", message_body("hi"))).await.unwrap().duplicate);
    let refused = writer.commit(run_drafts("hi"), &[lost], CheckpointWrite::Skip).await;
    assert!(matches!(refused, Err(StoreError::Forked { .. })), "{refused:?}");
    let again = store.list_inbox(session).await.unwrap();
    assert_eq!(again.len(), 1);
    assert_ne!(again[0].position, lost);
    writer.commit(run_drafts("hi"), &[again[0].position], CheckpointWrite::Skip).await.unwrap();
    assert_eq!(store.list_inbox(session).await.unwrap(), []);
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn owners_before_and_after_a_failover_have_different_epochs() {
    let server = RedisServer::start(RedisFlavor::Debian).await;
    let store = RedisStore::new(&store_config(vec![server.url()], RedisDeployment::Single)).unwrap();
    let session = create_test_session(&store).await;
    let meta = server.cli(&["KEYS", "*:meta"]).await;
    let before = server.cli(&["HGET", &meta, "epoch"]).await;
    let mut writer = SessionWriter::acquire(&store, session, "a").await;
    // What a server has that is promoted without the lease.
    server.cli(&["HSET", &meta, "epoch", &before]).await;
    server.cli(&["HDEL", &meta, "holder", "until"]).await;
    let other = SessionWriter::acquire(&store, session, "b").await;
    assert_ne!(other.lease.epoch, writer.lease.epoch);
    let refused = writer.append(run_drafts("hi")).await;
    assert!(matches!(refused, Err(StoreError::Fenced { .. })), "{refused:?}");
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn owner_that_had_no_answer_to_a_commit_does_not_trust_another_server() {
    let server = RedisServer::start(RedisFlavor::Debian).await;
    let store = RedisStore::new(&store_config(vec![server.url()], RedisDeployment::Single)).unwrap();
    // Without an append-only file, a server is known by its process.
    server.cli(&["CONFIG", "SET", "appendonly", "no"]).await;
    let session = create_test_session(&store).await;
    let meta = server.cli(&["KEYS", "*:meta"]).await;
    for (is_answered, lost_seq) in [(true, ""), (false, "2")] {
        let mut writer = SessionWriter::acquire(&store, session, "a").await;
        if is_answered {
            writer.append(vec![warning_draft("answered")]).await.unwrap();
        } else {
            server.cli(&["CLIENT", "PAUSE", "60000", "WRITE"]).await;
            let commit = writer.append(vec![warning_draft("unanswered")]);
            tokio::time::timeout(Duration::from_millis(200), commit).await.unwrap_err();
            // The commit is lost, as if it had reached the former server only.
            server.cli(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
            server.cli(&["CLIENT", "UNPAUSE"]).await;
        }
        server.cli(&["HSET", &meta, "server", "former"]).await;
        SessionWriter::acquire(&store, session, "a").await;
        assert_eq!(server.cli(&["HGET", &meta, "lost_seq"]).await, lost_seq);
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn restart_is_a_possible_loss_for_all_but_an_owner_without_a_break() {
    let server = RedisServer::start(RedisFlavor::Debian).await;
    let store = RedisStore::new(&store_config(vec![server.url()], RedisDeployment::Single)).unwrap();
    let session = create_test_session(&store).await;
    let meta = server.cli(&["KEYS", "*:meta"]).await;
    // As after a restart: what follows is another process.
    let restart = async || server.cli(&["HSET", &meta, "server_process", "former"]).await;
    let lost_seq = async || server.cli(&["HGET", &meta, "lost_seq"]).await;
    let mut writer = SessionWriter::acquire(&store, session, "a").await;
    for _ in 0..2 {
        restart().await;
        writer = SessionWriter::acquire(&store, session, "a").await;
        assert_eq!(lost_seq().await, "");
    }
    store.release_lease(writer.lease).await.unwrap();
    SessionWriter::acquire(&store, session, "a").await;
    assert_eq!(lost_seq().await, "", "the server is the same");
    for (next, expected) in [("a", "1"), ("b", "1")] {
        let writer = SessionWriter::acquire(&store, session, "a").await;
        store.release_lease(writer.lease).await.unwrap();
        restart().await;
        let writer = SessionWriter::acquire(&store, session, next).await;
        assert_eq!(lost_seq().await, expected, "{next}");
        store.release_lease(writer.lease).await.unwrap();
        server.cli(&["HDEL", &meta, "lost_seq"]).await;
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn list_that_fell_behind_ends_and_is_put_right() {
    let server = RedisServer::start(RedisFlavor::Debian).await;
    let store = RedisStore::new(&store_config(vec![server.url()], RedisDeployment::Single)).unwrap();
    for _ in 0..3 {
        create_test_session(&store).await;
    }
    let list = server.cli(&["KEYS", "*:user:*"]).await;
    let user = test_user("anna");
    for session in server.cli(&["ZRANGE", &list, "0", "-1"]).await.lines() {
        server.cli(&["ZINCRBY", &list, "-5", session]).await;
    }
    for is_right in [false, true] {
        let mut listed = Vec::new();
        let mut after = None;
        while let [.., last] = &store.list_sessions(&user, after, 1).await.unwrap()[..] {
            assert_eq!(
                last.updated_at == store.read_summary(last.session_id).await.unwrap().unwrap().updated_at,
                is_right
            );
            assert!(!listed.contains(&last.session_id) && listed.len() < 3);
            listed.push(last.session_id);
            after = Some(ListCursor { updated_at: last.updated_at, session_id: last.session_id });
        }
        assert_eq!(listed.len(), 3);
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn command_that_cannot_be_recorded_is_not_accepted() {
    let server = RedisServer::start(RedisFlavor::Debian).await;
    let store = RedisStore::new(&store_config(vec![server.url()], RedisDeployment::Single)).unwrap();
    let session = create_test_session(&store).await;
    let meta = server.cli(&["KEYS", "*:meta"]).await;
    server.cli(&["SET", &meta.replace(":meta", ":receipt_order"), "x"]).await;
    let refused = store.submit_command(session, test_command("c1", message_body("hi"))).await;
    assert!(matches!(refused, Err(StoreError::Corrupt(_))), "{refused:?}");
    assert_eq!(store.list_inbox(session).await.unwrap(), []);
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn idle_session_expires() {
    let server = RedisServer::start(RedisFlavor::Debian).await;
    let config = RedisConfig {
        session_ttl: Some(Duration::from_millis(400)),
        ..store_config(vec![server.url()], RedisDeployment::Single)
    };
    let store = RedisStore::new(&config).unwrap();
    let session = create_test_session(&store).await;
    store.submit_command(session, test_command("c1", message_body("hi"))).await.unwrap();
    let mut writer = SessionWriter::acquire(&store, session, "a").await;
    let position = store.list_inbox(session).await.unwrap()[0].position;
    writer.commit(run_drafts("hi"), &[position], CheckpointWrite::Write).await.unwrap();
    store.release_lease(writer.lease).await.unwrap();
    eventually_within(Duration::from_secs(10), "the session is deleted", async || {
        store.read_summary(session).await.unwrap().is_none()
    })
    .await;
    assert_eq!(server.cli(&["keys", "*{*"]).await, "", "with all that belongs to it");
    assert!(store.list_sessions(&contract::test_user("anna"), None, 10).await.unwrap().is_empty());
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn shallow_session_stays_small_over_many_turns() {
    let redis = RedisServer::start(RedisFlavor::Debian).await;
    let model = ScriptedModel::new([]);
    let env = vec![("MEMORY_BACKEND", "redis".into()), ("REDIS_URL", redis.url()), ("MEMORY_SHALLOW", "true".into())];
    let service = TestService::start(ServiceSetup { model: Some(model.clone()), env, ..ServiceSetup::default() }).await;
    let session = service.create_session().await;
    let content = "x".repeat(1_000);
    let mut sizes = Vec::new();
    for turn in 1..=2_000 {
        service.turn(&session, &content).await;
        if turn % 400 == 0 {
            sizes.push(session_memory_bytes(&redis).await);
        }
    }
    // Two thousand turns have 12,000 events; the stored data does not grow.
    assert!(sizes.iter().all(|size| *size < 3 << 20), "{sizes:?}");
    println!("{sizes:?} bytes after each 400 turns");
    let oldest = service.events(&session, "").await.next().await.unwrap()["oldest_seq"].as_u64().unwrap();
    assert!(oldest > 4_000, "{oldest}");
    assert!(model.requests().last().unwrap().messages.len() > 50, "the recent messages are still sent");
}

/// Returns the memory that the keys of all sessions use, in bytes.
async fn session_memory_bytes(redis: &RedisServer) -> u64 {
    let mut sum = 0;
    for key in redis.cli(&["keys", "*{*"]).await.lines() {
        sum += redis.cli(&["memory", "usage", key, "samples", "0"]).await.trim().parse::<u64>().unwrap();
    }
    sum
}

/// The message that the proxy drops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LostMessage {
    /// The request does not arrive.
    Request,
    /// The request is executed, and the reply does not arrive.
    Reply,
}

/// A proxy between a store and Redis, which breaks connections on demand.
struct LossyProxy {
    port: u16,
    lose: PendingLoss,
}

/// The next message to drop, and the number of scripts to forward before it.
type PendingLoss = Arc<Mutex<Option<(usize, LostMessage)>>>;

impl LossyProxy {
    async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let lose = PendingLoss::default();
        let to_lose = lose.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                tokio::spawn(forward_traffic(client, server, to_lose.clone()));
            }
        });
        Self { port, lose }
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn lose_next(&self, what: LostMessage) {
        self.lose_after(0, what);
    }

    fn lose_after(&self, scripts: usize, what: LostMessage) {
        *self.lose.lock() = Some((scripts, what));
    }

    /// Returns the number of losses that have not happened yet.
    fn pending_losses(&self) -> usize {
        usize::from(self.lose.lock().is_some())
    }
}

/// Forwards all traffic and drops messages of scripts on demand. Other commands (reads, pings) are never dropped.
async fn forward_traffic(mut client: TcpStream, mut server: TcpStream, lose: PendingLoss) {
    let (mut up, mut down) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let mut drop_reply = false;
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let Ok(read @ 1..) = read else { return };
                let script = up[..read].windows(7).any(|w| w == b"EVALSHA");
                match script.then(|| next_loss(&lose)).flatten() {
                    Some(LostMessage::Request) => return,
                    Some(LostMessage::Reply) => drop_reply = true,
                    None => {}
                }
                if server.write_all(&up[..read]).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut down) => {
                let Ok(read @ 1..) = read else { return };
                if drop_reply || client.write_all(&down[..read]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Returns the message to drop of a script that is about to be forwarded.
fn next_loss(lose: &PendingLoss) -> Option<LostMessage> {
    let mut lose = lose.lock();
    match &mut *lose {
        Some((0, what)) => {
            let what = *what;
            *lose = None;
            Some(what)
        }
        Some((passing, _)) => {
            *passing -= 1;
            None
        }
        None => None,
    }
}
