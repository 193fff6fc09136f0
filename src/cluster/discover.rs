//! Where other nodes may be: addresses to dial, found by name or by multicast.
//!
//! Whatever is found here is a candidate and nothing else. Somebody dials it, and who answers has to
//! prove that it belongs to the cluster, as everybody has. So neither a name server nor a forged
//! datagram can do more than have a bounded number of addresses dialled.

mod names;

pub(super) use names::{resolve, seek};
