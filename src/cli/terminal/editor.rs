//! Texts in the user's editor.

use std::{
    env,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    process::Command,
};

/// The editor of a user who has set none.
const USUAL_EDITOR: &str = "vi";

/// What the user did in the editor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum EditedText {
    Changed(String),
    /// The text was not changed, or the editor reports a failure.
    Unchanged,
}

/// Lets the user edit a text with `VISUAL` or `EDITOR`.
///
/// # Errors
/// The editor cannot be started, or its file cannot be written or read.
pub(in crate::cli) async fn edit_in_editor(text: String) -> io::Result<EditedText> {
    let edited = tokio::task::spawn_blocking(move || run_editor(&text));
    edited.await.map_err(io::Error::other)?
}

fn run_editor(text: &str) -> io::Result<EditedText> {
    let path = env::temp_dir().join(format!("k8sops-{}.yaml", uuid::Uuid::new_v4()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    let edited = file.write_all(text.as_bytes()).and_then(|()| {
        let named =
            ["VISUAL", "EDITOR"].into_iter().find_map(|name| env::var(name).ok().filter(|it| !it.trim().is_empty()));
        let editor = named.unwrap_or_else(|| USUAL_EDITOR.to_owned());
        // The variable may have arguments, such as `code --wait`.
        let status = Command::new("sh").arg("-c").arg(format!("{editor} \"$1\"")).arg("sh").arg(&path).status()?;
        if status.code() == Some(127) {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no editor {editor}; set EDITOR")));
        }
        let after = fs::read_to_string(&path)?;
        Ok(if status.success() && after != text { EditedText::Changed(after) } else { EditedText::Unchanged })
    });
    let removed = fs::remove_file(&path);
    let edited = edited?;
    removed?;
    Ok(edited)
}
