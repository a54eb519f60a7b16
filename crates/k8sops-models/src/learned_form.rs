//! The form of requests that a model accepted after it had rejected a fuller one.

use std::{collections::HashMap, sync::Arc, time::Duration};

use k8sops_core::RequestForm;
use parking_lot::Mutex;
use tokio::time::Instant;

/// How long a form is remembered. One odd conversation must not simplify all others forever.
const FORM_TTL: Duration = Duration::from_hours(1);
/// The number of models that are remembered. Clients choose the names of models that are not in the catalog.
const MAX_FORMS: usize = 1024;

/// The form that a model accepted last. It is in the memory of one process, and all sessions share it.
#[derive(Debug, Default)]
pub struct LearnedForm(Mutex<Option<(RequestForm, Instant)>>);

impl LearnedForm {
    /// Returns the form to begin with.
    #[must_use]
    pub fn current(&self) -> RequestForm {
        let learned = *self.0.lock();
        learned.filter(|(_, since)| since.elapsed() < FORM_TTL).map(|(form, _)| form).unwrap_or_default()
    }

    /// Remembers that the model accepts this form and no fuller one.
    pub fn remember(&self, form: RequestForm) {
        *self.0.lock() = Some((form, Instant::now()));
    }
}

/// The learned forms of all models that were called, by provider and model.
#[derive(Debug, Default)]
pub(crate) struct LearnedForms(Mutex<HashMap<(String, String), Arc<LearnedForm>>>);

impl LearnedForms {
    /// Returns the form of a model.
    pub(crate) fn for_model(&self, provider: &str, model: &str) -> Arc<LearnedForm> {
        let mut forms = self.0.lock();
        if forms.len() >= MAX_FORMS {
            forms.retain(|_, form| form.current() != RequestForm::Native);
            if forms.len() >= MAX_FORMS {
                forms.clear();
            }
        }
        Arc::clone(forms.entry((provider.to_owned(), model.to_owned())).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn form_is_forgotten_after_a_while() {
        let forms = LearnedForms::default();
        forms.for_model("a", "m").remember(RequestForm::Plain);
        assert_eq!(forms.for_model("a", "m").current(), RequestForm::Plain);
        assert_eq!(forms.for_model("b", "m").current(), RequestForm::Native);
        tokio::time::advance(FORM_TTL).await;
        assert_eq!(forms.for_model("a", "m").current(), RequestForm::Native);
    }
}
