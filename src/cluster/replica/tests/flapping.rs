//! Tests of a member that comes and goes.

use super::*;

/// V4: each coming and going of a member is a new view, in which all comparisons begin anew. What
/// was pulled stays, so a hand-over to another member makes progress all the time.
#[test]
fn a_member_that_comes_and_goes_does_not_keep_a_hand_over_from_completing() {
    let mut lab = ReplicaLab::cluster(3);
    lab.redials = true;
    for number in 0..SESSIONS {
        lab.commit(0, number.into(), key(number), &born("a", "1"));
    }
    let newcomer = Replica::new(lab.now, settings(3, Copies::All));
    lab.nodes.push((node(3), newcomer));
    lab.hold = |message| matches!(message, Message::SlotEntries { .. });
    let mut answers = 0;
    let mut views = std::collections::BTreeSet::new();
    for turn in 0..1_000 {
        if turn % 10 == 0 {
            // The other members find its port closed; it is informed, and comes back.
            let gone = lab.nodes[2].0.clone();
            for index in [0, 1, 3] {
                lab.input(index, Input::Refused { node: gone.clone() });
            }
            for (from, to) in [
                (3, 0),
                (0, 3),
                (3, 1),
                (1, 3),
                (2, 0),
                (0, 2),
                (2, 3),
                (3, 2),
            ] {
                lab.link(from, to);
            }
        }
        lab.run(Duration::from_millis(100));
        views.insert(lab.replica(3).published().view.epoch);
        if lab.replica(3).is_ready() {
            break;
        }
        // The newcomer receives ten slots in a second, and the others as much as they ask for.
        for (from, to, message) in std::mem::take(&mut lab.held) {
            let waits = lab.held.iter().any(|(_, to, _)| *to == 3);
            if to == 3 && (waits || answers > turn) {
                lab.held.push((from, to, message));
            } else {
                answers += i32::from(to == 3);
                lab.deliver(from, to, message);
            }
        }
        lab.carry();
    }
    assert!(lab.replica(3).is_ready(), "{answers} answers");
    assert!((0..SESSIONS).all(|number| lab.read(3, key(number)).is_some()));
    assert!(views.len() > 4, "{views:?}");
    // Each view asks for a few slots again, not for all of them.
    assert!(answers < 3 * i32::from(SESSIONS), "{answers} answers");
}

/// Each in a slot of its own.
const SESSIONS: u8 = 90;
