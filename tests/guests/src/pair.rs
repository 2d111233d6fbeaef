//! Dom0 and the domains that it builds: what takes two. Each peer is a domain of this same image that does what it is told
//! ([`crate::runtime::peer`]).

pub mod books;
mod channel;
mod events;
mod grants;
mod jobs;
mod ops;
mod peer;
mod ports;
pub mod races;
mod toolstack;
mod txcopy;

use crate::verdict::Subject;

/// In the order in which they run.
pub const ALL: &[Subject] = &[
    Subject { name: "pair.grants", run: grants::run },
    Subject { name: "pair.events", run: events::run },
    Subject { name: "pair.toolstack", run: toolstack::run },
    Subject { name: "T01.counts", run: txcopy::t01 },
    Subject { name: "T02.wrong_pages", run: txcopy::t02 },
    Subject { name: "T03.pages_given_away", run: txcopy::t03 },
    Subject { name: "T05.lengths", run: txcopy::t05 },
    Subject { name: "T06.one_page_for_all", run: txcopy::t06 },
    Subject { name: "T09.wrong_buffers", run: txcopy::t09 },
    Subject { name: "T10.wrong_domains", run: txcopy::interface::t10 },
    Subject { name: "T11.long_batches", run: txcopy::t11 },
    Subject { name: "T13.limits", run: txcopy::interface::t13 },
    Subject { name: "T14.padding", run: txcopy::interface::t14 },
    Subject { name: "T16.multicall", run: txcopy::interface::t16 },
    Subject { name: "T17.versions", run: txcopy::interface::t17 },
    Subject { name: "T18.receiver_lies", run: txcopy::t18 },
    Subject { name: "T20.metadata", run: txcopy::t20 },
    Subject { name: "T04.descriptors_rewritten", run: races::t04 },
    Subject { name: "T03.pages_given_away_amid_sending", run: txcopy::racing::t03 },
    Subject { name: "T07.ended_amid_sending", run: txcopy::racing::t07 },
    Subject { name: "T08.sender_dies", run: races::t08 },
    Subject { name: "T08.receiver_dies", run: txcopy::racing::t08 },
    Subject { name: "T12.interrupted_for_ever", run: txcopy::pressure::t12 },
    Subject { name: "T15.shared_words_hammered", run: txcopy::pressure::t15 },
    Subject { name: "T19.refused_for_ever", run: txcopy::pressure::t19 },
];
