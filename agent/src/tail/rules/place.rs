//! Lines and columns: from the way to a value to where it stands in the text of a TOML file. Pure.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::section::{RuleError, Step};

/// Line and column, both from 1, of what an error is about, or of the nearest thing around it that is written out.
#[must_use]
pub fn locate(text: &str, error: &RuleError) -> Option<(usize, usize)> {
    let span = span(text, error)?;
    let before = text.get(..span.start)?;
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let column = before.get(line_start..)?.chars().count() + 1;
    Some((before.matches('\n').count() + 1, column))
}

fn span(text: &str, error: &RuleError) -> Option<Range<usize>> {
    let document = DeTable::parse(text).ok()?;
    let mut found = None;
    let mut value: Option<&DeValue<'_>> = None;
    for step in &error.path {
        let next = match (step, value) {
            (Step::Key(key), None) => document
                .get_ref()
                .iter()
                .find(|(name, _)| name.get_ref() == key),
            (Step::Key(key), Some(DeValue::Table(table))) => {
                table.iter().find(|(name, _)| name.get_ref() == key)
            }
            (Step::Item(number), Some(DeValue::Array(items))) => {
                let Some(item) = items.get(*number) else {
                    break;
                };
                found = Some(item.span());
                value = Some(item.get_ref());
                continue;
            }
            _ => None,
        };
        let Some((key, inner)) = next else { break };
        found = Some(match (inner.get_ref(), error.offset) {
            (DeValue::String(_), Some(_)) => inner.span(),
            _ => key.span(),
        });
        value = Some(inner.get_ref());
    }
    let found = found?;
    let inside = match (value, error.offset) {
        (Some(DeValue::String(value)), Some(offset)) => into(text, &found, value, offset),
        _ => None,
    };
    Some(inside.map_or(found, |at| at..at))
}

/// Where a byte of a text's value stands, if nothing before it is written with an escape.
fn into(text: &str, span: &Range<usize>, value: &str, offset: usize) -> Option<usize> {
    let written = text.get(span.clone())?;
    let head = value.get(..offset)?;
    let opened = written.len()
        - written
            .trim_start_matches(['\'', '"'])
            .trim_start_matches('\n')
            .len();
    let opened = opened.min(4);
    let rest = written.get(opened..)?;
    rest.starts_with(head)
        .then_some(span.start + opened + offset)
}
