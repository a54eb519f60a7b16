//! A client that stops reading costs a bounded amount of memory and does not slow other clients down.

use futures_util::future::join_all;
use serde_json::Value;

use crate::{program::TestProgram, service::assert_gapless, websocket::TestSocket};
use k8sops_testing::provider::{FakeProviders, ProviderApi};

/// Number of turns while clients are stalled. The reasoning of all turns is 24 MB, which every client is sent twice: as
/// previews and as logged messages.
const TURNS: usize = 192;
/// Size of a preview of the model's reasoning.
const CHUNK_BYTES: usize = 4 * 1024;
const CHUNKS_PER_TURN: usize = 32;
/// Number of stalled clients of each kind. Unbounded buffers for them would hold 1.5 GB.
const STALLED_CLIENTS: usize = 16;
/// Upper bound of the growth in bytes. It includes the log in memory.
const MEMORY_GROWTH_LIMIT: u64 = 300 << 20;

/// The frames that a client received, up to the end of the last turn.
#[derive(Default)]
struct ReceivedFrames {
    frames: Vec<Value>,
    in_last_turn: bool,
}

impl ReceivedFrames {
    /// Records a frame. Returns false after the last one.
    fn record_until_last(&mut self, frame: Value) -> bool {
        self.in_last_turn |= frame["type"] == "user_message" && frame["content"] == format!("turn {TURNS}");
        let ends = self.in_last_turn && frame["type"] == "run_finished";
        self.frames.push(frame);
        !ends
    }
}

/// Asserts that the frames hold all reasoning, and each event from `first` on once.
fn assert_complete(frames: &[Value], first: u64) {
    assert_gapless(frames, first);
    let thoughts = frames.iter().filter(|frame| frame["type"] == "assistant_message");
    let thoughts: Vec<usize> = thoughts.filter_map(|frame| Some(frame["reasoning"].as_str()?.len())).collect();
    assert_eq!(thoughts, [CHUNK_BYTES * CHUNKS_PER_TURN; TURNS]);
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_clients_cost_bounded_memory() {
    let providers = FakeProviders::start().await;
    let env = [("LLM_PROVIDER", "test-openai-chat"), ("LLM_MODEL", "m")];
    let program = TestProgram::start(&providers.settings_yaml(), &env).await;
    let session = program.create_session().await;
    let ws = format!("{session}/ws");
    let (mut sockets, mut streams) = (Vec::new(), Vec::new());
    for _ in 0..STALLED_CLIENTS {
        let mut socket = TestSocket::open_at(&program.process.url, &ws, &[]).await;
        socket.until("session_created").await;
        sockets.push(socket);
        let mut stalled = program.events(&session, "").await;
        stalled.until("session_created").await;
        streams.push(stalled);
    }
    let mut reading = program.events(&session, "").await;
    let read_all = tokio::spawn(async move {
        let mut received = ReceivedFrames::default();
        while received.record_until_last(reading.next().await.unwrap()) {}
        received.frames
    });

    // The first turn allocates memory that later ones reuse.
    program.say(&session, "turn 0", &[]).await;
    let before = program.process.resident_memory();
    let piece = "x".repeat(CHUNK_BYTES);
    providers.script(
        ProviderApi::Chat,
        "m",
        (0..TURNS).map(|_| ProviderApi::long_reasoning(&piece, CHUNKS_PER_TURN, "done")),
    );
    for n in 1..=TURNS {
        program.say(&session, &format!("turn {n}"), &[]).await;
    }
    let grown = program.process.resident_memory().saturating_sub(before);
    println!("memory grew by {} MiB", grown >> 20);
    assert!(grown < MEMORY_GROWTH_LIMIT, "{} MiB", grown >> 20);
    // A client that reads gets all frames.
    let all = read_all.await.unwrap();
    assert_complete(&all, 1);
    let thought: usize =
        all.iter().filter(|f| f["type"] == "reasoning").map(|f| f["content"].as_str().unwrap().len()).sum();
    assert_eq!(thought, TURNS * CHUNK_BYTES * CHUNKS_PER_TURN);

    // A client that resumes reading, or reconnects with its last seq, misses nothing.
    let resumed = sockets.drain(..).take(2).map(|stalled| {
        drop(stalled);
        async {
            let mut socket = TestSocket::open_at(&program.process.url, &format!("{ws}?after=1"), &[]).await;
            assert_eq!(socket.next().await["type"], "hello");
            let mut received = ReceivedFrames::default();
            while received.record_until_last(socket.next().await) {}
            assert_complete(&received.frames, 2);
        }
    });
    join_all(resumed).await;
    let woken = streams.drain(..).take(2).map(async |mut stalled| {
        let mut received = ReceivedFrames::default();
        while received.record_until_last(stalled.next().await.unwrap()) {}
        assert_complete(&received.frames, 2);
    });
    join_all(woken).await;
    let grown = program.process.resident_memory().saturating_sub(before);
    assert!(grown < MEMORY_GROWTH_LIMIT, "{} MiB after the clients resumed", grown >> 20);
    program.stop().await;
}
