//! What a person who approves a call is shown of it.

mod fit;

pub(crate) use fit::{FittedPreview, fit_preview};
