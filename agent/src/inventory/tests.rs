use serde_json::json;

use super::*;

const SAMPLE: &str = "\
cluster_id: 7
area: gz
admin_mail_group: [noc@example.com]
server:
  - vip_instance: shop
    descript: the shop's front
    owners: ann, bob
    mailto:
      - shop@example.com
    vip_group:
      - {vip: 192.0.2.99, port: 80}
      - vip: 2001:db8::99
        port: '443'
  - vip_instance: VSG1
    description: games
    owners: [eve]
    vip_group:
      - vip: 192.0.2.100
";

fn enriched(topic: &str, fields: Value) -> Value {
    let mut fields: BTreeMap<String, Value> = serde_json::from_value(fields).unwrap();
    Inventory::parse(SAMPLE).unwrap().enrich(topic, &mut fields);
    json!(fields)
}

#[test]
fn a_virtual_server_is_known_however_it_is_written() {
    let shop = json!({
        "cluster_id": "7", "area": "gz", "admin_mail_group": ["noc@example.com"], "vip_instance": "shop",
        "description": "the shop's front", "owners": ["ann", "bob"], "mailto": ["shop@example.com"],
    });
    for written in [
        "[192.0.2.99]:tcp:80",
        "[192.0.2.99]:80",
        "192.0.2.99:80",
        "TCP 192.0.2.99:80",
        "tcp/192.0.2.99:80",
        "[2001:db8::99]:tcp:443",
        "tcp/[2001:db8::99]:443",
    ] {
        let mut got = enriched("x.y", json!({ "virtual_server": written }));
        got.as_object_mut().unwrap().remove("virtual_server");
        assert_eq!(got, shop, "{written}");
    }
    let got = enriched("lvs.x", json!({ "vip": "192.0.2.99", "port": 80 }));
    assert_eq!(got.get("vip_instance"), Some(&json!("shop")));
}

#[test]
fn a_group_is_known_by_its_name_and_an_address_without_a_port_is_all_of_it() {
    for written in ["[VSG1]:0", "VSG1", "[192.0.2.100]:udp:53", "192.0.2.100"] {
        let got = enriched("keepalived.x", json!({ "virtual_server": written }));
        assert_eq!(got.get("description"), Some(&json!("games")), "{written}");
    }
}

#[test]
fn what_is_not_in_it_gets_the_cluster_alone_and_other_events_nothing() {
    let cluster =
        json!({ "cluster_id": "7", "area": "gz", "admin_mail_group": ["noc@example.com"] });
    assert_eq!(enriched("keepalived.vrrp.master", json!({})), cluster);
    for written in [
        "[192.0.2.99]:tcp:81",
        "FWM 5",
        "",
        "[",
        "[x]",
        ":",
        "nonsense:80",
    ] {
        let mut got = enriched("lvs.backend.down", json!({ "virtual_server": written }));
        got.as_object_mut().unwrap().remove("virtual_server");
        assert_eq!(got, cluster, "{written}");
    }
    assert_eq!(
        enriched("host.interface.down", json!({ "interface": "eth0" })),
        json!({ "interface": "eth0" })
    );
    let own = enriched("lvs.x", json!({ "area": "mine" }));
    assert_eq!(own.get("area"), Some(&json!("mine")), "what is there stays");
}

#[test]
fn what_is_wrong_is_said() {
    for (text, says) in [
        (
            "server: [{vip_group: [{vip: here, port: 1}]}]",
            "server 1 (): vip: expected an address, found \"here\"",
        ),
        (
            "server:\n  - vip_instance: a\n    vip_group: [{vip: 192.0.2.1, port: http}]",
            "server 1 (a): port: expected a number",
        ),
        ("server: 3", ""),
        ("a: [", ""),
        ("cluster_id: [a, b]", ""),
    ] {
        let said = Inventory::parse(text).unwrap_err();
        assert!(
            said.starts_with(says) && !said.contains('\n'),
            "{text}: {said}"
        );
    }
    assert_eq!(Inventory::parse("{}"), Ok(Inventory::default()));
}

#[test]
fn a_broken_file_leaves_what_was_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("info.yaml");
    std::fs::write(&path, SAMPLE).unwrap();
    let file = InventoryFile::at(Some(path.clone()));
    let known = |file: &InventoryFile| {
        let mut fields = BTreeMap::from([("virtual_server".to_owned(), json!("192.0.2.99:80"))]);
        file.look_again();
        file.enrich("x.y", &mut fields);
        fields.contains_key("owners")
    };
    assert!(known(&file));
    assert_eq!(file.news(), None);
    std::fs::write(&path, "server: [").unwrap();
    assert!(known(&file));
    assert!(matches!(file.news(), Some(Err(why)) if why.contains("info.yaml")));
    std::fs::remove_file(&path).unwrap();
    assert!(known(&file));
    assert_eq!(file.news(), None, "it is said once");
    std::fs::write(&path, "server: []").unwrap();
    assert!(!known(&file));
    assert_eq!(file.news(), Some(Ok(())));
    assert!(!known(&InventoryFile::at(None)));
}
