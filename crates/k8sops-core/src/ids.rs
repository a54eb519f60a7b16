//! Identifiers. Each is parsed where it enters the service, so that a value of one of these types is safe in a path, a key
//! and a log line.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize, Serializer};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::time::Timestamp;

/// A string that is not a valid identifier; the message is meant for the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {expected}")]
pub struct InvalidId {
    /// The kind of identifier, as the API calls it.
    pub what: &'static str,
    /// The form that is valid.
    pub expected: &'static str,
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        ///
        /// A UUID (version 7 if it was generated here, so that ids sort by time), in lower-case hyphenated form.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, ToSchema)]
        #[serde(try_from = "String")]
        #[schema(value_type = String, format = "uuid")]
        pub struct $name(Uuid);

        impl $name {
            /// Generates an id that sorts after all ids that this machine generated before.
            #[must_use]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// The 16 bytes of the UUID.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// Appends the text form.
            pub fn append_to(&self, text: &mut Vec<u8>) {
                let id = self.0.hyphenated();
                text.extend_from_slice(id.encode_lower(&mut Uuid::encode_buffer()).as_bytes());
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
                // Only the canonical form: `uuid` also reads braces, URNs and bare hex, and two spellings of one id would be
                // two keys.
                let invalid = InvalidId { what: $what, expected: "a lower-case hyphenated UUID" };
                let id = Uuid::try_parse(s).map_err(|_| invalid.clone())?;
                let mut buf = Uuid::encode_buffer();
                if id.hyphenated().encode_lower(&mut buf) == s { Ok(Self(id)) } else { Err(invalid) }
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

        impl Serialize for $name {
            // Without a copy, because every token has two ids.
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.0.hyphenated().encode_lower(&mut Uuid::encode_buffer()))
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
    /// A chat session: one log, with one owner at a time.
    SessionId, "session id"
);
uuid_id!(
    /// A run: what the agent does for one user message, from `run_started` to `run_finished` or `run_failed`.
    RunId, "run id"
);
uuid_id!(
    /// A message of a user or of the model.
    MessageId, "message id"
);
uuid_id!(
    /// A request for a user's approval of a tool call.
    ApprovalId, "approval id"
);
uuid_id!(
    /// An MCP server's request for input from the user during a tool call (an elicitation).
    InputId, "input id"
);

impl SessionId {
    /// The session with this digest of a name, so that the same name is the same session on every replica without a table. A
    /// UUID of version 8: it does not sort by time.
    #[must_use]
    pub fn from_digest(digest: [u8; 16]) -> Self {
        Self(uuid::Builder::from_custom_bytes(digest).into_uuid())
    }
}

impl RunId {
    /// When the id was generated, which is when the message of the run was accepted.
    #[must_use]
    pub fn created_at(self) -> Timestamp {
        // A UUID of version 7 begins with its time in milliseconds.
        let millis = self.as_bytes()[..6].iter().fold(0_i64, |millis, byte| millis << 8 | i64::from(*byte));
        Timestamp::from_millis(millis)
    }
}

impl ApprovalId {
    /// The id under which the whole preview of the approval is stored with the outputs of tool calls.
    #[must_use]
    pub fn preview_output_id(self) -> ToolCallId {
        ToolCallId(format!("preview-{self}").into())
    }
}

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
    /// The user that a session belongs to. The filesystem store uses it as the name of a folder, which limits its alphabet.
    UserId, "user id", 64,
    "1 to 64 characters of A-Z a-z 0-9 . _ @ - that do not begin with a dot",
    |s| !s.starts_with('.') && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"._@-".contains(&b))
);
text_id!(
    /// The idempotency key of a command (`command_id`, or the header `Idempotency-Key`), which the client chooses: the same
    /// id is the same command.
    CommandId, "command id", 128,
    "1 to 128 printable ASCII characters without spaces",
    |s| s.bytes().all(|b| b.is_ascii_graphic())
);
text_id!(
    /// A tool call of the model. Generated by k8sops and never by the provider: providers repeat or omit their ids.
    ToolCallId, "tool call id", 64,
    "1 to 64 characters of A-Z a-z 0-9 _ -",
    |s| s.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
);

impl CommandId {
    /// Generates an id for a command whose client sent none.
    #[must_use]
    pub fn generate() -> Self {
        Self(Uuid::now_v7().to_string().into())
    }
}

impl ToolCallId {
    /// Generates an id of 37 characters that every provider accepts (`OpenAI` allows at most 40).
    #[must_use]
    pub fn generate() -> Self {
        Self(format!("call_{}", Uuid::now_v7().simple()).into())
    }

    /// Generates the id under which the text of an attachment is stored with the outputs of tool calls.
    #[must_use]
    pub fn for_attachment() -> Self {
        Self(format!("file_{}", Uuid::now_v7().simple()).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuid_ids_have_one_spelling() {
        let id = SessionId::new();
        assert_eq!(id.to_string().parse::<SessionId>(), Ok(id));
        for bad in
            ["", "..", "../x", &id.to_string().to_uppercase(), &format!("{{{id}}}"), &id.to_string().replace('-', "")]
        {
            assert!(bad.parse::<SessionId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn digest_names_one_session() {
        let id = SessionId::from_digest([0xff; 16]);
        assert_eq!(id.to_string(), "ffffffff-ffff-8fff-bfff-ffffffffffff");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_ne!(id, SessionId::from_digest([0xfe; 16]));
    }

    #[test]
    fn user_id_cannot_leave_its_folder() {
        for good in ["default", "anna.b@example.org", "a_b-c"] {
            assert!(good.parse::<UserId>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", ".hidden", "a/b", "a\\b", "a b", "ä", "a\0", &"x".repeat(65)] {
            assert!(bad.parse::<UserId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn generated_tool_call_id_is_valid() {
        let id = ToolCallId::generate();
        assert_eq!(id.as_str().len(), 37);
        assert!(id.as_str().parse::<ToolCallId>().is_ok());
    }
}
