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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic fails the test")]

    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::ServerConfig;
    use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

    use super::*;

    /// Speaks TLS with a server that has a certificate for `names` by an authority that is trusted,
    /// and returns what it says.
    async fn with_server(names: &[&str], target: Target) -> Result<String, Error> {
        let key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = authority.self_signed(&key).unwrap();
        let issuer = Issuer::new(authority, key);
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names).unwrap();
        let certificate = certificate.signed_by(&key, &issuer).unwrap();

        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            // A client that does not trust it hangs up.
            if let Ok(mut stream) = TlsAcceptor::from(Arc::new(config)).accept(stream).await {
                stream.write_all(b"pong").await.ok();
                stream.shutdown().await.ok();
            }
        });
        let mut roots = RootCertStore::empty();
        roots.add(root.der().clone()).unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let mut stream = secure_by(client(roots).unwrap(), stream, &target).await?;
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        server.await.unwrap();
        Ok(said)
    }

    #[tokio::test]
    async fn a_server_proves_to_be_the_one_that_was_asked_for() {
        let name = |name: &str| Target::Name(name.into(), 443);
        let local = Target::Address(([127, 0, 0, 1], 443).into());
        let said = with_server(&["a.example.com"], name("a.example.com")).await;
        assert_eq!(said.unwrap(), "pong");
        let said = with_server(&["127.0.0.1"], local.clone()).await;
        assert_eq!(said.unwrap(), "pong");
        for other in [name("b.example.com"), name("example.com"), local] {
            let refused = with_server(&["a.example.com"], other).await.unwrap_err();
            assert!(matches!(refused, Error::TlsCertificateError), "{refused}");
        }
    }
}
