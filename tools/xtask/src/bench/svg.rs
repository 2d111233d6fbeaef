//! Plots as SVG text. Every series differs by pattern, dash and mark as well as by colour, so that none of them is needed.

use super::table::number;
use std::fmt::Write;

/// The width of every plot; it scales with the page.
const WIDTH: f64 = 760.0;
const TEXT: f64 = 12.0;

/// How a series is drawn: the colour, the dashes of its line, the shape of its marks.
struct Style {
    colour: &'static str,
    dash: &'static str,
    mark: fn(f64, f64) -> String,
}

const STYLES: [Style; 5] = [
    Style { colour: "#9aa3ad", dash: "", mark: circle },
    Style { colour: "#3f7fb5", dash: "7 4", mark: square },
    Style { colour: "#14304d", dash: "", mark: triangle },
    Style { colour: "#b5652b", dash: "2 3", mark: circle },
    Style { colour: "#6b7f2a", dash: "10 3 2 3", mark: square },
];

/// Values of one system, one for each group; nothing where it was not measured.
pub struct Series {
    /// The system's name.
    pub name: String,
    /// Its place among all systems, which chooses its style.
    pub style: usize,
    /// Its values.
    pub values: Vec<Option<f64>>,
}

/// Points of one system.
pub struct Curve {
    /// The system's name.
    pub name: String,
    /// Its place among all systems, which chooses its style.
    pub style: usize,
    /// Its points.
    pub points: Vec<(f64, f64)>,
}

/// One axis.
pub struct Axis {
    /// What it shows, with the unit.
    pub title: &'static str,
    /// Whether each step is ten times the last.
    pub log: bool,
    /// Where the ticks are, with their words; if empty, they are chosen.
    pub ticks: Vec<(f64, String)>,
}

impl Axis {
    /// An axis with evenly spaced numbers.
    pub fn linear(title: &'static str) -> Self {
        Self { title, log: false, ticks: Vec::new() }
    }

    /// An axis of powers of ten.
    pub fn log(title: &'static str) -> Self {
        Self { title, log: true, ticks: Vec::new() }
    }
}

/// Text as SVG and HTML take it.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Patterns that all plots of a page share.
pub fn definitions() -> String {
    let mut text = String::from("<svg width=\"0\" height=\"0\" aria-hidden=\"true\" style=\"position:absolute\"><defs>");
    for (n, Style { colour, .. }) in STYLES.iter().enumerate() {
        let marks = match n {
            0 => String::new(),
            1 => "<path d=\"M-2 2l4-4M0 8l8-8M6 10l4-4\" stroke=\"#fff\" stroke-width=\"1.6\"/>".into(),
            2 => String::new(),
            3 => "<circle cx=\"4\" cy=\"4\" r=\"1.7\" fill=\"#fff\"/>".into(),
            _ => "<path d=\"M0 4h8\" stroke=\"#fff\" stroke-width=\"2\"/>".to_string(),
        };
        let _ = write!(
            text,
            "<pattern id=\"s{n}\" width=\"8\" height=\"8\" patternUnits=\"userSpaceOnUse\"><rect width=\"8\" height=\"8\" fill=\"{colour}\"/>{marks}</pattern>"
        );
    }
    for (n, marks) in PARTS.iter().enumerate() {
        let _ = write!(text, "<pattern id=\"p{n}\" width=\"8\" height=\"8\" patternUnits=\"userSpaceOnUse\">{marks}</pattern>");
    }
    text + "</defs></svg>"
}

/// The patterns of the parts of a stack, dark and light in turn.
const PARTS: [&str; 8] = [
    "<rect width=\"8\" height=\"8\" fill=\"#14304d\"/>",
    "<rect width=\"8\" height=\"8\" fill=\"#e8b04a\"/>",
    "<rect width=\"8\" height=\"8\" fill=\"#3f7fb5\"/><path d=\"M-2 2l4-4M0 8l8-8M6 10l4-4\" stroke=\"#fff\" stroke-width=\"1.6\"/>",
    "<rect width=\"8\" height=\"8\" fill=\"#d8dde3\"/><circle cx=\"4\" cy=\"4\" r=\"1.6\" fill=\"#333\"/>",
    "<rect width=\"8\" height=\"8\" fill=\"#7a3b1d\"/><path d=\"M0 4h8\" stroke=\"#fff\" stroke-width=\"1.5\"/>",
    "<rect width=\"8\" height=\"8\" fill=\"#f4f4f0\"/><path d=\"M4 0v8\" stroke=\"#333\" stroke-width=\"1.2\"/>",
    "<rect width=\"8\" height=\"8\" fill=\"#6b7f2a\"/><path d=\"M0 0l8 8\" stroke=\"#fff\" stroke-width=\"1.2\"/>",
    "<rect width=\"8\" height=\"8\" fill=\"#fff\"/><path d=\"M-2 2l4-4M0 8l8-8M6 10l4-4M0 0l8 8\" stroke=\"#555\"/>",
];

/// Horizontal bars in groups, each bar with its number.
pub fn bars(title: &str, groups: &[String], series: &[Series]) -> String {
    let longest = groups.iter().map(|name| name.chars().count()).max().unwrap_or_default();
    let (left, right, bar) = ((longest as f64 * 6.9 + 12.0).max(190.0), 90.0, 17.0);
    let gap = 12.0;
    let group = bar * series.len() as f64 + gap;
    let height = group * groups.len() as f64 + 30.0;
    let most = series.iter().flat_map(|series| series.values.iter().flatten()).copied().fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let mut text = open(title, height);
    legend(&mut text, series.iter().map(|series| (series.name.as_str(), format!("url(#s{})", series.style % STYLES.len()))), left);
    for (g, name) in groups.iter().enumerate() {
        let top = 30.0 + g as f64 * group;
        label(&mut text, left - 8.0, top + (group - gap) / 2.0 + 4.0, "end", name);
        for (s, series) in series.iter().enumerate() {
            let y = top + s as f64 * bar;
            let Some(value) = series.values.get(g).copied().flatten() else {
                label(&mut text, left + 4.0, y + bar - 4.5, "start", "–");
                continue;
            };
            let width = (WIDTH - left - right) * value / most;
            let _ = write!(
                text,
                "<rect x=\"{left}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"url(#s{})\" stroke=\"#222\" stroke-width=\".6\"/>",
                bar - 2.0,
                series.style % STYLES.len()
            );
            label(&mut text, left + width + 5.0, y + bar - 4.5, "start", &number(value));
        }
    }
    text + "</svg>"
}

/// Horizontal bars made of parts, each with its number where it fits; the sum stands at the end.
pub fn stacks(title: &str, rows: &[(String, Vec<f64>)], parts: &[String]) -> String {
    let (left, right, bar) = (190.0, 90.0, 30.0);
    let most = rows.iter().map(|(_, values)| values.iter().sum::<f64>()).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    // The names of the parts take as many lines as they need.
    let columns = 4;
    let top = 12.0 + 20.0 * parts.len().div_ceil(columns) as f64;
    let mut text = open(title, top + bar * rows.len() as f64 + 6.0);
    for (n, part) in parts.iter().enumerate() {
        let (x, y) = (left + (n % columns) as f64 * 140.0, 4.0 + (n / columns) as f64 * 20.0);
        let _ = write!(
            text,
            "<rect x=\"{x}\" y=\"{y}\" width=\"14\" height=\"12\" fill=\"url(#p{})\" stroke=\"#222\" stroke-width=\".6\"/>",
            n % PARTS.len()
        );
        label(&mut text, x + 19.0, y + 10.5, "start", part);
    }
    for (r, (name, values)) in rows.iter().enumerate() {
        let y = top + r as f64 * bar;
        label(&mut text, left - 8.0, y + 16.0, "end", name);
        let mut x = left;
        for (n, value) in values.iter().enumerate() {
            let width = (WIDTH - left - right) * value / most;
            if width >= 0.3 {
                let _ = write!(
                    text,
                    "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{}\" fill=\"url(#p{})\" stroke=\"#222\" stroke-width=\".6\"/>",
                    bar - 8.0,
                    n % PARTS.len()
                );
            }
            if width >= 34.0 {
                let middle = x + width / 2.0;
                let _ = write!(
                    text,
                    "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"28\" height=\"14\" rx=\"2\" fill=\"#fff\"/>",
                    middle - 14.0,
                    y + 4.0
                );
                label(&mut text, middle, y + 15.0, "middle", &format!("{value:.2}"));
            }
            x += width;
        }
        label(&mut text, x + 6.0, y + 16.0, "start", &format!("{:.2}", values.iter().sum::<f64>() + 0.0));
    }
    text + "</svg>"
}

/// Curves over two axes, each named at its end and in the legend.
pub fn curves(title: &str, x: &Axis, y: &Axis, curves: &[Curve], marks: bool) -> String {
    let (left, right, top, bottom, height) = (70.0, 24.0, 34.0, 46.0, 330.0);
    let all = || curves.iter().flat_map(|curve| &curve.points);
    let (x_scale, y_scale) =
        (Scale::new(x, all().map(|point| point.0), left, WIDTH - right), Scale::new(y, all().map(|point| point.1), height - bottom, top));
    let mut text = open(title, height);
    for (value, word) in &x_scale.ticks {
        let at = x_scale.place(*value);
        let _ = write!(text, "<path d=\"M{at:.1} {top}V{}\" stroke=\"#ddd\"/>", height - bottom);
        label(&mut text, at, height - bottom + 17.0, "middle", word);
    }
    for (value, word) in &y_scale.ticks {
        let at = y_scale.place(*value);
        let _ = write!(text, "<path d=\"M{left} {at:.1}H{}\" stroke=\"#ddd\"/>", WIDTH - right);
        label(&mut text, left - 7.0, at + 4.0, "end", word);
    }
    let _ = write!(text, "<path d=\"M{left} {top}V{}H{}\" fill=\"none\" stroke=\"#444\"/>", height - bottom, WIDTH - right);
    label(&mut text, (left + WIDTH - right) / 2.0, height - 8.0, "middle", x.title);
    let middle = (top + height - bottom) / 2.0;
    let _ = write!(text, "<text transform=\"translate(16 {middle}) rotate(-90)\" text-anchor=\"middle\">{}</text>", escape(y.title));
    for (n, curve) in curves.iter().enumerate() {
        let style = &STYLES[curve.style % STYLES.len()];
        let places: Vec<_> = curve.points.iter().map(|(x, y)| (x_scale.place(*x), y_scale.place(*y))).collect();
        let path: String = places.iter().map(|(x, y)| format!(" {x:.1},{y:.1}")).collect();
        let _ = write!(
            text,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2.2\" stroke-dasharray=\"{}\"/>",
            path.trim_start(),
            style.colour,
            style.dash
        );
        // Marks on a long curve are so far apart that the curve can be seen.
        let step = if marks { 1 } else { (places.len() / 8).max(1) };
        let shown: String =
            places.iter().skip(if marks { 0 } else { n * step / 3 }).step_by(step).map(|(x, y)| (style.mark)(*x, *y)).collect();
        let _ = write!(text, "<path d=\"{shown}\" fill=\"{}\" stroke=\"#fff\" stroke-width=\".8\"/>", style.colour);
        let at = left + n as f64 * 190.0;
        let _ = write!(
            text,
            "<path d=\"M{at} 12h34\" stroke=\"{0}\" stroke-width=\"2.2\" stroke-dasharray=\"{1}\"/><path d=\"{2}\" fill=\"{0}\" stroke=\"#fff\" stroke-width=\".8\"/>",
            style.colour,
            style.dash,
            (style.mark)(at + 17.0, 12.0)
        );
        label(&mut text, at + 40.0, 16.0, "start", &curve.name);
    }
    text + "</svg>"
}

/// Where a value lies on the page.
struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    log: bool,
    ticks: Vec<(f64, String)>,
}

impl Scale {
    fn new(axis: &Axis, values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let values: Vec<_> = values.filter(|value| !axis.log || *value > 0.0).collect();
        let most = values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let least = values.iter().copied().fold(most, f64::min);
        let ticks = match (&axis.ticks, axis.log) {
            (ticks, _) if !ticks.is_empty() => ticks.clone(),
            (_, true) => {
                let (first, last) = (least.log10().floor() as i32, most.log10().ceil() as i32);
                (first..=last.max(first + 1)).map(|power| 10_f64.powi(power)).map(|value| (value, number_of_tick(value))).collect()
            }
            (_, false) => even_ticks(most).into_iter().map(|value| (value, number_of_tick(value))).collect(),
        };
        let ends = ticks.iter().map(|(value, _)| *value);
        let (low, high) = (ends.clone().fold(f64::INFINITY, f64::min).min(least), ends.fold(most, f64::max));
        let low = if axis.log { low } else { low.min(0.0) };
        Self { low, high, from, to, log: axis.log, ticks }
    }

    fn place(&self, value: f64) -> f64 {
        let part = if self.log {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.from + (self.to - self.from) * part
    }
}

/// Round numbers from 0 to the first one not below `most`, about five of them.
fn even_ticks(most: f64) -> Vec<f64> {
    let power = 10_f64.powf((most / 5.0).log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| most / step <= 5.0).unwrap_or(most);
    (0..=(most / step).ceil() as u32).map(|n| f64::from(n) * step).collect()
}

fn number_of_tick(value: f64) -> String {
    if value >= 1e6 {
        format!("{} M", value / 1e6)
    } else if value >= 1e4 {
        format!("{} k", value / 1e3)
    } else {
        format!("{}", (value * 1e6).round() / 1e6)
    }
}

fn open(title: &str, height: f64) -> String {
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"{0}\" font-size=\"{TEXT}\"><title>{0}</title>",
        escape(title)
    )
}

fn legend<'a>(text: &mut String, entries: impl Iterator<Item = (&'a str, String)>, left: f64) {
    for (n, (name, fill)) in entries.enumerate() {
        let x = left + n as f64 * 150.0;
        let _ = write!(text, "<rect x=\"{x}\" y=\"4\" width=\"22\" height=\"12\" fill=\"{fill}\" stroke=\"#222\" stroke-width=\".6\"/>");
        label(text, x + 28.0, 14.5, "start", name);
    }
}

fn label(text: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    let _ = write!(text, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>", escape(words));
}

fn circle(x: f64, y: f64) -> String {
    format!("M{:.1} {y:.1}a4 4 0 1 0 8 0a4 4 0 1 0 -8 0", x - 4.0)
}

fn square(x: f64, y: f64) -> String {
    format!("M{:.1} {:.1}h8v8h-8z", x - 4.0, y - 4.0)
}

fn triangle(x: f64, y: f64) -> String {
    format!("M{x:.1} {:.1}l5 9h-10z", y - 6.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_reach_the_top() {
        assert_eq!(even_ticks(19.0), [0.0, 5.0, 10.0, 15.0, 20.0]);
        assert_eq!(even_ticks(100.0), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!([10.0, 20_000.0, 3e6, 0.1].map(number_of_tick), ["10", "20 k", "3 M", "0.1"]);
    }

    #[test]
    fn a_scale_spans_its_axis() {
        let scale = Scale::new(&Axis::log("x"), [3.0, 900.0].into_iter(), 0.0, 100.0);
        assert_eq!(scale.ticks.len(), 4);
        assert!((scale.place(1.0), scale.place(1000.0)) == (0.0, 100.0) && (scale.place(10.0) - 100.0 / 3.0).abs() < 1e-9);
        assert_eq!(Scale::new(&Axis::linear("x"), [50.0].into_iter(), 100.0, 0.0).place(25.0), 50.0);
    }

    #[test]
    fn plots_are_well_formed_even_if_something_is_missing() {
        let series = [Series { name: "a<b".into(), style: 0, values: vec![Some(1.0), None] }];
        let all = [
            bars("t", &["g".into(), "h".into()], &series),
            stacks("t", &[("row".into(), vec![1.0, 0.0])], &["p".into(), "q".into()]),
            curves(
                "t",
                &Axis::linear("x"),
                &Axis::log("y"),
                &[Curve { name: "c".into(), style: 9, points: vec![(0.0, 0.0), (1.0, 5.0)] }],
                true,
            ),
            curves("t", &Axis::linear("x"), &Axis::log("y"), &[], false),
            definitions(),
        ];
        for text in all {
            assert_eq!(text.matches("<svg").count(), text.matches("</svg>").count());
            assert_eq!(text.matches("<text").count(), text.matches("</text>").count());
            assert!(!text.contains("NaN") && !text.contains("inf") && !text.contains("a<b"), "{text}");
        }
    }
}
