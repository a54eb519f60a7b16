//! Commits, leases and checkpoints.

use std::{sync::Arc, time::Duration};

use super::{Pen, acquire_in_a_while, log, new_session, note, run};
use k8sops_core::{LeaseEpoch, LogCommit, SessionLease, SessionStore, StoreError, load_state};

pub(super) async fn what_is_committed_is_read_back_from_every_cursor(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = new_session(store).await;
    let mut pen = Pen::take(store, session, "a").await;
    for n in 0..20 {
        let drafts = (0..n % 4).map(|m| note(&format!("{n}.{m} ä\n\"{}", "x".repeat(n * 200)))).collect();
        pen.write(drafts, &[], n % 7 == 6).await.expect("a commit");
    }
    let all = log(store, session, 0, 1000).await;
    assert_eq!(all.len() as u64, pen.state.last_seq());
    for after in 0..=all.len() {
        let rest = &all[after..];
        for limit in [1, 2, 3, 7, 1000] {
            assert_eq!(log(store, session, after as u64, limit).await, rest, "after {after} in pages of {limit}");
        }
    }
    let beyond = store.read_events(session, 10_000, 10).await.expect("a cursor beyond the head is no error");
    assert!(beyond.events.is_empty());
    assert_eq!((beyond.last_seq, beyond.oldest_seq), (pen.state.last_seq(), 1));
    assert_eq!(store.read_summary(session).await.expect("the index"), Some(pen.state.summary));
}

pub(super) async fn an_old_epoch_writes_nothing(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = new_session(store).await;
    let mut late = Pen::take(store, session, "a").await;
    store.release_lease(late.lease).await.expect("released");
    let mut new = Pen::take(store, session, "b").await;
    assert!(new.lease.epoch > late.lease.epoch, "an epoch only grows");
    let refused = late.write(vec![note("late")], &[], true).await;
    assert!(matches!(refused, Err(StoreError::Fenced { .. })), "{refused:?}");
    let refused = store.renew_lease(late.lease, Duration::from_secs(1)).await;
    assert!(matches!(refused, Err(StoreError::Fenced { .. })), "{refused:?}");
    // Giving up what is lost is no error, and takes nothing from the one who has it.
    store.release_lease(late.lease).await.expect("no error");
    new.write(vec![note("new")], &[], false).await.expect("the owner writes");
    assert_eq!(log(store, session, 1, 10).await.len(), 1);
}

pub(super) async fn a_released_lease_writes_nothing(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = new_session(store).await;
    let mut pen = Pen::take(store, session, "a").await;
    store.release_lease(pen.lease).await.expect("released");
    let refused = pen.write(vec![note("late")], &[], false).await;
    assert!(matches!(refused, Err(StoreError::Fenced { .. })), "{refused:?}");
    let never = SessionLease { session, epoch: LeaseEpoch(999) };
    let refused = store.renew_lease(never, Duration::from_secs(1)).await;
    assert!(matches!(refused, Err(StoreError::Fenced { .. })), "{refused:?}");
}

pub(super) async fn a_wrong_expected_seq_writes_nothing(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = new_session(store).await;
    let mut pen = Pen::take(store, session, "a").await;
    let before = pen.state.clone();
    pen.write(vec![note("one")], &[], false).await.expect("a commit");
    let after = std::mem::replace(&mut pen.state, before);
    let refused = pen.write(vec![note("again")], &[], false).await;
    assert!(matches!(refused, Err(StoreError::SeqConflict { expected: 1, found: 2, .. })), "{refused:?}");
    assert_eq!(load_state(store, session).await.expect("the state").state, after);
}

pub(super) async fn events_that_do_not_follow_the_head_are_refused(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = new_session(store).await;
    let pen = Pen::take(store, session, "a").await;
    for seqs in [&[1][..], &[3], &[2, 4], &[2, 2]] {
        let events: Vec<_> = seqs.iter().map(|seq| Arc::new(note("x").into_event(session, *seq))).collect();
        let commit = LogCommit {
            session,
            epoch: pen.lease.epoch,
            expected_seq: 1,
            events: &events,
            consumed: &[],
            summary: &pen.state.summary,
            checkpoint: None,
        };
        let refused = store.commit_events(commit).await;
        assert!(matches!(refused, Err(StoreError::SeqConflict { .. })), "{seqs:?}: {refused:?}");
    }
    assert_eq!(log(store, session, 0, 10).await.len(), 1);
}

pub(super) async fn of_two_writers_at_the_same_seq_one_wins(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = new_session(store).await;
    let mut one = Pen::take(store, session, "a").await;
    for n in 0..10 {
        let mut other = Pen { store, lease: one.lease, state: one.state.clone() };
        let (first, second) =
            tokio::join!(one.write(vec![note("one")], &[], false), other.write(vec![note("other")], &[], false));
        assert!(first.is_ok() != second.is_ok(), "round {n}: {first:?} {second:?}");
        one.state = load_state(store, session).await.expect("the state").state;
    }
    assert_eq!(log(store, session, 0, 100).await.len(), 11);
}

pub(super) async fn a_lease_is_held_until_it_runs_out(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = new_session(store).await;
    let long = Duration::from_secs(60);
    let lease = store.acquire_lease(session, "a", Duration::from_millis(50)).await.expect("free");
    store.renew_lease(lease, long).await.expect("renewed");
    let held = store.acquire_lease(session, "b", long).await;
    assert!(matches!(held, Err(StoreError::Held(_))), "{held:?}");
    store.renew_lease(lease, Duration::from_millis(1)).await.expect("renewed");
    let taken = acquire_in_a_while(store, session, "b", long).await;
    assert!(taken.epoch > lease.epoch);
    assert!(matches!(store.renew_lease(lease, long).await, Err(StoreError::Fenced { .. })));
}

pub(super) async fn the_checkpoint_and_what_follows_is_the_fold_of_the_log(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = new_session(store).await;
    let mut pen = Pen::take(store, session, "a").await;
    assert_eq!(store.read_checkpoint(session).await.expect("no checkpoint"), None);
    for n in 0..12 {
        let before = pen.state.clone();
        let checkpoint = n % 3 == 2;
        pen.write(run(&format!("turn {n}")), &[], checkpoint).await.expect("a commit");
        if checkpoint {
            assert_eq!(store.read_checkpoint(session).await.expect("a checkpoint"), Some(before));
        }
        assert_eq!(load_state(store, session).await.expect("the state").state, pen.state, "after turn {n}");
    }
    let mut empty = Pen { store, lease: pen.lease, state: pen.state.clone() };
    empty.write(Vec::new(), &[], true).await.expect("a checkpoint alone");
    assert_eq!(store.read_checkpoint(session).await.expect("a checkpoint"), Some(pen.state));
}
