//! Performance of the running service, as CPU time and as ratios within one run.
//!
//! `cargo bench --bench service [tokens|turns|idle|redis|outputs|memories|start]` runs one part, or all without an
//! argument. `tokens` needs nginx, `memories` needs Redis, and `redis` needs Redis and the MCP server `everything`.
//! `bash tests/testbed/setup.sh` installs them and writes their paths to `env.sh`.
//!
//! - `tokens`: CPU per streamed token with 32 sessions at 50 tokens/s each, compared with the same streams through nginx.
//! - `turns`: CPU and bytes written per turn, around turn 10 and around turn 1,000 of one session.
//! - `redis`: the round trips of a turn with one tool call, commits per second, and opening a session with 5,000 events.
//! - `outputs`: peak memory and time of a turn whose tool returns 14,000 pods, 3 MB of Secrets, or a log of 100 MB.
//! - `start`: from the start of the process to its first response as ready, without MCP servers.
//! - `memories`: CPU of a search among 1,000, 10,000 and 100,000 memories: by a linear scan, and in a vector set.
//! - `idle`: resident memory for 10,000 idle sessions and for 1,000 idle WebSockets.

mod memories;
mod support;

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use support::{BenchClient, BenchProgram, BenchRedis, NginxProxy, ScriptedUpstream};

/// Number of concurrently streaming sessions.
const SESSIONS: usize = 32;
/// Tokens per second of each session.
const RATE: u64 = 50;
/// Number of tokens of one reply.
const TOKENS: u64 = 500;

#[tokio::main]
async fn main() {
    let wanted = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let wants = |name: &str| wanted.as_deref().is_none_or(|wanted| wanted == name);
    if wants("tokens") {
        tokens().await;
    }
    if wants("turns") {
        turns().await;
    }
    if wants("redis") {
        redis().await;
    }
    if wants("outputs") {
        outputs().await;
    }
    if wants("start") {
        start().await;
    }
    if wants("memories") {
        memories::run().await;
    }
    if wants("idle") {
        idle().await;
    }
}

async fn tokens() {
    let upstream = ScriptedUpstream::start(TOKENS, Duration::from_millis(1000 / RATE)).await;
    let nginx = NginxProxy::start(&[upstream.port]).await;
    let through = format!("{}/v1", nginx.url);
    let redis = BenchRedis::start().await;
    let [backend, url] = redis.env();
    let kept_there = [("MAX_SESSIONS", "100"), (backend.0, &*backend.1), (url.0, &*url.1)];
    let service = BenchProgram::start(&upstream.url(), &[("MAX_SESSIONS", "100")]).await;
    let with_redis = BenchProgram::start(&upstream.url(), &kept_there).await;
    let client = BenchClient::new();

    // The first of both is not counted: connections, pools and caches are made in it.
    for warm in [true, false] {
        let before = nginx.cpu_time();
        let began = Instant::now();
        let bodies = join_all((0..SESSIONS).map(|_| client.count_upstream_tokens(&through))).await;
        let took = began.elapsed();
        let through_nginx = nginx.cpu_time().saturating_sub(before);
        assert!(bodies.iter().all(|tokens| *tokens == TOKENS), "every stream is whole");

        let mut through = Vec::new();
        for service in [&service, &with_redis] {
            let sessions = join_all((0..SESSIONS).map(|_| client.create_session(&service.url))).await;
            let before = (service.cpu_time(), redis.cpu_time());
            let began = Instant::now();
            let runs = join_all(sessions.iter().map(|session| client.turn(session, "go"))).await;
            assert!(runs.iter().all(|text| text.split_whitespace().count() as u64 == TOKENS), "every text is whole");
            let of_redis = redis.cpu_time().saturating_sub(before.1);
            through.push((service.cpu_time().saturating_sub(before.0), of_redis, began.elapsed()));
        }
        if !warm {
            let all = (SESSIONS as u64 * TOKENS) as f64;
            let micros = |cpu: Duration| cpu.as_secs_f64() * 1e6 / all;
            println!("tokens: {SESSIONS} streams of {TOKENS} tokens at {RATE}/s");
            println!("  nginx   {:6.1} us CPU per token   ({:.1} s)", micros(through_nginx), took.as_secs_f64());
            for (name, (cpu, of_redis, took)) in ["k8sops, files", "k8sops, Redis"].iter().zip(&through) {
                println!(
                    "  {name} {:6.1} us CPU per token   ({:.1} s, {:.2} times nginx; Redis itself {:.1} us)",
                    micros(*cpu),
                    took.as_secs_f64(),
                    micros(*cpu) / micros(through_nginx),
                    micros(*of_redis)
                );
            }
        }
    }
}

/// Turns that are answered with one tool call and then a text, on Redis.
async fn redis() {
    let upstream = ScriptedUpstream::start_with_tool_call("echo", 3).await;
    let redis = BenchRedis::start().await;
    let [backend, url] = redis.env();
    let node = std::env::var("K8SOPS_TEST_NODE").unwrap_or_else(|_| "node".into());
    let everything = std::env::var("K8SOPS_TEST_MCP_EVERYTHING").expect("source the test bed's env.sh");
    let settings = [
        (backend.0, &*backend.1),
        (url.0, &*url.1),
        ("TOOL_APPROVAL", "auto"),
        ("MCP_SERVER_COMMAND", &node),
        ("MCP_SERVER_ARGS", &everything),
        ("MAX_SESSIONS", "100"),
    ];
    let service = BenchProgram::start(&upstream.url(), &settings).await;
    let client = BenchClient::new();
    client.wait_for_mcp_servers(&service.url).await;
    let session = client.create_session(&service.url).await;
    for _ in 0..5 {
        client.turn(&session, "echo it").await;
    }
    let monitor = redis.monitor().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    client.turn(&session, "echo it").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let commands = monitor.stop();
    println!("redis: one turn of two model calls and one tool call, as the service asks Redis");
    for command in &commands {
        let words: Vec<&str> = command.split('"').skip(1).step_by(2).collect();
        let key = words.iter().find(|word| word.starts_with("k8sops:")).copied().unwrap_or_default();
        let key = key.rsplit(':').next().unwrap_or_default();
        println!("  {:10} {key}", words.first().copied().unwrap_or_default());
    }
    // As fast as it goes: sixteen sessions, each turn four commits.
    let sessions = join_all((0..16).map(|_| client.create_session(&service.url))).await;
    let (began, before) = (Instant::now(), redis.cpu_time());
    let turns = 20;
    join_all(sessions.iter().map(async |session| {
        for _ in 0..turns {
            client.turn(session, "echo it").await;
        }
    }))
    .await;
    let took = began.elapsed().as_secs_f64();
    let commits = client.events(&sessions[0]).await.1 * sessions.len();
    println!("  {:.0} events per second from 16 sessions, with all that is around them", commits as f64 / took);
    println!("  Redis: {:.0} % of a core", redis.cpu_time().saturating_sub(before).as_secs_f64() / took * 100.0);
    let long = client.create_session(&service.url).await;
    let mut last = 0;
    while last < 5_000 {
        client.turn(&long, "echo it").await;
        last = client.last_seq(&long).await;
    }
    let (read, count) = client.events(&long).await;
    println!("  a log of {count} events is read whole in {:.1} ms", read.as_secs_f64() * 1e3);
    // The owner has released the session: the next message opens it from the checkpoint.
    tokio::time::sleep(Duration::from_secs(12)).await;
    let began = Instant::now();
    client.turn(&long, "echo it").await;
    println!("  and a turn on it after reopening takes {:.1} ms", began.elapsed().as_secs_f64() * 1e3);
}

async fn turns() {
    let upstream = ScriptedUpstream::start(20, Duration::ZERO).await;
    let service = BenchProgram::start(&upstream.url(), &[]).await;
    let client = BenchClient::new();
    let session = client.create_session(&service.url).await;
    let mut done = 0;
    println!("turns: one session, replies of 20 tokens, mean of 20 turns");
    for at in [10, 1000] {
        while done < at {
            client.turn(&session, "what is the state of the deployment?").await;
            done += 1;
        }
        let (cpu, written) = (service.cpu_time(), service.written_bytes());
        for _ in 0..20 {
            client.turn(&session, "what is the state of the deployment?").await;
            done += 1;
        }
        let (cpu, written) = (service.cpu_time().saturating_sub(cpu), service.written_bytes() - written);
        println!(
            "  at turn {at:5}: {:7.2} ms CPU, {:6} bytes written per turn",
            cpu.as_secs_f64() * 1e3 / 20.0,
            written / 20
        );
    }
}

async fn outputs() {
    println!("outputs: one turn whose tool returns too much");
    // What must be seen of it, and what must not.
    for (tool, seen, hidden) in [
        ("pods", "CrashLoopBackOff", "fieldsV1"),
        ("secrets", "[secret:password:", "dmFsdWUtb2Ytc2Vjcm"),
        ("log", "ERROR payment 4711", "nothing is hidden"),
    ] {
        let upstream = ScriptedUpstream::start_with_tool_call(tool, 3).await;
        let server = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/testbed/large_outputs.py");
        let python = std::env::var("K8SOPS_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
        let settings = [("MCP_SERVER_COMMAND", &*python), ("MCP_SERVER_ARGS", server)];
        let service = BenchProgram::start(&upstream.url(), &settings).await;
        let client = BenchClient::new();
        client.wait_for_mcp_servers(&service.url).await;
        let before = service.resident_memory();
        let session = client.create_session(&service.url).await;
        let cpu = service.cpu_time();
        client.turn(&session, "go").await;
        let cpu = service.cpu_time().saturating_sub(cpu);
        let end = client.tool_end(&session).await;
        let content = end["content"].as_str().unwrap_or_default();
        assert!(content.contains(seen) && !content.contains(hidden), "{tool}: {end}");
        println!(
            "  {tool:<8} {:6.1} MB in, {:5.1} KB to the model; {:5.2} s CPU; {:5.1} MiB before, {:6.1} MiB at the peak",
            end["bytes"].as_f64().unwrap_or(0.0) / 1e6,
            content.len() as f64 / 1e3,
            cpu.as_secs_f64(),
            mib(before),
            mib(service.peak_memory()),
        );
    }
}

async fn start() {
    let upstream = ScriptedUpstream::start(1, Duration::ZERO).await;
    let client = BenchClient::new();
    let mut took = Vec::new();
    for _ in 0..20 {
        let began = Instant::now();
        let service = BenchProgram::spawn(&upstream.url(), &[]);
        while !client.is_ready(&service.url).await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        took.push(began.elapsed().as_secs_f64() * 1e3);
    }
    took.sort_by(f64::total_cmp);
    println!("start: {:.1} ms to ready at the median, {:.1} ms at the most, of 20", took[10], took[19]);
}

async fn idle() {
    let upstream = ScriptedUpstream::start(1, Duration::ZERO).await;
    let service = BenchProgram::start(&upstream.url(), &[("MAX_SESSIONS", "20000")]).await;
    let client = BenchClient::new();
    // What a first use allocates is not the sessions'.
    for _ in 0..50 {
        client.create_session(&service.url).await;
    }
    let before = service.resident_memory();
    let mut session = String::new();
    for _ in 0..100 {
        session = join_all((0..100).map(|_| client.create_session(&service.url))).await.pop().expect("a hundred");
    }
    let after = service.resident_memory();
    println!("idle: resident memory");
    println!("  before                   {:8.1} MiB", mib(before));
    println!("  with 10,000 sessions     {:8.1} MiB  ({:+.2} KiB each)", mib(after), kib(before, after, 10_000));
    let _sockets = join_all((0..1000).map(|_| client.open_socket(&session))).await;
    let with_sockets = service.resident_memory();
    println!(
        "  with 1,000 WebSockets    {:8.1} MiB  ({:+.2} KiB each)",
        mib(with_sockets),
        kib(after, with_sockets, 1000)
    );
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}

fn kib(before: u64, after: u64, count: u32) -> f64 {
    (after as f64 - before as f64) / 1024.0 / f64::from(count)
}
