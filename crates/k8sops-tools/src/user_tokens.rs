//! Tokens of the users, for MCP servers that are called with the user's own token.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use secrecy::SecretString;

use k8sops_core::SessionId;

/// Most sessions whose token is held. One more clears all of them; the next request of each session brings its token again.
const MAX_SESSIONS: usize = 10_000;

/// The newest token of each session's user.
///
/// The tokens are held in memory and written nowhere, so another replica or the next process has none until the next request
/// brings one. Clones share the tokens.
#[derive(Debug, Clone, Default)]
pub struct UserTokens(Arc<Mutex<HashMap<SessionId, SecretString>>>);

impl UserTokens {
    /// Stores the token of a request to a session.
    pub fn store_token(&self, session: SessionId, token: SecretString) {
        let mut tokens = self.0.lock();
        if tokens.len() >= MAX_SESSIONS && !tokens.contains_key(&session) {
            tokens.clear();
        }
        tokens.insert(session, token);
    }

    /// Returns the newest token of a session's user.
    #[must_use]
    pub fn token_of(&self, session: SessionId) -> Option<SecretString> {
        self.0.lock().get(&session).cloned()
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn newest_token_of_a_session_counts() {
        let tokens = UserTokens::default();
        let session = SessionId::new();
        assert!(tokens.token_of(session).is_none());
        tokens.store_token(session, "a".into());
        tokens.store_token(session, "b".into());
        assert_eq!(tokens.token_of(session).unwrap().expose_secret(), "b");
        assert!(tokens.token_of(SessionId::new()).is_none());
    }
}
