//! Two CPUs at once: what they leave behind is consistent, and nobody waits for ever.

use super::*;
use std::sync::Arc;
use std::thread;

fn both(w: &Arc<World>, rounds: u32, one: fn(&World, u32), other: fn(&World, u32)) {
    let theirs = w.clone();
    let thread = thread::spawn(move || (0..rounds).for_each(|i| other(&theirs, i)));
    (0..rounds).for_each(|i| one(w, i));
    thread.join().unwrap();
    w.audit();
}

#[test]
fn two_domains_close_the_same_channel_at_once() {
    let w = Arc::new(World::new());
    for _ in 0..300 {
        w.pair(D0, D1);
        both(
            &w,
            1,
            |w, _| {
                let _ = w.close(D0, 1);
            },
            |w, _| {
                let _ = w.close(D1, 1);
            },
        );
        for domain in [D0, D1] {
            let _ = w.close(domain, 1);
        }
    }
}

#[test]
fn sending_and_reset_at_once() {
    let w = Arc::new(World::new());
    both(
        &w,
        2000,
        |w, i| {
            if let Ok(port) = w.alloc(D0, D1) {
                let _ = w.connect(D1, D0, port);
                let _ = w.send(D0, port);
            }
            let _ = w.domains[D0].unmask(w.machine, i % 70);
            if i % 8 == 0 {
                let _ = w.init_control(D1, i % 4);
                let _ = w.expand_array(D1, 0);
            }
        },
        |w, i| {
            let _ = w.reset(D1);
            if i % 16 == 0 {
                let _ = w.reset(D0);
            }
        },
    );
}
