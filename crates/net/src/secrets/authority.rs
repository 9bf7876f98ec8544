//! The authority that signs for names in the place of their owners. Guests trust it, nobody else does.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pod_types::ErrorChain;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData as _, SerialNumber,
};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::ServerCertVerifier as _;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{self, RootCertStore};

const DAY: Duration = Duration::from_hours(24);

/// Guests' clocks may be behind: one that was frozen sets its clock only after it runs again.
const BEFORE: Duration = DAY.saturating_mul(7);

/// Longer than anybody keeps a connection, shorter than anybody would want a stolen one to be good.
const LEAF_FOR: Duration = DAY.saturating_mul(30);

const AUTHORITY_FOR: Duration = DAY.saturating_mul(3650);

/// A certificate and its key, both as PEM.
pub struct AuthorityPem {
    /// For guests to trust.
    pub certificate: String,
    /// For the network process alone.
    pub key: String,
}

/// Signs for names.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Of all leaves: a key for each would protect nothing more, since all are in this process.
    leaf_key: KeyPair,
}

/// A certificate for one name.
pub(super) struct Leaf {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) key: PrivatePkcs8KeyDer<'static>,
}

#[derive(Debug, Error)]
pub enum AuthorityError {
    #[error("cannot make a key or a certificate")]
    Make(#[source] rcgen::Error),
    #[error("the authority's key cannot be read")]
    Key(#[source] rcgen::Error),
    #[error("the authority's certificate cannot be read: it is no PEM of one")]
    Certificate,
    #[error(
        "the authority's certificate does not verify what its key signs, or it was not made by this program: {0}"
    )]
    Unfit(String),
}

impl std::fmt::Debug for AuthorityPem {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("AuthorityPem")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// Makes an authority for one host, once.
///
/// # Errors
/// The system has no randomness.
pub fn generate_authority() -> Result<AuthorityPem, AuthorityError> {
    let key = KeyPair::generate().map_err(AuthorityError::Make)?;
    let mut params = authority_params(&key);
    let now = SystemTime::now();
    params.not_before = (now - BEFORE).into();
    params.not_after = (now + AUTHORITY_FOR).into();
    let certificate = params.self_signed(&key).map_err(AuthorityError::Make)?;
    Ok(AuthorityPem {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

/// All that a leaf needs of its issuer follows from the issuer's key, its name too: so no certificate has to be taken
/// apart, and two hosts' authorities never have one name.
fn authority_params(key: &KeyPair) -> CertificateParams {
    let digest = Sha256::digest(key.der_bytes());
    let short: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("Podflare sandboxes {short}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

impl Authority {
    /// # Errors
    /// Certificate and key do not belong together, or are not from [`generate_authority`].
    pub fn from_pem(pem: &AuthorityPem) -> Result<Self, AuthorityError> {
        let certificate = CertificateDer::from_pem_slice(pem.certificate.as_bytes())
            .map_err(|_| AuthorityError::Certificate)?;
        let key = KeyPair::from_pem(&pem.key).map_err(AuthorityError::Key)?;
        let authority = Self {
            issuer: Issuer::new(authority_params(&key), key),
            leaf_key: KeyPair::generate().map_err(AuthorityError::Make)?,
        };
        authority.check(certificate)?;
        Ok(authority)
    }

    /// Sees whether a guest that trusts the certificate would take what is signed here.
    fn check(&self, certificate: CertificateDer<'static>) -> Result<(), AuthorityError> {
        let unfit = |error: &dyn std::error::Error| AuthorityError::Unfit(ErrorChain(error).to_string());
        let leaf = self.leaf("probe.example").map_err(AuthorityError::Make)?;
        let mut roots = RootCertStore::empty();
        roots.add(certificate).map_err(|error| unfit(&error))?;
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let verifier = verifier.map_err(|error| unfit(&error))?;
        let name = ServerName::try_from("probe.example").map_err(|error| unfit(&error))?;
        let verified = verifier.verify_server_cert(&leaf.certificate, &[], &name, &[], UnixTime::now());
        verified.map(drop).map_err(|error: rustls::Error| unfit(&error))
    }

    pub(super) fn leaf(&self, name: &str) -> Result<Leaf, rcgen::Error> {
        let now = SystemTime::now();
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        // Readers go by the alternative name; the common name is at most 64 characters long.
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, "Podflare sandbox connection");
        // Of one issuer no two have the same, and by default it would follow from the key, which all leaves share.
        let mut serial = [0; 16];
        getrandom::fill(&mut serial).map_err(|_| rcgen::Error::RingUnspecified)?;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.not_before = (now - BEFORE).into();
        params.not_after = (now + LEAF_FOR).into();
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&self.leaf_key, &self.issuer)?;
        Ok(Leaf {
            certificate: certificate.der().clone(),
            key: PrivatePkcs8KeyDer::from(self.leaf_key.serialize_der()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_can_be_used_after_it_was_written_down() {
        let pem = generate_authority().unwrap();
        Authority::from_pem(&pem).unwrap();
        assert!(!format!("{pem:?}").contains("PRIVATE"));
    }

    #[test]
    fn no_two_leaves_are_the_same_even_for_one_name() {
        let authority = Authority::from_pem(&generate_authority().unwrap()).unwrap();
        let leaf = || authority.leaf("a.example").unwrap().certificate;
        // The serial number follows the version, at the beginning.
        assert_ne!(leaf()[..40], leaf()[..40]);
    }

    #[test]
    fn a_key_and_a_certificate_of_two_authorities_are_refused() {
        let (one, two) = (generate_authority().unwrap(), generate_authority().unwrap());
        let mixed = AuthorityPem {
            certificate: one.certificate,
            key: two.key,
        };
        let error = Authority::from_pem(&mixed).unwrap_err();
        assert!(matches!(error, AuthorityError::Unfit(_)), "{error}");
        let none = AuthorityPem {
            certificate: String::new(),
            key: mixed.key,
        };
        let error = Authority::from_pem(&none).unwrap_err();
        assert!(matches!(error, AuthorityError::Certificate), "{error}");
    }
}
