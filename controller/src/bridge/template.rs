//! Templates of names: `{host}.{collector}.{table}.{labels}.{field}`. What hosts say of themselves (labels) never
//! brings characters into a name that mean something to a sink.

use std::fmt::Write as _;

use muster_proto::snapshot::fields::{self, Sample};

/// Bytes of one part of a path at the most: it becomes the name of a folder.
const PART_BYTES_MAX: usize = 200;

/// Bytes of a whole name at the most.
pub const NAME_BYTES_MAX: usize = 1200;

/// What is allowed in names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Parts of letters, digits, `_` and `-`, joined by dots; everything else becomes `_`.
    Path,
    /// The same, and parameters in brackets, quoted where they need it.
    Key,
}

/// A template that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
    style: Style,
}

/// What is wrong with a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct TemplateError {
    /// At which of its bytes.
    pub at: usize,
    /// What is wrong there.
    pub why: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Slot(Slot),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Slot {
    Host,
    Collector,
    Table,
    Field,
    Series,
    Labels,
    Vip,
    Label(&'static str),
}

impl Template {
    /// Understands a template: text, and names in braces.
    ///
    /// # Errors
    /// A brace without its other half, a name that there is not, or a character that names may not have.
    pub fn parse(text: &str, style: Style) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        let mut bracketed = false;
        while !rest.is_empty() {
            let at = text.len() - rest.len();
            let (literal, after) = rest.split_once('{').unwrap_or((rest, ""));
            check_literal(literal, at, style, &mut bracketed)?;
            if !literal.is_empty() {
                pieces.push(Piece::Text(literal.to_owned()));
            }
            if literal.len() == rest.len() {
                break;
            }
            let at = at + literal.len();
            let (name, after) = after.split_once('}').ok_or_else(|| TemplateError {
                at,
                why: "this { has no }".to_owned(),
            })?;
            pieces.push(Piece::Slot(
                Slot::parse(name).map_err(|why| TemplateError { at: at + 1, why })?,
            ));
            rest = after;
        }
        if pieces.is_empty() {
            let why = "a name can't be empty".to_owned();
            return Err(TemplateError { at: 0, why });
        }
        Ok(Self { pieces, style })
    }

    /// The name of a figure of `host`; none where the figure has no such label.
    #[must_use]
    pub fn render(&self, host: &str, sample: &Sample<'_>) -> Option<String> {
        let mut name = String::with_capacity(80);
        let mut bracketed = false;
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => {
                    name.push_str(text);
                    bracketed = text.rfind(['[', ']']).map_or(bracketed, |at| {
                        text.as_bytes().get(at).copied() == Some(b'[')
                    });
                }
                Piece::Slot(slot) => slot.write(&mut name, host, sample, bracketed)?,
            }
        }
        let name = match self.style {
            Style::Path => tidy(&name),
            Style::Key => name.replace("[]", ""),
        };
        (!name.is_empty()).then_some(name)
    }
}

fn check_literal(
    text: &str,
    at: usize,
    style: Style,
    bracketed: &mut bool,
) -> Result<(), TemplateError> {
    for (offset, character) in text.char_indices() {
        let good = match character {
            '[' | ']' if style == Style::Key => {
                *bracketed = character == '[';
                true
            }
            _ if *bracketed => !character.is_control(),
            _ => character.is_ascii_alphanumeric() || "._-".contains(character),
        };
        if !good {
            let why = format!(
                "names have letters, digits, '.', '_' and '-', and {{names}} in braces, not {character:?}"
            );
            return Err(TemplateError {
                at: at + offset,
                why,
            });
        }
    }
    Ok(())
}

impl Slot {
    fn parse(name: &str) -> Result<Self, String> {
        Ok(match name {
            "host" => Self::Host,
            "collector" => Self::Collector,
            "table" => Self::Table,
            "field" => Self::Field,
            "series" => Self::Series,
            "labels" => Self::Labels,
            "vip" => Self::Vip,
            name => {
                let mut labels = fields::all().flat_map(|series| series.table.labels);
                let found = labels.find(|label| label.name == name);
                Self::Label(found.map(|label| label.name).ok_or_else(|| {
                    format!(
                        "there is no {{{name}}}; there are host, collector, table, field, series, labels, vip and the \
                         labels' own names, such as interface or virtual_server"
                    )
                })?)
            }
        })
    }

    fn write(&self, name: &mut String, host: &str, sample: &Sample<'_>, key: bool) -> Option<()> {
        let label = |wanted: &str| {
            let mut labels = sample.labels.iter();
            labels
                .find(|(name, _)| *name == wanted)
                .map(|(_, value)| value.as_ref())
        };
        let series = sample.series;
        match self {
            Self::Host => value(name, host, key),
            Self::Collector => name.push_str(series.collector),
            Self::Table => name.push_str(series.table.name),
            Self::Field => name.push_str(series.field.path),
            Self::Series => {
                let _ = write!(name, "{series}"); // strings can be written to
            }
            Self::Labels => {
                for (at, (_, text)) in sample.labels.iter().enumerate() {
                    if at > 0 {
                        name.push(if key { ',' } else { '.' });
                    }
                    value(name, text, key);
                }
            }
            Self::Vip => value(name, vip(label("virtual_server")?), key),
            Self::Label(wanted) => value(name, label(wanted)?, key),
        }
        Some(())
    }
}

/// Address and port of a virtual server's name, without its protocol; of a firewall mark, its number.
fn vip(name: &str) -> &str {
    name.split_once('/').map_or(name, |(_, rest)| rest)
}

/// Writes what came from outside: tamed, or as a parameter of a key.
fn value(name: &mut String, text: &str, key: bool) {
    if key {
        parameter(name, text);
        return;
    }
    let tame = |character: char| match character {
        '_' | '-' => character,
        character if character.is_ascii_alphanumeric() => character,
        _ => '_',
    };
    name.extend(text.chars().map(tame));
}

/// A parameter of a Zabbix item key: quoted exactly where Zabbix itself quotes when it puts a value in for a macro.
fn parameter(name: &mut String, text: &str) {
    let text: String = text
        .chars()
        .map(|c| if c.is_control() { '_' } else { c })
        .collect();
    let quoted = text.starts_with(['"', ' ', '[']) || text.contains([',', ']']);
    // Zabbix can't say a quoted parameter that ends with a backslash.
    let text = match text.strip_suffix('\\') {
        Some(rest) if quoted => format!("{rest}_"),
        _ => text,
    };
    if quoted {
        name.push('"');
        name.push_str(&text.replace('"', "\\\""));
        name.push('"');
    } else {
        name.push_str(&text);
    }
}

/// A path without empty parts, and without parts that no file can be called by.
fn tidy(path: &str) -> String {
    let mut tidied = String::with_capacity(path.len());
    for part in path.split('.').filter(|part| !part.is_empty()) {
        if !tidied.is_empty() {
            tidied.push('.');
        }
        if part.len() <= PART_BYTES_MAX {
            tidied.push_str(part);
        } else {
            // All ASCII here. The rest tells it apart from others that begin alike.
            tidied.push_str(part.get(..PART_BYTES_MAX - 17).unwrap_or_default());
            let _ = write!(tidied, "-{:016x}", fnv(part.as_bytes()));
        }
    }
    tidied
}

/// FNV-1a: the same in every version of this program, as a name must be.
pub(super) fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    fn names(
        template: &str,
        style: Style,
        collector: &str,
        snapshot: &serde_json::Value,
    ) -> Vec<String> {
        let template = Template::parse(template, style).unwrap();
        fields::series(collector, snapshot)
            .filter_map(|sample| template.render("lb1.example.com", &sample))
            .collect()
    }

    #[test]
    fn names_are_made_of_what_they_ask_for() {
        let lvs =
            json!({"virtual_servers": [{"name": "tcp/[2001:db8::1]:80", "active_connections": 3}]});
        let memory = json!({"memory": {"free_bytes": 1}});
        for (template, collector, snapshot, want) in [
            (
                "{host}.{collector}.{table}.{labels}.{field}",
                "lvs",
                &lvs,
                "lb1_example_com.lvs.virtual_server.tcp__2001_db8__1__80.active_connections",
            ),
            (
                "{host}.vip.{vip}.conns",
                "lvs",
                &lvs,
                "lb1_example_com.vip._2001_db8__1__80.conns",
            ),
            (
                "{host}.{labels}.{series}",
                "host",
                &memory,
                "lb1_example_com.memory.free_bytes",
            ),
            ("..a.{labels}..b.", "host", &memory, "a.b"),
        ] {
            assert_eq!(
                names(template, Style::Path, collector, snapshot),
                [want],
                "{template}"
            );
        }
        assert_eq!(
            names("{interface}", Style::Path, "lvs", &lvs),
            Vec::<String>::new()
        );
        let key = "muster.{collector}.{series}[{labels}]";
        assert_eq!(
            names(key, Style::Key, "lvs", &lvs),
            [
                "muster.lvs.virtual_server.active_connections[tcp/[2001:db8::1]:80]"
                    .replace("[tcp/[2001:db8::1]:80]", "[\"tcp/[2001:db8::1]:80\"]")
            ]
        );
        assert_eq!(
            names(key, Style::Key, "host", &memory),
            ["muster.host.memory.free_bytes"]
        );
    }

    #[test]
    fn hostile_labels_bring_nothing_into_names() {
        let unit = |name: &str| json!({"units": [{"name": name, "n_restarts": 1}]});
        let template = "{host}.{unit}.{field}";
        for (hostile, want) in [
            ("a:1|c\nb", "a_1_c_b"),
            ("../../etc/passwd", "______etc_passwd"),
            ("x@0.1 #tag;k=v", "x_0_1__tag_k_v"),
            ("ä\0\u{2028}", "___"),
        ] {
            let name = format!("lb1_example_com.{want}.n_restarts");
            assert_eq!(
                names(template, Style::Path, "services", &unit(hostile)),
                [name]
            );
        }
        let long = names(template, Style::Path, "services", &unit(&"u".repeat(5000)));
        let other = names(template, Style::Path, "services", &unit(&"u".repeat(5001)));
        assert!(long.iter().all(|name| name.len() < 250) && long != other);
        for (hostile, want) in [
            ("a,b", "k[\"a,b\"]"),
            ("a\"b", "k[a\"b]"),
            ("\"a\"]", "k[\"\\\"a\\\"]\"]"),
            ("a],\\", "k[\"a],_\"]"),
            ("a\nb", "k[a_b]"),
        ] {
            assert_eq!(
                names("k[{unit}]", Style::Key, "services", &unit(hostile)),
                [want]
            );
        }
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (text, at, why) in [
            ("a.{hots}", 3, "there is no {hots}"),
            ("a.{host", 2, "no }"),
            ("a b", 1, "not ' '"),
            ("a}", 1, "not '}'"),
            ("é", 0, "not 'é'"),
            ("", 0, "empty"),
        ] {
            let error = Template::parse(text, Style::Path).unwrap_err();
            assert!(
                error.at == at && error.why.contains(why),
                "{text}: {error:?}"
            );
        }
    }
}
