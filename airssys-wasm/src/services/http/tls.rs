//! TLS to servers that Mozilla's roots vouch for.

use std::io;
use std::sync::{Arc, LazyLock};

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};
use wasmtime_wasi_http::Error;

use super::target::Target;

/// Most bytes that wait to be encrypted, or to be sent.
const BUFFER_BYTES: usize = 16 * 1024;

static MOZILLA: LazyLock<Result<Arc<ClientConfig>, rustls::Error>> = LazyLock::new(|| {
    client(RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.into(),
    })
});

/// Sessions are not resumed: one component's would be told from another's by it.
fn client(roots: RootCertStore) -> Result<Arc<ClientConfig>, rustls::Error> {
    let versions = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?;
    let mut config = versions.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Speaks TLS with the target, which has to prove that it is the one.
///
/// # Errors
/// [`Error`].
pub(super) async fn secure(
    stream: TcpStream,
    target: &Target,
) -> Result<TlsStream<TcpStream>, Error> {
    let config = MOZILLA.as_ref().map_err(|_| Error::ConfigurationError)?;
    secure_by(Arc::clone(config), stream, target).await
}

async fn secure_by(
    config: Arc<ClientConfig>,
    stream: TcpStream,
    target: &Target,
) -> Result<TlsStream<TcpStream>, Error> {
    let name = match target {
        Target::Name(name, _) => ServerName::try_from(name.to_string()),
        Target::Address(address) => Ok(ServerName::from(address.ip())),
    };
    let name = name.map_err(|_| Error::HttpRequestUriInvalid)?;
    let connector = TlsConnector::from(config);
    let stream = connector.connect_with(name, stream, |session| {
        session.set_buffer_limit(Some(BUFFER_BYTES));
    });
    stream.await.map_err(|error| told(&error))
}

fn told(error: &io::Error) -> Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(rustls::Error::InvalidCertificate(_)) => Error::TlsCertificateError,
        Some(rustls::Error::AlertReceived(alert)) => Error::TlsAlertReceived {
            alert_id: Some(u8::from(*alert)),
            alert_message: None,
        },
        Some(_) => Error::TlsProtocolError,
        None => Error::ConnectionTerminated,
    }
}
