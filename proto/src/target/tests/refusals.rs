//! Refused expressions: the place, the message and how it is shown; and the bounds.

use super::super::{Target, TargetError};
use super::Host;

fn refused(text: &str) -> TargetError {
    match Target::parse(text) {
        Ok(_) => panic!("{text:?} was accepted"),
        Err(error) => error,
    }
}

/// The text, the place in bytes, and the message.
const REFUSED: &[(&str, usize, &str)] = &[
    ("", 0, "the expression is empty: every host is written `*`"),
    (
        " \n\t",
        0,
        "the expression is empty: every host is written `*`",
    ),
    ("role=", 5, "expected a value after `=`, found the end"),
    (
        "role= and dc=gz",
        6,
        "expected a value after `=`, found `and`, which must be quoted to be a name or value",
    ),
    ("=lb", 0, "expected a host name, a label or `(`, found `=`"),
    (
        "role=lb and",
        11,
        "expected a host name, a label or `(`, found the end",
    ),
    (
        "role=lb or or x",
        11,
        "expected a host name, a label or `(`, found `or`, which must be quoted to be a name or value",
    ),
    (
        "role=lb dc=gz",
        8,
        "expected `and`, `or` or the end, found `dc`: host names are joined by commas",
    ),
    (
        "lb1 lb2",
        4,
        "expected `and`, `or` or the end, found `lb2`: host names are joined by commas",
    ),
    ("lb1,", 4, "expected a host name after `,`, found the end"),
    (
        "lb1,role=lb",
        8,
        "a comma joins host names only: join tests with `and` or `or`",
    ),
    (
        "role=lb,web",
        7,
        "expected `and`, `or` or the end, found `,`",
    ),
    (
        "lb1 not lb2",
        4,
        "expected `and`, `or` or `not in` before this `not`",
    ),
    ("''", 0, "a host's name is never empty"),
    ("''=x", 0, "the name of a label is never empty"),
    (
        "ro*=lb",
        0,
        "`ro*` is not the name of a label: globs stand on the right",
    ),
    ("(lb1", 0, "this `(` is never closed"),
    ("lb1 or (lb2 or lb3", 7, "this `(` is never closed"),
    (
        "(lb1 lb2)",
        5,
        "expected `and`, `or` or `)`, found `lb2`: host names are joined by commas",
    ),
    ("lb1)", 3, "this `)` has no `(`"),
    ("()", 1, "expected a host name, a label or `(`, found `)`"),
    ("dc in gz", 6, "expected `(` after `in`, found `gz`"),
    ("dc in ()", 7, "expected a value in the list, found `)`"),
    ("dc in (gz,)", 10, "expected a value in the list, found `)`"),
    ("dc in (gz sz)", 10, "expected `,` or `)`, found `sz`"),
    ("dc in (gz", 6, "this `(` is never closed"),
    ("role==lb", 4, "`==` is written `=` here"),
    ("role=~lb", 4, "`=~` is written `~` here"),
    ("!lb1", 0, "`!` is written `not` here"),
    ("lb1 && lb2", 4, "`&` is written `and` here"),
    (
        "lb1 || lb2",
        4,
        "`|` is written `or` here, or belongs in quotes",
    ),
    (
        "role={lb}",
        5,
        "unexpected `{`: put text with such characters in quotes",
    ),
    (
        "host~^old",
        5,
        "unexpected `^`: put text with such characters in quotes",
    ),
    (
        "例=1 and 例;",
        13,
        "unexpected `;`: put text with such characters in quotes",
    ),
    ("role=\"lb", 5, "this \" is never closed"),
    ("role='lb\\'", 5, "this ' is never closed"),
    (
        "role=\"l\\b\"",
        7,
        "unknown escape `\\b`: a backslash is written `\\\\`",
    ),
    ("web[0-9", 3, "this `[` is never closed"),
    ("web[0-9 and dc=x]", 3, "this `[` is never closed"),
    ("web[]", 3, "this class is empty"),
    ("web-[!]", 4, "this class is empty"),
    (
        "web[9-0]",
        3,
        "the range `9-0` in this class runs backwards",
    ),
    (
        "cpu.count>many",
        10,
        "expected a number after `>`, found `many`",
    ),
    (
        "cpu.count<nan",
        10,
        "expected a number after `<`, found `nan`",
    ),
    (
        "cpu.count>=inf",
        11,
        "expected a number after `>=`, found `inf`",
    ),
    (
        "cpu.count<",
        10,
        "expected a number after `<`, found the end",
    ),
    (
        "host~''",
        5,
        "an empty pattern matches everything: every host is written `*`",
    ),
    ("host~", 5, "expected a pattern after `~`, found the end"),
    ("host~'a(b'", 7, "bad pattern: unclosed group"),
    ("host~'例(b'", 9, "bad pattern: unclosed group"),
    (
        "host~'a\\q'",
        7,
        "bad pattern: unrecognized escape sequence",
    ),
];

#[test]
fn refusals_name_the_place() {
    for (text, at, message) in REFUSED {
        let error = refused(text);
        assert_eq!(
            (error.at, error.message.as_str()),
            (*at, *message),
            "{text}"
        );
    }
}

#[test]
fn errors_point_at_the_place() {
    let error = refused("dc=例 or x==1");
    assert_eq!(
        error.to_string(),
        "cannot read the target at character 10: `==` is written `=` here"
    );
    assert_eq!(
        error.pointed(),
        "dc=例 or x==1\n         ^ `==` is written `=` here"
    );

    // Only the line with the place, cut on both sides, and nothing that a terminal would obey.
    let long = format!(
        "lb1 or\n{}\u{1b}\u{202e}\tx ; {}\nlb2",
        "a or ".repeat(20),
        "z ".repeat(40)
    );
    assert_eq!(
        refused(&long).pointed(),
        "…or a or a or a or a or a or a or a or a or a or \u{fffd}\u{fffd} x ; z z z z z z z z z z z…\n\
         \u{20}                                                ^ unexpected `\u{fffd}`: put text with such \
         characters in quotes"
    );
}

#[test]
fn bounds_are_refused_clearly_and_only_past_them() {
    let nested = |depth: usize| format!("{}lb1{}", "(".repeat(depth), ")".repeat(depth));
    let nots = |depth: usize| format!("{}lb1", "not ".repeat(depth));
    let terms = |count: usize| vec!["a=1"; count].join(" or ");
    let patterns = |count: usize| vec!["a~1"; count].join(" or ");
    let long = |bytes: usize| {
        format!("lb1{}", ",lb2".repeat(bytes))
            .chars()
            .take(bytes)
            .collect::<String>()
    };
    let group = |depth: usize| format!("a~'{}x{}'", "(".repeat(depth), ")".repeat(depth));
    for text in [
        nested(32),
        nots(32),
        terms(256),
        patterns(32),
        long(4096 - 1),
        group(31),
    ] {
        assert!(Target::parse(&text).is_ok(), "{text:.40}");
    }

    let too_long =
        "the expression has 4097 bytes, the most is 4096: use labels or globs for so many hosts";
    let too_big = "this pattern needs more than 64 KiB compiled: repeat less";
    let cases = [
        (
            nested(33),
            32,
            "parentheses and `not` nest more than 32 deep",
        ),
        (
            nots(33),
            4 * 32,
            "parentheses and `not` nest more than 32 deep",
        ),
        (
            nested(2000),
            32,
            "parentheses and `not` nest more than 32 deep",
        ),
        (
            terms(257),
            7 * 256,
            "more than 256 tests: use `in (…)` or labels",
        ),
        (
            patterns(33),
            7 * 32 + 2,
            "more than 32 patterns: join them with `|` in one",
        ),
        (long(4097), 4096, too_long),
        // The bound falls within a character.
        (format!("a{}", "例".repeat(1365) + "x"), 4096, too_long),
        ("a~'((x{100}){100}){100}'".to_owned(), 3, too_big),
        ("a~'(?u)\\w{500}'".to_owned(), 3, too_big),
    ];
    for (text, at, message) in cases {
        let error = refused(&text);
        assert_eq!(
            (error.at, error.message.as_str()),
            (at, message),
            "{text:.40}"
        );
    }
    let deep = refused(&group(1000));
    assert!(
        deep.message
            .starts_with("bad pattern: exceed the maximum number of nested"),
        "{deep}"
    );
    assert!(refused(&"(".repeat(10_000_000)).pointed().len() < 400);
}

#[test]
fn a_hostile_glob_ends_soon() {
    // With retries in every star the first would take longer than the universe has; the second takes the most steps
    // that a glob can.
    let host = Host::new("h", &[("x", &"a".repeat(20_000))]);
    for glob in ["*a".repeat(1000), format!("*{}", "a".repeat(1000))] {
        assert!(
            !Target::parse(&format!("x={glob}b")).unwrap().matches(&host),
            "{glob:.10}"
        );
    }
    let target = Target::parse("x~'^(a+)+(a|a?)*b$'").unwrap();
    assert!(!target.matches(&host));
}

#[test]
fn a_long_fact_is_matched_whole() {
    let host = Host::new("h", &[("x", &format!("{}needle", "é".repeat(50_000)))]);
    assert!(
        Target::parse("x=*needle and x~'needle$' and not x=*needl")
            .unwrap()
            .matches(&host)
    );
}
