//! Where `explain` has the policy from, asked as the kernel asks its maps.

use super::*;

/// Where the policy comes from: the gate in force, or the configuration where there is none.
pub(super) enum Source {
    Gate(Box<Maps>, Policy),
    /// A cgroup is known by the number of its chain here.
    Config(Box<Compiled>),
}

impl Rules for Source {
    type Ref<T: Copy + 'static> = Box<T>;

    fn part<T: Copy, U: Copy>(whole: Box<T>, part: impl FnOnce(&T) -> &U) -> Box<U> {
        Box::new(*part(&whole))
    }

    fn rule(&self, account: Account) -> Option<Box<Rule>> {
        match self {
            Self::Gate(maps, _) => Rules::rule(&**maps, account),
            Self::Config(compiled) => {
                compiled.rules.iter().find(|(a, _)| *a == account).map(|(_, rule)| Box::new(*rule))
            }
        }
    }

    fn plan(&self, plan: u16) -> Option<Box<PlanLimits>> {
        match self {
            Self::Gate(maps, _) => maps.plan(plan),
            Self::Config(compiled) => compiled.plans.get(plan as usize).copied().map(Box::new),
        }
    }

    fn by_hand(&self, account: Account) -> Option<Box<ByHand>> {
        match self {
            Self::Gate(maps, _) => maps.by_hand(account),
            Self::Config(compiled) => {
                compiled.by_hand.iter().find(|(a, _)| *a == account).map(|(_, said)| Box::new(*said))
            }
        }
    }

    fn chain_of(&self, cgroup: u64) -> Option<Box<Chain>> {
        match self {
            Self::Gate(maps, _) => maps.chain_of(cgroup),
            Self::Config(compiled) => compiled.ledger.get(cgroup as u32).copied().map(Box::new),
        }
    }
}

impl Source {
    pub(super) fn policy(&self) -> &Policy {
        match self {
            Self::Gate(_, policy) => policy,
            Self::Config(compiled) => &compiled.policy,
        }
    }

    /// What the gate has learned a container is called.
    pub(super) fn container(&self, account: Account) -> Option<String> {
        match self {
            Self::Gate(maps, _) => maps.name(account).filter(|_| account.is_container()),
            Self::Config(_) => None,
        }
    }

    pub(super) fn has_port(&self, port: u16) -> Result<bool> {
        match self {
            Self::Gate(maps, _) => Ok(maps.ports()?.contains(port)),
            Self::Config(compiled) => Ok(compiled.ports.contains(&port)),
        }
    }

    pub(super) fn owner_of(&self, uid: u32) -> Result<Option<u32>> {
        match self {
            Self::Gate(maps, _) => maps.owner_of(uid),
            Self::Config(compiled) => {
                let of = compiled.subuids.iter().filter(|p| p.covers(uid)).max_by_key(|p| p.bits);
                Ok(of.map(|p| p.owner))
            }
        }
    }

    pub(super) fn is_local(&self, address: &Address) -> bool {
        match self {
            Self::Gate(maps, _) => maps.is_local(address),
            Self::Config(_) => address.is_loopback() || own_addresses().contains(address),
        }
    }

    /// What an account shares with others by a chain.
    fn purses(&self, chain: Option<Chain>) -> Vec<(Purse, String)> {
        let numbers = chain.into_iter().flat_map(|chain| chain.purses).filter(|&number| number != 0);
        let found = |number: u32| match self {
            Self::Gate(maps, _) => {
                let purse = maps.purse(number)?;
                Some((purse, maps.name(purse.scope).unwrap_or_default()))
            }
            Self::Config(compiled) => {
                let at = number as usize - 1;
                Some((*compiled.ledger.purses().get(at)?, compiled.ledger.names().get(at)?.1.clone()))
            }
        };
        numbers.filter_map(found).collect()
    }

    fn chain(&self, number: u32) -> Option<Chain> {
        match self {
            Self::Gate(maps, _) => maps.chain(number),
            Self::Config(compiled) => compiled.ledger.get(number).copied(),
        }
    }

    /// The innermost cgroup around a path that a rule matches: in the v2 hierarchy, else in systemd's own.
    pub(super) fn cgroup(&mut self, tree: &Tree, path: &str) -> u64 {
        let around: Vec<&str> = ancestry(path).collect();
        if let Self::Gate(maps, _) = self {
            let found = around.iter().rev().flat_map(|path| tree.find(path));
            let matched: Vec<_> = found.filter_map(|cgroup| Some((cgroup, maps.matched(cgroup)?))).collect();
            let in_v2 = matched.iter().find(|(cgroup, _)| !cgroup.v1);
            return in_v2.or(matched.first()).map_or(0, |(_, path)| *path);
        }
        let found = around.into_iter().rev().find_map(|path| match self {
            Self::Gate(..) => None,
            Self::Config(compiled) => {
                let Compiled { cgroups, ledger, .. } = &mut **compiled;
                cgroups.matches(path).then(|| cgroups.chain(path, ledger).0 as u64)
            }
        });
        found.unwrap_or(0)
    }

    /// What the exceptions say of a connection.
    pub(super) fn excepted(&self, account: Account, cgroup: u64, port: u16, to: Option<IpAddr>) -> u8 {
        let marks = self.chain_of(cgroup).map_or([0; LINKS], |chain| chain.marks);
        let shapes = self.policy().exceptions;
        // Some server elsewhere, which no exception names: one address that is none.
        let to = to.map_or(Address([0; 4]), Address::from);
        match self {
            Self::Gate(maps, _) => {
                let generation = maps.active().unwrap_or_default();
                exception(&**maps, generation, shapes, &marks, account, port, to)
            }
            Self::Config(compiled) => exception(&List::of(&compiled.exceptions), 0, shapes, &marks, account, port, to),
        }
    }

    /// Copies of what the gate remembers of this account, of what it shares and of the host.
    pub(super) fn copy(&self, attempt: &Attempt, rule: &Rule) -> Result<words::Copy> {
        let account = attempt.account;
        let limits = self.plan(rule.plan).filter(|_| rule.has(rule_flag::UNITS)).map(|limits| *limits);
        let cgroup = self.chain_of(attempt.cgroup).map(|chain| *chain);
        let shared = [self.purses(self.chain(rule.chain as u32)), self.purses(cgroup)];
        let mut copy = words::Copy { limits, shared, ..words::Copy::default() };
        if let Self::Gate(maps, _) = self {
            let scopes: Vec<Account> = copy.shared.iter().flatten().map(|(purse, _)| purse.scope).collect();
            for scope in scopes.into_iter().chain([account, Account::HOST]) {
                for lane in Lane::ALL {
                    let key = WindowKey::new(scope, lane);
                    if let Some(windows) = maps.windows(&key)? {
                        copy.windows.insert(key, windows);
                    }
                }
            }
            copy.tripped = maps.tripped(account);
        }
        Ok(copy)
    }
}

fn own_addresses() -> HashSet<Address> {
    let all = getifaddrs().map(Iterator::collect::<Vec<_>>).unwrap_or_default();
    let ip = |a: nix::ifaddrs::InterfaceAddress| {
        let address = a.address?;
        let v4 = address.as_sockaddr_in().map(|a| a.ip().into());
        v4.or_else(|| address.as_sockaddr_in6().map(|a| a.ip().into()))
    };
    all.into_iter().filter_map(ip).map(|ip: IpAddr| Address::from(ip)).collect()
}
