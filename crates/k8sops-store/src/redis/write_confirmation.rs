//! Confirmation of writes, as sessions ask for it.

use async_trait::async_trait;

use super::{confirmation::ConfirmationFailure, inbox::receipt_id, scripts::MarkWrite, store::RedisStore};
use k8sops_core::{BackendError, ConfirmableWrite, SessionId, StoreError, StoreOutage, WriteConfirmation};

#[async_trait]
impl WriteConfirmation for RedisStore {
    async fn confirm_write(&self, session: SessionId, write: ConfirmableWrite<'_>) -> Result<(), StoreError> {
        let mut mark = MarkWrite {
            meta_key: self.keys.meta(session),
            log_key: self.keys.log(session),
            receipts_key: self.keys.receipts(session),
            seq: None,
            lineage: None,
            receipt_id: None,
            command_id: None,
        };
        match write {
            ConfirmableWrite::Creation => {}
            ConfirmableWrite::Events(head) => {
                mark.seq = Some(head.seq);
                mark.lineage = head.lineage.map(|lineage| lineage.to_string());
            }
            ConfirmableWrite::Command { by, command_id } => {
                mark.receipt_id = Some(receipt_id(by, command_id));
                mark.command_id = Some(command_id.as_str().to_owned());
            }
        }
        match self.confirmer.confirm(mark).await {
            Ok(()) => Ok(()),
            Err(ConfirmationFailure::Failed(error)) => Err(error),
            Err(ConfirmationFailure::SessionNotFound) => Err(match write {
                ConfirmableWrite::Creation => {
                    let problem = "Redis has lost the session since it was created, as a failover can do";
                    StoreError::Unavailable(BackendError::new(problem).with_outage(StoreOutage::Unconfirmed))
                }
                ConfirmableWrite::Events(_) | ConfirmableWrite::Command { .. } => StoreError::NotFound(session),
            }),
        }
    }
}
