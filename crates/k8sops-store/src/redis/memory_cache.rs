//! The memories of users that this process has read.

use std::{collections::HashMap, sync::Arc};

use parking_lot::{Mutex, MutexGuard};

use crate::memories::Shelf;
use k8sops_core::UserId;

/// How many users are cached. A run reads the memories of one user.
const USER_LIMIT: usize = 256;

/// The memories of the users that were read lately.
#[derive(Debug, Default)]
pub(super) struct MemoryCache {
    users: Mutex<HashMap<UserId, Arc<CachedUser>>>,
}

/// The memories of one user.
#[derive(Debug, Default)]
pub(super) struct CachedUser {
    pub(super) memories: Arc<Mutex<Shelf>>,
    /// Held while the memories are read, so that concurrent callers do not read them as well. Holds whether the node of the
    /// user supports vector sets, once that is known.
    pub(super) vector_sets: tokio::sync::Mutex<Option<bool>>,
}

impl CachedUser {
    pub(super) fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.memories.lock()
    }
}

impl MemoryCache {
    pub(super) fn user(&self, user: &UserId) -> Arc<CachedUser> {
        let mut users = self.users.lock();
        if users.len() >= USER_LIMIT && !users.contains_key(user) {
            // Keeps the users that are in use.
            users.retain(|_, cached| Arc::strong_count(cached) > 1);
        }
        Arc::clone(users.entry(user.clone()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unused_users_are_evicted_at_the_limit() {
        let user = |n: usize| format!("user-{n}").parse::<UserId>().unwrap();
        let cache = MemoryCache::default();
        let in_use = cache.user(&user(0));
        for n in 1..=USER_LIMIT {
            cache.user(&user(n));
        }
        let users = cache.users.lock().len();
        assert!(users <= USER_LIMIT, "{users}");
        assert!(Arc::ptr_eq(&in_use, &cache.user(&user(0))));
    }
}
