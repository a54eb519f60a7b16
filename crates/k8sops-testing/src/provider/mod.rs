//! Model providers that respond by a script over real TCP, in each of the protocols, for what no real provider does on demand.
//! The model that a request names selects the script. After its end, and without one, the response is [`GOOD_REPLY`].

mod api;
mod replies;
mod reply_chunks;
mod response;
mod server;

pub use api::{GOOD_REPLY, ProviderApi};
pub use response::ScriptedResponse;
pub use server::{FakeProviders, ReceivedRequest};
