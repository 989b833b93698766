//! A file of records, sealed under what a secret and a salt make (protocol §1).
//!
//! Chunk by chunk, so that a long one is never in memory; a chunk opens at its place alone, and the
//! last one says that it is the last: what was cut off, moved or put in does not pass for the whole.

use std::io::{self, Read, Write};

use aes_gcm::{
    Aes256Gcm,
    aead::{AeadInPlace as _, KeyInit as _},
};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

/// The most that one record may have, bytes.
pub const MAX_RECORD: usize = 1 << 20;
/// What a file begins with; the version follows.
const MAGIC: &[u8; 15] = b"causeway-export";
const VERSION: u8 = 1;
/// Magic, version, salt 32, check 32.
const HEADER: usize = 80;
const KEY_INFO: &[u8] = b"cg/export/key";
/// A chunk is closed before it has more than this, unless one record alone has.
const CHUNK: usize = 64 << 10;
/// Of a record: its kind and its length.
const RECORD_HEAD: usize = 5;
/// Of a chunk: whether it is the last, and its length.
const CHUNK_HEAD: usize = 5;
const TAG: usize = 16;
const MAX_CHUNK: usize = RECORD_HEAD + MAX_RECORD + TAG;

/// Why a file is not read, or not any further.
#[derive(Debug, thiserror::Error)]
pub enum NotOpened {
    /// Another file is meant.
    #[error("it is no export of causeway-client")]
    NotOne,
    /// Another program can.
    #[error("it is an export of version {0}, and this program reads version {VERSION}")]
    Version(u8),
    /// The other key opens it; or its first 80 bytes are damaged.
    #[error("it does not open with this recovery key: it is another account's, or damaged")]
    WrongKey,
    /// It is to be copied again.
    #[error("it ends too early: it was not written or copied whole")]
    Cut,
    /// There is no mending it.
    #[error("it is damaged, or somebody has changed it")]
    Changed,
    /// What, of what was sealed with the right key.
    #[error("it holds what this program never puts there: {0}")]
    Junk(&'static str),
    /// The disk's.
    #[error(transparent)]
    Io(io::Error),
}

struct Seal {
    cipher: Aes256Gcm,
    header: [u8; HEADER],
    number: u64,
}

impl Seal {
    fn new(secret: &[u8], salt: &[u8; 32]) -> Self {
        let mut made = Zeroizing::new([0; 64]);
        // 64 bytes are always to be had.
        let _ = Hkdf::<Sha256>::new(Some(salt), secret).expand(KEY_INFO, &mut *made);
        let (key, check) = made.split_at(32);
        let mut header = [0; HEADER];
        let fields = MAGIC.iter().chain(&[VERSION]).chain(salt).chain(check);
        header.iter_mut().zip(fields).for_each(|(to, from)| *to = *from);
        Self { cipher: Aes256Gcm::new(key.into()), header, number: 0 }
    }

    /// `0 0 0 ‖ u8 last ‖ be64 number`, which is one more with each chunk.
    fn nonce(&mut self, last: bool) -> [u8; 12] {
        let mut nonce = [0; 12];
        let fields = [u8::from(last)].into_iter().chain(self.number.to_be_bytes());
        nonce.iter_mut().skip(3).zip(fields).for_each(|(to, from)| *to = from);
        self.number += 1;
        nonce
    }
}

/// Writes such a file.
pub struct Writer<W> {
    to: W,
    seal: Seal,
    chunk: Zeroizing<Vec<u8>>,
}

impl<W: Write> Writer<W> {
    /// Begins one; the salt is random, and never used again with this secret.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn begin(mut to: W, secret: &[u8], salt: &[u8; 32]) -> io::Result<Self> {
        let seal = Seal::new(secret, salt);
        to.write_all(&seal.header)?;
        Ok(Self { to, seal, chunk: Zeroizing::new(Vec::with_capacity(CHUNK)) })
    }

    /// Adds a record.
    ///
    /// # Errors
    /// Those of `to`; or it has more than [`MAX_RECORD`] bytes.
    pub fn put(&mut self, kind: u8, body: &[u8]) -> io::Result<()> {
        let fits = u32::try_from(body.len()).ok().filter(|_| body.len() <= MAX_RECORD);
        let length = fits.ok_or_else(|| io::Error::other("one record is more than 1 MiB"))?;
        if !self.chunk.is_empty() && self.chunk.len() + RECORD_HEAD + body.len() > CHUNK {
            self.flush(false)?;
        }
        self.chunk.push(kind);
        self.chunk.extend_from_slice(&length.to_be_bytes());
        self.chunk.extend_from_slice(body);
        Ok(())
    }

    /// Writes what is left, and that it is the end.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn finish(mut self) -> io::Result<W> {
        self.flush(true)?;
        Ok(self.to)
    }

    fn flush(&mut self, last: bool) -> io::Result<()> {
        let nonce = self.seal.nonce(last);
        let seal = &self.seal;
        let tag = seal
            .cipher
            .encrypt_in_place_detached(&nonce.into(), &seal.header, &mut self.chunk)
            .map_err(|_| io::Error::other("a chunk is too long"))?;
        let length = u32::try_from(self.chunk.len() + TAG).map_err(io::Error::other)?;
        self.to.write_all(&[u8::from(last)])?;
        self.to.write_all(&length.to_be_bytes())?;
        self.to.write_all(&self.chunk)?;
        self.to.write_all(&tag)?;
        self.chunk.clear();
        Ok(())
    }
}

/// Reads such a file.
pub struct Reader<R> {
    from: R,
    seal: Seal,
    chunk: Zeroizing<Vec<u8>>,
    at: usize,
    last: bool,
}

impl<R: Read> Reader<R> {
    /// Begins to read one.
    ///
    /// # Errors
    /// [`NotOpened`].
    pub fn open(mut from: R, secret: &[u8]) -> Result<Self, NotOpened> {
        let mut header = Vec::with_capacity(HEADER);
        from.by_ref().take(HEADER as u64).read_to_end(&mut header).map_err(NotOpened::Io)?;
        let (magic, rest) = header.split_first_chunk().ok_or(NotOpened::NotOne)?;
        let (version, rest) = rest.split_first().ok_or(NotOpened::NotOne)?;
        if magic != MAGIC {
            return Err(NotOpened::NotOne);
        }
        if *version != VERSION {
            return Err(NotOpened::Version(*version));
        }
        let (salt, check) = rest.split_first_chunk().ok_or(NotOpened::Cut)?;
        if check.len() < HEADER - MAGIC.len() - 1 - salt.len() {
            return Err(NotOpened::Cut);
        }
        let seal = Seal::new(secret, salt);
        if seal.header != *header {
            return Err(NotOpened::WrongKey);
        }
        Ok(Self { from, seal, chunk: Zeroizing::default(), at: 0, last: false })
    }

    /// What no two files have in common.
    pub fn salt(&self) -> &[u8] {
        self.seal.header.get(16..48).unwrap_or_default()
    }

    /// The next record: its kind and its body; none at the end of a file that is whole.
    ///
    /// # Errors
    /// [`NotOpened`].
    pub fn record(&mut self) -> Result<Option<(u8, &[u8])>, NotOpened> {
        if self.at == self.chunk.len() {
            if self.last {
                return match self.from.read(&mut [0]).map_err(NotOpened::Io)? {
                    0 => Ok(None),
                    _ => Err(NotOpened::Changed),
                };
            }
            self.refill()?;
        }
        let junk = NotOpened::Junk("a record that ends outside its chunk");
        let rest = self.chunk.get(self.at..).unwrap_or_default();
        let Some((&[kind, a, b, c, d], rest)) = rest.split_first_chunk() else { return Err(junk) };
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        let Some(body) = rest.get(..length) else { return Err(junk) };
        self.at += RECORD_HEAD + length;
        Ok(Some((kind, body)))
    }

    fn refill(&mut self) -> Result<(), NotOpened> {
        let mut head = [0; CHUNK_HEAD];
        self.from.read_exact(&mut head).map_err(cut)?;
        let [last, a, b, c, d] = head;
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if last > 1 || !(TAG + 1..=MAX_CHUNK).contains(&length) {
            return Err(NotOpened::Changed);
        }
        self.last = last == 1;
        self.chunk.clear();
        self.chunk.resize(length, 0);
        self.from.read_exact(&mut self.chunk).map_err(cut)?;
        let nonce = self.seal.nonce(self.last);
        let Some((text, tag)) = self.chunk.split_last_chunk_mut::<TAG>() else {
            return Err(NotOpened::Changed);
        };
        let seal = &self.seal;
        seal.cipher
            .decrypt_in_place_detached(&nonce.into(), &seal.header, text, (&*tag).into())
            .map_err(|_| NotOpened::Changed)?;
        self.chunk.truncate(length - TAG);
        self.at = 0;
        Ok(())
    }
}

fn cut(error: io::Error) -> NotOpened {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => NotOpened::Cut,
        _ => NotOpened::Io(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(records: &[&[u8]]) -> Vec<u8> {
        let mut writer = Writer::begin(Vec::new(), &[7; 32], &[9; 32]).unwrap();
        for record in records {
            writer.put(6, record).unwrap();
        }
        writer.finish().unwrap()
    }

    fn read(bytes: &[u8], secret: u8) -> Result<Vec<Vec<u8>>, NotOpened> {
        let mut reader = Reader::open(bytes, &[secret; 32])?;
        let mut records = Vec::new();
        while let Some((kind, body)) = reader.record()? {
            assert_eq!(kind, 6);
            records.push(body.to_vec());
        }
        Ok(records)
    }

    #[test]
    fn what_was_written_is_read_however_long() {
        let long = vec![1; MAX_RECORD];
        let records: [&[u8]; 5] = [b"a", &long, b"", &long[..CHUNK], b"z"];
        assert_eq!(read(&file(&records), 7).unwrap(), records);
        let too_long = vec![1; MAX_RECORD + 1];
        let mut writer = Writer::begin(Vec::new(), &[7; 32], &[9; 32]).unwrap();
        assert!(writer.put(6, &too_long).is_err());
    }

    #[test]
    fn every_byte_that_is_changed_or_missing_is_noticed() {
        let half = vec![2; CHUNK / 2];
        let whole = file(&[&half, &half, b"end"]);
        for at in (0..HEADER + 40).chain(whole.len() - 60..whole.len()) {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(read(&changed, 7).is_err(), "byte {at}");
            assert!(read(&whole[..at], 7).is_err(), "up to byte {at}");
        }
        assert!(matches!(read(&whole[..whole.len() - 1], 7), Err(NotOpened::Cut)));
        assert!(matches!(read(&[&whole[..], &[0]].concat(), 7), Err(NotOpened::Changed)));
        assert!(matches!(read(&whole, 8), Err(NotOpened::WrongKey)));
        assert!(matches!(read(b"PK", 7), Err(NotOpened::NotOne)));
        let mut later = whole;
        later[15] = 2;
        assert!(matches!(read(&later, 7), Err(NotOpened::Version(2))));
    }

    #[test]
    fn chunks_stand_at_their_places_alone() {
        let half = vec![3; CHUNK];
        let whole = file(&[&half, &half, b"end"]);
        let one = CHUNK_HEAD + RECORD_HEAD + CHUNK + TAG;
        let (first, rest) = whole[HEADER..].split_at(one);
        let (second, last) = rest.split_at(one);
        let header = &whole[..HEADER];
        for moved in [
            [header, second, first, last].concat(),
            [header, first, last].concat(),
            [header, first, first, second, last].concat(),
        ] {
            assert!(matches!(read(&moved, 7), Err(NotOpened::Changed)));
        }
        assert!(matches!(read(&[header, first, second].concat(), 7), Err(NotOpened::Cut)));
    }
}
