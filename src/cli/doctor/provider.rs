//! The check of a model provider.

use std::sync::Arc;

use async_trait::async_trait;

use super::report::{HealthCheck, ReportLine};
use k8sops_core::mask_url;
use k8sops_models::{ChatModel, ModelError, ModelErrorKind, ProviderOptions, RecognizedDialect};

/// Whether new sessions use a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProviderUsage {
    /// New sessions use it, so it must work.
    NewSessions,
    /// It is only available, so a failure is a note.
    Optional,
}

/// Checks a provider with one of its models.
pub(super) struct ProviderCheck {
    pub(super) id: String,
    pub(super) config: ProviderOptions,
    /// The model to ask for; empty if the catalog names none.
    pub(super) model: String,
    pub(super) usage: ProviderUsage,
    /// The client of the provider, from the catalog.
    pub(super) chat: Option<Arc<dyn ChatModel>>,
}

#[async_trait]
impl HealthCheck for ProviderCheck {
    fn subject(&self) -> String {
        format!("provider {}", self.id)
    }

    async fn run(self: Box<Self>) -> Vec<ReportLine> {
        vec![self.check_model().await]
    }
}

impl ProviderCheck {
    async fn check_model(&self) -> ReportLine {
        let subject = self.subject();
        let key = &self.config.key_variable;
        let url = mask_url(&self.config.base_url);
        if self.config.api_key.is_none() && !self.config.key_optional {
            return match self.usage {
                ProviderUsage::NewSessions => {
                    let advice = format!("set {key}, or choose another provider with LLM_PROVIDER");
                    ReportLine::failed(subject, "the API key is missing", advice)
                }
                ProviderUsage::Optional => {
                    ReportLine::notice(subject, format!("not checked: the API key is missing ({key})"))
                }
            };
        }
        if self.model.is_empty() {
            return ReportLine::notice(subject, "not checked: the catalog names no model of this provider");
        }
        let Some(chat) = &self.chat else {
            return ReportLine::failed(subject, "not in the catalog", "check `providers` in your YAML");
        };
        let model = &self.model;
        let Err(error) = chat.check(model).await else {
            let dialect = describe_dialect(chat.recognized_dialect());
            return ReportLine::passed(subject, format!("model {model} answers at {url}; {dialect}"));
        };
        let advice = advice_for(&error, key, &url);
        match self.usage {
            ProviderUsage::NewSessions => ReportLine::failed(subject, format!("model {model}: {error}"), advice),
            ProviderUsage::Optional => ReportLine::notice(subject, format!("model {model}: {error}; {advice}")),
        }
    }
}

/// Returns which rules apply to the requests of a provider.
fn describe_dialect(recognized: Option<RecognizedDialect>) -> String {
    match recognized {
        Some(RecognizedDialect { name, sign }) => format!("its dialect is {name}, by its {sign}"),
        None => "its dialect is not known, so the defaults apply".to_owned(),
    }
}

/// Returns what to do about a failed check.
fn advice_for(error: &ModelError, key: &str, url: &str) -> String {
    match error.kind {
        ModelErrorKind::Auth => format!("check that {key} is valid and may use this model"),
        ModelErrorKind::Quota => format!("check the plan and the credit of {key}"),
        ModelErrorKind::InvalidRequest
        | ModelErrorKind::ContentFiltered
        | ModelErrorKind::ModelNotFound
        | ModelErrorKind::ContextTooLong => {
            format!("check that LLM_MODEL is a model of this provider, and that {url} is its base URL")
        }
        ModelErrorKind::RateLimited | ModelErrorKind::Overloaded => "try again later".to_owned(),
        ModelErrorKind::Network | ModelErrorKind::Timeout => {
            format!("check that {url} can be reached from here (proxy, firewall, base_url)")
        }
        ModelErrorKind::MalformedStream | ModelErrorKind::MalformedToolCall | ModelErrorKind::EmptyReply => {
            format!("check that {url} is the API and not a web page in front of it")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::load_config,
        ProviderUsage::{NewSessions, Optional},
        *,
    };
    use k8sops_models::{ChatRequest, DialectSign, ReplyStream};

    struct ScriptedCheck(Result<(), ModelError>);

    #[async_trait]
    impl ChatModel for ScriptedCheck {
        async fn stream(&self, _: ChatRequest) -> Result<ReplyStream, ModelError> {
            unreachable!("the doctor uses no tokens")
        }
        fn recognized_dialect(&self) -> Option<RecognizedDialect> {
            Some(RecognizedDialect { name: "anthropic".into(), sign: DialectSign::Host })
        }
        async fn check(&self, _: &str) -> Result<(), ModelError> {
            self.0.clone()
        }
    }

    const WITH_KEY: &[(&str, &str)] = &[("ANTHROPIC_API_KEY", "k")];

    async fn report_line(usage: ProviderUsage, env: &[(&str, &str)], result: Result<(), ModelError>) -> String {
        let check = ProviderCheck {
            id: "anthropic".into(),
            config: load_config(env).config.providers.remove("anthropic").unwrap(),
            model: "claude-opus-5-5".into(),
            usage,
            chat: Some(Arc::new(ScriptedCheck(result))),
        };
        Box::new(check).run().await.iter().map(ReportLine::render).collect::<Vec<_>>().join("\n")
    }

    #[tokio::test]
    async fn failing_provider_comes_with_advice() {
        let auth = Err(ModelError::new(ModelErrorKind::Auth, "invalid x-api-key\n(401)"));
        let network = Err(ModelError::new(ModelErrorKind::Network, "connection refused"));
        let lines = [
            report_line(NewSessions, WITH_KEY, Ok(())).await,
            report_line(NewSessions, WITH_KEY, auth.clone()).await,
            report_line(NewSessions, WITH_KEY, network).await,
            report_line(NewSessions, WITH_KEY, Err(ModelError::new(ModelErrorKind::MalformedStream, "no stream")))
                .await,
            report_line(Optional, WITH_KEY, auth).await,
            report_line(NewSessions, &[], Ok(())).await,
            report_line(Optional, &[], Ok(())).await,
        ];
        insta::assert_snapshot!(lines.join("\n"), @"
        ok    provider anthropic: model claude-opus-5-5 answers at https://api.anthropic.com; its dialect is anthropic, by its host
        FAIL  provider anthropic: model claude-opus-5-5: invalid x-api-key (401) — check that ANTHROPIC_API_KEY is valid and may use this model
        FAIL  provider anthropic: model claude-opus-5-5: connection refused — check that https://api.anthropic.com can be reached from here (proxy, firewall, base_url)
        FAIL  provider anthropic: model claude-opus-5-5: no stream — check that https://api.anthropic.com is the API and not a web page in front of it
        note  provider anthropic: model claude-opus-5-5: invalid x-api-key (401); check that ANTHROPIC_API_KEY is valid and may use this model
        FAIL  provider anthropic: the API key is missing — set ANTHROPIC_API_KEY, or choose another provider with LLM_PROVIDER
        note  provider anthropic: not checked: the API key is missing (ANTHROPIC_API_KEY)
        ");
    }

    #[tokio::test]
    async fn secrets_in_the_url_are_masked() {
        let url = "http://me:secret@127.0.0.1:9/v1?token=secret";
        let loaded = load_config(&[("OPENAI_BASE_URL", url), ("OPENAI_API_KEY", "k")]);
        let config = &loaded.config.providers["openai"];
        let malformed = ModelError::new(ModelErrorKind::MalformedStream, "no stream");
        for result in [Ok(()), Err(ModelError::new(ModelErrorKind::Network, "refused")), Err(malformed)] {
            let check = ProviderCheck {
                id: "openai".into(),
                config: config.clone(),
                model: "m".into(),
                usage: NewSessions,
                chat: Some(Arc::new(ScriptedCheck(result))),
            };
            for line in Box::new(check).run().await {
                let line = line.render();
                assert!(line.contains("127.0.0.1:9/v1") && !line.contains("secret"), "{line}");
            }
        }
    }
}
