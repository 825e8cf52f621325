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
    // `hex` also takes upper case.
    if digits.bytes().any(|b| b.is_ascii_uppercase()) {
        return None;
    }
    let mut bytes = [0; N];
    hex::decode_to_slice(digits, &mut bytes).ok()?;
    Some(bytes)
}
