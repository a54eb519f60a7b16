//! Where sessions are kept, and what is remembered of users beyond a session.

use std::collections::BTreeMap;

use k8sops_agent::{EmbeddingOptions, LongTermMemoryOptions};
use k8sops_core::printable_excerpt;
use k8sops_models::{ProviderOptions, ProviderProtocol};
use k8sops_settings::SettingReader;
use k8sops_store::StoreOptions;

/// Embedding models of the providers that have a customary one.
const DEFAULT_EMBEDDING_MODELS: [(&str, &str); 2] =
    [("openai", "text-embedding-3-small"), ("ollama", "nomic-embed-text")];

/// Long-term memory of users.
#[derive(Debug, Clone)]
pub struct LongTermConfig {
    /// Whether memories are recalled and kept.
    pub enabled: bool,
    /// Most memories that a message recalls.
    pub max_memories: usize,
    /// The embedding model; `None`: memories are compared by their words alone.
    pub embeddings: Option<EmbeddingConfig>,
}

/// An embedding model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddingConfig {
    /// Id of a configured provider.
    pub provider: String,
    /// Id of the model.
    pub model: String,
    /// Length of its vectors, if it is chosen; a vector of another length is an error.
    pub dimensions: Option<usize>,
}

impl LongTermConfig {
    /// Reads the sections. The embedding model counts only where long-term memory is enabled.
    pub(super) fn read_settings(reader: &mut SettingReader, providers: &BTreeMap<String, ProviderOptions>) -> Self {
        let LongTermMemoryOptions { enabled, max_memories } = reader.read_section();
        let options: EmbeddingOptions = reader.read_section();
        let embeddings = select_embedding_model(reader, options, enabled, providers);
        Self { enabled, max_memories, embeddings }
    }
}

fn select_embedding_model(
    reader: &mut SettingReader,
    options: EmbeddingOptions,
    enabled: bool,
    providers: &BTreeMap<String, ProviderOptions>,
) -> Option<EmbeddingConfig> {
    let Some(provider) = options.provider else {
        if enabled {
            reader.report_warning(
                "EMBEDDING_PROVIDER is not set: memories are compared by their words, not by what they mean",
            );
        }
        return None;
    };
    let has_embeddings = |config: &ProviderOptions| config.protocol != ProviderProtocol::Anthropic;
    let Some(config) = providers.get(&provider).filter(|config| has_embeddings(config)) else {
        let able = providers.iter().filter(|(_, config)| has_embeddings(config)).map(|(id, _)| id.as_str());
        let allowed = able.collect::<Vec<_>>().join(", ");
        let origin = reader.origin_of("memory.embeddings.provider");
        reader.report_invalid("memory.embeddings.provider", &printable_excerpt(&provider), &origin, &allowed);
        return None;
    };
    if !enabled {
        return None;
    }
    if config.api_key.is_none() && !config.key_optional {
        reader.report_warning(format!(
            "{} is the provider of embeddings and has no key: set {}; until then memories are compared by their words",
            config.name, config.key_variable
        ));
    }
    let customary = DEFAULT_EMBEDDING_MODELS.iter().find(|(id, _)| *id == provider).map(|(_, model)| *model);
    let Some(model) = options.model.or_else(|| customary.map(str::to_owned)) else {
        reader.report_problem(format!(
            "EMBEDDING_PROVIDER is {provider}, and EMBEDDING_MODEL is not set; name one of its models"
        ));
        return None;
    };
    Some(EmbeddingConfig { provider, model, dimensions: options.dims })
}

/// Expands a `~` at the beginning of the directory of the filesystem store.
pub(super) fn expand_store_path(mut store: StoreOptions, reader: &mut SettingReader) -> StoreOptions {
    match reader.expand_home(&store.path) {
        Some(path) => store.path = path,
        None => reader.report_problem(format!(
            "memory.path is `{}`, but HOME is not set; set MEMORY_FILESYSTEM_PATH to a path without ~",
            store.path.display()
        )),
    }
    store
}
