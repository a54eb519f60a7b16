//! The Redis store against Redis servers of several makers and versions: the contract of all stores, and what Redis adds
//! to it (an answer that is lost, a deleted session's keys, bounded storage, time to live).

use std::{sync::Arc, time::Duration};

use k8sops::{
    session::{SessionStore, StoreError},
    store::{
        RedisConfig, RedisStore, Topology,
        contract::{self, Pen, command, message, new_session, note, run},
    },
};

use crate::redis::{Kind, RedisCluster, RedisServer, Sentinel};

/// A store of a deployment of its own.
fn config(urls: Vec<String>, topology: Topology) -> RedisConfig {
    RedisConfig {
        urls: urls.into_iter().map(Into::into).collect(),
        topology,
        ca: None,
        prefix: format!("test-{}", uuid::Uuid::now_v7()),
        session_ttl: None,
        shallow: false,
    }
}

async fn the_contract_holds(new_config: impl Fn() -> RedisConfig) {
    for rule in contract::RULES {
        println!("{}", rule.name);
        (rule.check)(Arc::new(RedisStore::new(&new_config()).unwrap())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_holds_on_redis_7_and_8_and_on_valkey() {
    for kind in [Kind::Debian, Kind::Redis8, Kind::Valkey] {
        let server = RedisServer::start(kind).await;
        the_contract_holds(|| config(vec![server.url()], Topology::Single)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_holds_on_a_cluster_of_three_nodes() {
    let cluster = RedisCluster::start(Kind::Redis8).await;
    the_contract_holds(|| config(cluster.urls(), Topology::Cluster)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_holds_behind_a_sentinel_and_over_tls() {
    let sentinel = Sentinel::start(Kind::Debian).await;
    the_contract_holds(|| config(sentinel.urls(), Topology::Sentinel(sentinel.service_name().into()))).await;
    let server = RedisServer::start_tls().await;
    let ca = std::fs::read(server.ca_file()).unwrap();
    the_contract_holds(|| RedisConfig { ca: Some(ca.clone()), ..config(vec![server.url()], Topology::Single) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_session_leaves_no_key_and_neither_does_what_its_owner_still_tries() {
    let server = RedisServer::start(Kind::Debian).await;
    let store = RedisStore::new(&config(vec![server.url()], Topology::Single)).unwrap();
    let session = new_session(&store).await;
    store.submit(session, command("c1", message("hi"))).await.unwrap();
    let mut pen = Pen::take(&store, session, "a").await;
    pen.write(run("hi"), &[1], true).await.unwrap();
    assert!(!server.cli(&["keys", "*"]).await.is_empty());
    store.delete(session).await.unwrap();
    assert!(matches!(pen.write(vec![note("late")], &[], true).await, Err(StoreError::NotFound(_))));
    assert!(matches!(store.submit(session, command("c2", message("hi"))).await, Err(StoreError::NotFound(_))));
    assert!(matches!(store.acquire(session, "b", Duration::from_secs(1)).await, Err(StoreError::NotFound(_))));
    assert_eq!(server.cli(&["keys", "*"]).await, "");
}
