//! How two nodes introduce themselves, before any message.
//!
//! The one who has dialled says [`Hello`], the other answers with a [`HelloReply`]. Neither has a
//! version of its own: later versions may add fields at the end, which earlier ones ignore.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::super::Copies;
use super::super::replica::node::{GENERATION_MAX, Node};
use super::{WireError, frame, put};

/// A version of the protocol that this crate speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    V2,
}

/// Who dials.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in super::super) struct Hello {
    magic: [u8; 8],
    proto_min: u16,
    proto_max: u16,
    /// The name of its cluster.
    pub(in super::super) cluster: String,
    /// Its identity. A node that only asks which generations were seen has generation 0.
    pub(in super::super) node: Node,
    /// A random number that tells processes apart: how a node notices that it has dialled itself.
    pub(in super::super) process: u64,
    /// How many nodes keep a session there; 0 for all.
    copies: u8,
}

/// What the dialled node answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in super::super) enum HelloReply {
    /// Frames may follow.
    Welcome {
        /// The protocol version of what follows: the highest that both speak.
        proto: u16,
        /// The identity of the dialled node.
        node: Node,
        /// The latest generation in which another process was seen under the dialling node's
        /// address or name; 0 for none.
        seen: u64,
    },
    /// The link will be closed.
    Refused {
        refusal: Refusal,
        /// Encoded behind everything else, if it says anything.
        #[serde(skip)]
        details: RefusalDetails,
    },
}

/// What a node that is not let in may want to know.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(in super::super) struct RefusalDetails {
    /// As in a welcome.
    pub(in super::super) seen: u64,
    /// The node that has its name.
    pub(in super::super) rival: Option<Rival>,
}

/// A node that has the name of the one that dials.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in super::super) struct Rival {
    pub(in super::super) node: Node,
    /// Whether it serves sessions, or is a member of the node that answers, and that one serves.
    pub(in super::super) serves: bool,
}

/// Why a node is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) enum Refusal {
    /// There is no protocol version that both speak.
    Protocol,
    /// It belongs to another cluster.
    Cluster,
    /// It has dialled itself.
    Myself,
    /// A living member at another address has this name.
    Name,
    /// There are as many links as there may be.
    Busy,
    /// Only one of the two can be reached from other machines.
    Unreachable,
    /// It wants another number of copies: the two would look for sessions in different places.
    Copies,
    /// The cluster has as many members as it can have.
    Full,
    /// One of the two has a secret, and the other has none.
    Secret,
}

impl Refusal {
    /// The reason in an operator's words.
    pub(in super::super) const fn reason(self) -> &'static str {
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

impl Protocol {
    /// The version that two nodes of this crate's version speak.
    pub(crate) const LATEST: Self = Self::V2;

    /// The version with this number, if this crate speaks it.
    pub(crate) const fn from_number(number: u16) -> Option<Self> {
        match number {
            2 => Some(Self::V2),
            _ => None,
        }
    }
}

impl Hello {
    pub(in super::super) fn new(cluster: &str, node: Node, process: u64, copies: Copies) -> Self {
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

    /// Appends it to `out`, as a frame.
    pub(in super::super) fn encode(&self, out: &mut Vec<u8>) {
        frame(out, |out| put(self, out)).expect("an introduction is short");
    }

    /// # Errors
    ///
    /// When the bytes are not an introduction of a node that can exist.
    pub(in super::super) fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let (hello, _later): (Self, _) = take(bytes)?;
        check_node(&hello.node)?;
        if hello.magic == MAGIC {
            Ok(hello)
        } else {
            Err(WireError::Malformed)
        }
    }

    /// Returns `true` if its cluster keeps as many copies of a session.
    pub(in super::super) fn keeps(&self, copies: Copies) -> bool {
        self.copies == number(copies)
    }

    /// Returns `true` if the sender also speaks a later version than this crate: it may send what
    /// is not known here.
    pub(crate) const fn is_later(&self) -> bool {
        self.proto_max > *PROTOCOLS.end()
    }

    /// The highest protocol version that both sides speak.
    pub(in super::super) fn common_protocol(&self) -> Option<u16> {
        let highest = self.proto_max.min(*PROTOCOLS.end());
        let lowest = self.proto_min.max(*PROTOCOLS.start());
        (lowest <= highest).then_some(highest)
    }
}

impl HelloReply {
    pub(in super::super) fn refused(refusal: Refusal) -> Self {
        let details = RefusalDetails::default();
        Self::Refused { refusal, details }
    }

    /// Appends it to `out`, as a frame.
    pub(in super::super) fn encode(&self, out: &mut Vec<u8>) {
        let encoded = frame(out, |out| {
            put(self, out);
            if let Self::Refused { details, .. } = self
                && *details != RefusalDetails::default()
            {
                put(details, out);
            }
        });
        encoded.expect("an introduction is short");
    }

    /// # Errors
    ///
    /// When the bytes are not an answer, or one that this version cannot follow.
    pub(in super::super) fn decode(bytes: &[u8]) -> Result<Self, WireError> {
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

/// Returns `true` if a node may be called that: the same characters as in a route, since it is one.
pub(in super::super) fn is_node_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(plain)
}

/// Returns `true` if a node can be that.
pub(super) fn check_node(node: &Node) -> Result<(), WireError> {
    let fits = is_node_name(&node.name)
        && node.address.port() != 0
        && !node.address.ip().is_unspecified()
        && node.generation <= GENERATION_MAX;
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

/// Gives back what later versions may have added at the end.
fn take<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<(T, &'de [u8]), WireError> {
    postcard::take_from_bytes(bytes).map_err(|_| WireError::Malformed)
}

/// The protocol versions that this crate speaks.
const PROTOCOLS: RangeInclusive<u16> = 2..=2;

/// What an introduction begins with. Another value than that of the drafts whose links carried no
/// credits: those and this version must not mix.
const MAGIC: [u8; 8] = *b"dsession";

/// The longest name of a node.
pub(in super::super) const NAME_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        let node = Node {
            address: ([127, 0, 0, 1], 4000).into(),
            generation: 7,
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
    fn an_introduction_with_later_fields_is_understood() {
        let mut bytes = bytes_of(&hello());
        bytes.extend_from_slice(b"something new");
        assert_eq!(Hello::decode(&bytes), Ok(hello()));
    }

    #[test]
    fn an_introduction_by_somebody_else_is_not() {
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
            |node| node.generation = u64::MAX,
        ];
        for spoil in cases {
            let mut bad = hello();
            spoil(&mut bad.node);
            let refused = Hello::decode(&bytes_of(&bad));
            assert_eq!(refused, Err(WireError::BadNode), "{:?}", bad.node);
        }
    }
}
