//! Finds the id of the request that a message answers, if the message cannot be parsed as a whole: it is too large, or it is
//! not valid JSON.

use rmcp::model::RequestId;

/// Bytes of a key or an id that are kept. Longer ones do not occur in valid messages.
const MAX_TOKEN_BYTES: usize = 128;

/// Reads a message byte by byte and keeps only its id.
#[derive(Debug, Default)]
pub(crate) struct IdScanner {
    depth: usize,
    string: StringState,
    in_value: bool,
    key: Vec<u8>,
    id: Vec<u8>,
    has_result: bool,
    has_method: bool,
}

/// Whether the current byte is inside of a JSON string.
#[derive(Debug, Default, PartialEq, Eq)]
enum StringState {
    #[default]
    Outside,
    Inside,
    /// After a backslash.
    Escaped,
}

impl IdScanner {
    /// Reads the next bytes of the message.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.scan_byte(byte);
        }
    }

    /// Returns the id of the request that the message answers, if it has been read.
    pub(crate) fn answered_request(&self) -> Option<RequestId> {
        // More of an id may follow while its value is being read.
        let is_complete = !self.in_value || self.depth == 0 || self.key != b"id";
        if !is_complete || !self.has_result || self.has_method {
            return None;
        }
        serde_json::from_slice(self.id.trim_ascii()).ok()
    }

    fn scan_byte(&mut self, byte: u8) {
        if self.string != StringState::Outside {
            self.keep_byte(byte);
            self.string = match byte {
                _ if self.string == StringState::Escaped => StringState::Inside,
                b'\\' => StringState::Escaped,
                b'"' => StringState::Outside,
                _ => StringState::Inside,
            };
            return;
        }
        match byte {
            b'{' | b'[' => {
                self.depth += 1;
                self.in_value = self.depth > 1 || byte == b'[';
            }
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            b':' if self.depth == 1 => {
                self.in_value = true;
                match &*self.key {
                    b"result" | b"error" => self.has_result = true,
                    b"method" => self.has_method = true,
                    _ => {}
                }
            }
            b',' if self.depth == 1 => {
                self.in_value = false;
                self.key.clear();
            }
            b'"' => {
                self.string = StringState::Inside;
                if self.in_value {
                    self.keep_byte(byte);
                }
            }
            _ if self.in_value => self.keep_byte(byte),
            _ => {}
        }
    }

    /// Keeps a byte of a top-level key or of the id.
    fn keep_byte(&mut self, byte: u8) {
        if self.depth != 1 {
            return;
        }
        let token = match self.in_value {
            false if byte == b'"' && self.string == StringState::Inside => return,
            false => &mut self.key,
            true if self.key == b"id" => &mut self.id,
            true => return,
        };
        if token.len() < MAX_TOKEN_BYTES {
            token.push(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(text: &str) -> Option<RequestId> {
        let mut scanner = IdScanner::default();
        scanner.feed(text.as_bytes());
        scanner.answered_request()
    }

    #[test]
    fn id_of_an_answer_is_found_at_any_position() {
        let number = |id| Some(RequestId::Number(id));
        for (text, id) in [
            (r#"{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"and so on"#, number(7)),
            (r#"{"result":{"id":9,"x":[{"id":8}],"t":"\"id\":6, }{"},"jsonrpc":"2.0","id":7}"#, number(7)),
            (r#"{ "error" : {"code":1,"message":"\\"} , "id" : 7 }"#, number(7)),
            (r#"{"id":"seven","result":{}}"#, Some(RequestId::String("seven".into()))),
            (r#"{"result":{},"id":7"#, None),
            (r#"{"id":7,"method":"sampling/createMessage","params":{"result":1"#, None),
            (r#"{"id":7,"jsonrpc":"2.0""#, None),
            (r#"{"method":"notifications/message","params":{"id":7,"result":1}}"#, None),
            (r#"[{"id":7,"result":{}}]"#, None),
            ("no JSON at all: \"id\":7,\"result\":", None),
            ("", None),
        ] {
            assert_eq!(scan(text), id, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_accepted(bytes: Vec<u8>) {
            let mut scanner = IdScanner::default();
            scanner.feed(&bytes);
            scanner.answered_request();
            assert!(scanner.id.len() <= MAX_TOKEN_BYTES && scanner.key.len() <= MAX_TOKEN_BYTES);
        }

        #[test]
        fn id_of_any_answer_is_found(id: i64, text: String, id_first: bool) {
            let result = serde_json::json!({"content": [{"type": "text", "text": text, "id": 1}]});
            let answer = if id_first {
                format!(r#"{{"id":{id},"result":{result}}}"#)
            } else {
                format!(r#"{{"result":{result},"id":{id}}}"#)
            };
            assert_eq!(scan(&answer), Some(RequestId::Number(id)));
        }
    }
}
