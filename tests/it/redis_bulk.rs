//! Large replies of Redis that arrive slowly: what is short does not wait for them.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::service::{ServiceSetup, TestService, problem};
use k8sops_testing::{
    redis::{RedisFlavor, RedisServer},
    scripted_model::ScriptedModel,
};

/// A reply of more bytes is large.
const LARGE_REPLY: usize = 256 * 1024;
/// The connections for large reads.
const POOL_SIZE: usize = 8;

/// How long a large read waits for a connection.
const CONNECTION_WAIT: Duration = Duration::from_secs(5);

/// Whether large replies arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LargeReplies {
    Forwarded,
    Stalled,
}

/// A proxy in front of Redis that can hold back the rest of large replies.
struct StallingProxy {
    url: String,
    large_replies: watch::Sender<LargeReplies>,
}

impl StallingProxy {
    async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let large_replies = watch::Sender::new(LargeReplies::Forwarded);
        let watched = large_replies.subscribe();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                tokio::spawn(forward(client, server, watched.clone()));
            }
        });
        Self { url, large_replies }
    }
}

async fn forward(mut client: TcpStream, mut server: TcpStream, mut large_replies: watch::Receiver<LargeReplies>) {
    let (mut up, mut down) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let mut reply_bytes = 0;
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                reply_bytes = 0;
                let Ok(read @ 1..) = read else { return };
                if server.write_all(&up[..read]).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut down) => {
                let Ok(read @ 1..) = read else { return };
                reply_bytes += read;
                if reply_bytes > LARGE_REPLY
                    && large_replies.wait_for(|replies| *replies == LargeReplies::Forwarded).await.is_err()
                {
                    return;
                }
                if client.write_all(&down[..read]).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn start_replica(url: &str) -> TestService {
    let env = vec![
        ("MEMORY_BACKEND", "redis".into()),
        ("REDIS_URL", url.to_owned()),
        ("K8SOPS_MAX_MESSAGE_BYTES", "4MiB".into()),
        ("K8SOPS_MAX_FRAME_BYTES", "8MiB".into()),
    ];
    TestService::start(ServiceSetup { env, model: Some(ScriptedModel::new([])), ..ServiceSetup::default() }).await
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn slow_large_reads_hold_up_nothing_else() {
    let redis = RedisServer::start(RedisFlavor::Debian).await;
    let owner = start_replica(&redis.url()).await;
    let large = owner.create_session().await;
    owner.turn(&large, &"x".repeat(2 << 20)).await;
    let proxy = StallingProxy::start(redis.port()).await;
    let replica = start_replica(&proxy.url).await;
    let small = replica.create_session().await;
    replica.turn(&small, "opens the connections").await;

    proxy.large_replies.send_replace(LargeReplies::Stalled);
    let path = format!("{large}/messages");
    let read_large = || replica.request(Method::GET, &path).send();
    let began = Instant::now();
    let slow_reads = join_all((0..POOL_SIZE).map(|_| read_large()));
    let others = async {
        // All connections for large reads are in use by then.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let rejected = async {
            let (status, problem) = problem(read_large().await.unwrap()).await;
            assert_eq!((status, &problem["code"]), (503, &"store_unavailable".into()), "{problem}");
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains("for large reads were in use for 5 s"), "{detail}");
            began.elapsed()
        };
        let turns = async {
            let mut slowest = Duration::ZERO;
            for n in 0..10 {
                let began = Instant::now();
                replica.turn(&small, &format!("message {n}")).await;
                let ready = replica.request(Method::GET, "/readyz").send().await.unwrap();
                assert_eq!(ready.status(), StatusCode::OK);
                slowest = slowest.max(began.elapsed());
            }
            slowest
        };
        let (rejected_after, slowest_turn) = tokio::join!(rejected, turns);
        assert!(rejected_after < Duration::from_secs(10), "{rejected_after:?}");
        assert!(slowest_turn < CONNECTION_WAIT, "a turn waited for a connection for large reads: {slowest_turn:?}");
        proxy.large_replies.send_replace(LargeReplies::Forwarded);
    };
    let (slow_reads, ()) = tokio::join!(slow_reads, others);
    for read in slow_reads {
        assert_eq!(read.unwrap().status(), StatusCode::OK, "they only took longer");
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn large_reads_work_after_a_restart_of_redis() {
    let redis = RedisServer::start(RedisFlavor::Debian).await;
    let owner = start_replica(&redis.url()).await;
    let large = owner.create_session().await;
    owner.turn(&large, &"x".repeat(2 << 20)).await;
    let replica = start_replica(&redis.url()).await;
    let path = format!("{large}/messages");
    let read_all = async || {
        for read in join_all((0..POOL_SIZE).map(|_| replica.request(Method::GET, &path).send())).await {
            assert_eq!(read.unwrap().status(), StatusCode::OK);
        }
    };
    read_all().await;
    redis.wait_until_written().await;
    redis.kill().await;
    redis.restart().await;
    read_all().await;
}
