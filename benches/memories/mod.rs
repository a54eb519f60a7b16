//! The time of a search among the memories of one user, for each way of searching.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use k8sops_core::{
    EmbeddingChange, EmbeddingVector, MemoryChange, MemoryId, MemoryKind, MemoryStore, MemoryWrite, Timestamp, UserId,
    UserMemory,
};
use k8sops_store::{ConfirmationPolicy, InMemoryStore, RedisConfig, RedisDeployment, RedisStore};

use crate::support::{BenchRedis, process_cpu_time};

/// Dimensions of the vectors: those of small embedding models.
const DIMENSIONS: usize = 384;
/// Number of searches per mean.
const SEARCHES: u32 = 50;
/// Number of results, as recall requests.
const LIMIT: usize = 64;

/// Returns a unit vector whose direction depends only on `seed`.
fn vector(seed: usize) -> EmbeddingVector {
    let mut random = fastrand::Rng::with_seed(seed as u64);
    let values: Vec<f32> = (0..DIMENSIONS).map(|_| random.f32() - 0.5).collect();
    let length = values.iter().map(|v| v * v).sum::<f32>().sqrt();
    EmbeddingVector { model: "bench/random".into(), values: values.iter().map(|v| v / length).collect() }
}

fn memory(n: usize) -> MemoryChange {
    let now = Timestamp::now();
    let memory = UserMemory {
        id: MemoryId::new(),
        kind: MemoryKind::Semantic,
        content: format!("service svc-{n} of team-{} runs in namespace ns-{}", n % 17, n % 101),
        tags: Vec::new(),
        confidence: 0.8,
        source: None,
        created_at: now,
        updated_at: now,
        expires_at: None,
        superseded_by: None,
    };
    MemoryChange { memory, embedding: EmbeddingChange::Set(vector(n)) }
}

fn store_in(redis: &BenchRedis) -> Arc<dyn MemoryStore> {
    let config = RedisConfig {
        urls: vec![redis.url().into()],
        topology: RedisDeployment::Single,
        ca: None,
        prefix: "bench".into(),
        session_ttl: None,
        allow_eviction: false,
        confirm: ConfirmationPolicy::Auto,
        confirm_timeout: Duration::from_secs(5),
        shallow: false,
    };
    Arc::new(RedisStore::new(&config).expect("a configuration"))
}

pub(crate) async fn run() {
    println!("memories: a search among the memories of one user, {DIMENSIONS} dimensions, the nearest {LIMIT}");
    println!(
        "  CPU of a search here and in Redis, and the time until the answer; the first search reads what is stored"
    );
    let (seven, eight) = (
        BenchRedis::start_as("K8SOPS_TEST_REDIS_SERVER").await,
        BenchRedis::start_as("K8SOPS_TEST_REDIS8_SERVER").await,
    );
    let user: UserId = "bench".parse().expect("an id");
    let writers: [(&str, Arc<dyn MemoryStore>, Option<&BenchRedis>); 3] = [
        ("in memory, exact", Arc::new(InMemoryStore::default()), None),
        ("Redis 7, exact", store_in(&seven), Some(&seven)),
        ("Redis 8, vector set", store_in(&eight), Some(&eight)),
    ];
    let mut written = 0;
    for count in [1_000, 10_000, 100_000] {
        let changes: Vec<MemoryChange> = (written..count).map(memory).collect();
        for (name, store, redis) in &writers {
            // Few at a time: a vector set takes milliseconds for each, and a script of them has to end in time.
            for part in changes.chunks(20) {
                let version = store.read_memories(&user).await.expect("read").version;
                let written = store.write_memories(&user, version, part).await.expect("written");
                assert_eq!(written, MemoryWrite::Written, "no other writer");
            }
            // A process that has read nothing yet.
            let fresh = redis.map_or_else(|| Arc::clone(store), store_in);
            let began = Instant::now();
            fresh.find_nearest_memories(&user, &vector(0), LIMIT).await.expect("searched");
            let first = began.elapsed();
            let of_redis = || redis.map_or(Duration::ZERO, BenchRedis::cpu_time);
            let (began, here, there) = (Instant::now(), process_cpu_time(std::process::id()), of_redis());
            for n in 0..SEARCHES {
                let found = fresh.find_nearest_memories(&user, &vector(n as usize), LIMIT).await.expect("searched");
                assert_eq!(found.len(), LIMIT, "as many as were asked for");
            }
            let mean = |time: Duration| time.as_secs_f64() * 1e3 / f64::from(SEARCHES);
            println!(
                "  {count:7} {name:20} {:6.2} ms here, {:6.2} ms in Redis; answered in {:6.2} ms; the first in {:7.1} ms",
                mean(process_cpu_time(std::process::id()).saturating_sub(here)),
                mean(of_redis().saturating_sub(there)),
                mean(began.elapsed()),
                first.as_secs_f64() * 1e3,
            );
        }
        written = count;
    }
}
