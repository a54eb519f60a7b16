//! Attempts at one reply of one model: streamed, tried again where that helps, and with less where it was too much.

use std::time::Duration;

use futures_util::StreamExt;

use super::{
    LogClosed, Piece, Run, history,
    lineup::{Course, Turn},
    reply::stopped,
};
use k8sops_core::{EventBody, MessageId, OpenRun, RunRecovered, SessionWarning};
use k8sops_models::{ChatRequest, ModelError, ModelReply, ReplyDelta};

/// How often a conversation is cut down for a model that says it is too long, each time to two thirds.
const SQUEEZES: u32 = 8;

/// What came of asking one model.
pub(super) enum Asked {
    Answered(MessageId, Box<ModelReply>),
    /// Cancelled or halted in the middle; with what had come until then.
    Stopped(MessageId, Written),
    /// Cancelled or halted between two attempts: the loop of the run looks at both and does what is due.
    Interrupted,
    /// It failed, and trying again is of no use or not allowed any more.
    GaveUp(ModelError),
}

/// What of a reply has been shown.
#[derive(Default)]
pub(super) struct Written {
    pub(super) text: String,
    pub(super) reasoning: String,
}

impl Written {
    fn is_empty(&self) -> bool {
        self.text.is_empty() && self.reasoning.is_empty()
    }
}

/// How one attempt at a reply ended.
enum Attempt {
    Done(ModelReply),
    Failed(ModelError),
    Stopped(Written),
}

/// Says that a call is made again after a wait.
pub(super) fn waits(error: &ModelError, attempt: u32, wait: Duration) -> EventBody {
    let seconds = wait.as_secs_f64();
    EventBody::Warning(SessionWarning {
        code: error.code().into(),
        message: format!("{error}; trying again in {seconds:.1} s (attempt {attempt} failed)"),
        wait_seconds: Some((seconds * 10.0).round() / 10.0),
    })
}

impl Run {
    /// Asks one model, until it has answered or is given up.
    pub(super) async fn attempts(
        &self,
        run: &OpenRun,
        turn: &Turn<'_>,
        course: &mut Course,
        request: impl Fn(&Course) -> Option<ChatRequest>,
    ) -> Result<Asked, LogClosed> {
        let too_long = || {
            let name = turn.candidate.name();
            ModelError::ContextTooLong(format!(
                "The message is too long for {name}, even without the conversation before it. Send less, or choose a model \
                 with a larger context window."
            ))
        };
        let (mut attempt, mut squeezes, mut waited) = (0, 0, Duration::ZERO);
        // Counted here and not in the view: a wait between two attempts is an event, the attempt itself is not.
        let mut attempts_of_run = self.log.view().run.map_or(run.attempt, |run| run.attempt);
        loop {
            attempt += 1;
            let Some(request) = request(course) else { return Ok(Asked::GaveUp(too_long())) };
            let sent = history::size(&request.messages);
            let message_id = MessageId::new();
            let mut written = Written::default();
            let error = match self.attempt(turn, message_id, request, &mut written).await {
                Attempt::Done(reply) => return Ok(Asked::Answered(message_id, Box::new(reply))),
                Attempt::Stopped(written) => return Ok(Asked::Stopped(message_id, written)),
                Attempt::Failed(error) => error,
            };
            let mut events = Vec::new();
            if !written.is_empty() {
                self.log.preview(message_id, Piece::Void);
                attempts_of_run += 1;
                events.push(EventBody::RunRecovered(RunRecovered {
                    attempt: attempts_of_run,
                    superseded: vec![message_id],
                    reason: error.to_string(),
                }));
            }
            if matches!(error, ModelError::ContextTooLong(_)) && squeezes < SQUEEZES {
                squeezes += 1;
                attempt -= 1;
                course.room = Some(sent / 3 * 2);
                let message = format!("{error}; trying again without the oldest outputs and turns");
                events.push(EventBody::Warning(SessionWarning::new(error.code(), message)));
                self.log.append(events).await?;
                if self.cancel.is_cancelled() || self.halt.is_cancelled() {
                    return Ok(Asked::Interrupted);
                }
                continue;
            }
            let wait = if turn.probe { None } else { self.limits.retry.retry_delay(attempt, waited, &error) };
            let Some(wait) = wait else {
                if !events.is_empty() {
                    self.log.append(events).await?;
                }
                return Ok(Asked::GaveUp(error));
            };
            waited += wait;
            events.push(waits(&error, attempt, wait));
            self.log.append(events).await?;
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stopped(&self.cancel, &self.halt) => return Ok(Asked::Interrupted),
            }
        }
    }

    /// One call of the model. What is shown is noted in `written`.
    async fn attempt(
        &self,
        turn: &Turn<'_>,
        message_id: MessageId,
        request: ChatRequest,
        written: &mut Written,
    ) -> Attempt {
        let stream = async {
            let mut stream = turn.candidate.chat.stream(request).await?;
            while let Some(delta) = stream.next().await {
                match delta? {
                    ReplyDelta::Text(piece) => {
                        self.log.preview(message_id, Piece::Text(&piece));
                        written.text.push_str(&piece);
                    }
                    ReplyDelta::Reasoning(piece) => {
                        self.log.preview(message_id, Piece::Reasoning(&piece));
                        written.reasoning.push_str(&piece);
                    }
                    ReplyDelta::Done(reply) => return Ok(reply),
                }
            }
            Err(ModelError::MalformedStream("the model's stream ended without its end mark".into()))
        };
        let outcome = tokio::select! {
            biased;
            () = stopped(&self.cancel, &self.halt) => None,
            outcome = stream => Some(outcome),
        };
        match outcome {
            None => Attempt::Stopped(std::mem::take(written)),
            Some(Ok(reply)) => Attempt::Done(reply),
            Some(Err(error)) => Attempt::Failed(error),
        }
    }
}
