//! Drills, short ones: they end by themselves, what they promise holds, and they measure what they did.

use crate::bins;
use crate::tools::flk;
use crate::trio::text;
use serde_json::Value;

/// Runs a drill; gives what it says to machines, and its page.
fn drill(what: &str, more: &[&str]) -> (Value, String) {
    let folder = tempfile::tempdir().expect("a directory");
    let page = folder.path().join("page.html");
    let (program, scratch) = (bins::path("flkd"), folder.path().to_owned());
    let given = [
        "drill",
        what,
        "--seconds",
        "1",
        "--rate",
        "40",
        "--flkd",
        text(&program),
        "--scratch",
        text(&scratch),
        "--out",
        text(&page),
        "--json",
    ];
    let said = flk(&[&given[..], more].concat());
    assert_eq!(said.code, Some(0), "{}", said.all());
    let left = std::fs::read_dir(folder.path()).expect("a directory").count();
    assert_eq!(left, 1, "only the page is left");
    let told: Value = serde_json::from_str(&said.out).expect("JSON");
    (told["data"].clone(), std::fs::read_to_string(&page).expect("a page"))
}

fn insist(data: &Value, page: &str, done: &[&str]) {
    assert_eq!(data["answers"]["differ"], 0, "{data}");
    assert!(data["answers"]["count"].as_u64() > Some(60), "{data}");
    let looks = data["timeline"]["looks"].as_array().expect("looks");
    assert!(looks.len() > 10, "{} looks", looks.len());
    assert_eq!(page.matches("<polyline").count(), 6);
    for what in done {
        assert!(page.contains(what), "{what}");
        let events = data["timeline"]["events"].as_array().expect("events");
        assert!(events.iter().any(|event| event["what"].as_str().is_some_and(|said| said.contains(what))));
    }
}

#[test]
fn a_region_is_lost_restored_and_takes_its_clients_back() {
    let (data, page) = drill("region-loss", &[]);
    insist(&data, &page, &["west is lost", "west is back", "both regions agree"]);
    assert!(data["recovery_time_ms"].as_u64() > Some(0), "{data}");
    assert!(data["acknowledged"].as_u64() > Some(20) && data["entries"].as_u64() > Some(0), "{data}");
    assert!(data["missing"].as_u64() < data["acknowledged"].as_u64(), "{data}");
    assert!(data["restored"]["records"].as_u64() > Some(0), "{data}");
    // While it is lost it does not answer.
    let looks = data["timeline"]["looks"].as_array().expect("looks");
    assert!(looks.iter().any(|look| look["west"]["up"] == false && look["east"]["up"] == true));
}

#[test]
fn regions_that_were_apart_name_what_they_took_differently() {
    let (data, page) = drill("split-brain", &[]);
    insist(&data, &page, &["the regions do not reach each other", "both regions agree"]);
    assert_eq!(data["conflicts"], serde_json::json!([5, 5]), "{data}");
    assert!(data["exposed"][0].as_u64() > Some(0) && data["exposed"][1].as_u64() > Some(0), "{data}");
}

#[test]
fn what_takes_long_to_arrive_shows_as_that_long() {
    let (data, page) = drill("lag", &["--lag-ms", "1500"]);
    insist(&data, &page, &["what west ships takes 1500 ms", "both regions agree"]);
    assert!(data["recovery_point_ms"].as_u64() >= Some(1000), "{data}");
}
