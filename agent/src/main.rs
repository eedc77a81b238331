//! The daemon's process: command line, log, signals and the service manager's protocol around the agent. It must not
//! know the agent's parts.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use muster_agent::app;
use muster_agent::check::{Verdict, check};
use muster_agent::cli::{self, Cli, Command, ConfigCommand};
use muster_agent::config::{Config, sample};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// The program failed.
const FAILED: u8 = 1;
/// The command line or the config is wrong.
const USAGE: u8 = 2;
/// There is no broker (`EX_UNAVAILABLE`).
const NO_BROKER: u8 = 69;

/// Threads for what can only block, such as the resolver: they come and go.
const BLOCKING_THREADS_MAX: usize = 4;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        return failed(
            FAILED,
            "could not choose the TLS provider: another one is there already",
        );
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_keep_alive(Duration::from_secs(2))
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return failed(FAILED, format!("could not start the runtime: {error}")),
    };
    let code = runtime.block_on(carry_out(&cli));
    // A thread that hangs in the kernel must not keep the process.
    runtime.shutdown_timeout(Duration::from_millis(200));
    code
}

async fn carry_out(cli: &Cli) -> ExitCode {
    match &cli.command {
        Command::Config {
            command: ConfigCommand::Default,
        } => ended(cli::print(&sample()).map(|()| true)),
        Command::Collect { names, interval } => match cli.load_or_default() {
            Ok(config) => ended(cli::collect(config, names, *interval).await),
            Err(error) => failed(USAGE, error),
        },
        Command::Tail(args) => match cli::rules(args) {
            Ok(rules) => ended(cli::tail_test(args, &rules)),
            Err(error) => failed(USAGE, format!("{error:#}")),
        },
        Command::Check { offline } => match cli.load() {
            Ok(config) => checked(check(&config, cli.path(), *offline, &mut io::stdout()).await),
            Err(error) => failed(USAGE, error),
        },
        Command::Run => match cli.load() {
            Ok(config) => run(cli, config).await,
            Err(error) => failed(USAGE, error),
        },
    }
}

async fn run(cli: &Cli, config: Config) -> ExitCode {
    let filter = cli.log.as_deref().unwrap_or(&config.log);
    if let Err(why) = start_log(filter) {
        return failed(USAGE, format!("log: {why}"));
    }
    let signals = [
        SignalKind::terminate(),
        SignalKind::interrupt(),
        SignalKind::hangup(),
    ]
    .map(signal);
    let [Ok(terminate), Ok(interrupt), Ok(hangup)] = signals else {
        return failed(FAILED, "could not listen for signals");
    };
    tracing::info!(host = %config.host, version = app::VERSION, config = %cli.path().display(), "starting");
    let stop = CancellationToken::new();
    let (started, is_started) = oneshot::channel();
    let agent = app::run_and_tell(config, stop.clone(), started);
    tokio::pin!(agent);
    let around = attend(terminate, interrupt, hangup, is_started, &stop);
    let outcome = tokio::select! {
        outcome = &mut agent => outcome,
        never = around => match never {},
    };
    match outcome {
        Ok(()) => {
            tracing::info!("stopped");
            ExitCode::SUCCESS
        }
        Err(error) => failed(FAILED, format!("{error:#}")),
    }
}

/// Signals, and what the service manager is told, for as long as the agent runs.
async fn attend(
    mut terminate: Signal,
    mut interrupt: Signal,
    mut hangup: Signal,
    mut is_started: oneshot::Receiver<()>,
    stop: &CancellationToken,
) -> std::convert::Infallible {
    let mut told = false;
    let watchdog = sd_notify::watchdog_enabled().map(|limit| limit / 2);
    loop {
        tokio::select! {
            Some(()) = terminate.recv() => stopping(stop, "SIGTERM"),
            Some(()) = interrupt.recv() => stopping(stop, "SIGINT"),
            Some(()) = hangup.recv() => tracing::warn!("SIGHUP is ignored: restart the agent to have it read its config"),
            started = &mut is_started, if !told => {
                told = true;
                if started.is_ok() {
                    tell(NotifyState::Ready);
                }
            }
            // This only comes while the event loop turns, which is what the watchdog is to see.
            () = tokio::time::sleep(watchdog.unwrap_or(Duration::MAX)), if watchdog.is_some() => tell(NotifyState::Watchdog),
        }
    }
}

fn stopping(stop: &CancellationToken, signal: &str) {
    if stop.is_cancelled() {
        return tracing::warn!(
            signal,
            "already stopping, within {} s",
            app::STOP_LIMIT.as_secs()
        );
    }
    tracing::info!(signal, "stopping");
    tell(NotifyState::Stopping);
    stop.cancel();
}

/// Without a service manager nobody listens, and that is no error.
fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "could not notify the service manager");
    }
}

fn start_log(filter: &str) -> Result<(), String> {
    // The AMQP library shouts about every broken connection, whole messages included; the link says it in one line.
    let quiet = if filter.contains("lapin") {
        ""
    } else {
        "lapin=off,"
    };
    let parsed = EnvFilter::try_new(format!("{quiet}{filter}"))
        .map_err(|error| format!("{filter:?} is no filter such as \"info\": {error}"))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(parsed)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    // The journal has its own timestamps.
    let outcome = if std::env::var_os("JOURNAL_STREAM").is_some() {
        log.without_time().try_init()
    } else {
        log.try_init()
    };
    outcome.map_err(|error| error.to_string())
}

fn checked(outcome: io::Result<Verdict>) -> ExitCode {
    match outcome {
        Ok(Verdict::Good | Verdict::Warning) => ExitCode::SUCCESS,
        Ok(Verdict::NoBroker) => NO_BROKER.into(),
        Ok(Verdict::Bad) => FAILED.into(),
        Err(error) => failed(FAILED, error),
    }
}

fn ended<E: std::fmt::Display>(outcome: Result<bool, E>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => FAILED.into(),
        Err(error) => failed(FAILED, format!("{error:#}")),
    }
}

/// Says once what went wrong. A standard error that is gone leaves the exit code.
fn failed(code: u8, error: impl std::fmt::Display) -> ExitCode {
    _ = writeln!(io::stderr(), "error: {error}");
    code.into()
}
