//! From a request to the part of a run that answers it.

use std::sync::Arc;

use actix_web::web;
use k8sops_core::{ChatMessage, OnBusy, SessionId, SessionState, StreamFrame, Timestamp, ToolCallId, ToolStatus};

use super::{
    response_id::{ResponseId, ResponseMode, RunAddress, parse_conversation_id},
    response_request::{ApprovalAnswer, ResponseInput, ResponseRequest},
};
use crate::{
    api::{
        caller::{Caller, CanWrite},
        doors::{
            client_door::ClientDoor,
            client_headers::ClientHeaders,
            openai::{
                chat_history::ChatHistory,
                history_match::{RESEND_MINUTES, SentMessage, find_sent_message, find_session},
            },
            run_cursor::{RestPoint, RunCursor, RunRest, RunStep},
            spoken_answer::SpokenAnswer,
            thread_session::{ThreadSession, find_thread, new_session, open_thread},
            turn_opening::{InteractionAnswer, MessagePlace, MessageTurn, TurnMessage, TurnOpener},
            waiting_interactions::{InteractionId, WaitingInteractions},
        },
        problem::ProblemDetails,
        problem_code::ProblemCode,
        state::ApiState,
    },
    auth::CallerIdentity,
    runtime::{SessionOpening, SessionsError},
};

/// How often a message is sent to a session whose run began or ceased to wait meanwhile.
const SEND_ATTEMPTS: usize = 3;

/// A request on its way to a response.
pub(super) struct ResponseCreation<'a> {
    pub(super) state: &'a web::Data<ApiState>,
    pub(super) caller: &'a Caller<CanWrite>,
    pub(super) headers: ClientHeaders,
    pub(super) request: &'a ResponseRequest,
}

/// What came before the request.
enum Predecessor {
    Response(ResponseId),
    /// The client's name of the conversation.
    Thread(String),
    Unnamed,
}

impl ResponseCreation<'_> {
    /// Starts or continues the run. Returns the id of the response that it answers with.
    pub(super) async fn start(&self, input: ResponseInput) -> Result<ResponseId, ProblemDetails> {
        let predecessor = self.find_predecessor().await?;
        match input {
            ResponseInput::Answers(answers) => self.send_answers(&predecessor, answers).await,
            ResponseInput::Message(history) => match SpokenAnswer::parse(&history.message) {
                Some(answer) => self.send_spoken_answer(&predecessor, &history, &answer).await,
                None => self.send_message(&predecessor, &history).await,
            },
        }
    }

    async fn find_predecessor(&self) -> Result<Predecessor, ProblemDetails> {
        if let Some(id) = &self.request.previous_response_id {
            let unknown = || {
                let detail = format!("Previous response with id '{id}' not found.");
                ProblemDetails::new(ProblemCode::PreviousResponseNotFound, detail)
            };
            let previous: ResponseId = id.parse().map_err(|_| unknown())?;
            return match self.state.sessions.get_session(&self.caller.user, previous.address.session).await {
                Ok(_) => Ok(Predecessor::Response(previous)),
                Err(SessionsError::NotFound(_)) => Err(unknown()),
                Err(error) => Err(error.into()),
            };
        }
        let thread = self.request.conversation().map(str::to_owned).or_else(|| self.headers.thread.clone());
        Ok(thread.map_or(Predecessor::Unnamed, Predecessor::Thread))
    }

    /// Finds the session that the request continues.
    async fn find_session(
        &self,
        predecessor: &Predecessor,
        history: &Arc<ChatHistory>,
    ) -> Result<Option<SessionId>, ProblemDetails> {
        let user = &self.caller.user;
        match predecessor {
            Predecessor::Response(previous) => Ok(Some(previous.address.session)),
            Predecessor::Thread(thread) => match parse_conversation_id(thread) {
                // An id of a conversation is never the name of a new one.
                Some(session) => {
                    self.state.sessions.get_session(user, session).await?;
                    Ok(Some(session))
                }
                None => find_thread(self.state, user, ClientDoor::Responses, thread).await,
            },
            Predecessor::Unnamed => Ok(find_session(self.state, user, history).await?.map(|found| found.session)),
        }
    }

    async fn open_session(
        &self,
        predecessor: &Predecessor,
        history: &Arc<ChatHistory>,
    ) -> Result<ThreadSession, ProblemDetails> {
        if let Some(session) = self.find_session(predecessor, history).await? {
            return Ok(ThreadSession { session, opening: SessionOpening::Existing });
        }
        let user = &self.caller.user;
        let by_key = self.headers.key.as_ref().map(|key| format!("key {key}"));
        let named = match predecessor {
            Predecessor::Thread(thread) => Some(thread),
            _ => by_key.as_ref(),
        };
        if let Some(thread) = named {
            return open_thread(self.state, user, ClientDoor::Responses, thread).await;
        }
        let created = self.state.sessions.create_session(user, new_session(self.state), None).await?;
        Ok(ThreadSession { session: created.summary.session_id, opening: SessionOpening::Created })
    }

    async fn send_message(
        &self,
        predecessor: &Predecessor,
        history: &Arc<ChatHistory>,
    ) -> Result<ResponseId, ProblemDetails> {
        if self.headers.is_repeated
            && self.headers.key.is_none()
            && let Some(sent) = self.find_repeated(predecessor, history).await?
        {
            return Ok(sent);
        }
        let thread = self.open_session(predecessor, history).await?;
        let opener = self.opener(thread.session);
        let content = match thread.opening {
            SessionOpening::Created => history.message_with_quotes(self.state.server.max_message_bytes),
            SessionOpening::Existing => history.message.clone(),
        };
        for _ in 0..SEND_ATTEMPTS {
            let (content, command_id) = (content.clone(), self.headers.key.clone());
            // A client that sends while a run is in progress has stopped reading it.
            let message = TurnMessage { content, command_id, on_busy: OnBusy::Interrupt };
            match opener.send_message(message).await? {
                MessageTurn::Sent(cursor) => return Ok(self.first_response(thread.session, &cursor)),
                MessageTurn::Blocked(_) => {
                    let state = self.load_session(thread.session).await?;
                    if let Some(rest) = CurrentRest::from_state(&state, predecessor) {
                        return Ok(self.response_after(&rest, 0));
                    }
                }
            }
        }
        Err(ProblemDetails::new(ProblemCode::Busy, "the session changes between waiting and working; send it again"))
    }

    /// Finds the run of a message that the client sends again because it got no response.
    async fn find_repeated(
        &self,
        predecessor: &Predecessor,
        history: &Arc<ChatHistory>,
    ) -> Result<Option<ResponseId>, ProblemDetails> {
        let user = &self.caller.user;
        let sent = match (predecessor, self.find_session(predecessor, history).await?) {
            (Predecessor::Unnamed, _) => find_sent_message(self.state, user, history).await?,
            (_, None) => None,
            (_, Some(session)) => self.find_newest(session, &history.message).await?,
        };
        let Some(SentMessage { session, place }) = sent else { return Ok(None) };
        let cursor = self.opener(session).follow_message(place).await?;
        Ok(Some(self.first_response(session, &cursor)))
    }

    /// Finds a message that is the newest one of a session.
    async fn find_newest(&self, session: SessionId, content: &str) -> Result<Option<SentMessage>, ProblemDetails> {
        let (user, sessions) = (&self.caller.user, &self.state.sessions);
        // The inbox before the log: a message that its owner reads in between is in the log.
        let waiting = sessions.list_waiting_messages(user, session).await?;
        if let Some(newest) = waiting.last().filter(|newest| newest.content == content) {
            return Ok(Some(SentMessage { session, place: MessagePlace::Waiting(newest.run_id) }));
        }
        let messages = sessions.list_messages(user, session, 0, usize::MAX).await?;
        let newest = messages.iter().rev().find_map(|message| match message.as_ref() {
            ChatMessage::User(message) => Some(message),
            _ => None,
        });
        let oldest = Timestamp::now().as_millis() - RESEND_MINUTES * 60_000;
        let newest = newest.filter(|message| message.ts.as_millis() >= oldest && message.content == content);
        Ok(newest.map(|message| SentMessage { session, place: MessagePlace::Logged { seq: message.seq } }))
    }

    async fn send_answers(
        &self,
        predecessor: &Predecessor,
        answers: Vec<ApprovalAnswer>,
    ) -> Result<ResponseId, ProblemDetails> {
        let Some(first) = answers.first().map(|answer| answer.id) else {
            return Err(ProblemDetails::invalid("input has no answer"));
        };
        let is_together =
            |answer: &ApprovalAnswer| (answer.id.address, answer.id.rest_seq) == (first.address, first.rest_seq);
        if !answers.iter().all(is_together) {
            return Err(ProblemDetails::invalid("all answers must be for requests of one response"));
        }
        let session = first.address.session;
        if matches!(predecessor, Predecessor::Response(previous) if previous.address.session != session) {
            return Err(ProblemDetails::invalid(
                "the request for approval is not of the conversation of previous_response_id",
            ));
        }
        let asked = self.find_waiting_at(&first.address, first.rest_seq).await?;
        let mut answered = 0;
        let (mut given, mut calls) = (Vec::new(), Vec::new());
        for ApprovalAnswer { id, answer } in answers {
            let Some(request) = asked.approvals.get(id.position).filter(|_| id.position < u64::BITS as usize) else {
                return Err(approval_not_found());
            };
            answered |= 1 << id.position;
            calls.push(&request.tool_call_id);
            given.push(InteractionAnswer::Approval(request.approval_id, answer));
        }
        if let Err(problem) = self.opener(session).send_answers(given).await {
            let is_closed = matches!(problem.code, ProblemCode::ApprovalClosed | ProblemCode::ApprovalNotFound);
            // An earlier answer was lost together with the record of the call. The next response says so.
            if !is_closed || !self.have_ended_unknown(session, &calls).await? {
                return Err(problem);
            }
        }
        let rest_point = Some(RestPoint { seq: first.rest_seq, answered });
        Ok(ResponseId { address: first.address, rest_point, mode: self.request.mode() })
    }

    async fn send_spoken_answer(
        &self,
        predecessor: &Predecessor,
        history: &Arc<ChatHistory>,
        answer: &SpokenAnswer,
    ) -> Result<ResponseId, ProblemDetails> {
        let nothing = || ProblemDetails::new(ProblemCode::ApprovalNotFound, "no run waits for this answer");
        let session = self.find_session(predecessor, history).await?.ok_or_else(nothing)?;
        let state = self.load_session(session).await?;
        let rest = CurrentRest::from_state(&state, predecessor).ok_or_else(nothing)?;
        let given = answer
            .find_target(&rest.waiting)
            .map_err(|mismatch| ProblemDetails::new(ProblemCode::ApprovalNotFound, mismatch.explain()))?;
        let answered = rest.bit(given.target()).ok_or_else(approval_not_found)?;
        self.opener(session).send_answers(vec![given]).await?;
        Ok(self.response_after(&rest, answered))
    }

    /// Returns what a run waited for where it rested.
    async fn find_waiting_at(&self, address: &RunAddress, seq: u64) -> Result<WaitingInteractions, ProblemDetails> {
        // Nothing is answered, so that the cursor rests there again.
        let rest_point = Some(RestPoint { seq, answered: 0 });
        let id = ResponseId { address: *address, rest_point, mode: ResponseMode::Foreground };
        let mut cursor = open_response(self.state, &self.caller.identity, &id).await.map_err(|problem| {
            if problem.code == ProblemCode::ResponseNotFound { approval_not_found() } else { problem }
        })?;
        loop {
            match cursor.next_logged().await? {
                Some(RunStep::Rest(RunRest::Waiting(waiting))) => return Ok(waiting),
                // The run did not rest where the id says.
                Some(RunStep::Frame(StreamFrame::Event(event))) if event.seq > seq => return Err(approval_not_found()),
                Some(RunStep::Frame(_) | RunStep::Blocked(_)) => {}
                Some(RunStep::Rest(_)) | None => return Err(approval_not_found()),
            }
        }
    }

    /// Whether it is not known of any of these calls what became of it.
    async fn have_ended_unknown(&self, session: SessionId, calls: &[&ToolCallId]) -> Result<bool, ProblemDetails> {
        let messages = self.load_session(session).await?.messages;
        let has_ended_unknown = |call: &ToolCallId| {
            messages.iter().any(|message| match message.as_ref() {
                ChatMessage::Tool(end) => end.tool_call_id == *call && end.status == ToolStatus::Unknown,
                _ => false,
            })
        };
        Ok(calls.iter().all(|call| has_ended_unknown(call)))
    }

    async fn load_session(&self, session: SessionId) -> Result<SessionState, ProblemDetails> {
        Ok(self.state.sessions.load_session(&self.caller.user, session).await?)
    }

    fn opener(&self, session: SessionId) -> TurnOpener<'_> {
        TurnOpener { state: self.state, identity: &self.caller.identity, session }
    }

    fn first_response(&self, session: SessionId, cursor: &RunCursor) -> ResponseId {
        let address = RunAddress { session, run: cursor.run_id(), start_seq: cursor.start_seq() };
        ResponseId { address, rest_point: None, mode: self.request.mode() }
    }

    fn response_after(&self, rest: &CurrentRest, answered: u64) -> ResponseId {
        let rest_point = Some(RestPoint { seq: rest.seq, answered });
        ResponseId { address: rest.address, rest_point, mode: self.request.mode() }
    }
}

/// Where the open run of a session rests now.
struct CurrentRest {
    address: RunAddress,
    seq: u64,
    waiting: WaitingInteractions,
}

impl CurrentRest {
    fn from_state(state: &SessionState, predecessor: &Predecessor) -> Option<Self> {
        let run = state.run.as_ref().filter(|run| run.is_blocked_on_user())?;
        // The message of the open run is the newest in the log: the next ones are logged when their runs start.
        let message = state.messages.iter().rev().find_map(|message| match message.as_ref() {
            ChatMessage::User(message) => Some(message.seq),
            _ => None,
        })?;
        // As of the newest event, like a cursor that reads the log.
        let waiting = WaitingInteractions::from_run_at(run, state.summary.updated_at);
        let session = state.summary.session_id;
        let address = match predecessor {
            // The client knows the run by this address.
            Predecessor::Response(previous)
                if previous.address.run == run.run_id && previous.address.start_seq < message =>
            {
                previous.address
            }
            _ => RunAddress { session, run: run.run_id, start_seq: message.saturating_sub(1) },
        };
        (!waiting.is_empty()).then_some(Self { address, seq: state.last_seq(), waiting })
    }

    /// Returns the bit of something that waits.
    fn bit(&self, target: InteractionId) -> Option<u64> {
        let position = self.waiting.ids().position(|id| id == target)?;
        1_u64.checked_shl(u32::try_from(position).ok()?)
    }
}

fn approval_not_found() -> ProblemDetails {
    ProblemDetails::new(ProblemCode::ApprovalNotFound, "there is no such request for approval")
}

/// Opens a cursor over the run of a response, from where the response begins.
pub(super) async fn open_response(
    state: &ApiState,
    identity: &CallerIdentity,
    id: &ResponseId,
) -> Result<Box<RunCursor>, ProblemDetails> {
    let RunAddress { session, run, start_seq } = id.address;
    let not_found =
        || ProblemDetails::new(ProblemCode::ResponseNotFound, format!("Response with id '{id}' not found."));
    let sessions = &state.sessions;
    let summary = match sessions.get_session(&identity.user, session).await {
        Err(SessionsError::NotFound(_)) => return Err(not_found()),
        summary => summary?,
    };
    if id.first_seq().max(start_seq) > summary.last_seq {
        return Err(not_found());
    }
    let events = sessions.open_cursor(&identity.user, session, start_seq).await?;
    Ok(Box::new(match id.rest_point {
        None => RunCursor::after_message(events, run, start_seq),
        Some(point) => RunCursor::after_rest(events, run, start_seq, point),
    }))
}
