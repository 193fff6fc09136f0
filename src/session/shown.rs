//! Serialized form of what administration sees: keys as text, times in milliseconds.

use std::fmt::Display;

use serde::{Serialize, Serializer};

use crate::session::{Timestamp, UserKey};

/// Serializes a value as the text that `Display` shows.
pub(super) fn text<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// Serializes the key of a user as text, or that there is none.
pub(super) fn user<S: Serializer>(
    user: &Option<UserKey>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    user.map(|user| user.to_string()).serialize(serializer)
}

/// Serializes a time as milliseconds since the Unix epoch, and the end of time as no time.
pub(super) fn time<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    let is_finite = *time != Timestamp::NEVER;
    is_finite.then(|| time.as_millis()).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use crate::session::{Root, SessionCursor, SessionInfo, SessionPage, Timestamp, UserKey};

    #[test]
    fn a_page_is_plain_json() {
        let info = SessionInfo {
            key: Root::from_bytes([0xab; 12]),
            user: Some(UserKey::from_bytes([1; 16])),
            label: Some("phone".into()),
            created_at: Timestamp::from_millis(1),
            last_accessed_at: Timestamp::from_millis(1_700_000_000_000),
            expires_at: Timestamp::from_millis(3),
            absolute_deadline: Timestamp::NEVER,
        };
        let anonymous = SessionInfo {
            user: None,
            label: None,
            ..info.clone()
        };
        let page = SessionPage::new(vec![info, anonymous], SessionCursor::parse("0f"));
        let user = "01".repeat(16);
        let key = "ab".repeat(12);
        let rest = "\"created_at\":1,\"last_accessed_at\":1700000000000,\"expires_at\":3,\
                    \"absolute_deadline\":null}";
        let expected = format!(
            "{{\"sessions\":[{{\"key\":\"{key}\",\"user\":\"{user}\",\"label\":\"phone\",{rest},\
             {{\"key\":\"{key}\",\"user\":null,\"label\":null,{rest}],\"next\":\"0f\"}}"
        );
        assert_eq!(serde_json::to_string(&page).unwrap(), expected);
        let last = serde_json::to_string(&SessionPage::default()).unwrap();
        assert_eq!(last, "{\"sessions\":[],\"next\":null}");
    }
}
