//! The keys of a body.
//!
//! Case does not matter, as in the original: Go's decoder compares under simple case folding, where the long
//! s and the Kelvin sign are an s and a k.

/// Longest key we know, bytes.
const LONGEST: usize = 13;

macro_rules! keys {
    ($(#[$doc:meta])* $type:ident { $($variant:ident $name:literal $folded:literal)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub(super) enum $type {
            $($variant,)*
        }

        impl $type {
            /// The key of that name, in any case.
            pub(super) fn of(key: &str) -> Option<$type> {
                match key {
                    $($name => Some($type::$variant),)*
                    _ => $type::folded(key),
                }
            }

            #[cold]
            fn folded(key: &str) -> Option<$type> {
                let mut buffer = [0; LONGEST];
                match fold(key, &mut buffer)? {
                    $($folded => Some($type::$variant),)*
                    _ => None,
                }
            }

            /// The name on the wire.
            pub(super) fn name(self) -> &'static str {
                match self {
                    $($type::$variant => $name,)*
                }
            }

            #[cfg(test)]
            const ALL: &[$type] = &[$($type::$variant),*];
        }
    };
}

keys! {
    /// A key of the summary itself.
    Field {
        PcsId "pcs_id" "pcs_id"
        Schema "schema" "schema"
        Version "version" "version"
        ShardId "shard_id" "shard_id"
        Epoch "epoch" "epoch"
        Attempt "attempt" "attempt"
        SentAt "sent_at" "sent_at"
        Seed "seed" "seed"
        Scales "scales" "scales"
        NJ "N_j" "n_j"
        CohStar "coh_star" "coh_star"
        VStar "v_star" "v_star"
        DHat "D_hat" "d_hat"
        R "r" "r"
        Regime "regime" "regime"
        Budget "budget" "budget"
        MerkleRoot "merkle_root" "merkle_root"
        Sig "sig" "sig"
        Ft "ft" "ft"
    }
}

keys! {
    /// A key of `ft`.
    FtField {
        OutboxSeq "outbox_seq" "outbox_seq"
        Degraded "degraded" "degraded"
        Fallbacks "fallbacks" "fallbacks"
        ClockSkewMs "clock_skew_ms" "clock_skew_ms"
    }
}

/// The key in lower case; `None` if it is longer than any we know.
fn fold<'b>(key: &str, buffer: &'b mut [u8; LONGEST]) -> Option<&'b str> {
    let mut length = 0;
    let mut put = |byte: u8| {
        *buffer.get_mut(length)? = byte.to_ascii_lowercase();
        length += 1;
        Some(())
    };
    if key.is_ascii() {
        key.bytes().try_for_each(&mut put)?;
    } else {
        for character in key.chars() {
            put(match character {
                'ſ' => b's',
                '\u{212a}' => b'k',
                other => u8::try_from(other).ok().filter(u8::is_ascii)?,
            })?;
        }
    }
    core::str::from_utf8(&buffer[..length]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_found_in_any_case_and_no_other() {
        for &field in Field::ALL {
            let name = field.name();
            for spelling in
                [name.to_lowercase(), name.to_uppercase(), name.replace('s', "ſ").replace('k', "\u{212a}")]
            {
                assert_eq!(Field::of(&spelling), Some(field), "{spelling}");
            }
            assert_eq!(Field::of(&alloc::format!("{name}x")), None);
            assert_eq!(Field::of(&name[1..]), None);
        }
        for &field in FtField::ALL {
            assert_eq!(FtField::of(&field.name().to_uppercase()), Some(field));
        }
        for other in ["", "attemptattempt", "répétée", "é", "pcs-id", "pcs_id\0"] {
            assert_eq!((Field::of(other), FtField::of(other)), (None, None), "{other}");
        }
    }
}
