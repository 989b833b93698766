//! By what a connection to a server tells what happens with it, and which server that is.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::Served;

/// What happens with a server; of another homeserver, its focus.
pub(in crate::calls) type Of = (Option<Arc<str>>, Served);

/// By what a connection tells what happens with its server.
#[derive(Clone)]
pub(in crate::calls) struct Tells {
    pub(in crate::calls) focus: Option<Arc<str>>,
    pub(in crate::calls) to: mpsc::Sender<Of>,
}

impl Tells {
    pub(super) async fn tell(&self, served: Served) {
        // Whoever is told is gone only when this is.
        self.to.send((self.focus.clone(), served)).await.ok();
    }
}
