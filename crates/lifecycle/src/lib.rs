//! What may happen to a sandbox, and when. Nothing here happens by itself: no I/O, no clock, no lock, no async.
//!
//! ```text
//!            booted            end              gone
//!  Booting ─────────▶ Ready ─────────▶ Ending ────────▶ Gone
//!     │                 │                 ▲
//!     │ end             │ fail            │
//!     │                 ▼                 │
//!     │              Failed ──────────────┤
//!     └───────────────────────────────────┘
//!              begin_freeze
//!  Ready ───────────────────▶ Freezing ── end, fail ──▶ as from Ready
//!     ▲      not_frozen           │
//!     └───────────────────────────┘
//! ```
//!
//! A sandbox is created booting and handed to its client when it is ready. Runs and forks are accepted only then, and
//! only so many at once. When its VM dies it has *failed*: it stays known, so that its client learns why, until it is
//! deleted or another takes its place. A boot that fails *ends* the sandbox, since no client knows it yet. Ending means
//! that its resources are being given back; nothing is accepted any more and the reason does not change.
//!
//! Who was forked from whom is the [lineage](Lineage) of ids, and the [ancestry](Ancestry) of VMs. How many VMs wait ready for the next creation, and what is to be
//! done about it, is the [pool](Pool).
//!
//! How long one may live, and how long nobody may use it, is its [lifetime](Lifetime); what is to be looked at when, the
//! [agenda](Agenda). Moments are told, never asked for.
//!
//! States that one can be rolled back to are its [bookmarks](Bookmarks).
//!
//! What a tenant may have is its [quota](Quota); whose call is next, when there are more than the host can serve, says the
//! [fair queue](FairQueue).
//!
//! This crate must not know HTTP, VMs, processes or time.
#![forbid(unsafe_code)]

mod agenda;
mod ancestry;
mod bookmarks;
mod bucket;
mod fair;
mod lifetime;
mod lineage;
mod machine;
mod pool;
mod quota;

pub use agenda::{Agenda, Entry};
pub use ancestry::Ancestry;
pub use bookmarks::{BOOKMARK_NAME_MAX, BookmarkRefused, Bookmarks};
pub use bucket::{Bucket, Rate};
pub use fair::{FairQueue, QueueFull};
pub use lifetime::{Expiry, Lifetime, Moment, TooShort, Use, Verdict, Wish};
pub use lineage::Lineage;
pub use machine::{
    EndReason, FORKS_MAX, ForkRefused, FreezeRefused, Machine, MergeRefused, Phase, RunRefused,
    TransitionRefused,
};
pub use pool::{Circumstances, Pool, Room, Step};
pub use quota::{Quota, QuotaRefused, is_below_share};
