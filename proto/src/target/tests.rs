//! Expressions over three hosts. What is refused and what must hold for any input have their own files.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::*;

mod laws;
mod refusals;

struct Host {
    name: String,
    values: BTreeMap<String, String>,
}

impl Host {
    fn new(name: &str, values: &[(&str, &str)]) -> Self {
        let values = values
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        Self {
            name: name.to_owned(),
            values,
        }
    }
}

impl Subject for Host {
    fn host(&self) -> &str {
        &self.name
    }

    fn value(&self, key: &str) -> Option<Cow<'_, str>> {
        self.values
            .get(key)
            .map(|value| Cow::Borrowed(value.as_str()))
    }
}

fn fleet() -> [Host; 3] {
    [
        // The label `host` must not hide the host's name.
        Host::new(
            "lb1",
            &[
                ("role", "lb"),
                ("dc", "gz"),
                ("os.name", "Debian 12"),
                ("cpu.count", "8"),
                ("host", "x"),
            ],
        ),
        Host::new(
            "lb2",
            &[
                ("role", "lb"),
                ("dc", "sz"),
                ("os.name", "rocky"),
                ("cpu.count", "16"),
                ("load1", "0.50"),
            ],
        ),
        Host::new(
            "oldweb-07.例",
            &[
                ("role", "web"),
                ("dc", ""),
                ("note", "a \"b\" \\ *"),
                ("cpu.count", "many"),
            ],
        ),
    ]
}

/// The numbers of the fleet's hosts that an expression chooses.
fn chosen(text: &str) -> Vec<usize> {
    let target = Target::parse(text).unwrap_or_else(|error| panic!("{text}\n{}", error.pointed()));
    fleet()
        .iter()
        .enumerate()
        .filter(|(_, host)| target.matches(*host))
        .map(|(index, _)| index)
        .collect()
}

/// The text, and the hosts that it chooses.
const CHOSEN: &[(&str, &[usize])] = &[
    ("*", &[0, 1, 2]),
    ("all", &[0, 1, 2]),
    ("ALL", &[0, 1, 2]),
    ("\"all\"", &[]),
    ("role=all", &[]),
    ("lb1", &[0]),
    ("LB1", &[0]),
    ("L[B]?", &[0, 1]),
    ("host=\"LB1\"", &[0]),
    ("host in (LB1)", &[0]),
    ("host~'^LB1'", &[0]),
    ("os.name~debian", &[]),
    ("lb", &[]),
    ("lb*", &[0, 1]),
    ("lb1,lb2", &[0, 1]),
    (" lb1 ,\n'lb2' ", &[0, 1]),
    ("*web-[0-9]?.*", &[2]),
    ("lb[!1]", &[1]),
    ("lb[^1]", &[1]),
    ("lb[2-9x-]", &[1]),
    ("oldweb-07.?", &[2]),
    ("role=lb", &[0, 1]),
    ("role=LB", &[]),
    ("role!=lb", &[2]),
    ("role=l*", &[0, 1]),
    ("role='l*'", &[]),
    ("note=\"a \\\"b\\\" \\\\ *\"", &[2]),
    ("note='a \"b\" \\\\ *'", &[2]),
    ("dc=''", &[2]),
    ("dc=*", &[0, 1, 2]),
    ("load1=*", &[1]),
    ("dc in (gz, sz)", &[0, 1]),
    ("dc in (g*)", &[0]),
    ("dc not in (gz,'sz')", &[2]),
    ("dc NOT IN (gz)", &[1, 2]),
    ("host=lb1", &[0]),
    ("host=x", &[]),
    ("host in (lb1, oldweb*)", &[0, 2]),
    ("host~\"^old\"", &[2]),
    ("host~b", &[0, 1, 2]),
    ("host!~'^lb\\d$'", &[2]),
    ("host~'(?i)^LB'", &[0, 1]),
    ("host~'(?u)07\\..$'", &[2]),
    ("host~例", &[2]),
    ("os.name~\"^(Debian|Ubuntu) 1[0-9]\"", &[0]),
    // A missing key.
    ("load1=0.50", &[1]),
    ("load1!=0.50", &[0, 2]),
    ("load1 in (0.50)", &[1]),
    ("load1 not in (0.50)", &[0, 2]),
    ("load1~5", &[1]),
    ("load1!~5", &[0, 2]),
    ("load1<1", &[1]),
    ("not load1<1", &[0, 2]),
    // Numbers, and what is none.
    ("cpu.count<16", &[0]),
    ("cpu.count <= 16", &[0, 1]),
    ("cpu.count>8.0", &[1]),
    ("cpu.count>=8", &[0, 1]),
    ("cpu.count>-1e3", &[0, 1]),
    // Joining: `not`, then `and`, then `or`.
    ("not role=lb", &[2]),
    ("not not lb1", &[0]),
    ("not lb1 and not lb2", &[2]),
    ("lb1 or lb2 and role=web", &[0]),
    ("(lb1 or lb2) and role=web", &[]),
    ("not lb1 or lb1", &[0, 1, 2]),
    ("not (lb1 or lb2)", &[2]),
    ("role=lb AND dc in (gz, sz) aNd Not host~\"^old\"", &[0, 1]),
    // Keywords in quotes are names.
    ("\"not\"=x or \"role\"=web", &[2]),
    ("role in ('and', web)", &[2]),
];

#[test]
fn expressions_choose_hosts() {
    for (text, expected) in CHOSEN {
        assert_eq!(chosen(text), *expected, "{text}");
    }
}

#[test]
fn exact_names_are_known_as_such() {
    let cases: &[(&str, Option<&[&str]>)] = &[
        ("lb1", Some(&["lb1"])),
        ("lb2, 'lb1',LB2", Some(&["lb2", "lb1"])),
        (
            "lb1 or (host=lb2 or host in (lb3, \"lb4\"))",
            Some(&["lb1", "lb2", "lb3", "lb4"]),
        ),
        ("*", None),
        ("lb1,all", None),
        ("lb1,lb[2]", None),
        ("host!=lb1", None),
        ("host~lb1", None),
        ("not lb1", None),
        ("lb1 and lb2", None),
        ("lb1 or role=lb", None),
    ];
    for (text, expected) in cases {
        assert_eq!(
            Target::parse(text).unwrap().named_hosts().as_deref(),
            *expected,
            "{text}"
        );
    }
}

#[test]
fn keys_are_listed_once() {
    let target =
        Target::parse("role=lb and (dc in (gz) or not role~x) and lb1 and load1<3").unwrap();
    assert_eq!(target.keys(), ["role", "dc", "load1"]);
}

#[test]
fn travels_as_its_text() {
    let target: Target = " role = lb ".parse().unwrap();
    let json = serde_json::to_string(&target).unwrap();
    assert_eq!(json, "\" role = lb \"");
    assert_eq!(serde_json::from_str::<Target>(&json).unwrap(), target);
    let packed = rmp_serde::to_vec(&target).unwrap();
    assert_eq!(rmp_serde::from_slice::<Target>(&packed).unwrap(), target);
    let error = serde_json::from_str::<Target>("\"role=\"")
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("cannot read the target at character 6: expected a value after `=`"),
        "{error}"
    );
}
