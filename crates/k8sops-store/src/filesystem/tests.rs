//! What files add to the contract: reopening, crashes in the middle of a write, one process at a time, foreign files.

use std::{fs, path::Path, sync::Arc, time::Duration};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::{
    InMemoryStore, contract,
    contract::{Pen, command, created, message, message_if_idle, new_session, note, run, user},
};
use k8sops_core::*;

async fn open(dir: &Path) -> FilesystemStore {
    FilesystemStore::open(dir, false).await.unwrap()
}

#[tokio::test]
async fn the_contract_holds() {
    for rule in contract::RULES {
        let dir = TempDir::new().unwrap();
        println!("{}", rule.name);
        (rule.check)(Arc::new(open(dir.path()).await)).await;
    }
}

#[tokio::test]
async fn the_contract_holds_in_memory() {
    for rule in contract::RULES {
        println!("{}", rule.name);
        (rule.check)(Arc::new(InMemoryStore::new(false))).await;
    }
}

/// All that a store says of a session.
async fn seen(store: &dyn SessionStore, session: SessionId) -> (Vec<Arc<SessionEvent>>, SessionState, Vec<InboxEntry>) {
    let log = contract::log(store, session, 0, 1000).await;
    let state = load_state(store, session).await.unwrap().state;
    let inbox = store.list_inbox(session).await.unwrap();
    let waiting = inbox.iter().any(|entry| entry.command.is_message());
    let summary = SessionSummary { waiting, ..state.summary.clone() };
    assert_eq!(store.read_summary(session).await.unwrap().unwrap(), summary);
    (log, state, inbox)
}

fn file_of(dir: &Path, session: SessionId) -> PathBuf {
    path_in(&dir.join("sessions"), &user("anna"), session)
}

#[tokio::test]
async fn everything_is_there_after_a_reopen_and_the_epoch_has_grown() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path()).await;
    let session = new_session(&store).await;
    let mut pen = Pen::take(&store, session, "a").await;
    let first = store.submit_command(session, command("c1", message("hi"))).await.unwrap();
    for n in 0..10 {
        pen.write(run("hi"), &[], n % 4 == 3).await.unwrap();
    }
    store.submit_command(session, command("c2", CommandBody::Cancel { run_id: None })).await.unwrap();
    let (before, epoch) = (seen(&store, session).await, pen.lease.epoch);
    drop(store);

    let store = open(dir.path()).await;
    assert_eq!(seen(&store, session).await, before);
    assert_eq!(store.claim_unfinished_sessions().await.unwrap(), [session]);
    let again = SessionCommand { fingerprint: first.fingerprint.clone(), ..command("c1", message("hi")) };
    assert_eq!(store.submit_command(session, again).await.unwrap(), CommandReceipt { duplicate: true, ..first });
    // Nobody wrote under the newest epoch since; it must not be given out again all the same.
    assert!(Pen::take(&store, session, "b").await.lease.epoch > epoch);
}

/// Cuts a file at every byte after `whole`, opens it, and looks whether it is as it was before the last line.
async fn cut_everywhere(last: impl AsyncFn(&FilesystemStore, SessionId)) {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path()).await;
    let session = new_session(&store).await;
    Pen::take(&store, session, "a").await.write(run("before"), &[], true).await.unwrap();
    store.submit_command(session, command("c1", message("waits"))).await.unwrap();
    let before = seen(&store, session).await;
    let whole = fs::metadata(file_of(dir.path(), session)).unwrap().len();
    last(&store, session).await;
    let after = seen(&store, session).await;
    drop(store);
    let bytes = fs::read(file_of(dir.path(), session)).unwrap();
    assert!(bytes.len() as u64 > whole + 50);
    for length in usize::try_from(whole).unwrap()..=bytes.len() {
        fs::write(file_of(dir.path(), session), &bytes[..length]).unwrap();
        let store = open(dir.path()).await;
        let expected = if length == bytes.len() { &after } else { &before };
        assert_eq!(&seen(&store, session).await, expected, "cut at byte {length}");
        let mut pen = Pen::take(&store, session, "b").await;
        pen.write(vec![note("goes on")], &[], false).await.unwrap();
        drop(store);
        let store = open(dir.path()).await;
        assert_eq!(seen(&store, session).await.0.len(), expected.0.len() + 1, "cut at byte {length}");
    }
}

#[tokio::test]
async fn a_crash_at_any_byte_of_a_commit_leaves_all_of_it_or_nothing() {
    cut_everywhere(async |store, session| {
        let position = store.list_inbox(session).await.unwrap()[0].position;
        let state = load_state(store, session).await.unwrap().state;
        let lease = store.acquire_lease(session, "a", Duration::from_secs(60)).await.unwrap();
        let (events, after) = contract::follow(&state, run("three events"));
        let commit = LogCommit {
            session,
            epoch: lease.epoch,
            expected_seq: state.last_seq(),
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
async fn a_crash_at_any_byte_of_a_command_leaves_all_of_it_or_nothing() {
    cut_everywhere(async |store, session| {
        store.submit_command(session, command("c2", message("also waits"))).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_last_line_of_garbage_is_cut_off_and_one_in_the_middle_is_named() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path()).await;
    let (session, other) = (new_session(&store).await, new_session(&store).await);
    Pen::take(&store, session, "a").await.write(run("hi"), &[], false).await.unwrap();
    let before = seen(&store, session).await;
    drop(store);
    let path = file_of(dir.path(), session);
    let good = fs::read(&path).unwrap();
    for garbage in [&b"\0\0\0\0\0\0\n"[..], b"{\"seq\":9}garbage\n", b"{\"seq\":", b"\0\0\0"] {
        fs::write(&path, [&good[..], garbage].concat()).unwrap();
        let store = open(dir.path()).await;
        assert_eq!(seen(&store, session).await, before);
    }
    let first = good.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    fs::write(&path, [&good[..first], b"garbage\n", &good[first..]].concat()).unwrap();
    let error = LogFile::open(path, session).unwrap_err().to_string();
    assert!(error.contains(&format!("at byte {first}")), "{error}");
    // The others are served all the same.
    let store = open(dir.path()).await;
    assert_eq!(seen(&store, other).await.0.len(), 1);
    assert_eq!(store.count_sessions(&user("anna")).await.unwrap(), 2, "it is there, though it cannot be read");
}

#[tokio::test]
async fn a_damaged_session_is_listed_and_named_until_it_is_repaired_or_deleted() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path()).await;
    let (session, other) = (new_session(&store).await, new_session(&store).await);
    let mut pen = Pen::take(&store, session, "a").await;
    let mut events = run("hi");
    events.truncate(2);
    pen.write(events, &[], false).await.unwrap();
    store.submit_command(session, command("c1", message("waits"))).await.unwrap();
    let before = seen(&store, session).await;
    drop(store);
    let path = file_of(dir.path(), session);
    let good = fs::read(&path).unwrap();
    let first = good.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let index = dir.path().join("sessions.jsonl");
    let noted = fs::read(&index).unwrap();
    for bad in [[&good[..first], b"garbage\n", &good[first..]].concat(), Vec::new(), b"garbage".to_vec()] {
        for restarts in 0..3 {
            fs::write(&path, &bad).unwrap();
            if restarts == 0 {
                fs::write(&index, &noted).unwrap();
            }
            let store = open(dir.path()).await;
            let damaged = |result: Result<(), StoreError>| {
                let told = matches!(&result, Err(StoreError::Corrupt(why)) if why.to_string().contains(path.to_str().unwrap()));
                assert!(told, "{result:?}");
            };
            damaged(store.read_summary(session).await.map(drop));
            damaged(store.read_events(session, 0, 1).await.map(drop));
            damaged(store.submit_command(session, command("c2", message("hi"))).await.map(drop));
            damaged(store.acquire_lease(session, "b", Duration::from_secs(1)).await.map(drop));
            assert!(store.claim_unfinished_sessions().await.unwrap().is_empty(), "nobody can work on it");
            let listed = store.list_sessions(&user("anna"), None, 10).await.unwrap();
            assert_eq!(listed.len(), 2);
            let listed = listed.iter().find(|summary| summary.session_id == session).unwrap();
            assert!(listed.preview.contains("damaged") && !listed.is_processing(), "{listed:?}");
            let named = store.list_damaged_sessions().await.unwrap();
            assert_eq!(named.iter().map(|damaged| damaged.session_id).collect::<Vec<_>>(), [session]);
            assert_eq!(fs::read(&path).unwrap(), bad, "what is there is left as it is");
            assert_eq!(seen(&store, other).await.0.len(), 1);
            // Repaired under the store's eyes, it is itself again.
            fs::write(&path, &good).unwrap();
            assert_eq!(seen(&store, session).await, before);
            assert!(store.list_damaged_sessions().await.unwrap().is_empty());
            assert_eq!(store.claim_unfinished_sessions().await.unwrap(), [session]);
        }
    }
    fs::write(&path, "").unwrap();
    let store = open(dir.path()).await;
    store.delete_session(session).await.unwrap();
    assert!(!path.exists() && store.read_summary(session).await.unwrap().is_none());
    assert_eq!(store.count_sessions(&user("anna")).await.unwrap(), 1);
    assert!(matches!(store.read_events(session, 0, 1).await, Err(StoreError::NotFound(_))));
    // Damaged while the store is open, and without a line in the index.
    fs::write(file_of(dir.path(), other), "garbage\n").unwrap();
    assert!(matches!(store.read_events(other, 0, 1).await, Err(StoreError::Corrupt(_))));
    assert!(matches!(store.read_summary(other).await, Err(StoreError::Corrupt(_))));
    drop(store);
    fs::remove_file(&index).unwrap();
    let store = open(dir.path()).await;
    assert!(matches!(store.read_summary(other).await, Err(StoreError::Corrupt(_))));
    assert_eq!(store.list_sessions(&user("anna"), None, 10).await.unwrap().len(), 1);
    assert!(store.list_sessions(&user("bert"), None, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_session_whose_creation_was_broken_off_is_none() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path()).await;
    new_session(&store).await;
    drop(store);
    let torn = SessionId::new();
    fs::write(file_of(dir.path(), torn), "").unwrap();
    let store = open(dir.path()).await;
    assert_eq!(store.count_sessions(&user("anna")).await.unwrap(), 1);
    assert_eq!(store.read_summary(torn).await.unwrap(), None);
    assert!(store.list_damaged_sessions().await.unwrap().is_empty());
}

#[tokio::test]
async fn an_index_that_is_torn_old_or_gone_is_made_anew() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path()).await;
    let (session, other) = (new_session(&store).await, new_session(&store).await);
    drop(store);
    let path = dir.path().join("sessions.jsonl");
    let old = fs::read(&path).unwrap();
    let store = open(dir.path()).await;
    let pen = &mut Pen::take(&store, session, "a").await;
    pen.write(run("hi"), &[], false).await.unwrap();
    store.release_lease(pen.lease).await.unwrap();
    let expected = store.list_sessions(&user("anna"), None, 10).await.unwrap();
    assert_eq!(expected[0].session_id, session);
    drop(store);
    let whole = fs::read(&path).unwrap();
    let cuts = (0..=whole.len()).step_by(13).map(|length| whole[..length].to_vec());
    for bytes in cuts.chain([old, b"garbage\n".to_vec()]) {
        fs::write(&path, bytes).unwrap();
        assert_eq!(open(dir.path()).await.list_sessions(&user("anna"), None, 10).await.unwrap(), expected);
    }
    fs::remove_file(&path).unwrap();
    fs::remove_file(file_of(dir.path(), other)).unwrap();
    assert_eq!(open(dir.path()).await.list_sessions(&user("anna"), None, 10).await.unwrap(), expected[..1]);
}

#[tokio::test]
async fn a_second_process_is_kept_out_and_told_what_to_do() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path()).await;
    let error = FilesystemStore::open(dir.path(), false).await.unwrap_err();
    assert!(matches!(&error, StoreError::InUse(why) if why.contains("MEMORY_FILESYSTEM_PATH")), "{error}");
    drop(store);
    open(dir.path()).await;
}

#[tokio::test]
async fn what_is_not_ours_is_left_as_it_is() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path()).await;
    let session = new_session(&store).await;
    drop(store);
    let folder = dir.path().join("sessions");
    fs::write(folder.join("notes.txt"), "mine").unwrap();
    fs::write(folder.join("anna/backup.jsonl"), "mine").unwrap();
    fs::create_dir(folder.join("no user")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", folder.join(format!("anna/{}.jsonl", SessionId::new()))).unwrap();
    // A session that lies in another user's folder is not that user's.
    fs::create_dir(folder.join("bert")).unwrap();
    fs::copy(file_of(dir.path(), session), path_in(&folder, &user("bert"), SessionId::new())).unwrap();
    let store = open(dir.path()).await;
    assert_eq!(
        (store.count_sessions(&user("anna")).await.unwrap(), store.count_sessions(&user("bert")).await.unwrap()),
        (1, 0)
    );
    assert_eq!(fs::read_to_string(folder.join("anna/backup.jsonl")).unwrap(), "mine");
}

#[tokio::test]
async fn a_commit_writes_what_is_new_and_nothing_of_what_was() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path()).await;
    let session = new_session(&store).await;
    let mut pen = Pen::take(&store, session, "a").await;
    let size = || fs::metadata(file_of(dir.path(), session)).unwrap().len();
    let mut grown = Vec::new();
    for _ in 0..300 {
        let before = size();
        pen.write(run("the same message"), &[], false).await.unwrap();
        grown.push(size() - before);
    }
    assert!(grown[299] <= grown[9] + 20, "{} bytes at turn 10, {} at turn 300", grown[9], grown[299]);
}

#[tokio::test]
async fn shallow_keeps_the_checkpoint_and_what_came_after_it() {
    let dir = TempDir::new().unwrap();
    for store in [
        Arc::new(FilesystemStore::open(dir.path(), true).await.unwrap()) as Arc<dyn SessionStore>,
        Arc::new(InMemoryStore::new(true)),
    ] {
        let session = new_session(store.as_ref()).await;
        let mut pen = Pen::take(store.as_ref(), session, "a").await;
        for _ in 0..10 {
            pen.write(run("hi"), &[], false).await.unwrap();
        }
        let as_of = pen.state.last_seq();
        store.submit_command(session, command("c1", message("waits"))).await.unwrap();
        pen.write(run("after"), &[], true).await.unwrap();
        let page = store.read_events(session, 0, 100).await.unwrap();
        assert_eq!((page.oldest_seq, page.events.first().unwrap().seq), (as_of + 1, as_of + 1));
        assert_eq!(page.events.len(), 3);
        assert_eq!(load_state(store.as_ref(), session).await.unwrap().state, pen.state);
        assert_eq!(store.list_inbox(session).await.unwrap().len(), 1);
        pen.write(vec![note("on")], &[], false).await.unwrap();
        assert_eq!(store.read_events(session, as_of, 100).await.unwrap().events.len(), 4);
    }
    let session = FilesystemStore::open(dir.path(), true).await;
    drop(session);
}

#[tokio::test]
async fn a_shallow_session_stays_small_and_is_whole_after_a_reopen() {
    let dir = TempDir::new().unwrap();
    let store = FilesystemStore::open(dir.path(), true).await.unwrap();
    let session = new_session(&store).await;
    let mut pen = Pen::take(&store, session, "a").await;
    for n in 0..50 {
        pen.write(vec![note(&"x".repeat(1000))], &[], n % 5 == 4).await.unwrap();
    }
    let state = pen.state.clone();
    drop(store);
    assert!(fs::metadata(file_of(dir.path(), session)).unwrap().len() < 10_000);
    let store = FilesystemStore::open(dir.path(), true).await.unwrap();
    assert_eq!(load_state(&store, session).await.unwrap().state, state);
}

#[derive(Debug, Clone)]
enum Op {
    Acquire(u8),
    Release(u8),
    Commit { writer: u8, events: u8, consume: bool, checkpoint: bool },
    Submit { id: u8, only_if_idle: bool },
    Reopen,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        2 => (0..2u8).prop_map(Op::Acquire),
        1 => (0..2u8).prop_map(Op::Release),
        6 => (0..2u8, 0..4u8, any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(writer, events, consume, checkpoint)| Op::Commit { writer, events, consume, checkpoint }),
        3 => (0..20u8, any::<bool>()).prop_map(|(id, only_if_idle)| Op::Submit { id, only_if_idle }),
        1 => Just(Op::Reopen),
    ];
    prop::collection::vec(op, 1..40)
}

/// A store under test and what its two writers believe.
struct Side {
    store: Arc<dyn SessionStore>,
    leases: [Option<SessionLease>; 2],
}

impl Side {
    /// Does one thing; says what became of it, in words that are the same for all stores.
    async fn apply(
        &mut self,
        session: SessionId,
        op: &Op,
        drafts: &[EventDraft],
        command: Option<SessionCommand>,
    ) -> String {
        let store = self.store.as_ref();
        let word = |error: StoreError| format!("{error:?}").split([' ', '(']).next().unwrap_or_default().to_owned();
        match op {
            Op::Acquire(writer) => {
                match store.acquire_lease(session, &format!("w{writer}"), Duration::from_secs(60)).await {
                    Ok(lease) => {
                        self.leases[usize::from(*writer)] = Some(lease);
                        "acquired".into()
                    }
                    Err(error) => word(error),
                }
            }
            Op::Release(writer) => {
                if let Some(lease) = self.leases[usize::from(*writer)] {
                    store.release_lease(lease).await.unwrap();
                }
                "released".into()
            }
            Op::Commit { writer, consume, checkpoint, .. } => {
                let Some(lease) = self.leases[usize::from(*writer)] else { return "no lease".into() };
                let state = load_state(store, session).await.unwrap().state;
                let (events, after) = contract::follow(&state, drafts.to_vec());
                let waiting = store.list_inbox(session).await.unwrap();
                let consumed: Vec<u64> = waiting.iter().filter(|_| *consume).map(|entry| entry.position).collect();
                let commit = LogCommit {
                    session,
                    epoch: lease.epoch,
                    expected_seq: state.last_seq(),
                    events: &events,
                    consumed: &consumed,
                    summary: &after.summary,
                    checkpoint: checkpoint.then_some(&state),
                };
                store.commit_events(commit).await.map_or_else(word, |()| "committed".into())
            }
            Op::Submit { .. } => {
                let submitted = store.submit_command(session, command.unwrap()).await;
                submitted.map_or_else(word, |receipt| format!("{receipt:?}"))
            }
            Op::Reopen => "reopened".into(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn whatever_is_done_in_whatever_order_files_and_memory_agree(ops in ops()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = TempDir::new().unwrap();
            let session = SessionId::new();
            let mut memory = Side { store: Arc::new(InMemoryStore::new(false)), leases: [None; 2] };
            let mut files = Side { store: Arc::new(open(dir.path()).await), leases: [None; 2] };
            for side in [&memory, &files] {
                side.store.create_session(&created(session, &user("anna"), 1)).await.unwrap();
            }
            for op in &ops {
                if matches!(op, Op::Reopen) {
                    // Nobody writes on under a lease of a process that is gone.
                    for lease in memory.leases.into_iter().flatten() {
                        memory.store.release_lease(lease).await.unwrap();
                    }
                    (memory.leases, files.leases) = ([None; 2], [None; 2]);
                    files.store = Arc::new(InMemoryStore::new(false));
                    files.store = Arc::new(open(dir.path()).await);
                }
                let drafts: Vec<_> = match op {
                    Op::Commit { events, .. } if *events == 3 => run("a turn"),
                    Op::Commit { events, .. } => (0..*events).map(|n| note(&format!("{n}"))).collect(),
                    _ => Vec::new(),
                };
                let command = match op {
                    Op::Submit { id, only_if_idle } => Some(SessionCommand {
                        fingerprint: format!("{}", id / 15),
                        ..command(&format!("c{}", id % 15), if *only_if_idle { message_if_idle("hi") } else { message("hi") })
                    }),
                    _ => None,
                };
                let said = memory.apply(session, op, &drafts, command.clone()).await;
                prop_assert_eq!(files.apply(session, op, &drafts, command).await, said, "{:?}", op);
                let (log, state, inbox) = seen(memory.store.as_ref(), session).await;
                let fold = SessionState::fold_events(None, log.iter().map(AsRef::as_ref)).unwrap();
                prop_assert_eq!(&fold, &state, "the checkpoint and what follows is the fold of the log");
                prop_assert_eq!(seen(files.store.as_ref(), session).await, (log, state, inbox));
            }
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn a_file_that_two_worked_on_at_once_is_closed_by_the_last() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path()).await;
    let session = new_session(&store).await;
    let other = store.0.open_files().entry(session).or_default().clone();
    store.submit_command(session, command("c", message("hi"))).await.unwrap();
    assert_eq!(store.0.open_files().len(), 1, "somebody else has it");
    drop(other);
    assert!(store.read_summary(session).await.unwrap().unwrap().waiting);
    assert_eq!(store.0.open_files().len(), 0);
    assert_eq!(store.delete_idle_session(session).await.unwrap(), IdleDeletion::Busy, "a message waits");
    assert_eq!(store.0.open_files().len(), 0);
}

#[tokio::test]
async fn what_a_kill_left_of_a_rewrite_is_cleared_away() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path()).await;
    let session = new_session(&store).await;
    let before = seen(&store, session).await;
    drop(store);
    let left = file_of(dir.path(), session).with_extension("jsonl.new");
    fs::write(&left, b"{\"seq\":").unwrap();
    let store = open(dir.path()).await;
    assert!(!left.exists());
    assert_eq!(seen(&store, session).await, before);
}

#[tokio::test]
async fn outputs_outlive_a_restart_and_those_of_nobody_are_cleared_away() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path()).await;
    let (session, call) = (new_session(&store).await, ToolCallId::generate());
    store.save_output(session, &call, "whole".into(), 100).await.unwrap();
    let key = store.deployment_key().await.unwrap();
    drop(store);
    let stray = dir.path().join("outputs").join(SessionId::new().to_string());
    fs::create_dir(&stray).unwrap();
    let store = open(dir.path()).await;
    assert!(!stray.exists());
    assert_eq!(store.read_output(session, &call, 0, 100).await.unwrap().unwrap().bytes, b"whole");
    assert_eq!(store.deployment_key().await.unwrap(), key);
    store.delete_session(session).await.unwrap();
    assert_eq!(fs::read_dir(dir.path().join("outputs")).unwrap().count(), 0);
}
