//! GPT-2's printable spelling of bytes: each of the 256 bytes has one character, so that a token of
//! arbitrary bytes can be written as text.

/// The character that spells each byte: itself where it prints, else the next free one from U+0100.
pub fn characters() -> [char; 256] {
    let mut table = ['\0'; 256];
    let mut next = 0x100;
    for byte in 0..=255u8 {
        let prints = matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
        table[byte as usize] = if prints {
            char::from(byte)
        } else {
            next += 1;
            char::from_u32(next - 1).expect("below U+0200")
        };
    }
    table
}

/// The byte that each character below U+0144 spells.
pub fn bytes() -> [Option<u8>; 0x144] {
    let mut table = [None; 0x144];
    for (byte, character) in characters().iter().enumerate() {
        table[*character as usize] = Some(byte as u8);
    }
    table
}

/// The bytes that `token` spells, or None where it is not a spelling.
pub fn decode(token: &str, table: &[Option<u8>; 0x144]) -> Option<Vec<u8>> {
    token.chars().map(|c| table.get(c as usize).copied().flatten()).collect()
}

pub fn encode(bytes: &[u8]) -> String {
    let table = characters();
    bytes.iter().map(|byte| table[*byte as usize]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spells_every_byte_once() {
        let all: Vec<u8> = (0..=255).collect();
        let spelled = encode(&all);
        assert_eq!(spelled.chars().count(), 256);
        assert_eq!(decode(&spelled, &bytes()).unwrap(), all);
        assert_eq!(encode(b" \n"), "ĠĊ");
        assert_eq!(decode("中", &bytes()), None);
    }
}
