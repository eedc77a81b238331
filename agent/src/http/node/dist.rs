//! `dist`: the distribution, by os-release(5) and uname(2).

use std::path::Path;

use serde::Serialize;

use super::super::refusal::Refusal;
use super::json::{Body, pretty};
use crate::facts::os_release;

#[derive(Debug, Default, Serialize, PartialEq, Eq)]
struct Dist {
    #[serde(rename = "os.system")]
    system: String,
    #[serde(rename = "os.version")]
    version: String,
    #[serde(rename = "os.release")]
    release: String,
    #[serde(rename = "os.sysinstall")]
    sysinstall: &'static str,
    #[serde(rename = "os.installer")]
    installer: &'static str,
    #[serde(rename = "os.arch")]
    arch: String,
    #[serde(rename = "os.hostname")]
    hostname: String,
}

/// A family of distributions: words of os-release by which it is known, and its two installers.
type Family = (&'static [&'static str], &'static str, &'static str);

static FAMILIES: &[Family] = &[
    (&["debian", "ubuntu"], "apt-get", "dpkg"),
    (&["suse", "opensuse", "sles", "sled"], "zypper", "rpm"),
    (
        &[
            "rhel",
            "fedora",
            "centos",
            "rocky",
            "almalinux",
            "ol",
            "amzn",
        ],
        "yum",
        "rpm",
    ),
];

/// Names by which callers know distributions that os-release spells otherwise.
static NAMES: &[(&str, &str)] = &[("ubuntu", "Ubuntu"), ("rhel", "redhat"), ("sles", "SuSE")];

fn shape(release: &str, arch: String, hostname: String) -> Dist {
    let value = |key: &str| os_release(release, key).unwrap_or_default();
    let (id, like) = (value("ID"), value("ID_LIKE"));
    let words = || std::iter::once(id.as_str()).chain(like.split_ascii_whitespace());
    let known = |word: &str| {
        let is = |name: &&str| {
            *name == word
                || word
                    .strip_prefix(*name)
                    .is_some_and(|rest| rest.starts_with('-'))
        };
        FAMILIES.iter().find(|(names, ..)| names.iter().any(is))
    };
    let family = words().find_map(known);
    let spelt = NAMES.iter().find(|(name, _)| *name == id);
    let suse = id.starts_with("opensuse").then(|| "SuSE".to_owned());
    Dist {
        system: suse.unwrap_or_else(|| spelt.map_or(id.clone(), |(_, spelt)| (*spelt).to_owned())),
        version: value("VERSION_ID"),
        release: codename(&value("VERSION_CODENAME"), &value("VERSION")),
        sysinstall: family.map_or("", |(_, sysinstall, _)| sysinstall),
        installer: family.map_or("", |(.., installer)| installer),
        arch,
        hostname,
    }
}

/// The codename, which older files have in brackets behind the version alone.
fn codename(own: &str, version: &str) -> String {
    let bracketed = || Some(version.split_once('(')?.1.split_once(')')?.0);
    let name = if own.is_empty() {
        bracketed()
    } else {
        Some(own)
    };
    name.unwrap_or_default().to_owned()
}

/// Reads the distribution under `root`; where it does not tell, its values are empty.
pub(super) fn read(root: &Path) -> Result<Body, Refusal> {
    let files = ["etc/os-release", "usr/lib/os-release"];
    let text = files
        .iter()
        .find_map(|file| std::fs::read_to_string(root.join(file)).ok());
    let uname = rustix::system::uname();
    let word = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    pretty(&shape(
        &text.unwrap_or_default(),
        word(uname.machine()),
        word(uname.nodename()),
    ))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn distributions_are_named_as_callers_know_them() {
        for (text, want) in [
            (
                "ID=debian\nVERSION_ID=\"12\"\nVERSION=\"12 (bookworm)\"\nVERSION_CODENAME=bookworm\n",
                ["debian", "12", "bookworm", "apt-get", "dpkg"],
            ),
            (
                "ID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"22.04\"\nVERSION_CODENAME=jammy",
                ["Ubuntu", "22.04", "jammy", "apt-get", "dpkg"],
            ),
            (
                "ID=linuxmint\nID_LIKE=\"ubuntu debian\"\nVERSION_ID=21",
                ["linuxmint", "21", "", "apt-get", "dpkg"],
            ),
            (
                "ID=\"centos\"\nID_LIKE=\"rhel fedora\"\nVERSION_ID=\"7\"\nVERSION=\"7 (Core)\"",
                ["centos", "7", "Core", "yum", "rpm"],
            ),
            (
                "ID=rhel\nVERSION_ID=9.4\nVERSION=\"9.4 (Plow)\"",
                ["redhat", "9.4", "Plow", "yum", "rpm"],
            ),
            (
                "ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\nVERSION_ID=\"15.5\"",
                ["SuSE", "15.5", "", "zypper", "rpm"],
            ),
            ("ID=arch\n", ["arch", "", "", "", ""]),
            ("\u{0}garbage=(", ["", "", "", "", ""]),
        ] {
            let dist = shape(text, "x86_64".to_owned(), "lb1".to_owned());
            let found = [
                &*dist.system,
                &dist.version,
                &dist.release,
                dist.sysinstall,
                dist.installer,
            ];
            assert_eq!(found, want, "{text}");
        }
    }

    #[test]
    fn keys_and_order() {
        let dist = shape("ID=debian", "x86_64".to_owned(), "lb1".to_owned());
        let want = "{\n    \"os.system\": \"debian\",\n    \"os.version\": \"\",\n    \"os.release\": \"\",\n    \
                    \"os.sysinstall\": \"apt-get\",\n    \"os.installer\": \"dpkg\",\n    \"os.arch\": \"x86_64\",\n    \
                    \"os.hostname\": \"lb1\"\n}";
        assert_eq!(pretty(&dist).unwrap().0, want);
    }
}
