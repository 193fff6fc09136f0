//! The page: the counter, the node that serves it, and the members of the cluster.

use distributable::store::Member;

use crate::Node;

/// Renders the page for a session with this id.
pub(crate) fn render(node: &Node, count: u64, id: &str) -> String {
    include_str!("page.html")
        .replace("{node}", &node.name)
        .replace("{hue}", &hue(&node.name).to_string())
        .replace("{count}", &count.to_string())
        .replace("{id}", id)
        .replace("{members}", &members(node))
}

/// The rows of the table of members.
fn members(node: &Node) -> String {
    let Some(store) = &node.cluster else {
        return "<tr><td>no others: this store is one node's memory</td></tr>".to_owned();
    };
    let mut members = store.status().members;
    members.sort_by(|a, b| a.route.cmp(&b.route));
    let row = |member: &Member| {
        let own = if member.route == node.name {
            " class=\"own\""
        } else {
            ""
        };
        let Member {
            route,
            address,
            state,
            ..
        } = member;
        let hue = hue(route);
        let state = format!("{state:?}").to_lowercase();
        format!(
            "<tr{own} style=\"--hue: {hue}\"><td>{route}</td><td>{address}</td><td>{state}</td></tr>"
        )
    };
    members.iter().map(row).collect()
}

/// A color for every node: the same on every page.
fn hue(name: &str) -> u32 {
    let sum = name.bytes().fold(0_u32, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(byte.into())
    });
    sum.wrapping_mul(137) % 360
}
