//! The systemd journal as a source: a real journald in a mount namespace of its own, its files read from outside. Every
//! entry becomes its event once, whatever ends: `journalctl`, the agent, or a file of the journal.

use std::os::unix::net::UnixDatagram;
use std::process::Command;

use muster_harness::Process;

use super::*;

/// A journald, with its folder and its socket below a directory.
struct Journald {
    process: Process,
    folder: TempDir,
}

impl Journald {
    async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        for name in ["run", "journal"] {
            fs::create_dir(folder.path().join(name))?;
        }
        let mounts = "mount -t tmpfs none /run && mkdir -p /run/systemd/journal /run/log/journal \
            && mount --bind \"$0/run\" /run/systemd/journal && mount --bind \"$0/journal\" /run/log/journal \
            && exec /lib/systemd/systemd-journald";
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", mounts])
            .arg(folder.path());
        let process = Process::spawn("journald", &command, folder.path())?;
        let journald = Self { process, folder };
        eventually_within("journald's socket", LIMIT, async || {
            journald
                .write("test", "begin")
                .map_err(|error| format!("{error:#}"))
        })
        .await?;
        Ok(journald)
    }

    fn write(&self, identifier: &str, message: &str) -> Result<()> {
        let socket = UnixDatagram::unbound()?;
        let entry = format!("MESSAGE={message}\nSYSLOG_IDENTIFIER={identifier}\nPRIORITY=6\n");
        socket.send_to(entry.as_bytes(), self.folder.path().join("run/socket"))?;
        Ok(())
    }

    fn directory(&self) -> PathBuf {
        self.folder.path().join("journal")
    }

    /// Begins new files.
    fn rotate(&self) -> Result<()> {
        let status = Command::new("kill")
            .args(["-USR2", &self.process.pid().to_string()])
            .status()?;
        anyhow::ensure!(status.success(), "journald was not told to rotate");
        Ok(())
    }

    /// Begins new files, and removes the old ones.
    fn rotate_and_vacuum(&self) -> Result<()> {
        self.rotate()?;
        let vacuum = format!("--directory={}", self.directory().display());
        Command::new("journalctl")
            .args([&vacuum, "--vacuum-files=1", "--quiet"])
            .status()?;
        Ok(())
    }
}

async fn numbers_told(fleet: &Fleet, count: u64) -> Result<()> {
    let watch = [
        "watch",
        "app.counted",
        "--since",
        "1h",
        "--no-follow",
        "-o",
        "ndjson",
    ];
    eventually_within(&format!("{count} entries"), LIMIT, async || {
        let events = fleet
            .muster
            .succeed(&watch)
            .await
            .and_then(|output| output.json_lines());
        let mut events = events.map_err(|error| format!("{error:#}"))?;
        events.sort_by_key(|event| event["seq"].as_u64());
        let numbers: Vec<u64> = events
            .iter()
            .filter_map(|event| event["fields"]["number"].as_u64())
            .collect();
        if (numbers.len() as u64) < count {
            return Err(format!(
                "{} have come, the last {:?}",
                numbers.len(),
                numbers.last()
            ));
        }
        assert_eq!(numbers, (0..count).collect::<Vec<_>>());
        Ok(())
    })
    .await
}

/// The `journalctl` that an agent has started.
fn child_of(agent: &Process) -> Result<u32> {
    let is_it = |pid: &u32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.trim() == "journalctl"
    };
    agent
        .descendants()
        .into_iter()
        .find(is_it)
        .context("the agent has no journalctl")
}

#[tokio::test]
async fn every_entry_is_one_event_whatever_ends() -> Result<()> {
    let journald = Journald::start().await?;
    let options = FleetOptions {
        agents: 1,
        tables: format!(
            "[[tail]]\nname = \"units\"\nstart = \"beginning\"\njournal = {{ directory = {:?}, identifiers = [\"app*\"] }}\n\
             [[tail.rule]]\npattern = 'app[a-z]*\\[\\d+\\]: counts (?<number>\\d+)'\ntopic = \"app.counted\"\nseverity = \"info\"\n\
             summary = \"{{number}}\"\nnumbers = [\"number\"]\n",
            journald.directory()
        ),
        ..FleetOptions::default()
    };
    let mut written = 0;
    let mut write = |journald: &Journald| -> Result<u64> {
        for number in written..written + 50 {
            journald.write("other", &format!("counts {number}"))?;
            journald.write("apple", &format!("counts {number}"))?;
        }
        written += 50;
        Ok(written)
    };
    // What was there before the agent.
    write(&journald)?;
    let broker = Broker::shared().await?;
    let mut fleet = Fleet::start(&broker, &options).await?;
    let count = write(&journald)?;
    numbers_told(&fleet, count).await?;

    let agent = fleet.agents.first_mut().context("an agent")?;
    let child = child_of(agent.process()?)?;
    Command::new("kill")
        .args(["-KILL", &child.to_string()])
        .status()?;
    let count = write(&journald)?;
    numbers_told(&fleet, count).await?;

    journald.rotate_and_vacuum()?;
    let count = write(&journald)?;
    numbers_told(&fleet, count).await?;

    // Away while entries come and files are begun anew.
    let agent = fleet.agents.first_mut().context("an agent")?;
    agent.kill().await?;
    write(&journald)?;
    journald.rotate()?;
    let count = write(&journald)?;
    agent.start()?;
    numbers_told(&fleet, count).await
}
