//! Counts of what a streamed token costs. Instructions do not depend on the load of the machine, and system calls hardly: on
//! a busy machine, several tokens are read at once. Context switches do, so that no run fails by them.

use std::time::Duration;

use futures_util::future::join_all;

use super::{BenchOptions, BenchReport, MeasuredService, TOKENS_PER_SECOND, start_services};
use crate::support::{
    BenchClient, BenchProgram, InstructionCounter, NginxProxy, ProgramOptions, ScriptedUpstream, SyscallCounter,
    count_context_switches, stream_session, stream_upstream,
};

/// Number of streams whose system calls are counted.
const STREAMS: usize = 32;
/// Tokens of a reply.
const TOKENS: u64 = 250;
/// A program is idle if it computes for less than a tenth of this time.
const IDLE_CHECK: Duration = Duration::from_secs(2);

/// Counts of a process per token.
struct TokenCounts {
    syscalls: Option<f64>,
    switches: f64,
}

pub(super) async fn print_syscalls(options: &BenchOptions, report: &mut BenchReport) {
    let upstream = ScriptedUpstream::start(1, Duration::from_millis(1000 / TOKENS_PER_SECOND)).await;
    let nginx = NginxProxy::start(&[upstream.port]).await;
    let services = start_services(&options.stores, &upstream.url(), &[]).await;
    let client = BenchClient::new();
    let base = format!("{}/v1", nginx.url);
    println!("\nsyscalls: {STREAMS} streams over SSE at {TOKENS_PER_SECOND} tokens/s, per token");
    let proxy = count_calls(nginx.pid(), async |tokens| {
        join_all((0..STREAMS).map(|_| stream_upstream(&base, tokens))).await;
    })
    .await;
    proxy.print("nginx");
    for service in &services {
        let counts = count_calls(service.program.pid(), async |tokens| {
            let sessions = join_all((0..STREAMS).map(|_| client.create_session(&service.program.url))).await;
            join_all(sessions.iter().map(|session| stream_session(session, tokens))).await;
        })
        .await;
        let name = service.store.name();
        counts.print(name);
        if let Some(syscalls) = counts.syscalls {
            report.record(format!("syscalls/{name}"), syscalls);
        }
    }
}

/// Counts what a process does while it streams.
async fn count_calls(pid: u32, stream: impl AsyncFn(u64)) -> TokenCounts {
    stream(TOKENS / 10).await;
    let counter = SyscallCounter::start(pid).await;
    let before = count_context_switches(pid);
    stream(TOKENS).await;
    let switches = count_context_switches(pid).saturating_sub(before);
    let per_token = |count: u64| count as f64 / (STREAMS as u64 * TOKENS) as f64;
    TokenCounts { syscalls: counter.and_then(SyscallCounter::stop).map(per_token), switches: per_token(switches) }
}

impl TokenCounts {
    fn print(&self, name: &str) {
        match self.syscalls {
            Some(syscalls) => print!("  {name:<10} {syscalls:6.2} system calls"),
            None => print!("  {name:<10} system calls not counted (perf is missing or not permitted)"),
        }
        println!("  {:6.2} context switches", self.switches);
    }
}

pub(super) async fn print_instructions(options: &BenchOptions, report: &mut BenchReport) {
    let nginx_program = std::env::var("K8SOPS_TEST_NGINX").unwrap_or_else(|_| "/usr/sbin/nginx".into());
    println!("\ninstructions: one stream over SSE at {TOKENS_PER_SECOND} tokens/s, outside of the kernel, per token");
    let Some(mut of_nginx) = InstructionCounter::for_program(&nginx_program) else {
        println!("  not counted (valgrind is not installed)");
        return;
    };
    let upstream = ScriptedUpstream::start(1, Duration::from_millis(1000 / TOKENS_PER_SECOND)).await;
    let wrapper = of_nginx.wrapper().display().to_string();
    let nginx = NginxProxy::start_program(&wrapper, &[upstream.port]).await;
    let base = format!("{}/v1", nginx.url);
    let proxy = count_instructions(&mut of_nginx, nginx.pid(), async |tokens| {
        stream_upstream(&base, tokens).await;
    })
    .await;
    println!("  nginx      {proxy:7.0}");
    drop(nginx);
    for store in &options.stores {
        let mut of_service =
            InstructionCounter::for_program(&BenchProgram::path().to_string_lossy()).expect("valgrind is installed");
        let options = ProgramOptions { env: &[], wrapper: Some(of_service.wrapper()) };
        let measured = MeasuredService::start(*store, &upstream.url(), &options).await;
        wait_until_idle(&measured.program).await;
        let session = BenchClient::new().create_session(&measured.program.url).await;
        let service = count_instructions(&mut of_service, measured.program.pid(), async |tokens| {
            stream_session(&session, tokens).await;
        })
        .await;
        println!("  {:<10} {service:7.0}  {:5.2} times nginx", store.name(), service / proxy);
        report.record(format!("instructions/{}", store.name()), service);
    }
}

/// Waits until a program has done what it does besides at its start. Unpacking the vocabulary of the tokenizer takes seconds under
/// valgrind, and would be counted with the first replies.
async fn wait_until_idle(program: &BenchProgram) {
    loop {
        let before = program.cpu_time();
        tokio::time::sleep(IDLE_CHECK).await;
        if program.cpu_time().saturating_sub(before) < IDLE_CHECK / 10 {
            return;
        }
    }
}

/// Returns the instructions of a program per token: the difference between a long and a short reply.
async fn count_instructions(counter: &mut InstructionCounter, pid: u32, stream: impl AsyncFn(u64)) -> f64 {
    let short = TOKENS / 10;
    stream(short).await;
    counter.take(pid);
    stream(short).await;
    let of_short = counter.take(pid);
    stream(TOKENS).await;
    let of_long = counter.take(pid);
    of_long.saturating_sub(of_short) as f64 / (TOKENS - short) as f64
}
