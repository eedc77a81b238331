//! What must hold for any text and any expression.

use proptest::prelude::*;

use super::super::Target;
use super::super::pattern::Pattern;
use super::fleet;

/// An expression with the answer known without the parser: its text, and whether it holds.
#[derive(Debug, Clone)]
enum Model {
    Leaf(&'static str, bool),
    Not(Box<Model>),
    And(Box<Model>, Box<Model>),
    Or(Box<Model>, Box<Model>),
}

impl Model {
    fn holds(&self) -> bool {
        match self {
            Self::Leaf(_, holds) => *holds,
            Self::Not(inner) => !inner.holds(),
            Self::And(left, right) => left.holds() && right.holds(),
            Self::Or(left, right) => left.holds() || right.holds(),
        }
    }

    /// The text with no more parentheses than needed where something that binds as close as `binding` must stand.
    fn text(&self, binding: u8) -> String {
        let (own, text) = match self {
            Self::Leaf(text, _) => (3, (*text).to_owned()),
            Self::Not(inner) => (2, format!("not {}", inner.text(2))),
            Self::And(left, right) => (1, format!("{} and {}", left.text(1), right.text(1))),
            Self::Or(left, right) => (0, format!("{} or {}", left.text(0), right.text(0))),
        };
        if own < binding {
            format!("({text})")
        } else {
            text
        }
    }
}

/// Expressions over the fleet's first host.
fn model() -> impl Strategy<Value = Model> {
    let leaf = prop_oneof![
        Just(Model::Leaf("lb1", true)),
        Just(Model::Leaf("lb2,web*", false)),
        Just(Model::Leaf("role=lb", true)),
        Just(Model::Leaf("dc not in (gz, sz)", false)),
        Just(Model::Leaf("nothing!=1", true)),
        Just(Model::Leaf("cpu.count>100", false)),
        Just(Model::Leaf("os.name~'^D'", true)),
    ];
    leaf.prop_recursive(4, 24, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|inner| Model::Not(Box::new(inner))),
            (inner.clone(), inner.clone())
                .prop_map(|(left, right)| Model::And(Box::new(left), Box::new(right))),
            (inner.clone(), inner)
                .prop_map(|(left, right)| Model::Or(Box::new(left), Box::new(right))),
        ]
    })
}

fn holds(text: &str) -> bool {
    Target::parse(text)
        .unwrap_or_else(|error| panic!("{}", error.pointed()))
        .matches(&fleet()[0])
}

/// What a glob of literal characters, `?` and `*` means, said as directly as can be.
fn reference(glob: &[char], value: &[char]) -> bool {
    match (glob, value) {
        ([], []) => true,
        (['*', tail @ ..], _) => (0..=value.len()).any(|skip| reference(tail, &value[skip..])),
        (['?', tail @ ..], [_, rest @ ..]) => reference(tail, rest),
        ([one, tail @ ..], [c, rest @ ..]) => one == c && reference(tail, rest),
        _ => false,
    }
}

proptest! {
    #[test]
    fn any_text_parses_or_is_refused_with_a_place_in_it(text in any::<String>()) {
        if let Err(error) = Target::parse(&text) {
            prop_assert!(text.is_char_boundary(error.at));
            prop_assert!(error.pointed().lines().count() == 2);
        }
    }

    #[test]
    fn text_like_expressions_parses_or_is_refused(
        parts in prop::collection::vec(
            prop_oneof![
                "[a-z例é]{1,3}", "\"[^\"]{0,4}\"", "\\PC", "[\\[\\]!*?^\\\\'\"-]{1,4}",
                Just("and".to_owned()), Just(" or ".to_owned()), Just(" not ".to_owned()), Just(" in (".to_owned()),
                Just("=".to_owned()), Just("!=".to_owned()), Just("~".to_owned()), Just("<".to_owned()),
                Just("(".to_owned()), Just(")".to_owned()), Just(",".to_owned()), Just(" ".to_owned()),
            ],
            0..24,
        )
    ) {
        let text = parts.concat();
        match Target::parse(&text) {
            Ok(target) => {
                let again: Target = target.to_string().parse().unwrap();
                let opposite = Target::parse(&format!("not ({text})"));
                for host in &fleet() {
                    prop_assert_eq!(again.matches(host), target.matches(host));
                    if let Ok(opposite) = &opposite {
                        prop_assert_eq!(opposite.matches(host), !target.matches(host));
                    }
                }
            }
            Err(error) => prop_assert!(text.is_char_boundary(error.at)),
        }
    }

    #[test]
    fn keywords_bind_as_documented(model in model()) {
        prop_assert_eq!(holds(&model.text(0)), model.holds(), "{}", model.text(0));
    }

    #[test]
    fn not_is_the_complement_and_de_morgan_holds(a in model(), b in model()) {
        let (a, b) = (a.text(0), b.text(0));
        prop_assert_eq!(holds(&format!("not ({a})")), !holds(&a));
        prop_assert_eq!(holds(&format!("not (({a}) and ({b}))")), holds(&format!("not ({a}) or not ({b})")));
        prop_assert_eq!(holds(&format!("not (({a}) or ({b}))")), holds(&format!("not ({a}) and not ({b})")));
    }

    #[test]
    fn globs_match_as_the_reference_does(glob in "[ab例*?]{0,8}", value in "[ab例]{0,8}") {
        let (glob_chars, value_chars): (Vec<char>, Vec<char>) = (glob.chars().collect(), value.chars().collect());
        let pattern = Pattern::bare(&glob).unwrap();
        prop_assert_eq!(pattern.matches(&value), reference(&glob_chars, &value_chars));
    }

    #[test]
    fn classes_accept_their_members(low in "[a-m]", high in "[n-z]", c in "[a-z]") {
        let expected = low <= c && c <= high;
        prop_assert_eq!(Pattern::bare(&format!("x[{low}-{high}]*")).unwrap().matches(&format!("x{c}y")), expected);
        prop_assert_eq!(Pattern::bare(&format!("x[!{low}-{high}]")).unwrap().matches(&format!("x{c}")), !expected);
    }
}
