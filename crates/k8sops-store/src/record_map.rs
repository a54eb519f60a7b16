//! Records in memory.

use std::collections::{BTreeMap, HashMap};

use k8sops_core::{ExpiringRecord, RecordGroup, RecordId, RecordInsertion, Timestamp};
use parking_lot::Mutex;

/// The records of all groups.
// The lock is held for look-ups and insertions, never across an await.
#[derive(Debug, Default)]
pub(super) struct RecordMap(Mutex<HashMap<RecordGroup, BTreeMap<RecordId, ExpiringRecord>>>);

impl RecordMap {
    /// Works on the records of a group that have not expired.
    fn with_group<T>(&self, group: &RecordGroup, work: impl FnOnce(&mut BTreeMap<RecordId, ExpiringRecord>) -> T) -> T {
        let mut groups = self.0.lock();
        let records = groups.entry(group.clone()).or_default();
        let now = Timestamp::now();
        records.retain(|_, record| record.expires_at > now);
        let result = work(records);
        if records.is_empty() {
            groups.remove(group);
        }
        result
    }

    pub(super) fn insert(&self, group: &RecordGroup, record: &ExpiringRecord) -> RecordInsertion {
        self.with_group(group, |records| {
            if let Some(known) = records.get(&record.id) {
                return RecordInsertion::Exists(known.clone());
            }
            records.insert(record.id.clone(), record.clone());
            RecordInsertion::Inserted
        })
    }

    pub(super) fn replace(&self, group: &RecordGroup, record: &ExpiringRecord) {
        self.with_group(group, |records| records.insert(record.id.clone(), record.clone()));
    }

    pub(super) fn read(&self, group: &RecordGroup, id: &RecordId) -> Option<ExpiringRecord> {
        self.with_group(group, |records| records.get(id).cloned())
    }

    pub(super) fn take(&self, group: &RecordGroup, id: &RecordId) -> Option<ExpiringRecord> {
        self.with_group(group, |records| records.remove(id))
    }

    pub(super) fn list(&self, group: &RecordGroup) -> Vec<ExpiringRecord> {
        self.with_group(group, |records| records.values().cloned().collect())
    }
}
