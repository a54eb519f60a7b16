//! Turns of a long session, and the start of the service.

use std::time::{Duration, Instant};

use super::median;
use crate::support::{BenchClient, BenchProgram, ProgramOptions, ScriptedUpstream, stream_session};

/// Number of starts.
const STARTS: usize = 20;

pub(super) async fn print_long_session() {
    let upstream = ScriptedUpstream::start(20, Duration::ZERO).await;
    let service = BenchProgram::start(&upstream.url(), &[]).await;
    let client = BenchClient::new();
    let session = client.create_session(&service.url).await;
    let mut done = 0;
    println!("\nlong-session: one session, replies of 20 tokens, mean of 20 turns");
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

pub(super) async fn print_start() {
    let upstream = ScriptedUpstream::start(1, Duration::ZERO).await;
    let client = BenchClient::new();
    let mut ready = Vec::new();
    let mut first_token = Vec::new();
    for _ in 0..STARTS {
        let began = Instant::now();
        let service = BenchProgram::spawn(&upstream.url(), &ProgramOptions::default());
        while !client.is_ready(&service.url).await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        ready.push(began.elapsed().as_secs_f64() * 1e3);
        let session = client.create_session(&service.url).await;
        // A client that sends the first message a second later does not wait for what is prepared in the background.
        tokio::time::sleep(Duration::from_secs(1)).await;
        first_token.push(stream_session(&session, 1).await.first_token.as_secs_f64() * 1e3);
    }
    let longest = ready.iter().copied().fold(0.0, f64::max);
    println!("\nstart: {:.1} ms to ready at the median, {longest:.1} ms at the most, of {STARTS}", median(ready));
    println!("  the first token of the process, a second later: {:.1} ms at the median", median(first_token));
}
