//! From values to the attributes that the kernel takes. Pure.

use super::attributes::{address_bytes, family_number, put, put_nested};
use super::name::ServiceKey;
use super::types::Destination;
use super::uapi;

/// What a request says about which virtual server it means.
pub(super) fn service_key(into: &mut Vec<u8>, key: &ServiceKey) {
    put_nested(into, uapi::ATTR_SERVICE, |into| {
        let family = family_number(key.family());
        put(into, uapi::SVC_AF, &family.to_ne_bytes());
        match key {
            ServiceKey::Address {
                protocol,
                address,
                port,
            } => {
                let protocol = protocol.number();
                put(into, uapi::SVC_PROTOCOL, &protocol.to_ne_bytes());
                put(into, uapi::SVC_ADDR, &address_bytes(*address));
                put(into, uapi::SVC_PORT, &port.to_be_bytes());
            }
            ServiceKey::Mark { mark, .. } => put(into, uapi::SVC_FWMARK, &mark.to_ne_bytes()),
        }
    });
}

/// A whole real server, as the kernel wants it for a change: what is left out would be set back.
pub(super) fn destination(into: &mut Vec<u8>, destination: &Destination) {
    put_nested(into, uapi::ATTR_DEST, |into| {
        let key = &destination.key;
        put(into, uapi::DEST_ADDR, &address_bytes(key.address));
        put(into, uapi::DEST_PORT, &key.port.to_be_bytes());
        let family = family_number(destination.family());
        put(into, uapi::DEST_ADDR_FAMILY, &family.to_ne_bytes());
        for (kind, value) in [
            (uapi::DEST_FWD_METHOD, destination.forward.number()),
            (uapi::DEST_WEIGHT, destination.weight),
            (uapi::DEST_U_THRESH, destination.upper_threshold),
            (uapi::DEST_L_THRESH, destination.lower_threshold),
        ] {
            put(into, kind, &value.to_ne_bytes());
        }
        if let Some(tunnel) = destination.tunnel {
            put(into, uapi::DEST_TUN_TYPE, &tunnel.kind.to_ne_bytes());
            put(into, uapi::DEST_TUN_PORT, &tunnel.port.to_be_bytes());
            put(into, uapi::DEST_TUN_FLAGS, &tunnel.flags.to_ne_bytes());
        }
    });
}
