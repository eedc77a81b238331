//! What is wrong with a target expression, where, and how to show it. Knows text only, no grammar.

/// How much of the text is shown before the place, in characters; with what follows it fits a terminal line.
const SHOWN_BEFORE: usize = 48;
/// How much of the text is shown from the place on, in characters.
const SHOWN_AFTER: usize = 28;

/// Why a target expression was refused. Displays as one line; [`TargetError::pointed`] shows the place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot read the target at character {character}: {message}")]
pub struct TargetError {
    /// The place, as a byte offset into the text; always on a character's boundary, at most the text's length.
    pub at: usize,
    /// The place, in characters from 1.
    pub character: usize,
    /// What was expected and what was found, without the place.
    pub message: String,
    /// The part of the text around the place, safe to print.
    shown: String,
    /// The number of characters in `shown` before the place.
    caret: usize,
}

impl TargetError {
    pub(super) fn new(text: &str, at: usize, message: &str) -> Self {
        let at = text.floor_char_boundary(at);
        let (before, after) = text.split_at_checked(at).unwrap_or((text, ""));
        let line_before = before.rsplit('\n').next().unwrap_or_default();
        let line_after = after.split('\n').next().unwrap_or_default();

        let left_out = line_before.chars().count().saturating_sub(SHOWN_BEFORE);
        let mut shown = String::new();
        if left_out > 0 {
            shown.push('…');
        }
        shown.extend(line_before.chars().skip(left_out).map(printable));
        let caret = shown.chars().count();
        shown.extend(line_after.chars().take(SHOWN_AFTER).map(printable));
        if line_after.chars().nth(SHOWN_AFTER).is_some() {
            shown.push('…');
        }

        Self {
            at,
            character: before.chars().count() + 1,
            message: message.chars().map(printable).collect(),
            shown,
            caret,
        }
    }

    /// Two lines for a terminal: the text around the place, and below it a caret under the place with the message.
    ///
    /// ```text
    /// role= and dc=gz
    ///       ^ expected a value after `=`, found `and`
    /// ```
    #[must_use]
    pub fn pointed(&self) -> String {
        format!(
            "{}\n{:caret$}^ {}",
            self.shown,
            "",
            self.message,
            caret = self.caret
        )
    }
}

/// One column for each character, and nothing that a terminal would obey.
fn printable(c: char) -> char {
    match c {
        c if c.is_whitespace() => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        // Marks that turn the direction of the text would make the caret, and the message, lie.
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            char::REPLACEMENT_CHARACTER
        }
        c => c,
    }
}
