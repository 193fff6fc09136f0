//! Lists of sessions: requests of this node, and of other members.

use crate::session::{Root, Timestamp};

use crate::cluster::replica::engine::Engine;
use crate::cluster::replica::event::Reply;
use crate::cluster::replica::flow::Deferred;
use crate::cluster::replica::listing::RESPONSE_MAX;
use crate::cluster::replica::message::{ListRequest, ListResponse, Message, OpId};
use crate::cluster::replica::peer_table::PeerIndex;
use crate::cluster::replica::placement::MemberRef;
use crate::cluster::replica::table::EntryTable;

impl Engine {
    /// Starts to ask the other owners for the sessions after a place.
    pub(crate) fn list(&mut self, now: Timestamp, op: OpId, after: Option<Root>, limit: usize) {
        self.cluster.now = now;
        if self.cluster.left {
            self.cluster.reply(op, Reply::Unavailable);
        } else {
            self.lists.begin(now, &mut self.cluster, op, after, limit);
        }
    }

    /// Handles a request for sessions that this node owns, or the response to one.
    pub(super) fn handle_listing(
        &mut self,
        now: Timestamp,
        from: PeerIndex,
        message: Message,
        table: &EntryTable,
    ) {
        match message {
            // Answered now, or when there is room for the response.
            Message::ListSlots(_) => match self.cluster.flow.defer(from, message, false) {
                Deferred::AnswerNow(request) => self.answer(now, from, request, table),
                Deferred::Refused(Message::ListSlots(request)) => {
                    self.cluster.send(from, Message::Busy { op: request.op });
                }
                Deferred::Refused(_) | Deferred::Waits => {}
            },
            Message::ListPage(response) => {
                self.lists.answered(now, from, response, &mut self.cluster);
            }
            _ => {}
        }
    }

    /// Returns the response to a request in this view.
    pub(super) fn list_part(
        &self,
        now: Timestamp,
        request: &ListRequest,
        table: &EntryTable,
    ) -> Message {
        let ListRequest {
            view,
            op,
            after,
            limit,
        } = *request;
        // Sessions of this node may be lost.
        if !self.cluster.is_complete() || self.cluster.uncertain_until() > now {
            return Message::Busy { op };
        }
        let placement = &self.cluster.placement;
        let is_owned = |slot| placement.owner(slot) == MemberRef::Me;
        let limit = RESPONSE_MAX.min(limit.into());
        Message::ListPage(ListResponse {
            view,
            op,
            sent_at: now,
            part: table.list(now, after, SLOTS_MAX, limit, is_owned),
        })
    }

    /// Handles a member that does not answer a read or a list.
    pub(super) fn handle_busy(&mut self, from: PeerIndex, op: OpId) {
        self.reads.refused(from, op, &mut self.cluster);
        self.lists.refused(from, op, &mut self.cluster);
    }
}

/// Slots that are looked at for one response: less than a millisecond.
const SLOTS_MAX: usize = 2_048;
