//! Whole outputs of tool calls: one hash per session, so that they are deleted with the session in one step. An output is in
//! compressed chunks: what clusters print is mostly repetition.

use std::{
    io::{Read, Write},
    sync::Arc,
};

use async_trait::async_trait;
use flate2::{Compression, read::DeflateDecoder, write::DeflateEncoder};
use serde::{Deserialize, Serialize};

use super::{
    lost_keys::of_shared_key,
    offload::offload_large,
    scripts::{OutputField, OutputsReply, WriteOutputs},
    store::RedisStore,
};
use crate::output_limit::{count_outputs_to_drop, truncate_output};
use k8sops_core::{OutputPart, OutputStore, SessionId, StoreError, ToolCallId};

/// Uncompressed bytes of a chunk. Small enough that the server is not busy with one for long.
const CHUNK_BYTES: usize = 256 * 1024;
/// The field with the list of outputs.
const LIST_FIELD: &str = "list";

/// An output in the list, which has the oldest output first.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct SavedOutput {
    call: ToolCallId,
    bytes: u64,
}

impl SavedOutput {
    fn chunk_count(&self) -> u64 {
        self.bytes.div_ceil(CHUNK_BYTES as u64)
    }

    fn chunk_fields(&self) -> impl Iterator<Item = String> + '_ {
        (0..self.chunk_count()).map(|n| chunk_field(&self.call, n))
    }
}

fn chunk_field(call: &ToolCallId, chunk: u64) -> String {
    format!("{call}:{chunk}")
}

impl RedisStore {
    async fn list_saved_outputs(&self, session: SessionId) -> Result<Vec<SavedOutput>, StoreError> {
        let list: Option<Vec<u8>> =
            self.reads.query(redis::cmd("HGET").arg(self.keys.outputs(session)).arg(LIST_FIELD)).await?;
        list.map_or(Ok(Vec::new()), |list| {
            serde_json::from_slice(&list).map_err(|error| StoreError::corrupt("the list of outputs", error))
        })
    }

    /// Deletes and writes fields of the outputs of a session.
    async fn write_output_fields(
        &self,
        session: SessionId,
        dropped_fields: Vec<String>,
        written_field: OutputField,
    ) -> Result<(), StoreError> {
        let write = WriteOutputs {
            meta_key: self.keys.meta(session),
            outputs_key: self.keys.outputs(session),
            session_ttl_ms: self.session_ttl,
            dropped_fields,
            written_fields: vec![written_field],
        };
        match self.bulk_writes.run_script(&write).await? {
            OutputsReply::Written => Ok(()),
            OutputsReply::NotFound => Err(self.registry.missing_session(session).await),
        }
    }
}

#[async_trait]
impl OutputStore for RedisStore {
    async fn deployment_key(&self) -> Result<[u8; 32], StoreError> {
        let key = k8sops_core::random_key();
        let name = self.keys.deployment_key();
        self.writes.query::<()>(redis::cmd("SET").arg(&name).arg(&key[..]).arg("NX")).await?;
        let stored = self.writes.query::<Vec<u8>>(redis::cmd("GET").arg(&name)).await;
        let stored = stored
            .and_then(|stored| stored.try_into().map_err(|_| StoreError::Corrupt("it is not 32 bytes long".into())));
        let stored = stored.map_err(of_shared_key(&name))?;
        self.registry.record_deployment_key(true);
        Ok(stored)
    }

    async fn save_output(
        &self,
        session: SessionId,
        call: &ToolCallId,
        output: Arc<str>,
        room: usize,
    ) -> Result<u64, StoreError> {
        let kept = truncate_output(&output, room).len();
        let mut list = self.list_saved_outputs(session).await?;
        list.retain(|other| &other.call != call);
        let dropped_count = count_outputs_to_drop(list.iter().map(|other| other.bytes), kept as u64, room as u64);
        let dropped_fields =
            list.drain(..dropped_count).flat_map(|old| old.chunk_fields().collect::<Vec<_>>()).collect();
        let saved = SavedOutput { call: call.clone(), bytes: kept as u64 };
        // The list comes first: chunks that the list does not name could never be dropped.
        list.push(saved.clone());
        let list = serde_json::to_vec(&list).map_err(|error| StoreError::corrupt("the list of outputs", error))?;
        let list_field = OutputField { name: LIST_FIELD.to_owned(), value: list };
        self.write_output_fields(session, dropped_fields, list_field).await?;
        for (n, name) in saved.chunk_fields().enumerate() {
            let output = output.clone();
            let range = n * CHUNK_BYTES..((n + 1) * CHUNK_BYTES).min(kept);
            let compressed = tokio::task::spawn_blocking(move || compress_chunk(&output.as_bytes()[range])).await;
            let value =
                compressed.map_err(|error| StoreError::unavailable("compression of an output failed", error))?;
            self.write_output_fields(session, Vec::new(), OutputField { name, value }).await?;
        }
        Ok(kept as u64)
    }

    async fn read_output(
        &self,
        session: SessionId,
        call: &ToolCallId,
        offset: u64,
        limit: usize,
    ) -> Result<Option<OutputPart>, StoreError> {
        let saved_outputs = self.list_saved_outputs(session).await?;
        let Some(saved) = saved_outputs.into_iter().find(|saved| &saved.call == call) else {
            return Ok(None);
        };
        let total = saved.bytes;
        let end = offset.saturating_add(limit as u64).min(total);
        if offset >= end {
            return Ok(Some(OutputPart { bytes: Vec::new(), total }));
        }
        let chunk_bytes = CHUNK_BYTES as u64;
        let first_chunk = offset / chunk_bytes;
        let mut read = redis::cmd("HMGET");
        read.arg(self.keys.outputs(session));
        for n in first_chunk..=(end - 1) / chunk_bytes {
            read.arg(chunk_field(call, n));
        }
        let chunks: Vec<Option<Vec<u8>>> = self.bulk_reads.query(&read).await?;
        // Without all chunks, the output is being written, or its writer crashed.
        let Some(chunks) = chunks.into_iter().collect::<Option<Vec<_>>>() else { return Ok(None) };
        let length = usize::try_from(end - offset).unwrap_or(usize::MAX);
        let skip = usize::try_from(offset - first_chunk * chunk_bytes).unwrap_or(usize::MAX);
        let decompress = move || {
            let mut bytes = Vec::new();
            for chunk in chunks {
                decompress_chunk(&chunk, &mut bytes)?;
            }
            bytes.drain(..skip.min(bytes.len()));
            bytes.truncate(length);
            Ok(bytes)
        };
        let bytes = offload_large(length, decompress).await?;
        Ok(Some(OutputPart { bytes, total }))
    }
}

fn compress_chunk(plain: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    // Writing to a `Vec` does not fail.
    let compressed = encoder.write_all(plain).and_then(|()| encoder.finish());
    compressed.unwrap_or_default()
}

fn decompress_chunk(compressed: &[u8], into: &mut Vec<u8>) -> Result<(), StoreError> {
    let read = DeflateDecoder::new(compressed).take(CHUNK_BYTES as u64).read_to_end(into);
    read.map(drop).map_err(|error| StoreError::corrupt("a saved output cannot be decompressed", error))
}
