use super::*;
use proptest::prelude::*;

fn parsed(line: &str) -> Options {
    let (options, warnings) = Options::parse(line);
    assert_eq!(warnings, Vec::<String>::new(), "{line}");
    options
}

#[test]
fn an_empty_line_gives_defaults() {
    assert_eq!(parsed("   "), Options::default());
}

#[test]
fn a_line_as_debian_users_have_it() {
    let line = "placeholder com1=115200,8n1 dom0_mem=1G dom0_max_vcpus=2 dom0_vcpus_pin console=dtuart dtuart=/pl011@9000000:115200 \
                loglvl=all guest_loglvl=error/all noreboot bootscrub=0 sched=credit2 vwfi=native gnttab_max_frames=128 no-ext_regions";
    let options = parsed(line);
    assert_eq!(options.dom0_mem, Some(1 << 30));
    assert_eq!(options.dom0_max_vcpus, Some(2));
    assert!(options.dom0_vcpus_pin && options.noreboot && options.vwfi_native && !options.ext_regions);
    assert_eq!(options.dtuart.as_deref(), Some("/pl011@9000000:115200"));
    assert_eq!(options.loglvl, Threshold { always: Level::Debug, limited: Level::Debug });
    assert_eq!(options.guest_loglvl, Threshold { always: Level::Error, limited: Level::Debug });
    assert_eq!((options.bootscrub, options.gnttab_max_frames), (Bootscrub::Off, 128));
}

#[test]
fn sizes_have_suffixes_and_count_kib_without() {
    for (text, bytes) in [("512", 512 << 10), ("512k", 512 << 10), ("1m", 1 << 20), ("0x10M", 16 << 20), ("4096B", 4096), ("2G", 2 << 30)] {
        assert_eq!(size(text), Some(bytes), "{text}");
    }
    for text in ["", "G", "-1G", "+1G", "1GG", "99999999999999T", "max:1G", "1G,max:2G", "0x"] {
        assert_eq!(size(text), None, "{text}");
    }
}

#[test]
fn a_bad_value_keeps_the_default_and_warns() {
    for word in [
        "dom0_mem=lots",
        "dom0_mem=0",
        "dom0_max_vcpus=0",
        "maxcpus=",
        "noreboot=maybe",
        "sched=fair",
        "xsm=flask",
        "gnttab=max-ver:3",
        "loglvl=loud",
        "memop-max-order=1,2,3,4,5",
        "conswitch=abc",
        "vwfi",
        "serrors=forward",
    ] {
        let (options, warnings) = Options::parse(word);
        assert_eq!(options, Options::default(), "{word}");
        assert_eq!(warnings.len(), 1, "{word}");
        assert!(warnings[0].contains(word));
    }
}

#[test]
fn console_switch_character() {
    assert_eq!(parsed("conswitch=bx").conswitch, Some(b'b'));
    assert!(parsed("conswitch=bx").conswitch_stays);
    assert_eq!(parsed("conswitch=1").conswitch, None);
}

#[test]
fn lists() {
    assert_eq!(parsed("memop-max-order=8,,7").memop_max_order, [8, 18, 7, 10]);
    assert_eq!(parsed("gnttab=max-ver:2,transitive=0").gnttab_max_version, 2);
    assert_eq!(parsed("console_timestamps").console_timestamps, Timestamps::Date);
    assert_eq!(parsed("console_timestamps=boot").console_timestamps, Timestamps::Boot);
    assert_eq!(parsed("xsm=dummy").xsm, Xsm::Dummy);
}

proptest! {
    #[test]
    fn no_line_panics(line in "[a-z0-9_=,:/ .x-]{0,80}") {
        Options::parse(&line);
    }

    #[test]
    fn no_value_panics(name in "(dom0_mem|conswitch|loglvl|gnttab|memop-max-order|bootscrub|console)", value in "\\PC{0,12}") {
        Options::parse(&std::format!("{name}={value}"));
    }
}
