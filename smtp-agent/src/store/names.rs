//! Names by number: accounts, texts, targets and actors, each written once.
//!
//! Whoever makes up script names or destinations may not fill the disk with them: each account, and all together, have
//! purses of new names and their octets that fill up again slowly ([`super::purse`]). Beyond them a text is `other` and a
//! culprit loses its command lines.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
};

use rusqlite::{Connection, OptionalExtension, Result, params};
use smtp_common::connection::kind;

use super::{
    actor::{Detail, LONGEST, Process, cut, hash, process, process_name, remember, written},
    purse::{Budget, Purse, Purses, octets},
    record::{Millis, Target, Who},
    schema::{Level, NO_NAMES, OTHER, UNKNOWN},
};

/// Names that are remembered at a time, of each kind.
const REMEMBERED: usize = 50_000;
/// How long a name may be used before its row says so.
const STALE: Millis = Level::Day.millis();

/// New names that one account, and all together, may have at once and in each hour.
const TEXTS: Purses = [Purse { burst: 5_000.0, per_hour: 250.0 }, Purse { burst: 30_000.0, per_hour: 1_000.0 }];
const ACTORS: Purses = [Purse { burst: 500.0, per_hour: 50.0 }, Purse { burst: 10_000.0, per_hour: 400.0 }];
const PLAIN_ACTORS: Purses = [Purse { burst: 1_000.0, per_hour: 50.0 }, Purse { burst: 10_000.0, per_hour: 400.0 }];
/// Octets that a text and an actor take beside their own, with what indexes hold of them and with an actor's processes.
const TEXT: usize = 64;
const ACTOR: usize = 1_024;

/// Who did it, and what sums know of him.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Actor {
    pub(super) id: i64,
    pub(super) account: i64,
    pub(super) facet: i64,
}

/// Account, service, script, process, plan.
type Facet = [i64; 5];

/// Of one number and one uid: what the history calls it may have been made anew with another.
struct KnownAccount {
    id: i64,
    uid: u32,
    last: Millis,
}

/// Two hashes with secret keys: what makes an actor may be long, and nobody finds two that are taken for one.
#[derive(Default)]
struct Keys([RandomState; 2]);

impl Keys {
    fn of(&self, text: &str) -> [u64; 2] {
        [self.0[0].hash_one(text), self.0[1].hash_one(text)]
    }
}

struct Known {
    actor: Actor,
    processes: Vec<Process>,
    last: Millis,
    changed: bool,
}

pub(super) struct Names {
    accounts: HashMap<String, KnownAccount>,
    texts: HashMap<String, (i64, Millis)>,
    targets: HashMap<Target, (i64, i64, Millis)>,
    facets: HashMap<Facet, i64>,
    /// By what makes an actor.
    actors: HashMap<[u64; 2], i64>,
    keys: Keys,
    known: HashMap<i64, Known>,
    /// What names of one kind may take.
    octets: Purses,
    text_budget: Budget,
    actor_budget: Budget,
    plain_budget: Budget,
}

impl Names {
    /// For a history of so many octets.
    pub(super) fn new(max_size: u64) -> Self {
        Self {
            accounts: HashMap::new(),
            texts: HashMap::new(),
            targets: HashMap::new(),
            facets: HashMap::new(),
            actors: HashMap::new(),
            keys: Keys::default(),
            known: HashMap::new(),
            octets: octets(max_size),
            text_budget: Budget::default(),
            actor_budget: Budget::default(),
            plain_budget: Budget::default(),
        }
    }

    pub(super) fn set_size(&mut self, max_size: u64) {
        self.octets = octets(max_size);
    }

    /// Forgets what a transaction that failed may have made. What it cost stays spent.
    pub(super) fn forget(&mut self) {
        self.accounts.clear();
        self.texts.clear();
        self.targets.clear();
        self.facets.clear();
        self.actors.clear();
        self.known.clear();
    }

    /// The number of an account, whose uid is surely this: a user that was removed and made anew may have another.
    pub(super) fn account_of(&mut self, db: &Connection, name: &str, kind: u32, uid: u32, now: Millis) -> Result<i64> {
        let id = self.account(db, name, kind, uid, now)?;
        // Others have none of their own, and `other` has everyone's.
        let has_one = kind == kind::USER && name != NO_NAMES[1].1;
        if let Some(known) = self.accounts.get_mut(name).filter(|known| has_one && known.uid != uid) {
            let sql = "UPDATE account SET uid = ?2 WHERE id = ?1 AND kind = ?3";
            db.prepare_cached(sql)?.execute(params![id, uid, kind])?;
            known.uid = uid;
        }
        Ok(id)
    }

    /// The number of an account. The uid is only for one that is new: that of an event may be a subordinate one.
    pub(super) fn account(&mut self, db: &Connection, name: &str, kind: u32, uid: u32, now: Millis) -> Result<i64> {
        if let Some(KnownAccount { id, last, .. }) = self.accounts.get_mut(name) {
            if now - *last > STALE {
                *last = now;
                db.prepare_cached("UPDATE account SET last = max(last, ?2) WHERE id = ?1")?.execute([*id, now])?;
            }
            return Ok(*id);
        }
        if self.accounts.len() > REMEMBERED {
            self.accounts.clear();
        }
        let mut find = db.prepare_cached("SELECT id, uid, last FROM account WHERE name = ?1")?;
        let found = find.query_row([name], |row| {
            let (id, uid, last) = (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok(KnownAccount { id, uid, last })
        });
        let known = match found.optional()? {
            Some(known) => known,
            None => {
                let mut make = db
                    .prepare_cached("INSERT INTO account (name, kind, uid, first, last) VALUES (?1, ?2, ?3, ?4, ?4)")?;
                make.execute(params![name, kind, uid, now])?;
                KnownAccount { id: db.last_insert_rowid(), uid, last: now }
            }
        };
        let id = known.id;
        self.accounts.insert(name.to_owned(), known);
        Ok(id)
    }

    /// The number of a text that belongs to an account's story.
    pub(super) fn text(&mut self, db: &Connection, account: i64, text: Option<&str>, now: Millis) -> Result<i64> {
        let Some(text) = text.filter(|text| !text.is_empty()).map(|text| cut(text, LONGEST)) else {
            return Ok(UNKNOWN);
        };
        if let Some((id, last)) = self.texts.get_mut(text.as_ref()) {
            if now - *last > STALE {
                *last = now;
                db.prepare_cached("UPDATE text SET last = max(last, ?2) WHERE id = ?1")?.execute([*id, now])?;
            }
            return Ok(*id);
        }
        let hash = hash(&[text.as_bytes()]);
        let mut find = db.prepare_cached("SELECT id, last FROM text WHERE hash = ?1 AND text = ?2")?;
        let found = find.query_row(params![hash, text], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let (id, last) = match found {
            Some(found) => found,
            None if self.text_budget.take(account, TEXTS, self.octets, TEXT + text.len(), now) => {
                let mut make = db.prepare_cached("INSERT INTO text (hash, text, last) VALUES (?1, ?2, ?3)")?;
                make.execute(params![hash, text, now])?;
                (db.last_insert_rowid(), now)
            }
            None => return Ok(OTHER),
        };
        if self.texts.len() > REMEMBERED {
            self.texts.clear();
        }
        self.texts.insert(text.into_owned(), (id, last));
        Ok(id)
    }

    /// The numbers of a target and of its address as a text.
    pub(super) fn target(&mut self, db: &Connection, account: i64, target: Target, now: Millis) -> Result<(i64, i64)> {
        if let Some((id, address, last)) = self.targets.get(&target)
            && now - *last <= STALE
        {
            return Ok((*id, *address));
        }
        let text = target.address.to_string();
        let address = self.text(db, account, Some(&text), now)?;
        let mut put = db.prepare_cached(
            "INSERT INTO target (address, port, route, last) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET last = max(last, excluded.last) RETURNING id",
        )?;
        let id = put.query_row(params![address, target.port, target.route as u8, now], |row| row.get(0))?;
        if self.targets.len() > REMEMBERED {
            self.targets.clear();
        }
        self.targets.insert(target, (id, address, now));
        Ok((id, address))
    }

    /// The actor behind an event; its process is remembered.
    pub(super) fn actor(&mut self, db: &Connection, account: i64, who: &Who, now: Millis) -> Result<Actor> {
        let details = [Detail::All, Detail::NoCommands, Detail::Nothing];
        for detail in details {
            if let Some(id) = self.find_or_make(db, account, who, detail, now)? {
                let known = self.known.get_mut(&id).expect("it was just looked up");
                known.last = known.last.max(now);
                known.changed = true;
                if detail != Detail::Nothing {
                    remember(&mut known.processes, process(who, now));
                }
                return Ok(known.actor);
            }
        }
        unreachable!("an actor without detail is always made")
    }

    fn find_or_make(
        &mut self,
        db: &Connection,
        account: i64,
        who: &Who,
        detail: Detail,
        now: Millis,
    ) -> Result<Option<i64>> {
        // Of subordinate uids and names of threads, too, there may be any number.
        let bare = detail == Detail::Nothing;
        let (uid, comm) = if bare { (u32::MAX, "") } else { (who.uid, who.comm.as_str()) };
        let plan = who.plan.as_deref().unwrap_or_default();
        let Some(culprit) = written(&who.culprit, detail) else { return Ok(None) };
        let text = format!("{account}\0{uid}\0{comm}\0{plan}\0{culprit}");
        let key = self.keys.of(&text);
        if let Some(&id) = self.actors.get(&key) {
            return Ok(Some(id));
        }
        let hash = hash(&[text.as_bytes()]);
        let mut find = db.prepare_cached(
            "SELECT actor.id, processes, facet, facet.service, facet.script, facet.process, facet.plan
             FROM actor JOIN facet ON facet.id = actor.facet
             WHERE hash = ?1 AND actor.account = ?2 AND uid = ?3 AND comm = ?4 AND culprit = ?5",
        )?;
        let found = find
            .query_row(params![hash, account, uid, comm, culprit], |row| {
                let processes: String = row.get(1)?;
                let facet = [account, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?];
                let actor = Actor { id: row.get(0)?, account, facet: row.get(2)? };
                Ok((actor, facet, serde_json::from_str(&processes).unwrap_or_default()))
            })
            .optional()?;
        let (actor, processes) = match found {
            Some((actor, facet, processes)) => {
                // It is used again, and so may not be tidied away.
                self.facet(db, facet, now)?;
                (actor, processes)
            }
            None => {
                let size = ACTOR + comm.len() + culprit.len();
                let may = match detail {
                    Detail::All => self.actor_budget.take(account, ACTORS, self.octets, size, now),
                    Detail::NoCommands => self.plain_budget.take(account, PLAIN_ACTORS, self.octets, size, now),
                    Detail::Nothing => true,
                };
                if !may {
                    return Ok(None);
                }
                (self.make(db, (hash, account, uid, comm, &culprit), who, bare, now)?, Vec::new())
            }
        };
        if self.known.len() > REMEMBERED / 5 {
            self.save(db)?;
            self.actors.clear();
            self.known.clear();
        }
        self.actors.insert(key, actor.id);
        self.known.insert(actor.id, Known { actor, processes, last: now, changed: true });
        Ok(Some(actor.id))
    }

    fn make(
        &mut self,
        db: &Connection,
        (hash, account, uid, comm, culprit): (i64, i64, u32, &str, &str),
        who: &Who,
        bare: bool,
        now: Millis,
    ) -> Result<Actor> {
        let mut text = |text: Option<&str>| match text {
            // Nobody knows it any more, which is not that nobody knew it.
            Some(_) if bare => Ok(OTHER),
            text => self.text(db, account, text, now),
        };
        let service = text(who.culprit.service())?;
        let script = text(who.culprit.script_path())?;
        let process = text(Some(&process_name(who)))?;
        let plan = text(who.plan.as_deref())?;
        let facet = self.facet(db, [account, service, script, process, plan], now)?;
        let mut make = db.prepare_cached(
            "INSERT INTO actor (hash, account, uid, comm, facet, culprit, processes, first, last)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, '[]', ?7, ?7)",
        )?;
        make.execute(params![hash, account, uid, comm, facet, culprit, now])?;
        Ok(Actor { id: db.last_insert_rowid(), account, facet })
    }

    /// The number of a facet; its row learns that it is used.
    fn facet(&mut self, db: &Connection, facet: Facet, now: Millis) -> Result<i64> {
        if let Some(&id) = self.facets.get(&facet) {
            return Ok(id);
        }
        let [account, service, script, process, plan] = facet;
        let mut put = db.prepare_cached(
            "INSERT INTO facet (account, service, script, process, plan, last) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO UPDATE SET last = max(last, excluded.last) RETURNING id",
        )?;
        let id = put.query_row(params![account, service, script, process, plan, now], |row| row.get(0))?;
        if self.facets.len() > REMEMBERED {
            self.facets.clear();
        }
        self.facets.insert(facet, id);
        Ok(id)
    }

    /// Writes what has changed of actors.
    pub(super) fn save(&mut self, db: &Connection) -> Result<()> {
        let mut put = db.prepare_cached("UPDATE actor SET processes = ?2, last = max(last, ?3) WHERE id = ?1")?;
        for (id, known) in self.known.iter_mut().filter(|(_, known)| known.changed) {
            let processes = serde_json::to_string(&known.processes).unwrap_or_else(|_| "[]".to_owned());
            put.execute(params![id, processes, known.last])?;
            known.changed = false;
        }
        Ok(())
    }

    /// What tidying up has removed may come again.
    pub(super) fn forget_rows(&mut self, db: &Connection) -> Result<()> {
        self.save(db)?;
        self.forget();
        Ok(())
    }
}
