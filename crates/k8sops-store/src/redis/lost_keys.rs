//! What the keys of a session say about each other. A server can lose a single key, or a part of one: it evicts, or someone
//! deletes, restores or overwrites it. What is left must not look like a session that never was, or accept what can never be
//! done.

use redis::Pipeline;

use super::{connection::SharedConnection, keys::RedisKeys};
use k8sops_core::{BackendError, SessionId, StoreError, StoreOutage};

/// The fields besides `summary` without which a session cannot be owned. They are written when it is created.
const REQUIRED_SMALL_FIELDS: [&str; 6] = ["user", "last_seq", "oldest_seq", "epoch", "inbox", "open"];

/// How many events a log had after its last commit, as `commit_events.lua` writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogExtent {
    oldest_seq: u64,
    last_seq: u64,
    length: u64,
}

impl LogExtent {
    /// Parses the field `log_extent`: two seqs and a number.
    pub(super) fn parse(stored: &str) -> Option<Self> {
        let mut numbers = stored.split(' ').map(str::parse);
        let extent =
            Self { oldest_seq: numbers.next()?.ok()?, last_seq: numbers.next()?.ok()?, length: numbers.next()?.ok()? };
        numbers.next().is_none().then_some(extent)
    }

    /// Fails if a log with `length` events from `oldest_seq` to `last_seq` has lost some. What an older version has written
    /// since says nothing.
    pub(super) fn check(
        self,
        session: SessionId,
        oldest_seq: u64,
        last_seq: u64,
        length: u64,
    ) -> Result<(), StoreError> {
        if (oldest_seq, last_seq) != (self.oldest_seq, self.last_seq) || length == self.length {
            return Ok(());
        }
        let expected = format!("the log of session {session} must have {} events up to seq {last_seq}", self.length);
        Err(StoreError::Corrupt(format!("{expected}, but has {length}: events were removed or added").into()))
    }
}

/// Adds what shows whether an owner has what it needs beside the log: the keys `inbox`, `receipts` and `receipt_order`, if they
/// exist, are of their types, and no field is gone. Everyone who looks at a session asks this, so that all find the same. Adds three
/// numbers, [`SmallFields`] and whether there is a summary to the reply.
pub(super) fn add_integrity_checks(look: &mut Pipeline, keys: &RedisKeys, session: SessionId) {
    look.cmd("XLEN").arg(keys.inbox(session));
    look.cmd("HLEN").arg(keys.receipts(session));
    look.cmd("LLEN").arg(keys.receipt_order(session));
    look.cmd("HMGET").arg(keys.meta(session)).arg(&REQUIRED_SMALL_FIELDS);
    // The summary can be some KiB.
    look.cmd("HEXISTS").arg(keys.meta(session)).arg("summary");
}

/// The values of the required fields without the summary.
pub(super) type SmallFields = Vec<Option<String>>;

/// Whether a session has all fields that an owner needs.
pub(super) fn has_required_fields(small_fields: &SmallFields, has_summary: bool) -> bool {
    has_summary && small_fields.iter().all(Option::is_some)
}

/// The error of a look at the keys of a session. It names the key that is of another type.
pub(super) async fn name_foreign_key(
    reads: &SharedConnection,
    keys: &RedisKeys,
    session: SessionId,
    error: StoreError,
) -> StoreError {
    let StoreError::Corrupt(cause) = error else { return error };
    let expected = [
        (keys.meta(session), "hash"),
        (keys.log(session), "stream"),
        (keys.inbox(session), "stream"),
        (keys.receipts(session), "hash"),
        (keys.receipt_order(session), "list"),
    ];
    let mut look = redis::pipe();
    for (key, _) in &expected {
        look.cmd("TYPE").arg(key);
    }
    // A user may lack the right to ask.
    let found: Vec<String> = reads.query(&look).await.unwrap_or_default();
    let foreign = expected.iter().zip(&found).find(|((_, expected), found)| *found != expected && *found != "none");
    match foreign {
        Some(((key, expected), found)) => {
            StoreError::corrupt(format!("the key {key} is a {found}, and not a {expected}"), cause)
        }
        None => StoreError::Corrupt(cause),
    }
}

/// The error of a session of which a script or a look did not find what it needs: the session does not exist, or a part of it
/// is gone. Scripts write and delete all keys of a session at once, so that one without the others shows a loss. `None` if
/// all is there now.
pub(super) async fn explain_missing_session(
    reads: &SharedConnection,
    keys: &RedisKeys,
    session: SessionId,
) -> Option<StoreError> {
    let mut look = redis::pipe();
    look.cmd("EXISTS").arg(keys.log(session)).cmd("EXISTS").arg(keys.checkpoint(session));
    look.cmd("EXISTS").arg(keys.meta(session)).cmd("HMGET").arg(keys.meta(session)).arg(&REQUIRED_SMALL_FIELDS);
    look.cmd("HEXISTS").arg(keys.meta(session)).arg("summary");
    let (has_log, has_checkpoint, has_meta, fields, has_summary): (bool, bool, bool, Vec<Option<String>>, bool) =
        match reads.query(&look).await {
            Ok(found) => found,
            Err(error) => return Some(name_foreign_key(reads, keys, session, error).await),
        };
    let lost = REQUIRED_SMALL_FIELDS.iter().zip(&fields).filter(|(_, value)| value.is_none()).map(|(name, _)| *name);
    let lost: Vec<&str> = lost.chain((!has_summary).then_some("summary")).collect();
    match (has_log, has_meta) {
        (false, false) if !has_checkpoint => Some(StoreError::NotFound(session)),
        (_, false) => Some(missing_meta(session)),
        (false, true) => Some(missing_log(session)),
        (true, true) if lost.is_empty() => None,
        (true, true) => {
            let found = format!("the key {} has lost its field {}", keys.meta(session), lost.join(", "));
            Some(StoreError::Corrupt(found.into()))
        }
    }
}

/// The error of a session whose key `meta` is gone, while its log is there.
pub(super) fn missing_meta(session: SessionId) -> StoreError {
    StoreError::Corrupt(format!("session {session} has a log, but its key meta is gone").into())
}

/// The error of a session whose log is gone, while its other keys are there.
pub(super) fn missing_log(session: SessionId) -> StoreError {
    StoreError::Corrupt(format!("session {session} exists, but its log is gone").into())
}

/// The error of a session whose log is not the one that its key `meta` describes.
pub(super) fn foreign_log(session: SessionId, last_seq: u64, found: &str) -> StoreError {
    let expected = format!("the log of session {session} must end at seq {last_seq}");
    StoreError::Corrupt(format!("{expected}, but {found}; one of the keys log and meta was restored alone").into())
}

/// Makes errors of a key that belongs to no single session. What is wrong with it is no damage of a session: the key was
/// overwritten, or another program uses the prefix.
pub(super) fn of_shared_key(key: &str) -> impl Fn(StoreError) -> StoreError {
    move |error| match error {
        StoreError::Corrupt(cause) => {
            let problem = format!(
                "the key {key}, which belongs to no single session, is not what was stored there: another program has \
                 overwritten it; rename or delete it, or set REDIS_PREFIX to a prefix that nothing else uses"
            );
            StoreError::Unavailable(BackendError::caused_by(problem, cause).with_outage(StoreOutage::Misconfigured))
        }
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_with_fewer_or_more_events_than_its_last_commit_left_is_damaged() {
        let session = SessionId::new();
        let extent = LogExtent::parse("1 9 9").unwrap();
        for (oldest_seq, last_seq, length, is_whole) in [
            (1, 9, 9, true),
            (1, 9, 8, false),
            (1, 9, 10, false),
            // An older version has committed or trimmed since.
            (1, 10, 9, true),
            (5, 9, 5, true),
        ] {
            let checked = extent.check(session, oldest_seq, last_seq, length);
            assert_eq!(checked.is_ok(), is_whole, "{oldest_seq} {last_seq} {length}: {checked:?}");
        }
        for stored in ["", "1 9", "1 9 x", "1 9 9 9"] {
            assert_eq!(LogExtent::parse(stored), None, "{stored}");
        }
    }

    #[test]
    fn only_damage_of_a_shared_key_is_a_misconfiguration() {
        let shared = of_shared_key("k8sops:work");
        let error = shared(StoreError::Corrupt("WRONGTYPE".into()));
        assert_eq!(error.outage(), Some(StoreOutage::Misconfigured));
        assert!(error.to_string().contains("the key k8sops:work"), "{error}");
        let full = StoreError::Unavailable(BackendError::new("OOM").with_outage(StoreOutage::Full));
        assert_eq!(shared(full).outage(), Some(StoreOutage::Full));
    }
}
