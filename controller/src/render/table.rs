//! Tables without borders: a head, rows, numbers to the right, the last column wrapped where the screen ends.

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Width};

use crate::render::{Style, clean};

/// Space between two columns.
const GAP: u16 = 2;

/// Narrowest width to which the last column is wrapped; a screen too narrow for it gets lines that are too long.
const LAST_COLUMN_MIN: u16 = 16;

/// Marks of a toned piece: they have no width, [`clean`] lets none in from outside, and they become colours when the
/// table is laid out.
const MARKS: [char; 4] = ['\u{2061}', '\u{2062}', '\u{2063}', '\u{2064}'];
const MARK_END: char = '\u{206a}';

/// What a piece of text means, shown as a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tone {
    /// Nothing in particular.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// Worth a look.
    Warn,
    /// Wrong.
    Bad,
    /// Less important.
    Dim,
}

/// One column.
#[derive(Debug, Clone)]
pub struct Column {
    head: String,
    number: bool,
}

/// One cell: text, and what it means.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    text: String,
    tone: Tone,
}

/// A table under construction.
#[derive(Debug, Clone)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

impl Column {
    /// A column of texts, to the left.
    #[must_use]
    pub fn text(head: impl Into<String>) -> Self {
        Self {
            head: head.into(),
            number: false,
        }
    }

    /// A column of numbers, to the right.
    #[must_use]
    pub fn number(head: impl Into<String>) -> Self {
        Self {
            head: head.into(),
            number: true,
        }
    }
}

impl Cell {
    /// A cell with a tone. The text is cleaned.
    #[must_use]
    pub fn toned(text: impl AsRef<str>, tone: Tone) -> Self {
        Self {
            text: clean(text.as_ref()),
            tone,
        }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

impl Tone {
    /// The SGR code (ECMA-48) of its colour; `None` for plain.
    #[must_use]
    pub const fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Good => Some("32"),
            Self::Warn => Some("33"),
            Self::Bad => Some("31"),
            Self::Dim => Some("2"),
        }
    }

    const fn mark(self) -> Option<char> {
        let [good, warn, bad, dim] = MARKS;
        match self {
            Self::Plain => None,
            Self::Good => Some(good),
            Self::Warn => Some(warn),
            Self::Bad => Some(bad),
            Self::Dim => Some(dim),
        }
    }

    fn of_mark(mark: char) -> Option<Self> {
        [Self::Good, Self::Warn, Self::Bad, Self::Dim]
            .into_iter()
            .find(|tone| tone.mark() == Some(mark))
    }
}

impl Table {
    /// A table without rows. Heads that are all empty are not shown.
    #[must_use]
    pub fn new(columns: impl IntoIterator<Item = Column>) -> Self {
        Self {
            columns: columns.into_iter().collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; missing cells are empty, those without a column are left out.
    pub fn row<C: Into<Cell>>(&mut self, cells: impl IntoIterator<Item = C>) -> &mut Self {
        let mut cells: Vec<Cell> = cells.into_iter().map(Into::into).collect();
        cells.resize(self.columns.len(), Cell::default());
        self.rows.push(cells);
        self
    }

    /// Whether it has no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as lines, each with its line end.
    #[must_use]
    pub fn render(&self, style: &Style) -> String {
        let mut table = comfy_table::Table::new();
        table
            .load_style(comfy_table::presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled);
        let headed = self.columns.iter().any(|column| !column.head.is_empty());
        if headed {
            table.set_header(self.columns.iter().map(|column| column.head.as_str()));
        }
        for row in &self.rows {
            table.add_row(row.iter().map(|cell| marked(cell, style)));
        }
        self.arrange(&mut table, style);
        let mut text = String::new();
        for line in table.lines() {
            text.push_str(colored(&line, style).trim_end());
            text.push('\n');
        }
        text
    }

    fn arrange(&self, table: &mut comfy_table::Table, style: &Style) {
        let widths = table.column_max_content_widths();
        let last = self.columns.len().saturating_sub(1);
        let before: u16 = widths.iter().take(last).fold(0, |sum, width| {
            sum.saturating_add(width.saturating_add(GAP))
        });
        for (at, (column, spec)) in table.column_iter_mut().zip(&self.columns).enumerate() {
            column.set_padding((0, if at == last { 0 } else { GAP }));
            if spec.number {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let (Some(screen), Some(wanted)) = (style.width, widths.last()) else {
            return;
        };
        let room = screen.saturating_sub(before).max(LAST_COLUMN_MIN);
        if *wanted > room {
            // Only a dynamic arrangement wraps; the other columns keep their width.
            table
                .set_content_arrangement(ContentArrangement::Dynamic)
                .set_width(before.saturating_add(room));
            for (at, (column, width)) in table.column_iter_mut().zip(&widths).enumerate() {
                let (text, padding) = if at == last { (room, 0) } else { (*width, GAP) };
                column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(
                    text.saturating_add(padding),
                )));
            }
        }
    }
}

fn marked(cell: &Cell, style: &Style) -> String {
    match cell.tone.mark() {
        Some(mark) if style.color && !cell.text.is_empty() => {
            format!("{mark}{}{MARK_END}", cell.text)
        }
        _ => cell.text.clone(),
    }
}

/// A laid-out line with its marks as colours. A wrapped piece ends its colour with its line.
fn colored(line: &str, style: &Style) -> String {
    if !style.color {
        return line.to_owned();
    }
    let mut text = String::with_capacity(line.len() + 16);
    let mut open = false;
    for c in line.trim_end().chars() {
        if c == MARK_END {
            if open {
                text.push_str("\u{1b}[0m");
            }
            open = false;
        } else if let Some(code) = Tone::of_mark(c).and_then(Tone::code) {
            text.push_str("\u{1b}[");
            text.push_str(code);
            text.push('m');
            open = true;
        } else {
            text.push(c);
        }
    }
    if open {
        text.push_str("\u{1b}[0m");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new([
            Column::text("HOST"),
            Column::number("RTT"),
            Column::text("NOTE"),
        ]);
        table.row(["lb1.example.com", "1.5 ms", "as it should be"]);
        table.row([
            Cell::from("lb2"),
            Cell::from("120 ms"),
            Cell::toned(
                "a long remark about what went wrong here, so long that it does not fit on a line",
                Tone::Bad,
            ),
        ]);
        table.row(["db", "9 s"]);
        table
    }

    #[test]
    fn numbers_stand_to_the_right_and_the_last_column_is_wrapped() {
        insta::assert_snapshot!(sample().render(&Style { color: false, width: Some(60) }), @r"
        HOST                RTT  NOTE
        lb1.example.com  1.5 ms  as it should be
        lb2              120 ms  a long remark about what went wrong
                                 here, so long that it does not fit
                                 on a line
        db                  9 s
        ");
    }

    #[test]
    fn without_a_width_every_row_is_one_line() {
        insta::assert_snapshot!(sample().render(&Style::default()), @r"
        HOST                RTT  NOTE
        lb1.example.com  1.5 ms  as it should be
        lb2              120 ms  a long remark about what went wrong here, so long that it does not fit on a line
        db                  9 s
        ");
    }

    #[test]
    fn colours_take_no_room_and_end_with_their_line() {
        let plain = sample().render(&Style {
            color: false,
            width: Some(60),
        });
        let color = sample().render(&Style {
            color: true,
            width: Some(60),
        });
        let stripped = color.replace("\u{1b}[31m", "").replace("\u{1b}[0m", "");
        assert_eq!(stripped, plain);
        assert!(color.contains("\u{1b}[31ma long remark"), "{color}");
        assert_eq!(
            color.matches("\u{1b}[31m").count(),
            color.matches("\u{1b}[0m").count()
        );
    }

    #[test]
    fn a_host_can_not_smuggle_in_colours_or_lines() {
        let mut table = Table::new([Column::text("A"), Column::text("B")]);
        table.row(["x\u{1b}[31m\ny", "\u{2063}z"]);
        let text = table.render(&Style {
            color: true,
            width: Some(80),
        });
        insta::assert_snapshot!(text, @r"
        A              B
        x\u{1b}[31m y  \u{2063}z
        ");
    }

    #[test]
    fn a_table_without_heads_shows_rows_only() {
        let mut table = Table::new([Column::text(""), Column::text("")]);
        table.row(["version", "1"]).row(["up", "3 d"]);
        insta::assert_snapshot!(table.render(&Style::default()), @r"
        version  1
        up       3 d
        ");
    }
}
