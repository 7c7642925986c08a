//! A byte automaton as a table: what both directions of an SMTP conversation are read with.
//!
//! A parser with branches is walked by the verifier on every path through every byte and passes a million instructions
//! within a line. A table has one path: state and class of the byte give an entry, which holds the next state and what
//! to do, as bits that are added and multiplied in and never asked.

/// States a table has room for.
pub const STATES: usize = 128;
/// Classes of bytes a table has room for.
pub const CLASSES: usize = 32;

/// Next state in the low seven bits, [`action`] bits above.
///
/// What is to be multiplied or masked with stands in an entry as a number of four bits. One bit would do, but the compiler
/// makes a branch of it, and a branch in the loop over the bytes is one too many for the verifier of 6.1.
pub type Entry = u32;

/// Bits of an [`Entry`].
pub mod action {
    use super::Entry;

    /// Mask of the next state.
    pub const STATE: Entry = 0x7f;
    /// A line is complete; what it was is a matter of the state before.
    pub const END: Entry = 1 << 7;
    /// Something the caller must look at has just ended.
    pub const STOP: Entry = 1 << 9;
    /// First mark of the table's own.
    pub const MARK_A: Entry = 1 << 11;
    /// Second mark of the table's own.
    pub const MARK_B: Entry = 1 << 12;

    const FACTOR: u32 = 16;
    const VALUE: u32 = 20;
    const KEPT: u32 = 24;
    const COUNT: u32 = 28;
    /// Nothing happens to the number that is being read.
    pub const NO_DIGIT: Entry = 1 << FACTOR | 1 << KEPT;
    /// The byte is a digit of it.
    pub const DIGIT: Entry = 10 << FACTOR | 15 << VALUE | 1 << KEPT | 1 << COUNT;
    /// The byte is its first digit.
    pub const FIRST_DIGIT: Entry = 15 << VALUE | 1 << COUNT;

    /// A number as far as it was read.
    #[derive(Clone, Copy)]
    pub struct Number {
        pub value: u64,
        pub digits: u32,
    }

    impl Number {
        #[inline(always)]
        pub fn step(&mut self, entry: Entry, byte: u8) {
            self.value = self
                .value
                .wrapping_mul((entry >> FACTOR & 15) as u64)
                .wrapping_add((byte as u32 & (entry >> VALUE & 15)) as u64);
            self.digits = self.digits.wrapping_mul(entry >> KEPT & 15).wrapping_add(entry >> COUNT & 15);
        }
    }
}

/// Gives each of `letters`, in either case, a class of its own: `first` and those after it, in their order.
pub const fn letters_as(mut classes: [u8; 256], letters: &[u8], first: u8) -> [u8; 256] {
    let mut i = 0;
    while i < letters.len() {
        classes[letters[i].to_ascii_uppercase() as usize] = first + i as u8;
        classes[letters[i].to_ascii_lowercase() as usize] = first + i as u8;
        i += 1;
    }
    classes
}

/// Transitions by state and class.
pub struct Table(pub [Entry; STATES * CLASSES]);

impl Table {
    /// Every state stays where it is.
    pub const fn identity() -> Self {
        let mut table = [0; STATES * CLASSES];
        let mut state = 0;
        while state < STATES {
            let mut class = 0;
            while class < CLASSES {
                table[state * CLASSES + class] = state as Entry | action::NO_DIGIT;
                class += 1;
            }
            state += 1;
        }
        Self(table)
    }

    /// For one class of bytes.
    pub const fn on(mut self, state: u8, class: u8, entry: Entry) -> Self {
        self.0[state as usize * CLASSES + class as usize] = complete(entry);
        self
    }

    /// For every class; later calls make the exceptions.
    pub const fn all(mut self, state: u8, entry: Entry) -> Self {
        let mut class = 0;
        while class < CLASSES {
            self.0[state as usize * CLASSES + class] = complete(entry);
            class += 1;
        }
        self
    }

    #[inline(always)]
    pub fn step(&self, state: u8, class: u8) -> Entry {
        // The masks say nothing new to a correct caller, and the bounds to the verifier.
        self.0[((state as usize & (STATES - 1)) << 5) | (class as usize & (CLASSES - 1))]
    }
}

/// An entry that says nothing of digits leaves the number alone.
const fn complete(entry: Entry) -> Entry {
    if entry >> 16 == 0 { entry | action::NO_DIGIT } else { entry }
}

/// Bytes that are read at a time, as words: a chunk of a packet.
pub const CHUNK: usize = 128;

/// A chunk of a packet, the first byte in the lowest bits of the first word (as a little-endian processor reads it from
/// memory). What lies beyond its end is zero.
#[derive(Clone, Copy)]
pub struct Chunk {
    pub words: [u64; CHUNK / 8],
}

impl Chunk {
    pub const EMPTY: Self = Self { words: [0; CHUNK / 8] };

    #[inline(always)]
    pub const fn byte(&self, i: u32) -> u8 {
        (self.words[(i >> 3) as usize & (CHUNK / 8 - 1)] >> ((i & 7) * 8)) as u8
    }

    /// From up to [`CHUNK`] bytes.
    pub fn new(bytes: &[u8]) -> Self {
        let mut chunk = Self::EMPTY;
        for (i, &byte) in bytes.iter().take(CHUNK).enumerate() {
            chunk.words[i / 8] |= (byte as u64) << (i % 8 * 8);
        }
        chunk
    }
}

/// Octets of a body that are passed over at a time where nothing in them can matter.
pub const STRETCH: usize = 512;

/// As many octets, as the words of a [`Chunk`].
pub type Stretch = [u64; STRETCH / 8];

/// Whether some line feed among these octets is followed by a dot, also among them.
#[inline(always)]
pub const fn has_dot_line<const WORDS: usize>(words: &[u64; WORDS]) -> bool {
    let mut found = 0;
    let mut i = 0;
    while i < WORDS {
        let word = words[i];
        let next = if i + 1 < WORDS { words[i + 1] } else { 0 };
        found |= equal_bytes(word, b'\n') & equal_bytes(word >> 8 | next << 56, b'.');
        i += 1;
    }
    found != 0
}

/// The upper bit of every byte of `word` that equals `byte`, and no other.
#[inline(always)]
const fn equal_bytes(word: u64, byte: u8) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let differs = word ^ (ONES * byte as u64);
    !(((differs & LOW) + LOW) | differs | LOW)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn dot_lines_are_found_by_words_as_by_bytes(
            bytes in prop::collection::vec(prop::sample::select(&b"\n.\r\0a\x8a\xae\x0b\x2f\xff"[..]), 1..=CHUNK),
            long in any::<bool>(),
        ) {
            let bytes: std::vec::Vec<u8> = if long { bytes } else { bytes.into_iter().filter(|b| *b != b'.').collect() };
            let chunk = Chunk::new(&bytes);
            prop_assert_eq!(has_dot_line(&chunk.words), bytes.windows(2).any(|two| two == b"\n."));
            for (i, byte) in bytes.iter().enumerate() {
                prop_assert_eq!(chunk.byte(i as u32), *byte);
            }
        }
    }
}
