//! What is remembered of users beyond a session, and how memories are compared.

use std::collections::BTreeMap;

use super::{
    EmbeddingConfig, LongTermConfig, ProviderConfig, ProviderProtocol,
    load::Loader,
    parse::{self, shown},
};

/// The embedding models of those who have one that everybody takes.
const DEFAULTS: [(&str, &str); 2] = [("openai", "text-embedding-3-small"), ("ollama", "nomic-embed-text")];

impl Loader {
    /// The settings under `memory.long_term` and `memory.embeddings`; the latter count only when there is a long-term memory.
    pub(super) fn long_term(&mut self, providers: &BTreeMap<String, ProviderConfig>) -> LongTermConfig {
        let enabled = self.required("memory.long_term.enabled", parse::boolean);
        let max_memories = self.required("memory.long_term.max_memories", parse::positive);
        let provider = self.optional("memory.embeddings.provider", |t| Some(t.to_owned()));
        let origin = self.last_origin();
        let model = self.optional("memory.embeddings.model", |t| (t.len() <= 200).then(|| t.to_owned()));
        let dimensions = self.optional("memory.embeddings.dims", parse::positive);
        let Some(provider) = provider else {
            if enabled {
                let words =
                    "EMBEDDING_PROVIDER is not set: memories are compared by their words, not by what they mean";
                self.warnings.push(words.into());
            }
            return LongTermConfig { enabled, max_memories, embeddings: None };
        };
        let able = |config: &ProviderConfig| config.protocol != ProviderProtocol::Anthropic;
        let Some(config) = providers.get(&provider).filter(|config| able(config)) else {
            let able: Vec<_> = providers.iter().filter(|(_, config)| able(config)).map(|(id, _)| id.as_str()).collect();
            self.wrong("memory.embeddings.provider", &shown(&provider), &origin, &able.join(", "));
            return LongTermConfig { enabled, max_memories, embeddings: None };
        };
        if !enabled {
            return LongTermConfig { enabled, max_memories, embeddings: None };
        }
        if config.api_key.is_none() && !config.key_optional {
            self.warnings.push(format!(
                "{} is the provider of embeddings and has no key: set {}; until then memories are compared by their words",
                config.name, config.key_variable
            ));
        }
        let known = DEFAULTS.iter().find(|(id, _)| *id == provider).map(|(_, model)| (*model).to_owned());
        let model = model.or(known).unwrap_or_else(|| {
            self.problems.push(format!(
                "EMBEDDING_PROVIDER is {provider}, and EMBEDDING_MODEL is not set; name one of its models"
            ));
            String::new()
        });
        LongTermConfig { enabled, max_memories, embeddings: Some(EmbeddingConfig { provider, model, dimensions }) }
    }
}
