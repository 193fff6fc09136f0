//! Tests with sessions that only some of the nodes hold.

use std::num::NonZeroU8;

use super::*;
use crate::cluster::replica::message::{Update, Write};

fn two() -> Copies {
    Copies::Count(NonZeroU8::MIN.saturating_add(1))
}

/// The first key, by slots, for which `wanted` returns `true`.
fn find(lab: &Lab, wanted: impl Fn(&Lab, &Root) -> bool) -> Root {
    let key = |slot: usize| Root::from_bytes([7; 12]).with_slot(slot);
    let found = (0..1_000).map(key).find(|key| wanted(lab, key));
    found.expect("a thousand slots have all kinds of holders")
}

fn holders(lab: &Lab, key: &Root) -> Vec<usize> {
    let holds = |index: &usize| lab.replica(*index).holds(key);
    (0..lab.nodes.len()).filter(holds).collect()
}

fn owner(lab: &Lab, key: &Root) -> usize {
    let owns = |index: &usize| lab.replica(*index).owns(key.slot());
    (0..lab.nodes.len()).find(owns).unwrap()
}

/// Adds node number `number`, which the other nodes can reach, and has them dialed.
fn join(lab: &mut Lab, number: u16) -> usize {
    let mut newcomer = Lab::strangers_with(number + 1, two()).nodes.pop().unwrap();
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
        rules: Rules::ALL,
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
    let mut lab = Lab::cluster_with(4, two());
    let key = find(&lab, |lab, key| lab.replica(0).holds(key));
    lab.commit(0, 1, key, &born("a", "1"));
    assert_eq!(holders(&lab, &key).len(), 2);
    for index in 0..4 {
        let here = lab.read(index, key).is_some();
        assert_eq!(here, lab.replica(index).holds(&key));
        let op = 10 + index as OpId;
        let found = match lab.replica(index).load(lab.now, op, &key, None) {
            Step::Done(record) => record,
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
fn who_does_not_keep_a_session_has_its_changes_ordered_by_the_owner() {
    let mut lab = Lab::cluster_with(4, two());
    let key = find(&lab, |lab, key| !lab.replica(0).holds(key));
    lab.commit(0, 1, key, &born("a", "1"));
    assert_eq!(lab.verdict(1), Some(UpdateStatus::Applied));
    lab.commit(0, 2, key, &born("a", "2"));
    assert_eq!(lab.verdict(2), Some(UpdateStatus::Conflict));

    let base = lab.read(owner(&lab, &key), key);
    let replica = lab.replica(0);
    let step = replica.commit(lab.now, 3, &key, base.as_ref(), &insert("a", "3"));
    assert!(matches!(step, Step::Wait(_)));
    lab.carry();
    assert_eq!(lab.verdict(3), Some(UpdateStatus::Applied));

    assert!(matches!(
        lab.replica(0).delete(lab.now, 4, &key),
        Step::Wait(true)
    ));
    lab.carry();
    assert_eq!(lab.verdict(4), Some(UpdateStatus::Applied));
    let step = lab
        .replica(0)
        .commit(lab.now, 5, &key, base.as_ref(), &insert("a", "5"));
    assert!(matches!(step, Step::Wait(_)));
    lab.carry();
    assert_eq!(lab.verdict(5), Some(UpdateStatus::Gone));
    for index in holders(&lab, &key) {
        assert!(lab.read(index, key).is_none());
    }
}

/// Otherwise a former holder that has no view with the new holder could answer from an outdated
/// copy.
#[test]
fn a_write_is_answered_when_everybody_has_said_that_it_knows_who_keeps_it() {
    let mut lab = Lab::cluster_with(3, two());
    let all: Vec<_> = (0..3).collect();
    let mut later = Lab::cluster_with(4, two());
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
    let deliver = |lab: &mut Lab| {
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
    let mut lab = Lab::cluster_with(3, two());
    for slot in 0..40 {
        let key = Root::from_bytes([9; 12]).with_slot(slot * 101);
        let op = slot as OpId;
        lab.commit(0, op, key, &born("a", "1"));
    }
    let copies = |lab: &Lab| -> usize {
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
fn who_leaves_keeps_nothing_new_and_is_a_source_until_the_others_have_it() {
    let mut lab = Lab::cluster_with(3, two());
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
    assert!(status.settled && status.succeeded && status.sessions == 0);
    assert!([1, 2].iter().all(|index| lab.read(*index, key).is_some()));
}

/// Found by simulation: if the announcement that a member is complete was lost, it was not
/// requested again, and no node dropped what it had handed over.
#[test]
fn whoever_is_not_known_to_have_caught_up_is_asked() {
    let mut lab = Lab::strangers_with(2, two());
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

/// Found by simulation: an owner on the other side of a partition confirmed the deletion of a
/// session that it had never seen, when the deletion was requested a second time.
#[test]
fn the_end_of_a_session_that_may_live_elsewhere_is_not_confirmed() {
    let mut lab = Lab::cluster_with(4, two());
    let key = find(&lab, |lab, key| holders(lab, key) == [2, 3]);
    lab.commit(2, 1, key, &born("a", "1"));
    // Nodes 2 and 3 cannot be reached: they disappear for the others.
    let rest = lab.nodes.split_off(2);
    for (node, _) in &rest {
        for index in 0..2 {
            let node = node.clone();
            lab.input(index, Input::Refused { node });
        }
    }
    lab.run(Duration::from_secs(1));
    lab.hold = |message| matches!(message, Message::Update(_));
    let asker = usize::from(lab.replica(0).owns(key.slot()));
    let step = lab.replica(asker).delete(lab.now, 2, &key);
    assert_eq!(step, Step::Wait(true));
    lab.carry();
    lab.hold = |_| false;
    lab.run(Duration::from_secs(1));
    assert_ne!(lab.verdict(2), Some(UpdateStatus::Applied));
    assert_ne!(lab.verdict(2), Some(UpdateStatus::Gone));
}

#[test]
fn a_session_that_ran_out_here_may_have_been_used_elsewhere() {
    let mut lab = Lab::cluster_with(2, two());
    let mut changes = Changes::create(SECRET, Some(Duration::from_secs(2)), HOUR);
    changes.insert("a".into(), value("1"));
    lab.commit(0, 1, key(1), &changes);
    lab.run(Duration::from_millis(1_500));
    // This access is lost.
    lab.hold = |message| matches!(message, Message::Touch { .. });
    lab.replica(1).touch(lab.now, &key(1));
    lab.carry();
    lab.held.clear();
    lab.hold = |_| false;
    lab.run(Duration::from_secs(1));
    assert!(lab.read(0, key(1)).is_none());
    assert_eq!(
        lab.replica(0).load(lab.now, 2, &key(1), None),
        Step::Wait(Loaded::Absent)
    );
    lab.carry();
    assert!(matches!(lab.reply(2), Some(Reply::Found(Loaded::Live(_)))));
    lab.run(Duration::from_secs(3));
    let step = lab.replica(0).load(lab.now, 3, &key(1), None);
    lab.carry();
    let gone =
        step == Step::Done(Loaded::Absent) || lab.reply(3) == Some(Reply::Found(Loaded::Absent));
    assert!(gone, "{step:?}");
}

/// A session with an idle timeout of two seconds.
fn short() -> Changes {
    let mut changes = Changes::create(SECRET, Some(Duration::from_secs(2)), HOUR);
    changes.insert("n".into(), value("0"));
    changes
}

/// Increments `n`, starting from the value at the node.
fn count_up(lab: &mut Lab, index: usize, op: OpId, key: Root) -> Step<Outcome> {
    let base = lab.read(index, key).unwrap();
    let count: u32 = text(&base, "n").unwrap().parse().unwrap();
    let mut changes = insert("n", &(count + 1).to_string());
    changes.expect("n".into(), base.version("n"));
    lab.commit(index, op, key, &changes)
}

/// Records an access at a node, which does not reach the other nodes.
fn touch_in_silence(lab: &mut Lab, index: usize, key: Root) {
    lab.hold = |message| matches!(message, Message::Touch { .. });
    lab.replica(index).touch(lab.now, &key);
    lab.carry();
    lab.held.clear();
    lab.hold = |_| false;
}

#[test]
fn a_session_that_was_forgotten_here_may_still_be_used_elsewhere() {
    let mut lab = Lab::cluster_with(2, two());
    lab.commit(0, 1, key(1), &short());
    lab.run(Duration::from_millis(1_500));
    touch_in_silence(&mut lab, 1, key(1));
    lab.run(Duration::from_millis(1_500));
    assert!(lab.replica(0).status().sessions == 0 && lab.replica(1).status().sessions == 1);
    assert_eq!(
        lab.replica(0).load(lab.now, 2, &key(1), None),
        Step::Wait(Loaded::Absent)
    );
    lab.carry();
    assert!(matches!(lab.reply(2), Some(Reply::Found(Loaded::Live(_)))));
    assert!(lab.read(0, key(1)).is_some(), "it has come back for good");
    lab.run(Duration::from_secs(2));
    assert_eq!(
        lab.replica(0).load(lab.now, 3, &key(1), None),
        Step::Wait(Loaded::Absent)
    );
    lab.carry();
    assert_eq!(lab.reply(3), Some(Reply::Found(Loaded::Absent)));
    let certain = Step::Done(Loaded::Absent);
    assert_eq!(lab.replica(0).load(lab.now, 4, &key(1), None), certain);
}

#[test]
fn word_of_a_use_brings_back_what_has_expired_keys_here() {
    let mut lab = Lab::cluster_with(2, two());
    lab.commit(0, 1, key(1), &short());
    for (after, forgotten) in [(700, false), (1_300, true)] {
        lab.run(Duration::from_millis(1_500));
        touch_in_silence(&mut lab, 1, key(1));
        lab.run(Duration::from_millis(after));
        assert!(lab.read(0, key(1)).is_none());
        assert_eq!(lab.replica(0).status().sessions == 0, forgotten);
        lab.replica(1).touch(lab.now, &key(1));
        lab.carry();
        assert!(lab.read(0, key(1)).is_some(), "forgotten: {forgotten}");
    }
}

#[test]
fn a_logout_ends_a_session_that_its_owner_has_forgotten() {
    let mut lab = Lab::cluster_with(3, two());
    let key = find(&lab, |lab, key| {
        owner(lab, key) == 0 && lab.replica(1).holds(key)
    });
    lab.commit(0, 1, key, &short());
    lab.run(Duration::from_millis(1_500));
    touch_in_silence(&mut lab, 1, key);
    lab.run(Duration::from_millis(1_500));
    assert_eq!(lab.replica(0).status().sessions, 0);
    assert_eq!(lab.replica(2).delete(lab.now, 2, &key), Step::Wait(true));
    lab.carry();
    assert_eq!(lab.verdict(2), Some(UpdateStatus::Applied));
    assert!(lab.read(1, key).is_none());
}

#[test]
fn an_attempt_that_was_refused_stays_refused() {
    let mut lab = Lab::cluster_with(2, two());
    let key = find(&lab, |lab, key| owner(lab, key) == 0);
    lab.commit(0, 1, key, &short());
    let mut used = lab.read(0, key).unwrap();
    lab.hold = |message| matches!(message, Message::Update(_));
    count_up(&mut lab, 1, 2, key);
    let (_, _, update) = lab.held.remove(0);
    // The rejection is delayed; meanwhile the session has been accessed in time.
    lab.hold = |message| matches!(message, Message::Update(_) | Message::Updated { .. });
    lab.run(Duration::from_millis(4_000));
    lab.held.clear();
    lab.deliver(1, 0, update.clone());
    lab.carry();
    let (_, _, refused) = lab.held.remove(0);
    let gone = |message: &Message| {
        matches!(
            message,
            Message::Updated {
                verdict: UpdateStatus::Gone,
                ..
            }
        )
    };
    assert!(gone(&refused));
    Arc::make_mut(&mut used).touch(lab.now);
    let write = Message::Write(Write {
        seq: 1_000,
        behind: 999,
        view: UNKNOWN,
        strict: false,
        sent_at: lab.now,
        copies: [KeyedEntry {
            key,
            entry: Entry::Live(used),
        }]
        .into(),
    });
    lab.deliver(1, 0, write);
    assert!(lab.read(0, key).is_some());
    lab.deliver(1, 0, update.clone());
    lab.carry();
    assert_eq!(text(&lab.read(0, key).unwrap(), "n").as_deref(), Some("0"));
    assert!(lab.held.iter().any(|(.., message)| gone(message)));

    // Another owner did not reject it; this one has become the owner again.
    let Message::Update(Update { fragment, .. }) = &update else {
        panic!("{update:?}");
    };
    let applied = Message::Write(Write {
        seq: 1_001,
        behind: 1000,
        view: UNKNOWN,
        strict: false,
        sent_at: lab.now,
        copies: [KeyedEntry {
            key,
            entry: Entry::Delta(fragment.clone()),
        }]
        .into(),
    });
    lab.deliver(1, 0, applied);
    lab.held.clear();
    lab.deliver(1, 0, update);
    lab.carry();
    let applied = |message: &Message| {
        matches!(
            message,
            Message::Updated {
                verdict: UpdateStatus::Applied,
                ..
            }
        )
    };
    assert!(lab.held.iter().any(|(.., message)| applied(message)));
}

#[test]
fn an_end_that_was_refused_may_be_tried_again() {
    let mut lab = Lab::cluster_with(3, two());
    let key = find(&lab, |lab, key| {
        owner(lab, key) == 0 && !lab.replica(2).holds(key)
    });
    lab.hold = |message| matches!(message, Message::Update(_));
    assert_eq!(lab.replica(2).delete(lab.now, 1, &key), Step::Wait(true));
    lab.carry();
    let (_, _, end) = lab.held.remove(0);
    // The rejection is lost, and then the session is there.
    lab.hold = |message| matches!(message, Message::Updated { .. });
    lab.deliver(2, 0, end.clone());
    lab.carry();
    assert_eq!(lab.held.len(), 1);
    lab.commit(0, 2, key, &born("a", "1"));
    assert!(lab.read(0, key).is_some());
    lab.deliver(2, 0, end);
    lab.carry();
    assert!((0..2).all(|index| lab.read(index, key).is_none()));
}

#[test]
fn a_refusal_of_somebody_else_than_the_owner_does_not_count() {
    let mut lab = Lab::cluster_with(3, Copies::All);
    let key = find(&lab, |lab, key| owner(lab, key) == 0);
    lab.commit(0, 1, key, &born("n", "0"));
    lab.hold = |message| matches!(message, Message::Update(_));
    count_up(&mut lab, 1, 2, key);
    let refusal = Message::Updated {
        op: 2,
        sent_at: lab.now,
        verdict: UpdateStatus::Gone,
        copy: None,
    };
    lab.deliver(2, 1, refusal);
    lab.carry();
    assert_eq!(lab.verdict(2), None);
    lab.lose_held();
    lab.run(Duration::from_secs(1));
    assert_eq!(lab.verdict(2), Some(UpdateStatus::Applied));
}

#[test]
fn an_owner_that_lacks_what_the_asker_has_seen_asks_around() {
    let mut lab = Lab::cluster_with(3, Copies::All);
    let key = find(&lab, |lab, key| owner(lab, key) == 0);
    lab.commit(0, 1, key, &born("n", "0"));
    lab.hold = |message| matches!(message, Message::Write(_));
    lab.commit(1, 2, key, &insert("n", "5"));
    let held = std::mem::take(&mut lab.held);
    lab.hold = |_| false;
    for (from, to, message) in held {
        if to == 2 {
            lab.deliver(from, to, message);
        }
    }
    assert_eq!(text(&lab.read(0, key).unwrap(), "n").as_deref(), Some("0"));
    count_up(&mut lab, 2, 3, key);
    assert_eq!(lab.verdict(3), Some(UpdateStatus::Applied));
    for index in 0..3 {
        let count = text(&lab.read(index, key).unwrap(), "n");
        assert_eq!(count.as_deref(), Some("6"));
    }
}

/// Found by simulation: the owner forgot the session while the other holders merged the change, and
/// reported the session as absent after it had applied the change.
#[test]
fn a_change_that_outlasts_the_session_counts_as_a_use() {
    let mut lab = Lab::cluster_with(3, two());
    let key = find(&lab, |lab, key| {
        owner(lab, key) == 0 && !lab.replica(2).holds(key)
    });
    lab.commit(0, 1, key, &short());
    lab.run(Duration::from_millis(1_500));
    let base = lab.read(0, key);
    lab.hold = |message| matches!(message, Message::Write(_));
    let step = lab
        .replica(2)
        .commit(lab.now, 2, &key, base.as_ref(), &insert("n", "1"));
    assert_eq!(step, Step::Wait(Outcome::Gone));
    lab.run(Duration::from_millis(1_500));
    assert!((0..2).all(|index| lab.replica(index).status().sessions == 0));
    lab.lose_held();
    lab.run(Duration::from_millis(600));
    let answer = lab.reply(2);
    let Some(Reply::Updated(UpdateStatus::Applied, Some(record))) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(text(&record, "n").as_deref(), Some("1"));
    assert_eq!(text(&lab.read(0, key).unwrap(), "n").as_deref(), Some("1"));
}

#[test]
fn what_was_applied_before_the_session_ran_out_is_not_called_gone() {
    let mut lab = Lab::cluster_with(2, two());
    let key = find(&lab, |lab, key| owner(lab, key) == 0);
    lab.commit(0, 1, key, &short());
    lab.run(Duration::from_millis(100));
    lab.hold = |message| matches!(message, Message::Updated { .. });
    count_up(&mut lab, 1, 2, key);
    lab.run(Duration::from_millis(2_300));
    assert!((0..2).all(|index| lab.read(index, key).is_none()));
    lab.lose_held();
    lab.run(Duration::from_millis(200));
    let answer = lab.reply(2);
    assert!(
        matches!(
            &answer,
            Some(Reply::Updated(UpdateStatus::Applied, Some(_)))
        ),
        "{answer:?}"
    );
}

#[test]
fn a_session_that_runs_out_while_it_is_ended_was_there() {
    let mut lab = Lab::cluster_with(3, two());
    let key = find(&lab, |lab, key| !lab.replica(2).holds(key));
    lab.commit(0, 1, key, &short());
    lab.run(Duration::from_millis(1_900));
    lab.hold = |message| matches!(message, Message::Write(_));
    assert_eq!(lab.replica(2).delete(lab.now, 2, &key), Step::Wait(true));
    lab.run(Duration::from_millis(700));
    assert!((0..2).all(|index| lab.read(index, key).is_none()));
    lab.lose_held();
    lab.run(Duration::from_millis(700));
    assert_eq!(lab.verdict(2), Some(UpdateStatus::Applied));
}

#[test]
fn a_session_is_looked_for_once_however_often_it_is_used() {
    let mut lab = Lab::cluster_with(2, two());
    lab.commit(0, 1, key(1), &short());
    lab.run(Duration::from_millis(1_500));
    touch_in_silence(&mut lab, 1, key(1));
    lab.run(Duration::from_millis(1_500));
    assert_eq!(lab.replica(0).status().sessions, 0);
    lab.hold = |message| matches!(message, Message::Get { .. });
    for _ in 0..3 {
        lab.replica(1).touch(lab.now, &key(1));
        lab.carry();
    }
    assert_eq!(lab.held.len(), 1);
    let (from, to, message) = lab.held.pop().unwrap();
    lab.deliver(from, to, message);
    lab.carry();
    assert!(lab.read(0, key(1)).is_some());
}

/// K-05.
#[test]
fn what_two_sides_wrote_without_knowing_of_each_other_is_counted() {
    let mut lab = Lab::cluster(2);
    lab.commit(0, 1, key(1), &born("a", "0"));
    lab.hold = |_| true;
    lab.run(Duration::from_secs(8));
    assert!((0..2).all(|index| lab.replica(index).status().members.is_empty()));
    lab.held.clear();
    lab.commit(0, 2, key(1), &insert("a", "1"));
    lab.commit(1, 3, key(1), &insert("a", "2"));
    lab.commit(1, 4, key(1), &insert("b", "2"));
    lab.hold = |_| false;
    lab.link(0, 1);
    lab.link(1, 0);
    lab.run(Duration::from_secs(3));
    for index in 0..2 {
        let status = lab.replica(index).status();
        assert!(status.settled && status.members.len() == 1);
        assert_eq!(status.discarded, 1);
    }
    let seen = (0..2).map(|index| text(&lab.read(index, key(1)).unwrap(), "a"));
    let seen: Vec<_> = seen.collect();
    assert_eq!(seen[0], seen[1]);
}

#[test]
fn losses_that_were_made_up_for_leave_no_doubt() {
    let mut lab = Lab::cluster_with(4, two());
    for lost in [3, 2] {
        let (node, _) = lab.nodes.remove(lost);
        for index in 0..lab.nodes.len() {
            let node = node.clone();
            lab.input(index, Input::Refused { node });
        }
        lab.run(Duration::from_secs(2));
    }
    let unknown = find(&lab, |lab, key| lab.replica(0).holds(key));
    let step = lab.replica(0).load(lab.now, 1, &unknown, None);
    assert_eq!(step, Step::Done(Loaded::Absent));
}

/// It may be one of those that were lost, and would report all their sessions as absent.
#[test]
fn a_newcomer_shares_the_doubt_of_those_who_saw_others_vanish() {
    let mut lab = Lab::cluster_with(4, two());
    for lost in [3, 2] {
        let (node, _) = lab.nodes.remove(lost);
        for index in 0..lab.nodes.len() {
            let node = node.clone();
            lab.nodes[index].1.handle(lab.now, Input::Refused { node });
        }
    }
    lab.carry();
    let newcomer = join(&mut lab, 7);
    lab.run(Duration::from_secs(3));
    assert!(lab.replica(newcomer).is_ready());
    let unknown = find(&lab, |lab, key| lab.replica(newcomer).holds(key));
    let load = |lab: &mut Lab, op| {
        let step = lab.replica(newcomer).load(lab.now, op, &unknown, None);
        lab.carry();
        (step, lab.reply(op))
    };
    let doubt = (Step::Wait(Loaded::Absent), Some(Reply::Uncertain));
    assert_eq!(load(&mut lab, 1), doubt);
    lab.run(Duration::from_secs(50));
    assert_eq!(load(&mut lab, 2), doubt);
    lab.run(Duration::from_secs(12));
    assert_eq!(load(&mut lab, 3), (Step::Done(Loaded::Absent), None));
}

/// Found by simulation: the holder requested the rest of the session without end, and the owner
/// sent its write again without end.
#[test]
fn an_update_of_a_session_that_has_expired_keys_meanwhile_comes_to_an_end() {
    let mut lab = Lab::cluster_with(2, two());
    let mut changes = Changes::create(SECRET, Some(Duration::from_secs(1)), 24 * HOUR);
    changes.insert("a".into(), value("1"));
    lab.commit(0, 1, key(1), &changes);
    let owner = owner(&lab, &key(1));
    lab.hold = |message| matches!(message, Message::Write(write) if write.strict);
    let record = lab.read(owner, key(1));
    let mut changes = insert("a", "2");
    changes.expect("a".into(), record.as_ref().unwrap().version("a"));
    let replica = lab.replica(owner);
    let step = replica.commit(lab.now, 2, &key(1), record.as_ref(), &changes);
    assert!(matches!(step, Step::Wait(_)), "{step:?}");
    lab.run(Duration::from_secs(8));
    assert_eq!(lab.reply(2), Some(Reply::Indeterminate));
    assert_eq!(lab.replica(owner).status().indeterminate, 1);
    let open = |lab: &Lab| lab.replica(owner).status().unacknowledged;
    assert_eq!(open(&lab), 1);
    lab.held.clear();
    lab.hold = |_| false;
    lab.run(Duration::from_secs(2));
    assert_eq!(open(&lab), 0);
}

/// Found by simulation: a late response was older than the session that had expired and was
/// forgotten meanwhile.
#[test]
fn an_answer_that_nobody_waits_for_is_not_taken() {
    let mut lab = Lab::cluster(2);
    let copy = KeyedEntry {
        key: key(1),
        entry: Entry::Live(Arc::new(record("a", 1))),
    };
    let late = Message::GetReply {
        view: lab.view(0),
        op: 77,
        sent_at: lab.now,
        copy: Some(copy),
    };
    lab.deliver(1, 0, late);
    lab.carry();
    assert!(lab.read(0, key(1)).is_none());
}

#[test]
fn what_the_owner_orders_counts_in_its_limit() {
    let mut lab = Lab::cluster_with(3, two());
    let key = find(&lab, |lab, key| !lab.replica(0).holds(key));
    lab.commit(0, 1, key, &born("a", "1"));
    lab.commit(0, 2, key, &insert("b", &"x".repeat(2 << 20)));
    assert_eq!(lab.verdict(2), Some(UpdateStatus::Full));
    lab.commit(0, 3, key, &insert("b", "2"));
    assert_eq!(lab.verdict(3), Some(UpdateStatus::Applied));
}

/// Found by simulation: it declared the only node with the sessions down, which was merely slow,
/// and reported them as absent.
#[test]
fn a_newcomer_that_lost_its_source_is_in_doubt() {
    let mut lab = Lab::strangers(2);
    lab.run(Duration::from_secs(3));
    lab.commit(0, 1, key(1), &born("a", "1"));
    let newcomer = Lab::strangers(2).nodes.pop().unwrap();
    lab.nodes[1] = newcomer;
    lab.hold = |message| matches!(message, Message::SlotEntries { .. });
    lab.link(0, 1);
    lab.link(1, 0);
    lab.run(Duration::from_millis(500));
    assert!(!lab.replica(1).is_ready());
    // A change of a session does not show that the session exists.
    lab.commit(0, 4, key(1), &insert("b", "2"));
    let node = lab.nodes[0].0.clone();
    lab.input(1, Input::Refused { node });
    lab.hold = |_| true;
    lab.run(Duration::from_secs(3));
    assert!(lab.replica(1).is_ready());
    let step = lab.replica(1).load(lab.now, 2, &key(1), None);
    lab.carry();
    assert_eq!(
        (step, lab.reply(2)),
        (Step::Wait(Loaded::Absent), Some(Reply::Uncertain))
    );
    lab.run(Duration::from_secs(60));
    lab.replica(1).load(lab.now, 3, &key(1), None);
    lab.carry();
    assert_eq!(lab.reply(3), Some(Reply::Found(Loaded::Absent)));
}

#[test]
fn a_faulty_member_cannot_move_a_session_to_another_slot() {
    let mut lab = Lab::cluster_with(2, two());
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
        copies: [
            part(1, "a", record.clock() + 1),
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

impl Lab {
    /// The current view of a node.
    fn view(&self, index: usize) -> ViewId {
        self.replica(index).snapshot().view
    }
}
