//! Whole outputs of tool calls: one hash for each session, so that they go with it in one step. An output is in pieces, each
//! compressed: what clusters print is mostly repetition.

use std::{
    io::{Read, Write},
    sync::Arc,
};

use async_trait::async_trait;
use flate2::{Compression, read::DeflateDecoder, write::DeflateEncoder};
use redis::FromRedisValue;
use serde::{Deserialize, Serialize};

use super::{RedisStore, scripts::SCRIPTS};
use crate::outputs::{beginning, dropped};
use k8sops_core::{OutputPart, OutputStore, SessionId, StoreError, ToolCallId};

/// Plain bytes of a piece. Small enough that writing one does not hold up what others write.
const PIECE: usize = 256 * 1024;
/// The field with the list of outputs.
const LIST: &str = "list";

/// An output in the list; the list is in their order.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    call: ToolCallId,
    bytes: u64,
}

impl Kept {
    fn pieces(&self) -> u64 {
        self.bytes.div_ceil(PIECE as u64)
    }

    fn fields(&self) -> impl Iterator<Item = String> + '_ {
        (0..self.pieces()).map(|n| field(&self.call, n))
    }
}

fn field(call: &ToolCallId, piece: u64) -> String {
    format!("{call}:{piece}")
}

impl RedisStore {
    async fn outputs(&self, session: SessionId) -> Result<Vec<Kept>, StoreError> {
        let list: Option<Vec<u8>> =
            self.reads.ask(redis::cmd("HGET").arg(self.keys.outputs(session)).arg(LIST) as &_).await?;
        list.map_or(Ok(Vec::new()), |list| {
            serde_json::from_slice(&list).map_err(|error| StoreError::corrupt("the list of outputs", error))
        })
    }

    /// Writes and drops fields, if the session is there.
    async fn write_outputs(
        &self,
        session: SessionId,
        drop: &[String],
        write: &[(String, Vec<u8>)],
    ) -> Result<(), StoreError> {
        let (count, ttl) = (drop.len().to_string(), self.session_ttl.to_string());
        let mut args: Vec<&[u8]> = vec![ttl.as_bytes(), count.as_bytes()];
        args.extend(drop.iter().map(String::as_bytes));
        for (field, value) in write {
            args.push(field.as_bytes());
            args.push(value);
        }
        let keys = [self.keys.meta(session), self.keys.outputs(session)];
        self.run(&SCRIPTS.outputs, &keys, &args).await?.expect_ok(session, None)
    }
}

#[async_trait]
impl OutputStore for RedisStore {
    async fn deployment_key(&self) -> Result<[u8; 32], StoreError> {
        let key = k8sops_core::random_key();
        let name = self.keys.deployment_key();
        let mut set = redis::cmd("SET");
        set.arg(&name).arg(&key[..]).arg("NX");
        self.writes.ask::<redis::Value>(&set).await?;
        let stored: Vec<u8> = self.writes.ask(redis::cmd("GET").arg(&name) as &_).await?;
        stored.try_into().map_err(|_| StoreError::Corrupt(format!("the key {name} is not 32 bytes long").into()))
    }

    async fn save_output(
        &self,
        session: SessionId,
        call: &ToolCallId,
        output: Arc<str>,
        room: usize,
    ) -> Result<u64, StoreError> {
        let kept = beginning(&output, room).len();
        let mut list = self.outputs(session).await?;
        list.retain(|other| &other.call != call);
        let gone = dropped(list.iter().map(|other| other.bytes), kept as u64, room as u64);
        let fields: Vec<String> = list.drain(..gone).flat_map(|old| old.fields().collect::<Vec<_>>()).collect();
        let entry = Kept { call: call.clone(), bytes: kept as u64 };
        // In the list first: what is in no list could never be dropped.
        list.push(entry.clone());
        let listed = serde_json::to_vec(&list).map_err(|error| StoreError::corrupt("Redis", error))?;
        self.write_outputs(session, &fields, &[(LIST.to_owned(), listed)]).await?;
        for (n, name) in entry.fields().enumerate() {
            let (output, range) = (output.clone(), n * PIECE..((n + 1) * PIECE).min(kept));
            let packed = tokio::task::spawn_blocking(move || pack(&output.as_bytes()[range])).await;
            let packed = packed.map_err(|error| StoreError::unavailable("Redis", error))?;
            self.write_outputs(session, &[], &[(name, packed)]).await?;
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
        let Some(kept) = self.outputs(session).await?.into_iter().find(|kept| &kept.call == call) else {
            return Ok(None);
        };
        let total = kept.bytes;
        let end = offset.saturating_add(limit as u64).min(total);
        let mut bytes = Vec::new();
        if offset < end {
            let piece = PIECE as u64;
            let first = offset / piece;
            let mut look = redis::cmd("HMGET");
            look.arg(self.keys.outputs(session));
            for n in first..=(end - 1) / piece {
                look.arg(field(call, n));
            }
            let pieces: Vec<Option<Vec<u8>>> = self.reads.ask::<redis::Value>(&look).await.and_then(|value| {
                FromRedisValue::from_redis_value(value).map_err(|error| StoreError::corrupt("Redis", error))
            })?;
            for packed in pieces {
                // The writer is at it, or has died in the middle.
                let Some(packed) = packed else { return Ok(None) };
                unpack(&packed, &mut bytes)?;
            }
            let skip = usize::try_from(offset - first * piece).unwrap_or(usize::MAX).min(bytes.len());
            bytes.drain(..skip);
            bytes.truncate(usize::try_from(end - offset).unwrap_or(usize::MAX));
        }
        Ok(Some(OutputPart { bytes, total }))
    }
}

fn pack(plain: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    // A `Vec` takes all.
    let packed = encoder.write_all(plain).and_then(|()| encoder.finish());
    packed.unwrap_or_default()
}

fn unpack(packed: &[u8], into: &mut Vec<u8>) -> Result<(), StoreError> {
    let read = DeflateDecoder::new(packed).take(PIECE as u64).read_to_end(into);
    read.map(drop).map_err(|error| StoreError::corrupt("a saved output cannot be unpacked", error))
}
