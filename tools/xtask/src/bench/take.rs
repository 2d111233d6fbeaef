//! From what a machine tells to results.

use super::results::{Cost, Count, Hold, Occupancy, Results, Run};
use super::run::{self, Boot, Told};
use super::{cost, hold, scenarios, table};

/// Takes into the results what a machine has told; returns it in short.
pub fn take(results: &mut Results, boot: &Boot, told: &Told) -> String {
    let system = boot.system.name();
    let raw = |name: &str| format!("raw/{}", boot.file(&format!("{name}.txt")).file_name().unwrap_or_default().display());
    match told {
        Told::Scene(run::START, _) => "up".into(),
        Told::Counted(workload, sums, operations) => {
            results.counts.push(Count {
                workload: workload.name.into(),
                system: system.into(),
                per: workload.per.into(),
                operations: *operations,
                exits: sums.exits.clone(),
                hypercalls: sums.hypercalls.clone(),
                injected: sums.injected.clone(),
                flushes: sums.flushes.clone(),
                instructions: sums.instructions,
                raw: raw(&format!("{}-long", workload.name)).replace(".txt", ".json"),
            });
            let exits: f64 = sums.exits.values().sum();
            format!(
                "{:<14} {} exits, {} interrupts, {} instructions for one {}",
                workload.name,
                table::number(exits),
                table::number(sums.injected.values().sum()),
                sums.instructions.map_or("?".into(), table::number),
                workload.per
            )
        }
        Told::Scene(name @ (run::COST | run::PAIR), said) => {
            let costs = cost::read(said);
            if costs.is_empty() {
                results.missing.push(format!("{system}: {name} tells no costs (see {})", raw(name)));
            }
            let first = costs.first().map(|(name, cost)| format!("{} instructions: {name}", table::number(*cost))).unwrap_or_default();
            for (operation, instructions) in costs {
                let known = results.instructions.iter_mut().find(|cost| cost.operation == operation && cost.system == system);
                match known {
                    Some(cost) => cost.instructions = cost.instructions.min(instructions),
                    None => results.instructions.push(Cost { operation, system: system.into(), instructions, raw: raw(name) }),
                }
            }
            format!("{name:<14} {first}")
        }
        Told::Scene(name, said) if scenarios::by_name(name).is_none() => {
            let Some((percentiles, buffers)) = hold::percentiles(said) else {
                results.missing.push(format!("{system}: {name} saw no buffers (see {})", raw(name)));
                return format!("{name:<14} no buffers seen");
            };
            let told = format!("{name:<14} {buffers} buffers, half of them held for less than {} µs", percentiles[50]);
            let (workload, system, raw) = (name.to_string(), system.to_string(), raw(name));
            let points = hold::occupancy(said).unwrap_or_default();
            results.occupancy.push(Occupancy { workload: workload.clone(), system: system.clone(), points, raw: raw.clone() });
            results.holds.push(Hold { workload, system, buffers, percentiles, raw });
            told
        }
        Told::Scene(name, said) => {
            let mut told = format!("{name:<14} ");
            for metric in scenarios::by_name(name).map_or(&[][..], |scenario| scenario.metrics) {
                if let Some(value) = (metric.read)(said) {
                    results.add(name, metric, system, boot.mode.name(), Run { value, raw: raw(name) });
                    told += &format!("{} {} {}  ", metric.name, table::number(value), metric.unit);
                } else {
                    results.missing.push(format!("{system}: {name} gives no {} (see {})", metric.name, raw(name)));
                    told += &format!("no {}  ", metric.name);
                }
            }
            told
        }
    }
}
