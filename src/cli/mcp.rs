//! `airssys mcp`: the components of a tree as tools, over standard input and output or over HTTP.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use airssys::mcp::{HttpOptions, Server, ServerOptions, Token};
use airssys::{HostBuilder, SystemConfig};

use super::error::{CliError, ExpectedError, Failure};
use super::output::Output;
use super::{Exit, McpArgs, start};

/// Environment variable with the token, where no file has it.
const TOKEN_VARIABLE: &str = "AIRSSYS_MCP_TOKEN";

/// Where clients over HTTP come in: open before the sandbox is up, which may forbid it.
pub(crate) struct Door {
    listener: TcpListener,
    options: HttpOptions,
}

impl Door {
    /// The door that the arguments ask for, if any.
    pub(super) fn open(args: &McpArgs) -> Result<Option<Self>, CliError> {
        let Some(address) = args.http else {
            return Ok(None);
        };
        let token = token(args)?;
        let may_leave = args.beyond_loopback && token.is_some();
        if !address.ip().is_loopback() && !may_leave {
            return Err(ExpectedError::BeyondLoopback { address }.into());
        }
        let failed = |source| Failure::Listen { address, source };
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Some(Self {
            listener,
            options: HttpOptions {
                token,
                allow_hosts: args.allow_hosts.clone(),
                allow_origins: args.allow_origins.clone(),
            },
        }))
    }
}

fn token(args: &McpArgs) -> Result<Option<Token>, ExpectedError> {
    let token = match &args.token_file {
        Some(path) => Token::from_file(path).map(Some),
        None => Token::from_environment(TOKEN_VARIABLE),
    };
    token.map_err(ExpectedError::Token)
}

/// An origin with its port, which the scheme may say.
pub(super) fn origin(text: &str) -> Result<String, &'static str> {
    let (scheme, authority) = text.split_once("://").unwrap_or(("", text));
    let after_host = authority.rsplit(']').next().unwrap_or(authority);
    let port = match scheme {
        _ if authority.is_empty() || authority.contains(['/', '*', '@', '?', '#']) => None,
        _ if after_host.contains(':') => Some(String::new()),
        "http" => Some(String::from(":80")),
        "https" => Some(String::from(":443")),
        _ => None,
    };
    match port {
        Some(port) if !scheme.is_empty() => Ok(format!("{text}{port}")),
        _ => Err("an origin is scheme://host:port, without a path"),
    }
}

pub(super) async fn mcp(
    args: &McpArgs,
    config: SystemConfig,
    door: Option<Door>,
    output: Output,
) -> Result<Exit, CliError> {
    let mut interrupt = start::interrupt()?;
    let what = args.file.display().to_string();
    let builder = HostBuilder::from(config);
    let Some(host) = start::start(builder, &what, &mut interrupt, output).await? else {
        return Ok(output.interrupted());
    };
    let host = Arc::new(host);
    let server = Server::with_options(
        Arc::clone(&host),
        ServerOptions {
            deadline: args.deadline_seconds.map(Duration::from_secs),
            progress_interval: Duration::from_millis(args.progress_ms),
            ..ServerOptions::default()
        },
    );
    let mut gave_up = None;
    let until = async {
        tokio::select! {
            cause = host.ended() => gave_up = cause,
            () = interrupt.asked() => {}
        }
    };
    let served = match door {
        None => server.stdio(until).await.map_err(Failure::Mcp),
        Some(door) => http(&server, door, output, until).await,
    };
    host.shutdown().await;
    served?;
    match gave_up {
        Some(cause) => Err(Failure::GaveUp(cause).into()),
        None => Ok(Exit::Ok),
    }
}

async fn http(
    server: &Server,
    door: Door,
    output: Output,
    until: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let Door { listener, options } = door;
    let address: SocketAddr = listener
        .local_addr()
        .map_err(|source| Failure::Serve { source })?;
    let listener =
        tokio::net::TcpListener::from_std(listener).map_err(|source| Failure::Serve { source })?;
    let whom = match options.token {
        Some(_) => "whoever shows the token",
        None => "every program of this machine",
    };
    output.note(&format!(
        "listening at http://{address}{} to {whom}; Ctrl-C stops it",
        airssys::mcp::PATH
    ));
    let served = server.http(listener, options, until);
    served.await.map_err(Failure::Mcp)
}
