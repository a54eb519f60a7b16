//! JSON-RPC messages as lines over two pipes.
//!
//! The SDK's own transport drops a line that is too large or not valid JSON, and the call that waits for it only ends at its
//! time limit. This transport answers that call with an error at once.

use std::{collections::VecDeque, io, sync::Arc};

use rmcp::{
    RoleClient,
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

use super::{
    error_response::{error_response, malformed_answer_message, oversized_answer_message},
    id_scanner::IdScanner,
    message_repair::parse_messages,
};
use crate::{ConnectionHandler, close_reason::CloseReason};

/// A line buffer that has grown beyond this is shrunk after its message.
const KEPT_BUFFER_BYTES: usize = 1 << 20;
/// From this size on, an answer is first parsed as the result of a call. General parsing holds it in memory several times.
const LARGE_ANSWER_BYTES: usize = 1 << 20;

/// A transport that exchanges one message per line.
pub(super) struct LineTransport<R, W> {
    read: BufReader<R>,
    line: Vec<u8>,
    /// Further messages of a batch that has arrived.
    batch: VecDeque<ServerJsonRpcMessage>,
    /// The line that is being discarded because it is too large.
    oversized: Option<OversizedLine>,
    /// `None` after the transport is closed.
    write: Arc<Mutex<Option<W>>>,
    handler: ConnectionHandler,
}

/// A line that exceeds the size limit.
#[derive(Default)]
struct OversizedLine {
    scanner: IdScanner,
    /// Bytes after the limit was exceeded.
    excess_bytes: usize,
    /// Whether the request that the line answers got its error response.
    is_answered: bool,
}

/// Whether a piece of input ends its line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LinePiece {
    Partial,
    Last,
}

/// The result of reading a piece of input.
enum ReadStep {
    Continue,
    Messages(VecDeque<ServerJsonRpcMessage>),
    Close,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> LineTransport<R, W> {
    pub(super) fn new(read: R, write: W, handler: ConnectionHandler) -> Self {
        Self {
            read: BufReader::with_capacity(64 << 10, read),
            line: Vec::new(),
            batch: VecDeque::new(),
            oversized: None,
            write: Arc::new(Mutex::new(Some(write))),
            handler,
        }
    }

    fn read_piece(&mut self, limit: usize, bytes: &[u8], piece: LinePiece) -> ReadStep {
        if self.oversized.is_none() && self.line.len() + bytes.len() > limit {
            let mut oversized = OversizedLine::default();
            oversized.scanner.feed(&std::mem::take(&mut self.line));
            self.oversized = Some(oversized);
        }
        let Some(oversized) = &mut self.oversized else {
            self.line.extend_from_slice(bytes);
            return if piece == LinePiece::Last { self.parse_line() } else { ReadStep::Continue };
        };
        oversized.scanner.feed(bytes);
        oversized.excess_bytes += bytes.len();
        let answered_request = if oversized.is_answered { None } else { oversized.scanner.answered_request() };
        oversized.is_answered |= answered_request.is_some();
        let is_lost = !oversized.is_answered && piece == LinePiece::Partial && oversized.excess_bytes > limit;
        if piece == LinePiece::Last {
            tracing::warn!(server = self.handler.server(), limit, "mcp message discarded: too large");
            self.oversized = None;
        }
        match answered_request {
            Some(request) => ReadStep::Messages([error_response(oversized_answer_message(limit), request)].into()),
            // No other message can arrive before the line ends, and no request is known that could be failed.
            None if is_lost => {
                self.handler.set_close_reason(CloseReason::UnendedMessage { limit });
                ReadStep::Close
            }
            None => ReadStep::Continue,
        }
    }

    /// Parses the complete line in the buffer.
    fn parse_line(&mut self) -> ReadStep {
        let line = self.line.trim_ascii();
        let line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
        let step = if line.is_empty() { ReadStep::Continue } else { read_messages(line, &self.handler) };
        self.line.clear();
        self.line.shrink_to(KEPT_BUFFER_BYTES);
        step
    }
}

fn read_messages(line: &[u8], handler: &ConnectionHandler) -> ReadStep {
    if let Some(message) = parse_large_result(line) {
        return ReadStep::Messages([message].into());
    }
    match parse_messages(line) {
        Ok(messages) => ReadStep::Messages(messages.into()),
        Err(error) => {
            let mut scanner = IdScanner::default();
            scanner.feed(line);
            let Some(request) = scanner.answered_request() else {
                tracing::debug!(server = handler.server(), %error, "mcp line ignored: not a message");
                return ReadStep::Continue;
            };
            ReadStep::Messages([error_response(malformed_answer_message(&error), request)].into())
        }
    }
}

/// Parses a large result of a call; `None` if the line is small or another message.
fn parse_large_result(line: &[u8]) -> Option<ServerJsonRpcMessage> {
    #[derive(Deserialize)]
    struct RawAnswer<'a> {
        id: RequestId,
        #[serde(borrow)]
        result: &'a RawValue,
    }
    if line.len() < LARGE_ANSWER_BYTES || !line.starts_with(b"{") {
        return None;
    }
    let RawAnswer { id, result } = serde_json::from_slice(line).ok()?;
    let result: CallToolResult = serde_json::from_str(result.get()).ok()?;
    Some(ServerJsonRpcMessage::response(ServerResult::CallToolResult(result), id))
}

impl<R, W> Transport<RoleClient> for LineTransport<R, W>
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
            let write = write.as_mut().ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "already closed"))?;
            write.write_all(&line).await?;
            write.flush().await
        }
    }

    /// Cancel-safe: nothing is awaited between inspecting the input and consuming it.
    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        let limit = self.handler.max_message_bytes();
        loop {
            if let Some(message) = self.batch.pop_front() {
                return Some(message);
            }
            let available = match self.read.fill_buf().await {
                Ok([]) => return None,
                Ok(available) => available,
                Err(error) => {
                    self.handler.set_close_reason(CloseReason::ReadFailed(Arc::new(error)));
                    return None;
                }
            };
            let line_end = available.iter().position(|byte| *byte == b'\n');
            let bytes = available[..line_end.unwrap_or(available.len())].to_vec();
            self.read.consume(line_end.map_or(bytes.len(), |end| end + 1));
            let piece = if line_end.is_some() { LinePiece::Last } else { LinePiece::Partial };
            match self.read_piece(limit, &bytes, piece) {
                ReadStep::Continue => {}
                ReadStep::Messages(messages) => self.batch = messages,
                ReadStep::Close => return None,
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
    use tokio_util::sync::CancellationToken;

    use super::*;

    const LIMIT: usize = 1000;

    /// Returns a transport with a small limit, and the server's end of its pipe.
    fn open_pipe() -> (impl Transport<RoleClient>, DuplexStream, ConnectionHandler) {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let handler = ConnectionHandler::with_options("s".into(), CancellationToken::new(), LIMIT);
        let (read, write) = split(ours);
        (LineTransport::new(read, write, handler.clone()), theirs, handler)
    }

    async fn receive_all(input: &str) -> (Vec<Value>, ConnectionHandler) {
        let (mut transport, mut server, handler) = open_pipe();
        server.write_all(input.as_bytes()).await.unwrap();
        drop(server);
        let mut messages = Vec::new();
        while let Some(message) = transport.receive().await {
            messages.push(serde_json::to_value(message).unwrap());
        }
        (messages, handler)
    }

    fn answer(id: u32, text: &str) -> String {
        json!({"jsonrpc": "2.0", "id": id, "result": {"content": [{"type": "text", "text": text}]}}).to_string()
    }

    #[tokio::test]
    async fn garbage_between_messages_is_ignored() {
        let input = format!(
            "starting…\n\n\u{feff}{}\r\n[1, 2]\n[\"starting\"]\n{{}}\n{}\n",
            answer(1, "one"),
            answer(2, "two")
        );
        let input = format!("{input}[{}, {}]\n[{}]\n", answer(3, "a"), answer(4, "b"), answer(5, "c"));
        let (messages, _) = receive_all(&input).await;
        assert_eq!(messages.iter().map(|message| &message["id"]).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    }

    #[tokio::test]
    async fn oversized_and_malformed_answers_fail_only_their_request() {
        let oversized = answer(1, &"x".repeat(LIMIT * 10));
        let malformed = &answer(4, "half of it")[..60];
        let input = format!("{oversized}\n{}\n{malformed}\n", answer(2, "small"));
        let (messages, _) = receive_all(&input).await;
        let errors = messages
            .iter()
            .map(|message| (message["id"].as_u64().unwrap(), message["error"]["message"].as_str()))
            .collect::<Vec<_>>();
        let oversized_message = oversized_answer_message(LIMIT);
        assert_eq!(errors[..2], [(1, Some(&*oversized_message)), (2, None)]);
        assert!(matches!(errors[2], (4, Some(error)) if error.starts_with("cannot parse the answer")), "{errors:?}");
        assert_eq!(errors.len(), 3);
    }

    #[tokio::test]
    async fn answer_with_invalid_parts_arrives() {
        let surrogate = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"cut \ud83d"}]}}"#;
        let not_a_number = r#"{"jsonrpc":"2.0","id":2,"result":{"content":[],"structuredContent":{"cpu":NaN}}}"#;
        let no_code = r#"{"jsonrpc":"2.0","id":3,"error":{"message":"no such pod"}}"#;
        let (messages, _) = receive_all(&format!("{surrogate}\n{not_a_number}\n{no_code}\n")).await;
        assert_eq!(messages[0]["result"]["content"][0]["text"], "cut \u{fffd}");
        assert_eq!(messages[1]["result"]["structuredContent"], json!({"cpu": null}));
        assert_eq!(messages[2]["error"]["message"], "no such pod");
    }

    #[tokio::test]
    async fn oversized_answer_with_its_id_at_the_end_is_assigned() {
        let large = "x".repeat(LIMIT);
        let id_last =
            format!(r#"{{"result":{{"content":[{{"type":"text","text":"{large}"}}]}},"jsonrpc":"2.0","id":3}}"#);
        let (messages, _) = receive_all(&format!("{id_last}\n{}\n", answer(4, "small"))).await;
        let error = (&messages[0]["id"], messages[0]["error"]["message"].as_str());
        assert_eq!(error, (&json!(3), Some(&*oversized_answer_message(LIMIT))));
        assert_eq!(messages[1]["id"], 4);
    }

    #[tokio::test]
    async fn unended_answer_fails_its_request_at_once() {
        let (mut transport, mut server, _) = open_pipe();
        let mut unended = answer(1, &"x".repeat(LIMIT));
        unended.truncate(LIMIT + 10);
        server.write_all(unended.as_bytes()).await.unwrap();
        let message = serde_json::to_value(transport.receive().await.unwrap()).unwrap();
        let error = (&message["id"], message["error"]["message"].as_str());
        assert_eq!(error, (&json!(1), Some(&*oversized_answer_message(LIMIT))));
    }

    #[tokio::test]
    async fn unended_message_without_request_closes_the_connection() {
        let (messages, handler) = receive_all(&"x".repeat(LIMIT * 3)).await;
        assert!(messages.is_empty());
        let reason = handler.close_reason();
        assert!(matches!(reason, CloseReason::UnendedMessage { limit: LIMIT }), "{reason}");
    }

    #[test]
    fn large_result_parses_like_a_small_one() {
        let line = answer(7, &"log line\n".repeat(LARGE_ANSWER_BYTES / 8));
        let expected: ServerJsonRpcMessage = serde_json::from_str(&line).unwrap();
        let large = parse_large_result(line.as_bytes()).expect("it is large");
        assert_eq!(serde_json::to_value(large).unwrap(), serde_json::to_value(expected).unwrap());
        let params = json!({"x": "x".repeat(LARGE_ANSWER_BYTES)});
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": params});
        assert!(parse_large_result(request.to_string().as_bytes()).is_none());
    }
}
