//! Whose an OpenID token is, by the homeserver that gave it (client-server API v1.16, "OpenID").
//!
//! Our own homeserver is asked where we always reach it, without TLS and without names. Another one is
//! whoever a stranger says it is: see [`Public`].

use ruma::{OwnedServerName, OwnedUserId, ServerName, UserId};

use super::{
    federation::Federation,
    matrix::{Matrix, MatrixError, Userinfo},
    public::{Public, PublicError},
};

/// Why it is not known whose a token is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenIdError {
    /// The homeserver does not know it, or not any more.
    #[error("{0} does not know this OpenID token, or it has expired: ask for a new one")]
    Unknown(OwnedServerName),
    /// It says that it is somebody's of another homeserver, or of nobody.
    #[error("{0} may speak for its own users alone")]
    Foreign(OwnedServerName),
    /// Ours has no listener for this.
    #[error(
        "the homeserver does not say whose OpenID tokens are: its operator has to add `openid` to the \
         `resources` of its listener"
    )]
    NoListener,
    /// The name leads to no server that a stranger may name.
    #[error("{0} leads to no server of the open internet")]
    Private(OwnedServerName),
    /// It does not answer, or in no way that is understood: try again.
    #[error("{0} does not say whose OpenID token this is: {1}")]
    NoAnswer(OwnedServerName, String),
}

/// Asks homeservers.
#[derive(Debug, Clone)]
pub struct OpenId {
    own: Matrix,
    server: OwnedServerName,
    others: Federation,
}

impl OpenId {
    /// Asks `own`, whose users are of `server`, and others by `strangers`.
    pub fn new(own: Matrix, server: OwnedServerName, strangers: Public) -> Self {
        Self { own, server, others: Federation::new(strangers) }
    }

    /// Whether this is our own homeserver.
    pub fn is_ours(&self, server: &ServerName) -> bool {
        *server == *self.server
    }

    /// Whose `token` is, which `server` is to have given.
    ///
    /// # Errors
    /// [`OpenIdError`]
    pub async fn whose(
        &self,
        server: &ServerName,
        token: &str,
    ) -> Result<OwnedUserId, OpenIdError> {
        let said = if self.is_ours(server) {
            self.ask_own(token).await?
        } else {
            self.ask_other(server, token).await?
        };
        judged(server, &said.sub)
    }

    async fn ask_own(&self, token: &str) -> Result<Userinfo, OpenIdError> {
        let server = || self.server.clone();
        self.own.userinfo(token).await.map_err(|error| match error {
            MatrixError::UnknownToken | MatrixError::Refused(401, ..) => {
                OpenIdError::Unknown(server())
            }
            MatrixError::Refused(404 | 405, ..) => OpenIdError::NoListener,
            error => OpenIdError::NoAnswer(server(), error.to_string()),
        })
    }

    async fn ask_other(&self, server: &ServerName, token: &str) -> Result<Userinfo, OpenIdError> {
        let no_answer = |why: &str| OpenIdError::NoAnswer(server.to_owned(), why.to_owned());
        let refused = |error: PublicError| match error {
            PublicError::Private(_) => OpenIdError::Private(server.to_owned()),
            PublicError::NoAnswer => no_answer(&error.to_string()),
        };
        let path = "_matrix/federation/v1/openid/userinfo";
        match self.others.get(server, path, &[("access_token", token)]).await.map_err(refused)? {
            (200, body) => {
                serde_json::from_slice(&body).map_err(|_| no_answer("its answer is none"))
            }
            (401 | 403, _) => Err(OpenIdError::Unknown(server.to_owned())),
            (status, _) => Err(no_answer(&format!("it answers {status}"))),
        }
    }
}

/// Who it is, if `server` may say so.
fn judged(server: &ServerName, sub: &str) -> Result<OwnedUserId, OpenIdError> {
    let user = UserId::parse(sub).ok().filter(|user| user.server_name() == server);
    user.ok_or_else(|| OpenIdError::Foreign(server.to_owned()))
}

#[cfg(test)]
mod tests {
    use ruma::{ServerName, server_name};

    use super::{OpenId, OpenIdError, judged};
    use crate::{
        gateway::{matrix::Matrix, public::Public},
        secret::Secret,
    };

    #[test]
    fn a_homeserver_speaks_for_its_own_users_alone() {
        let server = server_name!("b.example");
        assert_eq!(judged(server, "@mia:b.example").unwrap(), "@mia:b.example");
        for sub in ["@mia:c.example", "@mia:b.example:8448", "@mia:sub.b.example", "mia", ""] {
            assert_eq!(judged(server, sub), Err(OpenIdError::Foreign(server.to_owned())), "{sub}");
        }
    }

    #[tokio::test]
    async fn whoever_names_a_server_of_this_machine_reaches_nothing() {
        let own = Matrix::new("http://127.0.0.1:9", Secret::new("as_token")).unwrap();
        let openid =
            OpenId::new(own, server_name!("b.example").to_owned(), Public::new(false).unwrap());
        for name in ["127.0.0.1", "127.0.0.1:8008", "[::1]:8448", "10.0.0.1:443", "2130706433:8448"]
        {
            let server = ServerName::parse(name).unwrap();
            let asked = openid.whose(&server, "token").await;
            assert_eq!(asked, Err(OpenIdError::Private(server.clone())), "{name}");
        }
        // A name is looked at when it is resolved.
        let server = server_name!("localhost:8008");
        let asked = openid.whose(server, "token").await;
        assert!(matches!(asked, Err(OpenIdError::NoAnswer(..))), "{asked:?}");
    }
}
