//! Sends files that are part of the program.

use std::convert::Infallible;

use actix_web::{body::SizedStream, web};
use futures_util::{Stream, stream};

/// Bytes of a file that are sent at a time.
const CHUNK_BYTES: usize = 32 * 1024;

/// Streams a file in chunks. Each is created when the previous one was sent, so that a client that requests a file and does
/// not read it occupies memory for a single chunk.
pub(super) fn stream_in_chunks(content: web::Bytes) -> SizedStream<impl Stream<Item = Result<web::Bytes, Infallible>>> {
    let length = content.len() as u64;
    let starts = (0..content.len()).step_by(CHUNK_BYTES);
    let chunks = starts.map(move |start| Ok(content.slice(start..content.len().min(start + CHUNK_BYTES))));
    SizedStream::new(length, stream::iter(chunks))
}
