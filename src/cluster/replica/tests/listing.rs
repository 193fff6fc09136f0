//! Tests of lists of the whole cluster, where no node holds all sessions.

use super::*;
use crate::cluster::replica::message::{ListRequest, ListResponse};
use crate::session::{ListPart, SLOTS, Scope, SessionInfo, SessionPage};

const LIMIT: usize = 7;

/// A cluster with two copies of each session, and sessions in slots of all parts of the list.
fn filled(nodes: u16) -> (ReplicaLab, Vec<Root>) {
    let mut lab = ReplicaLab::cluster_with(nodes, Copies::Count(2.try_into().unwrap()));
    let slots = (0..SLOTS).step_by(SLOTS / 20).chain(0..10);
    let mut keys = Vec::new();
    for (number, slot) in slots.enumerate() {
        let mut bytes = [7; 12];
        bytes[1] = number as u8;
        keys.push(Root::from_bytes(bytes).with_slot(slot));
        let at = number % usize::from(nodes);
        lab.commit(at, number as OpId, keys[number], &born("a", "1"));
    }
    // A list of a user's sessions is none.
    let index = Root::of_index([7; 12]);
    lab.commit(0, 900, index, &born("a", "1"));
    lab.replies.clear();
    keys.sort_by_key(Root::place);
    (lab, keys)
}

/// Starts a call for the next part.
fn begin(
    lab: &mut ReplicaLab,
    at: usize,
    op: OpId,
    wanted: (Option<Root>, usize),
) -> Progress<ListPart> {
    let step = lab
        .replica(at)
        .list(lab.now, op, Scope::Cluster, wanted.0, wanted.1);
    lab.carry();
    step
}

/// Completes a call with the reply.
fn end(
    lab: &ReplicaLab,
    at: usize,
    op: OpId,
    wanted: (Option<Root>, usize),
) -> Result<ListPart, StoreErrorKind> {
    match lab.reply(op) {
        Some(Reply::Listed(view, others)) => lab
            .replica(at)
            .list_owned(lab.now, wanted.0, wanted.1, view, others),
        Some(Reply::Unavailable) => Err(StoreErrorKind::Unavailable),
        other => panic!("{other:?}"),
    }
}

fn next(
    lab: &mut ReplicaLab,
    at: usize,
    op: OpId,
    wanted: (Option<Root>, usize),
) -> Result<ListPart, StoreErrorKind> {
    match begin(lab, at, op, wanted) {
        Progress::Pending(_) => end(lab, at, op, wanted),
        Progress::Ready(part) => Ok(part),
        Progress::Rejected(kind) => Err(kind),
    }
}

/// The keys of a whole list, while `meanwhile` happens after each part.
fn walk(
    lab: &mut ReplicaLab,
    at: usize,
    mut meanwhile: impl FnMut(&mut ReplicaLab, usize),
) -> Vec<Root> {
    let (mut found, mut after) = (Vec::new(), None);
    for turn in 0..1_000 {
        let op = 1_000 + turn as OpId;
        let part = loop {
            match next(lab, at, op, (after, LIMIT)) {
                Ok(part) => break part,
                Err(StoreErrorKind::NotReady | StoreErrorKind::Unavailable) => {
                    lab.replies.clear();
                    lab.run(Duration::from_millis(200));
                }
                Err(kind) => panic!("{kind:?}"),
            }
        };
        assert!(part.sessions.len() <= LIMIT);
        found.extend(part.sessions.into_iter().map(|info| info.key));
        meanwhile(lab, turn);
        after = part.through;
        if after.is_none() {
            return found;
        }
    }
    panic!("the list does not end")
}

/// P-01, P-02.
#[test]
fn every_node_lists_every_session_once_and_in_order() {
    for count in [3, 5] {
        let (mut lab, keys) = filled(count);
        for at in 0..count.into() {
            assert_eq!(walk(&mut lab, at, |_, _| ()), keys);
            lab.replies.clear();
        }
    }
}

/// P-02.
#[test]
fn a_list_has_what_the_owner_has_of_a_session_and_no_deleted_ones() {
    let (mut lab, keys) = filled(3);
    let dead = keys[3];
    lab.replica(0).delete(lab.now, 1, &dead);
    lab.carry();
    lab.run(Duration::from_secs(60));
    let foreign = keys.iter().find(|key| !lab.replica(0).holds(key));
    let foreign = *foreign.unwrap();
    lab.replica(1).touch(lab.now, &foreign);
    lab.carry();
    let used_at = lab.now;
    lab.run(Duration::from_secs(60));
    let part = next(&mut lab, 0, 2, (None, 100)).unwrap();
    let info = |key| part.sessions.iter().find(|info| info.key == key);
    assert_eq!(info(dead), None);
    let info = info(foreign).unwrap();
    assert_eq!(info.last_accessed_at, used_at);
    let record = lab.read(1, foreign).unwrap();
    assert_eq!(info.expires_at, record.expires_at());
    assert_eq!((info.user, info.label.as_deref()), (None, None));
    assert_eq!(info.absolute_deadline.since(info.created_at), 24 * HOUR);
}

/// P-02.
#[test]
fn a_list_continues_when_an_owner_fails_or_leaves_and_misses_and_repeats_nothing() {
    for dies in [true, false] {
        let (mut lab, keys) = filled(4);
        let found = walk(&mut lab, 0, |lab, turn| match turn {
            1 if dies => {
                lab.cut = [(0, 3), (1, 3), (2, 3), (3, 0), (3, 1), (3, 2)].into();
                let node = lab.nodes[3].0.clone();
                for other in 0..3 {
                    lab.input(other, Input::Refused { node: node.clone() });
                }
            }
            1 => lab.input(3, Input::Drain(true)),
            2 => lab.run(Duration::from_millis(100)),
            _ => {}
        });
        assert_eq!(found, keys, "dies: {dies}");
    }
}

/// P-02: the owner fails while it is asked.
#[test]
fn a_request_is_repeated_in_the_next_view() {
    let (mut lab, keys) = filled(4);
    lab.hold = |message| matches!(message, Message::ListPage(_));
    let wanted = (None, 100);
    assert!(matches!(
        begin(&mut lab, 0, 1, wanted),
        Progress::Pending(_)
    ));
    assert_eq!(lab.reply(1), None);
    let late = std::mem::take(&mut lab.held);
    assert_eq!(late.len(), 3);
    lab.hold = |_| false;
    lab.cut = [(0, 3), (1, 3), (2, 3), (3, 0), (3, 1), (3, 2)].into();
    let node = lab.nodes[3].0.clone();
    for other in 0..3 {
        lab.input(other, Input::Refused { node: node.clone() });
    }
    // Responses of the earlier view do not count.
    for (from, to, message) in late.into_iter().filter(|(from, ..)| *from != 3) {
        lab.deliver(from, to, message);
    }
    lab.carry();
    lab.run(Duration::from_secs(1));
    let part = end(&lab, 0, 1, wanted).unwrap();
    let found: Vec<_> = part.sessions.iter().map(|info| info.key).collect();
    let bounded = part.through.map(|place| place.place());
    let expected = keys
        .into_iter()
        .filter(|key| bounded.is_none_or(|end| key.place() <= end));
    assert_eq!(found, expected.collect::<Vec<_>>());
    assert!(!found.is_empty());
}

/// P-02.
#[test]
fn a_list_without_answer_fails_after_the_timeout_and_a_lost_request_is_repeated() {
    let (mut lab, _) = filled(3);
    lab.hold = |message| matches!(message, Message::ListSlots(_));
    begin(&mut lab, 0, 1, (None, LIMIT));
    lab.run(Duration::from_millis(4_900));
    assert_eq!(lab.reply(1), None);
    lab.run(Duration::from_millis(200));
    assert_eq!(lab.reply(1), Some(Reply::Unavailable));

    begin(&mut lab, 0, 2, (None, LIMIT));
    lab.lose_held();
    lab.run(Duration::from_millis(100));
    assert!(matches!(lab.reply(2), Some(Reply::Listed(..))));
}

/// P-02: a member of an earlier version does not know the request.
#[test]
fn a_member_that_cannot_be_asked_makes_a_list_unsupported() {
    let (mut lab, _) = filled(3);
    lab.hold = |message| matches!(message, Message::View(_));
    lab.run(Duration::from_secs(1));
    lab.input(1, Input::Drain(true));
    lab.input(1, Input::Drain(false));
    for _ in 0..20 {
        for (from, to, mut message) in std::mem::take(&mut lab.held) {
            if let (1, Message::View(view)) = (from, &mut message) {
                view.kinds = None;
            }
            lab.deliver(from, to, message);
        }
        lab.run(Duration::from_millis(100));
    }
    begin(&mut lab, 0, 1, (None, LIMIT));
    assert_eq!(lab.reply(1), Some(Reply::Unsupported));
    // Nothing was sent to it.
    let asked = lab.held.iter().filter(|(_, to, _)| *to == 1);
    let mut asked = asked.filter(|(_, _, message)| matches!(message, Message::ListSlots(_)));
    assert!(asked.next().is_none());
}

/// P-02: responses of a faulty member.
#[test]
fn a_response_with_sessions_of_others_adds_none_and_one_without_end_is_refused() {
    let (mut lab, keys) = filled(3);
    let after = keys[4];
    let wanted = (Some(after), 100);
    let forge = |lab: &mut ReplicaLab, op, change: &dyn Fn(&mut ListResponse)| {
        lab.hold = |message| matches!(message, Message::ListPage(_));
        begin(lab, 0, op, wanted);
        for (from, to, mut message) in std::mem::take(&mut lab.held) {
            if let (1, Message::ListPage(response)) = (from, &mut message) {
                change(response);
            }
            lab.deliver(from, to, message);
        }
        lab.hold = |_| false;
        lab.carry();
    };
    forge(&mut lab, 1, &|_| ());
    let good = end(&lab, 0, 1, wanted).unwrap();
    forge(&mut lab, 2, &|response| {
        let foreign = Root::from_bytes([9; 12]);
        let some = response.part.sessions[0].clone();
        let slots = (0..SLOTS).filter(|slot| slot % 100 == 0);
        let others = slots.map(|slot| foreign.with_slot(slot));
        let others = others.filter(|key| key.place() < after.place());
        let sessions = &mut response.part.sessions;
        sessions.extend(others.chain([after]).map(|key| SessionInfo {
            key,
            ..some.clone()
        }));
        sessions.push(some);
        sessions.truncate(SessionPage::LIMIT_MAX);
    });
    assert_eq!(end(&lab, 0, 2, wanted), Ok(good));
    for place in [after, keys[0]] {
        lab.replies.clear();
        forge(&mut lab, 3, &|response| response.part.through = Some(place));
        assert_eq!(lab.reply(3), Some(Reply::Unavailable));
    }
}

/// P-02: requests of a faulty member, and of another view.
#[test]
fn a_request_is_answered_within_bounds_and_in_its_view_only() {
    let (mut lab, _) = filled(3);
    let mut views = lab.replica(1).status().members.into_iter();
    assert!(views.all(|member| member.agrees));
    lab.hold = |message| matches!(message, Message::ListPage(_) | Message::View(_));
    begin(&mut lab, 0, 1, (None, LIMIT));
    let view = lab.held.iter().find_map(|(_, _, message)| match message {
        Message::ListPage(response) => Some(response.view),
        _ => None,
    });
    let view = view.unwrap();
    lab.held.clear();
    for limit in [0, u16::MAX] {
        for after in [
            None,
            Some(Root::last_of(SLOTS - 1)),
            Some(Root::from_bytes([0; 12])),
        ] {
            let request = ListRequest {
                view,
                op: 2,
                after,
                limit,
            };
            lab.deliver(0, 1, Message::ListSlots(request));
            lab.carry();
            let held = std::mem::take(&mut lab.held);
            let [(1, 0, Message::ListPage(response))] = &held[..] else {
                panic!("{held:?}");
            };
            let is_progress = |place: Root| after.is_none_or(|after| place.place() > after.place());
            assert!(response.part.through.is_none_or(is_progress));
            assert!(response.part.sessions.len() <= usize::from(limit.clamp(1, 512)));
        }
    }
    let request = ListRequest {
        view: another(view),
        op: 2,
        after: None,
        limit: 5,
    };
    lab.deliver(0, 1, Message::ListSlots(request));
    lab.carry();
    assert!(matches!(lab.held[..], [(1, 0, Message::View(_))]));
}

/// A list without the sessions of members that the node may not use any more would pass for the
/// whole one.
#[test]
fn the_exclusion_of_a_node_ends_its_lists() {
    let (mut lab, _) = filled(3);
    lab.replica(0).engine().cluster.loss_grace = Duration::ZERO;
    lab.hold = |message| matches!(message, Message::ListPage(_));
    begin(&mut lab, 0, 1, (None, LIMIT));
    let elder = Node {
        incarnation: 0,
        name: lab.nodes[0].0.name.clone(),
        ..node(9)
    };
    lab.input(0, Input::Rival { node: elder });
    assert_eq!(lab.reply(1), Some(Reply::Unavailable));
}

/// P-02: an owner answers, the view changes, and one of its sessions is deleted before it is asked
/// again.
#[test]
fn an_answer_of_an_earlier_view_is_in_no_list() {
    let (mut lab, keys) = filled(4);
    let owned = |key: &&Root| lab.replica(1).owns(key.slot());
    let dead = *keys.iter().find(owned).unwrap();
    lab.hold = |message| matches!(message, Message::ListPage(_));
    let wanted = (None, 100);
    begin(&mut lab, 0, 1, wanted);
    lab.hold = |message| matches!(message, Message::ListSlots(_));
    for (from, to, message) in std::mem::take(&mut lab.held) {
        if from == 1 {
            lab.deliver(from, to, message);
        }
    }
    lab.carry();
    lab.input(3, Input::Drain(true));
    lab.replica(1).delete(lab.now, 2, &dead);
    lab.run(Duration::from_secs(1));
    assert_eq!(lab.reply(2), Some(Reply::Written));
    lab.hold = |_| false;
    for (from, to, message) in std::mem::take(&mut lab.held) {
        lab.deliver(from, to, message);
    }
    lab.carry();
    let part = end(&lab, 0, 1, wanted).unwrap();
    let end = part.through.expect("an owner looks at some of the slots");
    assert!(dead.place() < end.place());
    let found: Vec<_> = part.sessions.iter().map(|info| info.key).collect();
    let expected = keys
        .into_iter()
        .filter(|key| *key != dead && key.place() <= end.place());
    assert_eq!(found, expected.collect::<Vec<_>>());
}
