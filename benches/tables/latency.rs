//! Times that a client waits, over those of the provider itself. They depend on the machine and its load, so that no run
//! fails by them.

use std::time::Duration;

use futures_util::future::join_all;

use super::{BenchOptions, BenchStore, MeasuredService, median, short_turns::start_busy_day, start_services};
use crate::support::{BenchClient, NginxProxy, ScriptedUpstream, StreamedReply, stream_session, stream_upstream};

/// Messages that are sent one after another in a round.
const MESSAGES: usize = 20;
/// Messages that are sent at once.
const AT_ONCE: usize = 32;
/// Tokens of a reply.
const TOKENS: u64 = 5;

/// Times of a row in milliseconds.
#[derive(Default)]
struct WaitTimes {
    alone: Vec<f64>,
    at_once: Vec<f64>,
}

impl WaitTimes {
    /// Measures one round: messages one after another, and then at once.
    async fn measure<F: Future<Output = StreamedReply>>(
        &mut self,
        send: impl Fn(usize) -> F,
        wait: fn(&StreamedReply) -> Duration,
    ) {
        let millis = |reply: &StreamedReply| wait(reply).as_secs_f64() * 1e3;
        for _ in 0..MESSAGES {
            self.alone.push(millis(&send(0).await));
        }
        self.at_once.extend(join_all((0..AT_ONCE).map(&send)).await.iter().map(millis));
    }

    fn print(self, name: &str, provider: (f64, f64)) {
        let alone = median(self.alone) - provider.0;
        let at_once = median(self.at_once) - provider.1;
        println!("  {name:<30} {alone:7.2} ms  {at_once:7.2} ms");
    }

    fn medians(&self) -> (f64, f64) {
        (median(self.alone.iter().copied()), median(self.at_once.iter().copied()))
    }
}

/// A service, and as many sessions as there are messages at once.
struct SessionsOfService {
    name: String,
    service: MeasuredService,
    sessions: Vec<String>,
}

impl SessionsOfService {
    async fn create(name: String, service: MeasuredService) -> Self {
        let client = BenchClient::new();
        let sessions = join_all((0..AT_ONCE).map(|_| client.create_session(&service.program.url))).await;
        Self { name, service, sessions }
    }
}

pub(super) async fn print_first_token(options: &BenchOptions) {
    let upstream = ScriptedUpstream::start(TOKENS, Duration::ZERO).await;
    let nginx = NginxProxy::start(&[upstream.port]).await;
    let mut rows = Vec::new();
    for service in start_services(&options.stores, &upstream.url(), &[]).await {
        rows.push(SessionsOfService::create(service.store.name().into(), service).await);
    }
    if options.stores.contains(&BenchStore::Files) {
        let busy = start_busy_day(&upstream.url()).await;
        rows.push(SessionsOfService::create("files, 1,300 sessions today".into(), busy).await);
    }
    let mut provider = WaitTimes::default();
    let mut proxy = WaitTimes::default();
    let mut services: Vec<WaitTimes> = rows.iter().map(|_| WaitTimes::default()).collect();
    let direct = upstream.url();
    let through = format!("{}/v1", nginx.url);
    let first_token = |reply: &StreamedReply| reply.first_token;
    for round in 0..=options.rounds {
        provider.measure(|_| stream_upstream(&direct, TOKENS), first_token).await;
        proxy.measure(|_| stream_upstream(&through, TOKENS), first_token).await;
        for (row, times) in rows.iter().zip(&mut services) {
            times.measure(|n| stream_session(&row.sessions[n], TOKENS), first_token).await;
        }
        if round == 0 {
            // Connections and pools are made in the first round.
            (provider, proxy) = Default::default();
            services.fill_with(WaitTimes::default);
        }
    }
    let of_provider = provider.medians();
    println!("\nfirst-token: over the provider's own ({:.2} ms alone), median", of_provider.0);
    println!("  {:<30} {:>10}  {:>10}", "", "alone", "32 at once");
    proxy.print("nginx", of_provider);
    for (row, times) in rows.iter().zip(services) {
        times.print(&row.name, of_provider);
    }
}

pub(super) async fn print_tool_turn(options: &BenchOptions) {
    let upstream = ScriptedUpstream::start_with_tool_call("echo", TOKENS).await;
    let server = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/testbed/large_outputs.py");
    let python = std::env::var("K8SOPS_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let env = [("MCP_SERVER_COMMAND", &*python), ("MCP_SERVER_ARGS", server)];
    let client = BenchClient::new();
    let mut rows = Vec::new();
    for service in start_services(&options.stores, &upstream.url(), &env).await {
        client.wait_for_mcp_servers(&service.program.url).await;
        rows.push(SessionsOfService::create(service.store.name().into(), service).await);
    }
    let mut provider = WaitTimes::default();
    let mut services: Vec<WaitTimes> = rows.iter().map(|_| WaitTimes::default()).collect();
    let direct = upstream.url();
    let whole = |reply: &StreamedReply| reply.whole;
    for round in 0..=options.rounds {
        provider.measure(|_| stream_upstream(&direct, TOKENS), whole).await;
        for (row, times) in rows.iter().zip(&mut services) {
            times.measure(|n| stream_session(&row.sessions[n], TOKENS), whole).await;
        }
        if round == 0 {
            provider = WaitTimes::default();
            services.fill_with(WaitTimes::default);
        }
    }
    // A turn with one tool call is two replies of the provider.
    let (alone, at_once) = provider.medians();
    println!(
        "\ntool-turn: a turn with one tool call, over two replies of the provider ({:.2} ms), median",
        2.0 * alone
    );
    println!("  {:<30} {:>10}  {:>10}", "", "alone", "32 at once");
    for (row, times) in rows.iter().zip(services) {
        assert!(client.tool_end(&row.sessions[0]).await["status"] == "ok", "{}: the tool was called", row.name);
        times.print(row.service.store.name(), (2.0 * alone, 2.0 * at_once));
    }
}
