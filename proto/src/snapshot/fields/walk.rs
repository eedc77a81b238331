//! Takes a snapshot apart into its declared figures. Pure, and bounded whatever the snapshot holds.

use std::borrow::Cow;

use serde_json::Value;

use super::{Field, KEY, Kind, Label, Reading, Sample, Series, Table, declared};

/// Figures taken from one snapshot at the most: 30,000 real servers have a dozen each.
pub const SAMPLES_MAX: usize = 400_000;

/// One object of a table, with the values of its labels.
struct Row<'a> {
    labels: Vec<(&'static str, Cow<'a, str>)>,
    object: &'a Value,
}

/// The figures of a collector's snapshot. What is missing, null, not finite or of another type than declared is passed
/// over, and so are objects without one of their labels. Nothing comes of a collector that declares nothing.
pub fn series<'a>(collector: &str, snapshot: &'a Value) -> impl Iterator<Item = Sample<'a>> {
    let each = declared(collector).into_iter().flat_map(move |declared| {
        let tables = declared.tables.iter();
        tables.flat_map(move |table| of_table(declared.collector, table, snapshot))
    });
    each.take(SAMPLES_MAX)
}

/// The figures of one series alone, as outputs want them that put all of one name together.
pub fn samples(series: Series, snapshot: &Value) -> impl Iterator<Item = Sample<'_>> {
    let Series { table, field, .. } = series;
    let each = rows(table, snapshot).into_iter();
    each.filter_map(move |row| row.sample(series, field))
        .take(SAMPLES_MAX)
}

fn of_table<'a>(
    collector: &'static str,
    table: &'static Table,
    snapshot: &'a Value,
) -> impl Iterator<Item = Sample<'a>> {
    rows(table, snapshot).into_iter().flat_map(move |row| {
        let fields = table.fields.iter();
        fields.filter_map(move |field| {
            let series = Series {
                collector,
                table,
                field,
            };
            row.sample(series, field)
        })
    })
}

impl<'a> Row<'a> {
    fn sample(&self, series: Series, field: &Field) -> Option<Sample<'a>> {
        let (reading, per_s) = read(field, at(self.object, field.path)?)?;
        Some(Sample {
            series,
            labels: self.labels.clone(),
            reading,
            per_s,
        })
    }
}

/// Goes down [`Table::under`], one list or map after the other.
fn rows<'a>(table: &'static Table, snapshot: &'a Value) -> Vec<Row<'a>> {
    let mut rows = vec![Row {
        labels: Vec::new(),
        object: snapshot,
    }];
    let mut list = 0;
    for step in table.under.split('.').filter(|step| !step.is_empty()) {
        let (name, many) = match step.strip_suffix("[]").or(step.strip_suffix("{}")) {
            Some(name) => (name, true),
            None => (step, false),
        };
        rows = rows
            .into_iter()
            .filter_map(|row| Some((row.labels, row.object.get(name)?)))
            .flat_map(|(labels, object)| match object {
                Value::Array(items) if many => {
                    labelled(table, list, &labels, items.iter().map(|item| (None, item)))
                }
                Value::Object(map) if many => {
                    let items = map.iter().map(|(key, item)| (Some(key.as_str()), item));
                    labelled(table, list, &labels, items)
                }
                Value::Object(_) => vec![Row { labels, object }],
                _ => Vec::new(),
            })
            .collect();
        list += usize::from(many);
    }
    rows
}

/// The items of a list or map, each with the labels that are in it.
fn labelled<'a>(
    table: &'static Table,
    list: usize,
    outer: &[(&'static str, Cow<'a, str>)],
    items: impl Iterator<Item = (Option<&'a str>, &'a Value)>,
) -> Vec<Row<'a>> {
    let own = || table.labels.iter().filter(|label| label.list == list);
    let row = |(key, object): (Option<&'a str>, &'a Value)| {
        let mut labels = outer.to_vec();
        for label in own() {
            labels.push((label.name, value_of(label, key, object)?));
        }
        Some(Row { labels, object })
    };
    items.filter_map(row).collect()
}

fn value_of<'a>(label: &Label, key: Option<&'a str>, object: &'a Value) -> Option<Cow<'a, str>> {
    if label.path == KEY {
        return key.map(Cow::Borrowed);
    }
    match at(object, label.path)? {
        Value::String(text) => Some(Cow::Borrowed(text)),
        number @ (Value::Number(_) | Value::Bool(_)) => Some(Cow::Owned(number.to_string())),
        _ => None,
    }
}

fn at<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.')
        .try_fold(object, |object, name| object.get(name))
}

/// A figure, and of a counter its rate. Counters are numbers, or objects with `total` and `per_s`.
fn read<'a>(field: &Field, value: &'a Value) -> Option<(Reading<'a>, Option<f64>)> {
    match value {
        Value::Object(counter) if field.kind == Kind::Counter => {
            let per_s = counter.get("per_s").and_then(Value::as_f64);
            Some((number(counter.get("total")?)?, per_s))
        }
        Value::String(word) if field.kind == Kind::State => Some((Reading::Word(word), None)),
        Value::Bool(is_so) if field.kind == Kind::State => {
            Some((Reading::Whole(u64::from(*is_so)), None))
        }
        Value::Number(_) => Some((number(value)?, None)),
        _ => None,
    }
}

fn number(value: &Value) -> Option<Reading<'static>> {
    match value.as_u64() {
        Some(whole) => Some(Reading::Whole(whole)),
        None => value
            .as_f64()
            .filter(|float| float.is_finite())
            .map(Reading::Float),
    }
}
