//! Tests with sessions that only some of the nodes hold.

use std::num::NonZeroU8;

use super::*;
use crate::cluster::replica::message::Write;

pub(super) fn two() -> Copies {
    Copies::Count(NonZeroU8::MIN.saturating_add(1))
}

/// The first key, by slots, for which `wanted` returns `true`.
pub(super) fn find(lab: &ReplicaLab, wanted: impl Fn(&ReplicaLab, &Root) -> bool) -> Root {
    let key = |slot: usize| Root::from_bytes([7; 12]).with_slot(slot);
    let found = (0..1_000).map(key).find(|key| wanted(lab, key));
    found.expect("a thousand slots have all kinds of holders")
}

pub(super) fn holders(lab: &ReplicaLab, key: &Root) -> Vec<usize> {
    let holds = |index: &usize| lab.replica(*index).holds(key);
    (0..lab.nodes.len()).filter(holds).collect()
}

pub(super) fn owner(lab: &ReplicaLab, key: &Root) -> usize {
    let owns = |index: &usize| lab.replica(*index).owns(key.slot());
    (0..lab.nodes.len()).find(owns).unwrap()
}

/// Adds node number `number`, which the other nodes can reach, and has them dialed.
pub(super) fn join(lab: &mut ReplicaLab, number: u16) -> usize {
    let mut newcomer = ReplicaLab::unconnected_with(number + 1, two())
        .nodes
        .pop()
        .unwrap();
    let settings = Settings {
        me: newcomer.0.clone(),
        copies: two(),
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
    newcomer.1 = Replica::new(lab.now, settings);
    lab.nodes.push(newcomer);
    let index = lab.nodes.len() - 1;
    for other in 0..index {
        lab.link(index, other);
        lab.link(other, index);
    }
    index
}

#[test]
fn a_session_is_kept_by_two_nodes_and_read_through_all() {
    let mut lab = ReplicaLab::cluster_with(4, two());
    let key = find(&lab, |lab, key| lab.replica(0).holds(key));
    lab.commit(0, 1, key, &born("a", "1"));
    assert_eq!(holders(&lab, &key).len(), 2);
    for index in 0..4 {
        let here = lab.read(index, key).is_some();
        assert_eq!(here, lab.replica(index).holds(&key));
        let op = 10 + index as OpId;
        let found = match lab.replica(index).load(lab.now, op, &key, None) {
            Progress::Ready(record) => record,
            _ => {
                lab.carry();
                match lab.reply(op) {
                    Some(Reply::Found(record)) => record,
                    other => panic!("{other:?}"),
                }
            }
        };
        assert_eq!(text(&found.into_live().unwrap(), "a").as_deref(), Some("1"));
        assert_eq!(lab.read(index, key).is_some(), here, "nothing is kept");
    }
}

#[test]
fn a_node_that_is_no_holder_has_its_changes_ordered_by_the_owner() {
    let mut lab = ReplicaLab::cluster_with(4, two());
    let key = find(&lab, |lab, key| !lab.replica(0).holds(key));
    lab.commit(0, 1, key, &born("a", "1"));
    assert_eq!(lab.verdict(1), Some(UpdateStatus::Applied));
    lab.commit(0, 2, key, &born("a", "2"));
    assert_eq!(lab.verdict(2), Some(UpdateStatus::Conflict));

    let base = lab.read(owner(&lab, &key), key);
    let replica = lab.replica(0);
    let step = replica.commit(lab.now, 3, &key, base.as_ref(), &insert("a", "3"));
    assert!(matches!(step, Progress::Pending(_)));
    lab.carry();
    assert_eq!(lab.verdict(3), Some(UpdateStatus::Applied));

    assert!(matches!(
        lab.replica(0).delete(lab.now, 4, &key),
        Progress::Pending(true)
    ));
    lab.carry();
    assert_eq!(lab.verdict(4), Some(UpdateStatus::Applied));
    let step = lab
        .replica(0)
        .commit(lab.now, 5, &key, base.as_ref(), &insert("a", "5"));
    assert!(matches!(step, Progress::Pending(_)));
    lab.carry();
    assert_eq!(lab.verdict(5), Some(UpdateStatus::Gone));
    for index in holders(&lab, &key) {
        assert!(lab.read(index, key).is_none());
    }
}

/// Otherwise a former holder that has no view with the new holder could answer from an outdated
/// copy.
#[test]
fn a_write_is_answered_when_all_members_have_announced_its_view() {
    let mut lab = ReplicaLab::cluster_with(3, two());
    let all: Vec<_> = (0..3).collect();
    let mut later = ReplicaLab::cluster_with(4, two());
    // Held by nodes 1 and 2 now, and by 1 and the new node later.
    let key = find(&lab, |lab, key| {
        holders(lab, key) == [1, 2] && holders(&later, key) == [1, 3]
    });
    later.nodes.clear();
    lab.commit(1, 1, key, &born("a", "1"));
    assert_eq!(lab.reply(1), Some(Reply::Written));

    // No message that would inform node 2 of the new node gets through.
    lab.hold = |message| matches!(message, Message::View(_) | Message::Swim(_));
    let newcomer = join(&mut lab, 3);
    let deliver = |lab: &mut ReplicaLab| {
        for _ in 0..20 {
            for (from, to, message) in std::mem::take(&mut lab.held) {
                if to != 2 {
                    lab.deliver(from, to, message);
                }
            }
            lab.carry();
        }
    };
    deliver(&mut lab);
    assert!(lab.replica(newcomer).holds(&key) && !lab.replica(1).status().settled);
    lab.commit(1, 2, key, &insert("a", "2"));
    deliver(&mut lab);
    assert!(lab.replica(2).holds(&key), "as far as it knows");
    assert_eq!(
        text(&lab.read(newcomer, key).unwrap(), "a").as_deref(),
        Some("2")
    );
    assert_eq!(lab.reply(2), None);
    lab.hold = |_| false;
    lab.run(Duration::from_secs(1));
    assert_eq!(lab.reply(2), Some(Reply::Written));
    assert!(all.iter().all(|index| lab.replica(*index).is_ready()));
}

#[test]
fn a_copy_is_forgotten_when_its_new_holders_have_caught_up_and_not_before() {
    let mut lab = ReplicaLab::cluster_with(3, two());
    for slot in 0..40 {
        let key = Root::from_bytes([9; 12]).with_slot(slot * 101);
        let op = slot as OpId;
        lab.commit(0, op, key, &born("a", "1"));
    }
    let copies = |lab: &ReplicaLab| -> usize {
        let sessions = |(_, replica): &(Node, Replica)| replica.status().sessions;
        lab.nodes.iter().map(sessions).sum()
    };
    assert_eq!(copies(&lab), 80);
    lab.hold = |message| matches!(message, Message::SlotEntries { .. });
    join(&mut lab, 3);
    lab.run(Duration::from_secs(3));
    assert_eq!(copies(&lab), 80);
    lab.lose_held();
    lab.run(Duration::from_secs(4));
    assert_eq!(copies(&lab), 80);
    let newcomer = lab.replica(3).status();
    assert!(newcomer.ready && newcomer.sessions > 5, "{newcomer:?}");
}

/// 60 (i).
#[test]
fn a_leaving_node_holds_nothing_new_and_is_a_source_until_the_others_have_it() {
    let mut lab = ReplicaLab::cluster_with(3, two());
    let key = find(&lab, |lab, key| holders(lab, key) == [0, 1]);
    lab.commit(0, 1, key, &born("a", "1"));
    lab.hold = |message| matches!(message, Message::SlotEntries { .. });
    lab.input(0, Input::Drain(true));
    // Longer than a node waits before it drops the slots of other holders.
    lab.run(Duration::from_millis(1_300));
    assert_eq!(holders(&lab, &key), [1, 2]);
    assert!(!lab.replica(0).status().settled);
    assert!(lab.read(0, key).is_some());
    lab.lose_held();
    lab.run(Duration::from_secs(2));
    let status = lab.replica(0).status();
    assert!(status.settled && status.has_successor && status.sessions == 0);
    assert!([1, 2].iter().all(|index| lab.read(*index, key).is_some()));
}

/// Found by simulation: if the announcement that a member is complete was lost, it was not
/// requested again, and no node dropped what it had handed over.
#[test]
fn members_not_known_to_be_complete_are_asked() {
    let mut lab = ReplicaLab::unconnected_with(2, two());
    lab.hold = |message| matches!(message, Message::View(view) if view.complete);
    lab.link(0, 1);
    lab.link(1, 0);
    // Long enough to be ready, which both announce.
    lab.run(Duration::from_secs(3));
    assert!((0..2).all(|index| lab.replica(index).status().ready));
    assert!(!(0..2).any(|index| lab.replica(index).status().settled));
    lab.held.clear();
    lab.hold = |_| false;
    lab.run(Duration::from_secs(3));
    assert!((0..2).all(|index| lab.replica(index).status().settled));
}

/// Increments `n`, starting from the value at the node.
pub(super) fn count_up(
    lab: &mut ReplicaLab,
    index: usize,
    op: OpId,
    key: Root,
) -> Progress<Outcome> {
    let base = lab.read(index, key).unwrap();
    let count: u32 = text(&base, "n").unwrap().parse().unwrap();
    let mut changes = insert("n", &(count + 1).to_string());
    changes.require_version("n".into(), base.version("n"));
    lab.commit(index, op, key, &changes)
}

#[test]
fn a_faulty_member_cannot_move_a_session_to_another_slot() {
    let mut lab = ReplicaLab::cluster_with(2, two());
    lab.commit(0, 1, key(1), &born("a", "1"));
    let owner = owner(&lab, &key(1));
    let elsewhere = Root::from_bytes([7; 12]).with_slot(2);
    let record = lab.read(owner, key(1)).unwrap();
    let write = Write {
        seq: 77,
        behind: 76,
        view: lab.view(owner),
        strict: true,
        sent_at: lab.now,
        entries: [
            delta(1, "a", record.clock() + 1),
            KeyedEntry {
                key: elsewhere,
                entry: Entry::Live(record),
            },
        ]
        .into(),
    };
    lab.deliver(1 - owner, owner, Message::Write(write));
    lab.carry();
    assert!(lab.read(owner, key(1)).is_some());
    assert!(lab.read(owner, elsewhere).is_none());
}

/// A creation whose confirmation was lost is sent again, and finds the session that it has made.
#[test]
fn a_creation_does_not_conflict_with_itself() {
    let mut lab = ReplicaLab::cluster_with(4, two());
    let key = find(&lab, |lab, key| !lab.replica(0).holds(key));
    lab.hold = |message| matches!(message, Message::Updated { .. });
    lab.commit(0, 1, key, &born("a", "1"));
    lab.lose_held();
    lab.run(Duration::from_secs(1));
    assert_eq!(lab.verdict(1), Some(UpdateStatus::Applied));
}

/// The view may change before the holders have it, and the next owner refuse it.
#[test]
fn a_session_that_is_being_created_is_not_read() {
    let mut lab = ReplicaLab::cluster_with(4, two());
    let key = find(&lab, |lab, key| !lab.replica(0).holds(key));
    let other = (1..4).find(|index| !lab.replica(*index).holds(&key));
    lab.hold = |message| matches!(message, Message::Write(_));
    lab.commit(0, 1, key, &born("a", "1"));
    lab.replica(other.unwrap()).load(lab.now, 2, &key, None);
    lab.carry();
    assert!(!matches!(lab.reply(2), Some(Reply::Found(Loaded::Live(_)))));
}
