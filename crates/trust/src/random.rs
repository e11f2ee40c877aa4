//! Random bytes from the system's generator; the one place where this crate draws any.

use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

/// The system's generator did not answer; nothing that needs a secret can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system's random number generator failed (getrandom); no key, token or nonce can be made")]
pub struct RandomError;

pub(crate) fn fill(bytes: &mut [u8]) -> Result<(), RandomError> {
    SystemRandom::new().fill(bytes).map_err(|_| RandomError)
}

/// Wiped when dropped.
pub(crate) fn secret<const N: usize>() -> Result<Zeroizing<[u8; N]>, RandomError> {
    let mut bytes = Zeroizing::new([0; N]);
    fill(bytes.as_mut_slice())?;
    Ok(bytes)
}
