//! Files that are damaged, and files that do not belong to the store.

use std::{fs, time::Duration};

use tempfile::TempDir;

use super::{open_store, read_session, session_path};
use crate::{
    contract::{
        CheckpointWrite, SessionWriter, create_test_session, message_body, run_drafts, test_command, test_user,
        warning_draft,
    },
    filesystem::{known_log::KnownLog, session_file::SessionFile},
};
use k8sops_core::*;

#[tokio::test]
async fn incomplete_line_is_cut_off_and_damage_is_reported() {
    let dir = TempDir::new().unwrap();
    let store = open_store(dir.path()).await;
    let session = create_test_session(&store).await;
    let other = create_test_session(&store).await;
    SessionWriter::acquire(&store, session, "a").await.append(run_drafts("hi")).await.unwrap();
    let before = read_session(&store, session).await;
    drop(store);
    let path = session_path(dir.path(), session);
    let good = fs::read(&path).unwrap();
    for garbage in [&b"{\"seq\":"[..], b"\0\0\0", b"{\"seq\":9,\"commit\":{\0\0\0", b"x"] {
        fs::write(&path, [&good[..], garbage].concat()).unwrap();
        let store = open_store(dir.path()).await;
        assert_eq!(read_session(&store, session).await, before);
    }
    let first = good.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    fs::write(&path, [&good[..first], b"garbage\n", &good[first..]].concat()).unwrap();
    let error = SessionFile::open(&path, KnownLog::default()).unwrap_err().to_string();
    assert!(
        error.contains(&format!("line 2 at byte {first}, written by k8sops {}", env!("CARGO_PKG_VERSION"))),
        "{error}"
    );
    // The other session is served.
    let store = open_store(dir.path()).await;
    assert_eq!(read_session(&store, other).await.0.len(), 1);
    assert_eq!(store.count_sessions(&test_user("anna")).await.unwrap(), 2, "a damaged session exists");
}

/// A whole last line that was changed, or that a later version wrote, may have been acknowledged: it is never cut off, and
/// its seq is not used again.
#[tokio::test]
async fn whole_last_line_that_is_not_understood_is_kept() {
    let dir = TempDir::new().unwrap();
    let store = open_store(dir.path()).await;
    let session = create_test_session(&store).await;
    SessionWriter::acquire(&store, session, "a").await.append(run_drafts("hi")).await.unwrap();
    drop(store);
    let path = session_path(dir.path(), session);
    let good = fs::read(&path).unwrap();
    let lines = good.split(|byte| *byte == b'\n').count() - 1;
    let start = good[..good.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    let flip = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 4;
        (bytes, lines)
    };
    let add = |line: &str| ([&good[..], line.as_bytes(), b"\n"].concat(), lines + 1);
    let zeroed = |from: usize| ([&good[..from], &vec![0; good.len() - 1 - from], b"\n"].concat(), lines);
    let rows = [
        flip(start),
        flip(start + 20),
        flip(good.len() - 40),
        flip(good.len() - 5),
        flip(good.len() - 1),
        zeroed(start),
        zeroed(start + 30),
        add("garbage"),
        add("\0\0\0\0\0\0"),
        add(""),
        add(r#"{"seq":9}"#),
        add(r#"{"seq":5,"snapshot":{}}"#),
        add(r#"{"seq":5,"commit":{"epoch":1,"events":[{"seq":5,"type":"later"}],"consumed":[]}}"#),
        add(r#"{"seq":9,"commit":{"epoch":1,"events":[],"consumed":[]}}"#),
    ];
    for (row, (bytes, line)) in rows.into_iter().enumerate() {
        fs::write(&path, &bytes).unwrap();
        let store = open_store(dir.path()).await;
        let error = store.submit_command(session, test_command("c", message_body("hi"))).await.unwrap_err();
        assert!(matches!(error, StoreError::Corrupt(_)), "{row}: {error}");
        let expected = format!("line {line} at byte ");
        assert!(error.to_string().contains(&expected), "{row}: {expected} is not in: {error}");
        assert!(error.to_string().contains("written by k8sops"), "{row}: {error}");
        assert!(store.acquire_lease(session, "b", Duration::from_secs(1)).await.is_err());
        drop(store);
        assert_eq!(fs::read(&path).unwrap(), bytes, "{row}: the file is left as it is");
    }
}

/// Sectors of a last line that never reached the disk are zeros.
#[tokio::test]
async fn unwritten_sectors_are_cut_off_unless_they_were_acknowledged() {
    let dir = TempDir::new().unwrap();
    let store = open_store(dir.path()).await;
    let session = create_test_session(&store).await;
    let mut writer = SessionWriter::acquire(&store, session, "a").await;
    let before = read_session(&store, session).await;
    let index = fs::read(dir.path().join("sessions.jsonl")).unwrap();
    writer.append(vec![warning_draft(&"x".repeat(2000))]).await.unwrap();
    store.release_lease(writer.lease).await.unwrap();
    drop(store);
    let acknowledged = fs::read(dir.path().join("sessions.jsonl")).unwrap();
    let path = session_path(dir.path(), session);
    let mut bytes = fs::read(&path).unwrap();
    bytes[1024..1536].fill(0);
    fs::write(&path, &bytes).unwrap();
    fs::write(dir.path().join("sessions.jsonl"), acknowledged).unwrap();
    let store = open_store(dir.path()).await;
    assert!(matches!(store.read_events(session, 0, 10).await, Err(StoreError::Corrupt(_))));
    drop(store);
    assert_eq!(fs::read(&path).unwrap(), bytes);
    fs::write(dir.path().join("sessions.jsonl"), index).unwrap();
    let store = open_store(dir.path()).await;
    assert_eq!(read_session(&store, session).await, before);
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
            assert!(
                store.claim_unfinished_sessions(OwnSessions::default()).await.unwrap().sessions.is_empty(),
                "it cannot be worked on"
            );
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
            assert_eq!(store.claim_unfinished_sessions(OwnSessions::default()).await.unwrap().sessions, [session]);
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
    for left in ["", "{\"se", "{\"seq\":1,\"commit\":{\"epoch\":0,\"ev", "\0\0\0", "{\"seq\":1\0\0"] {
        fs::write(session_path(dir.path(), torn), left).unwrap();
        let store = open_store(dir.path()).await;
        assert_eq!(store.count_sessions(&test_user("anna")).await.unwrap(), 1, "{left:?}");
        assert_eq!(store.read_summary(torn).await.unwrap(), None);
        assert!(store.list_damaged_sessions().await.unwrap().is_empty());
    }
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

/// How a checkpoint is damaged.
type Damage = fn(&mut Vec<u8>);

/// The damages of one line that leave its end.
const CHECKPOINT_DAMAGES: [(&str, Damage); 5] = [
    ("a flipped bit", |line| line[60] ^= 4),
    ("zeros", |line| line[50..90].fill(0)),
    ("other JSON", |line| {
        let head = line.iter().position(|byte| *byte == b't').unwrap() + 3;
        *line = [&line[..head], b"{\"state\":1}}\n"].concat();
    }),
    ("a field of a later version", |line| {
        let text = String::from_utf8(line.clone()).unwrap().replace("\"epoch\"", "\"era\"");
        *line = [text.split_once(",\"crc\"").unwrap().0.as_bytes(), b"}\n"].concat();
    }),
    ("another checksum", |line| {
        let at = line.len() - 5;
        line[at] ^= 1;
    }),
];

/// Writes a session with two checkpoints, damages lines of its file, and returns what it was before.
async fn write_damaged(
    root: &std::path::Path,
    damage: impl Fn(&mut Vec<Vec<u8>>),
) -> (SessionId, (Vec<std::sync::Arc<SessionEvent>>, SessionState, Vec<InboxEntry>)) {
    let store = open_store(root).await;
    let session = create_test_session(&store).await;
    let mut writer = SessionWriter::acquire(&store, session, "a").await;
    for checkpoint in [false, true, false, true, false] {
        store
            .submit_command(session, test_command(&format!("c{}", writer.state.last_seq()), message_body("hi")))
            .await
            .unwrap();
        writer.commit(run_drafts("hi"), &[], CheckpointWrite::when(checkpoint)).await.unwrap();
    }
    let before = read_session(&store, session).await;
    store.release_lease(writer.lease).await.unwrap();
    drop(store);
    let path = session_path(root, session);
    let bytes = fs::read(&path).unwrap();
    let mut lines: Vec<Vec<u8>> = bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    damage(&mut lines);
    fs::write(&path, lines.concat()).unwrap();
    (session, before)
}

fn checkpoint_lines(lines: &mut [Vec<u8>]) -> Vec<&mut Vec<u8>> {
    lines.iter_mut().filter(|line| String::from_utf8_lossy(line).contains("\"checkpoint\":")).collect()
}

#[tokio::test]
async fn damaged_checkpoint_is_replayed_around_and_replaced() {
    for (name, damage) in CHECKPOINT_DAMAGES {
        for damaged in [&[1][..], &[0, 1], &[0]] {
            let dir = TempDir::new().unwrap();
            let (session, before) = write_damaged(dir.path(), |lines| {
                let mut checkpoints = checkpoint_lines(lines);
                assert_eq!(checkpoints.len(), 2);
                for number in damaged {
                    damage(checkpoints[*number]);
                }
            })
            .await;
            for keeps_index in [true, false] {
                if !keeps_index {
                    fs::remove_file(dir.path().join("sessions.jsonl")).unwrap();
                }
                let store = open_store(dir.path()).await;
                assert_eq!(read_session(&store, session).await, before, "{name}, {damaged:?}");
                assert!(store.list_damaged_sessions().await.unwrap().is_empty());
            }
            let store = open_store(dir.path()).await;
            // A reader before the owner takes nothing from what the owner must know.
            load_state(&store, session).await.unwrap();
            let is_newest = damaged.contains(&1);
            let loaded = load_state(&store, session).await.unwrap();
            assert_eq!(loaded.damaged_checkpoint.is_some(), is_newest, "{name}, {damaged:?}");
            let mut writer = SessionWriter::acquire(&store, session, "b").await;
            writer.commit(run_drafts("next"), &[], CheckpointWrite::Write).await.unwrap();
            let loaded = load_state(&store, session).await.unwrap();
            assert!(loaded.damaged_checkpoint.is_none());
            let after = read_session(&store, session).await;
            drop(store);
            assert_eq!(read_session(&open_store(dir.path()).await, session).await, after, "{name}");
        }
    }
}

/// What looks like a damaged checkpoint may hide a commit, or be the only place of what was before it.
#[tokio::test]
async fn checkpoint_that_hides_other_lines_or_replaced_them_is_damage() {
    type Rows = [(&'static str, fn(&mut Vec<Vec<u8>>)); 5];
    let rows: Rows = [
        ("its line end", |lines| {
            let line = checkpoint_lines(lines).remove(1);
            *line.last_mut().unwrap() = b'x';
        }),
        ("zeros up to the next line", |lines| {
            let at = lines.iter().rposition(|line| line.starts_with(b"{\"seq\":10,\"checkpoint\"")).unwrap();
            let length = lines[at].len();
            lines[at][length - 10..].fill(0);
            lines[at + 1][..30].fill(0);
        }),
        ("a newer format", |lines| {
            let line = checkpoint_lines(lines).remove(1);
            let text = String::from_utf8(line.clone()).unwrap().replace("\"version\":2", "\"version\":3");
            *line = [text.split_once(",\"crc\"").unwrap().0.as_bytes(), b"}\n"].concat();
        }),
        ("missing events before it", |lines| {
            let at = lines.iter().rposition(|line| line.starts_with(b"{\"seq\":10,\"commit\"")).unwrap();
            lines.remove(at);
            checkpoint_lines(lines).remove(1)[60] ^= 4;
        }),
        ("no lines before it", |lines| {
            let at = lines.iter().rposition(|line| line.starts_with(b"{\"seq\":10,\"checkpoint\"")).unwrap();
            lines.drain(..at);
            lines[0][60] ^= 4;
        }),
    ];
    for (name, damage) in rows {
        let dir = TempDir::new().unwrap();
        let (session, _) = write_damaged(dir.path(), damage).await;
        let bytes = fs::read(session_path(dir.path(), session)).unwrap();
        let store = open_store(dir.path()).await;
        let error = store.acquire_lease(session, "b", Duration::from_secs(1)).await.unwrap_err();
        assert!(matches!(error, StoreError::Corrupt(_)), "{name}: {error}");
        let loaded = load_state(&store, session).await.unwrap_err();
        assert!(matches!(loaded, StoreError::Corrupt(_)), "{name}: {loaded}");
        if name == "no lines before it" {
            for error in [error, loaded] {
                assert!(error.to_string().contains("backup"), "{error}");
            }
        }
        assert_eq!(fs::read(session_path(dir.path(), session)).unwrap(), bytes, "{name}: the file is left as it is");
    }
}
