//! The address of a broker as a config file gives it. Strict: credentials and options have their own keys.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};

/// Where a broker listens, and which vhost is meant: `amqp://HOST[:PORT][/VHOST]`, or `amqps://` for TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerUrl {
    tls: bool,
    host: String,
    port: u16,
    vhost: String,
}

/// Why a text is no [`BrokerUrl`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}; write it as amqp://HOST:PORT/VHOST, or amqps:// for TLS")]
pub struct UrlError {
    what: String,
}

impl BrokerUrl {
    /// Whether the connection is encrypted.
    #[must_use]
    pub const fn tls(&self) -> bool {
        self.tls
    }

    /// Host name or address, IPv6 without its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port: 5672, or 5671 with TLS, when the text has none.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The vhost, decoded: `/` when the text has none.
    #[must_use]
    pub fn vhost(&self) -> &str {
        &self.vhost
    }

    /// `host:port`, for messages.
    #[must_use]
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl Default for BrokerUrl {
    fn default() -> Self {
        Self {
            tls: false,
            host: "127.0.0.1".to_owned(),
            port: 5672,
            vhost: "/".to_owned(),
        }
    }
}

impl FromStr for BrokerUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let bad = |what: &str| UrlError {
            what: what.to_owned(),
        };
        // Never repeat the text while it may hold a password.
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| bad("the broker's url has no scheme"))?;
        let tls = match scheme {
            "amqp" => false,
            "amqps" => true,
            _ => return Err(bad("the broker's url is neither amqp:// nor amqps://")),
        };
        if rest.contains('@') {
            return Err(bad(
                "the broker's url must not hold credentials: they belong in `user` and `password_file`",
            ));
        }
        if rest.contains(['?', '#']) {
            return Err(bad(
                "the broker's url takes no options: they have keys of their own",
            ));
        }
        let (authority, vhost) = match rest.split_once('/') {
            None => (rest, "/".to_owned()),
            Some((authority, path)) => (authority, decoded(path).map_err(|why| bad(&why))?),
        };
        if vhost.is_empty() {
            return Err(bad(
                "the vhost in the broker's url is empty (the default one is written %2f, or left out)",
            ));
        }
        if vhost.len() > 255 {
            return Err(bad(
                "the vhost in the broker's url is longer than 255 bytes",
            ));
        }
        let (host, port) = split_authority(authority).map_err(bad)?;
        let port = port.unwrap_or(if tls { 5671 } else { 5672 });
        Ok(Self {
            tls,
            host,
            port,
            vhost,
        })
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "amqps" } else { "amqp" };
        write!(f, "{scheme}://{}/", self.address())?;
        for byte in self.vhost.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                write!(f, "{}", char::from(byte))?;
            } else {
                write!(f, "%{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for BrokerUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

fn split_authority(authority: &str) -> Result<(String, Option<u16>), &'static str> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest
            .split_once(']')
            .ok_or("the broker's url has a '[' without its ']'")?;
        if host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err("what stands in brackets in the broker's url is not an IPv6 address");
        }
        match after.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if after.is_empty() => (host, None),
            None => return Err("the broker's url has something else than a port after ']'"),
        }
    } else {
        match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        }
    };
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("the broker's url names no host");
    }
    let port = match port.map(str::parse::<u16>) {
        None => None,
        Some(Ok(port)) if port > 0 => Some(port),
        Some(_) => return Err("the port in the broker's url is not a number from 1 to 65535"),
    };
    Ok((host.to_owned(), port))
}

fn decoded(path: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'/' => {
                return Err(
                    "the vhost in the broker's url has a '/', which is written %2f".to_owned(),
                );
            }
            b'%' => {
                let digits = [rest.next(), rest.next()]
                    .map(|digit| char::from(digit.unwrap_or(b'?')).to_digit(16));
                match digits {
                    [Some(high), Some(low)] => u8::try_from(high * 16 + low).unwrap_or(b'?'),
                    _ => {
                        return Err(
                            "the vhost in the broker's url has a '%' without two digits".to_owned()
                        );
                    }
                }
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| "the vhost in the broker's url is not UTF-8".to_owned())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (text, tls, host, port, vhost) in [
            ("amqp://rabbit", false, "rabbit", 5672, "/"),
            ("amqps://rabbit", true, "rabbit", 5671, "/"),
            ("amqp://127.0.0.1:1234/%2f", false, "127.0.0.1", 1234, "/"),
            ("amqp://[::1]:1234/fleet", false, "::1", 1234, "fleet"),
            ("amqp://[::1]/a%20b", false, "::1", 5672, "a b"),
        ] {
            let url: BrokerUrl = text.parse().unwrap();
            assert_eq!(
                (url.tls(), url.host(), url.port(), url.vhost()),
                (tls, host, port, vhost),
                "{text}"
            );
            assert_eq!(url.to_string().parse::<BrokerUrl>().unwrap(), url, "{text}");
        }
    }

    #[test]
    fn bad_urls_say_what_is_wrong_and_never_show_a_password() {
        for (text, want) in [
            ("rabbit:5672", "no scheme"),
            ("http://rabbit", "neither amqp://"),
            ("amqp://user:secret@rabbit", "credentials"),
            ("amqp://rabbit?heartbeat=1", "no options"),
            ("amqp://rabbit/", "is empty"),
            ("amqp://rabbit/a/b", "%2f"),
            ("amqp://rabbit/%zz", "two digits"),
            ("amqp://rabbit/%ff", "not UTF-8"),
            ("amqp://:5672", "no host"),
            ("amqp://rabbit:0", "port"),
            ("amqp://rabbit:66000", "port"),
            ("amqp://[::1", "without its ']'"),
            ("amqp://[rabbit]", "not an IPv6"),
        ] {
            let error = text.parse::<BrokerUrl>().unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
