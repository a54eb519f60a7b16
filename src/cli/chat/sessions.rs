//! The commands about sessions and models: list, switch, begin, rename, delete, choose a model.

use std::io::{self, Write};

use serde_json::Value;

use super::{
    Ask, Asked, Chat, ClientError, Tone,
    render::Typed,
    text::{clean, cut},
};

impl<W: Write> Chat<W> {
    /// `/sessions`.
    pub(super) async fn list(&mut self) -> io::Result<()> {
        let sessions = match self.client.sessions().await {
            Ok(sessions) => sessions,
            Err(error) => return self.show(Tone::Bad, error.to_string()),
        };
        if sessions.is_empty() {
            return self.note("there are no sessions; a message begins one");
        }
        let current = self.current.as_ref().map(|current| current.id.clone());
        self.listed.clear();
        for (index, session) in sessions.iter().enumerate() {
            let id = text(session, "session_id");
            self.listed.push(id.to_owned());
            let mark = if current.as_deref() == Some(id) { '*' } else { ' ' };
            let running = if session["status"]["is_processing"] == true { ", running" } else { "" };
            let count = session["message_count"].as_u64().unwrap_or(0);
            // The end of an id tells two apart; its beginning is the time, which sessions of one hour share.
            let line = format!(
                "{mark}{:>2}  {:<60}  {count} messages, {}{running}  {id}",
                index + 1,
                name_of(session),
                text(session, "updated_at").get(..16).unwrap_or_default().replace('T', " "),
            );
            self.show(Tone::Plain, line)?;
        }
        Ok(())
    }

    /// The id of the session that the user means: a number of the newest list, an id, or the one id that begins so.
    pub(super) async fn find(&mut self, which: &str) -> Result<String, ClientError> {
        let number = which.parse::<usize>().ok().filter(|_| which.len() <= 3);
        if let Some(id) = number.and_then(|n| self.listed.get(n.checked_sub(1)?)) {
            return Ok(id.clone());
        }
        let sessions = self.client.sessions().await?;
        let ids: Vec<&str> = sessions.iter().map(|session| text(session, "session_id")).collect();
        if let Some(id) = number.and_then(|n| ids.get(n.checked_sub(1)?)) {
            return Ok((*id).to_owned());
        }
        let fits: Vec<&&str> = ids.iter().filter(|id| id.starts_with(which) || id.ends_with(which)).collect();
        match fits[..] {
            [id] => Ok((*id).to_owned()),
            [] => {
                // Beyond the first page it can only be found by its whole id.
                let session = self.client.session(which).await?;
                Ok(text(&session, "session_id").to_owned())
            }
            _ => {
                let message = format!("{} sessions have `{which}` in their id; give more of it", fits.len());
                Err(ClientError::Refused { status: 0, message })
            }
        }
    }

    /// `/switch`.
    pub(super) async fn switch(&mut self, which: &str) -> io::Result<()> {
        match self.find(which).await {
            Ok(id) => {
                self.note(format!("session {id}"))?;
                self.open(id, None);
                Ok(())
            }
            Err(error) => self.show(Tone::Bad, error.to_string()),
        }
    }

    /// `/new`.
    pub(super) async fn begin_new(&mut self, title: Option<String>) -> io::Result<()> {
        let Some(title) = title else {
            self.current = None;
            return self.note("the next message begins a new session");
        };
        match self.client.create(Some(&title), self.model.as_ref()).await {
            Ok(id) => {
                self.note(format!("session {id}"))?;
                self.open(id, Some(0));
                Ok(())
            }
            Err(error) => self.show(Tone::Bad, error.to_string()),
        }
    }

    /// `/title`.
    pub(super) async fn rename(&mut self, title: &str) -> io::Result<()> {
        let Some(current) = &self.current else {
            return self.show(Tone::Bad, "there is no session yet; /new title begins one");
        };
        match self.client.rename(&current.id, title).await {
            // The event that says so is shown when it comes.
            Ok(()) => Ok(()),
            Err(error) => self.show(Tone::Bad, error.to_string()),
        }
    }

    /// `/delete`: asks first, where there is somebody to ask.
    pub(super) async fn ask_delete(&mut self) -> io::Result<()> {
        let Some(current) = &self.current else { return self.show(Tone::Bad, "there is no session to delete") };
        let id = current.id.clone();
        if self.typed == Typed::No {
            return self.delete(&id).await;
        }
        let name = match self.client.session(&id).await {
            Ok(session) => name_of(&session),
            Err(error) => return self.show(Tone::Bad, error.to_string()),
        };
        let prompt = format!("delete \"{name}\" for good? [y/n] ");
        self.ask_next = Some((Asked::Delete(id), Ask { prompt, initial: String::new() }));
        Ok(())
    }

    /// Deletes a session.
    pub(super) async fn delete(&mut self, id: &str) -> io::Result<()> {
        if let Err(error) = self.client.delete(id).await {
            return self.show(Tone::Bad, error.to_string());
        }
        if self.current.as_ref().is_some_and(|current| current.id == id) {
            self.current = None;
        }
        self.note("deleted; the next message begins a new session")
    }

    /// `/model`.
    pub(super) async fn choose_model(&mut self, wanted: Option<String>) -> io::Result<()> {
        let catalog = match self.client.providers().await {
            Ok(catalog) => catalog,
            Err(error) => return self.show(Tone::Bad, error.to_string()),
        };
        let default = (text(&catalog, "default_provider").to_owned(), text(&catalog, "default_model").to_owned());
        let in_force = self
            .current
            .as_ref()
            .and_then(|current| current.view.model())
            .map(|(provider, model)| (provider.to_owned(), model.to_owned()))
            .or_else(|| self.model.clone())
            .unwrap_or(default);
        let Some(wanted) = wanted else { return self.list_models(&catalog, &in_force) };
        let (provider, model) = split_model(&wanted, &catalog, &in_force.0);
        let Some(current) = &self.current else {
            // Nobody else looks at it before a message is on its way.
            if let Err(why) = offered(&catalog, &provider, &model) {
                return self.show(Tone::Bad, why);
            }
            self.note(format!("model of the next session: {provider}/{model}"))?;
            self.model = Some((provider, model));
            return Ok(());
        };
        match self.client.set_model(&current.id, &provider, &model).await {
            // The event that says so is shown when it comes.
            Ok(()) => Ok(()),
            Err(error) => self.show(Tone::Bad, error.to_string()),
        }
    }

    fn list_models(&mut self, catalog: &Value, in_force: &(String, String)) -> io::Result<()> {
        for provider in list(catalog, "providers") {
            let id = text(provider, "id");
            let configured = if provider["configured"] == false { "  (not configured)" } else { "" };
            self.show(Tone::Note, format!("{}{configured}", clean(text(provider, "name"))))?;
            for model in list(provider, "models") {
                let mark = if (id, text(model, "id")) == (&*in_force.0, &*in_force.1) { '*' } else { ' ' };
                let name = clean(&format!("{id}/{}", text(model, "id")));
                self.show(Tone::Plain, format!("{mark} {name:<36}  {}", clean(text(model, "description"))))?;
            }
        }
        Ok(())
    }
}

/// `provider/model`, or a model alone; ids of models may have slashes in them.
fn split_model(wanted: &str, catalog: &Value, in_force: &str) -> (String, String) {
    let known = |id: &str| list(catalog, "providers").iter().any(|provider| text(provider, "id") == id);
    if let Some((provider, model)) = wanted.split_once('/')
        && known(provider)
    {
        return (provider.to_owned(), model.to_owned());
    }
    let has = |provider: &&Value| list(provider, "models").iter().any(|model| text(model, "id") == wanted);
    let offering: Vec<&Value> = list(catalog, "providers").iter().filter(has).collect();
    let provider = match offering[..] {
        // The one in force is preferred where several offer a model of this name.
        [only] => text(only, "id"),
        _ => in_force,
    };
    (provider.to_owned(), wanted.to_owned())
}

/// Whether a session may have a model, as the service decides it: a provider that lists none takes any.
fn offered(catalog: &Value, provider: &str, model: &str) -> Result<(), String> {
    let ids = |list: &[Value]| list.iter().map(|item| clean(text(item, "id"))).collect::<Vec<_>>();
    let providers = list(catalog, "providers");
    let Some(found) = providers.iter().find(|item| text(item, "id") == provider) else {
        return Err(format!("there is no provider {provider}; there are: {}", ids(providers).join(", ")));
    };
    let models = list(found, "models");
    if models.is_empty() || models.iter().any(|item| text(item, "id") == model) {
        return Ok(());
    }
    Err(format!("{provider} has no model {model}; it has: {}", ids(models).join(", ")))
}

fn name_of(session: &Value) -> String {
    let named = ["title", "preview"].into_iter().map(|key| text(session, key)).find(|name| !name.is_empty());
    cut(&clean(named.unwrap_or("(empty)")).replace('\n', " "), 60)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_model_is_named_with_its_provider_or_found_by_its_name() {
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
            assert_eq!(split_model(wanted, &catalog, "anthropic"), (provider.to_owned(), model.to_owned()), "{wanted}");
        }
    }
}
