//! WAV files: RIFF with PCM of 16 bits or floats of 32, read at any rate, written at 48 kHz.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    path::Path,
};

use super::{FRAME, RATE};

/// Why a file is not sound that can be read here.
#[derive(Debug, thiserror::Error)]
pub enum WavError {
    /// It is not there, or may not be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Another form of file.
    #[error("this is no WAV file")]
    NotWav,
    /// PCM of 16 bits and floats of 32 are read, 1 to 8 channels, 8 to 192 kHz.
    #[error(
        "a WAV file is read with 16-bit PCM or 32-bit floats, 1 to 8 channels and 8 to 192 kHz"
    )]
    Form,
}

/// A file being read, as one channel at [`RATE`].
pub struct Reader {
    file: BufReader<File>,
    left: u64,
    channels: usize,
    floats: bool,
    /// Samples of the file for one of ours, and where between `before` and `after` we are.
    step: f64,
    position: f64,
    before: f32,
    after: f32,
    ended: bool,
}

impl Reader {
    /// Opens a file and reads its head.
    ///
    /// # Errors
    /// [`WavError`].
    pub fn open(path: &Path) -> Result<Self, WavError> {
        let mut file = BufReader::new(File::open(path)?);
        let mut head = [0; 12];
        file.read_exact(&mut head).map_err(|_| WavError::NotWav)?;
        if !head.starts_with(b"RIFF") || !head.ends_with(b"WAVE") {
            return Err(WavError::NotWav);
        }
        let mut form = None;
        loop {
            let mut name = [0; 4];
            file.read_exact(&mut name).map_err(|_| WavError::NotWav)?;
            let len = u32::from_le_bytes(array(&mut file).map_err(|_| WavError::NotWav)?);
            match &name {
                b"fmt " => form = Some(read_form(&mut file, len)?),
                b"data" => break Self::new(file, len, form.as_ref().ok_or(WavError::NotWav)?),
                // Each begins at an even byte.
                _ => file.seek_relative(i64::from(len) + i64::from(len % 2))?,
            }
        }
    }

    fn new(file: BufReader<File>, len: u32, form: &Form) -> Result<Self, WavError> {
        let &Form { floats, channels, rate } = form;
        let mut reader = Self {
            file,
            left: u64::from(len) / (channels as u64 * if floats { 4 } else { 2 }),
            channels,
            floats,
            step: f64::from(rate) / f64::from(super::opus::RATE_HZ),
            position: 1.0,
            before: 0.0,
            after: 0.0,
            ended: false,
        };
        if reader.left > 0 {
            reader.after = reader.sample()?.unwrap_or_default();
        }
        Ok(reader)
    }

    /// Reads 20 ms; `false` when there is nothing any more.
    ///
    /// # Errors
    /// Reading fails.
    #[expect(clippy::cast_possible_truncation, reason = "a place between 0 and 1")]
    pub fn read(&mut self, frame: &mut [f32; FRAME]) -> io::Result<bool> {
        *frame = [0.0; FRAME];
        let mut any = false;
        for sample in frame.iter_mut() {
            while self.position >= 1.0 {
                self.before = self.after;
                self.after = match self.sample()? {
                    Some(after) => after,
                    // The last one is followed by silence.
                    None if !std::mem::replace(&mut self.ended, true) => 0.0,
                    None => return Ok(any),
                };
                self.position -= 1.0;
            }
            *sample = self.before + (self.after - self.before) * self.position as f32;
            self.position += self.step;
            any = true;
        }
        Ok(true)
    }

    /// One sample of the file, its channels made one.
    #[expect(clippy::cast_precision_loss, reason = "at most eight channels")]
    fn sample(&mut self) -> io::Result<Option<f32>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let mut sum = 0.0;
        for _ in 0..self.channels {
            let read = if self.floats {
                array(&mut self.file).map(f32::from_le_bytes)
            } else {
                array(&mut self.file).map(|bytes| f32::from(i16::from_le_bytes(bytes)) / 32_768.0)
            };
            match read {
                // A file says no more than what was written of it.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    self.left = 0;
                    return Ok(None);
                }
                read => sum += read?,
            }
        }
        let sample = sum / self.channels as f32;
        Ok(Some(if sample.is_finite() { sample.clamp(-1.0, 1.0) } else { 0.0 }))
    }
}

struct Form {
    floats: bool,
    channels: usize,
    rate: u32,
}

fn read_form(file: &mut BufReader<File>, len: u32) -> Result<Form, WavError> {
    let tag = u16::from_le_bytes(array(file)?);
    let channels = u16::from_le_bytes(array(file)?);
    let rate = u32::from_le_bytes(array(file)?);
    let _bytes_a_second_and_a_sample: [u8; 6] = array(file)?;
    let bits = u16::from_le_bytes(array(file)?);
    file.seek_relative(i64::from(len) - 16 + i64::from(len % 2))?;
    let floats = match (tag, bits) {
        (1, 16) => false,
        (3, 32) => true,
        _ => return Err(WavError::Form),
    };
    if !(1..=8).contains(&channels) || !(8_000..=192_000).contains(&rate) {
        return Err(WavError::Form);
    }
    Ok(Form { floats, channels: usize::from(channels), rate })
}

fn array<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A file being written: 16 bits, one channel, [`RATE`].
pub struct Writer {
    file: BufWriter<File>,
    samples: u32,
}

/// Bytes before the samples.
const HEAD: u32 = 44;

impl Writer {
    /// Makes the file, or empties the one that is there.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        let mut writer = Self { file: BufWriter::new(File::create(path)?), samples: 0 };
        writer.head()?;
        Ok(writer)
    }

    /// Adds 20 ms.
    ///
    /// # Errors
    /// Writing fails, or 12 hours are written, which is what the form can hold.
    #[expect(clippy::cast_possible_truncation, reason = "what is between -1 and 1 fits 16 bits")]
    pub fn write(&mut self, frame: &[f32; FRAME]) -> io::Result<()> {
        if self.samples > u32::MAX / 2 - HEAD - FRAME as u32 {
            return Err(io::Error::other("a WAV file holds no more than 12 hours"));
        }
        for sample in frame {
            let sample = (sample.clamp(-1.0, 1.0) * 32_767.0) as i16;
            self.file.write_all(&sample.to_le_bytes())?;
        }
        self.samples += FRAME as u32;
        Ok(())
    }

    /// Writes the lengths down, and what is still in memory.
    ///
    /// # Errors
    /// Writing fails.
    pub fn finish(&mut self) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        self.head()?;
        self.file.seek(SeekFrom::End(0))?;
        self.file.flush()
    }

    fn head(&mut self) -> io::Result<()> {
        let bytes = self.samples * 2;
        let rate = super::opus::RATE_HZ.cast_unsigned();
        let file = &mut self.file;
        file.write_all(b"RIFF")?;
        file.write_all(&(HEAD - 8 + bytes).to_le_bytes())?;
        file.write_all(b"WAVEfmt \x10\0\0\0\x01\0\x01\0")?;
        file.write_all(&rate.to_le_bytes())?;
        file.write_all(&(rate * 2).to_le_bytes())?;
        file.write_all(b"\x02\0\x10\0data")?;
        file.write_all(&bytes.to_le_bytes())
    }
}

const _: () = assert!(RATE == 48_000);

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn wav(tag: u16, channels: u16, rate: u32, bits: u16, data: &[u8]) -> Vec<u8> {
        let mut file = b"RIFF\0\0\0\0WAVELIST\x03\0\0\0abc\0fmt \x10\0\0\0".to_vec();
        file.extend([tag.to_le_bytes(), channels.to_le_bytes()].concat());
        file.extend(rate.to_le_bytes());
        file.extend([0; 6]);
        file.extend(bits.to_le_bytes());
        file.extend(b"data");
        file.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
        file.extend(data);
        file
    }

    fn samples(file: &[u8]) -> Result<Vec<f32>, WavError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wav");
        fs::write(&path, file).unwrap();
        let mut reader = Reader::open(&path)?;
        let (mut all, mut frame) = (Vec::new(), [0.0; FRAME]);
        while reader.read(&mut frame)? {
            all.extend(frame);
        }
        Ok(all)
    }

    #[test]
    fn what_was_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wav");
        let mut phase = 0.0_f32;
        let frame: [f32; FRAME] = std::array::from_fn(|_| {
            phase += 0.02;
            phase.sin() / 2.0
        });
        let mut writer = Writer::create(&path).unwrap();
        (0..3).for_each(|_| writer.write(&frame).unwrap());
        writer.finish().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 44 + 3 * 2 * FRAME as u64);
        let read = samples(&fs::read(&path).unwrap()).unwrap();
        assert!(read.iter().zip(frame.iter().cycle()).all(|(a, b)| (a - b).abs() < 0.001));
        assert_eq!(read.len(), 3 * FRAME);
    }

    #[test]
    fn other_rates_and_channels_become_one_at_48_khz() {
        // A second at 8 kHz, two channels: 0.5 and 0.
        let data: Vec<u8> = (0..8_000).flat_map(|_| [0, 64, 0, 0]).collect();
        let read = samples(&wav(1, 2, 8_000, 16, &data)).unwrap();
        assert!((47_000..=49_000).contains(&read.len()), "{}", read.len());
        assert!(read.iter().take(46_000).all(|sample| (sample - 0.25).abs() < 0.01));
        let floats: Vec<u8> =
            [f32::NAN, 9.0].iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let read = samples(&wav(3, 1, 48_000, 32, &floats)).unwrap();
        assert!(read.iter().all(|sample| (0.0..=1.0).contains(sample)));
    }

    #[test]
    fn what_is_no_such_file_is_refused_with_a_reason() {
        for file in [&b""[..], b"RIFF", b"RIFF\0\0\0\0WAVE", b"RIFF\0\0\0\0WAVEdata\0\0\0\0"] {
            assert!(matches!(samples(file), Err(WavError::NotWav)), "{file:?}");
        }
        for (tag, channels, rate, bits) in [
            (1, 0, 48_000, 16),
            (1, 9, 48_000, 16),
            (1, 1, 0, 16),
            (1, 1, 48_000, 24),
            (6, 1, 8_000, 8),
        ] {
            assert!(matches!(samples(&wav(tag, channels, rate, bits, &[])), Err(WavError::Form)));
        }
        // One that was cut off has what is there.
        let mut cut = wav(1, 1, 48_000, 16, &[0; 4000]);
        cut.truncate(2000);
        assert!(samples(&cut).unwrap().len() < 2000);
    }
}
