//! Typed access to one attribute of a request's session, as an argument of a handler.

use std::error::Error;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::thread;

use http::request::Parts;
use tracing::warn;

use crate::error::{SessionError, SessionErrorKind};
use crate::middleware::session::{Session, decode};
use crate::middleware::state::Origin;
use crate::session::Value;
use crate::session::attribute::SessionAttribute;

/// One attribute of the visitor's session, read when it is extracted.
///
/// The type names the attribute: see [`SessionAttribute`]. Extracting it counts as a use of the
/// session, as extracting the [`Session`] does, and changes nothing in it.
///
/// ```
/// # #[cfg(feature = "axum")] {
/// use distributable::{Attribute, SessionAttribute, SessionData};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Deserialize, Serialize)]
/// struct Profile {
///     name: String,
/// }
///
/// impl SessionAttribute for Profile {
///     const ATTRIBUTE: Attribute<Self> = Attribute::new("profile");
/// }
///
/// async fn profile(SessionData(profile): SessionData<Profile>) -> String {
///     profile.name
/// }
///
/// async fn greeting(profile: Option<SessionData<Profile>>) -> String {
///     let name = profile.as_ref().map_or("stranger", |profile| &profile.name);
///     format!("welcome, {name}")
/// }
/// # let _: axum::Router = axum::Router::new()
/// #     .route("/profile", axum::routing::get(profile))
/// #     .route("/", axum::routing::get(greeting));
/// # }
/// ```
///
/// # Rejection
///
/// Without the attribute the rejection is a [`SessionError`] of the kind
/// [`NoAttribute`](SessionErrorKind::NoAttribute), a response with status 409;
/// `Option<SessionData<T>>` is `None` then. To answer with something else, such as a redirect to
/// the login page, take `Result<SessionData<T>, SessionError>`, or convert the rejection with
/// `WithRejection` of axum-extra or with `#[from_request(via(SessionData), rejection(MyError))]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionData<T>(pub T);

/// One attribute of the visitor's session that the handler may change, stored with the response if
/// it was changed.
///
/// The type names the attribute: see [`SessionAttribute`]. If the session does not have the
/// attribute, the value is `T::default()`. The value is staged when it is dropped, usually at the
/// end of the handler, if it was borrowed mutably and is then encoded differently. A default that
/// was not changed creates no attribute and no session.
///
/// ```
/// # #[cfg(all(feature = "axum", feature = "memory"))] {
/// use axum::{Router, extract::Path, routing::post};
/// use distributable::{Attribute, MemoryStore, SessionAttribute, SessionDataMut, SessionLayer};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Default, Deserialize, Serialize)]
/// struct Cart {
///     items: Vec<String>,
/// }
///
/// impl SessionAttribute for Cart {
///     const ATTRIBUTE: Attribute<Self> = Attribute::new("cart");
/// }
///
/// async fn add(mut cart: SessionDataMut<Cart>, Path(item): Path<String>) -> String {
///     cart.items.push(item);
///     format!("{} in the cart", cart.items.len())
/// }
///
/// let app: Router = Router::new()
///     .route("/add/{item}", post(add))
///     .layer(SessionLayer::new(MemoryStore::new()));
/// # }
/// ```
///
/// # Concurrent requests
///
/// The value is stored only if the attribute is still the one that was read. If another request has
/// written it meanwhile, nothing that this request has staged is stored, and the client receives
/// [`Conflict`](SessionErrorKind::Conflict) (409) in place of the handler's response: no request
/// overwrites what it has not seen. The handler is not run again, because it may have done other
/// work. Where requests of one session often write one attribute at the same time, use
/// [`update`](Session::update) or [`update_with`](Session::update_with), which repeat their closure
/// instead.
///
/// The same error results if the handler itself writes the attribute in another way while it holds
/// this. Two of these in one handler are stored one after the other, together with the request's
/// other writes in the first step; if the second conflicts, the first stays. Put what must change
/// together into one type.
///
/// # When it is not stored
///
/// - The handler panics. What it has changed may be half done, so it is dropped even if an inner
///   layer catches the panic.
/// - The session is [invalidated](Session::invalidate) before it is dropped.
/// - It is dropped after the response is sent, for example in a task. That is logged as a warning.
///
/// An inner layer that cuts the handler off drops it as the end of the handler does, and what was
/// changed until then is stored: see [`SessionLayer`](crate::SessionLayer#timeouts) for how to
/// prevent that.
///
/// If the value cannot be encoded or is too large, the client receives that error in place of the
/// handler's response. [`Session::save`] stores the value early, after it was dropped, and returns
/// these errors to the handler.
pub struct SessionDataMut<T: SessionAttribute> {
    value: T,
    is_borrowed: bool,
    /// The encoding with which nothing is to be stored.
    unchanged: Option<Value>,
    origin: Origin,
    session: Session,
}

impl<T: SessionAttribute> SessionData<T> {
    /// Returns the attribute of the request with this head. The axum extractor calls this; other
    /// frameworks can call it directly.
    ///
    /// # Errors
    ///
    /// As [`Session::from_parts`] and [`Session::get`]; and
    /// [`NoAttribute`](SessionErrorKind::NoAttribute) if the session does not have the attribute,
    /// or if there is no session.
    ///
    /// # Cancel safety
    ///
    /// As [`Session::from_parts`].
    pub async fn from_parts(parts: &Parts) -> Result<Self, SessionError> {
        let session = Session::from_parts(parts).await?;
        let value = session.get(T::ATTRIBUTE)?;
        value.map(Self).ok_or_else(|| {
            let name = T::ATTRIBUTE.name();
            SessionError::from(SessionErrorKind::NoAttribute).with_attribute(name)
        })
    }
}

impl<T: SessionAttribute + Default> SessionDataMut<T> {
    /// Returns the attribute of the request with this head. The axum extractor calls this; other
    /// frameworks can call it directly.
    ///
    /// # Errors
    ///
    /// As [`Session::from_parts`] and [`Session::get`].
    ///
    /// # Cancel safety
    ///
    /// As [`Session::from_parts`].
    pub async fn from_parts(parts: &Parts) -> Result<Self, SessionError> {
        let session = Session::from_parts(parts).await?;
        let name = T::ATTRIBUTE.name();
        let origin = session.state().origin(name);
        let (value, unchanged) = match decode(name, origin.value.clone())? {
            Some(value) => (value, origin.value.clone()),
            None => {
                let value = T::default();
                let unchanged = session.encode(name, &value).ok();
                (value, unchanged)
            }
        };
        Ok(Self {
            value,
            is_borrowed: false,
            unchanged,
            origin,
            session,
        })
    }
}

impl<T: SessionAttribute> SessionDataMut<T> {
    fn stage(&self) -> Result<(), SessionError> {
        let name = T::ATTRIBUTE.name();
        let value = self.session.encode(name, &self.value)?;
        if self.unchanged.as_ref() == Some(&value) {
            return Ok(());
        }
        let mut state = self.session.state();
        state.write_from(&self.origin, name, value, self.session.config())
    }
}

impl<T: SessionAttribute> Drop for SessionDataMut<T> {
    fn drop(&mut self) {
        if !self.is_borrowed || thread::panicking() {
            return;
        }
        let Err(error) = self.stage() else { return };
        let lost = self.session.state().fail(error);
        if let Some(error) = lost {
            let (key, attribute) = (self.session.key(), T::ATTRIBUTE.name());
            warn!(
                ?key,
                attribute,
                cause = &error as &dyn Error,
                "a session attribute was changed too late and is not stored"
            );
        }
    }
}

impl<T> Deref for SessionData<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: SessionAttribute> Deref for SessionDataMut<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: SessionAttribute> DerefMut for SessionDataMut<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.is_borrowed = true;
        &mut self.value
    }
}

impl<T: SessionAttribute + fmt::Debug> fmt::Debug for SessionDataMut<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SessionDataMut").field(&self.value).finish()
    }
}
