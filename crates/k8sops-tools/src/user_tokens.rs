//! The users' own tokens, for MCP servers that are called with them. In memory only, as they came with the newest request
//! to a session: they are written nowhere, so that another replica, or the next process, has to be given one again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use secrecy::SecretString;

use k8sops_core::SessionId;

/// Sessions whose token is remembered. With one more, all are forgotten and come again with the next requests: a bound, not
/// a cache.
const MAX_SESSIONS: usize = 10_000;

/// The tokens of users, by session. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct UserTokens(Arc<Mutex<HashMap<SessionId, SecretString>>>);

impl UserTokens {
    /// Remembers the token that came with a request to a session.
    pub fn store_token(&self, session: SessionId, token: SecretString) {
        let mut tokens = self.lock();
        if tokens.len() >= MAX_SESSIONS && !tokens.contains_key(&session) {
            tokens.clear();
        }
        tokens.insert(session, token);
    }

    /// The newest token of a session's user.
    #[must_use]
    pub fn token_of(&self, session: SessionId) -> Option<SecretString> {
        self.lock().get(&session).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, SecretString>> {
        // Held for a look-up or an addition.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn the_newest_token_of_a_session_is_its_users() {
        let (tokens, session) = (UserTokens::default(), SessionId::new());
        assert!(tokens.token_of(session).is_none());
        tokens.store_token(session, "a".into());
        tokens.store_token(session, "b".into());
        assert_eq!(tokens.token_of(session).unwrap().expose_secret(), "b");
        assert!(tokens.token_of(SessionId::new()).is_none());
    }
}
