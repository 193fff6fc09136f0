//! All links of a simulation.

use crate::cluster::sim::link::SimLink;

/// Links that are up, and those that are closing, by their ends.
#[derive(Debug)]
pub(super) struct SimLinks {
    nodes: usize,
    links: Vec<Option<SimLink>>,
}

impl SimLinks {
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            nodes,
            links: (0..nodes * nodes).map(|_| None).collect(),
        }
    }

    pub(super) fn get(&self, from: usize, to: usize) -> Option<&SimLink> {
        self.links[from * self.nodes + to].as_ref()
    }

    pub(super) fn get_mut(&mut self, from: usize, to: usize) -> Option<&mut SimLink> {
        self.links[from * self.nodes + to].as_mut()
    }

    pub(super) fn insert(&mut self, from: usize, to: usize, link: SimLink) {
        self.links[from * self.nodes + to] = Some(link);
    }

    pub(super) fn remove(&mut self, from: usize, to: usize) -> Option<SimLink> {
        self.links[from * self.nodes + to].take()
    }

    /// Returns the number of links of this node with bytes in their socket buffers.
    pub(super) fn busy(&self, from: usize, now: u64) -> u64 {
        let row = &self.links[from * self.nodes..(from + 1) * self.nodes];
        let is_busy = |link: &&SimLink| link.busy_until > now;
        row.iter().flatten().filter(is_busy).count() as u64
    }
}
