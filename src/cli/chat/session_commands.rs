//! The commands for sessions and models: `/sessions`, `/switch`, `/new`, `/title`, `/delete`, `/model`.

use std::io::{self, Write};

use serde_json::Value;

use super::{
    line_source::LinePrompt,
    terminal_chat::{OpenPrompt, TerminalChat},
};
use crate::cli::{
    service::{ApiClientError, ModelSelection},
    terminal::{InputSource, LineStyle, sanitize_text, short_id, truncate_chars},
};

/// The most sessions that `/sessions` lists.
const MAX_LISTED_SESSIONS: usize = 50;

impl<W: Write> TerminalChat<W> {
    /// Runs `/sessions`.
    pub(super) async fn show_sessions(&mut self) -> io::Result<()> {
        let sessions = match self.client.list_sessions().await {
            Ok(sessions) => sessions,
            Err(error) => return self.show_error(&error),
        };
        if sessions.is_empty() {
            return self.show_note("no sessions yet; a message starts one");
        }
        let open = self.session.as_ref().map(|session| session.id.clone());
        self.listed_sessions.clear();
        for (index, session) in sessions.iter().enumerate() {
            let id = text_field(session, "session_id");
            self.listed_sessions.push(id.to_owned());
            let mark = if open.as_deref() == Some(id) { '*' } else { ' ' };
            let running = if session["status"]["is_processing"] == true { ", running" } else { "" };
            let count = session["message_count"].as_u64().unwrap_or(0);
            let line = format!(
                "{mark}{:>2}  {}  {:<36}  {count} messages, {}{running}",
                index + 1,
                short_id(id),
                session_name(session),
                text_field(session, "updated_at").get(..16).unwrap_or_default().replace('T', " "),
            );
            self.show_line(LineStyle::Plain, line)?;
        }
        if sessions.len() == MAX_LISTED_SESSIONS {
            self.show_note("there may be older ones: /switch finds them by the beginning or the end of their id")?;
        }
        Ok(())
    }

    /// Returns the id of the session that the user means: a number of the last list, an id, or the start or end of one.
    pub(super) async fn find_session(&mut self, given: &str) -> Result<String, ApiClientError> {
        let number = given.parse::<usize>().ok().filter(|_| given.len() <= 3);
        if let Some(id) = number.and_then(|n| self.listed_sessions.get(n.checked_sub(1)?)) {
            return Ok(id.clone());
        }
        if let Some(number) = number {
            let sessions = self.client.list_sessions().await?;
            if let Some(session) = number.checked_sub(1).and_then(|index| sessions.get(index)) {
                return Ok(text_field(session, "session_id").to_owned());
            }
        }
        Ok(self.client.find_session(given).await?.id)
    }

    /// Runs `/switch`.
    pub(super) async fn switch_session(&mut self, given: &str) -> io::Result<()> {
        match self.find_session(given).await {
            Ok(id) => {
                self.show_note(format!("session {}", short_id(&id)))?;
                self.open_session(id, None);
                Ok(())
            }
            Err(error) => self.show_error(&error),
        }
    }

    /// Runs `/new`.
    pub(super) async fn start_new_session(&mut self, title: Option<String>) -> io::Result<()> {
        let Some(title) = title else {
            self.session = None;
            return self.show_note("the next message starts a new session");
        };
        match self.client.create_session(Some(&title), self.next_model.as_ref()).await {
            Ok(id) => {
                self.show_note(format!("session {}", short_id(&id)))?;
                self.open_session(id, Some(0));
                Ok(())
            }
            Err(error) => self.show_error(&error),
        }
    }

    /// Runs `/title`.
    pub(super) async fn rename_session(&mut self, title: &str) -> io::Result<()> {
        let Some(session) = &self.session else {
            return self.show_line(LineStyle::Failure, "no session is open; /new title starts one");
        };
        match self.client.rename_session(&session.id, title).await {
            // The view shows the event that follows.
            Ok(()) => Ok(()),
            Err(error) => self.show_error(&error),
        }
    }

    /// Runs `/delete`: asks for confirmation if the user is at a terminal.
    pub(super) async fn confirm_delete(&mut self) -> io::Result<()> {
        let Some(session) = &self.session else {
            return self.show_line(LineStyle::Failure, "no session is open to delete");
        };
        let id = session.id.clone();
        if self.source == InputSource::Pipe {
            return self.delete_session(&id).await;
        }
        let name = match self.client.get_session(&id).await {
            Ok(session) => session_name(&session),
            Err(error) => return self.show_error(&error),
        };
        let prompt = format!("permanently delete \"{name}\"? [y/n] ");
        self.next_prompt = Some((OpenPrompt::DeleteSession(id), LinePrompt::answer(prompt, String::new())));
        Ok(())
    }

    /// Deletes a session.
    pub(super) async fn delete_session(&mut self, id: &str) -> io::Result<()> {
        if let Err(error) = self.client.delete_session(id).await {
            return self.show_error(&error);
        }
        if self.session.as_ref().is_some_and(|session| session.id == id) {
            self.session = None;
        }
        self.show_note("deleted; the next message starts a new session")
    }

    /// Runs `/model`.
    pub(super) async fn choose_model(&mut self, wanted: Option<String>) -> io::Result<()> {
        let catalog = match self.client.list_providers().await {
            Ok(catalog) => catalog,
            Err(error) => return self.show_error(&error),
        };
        let current = self
            .session
            .as_ref()
            .and_then(|session| session.view.current_model())
            .or(self.next_model.as_ref())
            .cloned()
            .unwrap_or_else(|| ModelSelection {
                provider: text_field(&catalog, "default_provider").to_owned(),
                model: text_field(&catalog, "default_model").to_owned(),
            });
        let Some(wanted) = wanted else { return self.show_models(&catalog, &current) };
        let selection = resolve_model(&wanted, &catalog, &current.provider);
        let Some(session) = &self.session else {
            // The service checks the model only when the next message creates the session.
            if let Some(problem) = find_model_problem(&catalog, &selection) {
                return self.show_line(LineStyle::Failure, problem);
            }
            self.show_note(format!("model of the next session: {}/{}", selection.provider, selection.model))?;
            self.next_model = Some(selection);
            return Ok(());
        };
        match self.client.set_session_model(&session.id, &selection).await {
            // The view shows the event that follows.
            Ok(()) => Ok(()),
            Err(error) => self.show_error(&error),
        }
    }

    fn show_models(&mut self, catalog: &Value, current: &ModelSelection) -> io::Result<()> {
        for provider in list_field(catalog, "providers") {
            let id = text_field(provider, "id");
            let configured = if provider["configured"] == false { "  (not configured)" } else { "" };
            self.show_note(format!("{}{configured}", sanitize_text(text_field(provider, "name"))))?;
            for model in list_field(provider, "models") {
                let model_id = text_field(model, "id");
                let mark = if id == current.provider && model_id == current.model { '*' } else { ' ' };
                let name = sanitize_text(&format!("{id}/{model_id}"));
                let description = sanitize_text(text_field(model, "description"));
                self.show_line(LineStyle::Plain, format!("{mark} {name:<36}  {description}"))?;
            }
        }
        Ok(())
    }

    pub(super) fn show_error(&mut self, error: &ApiClientError) -> io::Result<()> {
        self.show_line(LineStyle::Failure, error.to_string())
    }
}

/// Resolves `provider/model`, or a model alone. Ids of models may contain slashes.
fn resolve_model(wanted: &str, catalog: &Value, current_provider: &str) -> ModelSelection {
    let is_provider = |id: &str| list_field(catalog, "providers").iter().any(|p| text_field(p, "id") == id);
    if let Some((provider, model)) = wanted.split_once('/')
        && is_provider(provider)
    {
        return ModelSelection { provider: provider.to_owned(), model: model.to_owned() };
    }
    let has_model = |provider: &&Value| list_field(provider, "models").iter().any(|m| text_field(m, "id") == wanted);
    let offering: Vec<&Value> = list_field(catalog, "providers").iter().filter(has_model).collect();
    let provider = match offering[..] {
        [only] => text_field(only, "id"),
        // If several providers have a model of this name, the current provider is preferred.
        _ => current_provider,
    };
    ModelSelection { provider: provider.to_owned(), model: wanted.to_owned() }
}

/// Returns why a session cannot have a model, by the rules of the service: a provider without listed models accepts any.
fn find_model_problem(catalog: &Value, selection: &ModelSelection) -> Option<String> {
    let ModelSelection { provider, model } = selection;
    let ids = |list: &[Value]| list.iter().map(|item| sanitize_text(text_field(item, "id"))).collect::<Vec<_>>();
    let providers = list_field(catalog, "providers");
    let Some(found) = providers.iter().find(|item| text_field(item, "id") == provider) else {
        return Some(format!("unknown provider {provider}; available: {}", ids(providers).join(", ")));
    };
    let models = list_field(found, "models");
    if models.is_empty() || models.iter().any(|item| text_field(item, "id") == model) {
        return None;
    }
    Some(format!("{provider} has no model {model}; available: {}", ids(models).join(", ")))
}

fn session_name(session: &Value) -> String {
    let named = ["title", "preview"].into_iter().map(|key| text_field(session, key)).find(|name| !name.is_empty());
    truncate_chars(&sanitize_text(named.unwrap_or("(empty)")).replace('\n', " "), 36)
}

fn text_field<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn list_field<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn model_is_resolved_with_or_without_provider() {
        let catalog = json!({"providers": [
            {"id": "openai", "models": [{"id": "gpt"}, {"id": "both"}]},
            {"id": "anthropic", "models": [{"id": "claude"}, {"id": "both"}]},
        ]});
        for (wanted, provider, model) in [
            ("openai/gpt", "openai", "gpt"),
            ("openai/qwen/qwen3", "openai", "qwen/qwen3"),
            ("qwen/qwen3", "anthropic", "qwen/qwen3"),
            ("gpt", "openai", "gpt"),
            ("both", "anthropic", "both"),
            ("new", "anthropic", "new"),
        ] {
            let expected = ModelSelection { provider: provider.to_owned(), model: model.to_owned() };
            assert_eq!(resolve_model(wanted, &catalog, "anthropic"), expected, "{wanted}");
        }
    }
}
