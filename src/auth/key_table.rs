//! The API keys in force.

use std::sync::Arc;

use k8sops_core::{Timestamp, UserId};
use subtle::ConstantTimeEq as _;
use tokio::sync::watch;

use super::{clock::sleep_until, roles::RoleSet};

/// An API key, as listed in the key file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ApiKey {
    /// The SHA-256 of the key.
    pub(super) hash: [u8; 32],
    pub(super) user: UserId,
    pub(super) roles: RoleSet,
    pub(super) expires_at: Option<Timestamp>,
}

impl ApiKey {
    pub(super) fn has_expired(&self) -> bool {
        self.expires_at.is_some_and(|at| at <= Timestamp::now())
    }
}

/// All keys of a key file.
pub(super) type KeyTable = Arc<[ApiKey]>;

/// Finds a key by its hash. Compares all keys in constant time, so that the duration does not reveal where hashes differ.
pub(super) fn find_key<'a>(table: &'a KeyTable, hash: &[u8; 32]) -> Option<&'a ApiKey> {
    let mut found = None;
    for key in table.iter() {
        if bool::from(key.hash.ct_eq(hash)) {
            found = Some(key);
        }
    }
    found
}

/// The key with which a caller was authenticated.
#[derive(Debug, Clone)]
pub(super) struct KeyHandle {
    key: ApiKey,
    tables: watch::Receiver<KeyTable>,
}

impl KeyHandle {
    pub(super) fn new(key: ApiKey, tables: watch::Receiver<KeyTable>) -> Self {
        Self { key, tables }
    }

    pub(super) fn key(&self) -> &ApiKey {
        &self.key
    }

    /// The SHA-256 of the key.
    pub(super) fn hash(&self) -> &[u8; 32] {
        &self.key.hash
    }

    /// Resolves when the key expires, changes or is removed from the file.
    pub(super) async fn expired(&self) {
        let expiry = async {
            match self.key.expires_at {
                Some(at) => sleep_until(u64::try_from(at.as_millis()).unwrap_or(0).div_ceil(1000)).await,
                None => std::future::pending().await,
            }
        };
        let mut tables = self.tables.clone();
        let revoked = async move {
            // The channel closes at shutdown, which closes streams by itself.
            if tables.wait_for(|table| !table.contains(&self.key)).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = expiry => {}
            () = revoked => {}
        }
    }
}
