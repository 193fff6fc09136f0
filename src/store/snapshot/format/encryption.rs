//! Encryption of a file's blocks with a key from the application.
//!
//! XChaCha20-Poly1305. A nonce consists of 16 bytes drawn for the file and the number of the block,
//! so none is used twice; the file's header is authenticated with every block. Without the key, an
//! attacker can neither read a session nor insert one into the file, nor move a block from one file
//! to another. An attacker can still delete the file, or replace it by an older one.

use std::fmt;

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};

/// A key of 32 secret bytes. `Debug` does not show it.
#[derive(Clone)]
pub(crate) struct FileKey(XChaCha20Poly1305);

impl FileKey {
    pub(crate) fn new(key: [u8; 32]) -> Self {
        Self(XChaCha20Poly1305::new(&Key::from(key)))
    }

    /// Returns the cipher for the blocks of one file.
    pub(crate) fn block_cipher(&self, nonce: FileNonce, header: &[u8]) -> BlockCipher {
        BlockCipher {
            cipher: self.0.clone(),
            nonce,
            header: header.to_vec(),
        }
    }
}

impl fmt::Debug for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileKey(secret)")
    }
}

/// The part of a nonce that is specific to the file.
pub(crate) type FileNonce = [u8; 16];

/// Encrypts and decrypts the blocks of one file.
pub(crate) struct BlockCipher {
    cipher: XChaCha20Poly1305,
    nonce: FileNonce,
    header: Vec<u8>,
}

impl BlockCipher {
    /// Encrypts a block in place. It grows by [`TAG_BYTES`].
    pub(crate) fn encrypt(&self, number: u32, block: &mut Vec<u8>) -> Result<(), CipherError> {
        let nonce = self.nonce(number.into());
        self.cipher
            .encrypt_in_place(&nonce, &self.header, block)
            .map_err(|_| CipherError)
    }

    /// Decrypts a block in place.
    pub(crate) fn decrypt(&self, number: u32, block: &mut Vec<u8>) -> Result<(), CipherError> {
        let nonce = self.nonce(number.into());
        self.cipher
            .decrypt_in_place(&nonce, &self.header, block)
            .map_err(|_| CipherError)
    }

    /// A proof that the writer of the header had the key.
    pub(crate) fn proof(&self) -> Result<[u8; TAG_BYTES], CipherError> {
        let mut proof = Vec::with_capacity(TAG_BYTES);
        self.cipher
            .encrypt_in_place(&self.nonce(PROOF), &self.header, &mut proof)
            .map_err(|_| CipherError)?;
        proof.try_into().map_err(|_| CipherError)
    }

    /// Returns `true` if the proof is valid.
    pub(crate) fn is_proved_by(&self, proof: &[u8]) -> bool {
        let mut proof = proof.to_vec();
        let nonce = self.nonce(PROOF);
        self.cipher
            .decrypt_in_place(&nonce, &self.header, &mut proof)
            .is_ok()
    }

    fn nonce(&self, number: u64) -> XNonce {
        let mut nonce = [0; 24];
        nonce[..16].copy_from_slice(&self.nonce);
        nonce[16..].copy_from_slice(&number.to_le_bytes());
        XNonce::from(nonce)
    }
}

/// The error of a block that was not encrypted with this key, or not for this position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CipherError;

/// The number of bytes that encryption adds to a block.
pub(crate) const TAG_BYTES: usize = 16;

/// A block number that no block has.
const PROOF: u64 = u64::MAX;
