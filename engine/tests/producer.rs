//! What a producer computes, against NumPy.

use engine::summary::boxes::Points;
use engine::summary::coherence::coherence;
use engine::summary::mt19937::Mt19937;
use serde_json::Value;

fn golden() -> Value {
    serde_json::from_str(include_str!("../../tests/golden/coherence.json")).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

/// The logarithm comes from another library, so the last bit may differ.
fn near(found: &[f64], expected: &[f64]) -> bool {
    found.len() == expected.len()
        && found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 1e-15 * b.abs().max(1.0))
}

#[test]
fn the_directions_are_numpys() {
    for (seed, expected) in golden()["randn"].as_object().unwrap() {
        let mut generator = Mt19937::new(seed.parse().unwrap());
        let found: Vec<f64> = (0..20).map(|_| generator.next_gaussian()).collect();
        assert!(near(&found, &numbers(expected)), "seed {seed}: {found:?}");
    }
}

#[test]
fn coherence_and_boxes_are_numpys() {
    for case in golden()["cases"].as_array().unwrap() {
        let count = |name: &str| usize::try_from(case[name].as_u64().unwrap()).unwrap();
        let values = numbers(&case["points"]);
        let points = Points::new(&values, count("dimensions")).unwrap();
        let seed = u32::try_from(count("seed")).unwrap();
        let found = coherence(points, count("directions"), count("bins"), seed);
        assert_eq!(found.coh_star, case["coh_star"].as_f64().unwrap(), "{} points", points.len());
        assert!(near(&found.v_star, &numbers(&case["v_star"])), "{:?}", found.v_star);
        for (scale, boxes) in case["boxes"].as_object().unwrap() {
            assert_eq!(points.boxes(scale.parse().unwrap()), boxes.as_i64().unwrap(), "scale {scale}");
        }
    }
}
