//! Bytes as they stand on the wire: lower-case hex digits, one spelling.

/// The digits of `bytes`.
pub(crate) fn hex_text(bytes: &[u8]) -> String {
    // `hex::encode` collects characters one by one, which takes several times as long.
    let mut digits = vec![0; 2 * bytes.len()];
    hex::encode_to_slice(bytes, &mut digits).expect("two digits per byte");
    String::from_utf8(digits).expect("digits are ASCII")
}

/// The bytes of `2 * N` digits; none of any other text.
pub(crate) fn hex_bytes<const N: usize>(digits: &str) -> Option<[u8; N]> {
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(bytes)
}

/// `hex` also takes upper case; the wire has one spelling.
fn value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_only_lower_case_digits_of_the_right_number() {
        for byte in 0..=u8::MAX {
            let digits = hex_text(&[byte, 7]);
            assert_eq!(digits, hex::encode([byte, 7]));
            assert_eq!(hex_bytes(&digits), Some([byte, 7]));
            let digits = format!("0{}07", char::from(byte));
            let expected = hex::decode(&digits)
                .ok()
                .filter(|_| !byte.is_ascii_uppercase());
            assert_eq!(hex_bytes::<2>(&digits).map(Vec::from), expected);
        }
        for bad in ["", "0", "000", "00000", "000000"] {
            assert_eq!(hex_bytes::<2>(bad), None, "{bad}");
        }
    }
}
