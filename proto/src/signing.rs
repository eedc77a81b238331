//! Signatures of jobs: ed25519 over a domain prefix and the body's exact bytes. It must not know what a job says.
//!
//! The bytes are verified as they came and decoded only afterwards, so two programs never disagree about
//! what was signed.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey, spki::der::pem::LineEnding};
use ed25519_dalek::{Signer, SigningKey, Verifier};

/// What precedes the body in the signed bytes, so that a signature made for anything else is never one of a job.
pub const JOB_DOMAIN: &[u8] = b"muster.job/1\0";

/// Why a key, a signature or a signed body is not good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SigningError {
    /// Not a private key in PKCS#8 PEM form.
    #[error(
        "not an ed25519 private key in PKCS#8 PEM form ({0}); make one with `muster key new NAME`"
    )]
    PrivateKey(String),
    /// Not a public key of 64 hexadecimal digits, or not a point of the curve.
    #[error(
        "not an ed25519 public key: 64 hexadecimal digits are wanted, as `muster key list` prints them"
    )]
    PublicKey,
    /// Not a signature of 128 hexadecimal digits.
    #[error("not a signature: 128 hexadecimal digits are wanted")]
    Signature,
    /// The signature is not this key's over this body.
    #[error("the signature does not match the message and the key")]
    Mismatch,
}

/// A private key that signs jobs. `Debug` does not show it.
pub struct JobSigner(SigningKey);

impl JobSigner {
    /// A key made from 32 random bytes.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// A key from PKCS#8 PEM text (as `openssl genpkey -algorithm ed25519` writes it, too).
    ///
    /// # Errors
    /// When the text is anything else.
    pub fn from_pem(text: &str) -> Result<Self, SigningError> {
        SigningKey::from_pkcs8_pem(text)
            .map(Self)
            .map_err(|error| SigningError::PrivateKey(error.to_string()))
    }

    /// The key as PKCS#8 PEM text.
    ///
    /// # Errors
    /// When the encoder refuses, which no valid key makes it do.
    pub fn to_pem(&self) -> Result<String, SigningError> {
        let text = self
            .0
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(|error| SigningError::PrivateKey(error.to_string()))?;
        Ok(text.to_string())
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> JobVerifier {
        JobVerifier(self.0.verifying_key())
    }

    /// The signature of a job's body.
    #[must_use]
    pub fn sign(&self, body: &[u8]) -> JobSignature {
        JobSignature(self.0.sign(&signed_bytes(body)).to_bytes())
    }
}

impl fmt::Debug for JobSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JobSigner(public {})", self.public())
    }
}

/// A public key that verifies jobs. Its text form is 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobVerifier(ed25519_dalek::VerifyingKey);

impl JobVerifier {
    /// Whether `signature` is this key's over `body`. Nobody but the key's owner can make one, nor a second one of the same
    /// body: half of it must be in its canonical form, the other is compared byte by byte, and weak keys are not taken.
    ///
    /// # Errors
    /// When it is not.
    pub fn verify(&self, body: &[u8], signature: &JobSignature) -> Result<(), SigningError> {
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        self.0
            .verify(&signed_bytes(body), &signature)
            .map_err(|_| SigningError::Mismatch)
    }
}

impl FromStr for JobVerifier {
    type Err = SigningError;

    fn from_str(text: &str) -> Result<Self, SigningError> {
        let bytes = from_hex::<32>(text).ok_or(SigningError::PublicKey)?;
        let key =
            ed25519_dalek::VerifyingKey::from_bytes(&bytes).map_err(|_| SigningError::PublicKey)?;
        if key.is_weak() {
            return Err(SigningError::PublicKey);
        }
        Ok(Self(key))
    }
}

impl fmt::Display for JobVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_hex(self.0.as_bytes()))
    }
}

/// A signature. Its text form is 128 hexadecimal digits.
#[derive(Clone, PartialEq, Eq)]
pub struct JobSignature([u8; 64]);

impl FromStr for JobSignature {
    type Err = SigningError;

    fn from_str(text: &str) -> Result<Self, SigningError> {
        from_hex::<64>(text)
            .map(Self)
            .ok_or(SigningError::Signature)
    }
}

impl fmt::Display for JobSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_hex(&self.0))
    }
}

impl fmt::Debug for JobSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JobSignature({self})")
    }
}

/// Bytes as lower-case hexadecimal digits.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| {
        DIGITS
            .get(usize::from(value))
            .map_or('0', |byte| char::from(*byte))
    };
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text = text.trim();
    if text.len() != N * 2 {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).ok()?;
        if pair.starts_with('+') {
            return None;
        }
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(bytes)
}

fn signed_bytes(body: &[u8]) -> Vec<u8> {
    [JOB_DOMAIN, body].concat()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_exact_bytes_and_key_alone() {
        let signer = JobSigner::from_seed(&[7; 32]);
        let other = JobSigner::from_seed(&[8; 32]);
        let signature = signer.sign(b"body");
        let verifier: JobVerifier = signer.public().to_string().parse().unwrap();
        let sent: JobSignature = signature.to_string().parse().unwrap();
        assert_eq!(verifier.verify(b"body", &sent), Ok(()));
        assert_eq!(verifier.verify(b"bodY", &sent), Err(SigningError::Mismatch));
        assert_eq!(
            other.public().verify(b"body", &sent),
            Err(SigningError::Mismatch)
        );
    }

    #[test]
    fn a_signature_for_another_domain_is_refused() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let plain = JobSignature(key.sign(b"body").to_bytes());
        let verifier = JobSigner::from_seed(&[7; 32]).public();
        assert_eq!(
            verifier.verify(b"body", &plain),
            Err(SigningError::Mismatch)
        );
    }

    #[test]
    fn keys_survive_their_pem_form_and_bad_ones_are_refused() {
        let signer = JobSigner::from_seed(&[9; 32]);
        let again = JobSigner::from_pem(&signer.to_pem().unwrap()).unwrap();
        assert_eq!(again.public(), signer.public());
        assert!(
            JobSigner::from_pem("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----")
                .is_err()
        );
        assert!(
            "00".repeat(32).parse::<JobVerifier>().is_err(),
            "a weak key"
        );
        assert!("zz".repeat(32).parse::<JobVerifier>().is_err());
        assert!("+1".repeat(64).parse::<JobSignature>().is_err());
        assert!("ab".parse::<JobSignature>().is_err());
    }
}
