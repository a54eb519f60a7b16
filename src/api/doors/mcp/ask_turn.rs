//! `ask`: sends a question, or continues what waited.

use actix_web::{HttpResponse, web};
use k8sops_core::{ChatMessage, CommandId, CommandReceipt, OnBusy, RunId, SessionId};
use serde_json::{Map, Value};

use super::{
    ask_encoder::{AskEncoder, EncoderState, RunHistory, StreamResumption},
    ask_result::AskResult,
    client_protocol::{ClientProtocol, ProtocolEra},
    elicitation::{FormAudience, read_named_answers},
    json_rpc::{RpcError, RpcRequest, result_json},
    stream_token::{RunPlace, StreamToken, decode_token},
    tool_definitions::AskArguments,
};
use crate::api::{
    caller::{Caller, CanWrite},
    doors::{
        client_door::ClientDoor,
        run_cursor::RunCursor,
        thread_session::{new_session, open_thread},
        turn_follower::{OnDisconnect, TurnFollower},
        turn_opening::{AttachedSession, MessageTurn, TurnMessage, TurnOpener},
        turn_stream::turn_response,
        waiting_interactions::WaitingInteractions,
    },
    event_stream::StreamGuard,
    problem::ProblemDetails,
    problem_code::ProblemCode,
    state::ApiState,
};

/// What is said when a question was not sent.
const NOT_SENT: &str = "The question was not sent, because the agent waits for a person.";
/// How many messages are searched for the one that a run answers.
const SEARCHED_MESSAGES: usize = 20;

/// Why a call gets no result.
pub(super) enum AskFailure {
    /// The call was rejected. Its model is told.
    Rejected(ProblemDetails),
    /// The request is not one of the protocol.
    Protocol(RpcError),
}

impl From<ProblemDetails> for AskFailure {
    fn from(problem: ProblemDetails) -> Self {
        Self::Rejected(problem)
    }
}

/// A client, and how its runs are followed.
pub(super) struct AskTurn<'a> {
    pub(super) state: &'a web::Data<ApiState>,
    pub(super) caller: &'a Caller,
    pub(super) protocol: &'a ClientProtocol,
    pub(super) on_disconnect: OnDisconnect,
}

impl AskTurn<'_> {
    /// Answers a call of `ask`.
    pub(super) async fn respond(&self, request: &RpcRequest) -> Result<HttpResponse, AskFailure> {
        Caller::<CanWrite>::new(self.caller.identity.clone())?;
        let token = |place| StreamToken {
            place,
            request_id: request.id.clone(),
            progress_token: request.params["_meta"].get("progressToken").cloned(),
        };
        match request.params.get("requestState") {
            Some(state) if self.protocol.era == ProtocolEra::PerRequest => {
                let place = state.as_str().and_then(decode_token::<RunPlace>);
                let place = place.ok_or_else(|| invalid("`requestState` is not from this server"))?;
                self.answer(&token(place), request.params.get("inputResponses")).await
            }
            _ => {
                let arguments = AskArguments::parse(&request.params["arguments"]).map_err(ProblemDetails::invalid)?;
                self.send(arguments, &request.id, token).await
            }
        }
    }

    /// Opens the stream of an earlier request again.
    pub(super) async fn resume(&self, token: &StreamToken) -> Result<HttpResponse, ProblemDetails> {
        let guard = StreamGuard::new(self.state, &self.caller.identity)?;
        let opener = self.opener(token.place.session);
        // Before the session is looked at: a question that its owner reads in between is in the session.
        if let Some(cursor) = opener.follow_waiting_message(token.place.run).await? {
            return Ok(self.follow(token, cursor, guard, RunHistory::Live, None));
        }
        let attached = opener.attach().await?;
        self.follow_attached(token, attached, guard).await
    }

    async fn send(
        &self,
        arguments: AskArguments,
        request_id: &Value,
        token: impl Fn(RunPlace) -> StreamToken,
    ) -> Result<HttpResponse, AskFailure> {
        // Reserved before anything is accepted: a client that gets no stream must be able to send the request again.
        let guard = StreamGuard::new(self.state, &self.caller.identity)?;
        let key = self.protocol.request_key(request_id);
        let session = self.open_session(&arguments, key.as_ref()).await?;
        let known = self.find_receipt(session, key.as_ref()).await?;
        let sent = self.send_message(session, &arguments.question, key).await;
        let (session, turn, known) = match sent {
            // The client uses an id twice.
            Err(problem) if problem.code == ProblemCode::CommandIdReused => {
                let session = self.open_session(&arguments, None).await?;
                (session, self.send_message(session, &arguments.question, None).await?, None)
            }
            turn => (session, turn?, known),
        };
        match turn {
            MessageTurn::Sent(cursor) => {
                let token = token(RunPlace { session, run: cursor.run_id() });
                let Some(message) = known.and_then(|receipt| receipt.message_id) else {
                    return Ok(self.follow(&token, cursor, guard, RunHistory::Live, None));
                };
                // What the run waited for before was shown. A question that no owner has read has waited for nothing yet.
                let AttachedSession { state, cursor: attached } = self.opener(session).attach().await?;
                let is_read = state.has_user_message(message);
                Ok(match attached.filter(|attached| is_read && attached.run_id() == cursor.run_id()) {
                    Some(attached) => self.follow(&token, attached, guard, RunHistory::Live, None),
                    None if is_read => self.follow(&token, cursor, guard, RunHistory::Ended, None),
                    None => self.follow(&token, cursor, guard, RunHistory::Live, None),
                })
            }
            MessageTurn::Blocked(waiting) => self.respond_blocked(session, waiting, guard, token).await,
        }
    }

    async fn open_session(
        &self,
        arguments: &AskArguments,
        key: Option<&CommandId>,
    ) -> Result<SessionId, ProblemDetails> {
        let user = &self.caller.user;
        match (arguments.session, key) {
            (Some(session), _) => Ok(self.state.sessions.get_session(user, session).await?.session_id),
            // A request that is repeated goes to the same session.
            (None, Some(key)) => Ok(open_thread(self.state, user, ClientDoor::Mcp, key.as_str()).await?.session),
            (None, None) => {
                let created = self.state.sessions.create_session(user, new_session(self.state), None).await?;
                Ok(created.summary.session_id)
            }
        }
    }

    /// Returns the receipt of the request, if it was accepted before.
    async fn find_receipt(
        &self,
        session: SessionId,
        key: Option<&CommandId>,
    ) -> Result<Option<CommandReceipt>, ProblemDetails> {
        let Some(key) = key else { return Ok(None) };
        Ok(self.state.sessions.find_receipt(&self.caller.user, session, key).await?)
    }

    async fn send_message(
        &self,
        session: SessionId,
        question: &str,
        command_id: Option<CommandId>,
    ) -> Result<MessageTurn, ProblemDetails> {
        // A question behind a run would wait in silence, and one that interrupts could stop a change of someone else's question.
        let message = TurnMessage { content: question.to_owned(), command_id, on_busy: OnBusy::Reject };
        self.opener(session).send_message(message).await.map_err(|problem| match problem.code {
            ProblemCode::Busy => {
                let detail = format!(
                    "session {session} still works on an earlier question: see get_session, and ask when it is idle, or \
                     without session_id in a new session"
                );
                ProblemDetails::new(ProblemCode::Busy, detail)
            }
            _ => problem,
        })
    }

    /// Shows what an earlier run waits for, and returns how that run goes on.
    async fn respond_blocked(
        &self,
        session: SessionId,
        waiting: WaitingInteractions,
        guard: StreamGuard,
        token: impl Fn(RunPlace) -> StreamToken,
    ) -> Result<HttpResponse, AskFailure> {
        let can_answer = !self.audience().describe_forms(&waiting).is_empty();
        let cursor = if can_answer { self.opener(session).attach().await?.cursor } else { None };
        let Some(cursor) = cursor else {
            let result = AskResult::waiting(session, None, NOT_SENT, waiting).to_json(self.protocol.era);
            let place = RunPlace { session, run: RunId::new() };
            return Ok(json_response(result_json(&token(place).request_id, result)));
        };
        let token = token(RunPlace { session, run: cursor.run_id() });
        Ok(self.follow(&token, cursor, guard, RunHistory::Live, Some(NOT_SENT)))
    }

    /// Gives the answers that came with a request that is sent again.
    async fn answer(&self, token: &StreamToken, responses: Option<&Value>) -> Result<HttpResponse, AskFailure> {
        let nothing = Map::new();
        let responses = match responses {
            None => &nothing,
            Some(responses) => responses.as_object().ok_or_else(|| invalid("`inputResponses` must be an object"))?,
        };
        let guard = StreamGuard::new(self.state, &self.caller.identity)?;
        let opener = self.opener(token.place.session);
        let waiting = opener.find_waiting().await?;
        let answers = read_named_answers(responses, &waiting).map_err(|why| invalid(&why))?;
        let attached = match answers.is_empty() {
            // All of it was answered before: the client learns what became of it.
            true => opener.attach().await?,
            false => match opener.send_answers(answers).await {
                // What still waits is asked again.
                Err(problem) if is_unanswered(problem.code) => opener.attach().await?,
                sent => sent?,
            },
        };
        Ok(self.follow_attached(token, attached, guard).await?)
    }

    async fn follow_attached(
        &self,
        token: &StreamToken,
        attached: AttachedSession,
        guard: StreamGuard,
    ) -> Result<HttpResponse, ProblemDetails> {
        if let Some(cursor) = attached.cursor.filter(|cursor| cursor.run_id() == token.place.run) {
            return Ok(self.follow(token, cursor, guard, RunHistory::Live, None));
        }
        let seqs = attached.state.messages.iter().rev().filter_map(|message| match message.as_ref() {
            ChatMessage::User(message) => Some(message.seq),
            _ => None,
        });
        let opener = self.opener(token.place.session);
        for seq in seqs.take(SEARCHED_MESSAGES) {
            let cursor = opener.follow_logged_message(seq).await?;
            if cursor.run_id() == token.place.run {
                return Ok(self.follow(token, cursor, guard, RunHistory::Ended, None));
            }
        }
        Err(ProblemDetails::new(ProblemCode::SessionNotFound, "the run is no longer in the session's log"))
    }

    fn follow(
        &self,
        token: &StreamToken,
        cursor: Box<RunCursor>,
        guard: StreamGuard,
        history: RunHistory,
        preface: Option<&'static str>,
    ) -> HttpResponse {
        let encoder = AskEncoder {
            era: self.protocol.era,
            audience: self.audience(),
            token: token.clone(),
            resumption: match self.protocol.resumes_streams {
                true => StreamResumption::Offered,
                false => StreamResumption::Unknown,
            },
            history,
            preface,
            state: EncoderState::default(),
        };
        let target = (ClientDoor::Mcp, token.place.session, self.on_disconnect);
        turn_response(TurnFollower::new(self.state, &self.caller.identity, target, cursor, guard), encoder)
    }

    fn audience(&self) -> FormAudience {
        FormAudience { support: self.protocol.support, roles: self.caller.identity.roles }
    }

    fn opener(&self, session: SessionId) -> TurnOpener<'_> {
        TurnOpener { state: self.state, identity: &self.caller.identity, session }
    }
}

/// Returns a response with one message.
pub(super) fn json_response(body: String) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").insert_header(("cache-control", "no-store")).body(body)
}

/// Whether an answer had no effect: it does not fit the question, or someone else was faster.
fn is_unanswered(code: ProblemCode) -> bool {
    matches!(code, ProblemCode::DoesNotFit | ProblemCode::ApprovalClosed | ProblemCode::InputClosed)
}

fn invalid(why: &str) -> AskFailure {
    AskFailure::Protocol(RpcError::invalid_params(why))
}
