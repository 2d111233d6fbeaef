//! Values of options, as Xen reads them.

use super::Level;

/// A decimal, `0x` hexadecimal or `0` octal number.
pub(super) fn number(text: &str) -> Option<u32> {
    u32::try_from(integer(text)?).ok()
}

fn integer(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    // from_str_radix would take a sign.
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u64::from_str_radix(digits, radix).ok())?
}

/// Bytes: a number with one of the suffixes `B`, `K`, `M`, `G`, `T` in either case; without a suffix it counts KiB.
pub(super) fn size(text: &str) -> Option<u64> {
    let is_hex = text.starts_with("0x") || text.starts_with("0X");
    let (digits, shift) = match text.bytes().last()?.to_ascii_lowercase() {
        // 'b' is a digit of a hexadecimal number.
        b'b' if !is_hex => (text.get(..text.len() - 1)?, 0),
        b'k' => (text.get(..text.len() - 1)?, 10),
        b'm' => (text.get(..text.len() - 1)?, 20),
        b'g' => (text.get(..text.len() - 1)?, 30),
        b't' => (text.get(..text.len() - 1)?, 40),
        _ => (text, 10),
    };
    integer(digits)?.checked_mul(1 << shift)
}

/// A boolean; an option without a value is on.
pub(super) fn boolean(value: Option<&str>) -> Option<bool> {
    match value {
        None | Some("yes" | "on" | "true" | "enable" | "1") => Some(true),
        Some("no" | "off" | "false" | "disable" | "0") => Some(false),
        Some(_) => None,
    }
}

/// A message level.
pub(super) fn level(text: &str) -> Option<Level> {
    match text {
        "none" => Some(Level::None),
        "error" => Some(Level::Error),
        "warning" => Some(Level::Warning),
        "info" => Some(Level::Info),
        "debug" | "all" => Some(Level::Debug),
        _ => None,
    }
}
