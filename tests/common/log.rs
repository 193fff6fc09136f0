//! Log lines of the nodes in a test's process, and the repetition of a test that a pause of one of
//! them has disturbed.

#![allow(dead_code, reason = "every test binary uses its own part of this")]

#[path = "repeat.rs"]
mod repeat;

use std::cell::RefCell;
use std::io;
use std::sync::{Arc, Mutex, Once};

use tokio::runtime::Builder;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

use repeat::repeat_if_paused;

/// Runs a case in a runtime with so many threads, and again if it has failed and a node in it has
/// logged a pause: such a node serves nothing until it has joined again. Not for cases that pause
/// nodes themselves.
pub(crate) fn undisturbed(threads: usize, case: impl AsyncFn()) {
    let round = || {
        BEGUN.take();
        let (log, _guard) = Log::begin();
        let mut runtime = Builder::new_current_thread();
        if threads > 1 {
            runtime = Builder::new_multi_thread();
            runtime.worker_threads(threads);
        }
        runtime.on_thread_start(move || LOGGING.set(Some(log.enter())));
        let runtime = runtime.enable_all().build();
        runtime.expect("a runtime can be built").block_on(case());
    };
    repeat_if_paused(round, || {
        let lines = BEGUN.take().into_iter().flat_map(|log| log.lines());
        lines.filter(|line| line.contains(PAUSED)).collect()
    });
}

/// What is logged while the guard lives, by what runs on this thread.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn begin() -> (Self, DefaultGuard) {
        // A place in the code that another thread reaches first would be disabled for all threads
        // if that one had no subscriber.
        static EVERYWHERE: Once = Once::new();
        EVERYWHERE.call_once(|| {
            let nowhere = tracing_subscriber::fmt().with_writer(io::sink).finish();
            tracing::subscriber::set_global_default(nowhere).unwrap();
        });
        let log = Self::default();
        BEGUN.with_borrow_mut(|begun| begun.push(log.clone()));
        let guard = log.enter();
        (log, guard)
    }

    /// Collects what runs on this thread while the guard lives.
    fn enter(&self) -> DefaultGuard {
        let subscriber = tracing_subscriber::fmt()
            .with_writer(self.clone())
            .with_ansi(false)
            .finish();
        tracing::subscriber::set_default(subscriber)
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        let bytes = self.0.lock().unwrap();
        String::from_utf8_lossy(&bytes)
            .lines()
            .map(str::to_owned)
            .collect()
    }

    pub(crate) fn count(&self, words: &str) -> usize {
        self.lines()
            .iter()
            .filter(|line| line.contains(words))
            .count()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

thread_local! {
    /// The logs that a case has begun on this thread. One that is begun within it has the lines
    /// instead of the case's own one.
    static BEGUN: RefCell<Vec<Log>> = const { RefCell::new(Vec::new()) };
    static LOGGING: RefCell<Option<DefaultGuard>> = const { RefCell::new(None) };
}

/// Of the line about a pause.
const PAUSED: &str = "was paused for so long";
