//! Writes of other members that this node has merged, and whose acknowledgements it repeats.

use std::collections::BTreeMap;

use crate::cluster::replica::cluster_view::ClusterView;
use crate::cluster::replica::message::{Message, Write};
use crate::cluster::replica::peer_table::PeerIndex;

/// Writes of other members that this node has merged as a holder and that may still be open at
/// their writers.
///
/// A holder repeats these acknowledgements when its view has changed or its link is new, so that
/// the writer does not have to send the bytes again.
#[derive(Debug, Default)]
pub(crate) struct MergedWrites {
    /// For each writer, the slots of its writes by sequence number.
    writers: BTreeMap<PeerIndex, BTreeMap<u64, u16>>,
}

impl MergedWrites {
    /// Records a write that was merged and is acknowledged.
    pub(crate) fn note(&mut self, writer: PeerIndex, write: &Write, slot: usize) {
        let numbers = self.writers.entry(writer).or_default();
        // A number that is dropped although its write is open costs bytes only: the writer sends it
        // again.
        while numbers
            .first_key_value()
            .is_some_and(|(seq, _)| *seq < write.oldest() || numbers.len() >= MERGED_MAX)
        {
            numbers.pop_first();
        }
        // An atomic update counts in one view only, so its acknowledgement is never repeated.
        if !write.strict {
            numbers.insert(write.seq, slot as u16);
        }
    }

    /// Called when a new view is installed: drops the writes of slots that this node does not hold
    /// any more. It may forget those sessions, so it must not confirm them again.
    pub(crate) fn install(&mut self, cluster: &ClusterView) {
        for numbers in self.writers.values_mut() {
            numbers.retain(|_, slot| cluster.is_local(usize::from(*slot)));
        }
    }

    /// Called when a member is removed.
    pub(crate) fn forget(&mut self, writer: PeerIndex) {
        self.writers.remove(&writer);
    }

    /// Sends all acknowledgements to `writer` once more, in the current view.
    pub(crate) fn acknowledge(&self, writer: PeerIndex, cluster: &mut ClusterView) {
        let Some(numbers) = self.writers.get(&writer) else {
            return;
        };
        let seqs: Vec<_> = numbers.keys().copied().collect();
        for seqs in seqs.chunks(ACKS_MAX) {
            let message = Message::Ack {
                view: cluster.view,
                seqs: seqs.to_vec(),
            };
            cluster.send(writer, message);
        }
    }
}

/// Writes remembered per member: more than its budget allows to be open.
const MERGED_MAX: usize = 65_536;

/// Acknowledgements in one message.
const ACKS_MAX: usize = 4_096;
