//! Rules of records that expire.

use std::{sync::Arc, time::Duration};

use super::fixtures::test_user;
use k8sops_core::{ExpiringRecord, RecordGroup, RecordInsertion, SessionId, SessionStore, Timestamp};

fn record(id: &str, value: &str, lifetime: Duration) -> ExpiringRecord {
    let expires_at = Timestamp::now().saturating_add(lifetime);
    ExpiringRecord { id: id.parse().unwrap(), value: value.to_owned(), expires_at }
}

const HOUR: Duration = Duration::from_secs(3600);

pub(super) async fn record_is_inserted_once_and_replaced(store: Arc<dyn SessionStore>) {
    let group = RecordGroup::creations_of(&test_user("anna"));
    let first = record("a1", "{\"n\":1}", HOUR);
    assert_eq!(store.insert_record(&group, &first).await.unwrap(), RecordInsertion::Inserted);
    let again = store.insert_record(&group, &record("a1", "other", HOUR)).await.unwrap();
    assert_eq!(again, RecordInsertion::Exists(first.clone()));
    assert_eq!(store.read_record(&group, &first.id).await.unwrap(), Some(first.clone()));
    // Groups of other owners, and other kinds of the same owner, have records of their own.
    let session = SessionId::new();
    for other in [
        RecordGroup::creations_of(&test_user("bert")),
        RecordGroup::shares_of(session),
        RecordGroup::push_configs_of(session),
        RecordGroup::push_deliveries(),
        RecordGroup::push_claims(),
    ] {
        assert_eq!(store.read_record(&other, &first.id).await.unwrap(), None);
        assert_eq!(store.insert_record(&other, &first).await.unwrap(), RecordInsertion::Inserted);
    }
    let later = record("a1", "ä\n\"", 2 * HOUR);
    store.replace_record(&group, &later).await.unwrap();
    assert_eq!(store.read_record(&group, &first.id).await.unwrap(), Some(later.clone()));
    store.replace_record(&group, &record("b", "new", HOUR)).await.unwrap();
    let listed = store.list_records(&group).await.unwrap();
    assert_eq!(listed.iter().map(|record| record.value.as_str()).collect::<Vec<_>>(), ["ä\n\"", "new"]);
}

pub(super) async fn record_is_taken_by_one(store: Arc<dyn SessionStore>) {
    let group = RecordGroup::tickets();
    let ticket = record("t", "anna", HOUR);
    store.insert_record(&group, &ticket).await.unwrap();
    let takers: Vec<_> = (0..8)
        .map(|_| {
            let (store, group, id) = (store.clone(), group.clone(), ticket.id.clone());
            tokio::spawn(async move { store.take_record(&group, &id).await.unwrap() })
        })
        .collect();
    let mut taken = Vec::new();
    for taker in takers {
        taken.extend(taker.await.unwrap());
    }
    assert_eq!(taken, std::slice::from_ref(&ticket));
    assert_eq!(store.read_record(&group, &ticket.id).await.unwrap(), None);
    assert_eq!(store.list_records(&group).await.unwrap(), []);
    assert_eq!(store.take_record(&group, &"unknown".parse().unwrap()).await.unwrap(), None);
}

pub(super) async fn expired_record_does_not_exist(store: Arc<dyn SessionStore>) {
    let group = RecordGroup::shares_of(SessionId::new());
    let short = record("short", "1", Duration::from_millis(300));
    let long = record("long", "2", HOUR);
    for record in [&short, &long] {
        store.insert_record(&group, record).await.unwrap();
    }
    assert_eq!(store.list_records(&group).await.unwrap(), [long.clone(), short.clone()]);
    while Timestamp::now() <= short.expires_at {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(store.read_record(&group, &short.id).await.unwrap(), None);
    assert_eq!(store.take_record(&group, &short.id).await.unwrap(), None);
    assert_eq!(store.list_records(&group).await.unwrap(), [long]);
    let again = record("short", "3", HOUR);
    assert_eq!(store.insert_record(&group, &again).await.unwrap(), RecordInsertion::Inserted);
}
