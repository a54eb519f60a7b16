//! The soak test: the program under steady load. Clients create sessions, use them over SSE and WebSocket, and delete
//! them, while the test samples memory, tasks, file descriptors and keys.
//!
//! `tests/soak/run.sh` runs a long version on a release build, prints a table, and fails if the least-squares slope of a
//! resource after the warm-up exceeds its bound. `cargo test` runs a short version that checks no slopes. In both, the
//! counts of tasks, file descriptors, sessions and keys must be back at their initial values after the load.

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
/// Pause of a client between two sessions, so that the load stays below the capacity of the machine.
const SESSION_PAUSE: Duration = Duration::from_millis(100);
/// The highest accepted growth of resident memory, in KiB per minute.
const RSS_BOUND: f64 = 128.0;
/// The highest accepted growth of each count, per minute.
const COUNT_BOUND: f64 = 2.0;
/// Time limit of a request with its retries, and of the release of resources.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(180);

struct SoakOptions {
    duration: Duration,
    redis: bool,
    /// Whether slopes are checked against their bounds.
    check_slopes: bool,
}

impl SoakOptions {
    fn from_args() -> Result<Self, String> {
        let mut options = Self { duration: Duration::from_secs(10), redis: true, check_slopes: false };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--minutes" => {
                    let minutes: f64 = value()?.parse().map_err(|_| "--minutes takes a number".to_owned())?;
                    options.duration = Duration::from_secs_f64(minutes * 60.0);
                    options.check_slopes = true;
                }
                "--store" => options.redis = value()? == "redis",
                // `cargo test` passes its options (for example `--nocapture`) to every test program.
                _ => {}
            }
        }
        Ok(options)
    }
}

/// A sample of the resources in use.
#[derive(Debug, Clone, Copy)]
struct ResourceSample {
    /// Seconds since the start of the test.
    at: f64,
    rss_kib: f64,
    tasks: f64,
    fds: f64,
    sessions: f64,
    keys: f64,
}

/// Reads a resource from a sample.
type ResourceField = fn(&ResourceSample) -> f64;

impl ResourceSample {
    async fn measure(started: Instant, service: &BenchProgram, redis: Option<&BenchRedis>) -> Self {
        let text = BenchClient::new().metrics(&service.url).await;
        let metric = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|value| value.parse::<f64>().ok())
                .unwrap_or_else(|| panic!("the metric {name} is missing in {text}"))
        };
        let keys = match redis {
            Some(redis) => redis.count_keys().await,
            None => 0,
        };
        Self {
            at: started.elapsed().as_secs_f64(),
            rss_kib: metric("process_resident_memory_bytes") / 1024.0,
            tasks: metric("k8sops_tasks_alive"),
            fds: metric("process_open_fds"),
            sessions: metric("k8sops_sessions_owned"),
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

/// Returns the growth per minute by least squares.
fn slope_per_minute(samples: &[ResourceSample], field: ResourceField) -> f64 {
    let n = samples.len() as f64;
    let mean_at = samples.iter().map(|sample| sample.at).sum::<f64>() / n;
    let mean_value = samples.iter().map(field).sum::<f64>() / n;
    let covariance: f64 = samples.iter().map(|sample| (sample.at - mean_at) * (field(sample) - mean_value)).sum();
    let variance: f64 = samples.iter().map(|sample| (sample.at - mean_at).powi(2)).sum();
    if variance == 0.0 { 0.0 } else { covariance / variance * 60.0 }
}

/// A client that retries requests whose connection broke, or that a busy service rejected. Each message has an id, so
/// that a retry does not repeat it.
struct RetryingClient {
    http: reqwest::Client,
    base_url: String,
}

impl RetryingClient {
    fn new(base_url: &str) -> Self {
        // Each request has a new connection, so that leaks of connections show early.
        let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build();
        Self { http: http.expect("a client without TLS can be built"), base_url: base_url.to_owned() }
    }

    /// Sends a request until it succeeds with a complete response.
    async fn send_request(
        &self,
        method: &reqwest::Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> String {
        let started = Instant::now();
        loop {
            let request = self.http.request(method.clone(), format!("{}{path}", self.base_url)).json(body);
            let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
            if let Ok(response) = request.send().await {
                let status = response.status().as_u16();
                // 404: an earlier attempt deleted the session, and its response was lost.
                let done = response.status().is_success() || (status == 404 && *method == reqwest::Method::DELETE);
                assert!(done || matches!(status, 429 | 503), "{method} {path}: {status}");
                if let (true, Ok(text)) = (done, response.text().await) {
                    return text;
                }
            }
            assert!(started.elapsed() < SETTLE_TIMEOUT, "{method} {path} did not succeed within {SETTLE_TIMEOUT:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Creates a session, runs three turns, and deletes it.
    async fn run_session(&self) {
        let created = self.send_request(&reqwest::Method::POST, "/v1/sessions", &[], &json!({})).await;
        let created: Value = serde_json::from_str(&created).expect("the response is JSON");
        let session = format!("/v1/sessions/{}", created["session_id"].as_str().expect("the response has an id"));
        for key in ["first", "second"] {
            let headers = [("accept", "text/event-stream"), ("idempotency-key", key)];
            let content = json!({"content": "how is it?"});
            self.send_request(&reqwest::Method::POST, &format!("{session}/messages"), &headers, &content).await;
        }
        self.run_websocket_turn(&session).await;
        self.send_request(&reqwest::Method::DELETE, &session, &[], &json!({})).await;
    }

    /// Runs the third turn over a WebSocket.
    async fn run_websocket_turn(&self, session: &str) {
        let started = Instant::now();
        let url = format!("{}{session}/ws", self.base_url.replacen("http", "ws", 1));
        let command = json!({"type": "message", "command_id": "third", "content": "and over a socket?"}).to_string();
        // The stream replays the two earlier runs before the run of this message.
        let mut runs = 0;
        while runs < 3 {
            assert!(started.elapsed() < SETTLE_TIMEOUT, "the third run of {session} did not end in {SETTLE_TIMEOUT:?}");
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
    let options = match SoakOptions::from_args() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("soak: {error}");
            return 2.into();
        }
    };
    // The long version is never skipped: it fails if a program is missing.
    let is_short = !options.check_slopes;
    if let Some(code) = testbed::skip_without("soak", &["K8SOPS_TEST_REDIS_SERVER"]).filter(|_| is_short) {
        return code;
    }
    let upstream = ScriptedUpstream::start(20, Duration::ZERO).await;
    let redis = if options.redis { Some(BenchRedis::start().await) } else { None };
    let redis_env = redis.as_ref().map(BenchRedis::env);
    let mut env = vec![("MAX_SESSIONS", "1000"), ("MEMORY_BACKEND", "memory"), ("AUDIT_LOG", "audit.jsonl")];
    env.extend(redis_env.iter().flatten().map(|(name, value)| (*name, value.as_str())));
    let service = BenchProgram::start(&upstream.url(), &env).await;
    let started = Instant::now();
    eventually("the service is ready", async || BenchClient::new().is_ready(&service.url).await).await;
    let client = RetryingClient::new(&service.url);
    // Resources that are allocated at their first use are not growth.
    join_all((0..CLIENTS).map(|_| client.run_session())).await;
    let before = sample_when_released(started, &service, redis.as_ref(), None).await;
    println!(
        "soak: {CLIENTS} clients for {:.0} s, sessions in {}",
        options.duration.as_secs_f64(),
        if options.redis { "Redis" } else { "memory" }
    );
    before.print();

    let interval = (options.duration / 60).max(Duration::from_millis(500));
    let end = Instant::now() + options.duration;
    let load = join_all((0..CLIENTS).map(async |_| {
        let mut sessions = 0_u64;
        while Instant::now() < end {
            client.run_session().await;
            sessions += 1;
            tokio::time::sleep(SESSION_PAUSE).await;
        }
        sessions
    }));
    let sampling = async {
        let mut samples = Vec::new();
        while Instant::now() < end {
            tokio::time::sleep(interval).await;
            let sample = ResourceSample::measure(started, &service, redis.as_ref()).await;
            if samples.len() % 6 == 0 {
                sample.print();
            }
            samples.push(sample);
        }
        samples
    };
    let (sessions, samples) = tokio::join!(load, sampling);
    let sessions: u64 = sessions.iter().sum();
    println!("  {sessions} sessions of three turns each, created and deleted");

    let mut failed = false;
    // The first quarter is the warm-up of pools and of the allocator.
    let after_warm_up = &samples[samples.len() / 4..];
    let counts: [(&str, ResourceField); 4] = [
        ("tasks", |sample| sample.tasks),
        ("descriptors", |sample| sample.fds),
        ("owned sessions", |sample| sample.sessions),
        ("Redis keys", |sample| sample.keys),
    ];
    let memory: (&str, &str, ResourceField, f64) = ("resident memory", "KiB", |sample| sample.rss_kib, RSS_BOUND);
    let counts_with_bound = counts.map(|(name, field)| (name, "", field, COUNT_BOUND));
    for (name, unit, field, bound) in std::iter::once(memory).chain(counts_with_bound) {
        let slope = slope_per_minute(after_warm_up, field);
        let exceeds = options.check_slopes && slope > bound;
        failed |= exceeds;
        println!(
            "  {name:<17} {slope:+9.2} {unit:<3} per minute  (bound {bound}){}",
            if exceeds { "  GROWS" } else { "" }
        );
    }
    let after = sample_when_released(started, &service, redis.as_ref(), Some(&before)).await;
    after.print();
    for (name, field) in counts {
        if field(&after) > field(&before) {
            println!("  {name}: {} before, {} after: not released", field(&before), field(&after));
            failed = true;
        }
    }
    if failed { std::process::ExitCode::FAILURE } else { std::process::ExitCode::SUCCESS }
}

/// Waits until no session is owned and no more resources are in use than in `before`, and returns the last sample.
async fn sample_when_released(
    started: Instant,
    service: &BenchProgram,
    redis: Option<&BenchRedis>,
    before: Option<&ResourceSample>,
) -> ResourceSample {
    let deadline = Instant::now() + SETTLE_TIMEOUT;
    let mut last: Option<ResourceSample> = None;
    loop {
        let sample = ResourceSample::measure(started, service, redis).await;
        let is_released =
            before.is_none_or(|b| sample.tasks <= b.tasks && sample.fds <= b.fds && sample.keys <= b.keys);
        // Without a sample from before the load, the previous sample shows whether the counts have settled.
        let is_stable = before.is_some() || last.is_some_and(|l| l.fds <= sample.fds && l.tasks <= sample.tasks);
        if Instant::now() > deadline || (sample.sessions == 0.0 && is_released && is_stable) {
            return sample;
        }
        last = Some(sample);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
