//! Selection of members when more nodes have met than the cluster can have.
//!
//! Nodes are admitted one at a time when they connect: a node is refused if a member has its name
//! or if the cluster is full. But two parts of a network, each with members of its own, may meet.
//! Then the oldest of the nodes with the same name stays, and of too many nodes the oldest stay.
//! All members compute the same result, and the other nodes leave.

use std::collections::BTreeMap;

use crate::cluster::replica::event::Exclusion;
use crate::cluster::replica::node::Node;
use crate::cluster::replica::peer_table::PEERS_MAX;

/// Returns the nodes of `others` that are members besides `me`, or the reason why `me` is none.
pub(crate) fn select_members(me: &Node, others: Vec<Node>) -> Result<Vec<Node>, Exclusion> {
    let mut eldest: BTreeMap<&str, &Node> = BTreeMap::new();
    for node in others.iter().chain([me]) {
        let of_name = eldest.entry(&node.name).or_insert(node);
        if age(node) < age(of_name) {
            *of_name = node;
        }
    }
    if let Some(elder) = eldest.get(&*me.name).filter(|node| **node != me) {
        return Err(Exclusion::Name((*elder).clone()));
    }
    // Duplicates are left out: one of them would take the place of a node that can stay.
    let mut admitted: Vec<_> = eldest.into_values().collect();
    admitted.sort_by_key(|node| age(node));
    admitted.truncate(PEERS_MAX + 1);
    if !admitted.contains(&me) {
        return Err(Exclusion::Full);
    }
    let admitted: Vec<_> = admitted.into_iter().cloned().collect();
    Ok(others
        .into_iter()
        .filter(|node| admitted.contains(node))
        .collect())
}

/// Returns the sort key for age, smaller for an older node. Incarnations start with the start time.
fn age(node: &Node) -> (u64, std::net::SocketAddr) {
    // Nodes may start in the same millisecond: without the address, each of two with one name would
    // leave in favor of the other.
    (node.incarnation, node.address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(port: u16, incarnation: u64, name: &str) -> Node {
        Node {
            address: ([127, 0, 0, 1], port).into(),
            incarnation,
            name: name.into(),
        }
    }

    #[test]
    fn of_two_nodes_with_one_name_the_elder_stays() {
        let [elder, younger] = [node(2, 5, "a"), node(1, 6, "a")];
        let third = node(3, 9, "c");
        let both = vec![elder.clone(), younger.clone()];
        assert_eq!(select_members(&third, both), Ok(vec![elder.clone()]));
        let others = vec![younger.clone(), third.clone()];
        assert_eq!(select_members(&elder, others), Ok(vec![third.clone()]));
        let others = vec![elder.clone(), third];
        assert_eq!(
            select_members(&younger, others),
            Err(Exclusion::Name(elder))
        );
    }

    #[test]
    fn at_the_same_age_the_address_decides() {
        let [low, high] = [node(1, 5, "a"), node(2, 5, "a")];
        assert_eq!(select_members(&low, vec![high.clone()]), Ok(vec![]));
        assert_eq!(
            select_members(&high, vec![low.clone()]),
            Err(Exclusion::Name(low))
        );
    }

    #[test]
    fn of_too_many_nodes_the_eldest_stay() {
        let nodes = |but: u16| {
            let ports = (1..=66).filter(move |port| *port != but);
            ports
                .map(|port| node(port, port.into(), &format!("node{port}")))
                .collect::<Vec<_>>()
        };
        let of = |port: u16| {
            select_members(
                &node(port, port.into(), &format!("node{port}")),
                nodes(port),
            )
        };
        for port in 1..=64 {
            let admitted = of(port).unwrap();
            assert_eq!(admitted.len(), PEERS_MAX);
            assert!(admitted.iter().all(|node| node.incarnation <= 64));
        }
        assert_eq!(of(65), Err(Exclusion::Full));
        assert_eq!(of(66), Err(Exclusion::Full));
    }
}
