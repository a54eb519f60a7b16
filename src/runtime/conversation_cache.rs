//! Conversations that were read lately. A page of a conversation needs what precedes it, such as the numbers of its outputs; so the
//! first page is cut from the whole state, and each later one costs the events since then.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use lru::LruCache;
use parking_lot::Mutex;
use tokio::time::Instant;

use k8sops_core::{
    ChatMessage, LoadedSession, LogHead, REPLAY_PAGE_SIZE, SMALL_PAGE_SIZE, SessionId, SessionLog, SessionState,
    StoreError, load_state,
};

/// Upper bound of the size of all conversations ([`SessionState::estimated_bytes`]).
const MAX_BYTES: u64 = 32 * 1024 * 1024;
/// Upper bound of their number.
const MAX_CONVERSATIONS: NonZeroUsize = NonZeroUsize::new(256).expect("the constant is not zero");
/// How long a conversation is kept that is not read.
const KEEP: Duration = Duration::from_mins(1);

/// The conversations that were read lately.
pub(super) struct ConversationCache {
    // A synchronous mutex: held for a lookup, never across an await.
    conversations: Mutex<LruCache<SessionId, CachedConversation>>,
}

#[derive(Clone)]
struct CachedConversation {
    state: Arc<SessionState>,
    /// The position of the newest event in `state`.
    head: LogHead,
    /// The seq of the oldest event that was kept.
    oldest_seq: u64,
    read_at: Instant,
}

impl From<LoadedSession> for CachedConversation {
    fn from(loaded: LoadedSession) -> Self {
        Self {
            state: Arc::new(loaded.state),
            head: loaded.head,
            oldest_seq: loaded.oldest_seq,
            read_at: Instant::now(),
        }
    }
}

/// Whether a conversation that was read before is still the one in the store.
enum CacheLookup {
    Current(CachedConversation),
    Outdated,
}

impl Default for ConversationCache {
    fn default() -> Self {
        Self { conversations: Mutex::new(LruCache::new(MAX_CONVERSATIONS)) }
    }
}

impl ConversationCache {
    /// Returns at most `limit` messages of a session after the seq `after`.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`, `Corrupt`.
    pub(super) async fn read_messages(
        &self,
        log: &dyn SessionLog,
        session: SessionId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Arc<ChatMessage>>, StoreError> {
        let cached = self.conversations.lock().pop(&session);
        let current = match cached {
            Some(cached) => match advance_to_head(log, session, cached).await? {
                CacheLookup::Current(conversation) => conversation,
                CacheLookup::Outdated => load_state(log, session).await?.into(),
            },
            None => load_state(log, session).await?.into(),
        };
        let messages = &current.state.messages;
        let start = messages.partition_point(|message| message.seq() <= after);
        let page = messages.iter().skip(start).take(limit).cloned().collect();
        self.insert(session, current);
        Ok(page)
    }

    fn insert(&self, session: SessionId, conversation: CachedConversation) {
        let mut conversations = self.conversations.lock();
        conversations.put(session, conversation);
        let mut bytes: u64 = conversations.iter().map(|(_, cached)| cached.state.estimated_bytes()).sum();
        while let Some((_, oldest)) = conversations.peek_lru()
            && (bytes > MAX_BYTES || oldest.read_at.elapsed() > KEEP)
        {
            bytes -= oldest.state.estimated_bytes();
            conversations.pop_lru();
        }
    }
}

/// Applies the events since a conversation was read.
async fn advance_to_head(
    log: &dyn SessionLog,
    session: SessionId,
    mut cached: CachedConversation,
) -> Result<CacheLookup, StoreError> {
    // Nearly always, this is all.
    let mut limit = SMALL_PAGE_SIZE;
    loop {
        let page = log.read_events(session, cached.head.seq, limit).await?;
        let follows = page.events.first().is_none_or(|first| first.body.may_follow(cached.head.seq, first.seq));
        // With `MEMORY_SHALLOW`, the state drops what is no longer kept.
        if !page.continues(cached.head) || !follows || page.oldest_seq != cached.oldest_seq {
            return Ok(CacheLookup::Outdated);
        }
        if !page.events.is_empty() {
            let state = Arc::make_mut(&mut cached.state);
            for event in &page.events {
                state.apply_event(event);
            }
            cached.head = page.end();
        }
        if cached.head.seq >= page.last_seq {
            cached.read_at = Instant::now();
            return Ok(CacheLookup::Current(cached));
        }
        limit = REPLAY_PAGE_SIZE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8sops_store::{
        InMemoryStore,
        contract::{SessionWriter, create_test_session, run_drafts},
    };

    fn seqs(messages: &[Arc<ChatMessage>]) -> Vec<u64> {
        messages.iter().map(|message| message.seq()).collect()
    }

    /// Checks that pages are those of the whole state.
    async fn check_pages(cache: &ConversationCache, store: &InMemoryStore, session: SessionId) {
        let whole = load_state(store, session).await.unwrap().state.messages;
        let last = whole.last().map_or(0, |message| message.seq());
        for (after, limit) in [(0, 1), (0, 100), (last - 1, 5), (last, 5), (last + 100, 5), (3, 2)] {
            let page = cache.read_messages(store, session, after, limit).await.unwrap();
            let expected: Vec<_> = whole.iter().filter(|m| m.seq() > after).take(limit).cloned().collect();
            assert_eq!(page, expected, "{limit} after {after}");
        }
    }

    #[tokio::test]
    async fn pages_are_those_of_the_whole_conversation() {
        let store = InMemoryStore::default();
        let session = create_test_session(&store).await;
        let cache = ConversationCache::default();
        let mut writer = SessionWriter::acquire(&store, session, "a").await;
        for n in 0..40 {
            writer.append(run_drafts(&format!("turn {n}"))).await.unwrap();
            if n % 7 == 0 {
                check_pages(&cache, &store, session).await;
            }
        }
        check_pages(&cache, &store, session).await;
        // The store has lost events, and others follow.
        store.lose_events_after(session, 20);
        check_pages(&cache, &store, session).await;
        let mut writer = SessionWriter::acquire(&store, session, "a").await;
        writer.append(run_drafts("another one")).await.unwrap();
        check_pages(&cache, &store, session).await;
        assert!(seqs(&cache.read_messages(&store, session, 0, 1000).await.unwrap()).is_sorted());
    }

    #[tokio::test]
    async fn conversations_are_kept_up_to_a_size() {
        let store = InMemoryStore::default();
        let cache = ConversationCache::default();
        let large = "x".repeat(usize::try_from(MAX_BYTES / 3).unwrap());
        for _ in 0..5 {
            let session = create_test_session(&store).await;
            let mut writer = SessionWriter::acquire(&store, session, "a").await;
            writer.append(run_drafts(&large)).await.unwrap();
            assert!(!cache.read_messages(&store, session, 0, 1).await.unwrap().is_empty());
        }
        let kept = cache.conversations.lock();
        let bytes: u64 = kept.iter().map(|(_, cached)| cached.state.estimated_bytes()).sum();
        assert!(!kept.is_empty() && bytes <= MAX_BYTES, "{} conversations of {bytes} bytes", kept.len());
    }
}
