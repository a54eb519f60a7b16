//! From the events of a provider to the deltas of one reply.

use std::collections::VecDeque;

use eventsource_stream::Event;
use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant, timeout};

use crate::{ModelError, ModelReply, ReplyDelta, ReplyStream, event_stream::ProviderEventStream};

/// How many times the longest gap between bytes may pass without a piece of the reply. A server may keep a connection alive
/// for long while its model thinks, not for ever.
const STALL_FACTOR: u32 = 5;

/// What an event was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventProgress {
    /// Nothing of the reply: a sign of life.
    KeepAlive,
    /// A piece of the reply, whether or not it is shown.
    Content,
    /// The end mark.
    End,
}

/// Puts a provider's events together to a reply. No I/O, no time.
pub(crate) trait ReplyAssembler: Send + 'static {
    /// Takes in an event and puts what is to be shown at once into `out`.
    fn apply_event(&mut self, event: &Event, out: &mut VecDeque<ReplyDelta>) -> Result<EventProgress, ModelError>;

    /// The whole reply, after the end mark or the end of the stream.
    fn finish_reply(&mut self) -> Result<ModelReply, ModelError>;
}

/// The pieces of the reply that `assembler` makes of `events`. Ends after [`ReplyDelta::Done`] or the first error.
pub(crate) fn reply_stream(events: ProviderEventStream, assembler: impl ReplyAssembler) -> ReplyStream {
    struct State<A> {
        events: ProviderEventStream,
        assembler: A,
        out: VecDeque<ReplyDelta>,
        over: bool,
    }

    impl<A: ReplyAssembler> State<A> {
        async fn next(&mut self) -> Result<Option<ReplyDelta>, ModelError> {
            // From here and not from the piece before: the time that our reader takes is not the server's.
            let mut piece = Instant::now();
            loop {
                if let Some(delta) = self.out.pop_front() {
                    return Ok(Some(delta));
                }
                if self.over {
                    return Ok(None);
                }
                let limit = self.events.read_timeout().saturating_mul(STALL_FACTOR);
                let Ok(event) = timeout(limit.saturating_sub(piece.elapsed()), self.events.next()).await else {
                    return Err(self.events.stall_error(limit));
                };
                let taken = match event? {
                    Some(event) => self.assembler.apply_event(&event, &mut self.out)?,
                    None => EventProgress::End,
                };
                match taken {
                    EventProgress::KeepAlive => {}
                    EventProgress::Content => piece = Instant::now(),
                    EventProgress::End => {
                        self.over = true;
                        let reply = self.assembler.finish_reply()?;
                        self.events.drain().await;
                        self.out.push_back(ReplyDelta::Done(reply));
                    }
                }
            }
        }
    }

    let state = State { events, assembler, out: VecDeque::new(), over: false };
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
