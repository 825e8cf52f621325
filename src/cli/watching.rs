//! `--admin`: how a running process is watched.

use std::net::SocketAddr;
use std::sync::Arc;

use super::failure::impossible;
use super::signal::listen_address;
use crate::admin::{Admin, Watched};

/// Where to tell how it is.
#[derive(Debug, clap::Args)]
pub(crate) struct Watching {
    /// Answer over HTTP here: /healthz, and /metrics for Prometheus. There is no login: keep to
    /// 127.0.0.1. Port 0 takes one that is free, and says which
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = listen_address)]
    admin: Option<SocketAddr>,
}

impl Watching {
    /// The admin server, which lives as long as what is returned; none if none was asked for.
    pub(crate) async fn start(&self, watched: Arc<dyn Watched>) -> anyhow::Result<Option<Admin>> {
        match self.admin {
            Some(listen) => {
                let started = Admin::start(listen, watched).await;
                started.map(Some).map_err(impossible)
            }
            None => Ok(None),
        }
    }
}
