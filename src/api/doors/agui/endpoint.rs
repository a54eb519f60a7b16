//! `/agui` and `/api/agui/chat`.

use std::sync::Arc;

use actix_web::{HttpResponse, post, web};
use data_encoding::HEXLOWER;
use k8sops_core::{ChatMessage, CommandId, OnBusy, SessionId};
use sha2::{Digest, Sha256};

use super::{
    agui_encoder::{AgUiEncoder, ClientRun, OpeningSnapshot},
    conversation::{AgUiConversation, ClientMessageIds},
    interrupts::read_answers,
    run_input::{ClientGeneration, InputRequest, RunAgentInput},
};
use crate::api::{
    caller::{Caller, CanWrite},
    doors::{
        client_door::ClientDoor,
        door_body::ConversationBody,
        spoken_answer::SpokenAnswer,
        thread_session::{find_thread, open_thread, thread_session_id},
        turn_follower::{DisconnectQuery, TurnFollower},
        turn_opening::{AttachedSession, InteractionAnswer, MessageTurn, TurnMessage, TurnOpener},
        turn_stream::turn_response,
        waiting_interactions::WaitingInteractions,
    },
    error_responses::document_errors,
    event_stream::StreamGuard,
    extractors::QueryParameters,
    negotiation::SSE,
    problem::ProblemDetails,
    problem_code::ProblemCode,
    state::ApiState,
};

document_errors!(
    RunAgentErrors: InvalidJson, InvalidRequest, SessionNotFound, SessionDamaged, ApproverRequired, ApprovalNotFound,
    ApprovalClosed, InputNotFound, InputClosed, DoesNotFit, MessageTooLong, PayloadTooLarge, CommandIdReused, InboxFull,
    TooManyRuns, TooManySessions, TooManyStreams, StoreUnavailable, Stopping, Overloaded
);

/// How many messages a snapshot has at most, the newest.
const SNAPSHOT_MESSAGES: usize = 1000;

/// Runs the agent over AG-UI.
///
/// The thread is a session. A last message of the user is sent to it; answers in `resume` continue a run that was interrupted;
/// anything else attaches: the stream begins with the conversation and follows the run in progress. A run that waits for its
/// user ends the stream with the outcome `interrupt`. A disconnect does not cancel the run.
#[utoipa::path(
    operation_id = "run_agent", tag = "door: agui",
    params(DisconnectQuery),
    request_body = RunAgentInput,
    responses(
        (status = 200, description = "The events of the run, until it rests", body = String, content_type = "text/event-stream"),
        RunAgentErrors
    )
)]
#[post("/agui")]
pub(in crate::api) async fn run_agent(
    state: web::Data<ApiState>,
    caller: Caller<CanWrite>,
    QueryParameters(query): QueryParameters<DisconnectQuery>,
    body: ConversationBody<RunAgentInput>,
) -> Result<HttpResponse, ProblemDetails> {
    AgUiTurn { state, caller, query, input: body.0 }.respond().await
}

/// The same as `POST /agui`, at the path that Headlamp uses.
#[utoipa::path(
    operation_id = "run_agent_for_headlamp", tag = "door: agui",
    params(DisconnectQuery),
    request_body = RunAgentInput,
    responses(
        (status = 200, description = "The events of the run, until it rests", body = String, content_type = "text/event-stream"),
        RunAgentErrors
    )
)]
#[post("/api/agui/chat")]
pub(in crate::api) async fn run_agent_for_headlamp(
    state: web::Data<ApiState>,
    caller: Caller<CanWrite>,
    QueryParameters(query): QueryParameters<DisconnectQuery>,
    body: ConversationBody<RunAgentInput>,
) -> Result<HttpResponse, ProblemDetails> {
    AgUiTurn { state, caller, query, input: body.0 }.respond().await
}

/// A request on its way to a response.
struct AgUiTurn {
    state: web::Data<ApiState>,
    caller: Caller<CanWrite>,
    query: DisconnectQuery,
    input: RunAgentInput,
}

impl AgUiTurn {
    async fn respond(self) -> Result<HttpResponse, ProblemDetails> {
        if self.input.thread_id.is_empty() || self.input.run_id.is_empty() {
            return Err(ProblemDetails::invalid("threadId and runId must not be empty"));
        }
        let request = self.input.request()?;
        // Reserved before anything is accepted: a client that gets no stream must be able to send the request again.
        let guard = StreamGuard::new(&self.state, &self.caller.identity)?;
        let (user, thread) = (&self.caller.user, &self.input.thread_id);
        let known = find_thread(&self.state, user, ClientDoor::AgUi, thread).await?;
        let answer = match &request {
            InputRequest::Message { text, .. } => SpokenAnswer::parse(text),
            _ => None,
        };
        let session = match (known, &request, &answer) {
            (Some(session), ..) => session,
            (None, InputRequest::Message { .. }, None) => {
                open_thread(&self.state, user, ClientDoor::AgUi, thread).await?.session
            }
            (None, InputRequest::Resume, _) => {
                let detail = format!("nothing waits for an answer in thread `{thread}`: it has no session");
                return Err(ProblemDetails::new(ProblemCode::SessionNotFound, detail));
            }
            // There is nothing to attach to.
            (None, ..) => return Ok(self.respond_to_unknown_thread(answer.as_ref())),
        };
        let opener = TurnOpener { state: &self.state, identity: &self.caller.identity, session };
        match (request, answer) {
            (InputRequest::Attach, _) => self.attach(&opener, guard).await,
            (InputRequest::Resume, _) => {
                let waiting = opener.find_waiting().await?;
                match read_answers(self.input.answers(), &waiting) {
                    // All of it was answered before: the client learns what became of it.
                    answers if answers.is_empty() => self.attach(&opener, guard).await,
                    answers => self.answer(&opener, answers, guard).await,
                }
            }
            (InputRequest::Message { .. }, Some(answer)) => {
                let waiting = opener.find_waiting().await?;
                match answer.find_target(&waiting) {
                    Ok(answer) => self.answer(&opener, vec![answer], guard).await,
                    Err(mismatch) => self.respond_without_run(session, Some(&mismatch.explain()), &waiting).await,
                }
            }
            (InputRequest::Message { id, text }, None) => self.send(&opener, id, text, guard).await,
        }
    }

    fn respond_to_unknown_thread(&self, answer: Option<&SpokenAnswer>) -> HttpResponse {
        let session = thread_session_id(&self.caller.user, ClientDoor::AgUi, &self.input.thread_id);
        let nothing = WaitingInteractions::default();
        let text = answer.and_then(|answer| answer.find_target(&nothing).err()).map(|mismatch| mismatch.explain());
        let mut encoder = self.encoder(session, AgUiConversation::default(), OpeningSnapshot::Sent);
        sse_response(encoder.encode_without_run(text.as_deref(), &nothing))
    }

    async fn send(
        &self,
        opener: &TurnOpener<'_>,
        id: Option<String>,
        text: String,
        guard: StreamGuard,
    ) -> Result<HttpResponse, ProblemDetails> {
        let command_id = id.map(|id| self.command_id(&id)).transpose()?;
        let known = match &command_id {
            Some(id) => self.state.sessions.find_receipt(&self.caller.user, opener.session, id).await?,
            None => None,
        };
        let conversation = self.load_conversation(opener.session).await?;
        // A client that sends while a run is in progress has stopped reading it.
        let message = TurnMessage { content: text, command_id, on_busy: OnBusy::Interrupt };
        match opener.send_message(message).await? {
            MessageTurn::Sent(cursor) => {
                if let Some(message) = known.and_then(|receipt| receipt.message_id) {
                    let attached = opener.attach_to_all_runs().await?;
                    // The client has a part of the answer already, which events cannot repeat. The snapshot has all of it. A
                    // message that no owner has read yet is in no snapshot, and has a run that is still to begin.
                    if attached.state.has_user_message(message) {
                        return self.follow_attached(opener.session, attached, guard);
                    }
                }
                let encoder = self.encoder(opener.session, conversation, OpeningSnapshot::Omitted);
                Ok(turn_response(self.follow(opener.session, cursor, guard), encoder))
            }
            MessageTurn::Blocked(waiting) => {
                let text = "Your message was not sent, because the agent waits for an answer.";
                let is_old = self.input.generation() == ClientGeneration::BeforeVersion1;
                self.respond_without_run(opener.session, is_old.then_some(text), &waiting).await
            }
        }
    }

    async fn answer(
        &self,
        opener: &TurnOpener<'_>,
        answers: Vec<InteractionAnswer>,
        guard: StreamGuard,
    ) -> Result<HttpResponse, ProblemDetails> {
        let answered = opener.send_answers(answers).await?;
        self.follow_attached(opener.session, answered, guard)
    }

    async fn attach(&self, opener: &TurnOpener<'_>, guard: StreamGuard) -> Result<HttpResponse, ProblemDetails> {
        let attached = opener.attach_to_all_runs().await?;
        self.follow_attached(opener.session, attached, guard)
    }

    /// Streams the conversation and then the run in progress.
    fn follow_attached(
        &self,
        session: SessionId,
        attached: AttachedSession,
        guard: StreamGuard,
    ) -> Result<HttpResponse, ProblemDetails> {
        let messages = &attached.state.messages;
        let newest = &messages[messages.len().saturating_sub(SNAPSHOT_MESSAGES)..];
        let mut encoder = self.encoder(session, self.conversation(newest)?, OpeningSnapshot::Sent);
        Ok(match attached.cursor {
            Some(cursor) => turn_response(self.follow(session, cursor, guard), encoder),
            None => sse_response(encoder.encode_without_run(None, &WaitingInteractions::default())),
        })
    }

    async fn respond_without_run(
        &self,
        session: SessionId,
        text: Option<&str>,
        waiting: &WaitingInteractions,
    ) -> Result<HttpResponse, ProblemDetails> {
        let conversation = self.load_conversation(session).await?;
        let mut encoder = self.encoder(session, conversation, OpeningSnapshot::Omitted);
        Ok(sse_response(encoder.encode_without_run(text, waiting)))
    }

    async fn load_conversation(&self, session: SessionId) -> Result<AgUiConversation, ProblemDetails> {
        let messages = self.state.sessions.list_messages(&self.caller.user, session, 0, usize::MAX).await?;
        let newest = &messages[messages.len().saturating_sub(SNAPSHOT_MESSAGES)..];
        self.conversation(newest)
    }

    /// Returns messages of the log, with the ids that the client gave to its own.
    fn conversation(&self, messages: &[Arc<ChatMessage>]) -> Result<AgUiConversation, ProblemDetails> {
        let ids = self.input.user_message_ids().map(|id| Ok((self.command_id(id)?, id.to_owned())));
        let client_ids = ids.collect::<Result<ClientMessageIds, ProblemDetails>>()?;
        Ok(AgUiConversation::from_messages(messages, client_ids).with_exchanges(self.input.known_messages()))
    }

    fn encoder(&self, session: SessionId, conversation: AgUiConversation, opening: OpeningSnapshot) -> AgUiEncoder {
        let client = ClientRun {
            thread_id: self.input.thread_id.clone(),
            run_id: self.input.run_id.clone(),
            generation: self.input.generation(),
        };
        AgUiEncoder::new(client, session, conversation, opening)
    }

    fn follow(
        &self,
        session: SessionId,
        cursor: Box<crate::api::doors::run_cursor::RunCursor>,
        guard: StreamGuard,
    ) -> TurnFollower {
        let target = (ClientDoor::AgUi, session, self.query.on_disconnect());
        TurnFollower::new(&self.state, &self.caller.identity, target, cursor, guard)
    }

    /// The same message of the same thread is one message, however often the client sends it.
    fn command_id(&self, message_id: &str) -> Result<CommandId, ProblemDetails> {
        let digest = Sha256::digest(format!("{}\n{message_id}", self.input.thread_id));
        Ok(format!("agui-{}", HEXLOWER.encode(&digest[..16])).parse()?)
    }
}

fn sse_response(body: String) -> HttpResponse {
    HttpResponse::Ok().content_type(SSE).insert_header(("cache-control", "no-store")).body(body)
}
