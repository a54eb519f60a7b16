//! The format of all files, by literal content: what an earlier version wrote must be read, and what is written must not
//! change.

use std::{fs, path::Path, time::Duration};

use tempfile::TempDir;

use super::open_store;
use crate::{
    FilesystemStore,
    contract::{message_body, read_log, test_command, test_user},
    filesystem::{index_line::IndexLine, layout::StoreLayout, line_format::seal_record, log_line::LogLine},
    memory_record::{decode_memory, encode_memory},
};
use k8sops_core::{
    DailyUsage, EmbeddingChange, Inbox, Leases, MemoryChange, MemoryId, MemoryStore, OutputStore, SessionId,
    SessionLog, StoreError, ToolCallId, UsageDay, UsageStore, UserMemories, UserMemory,
};

/// In format 1, which has neither checksums nor the version of the format.
const SESSION_1: &str = include_str!("formats/session.jsonl");
const SESSION: &str = include_str!("formats/session_2.jsonl");
const INDEX: &str = include_str!("formats/sessions.jsonl");
const MEMORY_1: &str = include_str!("formats/memory.json");
const MEMORY: &str = include_str!("formats/memory_2.json");
const USAGE_1: &str = include_str!("formats/usage.json");
/// As an unreleased version wrote it.
const USAGE_UNSEALED: &str = include_str!("formats/usage_2.json");
const USAGE: &str = include_str!("formats/usage_2_sealed.json");
const USAGE_NOTES: &str = include_str!("formats/usage_notes.jsonl");
const OUTPUT_1: &str = include_str!("formats/output");
const OUTPUT: &str = include_str!("formats/output_2");

/// The files of a store, as one version wrote them.
struct StoredFiles {
    session: &'static str,
    memory: &'static str,
    usage: &'static str,
    output: &'static str,
    output_name: &'static str,
}

const FORMAT_1: StoredFiles =
    StoredFiles { session: SESSION_1, memory: MEMORY_1, usage: USAGE_1, output: OUTPUT_1, output_name: "call_1" };
const FORMAT_2: StoredFiles =
    StoredFiles { session: SESSION, memory: MEMORY, usage: USAGE, output: OUTPUT, output_name: "call_1.output" };

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
    let (memory, vector) = decode_memory(MEMORY_1.as_bytes()).unwrap();
    let record = encode_memory(&memory, vector.as_ref()).unwrap();
    assert_eq!(String::from_utf8(record.clone()).unwrap(), MEMORY_1);
    assert_eq!(String::from_utf8(seal_record(record).unwrap()).unwrap(), MEMORY);
}

#[tokio::test]
async fn files_of_earlier_versions_are_read_and_continued_in_this_format() {
    for files in [FORMAT_1, StoredFiles { usage: USAGE_UNSEALED, ..FORMAT_2 }, FORMAT_2] {
        let dir = TempDir::new().unwrap();
        write_files(dir.path(), &files);
        let store = open_store(dir.path()).await;
        assert_files_are_read(&store).await;
        let (anna, session) = (test_user("anna"), session_id());
        let layout = StoreLayout::new(dir.path().to_owned());
        let models = store.read_usage(&anna, &[usage_day()]).await.unwrap()[0].sessions[&session].clone();
        store.record_usage(&anna, session, &DailyUsage { day: usage_day(), models }).await.unwrap();
        assert_eq!(fs::read_to_string(layout.usage_notes_file(&anna, usage_day())).unwrap(), USAGE_NOTES);
        assert_eq!(fs::read_to_string(layout.usage_file(&anna, usage_day())).unwrap(), files.usage);
        store.save_output(session, &output_call(), OUTPUT_1.into(), 100).await.unwrap();
        assert_eq!(fs::read_to_string(layout.output_file(session, &output_call())).unwrap(), OUTPUT);
        assert!(!layout.old_output_file(session, &output_call()).exists());
        let UserMemories { version, all } = store.read_memories(&anna).await.unwrap();
        let change = MemoryChange { memory: all[0].memory.clone(), embedding: EmbeddingChange::Keep };
        store.write_memories(&anna, version, &[change]).await.unwrap();
        assert_eq!(fs::read_to_string(layout.memory_file(&anna, all[0].memory.id)).unwrap(), MEMORY);
        drop(store);
        open_store(dir.path()).await;
        assert_eq!(fs::read_to_string(layout.usage_file(&anna, usage_day())).unwrap(), USAGE, "the notes are folded");
        assert!(!layout.usage_notes_file(&anna, usage_day()).exists());
    }
}

#[tokio::test]
async fn newer_format_of_any_file_is_refused_and_kept() {
    let dir = TempDir::new().unwrap();
    let newer = |text: &str| text.replace(r#""version":2,"writer":"0.2.0""#, r#""version":3,"writer":"0.9.0""#);
    let unseal = |text: &str| {
        let start = text.find(r#","crc""#).unwrap_or(text.len() - 1);
        format!("{}}}", &text[..start])
    };
    write_files(dir.path(), &FORMAT_2);
    let (anna, session, layout) = (test_user("anna"), session_id(), StoreLayout::new(dir.path().to_owned()));
    let (memory, _) = decode_memory(MEMORY.as_bytes()).unwrap();
    let other = UserMemory { id: MemoryId::new(), ..memory.clone() };
    let contents = [
        (layout.memory_file(&anna, memory.id), newer(&unseal(MEMORY))),
        (layout.usage_file(&anna, usage_day()), newer(&unseal(USAGE))),
        (layout.output_file(session, &output_call()), newer(OUTPUT)),
        (layout.session_outputs(session).join("later.kind"), "later".to_owned()),
    ];
    for (path, content) in &contents {
        fs::write(path, content).unwrap();
    }
    let store = open_store(dir.path()).await;
    let UserMemories { version, all } = store.read_memories(&anna).await.unwrap();
    assert!(all.is_empty(), "the memory is left out");
    let change = MemoryChange { memory: other, embedding: EmbeddingChange::Clear };
    store.write_memories(&anna, version, &[change]).await.unwrap();
    let used = DailyUsage { day: usage_day(), models: Vec::new() };
    for (error, path) in [
        (store.read_usage(&anna, &[usage_day()]).await.unwrap_err(), &contents[1].0),
        (store.record_usage(&anna, session, &used).await.unwrap_err(), &contents[1].0),
        (store.read_output(session, &output_call(), 0, 10).await.unwrap_err(), &contents[2].0),
    ] {
        assert!(matches!(error, StoreError::FileDamaged(_)), "{error}");
        let error = error.to_string();
        for word in [path.to_str().unwrap(), "written by k8sops 0.9.0 in format 3", "newer than format 2"] {
            assert!(error.contains(word), "{word} is not in: {error}");
        }
    }
    store.save_output(session, &ToolCallId::generate(), "another".into(), 100).await.unwrap();
    for (path, content) in &contents {
        assert_eq!(&fs::read_to_string(path).unwrap(), content, "{} is left as it is", path.display());
    }
}

#[tokio::test]
async fn changed_records_are_refused() {
    let flip = |text: &str, at: usize| {
        let mut bytes = text.as_bytes().to_vec();
        bytes[at] ^= 1;
        bytes
    };
    let dir = TempDir::new().unwrap();
    write_files(dir.path(), &FORMAT_2);
    let (anna, layout) = (test_user("anna"), StoreLayout::new(dir.path().to_owned()));
    let (memory, _) = decode_memory(MEMORY.as_bytes()).unwrap();
    let digit = USAGE.find("tokens\":5").unwrap() + 8;
    let letter = MEMORY.find("mars").unwrap();
    fs::write(layout.usage_file(&anna, usage_day()), flip(USAGE, digit)).unwrap();
    fs::write(layout.memory_file(&anna, memory.id), flip(MEMORY, letter)).unwrap();
    let store = open_store(dir.path()).await;
    let error = store.read_usage(&anna, &[usage_day()]).await.unwrap_err().to_string();
    assert!(error.contains("changed after it was written"), "{error}");
    assert!(store.read_memories(&anna).await.unwrap().all.is_empty());
}

fn write_files(dir: &Path, files: &StoredFiles) {
    let layout = StoreLayout::new(dir.to_owned());
    let anna = test_user("anna");
    let (memory, _) = decode_memory(MEMORY.as_bytes()).unwrap();
    for (path, content) in [
        (layout.session_file(&anna, session_id()), files.session),
        (layout.index_file(), INDEX),
        (layout.memory_file(&anna, memory.id), files.memory),
        (layout.usage_file(&anna, usage_day()), files.usage),
        (layout.session_outputs(session_id()).join(files.output_name), files.output),
    ] {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

fn session_id() -> SessionId {
    "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap()
}

fn output_call() -> ToolCallId {
    "call_1".parse().unwrap()
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
    let part = store.read_output(session, &output_call(), 5, 6).await.unwrap().unwrap();
    assert_eq!((part.bytes.as_slice(), part.total), (&OUTPUT_1.as_bytes()[5..11], OUTPUT_1.len() as u64));
}

#[tokio::test]
async fn earlier_format_is_continued_in_this_one() {
    let dir = TempDir::new().unwrap();
    write_files(dir.path(), &FORMAT_1);
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
        write_files(dir.path(), &FORMAT_2);
        let path = StoreLayout::new(dir.path().to_owned()).session_file(&test_user("anna"), session_id());
        fs::write(&path, &text).unwrap();
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
