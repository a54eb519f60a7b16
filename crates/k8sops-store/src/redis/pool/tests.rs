use std::time::Instant;

use k8sops_testing::redis::{RedisCluster, RedisFlavor, RedisSentinel, RedisServer};

use redis::Cmd;

use super::*;
use crate::redis::{
    config::{RedisConfig, RedisDeployment},
    scripts::ScheduleSession,
};

const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

fn pool_of(config: &RedisConfig, max_size: usize) -> ConnectionPool {
    let connector = RedisConnector::new(config, RESPONSE_TIMEOUT).unwrap();
    ConnectionPool::new(connector, max_size, "tests").unwrap()
}

fn pool_on(server: &RedisServer, max_size: usize) -> ConnectionPool {
    pool_of(&RedisConfig::of_test(vec![server.url()], RedisDeployment::Single), max_size)
}

async fn client_id(pool: &ConnectionPool) -> u64 {
    pool.query(redis::cmd("CLIENT").arg("ID")).await.unwrap()
}

/// Waits until an element is pushed that never is.
fn blocking_command(seconds: u64) -> Cmd {
    let mut command = redis::cmd("BLPOP");
    command.arg("never-pushed").arg(seconds);
    command
}

/// Runs a script on several keys, each followed by `command`.
async fn run_script_and<T: FromRedisValue>(pool: &ConnectionPool, command: &Cmd) -> Vec<Result<T, StoreError>> {
    let mut replies = Vec::new();
    for n in 0..6 {
        let script =
            ScheduleSession { work_key: format!("work-{n}"), session: "session".to_owned(), delay_ms: Duration::ZERO };
        let mut commands = redis::pipe();
        commands.add_command(ScriptCall::new(&script).whole_command()).add_command(command.clone());
        let [scheduled, reply]: [Value; 2] =
            pool.send_to_node_of(&script.work_key, &commands).await.unwrap().unwrap().try_into().unwrap();
        scheduled.extract_error().unwrap();
        replies.push(reply.extract_error().map_err(to_store_error).and_then(read_reply));
    }
    replies
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn writes_are_confirmed_by_the_node_that_has_them() {
    let server = RedisServer::start(RedisFlavor::Redis8).await;
    let cluster = RedisCluster::start(RedisFlavor::Redis8).await;
    let sentinel = RedisSentinel::start(RedisFlavor::Redis8).await;
    let targets = [
        (RedisConfig::of_test(vec![server.url()], RedisDeployment::Single), 0),
        (RedisConfig::of_test(cluster.urls(), RedisDeployment::Cluster), 0),
        (RedisConfig::of_test(sentinel.urls(), RedisDeployment::Sentinel(sentinel.service_name().into())), 1),
    ];
    for (config, replicas) in targets {
        let pool = pool_of(&config, 2);
        let mut wait = redis::cmd("WAITAOF");
        wait.arg(1).arg(replicas).arg(5_000);
        for reply in run_script_and::<(u64, u64)>(&pool, &wait).await {
            let (local, by_replicas) = reply.unwrap();
            assert_eq!(local, 1, "{:?}", config.topology);
            assert!(by_replicas >= replicas, "{:?}", config.topology);
        }
        let mut wait = redis::cmd("WAIT");
        wait.arg(9).arg(50);
        for reply in run_script_and::<u64>(&pool, &wait).await {
            assert!(reply.unwrap() < 9);
        }
        // The script counts, even if the command cannot be run.
        for reply in run_script_and::<u64>(&pool, &redis::cmd("NO-SUCH-COMMAND")).await {
            assert!(reply.is_err());
        }
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn connection_is_used_again_unless_its_caller_gave_up() {
    let server = RedisServer::start(RedisFlavor::Debian).await;
    let pool = pool_on(&server, 2);
    let first = client_id(&pool).await;
    assert_eq!(client_id(&pool).await, first);
    let given_up = tokio::time::timeout(Duration::from_millis(50), pool.query::<Value>(&blocking_command(20))).await;
    assert!(given_up.is_err());
    let began = Instant::now();
    let second = client_id(&pool).await;
    assert_ne!(second, first);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn caller_gets_an_error_if_no_connection_becomes_free() {
    let server = RedisServer::start(RedisFlavor::Debian).await;
    let pool = pool_on(&server, 2);
    let blocking = blocking_command(0);
    let busy = async { tokio::join!(pool.query::<Value>(&blocking), pool.query::<Value>(&blocking)) };
    let waiting = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        pool.query::<Value>(&redis::cmd("PING")).await
    };
    let error = tokio::select! {
        _ = busy => panic!("nothing was pushed"),
        reply = waiting => reply.unwrap_err().to_string(),
    };
    assert!(error.contains("all 2 connections to Redis for tests were in use for 5 s"), "{error}");
    // The callers are gone, and so are their connections.
    client_id(&pool).await;
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_survive_no_restart() {
    let server = RedisServer::start(RedisFlavor::Debian).await;
    let pool = pool_on(&server, 8);
    let short = blocking_command(1);
    tokio::join!(pool.query::<Value>(&short), pool.query::<Value>(&short), pool.query::<Value>(&short)).0.unwrap();
    assert_eq!(pool.pool.status().size, 3);
    server.kill().await;
    server.restart().await;
    client_id(&pool).await;
    client_id(&pool).await;
    assert_eq!(pool.pool.status().size, 1, "the others are not used again");
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn server_that_is_away_or_hangs_is_an_outage_at_once() {
    let server = RedisServer::start(RedisFlavor::Debian).await;
    let pool = pool_on(&server, 8);
    client_id(&pool).await;
    tokio::time::sleep(CHECK_AFTER).await;
    server.pause().await;
    let began = Instant::now();
    let replies =
        futures_util::future::join_all((0..20).map(|_| async { pool.query::<Value>(&redis::cmd("PING")).await }));
    for reply in replies.await {
        assert!(matches!(reply.unwrap_err(), StoreError::Unavailable(_)));
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    server.resume().await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    client_id(&pool).await;
    server.kill().await;
    let began = Instant::now();
    assert!(pool.query::<Value>(&redis::cmd("PING")).await.is_err());
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn connection_to_a_demoted_master_is_not_used_again() {
    let server = RedisServer::start(RedisFlavor::Debian).await;
    let pool = pool_on(&server, 8);
    let first = client_id(&pool).await;
    server.cli(&["REPLICAOF", "127.0.0.1", "1"]).await;
    let mut write = redis::cmd("SET");
    write.arg("key").arg("value");
    let error = pool.query::<Value>(&write).await.unwrap_err();
    assert_eq!(error.outage(), Some(k8sops_core::StoreOutage::ReadOnly));
    server.cli(&["REPLICAOF", "NO", "ONE"]).await;
    pool.query::<Value>(&write).await.unwrap();
    assert_ne!(client_id(&pool).await, first);
}
