//! Records that expire: a hash per group, and a sorted set of their expiries, by which they are removed.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{
    encoding::{parse_json, to_json},
    scripts::{PutRecord, PutRecordReply, TakeRecord, TakeRecordReply},
    store::RedisStore,
};
use k8sops_core::{ExpiringRecord, RecordGroup, RecordId, RecordInsertion, RecordStore, StoreError, Timestamp};

/// A field of the hash.
#[derive(Serialize, Deserialize)]
struct StoredRecord {
    value: String,
    expires_at: Timestamp,
}

impl StoredRecord {
    /// The record, unless it has expired.
    fn parse(id: &RecordId, text: &str) -> Result<Option<ExpiringRecord>, StoreError> {
        let Self { value, expires_at } = parse_json("a record", text)?;
        let is_valid = expires_at > Timestamp::now();
        Ok(is_valid.then(|| ExpiringRecord { id: id.clone(), value, expires_at }))
    }
}

impl RedisStore {
    async fn put_record(
        &self,
        group: &RecordGroup,
        record: &ExpiringRecord,
        replace: bool,
    ) -> Result<PutRecordReply, StoreError> {
        let stored = StoredRecord { value: record.value.clone(), expires_at: record.expires_at };
        let put = PutRecord {
            records_key: self.keys.records(group),
            expiries_key: self.keys.record_expiries(group),
            id: record.id.to_string(),
            record: to_json(&stored),
            expires_at: record.expires_at.as_millis().to_string(),
            now: Timestamp::now().as_millis().to_string(),
            replace,
        };
        self.writes.run_script(&put).await
    }
}

#[async_trait]
impl RecordStore for RedisStore {
    async fn insert_record(&self, group: &RecordGroup, record: &ExpiringRecord) -> Result<RecordInsertion, StoreError> {
        match self.put_record(group, record, false).await? {
            PutRecordReply::Written => Ok(RecordInsertion::Inserted),
            PutRecordReply::Exists { record: known } => Ok(match StoredRecord::parse(&record.id, &known)? {
                // An earlier attempt of this write, whose reply was lost.
                Some(known) if known == *record => RecordInsertion::Inserted,
                Some(known) => RecordInsertion::Exists(known),
                // It has expired since.
                None => {
                    self.put_record(group, record, true).await?;
                    RecordInsertion::Inserted
                }
            }),
        }
    }

    async fn replace_record(&self, group: &RecordGroup, record: &ExpiringRecord) -> Result<(), StoreError> {
        self.put_record(group, record, true).await.map(drop)
    }

    async fn read_record(&self, group: &RecordGroup, id: &RecordId) -> Result<Option<ExpiringRecord>, StoreError> {
        let mut read = redis::cmd("HGET");
        read.arg(self.keys.records(group)).arg(id.as_str());
        // Not on a connection for lists: a ticket is read right after it was written.
        let stored: Option<String> = self.writes.query(&read).await?;
        Ok(stored.map(|text| StoredRecord::parse(id, &text)).transpose()?.flatten())
    }

    async fn take_record(&self, group: &RecordGroup, id: &RecordId) -> Result<Option<ExpiringRecord>, StoreError> {
        let take = TakeRecord {
            records_key: self.keys.records(group),
            expiries_key: self.keys.record_expiries(group),
            id: id.to_string(),
        };
        match self.writes.run_script(&take).await? {
            TakeRecordReply::Taken { record } => StoredRecord::parse(id, &record),
            TakeRecordReply::NotFound => Ok(None),
        }
    }

    async fn list_records(&self, group: &RecordGroup) -> Result<Vec<ExpiringRecord>, StoreError> {
        let mut read = redis::cmd("HGETALL");
        read.arg(self.keys.records(group));
        let fields: BTreeMap<String, String> = self.bulk_reads.query(&read).await?;
        let mut records = Vec::with_capacity(fields.len());
        for (id, text) in fields {
            let id = id.parse().map_err(|error| StoreError::corrupt("the id of a record", error))?;
            records.extend(StoredRecord::parse(&id, &text)?);
        }
        Ok(records)
    }
}
