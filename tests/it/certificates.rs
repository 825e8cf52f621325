//! Certificates for tests: an authority made on the spot, and what it signs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, Issuer, KeyPair, date_time_ymd,
};

/// A private authority. It believes in itself only: no system knows it.
pub(crate) struct Authority {
    /// Its certificate, PEM: what `--ca` and `Trust::authority` want.
    pub(crate) path: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, as files.
pub(crate) struct Shown {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// When a certificate is valid.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Valid {
    Now,
    NoLonger,
    NotYet,
}

impl Authority {
    /// A new one of this name, whose certificate goes into `folder` as `FILE.pem`.
    pub(crate) fn new(folder: &Path, file: &str, name: &str) -> Self {
        let mut params = authority_params();
        let key = KeyPair::generate().unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let path = folder.join(format!("{file}.pem"));
        fs::write(&path, params.self_signed(&key).unwrap().pem()).unwrap();
        let issuer = Issuer::new(params, key);
        Self { path, issuer }
    }

    /// A certificate of a server with these names, and its key, as `NAME.crt` and `NAME.key`
    /// beside that of the authority.
    pub(crate) fn certify(&self, name: &str, names: &[&str], valid: Valid) -> Shown {
        let names: Vec<String> = names.iter().map(|&name| name.into()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        (params.not_before, params.not_after) = match valid {
            Valid::Now => (date_time_ymd(2000, 1, 1), date_time_ymd(4000, 1, 1)),
            Valid::NoLonger => (date_time_ymd(2000, 1, 1), date_time_ymd(2001, 1, 1)),
            Valid::NotYet => (date_time_ymd(3999, 1, 1), date_time_ymd(4000, 1, 1)),
        };
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        write(self.path.with_file_name(name), &cert.pem(), &key)
    }
}

/// The certificate of an authority, to be shown as if it were that of a server.
pub(crate) fn authority_as_server(folder: &Path) -> Shown {
    let key = KeyPair::generate().unwrap();
    let cert = authority_params().self_signed(&key).unwrap();
    write(folder.join("self"), &cert.pem(), &key)
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn write(path: PathBuf, cert: &str, pair: &KeyPair) -> Shown {
    let (cert_path, key) = (path.with_extension("crt"), path.with_extension("key"));
    fs::write(&cert_path, cert).unwrap();
    fs::write(&key, pair.serialize_pem()).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    Shown {
        cert: cert_path,
        key,
    }
}
