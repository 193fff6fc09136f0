//! Pauses of nodes that the machine has caused, and the repetition of a test that they disturbed.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::Duration;

use super::repeat::repeat_if_paused;

/// Runs a case, and again if it has failed and the machine has paused one of its nodes: such a node
/// serves nothing until it has joined again. A pause of a node that the case itself has suspended
/// is no reason, nor is a member that is down because the case has ended it. The case starts its
/// nodes on its own thread.
pub(crate) fn undisturbed(mut case: impl FnMut()) {
    let round = || {
        CASE.set(Some(Case::default()));
        case();
        CASE.set(None);
    };
    repeat_if_paused(round, || {
        let case = CASE.take();
        case.and_then(|case| case.pauses).unwrap_or_default()
    });
}

/// What is known of a node, also after its end.
#[derive(Default)]
pub(super) struct Record {
    /// The address at which the other nodes reach it, if it is configured.
    pub(super) address: Option<String>,
    pub(super) log: Mutex<String>,
    /// The test has ended it, or has begun to.
    pub(super) is_ended: AtomicBool,
    /// The test has suspended it.
    pub(super) is_suspended: AtomicBool,
}

impl Record {
    pub(super) fn of(address: Option<&str>) -> Arc<Self> {
        let address = address.map(str::to_owned);
        let record = Arc::new(Self {
            address,
            ..Self::default()
        });
        CASE.with_borrow_mut(|case| {
            if let Some(case) = case {
                case.nodes.push(record.clone());
            }
        });
        record
    }

    pub(super) fn log(&self) -> String {
        self.log.lock().expect("no reader panics").clone()
    }

    fn is_left_alone(&self) -> bool {
        !self.is_ended.load(Relaxed) && !self.is_suspended.load(Relaxed)
    }
}

/// Looks for pauses when a case has failed, before the end of its first node: that would look like
/// a pause to the other ones.
pub(super) fn look_for_pauses() {
    CASE.with_borrow_mut(|case| {
        if let Some(case) = case
            && case.pauses.is_none()
        {
            if pauses(&case.nodes).is_empty() {
                sleep(LOGGED_WITHIN);
            }
            case.pauses = Some(pauses(&case.nodes));
        }
    });
}

/// The lines of the logs that report a pause which the test has not caused.
fn pauses(nodes: &[Arc<Record>]) -> Vec<String> {
    // A node that was restarted has a record for each incarnation.
    let is_disturbed = |address: &str| {
        let mut lives = nodes
            .iter()
            .filter(|node| node.address.as_deref() == Some(address))
            .peekable();
        lives.peek().is_some() && lives.all(|node| node.is_left_alone())
    };
    let is_of_pause = |node: &Record, line: &str| {
        if line.contains("a member is down") {
            let address = line.split_once(" address=").map(|(_, rest)| rest);
            let address = address.and_then(|rest| rest.split(' ').next());
            return address.is_some_and(is_disturbed);
        }
        line.contains("was paused for so long") && !node.is_suspended.load(Relaxed)
    };
    let mut found = Vec::new();
    for node in nodes {
        let log = node.log();
        let lines = log.lines().filter(|line| is_of_pause(node, line));
        found.extend(lines.map(str::to_owned));
    }
    found
}

/// The nodes of a case, and their pauses once it has failed.
#[derive(Default)]
struct Case {
    nodes: Vec<Arc<Record>>,
    pauses: Option<Vec<String>>,
}

thread_local! {
    /// The case that runs on this thread, if it is one that may be repeated.
    static CASE: RefCell<Option<Case>> = const { RefCell::new(None) };
}

/// A line about a pause may be on its way when its consequence is noticed.
const LOGGED_WITHIN: Duration = Duration::from_secs(1);
