//! Settings, each declared in one place: as a field of a struct.
//!
//! A crate declares its options with [`options!`]. A field carries everything that is known about its setting: the type, the
//! description (its rustdoc), the accepted values, the default, the environment variable, and whether a reload applies it.
//! The loader, `.env.example`, the reference page, the annotated YAML, the JSON schema and the list of live settings are made
//! from these declarations, so that none of them can differ from what the program accepts.
//!
//! ```
//! use k8sops_settings::{SettingReader, SettingSources, SettingsCatalog, SettingsSection as _, options};
//! use k8sops_settings::{declaration::required, formats::whole_number};
//!
//! options! {
//!     /// Limits of one run.
//!     #[derive(Debug)]
//!     pub struct RunOptions at "agent" {
//!         /// Model calls with tools in one run.
//!         pub max_steps: u32 = required(whole_number(1), "25").variable("MAX_STEPS").live(),
//!     }
//! }
//!
//! let catalog = SettingsCatalog::new(&[&RunOptions::SECTION]);
//! let env = [("MAX_STEPS".to_owned(), "30".to_owned())].into();
//! let mut reader = SettingReader::new(&catalog, SettingSources { env, ..SettingSources::default() });
//! assert_eq!(reader.read_section::<RunOptions>().max_steps, 30);
//! assert_eq!(reader.origin_of("agent.max_steps").to_string(), "MAX_STEPS (environment)");
//! ```
//!
//! The way of a value:
//!
//! ```text
//! built-in YAML ─▶ user's YAML ─▶ .env ─▶ environment      later wins; every value is text until its format reads it
//!                      │
//!                SettingReader ── a scope per mapping ──▶ the struct's fields
//!                      └─▶ effective settings with origins · all problems at once · warnings
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`declaration`] | constructors of declarations: `required`, `optional`, `or_empty`, `list`, `map`, `custom` |
//! | [`descriptor`] | what a declaration becomes in tables: [`SettingDescriptor`], [`SectionDescriptor`], [`FieldShape`] |
//! | [`format`], [`formats`] | accepted values and how they are read |
//! | [`catalog`] | all sections of a program, with lookups by path and variable |
//! | [`sources`], [`reader`], [`scope`] | where values come from and how they are read |
//! | [`render`] | the generated texts |

pub mod catalog;
pub mod declaration;
pub mod descriptor;
mod dotenv;
pub mod format;
pub mod formats;
mod layer;
mod mask;
mod options_macro;
pub mod reader;
pub mod render;
pub mod scope;
pub mod sources;
mod suggestion;
mod yaml;

#[cfg(test)]
mod tests;

pub use catalog::{CatalogEntry, ItemVariable, SettingsCatalog, StandaloneVariable};
pub use descriptor::{FieldShape, SectionDescriptor, SettingDescriptor};
pub use format::{ValueFormat, ValueKind};
pub use layer::RawValue;
pub use mask::mask_secret;
pub use reader::{EffectiveSetting, SettingReader};
pub use scope::{SettingScope, SettingsSection};
pub use sources::{SettingOrigin, SettingSources, SourceError};
