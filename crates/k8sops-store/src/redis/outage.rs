//! What an error of Redis says about the server.

use k8sops_core::{BackendError, StoreError, StoreOutage};
use redis::{ErrorKind, RedisError, ServerErrorKind};

/// What Redis says of a key that holds something else than what was stored there: a value of another kind, a stream that ends
/// beyond what is appended, or a field that is gone or no number where a script needs one.
const DAMAGE: [&str; 6] = [
    "WRONGTYPE",
    "equal or smaller than the target stream top item",
    "hash value is not an integer",
    "attempt to compare",
    "attempt to perform arithmetic",
    "attempt to concatenate",
];

/// An error of a query as one of the store.
pub(super) fn to_store_error(error: RedisError) -> StoreError {
    let text = error.to_string();
    if DAMAGE.iter().any(|words| text.contains(words)) {
        return StoreError::corrupt("Redis: a key is not what was stored, it was restored alone or overwritten", error);
    }
    let (outage, advice) = classify_error(&error);
    let message = if advice.is_empty() { "Redis".to_owned() } else { format!("Redis: {advice}") };
    StoreError::Unavailable(BackendError::caused_by(message, error).with_outage(outage))
}

/// Returns what an error says about the server, and what to do about it, if that is not plain from the error.
///
/// The codes are the first words of the server's errors, see `redis.h` and `acl.c` of Redis 7. Errors of a command inside of a
/// script have the code of the command, except that a missing right has `ERR` and a text.
pub(super) fn classify_error(error: &RedisError) -> (StoreOutage, &'static str) {
    let text = error.to_string();
    match error.kind() {
        ErrorKind::AuthenticationFailed | ErrorKind::Server(ServerErrorKind::NoPerm) => {
            return (StoreOutage::AccessDenied, "");
        }
        ErrorKind::Server(ServerErrorKind::BusyLoading) => return (StoreOutage::Loading, ""),
        ErrorKind::Server(ServerErrorKind::ReadOnly) => return (StoreOutage::ReadOnly, ""),
        ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::CrossSlot) => {
            return (StoreOutage::Misconfigured, "it is a cluster (REDIS_TOPOLOGY=cluster)");
        }
        ErrorKind::MasterNameNotFoundBySentinel => {
            return (StoreOutage::Misconfigured, "check REDIS_SENTINEL_MASTER");
        }
        ErrorKind::InvalidClientConfig if text.contains("sentinel") => {
            return (StoreOutage::Misconfigured, "it is no Sentinel (REDIS_TOPOLOGY)");
        }
        ErrorKind::Parse => {
            return (StoreOutage::Unreachable, "what answers does not speak its protocol, or broke off");
        }
        _ => {}
    }
    match error.code() {
        Some("OOM") => (StoreOutage::Full, ""),
        // Fewer replicas than min-replicas-to-write.
        Some("NOREPLICAS") => (StoreOutage::ReadOnly, ""),
        Some("MISCONF") => (StoreOutage::NotPersisting, ""),
        Some("NOAUTH" | "WRONGPASS" | "NOPERM") => (StoreOutage::AccessDenied, ""),
        _ if ["user executing the script can't run", "ACL failure in script", "has no permissions"]
            .iter()
            .any(|words| text.contains(words)) =>
        {
            (StoreOutage::AccessDenied, "its user lacks a right, which `k8sops doctor` names")
        }
        // What a server says to a long command of a client that has not signed in.
        _ if text.contains("unauthenticated") => (StoreOutage::AccessDenied, ""),
        _ if text.contains("cluster support disabled") => {
            (StoreOutage::Misconfigured, "it is not a cluster (REDIS_TOPOLOGY)")
        }
        _ if text.contains("DB index is out of range") => {
            (StoreOutage::Misconfigured, "REDIS_URL names a database that it does not have")
        }
        _ if text.contains("unknown command") => {
            (StoreOutage::Misconfigured, "it lacks a command; a sentinel needs REDIS_TOPOLOGY=sentinel")
        }
        _ => (StoreOutage::Unreachable, ""),
    }
}

#[cfg(test)]
mod tests {
    use redis::parse_redis_value;

    use super::*;

    #[test]
    fn errors_of_the_server_say_what_is_wrong() {
        for (said, outage) in [
            (
                "OOM command not allowed when used memory > 'maxmemory'. script: 1f, on @user_script:9.",
                StoreOutage::Full,
            ),
            ("MISCONF Redis is configured to save RDB snapshots", StoreOutage::NotPersisting),
            ("READONLY You can't write against a read only replica.", StoreOutage::ReadOnly),
            ("NOREPLICAS Not enough good replicas to write.", StoreOutage::ReadOnly),
            ("LOADING Redis is loading the dataset in memory", StoreOutage::Loading),
            ("NOAUTH Authentication required.", StoreOutage::AccessDenied),
            ("WRONGPASS invalid username-password pair", StoreOutage::AccessDenied),
            ("ERR Protocol error: unauthenticated multibulk length", StoreOutage::AccessDenied),
            ("NOPERM User ops has no permissions to run the 'xadd' command", StoreOutage::AccessDenied),
            (
                "ERR ACL failure in script: User ops has no permissions to run the 'xadd' command",
                StoreOutage::AccessDenied,
            ),
            ("MOVED 3999 127.0.0.1:6381", StoreOutage::Misconfigured),
            ("ERR This instance has cluster support disabled", StoreOutage::Misconfigured),
            ("ERR unknown command 'EVALSHA', with args beginning with:", StoreOutage::Misconfigured),
            ("ERR DB index is out of range", StoreOutage::Misconfigured),
            ("CLUSTERDOWN Hash slot not served", StoreOutage::Unreachable),
            ("ERR something else", StoreOutage::Unreachable),
        ] {
            let reply = parse_redis_value(format!("-{said}\r\n").as_bytes()).unwrap();
            let error = reply.extract_error().unwrap_err();
            let found = to_store_error(error);
            assert_eq!(found.outage(), Some(outage), "{said}");
            assert!(found.to_string().contains(said.split_once(' ').unwrap().1), "{found}");
        }
    }

    #[test]
    fn server_that_is_no_sentinel_is_named() {
        let said = "Address does not point to a sentinel node";
        let found = to_store_error(RedisError::from((ErrorKind::InvalidClientConfig, said)));
        assert_eq!(found.outage(), Some(StoreOutage::Misconfigured));
        assert!(found.to_string().contains("REDIS_TOPOLOGY"), "{found}");
    }

    #[test]
    fn keys_of_another_kind_are_damage() {
        for said in [
            "WRONGTYPE Operation against a key holding the wrong kind of value script: 1f, on @user_script:9.",
            "ERR The ID specified in XADD is equal or smaller than the target stream top item script: 1f, on @user_script:24.",
            "ERR user_script:9: attempt to compare nil with number script: 1f, on @user_script:9.",
            "ERR Error running script (call to f_1f): @user_script:9: user_script:9: attempt to perform arithmetic on a nil value",
            "ERR hash value is not an integer script: 1f, on @user_script:9.",
        ] {
            let reply = parse_redis_value(format!("-{said}\r\n").as_bytes()).unwrap();
            let found = to_store_error(reply.extract_error().unwrap_err());
            let word = said.split(' ').nth(1).unwrap();
            assert!(matches!(found, StoreError::Corrupt(_)) && found.to_string().contains(word), "{found}");
        }
    }

    #[test]
    fn bytes_that_are_no_reply_are_no_damage() {
        let error = parse_redis_value(b"HTTP/1.1 400 Bad Request\r\n").unwrap_err();
        assert_eq!(to_store_error(error).outage(), Some(StoreOutage::Unreachable));
    }
}
