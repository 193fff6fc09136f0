//! A node among thousands of connections that are not from nodes.

use std::collections::VecDeque;
use std::env;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{Browser, Node, Random, cluster_starts, undisturbed};

/// The first bytes of a connection that is not from a node; there may be none.
fn words(kind: u64) -> Vec<u8> {
    let mut random = Random(kind);
    match kind % 6 {
        0 => Vec::new(),
        1 => b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        2 => b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(),
        3 => b"*1\r\n$4\r\nPING\r\n".to_vec(),
        // The beginning of a long handshake.
        4 => [
            &[0x16, 3, 1, 0x3f, 0xff, 1, 0, 0x3f, 0xfb, 3, 3][..],
            &[0; 8000],
        ]
        .concat(),
        _ => (0..512).map(|_| random.below(256) as u8).collect(),
    }
}

/// Makes connections, and holds on to the last hundred.
fn crowd(at: SocketAddr, count: u64) -> VecDeque<TcpStream> {
    let mut held = VecDeque::new();
    for kind in 0..count {
        let mut stream = TcpStream::connect(at).expect("it listens");
        // It may have been closed already.
        let _ = stream.write_all(&words(kind));
        held.push_back(stream);
        if held.len() > 100 {
            held.pop_front();
        }
    }
    held
}

/// N-02.
#[test]
fn ten_thousand_unknown_connections_cost_little_memory_and_few_lines_and_are_gone_in_seconds() {
    undisturbed(|| {
        let secret = env::temp_dir().join(format!("flood-secret-{}", std::process::id()));
        fs::write(
            &secret,
            "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0",
        )
        .expect("a file can be written");
        let [start] = cluster_starts::<1>(&["--secret-file", secret.to_str().expect("text")]);
        let node = start.ready();
        fs::remove_file(&secret).expect("it is there");
        let address = node.cluster()["members"][0]["address"].clone();
        let at = address.as_str().expect("text").parse().expect("an address");

        drop(crowd(at, 500));
        let (began, before, lines) = (Instant::now(), node.memory("VmRSS"), complaints(&node));
        let crowds: Vec<_> = (0..4)
            .map(|_| thread::spawn(move || crowd(at, 2500)))
            .collect();
        let mut browser = Browser::new();
        let mut slowest = Duration::ZERO;
        while crowds.iter().any(|crowd| !crowd.is_finished()) {
            let asked = Instant::now();
            browser.ok(&node, "/set?k=a&v=1");
            slowest = slowest.max(asked.elapsed());
        }
        let held = crowds
            .into_iter()
            .flat_map(|crowd| crowd.join().expect("it does not panic"));
        let took = began.elapsed();
        let more = node.memory("VmRSS").saturating_sub(before);
        println!("10000 connections in {took:?}: {more} KiB more, slowest answer {slowest:?}");
        assert!(more < 16 << 10, "{more} KiB more");
        let lines = complaints(&node) - lines;
        assert!(
            lines as f64 <= 1.0 + took.as_secs_f64() * 2.0,
            "{lines} lines in {took:?}"
        );

        // Five seconds, and what a busy machine needs.
        let deadline = Instant::now() + Duration::from_secs(10);
        for mut stream in held {
            let patience = deadline.saturating_duration_since(Instant::now());
            let patience = patience.max(Duration::from_millis(1));
            stream.set_read_timeout(Some(patience)).expect("a timeout");
            let mut rest = Vec::new();
            // The end, or a reset; not the timeout.
            let ended = stream.read_to_end(&mut rest);
            let waited = |error: &std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
            assert!(
                !ended.is_err_and(|error| waited(&error)),
                "it is still open"
            );
        }
        assert_eq!(node.members(), 1);
    });
}

fn complaints(node: &Node) -> usize {
    node.log().matches("replication port:").count()
}
