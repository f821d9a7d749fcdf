//! What a client takes: the header Accept (RFC 9110, 12.5.1), as far as two forms of one thing need it.

use hyper::header::{self, HeaderMap};

/// Which of the media types on offer the client likes best, the first of them where it likes several as well; `None` if
/// it takes none. A client that says nothing, or nothing that can be read, takes all.
pub(super) fn choose<'a>(headers: &HeaderMap, offers: &[&'a str]) -> Option<&'a str> {
    let lines: Vec<&str> =
        headers.get_all(header::ACCEPT).iter().filter_map(|line| line.to_str().ok()).collect();
    let ranges: Vec<(&str, u32)> =
        lines.iter().flat_map(|line| line.split(',')).filter_map(|range| read(range.trim())).collect();
    if ranges.is_empty() {
        return offers.first().copied();
    }
    let liking = |offer: &str| {
        // The most particular range that fits says how much.
        let fits = ranges.iter().filter_map(|(range, quality)| Some((fit(range, offer)?, *quality)));
        fits.max_by_key(|(particular, _)| *particular).map_or(0, |(_, quality)| quality)
    };
    let mut best: Option<(&str, u32)> = None;
    for offer in offers {
        let quality = liking(offer);
        if quality > best.map_or(0, |(_, quality)| quality) {
            best = Some((offer, quality));
        }
    }
    best.map(|(offer, _)| offer)
}

/// Whether the client takes gzip (RFC 9110, 12.5.3).
pub(super) fn gzip(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok());
    let mut codings = lines.flat_map(|line| line.split(',')).map(|coding| coding.trim().split(';'));
    codings.any(|mut parts| {
        let named = parts.next().is_some_and(|name| name.trim().eq_ignore_ascii_case("gzip"));
        let refused = parts.any(|part| matches!(part.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
        named && !refused
    })
}

/// A range and its quality in thousandths.
fn read(range: &str) -> Option<(&str, u32)> {
    let mut parts = range.split(';').map(str::trim);
    let name = parts.next().filter(|name| name.contains('/'))?;
    let quality = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
    let quality = match quality {
        None => 1000,
        Some(text) => {
            let number: f64 = text.parse().ok().filter(|q| (0.0..=1.0).contains(q))?;
            (number * 1000.0) as u32
        }
    };
    Some((name, quality))
}

/// How particular a range is that an offer fits.
fn fit(range: &str, offer: &str) -> Option<u8> {
    let offer = offer.split(';').next().unwrap_or_default().trim();
    let kind = offer.split('/').next().unwrap_or_default();
    match range.split_once('/')? {
        ("*", "*") => Some(0),
        (given, "*") => given.eq_ignore_ascii_case(kind).then_some(1),
        _ => range.eq_ignore_ascii_case(offer).then_some(2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    #[test]
    fn gzip_is_given_to_who_names_it() {
        for (accept, want) in [
            ("gzip", true),
            ("br, GZip;q=0.5", true),
            ("gzip;q=0", false),
            ("x-gzip", false),
            ("*", false),
            ("identity", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(accept));
            assert_eq!(gzip(&headers), want, "{accept}");
        }
        assert!(!gzip(&HeaderMap::new()));
    }

    #[test]
    fn the_client_chooses_and_the_first_is_given_where_it_does_not() {
        let offers = ["text/plain; charset=utf-8", "application/cose"];
        for (accept, want) in [
            (None, Some(0)),
            (Some(""), Some(0)),
            (Some("*/*"), Some(0)),
            (Some("application/cose"), Some(1)),
            (Some("Application/COSE; cose-type=\"cose-sign1\""), Some(1)),
            (Some("text/plain"), Some(0)),
            (Some("text/*;q=0.5, application/*"), Some(1)),
            (Some("text/plain;q=0.5, */*;q=0.1"), Some(0)),
            (Some("application/cose;q=0.5, text/plain;q=0.4"), Some(1)),
            (Some("application/cose;q=0, */*"), Some(0)),
            (Some("text/plain;q=0"), None),
            (Some("application/json"), None),
            (Some("application/json, text/html;q=0.9"), None),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            }
            assert_eq!(choose(&headers, &offers), want.map(|n: usize| offers[n]), "{accept:?}");
        }
    }
}
