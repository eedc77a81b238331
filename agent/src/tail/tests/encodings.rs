//! Lines that are long, joined, or not in UTF-8.

use super::*;

#[test]
fn other_encodings_are_text() {
    let utf16 = |text: &str| -> Vec<u8> {
        let units = text.encode_utf16();
        units.flat_map(u16::to_le_bytes).collect()
    };
    let mut host = Host::of("a.log");
    host.append("a.log", b"\xff");
    host.read();
    host.append("a.log", b"\xfe");
    host.append("a.log", utf16("grüße!\r\nnext Ċ!\nhalf"));
    assert_eq!(host.read(), ["grüße!", "next Ċ!"]);
    host.kill();
    host.append("a.log", &utf16(" line!")[..5]);
    assert!(host.read().is_empty());
    host.append("a.log", &utf16(" line!\n")[5..]);
    assert_eq!(host.read(), ["half line!"]);

    let mut host = Host::new(
        "name = \"t\"\npaths = [\"DIR/a.log\"]\nstart = \"beginning\"\nencoding = \"latin1\"",
    );
    host.append("a.log", b"gr\xfc\xdfe!\n");
    assert_eq!(host.read(), ["grüße!"]);

    let mut host = Host::of("a.log");
    host.append("a.log", b"\xef\xbb\xbfmarked!\nbad \xff!\n");
    assert_eq!(host.read(), ["marked!", "bad \u{fffd}!"]);
}

#[test]
fn long_lines_are_cut_and_the_rest_is_passed_over() {
    let mut host = Host::new(
        "name = \"t\"\npaths = [\"DIR/a.log\"]\nstart = \"beginning\"\nline_bytes_max = \"1 KiB\"",
    );
    let long = "!".to_owned() + &"x".repeat(1 << 20);
    let cut = long[..1024].to_owned() + "…";
    host.append("a.log", format!("a!\n{long}\nb!\n"));
    assert_eq!(host.read(), ["a!", &cut, "b!"]);
    // The same as it is written bit by bit.
    for piece in long.as_bytes().chunks(300_000) {
        host.append("a.log", piece);
        host.read_after(1000)
            .iter()
            .for_each(|line| assert_eq!(*line, cut));
        host.kill();
    }
    host.append("a.log", "\nc!\n");
    assert_eq!(host.read(), ["c!"]);
    let fits = "!".repeat(1024);
    host.append("a.log", format!("{fits}\n"));
    assert_eq!(host.read(), [fits]);
}

#[test]
fn lines_are_joined_to_records() {
    let config = "name = \"t\"\npaths = [\"DIR/a.log\"]\nstart = \"beginning\"\nmultiline = { start = \"^[0-9]\", lines_max = 3 }";
    let mut host = Host::new(config);
    host.append("a.log", "1 error\n  at x!\n2 fine\n  at y\n3 open!\n  at");
    assert_eq!(host.read(), ["1 error\n  at x!"]);
    host.append("a.log", " z\n");
    assert!(host.read().is_empty(), "it may go on");
    host.kill();
    host.append("a.log", "  more\n");
    assert!(host.read().is_empty());
    assert_eq!(host.read_after(1_500), ["3 open!\n  at z\n  more"]);
    host.append("a.log", "4!\na\nb\nc\nd\n5!\n6\n");
    assert_eq!(host.read(), ["4!\na\nb…", "5!"]);
}
