//! The format of all files, by literal content: what an earlier version wrote must be read, and what is written must not
//! change.

use std::fs;

use tempfile::TempDir;

use super::open_store;
use crate::{
    contract::{read_log, test_user},
    filesystem::{index_line::IndexLine, layout::StoreLayout, log_line::LogLine},
    memory_record::{decode_memory, encode_memory},
};
use k8sops_core::{Inbox, Leases, MemoryStore, SessionId, SessionLog, UsageDay, UsageStore};

const SESSION: &str = include_str!("formats/session.jsonl");
const INDEX: &str = include_str!("formats/sessions.jsonl");
const MEMORY: &str = include_str!("formats/memory.json");
const USAGE: &str = include_str!("formats/usage.json");

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
    let dir = TempDir::new().unwrap();
    let layout = StoreLayout::new(dir.path().to_owned());
    let anna = test_user("anna");
    let session: SessionId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
    let day: UsageDay = "2026-11-23".parse().unwrap();
    let (memory, _) = decode_memory(MEMORY.as_bytes()).unwrap();
    for (path, content) in [
        (layout.session_file(&anna, session), SESSION),
        (layout.index_file(), INDEX),
        (layout.memory_file(&anna, memory.id), MEMORY),
        (layout.usage_file(&anna, day), USAGE),
    ] {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let store = open_store(dir.path()).await;
    assert_eq!(read_log(&store, session, 0, 10).await.len(), 4);
    assert_eq!(store.read_checkpoint(session).await.unwrap().unwrap().last_seq(), 3);
    assert!(store.list_inbox(session).await.unwrap().is_empty());
    let receipt = store.find_receipt(session, &anna, &"c2".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(receipt.seq, 3);
    let lease = store.acquire_lease(session, "a", std::time::Duration::from_secs(60)).await.unwrap();
    assert_eq!(lease.epoch.0, 2, "one more than the log has");
    assert_eq!(store.read_memories(&anna).await.unwrap().all[0].memory, memory);
    let usage = store.read_usage(&anna, &[day]).await.unwrap();
    assert_eq!(usage[0].sessions[&session][0].usage.input_tokens, 5);
}
