//! Identifiers. Each is parsed where it enters the service, so that a value of one of these types is known to be safe in
//! a path, a key or a log line.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// What a string was refused for, in words meant for the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {expected}")]
pub struct InvalidId {
    /// The kind of identifier, as the API calls it.
    pub what: &'static str,
    /// The form that is accepted.
    pub expected: &'static str,
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        ///
        /// A UUID (version 7 when made here, so that ids sort by time), in lower-case hyphenated form.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schema(value_type = String, format = "uuid")]
        pub struct $name(Uuid);

        impl $name {
            /// A new id that sorts after every id made before it on this machine.
            #[must_use]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// The sixteen bytes of the UUID.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(s: &str) -> Result<Self, InvalidId> {
                // Only the one canonical form: `uuid` also reads braces, URNs and bare hex, and two spellings of one id
                // would be two keys.
                let refused = InvalidId { what: $what, expected: "a lower-case hyphenated UUID" };
                let id = Uuid::try_parse(s).map_err(|_| refused.clone())?;
                let mut buf = Uuid::encode_buffer();
                if id.hyphenated().encode_lower(&mut buf) == s { Ok(Self(id)) } else { Err(refused) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(s: String) -> Result<Self, InvalidId> {
                s.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.to_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

uuid_id!(
    /// A memory of a user.
    MemoryId,
    "memory id"
);
uuid_id!(
    /// One chat session: one log, one owner at a time.
    SessionId, "session id"
);
uuid_id!(
    /// One run: what the agent does for one user message, from `run_started` to `run_finished` or `run_failed`.
    RunId, "run id"
);
uuid_id!(
    /// One message of a user or of the model.
    MessageId, "message id"
);
uuid_id!(
    /// One request for a user's approval of a tool call.
    ApprovalId, "approval id"
);
uuid_id!(
    /// One question of an MCP server to the user, in the middle of a tool call.
    InputId, "input id"
);

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:literal, $expected:literal, $ok:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schema(value_type = String)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(s: &str) -> Result<Self, InvalidId> {
                let allowed: fn(&str) -> bool = $ok;
                if !s.is_empty() && s.len() <= $max && allowed(s) {
                    Ok(Self(s.into()))
                } else {
                    Err(InvalidId { what: $what, expected: $expected })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(s: String) -> Result<Self, InvalidId> {
                s.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(
    /// The person or client that a session belongs to. Used as a folder name by the filesystem store, hence its alphabet.
    UserId, "user id", 64,
    "1 to 64 characters of A-Z a-z 0-9 . _ @ - that do not begin with a dot",
    |s| !s.starts_with('.') && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"._@-".contains(&b))
);
text_id!(
    /// A client's name for one command (`command_id`, or the `Idempotency-Key` header): the same id is the same command.
    CommandId, "command id", 128,
    "1 to 128 printable ASCII characters without spaces",
    |s| s.bytes().all(|b| b.is_ascii_graphic())
);
text_id!(
    /// One tool call of the model. Made by k8sops, never taken from the provider: providers repeat or omit theirs.
    ToolCallId, "tool call id", 64,
    "1 to 64 characters of A-Z a-z 0-9 _ -",
    |s| s.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
);

impl CommandId {
    /// An id for a command whose client gave none.
    #[must_use]
    pub fn generate() -> Self {
        Self(Uuid::now_v7().to_string().into())
    }
}

impl ToolCallId {
    /// A new id; 37 characters of the alphabet that every provider accepts (`OpenAI` allows at most 40).
    #[must_use]
    pub fn generate() -> Self {
        Self(format!("call_{}", Uuid::now_v7().simple()).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_spelling_of_a_uuid_is_an_id() {
        let id = SessionId::new();
        assert_eq!(id.to_string().parse::<SessionId>(), Ok(id));
        for bad in
            ["", "..", "../x", &id.to_string().to_uppercase(), &format!("{{{id}}}"), &id.to_string().replace('-', "")]
        {
            assert!(bad.parse::<SessionId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_user_id_cannot_leave_its_folder() {
        for good in ["default", "anna.b@example.org", "a_b-c"] {
            assert!(good.parse::<UserId>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", ".hidden", "a/b", "a\\b", "a b", "ä", "a\0", &"x".repeat(65)] {
            assert!(bad.parse::<UserId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_generated_tool_call_id_is_one_that_parses() {
        let id = ToolCallId::generate();
        assert_eq!(id.as_str().len(), 37);
        assert!(id.as_str().parse::<ToolCallId>().is_ok());
    }
}
