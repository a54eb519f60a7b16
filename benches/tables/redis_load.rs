//! What the service asks of Redis.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures_util::future::join_all;

use super::{BenchStore, MeasuredService, TOKENS_PER_SECOND};
use crate::support::{
    BenchClient, BenchRedis, CommandStats, ProgramOptions, ScriptedUpstream, open_idle_socket, stream_session,
};

/// Turns and sessions over which commands are counted.
const COUNTED: u64 = 50;
/// How long idle sessions are observed.
const IDLE_TIME: Duration = Duration::from_secs(30);
/// The owner of a session has released it after this time without work.
const RELEASE_TIME: Duration = Duration::from_secs(12);
/// Tokens of a paced reply.
const TOKENS: u64 = 250;

pub(super) async fn print() {
    println!("\nredis: commands that Redis executes, with those that scripts call");
    count_commands_of_replies().await;
    count_commands_of_idle_sessions().await;
    let upstream = ScriptedUpstream::start_with_tool_call("echo", 3).await;
    let server = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/testbed/large_outputs.py");
    let python = std::env::var("K8SOPS_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let env = [("MCP_SERVER_COMMAND", &*python), ("MCP_SERVER_ARGS", server)];
    let options = ProgramOptions { env: &env, wrapper: None };
    let service = MeasuredService::start(BenchStore::Redis, &upstream.url(), &options).await;
    BenchClient::new().wait_for_mcp_servers(&service.program.url).await;
    print_tool_turn(&service).await;
    print_throughput(&service).await;
    print_reopening(&service).await;
}

fn redis_of(service: &MeasuredService) -> &BenchRedis {
    service.redis.as_ref().expect("the store is Redis")
}

/// What Redis has done so far.
struct RedisUsage {
    commands: BTreeMap<String, CommandStats>,
    cpu: Duration,
}

impl RedisUsage {
    async fn read(redis: &BenchRedis) -> Self {
        Self { commands: redis.command_stats().await, cpu: redis.cpu_time() }
    }
}

/// Prints the commands since `before`, per unit of `units`.
async fn print_commands(what: &str, redis: &BenchRedis, before: &RedisUsage, units: f64) {
    let after = RedisUsage::read(redis).await;
    let micros = after.cpu.saturating_sub(before.cpu).as_secs_f64() * 1e6 / units;
    let used = |(name, now): (&String, &CommandStats)| {
        let before = before.commands.get(name).copied().unwrap_or_default();
        (name.clone(), CommandStats { calls: now.calls - before.calls, micros: now.micros - before.micros })
    };
    let mut rows: Vec<_> = after.commands.iter().map(used).collect();
    // What the measurement itself asks.
    rows.retain(|(name, used)| used.calls > 0 && !["info", "quit"].contains(&name.as_str()));
    rows.sort_by_key(|(_, used)| std::cmp::Reverse(used.calls));
    let is_script = |name: &str| name.starts_with("eval") || name.starts_with("fcall");
    let scripts: u64 = rows.iter().filter(|(name, _)| is_script(name)).map(|(_, used)| used.calls).sum();
    println!("  {what}: {:.2} scripts, {micros:.0} us CPU of Redis", scripts as f64 / units);
    for (name, used) in rows {
        let each = used.micros as f64 / used.calls as f64;
        println!("    {name:<18} {:9.3} calls, {each:6.1} us each", used.calls as f64 / units);
    }
}

async fn count_commands_of_replies() {
    let gap = Duration::from_millis(1000 / TOKENS_PER_SECOND);
    let upstream = ScriptedUpstream::start(1, gap).await;
    let service = MeasuredService::start(BenchStore::Redis, &upstream.url(), &ProgramOptions::default()).await;
    let redis = redis_of(&service);
    let client = BenchClient::new();
    let sessions = join_all((0..COUNTED).map(|_| client.create_session(&service.program.url))).await;
    for (tokens, what) in [(1, "a turn of one token"), (TOKENS, "a turn of 250 tokens at 50/s")] {
        let before = RedisUsage::read(redis).await;
        join_all(sessions.iter().map(|session| stream_session(session, tokens))).await;
        print_commands(what, redis, &before, COUNTED as f64).await;
    }
}

async fn count_commands_of_idle_sessions() {
    let upstream = ScriptedUpstream::start(1, Duration::ZERO).await;
    let service = MeasuredService::start(BenchStore::Redis, &upstream.url(), &ProgramOptions::default()).await;
    let redis = redis_of(&service);
    let client = BenchClient::new();
    let before = RedisUsage::read(redis).await;
    tokio::time::sleep(IDLE_TIME).await;
    print_commands("a replica without sessions, per second", redis, &before, IDLE_TIME.as_secs_f64()).await;
    let sessions = join_all((0..COUNTED).map(|_| client.create_session(&service.program.url))).await;
    join_all(sessions.iter().map(|session| stream_session(session, 1))).await;
    tokio::time::sleep(RELEASE_TIME).await;
    let before = RedisUsage::read(redis).await;
    tokio::time::sleep(IDLE_TIME).await;
    let what = format!("a replica with {COUNTED} idle sessions, per second");
    print_commands(&what, redis, &before, IDLE_TIME.as_secs_f64()).await;
    let _sockets = join_all(sessions.iter().map(|session| open_idle_socket(session))).await;
    let before = RedisUsage::read(redis).await;
    tokio::time::sleep(IDLE_TIME).await;
    let what = format!("a replica with {COUNTED} idle sessions that clients follow, per second");
    print_commands(&what, redis, &before, IDLE_TIME.as_secs_f64()).await;
}

/// Prints the commands of a turn with one tool call in their order.
async fn print_tool_turn(service: &MeasuredService) {
    let client = BenchClient::new();
    let session = client.create_session(&service.program.url).await;
    for _ in 0..5 {
        client.turn(&session, "echo it").await;
    }
    let monitor = redis_of(service).monitor().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    client.turn(&session, "echo it").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    println!("  one turn of two model calls and one tool call, as the service asks Redis");
    for command in monitor.stop() {
        let words: Vec<&str> = command.split('"').skip(1).step_by(2).collect();
        let key = words.iter().find(|word| word.starts_with("k8sops:")).copied().unwrap_or_default();
        let key = key.rsplit(':').next().unwrap_or_default();
        println!("    {:10} {key}", words.first().copied().unwrap_or_default());
    }
}

/// Prints how fast sixteen sessions commit without a pause.
async fn print_throughput(service: &MeasuredService) {
    let client = BenchClient::new();
    let sessions = join_all((0..16).map(|_| client.create_session(&service.program.url))).await;
    let began = Instant::now();
    let before = service.cpu_times();
    join_all(sessions.iter().map(async |session| {
        for _ in 0..20 {
            client.turn(session, "echo it").await;
        }
    }))
    .await;
    let took = began.elapsed().as_secs_f64();
    let used = service.cpu_times().micros_since(before, 1);
    let events = client.events(&sessions[0]).await.1 * sessions.len();
    println!("  {:.0} events per second from 16 sessions, with all that is around them", events as f64 / took);
    println!("  Redis: {:.0} % of a core", used.redis / took / 1e4);
}

async fn print_reopening(service: &MeasuredService) {
    let client = BenchClient::new();
    let long = client.create_session(&service.program.url).await;
    let mut last = 0;
    while last < 5_000 {
        client.turn(&long, "echo it").await;
        last = client.last_seq(&long).await;
    }
    let (read, count) = client.events(&long).await;
    println!("  a log of {count} events is read whole in {:.1} ms", read.as_secs_f64() * 1e3);
    // The next message opens the session from its checkpoint.
    tokio::time::sleep(RELEASE_TIME).await;
    let began = Instant::now();
    client.turn(&long, "echo it").await;
    println!("  and a turn on it after reopening takes {:.1} ms", began.elapsed().as_secs_f64() * 1e3);
}
