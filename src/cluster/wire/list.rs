//! Encoding of the list of sessions.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::cluster::replica::message::{ListResponse, OpId, ViewId};
use crate::session::{ListPart, Root, SessionInfo, Timestamp, UserKey};

#[derive(Serialize, Deserialize)]
struct WireListResponse {
    view: ViewId,
    op: OpId,
    sent_at: Timestamp,
    sessions: Vec<WireInfo>,
    through: Option<Root>,
}

#[derive(Serialize, Deserialize)]
struct WireInfo {
    key: Root,
    user: Option<UserKey>,
    created_at: Timestamp,
    last_accessed_at: Timestamp,
    expires_at: Timestamp,
    absolute_deadline: Timestamp,
}

impl Serialize for ListResponse {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let response = WireListResponse {
            view: self.view,
            op: self.op,
            sent_at: self.sent_at,
            sessions: self.part.sessions.iter().map(WireInfo::from).collect(),
            through: self.part.through,
        };
        response.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ListResponse {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let response = WireListResponse::deserialize(deserializer)?;
        let sessions = response.sessions.into_iter();
        Ok(Self {
            view: response.view,
            op: response.op,
            sent_at: response.sent_at,
            part: ListPart {
                sessions: sessions.map(SessionInfo::from).collect(),
                through: response.through,
            },
        })
    }
}

impl From<&SessionInfo> for WireInfo {
    fn from(info: &SessionInfo) -> Self {
        Self {
            key: info.key,
            user: info.user,
            created_at: info.created_at,
            last_accessed_at: info.last_accessed_at,
            expires_at: info.expires_at,
            absolute_deadline: info.absolute_deadline,
        }
    }
}

impl From<WireInfo> for SessionInfo {
    fn from(info: WireInfo) -> Self {
        Self {
            key: info.key,
            user: info.user,
            label: None,
            created_at: info.created_at,
            last_accessed_at: info.last_accessed_at,
            expires_at: info.expires_at,
            absolute_deadline: info.absolute_deadline,
        }
    }
}
