//! Files that are damaged, and files that do not belong to the store.

use std::{fs, time::Duration};

use tempfile::TempDir;

use super::{open_store, read_session, session_path};
use crate::{
    contract::{SessionWriter, create_test_session, message_body, run_drafts, test_command, test_user},
    filesystem::session_file::SessionFile,
};
use k8sops_core::*;

#[tokio::test]
async fn garbage_is_cut_off_at_the_end_and_reported_in_the_middle() {
    let dir = TempDir::new().unwrap();
    let store = open_store(dir.path()).await;
    let session = create_test_session(&store).await;
    let other = create_test_session(&store).await;
    SessionWriter::acquire(&store, session, "a").await.append(run_drafts("hi")).await.unwrap();
    let before = read_session(&store, session).await;
    drop(store);
    let path = session_path(dir.path(), session);
    let good = fs::read(&path).unwrap();
    for garbage in [&b"\0\0\0\0\0\0\n"[..], b"{\"seq\":9}garbage\n", b"{\"seq\":", b"\0\0\0"] {
        fs::write(&path, [&good[..], garbage].concat()).unwrap();
        let store = open_store(dir.path()).await;
        assert_eq!(read_session(&store, session).await, before);
    }
    let first = good.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    fs::write(&path, [&good[..first], b"garbage\n", &good[first..]].concat()).unwrap();
    let error = SessionFile::open(path, session).unwrap_err().to_string();
    assert!(error.contains(&format!("at byte {first}")), "{error}");
    // The other session is served.
    let store = open_store(dir.path()).await;
    assert_eq!(read_session(&store, other).await.0.len(), 1);
    assert_eq!(store.count_sessions(&test_user("anna")).await.unwrap(), 2, "a damaged session exists");
}

#[tokio::test]
async fn damaged_session_is_listed_until_repaired_or_deleted() {
    let dir = TempDir::new().unwrap();
    let store = open_store(dir.path()).await;
    let session = create_test_session(&store).await;
    let other = create_test_session(&store).await;
    let mut writer = SessionWriter::acquire(&store, session, "a").await;
    let mut events = run_drafts("hi");
    events.truncate(2);
    writer.append(events).await.unwrap();
    store.submit_command(session, test_command("c1", message_body("waits"))).await.unwrap();
    let before = read_session(&store, session).await;
    drop(store);
    let path = session_path(dir.path(), session);
    let good = fs::read(&path).unwrap();
    let first = good.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let index = dir.path().join("sessions.jsonl");
    let index_lines = fs::read(&index).unwrap();
    for bad in [[&good[..first], b"garbage\n", &good[first..]].concat(), Vec::new(), b"garbage".to_vec()] {
        for restarts in 0..3 {
            fs::write(&path, &bad).unwrap();
            if restarts == 0 {
                fs::write(&index, &index_lines).unwrap();
            }
            let store = open_store(dir.path()).await;
            let assert_damaged = |result: Result<(), StoreError>| {
                let names_the_file = matches!(&result, Err(StoreError::Corrupt(why)) if why.to_string().contains(path.to_str().unwrap()));
                assert!(names_the_file, "{result:?}");
            };
            assert_damaged(store.read_summary(session).await.map(drop));
            assert_damaged(store.read_events(session, 0, 1).await.map(drop));
            assert_damaged(store.submit_command(session, test_command("c2", message_body("hi"))).await.map(drop));
            assert_damaged(store.acquire_lease(session, "b", Duration::from_secs(1)).await.map(drop));
            assert!(store.claim_unfinished_sessions().await.unwrap().is_empty(), "it cannot be worked on");
            let listed = store.list_sessions(&test_user("anna"), None, 10).await.unwrap();
            assert_eq!(listed.len(), 2);
            let listed = listed.iter().find(|summary| summary.session_id == session).unwrap();
            assert!(listed.preview.contains("damaged") && !listed.is_processing(), "{listed:?}");
            let listed = store.list_damaged_sessions().await.unwrap();
            assert_eq!(listed.iter().map(|damaged| damaged.session_id).collect::<Vec<_>>(), [session]);
            assert_eq!(fs::read(&path).unwrap(), bad, "the file is left as it is");
            assert_eq!(read_session(&store, other).await.0.len(), 1);
            // A file that is repaired while the store is open is read again.
            fs::write(&path, &good).unwrap();
            assert_eq!(read_session(&store, session).await, before);
            assert!(store.list_damaged_sessions().await.unwrap().is_empty());
            assert_eq!(store.claim_unfinished_sessions().await.unwrap(), [session]);
        }
    }
    fs::write(&path, "").unwrap();
    let store = open_store(dir.path()).await;
    store.delete_session(session).await.unwrap();
    assert!(!path.exists() && store.read_summary(session).await.unwrap().is_none());
    assert_eq!(store.count_sessions(&test_user("anna")).await.unwrap(), 1);
    assert!(matches!(store.read_events(session, 0, 1).await, Err(StoreError::NotFound(_))));
    // Damaged while the store is open, and without a line in the index.
    fs::write(session_path(dir.path(), other), "garbage\n").unwrap();
    assert!(matches!(store.read_events(other, 0, 1).await, Err(StoreError::Corrupt(_))));
    assert!(matches!(store.read_summary(other).await, Err(StoreError::Corrupt(_))));
    drop(store);
    fs::remove_file(&index).unwrap();
    let store = open_store(dir.path()).await;
    assert!(matches!(store.read_summary(other).await, Err(StoreError::Corrupt(_))));
    assert_eq!(store.list_sessions(&test_user("anna"), None, 10).await.unwrap().len(), 1);
    assert!(store.list_sessions(&test_user("bert"), None, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn interrupted_creation_leaves_no_session() {
    let dir = TempDir::new().unwrap();
    let store = open_store(dir.path()).await;
    create_test_session(&store).await;
    drop(store);
    let torn = SessionId::new();
    fs::write(session_path(dir.path(), torn), "").unwrap();
    let store = open_store(dir.path()).await;
    assert_eq!(store.count_sessions(&test_user("anna")).await.unwrap(), 1);
    assert_eq!(store.read_summary(torn).await.unwrap(), None);
    assert!(store.list_damaged_sessions().await.unwrap().is_empty());
}

#[tokio::test]
async fn foreign_files_are_ignored() {
    let dir = TempDir::new().unwrap();
    let store = open_store(dir.path()).await;
    let session = create_test_session(&store).await;
    drop(store);
    let folder = dir.path().join("sessions");
    fs::write(folder.join("notes.txt"), "mine").unwrap();
    fs::write(folder.join("anna/backup.jsonl"), "mine").unwrap();
    fs::create_dir(folder.join("no user")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", folder.join(format!("anna/{}.jsonl", SessionId::new()))).unwrap();
    // A session in the folder of another user does not belong to that user.
    fs::create_dir(folder.join("bert")).unwrap();
    fs::copy(session_path(dir.path(), session), folder.join(format!("bert/{}.jsonl", SessionId::new()))).unwrap();
    let store = open_store(dir.path()).await;
    assert_eq!(store.count_sessions(&test_user("anna")).await.unwrap(), 1);
    assert_eq!(store.count_sessions(&test_user("bert")).await.unwrap(), 0);
    assert_eq!(fs::read_to_string(folder.join("anna/backup.jsonl")).unwrap(), "mine");
}
