//! What is large, on connections to which something happened while they were idle.

use std::{sync::Arc, time::Duration};

use k8sops_core::{
    EmbeddingChange, MemoryChange, MemoryStore, MemoryWrite, OutputStore, SessionId, SessionLog, StoreError,
    StoreOutage, ToolCallId, UsageDay, UsageStore,
};
use k8sops_testing::redis::{RedisFlavor, RedisServer};

use super::{RedisConfig, RedisDeployment, RedisStore};
use crate::{
    contract::{
        CheckpointWrite, SessionWriter, create_test_session, run_drafts, test_memory, test_user, warning_draft,
    },
    user_memory_set::UserMemorySet,
};

const TEXT_BYTES: usize = 200 * 1024;

/// What is large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LargeWork {
    ReadCheckpoint,
    ReadLog,
    ReadOutput,
    SaveOutput,
    Commit,
    ReadMemories,
    WriteMemories,
    ReadUsage,
}

impl LargeWork {
    const ALL: [Self; 8] = [
        Self::ReadCheckpoint,
        Self::ReadLog,
        Self::ReadOutput,
        Self::SaveOutput,
        Self::Commit,
        Self::ReadMemories,
        Self::WriteMemories,
        Self::ReadUsage,
    ];

    fn writes(self) -> bool {
        matches!(self, Self::SaveOutput | Self::Commit | Self::WriteMemories)
    }
}

/// A session with an owner, and all that is large of it.
struct LargeSession {
    server: RedisServer,
    store: Arc<RedisStore>,
    session: SessionId,
}

impl LargeSession {
    async fn create() -> Self {
        let server = RedisServer::start(RedisFlavor::Redis8).await;
        let config = RedisConfig::of_test(vec![server.url()], RedisDeployment::Single);
        let store = Arc::new(RedisStore::new(&config).unwrap());
        let session = create_test_session(&*store).await;
        Self { server, store, session }
    }

    async fn do_all(&self, writer: &mut SessionWriter<'_>) {
        for work in LargeWork::ALL {
            self.try_work(work, writer).await.unwrap_or_else(|error| panic!("{work:?}: {error}"));
        }
    }

    async fn try_work(&self, work: LargeWork, writer: &mut SessionWriter<'_>) -> Result<(), StoreError> {
        let store = &self.store;
        let call: ToolCallId = "call".parse().unwrap();
        let user = test_user("anna");
        match work {
            LargeWork::ReadCheckpoint => store.read_checkpoint(self.session).await.map(drop),
            LargeWork::ReadLog => store.read_events(self.session, 0, 500).await.map(drop),
            LargeWork::ReadOutput => store.read_output(self.session, &call, 0, TEXT_BYTES).await.map(drop),
            LargeWork::SaveOutput => {
                store.save_output(self.session, &call, "x".repeat(TEXT_BYTES).into(), 1 << 20).await.map(drop)
            }
            LargeWork::Commit => {
                let drafts = run_drafts(&"x".repeat(TEXT_BYTES));
                writer.commit(drafts, &[], CheckpointWrite::Write).await
            }
            LargeWork::ReadMemories => {
                // Another process, which has read nothing yet.
                *store.memory_cache.user(&user).lock() = UserMemorySet::default();
                store.read_memories(&user).await.map(drop)
            }
            LargeWork::WriteMemories => {
                let version = store.read_memories(&user).await?.version;
                let change = MemoryChange { memory: test_memory("a fact"), embedding: EmbeddingChange::Keep };
                let written = store.write_memories(&user, version, &[change]).await?;
                assert_eq!(written, MemoryWrite::Written);
                Ok(())
            }
            LargeWork::ReadUsage => store.read_usage(&user, &[UsageDay::today()]).await.map(drop),
        }
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn large_work_survives_what_happens_to_idle_connections() {
    /// What happens, and the commands that make it happen.
    type Disturbance<'a> = (&'a str, &'a [&'a [&'a str]]);
    let disturbances: [Disturbance<'_>; 6] = [
        ("clients are killed", &[&["CLIENT", "KILL", "TYPE", "normal"]]),
        ("scripts are forgotten", &[&["SCRIPT", "FLUSH"]]),
        ("demoted and promoted", &[&["REPLICAOF", "127.0.0.1", "1"], &["REPLICAOF", "NO", "ONE"]]),
        ("killed after a flush of scripts", &[&["SCRIPT", "FLUSH"], &["CLIENT", "KILL", "TYPE", "normal"]]),
        ("paused for writes", &[&["CLIENT", "PAUSE", "300", "WRITE"]]),
        ("paused", &[&["CLIENT", "PAUSE", "300", "ALL"]]),
    ];
    let large = LargeSession::create().await;
    let mut writer = SessionWriter::acquire(&*large.store, large.session, "a").await;
    large.do_all(&mut writer).await;
    for (name, commands) in disturbances {
        for work in LargeWork::ALL {
            for command in commands {
                large.server.cli(command).await;
            }
            large.try_work(work, &mut writer).await.unwrap_or_else(|error| panic!("{name}, {work:?}: {error}"));
        }
    }
    large.server.wait_until_written().await;
    for work in LargeWork::ALL {
        large.server.kill().await;
        large.server.restart().await;
        large.try_work(work, &mut writer).await.unwrap_or_else(|error| panic!("restarted, {work:?}: {error}"));
        large.server.wait_until_written().await;
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn refused_large_work_has_the_reason_and_reads_go_on() {
    /// The reason, the commands that begin and end the refusal.
    type Refusal<'a> = (StoreOutage, &'a [&'a str], &'a [&'a str]);
    let refusals: [Refusal<'_>; 3] = [
        (StoreOutage::Full, &["CONFIG", "SET", "maxmemory", "1"], &["CONFIG", "SET", "maxmemory", "0"]),
        (StoreOutage::ReadOnly, &["REPLICAOF", "127.0.0.1", "1"], &["REPLICAOF", "NO", "ONE"]),
        (
            StoreOutage::AccessDenied,
            &["ACL", "SETUSER", "default", "-xadd", "-hset"],
            &["ACL", "SETUSER", "default", "+@all"],
        ),
    ];
    let large = LargeSession::create().await;
    let mut writer = SessionWriter::acquire(&*large.store, large.session, "a").await;
    large.do_all(&mut writer).await;
    for (outage, begin, end) in refusals {
        large.server.cli(begin).await;
        for work in LargeWork::ALL {
            let done = large.try_work(work, &mut writer).await;
            match done {
                Err(error) if work.writes() => assert_eq!(error.outage(), Some(outage), "{work:?}: {error}"),
                done => assert!(done.is_ok() && !work.writes(), "{outage:?}, {work:?}: {done:?}"),
            }
        }
        large.server.cli(end).await;
        // A failure to connect is remembered for a moment.
        tokio::time::sleep(Duration::from_millis(200)).await;
        large.do_all(&mut writer).await;
    }
    writer.append(vec![warning_draft("the log is whole")]).await.unwrap();
}
