//! Tests of the replica: given inputs, expected outputs. Faults found by the simulator are here
//! with the fewest inputs that show them.

mod certainty;
mod copies;
mod declared_down;
mod events;
mod flapping;
mod floors;
#[cfg(all(feature = "snapshot", unix))]
mod held;
mod listing;
mod repeats;
mod rotation;
mod slowness;
mod users;

use std::time::Duration;

use proptest::prelude::*;

use crate::cluster::Ack;
use crate::session::{AttributeEntry, Credential, Lifetime, Name, Value, Version};

use super::entry::{Delta, Entry};
use super::event::{Notification, Reply, Report};
use super::message::{Lane, Message, UpdateStatus, ViewId};
use super::*;

const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const HOUR: Duration = Duration::from_secs(3600);
const SECRET: SecretHash = SecretHash::from_bytes([1; 16]);

/// A view that no node is in.
const UNKNOWN: ViewId = ViewId {
    epoch: 1,
    members: 12345,
};

/// The same members in another epoch.
const fn another(view: ViewId) -> ViewId {
    ViewId {
        epoch: view.epoch + 1,
        members: view.members,
    }
}

fn node(number: u16) -> Node {
    Node {
        address: ([127, 0, 0, 1], 4000 + number).into(),
        generation: 1,
        name: format!("node{number}").into(),
    }
}

fn key(number: u8) -> Root {
    let mut bytes = [0; 12];
    bytes[11] = number;
    Root::from_bytes(bytes)
}

fn born(name: &str, text: &str) -> Changes {
    let mut changes = Changes::create(SECRET, Some(HOUR), 24 * HOUR);
    changes.insert(name.into(), value(text));
    changes
}

fn insert(name: &str, text: &str) -> Changes {
    let mut changes = Changes::default();
    changes.insert(name.into(), value(text));
    changes
}

fn value(text: &str) -> Value {
    Value::from_bytes(text.as_bytes())
}

fn text(record: &Record, name: &str) -> Option<String> {
    let bytes = record.get(name)?.as_bytes().to_vec();
    String::from_utf8(bytes).ok()
}

fn settings(number: u16, copies: Copies) -> Settings {
    Settings {
        me: node(number),
        copies,
        ack: Ack::All,
        min_copies: 1,
        max_sessions: 100,
        max_bytes: 1 << 20,
        max_session_bytes: 1 << 24,
        ack_timeout: Duration::from_secs(5),
        requirements: Requirements::default(),
        seed: number.into(),
        rules: Rules::ALL,
    }
}

/// Nodes whose messages arrive immediately, unless they are held.
struct Lab {
    now: Timestamp,
    nodes: Vec<(Node, Replica)>,
    /// Messages that wait: sender, receiver, message.
    held: Vec<(usize, usize, Message)>,
    hold: fn(&Message) -> bool,
    /// Pairs of sender and receiver between which messages are lost.
    cut: Vec<(usize, usize)>,
    replies: Vec<(OpId, Reply)>,
    news: Vec<(usize, Notification)>,
    events: Vec<(usize, Report)>,
    /// Whether the links of a node close and are dialed anew when it takes a new incarnation.
    redials: bool,
}

impl Lab {
    /// Nodes that have not met each other.
    fn strangers(count: u16) -> Self {
        Self::strangers_with(count, Copies::All)
    }

    fn strangers_with(count: u16, copies: Copies) -> Self {
        let replica = |number| {
            let replica = Replica::new(START, settings(number, copies));
            (node(number), replica)
        };
        Self {
            now: START,
            nodes: (0..count).map(replica).collect(),
            held: Vec::new(),
            hold: |_| false,
            cut: Vec::new(),
            replies: Vec::new(),
            news: Vec::new(),
            events: Vec::new(),
            redials: false,
        }
    }

    /// Nodes that serve together.
    fn cluster(count: u16) -> Self {
        Self::cluster_with(count, Copies::All)
    }

    fn cluster_with(count: u16, copies: Copies) -> Self {
        let mut lab = Self::strangers_with(count, copies);
        for one in 0..count.into() {
            for other in 0..count.into() {
                if one != other {
                    lab.link(one, other);
                }
            }
        }
        lab.run(Duration::from_secs(3));
        let serving = lab.nodes.iter().all(|(_, replica)| replica.is_ready());
        assert!(serving, "{:?}", lab.news);
        lab
    }

    fn link(&mut self, from: usize, to: usize) {
        let node = self.nodes[to].0.clone();
        self.input(from, Input::LinkUp { node });
    }

    fn input(&mut self, index: usize, input: Input) {
        self.nodes[index].1.handle(self.now, input);
        self.carry();
    }

    /// Delivers messages until no node sends any more.
    fn carry(&mut self) {
        let mut renewed = Vec::new();
        loop {
            let mut under_way = Vec::new();
            for index in 0..self.nodes.len() {
                let mut outputs = Vec::new();
                self.nodes[index].1.drain(&mut outputs);
                for output in outputs {
                    match output {
                        Output::Send { to, message } => {
                            let to = self.nodes.iter().position(|(node, _)| *node == to);
                            under_way.extend(to.map(|to| (index, to, message)));
                        }
                        Output::Reply { op, reply } => self.replies.push((op, reply)),
                        Output::Event(report) => self.events.push((index, report)),
                        Output::Notification(news) => {
                            if let Notification::Renewed(me) = &news {
                                self.nodes[index].0 = me.clone();
                                renewed.extend(self.redials.then_some(index));
                            }
                            self.news.push((index, news));
                        }
                    }
                }
            }
            if under_way.is_empty() && renewed.is_empty() {
                return;
            }
            // Its links have closed, and both ends dial again.
            for one in std::mem::take(&mut renewed) {
                for other in (0..self.nodes.len()).filter(|other| *other != one) {
                    let broken = [(one, other), (other, one)].map(|way| self.cut.contains(&way));
                    if broken == [false, false] {
                        for (from, to) in [(one, other), (other, one)] {
                            let node = self.nodes[to].0.clone();
                            let (_, replica) = &self.nodes[from];
                            replica.handle(self.now, Input::LinkUp { node });
                        }
                    }
                }
            }
            for (from, to, message) in under_way {
                if self.cut.contains(&(from, to)) {
                    // It is lost.
                } else if (self.hold)(&message) {
                    self.held.push((from, to, message));
                } else {
                    self.deliver(from, to, message);
                }
            }
        }
    }

    /// Delivers a message and reports the delivery to the sender.
    fn deliver(&self, from: usize, to: usize, message: Message) {
        let (sender, sending) = &self.nodes[from];
        let (node, replica) = &self.nodes[to];
        let delivered = (message.lane() == Lane::Data).then(|| Input::Delivered {
            node: node.clone(),
            bytes: message.size(),
            large: message.is_large(),
        });
        let input = Input::Message {
            from: sender.clone(),
            to: node.generation,
            age: Duration::ZERO,
            message,
        };
        replica.handle(self.now, input);
        if let Some(delivered) = delivered {
            sending.handle(self.now, delivered);
        }
    }

    /// Loses the held messages and holds no more: all links have broken and are back.
    fn lose_held(&mut self) {
        self.held.clear();
        self.hold = |_| false;
        for from in 0..self.nodes.len() {
            for to in 0..self.nodes.len() {
                if from != to && !self.cut.contains(&(from, to)) {
                    self.relink(from, to);
                }
            }
        }
    }

    /// Breaks the link from one node to another and restores it.
    fn relink(&mut self, from: usize, to: usize) {
        self.link(from, to);
        let node = self.nodes[from].0.clone();
        self.input(to, Input::Accepted { node });
    }

    /// Advances the time.
    fn run(&mut self, time: Duration) {
        let end = self.now.plus(time);
        while self.now < end {
            self.now = self.now.plus(Duration::from_millis(25));
            for index in 0..self.nodes.len() {
                self.input(index, Input::Timeout);
            }
        }
    }

    fn replica(&self, index: usize) -> &Replica {
        &self.nodes[index].1
    }

    fn commit(&mut self, index: usize, op: OpId, key: Root, changes: &Changes) -> Step<Outcome> {
        let base = self.replica(index).look(self.now, &key);
        let step = self
            .replica(index)
            .commit(self.now, op, &key, base.as_ref(), changes);
        self.carry();
        step
    }

    fn read(&self, index: usize, key: Root) -> Option<Arc<Record>> {
        self.replica(index).look(self.now, &key)
    }

    fn verdict(&self, op: OpId) -> Option<UpdateStatus> {
        match self.reply(op)? {
            Reply::Updated(verdict, _) => Some(verdict),
            _ => None,
        }
    }

    fn reply(&self, op: OpId) -> Option<Reply> {
        self.replies
            .iter()
            .find(|(known, _)| *known == op)
            .map(|(_, reply)| reply.clone())
    }
}

#[test]
fn a_write_is_answered_when_every_member_has_it() {
    let mut lab = Lab::cluster(3);
    lab.hold = |message| matches!(message, Message::Write(_));
    let step = lab.commit(0, 1, key(1), &born("a", "1"));
    assert!(matches!(step, Step::Wait(Outcome::Committed(_))));
    let mut held = std::mem::take(&mut lab.held).into_iter();
    let (from, to, message) = held.next().unwrap();
    lab.deliver(from, to, message);
    lab.carry();
    assert_eq!(lab.reply(1), None);
    let (from, to, message) = held.next().unwrap();
    lab.deliver(from, to, message);
    lab.carry();
    assert_eq!(lab.reply(1), Some(Reply::Written));
    assert!((0..3).all(|index| lab.read(index, key(1)).is_some()));
}

#[test]
fn an_acknowledgement_counts_in_the_writers_view_only() {
    let mut lab = Lab::cluster(2);
    lab.hold = |message| matches!(message, Message::Ack { .. });
    lab.commit(0, 1, key(1), &born("a", "1"));
    let (from, to, message) = lab.held.pop().unwrap();
    let Message::Ack { view, seqs } = message else {
        panic!("not an acknowledgement")
    };
    lab.deliver(
        from,
        to,
        Message::Ack {
            view: another(view),
            seqs: seqs.clone(),
        },
    );
    lab.carry();
    assert_eq!(lab.reply(1), None);
    lab.deliver(from, to, Message::Ack { view, seqs });
    lab.carry();
    assert_eq!(lab.reply(1), Some(Reply::Written));
}

#[test]
fn a_write_that_is_lost_is_sent_again() {
    let mut lab = Lab::cluster(2);
    lab.hold = |message| matches!(message, Message::Write(_));
    lab.commit(0, 1, key(1), &born("a", "1"));
    lab.held.clear();
    lab.hold = |_| false;
    lab.relink(0, 1);
    assert_eq!(lab.reply(1), Some(Reply::Written));
    assert!(lab.read(1, key(1)).is_some());
}

#[test]
fn a_write_that_nobody_acknowledges_ends_as_indeterminate() {
    let mut lab = Lab::cluster(2);
    lab.hold = |message| matches!(message, Message::Write(_));
    lab.commit(0, 1, key(1), &born("a", "1"));
    lab.run(Duration::from_secs(6));
    assert_eq!(lab.reply(1), Some(Reply::Indeterminate));
}

#[test]
fn a_newcomer_has_everything_before_it_serves() {
    let mut lab = Lab::cluster(2);
    for number in 0..50 {
        lab.commit(0, number.into(), key(number), &born("a", "1"));
    }
    let mut newcomer = Lab::strangers(3).nodes.pop().unwrap();
    newcomer.1 = {
        let settings = Settings {
            me: newcomer.0.clone(),
            copies: Copies::All,
            ack: Ack::All,
            min_copies: 1,
            max_sessions: 100,
            max_bytes: 1 << 20,
            max_session_bytes: 1 << 24,
            ack_timeout: Duration::from_secs(5),
            requirements: Requirements::default(),
            seed: 9,
            rules: Rules::ALL,
        };
        Replica::new(lab.now, settings)
    };
    lab.nodes.push(newcomer);
    assert_eq!(
        lab.replica(2).load(lab.now, 77, &key(1), None),
        Step::Refused(StoreErrorKind::NotReady)
    );
    lab.hold = |message| matches!(message, Message::SlotEntries { .. });
    lab.link(2, 0);
    lab.run(Duration::from_secs(1));
    assert!(!lab.replica(2).is_ready());
    lab.lose_held();
    lab.run(Duration::from_secs(1));
    assert!(lab.replica(2).is_ready());
    assert!((0..50).all(|number| lab.read(2, key(number)).is_some()));
}

/// Found by simulation: two new nodes that met first served before they had met the other ones.
#[test]
fn newcomers_that_find_each_other_first_do_not_serve_at_once() {
    let mut lab = Lab::strangers(2);
    lab.link(0, 1);
    lab.run(Duration::from_secs(1));
    assert!(!lab.replica(0).is_ready() && !lab.replica(1).is_ready());
    lab.run(Duration::from_secs(2));
    assert!(lab.replica(0).is_ready() && lab.replica(1).is_ready());
}

#[test]
fn a_node_that_finds_nobody_serves_alone_after_a_while() {
    let mut lab = Lab::strangers(1);
    lab.run(Duration::from_millis(1_900));
    assert!(!lab.replica(0).is_ready());
    lab.run(Duration::from_millis(200));
    assert!(lab.replica(0).is_ready());
    let step = lab.commit(0, 1, key(1), &born("a", "1"));
    assert!(matches!(step, Step::Done(Outcome::Committed(_))));
}

/// Found by simulation: messages in the buffers of a process that was stopped, killed and restarted
/// extended a session that had expired meanwhile.
#[test]
fn what_was_said_to_a_former_life_does_not_count() {
    let mut lab = Lab::cluster(2);
    lab.commit(0, 1, key(1), &born("a", "1"));
    let (from, to) = (lab.nodes[0].0.clone(), lab.nodes[1].0.generation);
    for (to, counts) in [(to - 1, false), (to, true)] {
        let write = message::Write {
            seq: 77,
            behind: 76,
            view: UNKNOWN,
            strict: false,
            sent_at: lab.now,
            copies: [part(1, "b", Version::MAX_CLOCK)].into(),
        };
        let message = Message::Write(write);
        let from = from.clone();
        lab.input(
            1,
            Input::Message {
                from,
                to,
                age: Duration::ZERO,
                message,
            },
        );
        let record = lab.read(1, key(1)).unwrap();
        assert_eq!(text(&record, "b").is_some(), counts);
    }
}

/// Found by simulation: a node that was stopped immediately after its start counted the pause as
/// time in which it had looked for other nodes.
#[test]
fn the_time_that_a_node_was_stopped_is_no_time_to_look_around() {
    let lab = Lab::strangers(1);
    let ready_at = |seconds| {
        let now = START.plus(Duration::from_secs_f64(seconds));
        lab.replica(0).handle(now, Input::Timeout);
        lab.replica(0).is_ready()
    };
    assert!(!ready_at(0.1));
    assert!(!ready_at(6.0));
    assert!(!ready_at(7.9));
    assert!(ready_at(8.1));
}

/// Found by simulation: a view that arrived late permanently replaced a newer one.
#[test]
fn what_a_node_said_earlier_does_not_undo_what_it_said_later() {
    let mut lab = Lab::cluster(2);
    let view = message::View {
        number: 1,
        ask: false,
        view: UNKNOWN,
        members: Vec::new(),
        removed: Vec::new(),
        complete: false,
        ready: false,
        leaving: false,
        doubt: Duration::ZERO,
        kinds: None,
    };
    lab.deliver(1, 0, Message::View(view));
    lab.carry();
    let status = lab.replica(0).status();
    assert!(status.members[0].agrees && status.members[0].ready);
}

/// Found by simulation: a paused node accepted old answers when it continued.
#[test]
fn a_node_that_was_stopped_counts_nothing_that_was_said_before() {
    let mut lab = Lab::cluster(2);
    lab.hold = |message| matches!(message, Message::Ack { .. });
    lab.commit(0, 1, key(1), &born("a", "1"));
    let (from, to, acknowledgement) = lab.held.pop().unwrap();
    lab.now = lab.now.plus(PAUSE_MAX + Duration::from_secs(1));
    lab.deliver(from, to, acknowledgement);
    lab.carry();
    assert_eq!(lab.reply(1), None);
    assert!(!lab.replica(0).is_ready());
    assert!(
        lab.news
            .iter()
            .any(|(index, news)| *index == 0 && matches!(news, Notification::Renewed(_)))
    );
}

/// Other members receive from both, so the membership protocol keeps both; but no write could be
/// acknowledged by all holders for as long as it lasts.
#[test]
fn of_two_nodes_that_do_not_hear_each_other_one_is_taken_out() {
    for cut in [vec![(0, 1), (1, 0)], vec![(0, 1)], vec![(1, 0)]] {
        let mut lab = Lab::cluster(3);
        lab.redials = true;
        lab.cut = cut.clone();
        for (index, op, number) in [(0, 1, 1), (1, 2, 2), (2, 3, 3)] {
            lab.commit(index, op, key(number), &born("a", "1"));
        }
        let writes = |lab: &Lab| {
            (1..=3)
                .filter(|op| lab.reply(*op) == Some(Reply::Written))
                .count()
        };
        lab.run(Duration::from_millis(4_900));
        // The one that is removed had written something that the others have, but cannot be sure of
        // it.
        assert!(writes(&lab) >= 2, "{cut:?}: {:?}", lab.replies);
        let deaf = |news: &(usize, Notification)| matches!(news.1, Notification::Unreachable(_));
        assert!(lab.news.iter().any(deaf), "{cut:?}");
        lab.run(Duration::from_secs(16));
        let serving = |lab: &Lab| {
            (0..3)
                .filter(|index| lab.replica(*index).is_ready())
                .count()
        };
        // The two that stay continue to work, while the third one retries now and then.
        for turn in 0..20 {
            let op = 10 + turn;
            let step = lab.commit(2, op, key(10 + turn as u8), &born("a", "1"));
            if matches!(step, Step::Done(_)) {
                lab.replies.push((op, Reply::Written));
            }
            lab.run(Duration::from_millis(50));
        }
        lab.run(Duration::from_secs(2));
        let written = |op: &OpId| lab.reply(*op) == Some(Reply::Written);
        assert!(
            (10..30).filter(written).count() >= 19,
            "{cut:?}: {:?}",
            lab.replies
        );
        lab.cut.clear();
        lab.run(Duration::from_secs(1));
        for (one, other) in [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)] {
            lab.link(one, other);
        }
        for _ in 0..40 {
            lab.run(Duration::from_secs(1));
            for (one, other) in [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)] {
                lab.link(one, other);
            }
        }
        assert_eq!(serving(&lab), 3, "{cut:?}");
        for number in [1, 2, 3, 10, 29] {
            assert!((0..3).all(|index| lab.read(index, key(number)).is_some()));
        }
    }
}

/// A refuted suspicion must have no effect.
#[test]
fn a_member_that_was_suspected_and_answers_goes_on_as_it_is() {
    for silent_for in [1_100, 1_600, 2_100] {
        let mut lab = Lab::cluster(2);
        lab.cut = vec![(0, 1), (1, 0)];
        lab.run(Duration::from_millis(silent_for));
        lab.cut.clear();
        lab.run(Duration::from_secs(5));
        let is_reborn =
            |(_, news): &(usize, Notification)| matches!(news, Notification::Renewed(_));
        assert!(
            !lab.news.iter().any(is_reborn),
            "{silent_for} ms: {:?}",
            lab.news
        );
        assert!((0..2).all(|index| lab.replica(index).is_ready()));
    }
}

#[test]
fn a_refused_port_is_noticed_at_once() {
    let mut lab = Lab::cluster(2);
    let gone = lab.nodes[1].0.clone();
    lab.nodes.pop();
    lab.input(0, Input::Refused { node: gone });
    assert!(lab.replica(0).status().members.is_empty());
    let step = lab.commit(0, 1, key(1), &born("a", "1"));
    assert!(matches!(step, Step::Done(Outcome::Committed(_))));
}

#[test]
fn atomic_updates_through_two_nodes_at_once_both_count() {
    let mut lab = Lab::cluster(2);
    lab.commit(0, 1, key(1), &born("n", "0"));
    let base = lab.read(0, key(1)).unwrap();
    let up = |to: &str| {
        let mut changes = insert("n", to);
        changes.expect("n".into(), base.version("n"));
        changes
    };
    lab.hold = |message| matches!(message, Message::Write(_) | Message::Update(_));
    for (index, op) in [(0, 2), (1, 3)] {
        let replica = lab.replica(index);
        let step = replica.commit(lab.now, op, &key(1), Some(&base), &up("1"));
        assert!(matches!(step, Step::Wait(_)));
    }
    lab.carry();
    lab.hold = |_| false;
    for (from, to, message) in std::mem::take(&mut lab.held) {
        lab.deliver(from, to, message);
        lab.carry();
    }
    let verdicts = [lab.verdict(2), lab.verdict(3)];
    assert!(
        verdicts.contains(&Some(UpdateStatus::Applied)),
        "{verdicts:?}"
    );
    assert!(
        verdicts.contains(&Some(UpdateStatus::Conflict)),
        "{verdicts:?}"
    );
}

#[test]
fn an_atomic_update_that_is_sent_twice_counts_once() {
    let mut lab = Lab::cluster(2);
    lab.commit(0, 1, key(1), &born("n", "0"));
    let base = lab.read(0, key(1)).unwrap();
    let mut changes = insert("n", "1");
    changes.expect("n".into(), base.version("n"));
    // A node that is not the owner asks; the answer to it is lost once.
    let asker = usize::from(lab.replica(0).owns(key(1).slot()));
    lab.hold = |message| matches!(message, Message::Updated { .. });
    lab.commit(asker, 2, key(1), &changes);
    lab.lose_held();
    lab.run(Duration::from_secs(1));
    assert_eq!(lab.verdict(2), Some(UpdateStatus::Applied));
    assert_eq!(lab.read(asker, key(1)).unwrap().updates().len(), 1);
}

#[test]
fn an_atomic_update_of_another_view_is_refused() {
    let mut lab = Lab::cluster(2);
    lab.commit(0, 1, key(1), &born("n", "0"));
    lab.hold = |message| matches!(message, Message::Nack { .. });
    let write = message::Write {
        seq: 77,
        behind: 76,
        view: UNKNOWN,
        strict: true,
        sent_at: lab.now,
        copies: [part(1, "n", Version::MAX_CLOCK)].into(),
    };
    lab.deliver(0, 1, Message::Write(write));
    lab.carry();
    assert!(matches!(
        lab.held[..],
        [(1, 0, Message::Nack { seq: 77, .. })]
    ));
    let record = lab.read(1, key(1)).unwrap();
    assert_eq!(text(&record, "n").as_deref(), Some("0"));
}

#[test]
fn a_node_that_has_not_caught_up_asks_before_it_says_that_there_is_nothing() {
    let mut lab = Lab::strangers(2);
    lab.run(Duration::from_secs(3));
    lab.commit(1, 1, key(1), &born("a", "1"));
    lab.hold = |message| matches!(message, Message::Digests { .. } | Message::GetReply { .. });
    lab.link(0, 1);
    lab.run(Duration::from_millis(500));
    assert!(lab.replica(0).is_ready() && !lab.replica(0).status().complete);
    assert_eq!(
        lab.replica(0).load(lab.now, 2, &key(1), None),
        Step::Wait(Loaded::Absent)
    );
    lab.carry();
    assert_eq!(lab.reply(2), None);
    lab.hold = |message| matches!(message, Message::Digests { .. });
    for (from, to, message) in std::mem::take(&mut lab.held) {
        lab.deliver(from, to, message);
    }
    lab.carry();
    assert!(matches!(lab.reply(2), Some(Reply::Found(Loaded::Live(_)))));
    assert!(lab.read(0, key(1)).is_some());
}

#[test]
fn an_owner_that_could_not_look_around_for_long_orders_updates_afterwards() {
    let mut lab = Lab::strangers(2);
    lab.run(Duration::from_secs(3));
    lab.commit(0, 1, key(1), &born("n", "0"));
    let base = lab.read(0, key(1)).unwrap();
    let mut changes = insert("n", "1");
    changes.expect("n".into(), base.version("n"));
    lab.hold = |message| matches!(message, Message::Digests { .. } | Message::GetReply { .. });
    lab.link(0, 1);
    lab.run(Duration::from_millis(500));
    let owner = usize::from(lab.replica(1).owns(key(1).slot()));
    let update = |lab: &mut Lab, op| {
        let replica = lab.replica(owner);
        let step = replica.commit(lab.now, op, &key(1), Some(&base), &changes);
        assert!(matches!(step, Step::Wait(_)));
        lab.carry();
    };
    update(&mut lab, 2);
    lab.run(Duration::from_secs(6));
    assert_eq!(lab.replies, [(2, Reply::Indeterminate)]);
    lab.lose_held();
    lab.run(Duration::from_secs(2));
    update(&mut lab, 3);
    lab.run(Duration::from_secs(1));
    // The first attempt was applied after all; the second finds the value that it wrote.
    assert_eq!(lab.verdict(3), Some(UpdateStatus::Conflict));
}

#[test]
fn a_node_draws_new_ids_from_slots_of_its_own() {
    let mut lab = Lab::cluster(5);
    let mut drawn = 0;
    for index in (0..5).cycle().take(500) {
        let slot = lab.replica(index).own_slot(|| {
            drawn += 1;
            drawn
        });
        assert!(lab.replica(index).owns(slot));
    }
    // A node that leaves has none, and does not look for long.
    lab.input(0, Input::Drain(true));
    let mut tries = 0;
    lab.replica(0).own_slot(|| {
        tries += 1;
        tries
    });
    assert_eq!(tries, 1);
}

#[test]
fn an_ended_session_is_dead_on_every_node() {
    let mut lab = Lab::cluster(2);
    lab.commit(0, 1, key(1), &born("a", "1"));
    assert_eq!(lab.replica(1).delete(lab.now, 2, &key(1)), Step::Wait(true));
    lab.carry();
    assert_eq!(lab.reply(2), Some(Reply::Written));
    assert!(lab.read(0, key(1)).is_none());
    assert_eq!(
        lab.commit(0, 3, key(1), &insert("a", "2")),
        Step::Done(Outcome::Gone)
    );
    assert_eq!(
        lab.replica(0).delete(lab.now, 4, &key(1)),
        Step::Wait(false)
    );
}

// The table by itself.

fn table_with(max_sessions: usize, max_bytes: usize) -> Table {
    Table::new(&Settings {
        max_sessions,
        max_bytes,
        ..settings(0, Copies::All)
    })
}

fn table() -> Table {
    table_with(100, 1 << 20)
}

fn record(name: &str, clock: u64) -> Record {
    let credential = Credential::new(SECRET, START.plus(24 * HOUR), None);
    let mut record = Record::new(
        credential,
        Lifetime {
            created_at: START,
            accessed_at: START,
            access: 0,
            idle_timeout: (Version::default(), Some(HOUR).into()),
            initial_idle_timeout: None.into(),
            returned: false,
        },
    );
    record.merge_register(&register(name, clock));
    record
}

fn register(name: &str, clock: u64) -> AttributeEntry {
    AttributeEntry {
        name: Name::from(name),
        version: Version { clock, writer: 1 },
        value: Some(value(&clock.to_string())),
    }
}

fn live(number: u8, name: &str, clock: u64) -> KeyedEntry {
    KeyedEntry {
        key: key(number),
        entry: Entry::Live(Arc::new(record(name, clock))),
    }
}

fn part(number: u8, name: &str, clock: u64) -> KeyedEntry {
    let fragment = Delta {
        entries: vec![register(name, clock)],
        idle_timeout: None,
        accessed_at: START,
        access: 0,
        credential: None,
        updates: Vec::new(),
    };
    KeyedEntry {
        key: key(number),
        entry: Entry::Delta(Arc::new(fragment)),
    }
}

fn dead(number: u8) -> KeyedEntry {
    KeyedEntry {
        key: key(number),
        entry: Entry::tombstone(START, &record("a", 1)),
    }
}

#[test]
fn a_change_never_creates_a_session_but_is_kept_for_it() {
    let table = table();
    table.merge(START, &part(1, "a", 2));
    assert!(table.look(START, &key(1)).is_none());
    assert_eq!(table.sessions(), 0);
    table.merge(START, &live(1, "b", 1));
    let record = table.look(START, &key(1)).unwrap();
    assert_eq!(text(&record, "a").as_deref(), Some("2"));
    assert_eq!(text(&record, "b").as_deref(), Some("1"));
}

#[test]
fn a_late_copy_does_not_bring_back_an_ended_session() {
    let table = table();
    table.merge(START, &live(1, "a", 1));
    table.merge(START, &dead(1));
    table.merge(START, &live(1, "a", 9));
    table.merge(START, &part(1, "a", 9));
    assert!(table.look(START, &key(1)).is_none());
    assert_eq!((table.sessions(), table.tombstones()), (0, 1));
}

#[test]
fn what_has_expired_keys_is_swept_and_not_taken_in_again() {
    // The same slot has one that stays.
    let mut lasting = record("a", 1);
    lasting.credential.absolute_deadline = Timestamp::NEVER;
    lasting.lifetime.idle_timeout.1 = None.into();
    let lasting = KeyedEntry {
        key: key(3),
        entry: Entry::Live(lasting.into()),
    };
    let [table, fresh] = [table(), table()];
    fresh.merge(START, &lasting);
    table.merge(START, &lasting);
    table.merge(START, &live(1, "a", 1));
    table.merge(START, &dead(2));
    let late = START.plus(48 * HOUR);
    table.sweep(late);
    let count = |table: &Table| (table.sessions(), table.tombstones(), table.bytes());
    assert_eq!(count(&table), count(&fresh));
    table.merge(late, &live(1, "a", 1));
    assert_eq!(count(&table), count(&fresh));
    assert_eq!(table.digests(|_| true), fresh.digests(|_| true));
}

#[test]
fn the_names_of_what_ran_out_take_a_part_of_what_sessions_may_take() {
    let table = table_with(1_000, 100_000);
    let at = |slot: u16| {
        let mut bytes = [0; 12];
        bytes[10..12].copy_from_slice(&slot.to_be_bytes());
        Root::from_bytes(bytes)
    };
    let fill = |now| {
        let mut record = record("a", 1);
        record.touch(now);
        for slot in 0..200 {
            let entry = Entry::Live(Arc::new(record.clone()));
            table.merge(
                now,
                &KeyedEntry {
                    key: at(slot),
                    entry,
                },
            );
        }
    };
    let known = |now| {
        (0..200)
            .filter(|slot| table.is_doubtful(now, &at(*slot)))
            .count()
    };
    let mut now = START;
    for turn in 0..4 {
        fill(now);
        now = now.plus(HOUR + HOUR / 5);
        table.sweep(now);
        assert_eq!(table.sessions(), 0);
        // A twentieth of the bytes, at fifty each.
        assert_eq!(known(now), 100);
        // They are dropped with the slots that other nodes hold from now on, or when their time is
        // up.
        if turn % 2 == 0 {
            fill(now);
            table.retain(|_| false);
        }
        now = now.plus(2 * HOUR);
        table.sweep(now);
        assert_eq!(known(now), 0);
    }
}

#[test]
fn a_full_table_refuses_new_sessions_and_ends_old_ones() {
    let table = table_with(1, 1 << 20);
    let create = |number| table.commit(START, &key(number), None, &born("a", "1"), 1);
    assert!(create(1).is_ok());
    assert_eq!(create(2), Err(StoreErrorKind::Full));
    assert!(table.delete(START, &key(1)).is_some());
    assert!(create(3).is_ok());
}

fn copy() -> impl Strategy<Value = KeyedEntry> {
    let number = || 0..4_u8;
    let name = || prop::sample::select(vec!["a", "b"]);
    prop_oneof![
        (number(), name(), 0..5_u64).prop_map(|(number, name, clock)| live(number, name, clock)),
        (number(), name(), 0..5_u64).prop_map(|(number, name, clock)| part(number, name, clock)),
        number().prop_map(dead),
    ]
}

proptest! {
    /// Entries may arrive in any order and any number of times.
    #[test]
    fn tables_agree_whatever_order_things_come_in(
        copies in prop::collection::vec(copy(), 0..8),
        order in any::<prop::sample::Index>(),
    ) {
        let (one, other) = (table(), table());
        for copy in &copies {
            one.merge(START, copy);
        }
        let first = order.index(copies.len().max(1));
        for copy in copies.iter().rev().chain(copies.iter().skip(first)) {
            other.merge(START, copy);
        }
        prop_assert_eq!(one.digests(|_| true), other.digests(|_| true));
        prop_assert_eq!(one.sessions(), other.sessions());
        for number in 0..4 {
            prop_assert_eq!(one.look(START, &key(number)), other.look(START, &key(number)));
        }
    }

    /// The counters match the contents.
    #[test]
    fn nothing_that_comes_upsets_a_table(copies in prop::collection::vec(copy(), 0..20)) {
        let table = table();
        for copy in &copies {
            table.merge(START, copy);
        }
        let alive = (0..4).filter(|number| table.look(START, &key(*number)).is_some());
        prop_assert_eq!(table.sessions(), alive.count());
        let late = START.plus(1000 * HOUR);
        table.sweep(late);
        prop_assert_eq!((table.sessions(), table.tombstones(), table.bytes()), (0, 0, 0));
    }
}
