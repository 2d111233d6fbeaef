use super::*;
use crate::machine::fake::FakeMachine;
use std::string::String;
use std::vec::Vec;

const PAGE: MachineAddr = MachineAddr(0x8000_0000);
const BUF_IN_PROD: u64 = 3076;
const OUT_CONS: u64 = 3080;
const OUT_PROD: u64 = 3084;

fn machine() -> &'static FakeMachine {
    FakeMachine::leak(PAGE.0, 1)
}

fn say(uart: &Vpl011, text: &str, has_input: bool) -> Vec<(String, bool)> {
    let machine = machine();
    let said = |byte: u8| uart.write(machine, register::DR, Size::Word, byte.into(), has_input).unwrap().said;
    text.bytes().filter_map(said).map(|line| (String::from_utf8(line.bytes().to_vec()).unwrap(), line.verbatim)).collect()
}

fn read(uart: &Vpl011, offset: u64) -> u64 {
    uart.read(machine(), offset, Size::Word).unwrap().0
}

#[test]
fn lines_come_out_whole() {
    let uart = Vpl011::on_console();
    assert_eq!(say(&uart, "hel", false), []);
    assert_eq!(say(&uart, "lo\r\nx", false), [("hello\r\n".into(), false)]);
    // With the input the rest of the line comes at once, and then every byte.
    assert_eq!(say(&uart, "yz\n", true), [("xy\n".into(), true), ("z".into(), true), ("\n".into(), true)]);
}

#[test]
fn a_long_line_is_broken() {
    let uart = Vpl011::on_console();
    let long = "a".repeat(LINE - 1);
    assert_eq!(say(&uart, &std::format!("{long}b\n"), false), [(std::format!("{long}\n"), false), ("b\n".into(), false)]);
}

#[test]
fn registers_read_as_an_idle_uart() {
    let uart = Vpl011::on_console();
    assert_eq!(read(&uart, register::FR), 0x90);
    for offset in [register::DR, 4, 0x30, register::IMSC, register::RIS, register::MIS, 0xfe0, 0xffc] {
        assert_eq!(read(&uart, offset), 0, "{offset:#x}");
    }
    assert!(uart.read(machine(), register::FR, Size::Double).is_none());
    assert!(uart.write(machine(), register::DR, Size::Double, 0, false).is_none());
    assert_eq!(uart.read(machine(), register::FR, Size::Byte).unwrap().0, 0x90);
}

#[test]
fn typed_bytes_interrupt_once_and_are_read_in_order() {
    let (uart, machine) = (Vpl011::on_console(), machine());
    assert!(!uart.receive(b'a').interrupt, "all is masked");
    assert!(uart.write(machine, register::IMSC, Size::Word, 0x50, false).unwrap().interrupt);
    assert!(!uart.receive(b'b').interrupt, "the guest knows");
    assert_eq!(read(&uart, register::MIS), 0x40);
    assert_eq!(read(&uart, register::FR), 0x80);
    assert_eq!([read(&uart, register::DR), read(&uart, register::DR)], [b'a'.into(), b'b'.into()]);
    assert_eq!((read(&uart, register::FR), read(&uart, register::RIS)), (0x90, 0));
    assert!(uart.receive(b'c').interrupt);
}

#[test]
fn half_a_fifo_is_worth_another_interrupt() {
    let (uart, machine) = (Vpl011::on_console(), machine());
    let _ = uart.write(machine, register::IMSC, Size::Word, 0x50, false);
    let interrupts: Vec<_> = (0..20).filter(|_| uart.receive(b'k').interrupt).collect();
    assert_eq!(interrupts, [0, FIFO as i32 / 2 - 1]);
    (0..4).for_each(|n| assert_eq!(read(&uart, register::DR), b'k'.into(), "{n}"));
    assert_eq!(read(&uart, register::RIS), 0x50);
    let _ = read(&uart, register::DR);
    assert_eq!(read(&uart, register::RIS), 0x40);
}

#[test]
fn input_is_bounded() {
    let uart = Vpl011::on_console();
    (0..2 * INPUT).for_each(|n| drop(uart.receive(n as u8)));
    assert_eq!(read(&uart, register::FR) as u32 & flag::RX_FULL, flag::RX_FULL);
    (0..INPUT).for_each(|n| assert_eq!(read(&uart, register::DR), (n as u8).into()));
    assert_eq!(read(&uart, register::FR), 0x90);
}

#[test]
fn room_to_write_interrupts_until_it_is_cleared() {
    let (uart, machine) = (Vpl011::on_console(), machine());
    assert!(!uart.write(machine, register::DR, Size::Word, 0x61, false).unwrap().interrupt);
    assert!(uart.write(machine, register::IMSC, Size::Word, 0x20, false).unwrap().interrupt);
    assert!(!uart.write(machine, register::DR, Size::Word, 0x61, false).unwrap().interrupt);
    assert!(!uart.write(machine, register::ICR, Size::Word, 0x7ff, false).unwrap().interrupt);
    assert_eq!(read(&uart, register::MIS), 0);
    assert!(uart.write(machine, register::DR, Size::Word, 0x61, false).unwrap().interrupt);
}

fn at(offset: u64) -> MachineAddr {
    MachineAddr(PAGE.0 + offset)
}

#[test]
fn a_ring_is_filled_and_says_so() {
    let (uart, machine) = (Vpl011::on_ring(PAGE, 7), machine());
    for n in 0..OUTPUT_BYTES {
        let effects = uart.write(machine, register::DR, Size::Word, u64::from(n) & 0xff, false).unwrap();
        assert_eq!(effects.notify, Some(7));
    }
    assert_eq!(machine.load_u32(at(OUT_PROD)), OUTPUT_BYTES);
    let flags = uart.read(machine, register::FR, Size::Word).unwrap().0 as u32;
    assert_eq!(flags, flag::TX_FULL | flag::BUSY | flag::RX_EMPTY);
    // There is no room for one more.
    assert_eq!(uart.write(machine, register::DR, Size::Word, 1, false).unwrap().notify, None);
    assert_eq!(machine.load_u32(at(OUT_PROD)), OUTPUT_BYTES);
    let _ = uart.write(machine, register::IMSC, Size::Word, 0x20, false);
    machine.store_u32(at(OUT_CONS), OUTPUT_BYTES);
    assert!(uart.ring_moved(machine).interrupt);
    assert_eq!(uart.read(machine, register::FR, Size::Word).unwrap().0, 0x90);
}

const OUTPUT_BYTES: u32 = 2048;

#[test]
fn a_ring_is_read_and_its_indices_are_not_trusted() {
    let (uart, machine) = (Vpl011::on_ring(PAGE, 7), machine());
    let _ = uart.write(machine, register::IMSC, Size::Word, 0x50, false);
    machine.write(at(0), b"ok");
    machine.store_u32(at(BUF_IN_PROD), 2);
    assert!(uart.ring_moved(machine).interrupt);
    let (byte, effects) = uart.read(machine, register::DR, Size::Word).unwrap();
    assert_eq!((byte, effects.notify), (b'o'.into(), Some(7)));
    // More than the ring can hold: nothing is there, and nothing can be written.
    machine.store_u32(at(BUF_IN_PROD), 5000);
    let (byte, effects) = uart.read(machine, register::DR, Size::Word).unwrap();
    assert_eq!((byte, effects.notify), (0, None));
    machine.store_u32(at(OUT_CONS), 9);
    assert_eq!(uart.write(machine, register::DR, Size::Word, 1, false).unwrap().notify, None);
    // The console cannot type into a ring.
    assert!(!uart.receive(b'x').interrupt);
}
