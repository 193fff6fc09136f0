//! The role of a server: primary or replica, as the server states it.
//!
//! Addresses of balancers, virtual addresses and names of cloud services lead to another server
//! after a failover, and connections to the old one may stay open. Nothing is read from a server
//! that is not a primary.

use redis::{Pipeline, Value};

use crate::store::redis::info;

/// A command that a server answers with its role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RoleCommand {
    Role,
    /// If `ROLE` is refused.
    Info,
    /// If both are refused: the role stays unknown, and its loss shows when a write fails.
    Ping,
}

impl RoleCommand {
    pub(super) fn pipeline(self) -> Pipeline {
        let mut pipeline = redis::pipe();
        match self {
            Self::Role => pipeline.cmd("ROLE"),
            Self::Info => pipeline.cmd("INFO").arg("replication"),
            Self::Ping => pipeline.cmd("PING"),
        };
        pipeline
    }

    /// Returns `true` if the reply is a primary's; `None` if it does not contain the role.
    pub(super) fn is_primary(self, reply: &Value) -> Option<bool> {
        match (self, reply) {
            (Self::Role, Value::Array(parts)) => match parts.first()? {
                Value::BulkString(role) => Some(role == b"master"),
                Value::SimpleString(role) => Some(role == "master"),
                _ => None,
            },
            (Self::Info, reply) => Some(info::field(reply, "role")? == "master"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    ///
    #[test]
    fn both_commands_distinguish_a_primary_from_a_replica() {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let role = |name| Value::Array(vec![bulk(name), Value::Int(0)]);
        let info = |name| {
            bulk(&format!(
                "# Replication\r\nrole:{name}\r\nconnected_slaves:0\r\n"
            ))
        };
        for (name, is_primary) in [("master", true), ("slave", false), ("sentinel", false)] {
            assert_eq!(RoleCommand::Role.is_primary(&role(name)), Some(is_primary));
            assert_eq!(RoleCommand::Info.is_primary(&info(name)), Some(is_primary));
        }
        assert_eq!(RoleCommand::Role.is_primary(&bulk("?")), None);
        assert_eq!(RoleCommand::Info.is_primary(&bulk("?")), None);
    }
}
