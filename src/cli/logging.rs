//! Log lines on standard error.

use std::io;

use anyhow::anyhow;
use clap::ValueEnum;
use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::prelude::*;

use super::failure::unusable;
use super::{Globals, output};

/// How log lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    #[default]
    Text,
    /// One JSON object per line
    Json,
}

/// Starts logging. `RUST_LOG` overrides `-v`.
pub(super) fn start(globals: &Globals) -> anyhow::Result<()> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(directives) if !directives.is_empty() => EnvFilter::try_new(&directives).map_err(|err| {
            unusable(anyhow!(
                "the environment variable RUST_LOG is `{directives}`: {err}; expected directives such as `info` or `ifswarm=debug`"
            ))
        })?,
        _ => EnvFilter::new(directives(globals.verbose)),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        // It would panic where standard error is a terminal that was closed.
        .log_internal_errors(false)
        .with_ansi(output::color(globals, &io::stderr()));
    let discreet = filter_fn(|metadata| is_discreet(metadata.target(), *metadata.level()));
    match globals.log_format {
        LogFormat::Text => builder.finish().with(discreet).init(),
        LogFormat::Json => builder.json().finish().with(discreet).init(),
    }
    Ok(())
}

/// Whatever `RUST_LOG` says: these libraries show whole frames and the passwords of ICE below `info`.
fn is_discreet(target: &str, level: Level) -> bool {
    level <= Level::INFO || !TALKATIVE.iter().any(|library| target.starts_with(library))
}

/// The WebRTC stack warns of much that is harmless, so that only its errors are shown. What a program
/// under `agent --exec` says on standard error is for its owner to see; so is where `--admin` answers.
fn directives(verbose: u8) -> &'static str {
    match verbose {
        0 => "error,ifswarm=warn,ifswarm::exec=info,ifswarm::admin=info",
        1 => "error,ifswarm=info",
        2 => "error,ifswarm=debug",
        _ => "error,ifswarm=trace",
    }
}

/// By the beginning of their targets: WebSocket, the WebRTC stack and all its parts, TLS.
const TALKATIVE: &[&str] = &["tungstenite", "rtc", "webrtc", "rustls"];
