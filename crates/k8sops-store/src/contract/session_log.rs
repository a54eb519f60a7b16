//! Rules of logs and leases: commits, fencing, checkpoints.

use std::{sync::Arc, time::Duration};

use super::fixtures::{
    CheckpointWrite, SessionWriter, acquire_when_free, create_test_session, read_log, run_drafts, warning_draft,
};
use k8sops_core::{LeaseEpoch, LogCommit, SessionLease, SessionStore, StoreError, load_state};

pub(super) async fn committed_events_are_read_from_any_seq(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = create_test_session(store).await;
    let mut writer = SessionWriter::acquire(store, session, "a").await;
    for n in 0..20 {
        let drafts = (0..n % 4).map(|m| warning_draft(&format!("{n}.{m} ä\n\"{}", "x".repeat(n * 200)))).collect();
        writer.commit(drafts, &[], CheckpointWrite::when(n % 7 == 6)).await.unwrap();
    }
    let all = read_log(store, session, 0, 1000).await;
    assert_eq!(all.len() as u64, writer.state.last_seq());
    for after in 0..=all.len() {
        let rest = &all[after..];
        for limit in [1, 2, 3, 7, 1000] {
            assert_eq!(read_log(store, session, after as u64, limit).await, rest, "after {after} in pages of {limit}");
        }
    }
    let beyond = store.read_events(session, 10_000, 10).await.unwrap();
    assert!(beyond.events.is_empty());
    assert_eq!((beyond.last_seq, beyond.oldest_seq), (writer.state.last_seq(), 1));
    assert_eq!(store.read_summary(session).await.unwrap(), Some(writer.state.summary));
}

pub(super) async fn old_epoch_is_fenced(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = create_test_session(store).await;
    let mut late = SessionWriter::acquire(store, session, "a").await;
    store.release_lease(late.lease).await.unwrap();
    let mut new = SessionWriter::acquire(store, session, "b").await;
    assert!(new.lease.epoch > late.lease.epoch, "an epoch only grows");
    let refused = late.commit(vec![warning_draft("late")], &[], CheckpointWrite::Write).await;
    assert!(matches!(refused, Err(StoreError::Fenced { .. })), "{refused:?}");
    let refused = store.renew_lease(late.lease, Duration::from_secs(1)).await;
    assert!(matches!(refused, Err(StoreError::Fenced { .. })), "{refused:?}");
    // Releasing a lost lease is no error, and does not affect the owner.
    store.release_lease(late.lease).await.unwrap();
    new.append(vec![warning_draft("new")]).await.unwrap();
    assert_eq!(read_log(store, session, 1, 10).await.len(), 1);
}

pub(super) async fn released_lease_is_fenced(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = create_test_session(store).await;
    let mut writer = SessionWriter::acquire(store, session, "a").await;
    store.release_lease(writer.lease).await.unwrap();
    let refused = writer.append(vec![warning_draft("late")]).await;
    assert!(matches!(refused, Err(StoreError::Fenced { .. })), "{refused:?}");
    let never = SessionLease { session, epoch: LeaseEpoch(999) };
    let refused = store.renew_lease(never, Duration::from_secs(1)).await;
    assert!(matches!(refused, Err(StoreError::Fenced { .. })), "{refused:?}");
}

pub(super) async fn wrong_expected_seq_is_rejected(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = create_test_session(store).await;
    let mut writer = SessionWriter::acquire(store, session, "a").await;
    let before = writer.state.clone();
    writer.append(vec![warning_draft("one")]).await.unwrap();
    let after = std::mem::replace(&mut writer.state, before);
    let refused = writer.append(vec![warning_draft("again")]).await;
    assert!(matches!(refused, Err(StoreError::SeqConflict { expected: 1, found: 2, .. })), "{refused:?}");
    assert_eq!(load_state(store, session).await.unwrap().state, after);
}

pub(super) async fn events_with_gaps_are_rejected(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = create_test_session(store).await;
    let writer = SessionWriter::acquire(store, session, "a").await;
    for seqs in [&[1][..], &[3], &[2, 4], &[2, 2]] {
        let events: Vec<_> = seqs.iter().map(|seq| Arc::new(warning_draft("x").into_event(session, *seq))).collect();
        let commit = LogCommit {
            session,
            epoch: writer.lease.epoch,
            expected_seq: 1,
            events: &events,
            consumed: &[],
            summary: &writer.state.summary,
            checkpoint: None,
        };
        let refused = store.commit_events(commit).await;
        assert!(matches!(refused, Err(StoreError::SeqConflict { .. })), "{seqs:?}: {refused:?}");
    }
    assert_eq!(read_log(store, session, 0, 10).await.len(), 1);
}

pub(super) async fn one_of_two_concurrent_writers_wins(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = create_test_session(store).await;
    let mut one = SessionWriter::acquire(store, session, "a").await;
    for n in 0..10 {
        let mut other = SessionWriter { store, lease: one.lease, state: one.state.clone() };
        let (first, second) =
            tokio::join!(one.append(vec![warning_draft("one")]), other.append(vec![warning_draft("other")]));
        assert!(first.is_ok() != second.is_ok(), "round {n}: {first:?} {second:?}");
        one.state = load_state(store, session).await.unwrap().state;
    }
    assert_eq!(read_log(store, session, 0, 100).await.len(), 11);
}

pub(super) async fn lease_is_held_until_it_expires(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = create_test_session(store).await;
    let long = Duration::from_secs(60);
    let lease = store.acquire_lease(session, "a", Duration::from_millis(50)).await.unwrap();
    store.renew_lease(lease, long).await.unwrap();
    let held = store.acquire_lease(session, "b", long).await;
    assert!(matches!(held, Err(StoreError::Held(_))), "{held:?}");
    store.renew_lease(lease, Duration::from_millis(1)).await.unwrap();
    let taken = acquire_when_free(store, session, "b", long).await;
    assert!(taken.epoch > lease.epoch);
    assert!(matches!(store.renew_lease(lease, long).await, Err(StoreError::Fenced { .. })));
}

pub(super) async fn checkpoint_and_later_events_equal_the_fold(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = create_test_session(store).await;
    let mut writer = SessionWriter::acquire(store, session, "a").await;
    assert_eq!(store.read_checkpoint(session).await.unwrap(), None);
    for n in 0..12 {
        let before = writer.state.clone();
        let checkpoint = n % 3 == 2;
        writer.commit(run_drafts(&format!("turn {n}")), &[], CheckpointWrite::when(checkpoint)).await.unwrap();
        if checkpoint {
            assert_eq!(store.read_checkpoint(session).await.unwrap(), Some(before));
        }
        assert_eq!(load_state(store, session).await.unwrap().state, writer.state, "after turn {n}");
    }
    let mut empty = SessionWriter { store, lease: writer.lease, state: writer.state.clone() };
    empty.commit(Vec::new(), &[], CheckpointWrite::Write).await.unwrap();
    assert_eq!(store.read_checkpoint(session).await.unwrap(), Some(writer.state));
}
