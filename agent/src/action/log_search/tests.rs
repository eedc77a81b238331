use std::fs;
use std::io::Cursor;

use super::*;

fn args(pairs: &[(&str, Value)]) -> Args {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect()
}

/// What a search of one text finds: `number:line`, context with a dash.
fn found(pattern: &str, text: &str, lines: usize, context: usize) -> Vec<String> {
    let compile = |multi_line| {
        RegexBuilder::new(pattern)
            .unicode(false)
            .multi_line(multi_line)
            .build()
            .unwrap()
    };
    let (block, line) = (compile(true), compile(false));
    let search = Search {
        block: &block,
        line: &line,
        context,
    };
    let bounds = Bounds {
        lines,
        output_bytes: 10_000,
        scan_bytes: 1 << 20,
    };
    let mut scan = Scan::new(search, bounds, &|| false);
    scan.file("x", &mut Cursor::new(text.as_bytes())).unwrap();
    shown(&scan.into_data(&[]))
}

fn shown(data: &Value) -> Vec<String> {
    let line = |found: &Value| {
        let mark = if found["context"] == true { '-' } else { ':' };
        format!(
            "{}{mark}{}",
            found["line_number"],
            found["line"].as_str().unwrap()
        )
    };
    data["found"].as_array().unwrap().iter().map(line).collect()
}

#[test]
fn lines_are_found_with_their_numbers_and_what_is_around_them() {
    let text = "one\ntwo\nthree\nfour\nfive\nsix\ntwo again";
    assert_eq!(found("two", text, 10, 0), ["2:two", "7:two again"]);
    assert_eq!(
        found("two", text, 1, 0),
        ["7:two again"],
        "the newest are kept"
    );
    assert_eq!(found("^f", text, 10, 0), ["4:four", "5:five"]);
    assert_eq!(found("e$", text, 10, 0), ["1:one", "3:three", "5:five"]);
    assert_eq!(found("four", text, 10, 1), ["3-three", "4:four", "5-five"]);
    assert_eq!(
        found("t[wh]", text, 10, 1),
        [
            "1-one",
            "2:two",
            "3:three",
            "4-four",
            "6-six",
            "7:two again"
        ]
    );
    assert_eq!(
        found("four|six", text, 10, 2),
        [
            "2-two",
            "3-three",
            "4:four",
            "5-five",
            "6:six",
            "7-two again"
        ]
    );
    assert_eq!(
        found(r"two\s+three", text, 10, 0),
        Vec::<String>::new(),
        "lines are searched one by one"
    );
    assert_eq!(found("^$", "a\n\nb\n", 10, 0), ["2:"]);
    assert_eq!(found("x", "", 10, 3), Vec::<String>::new());
}

#[test]
fn what_is_over_the_bounds_is_said() {
    let regex = Regex::new("x").unwrap();
    let search = Search {
        block: &regex,
        line: &regex,
        context: 0,
    };
    let text = "x1\n".repeat(1000);
    let run = |bounds: Bounds, ended: &dyn Fn() -> bool| {
        let mut scan = Scan::new(search, bounds, ended);
        scan.file("f", &mut Cursor::new(text.as_bytes())).unwrap();
        scan.file("g", &mut Cursor::new(text.as_bytes())).unwrap();
        scan.into_data(&[])
    };
    let wide = Bounds {
        lines: 5000,
        output_bytes: 1 << 20,
        scan_bytes: 1 << 20,
    };
    let all = run(wide, &|| false);
    assert_eq!(
        (&all["matched"], &all["left_out"], &all["cut"]),
        (&json!(2000), &json!(0), &json!(null))
    );
    let few = run(
        Bounds {
            lines: 1500,
            ..wide
        },
        &|| false,
    );
    assert_eq!((&few["left_out"], &few["cut"]), (&json!(500), &json!(null)));
    let short = run(
        Bounds {
            output_bytes: 670,
            ..wide
        },
        &|| false,
    );
    assert_eq!(
        (&short["left_out"], &short["cut"]),
        (&json!(1990), &json!("output"))
    );
    let little = run(
        Bounds {
            scan_bytes: 3300,
            ..wide
        },
        &|| false,
    );
    assert_eq!(
        (&little["matched"], &little["cut"]),
        (&json!(1100), &json!("bytes"))
    );
    assert_eq!(
        little["found"][0]["line_number"],
        json!(null),
        "not counted from the begin"
    );
    let late = run(wide, &|| true);
    assert_eq!(
        (&late["matched"], &late["cut"]),
        (&json!(0), &json!("time"))
    );
}

/// A folder of logs, with what must not be reached beside it.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("log/app")).unwrap();
    fs::create_dir_all(at("secret")).unwrap();
    fs::write(at("log/a.log"), "error one\nfine\n").unwrap();
    fs::write(at("log/b.txt"), "error no log\n").unwrap();
    fs::write(at("log/app/c.log"), "error two\n").unwrap();
    fs::write(at("secret/s.log"), "error secret\n").unwrap();
    std::os::unix::fs::symlink(at("secret/s.log"), at("log/link.log")).unwrap();
    std::os::unix::fs::symlink(at("secret"), at("log/inner")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, at("log/pipe.log"), rustix::fs::Mode::RUSR).unwrap();
    folder
}

fn search(
    folder: &tempfile::TempDir,
    globs: &[&str],
    more: &[(&str, Value)],
) -> Result<Value, String> {
    let globs: Vec<String> = globs
        .iter()
        .map(|glob| format!("{}/{glob}", folder.path().display()))
        .collect();
    let globs = LogGlobs::parse(&globs).unwrap();
    let mut all = args(&[("pattern", json!("error"))]);
    all.extend(args(more));
    let until = Instant::now() + Duration::from_secs(60);
    let done = request(&all)
        .and_then(|request| request.carry_out(&globs, &CancellationToken::new(), until));
    done.map_err(|failure| failure.reason.message)
}

fn lines(data: &Value) -> Vec<&str> {
    data["found"]
        .as_array()
        .unwrap()
        .iter()
        .map(|found| found["line"].as_str().unwrap())
        .collect()
}

#[test]
fn only_what_is_allowed_is_read_and_never_through_a_link() {
    let folder = folder();
    let data = search(&folder, &["log/*.log", "log/*/*.log"], &[]).unwrap();
    let mut found = lines(&data);
    found.sort_unstable();
    assert_eq!(found, ["error one", "error two"]);
    assert_eq!(data["skipped"][0]["why"], "it is a link");
    let one = search(
        &folder,
        &["log/*.log", "log/*/*.log"],
        &[("path", json!("*/c.log"))],
    )
    .unwrap();
    assert_eq!(lines(&one), ["error two"]);
    for path in ["/etc/passwd", "*secret*", "*/link.log", "*/b.txt"] {
        let said = search(&folder, &["log/*.log"], &[("path", json!(path))]).unwrap_err();
        assert!(
            said.starts_with(&format!("no log here is allowed and called {path}")),
            "{said}"
        );
    }
    let said = search(
        &folder,
        &["log/*.log"],
        &[("path", json!("/var/log/../secret"))],
    )
    .unwrap_err();
    assert_eq!(said, "path: a path without .. is wanted");
    let old = search(&folder, &["log/*.log"], &[("since", json!("1h"))]).unwrap();
    assert_eq!(old["files"], 1);
}

#[test]
fn what_is_wrong_is_refused_before_anything_is_read() {
    let said = |more: &[(&str, Value)]| {
        let mut all = args(&[("pattern", json!("x"))]);
        all.extend(args(more));
        request(&all)
            .err()
            .map_or_else(String::new, |failure| failure.reason.message)
    };
    assert_eq!(said(&[]), "");
    assert!(said(&[("pattern", json!(""))]).starts_with("pattern: it is empty"));
    assert!(said(&[("pattern", json!("a("))]).starts_with("pattern: not a regex: "));
    assert!(said(&[("pattern", json!("(\\w{100}){1000}"))]).starts_with("pattern: not a regex: "));
    assert!(said(&[("since", json!("soon"))]).starts_with("since: expected a time"));
    for glob in ["var/log/*", "/var/../etc/*", "/", "//x", "/var/log/"] {
        assert!(LogGlobs::parse(&[glob.to_owned()]).is_err(), "{glob}");
    }
}

#[test]
fn a_search_that_is_told_to_end_ends() {
    let folder = folder();
    let stop = CancellationToken::new();
    stop.cancel();
    let globs = LogGlobs::parse(&[format!("{}/log/*.log", folder.path().display())]).unwrap();
    let request = request(&args(&[("pattern", json!("error"))])).unwrap();
    let ended = request.carry_out(&globs, &stop, Instant::now() + Duration::from_secs(60));
    assert_eq!(
        ended.unwrap_err().reason.message,
        "ended before all was searched"
    );
}
