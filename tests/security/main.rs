//! The replication port: unknown clients, eavesdroppers, and nodes with wrong settings.

#![expect(clippy::unwrap_used, reason = "it is how a test fails")]

mod certificates;
mod eavesdropping;
#[path = "../common/log.rs"]
mod log;
mod proxy;
#[path = "../common/replicas.rs"]
mod replicas;
mod rotation;
mod secrets;
mod tampering;
mod unknown_clients;
