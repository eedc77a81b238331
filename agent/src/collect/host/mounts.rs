//! The mount table, `/proc/<pid>/mountinfo` (kernel: Documentation/filesystems/proc.rst, 3.5). Pure.
//!
//! procfs's `MountInfo` is not used: it leaves the escapes in mount points, wants UTF-8, and builds two maps per mount.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::super::files::{Lines, ParseError};

/// Types that a server elsewhere answers for. Shown only where the configuration asks for them.
const REMOTE: &[&str] = &[
    "9p",
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "coda",
    "fuse.ceph",
    "fuse.glusterfs",
    "fuse.rclone",
    "fuse.s3fs",
    "fuse.sshfs",
    "gfs2",
    "glusterfs",
    "gpfs",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs4",
    "ocfs2",
    "smb3",
    "smbfs",
];

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// Device numbers, the same for every mount of one filesystem.
    pub(super) device: Vec<u8>,
    /// As bytes, since a path need not be UTF-8.
    pub(super) mount_point: Vec<u8>,
    pub(super) fs_type: String,
    pub(super) source: String,
    pub(super) read_only: bool,
}

impl Mount {
    pub(super) fn remote(&self) -> bool {
        REMOTE.contains(&self.fs_type.as_str())
    }

    pub(super) fn shown(&self) -> String {
        String::from_utf8_lossy(&self.mount_point).into_owned()
    }

    pub(super) fn under(&self, root: &Path) -> PathBuf {
        let relative = self
            .mount_point
            .strip_prefix(b"/")
            .unwrap_or(&self.mount_point);
        root.join(OsStr::from_bytes(relative))
    }
}

pub(super) fn parse(text: &[u8]) -> Lines<Mount> {
    let mut lines = Lines::default();
    for (at, line) in text
        .split(|byte| *byte == b'\n')
        .enumerate()
        .filter(|(_, line)| !line.is_empty())
    {
        let wanted = "a mount with its type, source and options";
        lines.push(
            mount(line).ok_or_else(|| ParseError::at(at, wanted, &String::from_utf8_lossy(line))),
        );
    }
    lines
}

/// `id parent major:minor root mount-point options [tags…] - type source super-options`
fn mount(line: &[u8]) -> Option<Mount> {
    let mut words = line.split(|byte| *byte == b' ');
    let device = words.nth(2)?;
    let mount_point = words.nth(1)?;
    let options = words.next()?;
    words.find(|word| *word == b"-")?;
    let (fs_type, source) = (words.next()?, words.next()?); // the source may be empty
    let super_options = words.next().unwrap_or_default();
    let read_only = |options: &[u8]| {
        options
            .split(|byte| *byte == b',')
            .any(|option| option == b"ro")
    };
    Some(Mount {
        device: device.to_vec(),
        mount_point: unescape(mount_point),
        fs_type: String::from_utf8_lossy(fs_type).into_owned(),
        source: String::from_utf8_lossy(&unescape(source)).into_owned(),
        read_only: read_only(options) || read_only(super_options),
    })
}

/// Blank, tab, newline, backslash and hash stand as three octal digits.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match (byte, after) {
            (
                b'\\',
                [
                    a @ b'0'..=b'3',
                    b @ b'0'..=b'7',
                    c @ b'0'..=b'7',
                    further @ ..,
                ],
            ) => {
                plain.push(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'));
                rest = further;
            }
            _ => plain.push(*byte),
        }
    }
    plain
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn check(line: &str, mount_point: &str, fs_type: &str, source: &str, read_only: bool) {
        let mount = mount(line.as_bytes()).unwrap();
        assert_eq!(mount.shown(), mount_point, "{line}");
        assert_eq!(
            (mount.fs_type.as_str(), mount.source.as_str()),
            (fs_type, source),
            "{line}"
        );
        assert_eq!(mount.read_only, read_only, "{line}");
    }

    #[test]
    fn lines_with_all_their_oddities() {
        check(
            "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard",
            "/",
            "ext4",
            "/dev/vda",
            false,
        );
        check(
            "27 1 8:1 /a /b rw shared:1 master:2 unbindable - xfs /dev/sda1 rw",
            "/b",
            "xfs",
            "/dev/sda1",
            false,
        );
        check(
            r"9 1 8:1 / /mnt/my\040disk\134x\011 rw - vfat /dev/sd\040b rw",
            "/mnt/my disk\\x\t",
            "vfat",
            "/dev/sd b",
            false,
        );
        check(
            "9 1 8:1 / /m ro,nosuid - ext4 /dev/sdb rw",
            "/m",
            "ext4",
            "/dev/sdb",
            true,
        );
        check(
            "9 1 8:1 / /m rw - ext4 /dev/sdb ro,errors=remount-ro",
            "/m",
            "ext4",
            "/dev/sdb",
            true,
        );
        check(
            "9 1 8:1 / /m rw,prot=ro2 - ext4 /dev/sdb rw,x=ro",
            "/m",
            "ext4",
            "/dev/sdb",
            false,
        );
        check("9 1 0:5 / /m rw - tmpfs  rw", "/m", "tmpfs", "", false);
        check(
            "9 1 0:5 / /- rw - nfs4 srv:/- rw",
            "/-",
            "nfs4",
            "srv:/-",
            false,
        );
        check(
            r"9 1 0:5 / /a\04 rw - ext4 x rw",
            r"/a\04",
            "ext4",
            "x",
            false,
        );
    }

    #[test]
    fn bytes_that_are_not_text_reach_the_kernel_as_they_are() {
        let mount = mount(b"9 1 8:1 / /caf\xe9 rw - ext4 /dev/sdb rw").unwrap();
        assert_eq!(
            mount.under(Path::new("/host")).as_os_str().as_bytes(),
            b"/host/caf\xe9"
        );
        assert_eq!(mount.shown(), "/caf\u{fffd}");
    }

    #[test]
    fn bad_lines_are_named_and_good_ones_kept() {
        let lines =
            parse(b"\n9 1 8:1 / /m rw ext4 /dev/sdb rw\n9 1 8:1 / /m rw - ext4 /dev/sdb rw\n9 1");
        assert_eq!(lines.items.len(), 1);
        assert_eq!(lines.bad.unwrap().line, 2);
        assert_eq!(parse(b"").items, []);
    }
}
