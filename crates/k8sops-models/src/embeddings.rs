//! Embeddings: texts as vectors, from OpenAI's API (and every server that speaks it) or Ollama's.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use http::header;
use k8sops_core::EmbeddingVector;
use serde_json::{Value, json};

use crate::{
    ModelError, ModelErrorKind, ProviderOptions, ProviderProtocol,
    error_mapping::ProviderCall,
    http_client::{AZURE_API_KEY, ProviderHttpClient},
};

/// Texts per request. Servers accept a few hundred at most, and a long request delays those after it.
const BATCH_SIZE: usize = 64;
/// Bytes that are sent of one text. The models read a few hundred tokens, and servers reject more.
const MAX_TEXT_BYTES: usize = 1500;

/// A model that converts texts to vectors.
#[async_trait]
pub trait EmbeddingModel: Send + Sync + 'static {
    /// Returns the name of the vector space. Vectors of different names cannot be compared.
    fn name(&self) -> &str;

    /// Returns the number of dimensions of the vectors, if known.
    fn dimensions(&self) -> Option<usize> {
        None
    }

    /// Returns one vector of length 1 for each text, in the order of the texts.
    ///
    /// # Errors
    /// Returns the provider's error, or an error if the vectors are not as requested.
    async fn embed(&self, texts: &[String]) -> Result<Vec<EmbeddingVector>, ModelError>;
}

/// An embedding model of a configured provider.
pub struct ProviderEmbedder {
    client: ProviderHttpClient,
    model: String,
    name: Arc<str>,
    is_ollama: bool,
    /// The number of dimensions to request, and to expect in the response.
    dimensions: Option<usize>,
    /// The number of dimensions of the first vector, if none was requested.
    observed_dimensions: OnceLock<usize>,
}

impl ProviderEmbedder {
    /// Creates a client for a model of the provider `id`. If `dimensions` is set, vectors of that many dimensions are
    /// requested.
    ///
    /// # Errors
    /// Returns an error if the provider's protocol has no embeddings.
    pub fn new(id: &str, config: &ProviderOptions, model: &str, dimensions: Option<usize>) -> Result<Self, ModelError> {
        if config.protocol == ProviderProtocol::Anthropic {
            let message = format!(
                "{} does not provide embeddings. Choose a provider that speaks OpenAI's or Ollama's API.",
                config.name
            );
            return Err(ModelError::new(ModelErrorKind::InvalidRequest, message));
        }
        Ok(Self {
            client: ProviderHttpClient::new(config),
            model: model.to_owned(),
            name: format!("{id}/{model}").into(),
            is_ollama: config.protocol == ProviderProtocol::Ollama,
            dimensions,
            observed_dimensions: OnceLock::new(),
        })
    }

    async fn embed_batch(&self, call: &ProviderCall, texts: &[String]) -> Result<Vec<Vec<f32>>, ModelError> {
        let input: Vec<&str> = texts.iter().map(|text| &text[..text.floor_char_boundary(MAX_TEXT_BYTES)]).collect();
        let headers = self.client.request_headers(|client, key| {
            if client.is_azure() {
                vec![(AZURE_API_KEY, key.to_owned())]
            } else {
                vec![(header::AUTHORIZATION, format!("Bearer {key}"))]
            }
        })?;
        let (path, body): (&[&str], Value) = if self.is_ollama {
            (&["api", "embed"], json!({"model": self.model, "input": input}))
        } else {
            let mut body = json!({"model": self.model, "input": input, "encoding_format": "float"});
            if let Some(dimensions) = self.dimensions {
                body["dimensions"] = json!(dimensions);
            }
            (&["embeddings"], body)
        };
        let response = self.client.post_for_json(call, path, headers, &body).await?;
        let vectors = if self.is_ollama { parse_ollama_vectors(&response) } else { parse_openai_vectors(&response) };
        vectors.filter(|vectors| vectors.len() == texts.len()).ok_or_else(|| {
            call.malformed_error(&format!(
                "{} texts were sent, but a different number of vectors was returned",
                texts.len()
            ))
        })
    }

    /// Checks the dimensions of a vector and scales it to length 1.
    fn normalize_vector(&self, call: &ProviderCall, values: Vec<f32>) -> Result<EmbeddingVector, ModelError> {
        let expected = self.dimensions.unwrap_or_else(|| *self.observed_dimensions.get_or_init(|| values.len()));
        if values.len() != expected {
            let message = format!(
                "`{}` at {} returns vectors of {} dimensions instead of {expected}. Set EMBEDDING_DIMS to the dimensions \
                 of the model, or unset it.",
                self.model,
                call.provider_label(),
                values.len()
            );
            return Err(ModelError::new(ModelErrorKind::InvalidRequest, message));
        }
        let length = values.iter().map(|v| v * v).sum::<f32>().sqrt();
        if !length.is_finite() || length == 0.0 {
            return Err(call.malformed_error("the length of a vector is zero or not finite"));
        }
        let values: Arc<[f32]> = values.into_iter().map(|v| v / length).collect();
        Ok(EmbeddingVector { model: Arc::clone(&self.name), values })
    }
}

#[async_trait]
impl EmbeddingModel for ProviderEmbedder {
    fn name(&self) -> &str {
        &self.name
    }

    fn dimensions(&self) -> Option<usize> {
        self.dimensions.or_else(|| self.observed_dimensions.get().copied())
    }

    async fn embed(&self, texts: &[String]) -> Result<Vec<EmbeddingVector>, ModelError> {
        let call = self.client.provider_call(&self.model);
        let mut vectors = Vec::with_capacity(texts.len());
        for batch in texts.chunks(BATCH_SIZE) {
            for values in self.embed_batch(&call, batch).await? {
                vectors.push(self.normalize_vector(&call, values)?);
            }
        }
        Ok(vectors)
    }
}

/// Parses `{"data": [{"index": 0, "embedding": [..]}, ..]}`, ordered by index.
fn parse_openai_vectors(response: &Value) -> Option<Vec<Vec<f32>>> {
    let data = response.get("data")?.as_array()?;
    let mut vectors: Vec<(u64, Vec<f32>)> = data
        .iter()
        .enumerate()
        .map(|(at, item)| {
            let index = item.get("index").and_then(Value::as_u64).unwrap_or(at as u64);
            Some((index, parse_numbers(item.get("embedding")?)?))
        })
        .collect::<Option<_>>()?;
    vectors.sort_by_key(|(index, _)| *index);
    Some(vectors.into_iter().map(|(_, vector)| vector).collect())
}

/// Parses `{"embeddings": [[..], ..]}`. Some servers return `embedding` for a single text.
fn parse_ollama_vectors(response: &Value) -> Option<Vec<Vec<f32>>> {
    match response.get("embeddings").or_else(|| response.get("embedding"))?.as_array()?.as_slice() {
        [first, ..] if first.is_number() => Some(vec![parse_numbers(response.get("embedding")?)?]),
        vectors => vectors.iter().map(parse_numbers).collect(),
    }
}

fn parse_numbers(value: &Value) -> Option<Vec<f32>> {
    #[allow(clippy::cast_possible_truncation, reason = "a vector's values are of single precision")]
    let number = |value: &Value| value.as_f64().map(|number| number as f32);
    value.as_array()?.iter().map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        test_support,
        test_support::{ScriptedProvider, ScriptedResponse},
    };

    fn texts(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("text {n}")).collect()
    }

    fn response(body: &Value) -> ScriptedResponse {
        ScriptedResponse::plain(200, "content-type: application/json\r\n", &body.to_string())
    }

    fn embedder(server: &ScriptedProvider, protocol: ProviderProtocol, dimensions: Option<usize>) -> ProviderEmbedder {
        let base = if protocol == ProviderProtocol::Ollama { server.url.clone() } else { format!("{}/v1", server.url) };
        ProviderEmbedder::new("p", &test_support::provider_config(protocol, &base), "minilm", dimensions).unwrap()
    }

    #[tokio::test]
    async fn vectors_keep_text_order_and_have_unit_length() {
        let body = json!({"data": [{"index": 1, "embedding": [0.0, 2.0]}, {"index": 0, "embedding": [3.0, 4.0]}]});
        let server = ScriptedProvider::start([response(&body)]).await;
        let vectors = embedder(&server, ProviderProtocol::OpenaiChat, None).embed(&texts(2)).await.unwrap();
        assert_eq!((&*vectors[0].values, &*vectors[1].values), (&[0.6, 0.8][..], &[0.0, 1.0][..]));
        assert_eq!(&*vectors[0].model, "p/minilm");
        let sent = &server.received()[0];
        assert!(sent.head.starts_with("POST /v1/embeddings "), "{}", sent.head);
        assert_eq!(sent.body, json!({"model": "minilm", "input": ["text 0", "text 1"], "encoding_format": "float"}));
    }

    #[tokio::test]
    async fn ollama_uses_its_own_endpoint() {
        let server = ScriptedProvider::start([
            response(&json!({"embeddings": [[3.0, 4.0]]})),
            response(&json!({"embedding": [0.0, 1.0]})),
        ])
        .await;
        let embedder = embedder(&server, ProviderProtocol::Ollama, None);
        for first in [0.6, 0.0] {
            assert!((embedder.embed(&texts(1)).await.unwrap()[0].values[0] - first).abs() < 1e-6);
        }
        assert!(server.received()[0].head.starts_with("POST /api/embed "));
    }

    #[tokio::test]
    async fn texts_are_batched_and_truncated() {
        let batch = |count: usize| {
            let data: Vec<Value> = (0..count).map(|n| json!({"index": n, "embedding": [1.0]})).collect();
            response(&json!({ "data": data }))
        };
        let server = ScriptedProvider::start([batch(BATCH_SIZE), batch(2)]).await;
        let mut many = texts(BATCH_SIZE + 2);
        many[BATCH_SIZE + 1] = "é".repeat(5000);
        assert_eq!(
            embedder(&server, ProviderProtocol::OpenaiChat, None).embed(&many).await.unwrap().len(),
            BATCH_SIZE + 2
        );
        let last = server.received()[1].body["input"][1].as_str().unwrap().len();
        assert_eq!(last, MAX_TEXT_BYTES);
    }

    #[tokio::test]
    async fn unexpected_vectors_are_rejected_with_remedy() {
        let one = |values: Value| response(&json!({"data": [{"embedding": values}]}));
        let server = ScriptedProvider::start([
            one(json!([1.0, 0.0])),
            one(json!([1.0, 0.0, 0.0])),
            one(json!([0.0, 0.0])),
            response(&json!({"data": []})),
        ])
        .await;
        let embedder = embedder(&server, ProviderProtocol::OpenaiChat, None);
        embedder.embed(&texts(1)).await.unwrap();
        let error = embedder.embed(&texts(1)).await.unwrap_err();
        assert!(
            matches!(&error, ModelError { kind: ModelErrorKind::InvalidRequest, message: m, .. } if m.contains("3 dimensions instead of 2")),
            "{error:?}"
        );
        for _ in 0..2 {
            assert!(matches!(
                embedder.embed(&texts(1)).await,
                Err(ModelError { kind: ModelErrorKind::MalformedStream, .. })
            ));
        }
        let server = ScriptedProvider::start([one(json!([1.0, 0.0]))]).await;
        let strict = super::tests::embedder(&server, ProviderProtocol::OpenaiChat, Some(384));
        let error = strict.embed(&texts(1)).await.unwrap_err();
        assert!(error.to_string().contains("EMBEDDING_DIMS"), "{error}");
        assert_eq!(server.received()[0].body["dimensions"], 384);
        let anthropic = test_support::provider_config(ProviderProtocol::Anthropic, "http://127.0.0.1:1");
        assert!(ProviderEmbedder::new("a", &anthropic, "m", None).is_err());
    }
}
