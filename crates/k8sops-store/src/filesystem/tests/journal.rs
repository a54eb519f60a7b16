//! The journal: batches of many sessions, failed syncs, power failures, deletions.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures_util::future::join_all;
use parking_lot::Mutex;
use tempfile::TempDir;

use super::{open_store, read_session, session_path};
use crate::{
    FilesystemStore,
    contract::{SessionWriter, create_test_session, message_body, run_drafts, test_command, test_user, warning_draft},
    filesystem::{
        commit_journal::BatchWriter,
        disk_io::DiskOperation,
        injected_faults::{FaultyDisk, PlannedFault},
        journal_batch::WrittenLines,
        journal_format::JournalEntry,
        layout::StoreLayout,
        line_format::seal_line,
        unsynced_files::UnsyncedFile,
    },
};
use k8sops_core::*;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// A store on a disk that fails, and which messages its sessions were told that it has.
struct JournalFixture {
    dir: TempDir,
    disk: FaultyDisk,
    store: Option<FilesystemStore>,
    acknowledged: Vec<(SessionId, String)>,
}

impl JournalFixture {
    async fn new() -> Self {
        let dir = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
        let disk = FaultyDisk::new(dir.path());
        let store = Some(open_store(dir.path()).await);
        Self { dir, disk, store, acknowledged: Vec::new() }
    }

    fn store(&self) -> &FilesystemStore {
        self.store.as_ref().unwrap()
    }

    fn journal_files(&self) -> [PathBuf; 2] {
        StoreLayout::new(self.dir.path().to_owned()).journal_files()
    }

    async fn create_sessions(&self, count: usize) -> Vec<SessionId> {
        let mut sessions = Vec::new();
        for _ in 0..count {
            sessions.push(create_test_session(self.store()).await);
        }
        sessions
    }

    /// Submits a command to each session at the same time; returns how many failed.
    async fn submit_to_all(&mut self, sessions: &[SessionId], id: &str) -> usize {
        let store = self.store().clone();
        let submitted = sessions.iter().map(|session| {
            let (store, session, id) = (store.clone(), *session, id.to_owned());
            tokio::spawn(async move {
                (session, store.submit_command(session, test_command(&id, message_body("hi"))).await)
            })
        });
        let mut failed = 0;
        for task in join_all(submitted).await {
            match task.unwrap() {
                (session, Ok(_)) => self.acknowledged.push((session, id.to_owned())),
                (_, Err(StoreError::Unavailable(_))) => failed += 1,
                (_, Err(other)) => panic!("{other}"),
            }
        }
        failed
    }

    /// Kills the process, takes the power from the machine, and starts again.
    async fn lose_power(&mut self) {
        self.store().files().sessions.journal.abandon();
        self.store = None;
        self.disk.lose_power();
        self.store = Some(open_store(self.dir.path()).await);
    }

    async fn assert_kept(&self, sessions: &[SessionId]) {
        for session in sessions {
            let inbox = self.store().list_inbox(*session).await.unwrap();
            let found: Vec<_> = inbox.iter().map(|entry| entry.command.command_id.to_string()).collect();
            let of_session = self.acknowledged.iter().filter(|(of, _)| of == session);
            let expected: Vec<_> = of_session.map(|(_, id)| id.clone()).collect();
            assert_eq!(found, expected, "{session}");
        }
        assert!(self.store().list_damaged_sessions().await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn thousand_sessions_share_their_waits_for_the_disk() {
    let mut fixture = JournalFixture::new().await;
    let sessions = fixture.create_sessions(1000).await;
    fixture.disk.plan(None);
    for id in ["c1", "c2"] {
        assert_eq!(fixture.submit_to_all(&sessions, id).await, 0);
    }
    let syncs = fixture.disk.operations().iter().filter(|operation| **operation == DiskOperation::Sync).count();
    println!("{syncs} syncs of 2000 commands");
    fixture.lose_power().await;
    fixture.assert_kept(&sessions).await;
}

#[tokio::test]
async fn new_command_and_its_events_take_one_wait_for_the_disk() {
    let mut fixture = JournalFixture::new().await;
    let session = fixture.create_sessions(1).await[0];
    for id in ["c1", "c2"] {
        let store = fixture.store().clone();
        let mut writer = SessionWriter::acquire(&store, session, "a").await;
        fixture.disk.plan(None);
        let command = test_command(id, message_body("hi"));
        let receipt = writer.commit_new_command(&command, run_drafts("hi")).await.unwrap();
        let syncs = fixture.disk.operations().iter().filter(|operation| **operation == DiskOperation::Sync).count();
        assert_eq!(syncs, 1, "{id}");
        drop(store);
        fixture.lose_power().await;
        let kept = fixture.store().find_receipt(session, &command.by, &command.command_id).await.unwrap();
        assert_eq!(kept, receipt);
        assert!(fixture.store().list_inbox(session).await.unwrap().is_empty());
    }
    assert_eq!(read_session(fixture.store(), session).await.0.len(), 7);
}

#[tokio::test]
async fn those_who_append_lines_do_not_wait_for_the_disk() {
    let fixture = JournalFixture::new().await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let mut lines = Vec::new();
    for (n, session) in fixture.create_sessions(3).await.into_iter().enumerate() {
        let path = session_path(fixture.dir.path(), session);
        let file = Arc::new(fs::File::open(&path).unwrap());
        let told = told.clone();
        lines.push(WrittenLines {
            entry: JournalEntry { user: test_user("anna"), session, offset: 0, bytes: 3, follows: String::new() },
            bytes: b"{}\n".to_vec(),
            unsynced: UnsyncedFile { path, file },
            finish: Box::new(move |written| told.lock().push((n, written.is_ok()))),
        });
    }
    fixture.disk.plan(None);
    let journal = &fixture.store().files().sessions.journal;
    let writers: Vec<_> = lines.into_iter().map(|lines| journal.appender().append_lines(lines)).collect();
    assert_eq!(*told.lock(), [], "nothing is durable yet");
    assert_eq!(writers.iter().flatten().count(), 1, "one of them has to write the batch");
    writers.into_iter().flatten().for_each(BatchWriter::write_batches);
    assert_eq!(*told.lock(), [(0, true), (1, true), (2, true)]);
    let syncs = fixture.disk.operations().iter().filter(|operation| **operation == DiskOperation::Sync).count();
    assert_eq!(syncs, 1);
    // The lines are in no session's file.
    journal.abandon();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn failed_sync_fails_its_batch_and_no_other() {
    for after in [0, 1, 5, 20, 60] {
        for (count, errno) in [(1, EIO), (2, EIO), (3, ENOSPC)] {
            let mut fixture = JournalFixture::new().await;
            let sessions = fixture.create_sessions(40).await;
            fixture.submit_to_all(&sessions, "before").await;
            fixture.disk.plan(Some(PlannedFault { after, count, errno }));
            let failed = fixture.submit_to_all(&sessions, "during").await;
            fixture.disk.plan(None);
            assert!(failed < 40 || after == 0, "{failed}");
            fixture.assert_kept(&sessions).await;
            assert_eq!(fixture.submit_to_all(&sessions, "after").await, 0);
            fixture.lose_power().await;
            fixture.assert_kept(&sessions).await;
        }
    }
}

#[tokio::test]
async fn full_disk_refuses_writes_until_it_has_room() {
    let mut fixture = JournalFixture::new().await;
    let sessions = fixture.create_sessions(3).await;
    fixture.submit_to_all(&sessions, "before").await;
    fixture.disk.plan(Some(PlannedFault { after: 0, count: usize::MAX, errno: ENOSPC }));
    for n in 0..3 {
        assert_eq!(fixture.submit_to_all(&sessions, &format!("during{n}")).await, 3);
        let refused = fixture.store().submit_command(sessions[0], test_command("r", message_body("hi"))).await;
        assert_eq!(refused.unwrap_err().outage(), Some(StoreOutage::Full));
    }
    fixture.disk.plan(None);
    fixture.assert_kept(&sessions).await;
    assert_eq!(fixture.submit_to_all(&sessions, "after").await, 0);
    fixture.lose_power().await;
    fixture.assert_kept(&sessions).await;
}

/// Each operation of emptying the journal fails once; what the sessions' files lost by that is written again.
#[tokio::test]
async fn failed_emptying_of_the_journal_loses_nothing() {
    for after in 0.. {
        let mut fixture = JournalFixture::new().await;
        let sessions = fixture.create_sessions(3).await;
        fixture.submit_to_all(&sessions, "c1").await;
        fixture.disk.plan(Some(PlannedFault { after, count: 1, errno: EIO }));
        fixture.store().files().sessions.journal.empty();
        let is_over = fixture.disk.operations().len() <= after;
        fixture.disk.plan(None);
        assert_eq!(fixture.submit_to_all(&sessions, "c2").await, 0);
        fixture.store().files().sessions.journal.empty();
        fixture.submit_to_all(&sessions, "c3").await;
        fixture.lose_power().await;
        fixture.assert_kept(&sessions).await;
        if is_over {
            assert!(after > 3, "{after} operations");
            return;
        }
    }
}

#[tokio::test]
async fn emptied_journal_has_no_lines_and_is_not_needed() {
    let mut fixture = JournalFixture::new().await;
    let sessions = fixture.create_sessions(3).await;
    fixture.submit_to_all(&sessions, "c1").await;
    fixture.store().files().sessions.journal.empty();
    assert_no_lines(&fixture.journal_files());
    fixture.submit_to_all(&sessions, "c2").await;
    // The end of the process empties it, too.
    fixture.store = None;
    assert_no_lines(&fixture.journal_files());
    for path in fixture.journal_files() {
        let _ = fs::remove_file(path);
    }
    fixture.disk.lose_power();
    fixture.store = Some(open_store(fixture.dir.path()).await);
    fixture.assert_kept(&sessions).await;
}

fn assert_no_lines(paths: &[PathBuf]) {
    for path in paths {
        let bytes = fs::read(path).unwrap_or_default();
        assert!(bytes.iter().all(|byte| *byte == 0), "{}", path.display());
    }
}

#[tokio::test]
async fn journal_that_another_program_removed_or_replaced_is_started_again() {
    for replaced in [None, Some("another file")] {
        let mut fixture = JournalFixture::new().await;
        let sessions = fixture.create_sessions(3).await;
        for round in 0..3 {
            fixture.submit_to_all(&sessions, &format!("before{round}")).await;
            for path in fixture.journal_files() {
                let _ = fs::remove_file(&path);
                if let Some(content) = replaced {
                    fs::write(&path, content).unwrap();
                }
            }
            assert_eq!(fixture.submit_to_all(&sessions[..2], &format!("after{round}")).await, 0);
        }
        fixture.lose_power().await;
        fixture.assert_kept(&sessions).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn session_deleted_during_its_commits_leaves_nothing() {
    for _ in 0..10 {
        let mut fixture = JournalFixture::new().await;
        let sessions = fixture.create_sessions(8).await;
        let (deleted, others) = (sessions[0], &sessions[1..]);
        let store = Arc::new(fixture.store().clone());
        let deleting = tokio::spawn({
            let store = store.clone();
            async move { store.delete_session(deleted).await }
        });
        let submitting = (0..8).map(|n| {
            let store = store.clone();
            tokio::spawn(async move {
                let command = test_command(&format!("c{n}"), message_body("the secret plan"));
                store.submit_command(deleted, command).await
            })
        });
        let submitted = join_all(submitting).await;
        deleting.await.unwrap().unwrap();
        for result in submitted {
            let result = result.unwrap();
            assert!(matches!(result, Ok(_) | Err(StoreError::NotFound(_))), "{result:?}");
        }
        drop(store);
        fixture.submit_to_all(others, "c").await;
        for path in fixture.journal_files() {
            let text = String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
            assert!(!text.contains("the secret plan") && !text.contains(&deleted.to_string()));
        }
        fixture.lose_power().await;
        assert_eq!(fixture.store().read_summary(deleted).await.unwrap(), None);
        fixture.assert_kept(others).await;
    }
}

#[tokio::test]
async fn journal_that_is_full_is_emptied_while_lines_are_written() {
    let mut fixture = JournalFixture::new().await;
    let session = create_test_session(fixture.store()).await;
    let store = fixture.store().clone();
    let mut writer = SessionWriter::acquire(&store, session, "a").await;
    for _ in 0..60 {
        // Below and above the size at which a session's file is synced itself.
        for kib in [200, 1, 300] {
            writer.append(vec![warning_draft(&"x".repeat(kib * 1024))]).await.unwrap();
        }
    }
    let expected = writer.state.clone();
    drop(writer);
    drop(store);
    let size: u64 = fixture.journal_files().iter().filter_map(|path| Some(fs::metadata(path).ok()?.len())).sum();
    println!("{size} bytes of journal");
    fixture.lose_power().await;
    assert_eq!(load_state(fixture.store(), session).await.unwrap().state, expected);
}

async fn killed_store_with_lines(dir: &Path) -> (SessionId, Vec<u8>) {
    let store = open_store(dir).await;
    let session = create_test_session(&store).await;
    let mut writer = SessionWriter::acquire(&store, session, "a").await;
    writer.append(run_drafts("first")).await.unwrap();
    writer.append(run_drafts("second")).await.unwrap();
    store.files().sessions.journal.abandon();
    drop(store);
    (session, fs::read(session_path(dir, session)).unwrap())
}

#[tokio::test]
async fn file_that_an_operator_changed_meanwhile_is_left_as_it_is() {
    let dir = TempDir::new().unwrap();
    let (session, whole) = killed_store_with_lines(dir.path()).await;
    let path = session_path(dir.path(), session);
    let [journal_file, _] = StoreLayout::new(dir.path().to_owned()).journal_files();
    let lines: Vec<_> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    // The last line is lost, the last two are, or the end of the last one.
    for kept in [lines[0].len() + lines[1].len(), lines[0].len(), whole.len() - 30] {
        let journal = fs::read(&journal_file).unwrap();
        fs::write(&path, &whole[..kept]).unwrap();
        let store = open_store(dir.path()).await;
        assert_eq!(fs::read(&path).unwrap(), whole, "{kept}");
        store.files().sessions.journal.abandon();
        drop(store);
        fs::write(&journal_file, journal).unwrap();
    }
    // Other lines than those that the journal follows.
    let mut edited = String::from_utf8(lines[0].to_vec()).unwrap();
    let start = edited.find(",\"crc\"").unwrap();
    edited.truncate(start);
    edited.push_str("}\n");
    fs::write(&path, &edited).unwrap();
    let store = open_store(dir.path()).await;
    assert_eq!(fs::read_to_string(&path).unwrap(), edited);
    assert_eq!(read_session(&store, session).await.0.len(), 1);
}

#[tokio::test]
async fn journal_of_a_newer_version_is_refused_and_kept() {
    let dir = TempDir::new().unwrap();
    killed_store_with_lines(dir.path()).await;
    let path = &StoreLayout::new(dir.path().to_owned()).journal_files()[1];
    let newer = seal_line(br#"{"format":{"version":3,"writer":"0.9.0"}}"#.to_vec());
    fs::write(path, &newer).unwrap();
    let error = FilesystemStore::open(dir.path(), crate::LogRetention::Full).await.unwrap_err().to_string();
    assert!(error.contains("written by k8sops 0.9.0 in format 3"), "{error}");
    assert_eq!(&fs::read(path).unwrap(), &newer);
}

#[tokio::test]
async fn closed_store_leaves_no_lines_in_the_journal() {
    let mut fixture = JournalFixture::new().await;
    let sessions = fixture.create_sessions(3).await;
    assert_eq!(fixture.submit_to_all(&sessions, "c1").await, 0);
    let has_lines = |path: &PathBuf| fs::read(path).is_ok_and(|bytes| bytes.iter().any(|byte| *byte != 0));
    assert!(fixture.journal_files().iter().any(has_lines));
    // Something still holds the store, as at the end of a process.
    fixture.store().close().await.unwrap();
    assert!(!fixture.journal_files().iter().any(has_lines));
    assert_eq!(fixture.submit_to_all(&sessions, "c2").await, 0, "late writes are written as before");
}
