//! Configurations and the state of their delivery in the store: any replica serves them, and any can continue to deliver.
//!
//! | group | records |
//! |---|---|
//! | `push-configs` of a session | the configurations, until they expire or their session is deleted |
//! | `push-deliveries` | the configurations whose tasks have notifications to come, and how far they are delivered |
//! | `push-claims` | which replica delivers, until it fails to renew that |

use std::{collections::HashSet, sync::Arc, time::Duration};

use data_encoding::HEXLOWER;
use k8sops_core::{
    BackendError, ExpiringRecord, RecordGroup, RecordId, RecordInsertion, SessionId, SessionStore, StoreError,
    Timestamp, random_key,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

use super::{
    notification_source::NotificationPosition,
    push_config::{PushConfig, PushTask},
};

/// How long a configuration is kept.
const CONFIG_LIFETIME: Duration = Duration::from_hours(30 * 24);
/// How long a replica is waited for that delivers and was killed.
pub(super) const CLAIM_LIFETIME: Duration = Duration::from_secs(15);

/// The content of a configuration's record.
#[derive(Serialize, Deserialize)]
struct StoredConfig {
    /// Tells a configuration from an earlier one with the same id that was removed, whose delivery may not have ended yet.
    generation: String,
    #[serde(flatten)]
    config: PushConfig,
}

/// How far the notifications of a configuration are delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PushDelivery {
    pub(super) session: SessionId,
    /// The record of the configuration.
    config: String,
    /// See [`StoredConfig::generation`].
    generation: String,
    /// The newest notification that the receiver has accepted.
    pub(super) position: NotificationPosition,
    /// How many attempts to send the next one have failed.
    #[serde(default)]
    pub(super) failed_attempts: u32,
}

impl PushDelivery {
    fn new(session: SessionId, config: &RecordId, generation: String, position: NotificationPosition) -> Self {
        Self { session, config: config.to_string(), generation, position, failed_attempts: 0 }
    }

    /// The id of its record, and of its claim.
    pub(super) fn record_id(&self) -> RecordId {
        digest_id(&[&self.session.to_string(), &self.config, &self.generation])
    }
}

/// What became of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClaimOutcome {
    Held,
    /// Another replica delivers.
    Lost,
}

/// Push notifications in the store of sessions.
#[derive(Clone)]
pub(super) struct PushStore {
    store: Arc<dyn SessionStore>,
    replica: String,
}

impl PushStore {
    pub(super) fn new(store: Arc<dyn SessionStore>, replica: String) -> Self {
        Self { store, replica }
    }

    /// Whether other replicas use the same store. Otherwise there is nothing to claim.
    fn is_shared(&self) -> bool {
        self.store.notifications().is_some()
    }

    /// Writes a configuration, in place of the one with this id, and begins to deliver after `position` unless that has begun.
    pub(super) async fn save_config(
        &self,
        config: &PushConfig,
        position: NotificationPosition,
    ) -> Result<(), StoreError> {
        let group = RecordGroup::push_configs_of(config.task.session);
        let id = config_record_id(&config.task, &config.id);
        let known: Option<StoredConfig> = self.store.read_record(&group, &id).await?.as_ref().map(parse).transpose()?;
        let generation = known.map_or_else(|| HEXLOWER.encode(&random_key()[..8]), |known| known.generation);
        let stored = StoredConfig { generation, config: config.clone() };
        // First, because a delivery without a configuration is over.
        self.store.replace_record(&group, &record(id.clone(), &stored)).await?;
        let delivery = PushDelivery::new(config.task.session, &id, stored.generation, position);
        self.store.insert_record(&RecordGroup::push_deliveries(), &record(delivery.record_id(), &delivery)).await?;
        Ok(())
    }

    /// The configurations of all tasks of a session.
    pub(super) async fn list_configs(&self, session: SessionId) -> Result<Vec<PushConfig>, StoreError> {
        let records = self.store.list_records(&RecordGroup::push_configs_of(session)).await?;
        records.iter().map(|record| Ok(parse::<StoredConfig>(record)?.config)).collect()
    }

    /// The configuration of a task with this id.
    pub(super) async fn find_config(&self, task: &PushTask, id: &str) -> Result<Option<PushConfig>, StoreError> {
        let found = self.read_stored(task.session, &config_record_id(task, id)).await?;
        Ok(found.map(|stored| stored.config))
    }

    /// The configuration that a delivery is about, unless it was removed.
    pub(super) async fn read_config(&self, delivery: &PushDelivery) -> Result<Option<PushConfig>, StoreError> {
        let Ok(id) = delivery.config.parse() else { return Ok(None) };
        let found = self.read_stored(delivery.session, &id).await?;
        Ok(found.filter(|stored| stored.generation == delivery.generation).map(|stored| stored.config))
    }

    async fn read_stored(&self, session: SessionId, id: &RecordId) -> Result<Option<StoredConfig>, StoreError> {
        let found = self.store.read_record(&RecordGroup::push_configs_of(session), id).await?;
        found.as_ref().map(parse).transpose()
    }

    /// Removes a configuration, and stops its delivery. Returns it if it existed.
    pub(super) async fn remove_config(&self, task: &PushTask, id: &str) -> Result<Option<PushConfig>, StoreError> {
        let id = config_record_id(task, id);
        let taken = self.store.take_record(&RecordGroup::push_configs_of(task.session), &id).await?;
        let Some(taken) = taken else { return Ok(None) };
        let StoredConfig { generation, config } = parse(&taken)?;
        let delivery = PushDelivery::new(task.session, &id, generation, NotificationPosition::after_event(0));
        self.remove_delivery(&delivery.record_id()).await?;
        Ok(Some(config))
    }

    /// The deliveries that have not ended.
    pub(super) async fn list_deliveries(&self) -> Result<HashSet<RecordId>, StoreError> {
        let records = self.store.list_records(&RecordGroup::push_deliveries()).await?;
        Ok(records.into_iter().map(|record| record.id).collect())
    }

    /// The deliveries that a replica has claimed.
    pub(super) async fn list_claimed(&self) -> Result<HashSet<RecordId>, StoreError> {
        if !self.is_shared() {
            return Ok(HashSet::new());
        }
        let records = self.store.list_records(&RecordGroup::push_claims()).await?;
        Ok(records.into_iter().map(|record| record.id).collect())
    }

    pub(super) async fn read_delivery(&self, id: &RecordId) -> Result<Option<PushDelivery>, StoreError> {
        let found = self.store.read_record(&RecordGroup::push_deliveries(), id).await?;
        found.as_ref().map(parse).transpose()
    }

    pub(super) async fn save_delivery(&self, delivery: &PushDelivery) -> Result<(), StoreError> {
        let record = record(delivery.record_id(), delivery);
        self.store.replace_record(&RecordGroup::push_deliveries(), &record).await
    }

    pub(super) async fn remove_delivery(&self, id: &RecordId) -> Result<(), StoreError> {
        self.store.take_record(&RecordGroup::push_deliveries(), id).await.map(drop)
    }

    /// Claims a delivery for this replica, or extends the claim.
    pub(super) async fn claim_delivery(&self, id: &RecordId) -> Result<ClaimOutcome, StoreError> {
        if !self.is_shared() {
            return Ok(ClaimOutcome::Held);
        }
        let group = RecordGroup::push_claims();
        let expires_at = Timestamp::now().saturating_add(CLAIM_LIFETIME);
        let claim = ExpiringRecord { id: id.clone(), value: self.replica.clone(), expires_at };
        Ok(match self.store.insert_record(&group, &claim).await? {
            RecordInsertion::Inserted => ClaimOutcome::Held,
            RecordInsertion::Exists(known) if known.value == self.replica => {
                self.store.replace_record(&group, &claim).await?;
                ClaimOutcome::Held
            }
            RecordInsertion::Exists(_) => ClaimOutcome::Lost,
        })
    }

    /// Gives a claim of this replica up, so that another one need not wait until it expires.
    pub(super) async fn release_claim(&self, id: &RecordId) -> Result<(), StoreError> {
        if self.is_shared() {
            self.store.take_record(&RecordGroup::push_claims(), id).await?;
        }
        Ok(())
    }
}

fn config_record_id(task: &PushTask, id: &str) -> RecordId {
    digest_id(&[&task.run.to_string(), id])
}

/// Returns an id of a record for any texts.
fn digest_id(texts: &[&str]) -> RecordId {
    let mut digest = Sha256::new();
    for text in texts {
        digest.update(text.len().to_be_bytes());
        digest.update(text);
    }
    HEXLOWER.encode(&digest.finalize()[..16]).parse().expect("hexadecimal digits are a valid id")
}

fn record(id: RecordId, value: &impl Serialize) -> ExpiringRecord {
    let value = serde_json::to_string(value).expect("records have string keys and no failing Serialize");
    ExpiringRecord { id, value, expires_at: Timestamp::now().saturating_add(CONFIG_LIFETIME) }
}

fn parse<T: DeserializeOwned>(record: &ExpiringRecord) -> Result<T, StoreError> {
    // The cause would quote the record, which has secrets.
    serde_json::from_str(&record.value)
        .map_err(|_| StoreError::FileDamaged(BackendError::new("a record of push notifications is not valid")))
}
