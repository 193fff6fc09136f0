//! Sessions that exist before the first request of a test.

use std::fmt;
use std::time::Duration;

use http::header::COOKIE;
use http::{HeaderValue, Request};

use crate::error::StoreError;
use crate::session::Storable;
use crate::session::{Changes, Login, Outcome, SessionId, UserKey, Value, codec};
use crate::store::SessionStore;
use crate::store::users::{self, NewLogin};

/// A session with given attributes and a given user, for tests of handlers that need one: a handler
/// behind a role check is tested without a login.
///
/// ```
/// # #[cfg(all(feature = "axum", feature = "memory"))] {
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use axum::{Router, body::Body, http::{Request, StatusCode}, routing::get};
/// use distributable::testing::TestSession;
/// use distributable::{MemoryStore, Session, SessionLayer};
/// use tower::ServiceExt;
///
/// async fn admin(session: Session) -> StatusCode {
///     match session.get::<String>("role") {
///         Ok(Some(role)) if role == "admin" => StatusCode::OK,
///         _ => StatusCode::FORBIDDEN,
///     }
/// }
///
/// let store = MemoryStore::new();
/// let app: Router = Router::new()
///     .route("/admin", get(admin))
///     .layer(SessionLayer::new(store.clone()));
///
/// let request = Request::get("/admin").body(Body::empty())?;
/// let request = TestSession::new().with("role", "admin").request(&store, request).await?;
/// assert_eq!(app.oneshot(request).await?.status(), StatusCode::OK);
/// # Ok(())
/// # }
/// # main().unwrap();
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct TestSession {
    attributes: Vec<(String, Value)>,
    user: Option<UserKey>,
    idle: Option<Duration>,
    absolute_timeout: Duration,
    cookie: String,
}

impl TestSession {
    /// A session without attributes, with the lifetimes of a
    /// [`SessionLayer`](crate::SessionLayer) that nothing was set for.
    pub fn new() -> Self {
        Self {
            attributes: Vec::new(),
            user: None,
            idle: Some(IDLE),
            absolute_timeout: ABSOLUTE,
            cookie: "JSESSIONID".to_owned(),
        }
    }

    /// Adds an attribute.
    ///
    /// # Panics
    ///
    /// When the value cannot be stored in a session.
    pub fn with<T: Storable + ?Sized>(mut self, name: &str, value: &T) -> Self {
        let value = codec::encode(value, usize::MAX)
            .unwrap_or_else(|error| panic!("attribute `{name}`: {error}"));
        self.attributes.push((name.to_owned(), value));
        self
    }

    /// Logs a user in, as [`Session::log_in`](crate::Session::log_in) does.
    pub fn with_user(mut self, user: impl Into<UserKey>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Sets the idle timeout; `None`: no limit.
    pub const fn with_idle_timeout(mut self, idle: Option<Duration>) -> Self {
        self.idle = idle;
        self
    }

    /// Sets the absolute timeout.
    pub const fn with_absolute_timeout(mut self, absolute_timeout: Duration) -> Self {
        self.absolute_timeout = absolute_timeout;
        self
    }

    /// Sets the name of the cookie of [`request`](Self::request). Defaults to `JSESSIONID`.
    pub fn with_cookie_name(mut self, name: impl Into<String>) -> Self {
        self.cookie = name.into();
        self
    }

    /// Stores the session. Its cookie's value is [`expose`](SessionId::expose).
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn create<S: SessionStore>(&self, store: &S) -> Result<SessionId, StoreError> {
        let id = store.new_id();
        let mut changes = Changes::create(id.hash(), self.idle, self.absolute_timeout);
        for (name, value) in &self.attributes {
            changes.insert(name.as_str().into(), value.clone());
        }
        if self.user.is_some() {
            changes.log_in(Login {
                user: self.user,
                absolute_timeout: self.absolute_timeout,
            });
        }
        let outcome = store.commit(&id.key(), None, changes).await?;
        let Outcome::Committed(record) = outcome else {
            return Err(StoreError::corrupt("a new session was not created"));
        };
        if let Some(user) = self.user {
            let login = NewLogin {
                user,
                key: id.key(),
                label: None,
                absolute_timeout: self.absolute_timeout,
                record,
                max_sessions: usize::MAX,
            };
            users::register(store, login).await?;
        }
        Ok(id)
    }

    /// Stores the session, and adds its cookie to a request.
    ///
    /// # Errors
    ///
    /// When the store fails.
    ///
    /// # Panics
    ///
    /// When the cookie's name cannot be sent in a header.
    pub async fn request<S: SessionStore, B>(
        &self,
        store: &S,
        mut request: Request<B>,
    ) -> Result<Request<B>, StoreError> {
        let id = self.create(store).await?;
        let mut line = HeaderValue::try_from(format!("{}={}", self.cookie, id.expose()))
            .expect("a cookie's name consists of visible ASCII characters");
        line.set_sensitive(true);
        request.headers_mut().append(COOKIE, line);
        Ok(request)
    }
}

impl Default for TestSession {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for TestSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.attributes.iter().map(|(name, _)| name).collect();
        f.debug_struct("TestSession")
            .field("names", &names)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, feature = "memory"))]
mod tests {
    use super::*;
    use crate::MemoryStore;

    #[tokio::test]
    async fn a_session_has_its_attributes_its_user_and_its_lifetime() {
        let store = MemoryStore::new();
        let session = TestSession::new()
            .with("role", "admin")
            .with("n", &7)
            .with_user("ada")
            .with_idle_timeout(None)
            .with_cookie_name("shop");
        let request = session.request(&store, Request::new(())).await.unwrap();
        let line = &request.headers()[COOKIE];
        assert!(line.is_sensitive() && line.as_bytes().starts_with(b"shop="));
        let id = SessionId::parse(&line.as_bytes()[5..]).unwrap();
        let record = store.peek(&id.key()).await.unwrap().unwrap();
        assert_eq!(record.get("n").unwrap().decode::<u32>().unwrap(), 7);
        assert_eq!(record.user(), Some(UserKey::of("ada")));
        assert_eq!(record.idle_timeout(), None);
        assert_eq!(store.sessions_of("ada").await.unwrap().len(), 1);
        assert!(!format!("{session:?}").contains("admin"));
    }
}

const IDLE: Duration = Duration::from_secs(30 * 60);
const ABSOLUTE: Duration = Duration::from_secs(24 * 60 * 60);
