//! Tests of slow links, large sessions, and views with the same members as earlier ones.

use super::*;

/// A change that writes this many bytes.
fn big(name: &str, bytes: usize) -> Changes {
    let mut changes = Changes::create(SECRET, Some(HOUR), 24 * HOUR);
    changes.insert(name.into(), Value::from_bytes(vec![b'1'; bytes]));
    changes
}

pub(super) fn is_write(message: &Message) -> bool {
    matches!(message, Message::Write(_))
}

pub(super) fn roomy(count: u16, change: impl Fn(&mut Settings)) -> ReplicaLab {
    let mut lab = ReplicaLab::unconnected(count);
    for (number, (_, replica)) in lab.nodes.iter_mut().enumerate() {
        let mut settings = settings(number as u16, Copies::All);
        settings.max_sessions = 100_000;
        settings.max_bytes = 1 << 30;
        change(&mut settings);
        *replica = Replica::new(START, settings);
    }
    for one in 0..count.into() {
        for other in 0..count.into() {
            if one != other {
                lab.link(one, other);
            }
        }
    }
    lab.run(Duration::from_secs(3));
    lab
}

/// A set of members that returns is another view, so that an order from the first period does not
/// count in the second.
#[test]
fn a_drain_that_is_taken_back_begins_a_view_of_its_own() {
    let mut lab = ReplicaLab::cluster(2);
    let before = lab.replica(0).published().view;
    lab.input(1, Input::Drain(true));
    lab.input(1, Input::Drain(false));
    lab.run(Duration::from_secs(1));
    let after = lab.replica(0).published().view;
    assert_eq!(before.members, after.members);
    assert!(before.epoch < after.epoch, "{before:?} {after:?}");
    assert_eq!(after, lab.replica(1).published().view);
}

///
#[test]
fn an_update_of_the_period_before_a_drain_was_taken_back_is_not_applied() {
    let mut lab = ReplicaLab::cluster(2);
    lab.commit(0, 1, key(1), &born("n", "0"));
    let base = lab.read(0, key(1)).unwrap();
    let mut changes = insert("n", "1");
    changes.require_version("n".into(), base.version("n"));
    let owner = usize::from(lab.replica(1).owns(key(1).slot()));
    lab.hold = is_write;
    lab.commit(owner, 2, key(1), &changes);
    let late: Vec<_> = std::mem::take(&mut lab.held);
    assert!(!late.is_empty());
    lab.hold = |_| false;
    lab.input(1 - owner, Input::Drain(true));
    lab.input(1 - owner, Input::Drain(false));
    lab.run(Duration::from_secs(1));
    let verdict = lab.verdict(2);
    let mut other = insert("n", "7");
    let base = lab.read(owner, key(1)).unwrap();
    other.require_version("n".into(), base.version("n"));
    lab.commit(owner, 3, key(1), &other);
    assert_eq!(
        verdict,
        Some(UpdateStatus::Applied),
        "asked again in the new view"
    );
    assert_eq!(lab.verdict(3), Some(UpdateStatus::Applied));
    lab.hold = |message| matches!(message, Message::Nack { .. });
    for (from, to, message) in late {
        lab.deliver(from, to, message);
    }
    lab.carry();
    assert!(!lab.held.is_empty(), "the late write is refused");
    for index in 0..2 {
        let record = lab.read(index, key(1)).unwrap();
        assert_eq!(text(&record, "n").as_deref(), Some("7"));
    }
}

#[test]
fn a_higher_epoch_of_the_same_members_is_adopted_and_not_raised() {
    let mut lab = ReplicaLab::cluster(2);
    let view = lab.replica(0).published().view;
    lab.hold = |message| matches!(message, Message::View(_));
    lab.link(1, 0);
    let (from, to, message) = lab.held.pop().unwrap();
    let Message::View(mut announced) = message else {
        panic!("{message:?}");
    };
    announced.view.epoch = view.epoch + 10;
    announced.number += 100;
    lab.deliver(from, to, Message::View(announced.clone()));
    assert_eq!(lab.replica(0).published().view.epoch, view.epoch + 10);
    // An epoch that no cluster reaches comes from a faulty member.
    announced.view.epoch = u64::MAX;
    announced.number += 1;
    lab.deliver(from, to, Message::View(announced));
    assert_eq!(lab.replica(0).published().view.epoch, view.epoch + 10);
}

#[test]
fn a_write_is_not_acknowledged_when_too_few_copies_are_left_meanwhile() {
    let mut lab = roomy(2, |settings| settings.min_copies = 2);
    lab.hold = is_write;
    lab.commit(0, 1, key(1), &born("a", "1"));
    let node = lab.nodes[1].0.clone();
    lab.input(0, Input::Refused { node });
    lab.run(Duration::from_secs(1));
    assert_eq!(lab.reply(1), None);
    lab.run(Duration::from_secs(5));
    assert_eq!(lab.reply(1), Some(Reply::Indeterminate));
}

/// Links do not lose messages while they are up: nothing is repeated on a timer.
#[test]
fn a_write_on_a_slow_link_is_sent_once() {
    let mut lab = ReplicaLab::cluster(2);
    lab.hold = is_write;
    lab.commit(0, 1, key(1), &born("a", "1"));
    lab.run(Duration::from_secs(4));
    assert_eq!(lab.held.len(), 1);
}

/// A holder repeats its acknowledgements in the new view, which costs no bytes of sessions.
#[test]
fn a_change_of_the_view_does_not_send_writes_again_that_a_holder_has() {
    let mut lab = ReplicaLab::cluster(3);
    // The write to node 2 is held, so that it stays open.
    lab.hold = is_write;
    lab.commit(0, 1, key(1), &born("a", "1"));
    let (mut to_one, mut to_two): (Vec<_>, Vec<_>) = std::mem::take(&mut lab.held)
        .into_iter()
        .partition(|(_, to, _)| *to == 1);
    let (from, to, message) = to_one.pop().unwrap();
    lab.deliver(from, to, message);
    lab.carry();
    lab.input(2, Input::Drain(true));
    lab.run(Duration::from_secs(1));
    assert_eq!(lab.held, [], "nothing was sent again");
    assert_eq!(lab.reply(1), Some(Reply::Written), "node 2 is no holder");
    lab.input(2, Input::Drain(false));
    lab.run(Duration::from_secs(1));
    let (from, to, message) = to_two.pop().unwrap();
    lab.deliver(from, to, message);
    lab.carry();
    assert!(lab.read(2, key(1)).is_some());
}

/// A write that arrives before the writer is a member at the receiver is not lost.
#[test]
fn a_refused_write_is_sent_again_when_the_views_agree() {
    let lab = ReplicaLab::cluster(2);
    let unknown = Node {
        incarnation: 77,
        ..node(9)
    };
    let write = Message::Write(message::Write {
        seq: 5,
        behind: 0,
        view: UNKNOWN,
        strict: false,
        sent_at: lab.now,
        entries: [live(1, "a", 5)].into(),
    });
    let (receiver, replica) = &lab.nodes[0];
    let input = Input::Message {
        from: unknown.clone(),
        to: receiver.incarnation,
        age: Duration::ZERO,
        message: write,
    };
    replica.handle(lab.now, input);
    let mut outputs = Vec::new();
    replica.drain(&mut outputs);
    let refused = |output: &Output| matches!(output, Output::Send { to, message: Message::Nack { seq: 5, .. } } if *to == unknown);
    assert!(outputs.iter().any(refused), "{outputs:?}");
}

/// The bytes in flight to a node that receives nothing are bounded, and so are the accepted writes.
#[test]
fn a_node_that_receives_nothing_bounds_what_is_sent_and_what_is_accepted() {
    let mut lab = roomy(2, |_| {});
    lab.hold = is_write;
    let mut accepted = 0;
    for number in 0..2_000_u64 {
        let mut bytes = [1; 12];
        bytes[4..].copy_from_slice(&number.to_be_bytes());
        let key = Root::from_bytes(bytes);
        match lab.commit(0, number + 1, key, &big("a", 60_000)) {
            Progress::Pending(_) => accepted += 1,
            Progress::Rejected(StoreErrorKind::Unavailable) => {}
            other => panic!("{other:?}"),
        }
    }
    let in_flight: usize = lab.held.iter().map(|(.., message)| message.size()).sum();
    assert!(in_flight <= flow::SMALL_WINDOW, "{in_flight}");
    assert!((50..200).contains(&accepted), "{accepted}");
    // Delivered bytes make room.
    lab.hold = |_| false;
    for (from, to, message) in std::mem::take(&mut lab.held) {
        lab.deliver(from, to, message);
    }
    lab.carry();
    let written = |(_, reply): &&(OpId, Reply)| *reply == Reply::Written;
    assert_eq!(lab.replies.iter().filter(written).count(), accepted);
    assert!(matches!(
        lab.commit(0, 9_999, key(9), &big("a", 60_000)),
        Progress::Pending(_)
    ));
}

#[test]
fn small_writes_pass_a_large_one() {
    let mut lab = roomy(2, |_| {});
    lab.hold = |message| message.is_large();
    for number in 1..4 {
        lab.commit(0, number.into(), key(number), &big("a", 10 << 20));
    }
    assert_eq!(lab.held.len(), 1, "one large message at a time");
    lab.commit(0, 10, key(10), &born("a", "1"));
    assert_eq!(lab.reply(10), Some(Reply::Written));
    let refused = lab.commit(0, 11, key(11), &big("a", 15 << 20));
    assert!(matches!(refused, Progress::Pending(_)));
    let refused = lab.commit(0, 12, key(12), &big("a", 15 << 20));
    assert_eq!(refused, Progress::Rejected(StoreErrorKind::Unavailable));
    for _ in 0..4 {
        let (from, to, message) = lab.held.pop().unwrap();
        lab.deliver(from, to, message);
        lab.carry();
    }
    assert!((1..4).all(|op| lab.reply(op) == Some(Reply::Written)));
}

/// A caller waits for a large write while it makes progress.
#[test]
fn a_large_write_that_moves_is_not_given_up() {
    let mut lab = roomy(2, |_| {});
    lab.hold = |message| message.is_large();
    lab.commit(0, 1, key(1), &big("a", 10 << 20));
    for _ in 0..10 {
        lab.run(Duration::from_secs(1));
        let node = lab.nodes[1].0.clone();
        lab.input(0, Input::Progress { node });
    }
    assert_eq!(lab.reply(1), None);
    let (from, to, message) = lab.held.pop().unwrap();
    lab.deliver(from, to, message);
    lab.carry();
    assert_eq!(lab.reply(1), Some(Reply::Written));
}

#[test]
fn a_session_does_not_grow_over_its_limit() {
    let mut lab = roomy(2, |settings| settings.max_session_bytes = 1_000);
    lab.commit(0, 1, key(1), &big("a", 600));
    let more = |name: &str| {
        let mut changes = Changes::default();
        changes.insert(name.into(), Value::from_bytes(vec![b'1'; 600]));
        changes
    };
    // The owner orders changes that may conflict with other ones.
    for (index, op) in [(0, 2), (1, 3)] {
        lab.commit(index, op, key(1), &more("b"));
        assert_eq!(lab.verdict(op), Some(UpdateStatus::TooLarge));
    }
    let refused = Progress::Rejected(StoreErrorKind::TooLarge);
    assert_eq!(lab.commit(0, 4, key(2), &big("a", 1_100)), refused);
    // As a replacement of the existing value it fits.
    lab.commit(1, 5, key(1), &more("a"));
    assert_eq!(lab.verdict(5), Some(UpdateStatus::Applied));
    // An owner that orders the change checks its size.
    let base = lab.read(0, key(1)).unwrap();
    let mut ordered = more("b");
    ordered.require_version("b".into(), base.version("b"));
    lab.commit(0, 6, key(1), &ordered);
    assert_eq!(lab.verdict(6), Some(UpdateStatus::TooLarge));
}

/// Both sides of a partition may fill a session: acknowledged writes are kept, and it may shrink.
#[test]
fn a_session_that_a_merge_makes_too_large_is_kept_and_counted() {
    let table = EntryTable::new(&Settings {
        max_session_bytes: 1_000,
        ..settings(0, Copies::All)
    });
    let side = |name: &str| {
        let mut record = record(name, 1);
        record.merge_write(&AttributeEntry {
            value: Some(Value::from_bytes(vec![b'1'; 700])),
            ..register(name, 2)
        });
        KeyedEntry {
            key: key(1),
            entry: Entry::Live(record.into()),
        }
    };
    table.merge(START, &side("a"));
    assert_eq!(table.oversized(), 0);
    table.merge(START, &side("b"));
    assert_eq!(table.oversized(), 1);
    let whole = table.peek(START, &key(1)).unwrap();
    assert!(whole.payload_bytes() > 1_000);
    let smaller = table.commit(START, &key(1), Some(&*whole), &insert("a", ""), 1);
    assert!(matches!(smaller, Ok((Outcome::Committed(_), Some(_)))));
}

/// A node keeps copies for other nodes regardless of its limits, reports it, and creates nothing
/// meanwhile.
#[test]
fn a_node_over_its_limits_shows_it_and_creates_nothing() {
    let mut lab = roomy(2, |settings| {
        if settings.seed == 1 {
            settings.max_bytes = 2_000;
        }
    });
    for number in 1..20 {
        lab.commit(0, number.into(), key(number), &big("a", 500));
    }
    lab.run(Duration::from_secs(1));
    assert!(lab.replica(1).status().over_limit && !lab.replica(0).status().over_limit);
    let over = |(index, sent): &&(usize, Notification)| {
        *index == 1 && matches!(sent, Notification::OverLimit { is_over: true, .. })
    };
    assert_eq!(lab.reports.iter().filter(over).count(), 1);
    let refused = lab.commit(1, 50, key(50), &born("a", "1"));
    assert_eq!(refused, Progress::Rejected(StoreErrorKind::Full));
    assert_eq!(lab.replica(1).status().sessions, 19);
}

/// Each answer has the same cost, however many reads are open.
#[test]
fn answers_wait_for_room_and_are_given_in_the_end() {
    let mut lab = ReplicaLab::unconnected(2);
    lab.run(Duration::from_secs(3));
    for number in 1..5 {
        lab.commit(1, number.into(), key(number), &big("a", 200 << 10));
    }
    lab.hold = |message| matches!(message, Message::Digests { .. }) || message.is_large();
    lab.link(0, 1);
    lab.run(Duration::from_millis(500));
    for number in 1..5 {
        let op = 100 + OpId::from(number);
        assert_eq!(
            lab.replica(0).load(lab.now, op, &key(number), None),
            Progress::Pending(Loaded::Absent)
        );
    }
    lab.carry();
    let large = |(.., message): &&(usize, usize, Message)| message.is_large();
    assert_eq!(lab.held.iter().filter(large).count(), 1);
    for _ in 0..4 {
        let at = lab.held.iter().position(|(.., message)| message.is_large());
        let (from, to, message) = lab.held.remove(at.unwrap());
        lab.deliver(from, to, message);
        lab.carry();
    }
    let found = |op| matches!(lab.reply(op), Some(Reply::Found(Loaded::Live(_))));
    assert!((101..105).all(found), "{:?}", lab.replies);
}
