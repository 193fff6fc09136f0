//! Nodes of this crate: the example `playground`, with the arguments that the lab was given.

use std::net::SocketAddr;
use std::path::Path;

use tokio::process::Command;

use crate::args::Args;
use crate::nodes::Node;
use crate::process::Process;
use crate::{Failure, ports, programs};

/// Configures the nodes, and starts Redis if they keep their sessions there. They listen for each
/// other at `links` and reach each other at `peers`.
pub(crate) fn nodes(
    args: &Args,
    links: &[SocketAddr],
    peers: &[SocketAddr],
    folder: &Path,
) -> Result<(Option<Process>, Vec<Node>), Failure> {
    let (redis, store) = store(args, folder)?;
    let name = format!("lab{}", links[0].port());
    let mut nodes = vec![];
    for (number, (link, own)) in links.iter().zip(peers).enumerate() {
        let route = format!("node{}", number + 1);
        let http = ports::free();
        let mut arguments = words(&["--route", &route, "--listen", &http.to_string()]);
        arguments.push("--listen-when-ready".to_owned());
        arguments.extend(store.iter().cloned());
        if args.store == "replicated" {
            arguments.extend(words(&["--cluster-name", &name]));
            arguments.extend(words(&["--cluster-listen", &link.to_string()]));
            arguments.extend(words(&["--advertise", &own.to_string()]));
            for peer in peers.iter().filter(|peer| *peer != own) {
                arguments.extend(words(&["--peer", &peer.to_string()]));
            }
        }
        arguments.extend(args.node_arg.iter().cloned());
        let program = programs::playground()?;
        nodes.push(Node::new(route, http, program, arguments, folder));
    }
    Ok((redis, nodes))
}

/// The arguments that choose the store, and a Redis server if it needs one.
fn store(args: &Args, folder: &Path) -> Result<(Option<Process>, Vec<String>), Failure> {
    let mut arguments = words(&["--store", &args.store]);
    if args.store == "replicated" {
        arguments.extend(words(&["--copies", &args.copies]));
    }
    if args.store != "redis" {
        return Ok((None, arguments));
    }
    let address = ports::free();
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    command.args(["--port", &address.port().to_string()]);
    let redis = Process::start("redis-server", command, &folder.join("redis.log"))?;
    arguments.extend(words(&["--redis-url", &format!("redis://{address}")]));
    Ok((Some(redis), arguments))
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}
