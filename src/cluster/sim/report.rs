//! Reports from the receiving end of a link to the sending end.

/// A report from the receiving end of a link to the sending end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LinkReport {
    Delivered {
        bytes: usize,
        large: bool,
    },
    Progress,
    /// The way back may be open again for the reports that wait.
    Retry,
    /// More of the current large message may be sent.
    Admitted,
}
