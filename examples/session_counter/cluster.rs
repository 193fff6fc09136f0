//! The cluster, whose nodes find each other on this machine.

use std::error::Error;

use distributable::ReplicatedStore;

/// Starts this node of the cluster, and waits until it has received its sessions.
pub(crate) async fn join(
    name: &str,
    mut peers: Vec<String>,
) -> Result<ReplicatedStore, Box<dyn Error>> {
    if peers.is_empty() {
        let address = |port| format!("127.0.0.1:{port}");
        peers = (4000..=4009).map(address).collect();
    }
    let builder = ReplicatedStore::builder(name);
    let store = peers
        .into_iter()
        .fold(builder, |builder, peer| builder.peer(peer))
        .start()
        .await?;
    store.ready().await;
    Ok(store)
}
