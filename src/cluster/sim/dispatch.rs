//! Dispatch of the events.

use super::event::Event;
use super::world::World;

impl World {
    pub(super) fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive {
                from,
                to,
                link,
                is_control,
            } => self.arrive(from, to, link, is_control),
            Event::Report {
                from,
                to,
                link,
                report,
            } => self.reported(from, to, link, report),
            Event::Transmit { from, to } => self.transmit(from, to),
            Event::Remind { from, to, link } => self.remind(from, to, link),
            Event::StartReading { from, to, link } => self.start_reading(from, to, link),
            Event::Wake { node } => self.wake(node),
            Event::Resume { node } => self.resume(node),
            Event::Dial { node } => self.dial(node),
            Event::DialBack { node, from } => self.connect(node, from),
            Event::Notice {
                node,
                gone,
                generation,
            } => self.notice(node, gone, generation),
            Event::LinksTimeOut { node } => self.links_time_out(node),
            Event::Act { client } => self.act(client),
            Event::Due { op, begun_at } => self.check_progress(op, begun_at),
            Event::Observe => self.observe(),
            Event::Fault => self.inject_fault(),
            Event::Heal => self.heal(),
            Event::Start { node } => self.start(node),
            Event::StartElsewhere { node } => self.start_elsewhere(node),
            Event::Depart { node } => self.depart(node),
            Event::TakeBack { node } => self.take_back(node),
            Event::SpeedUp { node } => self.nodes[node].input_takes = 0,
            Event::Flap { one, other, left } => self.flap(one, other, left),
            Event::EndOfFaults => self.end_faults(),
            Event::ActForUser { client } => self.act_for_user(client),
        }
    }
}
