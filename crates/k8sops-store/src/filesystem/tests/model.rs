//! Any sequence of operations has the same result in files and in memory.

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;
use tempfile::TempDir;

use super::{open_store, read_session};
use crate::{
    InMemoryStore, contract,
    contract::{
        message_body, message_body_if_idle, run_drafts, session_created_at, test_command, test_user, warning_draft,
    },
};
use k8sops_core::*;

#[derive(Debug, Clone)]
enum StoreOperation {
    Acquire(u8),
    Release(u8),
    Commit { writer: u8, events: u8, consume: bool, checkpoint: bool },
    Submit { id: u8, only_if_idle: bool },
    CommitNew { writer: u8, id: u8 },
    Reopen,
}

fn operations() -> impl Strategy<Value = Vec<StoreOperation>> {
    let op = prop_oneof![
        2 => (0..2u8).prop_map(StoreOperation::Acquire),
        1 => (0..2u8).prop_map(StoreOperation::Release),
        6 => (0..2u8, 0..4u8, any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(writer, events, consume, checkpoint)| StoreOperation::Commit { writer, events, consume, checkpoint }),
        3 => (0..20u8, any::<bool>()).prop_map(|(id, only_if_idle)| StoreOperation::Submit { id, only_if_idle }),
        3 => (0..2u8, 0..20u8).prop_map(|(writer, id)| StoreOperation::CommitNew { writer, id }),
        1 => Just(StoreOperation::Reopen),
    ];
    prop::collection::vec(op, 1..40)
}

/// A store under test, and the leases of its two writers.
struct ComparedStore {
    store: Arc<dyn SessionStore>,
    leases: [Option<SessionLease>; 2],
}

impl ComparedStore {
    /// Applies an operation, and describes the result in words that are the same for all stores.
    async fn apply_operation(
        &mut self,
        session: SessionId,
        op: &StoreOperation,
        drafts: &[EventDraft],
        command: Option<SessionCommand>,
    ) -> String {
        let store = self.store.as_ref();
        let describe = |error: StoreError| format!("{error:?}").split([' ', '(']).next().unwrap_or_default().to_owned();
        match op {
            StoreOperation::Acquire(writer) => {
                match store.acquire_lease(session, &format!("w{writer}"), Duration::from_secs(60)).await {
                    Ok(lease) => {
                        self.leases[usize::from(*writer)] = Some(lease);
                        "acquired".into()
                    }
                    Err(error) => describe(error),
                }
            }
            StoreOperation::Release(writer) => {
                if let Some(lease) = self.leases[usize::from(*writer)] {
                    store.release_lease(lease).await.unwrap();
                }
                "released".into()
            }
            StoreOperation::Commit { writer, consume, checkpoint, .. } => {
                let Some(lease) = self.leases[usize::from(*writer)] else { return "no lease".into() };
                let state = load_state(store, session).await.unwrap().state;
                let (events, after) = contract::fold_drafts(&state, drafts.to_vec());
                let waiting = store.list_inbox(session).await.unwrap();
                let consumed: Vec<u64> = waiting.iter().filter(|_| *consume).map(|entry| entry.position).collect();
                let commit = LogCommit {
                    session,
                    epoch: lease.epoch,
                    expected_seq: state.last_seq(),
                    expected_lineage: None,
                    events: &events,
                    consumed: &consumed,
                    summary: &after.summary,
                    checkpoint: checkpoint.then_some(&state),
                };
                store.commit_events(commit).await.map_or_else(describe, |_| "committed".into())
            }
            StoreOperation::CommitNew { writer, .. } => {
                let Some(lease) = self.leases[usize::from(*writer)] else { return "no lease".into() };
                let state = load_state(store, session).await.unwrap().state;
                let (events, after) = contract::fold_drafts(&state, drafts.to_vec());
                let commit = LogCommit {
                    session,
                    epoch: lease.epoch,
                    expected_seq: state.last_seq(),
                    expected_lineage: None,
                    events: &events,
                    consumed: &[],
                    summary: &after.summary,
                    checkpoint: None,
                };
                match store.commit_new_command(commit, &command.unwrap()).await {
                    Ok(NewCommandCommit::Committed { receipt, .. }) => format!("{receipt:?}"),
                    Ok(NewCommandCommit::Declined) => "declined".into(),
                    Err(error) => describe(error),
                }
            }
            StoreOperation::Submit { .. } => {
                let submitted = store.submit_command(session, command.unwrap()).await;
                submitted.map_or_else(describe, |receipt| format!("{receipt:?}"))
            }
            StoreOperation::Reopen => "reopened".into(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn filesystem_and_memory_agree_on_any_operations(operations in operations()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = TempDir::new().unwrap();
            let session = SessionId::new();
            let mut memory = ComparedStore { store: Arc::new(InMemoryStore::default()), leases: [None; 2] };
            let mut files = ComparedStore { store: Arc::new(open_store(dir.path()).await), leases: [None; 2] };
            for side in [&memory, &files] {
                side.store.create_session(&session_created_at(session, &test_user("anna"), 1)).await.unwrap();
            }
            for op in &operations {
                if matches!(op, StoreOperation::Reopen) {
                    // A new process has none of the leases.
                    for lease in memory.leases.into_iter().flatten() {
                        memory.store.release_lease(lease).await.unwrap();
                    }
                    memory.leases = [None; 2];
                    files.leases = [None; 2];
                    files.store = Arc::new(InMemoryStore::default());
                    files.store = Arc::new(open_store(dir.path()).await);
                }
                let drafts: Vec<_> = match op {
                    StoreOperation::Commit { events, .. } if *events == 3 => run_drafts("a turn"),
                    StoreOperation::Commit { events, .. } => (0..*events).map(|n| warning_draft(&format!("{n}"))).collect(),
                    StoreOperation::CommitNew { .. } => run_drafts("a turn"),
                    _ => Vec::new(),
                };
                let command = match op {
                    StoreOperation::CommitNew { id, .. } => Some(SessionCommand {
                        fingerprint: format!("{}", id / 15),
                        ..test_command(&format!("c{}", id % 15), message_body("hi"))
                    }),
                    StoreOperation::Submit { id, only_if_idle } => Some(SessionCommand {
                        fingerprint: format!("{}", id / 15),
                        ..test_command(&format!("c{}", id % 15), if *only_if_idle { message_body_if_idle("hi") } else { message_body("hi") })
                    }),
                    _ => None,
                };
                let expected = memory.apply_operation(session, op, &drafts, command.clone()).await;
                prop_assert_eq!(files.apply_operation(session, op, &drafts, command).await, expected, "{:?}", op);
                let (log, state, inbox) = read_session(memory.store.as_ref(), session).await;
                let fold = SessionState::fold_events(None, log.iter().map(AsRef::as_ref)).unwrap();
                prop_assert_eq!(&fold, &state, "the checkpoint and the later events are the fold of the log");
                prop_assert_eq!(read_session(files.store.as_ref(), session).await, (log, state, inbox));
            }
            Ok(())
        })?;
    }
}
