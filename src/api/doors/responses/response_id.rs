//! Ids of responses, conversations and requests for approval. They name a part of a log, so that no table is needed.

use std::{fmt, str::FromStr};

use data_encoding::HEXLOWER;
use k8sops_core::{RunId, SessionId};

use crate::api::doors::{
    run_cursor::RestPoint,
    uuid_digits::{UUID_DIGITS, parse_uuid_digits},
};

const RESPONSE_PREFIX: &str = "resp_";
const APPROVAL_PREFIX: &str = "mcpr_";
const CONVERSATION_PREFIX: &str = "conv_";
/// How the id of a response ends that was created in the background.
const BACKGROUND_SUFFIX: &str = "_bg";

/// Where a run is: its session, and the seq before its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RunAddress {
    pub(super) session: SessionId,
    pub(super) run: RunId,
    /// A seq before that of the message.
    pub(super) start_seq: u64,
}

/// Whether the client waits for a response or comes back for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResponseMode {
    Foreground,
    Background,
}

/// The id of a response: a run, and where in it the response begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ResponseId {
    pub(super) address: RunAddress,
    /// Where the run rested before; `None` for the first response of a run.
    pub(super) rest_point: Option<RestPoint>,
    pub(super) mode: ResponseMode,
}

/// The id of a request for approval: the run, where it rested for it, and the place among what it waited for there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ApprovalItemId {
    pub(super) address: RunAddress,
    pub(super) rest_seq: u64,
    pub(super) position: usize,
}

impl ResponseId {
    /// Returns the seq after which the events of the response come.
    pub(super) fn first_seq(&self) -> u64 {
        self.rest_point.map_or(self.address.start_seq, |point| point.seq)
    }

    /// Whether the response only says what the run waits for, because nothing of it was answered.
    pub(super) fn is_repeated_question(&self) -> bool {
        self.rest_point.is_some_and(|point| point.answered == 0)
    }

    /// Returns when the run was asked for, in seconds since 1970.
    pub(super) fn created_at(&self) -> i64 {
        self.address.run.created_at().as_millis() / 1000
    }
}

impl fmt::Display for RunAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { session, run, start_seq } = self;
        let [session, run] = [session.as_bytes(), run.as_bytes()].map(|id| HEXLOWER.encode(id));
        write!(f, "{session}{run}_{start_seq:x}")
    }
}

impl fmt::Display for ResponseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{RESPONSE_PREFIX}{}", self.address)?;
        if let Some(RestPoint { seq, answered }) = self.rest_point {
            write!(f, "_{seq:x}_{answered:x}")?;
        }
        if self.mode == ResponseMode::Background {
            f.write_str(BACKGROUND_SUFFIX)?;
        }
        Ok(())
    }
}

impl fmt::Display for ApprovalItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{APPROVAL_PREFIX}{}_{:x}_{:x}", self.address, self.rest_seq, self.position)
    }
}

/// An id that is none.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UnknownId;

impl FromStr for ResponseId {
    type Err = UnknownId;

    fn from_str(text: &str) -> Result<Self, UnknownId> {
        let rest = text.strip_prefix(RESPONSE_PREFIX).ok_or(UnknownId)?;
        let (rest, mode) = match rest.strip_suffix(BACKGROUND_SUFFIX) {
            Some(rest) => (rest, ResponseMode::Background),
            None => (rest, ResponseMode::Foreground),
        };
        let (address, numbers) = parse_address(rest)?;
        let rest_point = match numbers.as_slice() {
            [] => None,
            [seq, answered] => Some(RestPoint { seq: *seq, answered: *answered }),
            _ => return Err(UnknownId),
        };
        let id = Self { address, rest_point, mode };
        // One spelling of an id is one response.
        if id.to_string() == text { Ok(id) } else { Err(UnknownId) }
    }
}

impl FromStr for ApprovalItemId {
    type Err = UnknownId;

    fn from_str(text: &str) -> Result<Self, UnknownId> {
        let (address, numbers) = parse_address(text.strip_prefix(APPROVAL_PREFIX).ok_or(UnknownId)?)?;
        let [rest_seq, position] = numbers.as_slice() else { return Err(UnknownId) };
        let position = usize::try_from(*position).map_err(|_| UnknownId)?;
        let id = Self { address, rest_seq: *rest_seq, position };
        if id.to_string() == text { Ok(id) } else { Err(UnknownId) }
    }
}

/// Parses an address, and the numbers after it.
fn parse_address(text: &str) -> Result<(RunAddress, Vec<u64>), UnknownId> {
    let (ids, numbers) = text.split_once('_').ok_or(UnknownId)?;
    let (session, run) = ids.split_at_checked(UUID_DIGITS).ok_or(UnknownId)?;
    let numbers = numbers.split('_').map(|number| u64::from_str_radix(number, 16).map_err(|_| UnknownId));
    let mut numbers: Vec<u64> = numbers.collect::<Result<_, _>>()?;
    let start_seq = numbers.remove(0);
    Ok((
        RunAddress {
            session: parse_uuid_digits(session).ok_or(UnknownId)?,
            run: parse_uuid_digits(run).ok_or(UnknownId)?,
            start_seq,
        },
        numbers,
    ))
}

/// Returns the id of the conversation that a session is.
pub(super) fn conversation_id(session: SessionId) -> String {
    format!("{CONVERSATION_PREFIX}{}", HEXLOWER.encode(session.as_bytes()))
}

/// Returns the session that the id of a conversation names, if it is one.
pub(super) fn parse_conversation_id(text: &str) -> Option<SessionId> {
    parse_uuid_digits(text.strip_prefix(CONVERSATION_PREFIX)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: &str = "01900000-0000-7000-8000-00000000000a";
    const RUN: &str = "019af000-0000-7000-8000-00000000000b";

    #[test]
    fn ids_have_one_spelling() {
        // Clients keep them.
        let ids = "0190000000007000800000000000000a019af00000007000800000000000000b";
        for (suffix, rest_point, mode) in [
            ("_1", None, ResponseMode::Foreground),
            ("_1_bg", None, ResponseMode::Background),
            ("_1_1f_3", Some(RestPoint { seq: 31, answered: 3 }), ResponseMode::Foreground),
            ("_1_1f_0_bg", Some(RestPoint { seq: 31, answered: 0 }), ResponseMode::Background),
        ] {
            let text = format!("resp_{ids}{suffix}");
            let address = RunAddress { session: SESSION.parse().unwrap(), run: RUN.parse().unwrap(), start_seq: 1 };
            let id = ResponseId { address, rest_point, mode };
            assert_eq!((id.to_string(), text.parse()), (text.clone(), Ok(id)));
        }
        let approval: ApprovalItemId = format!("mcpr_{ids}_1_1f_2").parse().unwrap();
        assert_eq!((approval.rest_seq, approval.position), (31, 2));
        let conversation = conversation_id(SESSION.parse().unwrap());
        assert_eq!(parse_conversation_id(&conversation), Some(SESSION.parse().unwrap()));
    }

    #[test]
    fn other_ids_are_unknown() {
        let ids = "0190000000007000800000000000000a019af00000007000800000000000000b";
        for text in [
            "",
            "resp_",
            "resp_nope",
            "resp_67ccd2bed1ec8190b14f964abc0542670bb6a6b452d3795b",
            &format!("resp_{ids}"),
            &format!("resp_{ids}_"),
            &format!("resp_{ids}_01"),
            &format!("resp_{ids}_1_2"),
            &format!("resp_{ids}_1_2_3_4"),
            &format!("resp_{ids}_x"),
            &format!("resp_{ids}_+1"),
            &format!("resp_{}_1", ids.to_uppercase()),
            &format!("resp_{ids}00_1"),
            &format!("resp_{}_1", "ä".repeat(32)),
            &format!("msg_{ids}_1"),
        ] {
            assert_eq!(text.parse::<ResponseId>(), Err(UnknownId), "{text}");
        }
        assert!("mcpr_1".parse::<ApprovalItemId>().is_err() && parse_conversation_id("conv_1").is_none());
    }

    #[test]
    fn response_has_the_time_of_its_run() {
        let address = RunAddress { session: SessionId::new(), run: RunId::new(), start_seq: 1 };
        let id = ResponseId { address, rest_point: None, mode: ResponseMode::Foreground };
        let now = k8sops_core::Timestamp::now().as_millis() / 1000;
        assert!((now - id.created_at()).abs() <= 2);
    }
}
