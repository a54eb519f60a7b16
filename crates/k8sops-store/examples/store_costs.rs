//! What the stores of one process cost: CPU, time and the kernel's share per turn, and taking a long session up again.
//!
//! `cargo run --release -p k8sops-store --features contract --example store_costs [turns|day|many|reopen] [FOLDER]` prints
//! one part, or all without an argument, for the memory store and for files in a temporary folder below FOLDER. Under
//! `valgrind --tool=callgrind` or `strace -cf` it takes the same steps every time.
//!
//! - `turns`: one session, a turn with one reply and no tool.
//! - `day`: the same by a user with 1,300 sessions on this day.
//! - `many`: 32 and 256 sessions that take their turns at the same time.
//! - `reopen`: a session of 5,200 events that is taken up again after ten idle seconds, with other sessions in between.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use k8sops_core::{
    AssistantMessageEvent, CommandBody, DailyUsage, EventBody, EventDraft, MessageId, ModelUsage, RunFinished, RunId,
    RunOutcome, SessionId, SessionStore, StopReason, TokenUsage, ToolCall, ToolCallId, ToolEffect, ToolEnd, ToolStart,
    ToolStatus, UsageDay, load_state,
};
use k8sops_store::{
    FilesystemStore, InMemoryStore, LogRetention,
    contract::{
        CheckpointWrite, SessionWriter, create_test_session, message_body, run_start_drafts, test_command, test_user,
    },
};
use k8sops_testing::nginx::process_cpu_time;
use tempfile::TempDir;

const MESSAGE: &str = "what is the state of the deployment?";
const TURNS: usize = 300;
const SESSIONS_OF_DAY: usize = 1300;
const LONG_SESSION_EVENTS: u64 = 5200;
const REOPENINGS: usize = 20;

type SharedStore = Arc<dyn SessionStore>;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let wanted = arguments.next().filter(|wanted| wanted != "all");
    let folder = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let wants = |name: &str| wanted.as_deref().is_none_or(|wanted| wanted == name);
    for backend in ["memory", "files"] {
        let dir = TempDir::new_in(&folder).expect("a temporary folder");
        let store: SharedStore = if backend == "memory" {
            Arc::new(InMemoryStore::default())
        } else {
            Arc::new(FilesystemStore::open(dir.path(), LogRetention::Full).await.expect("a store"))
        };
        if wants("turns") {
            let costs = measure_turns(&store, 1, TURNS).await;
            println!("{backend:6} turns, one session:         {costs}");
        }
        if wants("many") {
            for sessions in [32, 256] {
                let costs = measure_turns(&store, sessions, 10).await;
                println!("{backend:6} turns, {sessions:3} sessions at once: {costs}");
            }
        }
        if wants("day") {
            for _ in 0..SESSIONS_OF_DAY {
                record_usage(&store, SessionId::new()).await;
            }
            let costs = measure_turns(&store, 1, TURNS).await;
            println!("{backend:6} turns, long usage day:      {costs}");
        }
        if wants("reopen") {
            measure_reopening(&store, backend).await;
        }
    }
}

/// What some turns took.
struct TurnCosts {
    turns: usize,
    cpu: Duration,
    elapsed: Duration,
    /// From a message to the commit that starts its run: the store's part of the time to the first token. Median, maximum.
    started: [Duration; 2],
}

impl std::fmt::Display for TurnCosts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let per_turn = |time: Duration| time.as_secs_f64() * 1e3 / self.turns as f64;
        let [median, maximum] = self.started.map(|time| time.as_secs_f64() * 1e3);
        let cpu = per_turn(self.cpu);
        let elapsed = per_turn(self.elapsed);
        write!(
            f,
            "{cpu:6.3} ms CPU, {elapsed:6.2} ms a turn, run started after {median:6.2} ms, at most {maximum:6.2} ms"
        )
    }
}

async fn measure_turns(store: &SharedStore, sessions: usize, turns: usize) -> TurnCosts {
    let mut ids = Vec::new();
    for _ in 0..sessions {
        ids.push(create_test_session(store.as_ref()).await);
    }
    let (began, cpu) = (Instant::now(), process_cpu_time(std::process::id()));
    let tasks = ids.into_iter().map(|session| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut writer = SessionWriter::acquire(store.as_ref(), session, "a").await;
            let mut started = Vec::new();
            for turn in 0..turns {
                started.push(take_turn(&store, &mut writer, turn, 0).await);
            }
            store.release_lease(writer.lease).await.expect("the lease is released");
            started
        })
    });
    let mut started: Vec<_> = join_all(tasks).await.into_iter().flat_map(|task| task.expect("it ends")).collect();
    started.sort();
    TurnCosts {
        turns: sessions * turns,
        cpu: process_cpu_time(std::process::id()).saturating_sub(cpu),
        elapsed: began.elapsed(),
        started: [started[started.len() / 2], started[started.len() - 1]],
    }
}

/// What the runtime asks of a store in a turn. Returns the time until the run was started.
async fn take_turn(store: &SharedStore, writer: &mut SessionWriter<'_>, turn: usize, tools: usize) -> Duration {
    let session = writer.lease.session;
    let began = Instant::now();
    store.read_summary(session).await.expect("a summary");
    let body = message_body(MESSAGE);
    let CommandBody::Message { run_id, message_id, .. } = body.clone() else { unreachable!("it is a message") };
    store.submit_command(session, test_command(&format!("c{turn}"), body)).await.expect("it is accepted");
    let inbox = store.list_inbox(session).await.expect("the inbox");
    let consumed: Vec<_> = inbox.iter().map(|entry| entry.position).collect();
    let start = run_start_drafts(run_id, message_id, MESSAGE);
    writer.commit(start, &consumed, CheckpointWrite::Skip).await.expect("a commit");
    let started = began.elapsed();
    for _ in 0..tools {
        let [reply, start, end] = tool_call(run_id);
        writer.append(vec![reply]).await.expect("a commit");
        writer.append(vec![start]).await.expect("a commit");
        writer.append(vec![end]).await.expect("a commit");
    }
    writer
        .append(vec![EventDraft::in_run(run_id, reply("All replicas are ready. ", Vec::new()))])
        .await
        .expect("a commit");
    record_usage(store, session).await;
    let finished = RunFinished { outcome: RunOutcome::Completed, usage: TokenUsage::default(), duration_ms: 1 };
    let finished = EventDraft::in_run(run_id, EventBody::RunFinished(finished));
    writer.commit(vec![finished], &[], CheckpointWrite::Skip).await.expect("a commit");
    store.list_inbox(session).await.expect("the inbox");
    started
}

fn reply(content: &str, tool_calls: Vec<ToolCall>) -> EventBody {
    EventBody::AssistantMessage(AssistantMessageEvent {
        message_id: MessageId::new(),
        content: content.into(),
        reasoning: None,
        tool_calls,
        citations: Vec::new(),
        usage: TokenUsage { input_tokens: 900, output_tokens: 12, ..TokenUsage::default() },
        stop_reason: StopReason::EndTurn,
        provider: Some("p".into()),
        model: Some("m".into()),
        provider_data: None,
    })
}

fn tool_call(run: RunId) -> [EventDraft; 3] {
    let id = ToolCallId::generate();
    let arguments = serde_json::json!({"namespace": "shop", "name": "checkout"});
    let call = ToolCall { id: id.clone(), name: "get_deployment".into(), arguments: arguments.clone() };
    let start = ToolStart {
        tool_call_id: id.clone(),
        name: "get_deployment".into(),
        server: "k8s".into(),
        arguments,
        effect: ToolEffect::Read,
        attempt: 1,
        sent: true,
    };
    let content = "checkout   3/3   3   3   41d   registry.example/checkout:1.4.2   ready\n".repeat(4);
    let end = ToolEnd {
        tool_call_id: id,
        name: "get_deployment".into(),
        server: "k8s".into(),
        status: ToolStatus::Ok,
        bytes: content.len() as u64,
        content,
        structured: None,
        truncated: false,
        duration_ms: 12,
    };
    let bodies = [reply("", vec![call]), EventBody::ToolStart(start), EventBody::ToolEnd(end)];
    bodies.map(|body| EventDraft::in_run(run, body))
}

async fn record_usage(store: &SharedStore, session: SessionId) {
    let usage = TokenUsage { input_tokens: 900, output_tokens: 12, ..TokenUsage::default() };
    let models = vec![ModelUsage { provider: "p".into(), model: "m".into(), usage }];
    let daily = DailyUsage { day: UsageDay::today(), models };
    store.record_usage(&test_user("anna"), session, &daily).await.expect("the usage is recorded");
}

async fn measure_reopening(store: &SharedStore, backend: &str) {
    let session = create_test_session(store.as_ref()).await;
    let mut writer = SessionWriter::acquire(store.as_ref(), session, "a").await;
    let mut since_checkpoint = 0;
    let mut turn = 0;
    while writer.state.last_seq() < LONG_SESSION_EVENTS {
        let from = writer.state.last_seq();
        take_turn(store, &mut writer, turn, 4).await;
        turn += 1;
        let events = store.read_events(session, from, 100).await.expect("the events").events;
        since_checkpoint += events.iter().map(|event| event.estimated_bytes()).sum::<u64>();
        // As the runtime does it.
        if since_checkpoint >= writer.state.estimated_bytes().max(64 * 1024) {
            writer.commit(Vec::new(), &[], CheckpointWrite::Write).await.expect("a commit");
            since_checkpoint = 0;
        }
    }
    store.release_lease(writer.lease).await.expect("the lease is released");
    for others in [0, 1, 20] {
        let cpu = process_cpu_time(std::process::id());
        let began = Instant::now();
        let mut apart = (Duration::ZERO, Duration::ZERO);
        for _ in 0..REOPENINGS {
            let before = (process_cpu_time(std::process::id()), Instant::now());
            for _ in 0..others {
                let other = create_test_session(store.as_ref()).await;
                let mut writer = SessionWriter::acquire(store.as_ref(), other, "a").await;
                take_turn(store, &mut writer, 0, 0).await;
                store.release_lease(writer.lease).await.expect("the lease is released");
            }
            apart.0 += process_cpu_time(std::process::id()).saturating_sub(before.0);
            apart.1 += before.1.elapsed();
            let lease = store.acquire_lease(session, "a", Duration::from_secs(60)).await.expect("the lease");
            let loaded = load_state(store.as_ref(), session).await.expect("the session is loaded");
            assert!(loaded.state.last_seq() >= LONG_SESSION_EVENTS);
            let mut writer = SessionWriter { store: store.as_ref(), lease, state: loaded.state, lineage: None };
            take_turn(store, &mut writer, turn, 0).await;
            turn += 1;
            store.keep_state(lease, writer.state).await.expect("a hint");
            store.release_lease(lease).await.expect("the lease is released");
        }
        let cpu = process_cpu_time(std::process::id()).saturating_sub(cpu).saturating_sub(apart.0);
        let elapsed = began.elapsed().saturating_sub(apart.1);
        let mean = |time: Duration| time.as_secs_f64() * 1e3 / REOPENINGS as f64;
        println!(
            "{backend:6} reopening {LONG_SESSION_EVENTS} events after {others:2} others: {:6.2} ms CPU, {:6.2} ms, with a turn",
            mean(cpu),
            mean(elapsed)
        );
    }
}
