//! A guest with a kernel of its own: its commands, its folders, its IPVS, and the one way out.

use std::fs;
use std::net::SocketAddr;

use anyhow::Result;
use muster_harness::{Broker, Guest, eventually, want};

#[tokio::test]
async fn a_guest_has_its_own_ipvs_and_reaches_only_what_it_is_given() -> Result<()> {
    let broker = Broker::shared().await?;
    let shared = tempfile::tempdir()?;
    let guest = Guest::start().await?;

    // Commands: output, exit code, many at a time, quotes and lines as they are.
    let output = guest.run("echo \"it's\"; echo no >&2; exit 3").await?;
    assert_eq!(
        (output.code, output.stdout.as_str(), output.stderr.as_str()),
        (3, "it's\n", "no\n")
    );
    let (slow, fast) = tokio::join!(
        guest.run("busybox sleep 0.3; date +%s%N"),
        guest.run("date +%s%N")
    );
    assert!(
        slow?.stdout > fast?.stdout,
        "one command waited for another"
    );

    // IPVS: the guest's table, and none here.
    let table = guest
        .succeed("ipvsadm -A -t 192.0.2.1:80 -s wlc\nipvsadm -Sn")
        .await?;
    assert_eq!(table, "-A -t 192.0.2.1:80 -s wlc\n");
    let here = fs::read_to_string("/proc/net/ip_vs").unwrap_or_default();
    assert!(!here.contains("C0000201:0050"), "{here}");

    // Folders: both ways; the rest can be read and not written.
    guest.share(shared.path()).await?;
    fs::write(shared.path().join("from-here"), "1")?;
    let path = shared.path().display();
    let got = guest
        .succeed(&format!("cat {path}/from-here; echo 2 >{path}/from-there"))
        .await?;
    assert_eq!(got, "1");
    assert_eq!(fs::read_to_string(shared.path().join("from-there"))?, "2\n");
    let refused = guest.run("echo 3 >/etc/muster-test").await?;
    assert!(refused.stderr.contains("Read-only"), "{refused:?}");

    // The way out leads to the one server that was named.
    let proxy = guest.reach(broker.management_address())?;
    let fetch = |address: SocketAddr| {
        let (ip, port) = (address.ip(), address.port());
        format!(
            r#"timeout 20 bash -c 'exec 3<>/dev/tcp/{ip}/{port}; printf "GET / HTTP/1.0\r\n\r\n" >&3; cat <&3'"#
        )
    };
    let page = guest.succeed(&fetch(proxy.address())).await?;
    assert!(page.contains("RabbitMQ"), "{page}");
    let elsewhere = guest.run(&fetch(broker.management_address())).await?;
    assert_ne!(elsewhere.code, 0, "{elsewhere:?}");

    // Background programs end when told, and with the guest.
    let sleeper = guest.spawn("busybox sleep 1000")?;
    assert_eq!(guest.end(sleeper, "TERM").await?.code, 143);
    let _another = guest.spawn("busybox sleep 1000")?;
    let (directory, pid) = (guest.directory().to_owned(), guest.pid());
    drop(guest);
    assert!(
        !directory.exists(),
        "{} is still there",
        directory.display()
    );
    eventually("the guest's processes are gone", async || {
        want(fs::exists(format!("/proc/{pid}")).ok(), Some(false))
    })
    .await
}
