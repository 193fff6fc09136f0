//! A lab: replicas in one thread, whose messages a test can hold back, lose and deliver.

use super::*;

/// Nodes whose messages arrive immediately, unless they are held.
pub(super) struct ReplicaLab {
    pub(super) now: Timestamp,
    pub(super) nodes: Vec<(Node, Replica)>,
    /// Messages that wait: sender, receiver, message.
    pub(super) held: Vec<(usize, usize, Message)>,
    pub(super) hold: fn(&Message) -> bool,
    /// Pairs of sender and receiver between which messages are lost.
    pub(super) cut: Vec<(usize, usize)>,
    pub(super) replies: Vec<(OpId, Reply)>,
    pub(super) reports: Vec<(usize, Notification)>,
    pub(super) events: Vec<(usize, EventReport)>,
    /// Whether the links of a node close and are dialed anew when it takes a new incarnation.
    pub(super) redials: bool,
}

impl ReplicaLab {
    /// Nodes that have not met each other.
    pub(super) fn unconnected(count: u16) -> Self {
        Self::unconnected_with(count, Copies::All)
    }

    pub(super) fn unconnected_with(count: u16, copies: Copies) -> Self {
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
            reports: Vec::new(),
            events: Vec::new(),
            redials: false,
        }
    }

    /// Nodes that serve together.
    pub(super) fn cluster(count: u16) -> Self {
        Self::cluster_with(count, Copies::All)
    }

    pub(super) fn cluster_with(count: u16, copies: Copies) -> Self {
        let mut lab = Self::unconnected_with(count, copies);
        for one in 0..count.into() {
            for other in 0..count.into() {
                if one != other {
                    lab.link(one, other);
                }
            }
        }
        lab.run(Duration::from_secs(3));
        let serving = lab.nodes.iter().all(|(_, replica)| replica.is_ready());
        assert!(serving, "{:?}", lab.reports);
        lab
    }

    pub(super) fn link(&mut self, from: usize, to: usize) {
        let node = self.nodes[to].0.clone();
        self.input(from, Input::LinkUp { node });
    }

    pub(super) fn input(&mut self, index: usize, input: Input) {
        self.nodes[index].1.handle(self.now, input);
        self.carry();
    }

    /// Delivers messages until no node sends any more.
    pub(super) fn carry(&mut self) {
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
                        Output::Notification(notification) => {
                            if let Notification::Rejoining(me) = &notification {
                                self.nodes[index].0 = me.clone();
                                renewed.extend(self.redials.then_some(index));
                            }
                            self.reports.push((index, notification));
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
    pub(super) fn deliver(&self, from: usize, to: usize, message: Message) {
        let (sender, sending) = &self.nodes[from];
        let (node, replica) = &self.nodes[to];
        let delivered = (message.lane() == Lane::Data).then(|| Input::Delivered {
            node: node.clone(),
            bytes: message.size(),
            large: message.is_large(),
        });
        let input = Input::Message {
            from: sender.clone(),
            to: node.incarnation,
            age: Duration::ZERO,
            message,
        };
        replica.handle(self.now, input);
        if let Some(delivered) = delivered {
            sending.handle(self.now, delivered);
        }
    }

    /// Loses the held messages and holds no more: all links have broken and are back.
    pub(super) fn lose_held(&mut self) {
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
    pub(super) fn relink(&mut self, from: usize, to: usize) {
        self.link(from, to);
        let node = self.nodes[from].0.clone();
        self.input(to, Input::Accepted { node });
    }

    /// Advances the time.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now.plus(time);
        while self.now < end {
            self.now = self.now.plus(Duration::from_millis(25));
            for index in 0..self.nodes.len() {
                self.input(index, Input::Timeout);
            }
        }
    }

    pub(super) fn replica(&self, index: usize) -> &Replica {
        &self.nodes[index].1
    }

    pub(super) fn commit(
        &mut self,
        index: usize,
        op: OpId,
        key: Root,
        changes: &Changes,
    ) -> Progress<Outcome> {
        let base = self.replica(index).peek(self.now, &key);
        let step = self
            .replica(index)
            .commit(self.now, op, &key, base.as_ref(), changes);
        self.carry();
        step
    }

    pub(super) fn read(&self, index: usize, key: Root) -> Option<Arc<Record>> {
        self.replica(index).peek(self.now, &key)
    }

    pub(super) fn verdict(&self, op: OpId) -> Option<UpdateStatus> {
        match self.reply(op)? {
            Reply::Updated(verdict, _) => Some(verdict),
            _ => None,
        }
    }

    pub(super) fn reply(&self, op: OpId) -> Option<Reply> {
        self.replies
            .iter()
            .find(|(known, _)| *known == op)
            .map(|(_, reply)| reply.clone())
    }

    /// The current view of a node.
    pub(super) fn view(&self, index: usize) -> ViewId {
        self.replica(index).published().view
    }
}
