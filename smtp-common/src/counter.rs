//! What is counted: verdicts, reasons and losses, each a closed list.

use crate::{
    connection::{Account, Port, Route},
    level::Level,
    pod,
    tally::Unit,
    window::Span,
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
    /// Too large a share of the account's messages has failed.
    FailedShare = 5,
    /// Messages are limited, and the client spoke so that they could not be counted.
    Evasive = 6,
    /// Messages are limited, and the kernel had no memory to follow the session with.
    Unfollowed = 7,
    /// Blocked, or allowed, by hand.
    ByHand = 8,
    /// A `[[rule]]` with a destination, a port or two subjects says so.
    Exception = 9,
    // A limit is used up: one of each level, unit and span, in the order that `Reason::limit` counts by.
    CgroupHour = 10,
    CgroupDay = 11,
    CgroupMessagesHour = 12,
    CgroupMessagesDay = 13,
    CgroupRecipientsHour = 14,
    CgroupRecipientsDay = 15,
    AccountHour = 16,
    AccountDay = 17,
    MessagesHour = 18,
    MessagesDay = 19,
    RecipientsHour = 20,
    RecipientsDay = 21,
    GroupHour = 22,
    GroupDay = 23,
    GroupMessagesHour = 24,
    GroupMessagesDay = 25,
    GroupRecipientsHour = 26,
    GroupRecipientsDay = 27,
    PlanHour = 28,
    PlanDay = 29,
    PlanMessagesHour = 30,
    PlanMessagesDay = 31,
    PlanRecipientsHour = 32,
    PlanRecipientsDay = 33,
    HostHour = 34,
    HostDay = 35,
    HostMessagesHour = 36,
    HostMessagesDay = 37,
    HostRecipientsHour = 38,
    HostRecipientsDay = 39,
}

impl Reason {
    pub const ALL: [Self; 40] = [
        Self::WithinLimits,
        Self::LocalRoute,
        Self::Exempt,
        Self::DenyUser,
        Self::DenyPlan,
        Self::FailedShare,
        Self::Evasive,
        Self::Unfollowed,
        Self::ByHand,
        Self::Exception,
        Self::CgroupHour,
        Self::CgroupDay,
        Self::CgroupMessagesHour,
        Self::CgroupMessagesDay,
        Self::CgroupRecipientsHour,
        Self::CgroupRecipientsDay,
        Self::AccountHour,
        Self::AccountDay,
        Self::MessagesHour,
        Self::MessagesDay,
        Self::RecipientsHour,
        Self::RecipientsDay,
        Self::GroupHour,
        Self::GroupDay,
        Self::GroupMessagesHour,
        Self::GroupMessagesDay,
        Self::GroupRecipientsHour,
        Self::GroupRecipientsDay,
        Self::PlanHour,
        Self::PlanDay,
        Self::PlanMessagesHour,
        Self::PlanMessagesDay,
        Self::PlanRecipientsHour,
        Self::PlanRecipientsDay,
        Self::HostHour,
        Self::HostDay,
        Self::HostMessagesHour,
        Self::HostMessagesDay,
        Self::HostRecipientsHour,
        Self::HostRecipientsDay,
    ];

    /// The first of those that are limits, and how many each level and each unit has.
    const LIMITS: u32 = Self::CgroupHour as u32;
    const PER_LEVEL: u32 = 6;

    /// Number of the reason that a limit on `unit` (`None`: connections) is used up at a level. A number, since the
    /// kernel program has no use for more.
    #[inline(always)]
    pub const fn limit(level: u32, unit: Option<Unit>, day: bool) -> u8 {
        let unit = match unit {
            None => 0,
            Some(Unit::Message) => 1,
            Some(Unit::Recipient) => 2,
        };
        (Self::LIMITS + level.saturating_sub(1) * Self::PER_LEVEL + unit * 2 + day as u32) as u8
    }

    /// Whether it is that a limit is used up, and whose.
    pub fn level(self) -> Option<Level> {
        let over = (self as u32).checked_sub(Self::LIMITS)?;
        Level::ALL.get((over / Self::PER_LEVEL) as usize).copied()
    }

    /// What is used up, if a limit is; `None` in it stands for connections.
    pub fn unit(self) -> Option<Option<Unit>> {
        let over = (self as u32).checked_sub(Self::LIMITS)?;
        Some([None, Some(Unit::Message), Some(Unit::Recipient)][(over % Self::PER_LEVEL / 2) as usize])
    }

    /// The stretch of time it is used up for, if a limit is.
    pub fn span(self) -> Option<Span> {
        let over = (self as u32).checked_sub(Self::LIMITS)?;
        Some(if over % 2 == 0 { Span::Hour } else { Span::Day })
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::WithinLimits => "within_limits",
            Self::LocalRoute => "local_route",
            Self::Exempt => "exempt",
            Self::DenyUser => "deny_user",
            Self::DenyPlan => "deny_plan",
            Self::FailedShare => "failed_share",
            Self::Evasive => "evasive",
            Self::Unfollowed => "unfollowed",
            Self::ByHand => "by_hand",
            Self::Exception => "exception",
            Self::CgroupHour => "cgroup_hour",
            Self::CgroupDay => "cgroup_day",
            Self::CgroupMessagesHour => "cgroup_messages_hour",
            Self::CgroupMessagesDay => "cgroup_messages_day",
            Self::CgroupRecipientsHour => "cgroup_recipients_hour",
            Self::CgroupRecipientsDay => "cgroup_recipients_day",
            Self::AccountHour => "account_hour",
            Self::AccountDay => "account_day",
            Self::MessagesHour => "messages_hour",
            Self::MessagesDay => "messages_day",
            Self::RecipientsHour => "recipients_hour",
            Self::RecipientsDay => "recipients_day",
            Self::GroupHour => "group_hour",
            Self::GroupDay => "group_day",
            Self::GroupMessagesHour => "group_messages_hour",
            Self::GroupMessagesDay => "group_messages_day",
            Self::GroupRecipientsHour => "group_recipients_hour",
            Self::GroupRecipientsDay => "group_recipients_day",
            Self::PlanHour => "plan_hour",
            Self::PlanDay => "plan_day",
            Self::PlanMessagesHour => "plan_messages_hour",
            Self::PlanMessagesDay => "plan_messages_day",
            Self::PlanRecipientsHour => "plan_recipients_hour",
            Self::PlanRecipientsDay => "plan_recipients_day",
            Self::HostHour => "host_hour",
            Self::HostDay => "host_day",
            Self::HostMessagesHour => "host_messages_hour",
            Self::HostMessagesDay => "host_messages_day",
            Self::HostRecipientsHour => "host_recipients_hour",
            Self::HostRecipientsDay => "host_recipients_day",
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
    /// A cgroup that was made, for which the ring of such events had no room: the agent finds it within a minute.
    CgroupRingFull = 10,
    /// A process for which the ring of portraits had no room: its event is told with what /proc still knows.
    PortraitRingFull = 11,
}

impl Loss {
    pub const ALL: [Self; 12] = [
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
        Self::CgroupRingFull,
        Self::PortraitRingFull,
    ];
    /// Causes of lost events, as `smtp_agent_events_lost_total{cause}` lists them.
    pub const EVENTS: [Self; 6] = [
        Self::RateLimited,
        Self::RingFull,
        Self::SessionsRateLimited,
        Self::SessionRingFull,
        Self::CgroupRingFull,
        Self::PortraitRingFull,
    ];
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
            Self::CgroupRingFull => "cgroup_ring_full",
            Self::PortraitRingFull => "portrait_ring_full",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_knows_its_limit() {
        for level in Level::ALL {
            for unit in [None, Some(Unit::Message), Some(Unit::Recipient)] {
                for span in Span::ALL {
                    let number = Reason::limit(level as u32, unit, span == Span::Day);
                    let reason = Reason::from_u8(number).unwrap();
                    assert_eq!((reason.level(), reason.unit(), reason.span()), (Some(level), Some(unit), Some(span)));
                    let unit = unit.map_or(String::new(), |unit| std::format!("{}s_", unit.name()));
                    let level = if level == Level::User && !unit.is_empty() { "" } else { level.name() };
                    let name = std::format!("{level}_{unit}{}", span.name());
                    assert_eq!(reason.name(), name.trim_start_matches('_'));
                }
            }
        }
        assert!(Reason::ALL.into_iter().enumerate().all(|(i, reason)| reason as usize == i));
        assert_eq!(Reason::Exception.level(), None);
    }

    use std::string::String;
}
