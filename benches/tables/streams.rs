//! CPU of streamed tokens, as ratios to nginx.

use std::time::Duration;

use futures_util::future::join_all;

use super::{BenchOptions, BenchReport, CpuCost, CpuTimes, MeasuredService, TOKENS_PER_SECOND, median, start_services};
use crate::support::{
    BenchClient, NginxProxy, ScriptedUpstream, SessionSocket, StreamedReply, stream_session, stream_upstream,
    watch_session,
};

/// Tokens of a reply in the first round, which is not counted: connections, pools and caches are made in it.
const WARM_UP_TOKENS: u64 = 25;
/// With fewer frames per token, tokens were late and went out together.
const MANY_FRAMES: f64 = 0.98;
/// Number of clients that follow one session.
const WATCHERS: usize = 100;

/// How clients receive tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StreamTransport {
    Sse,
    WebSocket,
}

impl StreamTransport {
    fn name(self) -> &'static str {
        match self {
            Self::Sse => "sse",
            Self::WebSocket => "ws",
        }
    }
}

/// What a round measured for a row of the table.
struct StreamSample {
    cost: CpuCost,
    /// Times the cost of nginx in the same round.
    ratio: f64,
    redis_ratio: f64,
    bytes_per_token: f64,
    frames_per_token: f64,
}

pub(super) async fn print_tokens(options: &BenchOptions, report: &mut BenchReport) {
    let upstream = ScriptedUpstream::start(1, Duration::from_millis(1000 / TOKENS_PER_SECOND)).await;
    let nginx = NginxProxy::start(&[upstream.port]).await;
    let services = start_services(&options.stores, &upstream.url(), &[]).await;
    let transports = [StreamTransport::Sse, StreamTransport::WebSocket];
    let rows: Vec<_> =
        transports.iter().flat_map(|kind| services.iter().map(move |service| (*kind, service))).collect();
    for &streams in &options.streams {
        measure_proxy(&nginx, streams, WARM_UP_TOKENS).await;
        for (transport, service) in &rows {
            measure_service(*transport, service, streams, WARM_UP_TOKENS, 1.0).await;
        }
        let mut of_nginx = Vec::new();
        let mut samples: Vec<Vec<StreamSample>> = rows.iter().map(|_| Vec::new()).collect();
        for _ in 0..options.rounds {
            let proxy = measure_proxy(&nginx, streams, options.tokens).await;
            of_nginx.push(proxy);
            for ((transport, service), samples) in rows.iter().zip(&mut samples) {
                samples.push(measure_service(*transport, service, streams, options.tokens, proxy).await);
            }
        }
        println!("\ntokens: {streams} streams of {} tokens at {TOKENS_PER_SECOND}/s, CPU per token", options.tokens);
        println!("  nginx            {:6.1} us", median(of_nginx));
        for ((transport, service), samples) in rows.iter().zip(&samples) {
            let median = |value: fn(&StreamSample) -> f64| median(samples.iter().map(value));
            let name = format!("{}/{}", transport.name(), service.store.name());
            let ratio = median(|sample| sample.ratio);
            let bytes = median(|sample| sample.bytes_per_token);
            print!(
                "  {name:<16} {:6.1} us  {ratio:5.2} times nginx  {bytes:4.0} bytes",
                median(|sample| sample.cost.service)
            );
            report.record(format!("tokens/{name}/{streams}"), ratio);
            report.record(format!("bytes-per-token/{}", transport.name()), bytes);
            if service.redis.is_some() {
                print!("  Redis {:5.1} us", median(|sample| sample.cost.redis));
                report.record(format!("tokens/redis-server/{name}/{streams}"), median(|sample| sample.redis_ratio));
            }
            let frames = median(|sample| sample.frames_per_token);
            if frames < MANY_FRAMES {
                print!("  ({frames:.2} frames per token: a busy machine lowers the figure)");
            }
            println!();
        }
    }
}

/// Returns the microseconds of nginx per token.
async fn measure_proxy(nginx: &NginxProxy, streams: usize, tokens: u64) -> f64 {
    let base = format!("{}/v1", nginx.url);
    let before = nginx.cpu_time();
    let replies = join_all((0..streams).map(|_| stream_upstream(&base, tokens))).await;
    let used = nginx.cpu_time().saturating_sub(before);
    used.as_secs_f64() * 1e6 / count_tokens(&replies, tokens) as f64
}

async fn measure_service(
    transport: StreamTransport,
    service: &MeasuredService,
    streams: usize,
    tokens: u64,
    nginx: f64,
) -> StreamSample {
    let client = BenchClient::new();
    let sessions = join_all((0..streams).map(|_| client.create_session(&service.program.url))).await;
    let measured = match transport {
        StreamTransport::Sse => {
            let before = service.cpu_times();
            (before, join_all(sessions.iter().map(|session| stream_session(session, tokens))).await)
        }
        StreamTransport::WebSocket => {
            // Clients keep their WebSocket for many messages.
            let mut sockets = join_all(sessions.iter().map(|session| SessionSocket::open(session))).await;
            let before = service.cpu_times();
            (before, join_all(sockets.iter_mut().map(|socket| socket.stream(tokens))).await)
        }
    };
    sample(service, &measured.0, &measured.1, tokens, nginx)
}

fn sample(
    service: &MeasuredService,
    before: &CpuTimes,
    replies: &[StreamedReply],
    tokens: u64,
    nginx: f64,
) -> StreamSample {
    let count = count_tokens(replies, tokens);
    let cost = service.cpu_times().micros_since(*before, count);
    let frames: u64 = replies.iter().map(|reply| reply.token_frames).sum();
    let bytes: u64 = replies.iter().map(|reply| reply.token_bytes).sum();
    StreamSample {
        cost,
        ratio: cost.service / nginx,
        redis_ratio: cost.redis / nginx,
        bytes_per_token: bytes as f64 / count as f64,
        frames_per_token: frames as f64 / count as f64,
    }
}

/// Returns the number of tokens of all replies, each of which is complete.
fn count_tokens(replies: &[StreamedReply], tokens: u64) -> u64 {
    for reply in replies {
        assert_eq!(reply.tokens, tokens, "every reply is complete");
    }
    replies.len() as u64 * tokens
}

pub(super) async fn print_watchers(options: &BenchOptions, report: &mut BenchReport) {
    let upstream = ScriptedUpstream::start(1, Duration::from_millis(1000 / TOKENS_PER_SECOND)).await;
    let nginx = NginxProxy::start(&[upstream.port]).await;
    let services = start_services(&options.stores, &upstream.url(), &[]).await;
    measure_proxy(&nginx, WATCHERS, WARM_UP_TOKENS).await;
    for service in &services {
        measure_watchers(service, WARM_UP_TOKENS, 1.0).await;
    }
    let mut of_nginx = Vec::new();
    let mut samples: Vec<Vec<StreamSample>> = services.iter().map(|_| Vec::new()).collect();
    for _ in 0..options.rounds {
        let proxy = measure_proxy(&nginx, WATCHERS, options.tokens).await;
        of_nginx.push(proxy);
        for (service, samples) in services.iter().zip(&mut samples) {
            samples.push(measure_watchers(service, options.tokens, proxy).await);
        }
    }
    println!("\nwatchers: {WATCHERS} clients of one session at {TOKENS_PER_SECOND} tokens/s, CPU per token and client");
    println!("  nginx, {WATCHERS} streams {:6.1} us", median(of_nginx));
    for (service, samples) in services.iter().zip(&samples) {
        let ratio = median(samples.iter().map(|sample| sample.ratio));
        let cost = median(samples.iter().map(|sample| sample.cost.service));
        println!("  sse/{:<14} {cost:6.1} us  {ratio:5.2} times nginx", service.store.name());
        report.record(format!("watchers/sse/{}", service.store.name()), ratio);
    }
}

async fn measure_watchers(service: &MeasuredService, tokens: u64, nginx: f64) -> StreamSample {
    let session = BenchClient::new().create_session(&service.program.url).await;
    let watchers = join_all((0..WATCHERS).map(|_| watch_session(&session))).await;
    let before = service.cpu_times();
    // The message itself is sent without following its run.
    BenchClient::new().send_message(&session, &format!("{tokens} tokens")).await;
    let replies = join_all(watchers).await;
    sample(service, &before, &replies, tokens, nginx)
}
