//! Every disk operation of a client's work fails once, or until the disk is repaired. What was acknowledged stays, also if the
//! machine loses its power afterwards.

use std::time::Duration;

use tempfile::TempDir;

use super::open_store;
use crate::{
    FilesystemStore, LogRetention,
    contract::{
        create_test_session, fold_drafts, message_body, run_drafts, session_created_at, test_command, test_user,
    },
    filesystem::{
        disk_io::DiskOperation,
        injected_faults::{FaultyDisk, PlannedFault},
    },
    memory_record::decode_memory,
};
use k8sops_core::*;

/// How often a client tries until the disk is repaired.
const TRIES: usize = 3;

/// A client that repeats what is not acknowledged.
struct PatientClient<'a> {
    store: &'a FilesystemStore,
    disk: &'a FaultyDisk,
    session: SessionId,
    lease: Option<SessionLease>,
    /// Messages that were acknowledged, or that the log had when a later one was.
    messages: Vec<String>,
    commands: Vec<String>,
    memories: Vec<MemoryId>,
    key: Option<[u8; 32]>,
}

impl PatientClient<'_> {
    async fn repeat<T>(&mut self, mut attempt: impl AsyncFnMut(&mut Self) -> Result<T, StoreError>) -> T {
        for tries in 1.. {
            match attempt(self).await {
                Ok(done) => return done,
                Err(StoreError::Unavailable(_)) => {}
                Err(StoreError::Fenced { .. }) => self.lease = None,
                Err(other) => panic!("{other}"),
            }
            if tries == TRIES {
                self.disk.plan(None);
            }
            assert!(tries < 2 * TRIES, "it works when the disk is repaired");
        }
        unreachable!("the loop ends with a return")
    }

    async fn create_session(&mut self) {
        self.repeat(async |client| {
            let id = SessionId::new();
            client.store.create_session(&session_created_at(id, &test_user("anna"), 1)).await?;
            client.session = id;
            Ok(())
        })
        .await;
    }

    async fn send_command(&mut self, id: &str) {
        let command = test_command(id, message_body("hi"));
        self.repeat(async |client| client.store.submit_command(client.session, command.clone()).await).await;
        self.commands.push(id.to_owned());
    }

    /// Returns the lease, which is acquired if the client has none.
    async fn lease(&mut self) -> Result<SessionLease, StoreError> {
        let lease = match self.lease {
            Some(lease) => lease,
            None => self.store.acquire_lease(self.session, "a", Duration::from_secs(60)).await?,
        };
        Ok(*self.lease.insert(lease))
    }

    async fn append(&mut self, text: &str, writes_checkpoint: bool) {
        self.commit(text, writes_checkpoint, None).await;
    }

    /// Sends a message and commits its run at once.
    async fn say(&mut self, id: &str, text: &str) {
        self.commit(text, false, Some(test_command(id, message_body(text)))).await;
    }

    async fn commit(&mut self, text: &str, writes_checkpoint: bool, message: Option<SessionCommand>) {
        self.repeat(async |client| {
            let (store, session) = (client.store, client.session);
            let lease = client.lease().await?;
            let before = load_state(store, session).await?.state;
            let seen = user_messages(&before);
            if seen.iter().any(|message| message == text) {
                // The failed attempt took effect.
                return Ok(());
            }
            let (events, after) = fold_drafts(&before, run_drafts(text));
            let commit = LogCommit {
                session,
                epoch: lease.epoch,
                expected_seq: before.last_seq(),
                expected_lineage: None,
                events: &events,
                consumed: &[],
                summary: &after.summary,
                checkpoint: writes_checkpoint.then_some(&before),
            };
            match &message {
                None => drop(store.commit_events(commit).await?),
                Some(message) => {
                    // A failed attempt leaves the message with its run, or neither.
                    let end = store.commit_new_command(commit, message).await?;
                    assert!(matches!(end, NewCommandCommit::Committed { .. }), "nothing else waits");
                }
            }
            client.messages = seen;
            client.messages.push(text.to_owned());
            Ok(())
        })
        .await;
    }

    async fn remember(&mut self) {
        let user = test_user("anna");
        let id = self
            .repeat(async |client| {
                let version = client.store.read_memories(&user).await?.version;
                let (memory, _) = decode_memory(include_bytes!("formats/memory.json")).unwrap();
                let memory = UserMemory { id: MemoryId::new(), ..memory };
                let change = MemoryChange { memory: memory.clone(), embedding: EmbeddingChange::Clear };
                assert_eq!(client.store.write_memories(&user, version, &[change]).await?, MemoryWrite::Written);
                Ok(memory.id)
            })
            .await;
        self.memories.push(id);
    }

    async fn work(&mut self) {
        self.key = Some(self.repeat(async |client| client.store.deployment_key().await).await);
        self.create_session().await;
        self.say("c0", "zeroth").await;
        self.send_command("c1").await;
        self.append("first", false).await;
        self.append("second", true).await;
        self.send_command("c2").await;
        self.remember().await;
        self.append("third", false).await;
        self.append("fourth", true).await;
        self.append("fifth", false).await;
        self.remember().await;
    }

    /// Checks that a store has all that was acknowledged, once.
    async fn assert_kept(&self, store: &FilesystemStore, when: &str) {
        let state = load_state(store, self.session).await.unwrap_or_else(|error| panic!("{when}: {error}")).state;
        assert_eq!(user_messages(&state), self.messages, "{when}");
        let inbox = store.list_inbox(self.session).await.unwrap();
        let commands: Vec<_> = inbox.iter().map(|entry| entry.command.command_id.to_string()).collect();
        assert_eq!(commands, self.commands, "{when}");
        let all = store.read_memories(&test_user("anna")).await.unwrap().all;
        for id in &self.memories {
            assert!(all.iter().any(|stored| stored.memory.id == *id), "{when}: a memory is lost");
        }
        assert_eq!(Some(store.deployment_key().await.unwrap()), self.key, "{when}");
        assert!(store.list_damaged_sessions().await.unwrap().is_empty(), "{when}");
    }
}

fn user_messages(state: &SessionState) -> Vec<String> {
    let texts = state.messages.iter().filter_map(|message| match message.as_ref() {
        ChatMessage::User(user) => Some(user.content.clone()),
        _ => None,
    });
    texts.collect()
}

/// How a process ends before the machine loses its power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProcessEnd {
    Stopped,
    Killed,
}

/// Runs the work with a fault; returns the operations of the work without one.
async fn work_with_fault(retention: LogRetention, end: ProcessEnd, fault: Option<PlannedFault>) -> Vec<DiskOperation> {
    // In memory where that is possible, because there are hundreds of runs.
    let dir = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
    let disk = FaultyDisk::new(dir.path());
    let store = FilesystemStore::open(dir.path(), retention).await.unwrap();
    disk.plan(fault);
    let mut client = PatientClient {
        store: &store,
        disk: &disk,
        session: SessionId::new(),
        lease: None,
        messages: Vec::new(),
        commands: Vec::new(),
        memories: Vec::new(),
        key: None,
    };
    client.work().await;
    let operations = disk.operations();
    disk.plan(None);
    let when = |moment: &str| format!("{retention:?}, {end:?}, {fault:?}, {moment}");
    client.assert_kept(&store, &when("running")).await;
    let PatientClient { session, messages, commands, memories, key, .. } = client;
    if end == ProcessEnd::Killed {
        store.files().sessions.journal.abandon();
    }
    drop(store);
    disk.lose_power();
    let store = FilesystemStore::open(dir.path(), retention).await.unwrap();
    let client = PatientClient { store: &store, disk: &disk, session, lease: None, messages, commands, memories, key };
    client.assert_kept(&store, &when("after a power failure")).await;
    operations
}

#[tokio::test]
async fn acknowledged_writes_survive_every_failing_operation() {
    const EIO: i32 = 5;
    const ENOSPC: i32 = 28;
    const ESTALE: i32 = 116;
    for retention in [LogRetention::Full, LogRetention::SinceCheckpoint] {
        work_with_fault(retention, ProcessEnd::Stopped, None).await;
        let operations = work_with_fault(retention, ProcessEnd::Killed, None).await;
        println!("{retention:?}: {} operations", operations.len());
        for operation in [DiskOperation::Write, DiskOperation::Sync, DiskOperation::SyncFolder, DiskOperation::Rename] {
            assert!(operations.contains(&operation), "{operation:?}");
        }
        for after in 0..operations.len() {
            for (errno, count) in [(EIO, 1), (EIO, 2), (EIO, usize::MAX), (ENOSPC, usize::MAX), (ESTALE, 1)] {
                work_with_fault(retention, ProcessEnd::Killed, Some(PlannedFault { after, count, errno })).await;
            }
            let fault = PlannedFault { after, count: 1, errno: EIO };
            work_with_fault(retention, ProcessEnd::Stopped, Some(fault)).await;
        }
    }
}

const EMFILE: i32 = 24;

#[tokio::test]
async fn session_that_cannot_be_read_at_the_start_keeps_its_work() {
    let dir = TempDir::new().unwrap();
    let disk = FaultyDisk::new(dir.path());
    let store = open_store(dir.path()).await;
    let session = create_test_session(&store).await;
    store.submit_command(session, test_command("c1", message_body("waits"))).await.unwrap();
    drop(store);
    let start = async |fault| {
        // Without the index every session is read.
        let _ = std::fs::remove_file(dir.path().join("sessions.jsonl"));
        disk.plan(fault);
        open_store(dir.path()).await
    };
    // The first start removes the journal.
    drop(start(None).await);
    drop(start(None).await);
    let after = disk.operations().iter().rposition(|operation| *operation == DiskOperation::Open).unwrap();
    let store = start(Some(PlannedFault { after, count: 1, errno: EMFILE })).await;
    assert_eq!(store.claim_unfinished_sessions(OwnSessions::default()).await.unwrap().sessions, [session]);
    assert_eq!(store.list_inbox(session).await.unwrap().len(), 1);
    assert!(store.list_damaged_sessions().await.unwrap().is_empty());
    assert_eq!(store.list_sessions(&test_user("anna"), None, 10).await.unwrap()[0].message_count, 0);
}

#[tokio::test]
async fn memory_that_cannot_be_read_now_is_not_left_out() {
    let dir = TempDir::new().unwrap();
    let store = open_store(dir.path()).await;
    let anna = test_user("anna");
    let (memory, _) = decode_memory(include_bytes!("formats/memory.json")).unwrap();
    let change = MemoryChange { memory, embedding: EmbeddingChange::Clear };
    let version = store.read_memories(&anna).await.unwrap().version;
    store.write_memories(&anna, version, &[change]).await.unwrap();
    drop(store);
    let disk = FaultyDisk::new(dir.path());
    let store = open_store(dir.path()).await;
    disk.plan(Some(PlannedFault { after: 0, count: 1, errno: EMFILE }));
    assert!(matches!(store.read_memories(&anna).await, Err(StoreError::Unavailable(_))));
    assert_eq!(store.read_memories(&anna).await.unwrap().all.len(), 1);
}
