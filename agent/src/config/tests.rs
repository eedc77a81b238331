use super::*;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("agent.toml"))
}

fn says(text: &str) -> String {
    match parse(text) {
        Ok(_) => "good".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn the_sample_parses_to_the_defaults() {
    let sample = parse(&sample()).unwrap();
    let mut bare = parse("").unwrap();
    // The collectors' sections are raw here; each collector holds its own sample against its defaults.
    bare.collect.clone_from(&sample.collect);
    assert_eq!(format!("{sample:?}"), format!("{bare:?}"));
    let names: Vec<_> = sample.collect.keys().map(String::as_str).collect();
    let known: Vec<_> = crate::collect::COLLECTORS
        .iter()
        .map(|spec| spec.name)
        .collect();
    assert_eq!(names, known);
}

#[test]
fn the_sample_shows_every_key() {
    let sample = sample();
    for (before, section) in [
        ("", ""),
        ("[broker]\n", "broker"),
        ("[http]\n", "http"),
        ("[[keys]]\n", "keys"),
        ("[[policy]]\n", "policy"),
        ("[outbox]\n", "outbox"),
        ("[jobs]\n", "jobs"),
        ("[services]\n", "services"),
        ("[scripts.x]\n", "scripts"),
        ("[logs]\n", "logs"),
        ("[inventory]\n", "inventory"),
        ("[roots]\n", "roots"),
    ] {
        let text = format!("{before}qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq = 1\n");
        let error = says(&text);
        let known = error
            .split("known here are ")
            .nth(1)
            .unwrap_or_else(|| panic!("[{section}]: {error}"));
        for key in known.split(", ") {
            let shown = sample.lines().any(|line| {
                let line = line.trim_start_matches("# ");
                line.starts_with(&format!("{key} ="))
                    || line.starts_with(&format!("[{key}"))
                    || line.starts_with(&format!("[[{key}]]"))
            });
            assert!(shown, "[{section}] {key} is not in the sample");
        }
    }
}

const TWICE: &str = "[[keys]]\nid = \"ops\"\npublic_key = \"ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c\"\n[[keys]]\nid = \"ops\"\npublic_key = \"ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c\"\n";

/// Texts, and how their errors begin.
const WRONG: &[(&str, &str)] = &[
    (
        "hots = \"a\"",
        "agent.toml:1:1: unknown key `hots`; did you mean `host`?",
    ),
    (
        "\n[http]\nlisen = \"\"",
        "agent.toml:3:1: unknown key `lisen`; did you mean `listen`?",
    ),
    (
        "[[tail]]\nname = \"a\"\npaths = [\"/a\"]\npacks = [\"sshd\"]\n[[tail]]\nname = \"b\"\npaths = [\"b\"]\npacks = [\"sshd\"]\n",
        "agent.toml:7:10: paths[1]: expected a path that begins with /, found \"b\"",
    ),
    (
        "[[tail]]\nname = \"a\"\npaths = [\"/a\"]\npacks = [\"sshd\"]\n[[tail]]\nname = \"a\"\npaths = [\"/b\"]\npacks = [\"sshd\"]\n",
        "agent.toml:6:1: name: there are two sections \"a\"",
    ),
    (
        "[[tail]]\nname = \"a\"\npaths = [\"/a\"]\npacks = [\"sshd\"]\n[[tail]]\nname = \"a\"\njournal = true\npacks = [\"sshd\"]\n",
        "agent.toml:6:1: name: there are two sections \"a\"",
    ),
    (
        "[[tail]]\nname = \"a\"\npaths = [\"/a\"]\nencoding = \"klingon\"\npacks = [\"sshd\"]\n",
        "agent.toml:4:1: encoding: expected \"auto\" or an encoding's name",
    ),
    (
        "[[tail]]\nname = \"a\"\npaths = [\"/a\"]\n\n[[tail.rule]]\ntopic = \"a.b\"\nsummary = \"s\"\npattern = 'no (closing'\n",
        "agent.toml:8:15: rule[1].pattern: not a regex: unclosed group",
    ),
    (
        "[[tail]]\nname = \"a\"\npaths = [\"/a\"]\n[[tail.rule]]\npattern = \"x\"\ntopic = \"a.b\"\nsummary = \"s\"\n  [[tail.rule]]\n  pattern = \"y\"\n  topic = \"a.c\"\n  summary = \"of {who}\"\n",
        "agent.toml:11:3: rule[2].summary: no capture of the pattern is called \"who\"",
    ),
    (
        "[[tail]]\nname = \"a\"\npaths = [\"/a\"]\n[[tail.rule]]\npatern = \"x\"\npattern = \"x\"\ntopic = \"a.b\"\nsummary = \"s\"\n",
        "agent.toml:5:1: rule[1].patern: no such key is known here",
    ),
    (
        "[[tail]]\nname = \"a\"\npaths = [\"/a\"]\npacks = [\"sshd\", \"sendmail\"]\n",
        "agent.toml:4:18: packs[2]: no such pack \"sendmail\"",
    ),
    (
        "[[tail]]\nname = \"a\"\npaths = 5\npacks = [\"sshd\"]\n",
        "agent.toml:3:1: paths: invalid type: integer `5`, expected a sequence",
    ),
    (
        "[[tail]]\nname = \"a\"\npaths = [\"/a\"]\npacks = [\"sshd\"]\n[tail.multiline]\nstart = \"(\"\n",
        "agent.toml:6:1: multiline.start: regex parse error",
    ),
    (
        "[[tail]]\npaths = [\"/a\"]\npacks = [\"sshd\"]\n",
        "agent.toml:1:1: missing field `name`",
    ),
    (
        "[[tail]]\nname = \"a\"\njournal = true\nencoding = \"utf-8\"\npacks = [\"sshd\"]\n",
        "agent.toml:4:1: encoding: this section reads the journal, not files",
    ),
    (
        "[http]\n  listen = \"9418\"",
        "agent.toml:2:12: listen: expected an address and a port such as \"127.0.0.1:9418\", or \"\" for none, found \"9418\"",
    ),
    (
        "[http]\nlisten = \"0.0.0.0:9418\"",
        "agent.toml:2:1: listen: others than this host reach 0.0.0.0:9418, so it needs a token: name its file in token_file",
    ),
    (
        "[http]\ntoken_file = \"token\"",
        "agent.toml:2:14: token_file: expected a path that begins with /",
    ),
    (
        "host = \"a b\"",
        "agent.toml:1:8: host: host name \"a b\" is not valid: only letters, digits, '.', '-' and '_' are allowed",
    ),
    (
        "presence_interval = \"0s\"",
        "agent.toml:1:21: presence_interval: expected a duration from 1s to 1h, such as \"30s\", found \"0s\"",
    ),
    (
        "presence_interval = 5",
        "agent.toml:1:21: presence_interval: invalid type: integer `5`, expected a duration from 1s to 1h, such as \"30s\"",
    ),
    (
        "state_dir = \"here\"",
        "agent.toml:1:13: state_dir: expected a path that begins with /, found \"here\"",
    ),
    (
        "[outbox]\nbytes_max = \"1 KiB\"",
        "agent.toml:2:13: bytes_max: expected a size from 4.0 MiB to 64.0 GiB, such as \"64 MiB\", found \"1 KiB\"",
    ),
    (
        "[broker]\nhearbeat = \"1s\"",
        "agent.toml:2:1: unknown key `hearbeat`; did you mean `heartbeat`?",
    ),
    (
        "[collect.hots]",
        "agent.toml:1:10: [collect.hots]: no such collector; there are: host",
    ),
    (
        "[collect.host]\ninterval = \"1s\"\nintervall = \"1s\"",
        "agent.toml:3:1: [collect.host] intervall: unknown field `intervall`",
    ),
    (
        "[labels]\n\"a b\" = \"x\"",
        "agent.toml:2:1: label \"a b\": a name of letters, digits, '.', '-' and '_' is wanted",
    ),
    (
        "[labels]\nrole = 1",
        "agent.toml:2:8: role: invalid type: integer `1`, expected a string",
    ),
    (
        "[[policy]]\nkey = \"ops\"\nactions = [\"ping\"]",
        "agent.toml:1:1: [[policy]] number 1: key: no [[keys]] has the id \"ops\"",
    ),
    (
        "[[keys]]\nid = \"ops\"",
        "agent.toml:1:1: missing field `public_key`",
    ),
    (
        "[[keys]]\nid = \"ops\"\npublic_key = \"12\"",
        "agent.toml:1:1: [[keys]] number 1: public_key: not an ed25519 public key",
    ),
    (
        TWICE,
        "agent.toml:4:1: [[keys]] number 2: the id \"ops\" is used before",
    ),
    (
        "[scripts.x]\npath = \"/x\"\nsha256 = \"12\"",
        "agent.toml:1:10: [scripts.x] sha256: expected 64 hexadecimal digits",
    ),
    (
        "[logs]\nsearch = [\"var/log/*\"]",
        "agent.toml:2:1: search: expected a path such as \"/var/log/*.log\", from the root and without .., found \"var/log/*\"",
    ),
    ("host = ", "agent.toml:1:8: "),
    ("a = 1\na = 2", "agent.toml:2:1: duplicate key"),
];

#[test]
fn what_is_wrong_is_said_with_its_place_and_what_is_wanted() {
    for (text, want) in WRONG {
        let error = says(text);
        assert!(
            error.starts_with(want),
            "{text:?}\n  said  {error}\n  wants {want}"
        );
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn a_missing_file_is_named_with_what_helps() {
    let error = Config::load(Path::new("/nonexistent/agent.toml"))
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("read the config /nonexistent/agent.toml: No such file"),
        "{error}"
    );
    assert!(error.contains("muster-agent config default"), "{error}");
}

#[test]
fn values_arrive() {
    let config = parse(
        "host = \"LB1\"\nstate_dir = \"/s\"\n[labels]\nrole = \"lb\"\n[http]\nlisten = \"\"\n[broker]\nurl = \"amqp://mq/fleet\"\n\
         [outbox]\nage_max = \"3 days\"\n[services]\nunits = [\"nginx.service\"]\nbus = \"unix:path=/b\"\nsettle = \"0s\"",
    )
    .unwrap();
    assert_eq!(config.host.as_str(), "lb1");
    assert_eq!(config.broker.user(), "lb1");
    assert_eq!(config.http.listen, None);
    assert_eq!(config.outbox.age_max, jiff::SignedDuration::from_hours(72));
    assert_eq!(config.services.bus.as_deref(), Some("unix:path=/b"));
    assert_eq!(config.services.settle, Duration::ZERO);
}
