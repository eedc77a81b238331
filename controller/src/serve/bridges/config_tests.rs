#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use muster_proto::snapshot::fields;

use super::*;

#[derive(Debug, Deserialize)]
struct File {
    bridge: Vec<RawBridge>,
}

fn read(text: &str) -> Result<Vec<BridgeConfig>, String> {
    let file: File = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    parse(file.bridge).map_err(|wrong| {
        let rest = text.get(wrong.at..).unwrap_or_default();
        let place: String = rest
            .lines()
            .next()
            .unwrap_or_default()
            .chars()
            .take(6)
            .collect();
        format!("{place}… {}", wrong.why)
    })
}

const HEAD: &str = "[[bridge]]\nname = \"g\"\nkind = \"graphite\"\naddress = \"127.0.0.1\"\n";

#[test]
fn what_is_not_written_gets_its_default() {
    let all = read(HEAD).unwrap();
    let one = all.first().unwrap();
    assert_eq!(
        (one.address.as_str(), one.protocol.name),
        ("127.0.0.1:2003", "plain")
    );
    assert_eq!(one.keys.len(), fields::DECLARED.len());
    assert!(one.keys.contains(&"lvs.#".to_owned()) && !one.plan.compares("lvs"));
    let text = HEAD
        .replace("graphite", "statsd")
        .replace("127.0.0.1", "[::1]")
        + "mapping = \"original\"";
    let all = read(&text).unwrap();
    let one = all.first().unwrap();
    assert_eq!((one.address.as_str(), one.mtu), ("[::1]:8125", 1432));
    assert_eq!(one.keys, ["lvs.#"]);
    assert!(
        one.plan
            .of(fields::find("lvs", "virtual_server.in_bytes").unwrap())
            .unwrap()
            .timing
    );
    assert!(
        one.plan
            .of(fields::find("lvs", "total.in_bytes").unwrap())
            .is_none()
    );
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    for (more, want) in [
        ("adress = \"x\"", "unknown field `adress`"),
        (
            "template = \"{host}.{hots}\"",
            "hots}\"… template: there is no {hots}",
        ),
        ("template = \"a b\"", " b\"… template: names have"),
        (
            "protocol = \"udp\"",
            "\"udp\"… protocol: of graphite expected one of plain, pickle",
        ),
        ("mtu = 1400", "1400… mtu: expected"),
        ("mapping = \"orignal\"", "\"orign… mapping: expected"),
        (
            "mapping = \"original\"\ntemplate = \"a\"",
            "\"a\"… template: mapping",
        ),
        (
            "collectors = [\"host\", \"lsv\"]",
            "\"lsv\"]… collectors: no figures",
        ),
        ("fleet_host = \"x\"", "\"x\"… fleet_host: expected"),
        ("keys = []", "[]… keys: expected one"),
        ("keys = [\"a b\"]", "[\"a b\"… keys: expected COLL"),
        (
            "timeout = \"soon\"",
            "\"soon\"… timeout: expected 1s to 60s",
        ),
        ("age_max = \"1h\"", "\"1h\"… age_max: expected"),
        ("queue_max = \"1kB\"", "\"1kB\"… queue_max: expected"),
        ("counters = \"sum\"", "unknown variant `sum`"),
        (
            "[[bridge.rule]]\nseries = \"lsv/*\"\ndrop = true",
            "\"lsv/*… series: no figure",
        ),
        (
            "[[bridge.rule]]\nseries = \"lvs/*\"",
            "\"lvs/*… rule: expected either",
        ),
        (
            "[[bridge.rule]]\nseries = \"lvs/*\"\ndrop = true\nx = 1",
            "unknown field `x`",
        ),
        (HEAD, "\"g\"… name: there are two"),
    ] {
        let error = read(&format!("{HEAD}{more}\n")).unwrap_err();
        assert!(error.contains(want), "{more}: {error}");
    }
    for (from, to, want) in [
        ("\"g\"", "\"G\"", "name: expected"),
        (
            "graphite",
            "carbon",
            "kind: expected one of statsd, graphite, zabbix",
        ),
        ("127.0.0.1", "127.0.0.1:0", "address: expected"),
        ("127.0.0.1", "2001:db8::1", "address: expected"),
        ("127.0.0.1", "http://a/", "address: expected"),
    ] {
        let error = read(&HEAD.replace(from, to)).unwrap_err();
        assert!(error.contains(want), "{to}: {error}");
    }
}
