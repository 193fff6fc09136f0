//! Handshake of two nodes, before any message.
//!
//! The dialing node sends [`Hello`], the other one answers with [`HelloReply`]. Neither has a
//! version of its own: later versions may add fields at the end, which earlier ones ignore.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::cluster::copies::Copies;
use crate::cluster::replica::node::{INCARNATION_MAX, Node};
use crate::cluster::wire::{WireError, frame, put};

/// A version of the protocol that this crate supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProtocolVersion {
    V2,
}

/// The handshake of the dialing node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Hello {
    magic: [u8; 8],
    proto_min: u16,
    proto_max: u16,
    /// The name of its cluster.
    pub(crate) cluster: String,
    /// Its identity. A node that only asks which incarnations were seen has incarnation number 0.
    pub(crate) node: Node,
    /// A random number that identifies the process, by which a node notices that it has dialed
    /// itself.
    pub(crate) process: u64,
    /// The configured number of copies; 0 for all nodes.
    copies: u8,
}

/// The answer of the dialed node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum HelloReply {
    /// Segments may follow.
    Welcome {
        /// The protocol version of the segments: the highest that both nodes support.
        proto: u16,
        /// The identity of the dialed node.
        node: Node,
        /// The latest incarnation number in which another process was seen under the dialing node's
        /// address or name; 0 for none.
        seen: u64,
    },
    /// The link will be closed.
    Refused {
        refusal: RefusalReason,
        /// Encoded after all other fields, if not the default.
        #[serde(skip)]
        details: RefusalDetails,
    },
}

/// Information for a node that is refused.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct RefusalDetails {
    /// As in a welcome.
    pub(crate) seen: u64,
    /// The node that has its name.
    pub(crate) rival: Option<Rival>,
}

/// A node with the same name as the dialing one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rival {
    pub(crate) node: Node,
    /// Whether it serves sessions, or is a member of the answering node, which serves.
    pub(crate) serves: bool,
}

/// Why a node is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RefusalReason {
    /// There is no protocol version that both nodes support.
    Protocol,
    /// It belongs to another cluster.
    Cluster,
    /// It has dialed itself.
    Myself,
    /// A live member at another address has this name.
    Name,
    /// The maximum number of links is reached.
    Busy,
    /// Only one of the two can be reached from other machines.
    Unreachable,
    /// It is configured for another number of copies: the two would compute different holders.
    Copies,
    /// The cluster has the maximum number of members.
    Full,
    /// One of the two has a secret, and the other has none.
    Secret,
}

impl RefusalReason {
    /// Returns the reason in words for operators.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::Protocol => "the versions of the replication protocol differ",
            Self::Cluster => "the cluster name differs",
            Self::Myself => "it is the same node",
            Self::Name => "another node has the same name: give each node a name of its own",
            Self::Busy => "it has no room for another link",
            Self::Unreachable => {
                "only one of the two nodes can be reached from other machines: check `bind` and \
                 `advertise`"
            }
            Self::Copies => "the number of copies differs: give all nodes the same `copies`",
            Self::Full => "the cluster has 64 members, which is the most that it can have",
            Self::Secret => {
                "the secret or the cluster name differs, or one of the two has no secret"
            }
        }
    }
}

impl ProtocolVersion {
    /// The version that two nodes of this crate's version use.
    pub(crate) const LATEST: Self = Self::V2;

    /// Returns the version with this number, if supported.
    pub(crate) const fn from_number(number: u16) -> Option<Self> {
        match number {
            2 => Some(Self::V2),
            _ => None,
        }
    }
}

impl Hello {
    pub(crate) fn new(cluster: &str, node: Node, process: u64, copies: Copies) -> Self {
        Self {
            magic: MAGIC,
            proto_min: *PROTOCOLS.start(),
            proto_max: *PROTOCOLS.end(),
            cluster: cluster.to_owned(),
            node,
            process,
            copies: number(copies),
        }
    }

    /// Appends the handshake to `out`, as a frame.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        frame(out, |out| put(self, out)).expect("a handshake is short");
    }

    /// Decodes the content of a frame.
    ///
    /// # Errors
    ///
    /// If the bytes are not a handshake of a valid node.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let (hello, _later): (Self, _) = take(bytes)?;
        check_node(&hello.node)?;
        if hello.magic == MAGIC {
            Ok(hello)
        } else {
            Err(WireError::Malformed)
        }
    }

    /// Returns `true` if the sender is configured for the same number of copies.
    pub(crate) fn keeps(&self, copies: Copies) -> bool {
        self.copies == number(copies)
    }

    /// Returns `true` if the sender also supports a later version than this crate: it may send what
    /// this version does not know.
    pub(crate) const fn is_later(&self) -> bool {
        self.proto_max > *PROTOCOLS.end()
    }

    /// Returns the highest protocol version that both sides support.
    pub(crate) fn common_protocol(&self) -> Option<u16> {
        let highest = self.proto_max.min(*PROTOCOLS.end());
        let lowest = self.proto_min.max(*PROTOCOLS.start());
        (lowest <= highest).then_some(highest)
    }
}

impl HelloReply {
    pub(crate) fn refused(refusal: RefusalReason) -> Self {
        let details = RefusalDetails::default();
        Self::Refused { refusal, details }
    }

    /// Appends the answer to `out`, as a frame.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let encoded = frame(out, |out| {
            put(self, out);
            if let Self::Refused { details, .. } = self
                && *details != RefusalDetails::default()
            {
                put(details, out);
            }
        });
        encoded.expect("a handshake is short");
    }

    /// Decodes the content of a frame.
    ///
    /// # Errors
    ///
    /// If the bytes are not an answer, or not one that this version supports.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let (mut reply, rest) = take(bytes)?;
        match &mut reply {
            Self::Welcome { proto, node, .. } => {
                check_node(node)?;
                if !PROTOCOLS.contains(proto) {
                    return Err(WireError::Malformed);
                }
            }
            Self::Refused { .. } if rest.is_empty() => {}
            Self::Refused { details, .. } => {
                *details = take(rest)?.0;
                if let Some(rival) = &details.rival {
                    check_node(&rival.node)?;
                }
            }
        }
        Ok(reply)
    }
}

/// Returns `true` if the name is valid: the same characters as in a route, since it is used as one.
pub(crate) fn is_node_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(plain)
}

/// Checks the name, the address and the incarnation number of a node.
pub(super) fn check_node(node: &Node) -> Result<(), WireError> {
    let fits = is_node_name(&node.name)
        && node.address.port() != 0
        && !node.address.ip().is_unspecified()
        && node.incarnation <= INCARNATION_MAX;
    if fits {
        Ok(())
    } else {
        Err(WireError::BadNode)
    }
}

fn number(copies: Copies) -> u8 {
    match copies {
        Copies::All => 0,
        Copies::Count(n) => n.get(),
    }
}

/// Decodes data, and returns the bytes after it, which later versions may have added.
fn take<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<(T, &'de [u8]), WireError> {
    postcard::take_from_bytes(bytes).map_err(|_| WireError::Malformed)
}

/// The protocol versions that this crate supports.
const PROTOCOLS: RangeInclusive<u16> = 2..=2;

/// The first bytes of a handshake. They differ from those of the drafts whose links carried no
/// credits: those and this version must not mix.
const MAGIC: [u8; 8] = *b"dsession";

/// The longest name of a node.
pub(crate) const NAME_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        let node = Node {
            address: ([127, 0, 0, 1], 4000).into(),
            incarnation: 7,
            name: "node1".into(),
        };
        Hello::new("shop", node, 9, Copies::All)
    }

    fn bytes_of(hello: &Hello) -> Vec<u8> {
        let mut bytes = Vec::new();
        put(hello, &mut bytes);
        bytes
    }

    #[test]
    fn the_highest_common_version_is_spoken() {
        let speaks = |proto_min, proto_max| Hello {
            proto_min,
            proto_max,
            ..hello()
        };
        assert_eq!(speaks(2, 2).common_protocol(), Some(2));
        assert_eq!(speaks(1, 100).common_protocol(), Some(2));
        assert_eq!(speaks(3, 100).common_protocol(), None);
        assert_eq!(speaks(0, 1).common_protocol(), None);
        assert_eq!(speaks(100, 1).common_protocol(), None);
    }

    #[test]
    fn a_handshake_with_later_fields_is_understood() {
        let mut bytes = bytes_of(&hello());
        bytes.extend_from_slice(b"something new");
        assert_eq!(Hello::decode(&bytes), Ok(hello()));
    }

    #[test]
    fn a_handshake_by_another_node_is_not() {
        let mut bytes = bytes_of(&hello());
        bytes[0] ^= 1;
        assert_eq!(Hello::decode(&bytes), Err(WireError::Malformed));
        assert_eq!(
            Hello::decode(b"GET / HTTP/1.1\r\n\r\n"),
            Err(WireError::Malformed)
        );
    }

    #[test]
    fn a_node_that_cannot_be_is_refused() {
        let cases: [fn(&mut Node); 6] = [
            |node| node.name = "".into(),
            |node| node.name = "a.b".into(),
            |node| node.name = "x".repeat(NAME_MAX + 1).into(),
            |node| node.address.set_port(0),
            |node| node.address.set_ip([0, 0, 0, 0].into()),
            |node| node.incarnation = u64::MAX,
        ];
        for spoil in cases {
            let mut bad = hello();
            spoil(&mut bad.node);
            let refused = Hello::decode(&bytes_of(&bad));
            assert_eq!(refused, Err(WireError::BadNode), "{:?}", bad.node);
        }
    }
}
