//! Rotation while the agent runs.

use super::*;

#[tokio::test]
async fn every_kind_of_rotation_keeps_every_line() -> Result<()> {
    let utf16 = "encoding = \"utf-16le\"";
    let sections = [
        ("rename", "a.log", ""),
        ("renameglob", "a.log*", ""),
        ("copy", "a.log", ""),
        ("copyglob", "a.log*", ""),
        ("rewrite", "a.log", ""),
        ("hole", "a.log", ""),
        ("alike", "*.log", ""),
        ("deleted", "a.log", ""),
        ("link", "current", ""),
        ("long", "a.log", "line_bytes_max = \"4 KiB\""),
        ("wide", "a.log", utf16),
        ("joined", "a.log", "multiline = { start = '^Nov' }"),
    ];
    let host = Host::start(Broker::shared().await?, &sections, "").await?;
    renamed(&host, "rename").await?;
    renamed(&host, "renameglob").await?;
    copied(&host, "copy").await?;
    copied(&host, "copyglob").await?;
    rewritten(&host).await?;
    alike_and_deleted(&host).await?;
    linked(&host).await?;
    told_apart(&host).await?;
    for (section, ..) in sections {
        assert_eq!(host.lost(section).await?, [0; 0], "{section}");
    }
    Ok(())
}

async fn renamed(host: &Host, section: &str) -> Result<()> {
    let log = host.log(section);
    log.append("a.log", "")?; // empty at first
    let mut wanted = log.write("a.log", 0..500)?;
    host.arrived(section, &wanted).await?;
    for round in 1..5 {
        for number in (1..round).rev() {
            log.rename(&format!("a.log.{number}"), &format!("a.log.{}", number + 1))?;
        }
        log.rename("a.log", "a.log.1")?;
        // The program goes on with the renamed file for a while.
        wanted.extend(log.write("a.log.1", round * 1000..round * 1000 + 100)?);
        host.arrived(section, &wanted).await?;
        wanted.extend(log.write("a.log", round * 1000 + 500..round * 1000 + 900)?);
        host.arrived(section, &wanted).await?;
    }
    Ok(())
}

async fn copied(host: &Host, section: &str) -> Result<()> {
    let log = host.log(section);
    let mut wanted = log.write("a.log", 0..500)?;
    for round in 1..4 {
        host.arrived(section, &wanted).await?;
        wanted.extend(log.write("a.log", round * 1000..round * 1000 + 300)?);
        for number in (1..round).rev() {
            log.rename(&format!("a.log.{number}"), &format!("a.log.{}", number + 1))?;
        }
        if round == 1 {
            log.copy("a.log", "a.log.1")?;
        } else {
            copied_slowly(&log).await?;
        }
        log.truncate("a.log")?;
        wanted.extend(log.write("a.log", round * 1000 + 500..round * 1000 + 510)?);
    }
    host.arrived(section, &wanted).await
}

/// Copies as it is with a large log: the copy is looked at while it is empty and when it is half made.
async fn copied_slowly(log: &Log) -> Result<()> {
    let text = fs::read(log.path("a.log"))?;
    let half = text.len() / 2;
    for part in [0..0, 0..half, half..text.len()] {
        log.append("a.log.1", text.get(part).unwrap_or_default())?;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    Ok(())
}

async fn rewritten(host: &Host) -> Result<()> {
    let log = host.log("rewrite");
    let mut wanted = log.write("a.log", 0..300)?;
    host.arrived("rewrite", &wanted).await?;
    log.truncate("a.log")?;
    wanted.extend(log.write("a.log", 5000..8000)?); // longer than before
    host.arrived("rewrite", &wanted).await?;

    let log = host.log("hole");
    let mut wanted = log.write("a.log", 0..300)?;
    for round in 1..4 {
        host.arrived("hole", &wanted).await?;
        log.truncate("a.log")?;
        let file = OpenOptions::new().write(true).open(log.path("a.log"))?;
        let text = lines(round * 1000..round * 1000 + 50);
        std::os::unix::fs::FileExt::write_all_at(&file, text.as_bytes(), round * 50_000_000)?;
        wanted.extend((round * 1000..round * 1000 + 50).step_by(10));
    }
    host.arrived("hole", &wanted).await
}

async fn alike_and_deleted(host: &Host) -> Result<()> {
    let log = host.log("alike");
    let head = lines(1..2).repeat(50);
    let mut wanted = Vec::new();
    for (number, name) in ["b.log", "a.log", "ab.log"].into_iter().enumerate() {
        log.append(name, &head)?;
        wanted.extend(log.write(name, number as u64 * 100..number as u64 * 100 + 50)?);
        host.arrived("alike", &wanted).await?;
    }

    let log = host.log("deleted");
    let mut wanted = log.write("a.log", 0..50)?;
    host.arrived("deleted", &wanted).await?;
    let mut held = OpenOptions::new().append(true).open(log.path("a.log"))?;
    fs::remove_file(log.path("a.log"))?;
    held.write_all(lines(50..91).trim_end().as_bytes())?;
    wanted.extend([50, 60, 70, 80]);
    host.arrived("deleted", &wanted).await?;
    wanted.push(90); // without a line end: once it is clear that none will come
    host.arrived("deleted", &wanted).await?;
    wanted.extend(log.write("a.log", 100..200)?);
    host.arrived("deleted", &wanted).await
}

async fn linked(host: &Host) -> Result<()> {
    let log = host.log("link");
    let mut wanted = Vec::new();
    for round in 0..4u64 {
        let name = format!("app-{round}.log");
        if round > 0 {
            wanted.extend(log.write(
                &format!("app-{}.log", round - 1),
                round * 1000 - 50..round * 1000,
            )?);
        }
        wanted.extend(log.write(&name, round * 1000..round * 1000 + 50)?);
        std::os::unix::fs::symlink(&name, log.path("new"))?;
        log.rename("new", "current")?;
        host.arrived("link", &wanted).await?;
    }
    Ok(())
}

/// Lines that are too long, of two bytes a letter, and of several lines.
async fn told_apart(host: &Host) -> Result<()> {
    let log = host.log("long");
    let long = lines(10..11).trim_end().to_owned() + &"x".repeat(1 << 20);
    log.append("a.log", format!("{}{long}\n{}", lines(0..5), lines(20..25)))?;
    host.arrived("long", &[0, 10, 20]).await?;
    log.append("a.log", &long)?;
    host.arrived("long", &[0, 10, 20, 10]).await?;
    log.append("a.log", format!(" counts 99\n{}", lines(30..31)))?;
    host.arrived("long", &[0, 10, 20, 10, 30]).await?;

    let log = host.log("wide");
    let wide = |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
    log.append("a.log", [&b"\xff\xfe"[..], &wide(&lines(0..100))].concat())?;
    host.arrived("wide", &(0..100).step_by(10).collect::<Vec<u64>>())
        .await?;

    let log = host.log("joined");
    let record = |number| format!("Nov 22 failed\n  at counts {number}\n  at counts 1\n");
    log.append("a.log", (0..50).map(record).collect::<String>())?;
    host.arrived("joined", &(0..50).collect::<Vec<u64>>()).await
}

/// While the agent is held, more happens in the directory than the kernel keeps for it.
#[tokio::test]
async fn what_the_kernel_could_not_tell_is_found_all_the_same() -> Result<()> {
    let mut host = Host::start(Broker::shared().await?, &[("flood", "*.log", "")], "").await?;
    let log = host.log("flood");
    let mut wanted = log.write("a.log", 0..50)?;
    host.arrived("flood", &wanted).await?;
    host.agent()?.process()?.pause().await?;
    let kept: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events")?
        .trim()
        .parse()?;
    for number in 0..kept {
        let path = log.path(&format!("{number}.tmp"));
        fs::write(&path, "")?;
        fs::remove_file(&path)?;
    }
    wanted.extend(log.write("a.log", 50..100)?);
    log.rename("a.log", "a.log.1")?;
    wanted.extend(log.write("a.log", 100..200)?);
    host.agent()?.process()?.resume()?;
    host.arrived("flood", &wanted).await?;
    wanted.extend(log.write("a.log", 200..300)?);
    host.arrived("flood", &wanted).await
}
