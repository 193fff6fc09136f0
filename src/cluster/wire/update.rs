//! Encoding of a change that is ordered by the session's owner.

use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::cluster::replica::message::{OpId, Operation, UpdateRequest, ViewId};
use crate::session::{Login, Root, Rotation, SecretHash, Timestamp, Version};

use crate::cluster::wire::WireError;
use crate::cluster::wire::record::{INVALID, WireDelta, WireRecord, attribute_name};

#[derive(Serialize, Deserialize)]
struct WireUpdate<'a> {
    view: ViewId,
    op: OpId,
    key: Root,
    retry: bool,
    sent_at: Timestamp,
    #[serde(borrow)]
    expect: Option<(&'a str, Option<Version>)>,
    #[serde(borrow)]
    delta: WireDelta<'a>,
    rotation: Option<WireRotation>,
    #[serde(borrow)]
    order: WireOperation<'a>,
}

#[derive(Serialize, Deserialize)]
#[expect(
    clippy::large_enum_variant,
    reason = "it lives for as long as one message is encoded or decoded"
)]
enum WireOperation<'a> {
    Update,
    Create(#[serde(borrow)] WireRecord<'a>),
    Delete,
}

#[derive(Serialize, Deserialize)]
struct WireRotation {
    from: SecretHash,
    to: SecretHash,
    login: Option<Login>,
}

impl Serialize for UpdateRequest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        WireUpdate::from(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for UpdateRequest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let update = WireUpdate::deserialize(deserializer)?;
        update
            .try_into()
            .map_err(|_: WireError| D::Error::custom(INVALID))
    }
}

impl<'a> From<&'a UpdateRequest> for WireUpdate<'a> {
    fn from(update: &'a UpdateRequest) -> Self {
        Self {
            view: update.view,
            op: update.op,
            key: update.key,
            retry: update.retry,
            sent_at: update.sent_at,
            expect: update
                .expect
                .as_ref()
                .map(|(name, version)| (&**name, *version)),
            delta: (&*update.delta).into(),
            rotation: update.rotation.map(WireRotation::from),
            order: match &update.order {
                Operation::Update => WireOperation::Update,
                Operation::Create(record) => WireOperation::Create((&**record).into()),
                Operation::Delete => WireOperation::Delete,
            },
        }
    }
}

impl TryFrom<WireUpdate<'_>> for UpdateRequest {
    type Error = WireError;

    fn try_from(update: WireUpdate<'_>) -> Result<Self, WireError> {
        let expect = update
            .expect
            .map(|(name, version)| Ok((attribute_name(name)?, version)));
        Ok(Self {
            view: update.view,
            op: update.op,
            key: update.key,
            retry: update.retry,
            sent_at: update.sent_at,
            expect: expect.transpose()?,
            delta: Arc::new(update.delta.try_into()?),
            rotation: update.rotation.map(Rotation::from),
            order: match update.order {
                WireOperation::Update => Operation::Update,
                WireOperation::Create(record) => Operation::Create(Arc::new(record.try_into()?)),
                WireOperation::Delete => Operation::Delete,
            },
        })
    }
}

impl From<Rotation> for WireRotation {
    fn from(rotation: Rotation) -> Self {
        Self {
            from: rotation.from,
            to: rotation.to,
            login: rotation.login,
        }
    }
}

impl From<WireRotation> for Rotation {
    fn from(rotation: WireRotation) -> Self {
        Self {
            from: rotation.from,
            to: rotation.to,
            login: rotation.login,
        }
    }
}
