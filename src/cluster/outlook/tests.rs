use super::*;
use crate::cluster::replica::node::Node;
use crate::cluster::wire::{RefusalDetails, RefusalReason, Rival};

const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn at(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

fn configured(ports: &[u16]) -> Addresses {
    let names: Vec<_> = ports.iter().map(|port| at(*port).to_string()).collect();
    let addresses = Addresses::new(&names);
    for (name, port) in names.iter().zip(ports) {
        addresses.resolved(START, name, &Lookup::Addresses(vec![at(*port)]));
    }
    addresses
}

fn outlook(addresses: &Addresses) -> Outlook {
    addresses.state().outlook(|address| *address == at(1))
}

fn rejects(by: Rejection) -> DialResult {
    let reason = "";
    DialResult::Rejects { by, reason }
}

fn later(ms: u64) -> Timestamp {
    START.plus(Duration::from_millis(ms))
}

///
#[test]
fn an_address_is_closed_after_three_refusals_within_two_seconds() {
    let addresses = configured(&[2]);
    assert_eq!(outlook(&addresses).silent, 1, "not dialed yet");
    for (ms, silent) in [(0, 1), (1_000, 1), (1_999, 1), (2_000, 0)] {
        addresses.dialed(later(ms), at(2), DialResult::Closed);
        assert_eq!(outlook(&addresses).silent, silent, "after {ms} ms");
    }
    addresses.dialed(later(2_100), at(2), DialResult::Silence);
    addresses.dialed(later(2_200), at(2), DialResult::Closed);
    assert_eq!(outlook(&addresses).silent, 1, "it begins anew");
    let twice = configured(&[2]);
    for ms in [0, 5_000] {
        twice.dialed(later(ms), at(2), DialResult::Closed);
    }
    assert_eq!(outlook(&twice).silent, 1, "twice is not enough");
}

///
#[test]
fn a_name_is_unknown_only_if_a_name_server_answers_that() {
    let name = "nowhere.example:4000";
    let addresses = Addresses::new(&[name.to_owned()]);
    let silent = |lookup: Lookup, ms| {
        addresses.resolved(later(ms), name, &lookup);
        outlook(&addresses).silent
    };
    for ms in [0, 1_000, 2_000, 3_000] {
        assert_eq!(silent(Lookup::Failure, ms), 1);
    }
    assert_eq!(silent(Lookup::NotFound, 4_000), 1);
    assert_eq!(silent(Lookup::NotFound, 5_000), 1);
    assert_eq!(silent(Lookup::NotFound, 6_000), 0);
    assert_eq!(outlook(&addresses).configured, 1);
    assert_eq!(silent(Lookup::Failure, 7_000), 1);
}

#[test]
fn a_failing_name_server_does_not_change_its_last_answer() {
    let name = "peers.example:4000";
    let addresses = Addresses::new(&[name.to_owned()]);
    addresses.resolved(START, name, &Lookup::Addresses(vec![at(2), at(3)]));
    addresses.resolved(START, name, &Lookup::Failure);
    let outlook = outlook(&addresses);
    assert_eq!((outlook.configured, outlook.silent), (2, 2));
}

#[test]
fn the_own_address_does_not_count() {
    let addresses = configured(&[1, 2]);
    let outlook = outlook(&addresses);
    assert_eq!((outlook.configured, outlook.silent), (1, 1));
}

#[test]
fn a_rejection_by_a_peer_counts_wherever_it_was_found() {
    let addresses = configured(&[2]);
    for ms in [0, 1_000, 2_000] {
        addresses.dialed(later(ms), at(2), DialResult::Closed);
    }
    // Found by multicast, or named by a member.
    addresses.dialed(START, at(3), rejects(Rejection::Peer));
    addresses.dialed(START, at(4), rejects(Rejection::Exclusion));
    addresses.dialed(START, at(5), rejects(Rejection::Foreign));
    addresses.dialed(START, at(6), rejects(Rejection::Own));
    let expected = Outlook {
        configured: 1,
        rejecting: 2,
        excluding: 1,
        ..Outlook::default()
    };
    assert_eq!(outlook(&addresses), expected);
    for port in 3..=6 {
        addresses.forget(at(port));
    }
    assert_eq!(outlook(&addresses).rejecting, 0);
}

/// Found by simulation: all members were suspended and joined again, one of them under the name of
/// an older node that had just started. None of them served at that moment, so the older node
/// rejected the others' rejections, served alone, and answered that their sessions do not exist.
#[test]
fn members_that_prefer_a_younger_node_of_this_name_leave_this_one_in_doubt() {
    let node = |port: u16, incarnation: u64| Node {
        address: at(port),
        incarnation,
        name: "node1".into(),
    };
    let details = RefusalDetails {
        seen: 0,
        rival: Some(Rival {
            node: node(3, 9),
            serves: false,
        }),
    };
    let addresses = configured(&[2, 3]);
    for port in [2, 3] {
        let by = Rejection::of(&node(1, 5), at(port), RefusalReason::Name, &details);
        addresses.dialed(START, at(port), rejects(by));
    }
    let outlook = outlook(&addresses);
    // The younger node itself is the one to be rejected.
    assert_eq!((outlook.silent, outlook.rejecting), (1, 0));
}

#[test]
fn a_node_of_another_cluster_counts_where_it_was_configured() {
    let addresses = configured(&[2]);
    addresses.dialed(START, at(2), rejects(Rejection::Foreign));
    let outlook = outlook(&addresses);
    assert_eq!(
        (outlook.foreign, outlook.rejecting, outlook.silent),
        (1, 0, 0)
    );
}

#[test]
fn a_node_that_wants_to_be_reached_elsewhere_counts_when_it_is() {
    let addresses = configured(&[2]);
    addresses.dialed(START, at(2), DialResult::Accepts { at: at(3) });
    assert_eq!(outlook(&addresses).silent, 1);
    addresses.dialed(START, at(3), DialResult::Accepts { at: at(3) });
    let outlook = outlook(&addresses);
    assert_eq!((outlook.silent, outlook.accepting), (0, 1));
}

#[test]
fn former_members_count_until_the_node_serves_again() {
    let addresses = configured(&[]);
    addresses.rejoin([at(2)].into_iter());
    assert_eq!(outlook(&addresses).silent, 1);
    assert_eq!(addresses.former(), [at(2)]);
    addresses.joined();
    assert_eq!(outlook(&addresses), Outlook::default());
}
