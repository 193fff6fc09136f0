//! Beacons: signed announcements of a node's address.
//!
//! ```text
//! "distnode" · 1 · IPv6 address, 16 bytes · port, 2 bytes · HMAC-SHA256 of all before, 32 bytes
//! ```
//!
//! The signing key is derived from the secret and the name of the cluster. A beacon carries no time
//! and no sequence number: if it is replayed, it names an address at which a node of the cluster
//! once was, and the process that is there now has to authenticate.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ring::hmac;

use crate::cluster::secret::Secret;
use crate::cluster::transport::derive;

/// Signs this node's beacons, and verifies those of other nodes.
pub(crate) struct Beacon {
    /// The first one signs.
    keys: Vec<hmac::Key>,
}

impl Beacon {
    /// Signs with the first secret, and accepts all of them. Without a secret, a beacon only shows
    /// the name of the cluster and must not leave the machine.
    pub(crate) fn new(secrets: &[Secret], cluster: &str) -> Self {
        let key = |secret: &[u8], purpose| {
            hmac::Key::new(hmac::HMAC_SHA256, &derive(secret, purpose, cluster))
        };
        let keys = match secrets {
            [] => vec![key(&[], "open beacon v1")],
            secrets => {
                let keys = secrets
                    .iter()
                    .map(|secret| key(secret.bytes(), "beacon v1"));
                keys.collect()
            }
        };
        Self { keys }
    }

    /// Returns the beacon of a node at `address`.
    pub(super) fn sign(&self, address: SocketAddr) -> [u8; BEACON] {
        let mut beacon = [0; BEACON];
        let ip = match address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        beacon[..IP].copy_from_slice(MAGIC);
        beacon[IP..PORT].copy_from_slice(&ip.octets());
        beacon[PORT..TAG].copy_from_slice(&address.port().to_be_bytes());
        let tag = hmac::sign(&self.keys[0], &beacon[..TAG]);
        beacon[TAG..].copy_from_slice(tag.as_ref());
        beacon
    }

    /// Returns the address in a beacon of this cluster; `None` for any other bytes.
    pub(super) fn check(&self, bytes: &[u8]) -> Option<SocketAddr> {
        let beacon: &[u8; BEACON] = bytes.try_into().ok()?;
        let (said, tag) = beacon.split_at(TAG);
        if !said.starts_with(MAGIC) {
            return None;
        }
        // Compares in constant time.
        let signed = |key: &hmac::Key| hmac::verify(key, said, tag).is_ok();
        if !self.keys.iter().any(signed) {
            return None;
        }
        let ip: [u8; 16] = said[IP..PORT].try_into().ok()?;
        let port = u16::from_be_bytes(said[PORT..].try_into().ok()?);
        Some(SocketAddr::new(IpAddr::from(ip).to_canonical(), port))
    }
}

impl fmt::Debug for Beacon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Beacon(..)")
    }
}

/// The start of a beacon, including the version of its format.
const MAGIC: &[u8] = b"distnode\x01";
const IP: usize = MAGIC.len();
const PORT: usize = IP + 16;
const TAG: usize = PORT + 2;
/// The length of a beacon.
pub(super) const BEACON: usize = TAG + 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(number: u8) -> Secret {
        let bytes: Vec<u8> = (0..32).map(|i| i ^ number).collect();
        Secret::from_bytes(bytes).unwrap()
    }

    fn address() -> SocketAddr {
        ([192, 0, 2, 7], 4000).into()
    }

    #[test]
    fn a_beacon_contains_the_address_of_a_node() {
        let beacon = Beacon::new(&[secret(1)], "shop");
        for address in [address(), "[2001:db8::7]:4001".parse().unwrap()] {
            assert_eq!(beacon.check(&beacon.sign(address)), Some(address));
        }
    }

    /// G-01, G-02.
    #[test]
    fn no_changed_bit_and_no_other_length_is_taken() {
        let beacon = Beacon::new(&[secret(1)], "shop");
        let signed = beacon.sign(address());
        for bit in 0..8 * BEACON {
            let mut forged = signed;
            forged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(beacon.check(&forged), None, "bit {bit}");
        }
        for length in 0..BEACON {
            assert_eq!(beacon.check(&signed[..length]), None);
        }
        assert_eq!(beacon.check(&[&signed[..], b"."].concat()), None);
    }

    #[test]
    fn other_secrets_and_other_clusters_are_not_accepted() {
        let beacon = Beacon::new(&[secret(1)], "shop").sign(address());
        for (secrets, cluster) in [
            (&[secret(2)][..], "shop"),
            (&[secret(1)], "another"),
            (&[], "shop"),
        ] {
            assert_eq!(Beacon::new(secrets, cluster).check(&beacon), None);
        }
    }

    #[test]
    fn while_a_secret_is_changed_both_are_taken() {
        let [old, new] = [secret(1), secret(2)];
        let first = Beacon::new(&[old.clone(), new.clone()], "shop");
        let second = Beacon::new(&[new.clone(), old.clone()], "shop");
        assert_eq!(first.check(&second.sign(address())), Some(address()));
        assert_eq!(second.check(&first.sign(address())), Some(address()));
        assert_eq!(
            Beacon::new(&[new], "shop").check(&first.sign(address())),
            None
        );
        assert_eq!(
            Beacon::new(&[old], "shop").check(&first.sign(address())),
            Some(address())
        );
    }

    /// Nodes of different releases must find each other.
    #[test]
    fn the_format_stands_still() {
        let signed = Beacon::new(&[secret(0)], "shop").sign(address());
        let hex: String = signed.iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = "646973746e6f64650100000000000000000000ffffc00002070fa0\
            166ff56f39d179eb4d0f4ac3191564fe21d5ec05cd5d323dde9f8ed15ff13f33";
        assert_eq!(hex, expected);
    }
}
