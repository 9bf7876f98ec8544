//! The real host: connecting to it, and being sure that it is it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use egress::Name;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};
use tokio_util::sync::CancellationToken;

use super::ALPN;
use super::gate::{Activity, Gate};

/// For each address.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);

/// Whose certificates are believed: the roots of Mozilla, which are compiled in, and the operator's own.
#[derive(Clone, Debug)]
pub struct Trust(RootCertStore);

#[derive(Debug, Error)]
pub enum TrustError {
    #[error("it is no PEM of certificates")]
    Pem,
    #[error("it has no certificate in it")]
    Empty,
    #[error("a certificate in it is not valid")]
    Certificate(#[source] rustls::Error),
}

/// As a guest is told.
#[derive(Debug, Error)]
pub(super) enum UpstreamError {
    #[error("cannot connect to it")]
    Connect(#[source] io::Error),
    #[error("its certificate is not trusted")]
    Certificate(#[source] rustls::Error),
    #[error("it does not speak TLS with us")]
    Handshake(#[source] io::Error),
    #[error("its name cannot be in a certificate")]
    Name,
}

pub(super) type Stream = TlsStream<Gate<TcpStream>>;

impl Default for Trust {
    fn default() -> Self {
        Self(RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        })
    }
}

impl Trust {
    /// Believes these, too.
    ///
    /// # Errors
    /// Something in it is no certificate.
    pub fn with_pem(mut self, pem: &[u8]) -> Result<Self, TrustError> {
        let before = self.0.len();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|_| TrustError::Pem)?;
            self.0.add(certificate).map_err(TrustError::Certificate)?;
        }
        if self.0.len() == before {
            return Err(TrustError::Empty);
        }
        Ok(self)
    }

    pub(super) fn connector(self) -> Result<TlsConnector, rustls::Error> {
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.0)
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        // A host that cannot tell tenants apart by their addresses shall not by a resumed session either.
        config.resumption = Resumption::disabled();
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

/// Connects to the first of these addresses that answers, and has it prove its name.
pub(super) async fn connect(
    connector: &TlsConnector,
    name: &Name,
    (candidates, port): (&[IpAddr], u16),
    (end, activity): (&CancellationToken, &Activity),
) -> Result<Stream, UpstreamError> {
    let server = ServerName::try_from(name.as_str().to_owned()).map_err(|_| UpstreamError::Name)?;
    let socket = connect_to_any(candidates, port)
        .await
        .map_err(UpstreamError::Connect)?;
    let gate = Gate {
        inner: socket,
        end: end.clone(),
        activity: activity.clone(),
    };
    match timeout(HANDSHAKE_PATIENCE, connector.connect(server, gate)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(of_handshake(error)),
        Err(_) => Err(UpstreamError::Handshake(io::ErrorKind::TimedOut.into())),
    }
}

async fn connect_to_any(candidates: &[IpAddr], port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in candidates {
        let connecting = TcpStream::connect(SocketAddr::new(*address, port));
        match timeout(CONNECT_PATIENCE, connecting).await {
            Ok(Ok(socket)) => {
                socket.set_nodelay(true)?;
                return Ok(socket);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

fn of_handshake(error: io::Error) -> UpstreamError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(why @ rustls::Error::InvalidCertificate(_)) => UpstreamError::Certificate(why.clone()),
        _ => UpstreamError::Handshake(error),
    }
}
