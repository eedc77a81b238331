//! Who may do what: the config's `[[keys]]` and `[[policy]]`. Default deny. Pure; it must not know signatures' bytes.

use std::collections::BTreeMap;

use muster_proto::action::{self, ActionSpec};
use muster_proto::id::KeyId;
use muster_proto::job::{Args, JobRequest};
use muster_proto::signing::JobVerifier;
use serde::Deserialize;
use serde_json::Value;

/// Most keys and most rules of a config: far more than a fleet has, and little to go through for each job.
const ENTRIES_MAX: usize = 1000;

/// The config's section `[[keys]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeySection {
    /// The key's name, as jobs name it.
    pub id: String,
    /// The public key: 64 hexadecimal digits.
    pub public_key: String,
    /// From when it is valid, e.g. `"2026-01-01T00:00:00Z"`.
    pub not_before: Option<jiff::Timestamp>,
    /// Until when it is valid.
    pub not_after: Option<jiff::Timestamp>,
}

/// The config's section `[[policy]]`: one key may run these actions with these arguments.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySection {
    /// The key's name.
    pub key: String,
    /// Globs over the names of actions; `*` is every one.
    pub actions: Vec<String>,
    /// Globs over the values of arguments, by the argument's name. An action that has the argument must be given it,
    /// with a value that one of the globs matches (of a list, every item). Arguments that are not named may be anything.
    #[serde(default)]
    pub args: BTreeMap<String, Globs>,
}

/// One glob, or a list of which any may match. `*` is any number of characters, `?` is one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "GlobsForm")]
pub struct Globs(Vec<String>);

#[derive(Deserialize)]
#[serde(untagged)]
enum GlobsForm {
    One(String),
    Many(Vec<String>),
}

impl From<GlobsForm> for Globs {
    fn from(form: GlobsForm) -> Self {
        match form {
            GlobsForm::One(one) => Self(vec![one]),
            GlobsForm::Many(many) => Self(many),
        }
    }
}

impl Globs {
    fn match_text(&self, text: &str) -> bool {
        self.0.iter().any(|glob| glob_matches(glob, text))
    }

    fn match_value(&self, value: &Value) -> bool {
        match value {
            Value::String(text) => self.match_text(text),
            Value::Bool(_) | Value::Number(_) => self.match_text(&value.to_string()),
            // An empty list may stand for everything, as it does for `collect`.
            Value::Array(items) => {
                !items.is_empty() && items.iter().all(|item| self.match_value(item))
            }
            Value::Null | Value::Object(_) => false,
        }
    }
}

/// A key that may sign jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    pub(super) public: JobVerifier,
    not_before_ms: Option<u64>,
    not_after_ms: Option<u64>,
}

impl Key {
    /// Whether it is valid at `now_ms`, give or take `tolerance_ms`.
    pub(super) fn valid_at(&self, now_ms: u64, tolerance_ms: u64) -> bool {
        self.not_before_ms
            .is_none_or(|from| now_ms.saturating_add(tolerance_ms) >= from)
            && self
                .not_after_ms
                .is_none_or(|until| now_ms <= until.saturating_add(tolerance_ms))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    key: KeyId,
    actions: Globs,
    args: BTreeMap<String, Globs>,
}

/// The keys and the rules, checked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Access {
    keys: BTreeMap<KeyId, Key>,
    rules: Vec<Rule>,
}

/// A section that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("[[{section}]] number {number}: {what}")]
pub struct AccessError {
    /// `keys` or `policy`.
    pub section: &'static str,
    /// Which of its entries, from 1.
    pub number: usize,
    /// What is wrong, and what would be right.
    pub what: String,
}

impl Access {
    /// Checks the sections against each other and against the declared actions, so that a slip of the pen in a rule
    /// neither opens nor shuts more than was meant.
    ///
    /// # Errors
    /// The first section that is wrong: what, and what would be right.
    pub fn parse(keys: &[KeySection], policy: &[PolicySection]) -> Result<Self, AccessError> {
        let mut access = Self::default();
        for (section, count) in [("keys", keys.len()), ("policy", policy.len())] {
            if count > ENTRIES_MAX {
                return Err(AccessError {
                    section,
                    number: count,
                    what: format!("more than {ENTRIES_MAX} entries"),
                });
            }
        }
        for (index, section) in keys.iter().enumerate() {
            let refused = |what| AccessError {
                section: "keys",
                number: index + 1,
                what,
            };
            let (id, key) = parse_key(section).map_err(refused)?;
            if access.keys.insert(id, key).is_some() {
                return Err(refused(format!("the id {:?} is used before", section.id)));
            }
        }
        for (index, section) in policy.iter().enumerate() {
            let rule = access.parse_rule(section).map_err(|what| AccessError {
                section: "policy",
                number: index + 1,
                what,
            })?;
            access.rules.push(rule);
        }
        Ok(access)
    }

    /// The key called `id`.
    #[must_use]
    pub fn key(&self, id: &KeyId) -> Option<&Key> {
        self.keys.get(id)
    }

    /// How many keys and how many rules there are.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.keys.len(), self.rules.len())
    }

    /// Whether some rule lets the request's key do what it asks.
    #[must_use]
    pub fn allows(&self, request: &JobRequest) -> bool {
        let spec = action::find(&request.action);
        self.rules.iter().any(|rule| {
            rule.key == request.key_id
                && rule.actions.match_text(&request.action)
                && rule
                    .args
                    .iter()
                    .all(|(name, globs)| arg_allowed(spec, name, globs, &request.args))
        })
    }

    fn parse_rule(&self, section: &PolicySection) -> Result<Rule, String> {
        let key: KeyId = section
            .key
            .parse()
            .map_err(|error| format!("key: {error}"))?;
        if !self.keys.contains_key(&key) {
            return Err(format!("key: no [[keys]] has the id {:?}", section.key));
        }
        if section.actions.is_empty() {
            return Err("actions: it is empty, so the rule allows nothing".to_owned());
        }
        let mut meant: Vec<&ActionSpec> = Vec::new();
        for glob in &section.actions {
            let before = meant.len();
            meant.extend(
                action::ACTIONS
                    .iter()
                    .filter(|spec| glob_matches(glob, spec.name)),
            );
            if meant.len() == before {
                let known: Vec<_> = action::ACTIONS.iter().map(|spec| spec.name).collect();
                return Err(format!(
                    "actions: {glob:?} matches no action; there are: {}",
                    known.join(", ")
                ));
            }
        }
        for (name, globs) in &section.args {
            if !meant.iter().any(|spec| has_arg(spec, name)) {
                return Err(format!(
                    "args: none of the rule's actions has an argument {name:?}"
                ));
            }
            if globs.0.is_empty() {
                return Err(format!(
                    "args: {name} has no glob, so the rule allows nothing"
                ));
            }
        }
        Ok(Rule {
            key,
            actions: Globs(section.actions.clone()),
            args: section.args.clone(),
        })
    }
}

fn has_arg(spec: &ActionSpec, name: &str) -> bool {
    spec.args.iter().any(|arg| arg.name == name)
}

fn arg_allowed(spec: Option<&ActionSpec>, name: &str, globs: &Globs, args: &Args) -> bool {
    match (args.get(name), spec) {
        (Some(value), _) => globs.match_value(value),
        // The action has no such argument: the restriction is about the rule's other actions.
        (None, Some(spec)) => !has_arg(spec, name),
        (None, None) => false,
    }
}

fn parse_key(section: &KeySection) -> Result<(KeyId, Key), String> {
    let id = section.id.parse().map_err(|error| format!("id: {error}"))?;
    let public = section
        .public_key
        .parse()
        .map_err(|error| format!("public_key: {error}"))?;
    let ms = |time: jiff::Timestamp| u64::try_from(time.as_millisecond()).unwrap_or(0);
    let key = Key {
        public,
        not_before_ms: section.not_before.map(ms),
        not_after_ms: section.not_after.map(ms),
    };
    if let (Some(from), Some(until)) = (key.not_before_ms, key.not_after_ms)
        && from >= until
    {
        return Err("not_after: it is not later than not_before".to_owned());
    }
    Ok((id, key))
}

/// Goes through both once and takes up again at the last star, so the time is bounded by the product of the lengths.
pub(crate) fn glob_matches(glob: &str, text: &str) -> bool {
    let glob: Vec<char> = glob.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut rest, mut left) = (glob.as_slice(), text.as_slice());
    let mut star: Option<(&[char], &[char])> = None;
    loop {
        match (rest.split_first(), left.split_first()) {
            (Some(('*', after)), _) => {
                star = Some((after, left));
                rest = after;
            }
            (Some((want, glob_left)), Some((found, text_left)))
                if *want == '?' || want == found =>
            {
                (rest, left) = (glob_left, text_left);
            }
            (None, None) => return true,
            _ => match star {
                Some((after, [_, further @ ..])) => {
                    star = Some((after, further));
                    (rest, left) = (after, further);
                }
                _ => return false,
            },
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use muster_proto::id::JobId;
    use serde_json::json;

    use super::*;

    const PUBLIC: &str = "ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c";

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Config {
        keys: Vec<KeySection>,
        #[serde(default)]
        policy: Vec<PolicySection>,
    }

    fn access(policy: &str) -> Result<Access, AccessError> {
        let text = format!("[[keys]]\nid = \"ops\"\npublic_key = \"{PUBLIC}\"\n{policy}");
        let config: Config = toml::from_str(&text).unwrap();
        Access::parse(&config.keys, &config.policy)
    }

    fn request(action: &str, args: &Value) -> JobRequest {
        JobRequest {
            id: JobId::from_parts(1, [0; 10]),
            issuer: "ann".parse().unwrap(),
            key_id: "ops".parse().unwrap(),
            target: "*".to_owned(),
            action: action.to_owned(),
            args: serde_json::from_value(args.clone()).unwrap(),
            issued_at_ms: 0,
            deliver_by_ms: 0,
            run_limit_ms: 1,
            dry_run: false,
            cause: None,
        }
    }

    #[test]
    fn rules_allow_what_they_say_and_nothing_else() {
        let rules = "[[policy]]\nkey = \"ops\"\nactions = [\"ping\", \"service.*\"]\nargs = { unit = \"nginx*\" }\n\
                     [[policy]]\nkey = \"ops\"\nactions = [\"collect\"]\nargs = { names = [\"host\", \"lvs\"] }\n\
                     [[policy]]\nkey = \"ops\"\nactions = [\"script.run\"]\nargs = { name = \"deploy\", args = \"v?\" }\n";
        let access = access(rules).unwrap();
        for (action, args, want) in [
            ("ping", json!({}), true),
            ("service.restart", json!({ "unit": "nginx.service" }), true),
            ("service.restart", json!({ "unit": "sshd.service" }), false),
            ("service.restart", json!({}), false),
            ("service.restart", json!({ "unit": ["nginx"] }), true), // the schema refuses it
            ("service.restart", json!({ "unit": { "nginx": 1 } }), false),
            ("facts", json!({}), false),
            ("pin", json!({}), false),
            ("collect", json!({ "names": ["host"] }), true),
            ("collect", json!({ "names": ["host", "nginx"] }), false),
            ("collect", json!({ "names": [] }), false),
            ("collect", json!({}), false),
            (
                "script.run",
                json!({ "name": "deploy", "args": ["v1", "v2"] }),
                true,
            ),
            (
                "script.run",
                json!({ "name": "deploy", "args": ["v1", "v22"] }),
                false,
            ),
            ("script.run", json!({ "name": "deploy" }), false),
            ("service.nonsense", json!({}), false),
        ] {
            assert_eq!(
                access.allows(&request(action, &args)),
                want,
                "{action} {args}"
            );
        }
        let mut other = request("ping", &json!({}));
        other.key_id = "dev".parse().unwrap();
        assert!(!access.allows(&other));
        assert!(
            !self::access("")
                .unwrap()
                .allows(&request("ping", &json!({}))),
            "deny by default"
        );
    }

    #[test]
    fn slips_of_the_pen_are_refused() {
        for (rule, want) in [
            (
                "key = \"opps\"\nactions = [\"*\"]",
                "[[policy]] number 1: key: no [[keys]] has the id \"opps\"",
            ),
            (
                "key = \"ops\"\nactions = []",
                "[[policy]] number 1: actions: it is empty, so the rule allows nothing",
            ),
            (
                "key = \"ops\"\nactions = [\"ping\"]\nargs = { uint = \"nginx\" }",
                "[[policy]] number 1: args: none of the rule's actions has an argument \"uint\"",
            ),
            (
                "key = \"ops\"\nactions = [\"service.*\"]\nargs = { unit = [] }",
                "[[policy]] number 1: args: unit has no glob, so the rule allows nothing",
            ),
        ] {
            let error = access(&format!("[[policy]]\n{rule}")).map_err(|error| error.to_string());
            assert_eq!(error, Err(want.to_owned()));
        }
        let error = access("[[policy]]\nkey = \"ops\"\nactions = [\"servce.*\"]")
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with(
                "[[policy]] number 1: actions: \"servce.*\" matches no action; there are: collect"
            ),
            "{error}"
        );
        let twice = format!(
            "[[keys]]\nid = \"ops\"\npublic_key = \"{PUBLIC}\"\n[[policy]]\nkey = \"ops\"\nactions = [\"*\"]"
        );
        assert_eq!(
            access(&twice).unwrap_err().to_string(),
            "[[keys]] number 2: the id \"ops\" is used before"
        );
    }

    #[test]
    fn keys_are_valid_between_their_times_give_or_take() {
        let key = Key {
            public: PUBLIC.parse().unwrap(),
            not_before_ms: Some(1000),
            not_after_ms: Some(2000),
        };
        for (now, want) in [
            (969, false),
            (970, true),
            (1500, true),
            (2030, true),
            (2031, false),
        ] {
            assert_eq!(key.valid_at(now, 30), want, "{now}");
        }
    }
}
