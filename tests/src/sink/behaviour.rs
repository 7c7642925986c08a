//! What a sink offers and how it answers: the same for all its connections.

use super::{Reply, Stage};
use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

/// Answers some addresses by itself and leaves the others.
pub(super) type Rule = Box<dyn Fn(&str) -> Option<Reply> + Send + Sync>;

#[derive(Default)]
pub(super) struct Behaviour {
    pub(super) chunking: bool,
    pub(super) lmtp: bool,
    pub(super) prdr: bool,
    pub(super) auth: bool,
    pub(super) bare_lf: bool,
    pub(super) obedient: bool,
    pub(super) starttls: bool,
    pub(super) implicit_tls: bool,
    pub(super) tls: Option<Arc<rustls::ServerConfig>>,
    /// Sizes of the pieces that answers are written in; none when each goes out at once.
    pub(super) split: Vec<usize>,
    pub(super) answers: HashMap<Stage, Reply>,
    pub(super) rules: Vec<(Stage, Rule)>,
    pub(super) greylist: Option<Mutex<HashSet<(IpAddr, String, String)>>>,
}

impl Behaviour {
    /// The answer at a stage about an address (or a word): what was arranged, else the good one.
    pub(super) fn answer(&self, stage: Stage, about: &str, good: &str) -> Reply {
        let rules = self.rules.iter().filter(|(of, _)| *of == stage);
        let arranged = rules.into_iter().find_map(|(_, rule)| rule(about));
        let ordered = || if self.obedient { ordered(stage, about) } else { None };
        let fixed = || self.answers.get(&stage).cloned();
        arranged.or_else(ordered).or_else(fixed).unwrap_or_else(|| good.into())
    }

    /// Whether this host, sender and recipient are seen together for the first time.
    pub(super) fn is_new(&self, peer: IpAddr, from: &str, to: &str) -> bool {
        let Some(seen) = &self.greylist else { return false };
        seen.lock().unwrap_or_else(PoisonError::into_inner).insert((peer, from.to_string(), to.to_string()))
    }
}

/// The answer that an address such as `jo+rcpt450+each550@far.test` asks for; 000 asks for none.
fn ordered(stage: Stage, address: &str) -> Option<Reply> {
    let word = match stage {
        Stage::Mail => "mail",
        Stage::Rcpt => "rcpt",
        Stage::Data => "data",
        Stage::Chunk => "chunk",
        Stage::Message => "body",
        Stage::Recipient => "each",
        Stage::Connect | Stage::Hello | Stage::Auth | Stage::Other => return None,
    };
    let (local, _) = address.rsplit_once('@')?;
    let code = local.split('+').skip(1).find_map(|tag| tag.strip_prefix(word))?;
    Some(if code == "000" { Reply::never() } else { format!("{code} as you wish").into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_orders_its_own_answers() {
        let order = |stage, address| ordered(stage, address).map(|reply| reply.code());
        let address = "jo+rcpt450+each550@far.test";
        assert_eq!((order(Stage::Rcpt, address), order(Stage::Recipient, address)), (Some(450), Some(550)));
        assert_eq!((order(Stage::Mail, address), order(Stage::Rcpt, "rcpt450@far.test")), (None, None));
        assert!(ordered(Stage::Message, "jo+body000@far.test").unwrap().is_never());
    }

    #[test]
    fn a_rule_goes_before_a_fixed_answer_and_both_before_the_good_one() {
        let mut behaviour = Behaviour::default();
        behaviour.answers.insert(Stage::Rcpt, "450 later".into());
        behaviour.rules.push((Stage::Rcpt, Box::new(|to| (to == "no@far.test").then(|| "550 no".into()))));
        let code = |stage, about| behaviour.answer(stage, about, "250 ok").code();
        assert_eq!(code(Stage::Rcpt, "no@far.test"), 550);
        assert_eq!((code(Stage::Rcpt, "jo@far.test"), code(Stage::Mail, "no@far.test")), (450, 250));
    }
}
