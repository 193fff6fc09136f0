//! Sessions over a restart of the whole application: processes that end, are killed, and start
//! again; files that are cut, altered, planted; disks that are full.

#[path = "../common/mod.rs"]
mod common;

mod cluster;
mod contract;
mod crash;
mod damage;
mod disk;
mod restart;
mod support;
