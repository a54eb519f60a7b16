//! A client that stops reading costs a bounded amount of memory and does not slow other clients down.

use futures_util::future::join_all;
use serde_json::Value;

use crate::{program::TestProgram, service::assert_gapless, websocket::Socket};
use k8sops_testing::provider::{FakeProviders, ProviderApi};

/// Turns while they do not read, and what the model thinks in each: 24 MB, which every client is sent twice, as it comes
/// and in the log.
const TURNS: usize = 192;
const PIECE: usize = 4 * 1024;
const PIECES: usize = 32;
/// Clients of each kind that do not read. If it were kept for them, it would be 1.5 GB.
const STUCK: usize = 16;
/// What the service may grow by: its own log is in there.
const CEILING: u64 = 300 << 20;

/// The frames up to the end of the last turn.
#[derive(Default)]
struct Seen {
    frames: Vec<Value>,
    in_last: bool,
}

impl Seen {
    /// Takes one more; whether it is not the last.
    fn goes_on_after(&mut self, frame: Value) -> bool {
        self.in_last |= frame["type"] == "user_message" && frame["content"] == format!("turn {TURNS}");
        let ends = self.in_last && frame["type"] == "run_finished";
        self.frames.push(frame);
        !ends
    }
}

/// They have all that was thought, each event once, from this one on.
fn assert_whole(frames: &[Value], first: u64) {
    assert_gapless(frames, first);
    let thoughts = frames.iter().filter(|frame| frame["type"] == "assistant_message");
    let thoughts: Vec<usize> = thoughts.filter_map(|frame| Some(frame["reasoning"].as_str()?.len())).collect();
    assert_eq!(thoughts, [PIECE * PIECES; TURNS]);
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_clients_cost_bounded_memory() {
    let providers = FakeProviders::start().await;
    let env = [("LLM_PROVIDER", "test-openai-chat"), ("LLM_MODEL", "m")];
    let program = TestProgram::start(&providers.settings_yaml(), &env).await;
    let session = program.create_session().await;
    let ws = format!("{session}/ws");
    let (mut sockets, mut streams) = (Vec::new(), Vec::new());
    for _ in 0..STUCK {
        let mut socket = Socket::open_at(&program.process.url, &ws, &[]).await;
        socket.until("session_created").await;
        sockets.push(socket);
        let mut stuck = program.events(&session, "").await;
        stuck.until("session_created").await;
        streams.push(stuck);
    }
    let mut reading = program.events(&session, "").await;
    let read_all = tokio::spawn(async move {
        let mut seen = Seen::default();
        while seen.goes_on_after(reading.next().await.unwrap()) {}
        seen.frames
    });

    // What a first turn takes, it takes once.
    program.say(&session, "turn 0", &[]).await;
    let before = program.process.resident_memory();
    let piece = "x".repeat(PIECE);
    providers.script(ProviderApi::Chat, "m", (0..TURNS).map(|_| ProviderApi::long_reasoning(&piece, PIECES, "done")));
    for n in 1..=TURNS {
        program.say(&session, &format!("turn {n}"), &[]).await;
    }
    let grown = program.process.resident_memory().saturating_sub(before);
    println!("it grew by {} MiB", grown >> 20);
    assert!(grown < CEILING, "{} MiB", grown >> 20);
    // Who reads has it all, as it came.
    let all = read_all.await.unwrap();
    assert_whole(&all, 1);
    let thought: usize =
        all.iter().filter(|f| f["type"] == "reasoning").map(|f| f["content"].as_str().unwrap().len()).sum();
    assert_eq!(thought, TURNS * PIECE * PIECES);

    // Who begins to read again, or comes back with the last seq that it saw, misses nothing.
    let resumed = sockets.drain(..).take(2).map(|stuck| {
        drop(stuck);
        async {
            let mut socket = Socket::open_at(&program.process.url, &format!("{ws}?after=1"), &[]).await;
            assert_eq!(socket.next().await["type"], "hello");
            let mut seen = Seen::default();
            while seen.goes_on_after(socket.next().await) {}
            assert_whole(&seen.frames, 2);
        }
    });
    join_all(resumed).await;
    let woken = streams.drain(..).take(2).map(async |mut stuck| {
        let mut seen = Seen::default();
        while seen.goes_on_after(stuck.next().await.unwrap()) {}
        assert_whole(&seen.frames, 2);
    });
    join_all(woken).await;
    let grown = program.process.resident_memory().saturating_sub(before);
    assert!(grown < CEILING, "{} MiB after they came back", grown >> 20);
    program.stop().await;
}
