//! What a mail server may answer.

use super::*;

#[test]
fn a_refusal_is_one_short_line() {
    assert_eq!(refusal("550 no such user\n5.1.1"), "550 no such user");
    let long = "é".repeat(REFUSAL_BYTES_MAX);
    assert_eq!(refusal(&long).len(), REFUSAL_BYTES_MAX);
    assert_eq!(refusal(""), "");
}
