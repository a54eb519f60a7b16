//! Reads from memory, and states that are kept for the next owner.

use std::time::Duration;

use tempfile::TempDir;

use super::{open_store, read_session, session_path};
use crate::{
    contract::{
        CheckpointWrite, SessionWriter, create_test_session, message_body, run_drafts, test_command, warning_draft,
    },
    filesystem::{
        disk_io::DiskOperation,
        injected_faults::{FaultyDisk, PlannedFault},
    },
};
use k8sops_core::*;

/// A file that is open is held by one caller at a time, for as long as the disk takes.
#[tokio::test(flavor = "current_thread")]
async fn what_is_in_memory_of_an_open_session_does_not_wait_for_its_file() {
    let dir = TempDir::new().unwrap();
    let store = open_store(dir.path()).await;
    let session = create_test_session(&store).await;
    let mut writer = SessionWriter::acquire(&store, session, "a").await;
    for n in 0..3 {
        writer.append(run_drafts("hi")).await.unwrap();
        store.submit_command(session, test_command(&format!("c{n}"), message_body("hi"))).await.unwrap();
        let reads = store.files().sessions.hold_file(session, || {
            // Without the runtime's other threads: a read that waits would never end.
            futures_util::future::FutureExt::now_or_never(async {
                let newest = writer.state.last_seq();
                let events = store.read_events(session, newest, 1).await;
                let oldest = store.read_oldest_seq(session).await;
                (store.read_summary(session).await, store.list_inbox(session).await, events, oldest)
            })
        });
        let (summary, inbox, events, oldest) = reads.expect("the reads do not wait");
        let events = events.unwrap();
        assert_eq!((events.events.len(), events.last_seq, events.oldest_seq), (0, writer.state.last_seq(), 1));
        assert_eq!(oldest.unwrap(), 1);
        let expected = SessionSummary { waiting: true, ..writer.state.summary.clone() };
        assert_eq!(summary.unwrap().unwrap(), expected);
        assert_eq!(inbox.unwrap().len(), n + 1);
    }
}

#[tokio::test]
async fn failed_write_is_not_seen_by_readers() {
    let dir = TempDir::new().unwrap();
    let disk = FaultyDisk::new(dir.path());
    let store = open_store(dir.path()).await;
    let session = create_test_session(&store).await;
    let mut writer = SessionWriter::acquire(&store, session, "a").await;
    writer.append(run_drafts("hi")).await.unwrap();
    let before = read_session(&store, session).await;
    disk.plan(Some(PlannedFault { after: 0, count: usize::MAX, errno: 28 }));
    assert!(writer.append(run_drafts("lost")).await.is_err());
    assert!(store.submit_command(session, test_command("c", message_body("lost"))).await.is_err());
    assert_eq!(store.read_summary(session).await.unwrap().unwrap(), before.1.summary);
    assert_eq!(store.list_inbox(session).await.unwrap(), before.2);
    disk.plan(None);
    assert_eq!(read_session(&store, session).await, before);
}

#[tokio::test]
async fn deleted_session_is_not_read_from_memory() {
    let dir = TempDir::new().unwrap();
    let store = open_store(dir.path()).await;
    let session = create_test_session(&store).await;
    SessionWriter::acquire(&store, session, "a").await.append(run_drafts("hi")).await.unwrap();
    store.delete_session(session).await.unwrap();
    assert_eq!(store.read_summary(session).await.unwrap(), None);
    assert!(matches!(store.list_inbox(session).await, Err(StoreError::NotFound(_))));
}

#[tokio::test]
async fn state_that_an_owner_hands_over_saves_the_next_one_the_replay() {
    let dir = TempDir::new().unwrap();
    let disk = FaultyDisk::new(dir.path());
    let store = open_store(dir.path()).await;
    let session = create_test_session(&store).await;
    let mut writer = SessionWriter::acquire(&store, session, "a").await;
    writer.commit(run_drafts("first"), &[], CheckpointWrite::Skip).await.unwrap();
    writer.commit(run_drafts("second"), &[], CheckpointWrite::Write).await.unwrap();
    writer.append(run_drafts("third")).await.unwrap();
    let replayed = load_state(&store, session).await.unwrap();
    let release = async |writer: SessionWriter<'_>, state: SessionState| {
        store.keep_state(writer.lease, state).await.unwrap();
        store.release_lease(writer.lease).await.unwrap();
    };
    let state = writer.state.clone();
    release(writer, state).await;
    // Other sessions in between.
    for _ in 0..20 {
        let other = create_test_session(&store).await;
        let writer = SessionWriter::acquire(&store, other, "a").await;
        let state = writer.state.clone();
        release(writer, state).await;
    }
    disk.plan(None);
    for _ in 0..2 {
        let loaded = load_state(&store, session).await.unwrap();
        assert_eq!(loaded.state, replayed.state);
        assert_eq!(loaded.replayed_bytes, replayed.replayed_bytes);
    }
    let mut writer = SessionWriter::acquire(&store, session, "b").await;
    assert!(!disk.operations().contains(&DiskOperation::Read), "{:?}", disk.operations());
    // A state that is older than the log is not kept.
    let old = writer.state.clone();
    writer.append(vec![warning_draft("newer")]).await.unwrap();
    let expected = writer.state.clone();
    release(writer, old).await;
    assert_eq!(load_state(&store, session).await.unwrap().state, expected);
}

#[tokio::test]
async fn kept_state_of_a_file_that_another_program_changed_is_forgotten() {
    let dir = TempDir::new().unwrap();
    let store = open_store(dir.path()).await;
    let session = create_test_session(&store).await;
    let path = session_path(dir.path(), session);
    let created = std::fs::read(&path).unwrap();
    let mut writer = SessionWriter::acquire(&store, session, "a").await;
    writer.append(run_drafts("hi")).await.unwrap();
    store.keep_state(writer.lease, writer.state.clone()).await.unwrap();
    store.release_lease(writer.lease).await.unwrap();
    // A backup is restored.
    std::fs::write(&path, created).unwrap();
    assert_eq!(load_state(&store, session).await.unwrap().state.last_seq(), 1);
    let lease = store.acquire_lease(session, "b", Duration::from_secs(9)).await.unwrap();
    assert_eq!(store.read_replay_start(session).await.unwrap().state.unwrap().last_seq(), 1);
    store.release_lease(lease).await.unwrap();
}
