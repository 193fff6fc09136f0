//! Inputs that wait until their node handles inputs again.

use crate::cluster::replica::node::Node;

use crate::cluster::sim::link::Piece;
use crate::cluster::sim::report::LinkReport;

/// An input that waits until its node handles inputs again.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "few inputs wait at a time")]
pub(super) enum PendingInput {
    /// A piece that has arrived over a link between these identities.
    Piece {
        from: usize,
        link: u64,
        piece: Piece,
        sender: Node,
        receiver: u64,
    },
    /// A report about a link of this node.
    Report {
        to: usize,
        link: u64,
        report: LinkReport,
    },
    /// A node has connected to this one.
    Accepted { node: Node },
}
