//! Disks, folders and other programs that fail the store while it runs.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tempfile::TempDir;

use super::{open_store, read_session, session_path};
use crate::{
    FilesystemStore, LogRetention,
    contract::{
        SessionWriter, create_test_session, message_body, run_drafts, session_created_at, test_command, test_user,
        warning_draft,
    },
    filesystem::session_files::SessionFiles,
};
use k8sops_core::*;

/// Whether an error says that the store cannot be used now.
fn is_unavailable<T: std::fmt::Debug>(result: Result<T, StoreError>) -> bool {
    match result {
        Err(StoreError::Unavailable(_)) => true,
        other => panic!("{other:?}"),
    }
}

async fn assert_all_unavailable(store: &FilesystemStore, session: SessionId) {
    let anna = test_user("anna");
    let command = test_command("c9", message_body("hi"));
    assert!(is_unavailable(store.ping().await));
    assert!(is_unavailable(store.read_summary(session).await));
    assert!(is_unavailable(store.read_events(session, 0, 10).await));
    assert!(is_unavailable(store.submit_command(session, command).await));
    assert!(is_unavailable(store.create_session(&session_created_at(SessionId::new(), &anna, 1)).await));
    assert!(is_unavailable(store.delete_session(session).await));
    assert!(is_unavailable(store.list_sessions(&anna, None, 10).await));
    assert!(is_unavailable(store.save_output(session, &ToolCallId::generate(), "x".into(), 10).await));
    assert!(is_unavailable(store.read_memories(&anna).await));
    assert!(is_unavailable(store.read_usage(&anna, &[UsageDay::today()]).await));
}

#[tokio::test]
async fn folder_that_is_away_is_unavailable_until_it_is_back() {
    let dir = TempDir::new().unwrap();
    let (root, away) = (dir.path().join("store"), dir.path().join("away"));
    let store = open_store(&root).await;
    let session = create_test_session(&store).await;
    let mut writer = SessionWriter::acquire(&store, session, "a").await;
    writer.append(run_drafts("hi")).await.unwrap();
    let before = read_session(&store, session).await;
    fs::rename(&root, &away).unwrap();
    assert_all_unavailable(&store, session).await;
    assert!(!root.exists(), "it is not created again");
    // Another folder in its place is not the store.
    fs::create_dir(&root).unwrap();
    assert_all_unavailable(&store, session).await;
    assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
    fs::remove_dir(&root).unwrap();
    // The folder is still in use where it is now.
    let second = FilesystemStore::open(&away, LogRetention::Full).await;
    assert!(matches!(second, Err(StoreError::InUse(_))));
    fs::rename(&away, &root).unwrap();
    assert_eq!(read_session(&store, session).await, before);
    writer.append(vec![warning_draft("the lease is still held")]).await.unwrap();
    store.ping().await.unwrap();
}

#[tokio::test]
async fn removed_lock_file_leaves_one_owner() {
    let dir = TempDir::new().unwrap();
    let store = open_store(dir.path()).await;
    let session = create_test_session(&store).await;
    let lock = dir.path().join("lock");
    fs::remove_file(&lock).unwrap();
    // The first to look takes the lock again.
    read_session(&store, session).await;
    assert!(lock.exists());
    let second = FilesystemStore::open(dir.path(), LogRetention::Full).await;
    assert!(matches!(second, Err(StoreError::InUse(_))));
    // If another process comes first, this one stops.
    fs::remove_file(&lock).unwrap();
    let second = open_store(dir.path()).await;
    assert_all_unavailable(&store, session).await;
    read_session(&second, session).await;
    drop(second);
    assert_all_unavailable(&store, session).await;
    let error = store.ping().await.unwrap_err().to_string();
    assert!(error.contains("lock file was replaced") && error.contains("restart"), "{error}");
}

#[tokio::test]
async fn removed_files_are_reported_and_not_taken_for_deleted_sessions() {
    let dir = TempDir::new().unwrap();
    let store = open_store(dir.path()).await;
    let session = create_test_session(&store).await;
    let before = read_session(&store, session).await;
    let path = session_path(dir.path(), session);
    let (folder, away) = (path.parent().unwrap(), dir.path().join("away"));
    fs::rename(folder, &away).unwrap();
    assert!(is_unavailable(store.read_events(session, 0, 10).await));
    assert!(is_unavailable(store.delete_session(session).await));
    fs::rename(&away, folder).unwrap();
    assert_eq!(read_session(&store, session).await, before);
    fs::rename(&path, &away).unwrap();
    let error = store.read_events(session, 0, 10).await.unwrap_err();
    assert!(matches!(&error, StoreError::Corrupt(why) if why.to_string().contains("is missing")), "{error}");
    assert_eq!(store.list_damaged_sessions().await.unwrap().len(), 1);
    fs::rename(&away, &path).unwrap();
    assert_eq!(read_session(&store, session).await, before);
    fs::remove_file(&path).unwrap();
    store.delete_session(session).await.unwrap();
    assert!(store.list_sessions(&test_user("anna"), None, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn file_that_another_program_changed_is_read_again_and_its_owner_is_fenced() {
    type Change = fn(&Path);
    let changes: [(&str, Change); 3] = [
        ("replaced", |path| {
            let copy = path.with_extension("copy");
            fs::copy(path, &copy).unwrap();
            fs::rename(copy, path).unwrap();
        }),
        ("longer", |path| {
            let bytes = fs::read(path).unwrap();
            fs::write(path, [&bytes[..], b"{\"seq\":"].concat()).unwrap();
        }),
        ("shorter", |path| {
            let bytes = fs::read(path).unwrap();
            fs::write(path, &bytes[..bytes.len() - 5]).unwrap();
        }),
    ];
    for (name, change) in changes {
        let dir = TempDir::new().unwrap();
        let store = open_store(dir.path()).await;
        let session = create_test_session(&store).await;
        let mut writer = SessionWriter::acquire(&store, session, "a").await;
        writer.append(run_drafts("hi")).await.unwrap();
        change(&session_path(dir.path(), session));
        let refused = writer.append(vec![warning_draft("lost")]).await;
        assert!(matches!(refused, Err(StoreError::Fenced { .. })), "{name}: {refused:?}");
        let mut writer = SessionWriter::acquire(&store, session, "b").await;
        writer.append(vec![warning_draft("kept")]).await.unwrap();
        let after = read_session(&store, session).await;
        drop(store);
        assert_eq!(read_session(&open_store(dir.path()).await, session).await, after, "{name}");
    }
}

#[tokio::test]
async fn deleted_session_leaves_nothing_of_its_title_on_the_disk() {
    let dir = TempDir::new().unwrap();
    let store = open_store(dir.path()).await;
    let session = create_test_session(&store).await;
    let other = create_test_session(&store).await;
    for (session, text) in [(session, "the secret plan"), (other, "another talk")] {
        let mut writer = SessionWriter::acquire(&store, session, "a").await;
        for _ in 0..3 {
            writer.append(run_drafts(text)).await.unwrap();
            store.release_lease(writer.lease).await.unwrap();
            writer = SessionWriter::acquire(&store, session, "a").await;
        }
        store.release_lease(writer.lease).await.unwrap();
        store.save_output(session, &ToolCallId::generate(), text.into(), 100).await.unwrap();
    }
    assert!(contains_text(dir.path(), "the secret plan"));
    store.delete_session(session).await.unwrap();
    assert!(!contains_text(dir.path(), "the secret plan"));
    assert!(!contains_text(dir.path(), &session.to_string()));
    assert!(contains_text(dir.path(), "another talk"));
}

fn contains_text(folder: &Path, text: &str) -> bool {
    all_paths(folder).iter().any(|path| {
        let content = fs::read(path).unwrap_or_default();
        path.to_string_lossy().contains(text) || String::from_utf8_lossy(&content).contains(text)
    })
}

fn all_paths(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(all_paths(&path));
        }
        found.push(path);
    }
    found
}

#[tokio::test]
async fn interrupted_deletion_is_finished_at_the_start() {
    let dir = TempDir::new().unwrap();
    let store = open_store(dir.path()).await;
    let session = create_test_session(&store).await;
    store.save_output(session, &ToolCallId::generate(), "whole".into(), 100).await.unwrap();
    drop(store);
    fs::remove_file(session_path(dir.path(), session)).unwrap();
    let trash = dir.path().join("trash/left");
    fs::create_dir_all(&trash).unwrap();
    fs::write(trash.join("memory.json"), "{}").unwrap();
    let store = open_store(dir.path()).await;
    assert!(!trash.exists());
    assert!(!contains_text(dir.path(), &session.to_string()));
    assert_eq!(store.read_summary(session).await.unwrap(), None);
}

#[tokio::test]
async fn things_in_the_place_of_folders_do_not_stop_the_start() {
    let dir = TempDir::new().unwrap();
    let store = open_store(dir.path()).await;
    let (session, other) = (create_test_session(&store).await, create_test_session(&store).await);
    drop(store);
    fs::create_dir_all(dir.path().join("usage")).unwrap();
    fs::write(dir.path().join("usage/anna"), "a file").unwrap();
    fs::create_dir_all(dir.path().join("outputs")).unwrap();
    fs::write(dir.path().join("outputs").join(session.to_string()), "a file").unwrap();
    fs::write(dir.path().join("outputs").join(SessionId::new().to_string()), "a file").unwrap();
    fs::write(dir.path().join("sessions/bert"), "a file").unwrap();
    let path = session_path(dir.path(), other);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    fs::remove_file(dir.path().join("sessions.jsonl")).unwrap();
    fs::create_dir(dir.path().join("sessions.jsonl")).unwrap();
    let store = open_store(dir.path()).await;
    assert_eq!(store.read_output(session, &ToolCallId::generate(), 0, 1).await.unwrap(), None);
    assert_eq!(store.list_sessions(&test_user("anna"), None, 10).await.unwrap().len(), 1);
    let third = create_test_session(&store).await;
    SessionWriter::acquire(&store, third, "a").await.append(run_drafts("hi")).await.unwrap();
    assert_eq!(store.list_sessions(&test_user("anna"), None, 10).await.unwrap().len(), 2);
    store.delete_session(session).await.unwrap();
    assert_eq!(store.read_summary(session).await.unwrap(), None);
}

#[tokio::test]
async fn files_and_folders_are_private() {
    let dir = TempDir::new().unwrap();
    let root = dir.path().join("store");
    let anna = test_user("anna");
    let write_all = async |store: &FilesystemStore| {
        let session = create_test_session(store).await;
        store.save_output(session, &ToolCallId::generate(), "whole".into(), 100).await.unwrap();
        store.deployment_key().await.unwrap();
        let used = DailyUsage { day: UsageDay::today(), models: Vec::new() };
        store.record_usage(&anna, session, &used).await.unwrap();
    };
    let store = open_store(&root).await;
    write_all(&store).await;
    drop(store);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let assert_private = |root: &Path| {
        for path in all_paths(root) {
            assert_eq!(mode(&path), if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
        }
    };
    assert_private(&root);
    for path in all_paths(&root) {
        fs::set_permissions(&path, fs::Permissions::from_mode(if path.is_dir() { 0o755 } else { 0o664 })).unwrap();
    }
    let outside = dir.path().join("outside");
    fs::write(&outside, "").unwrap();
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o644)).unwrap();
    symlink(&outside, root.join("outputs/link")).unwrap();
    let store = open_store(&root).await;
    write_all(&store).await;
    fs::remove_file(root.join("outputs/link")).unwrap();
    assert_private(&root);
    assert_eq!(mode(&outside), 0o644, "a link is not followed");
}

#[tokio::test]
async fn damaged_usage_names_its_file_and_is_kept() {
    let dir = TempDir::new().unwrap();
    let store = open_store(dir.path()).await;
    let (anna, today, session) = (test_user("anna"), UsageDay::today(), SessionId::new());
    let used = DailyUsage { day: today, models: Vec::new() };
    store.record_usage(&anna, session, &used).await.unwrap();
    let path = dir.path().join(format!("usage/anna/{today}.json"));
    for bad in ["", "{", "[]", "{\"format\":2,\"sessions\":[]}"] {
        fs::write(&path, bad).unwrap();
        let error = store.read_usage(&anna, &[today]).await.unwrap_err();
        let names_file =
            matches!(&error, StoreError::FileDamaged(why) if why.to_string().contains(path.to_str().unwrap()));
        assert!(names_file, "{error}");
        store.record_usage(&anna, session, &used).await.unwrap();
        assert_eq!(store.read_usage(&anna, &[today]).await.unwrap()[0].sessions.len(), 1);
        assert_eq!(fs::read_to_string(path.with_extension("damaged.json")).unwrap(), bad);
    }
    fs::write(dir.path().join("key"), "short").unwrap();
    assert!(matches!(store.deployment_key().await, Err(StoreError::FileDamaged(_))));
}

/// Whatever is done with a session that is not open reads each part of its file about once, with and without a checkpoint.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn log_without_an_owner_is_read_once() {
    type Reading = fn(&SessionFiles, SessionId);
    let read_pages: Reading = |files, session| {
        let mut after = 0;
        // On this thread, whose reads are counted.
        while let Some(last) = files.read_events(session, after, REPLAY_PAGE_SIZE).unwrap().events.last() {
            after = last.seq;
        }
        assert_eq!(after, 4001);
    };
    let load: Reading = |files, session| {
        let start = files.with_session(session, |file| file.read_replay_start()).unwrap();
        assert_eq!(start.state.unwrap().last_seq(), 4001);
        assert!(files.read_events(session, 4001, REPLAY_PAGE_SIZE).unwrap().events.is_empty());
    };
    let take_up: Reading = |files, session| {
        files.acquire_lease(session, "b", std::time::Duration::from_secs(9)).unwrap();
        let start = files.with_session(session, |file| file.read_replay_start()).unwrap();
        assert_eq!(start.state.unwrap().last_seq(), 4001);
    };
    let stream: Reading = |files, session| {
        files.read_events(session, 0, 1).unwrap();
        let mut after = 0;
        while let Some(last) = files.read_events(session, after, REPLAY_PAGE_SIZE).unwrap().events.last() {
            after = last.seq;
        }
    };
    let dir = TempDir::new().unwrap();
    let store = open_store(dir.path()).await;
    let session = create_test_session(&store).await;
    let mut writer = SessionWriter::acquire(&store, session, "a").await;
    for _ in 0..200 {
        writer.append((0..20).map(|n| warning_draft(&format!("{n} {}", "x".repeat(200)))).collect()).await.unwrap();
    }
    store.release_lease(writer.lease).await.unwrap();
    drop(store);
    let size = fs::metadata(session_path(dir.path(), session)).unwrap().len();
    for (name, reading) in [("pages", read_pages), ("load", load), ("take up", take_up), ("stream", stream)] {
        let store = open_store(dir.path()).await;
        let before = bytes_read();
        reading(&store.files().sessions, session);
        let read = bytes_read() - before;
        println!("{name}: {read} of {size}");
        assert!(read * 10 <= size * 12, "{name}: {read} bytes read of {size}");
    }
}

#[cfg(target_os = "linux")]
fn bytes_read() -> u64 {
    let io = fs::read_to_string("/proc/thread-self/io").unwrap();
    io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

/// Changes the times of a file, as each write of another program does that is not within the same few milliseconds.
fn touch(path: &Path) {
    let later = SystemTime::now() + Duration::from_secs(1);
    fs::OpenOptions::new().write(true).open(path).unwrap().set_modified(later).unwrap();
}

#[tokio::test]
async fn byte_that_another_program_changed_is_found_before_the_next_write() {
    let dir = TempDir::new().unwrap();
    let store = open_store(dir.path()).await;
    let session = create_test_session(&store).await;
    let mut writer = SessionWriter::acquire(&store, session, "a").await;
    writer.append(run_drafts("hi")).await.unwrap();
    let before = read_session(&store, session).await;
    let path = session_path(dir.path(), session);
    let good = fs::read(&path).unwrap();
    let mut bytes = good.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();
    touch(&path);
    let ttl = Duration::from_secs(1);
    for _ in 0..2 {
        assert!(matches!(store.renew_lease(writer.lease, ttl).await, Err(StoreError::Corrupt(_))));
        let submitted = store.submit_command(session, test_command("c", message_body("hi"))).await;
        assert!(matches!(submitted, Err(StoreError::Corrupt(_))), "{submitted:?}");
        let appended = writer.append(run_drafts("more")).await;
        assert!(matches!(appended, Err(StoreError::Corrupt(_))), "{appended:?}");
        assert!(matches!(store.read_summary(session).await, Err(StoreError::Corrupt(_))));
        assert_eq!(fs::read(&path).unwrap(), bytes, "nothing is written");
    }
    let listed = store.list_sessions(&test_user("anna"), None, 10).await.unwrap();
    assert!(!listed[0].is_processing(), "{listed:?}");
    fs::write(&path, &good).unwrap();
    assert_eq!(read_session(&store, session).await, before);
    assert!(matches!(store.renew_lease(writer.lease, ttl).await, Err(StoreError::Fenced { .. })));
}

#[tokio::test]
async fn owner_keeps_a_file_of_which_only_times_and_rights_were_changed() {
    let dir = TempDir::new().unwrap();
    let store = open_store(dir.path()).await;
    let session = create_test_session(&store).await;
    let mut writer = SessionWriter::acquire(&store, session, "a").await;
    let path = session_path(dir.path(), session);
    for n in 0..3 {
        writer.append(vec![warning_draft(&n.to_string())]).await.unwrap();
        store.submit_command(session, test_command(&n.to_string(), message_body("hi"))).await.unwrap();
        touch(&path);
        // As a backup does that links each file.
        let link = dir.path().join(n.to_string());
        fs::hard_link(&path, link).unwrap();
        store.renew_lease(writer.lease, Duration::from_secs(1)).await.unwrap();
        assert_eq!(read_session(&store, session).await.2.len(), n + 1);
    }
    writer.append(vec![warning_draft("last")]).await.unwrap();
}

#[tokio::test]
async fn folder_in_place_of_a_file_is_damage_and_can_be_deleted() {
    let dir = TempDir::new().unwrap();
    let store = open_store(dir.path()).await;
    let (session, other) = (create_test_session(&store).await, create_test_session(&store).await);
    let path = session_path(dir.path(), session);
    // A process that was killed leaves lines in the journal.
    SessionWriter::acquire(&store, session, "a").await.append(run_drafts("hi")).await.unwrap();
    store.files().sessions.journal.abandon();
    drop(store);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    fs::write(path.join("note"), "x").unwrap();
    let store = open_store(dir.path()).await;
    let is_damaged =
        |error: &StoreError| matches!(error, StoreError::Corrupt(why) if why.to_string().contains("is not a file"));
    let error = store.read_events(session, 0, 10).await.unwrap_err();
    assert!(is_damaged(&error), "{error}");
    drop(store);
    let store = open_store(dir.path()).await;
    let error = store.read_summary(session).await.unwrap_err();
    assert!(is_damaged(&error), "{error}");
    assert_eq!(store.list_sessions(&test_user("anna"), None, 10).await.unwrap().len(), 2);
    store.delete_session(session).await.unwrap();
    assert!(!path.exists());
    assert_eq!(read_session(&store, other).await.0.len(), 1);
    // So is a link.
    let (linked, target) = (session_path(dir.path(), other), dir.path().join("target"));
    fs::rename(&linked, &target).unwrap();
    symlink(&target, &linked).unwrap();
    let error = store.read_events(other, 0, 10).await.unwrap_err();
    assert!(is_damaged(&error), "{error}");
    store.delete_session(other).await.unwrap();
    assert!(target.exists() && fs::symlink_metadata(&linked).is_err());
    // What was not the file of a session before does not become one.
    fs::create_dir(session_path(dir.path(), SessionId::new())).unwrap();
    drop(store);
    let store = open_store(dir.path()).await;
    assert_eq!(store.count_sessions(&test_user("anna")).await.unwrap(), 0);
}

#[tokio::test]
async fn file_in_place_of_a_folder_makes_the_store_unavailable() {
    let dir = TempDir::new().unwrap();
    let store = open_store(dir.path()).await;
    let session = create_test_session(&store).await;
    let before = read_session(&store, session).await;
    for folder in [dir.path().join("sessions"), session_path(dir.path(), session).parent().unwrap().to_owned()] {
        let away = dir.path().join("away");
        fs::rename(&folder, &away).unwrap();
        fs::write(&folder, "x").unwrap();
        assert!(is_unavailable(store.read_events(session, 0, 10).await));
        assert!(is_unavailable(store.delete_session(session).await));
        if folder.ends_with("sessions") {
            let error = store.ping().await.unwrap_err().to_string();
            assert!(error.contains("sessions: not a directory"), "{error}");
        }
        fs::remove_file(&folder).unwrap();
        fs::rename(&away, &folder).unwrap();
        store.ping().await.unwrap();
        assert_eq!(read_session(&store, session).await, before);
    }
}
