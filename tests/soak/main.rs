//! The soak test: the program under steady load. Clients create sessions, use them over SSE and WebSocket, and delete them,
//! while the test samples memory, tasks, descriptors and keys.
//!
//! `tests/soak/run.sh` runs it at length on a release build, prints a table, and fails when the least-squares slope of
//! something after the warm-up is above its bound. Within `cargo test` it is short and decides by no slope: when the load is
//! over, tasks, descriptors, sessions and keys must be what they were before it.

#[path = "../../benches/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the benches need the rest")]
mod support;

use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _, future::join_all};
use k8sops_testing::{eventually, testbed};
use serde_json::{Value, json};
use support::{BenchClient, BenchProgram, BenchRedis, ScriptedUpstream};
use tokio_tungstenite::{connect_async, tungstenite::Message};

/// Number of concurrent clients.
const CLIENTS: usize = 8;
/// The wait of a client between two sessions: so that the load is steady and not as much as the machine can do.
const PAUSE: Duration = Duration::from_millis(100);
/// What may be added per minute at the most: resident KiB; and of each of the counts.
const RSS_BOUND: f64 = 128.0;
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

/// A sample of the resources in use.
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
    async fn now(began: Instant, service: &BenchProgram, redis: Option<&BenchRedis>) -> Self {
        let text = BenchClient::new().metrics(&service.url).await;
        let figure = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|value| value.parse::<f64>().ok()).unwrap_or_else(|| panic!("{name} in {text}"))
        };
        let keys = match redis {
            Some(redis) => redis.count_keys().await,
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

/// A client that does what a real one would: it comes back when it is told to, or when a connection broke, and every command
/// has a name, so that it is taken once. What a busy machine refuses says nothing of growth.
struct Patient {
    http: reqwest::Client,
    base: String,
}

impl Patient {
    fn new(base: &str) -> Self {
        // A connection for each request: what is not given back of one shows all the sooner.
        let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build();
        Self { http: http.expect("a client without TLS can be built"), base: base.to_owned() }
    }

    /// Asks until there is an answer, and it is whole.
    async fn ask(&self, method: &reqwest::Method, path: &str, headers: &[(&str, &str)], body: &Value) -> String {
        let began = Instant::now();
        loop {
            let request = self.http.request(method.clone(), format!("{}{path}", self.base)).json(body);
            let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
            if let Ok(answer) = request.send().await {
                let status = answer.status().as_u16();
                // Deleted by an attempt whose answer was lost.
                let done = answer.status().is_success() || (status == 404 && *method == reqwest::Method::DELETE);
                assert!(done || matches!(status, 429 | 503), "{method} {path}: {status}");
                if let (true, Ok(text)) = (done, answer.text().await) {
                    return text;
                }
            }
            assert!(began.elapsed() < SETTLE, "{method} {path} has no answer");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// One session from its beginning to its end.
    async fn life(&self) {
        let created = self.ask(&reqwest::Method::POST, "/v1/sessions", &[], &json!({})).await;
        let created: Value = serde_json::from_str(&created).expect("JSON");
        let session = format!("/v1/sessions/{}", created["session_id"].as_str().expect("an id"));
        for key in ["first", "second"] {
            let headers = [("accept", "text/event-stream"), ("idempotency-key", key)];
            let content = json!({"content": "how is it?"});
            self.ask(&reqwest::Method::POST, &format!("{session}/messages"), &headers, &content).await;
        }
        self.over_a_socket(&session).await;
        self.ask(&reqwest::Method::DELETE, &session, &[], &json!({})).await;
    }

    /// The third turn.
    async fn over_a_socket(&self, session: &str) {
        let began = Instant::now();
        let url = format!("{}{session}/ws", self.base.replacen("http", "ws", 1));
        let command = json!({"type": "message", "command_id": "third", "content": "and over a socket?"}).to_string();
        // All that was before comes first: two runs, and then that of this message.
        let mut runs = 0;
        while runs < 3 {
            assert!(began.elapsed() < SETTLE, "the third run of {session} has no end");
            runs = 0;
            let Ok((mut socket, _)) = connect_async(&url).await else { continue };
            if socket.send(Message::text(&command)).await.is_err() {
                continue;
            }
            while runs < 3
                && let Some(Ok(frame)) = socket.next().await
            {
                let text = frame.to_text().unwrap_or_default();
                runs += usize::from(
                    ["run_finished", "run_failed"].iter().any(|end| text.contains(&format!("\"type\":\"{end}\""))),
                );
            }
        }
    }
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
    // A run at length was asked for; it says by itself what it lacks.
    let is_short = !options.judge;
    if let Some(code) = testbed::skip_without("soak", &["K8SOPS_TEST_REDIS_SERVER"]).filter(|_| is_short) {
        return code;
    }
    let upstream = ScriptedUpstream::start(20, Duration::ZERO).await;
    let redis = if options.redis { Some(BenchRedis::start().await) } else { None };
    let kept = redis.as_ref().map(BenchRedis::env);
    let mut env = vec![("MAX_SESSIONS", "1000"), ("MEMORY_BACKEND", "memory"), ("AUDIT_LOG", "audit.jsonl")];
    env.extend(kept.iter().flatten().map(|(name, value)| (*name, value.as_str())));
    let service = BenchProgram::start(&upstream.url(), &env).await;
    let began = Instant::now();
    eventually("the service is ready", async || BenchClient::new().is_ready(&service.url).await).await;
    let client = Patient::new(&service.url);
    // What a first use makes and keeps is not growth.
    join_all((0..CLIENTS).map(|_| client.life())).await;
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
            client.life().await;
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
async fn settled(began: Instant, service: &BenchProgram, redis: Option<&BenchRedis>, before: Option<&Look>) -> Look {
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
