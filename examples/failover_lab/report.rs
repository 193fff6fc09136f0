//! The report of all results, and its files.

use std::fs;

use serde::Serialize;

use crate::Failure;
use crate::args::Args;
use crate::case::Outcome;
use crate::page;
use crate::timeline::{SLICE_MS, now_ms};

#[derive(Serialize, Debug)]
pub(crate) struct Report {
    /// The command that repeats the run.
    command: String,
    at_ms: u64,
    /// The machine's load before the run: other programs disturb it.
    load_average: String,
    processors: usize,
    nodes: u8,
    clients: u32,
    store: String,
    /// The number of nodes that keep a session, if the nodes keep sessions.
    copies: Option<String>,
    optimized: bool,
    slice_ms: u64,
    pub(crate) cases: Vec<Outcome>,
}

impl Report {
    pub(crate) fn new(args: &Args) -> Self {
        let arguments: Vec<_> = std::env::args().skip(1).collect();
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            command: format!("failover_lab {}", arguments.join(" ")),
            at_ms: now_ms(),
            load_average: load.split(' ').next().unwrap_or_default().to_owned(),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            nodes: args.nodes,
            clients: args.clients,
            store: args.store.clone(),
            copies: (args.store == "replicated").then(|| args.copies.clone()),
            optimized: cfg!(not(debug_assertions)),
            slice_ms: SLICE_MS,
            cases: vec![],
        }
    }

    /// Writes the JSON and the page.
    pub(crate) fn write(&self, args: &Args) -> Result<(), Failure> {
        fs::write(args.json(), serde_json::to_string_pretty(self)?)?;
        fs::write(args.page(), page::of(self)?)?;
        Ok(())
    }
}
