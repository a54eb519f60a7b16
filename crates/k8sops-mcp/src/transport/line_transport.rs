//! Messages as lines: JSON-RPC over two pipes.
//!
//! The SDK's own transport drops a line that is too large or no JSON, and whoever waits for the answer in it learns of that
//! by its time limit. Here they are told at once.

use std::{io, sync::Arc};

use rmcp::{
    ErrorData, RoleClient,
    model::{CallToolResult, RequestId, ServerJsonRpcMessage, ServerResult},
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::Transport,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    sync::Mutex,
};

use crate::{ConnectionHandler, transport::handshake::quote, transport::id_scanner::Scan};

/// A buffer that has grown beyond this is let go after its message.
const KEEP: usize = 1 << 20;
/// An answer from this size on is tried as the result of a call first: the general way holds it several times over.
const LARGE: usize = 1 << 20;

/// See the module.
pub(crate) struct Lines<R, W> {
    read: BufReader<R>,
    line: Vec<u8>,
    /// What is being thrown away, if the line is too large.
    excess: Option<Excess>,
    write: Arc<Mutex<Option<W>>>,
    handler: ConnectionHandler,
}

/// A line that is too large.
#[derive(Default)]
struct Excess {
    scan: Scan,
    bytes: usize,
    told: bool,
}

/// What a piece of input came to.
enum Step {
    More,
    Message(Box<ServerJsonRpcMessage>),
    End,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Lines<R, W> {
    pub(crate) fn new(read: R, write: W, handler: ConnectionHandler) -> Self {
        Self {
            read: BufReader::with_capacity(64 << 10, read),
            line: Vec::new(),
            excess: None,
            write: Arc::new(Mutex::new(Some(write))),
            handler,
        }
    }

    /// Takes a piece of a line. `ends`: it is the last.
    fn take(&mut self, limit: usize, piece: &[u8], ends: bool) -> Step {
        if self.excess.is_none() && self.line.len() + piece.len() > limit {
            let mut excess = Excess::default();
            excess.scan.feed(&std::mem::take(&mut self.line));
            self.excess = Some(excess);
        }
        let Some(excess) = &mut self.excess else {
            self.line.extend_from_slice(piece);
            return if ends { self.message() } else { Step::More };
        };
        excess.scan.feed(piece);
        excess.bytes += piece.len();
        let answered = if excess.told { None } else { excess.scan.answers() };
        excess.told |= answered.is_some();
        let lost = !excess.told && !ends && excess.bytes > limit;
        if ends {
            tracing::warn!(server = self.handler.server(), limit, "a message of an MCP server is too large");
            self.excess = None;
        }
        match answered {
            Some(id) => Step::Message(Box::new(error(too_large(limit), id))),
            // Nothing else can come before it ends, and it is not even known who waits for it.
            None if lost => {
                self.handler.set_close_reason(format!("the server does not end a message of more than {limit} bytes"));
                Step::End
            }
            None => Step::More,
        }
    }

    /// Reads the line that is complete.
    fn message(&mut self) -> Step {
        let line = self.line.trim_ascii();
        let line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
        let step = if line.is_empty() { Step::More } else { parse(line, &self.handler) };
        self.line.clear();
        self.line.shrink_to(KEEP);
        step
    }
}

/// What is said of an answer that is larger than it may be.
pub(crate) fn too_large(limit: usize) -> String {
    format!("its answer has more than {limit} bytes and was thrown away (mcp.max_message_bytes)")
}

pub(crate) fn error(why: String, id: RequestId) -> ServerJsonRpcMessage {
    ServerJsonRpcMessage::error(ErrorData::internal_error(why, None), Some(id))
}

fn parse(line: &[u8], handler: &ConnectionHandler) -> Step {
    if let Some(message) = large_result(line) {
        return Step::Message(Box::new(message));
    }
    match serde_json::from_slice(line) {
        Ok(message) => Step::Message(Box::new(message)),
        Err(fault) => {
            let mut scan = Scan::default();
            scan.feed(line);
            let Some(id) = scan.answers() else {
                tracing::debug!(server = handler.server(), fault = fault.to_string(), "a line that is no message");
                return Step::More;
            };
            Step::Message(Box::new(error(format!("its answer cannot be read: {}", quote(&fault.to_string())), id)))
        }
    }
}

/// A large result of a call.
fn large_result(line: &[u8]) -> Option<ServerJsonRpcMessage> {
    #[derive(Deserialize)]
    struct ElicitationAnswer<'a> {
        id: RequestId,
        #[serde(borrow)]
        result: &'a RawValue,
    }
    if line.len() < LARGE {
        return None;
    }
    let ElicitationAnswer { id, result } = serde_json::from_slice(line).ok()?;
    let result: CallToolResult = serde_json::from_str(result.get()).ok()?;
    Some(ServerJsonRpcMessage::response(ServerResult::CallToolResult(result), id))
}

impl<R, W> Transport<RoleClient> for Lines<R, W>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send + 'static,
{
    type Error = io::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let write = self.write.clone();
        async move {
            let mut line = serde_json::to_vec(&item)?;
            line.push(b'\n');
            let mut write = write.lock().await;
            let write = write.as_mut().ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "it is closed"))?;
            write.write_all(&line).await?;
            write.flush().await
        }
    }

    /// May be dropped at any time: between a look at the input and taking it nothing is waited for.
    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        let limit = self.handler.max_message_bytes();
        loop {
            let available = match self.read.fill_buf().await {
                Ok([]) => return None,
                Ok(available) => available,
                Err(error) => {
                    self.handler.set_close_reason(format!("the output of the server cannot be read: {error}"));
                    return None;
                }
            };
            let end = available.iter().position(|byte| *byte == b'\n');
            let piece = available[..end.unwrap_or(available.len())].to_vec();
            self.read.consume(end.map_or(piece.len(), |end| end + 1));
            match self.take(limit, &piece, end.is_some()) {
                Step::More => {}
                Step::Message(message) => return Some(*message),
                Step::End => return None,
            }
        }
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        drop(self.write.lock().await.take());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tokio::io::{DuplexStream, split};

    use super::*;

    const LIMIT: usize = 1000;

    /// A transport with a small limit, and the server's end of it.
    fn lines() -> (impl Transport<RoleClient>, DuplexStream, ConnectionHandler) {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let handler = ConnectionHandler::of_crew("s".into(), tokio_util::sync::CancellationToken::new(), LIMIT);
        let (read, write) = split(ours);
        (Lines::new(read, write, handler.clone()), theirs, handler)
    }

    async fn received(text: &str) -> (Vec<Value>, ConnectionHandler) {
        let (mut lines, mut server, handler) = lines();
        server.write_all(text.as_bytes()).await.unwrap();
        drop(server);
        let mut messages = Vec::new();
        while let Some(message) = lines.receive().await {
            messages.push(serde_json::to_value(message).unwrap());
        }
        (messages, handler)
    }

    fn answer(id: u32, text: &str) -> String {
        json!({"jsonrpc": "2.0", "id": id, "result": {"content": [{"type": "text", "text": text}]}}).to_string()
    }

    #[tokio::test]
    async fn garbage_between_messages_is_passed_over() {
        let input = format!("starting…\n\n\u{feff}{}\r\n[1, 2]\n{{}}\n{}\n", answer(1, "one"), answer(2, "two"));
        let (messages, _) = received(&input).await;
        assert_eq!(messages.iter().map(|m| &m["id"]).collect::<Vec<_>>(), [1, 2]);
    }

    #[tokio::test]
    async fn who_waits_for_an_answer_that_is_too_large_or_cut_is_told_and_others_get_theirs() {
        let large = "x".repeat(LIMIT * 10);
        let cut = &answer(4, "half of it")[..60];
        let input = format!("{}\n{}\n{cut}\n", answer(1, &large), answer(2, "small"));
        let (messages, _) = received(&input).await;
        let said =
            messages.iter().map(|m| (m["id"].as_u64().unwrap(), m["error"]["message"].as_str())).collect::<Vec<_>>();
        let too_large = too_large(LIMIT);
        assert_eq!(said[..2], [(1, Some(&*too_large)), (2, None)]);
        assert!(matches!(said[2], (4, Some(why)) if why.starts_with("its answer cannot be read")), "{said:?}");
        assert_eq!(said.len(), 3);
    }

    #[tokio::test]
    async fn an_answer_that_says_at_its_end_whose_it_is_is_known_too() {
        let large = "x".repeat(LIMIT);
        let last = format!(r#"{{"result":{{"content":[{{"type":"text","text":"{large}"}}]}},"jsonrpc":"2.0","id":3}}"#);
        let (messages, _) = received(&format!("{last}\n{}\n", answer(4, "small"))).await;
        assert_eq!(
            (&messages[0]["id"], messages[0]["error"]["message"].as_str()),
            (&json!(3), Some(&*too_large(LIMIT)))
        );
        assert_eq!(messages[1]["id"], 4);
    }

    #[tokio::test]
    async fn who_waits_is_told_before_the_end_of_a_message_that_has_none() {
        let (mut lines, mut server, _) = lines();
        let mut endless = answer(1, &"x".repeat(LIMIT));
        endless.truncate(LIMIT + 10);
        server.write_all(endless.as_bytes()).await.unwrap();
        let told = serde_json::to_value(lines.receive().await.unwrap()).unwrap();
        assert_eq!((&told["id"], told["error"]["message"].as_str()), (&json!(1), Some(&*too_large(LIMIT))));
    }

    #[tokio::test]
    async fn a_message_of_nobody_that_does_not_end_ends_the_connection() {
        let (messages, handler) = received(&"x".repeat(LIMIT * 3)).await;
        assert!(messages.is_empty());
        assert_eq!(handler.close_reason(), "the server does not end a message of more than 1000 bytes");
    }

    #[test]
    fn a_large_result_is_read_as_any_other() {
        let line = answer(7, &"log line\n".repeat(LARGE / 8));
        let whole: ServerJsonRpcMessage = serde_json::from_str(&line).unwrap();
        let large = large_result(line.as_bytes()).expect("it is large");
        assert_eq!(serde_json::to_value(large).unwrap(), serde_json::to_value(whole).unwrap());
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"x": "x".repeat(LARGE)}});
        assert!(large_result(request.to_string().as_bytes()).is_none());
    }
}
