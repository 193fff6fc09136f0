//! The attempts of one request, and what is known after the last one.

use crate::store::redis::error::RedisError;
use crate::store::redis::request::RequestOptions;
use crate::store::redis::url::Address;

/// The failure of a request.
#[derive(Debug)]
pub(super) struct RequestError {
    pub(super) error: RedisError,
    /// A write may have taken effect.
    pub(super) uncertain: bool,
}

/// The results of the attempts so far.
#[derive(Debug, Default)]
pub(super) struct AttemptState {
    pub(super) options: RequestOptions,
    /// The server to which the last one redirects for one request.
    pub(super) redirect: Option<Address>,
    /// The last server to which the request was sent.
    pub(super) last_server: Option<Address>,
    pub(super) redirects: usize,
    pub(super) last_error: Option<RedisError>,
}

impl AttemptState {
    pub(super) fn into_request_error(self, error: RedisError) -> RequestError {
        let uncertain = self.options.retry;
        RequestError { error, uncertain }
    }
}
