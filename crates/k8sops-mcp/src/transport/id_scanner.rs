//! Finds out whose answer a message is that cannot be read as a whole: too large, or no JSON.

use rmcp::model::RequestId;

/// More of a key or an id is neither.
const MAX_TOKEN: usize = 128;

/// Reads a message byte by byte and keeps nothing of it but its id.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    depth: usize,
    text: Text,
    in_value: bool,
    key: Vec<u8>,
    id: Vec<u8>,
    is_answer: bool,
    is_request: bool,
}

/// Where in a JSON string a byte stands.
#[derive(Debug, Default, PartialEq, Eq)]
enum Text {
    #[default]
    Outside,
    Inside,
    /// After a backslash.
    Escaped,
}

impl Scan {
    /// Reads on.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.step(byte);
        }
    }

    /// The request that the message answers, as far as it is known.
    pub(crate) fn answers(&self) -> Option<RequestId> {
        // An id that is still being read may go on.
        let complete = !self.in_value || self.depth == 0 || self.key != b"id";
        if !complete || !self.is_answer || self.is_request {
            return None;
        }
        serde_json::from_slice(self.id.trim_ascii()).ok()
    }

    fn step(&mut self, byte: u8) {
        if self.text != Text::Outside {
            self.keep(byte);
            self.text = match byte {
                _ if self.text == Text::Escaped => Text::Inside,
                b'\\' => Text::Escaped,
                b'"' => Text::Outside,
                _ => Text::Inside,
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
                    b"result" | b"error" => self.is_answer = true,
                    b"method" => self.is_request = true,
                    _ => {}
                }
            }
            b',' if self.depth == 1 => {
                self.in_value = false;
                self.key.clear();
            }
            b'"' => {
                self.text = Text::Inside;
                if self.in_value {
                    self.keep(byte);
                }
            }
            _ if self.in_value => self.keep(byte),
            _ => {}
        }
    }

    fn keep(&mut self, byte: u8) {
        if self.depth != 1 {
            return;
        }
        let token = match self.in_value {
            false if byte == b'"' && self.text == Text::Inside => return,
            false => &mut self.key,
            true if self.key == b"id" => &mut self.id,
            true => return,
        };
        if token.len() < MAX_TOKEN {
            token.push(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(text: &str) -> Option<RequestId> {
        let mut scan = Scan::default();
        scan.feed(text.as_bytes());
        scan.answers()
    }

    #[test]
    fn the_id_of_an_answer_is_found_wherever_it_stands_and_no_other() {
        let number = |n| Some(RequestId::Number(n));
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
            assert_eq!(answered(text), id, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_can_be_read(bytes: Vec<u8>) {
            let mut scan = Scan::default();
            scan.feed(&bytes);
            scan.answers();
            assert!(scan.id.len() <= MAX_TOKEN && scan.key.len() <= MAX_TOKEN);
        }

        #[test]
        fn the_id_of_any_answer_is_found(id: i64, text: String, first: bool) {
            let result = serde_json::json!({"content": [{"type": "text", "text": text, "id": 1}]});
            let answer = match first {
                true => format!(r#"{{"id":{id},"result":{result}}}"#),
                false => format!(r#"{{"result":{result},"id":{id}}}"#),
            };
            assert_eq!(answered(&answer), Some(RequestId::Number(id)));
        }
    }
}
