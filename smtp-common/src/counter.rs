//! What is counted: verdicts, reasons and losses, each a closed list.

use crate::{
    connection::{Account, Port, Route},
    pod,
};

/// What became of a connection, or in observe mode would have.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Verdict {
    Allowed = 0,
    /// Let through without limits, because the policy names the account.
    Exempt = 1,
    /// ECONNREFUSED, in the soft band.
    Deferred = 2,
    /// Sent to the local MTA instead, in the soft band.
    Redirected = 3,
    /// EPERM.
    Refused = 4,
    WouldDefer = 5,
    WouldRedirect = 6,
    WouldRefuse = 7,
}

impl Verdict {
    pub const ALL: [Self; 8] = [
        Self::Allowed,
        Self::Exempt,
        Self::Deferred,
        Self::Redirected,
        Self::Refused,
        Self::WouldDefer,
        Self::WouldRedirect,
        Self::WouldRefuse,
    ];

    /// The `verdict` label of `smtp_connections_total`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Exempt => "exempt",
            Self::Deferred => "deferred",
            Self::Redirected => "redirected",
            Self::Refused => "refused",
            Self::WouldDefer => "would_defer",
            Self::WouldRedirect => "would_redirect",
            Self::WouldRefuse => "would_refuse",
        }
    }

    pub fn from_u8(n: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|v| *v as u8 == n)
    }

    /// The same decision in observe mode, where only the verdict is not applied.
    #[inline(always)]
    pub const fn observed(self) -> Self {
        match self {
            Self::Deferred => Self::WouldDefer,
            Self::Redirected => Self::WouldRedirect,
            Self::Refused => Self::WouldRefuse,
            other => other,
        }
    }

    /// True when it keeps from being made what it is about.
    #[inline(always)]
    pub const fn is_applied(self) -> bool {
        matches!(self, Self::Deferred | Self::Redirected | Self::Refused)
    }

    /// True when the policy was against the connection, applied or not.
    #[inline(always)]
    pub const fn is_stop(self) -> bool {
        self as u8 >= Self::Deferred as u8
    }
}

/// Why.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Reason {
    /// Within every limit.
    WithinLimits = 0,
    /// A submission to the local MTA.
    LocalRoute = 1,
    /// Named in `[allow]`.
    Exempt = 2,
    /// Named in `[deny]`.
    DenyUser = 3,
    /// The plan is "deny": only the MTA may send.
    DenyPlan = 4,
    AccountHour = 5,
    AccountDay = 6,
    HostHour = 7,
    HostDay = 8,
    /// Too large a share of the account's messages has failed.
    FailedShare = 9,
    MessagesHour = 10,
    MessagesDay = 11,
    RecipientsHour = 12,
    RecipientsDay = 13,
    HostMessagesHour = 14,
    HostMessagesDay = 15,
    HostRecipientsHour = 16,
    HostRecipientsDay = 17,
    /// Messages are limited, and the client spoke so that they could not be counted.
    Evasive = 18,
    /// Messages are limited, and the kernel had no memory to follow the session with.
    Unfollowed = 19,
}

impl Reason {
    pub const ALL: [Self; 20] = [
        Self::WithinLimits,
        Self::LocalRoute,
        Self::Exempt,
        Self::DenyUser,
        Self::DenyPlan,
        Self::AccountHour,
        Self::AccountDay,
        Self::HostHour,
        Self::HostDay,
        Self::FailedShare,
        Self::MessagesHour,
        Self::MessagesDay,
        Self::RecipientsHour,
        Self::RecipientsDay,
        Self::HostMessagesHour,
        Self::HostMessagesDay,
        Self::HostRecipientsHour,
        Self::HostRecipientsDay,
        Self::Evasive,
        Self::Unfollowed,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::WithinLimits => "within_limits",
            Self::LocalRoute => "local_route",
            Self::Exempt => "exempt",
            Self::DenyUser => "deny_user",
            Self::DenyPlan => "deny_plan",
            Self::AccountHour => "account_hour",
            Self::AccountDay => "account_day",
            Self::HostHour => "host_hour",
            Self::HostDay => "host_day",
            Self::FailedShare => "failed_share",
            Self::MessagesHour => "messages_hour",
            Self::MessagesDay => "messages_day",
            Self::RecipientsHour => "recipients_hour",
            Self::RecipientsDay => "recipients_day",
            Self::HostMessagesHour => "host_messages_hour",
            Self::HostMessagesDay => "host_messages_day",
            Self::HostRecipientsHour => "host_recipients_hour",
            Self::HostRecipientsDay => "host_recipients_day",
            Self::Evasive => "evasive",
            Self::Unfollowed => "unfollowed",
        }
    }

    pub fn from_u8(n: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|r| *r as u8 == n)
    }
}

/// Key of one connection counter. The value is a `u64` that only grows.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct CounterKey {
    pub account: Account,
    pub port: Port,
    /// A [`Route`].
    pub route: u8,
    /// A [`Verdict`].
    pub verdict: u8,
    pub _pad: u32,
}

const _: () = assert!(size_of::<CounterKey>() == 24);
pod!(CounterKey);

impl CounterKey {
    #[inline(always)]
    pub const fn new(account: Account, port: Port, route: Route, verdict: Verdict) -> Self {
        Self { account, port, route: route as u8, verdict: verdict as u8, _pad: 0 }
    }
}

/// What is known of an account besides its counts.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AccountState {
    /// Nanoseconds of the boot clock.
    pub first_seen: u64,
    pub last_seen: u64,
    /// Second of the boot clock the event counts belong to.
    pub second: u32,
    /// Events asked for in that second: of attempts that passed, were put off and were refused, and of sessions that ended.
    pub events: [u32; 4],
    pub _pad: u32,
}

const _: () = assert!(size_of::<AccountState>() == 40);
pod!(AccountState);

/// Things that can be lost or run out, each with a counter of its own in the kernel.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    /// An event beyond the account's budget of the second.
    RateLimited = 0,
    /// An event for which the ring buffer had no room.
    RingFull = 1,
    /// A window that found no room: the account shares the overflow window.
    WindowsFull = 2,
    /// A counter that found no room: counted for `other`.
    CountersFull = 3,
    /// An account that found no room: its events are not rate-limited apart.
    AccountsFull = 4,
    /// A network namespace that found no room: charged to `other`.
    NamespacesFull = 5,
    /// A tally that found no room: counted for `other`.
    TalliesFull = 6,
    /// A session event for which its ring buffer had no room.
    SessionRingFull = 7,
    /// A failure brake that found no room: it does not hold its account.
    BrakesFull = 8,
    /// The end of a session, or a message that would not have passed, beyond the account's budget of the second.
    SessionsRateLimited = 9,
}

impl Loss {
    pub const ALL: [Self; 10] = [
        Self::RateLimited,
        Self::RingFull,
        Self::WindowsFull,
        Self::CountersFull,
        Self::AccountsFull,
        Self::NamespacesFull,
        Self::TalliesFull,
        Self::SessionRingFull,
        Self::BrakesFull,
        Self::SessionsRateLimited,
    ];
    /// Causes of lost events, as `smtp_agent_events_lost_total{cause}` lists them.
    pub const EVENTS: [Self; 4] = [Self::RateLimited, Self::RingFull, Self::SessionsRateLimited, Self::SessionRingFull];
    /// Maps that had no room, as `smtp_agent_map_full_total{map}` lists them.
    pub const MAPS: [Self; 6] = [
        Self::WindowsFull,
        Self::CountersFull,
        Self::AccountsFull,
        Self::NamespacesFull,
        Self::TalliesFull,
        Self::BrakesFull,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::RateLimited => "rate_limited",
            Self::RingFull => "ring_full",
            Self::WindowsFull => "windows",
            Self::CountersFull => "counters",
            Self::AccountsFull => "accounts",
            Self::NamespacesFull => "namespaces",
            Self::TalliesFull => "tallies",
            Self::SessionRingFull => "session_ring_full",
            Self::BrakesFull => "brakes",
            Self::SessionsRateLimited => "sessions_rate_limited",
        }
    }
}
