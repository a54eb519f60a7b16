//! How long short commands to Redis take while another session reads and writes much.
//!
//! `cargo run -p k8sops-store --features contract --example bulk_pauses [SECONDS]` starts a Redis of the test bed and prints, for
//! each kind of traffic, the median, the 99th percentile and the maximum of the time of a commit, the renewal of a lease, a
//! receipt, a submitted command and a summary. Each connection is a link of 400 Mbit/s. `bash tests/testbed/setup.sh` installs the
//! test bed and writes its paths to `env.sh`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use k8sops_core::{Inbox, Leases, OutputStore, SessionId, SessionIndex, SessionLease, SessionLog, ToolCallId};
use k8sops_store::{
    ConfirmationPolicy, RedisConfig, RedisDeployment, RedisStore,
    contract::{
        CheckpointWrite, SessionWriter, create_test_session, message_body, run_drafts, test_command, test_user,
        warning_draft,
    },
};
use k8sops_testing::redis::{RedisFlavor, RedisServer};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// The size of what is read and written.
const BULK_BYTES: usize = 12 << 20;
/// What a connection carries in each direction.
const LINK_BYTES_PER_SECOND: f64 = 50_000_000.0;
/// The time between two short commands of a kind.
const PROBE_INTERVAL: Duration = Duration::from_millis(5);
const LEASE_TTL: Duration = Duration::from_secs(60);

/// What another session does meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BulkTraffic {
    None,
    ReadCheckpoint,
    ReadLog,
    ReadOutput,
    SaveOutput,
    CommitCheckpoint,
}

impl BulkTraffic {
    const ALL: [Self; 6] =
        [Self::None, Self::ReadCheckpoint, Self::ReadLog, Self::ReadOutput, Self::SaveOutput, Self::CommitCheckpoint];
}

/// The short commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ShortCommand {
    Commit,
    RenewLease,
    FindReceipt,
    Submit,
    ReadSummary,
}

impl ShortCommand {
    const ALL: [Self; 5] = [Self::Commit, Self::RenewLease, Self::FindReceipt, Self::Submit, Self::ReadSummary];
}

#[tokio::main]
async fn main() {
    let seconds = std::env::args().nth(1).and_then(|seconds| seconds.parse().ok()).unwrap_or(8);
    let server = RedisServer::start(RedisFlavor::Redis8).await;
    let config = RedisConfig {
        urls: vec![start_link(server.port()).await.into()],
        topology: RedisDeployment::Single,
        ca: None,
        prefix: "bench".into(),
        session_ttl: None,
        allow_eviction: false,
        shallow: false,
        confirm: ConfirmationPolicy::None,
        confirm_timeout: Duration::from_secs(5),
    };
    let store = Arc::new(RedisStore::new(&config).expect("a configuration"));
    let session = create_test_session(&*store).await;
    let lease = {
        // Many events and a checkpoint of them, each as large as all that is read at once.
        let mut writer = SessionWriter::acquire(&*store, session, "bulk").await;
        for _ in 0..16 {
            let drafts = run_drafts(&random_text(BULK_BYTES / 16));
            writer.commit(drafts, &[], CheckpointWrite::Write).await.expect("committed");
        }
        writer.commit(vec![warning_draft("end")], &[], CheckpointWrite::Write).await.expect("committed");
        writer.lease
    };
    let call: ToolCallId = "call".parse().expect("an id");
    store.save_output(session, &call, random_text(BULK_BYTES).into(), 2 * BULK_BYTES).await.expect("saved");

    println!("{:<18} {:<12} {:>8} {:>10} {:>10} {:>10}", "meanwhile", "command", "count", "p50 ms", "p99 ms", "max ms");
    for traffic in BulkTraffic::ALL {
        let stop = Arc::new(AtomicBool::new(false));
        let bulk = tokio::spawn(repeat_bulk(store.clone(), session, lease, traffic, stop.clone()));
        // The first transfer opens connections.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let end = Instant::now() + Duration::from_secs(seconds);
        let probes = ShortCommand::ALL.map(|command| tokio::spawn(probe_command(store.clone(), command, end)));
        for (command, probe) in ShortCommand::ALL.into_iter().zip(probes) {
            let mut times = probe.await.expect("probed");
            times.sort_unstable();
            let percentile = |percent: usize| millis(times[(times.len() - 1) * percent / 100]);
            println!(
                "{:<18} {:<12} {:>8} {:>10.1} {:>10.1} {:>10.1}",
                format!("{traffic:?}"),
                format!("{command:?}"),
                times.len(),
                percentile(50),
                percentile(99),
                percentile(100)
            );
        }
        stop.store(true, Ordering::Relaxed);
        let transfers = bulk.await.expect("transferred");
        println!("{:<18} {transfers} transfers of {} MiB", "", BULK_BYTES >> 20);
    }
}

/// Starts a proxy whose connections have a limited speed, on a runtime of its own. Returns its URL.
async fn start_link(port: u16) -> String {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            sender.send(listener.local_addr().expect("an address").port()).expect("awaited");
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let server = TcpStream::connect(("127.0.0.1", port)).await.expect("the server listens");
                    let (client_reader, client_writer) = client.into_split();
                    let (server_reader, server_writer) = server.into_split();
                    tokio::join!(
                        forward_slowly(client_reader, server_writer),
                        forward_slowly(server_reader, client_writer)
                    );
                });
            }
        });
    });
    format!("redis://127.0.0.1:{}", receiver.await.expect("started"))
}

async fn forward_slowly(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let mut buffer = vec![0; 128 * 1024];
    let mut free_at = tokio::time::Instant::now();
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let seconds = f64::from(u32::try_from(length).expect("the size of the buffer")) / LINK_BYTES_PER_SECOND;
        free_at = free_at.max(tokio::time::Instant::now()) + Duration::from_secs_f64(seconds);
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
        if length > 4096 {
            tokio::time::sleep_until(free_at).await;
        }
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

/// Text that hardly compresses.
fn random_text(length: usize) -> String {
    std::iter::repeat_with(fastrand::alphanumeric).take(length).collect()
}

/// Reads or writes until it is stopped. Returns how often.
async fn repeat_bulk(
    store: Arc<RedisStore>,
    session: SessionId,
    lease: SessionLease,
    traffic: BulkTraffic,
    stop: Arc<AtomicBool>,
) -> usize {
    if traffic == BulkTraffic::CommitCheckpoint {
        store.release_lease(lease).await.expect("released");
    }
    let call: ToolCallId = "call".parse().expect("an id");
    let text: Arc<str> = random_text(BULK_BYTES).into();
    let mut writer = match traffic {
        BulkTraffic::CommitCheckpoint => Some(SessionWriter::acquire(&*store, session, "bulk").await),
        _ => None,
    };
    let mut transfers = 0;
    while !stop.load(Ordering::Relaxed) {
        match traffic {
            BulkTraffic::None => tokio::time::sleep(Duration::from_millis(100)).await,
            BulkTraffic::ReadCheckpoint => drop(store.read_checkpoint(session).await.expect("read")),
            BulkTraffic::ReadLog => drop(store.read_events(session, 0, 500).await.expect("read")),
            BulkTraffic::ReadOutput => {
                let limit = BULK_BYTES;
                drop(store.read_output(session, &call, 0, limit).await.expect("read"));
            }
            BulkTraffic::SaveOutput => {
                store.save_output(session, &call, text.clone(), 2 * BULK_BYTES).await.expect("saved");
            }
            BulkTraffic::CommitCheckpoint => {
                if let Some(writer) = &mut writer {
                    let drafts = vec![warning_draft("again")];
                    writer.commit(drafts, &[], CheckpointWrite::Write).await.expect("committed");
                }
            }
        }
        transfers += 1;
    }
    transfers
}

/// Repeats a short command of a session of its own, and returns how long it took each time.
async fn probe_command(store: Arc<RedisStore>, command: ShortCommand, end: Instant) -> Vec<Duration> {
    let session = create_test_session(&*store).await;
    let receipt = test_command("known", message_body("hi"));
    store.submit_command(session, receipt.clone()).await.expect("accepted");
    let mut writer = SessionWriter::acquire(&*store, session, "probe").await;
    let mut times = Vec::new();
    while Instant::now() < end {
        let began = Instant::now();
        match command {
            ShortCommand::Commit => writer.append(vec![warning_draft("short")]).await.expect("committed"),
            ShortCommand::RenewLease => {
                store.renew_lease(writer.lease, LEASE_TTL).await.expect("renewed");
            }
            ShortCommand::FindReceipt => {
                drop(store.find_receipt(session, &test_user("anna"), &receipt.command_id).await.expect("found"));
            }
            ShortCommand::Submit => drop(store.submit_command(session, receipt.clone()).await.expect("known")),
            ShortCommand::ReadSummary => drop(store.read_summary(session).await.expect("read")),
        }
        times.push(began.elapsed());
        tokio::time::sleep(PROBE_INTERVAL).await;
    }
    times
}
