//! Encoding and decoding of netlink messages: a header, a fixed family header, then nested attributes.
//!
//! A [`Batch`] holds any number of messages that leave in one system call. Each message names the step it
//! performs, so that a refusal can say which one the kernel did not like. Invariant: every message and every
//! attribute is padded to four bytes and its length field counts what netlink(7) says it counts.

/// `NLM_F_*` of linux/netlink.h.
pub(crate) mod flag {
    pub(crate) const REQUEST: u16 = 0x1;
    pub(crate) const ACK: u16 = 0x4;
    pub(crate) const DUMP: u16 = 0x300;
    /// A listing was disturbed by a change and may miss entries.
    pub(crate) const DUMP_INTERRUPTED: u16 = 0x10;
    /// The answer repeats only the header of the message it is about, not its body.
    pub(crate) const CAPPED: u16 = 0x100;
    pub(crate) const ACK_ATTRIBUTES: u16 = 0x200;
    pub(crate) const EXCLUSIVE: u16 = 0x200;
    pub(crate) const CREATE: u16 = 0x400;
    pub(crate) const REPLACE: u16 = 0x100;
    pub(crate) const APPEND: u16 = 0x800;
}

pub(crate) const HEADER: usize = 16;
const NESTED: u16 = 0x8000;
const KIND_MASK: u16 = 0x3fff;

/// Messages that leave together.
#[derive(Default, Clone)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    starts: Vec<usize>,
    steps: Vec<&'static str>,
    decisive: Option<usize>,
}

impl Batch {
    pub(crate) fn new() -> Batch {
        Batch::default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.steps.len()
    }

    /// Appends one message. `step` completes the sentence "the kernel refused to ...".
    pub(crate) fn add(
        &mut self,
        step: &'static str,
        kind: u16,
        flags: u16,
        header: &[u8],
        body: impl FnOnce(&mut Attributes<'_>),
    ) {
        let start = self.bytes.len();
        self.starts.push(start);
        self.steps.push(step);
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | flag::REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 8]);
        self.bytes.extend_from_slice(header);
        pad(&mut self.bytes);
        body(&mut Attributes { bytes: &mut self.bytes });
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Asks the kernel to answer the last message so far even when all is well: the sign that all were
    /// handled. Messages added later are not waited for. Returns the index of the message that decides.
    pub(crate) fn acknowledge(&mut self) -> usize {
        if let Some(decisive) = self.decisive {
            return decisive;
        }
        let decisive = self.starts.len().saturating_sub(1);
        if let Some(&start) = self.starts.last() {
            let flags = u16::from_ne_bytes([self.bytes[start + 6], self.bytes[start + 7]]) | flag::ACK;
            self.bytes[start + 6..start + 8].copy_from_slice(&flags.to_ne_bytes());
        }
        self.decisive = Some(decisive);
        decisive
    }

    /// Numbers the messages from `first` upwards and returns the bytes to send.
    pub(crate) fn number(&mut self, first: u32) -> &[u8] {
        for (index, &start) in self.starts.iter().enumerate() {
            let sequence = first.wrapping_add(index as u32);
            self.bytes[start + 8..start + 12].copy_from_slice(&sequence.to_ne_bytes());
        }
        &self.bytes
    }

    pub(crate) fn step(&self, index: usize) -> &'static str {
        self.steps.get(index).copied().unwrap_or("handle the request")
    }

    /// Takes over all messages of another batch, after the own ones.
    pub(crate) fn append(&mut self, other: Batch) {
        let (offset, count) = (self.bytes.len(), self.steps.len());
        self.bytes.extend_from_slice(&other.bytes);
        self.decisive = other.decisive.map(|index| index + count);
        self.starts.extend(other.starts.iter().map(|start| start + offset));
        self.steps.extend(other.steps);
    }
}

/// Writes attributes at the end of a message, or inside another attribute.
pub(crate) struct Attributes<'a> {
    bytes: &'a mut Vec<u8>,
}

impl Attributes<'_> {
    /// Attributes that stand alone, to be put into a message later with [`Attributes::raw`].
    pub(crate) fn collect(write: impl FnOnce(&mut Attributes<'_>)) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&mut Attributes { bytes: &mut bytes });
        bytes
    }

    /// Attributes encoded before, or a fixed header inside a nest.
    pub(crate) fn raw(&mut self, encoded: &[u8]) {
        self.bytes.extend_from_slice(encoded);
        pad(self.bytes);
    }

    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) {
        let length = (4 + value.len()) as u16;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        pad(self.bytes);
    }

    pub(crate) fn u8(&mut self, kind: u16, value: u8) {
        self.bytes(kind, &[value]);
    }

    /// In the machine's byte order, as rtnetlink wants it.
    pub(crate) fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    /// In network byte order, as netfilter wants it.
    pub(crate) fn be32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        let mut terminated = Vec::with_capacity(value.len() + 1);
        terminated.extend_from_slice(value.as_bytes());
        terminated.push(0);
        self.bytes(kind, &terminated);
    }

    pub(crate) fn nest(&mut self, kind: u16, inner: impl FnOnce(&mut Attributes<'_>)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        inner(&mut Attributes { bytes: self.bytes });
        // What is long enough to overflow is cut into several messages by who writes it.
        let length = self.bytes.len() - start;
        assert!(
            length <= usize::from(u16::MAX),
            "a netlink attribute of {length} bytes does not fit its length"
        );
        self.bytes[start..start + 2].copy_from_slice(&(length as u16).to_ne_bytes());
    }
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// The attributes in `bytes`, as (kind, value); stops at the first malformed one.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes([*bytes.first()?, *bytes.get(1)?]));
        let kind = u16::from_ne_bytes([*bytes.get(2)?, *bytes.get(3)?]) & KIND_MASK;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of the attribute reached by following `path` through nests.
pub(crate) fn find<'a>(bytes: &'a [u8], path: &[u16]) -> Option<&'a [u8]> {
    let (&wanted, rest) = path.split_first()?;
    let (_, value) = attributes(bytes).find(|(kind, _)| *kind == wanted)?;
    if rest.is_empty() { Some(value) } else { find(value, rest) }
}

pub(crate) fn read_u16(bytes: &[u8]) -> Option<[u8; 2]> {
    bytes.get(..2)?.try_into().ok()
}

pub(crate) fn read_u32(bytes: &[u8]) -> Option<[u8; 4]> {
    bytes.get(..4)?.try_into().ok()
}

/// Text up to its terminating zero; bytes that are not UTF-8 are replaced.
pub(crate) fn read_text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let encoded = Attributes::collect(|top| {
            top.text(1, "eth0");
            top.nest(2, |inner| {
                inner.u8(1, 7);
                inner.bytes(2, &80u16.to_be_bytes());
            });
            top.u32(3, 9);
        });
        assert_eq!(encoded.len() % 4, 0);
        assert_eq!(find(&encoded, &[1]).map(read_text).as_deref(), Some("eth0"));
        assert_eq!(find(&encoded, &[2, 1]), Some(&[7u8][..]));
        assert_eq!(find(&encoded, &[2, 2]).and_then(read_u16).map(u16::from_be_bytes), Some(80));
        assert_eq!(find(&encoded, &[3]).and_then(read_u32).map(u32::from_ne_bytes), Some(9));
        assert_eq!(find(&encoded, &[2, 9]), None);
    }

    #[test]
    fn truncated_attributes_end_the_walk() {
        let encoded = Attributes::collect(|top| top.text(1, "a long enough name"));
        for cut in 0..encoded.len() - 1 {
            assert_eq!(attributes(&encoded[..cut]).count(), 0, "cut at {cut}");
        }
        // A length of zero would otherwise never advance.
        assert_eq!(attributes(&[0, 0, 1, 0, 0, 0, 0, 0]).count(), 0);
    }

    #[test]
    fn a_batch_numbers_and_acknowledges() {
        let mut batch = Batch::new();
        batch.add("do one thing", 16, 0, &[1, 2, 3], |_| {});
        batch.add("do another", 17, 0, &[], |message| message.u32(1, 5));
        assert_eq!(batch.acknowledge(), 1);
        let bytes = batch.number(40).to_vec();
        assert_eq!(&bytes[..4], 20u32.to_ne_bytes());
        assert_eq!(&bytes[8..12], 40u32.to_ne_bytes());
        assert_eq!(&bytes[26..28], (flag::REQUEST | flag::ACK).to_ne_bytes());
        assert_eq!(&bytes[28..32], 41u32.to_ne_bytes());
        assert_eq!(batch.step(1), "do another");
    }
}
