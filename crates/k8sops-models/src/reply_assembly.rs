//! From the events of a provider to the pieces of one reply.

use std::collections::VecDeque;

use eventsource_stream::Event;
use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant, timeout};

use crate::{ModelError, ModelReply, ReplyDelta, ReplyStream, event_stream::ProviderEventStream};

/// The number of read timeouts that may pass without content. A server may keep the connection alive while its model
/// reasons, but not without limit.
const STALL_FACTOR: u32 = 5;

/// The meaning of an event for the progress of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventProgress {
    /// The event only shows that the server is alive.
    KeepAlive,
    /// The event is part of the reply, whether or not it is shown.
    Content,
    /// The event ends the reply.
    End,
}

/// Assembles the events of a provider into a reply. Implementations neither do I/O nor read the clock.
pub(crate) trait ReplyAssembler: Send + 'static {
    /// Applies an event and appends the pieces that can be shown at once to `out`.
    fn apply_event(&mut self, event: &Event, out: &mut VecDeque<ReplyDelta>) -> Result<EventProgress, ModelError>;

    /// Returns the complete reply, after the end mark or the end of the stream.
    fn finish_reply(&mut self) -> Result<ModelReply, ModelError>;
}

/// Returns the pieces of the reply that `assembler` makes of `events`. The stream ends after [`ReplyDelta::Done`] or
/// the first error.
pub(crate) fn reply_stream(events: ProviderEventStream, assembler: impl ReplyAssembler) -> ReplyStream {
    struct AssemblyState<A> {
        events: ProviderEventStream,
        assembler: A,
        out: VecDeque<ReplyDelta>,
        is_done: bool,
    }

    impl<A: ReplyAssembler> AssemblyState<A> {
        async fn next(&mut self) -> Result<Option<ReplyDelta>, ModelError> {
            // The time limit starts here rather than at the last piece, so that a slow consumer is not blamed on the
            // server.
            let mut last_content = Instant::now();
            loop {
                if let Some(delta) = self.out.pop_front() {
                    return Ok(Some(delta));
                }
                if self.is_done {
                    return Ok(None);
                }
                let limit = self.events.read_timeout().saturating_mul(STALL_FACTOR);
                let Ok(event) = timeout(limit.saturating_sub(last_content.elapsed()), self.events.next()).await else {
                    return Err(self.events.stall_error(limit));
                };
                let progress = match event? {
                    Some(event) => self.assembler.apply_event(&event, &mut self.out)?,
                    None => EventProgress::End,
                };
                match progress {
                    EventProgress::KeepAlive => {}
                    EventProgress::Content => last_content = Instant::now(),
                    EventProgress::End => {
                        self.is_done = true;
                        let reply = self.assembler.finish_reply()?;
                        self.events.drain().await;
                        self.out.push_back(ReplyDelta::Done(reply));
                    }
                }
            }
        }
    }

    let state = AssemblyState { events, assembler, out: VecDeque::new(), is_done: false };
    stream::unfold(Some(state), |state| async {
        let mut state = state?;
        match state.next().await {
            Ok(Some(delta)) => Some((Ok(delta), Some(state))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}
