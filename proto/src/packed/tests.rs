use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::Deserialize;
use serde_json::json;

use super::*;
use crate::snapshot::host::{Counter, HostSnapshot, Load};
use crate::snapshot::lvs::{LvsSnapshot, RealServer, Traffic, VirtualServer};

/// All that is promised of a packed value.
fn check<T: Serialize + ?Sized>(value: &T) -> Packed {
    let packed = Packed::of(value).unwrap();
    let tree = serde_json::to_value(value).unwrap();
    assert_eq!(packed.value().unwrap(), tree);
    assert_eq!(serde_json::to_value(&packed).unwrap(), tree);
    assert_eq!(rmp_serde::to_vec_named(&packed).unwrap(), packed.bytes());
    assert_eq!(Packed::of(&packed).unwrap(), packed);
    packed
}

fn lvs() -> LvsSnapshot {
    let traffic = |total| {
        let counter = Counter {
            total,
            per_s: Some(0.1),
        };
        Some(Traffic {
            connections: counter,
            in_bytes_per_s_kernel: Some(7),
            ..Traffic::default()
        })
    };
    let real = |at: u64| RealServer {
        name: format!("10.0.0.{at}:80"),
        family: "ipv4".into(),
        weight: 1,
        overloaded: Some(false),
        traffic: traffic(at << 30),
        ..RealServer::default()
    };
    let server = |at: u64| VirtualServer {
        name: format!("tcp/192.0.2.{at}:80"),
        port: Some(80),
        traffic: traffic(u64::MAX - at),
        real_servers: (0..20).map(real).collect(),
        unknown: BTreeMap::from([("9".to_owned(), "00".to_owned())]),
        ..VirtualServer::default()
    };
    LvsSnapshot {
        at_ms: 1_700_000_000_000,
        present: true,
        virtual_servers: (0..40).map(server).collect(),
        ..LvsSnapshot::default()
    }
}

#[test]
fn a_snapshot_is_its_tree_and_comes_back() {
    let lvs = lvs();
    assert_eq!(check(&lvs).read::<LvsSnapshot>().unwrap(), lvs);
    let host = HostSnapshot {
        load: Some(Load::default()),
        ..HostSnapshot::default()
    };
    assert_eq!(check(&host).read::<HostSnapshot>().unwrap(), host);
}

#[test]
fn what_is_not_a_number_is_null_as_in_json() {
    #[derive(Serialize)]
    struct Rates(f64, f64, f64, f32, f32);
    let rates = Rates(f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f32::NAN, 0.1);
    assert_eq!(
        Packed::of(&rates).unwrap().value().unwrap(),
        json!([null, null, null, null, f64::from(0.1_f32)])
    );
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
enum Shape {
    Unit,
    New(u8),
    Tuple(u8, String),
    Struct { z: u8, a: Option<char> },
}

#[test]
fn every_shape_is_that_of_its_tree() {
    #[derive(Serialize)]
    struct Flat {
        z: u8,
        #[serde(flatten)]
        more: BTreeMap<&'static str, u8>,
        #[serde(skip_serializing_if = "Option::is_none")]
        left_out: Option<u8>,
    }
    for shape in [
        Shape::Unit,
        Shape::New(200),
        Shape::Tuple(1, "é".to_owned()),
        Shape::Struct {
            z: 1, a: Some('ß')
        },
    ] {
        assert_eq!(check(&shape).read::<Shape>().unwrap(), shape);
    }
    check(&((), Some(1_u8), None::<u8>, [0_u8; 3], "text"));
    // Its length is not known before.
    check(&Flat {
        z: 1,
        more: BTreeMap::from([("a", 1), ("b", 2)]),
        left_out: None,
    });
}

#[test]
fn what_it_is_not_is_an_error() {
    let packed = Packed::of(&json!({"a": "b"})).unwrap();
    assert!(packed.read::<u64>().is_err());
    assert_eq!(format!("{packed:?}"), "Packed({\"a\":\"b\"})");
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        // Where the smallest form changes.
        (0_u32..63, -1_i64..=1, any::<bool>()).prop_map(|(bits, by, below)| {
            let edge = 1_i64 << bits;
            Value::from(if below { -edge } else { edge }.wrapping_add(by))
        }),
        any::<f64>().prop_map(Value::from),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 128, 20, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..20).prop_map(Value::from),
            prop::collection::btree_map(".{0,40}", inner, 0..20)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_value_comes_back(value in values()) {
        check(&value);
    }
}
