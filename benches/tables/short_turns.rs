//! CPU of turns whose reply is one token.

use std::time::Duration;

use futures_util::future::join_all;

use super::{BenchOptions, BenchReport, BenchStore, CpuCost, MeasuredService, median, start_services};
use crate::support::{BenchClient, NginxProxy, ProgramOptions, ScriptedUpstream, stream_session, stream_upstream};

/// Number of sessions that have turns at the same time.
const SESSIONS: usize = 4;
/// Turns of each session in a round.
const TURNS: usize = 50;
/// Sessions of one user on a busy day.
const BUSY_DAY_SESSIONS: usize = 1_300;

/// Starts the service with the filesystem store and lets one user have a turn in each of many sessions.
pub(super) async fn start_busy_day(upstream: &str) -> MeasuredService {
    let service = MeasuredService::start(BenchStore::Files, upstream, &ProgramOptions::default()).await;
    let client = BenchClient::new();
    for _ in 0..BUSY_DAY_SESSIONS.div_ceil(20) {
        let sessions = join_all((0..20).map(|_| client.create_session(&service.program.url))).await;
        join_all(sessions.iter().map(|session| stream_session(session, 1))).await;
    }
    service
}

pub(super) async fn print(options: &BenchOptions, report: &mut BenchReport) {
    let upstream = ScriptedUpstream::start(1, Duration::ZERO).await;
    let nginx = NginxProxy::start(&[upstream.port]).await;
    let services = start_services(&options.stores, &upstream.url(), &[]).await;
    let mut rows: Vec<_> = services.into_iter().map(|service| (service.store.name().to_owned(), service)).collect();
    if options.stores.contains(&BenchStore::Files) {
        rows.push(("files-busy-day".into(), start_busy_day(&upstream.url()).await));
    }
    let mut of_nginx = Vec::new();
    let mut samples: Vec<Vec<(CpuCost, f64)>> = rows.iter().map(|_| Vec::new()).collect();
    for round in 0..=options.rounds {
        let proxy = measure_proxy(&nginx).await;
        for ((_, service), samples) in rows.iter().zip(&mut samples) {
            let cost = measure_service(service).await;
            if round > 0 {
                samples.push((cost, cost.service / proxy));
            }
        }
        if round > 0 {
            of_nginx.push(proxy);
        }
    }
    println!("\nshort-turn: CPU of a turn of one token, {SESSIONS} sessions at once");
    println!("  nginx, a request  {:6.3} ms", median(of_nginx) / 1e3);
    for ((name, service), samples) in rows.iter().zip(&samples) {
        let ratio = median(samples.iter().map(|(_, ratio)| *ratio));
        print!(
            "  {name:<16}  {:6.3} ms  {ratio:6.2} times nginx",
            median(samples.iter().map(|(cost, _)| cost.service)) / 1e3
        );
        report.record(format!("short-turn/{name}"), ratio);
        if service.redis.is_some() {
            print!("  Redis {:.3} ms", median(samples.iter().map(|(cost, _)| cost.redis)) / 1e3);
        }
        println!();
    }
}

/// Returns the microseconds of nginx per request.
async fn measure_proxy(nginx: &NginxProxy) -> f64 {
    let base = format!("{}/v1", nginx.url);
    let before = nginx.cpu_time();
    join_all((0..SESSIONS).map(async |_| {
        for _ in 0..TURNS {
            stream_upstream(&base, 1).await;
        }
    }))
    .await;
    nginx.cpu_time().saturating_sub(before).as_secs_f64() * 1e6 / (SESSIONS * TURNS) as f64
}

/// Returns the cost per turn.
async fn measure_service(service: &MeasuredService) -> CpuCost {
    let client = BenchClient::new();
    let sessions = join_all((0..SESSIONS).map(|_| client.create_session(&service.program.url))).await;
    let before = service.cpu_times();
    join_all(sessions.iter().map(async |session| {
        for _ in 0..TURNS {
            stream_session(session, 1).await;
        }
    }))
    .await;
    service.cpu_times().micros_since(before, (SESSIONS * TURNS) as u64)
}
