//! Showing what is wrong with a configuration: `file:line:column: message`, the line, a caret.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use std::fmt;
use std::ops::Range;
use std::path::Path;

/// A configuration that cannot be used. `Display` is the complete text for the admin; programs exit with 78 (`EX_CONFIG`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError(String);

impl ConfigError {
    /// The file itself cannot be read.
    pub fn unreadable(path: &Path, error: &std::io::Error) -> Self {
        Self(format!("{}: cannot read the configuration: {error}", path.display()))
    }

    /// Something in the text is wrong, at this span of octets.
    pub fn at(path: &Path, text: &str, span: Option<Range<usize>>, message: &str) -> Self {
        let message = message.trim_end();
        let Some(span) = span.filter(|span| text.get(span.clone()).is_some()) else {
            return Self(format!("{}: {message}", path.display()));
        };
        let before = text.get(..span.start).unwrap_or("");
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        let shown: String = message.lines().next().unwrap_or(message).to_owned();
        let path = path.display().to_string();
        let report = [Level::ERROR.primary_title(shown.as_str()).element(
            Snippet::source(text)
                .path(path.as_str())
                .annotation(AnnotationKind::Primary.span(span).label(shown.as_str())),
        )];
        let picture = Renderer::plain().render(&report);
        // The renderer's own first lines say what our first line says in the form that editors jump to.
        let picture: Vec<&str> = picture.lines().skip(2).collect();
        Self(format!("{path}:{line}:{column}: {message}\n{}", picture.join("\n")))
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
