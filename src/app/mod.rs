//! The composition root: builds all parts of the service from the configuration, runs them, and shuts them down in order.
//!
//! - `application`: the service as a value, its run and its shutdown
//! - `build`: connects the parts
//! - `serve`, `demo`: the commands `k8sops serve` and `k8sops demo`
//! - `reload`: applies configuration changes at SIGHUP
//! - `process_memory`: sizes of pages, and returning freed memory

mod application;
mod build;
mod demo;
mod http_server;
mod limits;
mod process_memory;
mod reload;
mod serve;
mod signals;
mod sockets;
mod store;

pub use application::Application;
pub use build::BuildOverrides;
pub use demo::{DemoOptions, serve_demo};
pub use process_memory::{PageSize, choose_page_size};
pub use serve::serve;
pub(crate) use store::open_store;
