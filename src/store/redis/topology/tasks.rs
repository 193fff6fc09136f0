//! The background tasks of a topology.

use std::sync::Mutex;

use tokio::sync::watch;

use crate::sync::lock;

/// Tasks that end when this is dropped, or with the runtime in which they were started.
#[derive(Debug)]
pub(super) struct TopologyTasks {
    /// Each task has a receiver.
    alive: watch::Sender<()>,
    starting: Mutex<()>,
}

impl TopologyTasks {
    pub(super) fn new() -> Self {
        Self {
            alive: watch::Sender::new(()),
            starting: Mutex::default(),
        }
    }

    /// Calls `start` unless there are tasks: the first time, and when a store is used in another
    /// runtime after the end of the previous one. Each task keeps a clone of the receiver.
    pub(super) fn start_once(&self, start: impl FnOnce(watch::Receiver<()>)) {
        if !self.alive.is_closed() {
            return;
        }
        let _starting = lock(&self.starting);
        if self.alive.is_closed() {
            start(self.alive.subscribe());
        }
    }
}
