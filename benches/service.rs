//! What DESIGN promises of speed, measured on the running service, by CPU time and by ratio in one run.
//!
//! `cargo bench --bench service [tokens|turns|idle]` (all, without an argument). Needs nginx for `tokens`:
//! `bash tests/testbed/setup.sh` installs it.
//!
//! - `tokens`: CPU per streamed token with 32 sessions at 50 tokens/s each, beside the same streams through nginx.
//! - `turns`: CPU and bytes written per turn, around turn 10 and around turn 1,000 of one session.
//! - `idle`: resident memory for 10,000 idle sessions and for 1,000 idle WebSockets.

mod support;

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use support::{Client, Nginx, Program, Upstream};

/// Sessions that stream at the same time.
const SESSIONS: usize = 32;
/// Tokens per second of each.
const RATE: u64 = 50;
/// Tokens of one reply.
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
    if wants("idle") {
        idle().await;
    }
}

async fn tokens() {
    let upstream = Upstream::start(TOKENS, Duration::from_millis(1000 / RATE)).await;
    let nginx = Nginx::start(&[upstream.port]).await;
    let through = format!("{}/v1", nginx.url);
    let service = Program::start(&upstream.url(), &[("MAX_SESSIONS", "100")]).await;
    let client = Client::new();

    // The first of both is not counted: connections, pools and caches are made in it.
    for warm in [true, false] {
        let before = nginx.cpu();
        let began = Instant::now();
        let bodies = join_all((0..SESSIONS).map(|_| client.upstream(&through))).await;
        let took = began.elapsed();
        let through_nginx = nginx.cpu().saturating_sub(before);
        assert!(bodies.iter().all(|tokens| *tokens == TOKENS), "every stream is whole");

        let sessions = join_all((0..SESSIONS).map(|_| client.session(&service.url))).await;
        let before = service.cpu();
        let began = Instant::now();
        let runs = join_all(sessions.iter().map(|session| client.turn(session, "go"))).await;
        let took_service = began.elapsed();
        let through_service = service.cpu().saturating_sub(before);
        assert!(runs.iter().all(|text| text.split_whitespace().count() as u64 == TOKENS), "every text is whole");
        if !warm {
            let all = (SESSIONS as u64 * TOKENS) as f64;
            let micros = |cpu: Duration| cpu.as_secs_f64() * 1e6 / all;
            println!("tokens: {SESSIONS} streams of {TOKENS} tokens at {RATE}/s");
            println!("  nginx   {:6.1} us CPU per token   ({:.1} s)", micros(through_nginx), took.as_secs_f64());
            println!(
                "  k8sops  {:6.1} us CPU per token   ({:.1} s)",
                micros(through_service),
                took_service.as_secs_f64()
            );
            println!("  ratio   {:6.2}", micros(through_service) / micros(through_nginx));
        }
    }
}

async fn turns() {
    let upstream = Upstream::start(20, Duration::ZERO).await;
    let service = Program::start(&upstream.url(), &[]).await;
    let client = Client::new();
    let session = client.session(&service.url).await;
    let mut done = 0;
    println!("turns: one session, replies of 20 tokens, mean of 20 turns");
    for at in [10, 1000] {
        while done < at {
            client.turn(&session, "what is the state of the deployment?").await;
            done += 1;
        }
        let (cpu, written) = (service.cpu(), service.written());
        for _ in 0..20 {
            client.turn(&session, "what is the state of the deployment?").await;
            done += 1;
        }
        let (cpu, written) = (service.cpu().saturating_sub(cpu), service.written() - written);
        println!(
            "  at turn {at:5}: {:7.2} ms CPU, {:6} bytes written per turn",
            cpu.as_secs_f64() * 1e3 / 20.0,
            written / 20
        );
    }
}

async fn idle() {
    let upstream = Upstream::start(1, Duration::ZERO).await;
    let service = Program::start(&upstream.url(), &[("MAX_SESSIONS", "20000")]).await;
    let client = Client::new();
    // What a first use allocates is not the sessions'.
    for _ in 0..50 {
        client.session(&service.url).await;
    }
    let before = service.resident();
    let mut session = String::new();
    for _ in 0..100 {
        session = join_all((0..100).map(|_| client.session(&service.url))).await.pop().expect("a hundred");
    }
    let after = service.resident();
    println!("idle: resident memory");
    println!("  before                   {:8.1} MiB", mib(before));
    println!("  with 10,000 sessions     {:8.1} MiB  ({:+.2} KiB each)", mib(after), kib(before, after, 10_000));
    let _sockets = join_all((0..1000).map(|_| client.socket(&session))).await;
    let with_sockets = service.resident();
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
