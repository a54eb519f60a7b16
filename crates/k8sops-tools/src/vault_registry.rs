//! The redaction vaults of all sessions.

use std::{collections::HashMap, sync::Arc, time::Instant};

use parking_lot::Mutex;
use tokio::sync::OnceCell;

use k8sops_core::SessionId;

use crate::redaction::RedactionVault;

/// Most sessions whose vault is kept. One more drops the vault that was not used for the longest time.
const MAX_VAULTS: usize = 1_000;

/// A vault that is created on first use, because its key is read from the store.
pub(crate) type VaultCell = Arc<OnceCell<Arc<RedactionVault>>>;

/// The redaction vault of each session, kept between the runs of a session: what was redacted in one turn of the
/// conversation is redacted, and can be used, in the next.
#[derive(Default)]
pub(crate) struct VaultRegistry(Mutex<HashMap<SessionId, (Instant, VaultCell)>>);

impl VaultRegistry {
    pub(crate) fn vault_of(&self, session: SessionId) -> VaultCell {
        let mut vaults = self.0.lock();
        if vaults.len() >= MAX_VAULTS && !vaults.contains_key(&session) {
            let oldest = vaults.iter().min_by_key(|(_, (last_use, _))| *last_use).map(|(session, _)| *session);
            oldest.and_then(|oldest| vaults.remove(&oldest));
        }
        let (last_use, vault) = vaults.entry(session).or_insert_with(|| (Instant::now(), VaultCell::default()));
        *last_use = Instant::now();
        vault.clone()
    }
}
