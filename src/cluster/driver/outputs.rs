//! Outputs of the replica, and what the driver does with them.

use std::sync::atomic::Ordering::Relaxed;

use crate::clock;
use crate::cluster::replica::event::{EventReport, Input, Notification, Output};
use crate::cluster::transport::MessageEncoder;
use crate::sync::lock;

use crate::cluster::driver::{Driver, LOOKING};

/// The outputs of the replica, and the encoder for their messages.
#[derive(Debug, Default)]
pub(super) struct Outputs {
    list: Vec<Output>,
    encoder: MessageEncoder,
}

impl Driver {
    /// Performs the outputs of the replica, in order. Must be called after every input.
    pub(crate) fn flush_outputs(&self) {
        loop {
            let undelivered = self.flush_once();
            if undelivered.is_empty() {
                return;
            }
            for undelivered in undelivered {
                self.replica.handle(clock::now(), undelivered);
            }
        }
    }

    /// Performs the outputs of the replica. Returns a delivery report for each message that had to
    /// be dropped, so that it takes no room in a window any more.
    fn flush_once(&self) -> Vec<Input> {
        let mut outputs = lock(&self.outputs);
        let Outputs { list, encoder } = &mut *outputs;
        let mut undelivered = Vec::new();
        self.replica.drain(list);
        for output in list.drain(..) {
            match output {
                Output::Send { to, message } => {
                    if self.links.send(&to, &message, encoder).is_err() {
                        if self.admission.may_log() {
                            tracing::error!(
                                peer = %to.name,
                                bytes = message.size(),
                                "a session is too large to be replicated"
                            );
                        }
                        undelivered.push(Input::Delivered {
                            node: to,
                            bytes: message.size(),
                            large: message.is_large(),
                        });
                    }
                }
                Output::Reply { op, reply } => self.calls.answer(op, reply),
                Output::Notification(notification) => self.notify(notification),
                Output::Event(EventReport::Local(event)) => self.events.report(event),
                Output::Event(EventReport::LocalRepeat(event)) => self.events.report_again(event),
                Output::Event(EventReport::Remote(event)) => self.events.relay(event),
                Output::Event(EventReport::Lost(events)) => self.events.lost(events),
                Output::Event(EventReport::Confirmed(by_all)) => self.events.confirmed(by_all),
            }
        }
        encoder.forget();
        undelivered
    }

    /// Logs an event, and does what follows from it outside of the replica.
    fn notify(&self, notification: Notification) {
        self.log
            .report(&notification, || self.replica.under_replicated());
        match notification {
            Notification::MemberUp(node) => self.sightings.joined(clock::now(), &node),
            Notification::MemberDown { node, .. } => self.links.cut(&node),
            Notification::Ready { .. } => {
                self.addresses.joined();
                self.ready.send_replace(true);
            }
            Notification::Excluded(_) => {
                self.restart_search();
                self.links.close_all();
            }
            Notification::Rejoining(node) => {
                let members = self.replica.status().members;
                self.addresses
                    .rejoin(members.iter().map(|member| member.node.address));
                self.restart_search();
                // In this order: a link established meanwhile checks the identity last.
                self.identity.send_replace(node);
                self.links.close_all();
            }
            Notification::Unreachable(_)
            | Notification::Stalled(_)
            | Notification::CopyingBegins
            | Notification::CopyingEnds { .. }
            | Notification::OverLimit { .. }
            | Notification::Quarantined(_) => {}
        }
    }

    /// Called when this node stops serving: starts to look for other nodes again.
    fn restart_search(&self) {
        self.ready.send_replace(false);
        let until = clock::now().plus(LOOKING);
        self.looking_until.store(until.as_millis(), Relaxed);
    }
}
