//! The check of a provider of models.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Check, Line};
use k8sops_core::mask_url;
use k8sops_models::{ChatModel, ModelError, ProviderConfig};

/// A provider and a model of it.
pub struct ProviderCheck {
    /// Its id.
    pub id: String,
    /// Its configuration.
    pub config: ProviderConfig,
    /// The model that is asked for.
    pub model: String,
    /// Whether new sessions use it: then it must work.
    pub chosen: bool,
    /// The provider itself, from the catalog.
    pub chat: Option<Arc<dyn ChatModel>>,
}

#[async_trait]
impl Check for ProviderCheck {
    fn what(&self) -> String {
        format!("provider {}", self.id)
    }

    async fn run(self: Box<Self>) -> Vec<Line> {
        let (what, key, url) = (self.what(), &self.config.key_variable, mask_url(&self.config.base_url));
        if self.config.api_key.is_none() && !self.config.key_optional {
            let line = if self.chosen {
                Line::fail(what, "it has no key", format!("set {key}, or choose another provider in LLM_PROVIDER"))
            } else {
                Line::note(what, format!("not tried, it has no key ({key})"))
            };
            return vec![line];
        }
        if self.model.is_empty() {
            return vec![Line::note(what, "not tried, no model of it is named in the catalog")];
        }
        let Some(chat) = &self.chat else {
            return vec![Line::fail(what, "it is not in the catalog", "see `providers` in your YAML")];
        };
        let error = match chat.check(&self.model).await {
            Ok(()) => return vec![Line::ok(what, format!("model {} answers at {url}", self.model))],
            Err(error) => error,
        };
        let advice = match &error {
            ModelError::Auth(_) => format!("see whether {key} is right and may use this model"),
            ModelError::Quota(_) => format!("see the plan and the credit behind {key}"),
            ModelError::InvalidRequest(_) | ModelError::ModelNotFound(_) | ModelError::ContextTooLong(_) => {
                format!("see whether LLM_MODEL is a model of this provider, and whether {url} is its base URL")
            }
            ModelError::RateLimited { .. } | ModelError::Overloaded(_) => "try again later".to_owned(),
            ModelError::Network(_) | ModelError::Timeout(_) => {
                format!("see whether {url} can be reached from here (proxy, firewall, base_url)")
            }
            ModelError::MalformedStream(_) => format!("see whether {url} is the API and not a page before it"),
        };
        vec![if self.chosen {
            Line::fail(what, format!("model {}: {error}", self.model), advice)
        } else {
            Line::note(what, format!("model {}: {error}; {advice}", self.model))
        }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::tests::config;
    use k8sops_models::{ChatRequest, ReplyStream};

    struct Scripted(Result<(), ModelError>);

    #[async_trait]
    impl ChatModel for Scripted {
        async fn stream(&self, _: ChatRequest) -> Result<ReplyStream, ModelError> {
            unreachable!("the doctor costs no tokens")
        }
        async fn check(&self, _: &str) -> Result<(), ModelError> {
            self.0.clone()
        }
    }

    async fn provider(chosen: bool, key: bool, answer: Result<(), ModelError>) -> String {
        let env = if key { vec![("ANTHROPIC_API_KEY", "k")] } else { vec![] };
        let config = config(&env).config.providers.remove("anthropic").unwrap();
        let check = ProviderCheck {
            id: "anthropic".into(),
            config,
            model: "claude-opus-5-5".into(),
            chosen,
            chat: Some(Arc::new(Scripted(answer))),
        };
        Box::new(check).run().await.iter().map(Line::render).collect::<Vec<_>>().join("\n")
    }

    #[tokio::test]
    async fn a_provider_is_well_or_it_is_said_what_to_do() {
        assert_eq!(
            provider(true, true, Ok(())).await,
            "ok    provider anthropic: model claude-opus-5-5 answers at https://api.anthropic.com"
        );
        let auth = Err(ModelError::Auth("invalid x-api-key\n(401)".into()));
        assert_eq!(
            provider(true, true, auth.clone()).await,
            "FAIL  provider anthropic: model claude-opus-5-5: invalid x-api-key (401) — see whether ANTHROPIC_API_KEY is right and may use this model"
        );
        assert!(provider(false, true, auth).await.starts_with("note  "), "one that nobody uses may be broken");
        assert!(
            provider(true, false, Ok(()))
                .await
                .starts_with("FAIL  provider anthropic: it has no key — set ANTHROPIC_API_KEY")
        );
        assert!(provider(false, false, Ok(())).await.starts_with("note  "));
    }

    #[tokio::test]
    async fn no_line_shows_the_secrets_of_a_url() {
        let url = "http://me:secret@127.0.0.1:9/v1?token=secret";
        let config = config(&[("OPENAI_BASE_URL", url), ("OPENAI_API_KEY", "k")]).config.providers["openai"].clone();
        for answer in
            [Ok(()), Err(ModelError::Network("refused".into())), Err(ModelError::MalformedStream("no stream".into()))]
        {
            let check = ProviderCheck {
                id: "openai".into(),
                config: config.clone(),
                model: "m".into(),
                chosen: true,
                chat: Some(Arc::new(Scripted(answer))),
            };
            for line in Box::new(check).run().await {
                let line = line.render();
                assert!(line.contains("127.0.0.1:9/v1") && !line.contains("secret"), "{line}");
            }
        }
    }
}
