//! Tests of nodes that start: when they serve, and what they have by then.

use super::*;

#[test]
fn a_newcomer_has_everything_before_it_serves() {
    let mut lab = ReplicaLab::cluster(2);
    for number in 0..50 {
        lab.commit(0, number.into(), key(number), &born("a", "1"));
    }
    let mut newcomer = ReplicaLab::unconnected(3).nodes.pop().unwrap();
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
            rules: ProtocolRules::ALL,
        };
        Replica::new(lab.now, settings)
    };
    lab.nodes.push(newcomer);
    assert_eq!(
        lab.replica(2).load(lab.now, 77, &key(1), None),
        Progress::Rejected(StoreErrorKind::NotReady)
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
    let mut lab = ReplicaLab::unconnected(2);
    lab.link(0, 1);
    lab.run(Duration::from_secs(1));
    assert!(!lab.replica(0).is_ready() && !lab.replica(1).is_ready());
    lab.run(Duration::from_secs(2));
    assert!(lab.replica(0).is_ready() && lab.replica(1).is_ready());
}

#[test]
fn a_node_that_finds_no_peers_serves_alone_after_a_while() {
    let mut lab = ReplicaLab::unconnected(1);
    lab.run(Duration::from_millis(1_900));
    assert!(!lab.replica(0).is_ready());
    lab.run(Duration::from_millis(200));
    assert!(lab.replica(0).is_ready());
    let step = lab.commit(0, 1, key(1), &born("a", "1"));
    assert!(matches!(step, Progress::Ready(Outcome::Committed(_))));
}

/// Found by simulation: a node that was stopped immediately after its start counted the pause as
/// time in which it had looked for other nodes.
#[test]
fn a_pause_does_not_count_as_time_spent_looking_for_peers() {
    let lab = ReplicaLab::unconnected(1);
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

#[test]
fn an_incomplete_node_asks_before_it_reports_a_session_as_absent() {
    let mut lab = ReplicaLab::unconnected(2);
    lab.run(Duration::from_secs(3));
    lab.commit(1, 1, key(1), &born("a", "1"));
    lab.hold = |message| matches!(message, Message::Digests { .. } | Message::GetReply { .. });
    lab.link(0, 1);
    lab.run(Duration::from_millis(500));
    assert!(lab.replica(0).is_ready() && !lab.replica(0).status().complete);
    assert_eq!(
        lab.replica(0).load(lab.now, 2, &key(1), None),
        Progress::Pending(Loaded::Absent)
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
fn a_node_draws_new_ids_from_slots_of_its_own() {
    let mut lab = ReplicaLab::cluster(5);
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
