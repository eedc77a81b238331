//! Rows within a host's answer, such as one for each virtual server, as a table for people. Pure.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::text::plain;
use crate::render::{Cell, Column, Style, Table, plural};

/// Rows that are shown; programs get them all.
const ROWS_SHOWN: usize = 100;

/// Columns that come first, in this order; the others follow by name.
const FIRST: &[&str] = &[
    "virtual_server",
    "real_server",
    "client",
    "protocol",
    "before",
    "after",
    "state",
    "entries",
    "established",
    "active",
    "inactive",
    "persistent",
];

/// The column of remarks, which is wide and comes last.
const LAST: &str = "note";

/// The rows in `value`; none where it is anything else. An empty list has none to show.
pub(super) fn rows_of(value: &Value) -> Option<Vec<&Map<String, Value>>> {
    let rows: Option<Vec<_>> = value.as_array()?.iter().map(Value::as_object).collect();
    rows.filter(|rows| {
        let mut cells = rows.iter().flat_map(|row| row.values());
        !cells.any(|cell| cell.is_object() || cell.is_array())
    })
}

/// The rows as lines, each after `indent`.
pub(super) fn write_rows(text: &mut String, indent: &str, rows: &[&Map<String, Value>]) {
    let names: BTreeSet<&str> = rows
        .iter()
        .flat_map(|row| row.keys().map(String::as_str))
        .collect();
    let mut names: Vec<&str> = names.into_iter().collect();
    let place = |name: &str| match FIRST.iter().position(|first| *first == name) {
        Some(place) => place,
        None if name == LAST => usize::MAX,
        None => FIRST.len(),
    };
    names.sort_by_key(|name| place(name));
    let columns = names.iter().map(|name| {
        let head = name.replace('_', " ").to_uppercase();
        let mut cells = rows.iter().filter_map(|row| row.get(*name));
        if cells.all(|cell| cell.is_number() || cell.is_null()) {
            Column::number(head)
        } else {
            Column::text(head)
        }
    });
    let mut table = Table::new(columns);
    for row in rows.iter().take(ROWS_SHOWN) {
        table.row(names.iter().map(|name| match row.get(*name) {
            None | Some(Value::Null) => Cell::default(),
            Some(value) => Cell::from(plain(value)),
        }));
    }
    for line in table.render(&Style::default()).lines() {
        text.push_str(indent);
        text.push_str(line);
        text.push('\n');
    }
    let left_out = rows.len().saturating_sub(ROWS_SHOWN);
    if left_out > 0 {
        let left_out = plural(left_out, "row");
        text.push_str(&format!(
            "{indent}({left_out} left out; --output json has them)\n"
        ));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::text::write_data;

    #[test]
    fn rows_are_a_table_with_what_matters_first() {
        let mut text = String::new();
        let data = json!({
            "real_server": "10.1.0.1", "changed": 1, "tags": ["a"], "none": [],
            "virtual_servers": [
                { "virtual_server": "tcp/192.0.2.10:80", "real_server": "10.1.0.1:8080", "before": 100, "after": 0, "state": "done", "active": 3 },
                { "virtual_server": "fwmark/7", "real_server": "10.1.0.1:0", "before": 1, "after": null, "state": "gone", "note": "not in\nthe table" },
            ],
        });
        write_data(&mut text, &data);
        insta::assert_snapshot!(text, @r#"
            changed=1 real_server=10.1.0.1 tags=["a"]
            VIRTUAL SERVER     REAL SERVER    BEFORE  AFTER  STATE  ACTIVE  NOTE
            tcp/192.0.2.10:80  10.1.0.1:8080     100      0  done        3
            fwmark/7           10.1.0.1:0          1         gone           not in the table
        "#);
    }

    #[test]
    fn many_rows_are_cut_and_nested_ones_are_no_table() {
        let mut text = String::new();
        let rows: Vec<_> = (0..120).map(|number| json!({ "client": number })).collect();
        write_data(&mut text, &json!({ "clients": rows }));
        assert_eq!(text.lines().count(), 102);
        assert!(
            text.ends_with("    (20 rows left out; --output json has them)\n"),
            "{text}"
        );
        let mut text = String::new();
        write_data(&mut text, &json!({ "x": [{ "y": { "z": 1 } }] }));
        assert_eq!(text, "    x=[{\"y\":{\"z\":1}}]\n");
    }
}
