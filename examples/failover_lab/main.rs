//! Run with: cargo run --release --all-features --example failover_lab -- --help
//!
//! The failover lab: playground nodes behind common balancers, k6 in front of them, and a fault in
//! the middle. It reports the effects on users for each balancer and fault: on the terminal, as
//! JSON, and as a page with timelines.
//!
//! ```text
//!   k6 ── users who each check their own counter and user id
//!    │
//!   nginx, HAProxy or Apache httpd, as in examples/balancers
//!    ├──────────┬──────────┐
//!   node1      node2      node3     one of them is killed, restarted, paused, drained, cut off
//!    └── the cluster's links ┘
//! ```
//!
//! Everything listens on free ports of the loopback interface, runs as the current user out of one
//! folder, and ends with the lab. The exit status is 0 if every promise was kept, 1 if one was not,
//! and 2 if the lab could not determine that.

mod args;
mod balancer;
mod case;
mod fault;
mod http;
mod load;
mod nodes;
mod page;
mod partition;
mod playground;
mod ports;
mod process;
mod programs;
mod report;
mod table;
mod timeline;
mod tomcat;

use std::error::Error;
use std::process::ExitCode;

use args::Args;
use case::Outcome;
use clap::Parser;
use nodes::App;
use report::Report;
use tokio::signal::unix::{SignalKind, signal};

/// The error of a lab that could not run a case.
type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let done = tokio::select! {
        done = run(&args) => done,
        // All running programs are children that are killed when their handles are dropped.
        ended = interrupted() => ended,
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("failover_lab: {error}");
            ExitCode::from(2)
        }
    }
}

/// Runs every requested case. Returns `true` if all promises were kept.
async fn run(args: &Args) -> Result<bool, Failure> {
    let cases = args.cases();
    if cases.is_empty() {
        return Err("there is nothing to run".into());
    }
    programs::check(args, &cases)?;
    std::fs::create_dir_all(&args.folder)
        .map_err(|error| format!("cannot make {}: {error}", args.folder.display()))?;
    let mut report = Report::new(args);
    for (number, case) in cases.iter().enumerate() {
        eprintln!("[{}/{}] {case}", number + 1, cases.len());
        let outcome = case
            .run(args)
            .await
            .map_err(|error| format!("{case}: {error}"))?;
        eprintln!("      {}", outcome.verdict());
        report.cases.push(outcome);
        // After each case, so that an interrupted run keeps its results.
        report.write(args)?;
    }
    print!("{}", table::of(&report));
    println!("JSON: {}", args.json().display());
    println!("page: {}", args.page().display());
    // Only this crate has made the promises.
    let ours = |outcome: &&Outcome| outcome.case.app == App::Distributable;
    Ok(report.cases.iter().filter(ours).all(Outcome::kept))
}

async fn interrupted() -> Result<bool, Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        interrupt = tokio::signal::ctrl_c() => interrupt?,
    }
    Err("interrupted".into())
}
