//! Tests of messages that arrive late: after a restart, a pause, or a newer message.

use super::rotation::{found, rotation};
use super::*;

/// Found by simulation: messages in the buffers of a process that was stopped, killed and restarted
/// extended a session that had expired meanwhile.
#[test]
fn messages_to_a_former_incarnation_do_not_count() {
    let mut lab = ReplicaLab::cluster(2);
    lab.commit(0, 1, key(1), &born("a", "1"));
    let (from, to) = (lab.nodes[0].0.clone(), lab.nodes[1].0.incarnation);
    for (to, counts) in [(to - 1, false), (to, true)] {
        let write = message::Write {
            seq: 77,
            behind: 76,
            view: UNKNOWN,
            strict: false,
            sent_at: lab.now,
            entries: [delta(1, "b", Version::MAX_CLOCK)].into(),
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

/// Found by simulation: a view that arrived late permanently replaced a newer one.
#[test]
fn an_earlier_view_does_not_replace_a_later_one() {
    let mut lab = ReplicaLab::cluster(2);
    let view = message::View {
        number: 1,
        ask: false,
        view: UNKNOWN,
        members: Vec::new(),
        removed: Vec::new(),
        complete: false,
        ready: false,
        leaving: false,
        loss_window: Duration::ZERO,
        kinds: None,
    };
    lab.deliver(1, 0, Message::View(view));
    lab.carry();
    let status = lab.replica(0).status();
    assert!(status.members[0].agrees && status.members[0].ready);
}

/// Found by simulation: a paused node accepted old answers when it continued.
#[test]
fn a_node_that_was_paused_ignores_messages_from_before() {
    let mut lab = ReplicaLab::cluster(2);
    lab.hold = |message| matches!(message, Message::Ack { .. });
    lab.commit(0, 1, key(1), &born("a", "1"));
    let (from, to, acknowledgement) = lab.held.pop().unwrap();
    lab.now = lab.now.plus(PAUSE_MAX + Duration::from_secs(1));
    lab.deliver(from, to, acknowledgement);
    lab.carry();
    assert_eq!(lab.reply(1), None);
    assert!(!lab.replica(0).is_ready());
    assert!(
        lab.reports.iter().any(|(index, notification)| *index == 0
            && matches!(notification, Notification::Rejoining(_)))
    );
}

/// X4: a change that arrives after its session has expired takes the place of the mark, and is kept
/// for a shorter time. The former id stays invalid for as long as the mark would have been kept.
#[test]
fn a_rotation_counts_also_where_a_change_came_after_the_session_had_expired() {
    let mut lab = ReplicaLab::cluster(2);
    let mut changes = Changes::create(SECRET, Some(Duration::from_secs(1)), 24 * HOUR);
    changes.insert("a".into(), value("1"));
    lab.commit(0, 1, key(1), &changes);
    let mut former = Record::clone(&lab.read(0, key(1)).unwrap());
    lab.commit(0, 2, key(1), &rotation(1, 2));
    assert_eq!(lab.verdict(2), Some(UpdateStatus::Applied));
    lab.run(Duration::from_millis(900));
    lab.hold = |message| matches!(message, Message::Write(_));
    let mut late = insert("b", "1");
    late.without_access();
    lab.commit(0, 3, key(1), &late);
    lab.run(Duration::from_secs(2));
    let marks = |lab: &ReplicaLab| [0, 1].map(|index| lab.replica(index).status().tombstones);
    assert_eq!(marks(&lab), [1, 1]);
    lab.hold = |_| false;
    for (from, to, message) in std::mem::take(&mut lab.held) {
        lab.deliver(from, to, message);
    }
    lab.carry();
    assert_eq!(marks(&lab), [1, 0]);
    lab.run(Duration::from_secs(770));
    assert_eq!(marks(&lab), [1, 1]);

    former.touch(lab.now);
    let copy = Message::Write(message::Write {
        seq: 77,
        behind: 0,
        view: UNKNOWN,
        strict: false,
        sent_at: lab.now,
        entries: [KeyedEntry {
            key: key(1),
            entry: Entry::Live(former.into()),
        }]
        .into(),
    });
    for (from, to) in [(0, 1), (1, 0)] {
        lab.deliver(from, to, copy.clone());
    }
    lab.carry();
    for index in 0..2 {
        let loaded = found(&mut lab, index, 100 + index as u64, 1);
        assert_eq!(loaded.into_live(), None, "at {index}");
    }
}

/// What has waited at its sender has less time left.
#[test]
fn a_session_that_has_waited_at_its_sender_does_not_live_longer() {
    let mut lab = ReplicaLab::cluster(2);
    let mut before = record("a", 1);
    before.touch(lab.now);
    let deadline = before.absolute_deadline();
    let message = Message::Write(message::Write {
        seq: 77,
        behind: 76,
        view: UNKNOWN,
        strict: false,
        sent_at: lab.now,
        entries: [KeyedEntry {
            key: key(1),
            entry: Entry::Live(Arc::new(before)),
        }]
        .into(),
    });
    let age = Duration::from_secs(100);
    let (from, to) = (lab.nodes[0].0.clone(), lab.nodes[1].0.incarnation);
    let input = Input::Message {
        from,
        to,
        age,
        message,
    };
    lab.input(1, input);
    let after = lab.read(1, key(1)).unwrap();
    assert_eq!(deadline.since(after.absolute_deadline()), age);
}
