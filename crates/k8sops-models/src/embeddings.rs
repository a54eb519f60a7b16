//! Embeddings: the meaning of a text as a vector, from OpenAI's API (and every server that speaks it) or Ollama's.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use http::header;
use serde_json::{Value, json};

use super::{
    ModelError,
    fault::Call,
    http::{self as wire, Endpoint},
};
use crate::{ProviderConfig, ProviderProtocol};
use k8sops_core::EmbeddingVector;

/// Texts of one call: servers take some hundreds at most, and a long call would hold up those behind it.
const BATCH: usize = 64;
/// Characters that are sent of one text; the models take some hundreds of tokens, and servers refuse more.
const MOST_CHARS: usize = 1500;

/// What makes vectors of texts.
#[async_trait]
pub trait EmbeddingModel: Send + Sync + 'static {
    /// What vectors are named by: those of another name cannot be compared with its own.
    fn name(&self) -> &str;

    /// How many values its vectors have, as far as that is known.
    fn dimensions(&self) -> Option<usize> {
        None
    }

    /// The vectors of texts, in their order, each of length 1.
    ///
    /// # Errors
    /// Any of a provider's; and vectors that are not what was asked for.
    async fn embed(&self, texts: &[String]) -> Result<Vec<EmbeddingVector>, ModelError>;
}

/// An embedding model of a configured provider.
pub struct ProviderEmbedder {
    endpoint: Endpoint,
    model: String,
    name: Arc<str>,
    ollama: bool,
    /// Asked of the provider, and held against what it gives.
    dimensions: Option<usize>,
    /// What it gives, once it has.
    found: OnceLock<usize>,
}

impl ProviderEmbedder {
    /// A model of the provider `id`, with vectors of `dimensions` if that is said.
    ///
    /// # Errors
    /// The provider's protocol has no embeddings.
    pub fn new(id: &str, config: &ProviderConfig, model: &str, dimensions: Option<usize>) -> Result<Self, ModelError> {
        if config.protocol == ProviderProtocol::Anthropic {
            return Err(ModelError::InvalidRequest(format!(
                "{} has no embeddings; choose a provider that speaks OpenAI's or Ollama's API",
                config.name
            )));
        }
        Ok(Self {
            endpoint: Endpoint::new(config),
            model: model.to_owned(),
            name: format!("{id}/{model}").into(),
            ollama: config.protocol == ProviderProtocol::Ollama,
            dimensions,
            found: OnceLock::new(),
        })
    }

    async fn batch(&self, call: &Call, texts: &[String]) -> Result<Vec<Vec<f32>>, ModelError> {
        let input: Vec<&str> = texts.iter().map(|text| &text[..text.floor_char_boundary(MOST_CHARS)]).collect();
        let headers = self.endpoint.authorise(|endpoint, key| {
            if endpoint.is_azure() {
                vec![(wire::AZURE_KEY, key.to_owned())]
            } else {
                vec![(header::AUTHORIZATION, format!("Bearer {key}"))]
            }
        })?;
        let (path, body): (&[&str], Value) = if self.ollama {
            (&["api", "embed"], json!({"model": self.model, "input": input}))
        } else {
            let mut body = json!({"model": self.model, "input": input, "encoding_format": "float"});
            if let Some(dimensions) = self.dimensions {
                body["dimensions"] = json!(dimensions);
            }
            (&["embeddings"], body)
        };
        let answer = self.endpoint.ask(call, path, headers, &body).await?;
        let vectors = if self.ollama { of_ollama(&answer) } else { of_openai(&answer) };
        vectors.filter(|vectors| vectors.len() == texts.len()).ok_or_else(|| {
            call.malformed(&format!("{} texts were sent, and not as many vectors came back", texts.len()))
        })
    }

    /// A vector of length 1, if it is one of this model.
    fn checked(&self, call: &Call, values: Vec<f32>) -> Result<EmbeddingVector, ModelError> {
        let expected = self.dimensions.unwrap_or_else(|| *self.found.get_or_init(|| values.len()));
        if values.len() != expected {
            return Err(ModelError::InvalidRequest(format!(
                "`{}` at {} gives vectors of {} dimensions, not of {expected}. Set EMBEDDING_DIMS to what it gives, or \
                 leave it out.",
                self.model,
                call.who(),
                values.len()
            )));
        }
        let length = values.iter().map(|v| v * v).sum::<f32>().sqrt();
        if !length.is_finite() || length == 0.0 {
            return Err(call.malformed("a vector has no length"));
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
        self.dimensions.or_else(|| self.found.get().copied())
    }

    async fn embed(&self, texts: &[String]) -> Result<Vec<EmbeddingVector>, ModelError> {
        let call = self.endpoint.call(&self.model);
        let mut vectors = Vec::with_capacity(texts.len());
        for batch in texts.chunks(BATCH) {
            for values in self.batch(&call, batch).await? {
                vectors.push(self.checked(&call, values)?);
            }
        }
        Ok(vectors)
    }
}

/// `{"data": [{"index": 0, "embedding": [..]}, ..]}`; the order is that of the indices.
fn of_openai(answer: &Value) -> Option<Vec<Vec<f32>>> {
    let data = answer.get("data")?.as_array()?;
    let mut vectors: Vec<(u64, Vec<f32>)> = data
        .iter()
        .enumerate()
        .map(|(at, item)| {
            let index = item.get("index").and_then(Value::as_u64).unwrap_or(at as u64);
            Some((index, numbers(item.get("embedding")?)?))
        })
        .collect::<Option<_>>()?;
    vectors.sort_by_key(|(index, _)| *index);
    Some(vectors.into_iter().map(|(_, vector)| vector).collect())
}

/// `{"embeddings": [[..], ..]}`; from some servers `embedding`, for one text.
fn of_ollama(answer: &Value) -> Option<Vec<Vec<f32>>> {
    match answer.get("embeddings").or_else(|| answer.get("embedding"))?.as_array()?.as_slice() {
        [first, ..] if first.is_number() => Some(vec![numbers(answer.get("embedding")?)?]),
        vectors => vectors.iter().map(numbers).collect(),
    }
}

fn numbers(value: &Value) -> Option<Vec<f32>> {
    #[allow(clippy::cast_possible_truncation, reason = "a vector's values are of single precision")]
    let number = |value: &Value| value.as_f64().map(|number| number as f32);
    value.as_array()?.iter().map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        testing,
        testing::{Answer, Server},
    };

    fn texts(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("text {n}")).collect()
    }

    fn answer(body: &Value) -> Answer {
        Answer::plain(200, "content-type: application/json\r\n", &body.to_string())
    }

    fn embedder(server: &Server, protocol: ProviderProtocol, dimensions: Option<usize>) -> ProviderEmbedder {
        let base = if protocol == ProviderProtocol::Ollama { server.url.clone() } else { format!("{}/v1", server.url) };
        ProviderEmbedder::new("p", &testing::provider(protocol, &base), "minilm", dimensions).unwrap()
    }

    #[tokio::test]
    async fn vectors_have_the_order_of_their_texts_and_length_one() {
        let body = json!({"data": [{"index": 1, "embedding": [0.0, 2.0]}, {"index": 0, "embedding": [3.0, 4.0]}]});
        let server = Server::start([answer(&body)]).await;
        let vectors = embedder(&server, ProviderProtocol::OpenaiChat, None).embed(&texts(2)).await.unwrap();
        assert_eq!((&*vectors[0].values, &*vectors[1].values), (&[0.6, 0.8][..], &[0.0, 1.0][..]));
        assert_eq!(&*vectors[0].model, "p/minilm");
        let sent = &server.received()[0];
        assert!(sent.head.starts_with("POST /v1/embeddings "), "{}", sent.head);
        assert_eq!(sent.body, json!({"model": "minilm", "input": ["text 0", "text 1"], "encoding_format": "float"}));
    }

    #[tokio::test]
    async fn ollama_is_asked_in_its_own_way() {
        let server =
            Server::start([answer(&json!({"embeddings": [[3.0, 4.0]]})), answer(&json!({"embedding": [0.0, 1.0]}))])
                .await;
        let embedder = embedder(&server, ProviderProtocol::Ollama, None);
        for first in [0.6, 0.0] {
            assert!((embedder.embed(&texts(1)).await.unwrap()[0].values[0] - first).abs() < 1e-6);
        }
        assert!(server.received()[0].head.starts_with("POST /api/embed "));
    }

    #[tokio::test]
    async fn many_texts_go_in_batches_and_long_ones_are_cut() {
        let batch = |count: usize| {
            let data: Vec<Value> = (0..count).map(|n| json!({"index": n, "embedding": [1.0]})).collect();
            answer(&json!({ "data": data }))
        };
        let server = Server::start([batch(BATCH), batch(2)]).await;
        let mut many = texts(BATCH + 2);
        many[BATCH + 1] = "é".repeat(5000);
        assert_eq!(embedder(&server, ProviderProtocol::OpenaiChat, None).embed(&many).await.unwrap().len(), BATCH + 2);
        let last = server.received()[1].body["input"][1].as_str().unwrap().len();
        assert_eq!(last, MOST_CHARS);
    }

    #[tokio::test]
    async fn vectors_that_are_not_as_expected_are_refused_with_what_to_do() {
        let one = |values: Value| answer(&json!({"data": [{"embedding": values}]}));
        let server = Server::start([
            one(json!([1.0, 0.0])),
            one(json!([1.0, 0.0, 0.0])),
            one(json!([0.0, 0.0])),
            answer(&json!({"data": []})),
        ])
        .await;
        let embedder = embedder(&server, ProviderProtocol::OpenaiChat, None);
        embedder.embed(&texts(1)).await.unwrap();
        let error = embedder.embed(&texts(1)).await.unwrap_err();
        assert!(matches!(&error, ModelError::InvalidRequest(m) if m.contains("3 dimensions, not of 2")), "{error:?}");
        for _ in 0..2 {
            assert!(matches!(embedder.embed(&texts(1)).await, Err(ModelError::MalformedStream(_))));
        }
        let server = Server::start([one(json!([1.0, 0.0]))]).await;
        let strict = super::tests::embedder(&server, ProviderProtocol::OpenaiChat, Some(384));
        let error = strict.embed(&texts(1)).await.unwrap_err();
        assert!(error.to_string().contains("EMBEDDING_DIMS"), "{error}");
        assert_eq!(server.received()[0].body["dimensions"], 384);
        let anthropic = testing::provider(ProviderProtocol::Anthropic, "http://127.0.0.1:1");
        assert!(ProviderEmbedder::new("a", &anthropic, "m", None).is_err());
    }
}
