//! A client that works over a door: it sends a turn again until the door says how it ended, and answers approvals over it.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use crate::{
    a2a_turn::A2aTurn,
    agui_turn::AgUiTurn,
    client::{ChaosClient, ClientSession},
    observed_stream::Acknowledgement,
    responses_turn::ResponsesTurn,
};

/// A turn must end within this time, whatever is disturbed.
const TURN_TIMEOUT: Duration = Duration::from_secs(240);
/// The end that a door told is in the log already, if it is that of the message. The client's own stream of the log may be late.
const LOG_TIMEOUT: Duration = Duration::from_secs(10);

/// The API that a client uses for its messages and approvals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChaosDoor {
    /// The API of k8sops.
    Native,
    /// AG-UI.
    AgUi,
    /// OpenAI's Responses API.
    Responses,
    /// A2A.
    A2a,
}

impl ChaosDoor {
    const ALL: [Self; 4] = [Self::Native, Self::AgUi, Self::Responses, Self::A2a];

    /// Returns its name in `--doors`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::AgUi => "agui",
            Self::Responses => "responses",
            Self::A2a => "a2a",
        }
    }

    pub(crate) fn from_name(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|door| door.name() == name).ok_or_else(|| format!("unknown door {name:?}"))
    }
}

/// Where a request over a door left the turn.
#[derive(Debug)]
pub(crate) enum TurnRest {
    /// The turn has ended.
    Ended,
    /// These approvals wait for an answer.
    Waits(Vec<String>),
    /// The answer broke off, or no replica could answer. The request can be sent again.
    Broken(String),
    /// The store has lost what was asked or answered. The message must be sent again.
    Lost(String),
    /// The door refused the request, or said something wrong.
    Wrong(String),
}

/// What is sent over a door.
#[derive(Debug, Clone)]
pub(crate) enum TurnRequest {
    /// The message of the turn.
    Message,
    /// Yes to these approvals.
    Approve(Vec<String>),
}

/// A turn over a door.
enum DoorTurn {
    AgUi(AgUiTurn),
    Responses(ResponsesTurn),
    A2a(A2aTurn),
}

impl DoorTurn {
    async fn send(&mut self, request: &TurnRequest) -> TurnRest {
        match self {
            Self::AgUi(turn) => turn.send(request).await,
            Self::Responses(turn) => turn.send(request).await,
            Self::A2a(turn) => turn.send(request).await,
        }
    }

    /// When the door acknowledged the answer to an approval. What asked for it can be lost before the answer comes.
    fn answered_at(&self, approval: &str, rest: &TurnRest) -> Option<Instant> {
        match self {
            Self::AgUi(turn) => turn.is_resolved(approval).then(Instant::now),
            // It refuses an answer to what does not wait.
            Self::Responses(_) => matches!(rest, TurnRest::Ended | TurnRest::Waits(_)).then(Instant::now),
            Self::A2a(turn) => turn.answered_at(approval),
        }
    }

    fn accepted_at(&self) -> Instant {
        match self {
            Self::AgUi(turn) => turn.accepted_at(),
            Self::Responses(turn) => turn.accepted_at(),
            Self::A2a(turn) => turn.accepted_at(),
        }
    }

    fn texts(self) -> HashMap<String, String> {
        match self {
            Self::AgUi(turn) => turn.texts(),
            Self::Responses(turn) => turn.texts(),
            Self::A2a(turn) => turn.texts(),
        }
    }
}

impl ChaosClient {
    fn new_turn(&self, session: &ClientSession, key: &str) -> DoorTurn {
        let (http, base_url) = (&self.http, &self.base_url);
        match self.door {
            ChaosDoor::Responses => DoorTurn::Responses(ResponsesTurn::new(http, base_url, session, key)),
            ChaosDoor::A2a => DoorTurn::A2a(A2aTurn::new(http, base_url, session, key)),
            ChaosDoor::AgUi | ChaosDoor::Native => DoorTurn::AgUi(AgUiTurn::new(http, base_url, session, key)),
        }
    }

    /// Sends one message over the door, and answers its approvals, until the turn has ended. Returns whether it has.
    pub(crate) async fn complete_turn(&mut self, session: &ClientSession, key: &str) -> bool {
        let mut turn = self.new_turn(session, key);
        let (started, mut request) = (Instant::now(), TurnRequest::Message);
        loop {
            let rest = turn.send(&request).await;
            if let TurnRequest::Approve(approvals) = &request {
                let answer = |id: &String| Some(Acknowledgement { what: id.clone(), at: turn.answered_at(id, &rest)? });
                let answers: Vec<_> = approvals.iter().filter_map(answer).collect();
                session.observed().approved.extend(answers);
            }
            match rest {
                TurnRest::Ended if self.is_turn_logged(session, key).await => break,
                // The run before it was open again, because its end was lost, and the door asked for its approvals only.
                TurnRest::Ended if started.elapsed() < TURN_TIMEOUT => request = TurnRequest::Message,
                TurnRest::Ended => {
                    session.record_problem(format!("turn {key} ended over a door, and its run is not in the log"));
                    return false;
                }
                TurnRest::Waits(approvals) => request = TurnRequest::Approve(approvals),
                TurnRest::Broken(error) | TurnRest::Lost(error) if started.elapsed() > TURN_TIMEOUT => {
                    session.record_problem(format!("turn {key} did not end within {TURN_TIMEOUT:?}: {error}"));
                    return false;
                }
                TurnRest::Broken(_) => session.observed().retries += 1,
                TurnRest::Lost(_) => {
                    session.observed().retries += 1;
                    request = TurnRequest::Message;
                }
                TurnRest::Wrong(error) => {
                    session.record_problem(format!("turn {key} over a door: {error}"));
                    return false;
                }
            }
            sleep(Duration::from_millis(self.random.u64(20..200))).await;
        }
        let accepted_at = turn.accepted_at();
        session.observed().door_texts.extend(turn.texts());
        let what = session.observed().messages.get(key).cloned();
        session.observed().accepted.extend(what.map(|what| Acknowledgement { what, at: accepted_at }));
        true
    }

    /// Whether the message is in the log, and its run has ended there.
    async fn is_turn_logged(&self, session: &ClientSession, key: &str) -> bool {
        let ended_at = Instant::now();
        while ended_at.elapsed() < LOG_TIMEOUT {
            let known = session.observed().messages.get(key).cloned();
            if known.is_some_and(|message| session.observed().has_run_ended(&message.run_id)) {
                return true;
            }
            sleep(Duration::from_millis(50)).await;
        }
        false
    }
}

/// Returns the id that 32 hexadecimal digits are.
pub(crate) fn uuid_from_digits(digits: &str) -> Option<String> {
    let digits = Some(digits).filter(|digits| digits.len() == 32 && digits.is_ascii())?;
    Some([&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-"))
}
