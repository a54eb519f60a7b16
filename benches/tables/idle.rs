//! Memory of sessions and connections that do nothing.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::net::TcpStream;

use super::{BenchReport, kib, mib};
use crate::support::{BenchClient, BenchProgram, ScriptedUpstream, open_idle_socket};

/// Number of sessions, and of WebSockets.
const COUNT: u32 = 10_000;
/// Sessions that have WebSockets.
const WATCHED_SESSIONS: usize = 100;
/// How long the service has to give memory back after WebSockets have closed.
const RELEASE_TIME: Duration = Duration::from_secs(20);

pub(super) async fn print(report: &mut BenchReport) {
    let upstream = ScriptedUpstream::start(1, Duration::ZERO).await;
    let client = BenchClient::new();
    let program = BenchProgram::start(&upstream.url(), &[]).await;
    // What the first sessions and connections allocate is not theirs.
    let sessions = join_all((0..WATCHED_SESSIONS).map(|_| client.create_session(&program.url))).await;
    drop(open_sockets(&sessions, 100).await);
    let start = program.resident_memory();
    for _ in 0..COUNT / 100 {
        join_all((0..100).map(|_| client.create_session(&program.url))).await;
    }
    let with_sessions = program.resident_memory();
    println!("\nidle: resident memory");
    println!("  at first                     {:7.1} MiB", mib(start));
    let per_session = kib(start, with_sessions, COUNT);
    println!("  with {COUNT} sessions          {:7.1} MiB  ({per_session:+.2} KiB each)", mib(with_sessions));
    report.record("idle/session-kib".into(), per_session);
    drop(program);

    let program = BenchProgram::start(&upstream.url(), &[("MEMORY_BACKEND", "memory")]).await;
    let sessions = join_all((0..WATCHED_SESSIONS).map(|_| client.create_session(&program.url))).await;
    drop(open_sockets(&sessions, 100).await);
    // The owners of the sessions have released them.
    tokio::time::sleep(RELEASE_TIME).await;
    let before = program.resident_memory();
    println!("  of another process at first  {:7.1} MiB", mib(before));
    for (time, name) in [("first", "idle/websocket-kib"), ("second", "idle/websocket-again-kib")] {
        let sockets = open_sockets(&sessions, COUNT as usize).await;
        let open = program.resident_memory();
        let per_socket = kib(before, open, COUNT);
        println!("  {COUNT} WebSockets, the {time:<6} {:7.1} MiB  ({per_socket:+.2} KiB each)", mib(open));
        drop(sockets);
        tokio::time::sleep(RELEASE_TIME).await;
        let closed = program.resident_memory();
        let kept = kib(before, closed, COUNT);
        println!("  after they have closed       {:7.1} MiB  ({kept:+.2} KiB each)", mib(closed));
        report.record(name.into(), per_socket);
        // Less than a KiB is not worth a comparison.
        report.record(name.replace("-kib", "-kept-kib"), kept.max(1.0));
    }
}

/// Opens WebSockets of some sessions, some at a time.
async fn open_sockets(sessions: &[String], count: usize) -> Vec<TcpStream> {
    let mut sockets = Vec::with_capacity(count);
    while sockets.len() < count {
        sockets.extend(join_all(sessions.iter().map(|session| open_idle_socket(session))).await);
    }
    sockets
}
