//! The methods of the agent, whatever the binding.

use std::time::Duration;

use actix_web::{HttpResponse, web};
use k8sops_core::CommandId;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::{
    a2a_error::{A2aError, A2aErrorKind, A2aFailure},
    client_message::{AnswerTime, SendMessageRequest},
    message_turn::MessageOutcome,
    service_parameters::ServiceParameters,
    task_builder::TaskBuilder,
    task_id::TaskId,
    task_list::list_tasks,
    task_query::{ArtifactInclusion, HistoryLength, TaskListRequest},
    task_reading::{ReadingExtent, TaskReader, TaskReading},
    task_resource::{StreamItem, TaskState},
    task_stream::{BindingForm, TaskEncoder},
};
use crate::{
    api::{
        caller::{Caller, CanWrite},
        commands::cancel_run_command,
        doors::{
            client_door::ClientDoor,
            run_cursor::{RunCursor, RunRest, RunStep},
            turn_follower::{OnDisconnect, TurnFollower, TurnStep},
            turn_stream::turn_response,
        },
        event_stream::StreamGuard,
        state::ApiState,
    },
    auth::CallerIdentity,
};

/// How long a cancel waits for the run to end.
const CANCEL_PATIENCE: Duration = Duration::from_secs(5);

/// Works for one caller.
pub(super) struct AgentService {
    pub(super) state: web::Data<ApiState>,
    pub(super) identity: CallerIdentity,
    pub(super) parameters: ServiceParameters,
}

/// A message that was accepted.
struct SentMessage {
    /// How much history the answer has.
    history: HistoryLength,
    outcome: MessageOutcome,
    guard: StreamGuard,
}

impl AgentService {
    fn reader(&self) -> TaskReader<'_> {
        TaskReader { state: &self.state, identity: &self.identity, hitl: self.parameters.hitl }
    }

    /// Sends a message. Returns its task, or an answer without one.
    pub(super) async fn send_message(&self, request: SendMessageRequest) -> Result<Value, A2aFailure> {
        let answer_time = request.answer_time();
        let SentMessage { history, outcome, guard } = self.accept_message(request).await?;
        let task = match outcome {
            MessageOutcome::Answered(message) => return Ok(to_json(&StreamItem::Message(message))),
            MessageOutcome::Settled(task) => task,
            MessageOutcome::Following { task, .. } if answer_time == AnswerTime::Immediately || task.is_blocked() => {
                task
            }
            MessageOutcome::Following { task, cursor } => self.wait_for_rest(task, cursor, guard).await,
        };
        Ok(to_json(&StreamItem::Task(Box::new(task.resource(history, ArtifactInclusion::Included)))))
    }

    /// Sends a message, and streams what becomes of it.
    pub(super) async fn stream_message(
        &self,
        request: SendMessageRequest,
        form: BindingForm,
    ) -> Result<HttpResponse, A2aFailure> {
        let SentMessage { history, outcome, guard } = self.accept_message(request).await?;
        let response = match outcome {
            MessageOutcome::Answered(message) => form.single_item_stream(&StreamItem::Message(message)),
            MessageOutcome::Settled(task) => {
                let task = task.resource(history, ArtifactInclusion::Included);
                form.single_item_stream(&StreamItem::Task(Box::new(task)))
            }
            MessageOutcome::Following { task, cursor } => {
                let follower = self.follower(task.id(), cursor, guard);
                turn_response(follower, TaskEncoder::new(task, form, history))
            }
        };
        Ok(self.parameters.add_to(response))
    }

    async fn accept_message(&self, mut request: SendMessageRequest) -> Result<SentMessage, A2aFailure> {
        let history = request.history_length()?;
        let push = request.take_push_config();
        let message = request.into_message()?;
        self.check_push_config(push.as_ref())?;
        // Reserved before anything is accepted: a client that gets no response must be able to send the request again.
        let guard = StreamGuard::new(&self.state, &self.identity)?;
        let outcome = self.reader().send(&message).await?;
        self.add_push_config(push, &outcome, message.context).await?;
        Ok(SentMessage { history, outcome, guard })
    }

    /// Returns a task.
    pub(super) async fn get_task(&self, id: &str, history: HistoryLength) -> Result<Value, A2aFailure> {
        let reading = self.read_task(id).await?;
        Ok(to_json(&reading.task.resource(history, ArtifactInclusion::Included)))
    }

    /// Lists the caller's tasks.
    pub(super) async fn list_tasks(&self, request: &TaskListRequest) -> Result<Value, A2aFailure> {
        Ok(serde_json::to_value(list_tasks(&self.reader(), request).await?).unwrap_or_default())
    }

    /// Cancels a task, and returns it.
    pub(super) async fn cancel_task(&self, id: &str) -> Result<Value, A2aFailure> {
        let caller = Caller::<CanWrite>::new(self.identity.clone())?;
        let TaskReading { mut task, mut cursor } = self.read_task(id).await?;
        let id = task.id();
        if task.state().is_terminal() {
            let why = format!("the task cannot be canceled: it is {}", task.state().describe());
            return Err(A2aError::new(A2aErrorKind::TaskNotCancelable, why).of_task(id).into());
        }
        let command = cancel_run_command(&caller.user, CommandId::generate(), id.run);
        self.state.sessions.submit_command(id.session, command).await?;
        let deadline = Instant::now() + CANCEL_PATIENCE;
        let mut ignored = Vec::new();
        while let Ok(step) = timeout_at(deadline, cursor.next()).await {
            match step? {
                RunStep::Frame(frame) => task.apply_frame(&frame, &mut ignored),
                RunStep::Blocked(wait) => task.wait_behind(&wait, &mut ignored),
                RunStep::Rest(rest) => {
                    task.apply_rest(&rest, &mut ignored);
                    if !matches!(rest, RunRest::Waiting(_)) {
                        break;
                    }
                }
            }
            ignored.clear();
        }
        // It ended by itself before the cancel arrived.
        if task.state().is_terminal() && task.state() != TaskState::Canceled {
            let why = format!("the task could not be canceled: it is {}", task.state().describe());
            return Err(A2aError::new(A2aErrorKind::TaskNotCancelable, why).of_task(id).into());
        }
        Ok(to_json(&task.resource(HistoryLength::All, ArtifactInclusion::Included)))
    }

    /// Streams a task: as it is, and then what becomes of it.
    pub(super) async fn subscribe(&self, id: &str, form: BindingForm) -> Result<HttpResponse, A2aFailure> {
        let guard = StreamGuard::new(&self.state, &self.identity)?;
        let TaskReading { task, cursor } = self.read_task(id).await?;
        if task.state().is_terminal() {
            let why = format!("nothing comes of the task any more: it is {}; ask for it", task.state().describe());
            return Err(A2aError::new(A2aErrorKind::UnsupportedOperation, why).of_task(task.id()).into());
        }
        let response = if task.is_at_rest() {
            let task = task.resource(HistoryLength::All, ArtifactInclusion::Included);
            form.single_item_stream(&StreamItem::Task(Box::new(task)))
        } else {
            let follower = self.follower(task.id(), cursor, guard);
            turn_response(follower, TaskEncoder::new(task, form, HistoryLength::All))
        };
        Ok(self.parameters.add_to(response))
    }

    pub(super) async fn read_task(&self, id: &str) -> Result<TaskReading, A2aFailure> {
        let task: TaskId = id.parse().map_err(|_| A2aError::task_not_found(id))?;
        self.reader().read(task, None, ReadingExtent::WholeLog).await
    }

    fn follower(&self, task: TaskId, cursor: Box<RunCursor>, guard: StreamGuard) -> TurnFollower {
        let target = (ClientDoor::A2a, task.session, OnDisconnect::Continue);
        TurnFollower::new(&self.state, &self.identity, target, cursor, guard)
    }

    /// Waits until a task has ended or waits for input, or cannot start because the one before it does. A run that is interrupted on this replica is still in progress.
    async fn wait_for_rest(&self, mut task: TaskBuilder, cursor: Box<RunCursor>, guard: StreamGuard) -> TaskBuilder {
        let mut follower = self.follower(task.id(), cursor, guard);
        let mut ignored = Vec::new();
        loop {
            ignored.clear();
            match follower.next().await {
                TurnStep::Frame(frame) => task.apply_frame(&frame, &mut ignored),
                TurnStep::KeepAlive => {}
                TurnStep::Blocked(wait) => {
                    task.wait_behind(&wait, &mut ignored);
                    return task;
                }
                TurnStep::Rest(rest) => {
                    task.apply_rest(&rest, &mut ignored);
                    return task;
                }
            }
        }
    }
}

/// Says that there is no other card than the public one.
pub(super) fn no_extended_card() -> A2aError {
    A2aError::new(A2aErrorKind::UnsupportedOperation, "the agent has no extended card; its public card says everything")
}

pub(super) fn to_json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}
