//! Ids of tasks. They name a run of a session, so that no table is needed.

use std::{fmt, str::FromStr};

use data_encoding::HEXLOWER;
use k8sops_core::{RunId, SessionId};

use crate::api::doors::uuid_digits::{UUID_DIGITS, parse_uuid_digits};

/// The id of a task: the digits of its session and of its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TaskId {
    pub(super) session: SessionId,
    pub(super) run: RunId,
}

impl TaskId {
    /// Returns the digits of the run, which begin the ids of messages about it.
    pub(super) fn run_digits(&self) -> String {
        HEXLOWER.encode(self.run.as_bytes())
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", HEXLOWER.encode(self.session.as_bytes()), self.run_digits())
    }
}

/// An id that no task has.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UnknownTaskId;

impl FromStr for TaskId {
    type Err = UnknownTaskId;

    fn from_str(text: &str) -> Result<Self, UnknownTaskId> {
        let (session, run) = text.split_at_checked(UUID_DIGITS).ok_or(UnknownTaskId)?;
        let id = Self {
            session: parse_uuid_digits(session).ok_or(UnknownTaskId)?,
            run: parse_uuid_digits(run).ok_or(UnknownTaskId)?,
        };
        // One spelling of an id is one task.
        if id.to_string() == text { Ok(id) } else { Err(UnknownTaskId) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_one_spelling() {
        // Clients keep them.
        let text = "0190000000007000800000000000000a019af00000007000800000000000000b";
        let id: TaskId = text.parse().unwrap();
        assert_eq!(id.session.to_string(), "01900000-0000-7000-8000-00000000000a");
        assert_eq!(id.run.to_string(), "019af000-0000-7000-8000-00000000000b");
        assert_eq!(id.to_string(), text);
        for other in ["", "nope", &text[1..], &text.to_uppercase(), &format!("{text}0"), &"ä".repeat(32)] {
            assert_eq!(other.parse::<TaskId>(), Err(UnknownTaskId), "{other}");
        }
    }
}
