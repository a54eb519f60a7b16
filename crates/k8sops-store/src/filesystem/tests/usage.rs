//! The notes of usage: appended, folded, torn, damaged, of a newer version.

use std::{fs, path::PathBuf};

use tempfile::TempDir;

use super::open_store;
use crate::{
    FilesystemStore,
    contract::test_user,
    filesystem::{
        injected_faults::{FaultyDisk, PlannedFault},
        layout::StoreLayout,
        line_format::seal_line,
    },
};
use k8sops_core::*;

fn daily_usage(day: UsageDay, tokens: u64) -> DailyUsage {
    let usage = TokenUsage { input_tokens: tokens, ..TokenUsage::default() };
    DailyUsage { day, models: vec![ModelUsage { provider: "p".into(), model: "m".into(), usage }] }
}

/// A store, and the files of today's usage of one user.
struct UsageFixture {
    dir: TempDir,
    store: Option<FilesystemStore>,
    folded: PathBuf,
    notes: PathBuf,
}

impl UsageFixture {
    async fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let layout = StoreLayout::new(dir.path().to_owned());
        let (anna, today) = (test_user("anna"), UsageDay::today());
        let (folded, notes) = (layout.usage_file(&anna, today), layout.usage_notes_file(&anna, today));
        Self { store: Some(open_store(dir.path()).await), dir, folded, notes }
    }

    fn store(&self) -> &FilesystemStore {
        self.store.as_ref().unwrap()
    }

    async fn reopen(&mut self) {
        self.store = None;
        self.store = Some(open_store(self.dir.path()).await);
    }

    async fn record(&self, session: SessionId, tokens: u64) -> Result<(), StoreError> {
        self.store().record_usage(&test_user("anna"), session, &daily_usage(UsageDay::today(), tokens)).await
    }

    /// The tokens of all sessions, sorted; the error's text if they cannot be read.
    async fn read(&self) -> Result<Vec<u64>, String> {
        let days = self.store().read_usage(&test_user("anna"), &[UsageDay::today()]).await;
        let sessions = days.map_err(|error| error.to_string())?.remove(0).sessions;
        let mut tokens: Vec<_> = sessions.values().map(|models| models[0].usage.input_tokens).collect();
        tokens.sort_unstable();
        Ok(tokens)
    }
}

#[tokio::test]
async fn record_writes_no_more_on_a_long_day() {
    let usage = UsageFixture::new().await;
    let size = || fs::metadata(&usage.notes).unwrap().len();
    usage.record(SessionId::new(), 1).await.unwrap();
    let header_and_first = size();
    let mut grown = Vec::new();
    for n in 0..500 {
        let before = size();
        usage.record(SessionId::new(), 100 + n % 100).await.unwrap();
        grown.push(size() - before);
    }
    assert!(grown.iter().all(|bytes| *bytes == grown[0] && *bytes < header_and_first), "{grown:?}");
    assert!(!usage.folded.exists());
    assert_eq!(usage.read().await.unwrap().len(), 501);
}

#[tokio::test]
async fn notes_are_folded_when_they_repeat_sessions_and_at_the_start() {
    let mut usage = UsageFixture::new().await;
    let sessions = [SessionId::new(), SessionId::new(), SessionId::new()];
    for n in 0..1000 {
        usage.record(sessions[n % 3], n as u64).await.unwrap();
        let notes = fs::read_to_string(&usage.notes).unwrap_or_default().lines().count();
        assert!(notes < 300, "{notes} notes of three sessions");
    }
    assert_eq!(usage.read().await.unwrap(), [997, 998, 999]);
    usage.reopen().await;
    assert!(usage.folded.exists() && !usage.notes.exists());
    assert_eq!(usage.read().await.unwrap(), [997, 998, 999]);
    usage.record(sessions[0], 2000).await.unwrap();
    assert_eq!(usage.read().await.unwrap(), [997, 998, 2000]);
}

#[tokio::test]
async fn torn_notes_are_left_out_and_written_over() {
    for torn in [&b"{\"session\":\"0189"[..], &[0; 600], b"\0\0\0\0\n", b"{", b"{\"session\":\0\0\0\0"] {
        let mut usage = UsageFixture::new().await;
        usage.record(SessionId::new(), 5).await.unwrap();
        let whole = fs::read(&usage.notes).unwrap();
        fs::write(&usage.notes, [&whole[..], torn].concat()).unwrap();
        assert_eq!(usage.read().await.unwrap(), [5], "{torn:?}");
        usage.record(SessionId::new(), 6).await.unwrap();
        assert_eq!(usage.read().await.unwrap(), [5, 6], "{torn:?}");
        usage.reopen().await;
        assert_eq!(usage.read().await.unwrap(), [5, 6], "{torn:?}");
    }
}

#[tokio::test]
async fn damaged_notes_are_reported_and_moved_aside() {
    let mut usage = UsageFixture::new().await;
    usage.record(SessionId::new(), 5).await.unwrap();
    let changed = fs::read_to_string(&usage.notes).unwrap().replace("tokens\":5", "tokens\":7");
    fs::write(&usage.notes, &changed).unwrap();
    let error = usage.read().await.unwrap_err();
    assert!(error.contains(usage.notes.to_str().unwrap()) && error.contains("changed after it was written"), "{error}");
    usage.reopen().await;
    assert_eq!(fs::read_to_string(&usage.notes).unwrap(), changed, "the start leaves it as it is");
    usage.record(SessionId::new(), 6).await.unwrap();
    assert_eq!(usage.read().await.unwrap(), [6]);
    assert_eq!(fs::read_to_string(usage.notes.with_extension("damaged.jsonl")).unwrap(), changed);
}

#[tokio::test]
async fn notes_of_a_newer_version_are_kept() {
    let mut usage = UsageFixture::new().await;
    usage.record(SessionId::new(), 5).await.unwrap();
    let newer = String::from_utf8(seal_line(br#"{"format":{"version":3,"writer":"0.9.0"}}"#.to_vec())).unwrap();
    fs::write(&usage.notes, &newer).unwrap();
    usage.reopen().await;
    for error in [usage.read().await.unwrap_err(), usage.record(SessionId::new(), 6).await.unwrap_err().to_string()] {
        assert!(error.contains("written by k8sops 0.9.0 in format 3"), "{error}");
    }
    assert_eq!(fs::read_to_string(&usage.notes).unwrap(), newer);
}

#[tokio::test]
async fn failed_record_takes_no_other_record_away() {
    let mut usage = UsageFixture::new().await;
    let disk = FaultyDisk::new(usage.dir.path());
    let session = SessionId::new();
    usage.record(session, 5).await.unwrap();
    for after in 0..6 {
        disk.plan(Some(PlannedFault { after, count: 1, errno: 28 }));
        let recorded = usage.record(SessionId::new(), 100 + after as u64).await;
        disk.plan(None);
        usage.record(session, 6 + after as u64).await.unwrap();
        let read = usage.read().await.unwrap();
        assert!(read.contains(&(6 + after as u64)), "{read:?}");
        assert_eq!(read.contains(&(100 + after as u64)), recorded.is_ok(), "fault {after}: {read:?}");
    }
    let before = usage.read().await.unwrap();
    usage.reopen().await;
    assert_eq!(usage.read().await.unwrap(), before);
}

#[tokio::test]
async fn users_beyond_the_cache_keep_their_usage() {
    let mut usage = UsageFixture::new().await;
    let users: Vec<UserId> = (0..300).map(|n| test_user(&format!("user{n}"))).collect();
    for tokens in [1, 2] {
        for user in &users {
            let used = daily_usage(UsageDay::today(), tokens);
            usage.store().record_usage(user, SessionId::new(), &used).await.unwrap();
        }
    }
    for reopened in [false, true] {
        for user in &users {
            let days = usage.store().read_usage(user, &[UsageDay::today()]).await.unwrap();
            assert_eq!(days[0].session_count(), 2, "{user}, {reopened}");
        }
        usage.reopen().await;
    }
}
