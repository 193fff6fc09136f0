//! The published part of the state of the engine: request tasks read it without its lock.

use std::sync::Arc;

use crate::session::{Timestamp, WriterId};

use crate::cluster::replica::engine::Engine;
use crate::cluster::replica::message::ViewId;
use crate::cluster::replica::placement::Placement;

#[derive(Clone, Debug)]
pub(super) struct Published {
    pub(super) ready: bool,
    /// Whether this node may answer alone for the slots that it holds.
    pub(super) complete: bool,
    pub(super) writer: WriterId,
    pub(super) placement: Arc<Placement>,
    /// Until when an unknown session may be a lost one.
    pub(super) uncertain_until: Timestamp,
    pub(super) view: ViewId,
}

impl Published {
    pub(super) fn of(engine: &Engine) -> Self {
        let cluster = &engine.cluster;
        Self {
            ready: cluster.ready,
            complete: cluster.is_complete() || !cluster.rules.union_reads(),
            writer: cluster.me.writer(),
            placement: cluster.placement.clone(),
            uncertain_until: cluster.uncertain_until(),
            view: cluster.view,
        }
    }

    pub(super) fn is_of(&self, engine: &Engine) -> bool {
        let cluster = &engine.cluster;
        self.view == cluster.view
            && self.ready == cluster.ready
            && self.complete == (cluster.is_complete() || !cluster.rules.union_reads())
            && self.uncertain_until == cluster.uncertain_until()
    }
}
