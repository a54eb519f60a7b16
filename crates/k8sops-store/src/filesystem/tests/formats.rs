//! The format of all files, by literal content: what an earlier version wrote must be read, and what is written must not
//! change.

use std::{fs, path::Path, time::Duration};

use tempfile::TempDir;

use super::open_store;
use crate::{
    FilesystemStore,
    contract::{message_body, read_log, test_command, test_user},
    filesystem::{index_line::IndexLine, layout::StoreLayout, log_line::LogLine},
    memory_record::{decode_memory, encode_memory},
};
use k8sops_core::{Inbox, Leases, MemoryStore, SessionId, SessionLog, StoreError, UsageDay, UsageStore};

/// In format 1, which has neither checksums nor the version of the format.
const SESSION_1: &str = include_str!("formats/session.jsonl");
const SESSION: &str = include_str!("formats/session_2.jsonl");
const INDEX: &str = include_str!("formats/sessions.jsonl");
const MEMORY: &str = include_str!("formats/memory.json");
const USAGE_1: &str = include_str!("formats/usage.json");
const USAGE: &str = include_str!("formats/usage_2.json");

#[test]
fn lines_are_written_as_before() {
    for line in SESSION.lines() {
        let written = LogLine::from_bytes(line.as_bytes()).unwrap().to_bytes();
        assert_eq!(String::from_utf8(written).unwrap().trim_end(), line);
    }
    for line in INDEX.lines() {
        let index_line: IndexLine = serde_json::from_str(line).unwrap();
        assert_eq!(serde_json::to_string(&index_line).unwrap(), line);
    }
    let (memory, vector) = decode_memory(MEMORY.as_bytes()).unwrap();
    assert_eq!(String::from_utf8(encode_memory(&memory, vector.as_ref()).unwrap()).unwrap(), MEMORY);
}

#[tokio::test]
async fn files_of_earlier_versions_are_read() {
    for (session, usage) in [(SESSION_1, USAGE_1), (SESSION, USAGE)] {
        let dir = TempDir::new().unwrap();
        write_files(dir.path(), session, usage);
        let store = open_store(dir.path()).await;
        assert_files_are_read(&store).await;
    }
}

fn write_files(dir: &Path, session: &str, usage: &str) {
    let layout = StoreLayout::new(dir.to_owned());
    let anna = test_user("anna");
    let (memory, _) = decode_memory(MEMORY.as_bytes()).unwrap();
    for (path, content) in [
        (layout.session_file(&anna, session_id()), session),
        (layout.index_file(), INDEX),
        (layout.memory_file(&anna, memory.id), MEMORY),
        (layout.usage_file(&anna, usage_day()), usage),
    ] {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

fn session_id() -> SessionId {
    "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap()
}

fn usage_day() -> UsageDay {
    "2026-11-23".parse().unwrap()
}

async fn assert_files_are_read(store: &FilesystemStore) {
    let (session, anna) = (session_id(), test_user("anna"));
    assert_eq!(read_log(store, session, 0, 10).await.len(), 4);
    assert_eq!(store.read_checkpoint(session).await.unwrap().unwrap().last_seq(), 3);
    assert!(store.list_inbox(session).await.unwrap().is_empty());
    let receipt = store.find_receipt(session, &anna, &"c2".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(receipt.seq, 3);
    let lease = store.acquire_lease(session, "a", Duration::from_secs(60)).await.unwrap();
    assert_eq!(lease.epoch.0, 2, "one more than the log has");
    let (memory, _) = decode_memory(MEMORY.as_bytes()).unwrap();
    assert_eq!(store.read_memories(&anna).await.unwrap().all[0].memory, memory);
    let usage = store.read_usage(&anna, &[usage_day()]).await.unwrap();
    assert_eq!(usage[0].sessions[&session][0].usage.input_tokens, 5);
}

#[tokio::test]
async fn earlier_format_is_continued_in_this_one() {
    let dir = TempDir::new().unwrap();
    write_files(dir.path(), SESSION_1, USAGE_1);
    let store = open_store(dir.path()).await;
    for n in 0..2 {
        let command = test_command(&format!("n{n}"), message_body("hi"));
        store.submit_command(session_id(), command).await.unwrap();
    }
    drop(store);
    let path = StoreLayout::new(dir.path().to_owned()).session_file(&test_user("anna"), session_id());
    let text = fs::read_to_string(path).unwrap();
    let added: Vec<_> = text.strip_prefix(SESSION_1).unwrap().lines().collect();
    let names_format = |line: &&str| line.contains(r#""format":{"version":2,"writer":""#);
    assert!(names_format(&added[0]) && !names_format(&added[1]), "{added:?}");
    assert!(added.iter().all(|line| line.contains(r#","crc":""#)), "{added:?}");
    let store = open_store(dir.path()).await;
    assert_eq!(store.list_inbox(session_id()).await.unwrap().len(), 2);
}

#[tokio::test]
async fn newer_format_is_refused_as_a_whole() {
    let newer =
        SESSION_1.replacen(r#""consumed":[]}}"#, r#""consumed":[]},"format":{"version":3,"writer":"0.9.0"}}"#, 1);
    let newer_end =
        format!("{SESSION_1}{{\"seq\":4,\"parts\":{{}},\"format\":{{\"version\":3,\"writer\":\"0.9.0\"}}}}\n");
    for (text, line) in [(newer, 1), (newer_end, SESSION_1.lines().count() + 1)] {
        let dir = TempDir::new().unwrap();
        // Without the checkpoint the lines are read from the first on.
        let text: String = text.lines().filter(|text| line > 1 || !text.contains("checkpoint")).fold(
            String::new(),
            |mut all, text| {
                all.push_str(text);
                all.push('\n');
                all
            },
        );
        write_files(dir.path(), &text, USAGE);
        let path = StoreLayout::new(dir.path().to_owned()).session_file(&test_user("anna"), session_id());
        let store = open_store(dir.path()).await;
        let error = store.read_events(session_id(), 0, 10).await.unwrap_err();
        assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
        let error = error.to_string();
        for word in [&format!("line {line} "), "written by k8sops 0.9.0 in format 3", "newer than format 2"] {
            assert!(error.contains(word), "{word} is not in: {error}");
        }
        assert!(store.submit_command(session_id(), test_command("n", message_body("hi"))).await.is_err());
        assert_eq!(fs::read_to_string(path).unwrap(), text, "the file is left as it is");
    }
}
