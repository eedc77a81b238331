//! The way to the service manager over D-Bus, for those who act on units and for those who watch them. It must not
//! know which units these are.
//!
//! Source: org.freedesktop.systemd1(5).

pub(crate) mod proxies;

use std::time::Duration;

use zbus::connection::Builder;

/// Longest wait for one answer of the bus; what takes its time by nature has its own limit.
pub(crate) const CALL_LIMIT: Duration = Duration::from_secs(25);

/// What the default bus is called in messages.
pub(crate) const SYSTEM_BUS: &str = "the system bus";

/// The service manager's name on the bus.
pub(crate) const DESTINATION: &str = "org.freedesktop.systemd1";
/// Its object.
pub(crate) const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
/// Its interface.
pub(crate) const MANAGER: &str = "org.freedesktop.systemd1.Manager";
/// The interface that all units have.
pub(crate) const UNIT: &str = "org.freedesktop.systemd1.Unit";
/// The interface that services have on top.
pub(crate) const SERVICE: &str = "org.freedesktop.systemd1.Service";

/// Above the objects of the units.
pub(crate) const UNIT_PATHS: &str = "/org/freedesktop/systemd1/unit";

/// A connection to be made to the bus at `address`, or to the system's.
pub(crate) fn bus(address: Option<&str>) -> Builder<'_> {
    address
        .map_or_else(Builder::system, Builder::address)
        .method_timeout(CALL_LIMIT)
}

/// The name of the unit whose object is at `path`.
pub(crate) fn unit_name(path: &str) -> Option<String> {
    let label = path.strip_prefix(UNIT_PATHS)?.strip_prefix('/')?;
    if label == "_" {
        return Some(String::new());
    }
    let mut name = Vec::with_capacity(label.len());
    let mut bytes = label.bytes();
    while let Some(byte) = bytes.next() {
        name.push(if byte == b'_' {
            hex(bytes.next()?)? << 4 | hex(bytes.next()?)?
        } else {
            byte
        });
    }
    String::from_utf8(name).ok()
}

/// The path of the object of the unit `name`: letters and digits stay, all else is `_` and two hexadecimal digits, a
/// digit in the first place too.
pub(crate) fn unit_path(name: &str) -> String {
    let mut path = format!("{UNIT_PATHS}/");
    if name.is_empty() {
        path.push('_');
    }
    for (at, byte) in name.bytes().enumerate() {
        let plain = byte.is_ascii_alphabetic() || at > 0 && byte.is_ascii_digit();
        if plain {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("_{byte:02x}"));
        }
    }
    path
}

fn hex(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths() {
        for (name, path) in [
            ("nginx.service", "nginx_2eservice"),
            ("app@1.service", "app_401_2eservice"),
            ("9p.mount", "_39p_2emount"),
            ("a-b_c.service", "a_2db_5fc_2eservice"),
            ("", "_"),
        ] {
            let path = format!("{UNIT_PATHS}/{path}");
            assert_eq!(unit_path(name), path);
            assert_eq!(unit_name(&path).as_deref(), Some(name));
        }
        for path in [
            "",
            "/org/freedesktop/systemd1",
            "/org/freedesktop/systemd1/unit/a_2",
            "/org/freedesktop/systemd1/unit/a_zz",
            "/org/freedesktop/systemd1/unit/_ff",
        ] {
            assert_eq!(unit_name(path), None, "{path}");
        }
    }
}
