//! Fields of a byte layout: big-endian integers, fixed arrays, counted strings (protocol §0).
//!
//! Nothing is allocated before its length is known to be there.

/// The bytes end before the field does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Short;

/// Reads fields from the front.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Short> {
        let (field, rest) = self.0.split_at_checked(len).ok_or(Short)?;
        self.0 = rest;
        Ok(field)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Short> {
        let (field, rest) = self.0.split_first_chunk::<N>().ok_or(Short)?;
        self.0 = rest;
        Ok(*field)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Short> {
        self.array().map(|[byte]| byte)
    }

    pub(crate) fn be16(&mut self) -> Result<u16, Short> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn be32(&mut self) -> Result<u32, Short> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn be64(&mut self) -> Result<u64, Short> {
        self.array().map(u64::from_be_bytes)
    }

    /// An LEB128 number, spelled as short as can be.
    pub(crate) fn leb128(&mut self) -> Result<u64, Short> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has one bit of the number.
            if shift == 63 && bits > 1 {
                return Err(Short);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                let is_minimal = byte != 0 || shift == 0;
                return if is_minimal { Ok(value) } else { Err(Short) };
            }
        }
        Err(Short)
    }

    /// The bytes of a `str8`; whether they are UTF-8 is asked later.
    pub(crate) fn str8(&mut self) -> Result<&'a [u8], Short> {
        let len = self.u8()?;
        self.take(len.into())
    }

    /// The bytes of a `str16`; whether they are UTF-8 is asked later.
    pub(crate) fn str16(&mut self) -> Result<&'a [u8], Short> {
        let len = self.be16()?;
        self.take(len.into())
    }

    /// What has not been read.
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.0
    }
}

/// A string or list is longer than its length field can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("longer than its length field can say")]
pub struct TooLong;

/// Writes fields at the end.
///
/// A count that does not fit its field is remembered, and [`Writer::finish`] refuses then.
#[derive(Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
    too_long: bool,
}

impl Writer {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), too_long: false }
    }

    pub(crate) fn raw(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.bytes.extend_from_slice(bytes.as_ref());
        self
    }

    pub(crate) fn u8(self, value: u8) -> Self {
        self.raw([value])
    }

    pub(crate) fn be16(self, value: u16) -> Self {
        self.raw(value.to_be_bytes())
    }

    pub(crate) fn be32(self, value: u32) -> Self {
        self.raw(value.to_be_bytes())
    }

    pub(crate) fn be64(self, value: u64) -> Self {
        self.raw(value.to_be_bytes())
    }

    /// As LEB128.
    pub(crate) fn leb128(mut self, mut value: u64) -> Self {
        loop {
            let [.., low] = (value & 0x7f).to_be_bytes();
            value >>= 7;
            self = self.u8(if value == 0 { low } else { low | 0x80 });
            if value == 0 {
                return self;
            }
        }
    }

    /// How many, as be16.
    pub(crate) fn count16(mut self, count: usize) -> Self {
        let fits = u16::try_from(count);
        self.too_long |= fits.is_err();
        self.be16(fits.unwrap_or(u16::MAX))
    }

    pub(crate) fn str8(mut self, text: &str) -> Self {
        let fits = u8::try_from(text.len());
        self.too_long |= fits.is_err();
        self.u8(fits.unwrap_or(u8::MAX)).raw(text)
    }

    pub(crate) fn str16(self, text: &str) -> Self {
        self.count16(text.len()).raw(text)
    }

    /// Keys or ids in turn.
    pub(crate) fn names<T: AsRef<[u8]>>(self, names: &[T]) -> Self {
        names.iter().fold(self, Self::raw)
    }

    /// Every item in turn.
    pub(crate) fn each<T>(self, items: &[T], write: impl Fn(Self, &T) -> Self) -> Self {
        items.iter().fold(self, write)
    }

    /// The bytes, where every count is known to fit.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub(crate) fn finish(self) -> Result<Vec<u8>, TooLong> {
        if self.too_long { Err(TooLong) } else { Ok(self.bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::Writer;

    #[test]
    fn what_was_too_long_stays_so() {
        let long = "x".repeat(256);
        let writers = [
            Writer::new().str8(&long).str8("fits"),
            Writer::new().str8(&long).str16("fits"),
            Writer::new().count16(65_536).count16(1),
            Writer::new().count16(65_536).str8("fits"),
        ];
        for writer in writers {
            assert!(writer.finish().is_err());
        }
        assert_eq!(Writer::new().str8("fits").count16(1).finish().unwrap(), b"\x04fits\0\x01");
    }
}
