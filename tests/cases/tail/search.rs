//! `log.search` across hosts: what matches, from the logs that each host allows, and nothing else.

use super::*;

#[tokio::test]
async fn lines_are_found_across_the_fleet_within_what_hosts_allow() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let logs = folder.path().join("log");
    fs::create_dir(&logs)?;
    let text: String = (0..50_000)
        .map(|number| format!("line {number} is fine\n"))
        .collect();
    fs::write(logs.join("app.log"), text + "it FAILED here\nafter\n")?;
    fs::write(folder.path().join("secret.log"), "it failed in secret\n")?;
    std::os::unix::fs::symlink(folder.path().join("secret.log"), logs.join("link.log"))?;
    let options = FleetOptions {
        agents: 2,
        tables: format!("[logs]\nsearch = [\"{}/*.log\"]\n", logs.display()),
        ..FleetOptions::default()
    };
    let broker = Broker::shared().await?;
    let fleet = Fleet::start(&broker, &options).await?;
    let search = |arguments: &[&str]| {
        let run = ["run", "log.search", "-t", "*"];
        let arguments: Vec<String> = run
            .iter()
            .chain(arguments)
            .map(|&text| text.to_owned())
            .collect();
        let muster = &fleet.muster;
        async move {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            muster.run(&arguments).await
        }
    };

    let report = search(&[
        "pattern=failed",
        "ignore_case=true",
        "context=1",
        "-o",
        "json",
    ])
    .await?;
    assert_eq!(report.code, 0, "{report:?}");
    let report = report.json()?;
    for host in 0..2 {
        let data = &report["hosts"][host]["data"];
        let lines: Vec<&str> = data["found"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|found| found["line"].as_str())
            .collect();
        assert_eq!(
            lines,
            ["line 49999 is fine", "it FAILED here", "after"],
            "{data}"
        );
        assert_eq!(data["found"][1]["line_number"], 50_001);
        assert_eq!(
            (&data["matched"], &data["cut"]),
            (&Value::from(1), &Value::Null)
        );
    }
    // For people: each line with its place, equal answers once.
    let shown = search(&["pattern=FAILED"]).await?;
    let place = format!("{}:50001: it FAILED here", logs.join("app.log").display());
    assert!(shown.stdout.contains(&place), "{}", shown.stdout);

    // The newest are kept, and how many are not is said.
    let few = search(&["pattern=fine", "lines=2", "-o", "json"])
        .await?
        .json()?;
    let data = &few["hosts"][0]["data"];
    assert_eq!(
        (&data["matched"], &data["left_out"]),
        (&Value::from(50_000), &Value::from(49_998))
    );
    assert_eq!(data["found"][1]["line"], "line 49999 is fine");

    for (arguments, says) in [
        (
            ["pattern=a", "path=/etc/passwd"],
            "no log here is allowed and called /etc/passwd",
        ),
        (["pattern=a", "path=*/link.log"], "no log here is allowed"),
        (
            ["pattern=a", "path=/var/log/../x"],
            "a path without .. is wanted",
        ),
        (["pattern=a(", "lines=1"], "not a regex"),
    ] {
        let refused = search(&arguments).await?;
        assert_ne!(refused.code, 0, "{arguments:?}");
        assert!(
            refused.stdout.contains(says),
            "{arguments:?}: {}",
            refused.stdout
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_host_that_names_no_logs_refuses() -> Result<()> {
    let options = FleetOptions {
        agents: 1,
        ..FleetOptions::default()
    };
    let broker = Broker::shared().await?;
    let fleet = Fleet::start(&broker, &options).await?;
    let refused = fleet
        .muster
        .run(&["run", "log.search", "pattern=x", "-t", "*"])
        .await?;
    assert_eq!(refused.code, 6, "{refused:?}");
    assert!(
        refused.stdout.contains("lets no logs be searched"),
        "{}",
        refused.stdout
    );
    Ok(())
}
