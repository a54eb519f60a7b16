//! What files add to the contract: reopening, torn writes, damage, faults, one process at a time, foreign files.

mod damage;
mod failing_disk;
mod faults;
mod formats;
mod journal;
mod model;
mod reading;
mod recovery;
mod retention;
mod usage;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tempfile::TempDir;

use super::{layout::StoreLayout, store::FilesystemStore};
use crate::{
    InMemoryStore, LogRetention, contract,
    contract::{read_log, test_user},
};
use k8sops_core::{InboxEntry, SessionEvent, SessionId, SessionState, SessionStore, SessionSummary, load_state};

async fn open_store(dir: &Path) -> FilesystemStore {
    FilesystemStore::open(dir, LogRetention::Full).await.unwrap()
}

fn session_path(dir: &Path, session: SessionId) -> PathBuf {
    StoreLayout::new(dir.to_owned()).session_file(&test_user("anna"), session)
}

/// All that a store says of a session.
async fn read_session(
    store: &dyn SessionStore,
    session: SessionId,
) -> (Vec<Arc<SessionEvent>>, SessionState, Vec<InboxEntry>) {
    let log = read_log(store, session, 0, 1000).await;
    let state = load_state(store, session).await.unwrap().state;
    let inbox = store.list_inbox(session).await.unwrap();
    let waiting = inbox.iter().any(|entry| entry.command.is_message());
    let summary = SessionSummary { waiting, ..state.summary.clone() };
    assert_eq!(store.read_summary(session).await.unwrap().unwrap(), summary);
    (log, state, inbox)
}

#[tokio::test]
async fn filesystem_store_follows_the_contract() {
    for rule in contract::RULES {
        let dir = TempDir::new().unwrap();
        println!("{}", rule.name);
        (rule.check)(Arc::new(open_store(dir.path()).await)).await;
    }
}

#[tokio::test]
async fn in_memory_store_follows_the_contract() {
    for rule in contract::RULES {
        println!("{}", rule.name);
        (rule.check)(Arc::new(InMemoryStore::default())).await;
    }
}
