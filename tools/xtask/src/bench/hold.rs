//! How long the DomU's driver holds each sent buffer, and how many at a time, from the kernel's own trace events.

/// The percentiles 0 to 100 in µs, and the number of buffers.
pub fn percentiles(said: &str) -> Option<(Vec<f64>, u64)> {
    let words: Vec<f64> =
        said.lines().find_map(|line| line.strip_prefix("HOLD "))?.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let (count, percentiles) = words.split_last()?;
    (percentiles.len() == 101 && *count >= 1.0).then(|| (percentiles.to_vec(), *count as u64))
}

/// Time in ms, and the most buffers held in that ms.
pub fn occupancy(said: &str) -> Option<Vec<(f64, f64)>> {
    let line = said.lines().find_map(|line| line.strip_prefix("OCC "))?;
    let points: Option<Vec<_>> = line
        .split_whitespace()
        .map(|point| {
            let (time, held) = point.split_once(':')?;
            Some((time.parse().ok()?, held.parse().ok()?))
        })
        .collect();
    points.filter(|points| !points.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{occupancy, percentiles};

    #[test]
    fn a_distribution_has_all_its_percentiles() {
        let line: String = (0..=100).map(|p| format!(" {}", p * 2)).collect();
        let (percentiles_, count) = percentiles(&format!("x\nHOLD{line} 5000\n")).unwrap();
        assert_eq!((percentiles_[50], percentiles_[100], count), (100.0, 200.0, 5000));
        assert!(percentiles("HOLD 1 2 3").is_none() && percentiles("").is_none());
    }

    #[test]
    fn occupancy_is_a_curve() {
        assert_eq!(occupancy("OCC 0:3 2:5\n"), Some(vec![(0.0, 3.0), (2.0, 5.0)]));
        assert!(occupancy("OCC 0:3 2\n").is_none() && occupancy("").is_none());
    }
}
