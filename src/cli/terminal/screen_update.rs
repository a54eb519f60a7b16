//! What a view asks the screen to show.

/// The style of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum LineStyle {
    /// No style.
    Plain,
    /// A message of the user.
    User,
    /// A tool call that starts.
    Tool,
    /// A success.
    Success,
    /// A failure or a warning.
    Failure,
    /// A question to the user.
    Question,
    /// A remark of the chat itself.
    Note,
    /// A unified diff.
    Diff,
}

/// An update of the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum ScreenUpdate {
    /// More text of the model, in Markdown, which may end in the middle of a line.
    Text(String),
    /// The end of a text of the model.
    EndOfText,
    /// One or more whole lines that start at the margin.
    Line(LineStyle, String),
    /// The current activity, for the spinner; `None` if there is none.
    Activity(Option<String>),
}

/// Returns an update that shows a remark of the chat itself.
pub(in crate::cli) fn note_line(line: impl Into<String>) -> ScreenUpdate {
    ScreenUpdate::Line(LineStyle::Note, line.into())
}

/// Returns an update that shows a failure or a warning.
pub(in crate::cli) fn failure_line(line: impl Into<String>) -> ScreenUpdate {
    ScreenUpdate::Line(LineStyle::Failure, line.into())
}
