//! The figures and the goals, for a terminal.

use super::goals::Goal;
use super::results::Results;
use super::scenarios;

/// The systems in the order in which they are shown.
pub const SYSTEMS: [&str; 5] = ["xen", "xenolith", "xenolith+txcopy", "kvm", "loopback"];

/// Prints all figures by mode and scenario, each with its ratio to Xen, and then the goals.
pub fn print(results: &Results) {
    for mode in ["deterministic", "free-running"] {
        let systems: Vec<_> = SYSTEMS
            .into_iter()
            .filter(|system| results.figures.iter().any(|figure| figure.system == *system && figure.mode == mode))
            .collect();
        if systems.is_empty() {
            continue;
        }
        println!("\n{mode:<18} {:<13}{}", "", systems.iter().map(|system| format!("{system:>22}")).collect::<String>());
        for scenario in scenarios::ALL {
            for metric in scenario.metrics {
                let xen = results.figure(scenario.name, metric.name, "xen", mode);
                let cells: Vec<_> = systems
                    .iter()
                    .map(|system| match results.figure(scenario.name, metric.name, system, mode) {
                        None => "-".to_string(),
                        Some(figure) => {
                            let ratio = xen.filter(|xen| xen.value > 0.0 && figure.unit != "%" && *system != "xen");
                            let spread = if figure.runs.len() > 1 { format!(" ±{:.1}%", figure.spread * 50.0) } else { String::new() };
                            let ratio = ratio.map(|xen| format!(" {:>5.2}x", figure.value / xen.value)).unwrap_or_default();
                            format!("{}{spread}{ratio}", number(figure.value))
                        }
                    })
                    .collect();
                if cells.iter().any(|cell| cell != "-") {
                    let name = if metric.name == "rate" { scenario.name.into() } else { format!("{} {}", scenario.name, metric.name) };
                    println!("{name:<19}{:<13}{}", metric.unit, cells.iter().map(|cell| format!("{cell:>22}")).collect::<String>());
                }
            }
        }
    }
    println!("\n{:<63}{:<17}{:>10}{:>10}", "goal", "of", "wanted", "measured");
    results.goals.iter().for_each(|goal| println!("{}", line(goal)));
    let judged = results.goals.iter().filter(|goal| goal.met.is_some()).count();
    let met = results.goals.iter().filter(|goal| goal.met == Some(true)).count();
    println!("{met} of {judged} goals met");
}

fn line(goal: &Goal) -> String {
    let times = if goal.against.is_some() { "x" } else { "" };
    let wanted = format!("{}{}{times}", if goal.better == "more" { "≥ " } else { "≤ " }, goal.target);
    let value = goal.value.map_or("-".into(), |value| if goal.against.is_some() { format!("{value:.2}x") } else { number(value) });
    let verdict = match goal.met {
        Some(true) => "met",
        Some(false) => "NOT MET",
        None => "not measured",
    };
    let what = match &goal.against {
        Some(against) => format!("{}, to {against}", goal.what),
        None => goal.what.clone(),
    };
    let limit = goal.limit.map(|limit| format!(" (a hypervisor of no instructions: {limit:.2}x)")).unwrap_or_default();
    format!("{what:<63}{:<17}{wanted:>10}{value:>10}  {verdict}{limit}", goal.system)
}

/// A number with about four digits that matter.
pub fn number(value: f64) -> String {
    // No minus before a sum of nothing.
    let value = value + 0.0;
    match value.abs() {
        size if size >= 1000.0 || size == 0.0 => format!("{value:.0}"),
        size if size >= 100.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn a_number_has_about_four_digits() {
        assert_eq!([12345.6, 123.45, 1.234, 0.0123, -0.0].map(number), ["12346", "123.5", "1.23", "0.012", "0"]);
    }
}
