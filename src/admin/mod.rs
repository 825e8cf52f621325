//! What an operator asks a running process over HTTP: is it well (`/healthz`), and what has it
//! counted (`/metrics`).
//!
//! [`Admin`] is the server; what it tells comes from a [`Watched`]: [`AgentWatch`] or [`ServerWatch`].
//! It only reads, and it answers nobody anything about whom: all labels are names of this program
//! (`&'static str`), so that no peer can put text, or ever more series, into somebody's monitoring.
//!
//! For loopback. There is no login and no TLS; who can reach it learns how much is said, to nobody
//! named. Each connection is for one request, so that a few places suffice.

mod agent;
mod page;
mod server;
mod visit;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

pub use agent::AgentWatch;
pub use page::Page;
pub use server::ServerWatch;

use visit::Door;

/// What can be asked about.
pub trait Watched: Send + Sync + 'static {
    /// Whether it does what it is for.
    ///
    /// # Errors
    /// Why it does not.
    fn health(&self) -> Result<(), &'static str>;

    /// What it has counted and holds.
    fn page(&self) -> Page;
}

/// A running admin server. Dropping it ends it at once.
#[derive(Debug)]
pub struct Admin {
    local_addr: SocketAddr,
    _task: JoinSet<()>,
}

/// Why it could not be started.
#[derive(Debug, thiserror::Error)]
#[error(
    "--admin: cannot listen on {listen}: {source}; choose another address or port, such as 127.0.0.1:0 for one that is free"
)]
pub struct AdminError {
    /// Where it should listen.
    pub listen: SocketAddr,
    /// What the operating system said.
    pub source: io::Error,
}

impl Admin {
    /// Listens, and answers until it is dropped. To be called within a tokio runtime.
    ///
    /// # Errors
    /// [`AdminError`], which says what to do.
    pub async fn start(listen: SocketAddr, watched: Arc<dyn Watched>) -> Result<Self, AdminError> {
        let failed = |source| AdminError { listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let local_addr = listener.local_addr().map_err(failed)?;
        tracing::info!(address = %local_addr, "admin: http://{local_addr}/healthz and /metrics");
        if !local_addr.ip().is_loopback() {
            tracing::warn!(
                address = %local_addr,
                reason = "not a loopback address",
                "--admin is open to the network, without login or TLS: whoever reaches it reads the metrics; \
                 listen on 127.0.0.1, or let nobody but the monitoring through to it"
            );
        }
        let routes = Router::new()
            .route("/healthz", get(healthz))
            .route("/metrics", get(metrics))
            .fallback(async || {
                (
                    StatusCode::NOT_FOUND,
                    "there are /healthz and /metrics here\n",
                )
            })
            .with_state(watched);
        let mut task = JoinSet::new();
        task.spawn(async move {
            // It never ends by itself, and an error of `accept` is waited out.
            let _ = axum::serve(Door::new(listener), routes).await;
        });
        Ok(Self {
            local_addr,
            _task: task,
        })
    }

    /// The address it listens on, with the port that was free if 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }
}

async fn healthz(State(watched): State<Arc<dyn Watched>>) -> impl IntoResponse {
    let (status, text) = match watched.health() {
        Ok(()) => (StatusCode::OK, "ok"),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
    };
    let type_ = "text/plain; charset=utf-8";
    (status, headers(type_), format!("{text}\n"))
}

async fn metrics(State(watched): State<Arc<dyn Watched>>) -> impl IntoResponse {
    let healthy = watched.health().is_ok();
    let text = watched.page().finish(healthy);
    (headers(prometheus::TEXT_FORMAT), text)
}

/// One request each: who asks again comes again, and nobody keeps a place.
fn headers(type_: &'static str) -> [(header::HeaderName, &'static str); 3] {
    [
        (header::CONTENT_TYPE, type_),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONNECTION, "close"),
    ]
}

#[cfg(test)]
mod tests;
