//! Properties of the event stream parser that hold for any input. The target in `fuzz/` searches for a counterexample,
//! and the test tries the seeds.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::stream;

use crate::{
    error_mapping::{ProviderCall, ProviderEndpoint},
    event_framing::EventFraming,
    event_stream::ProviderEventStream,
};

/// Checks that a stream gives the same events however its bytes are divided, as server-sent events and as lines.
///
/// # Panics
/// Panics if the events depend on how the bytes arrive.
pub fn check_stream(bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime needs no I/O");
    for framing in [EventFraming::Sse, EventFraming::Lines] {
        let whole = runtime.block_on(events(vec![bytes], framing));
        let halves = bytes.split_at(bytes.len() / 2);
        assert_eq!(whole, runtime.block_on(events(vec![halves.0, halves.1], framing)));
        assert_eq!(whole, runtime.block_on(events(bytes.chunks(3).collect(), framing)));
    }
}

/// Returns the events until the end or the first error, and whether there was an error.
async fn events(pieces: Vec<&[u8]>, framing: EventFraming) -> (Vec<(String, String)>, bool) {
    let pieces: Vec<_> = pieces.into_iter().map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    let endpoint = ProviderEndpoint {
        name: "Provider".to_owned(),
        host: "127.0.0.1".to_owned(),
        key: None,
        secrets: Vec::new(),
        key_variable: "API_KEY".to_owned(),
    };
    let call = ProviderCall { endpoint: Arc::new(endpoint), model: "model".to_owned(), request_id: None };
    let mut stream = ProviderEventStream::new(stream::iter(pieces), framing, Duration::from_secs(5), call);
    let mut found = Vec::new();
    loop {
        match stream.next().await {
            Ok(Some(event)) => found.push((event.name, event.data)),
            Ok(None) => return (found, false),
            Err(_) => return (found, true),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn properties_hold_for_the_seeds() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/provider_stream");
        for seed in std::fs::read_dir(&folder).unwrap() {
            super::check_stream(&std::fs::read(seed.unwrap().path()).unwrap());
        }
    }
}
