//! `/v1/models` and `/v1/chat/completions`.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, get, http::StatusCode, post, web};
use k8sops_core::{OnBusy, RunId, SessionId, TokenUsage, run_long_work};

use super::{
    chat_history::ChatHistory,
    chat_text::{ChatDelta, ChatText, FinishReason},
    client_tasks::ClientTask,
    completion_request::ChatCompletionRequest,
    completion_response::{ChatCompletion, ChunkEncoder, CompletionText, MODEL, ModelEntry, ModelList, UsageChunk},
    history_match::{NOT_SENT, find_sent_message, find_session},
};
use crate::{
    api::{
        caller::{Caller, CanWrite},
        doors::{
            client_door::ClientDoor,
            client_headers::{ClientHeaders, SESSION_HEADER},
            door_body::ConversationBody,
            door_errors::OpenAiError,
            run_cursor::RunCursor,
            spoken_answer::SpokenAnswer,
            thread_session::{ThreadSession, find_thread, new_session, open_thread},
            turn_follower::{DisconnectQuery, OnDisconnect, TurnFollower, TurnStep},
            turn_opening::{MessageTurn, TurnMessage, TurnOpener},
            turn_stream::turn_response,
            waiting_interactions::WaitingInteractions,
        },
        error_responses::document_errors,
        event_stream::StreamGuard,
        extractors::{JSON_SPEED, QueryParameters},
        problem::ProblemDetails,
        problem_code::ProblemCode,
        state::ApiState,
    },
    runtime::SessionOpening,
};

document_errors!(GetModelErrors: ModelNotFound);
document_errors!(
    ChatCompletionErrors: InvalidJson, InvalidRequest, ModelNotFound, SessionNotFound, SessionDamaged, ApproverRequired,
    ApprovalNotFound, ApprovalClosed, InputNotFound, InputClosed, DoesNotFit, MessageTooLong, PayloadTooLarge,
    CommandIdReused, InboxFull, TooManyRuns, TooManySessions, TooManyStreams, StoreUnavailable, Stopping, Overloaded
);

/// Said if the run that waited has ended meanwhile.
const RUN_ENDED: &str = "The run that waited for this answer has ended.";
/// Why a request is not repeated by a client: its run was started.
const SHOULD_RETRY_HEADER: &str = "x-should-retry";

/// Lists the models: `k8sops`, the agent.
#[utoipa::path(
    operation_id = "list_models", tag = "door: openai",
    responses((status = 200, description = "The models", body = ModelList))
)]
#[get("/v1/models")]
pub(in crate::api) async fn list_models(_caller: Caller) -> web::Json<ModelList> {
    web::Json(ModelList::new())
}

/// Returns a model.
#[utoipa::path(
    operation_id = "get_model", tag = "door: openai",
    params(("model" = String, Path, description = "The name of the model")),
    responses((status = 200, description = "The model", body = ModelEntry), GetModelErrors)
)]
#[get("/v1/models/{model:.*}")]
pub(in crate::api) async fn get_model(
    _caller: Caller,
    model: web::Path<String>,
) -> Result<web::Json<ModelEntry>, ProblemDetails> {
    check_model(Some(&model))?;
    Ok(web::Json(ModelEntry::new()))
}

/// Completes a chat: sends the last message of the user to a session and returns what the agent answers.
///
/// The thread that `X-K8sops-Thread` names is the session. Without one the session is found whose log has the messages before
/// the last one; if there is none, a new session begins. What the agent does is `reasoning_content`, never `tool_calls`. A run
/// that waits for an approval ends the completion with the words that answer it, such as `approve 0fb77b`, and the next message
/// with these words continues it. A disconnect does not cancel the run.
#[utoipa::path(
    operation_id = "create_chat_completion", tag = "door: openai",
    params(
        DisconnectQuery,
        ("x-k8sops-thread" = Option<String>, Header, description = "The client's thread, or the id of a session"),
        ("x-k8sops-task" = Option<String>, Header, description = "The name of a task, which is answered without a run"),
        ("idempotency-key" = Option<String>, Header, description = "Messages with the same key are accepted once"),
    ),
    request_body = ChatCompletionRequest,
    responses(
        (status = 200, description = "The completion, or with `stream` its chunks", content(
            (ChatCompletion = "application/json"), (String = "text/event-stream"),
        )),
        (status = 424, description = "The run failed; sending the message again starts another one", body = OpenAiError),
        ChatCompletionErrors
    )
)]
#[post("/v1/chat/completions")]
pub(in crate::api) async fn create_chat_completion(
    request: HttpRequest,
    state: web::Data<ApiState>,
    caller: Caller<CanWrite>,
    QueryParameters(query): QueryParameters<DisconnectQuery>,
    body: ConversationBody<ChatCompletionRequest>,
) -> Result<HttpResponse, ProblemDetails> {
    let ConversationBody(mut completion, bytes) = body;
    check_model(completion.model.as_deref())?;
    let messages = std::mem::take(&mut completion.messages);
    let Some(history) = run_long_work(bytes / JSON_SPEED, move || ChatHistory::from_messages(&messages)).await else {
        return Err(ProblemDetails::invalid("messages must contain a message of the role `user` with a text"));
    };
    let include_usage = completion.stream_options.as_ref().and_then(|options| options.include_usage) == Some(true);
    let turn = CompletionTurn {
        state,
        caller,
        on_disconnect: query.on_disconnect(),
        form: match (completion.stream == Some(true), include_usage) {
            (false, _) => CompletionForm::Whole,
            (true, true) => CompletionForm::Chunks(UsageChunk::Included),
            (true, false) => CompletionForm::Chunks(UsageChunk::Omitted),
        },
        headers: ClientHeaders::from_request(&request)?,
        history: Arc::new(history),
    };
    turn.complete().await
}

/// Accepts the name of the model, also behind the name of a provider or with a tag, as gateways and clients write it.
pub(in crate::api::doors) fn check_model(name: Option<&str>) -> Result<(), ProblemDetails> {
    let Some(name) = name else { return Ok(()) };
    let base = name.rsplit('/').next().unwrap_or(name);
    let base = base.split(':').next().unwrap_or(base);
    if base.eq_ignore_ascii_case(MODEL) {
        return Ok(());
    }
    Err(ProblemDetails::new(ProblemCode::ModelNotFound, format!("there is no model {name:?}; the model is `{MODEL}`")))
}

/// The form of the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CompletionForm {
    Whole,
    Chunks(UsageChunk),
}

/// A request on its way to a response.
struct CompletionTurn {
    state: web::Data<ApiState>,
    caller: Caller<CanWrite>,
    on_disconnect: OnDisconnect,
    form: CompletionForm,
    headers: ClientHeaders,
    history: Arc<ChatHistory>,
}

impl CompletionTurn {
    async fn complete(self) -> Result<HttpResponse, ProblemDetails> {
        if let Some(task) = ClientTask::recognize(self.headers.task.as_deref(), &self.history) {
            return Ok(self.respond_with_text(None, &task.answer(&self.history)));
        }
        // Reserved before anything is accepted: a client that gets no response must be able to send the request again.
        let guard = StreamGuard::new(&self.state, &self.caller.identity)?;
        if self.headers.is_repeated
            && self.headers.key.is_none()
            && let Some(sent) = find_sent_message(&self.state, &self.caller.user, &self.history).await?
        {
            let cursor = self.opener(sent.session).follow_message(sent.place).await?;
            return self.respond_with_run(sent.session, cursor, guard).await;
        }
        if let Some(answer) = SpokenAnswer::parse(&self.history.message) {
            return self.answer(&answer, guard).await;
        }
        let thread = self.open_session().await?;
        let opener = self.opener(thread.session);
        let content = match thread.opening {
            SessionOpening::Created => self.history.message_with_quotes(self.state.server.max_message_bytes),
            SessionOpening::Existing => self.history.message.clone(),
        };
        // A chat client that sends while a run is in progress has stopped reading it.
        let message = TurnMessage { content, command_id: self.headers.key.clone(), on_busy: OnBusy::Interrupt };
        match opener.send_message(message).await? {
            MessageTurn::Sent(cursor) => self.respond_with_run(thread.session, cursor, guard).await,
            MessageTurn::Blocked(waiting) => {
                let text = format!("{NOT_SENT}, because the agent waits for an answer.\n\n{}", waiting.describe());
                Ok(self.respond_with_text(Some(thread.session), &text))
            }
        }
    }

    /// Gives an answer in words to the run that waits for it.
    async fn answer(&self, answer: &SpokenAnswer, guard: StreamGuard) -> Result<HttpResponse, ProblemDetails> {
        let session = self.find_session().await?;
        let waiting = match session {
            Some(session) => self.opener(session).find_waiting().await?,
            None => WaitingInteractions::default(),
        };
        let mismatch = match (answer.find_target(&waiting), session) {
            (Ok(answer), Some(session)) => {
                let Some(cursor) = self.opener(session).send_answers(vec![answer]).await?.cursor else {
                    return Ok(self.respond_with_text(Some(session), RUN_ENDED));
                };
                return self.respond_with_run(session, cursor, guard).await;
            }
            (Ok(_), None) => return Ok(self.respond_with_text(None, RUN_ENDED)),
            (Err(mismatch), _) => mismatch,
        };
        // The answer was given by the request before, whose response was lost.
        if let (true, Some(session)) = (self.headers.is_repeated, session)
            && let Some(cursor) = self.opener(session).attach().await?.cursor
        {
            return self.respond_with_run(session, cursor, guard).await;
        }
        let texts = [mismatch.explain(), waiting.describe()];
        let text = texts.iter().filter(|text| !text.is_empty()).cloned().collect::<Vec<_>>().join("\n\n");
        Ok(self.respond_with_text(session, &text))
    }

    fn opener(&self, session: SessionId) -> TurnOpener<'_> {
        TurnOpener { state: &self.state, identity: &self.caller.identity, session }
    }

    /// Finds the session of the thread that the client names, or whose log has what the client tells.
    async fn find_session(&self) -> Result<Option<SessionId>, ProblemDetails> {
        let user = &self.caller.user;
        match &self.headers.thread {
            Some(thread) => find_thread(&self.state, user, ClientDoor::OpenAi, thread).await,
            None => Ok(find_session(&self.state, user, &self.history).await?.map(|found| found.session)),
        }
    }

    /// Opens the session that [`Self::find_session`] finds, or a new one.
    async fn open_session(&self) -> Result<ThreadSession, ProblemDetails> {
        let user = &self.caller.user;
        if let Some(session) = self.find_session().await? {
            return Ok(ThreadSession { session, opening: SessionOpening::Existing });
        }
        let by_key = self.headers.key.as_ref().map(|key| format!("key {key}"));
        if let Some(thread) = self.headers.thread.as_ref().or(by_key.as_ref()) {
            return open_thread(&self.state, user, ClientDoor::OpenAi, thread).await;
        }
        let created = self.state.sessions.create_session(user, new_session(&self.state), None).await?;
        Ok(ThreadSession { session: created.summary.session_id, opening: SessionOpening::Created })
    }

    /// Returns what is said before the run says anything.
    fn preface(&self) -> Vec<ChatDelta> {
        match self.history.unread_parts {
            0 => Vec::new(),
            count => vec![ChatDelta::Reasoning(format!(
                "Note: {count} attached parts were not read; k8sops reads text only.\n"
            ))],
        }
    }

    /// Returns a response whose text is known, without a run.
    fn respond_with_text(&self, session: Option<SessionId>, text: &str) -> HttpResponse {
        let id = completion_id(RunId::new());
        let mut response = HttpResponse::Ok();
        if let Some(session) = session {
            response.insert_header((SESSION_HEADER, session.to_string()));
        }
        match self.form {
            CompletionForm::Whole => {
                let text = CompletionText { content: text.to_owned(), reasoning: String::new() };
                response.json(ChatCompletion::new(id, text, FinishReason::Stop, TokenUsage::default()))
            }
            CompletionForm::Chunks(usage) => {
                let body = ChunkEncoder::new(id, usage, Vec::new()).encode_whole(text);
                response.content_type(crate::api::negotiation::SSE).body(body)
            }
        }
    }

    /// Returns a response that follows a run.
    async fn respond_with_run(
        &self,
        session: SessionId,
        cursor: Box<RunCursor>,
        guard: StreamGuard,
    ) -> Result<HttpResponse, ProblemDetails> {
        let id = completion_id(cursor.run_id());
        let target = (ClientDoor::OpenAi, session, self.on_disconnect);
        let mut follower = TurnFollower::new(&self.state, &self.caller.identity, target, cursor, guard);
        let mut response = match self.form {
            CompletionForm::Chunks(usage) => turn_response(follower, ChunkEncoder::new(id, usage, self.preface())),
            CompletionForm::Whole => {
                let mut text = ChatText::default();
                let mut whole = CompletionText::default();
                whole.extend(self.preface());
                let rest = loop {
                    match follower.next().await {
                        TurnStep::Frame(frame) => whole.extend(text.add_frame(&frame)),
                        TurnStep::KeepAlive | TurnStep::Blocked(_) => {}
                        TurnStep::Rest(rest) => break rest,
                    }
                };
                match text.end(&rest) {
                    Ok((last, finish)) => {
                        whole.extend(last);
                        HttpResponse::Ok().json(ChatCompletion::new(id, whole, finish, text.usage))
                    }
                    // No status that clients repeat a request for by themselves: that would be another run.
                    Err(error) => HttpResponse::build(StatusCode::FAILED_DEPENDENCY)
                        .insert_header((SHOULD_RETRY_HEADER, "false"))
                        .json(error),
                }
            }
        };
        if let Ok(value) = session.to_string().parse() {
            response.headers_mut().insert(actix_web::http::header::HeaderName::from_static(SESSION_HEADER), value);
        }
        Ok(response)
    }
}

fn completion_id(run: RunId) -> String {
    format!("chatcmpl-{}", data_encoding::HEXLOWER.encode(run.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_has_one_name_in_many_spellings() {
        for name in [None, Some("k8sops"), Some("K8sops"), Some("openai/k8sops"), Some("k8sops:latest")] {
            assert!(check_model(name).is_ok(), "{name:?}");
        }
        for name in ["gpt-5", "", "k8sops-2", "k8sops/gpt-5"] {
            assert_eq!(check_model(Some(name)).unwrap_err().code, ProblemCode::ModelNotFound, "{name}");
        }
    }
}
