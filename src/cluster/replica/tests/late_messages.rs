//! Tests of messages that arrive late: after a restart, a pause, or a newer message.

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
