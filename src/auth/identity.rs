//! An authenticated caller, and when the identity expires.

use k8sops_core::UserId;
use secrecy::SecretString;

use super::{clock::sleep_until, key_table::KeyHandle, roles::RoleSet};

/// An authenticated caller.
#[derive(Debug, Clone)]
pub struct CallerIdentity {
    /// The user whose sessions the caller can access.
    pub user: UserId,
    /// What the caller may do.
    pub roles: RoleSet,
    /// The user's own token, which is passed on to MCP servers that ask for it. Never a key of k8sops.
    pub user_token: Option<SecretString>,
    pub(super) expiry: CredentialExpiry,
}

/// When credentials stop being valid.
#[derive(Debug, Clone)]
pub(super) enum CredentialExpiry {
    Never,
    /// At a point in time, in seconds since 1970.
    At(u64),
    /// When the API key expires, changes or is revoked.
    Key(KeyHandle),
}

impl CallerIdentity {
    /// Resolves when the credentials stop being valid: the key is revoked or changed, or the token expires. Never resolves for
    /// credentials without expiry.
    pub fn expired(&self) -> impl Future<Output = ()> + Send + use<> {
        let expiry = self.expiry.clone();
        async move {
            match expiry {
                CredentialExpiry::Never => std::future::pending().await,
                CredentialExpiry::At(deadline) => sleep_until(deadline).await,
                CredentialExpiry::Key(key) => key.expired().await,
            }
        }
    }
}
