//! Does anything grow that should not? The program as it is shipped under steady load: sessions are begun, talked to over SSE
//! and WebSocket, and deleted, again and again, while memory, tasks, descriptors and keys are looked at.
//!
//! `tests/soak/run.sh` runs it at length on a release build, prints a table, and fails when the least-squares slope of
//! something after the warm-up is above its bound. Within `cargo test` it is short and decides by no slope: when the load is
//! over, tasks, descriptors, sessions and keys must be what they were before it.

#[path = "../../benches/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the benches need the rest")]
mod support;

use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _, future::join_all};
use support::{Client, Program, Redis, Upstream};
use tokio_tungstenite::tungstenite::Message;

/// Clients that work at the same time.
const CLIENTS: usize = 8;
/// The wait of a client between two sessions: so that the load is steady and not as much as the machine can do.
const PAUSE: Duration = Duration::from_millis(100);
/// What may be added per minute at the most: resident KiB; and of each of the counts.
const RSS_BOUND: f64 = 512.0;
const COUNT_BOUND: f64 = 2.0;
/// How long what was in use may take to be given back.
const SETTLE: Duration = Duration::from_secs(180);

struct Options {
    length: Duration,
    redis: bool,
    /// Whether slopes decide.
    judge: bool,
}

impl Options {
    fn read() -> Result<Self, String> {
        let mut options = Self { length: Duration::from_secs(10), redis: true, judge: false };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--minutes" => {
                    let minutes: f64 = value()?.parse().map_err(|_| "--minutes takes a number".to_owned())?;
                    options.length = Duration::from_secs_f64(minutes * 60.0);
                    options.judge = true;
                }
                "--store" => options.redis = value()? == "redis",
                // What `cargo test` passes on to every test binary, like `--nocapture`, is not for this one.
                _ => {}
            }
        }
        Ok(options)
    }
}

/// What is looked at.
#[derive(Debug, Clone, Copy)]
struct Look {
    at: f64,
    rss_kib: f64,
    tasks: f64,
    fds: f64,
    sessions: f64,
    keys: f64,
}

impl Look {
    async fn now(began: Instant, service: &Program, redis: Option<&Redis>) -> Self {
        let text = Client::new().metrics(&service.url).await;
        let figure = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|value| value.parse::<f64>().ok()).unwrap_or_else(|| panic!("{name} in {text}"))
        };
        let keys = match redis {
            Some(redis) => redis.keys().await,
            None => 0,
        };
        Self {
            at: began.elapsed().as_secs_f64(),
            rss_kib: figure("process_resident_memory_bytes") / 1024.0,
            tasks: figure("k8sops_tasks_alive"),
            fds: figure("process_open_fds"),
            sessions: figure("k8sops_sessions_owned"),
            keys: keys as f64,
        }
    }

    fn print(&self) {
        println!(
            "  {:6.0} s  {:9.0} KiB  {:6} tasks  {:5} fds  {:5} sessions  {:6} keys",
            self.at, self.rss_kib, self.tasks, self.fds, self.sessions, self.keys
        );
    }
}

/// Growth per minute by least squares.
fn slope(looks: &[Look], of: fn(&Look) -> f64) -> f64 {
    let n = looks.len() as f64;
    let (x, y) = (looks.iter().map(|l| l.at).sum::<f64>() / n, looks.iter().map(of).sum::<f64>() / n);
    let over: f64 = looks.iter().map(|l| (l.at - x) * (of(l) - y)).sum();
    let under: f64 = looks.iter().map(|l| (l.at - x).powi(2)).sum();
    if under == 0.0 { 0.0 } else { over / under * 60.0 }
}

/// One session from its beginning to its end.
async fn life(client: &Client, url: &str) {
    let session = client.session(url).await;
    for _ in 0..2 {
        assert_eq!(client.turn(&session, "how is it?").await.split_whitespace().count(), 20);
    }
    let mut socket = client.socket(&session).await;
    socket.send(Message::text("and over a socket?")).await.expect("it is open");
    // All that was before comes first: its two runs, and then that of this message.
    let mut runs = 0;
    while runs < 3 {
        let frame = socket.next().await.expect("the run ends before the socket does").expect("a frame");
        runs += usize::from(frame.to_text().unwrap_or_default().contains("\"type\":\"run_finished\""));
    }
    drop(socket);
    client.delete(&session).await;
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let options = match Options::read() {
        Ok(options) => options,
        Err(why) => {
            eprintln!("soak: {why}");
            return 2.into();
        }
    };
    let upstream = Upstream::start(20, Duration::ZERO).await;
    let redis = if options.redis { Some(Redis::start().await) } else { None };
    let kept = redis.as_ref().map(Redis::env);
    let mut env = vec![("MAX_SESSIONS", "1000"), ("MEMORY_BACKEND", "memory"), ("AUDIT_LOG", "audit.jsonl")];
    env.extend(kept.iter().flatten().map(|(name, value)| (*name, value.as_str())));
    let service = Program::start(&upstream.url(), &env).await;
    let began = Instant::now();
    let client = Client::new();
    // What a first use makes and keeps is not growth.
    join_all((0..CLIENTS).map(|_| life(&client, &service.url))).await;
    let before = settled(began, &service, redis.as_ref(), None).await;
    println!(
        "soak: {CLIENTS} clients for {:.0} s, sessions in {}",
        options.length.as_secs_f64(),
        if options.redis { "Redis" } else { "memory" }
    );
    before.print();

    let every = (options.length / 60).max(Duration::from_millis(500));
    let end = Instant::now() + options.length;
    let working = join_all((0..CLIENTS).map(async |_| {
        let mut lives = 0_u64;
        while Instant::now() < end {
            life(&client, &service.url).await;
            lives += 1;
            tokio::time::sleep(PAUSE).await;
        }
        lives
    }));
    let looking = async {
        let mut looks = Vec::new();
        while Instant::now() < end {
            tokio::time::sleep(every).await;
            let look = Look::now(began, &service, redis.as_ref()).await;
            if looks.len() % 6 == 0 {
                look.print();
            }
            looks.push(look);
        }
        looks
    };
    let (lives, looks) = tokio::join!(working, looking);
    let lives: u64 = lives.iter().sum();
    println!("  {lives} sessions of three turns each, begun and deleted");

    let mut failed = false;
    // A quarter is warm-up: pools fill, and the allocator finds its size.
    let judged = &looks[looks.len() / 4..];
    for (name, unit, of, bound) in [
        ("resident memory", "KiB", (|l: &Look| l.rss_kib) as fn(&Look) -> f64, RSS_BOUND),
        ("tasks", "", |l: &Look| l.tasks, COUNT_BOUND),
        ("descriptors", "", |l: &Look| l.fds, COUNT_BOUND),
        ("sessions at hand", "", |l: &Look| l.sessions, COUNT_BOUND),
        ("Redis keys", "", |l: &Look| l.keys, COUNT_BOUND),
    ] {
        let slope = slope(judged, of);
        let over = options.judge && slope > bound;
        failed |= over;
        println!(
            "  {name:<17} {slope:+9.2} {unit:<3} per minute  (bound {bound}){}",
            if over { "  GROWS" } else { "" }
        );
    }
    let after = settled(began, &service, redis.as_ref(), Some(&before)).await;
    after.print();
    for (name, of) in [
        ("tasks", (|l: &Look| l.tasks) as fn(&Look) -> f64),
        ("descriptors", |l: &Look| l.fds),
        ("sessions at hand", |l: &Look| l.sessions),
        ("Redis keys", |l: &Look| l.keys),
    ] {
        if of(&after) > of(&before) {
            println!("  {name}: {} before, {} after: not given back", of(&before), of(&after));
            failed = true;
        }
    }
    if failed { std::process::ExitCode::FAILURE } else { std::process::ExitCode::SUCCESS }
}

/// Waits until what was in use is given back: no session is at hand, and no more is in use than `before`.
async fn settled(began: Instant, service: &Program, redis: Option<&Redis>, before: Option<&Look>) -> Look {
    let limit = Instant::now() + SETTLE;
    let mut last: Option<Look> = None;
    loop {
        let look = Look::now(began, service, redis).await;
        let as_before = before.is_none_or(|b| look.tasks <= b.tasks && look.fds <= b.fds && look.keys <= b.keys);
        // At the beginning there is nothing to compare with but the look before.
        let quiet = before.is_some() || last.is_some_and(|l| l.fds <= look.fds && l.tasks <= look.tasks);
        if Instant::now() > limit || (look.sessions == 0.0 && as_before && quiet) {
            return look;
        }
        last = Some(look);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
