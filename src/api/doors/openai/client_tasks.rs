//! Tasks that chat clients give to the same model besides the conversation: a title, tags, questions that could follow. They are
//! answered from the text that they quote. An agent must not look into a cluster to find a title.

use k8sops_core::derive_title;
use serde_json::json;

use super::chat_history::ChatHistory;

/// What a client asks for besides the conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::api::doors) enum ClientTask {
    /// A title as text.
    Title,
    /// A JSON object with a title.
    TitleObject,
    /// A JSON object with an empty list under this key.
    EmptyList(&'static str),
    /// A JSON object with an empty text under this key.
    EmptyText(&'static str),
    /// Anything else: the answer is empty.
    Other,
}

/// How many characters of an instruction are searched for its task.
const INSTRUCTION_CHARS: usize = 900;
/// The lists that Open WebUI asks for.
const LISTS: [&str; 3] = ["follow_ups", "tags", "queries"];

impl ClientTask {
    /// Recognizes a task by its header (`X-K8sops-Task`) or by the words that the known clients use.
    pub(in crate::api::doors) fn recognize(header: Option<&str>, history: &ChatHistory) -> Option<Self> {
        if let Some(name) = header {
            return Some(Self::by_words(&name.to_lowercase()).unwrap_or(Self::by_format(&history.message)));
        }
        let message = first_chars(&history.message);
        // Open WebUI: its tasks begin so, and the last one asks for an emoji.
        let beginnings = ["### task:", "your task is to reflect the speaker's likely facial expression"];
        if beginnings.iter().any(|beginning| message.trim_start().starts_with(beginning)) {
            return Some(Self::by_format(&history.message));
        }
        let is_title = [message, first_chars(&history.instructions)].iter().any(|text| asks_for_title(text));
        is_title.then_some(Self::Title)
    }

    /// Returns the kind of task by its name.
    fn by_words(name: &str) -> Option<Self> {
        let named = [
            ("title", Self::TitleObject),
            ("follow_up", Self::EmptyList("follow_ups")),
            ("tags", Self::EmptyList("tags")),
            ("query", Self::EmptyList("queries")),
            ("autocomplete", Self::EmptyText("text")),
            ("image_prompt", Self::EmptyText("prompt")),
        ];
        named.into_iter().find(|(word, _)| name.contains(word)).map(|(_, task)| task)
    }

    /// Returns the kind of task by the format that its prompt shows.
    fn by_format(prompt: &str) -> Self {
        let shows = |key: &str| prompt.contains(&format!("\"{key}\""));
        if let Some(list) = LISTS.into_iter().find(|list| shows(list)) {
            return Self::EmptyList(list);
        }
        match () {
            () if shows("title") => Self::TitleObject,
            () if shows("text") => Self::EmptyText("text"),
            () if shows("prompt") => Self::EmptyText("prompt"),
            () if prompt.to_lowercase().contains("title") => Self::Title,
            () => Self::Other,
        }
    }

    /// Returns the answer.
    pub(in crate::api::doors) fn answer(self, history: &ChatHistory) -> String {
        match self {
            Self::Title => find_title(history),
            Self::TitleObject => json!({"title": find_title(history)}).to_string(),
            Self::EmptyList(key) => json!({key: []}).to_string(),
            Self::EmptyText(key) => json!({key: ""}).to_string(),
            Self::Other => String::new(),
        }
    }
}

/// Whether an instruction asks for the title of a conversation, as those of LibreChat, LobeChat and Continue do: one sentence
/// has all of "generate a … title … conversation". The instructions of an application may well speak of titles and chats.
fn asks_for_title(instruction: &str) -> bool {
    let is_brief = ["concise", "short", "only", "words", "-word"].iter().any(|word| instruction.contains(word));
    let is_structured = instruction.contains("analyze this conversation and provide") && instruction.contains("title");
    is_structured || (is_brief && instruction.split(['.', '\n', ':', ';']).any(is_title_sentence))
}

fn is_title_sentence(sentence: &str) -> bool {
    let words: Vec<&str> = sentence.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let near = |from: usize, span: usize, wanted: &[&str]| {
        let until = words.len().min(from + span);
        (from..until).find(|at| wanted.contains(&words[*at]))
    };
    let verbs = ["generate", "create", "provide", "write", "reply", "suggest"];
    (0..words.len()).filter(|at| verbs.contains(&words[*at])).any(|verb| {
        let title = near(verb + 1, 3, &["a", "an"]).and_then(|article| near(article + 1, 8, &["title"]));
        title.is_some_and(|title| near(title + 1, 10, &["conversation", "chat", "discussion"]).is_some())
    })
}

fn first_chars(text: &str) -> String {
    text.chars().take(INSTRUCTION_CHARS).collect::<String>().to_lowercase()
}

/// Makes a title of the first thing that the user said in the quoted conversation.
fn find_title(history: &ChatHistory) -> String {
    if let Some(first) = history.turns.first() {
        return derive_title(&first.user);
    }
    let prompt = &history.message;
    let quoted = prompt.split_once("<chat_history>").map_or(prompt.as_str(), |(_, rest)| rest);
    let quoted = quoted.split("</chat_history>").next().unwrap_or(quoted);
    let speaker = |line: &str| {
        let line = line.trim_start_matches(|c: char| !c.is_alphanumeric());
        let (name, text) = line.split_once(':')?;
        matches!(name.trim().to_lowercase().as_str(), "user" | "human").then(|| text.trim().to_owned())
    };
    let lines: Vec<&str> = quoted.lines().collect();
    let said = lines.iter().enumerate().find_map(|(at, line)| {
        let text = speaker(line)?;
        // The text may begin on the next line.
        if text.is_empty() { lines.get(at + 1).map(|next| next.trim().to_owned()) } else { Some(text) }
    });
    let last_paragraph = || prompt.trim().rsplit("\n\n").next().unwrap_or_default().to_owned();
    derive_title(&said.filter(|text| !text.is_empty()).unwrap_or_else(last_paragraph))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(instructions: &str, message: &str) -> ChatHistory {
        ChatHistory { instructions: instructions.into(), message: message.into(), ..ChatHistory::default() }
    }

    #[test]
    fn tasks_of_chat_clients_are_recognized() {
        let open_webui = |what: &str, format: &str| {
            format!(
                "### Task:\n{what}\n### Output:\nJSON format: {format}\n### Chat History:\n<chat_history>\nUSER: why does \
                 payments crash?\nASSISTANT: It has no memory.\n</chat_history>"
            )
        };
        for (instructions, message, answer) in [
            (
                "",
                open_webui("Generate a concise, 3-5 word title", r#"{ "title": "your concise title here" }"#),
                r#"{"title":"why does payments crash?"}"#,
            ),
            ("", open_webui("Suggest 3-5 follow-ups", r#"{ "follow_ups": ["Question 1?"] }"#), r#"{"follow_ups":[]}"#),
            ("", open_webui("Generate 1-3 broad tags", r#"{ "tags": ["tag1"] }"#), r#"{"tags":[]}"#),
            ("", open_webui("Generate search queries", r#"{ "queries": ["q"] }"#), r#"{"queries":[]}"#),
            ("", open_webui("Complete the text", r#"{ "text": "<completion>" }"#), r#"{"text":""}"#),
            ("", open_webui("Pick an emoji", "one emoji"), ""),
            ("", "Your task is to reflect the speaker's likely facial expression through a fitting emoji.".to_owned(), ""),
            (
                // LobeChat
                "You are a professional conversation summarizer. Generate a concise title that captures the essence of the \
                 conversation.\n\nRules:\n- Output ONLY the title text",
                "user: why does payments crash?\nassistant: It has no memory.".to_owned(),
                "why does payments crash?",
            ),
            (
                // LibreChat
                "",
                "Provide a concise, 5-word-or-less title for the conversation, using title case conventions. Only return the \
                 title itself.\n\nConversation:\nUser: why does payments crash?\nAI: It has no memory."
                    .to_owned(),
                "why does payments crash?",
            ),
            (
                "",
                "Create a concise title for this conversation:\n\nUser: why does payments crash?".to_owned(),
                "why does payments crash?",
            ),
            (
                // Continue
                "",
                "Given the following... please reply with a title for the chat that is 3-4 words in length, all words used \
                 should be directly related to the content of the chat.\n\nIt has no memory."
                    .to_owned(),
                "It has no memory.",
            ),
        ] {
            let history = history(instructions, &message);
            let task = ClientTask::recognize(None, &history).unwrap_or_else(|| panic!("not recognized: {message}"));
            assert_eq!(task.answer(&history), answer, "{message}");
        }
        let by_header = history("", "whatever the operator's own prompt says");
        for (header, answer) in [
            ("title_generation", r#"{"title":"whatever the operator's own prompt says"}"#),
            ("tags_generation", r#"{"tags":[]}"#),
            ("follow_up_generation", r#"{"follow_ups":[]}"#),
            ("emoji_generation", ""),
        ] {
            assert_eq!(ClientTask::recognize(Some(header), &by_header).unwrap().answer(&by_header), answer);
        }
    }

    #[test]
    fn questions_of_operators_are_no_tasks() {
        for message in [
            "what is broken?",
            "### Incident\nTask: find out why checkout is slow",
            "which deployments have the annotation title?",
            "write a post-mortem of this conversation",
            "create a ConfigMap named title in namespace chat",
            "show only pods of the chat service",
        ] {
            assert_eq!(ClientTask::recognize(None, &history("You are helpful.", message)), None, "{message}");
        }
        for instructions in [
            "You are a support chat assistant. Write concise answers. Always provide the title of the incident only.",
            "Answer in short words. Each chat has a title. Generate a report when asked for one in this conversation.",
        ] {
            assert_eq!(ClientTask::recognize(None, &history(instructions, "what is broken?")), None, "{instructions}");
        }
    }
}
