//! Dispatch of the events.

use crate::cluster::sim::event::SimEvent;
use crate::cluster::sim::world::World;

impl World {
    pub(super) fn happen(&mut self, event: SimEvent) {
        match event {
            SimEvent::Arrive {
                from,
                to,
                link,
                is_control,
            } => self.arrive(from, to, link, is_control),
            SimEvent::Report {
                from,
                to,
                link,
                report,
            } => self.reported(from, to, link, report),
            SimEvent::Transmit { from, to } => self.transmit(from, to),
            SimEvent::Remind { from, to, link } => self.remind(from, to, link),
            SimEvent::StartReading { from, to, link } => self.start_reading(from, to, link),
            SimEvent::Wake { node } => self.wake(node),
            SimEvent::Resume { node } => self.resume(node),
            SimEvent::Dial { node } => self.dial(node),
            SimEvent::DialBack { node, from } => self.connect(node, from),
            SimEvent::Notice {
                node,
                gone,
                incarnation,
            } => self.notice(node, gone, incarnation),
            SimEvent::LinksTimeOut { node } => self.links_time_out(node),
            SimEvent::Act { client } => self.act(client),
            SimEvent::Due { op, begun_at } => self.check_progress(op, begun_at),
            SimEvent::Observe => self.observe(),
            SimEvent::Fault => self.inject_fault(),
            SimEvent::Heal => self.heal(),
            SimEvent::Start { node } => self.start(node),
            SimEvent::StartElsewhere { node } => self.start_elsewhere(node),
            SimEvent::Depart { node } => self.depart(node),
            SimEvent::TakeBack { node } => self.take_back(node),
            SimEvent::SpeedUp { node } => self.nodes[node].input_takes = 0,
            SimEvent::Flap { one, other, left } => self.flap(one, other, left),
            SimEvent::EndOfFaults => self.end_faults(),
            SimEvent::ActForUser { client } => self.act_for_user(client),
        }
    }
}
