//! Randomness, from the operating system.
//!
//! The one place that asks for it: what seals, signs or names takes its random bytes as an
//! argument, so that vectors can be reproduced.

use zeroize::Zeroizing;

/// The operating system has no random bytes to give.
#[derive(Debug, thiserror::Error)]
#[error("no random bytes from the operating system: {0}")]
pub struct NoEntropy(getrandom::Error);

/// `N` random bytes that are no secret: names, salts, nonces.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], NoEntropy> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(NoEntropy)?;
    Ok(bytes)
}

/// 32 random bytes to be kept secret.
pub(crate) fn secret() -> Result<Zeroizing<[u8; 32]>, NoEntropy> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut_slice()).map_err(NoEntropy)?;
    Ok(bytes)
}
