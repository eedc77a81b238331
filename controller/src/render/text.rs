//! Small pieces of text: cleaning what hosts sent, colours, plurals, name-value lists.

use crate::render::table::Tone;
use crate::render::{Cell, Column, Style, Table};

/// `text` on one line and without anything that a terminal would obey: a host's words must not move the cursor, change
/// colours or hide other lines.
#[must_use]
pub fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => clean.push(' '),
            '\r' => {}
            // Directions, joiners and other marks without a width would reorder or hide what stands beside them.
            c if c.is_control()
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}') =>
            {
                clean.extend(c.escape_unicode());
            }
            c => clean.push(c),
        }
    }
    clean
}

/// `text` in the colour of `tone`, where colours are written.
#[must_use]
pub fn paint(text: &str, tone: Tone, style: &Style) -> String {
    match tone.code() {
        Some(code) if style.color => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        _ => text.to_owned(),
    }
}

/// `1 host`, `2 hosts`.
#[must_use]
pub fn plural(count: usize, noun: &str) -> String {
    if count == 1 {
        format!("1 {noun}")
    } else {
        format!("{count} {noun}s")
    }
}

/// Names and values, one pair a line, the values under each other.
#[must_use]
pub fn fields(pairs: &[(&str, String)], style: &Style) -> String {
    let mut table = Table::new([Column::text(""), Column::text("")]);
    for (name, value) in pairs {
        table.row([Cell::toned(*name, Tone::Dim), Cell::from(value.as_str())]);
    }
    table.render(style)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown_instead() {
        for (text, want) in [
            ("plain é 中", "plain é 中"),
            ("a\nb\tc\r", "a b c"),
            ("\u{1b}[2Jgone", "\\u{1b}[2Jgone"),
            ("\u{202e}abc", "\\u{202e}abc"),
            ("x\u{9b}31m", "x\\u{9b}31m"),
        ] {
            assert_eq!(clean(text), want, "{text:?}");
        }
    }

    #[test]
    fn colours_are_written_only_where_wanted() {
        let plain = Style::default();
        let color = Style {
            color: true,
            width: None,
        };
        assert_eq!(paint("x", Tone::Bad, &plain), "x");
        assert_eq!(paint("x", Tone::Bad, &color), "\u{1b}[31mx\u{1b}[0m");
        assert_eq!(paint("x", Tone::Plain, &color), "x");
    }
}
