//! Reopening a store, after a regular end and after a crash.

use std::{fs, time::Duration};

use tempfile::TempDir;

use super::{open_store, read_session, session_path};
use crate::{
    FilesystemStore, LogRetention, contract,
    contract::{
        CheckpointWrite, SessionWriter, create_test_session, message_body, run_drafts, test_command, test_user,
        warning_draft,
    },
};
use k8sops_core::*;

#[tokio::test]
async fn reopened_store_has_all_data_and_a_new_epoch() {
    let dir = TempDir::new().unwrap();
    let store = open_store(dir.path()).await;
    let session = create_test_session(&store).await;
    let mut writer = SessionWriter::acquire(&store, session, "a").await;
    let first = store.submit_command(session, test_command("c1", message_body("hi"))).await.unwrap();
    for n in 0..10 {
        writer.commit(run_drafts("hi"), &[], CheckpointWrite::when(n % 4 == 3)).await.unwrap();
    }
    store.submit_command(session, test_command("c2", CommandBody::Cancel { run_id: None })).await.unwrap();
    let before = read_session(&store, session).await;
    let epoch = writer.lease.epoch;
    drop(store);

    let store = open_store(dir.path()).await;
    assert_eq!(read_session(&store, session).await, before);
    assert_eq!(store.claim_unfinished_sessions(OwnSessions::default()).await.unwrap().sessions, [session]);
    let again = SessionCommand { fingerprint: first.fingerprint.clone(), ..test_command("c1", message_body("hi")) };
    assert_eq!(store.submit_command(session, again).await.unwrap(), CommandReceipt { duplicate: true, ..first });
    // No event was written under the newest epoch; it must not be granted again nevertheless.
    assert!(SessionWriter::acquire(&store, session, "b").await.lease.epoch > epoch);
}

#[tokio::test]
async fn torn_write_of_a_command_with_its_events_leaves_both_or_none() {
    let dir = TempDir::new().unwrap();
    let store = open_store(dir.path()).await;
    let session = create_test_session(&store).await;
    let mut writer = SessionWriter::acquire(&store, session, "a").await;
    let before = fs::metadata(session_path(dir.path(), session)).unwrap().len();
    let long = "hi ".repeat(500);
    let command = test_command("c1", message_body(&long));
    let receipt = writer.commit_new_command(&command, run_drafts("hi")).await.unwrap().unwrap();
    drop(store);
    let bytes = fs::read(session_path(dir.path(), session)).unwrap();
    let mut outcomes = Vec::new();
    for length in usize::try_from(before).unwrap()..=bytes.len() {
        let copy = TempDir::new().unwrap();
        let path = session_path(copy.path(), session);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &bytes[..length]).unwrap();
        let store = open_store(copy.path()).await;
        let queued = store.list_inbox(session).await.unwrap().len();
        let events = contract::read_log(&store, session, 0, 100).await.len();
        let known = store.find_receipt(session, &command.by, &command.command_id).await.unwrap();
        assert_eq!(known, (queued + events > 1).then(|| receipt.clone()), "{length} bytes");
        outcomes.push((queued, events));
    }
    outcomes.dedup();
    assert_eq!(outcomes, [(0, 1), (0, 4)], "nothing, then the run");

    // Power failed before an earlier sector of the line was written.
    let start = usize::try_from(before).unwrap();
    let sector = start.next_multiple_of(512);
    assert!(sector + 512 < bytes.len(), "the line fills a sector");
    let mut torn = bytes.clone();
    torn[sector..sector + 512].fill(0);
    let copy = TempDir::new().unwrap();
    let path = session_path(copy.path(), session);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, &torn).unwrap();
    let store = open_store(copy.path()).await;
    assert_eq!(contract::read_log(&store, session, 0, 100).await.len(), 1);
    assert_eq!(store.find_receipt(session, &command.by, &command.command_id).await.unwrap(), None);
}

/// Cuts a session's file at every byte of its last line, which `last` writes, and checks that the session is as it was
/// before that line.
async fn assert_torn_line_is_cut_off(last: impl AsyncFn(&FilesystemStore, SessionId)) {
    let dir = TempDir::new().unwrap();
    let store = open_store(dir.path()).await;
    let session = create_test_session(&store).await;
    SessionWriter::acquire(&store, session, "a")
        .await
        .commit(run_drafts("before"), &[], CheckpointWrite::Write)
        .await
        .unwrap();
    store.submit_command(session, test_command("c1", message_body("waits"))).await.unwrap();
    let before = read_session(&store, session).await;
    let whole = fs::metadata(session_path(dir.path(), session)).unwrap().len();
    last(&store, session).await;
    let after = read_session(&store, session).await;
    drop(store);
    let bytes = fs::read(session_path(dir.path(), session)).unwrap();
    assert!(bytes.len() as u64 > whole + 50);
    for length in usize::try_from(whole).unwrap()..=bytes.len() {
        fs::write(session_path(dir.path(), session), &bytes[..length]).unwrap();
        let store = open_store(dir.path()).await;
        let expected = if length == bytes.len() { &after } else { &before };
        assert_eq!(&read_session(&store, session).await, expected, "cut at byte {length}");
        let mut writer = SessionWriter::acquire(&store, session, "b").await;
        writer.append(vec![warning_draft("next")]).await.unwrap();
        drop(store);
        let store = open_store(dir.path()).await;
        assert_eq!(read_session(&store, session).await.0.len(), expected.0.len() + 1, "cut at byte {length}");
    }
}

#[tokio::test]
async fn torn_commit_is_cut_off() {
    assert_torn_line_is_cut_off(async |store, session| {
        let position = store.list_inbox(session).await.unwrap()[0].position;
        let state = load_state(store, session).await.unwrap().state;
        let lease = store.acquire_lease(session, "a", Duration::from_secs(60)).await.unwrap();
        let (events, after) = contract::fold_drafts(&state, run_drafts("three events"));
        let commit = LogCommit {
            session,
            epoch: lease.epoch,
            expected_seq: state.last_seq(),
            expected_lineage: None,
            events: &events,
            consumed: &[position],
            summary: &after.summary,
            checkpoint: None,
        };
        store.commit_events(commit).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn torn_command_is_cut_off() {
    assert_torn_line_is_cut_off(async |store, session| {
        store.submit_command(session, test_command("c2", message_body("also waits"))).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn damaged_index_is_rebuilt() {
    let dir = TempDir::new().unwrap();
    let store = open_store(dir.path()).await;
    let session = create_test_session(&store).await;
    let other = create_test_session(&store).await;
    drop(store);
    let path = dir.path().join("sessions.jsonl");
    let old = fs::read(&path).unwrap();
    let store = open_store(dir.path()).await;
    let writer = &mut SessionWriter::acquire(&store, session, "a").await;
    writer.append(run_drafts("hi")).await.unwrap();
    store.release_lease(writer.lease).await.unwrap();
    let expected = store.list_sessions(&test_user("anna"), None, 10).await.unwrap();
    assert_eq!(expected[0].session_id, session);
    drop(store);
    let whole = fs::read(&path).unwrap();
    let cuts = (0..=whole.len()).step_by(13).map(|length| whole[..length].to_vec());
    for bytes in cuts.chain([old, b"garbage\n".to_vec()]) {
        fs::write(&path, bytes).unwrap();
        assert_eq!(open_store(dir.path()).await.list_sessions(&test_user("anna"), None, 10).await.unwrap(), expected);
    }
    fs::remove_file(&path).unwrap();
    fs::remove_file(session_path(dir.path(), other)).unwrap();
    assert_eq!(open_store(dir.path()).await.list_sessions(&test_user("anna"), None, 10).await.unwrap(), expected[..1]);
}

#[tokio::test]
async fn second_process_is_rejected() {
    let dir = TempDir::new().unwrap();
    let store = open_store(dir.path()).await;
    let error = FilesystemStore::open(dir.path(), LogRetention::Full).await.unwrap_err();
    assert!(matches!(&error, StoreError::InUse(why) if why.contains("MEMORY_FILESYSTEM_PATH")), "{error}");
    drop(store);
    open_store(dir.path()).await;
}

#[tokio::test]
async fn interrupted_rewrite_is_removed() {
    let dir = TempDir::new().unwrap();
    let store = open_store(dir.path()).await;
    let session = create_test_session(&store).await;
    let before = read_session(&store, session).await;
    drop(store);
    let left = session_path(dir.path(), session).with_extension("jsonl.new");
    fs::write(&left, b"{\"seq\":").unwrap();
    let store = open_store(dir.path()).await;
    assert!(!left.exists());
    assert_eq!(read_session(&store, session).await, before);
}

#[tokio::test]
async fn outputs_survive_a_restart_and_stray_ones_are_deleted() {
    let dir = TempDir::new().unwrap();
    let store = open_store(dir.path()).await;
    let session = create_test_session(&store).await;
    let call = ToolCallId::generate();
    store.save_output(session, &call, "whole".into(), 100).await.unwrap();
    let key = store.deployment_key().await.unwrap();
    drop(store);
    let stray = dir.path().join("outputs").join(SessionId::new().to_string());
    fs::create_dir(&stray).unwrap();
    let store = open_store(dir.path()).await;
    assert!(!stray.exists());
    assert_eq!(store.read_output(session, &call, 0, 100).await.unwrap().unwrap().bytes, b"whole");
    assert_eq!(store.deployment_key().await.unwrap(), key);
    store.delete_session(session).await.unwrap();
    assert_eq!(fs::read_dir(dir.path().join("outputs")).unwrap().count(), 0);
}
