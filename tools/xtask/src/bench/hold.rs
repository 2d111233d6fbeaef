//! How long the DomU's driver holds each sent buffer, and how many at a time, from the kernel's own trace events.

/// The percentiles 0 to 100 in µs, and the number of buffers.
pub fn percentiles(said: &str) -> Option<(Vec<f64>, u64)> {
    let words: Vec<f64> =
        said.lines().find_map(|line| line.strip_prefix("HOLD "))?.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let (count, percentiles) = words.split_last()?;
    (percentiles.len() == 101 && *count >= 1.0).then(|| (percentiles.to_vec(), *count as u64))
}

/// Time in ms, and the most buffers held in that ms, until it falls below a tenth of the most for good: the rest is the connection's end.
pub fn occupancy(said: &str) -> Option<Vec<(f64, f64)>> {
    let line = said.lines().find_map(|line| line.strip_prefix("OCC "))?;
    let mut points: Vec<(f64, f64)> = Vec::new();
    let mut before = None;
    for point in line.split_whitespace() {
        let numbers: Option<Vec<f64>> = point.split(':').map(|number| number.parse().ok()).collect();
        let &[time, most, last] = numbers?.as_slice() else { return None };
        // Between events nothing changes.
        if let Some((then, held)) = before.filter(|(then, _)| time > then + 1.0) {
            points.extend([(then + 1.0, held), (time, held)]);
        }
        points.push((time, most));
        before = Some((time, last));
    }
    let most = points.iter().map(|(_, held)| *held).fold(0.0, f64::max);
    let last = points.iter().rposition(|(_, held)| *held * 10.0 >= most)?;
    points.truncate(last + 2);
    Some(points)
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
        let expected = vec![(0.0, 3.0), (1.0, 2.0), (2.0, 2.0), (2.0, 50.0), (3.0, 0.0)];
        assert_eq!(occupancy("OCC 0:3:2 2:50:0 7:1:1 9:1:1\n"), Some(expected));
        assert!(occupancy("OCC 0:3 2:5\n").is_none() && occupancy("").is_none());
    }
}
