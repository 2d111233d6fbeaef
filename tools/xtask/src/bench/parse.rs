//! The figures in what iperf3, netperf, pktgen and ddsperf print.

/// The receiver's rate of iperf3 in Mbit/s.
pub fn iperf_rate(said: &str) -> Option<f64> {
    before(receiver(said)?, &["Kbits/sec"]).map(|rate| rate / 1000.0)
}

/// The sum of the rates of several receivers of iperf3 in Mbit/s, if there are three.
pub fn iperf_sum(said: &str) -> Option<f64> {
    let rates: Option<Vec<f64>> = receivers(said).map(|line| before(line, &["Kbits/sec"])).collect();
    rates.filter(|rates| rates.len() == 3).map(|rates| rates.iter().sum::<f64>() / 1000.0)
}

/// The datagrams that iperf3 saw lost, in percent.
pub fn iperf_lost(said: &str) -> Option<f64> {
    // Beside the percentage, which is rounded, it tells both numbers: "120/3000 (4%)".
    let counts = receiver(said)?.split_whitespace().filter_map(|word| word.split_once('/'));
    let (lost, sent) = counts.filter_map(|(lost, sent)| Some((lost.parse::<f64>().ok()?, sent.parse::<f64>().ok()?))).next()?;
    (sent > 0.0).then(|| lost * 100.0 / sent)
}

/// netperf's transactions per second.
pub fn netperf_rate(said: &str) -> Option<f64> {
    let row = |line: &str| line.split_whitespace().map(str::parse).collect::<Result<Vec<f64>, _>>().ok();
    said.lines().filter_map(row).find(|row| row.len() == 6)?.last().copied()
}

/// The packets per second that came through to Dom0: pktgen's own rate, less what the vif did not deliver.
pub fn pktgen(said: &str) -> Option<f64> {
    let count = |name| said.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
    let rate: f64 = said.split_whitespace().find_map(|word| word.strip_suffix("pps")?.parse().ok())?;
    // "Result: OK: 77221(c75000+d2221) usec, 1000 (60byte,0frags)"
    let sent = before(said.lines().find(|line| line.contains("Result: OK"))?, &["(60byte", "(1514byte"])?;
    // Others may send a few packets meanwhile, such as the answer that brought these lines.
    Some(rate * ((count("after")? - count("before")?) / sent).min(1.0))
}

/// ddsperf's samples per second in thousands: the mean of its reports, but the first, which has the start in it.
pub fn dds_rate(said: &str) -> Option<f64> {
    mean(said.lines().filter_map(|line| after(line, "rate")))
}

/// The mean of ddsperf's round trips in µs, over its reports but the first.
pub fn dds_mean(said: &str) -> Option<f64> {
    mean(said.lines().filter_map(|line| after(line, "mean")))
}

fn receiver(said: &str) -> Option<&str> {
    receivers(said).next()
}

fn receivers(said: &str) -> impl Iterator<Item = &str> {
    said.lines().filter(|line| line.trim_end().ends_with("receiver"))
}

/// The number in the word before one that begins with any of `units`.
fn before(line: &str, units: &[&str]) -> Option<f64> {
    let words: Vec<_> = line.split_whitespace().collect();
    let at = words.iter().position(|word| units.iter().any(|unit| word.starts_with(unit)))?;
    words.get(at.checked_sub(1)?)?.parse().ok()
}

/// The number at the start of the word after `name`: "mean 127.1us".
fn after(line: &str, name: &str) -> Option<f64> {
    let word = line.split_whitespace().skip_while(|word| *word != name).nth(1)?;
    let end = word.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(word.len());
    word.get(..end)?.parse().ok()
}

fn mean(reports: impl Iterator<Item = f64>) -> Option<f64> {
    let reports: Vec<_> = reports.collect();
    let steady = reports.get(1..).filter(|rest| !rest.is_empty()).unwrap_or(&reports);
    (!steady.is_empty()).then(|| steady.iter().sum::<f64>() / steady.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iperf3_is_read_at_the_receiver() {
        let tcp = "[  5]   0.00-2.00   sec   432 MBytes  1812000 Kbits/sec    0            sender\n\
                   [  5]   0.00-2.00   sec   430 MBytes  1803000 Kbits/sec                  receiver\n";
        assert_eq!(iperf_rate(tcp), Some(1803.0));
        assert_eq!(iperf_lost(tcp), None);
        let udp = "[  5]   0.00-2.02   sec  52.1 MBytes  215500 Kbits/sec  0.050 ms  120/3000 (4%)  receiver\n";
        assert_eq!((iperf_rate(udp), iperf_lost(udp)), (Some(215.5), Some(4.0)));
        assert_eq!((iperf_sum(tcp), iperf_sum(&tcp.repeat(3))), (None, Some(5409.0)));
        assert_eq!(iperf_rate("iperf3: error - unable to connect"), None);
    }

    #[test]
    fn netperf_has_its_rate_at_the_end_of_the_first_row() {
        let said = "Local /Remote\nSocket Size   Request  Resp.   Elapsed  Trans.\nSend   Recv   Size     Size    Time     Rate\n\
                    bytes  Bytes  bytes    bytes   secs.    per sec\n\n16384  131072 1        1       2.00     5793.27\n16384  131072\n";
        assert_eq!(netperf_rate(said), Some(5793.27));
    }

    #[test]
    fn pktgen_counts_what_was_delivered() {
        let said = "before 100\nResult: OK: 77221(c75000+d2221) usec, 1000 (60byte,0frags)\n  12949pps 6Mb/sec (6215520bps) errors: 0\nafter 600\n";
        assert_eq!(pktgen(said), Some(12949.0 * 0.5));
        assert_eq!(pktgen("before 100\nafter 600\n"), None);
    }

    #[test]
    fn ddsperf_reports_but_the_first_are_averaged() {
        let said = "[9] 1.005  size 12 total 96000 lost 0 delta 32000 lost 0 rate 10.00 kS/s 3.08 Mb/s\n\
                    [9] 2.005  size 12 total 96000 lost 0 delta 32000 lost 0 rate 32.00 kS/s 3.08 Mb/s\n\
                    [9] 3.005  size 12 total 96000 lost 0 delta 32000 lost 0 rate 34.00 kS/s 3.08 Mb/s\n";
        assert_eq!(dds_rate(said), Some(33.0));
        assert_eq!(dds_mean("[9] 1.0 10.0.0.2 mean 127.1us min 100us"), Some(127.1));
        assert_eq!(dds_rate(""), None);
    }
}
