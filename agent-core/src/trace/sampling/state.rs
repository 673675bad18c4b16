//! OpenTelemetry's member of `tracestate`: `ot=th:…;rv:…` (specification, "TraceState Handling").

/// Most members of a list (W3C Trace Context, section 3.3.1.1).
const MAX_MEMBERS: usize = 32;

/// Longest value of the member (specification): 256 characters.
const MAX_VALUE: usize = 256;

/// The explicit randomness, `rv`: 14 hexadecimal digits. It goes before that of the trace id.
pub(in crate::trace) fn randomness(state: &str) -> Option<u64> {
    let text = fields(own(state)?).find_map(|(key, value)| (key == "rv").then_some(value))?;
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let fits = text.len() == 14 && text.bytes().all(hex);
    u64::from_str_radix(text, 16).ok().filter(|_| fits)
}

/// Whether somebody said how often the span counts.
pub(in crate::trace) fn has_threshold(state: &str) -> bool {
    own(state).is_some_and(|own| fields(own).any(|(key, _)| key == "th"))
}

/// Writes `state` to `out`, with this threshold in place of any other.
pub(in crate::trace) fn with_threshold(state: &str, threshold: u64, out: &mut String) {
    let digits = format!("{threshold:014x}");
    let digits = digits.trim_end_matches('0');
    out.clear();
    out.push_str("ot=th:");
    out.push_str(if digits.is_empty() { "0" } else { digits });
    let value = "ot=".len();
    for (key, text) in own(state).into_iter().flat_map(fields).filter(|(key, _)| *key != "th") {
        if out.len() - value + key.len() + text.len() + 2 > MAX_VALUE {
            break;
        }
        for part in [";", key, ":", text] {
            out.push_str(part);
        }
    }
    for member in members(state).filter(|member| !member.starts_with("ot=")).take(MAX_MEMBERS - 1) {
        out.push(',');
        out.push_str(member);
    }
}

/// Those of characters that a header may have (W3C, section 3.3.1.3).
fn members(state: &str) -> impl Iterator<Item = &str> {
    let printable = |byte: u8| (b' '..=b'~').contains(&byte);
    let members = state.split(',').map(|member| member.trim_matches([' ', '\t']));
    members.filter(move |member| !member.is_empty() && member.bytes().all(printable))
}

fn own(state: &str) -> Option<&str> {
    members(state).find_map(|member| member.strip_prefix("ot="))
}

/// Those that are of the specification's characters.
fn fields(own: &str) -> impl Iterator<Item = (&str, &str)> {
    let of_key = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let of_value = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let fields = own.split(';').filter_map(|field| field.split_once(':'));
    fields.filter(move |(key, value)| key.bytes().all(of_key) && value.bytes().all(of_value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threshold_is_written_and_the_rest_stays() {
        for (state, threshold, expected) in [
            ("", 0, "ot=th:0"),
            ("", 0xc0 << 48, "ot=th:c"),
            ("", 0xfd70a3d70a3d70, "ot=th:fd70a3d70a3d7"),
            ("", 1, "ot=th:00000000000001"),
            ("a=b", 0, "ot=th:0,a=b"),
            ("a=b , ot=th:8;rv:0123456789abcd,c=d", 0, "ot=th:0;rv:0123456789abcd,a=b,c=d"),
            ("ot=rv:0123456789abcd", 1 << 55, "ot=th:8;rv:0123456789abcd"),
            ("ot=", 0, "ot=th:0"),
            (",,,", 0, "ot=th:0"),
            ("a=\u{1}b,\tc=d\t,e=é,ot=a b:c;d:e;th :1;rp:f g", 0, "ot=th:0;d:e,c=d"),
        ] {
            let mut out = "old".to_owned();
            with_threshold(state, threshold, &mut out);
            assert_eq!(out, expected, "{state}");
        }
    }

    #[test]
    fn what_was_said_is_read() {
        assert_eq!(randomness("x=y,ot=th:0;rv:0123456789abcd"), Some(0x0001_2345_6789_abcd));
        for none in
            ["", "ot=rv:12", "ot=rv:0123456789ABCD", "rv:0123456789abcd", "ot=rv:+123456789abcd"]
        {
            assert_eq!(randomness(none), None, "{none}");
        }
        assert!(has_threshold("ot=th:c") && !has_threshold("ot=rv:c,th=1"));
    }

    proptest::proptest! {
        #[test]
        fn what_strangers_send_stays_in_bounds(state in "([a-z]{1,3}=|ot=|th:|rv:|[;,: é]|[0-9a-f]{0,200}){0,90}") {
            let mut out = String::new();
            with_threshold(&state, 5, &mut out);
            proptest::prop_assert!(out.split(',').count() <= MAX_MEMBERS);
            proptest::prop_assert!(out.split(',').next().is_some_and(|own| own.len() <= 3 + MAX_VALUE));
            proptest::prop_assert!(has_threshold(&out));
            let _ = randomness(&state);
        }
    }
}
