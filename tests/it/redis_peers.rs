//! Checks the Redis servers that other tests use. If one of these tests fails, the test bed is broken, not k8sops.

use std::time::Duration;

use k8sops_testing::{
    eventually_within,
    redis::{RedisCluster, RedisFlavor, RedisSentinel, RedisServer},
};

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn each_server_is_of_its_flavor() {
    for kind in RedisFlavor::ALL {
        let server = RedisServer::start(kind).await;
        let info = server.cli(&["INFO", "server"]).await;
        let vectors = server.try_cli(&["VADD", "v", "VALUES", "2", "1", "0", "element"]).await;
        assert_eq!(info.contains("valkey_version:"), kind == RedisFlavor::Valkey, "{info}");
        assert_eq!(vectors.is_ok(), kind == RedisFlavor::Redis8, "{kind:?}: {vectors:?}");
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn keys_survive_a_server_crash() {
    for kind in RedisFlavor::ALL {
        let server = RedisServer::start(kind).await;
        assert_eq!(server.url(), format!("redis://127.0.0.1:{}", server.port()));
        assert_eq!(server.cli(&["SET", "key", "two words"]).await, "OK");
        server.wait_until_written().await;
        server.kill().await;
        assert!(server.try_cli(&["PING"]).await.unwrap_err().contains("Connection refused"));
        server.restart().await;
        assert_eq!(server.cli(&["GET", "key"]).await, "two words", "{kind:?}");
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn paused_server_does_not_respond() {
    let server = RedisServer::start(RedisFlavor::Debian).await;
    server.pause().await;
    let silence = Duration::from_millis(300);
    tokio::time::timeout(silence, server.cli(&["PING"])).await.expect_err("a paused server does not answer");
    server.resume().await;
    assert_eq!(server.cli(&["PING"]).await, "PONG");

    server.pause().await;
    let port = server.port();
    drop(server);
    eventually_within(Duration::from_secs(10), "a paused server is killed on drop", async || {
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err()
    })
    .await;
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn tls_server_accepts_clients_with_its_ca() {
    let server = RedisServer::start_tls().await;
    assert_eq!(server.url(), format!("rediss://127.0.0.1:{}", server.port()));
    assert_eq!(server.cli(&["SET", "key", "secret"]).await, "OK");
    assert_eq!(server.cli(&["GET", "key"]).await, "secret");

    let get = |ca: Option<Vec<u8>>| {
        let mut client = reqwest::Client::builder().no_proxy();
        if let Some(ca) = ca {
            client = client.tls_certs_only([reqwest::Certificate::from_pem(&ca).unwrap()]);
        }
        client.build().unwrap().get(format!("https://127.0.0.1:{}", server.port())).send()
    };
    // Both requests fail, because Redis does not speak HTTP; only one fails because of the certificate.
    let trusting = format!("{:?}", get(Some(std::fs::read(server.ca_file()).unwrap())).await.unwrap_err());
    let other = format!("{:?}", get(None).await.unwrap_err());
    assert!(!trusting.contains("InvalidCertificate"), "{trusting}");
    assert!(other.contains("InvalidCertificate"), "{other}");
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn cluster_survives_the_crash_of_a_node() {
    for kind in RedisFlavor::ALL {
        let cluster = RedisCluster::start(kind).await;
        assert_eq!(cluster.urls(), [0, 1, 2].map(|i| cluster.node(i).url()));
        // The three nodes begin at the slots 0, 5461 and 10923; each of these keys belongs to another node.
        for key in ["b", "c", "a"] {
            assert_eq!(cluster.cli(&["SET", key, key]).await, "OK");
            assert_eq!(cluster.cli(&["GET", key]).await, key);
        }
        for i in 0..3 {
            assert_eq!(cluster.node(i).cli(&["DBSIZE"]).await, "1", "{kind:?}, node {i}");
            cluster.node(i).wait_until_written().await;
        }
        cluster.node(1).kill().await;
        cluster.node(1).restart().await;
        cluster.wait_until_ok().await;
        assert_eq!(cluster.cli(&["GET", "c"]).await, "c", "{kind:?}");
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn sentinel_promotes_the_replica() {
    for kind in RedisFlavor::ALL {
        let sentinel = RedisSentinel::start(kind).await;
        assert_eq!((sentinel.urls().len(), sentinel.service_name()), (1, "k8sops-test"));
        let old = sentinel.master_port().await;
        assert_eq!(sentinel.master().await.cli(&["SET", "key", "value"]).await, "OK");
        sentinel.wait_until_replicated().await;
        sentinel.kill_master().await;
        sentinel.wait_for_failover(old).await;
        assert_eq!(sentinel.master().await.cli(&["GET", "key"]).await, "value", "{kind:?}");
    }
}
