//! From a message to the task that answers it.

use data_encoding::HEXLOWER;
use k8sops_core::{OnBusy, SessionId};
use sha2::{Digest, Sha256};

use super::{
    a2a_error::{A2aError, A2aErrorKind, A2aFailure},
    client_message::{TaskMessage, message_command_id},
    human_input::{find_answers, read_response},
    task_builder::TaskBuilder,
    task_id::TaskId,
    task_reading::{ReadingExtent, TaskReader, read_logged},
    task_resource::{AgentMessage, MessageRole, TaskState, TextPart},
};
use crate::api::{
    caller::{Caller, CanWrite},
    doors::{
        client_door::ClientDoor,
        run_cursor::RunCursor,
        spoken_answer::SpokenAnswer,
        thread_session::{find_thread, open_thread},
        turn_opening::{AttachedSession, InteractionAnswer, MessageTurn, TurnMessage, TurnOpener},
        waiting_interactions::WaitingInteractions,
    },
};

/// Said before what the run waits for, to a client that sent something else.
const NOT_SENT: &str = "Your message was not sent, because the agent waits for an answer.";

/// What became of a message.
pub(super) enum MessageOutcome {
    /// Its task is in progress.
    Following { task: TaskBuilder, cursor: Box<RunCursor> },
    /// Nothing more comes of its task until the client does something.
    Settled(TaskBuilder),
    /// It began no task.
    Answered(AgentMessage),
}

impl TaskReader<'_> {
    /// Sends a message: to a task that waits for it, or as a new task.
    pub(super) async fn send(&self, message: &TaskMessage) -> Result<MessageOutcome, A2aFailure> {
        match &message.task {
            Some(task) => self.continue_task(task, message).await,
            None => self.start_task(message).await,
        }
    }

    async fn continue_task(&self, task_id: &str, message: &TaskMessage) -> Result<MessageOutcome, A2aFailure> {
        let id: TaskId = task_id.parse().map_err(|_| A2aError::task_not_found(task_id))?;
        let context = message.context.as_deref();
        let task = self.read(id, context, ReadingExtent::WholeLog).await?.task;
        if let Some(context) = context
            && find_thread(self.state, &self.identity.user, ClientDoor::A2a, context).await? != Some(id.session)
        {
            let why = "the task is not of the context message.contextId";
            return Err(A2aError::invalid_field("message.contextId", why).of_task(id).into());
        }
        if task.state() != TaskState::InputRequired {
            let state = task.state().describe();
            let why = format!("the task is {state} and takes no messages; send the message without taskId");
            return Err(A2aError::new(A2aErrorKind::UnsupportedOperation, why).of_task(id).into());
        }
        let opener = self.opener(id.session);
        let waiting = opener.find_waiting().await?;
        match read_answers(message, &waiting)? {
            Ok(answers) => self.answer(&opener, answers, context).await,
            Err(note) => Ok(settled_with_note(task, &note)),
        }
    }

    async fn start_task(&self, message: &TaskMessage) -> Result<MessageOutcome, A2aFailure> {
        if read_response(&message.source)?.is_some() {
            let why = "answers go to the task that waits for them: message.taskId is missing";
            return Err(A2aError::invalid_field("message.taskId", why).into());
        }
        let user = &self.identity.user;
        let context = message.context.as_deref();
        // A message without a context begins one, which is the same if the client sends the message again. Some clients count their
        // messages from one in every process: another text is another message.
        let digest = Sha256::digest(&message.text);
        let by_message = format!("message {} {}", message.id, HEXLOWER.encode(&digest[..16]));
        let thread = context.unwrap_or(&by_message);
        let known = find_thread(self.state, user, ClientDoor::A2a, thread).await?;
        if let Some(answer) = SpokenAnswer::parse(&message.text) {
            return self.take_spoken_answer(&answer, known, message).await;
        }
        // Before room is made for a session.
        Caller::<CanWrite>::new(self.identity.clone())?;
        let session = match known {
            Some(session) => session,
            None => open_thread(self.state, user, ClientDoor::A2a, thread).await?.session,
        };
        let command_id = message_command_id(&message.id);
        // Other tasks of the context are not for this message to cancel.
        let turn = TurnMessage { content: message.text.clone(), command_id, on_busy: OnBusy::Enqueue };
        match self.opener(session).send_message(turn).await? {
            MessageTurn::Sent(cursor) => self.follow_message(session, cursor, message).await,
            MessageTurn::Blocked(_) => {
                let attached = self.opener(session).attach().await?;
                match self.read_attached(attached, context).await? {
                    MessageOutcome::Following { task, .. } | MessageOutcome::Settled(task) => {
                        Ok(settled_with_note(task, NOT_SENT))
                    }
                    answered @ MessageOutcome::Answered(_) => Ok(answered),
                }
            }
        }
    }

    /// Takes an answer in words that names no task: it is for what the context waits for.
    async fn take_spoken_answer(
        &self,
        answer: &SpokenAnswer,
        session: Option<SessionId>,
        message: &TaskMessage,
    ) -> Result<MessageOutcome, A2aFailure> {
        let waiting = match session {
            Some(session) => self.opener(session).find_waiting().await?,
            None => WaitingInteractions::default(),
        };
        match (session, answer.find_target(&waiting)) {
            (Some(session), Ok(answer)) => {
                self.answer(&self.opener(session), vec![answer], message.context.as_deref()).await
            }
            (_, Err(mismatch)) => Ok(MessageOutcome::Answered(reply(message, session, &mismatch.explain()))),
            (None, Ok(_)) => Ok(MessageOutcome::Answered(reply(message, None, NOT_SENT))),
        }
    }

    async fn answer(
        &self,
        opener: &TurnOpener<'_>,
        answers: Vec<InteractionAnswer>,
        context: Option<&str>,
    ) -> Result<MessageOutcome, A2aFailure> {
        let attached = opener.send_answers(answers).await?;
        self.read_attached(attached, context).await
    }

    /// Reads the task of the open run as of the state of its session, from where the cursor follows it.
    async fn read_attached(
        &self,
        attached: AttachedSession,
        context: Option<&str>,
    ) -> Result<MessageOutcome, A2aFailure> {
        let session = attached.state.summary.session_id;
        let Some(cursor) = attached.cursor else {
            let why = "the task has ended meanwhile; ask for it";
            return Err(A2aError::new(A2aErrorKind::UnsupportedOperation, why).into());
        };
        let id = TaskId { session, run: cursor.run_id() };
        let extent = ReadingExtent::UpTo(attached.state.last_seq());
        let task = self.read(id, context, extent).await?.task;
        Ok(MessageOutcome::Following { task, cursor })
    }

    /// Follows the task of a message, which has gone on if the message was sent before.
    async fn follow_message(
        &self,
        session: SessionId,
        mut cursor: Box<RunCursor>,
        message: &TaskMessage,
    ) -> Result<MessageOutcome, A2aFailure> {
        let id = TaskId { session, run: cursor.run_id() };
        let mut task = TaskBuilder::new(id, message.context.as_deref(), self.hitl);
        task.set_sent_message(&message.id, &message.text);
        let interruption = read_logged(&mut cursor, &mut task, ReadingExtent::WholeLog).await?;
        if interruption.is_some() || task.is_at_rest() {
            return Ok(MessageOutcome::Settled(task));
        }
        Ok(MessageOutcome::Following { task, cursor })
    }

    fn opener(&self, session: SessionId) -> TurnOpener<'_> {
        TurnOpener { state: self.state, identity: self.identity, session }
    }
}

/// Reads the answers of a message, or says why it has none.
fn read_answers(
    message: &TaskMessage,
    waiting: &WaitingInteractions,
) -> Result<Result<Vec<InteractionAnswer>, String>, A2aError> {
    if let Some(response) = read_response(&message.source)? {
        return find_answers(response, waiting).map(Ok);
    }
    let Some(answer) = SpokenAnswer::parse(&message.text) else { return Ok(Err(NOT_SENT.to_owned())) };
    Ok(answer.find_target(waiting).map(|answer| vec![answer]).map_err(|mismatch| mismatch.explain()))
}

fn settled_with_note(mut task: TaskBuilder, note: &str) -> MessageOutcome {
    task.add_note(note);
    MessageOutcome::Settled(task)
}

/// Returns a message of the agent that belongs to no task.
fn reply(message: &TaskMessage, session: Option<SessionId>, text: &str) -> AgentMessage {
    let context = message.context.clone().or_else(|| session.map(|session| session.to_string()));
    AgentMessage {
        message_id: format!("reply-{}", message.id),
        context_id: context.unwrap_or_default(),
        task_id: None,
        role: MessageRole::Agent,
        parts: vec![TextPart { text: text.to_owned() }],
        metadata: serde_json::Map::new(),
        extensions: Vec::new(),
    }
}
