//! From values to text: tables for people, JSON for programs. Pure: it knows no terminal, no file and no clock, and
//! nothing of where values come from.

mod fold;
mod table;
mod text;
mod units;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use serde::Serialize;

pub use self::fold::{Group, fold, names};
pub use self::table::{Cell, Column, Table, Tone};
pub use self::text::{clean, fields, paint, plural};
pub use self::units::{age, bytes, count, duration_ms, percent, rate, time_of_day, timestamp};

/// What standard output shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// One JSON document.
    Json,
    /// One JSON object a line.
    Ndjson,
}

/// Width and colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Style {
    /// Whether to write colours.
    pub color: bool,
    /// Columns of the screen; `None` where lines may have any length.
    pub width: Option<u16>,
}

/// `value` as one pretty JSON document, with a line end.
///
/// # Errors
/// When the value has no JSON form, e.g. a map whose keys are not texts.
pub fn to_json_document<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    let text = serde_json::to_string_pretty(value).context("write a value as JSON")?;
    Ok(text + "\n")
}

/// `value` as JSON on one line, with a line end.
///
/// # Errors
/// As [`to_json_document`].
pub fn to_json_line<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    let text = serde_json::to_string(value).context("write a value as JSON")?;
    Ok(text + "\n")
}
