//! Programs that the lab runs, each with a log of its own; they end with the lab.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::Failure;

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program that appends to `log`.
    pub(crate) fn start(name: &str, command: Command, log: &Path) -> Result<Self, Failure> {
        let file = File::options().create(true).append(true).open(log)?;
        let mut command = command;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("cannot start {name}: {error}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
        })
    }

    /// Fails, with the end of its log, if the program has ended.
    pub(crate) fn still_runs(&mut self) -> Result<(), Failure> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                Err(format!("{} has ended: {status}\n{}", self.name, self.log_tail()).into())
            }
        }
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// `kill -9`; the program has ended when this returns.
    pub(crate) async fn kill(&mut self) -> Result<(), Failure> {
        Ok(self.child.kill().await?)
    }

    /// Sends `TERM`, `INT`, `STOP` or `CONT`.
    pub(crate) async fn signal(&self, signal: &str) -> Result<(), Failure> {
        let pid = self.pid().ok_or("it has ended already")?;
        let sent = Command::new("kill")
            .arg(format!("-{signal}"))
            .arg(pid.to_string())
            .status();
        if sent.await?.success() {
            Ok(())
        } else {
            Err(format!("cannot send {signal} to {}", self.name).into())
        }
    }

    /// Waits until the program has ended by itself.
    pub(crate) async fn ended(&mut self, within: Duration) -> Result<ExitStatus, Failure> {
        match timeout(within, self.child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_) => Err(format!("{} has not ended within {within:?}", self.name).into()),
        }
    }

    /// Asks the program to end, and kills it if it does not.
    pub(crate) async fn stop(&mut self) -> Result<(), Failure> {
        if self.child.try_wait()?.is_none() {
            self.signal("TERM").await?;
            if self.ended(END_WITHIN).await.is_err() {
                self.kill().await?;
            }
        }
        Ok(())
    }

    /// The last lines of its log.
    pub(crate) fn log_tail(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&bytes);
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }
}

/// How long a balancer may take to end.
const END_WITHIN: Duration = Duration::from_secs(2);

/// How much of a log an error repeats.
const LOG_LINES: usize = 20;
