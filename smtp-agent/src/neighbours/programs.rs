//! BPF programs of others on our cgroup's hooks.
//!
//! At a connect() every program on the way from the socket's cgroup to the root runs, whatever those before it have said,
//! and one no is enough (`bpf_prog_run_array_cg`, kernel/bpf/cgroup.c).

use super::{Neighbour, Severity};
use crate::kernel::attached::{Company, Foreign, Hook, Turn};

pub(super) fn neighbours(found: &[Foreign]) -> Vec<Neighbour> {
    found.iter().map(one).collect()
}

fn one(program: &Foreign) -> Neighbour {
    let turn = match program.turn {
        Turn::Before => "before",
        Turn::After => "after",
    };
    let evidence = format!(
        "program {} {:?}, {} at cgroup {}, runs {turn} ours",
        program.id,
        program.name,
        program.hook.name(),
        program.cgroup
    );
    let (severity, together) = together(program);
    Neighbour::new(severity, whose(&program.name), vec![evidence], together)
}

/// Who calls programs like this.
fn whose(name: &str) -> &'static str {
    let begins = |prefix: &str| name.starts_with(prefix);
    match name {
        "connect4" | "connect6" | "sent" | "received" => "another smtp-agent (or a program called like its)",
        _ if begins("cil_") || begins("sock4_") || begins("sock6_") => "Cilium",
        _ if begins("sd_") => "systemd",
        _ if begins("calico_") || begins("cali_") => "Calico",
        _ => "a BPF program of somebody else",
    }
}

fn together(program: &Foreign) -> (Severity, String) {
    let connects = matches!(program.hook, Hook::Connect4 | Hook::Connect6);
    match program.company {
        Company::ShutOut if !program.beside_ours => {
            let text =
                "tolerates none beside or below it, so smtp-agent cannot be attached to this hook while it is there";
            return (Severity::Warning, text.to_owned());
        }
        Company::GivesWay if !program.above && !program.beside_ours => {
            let text = "tolerates none beside it, so smtp-agent cannot be attached to this hook while it is there";
            return (Severity::Warning, text.to_owned());
        }
        Company::GivesWay if program.above => {
            let text = "gives way to programs below it: in smtp-agent's cgroup only smtp-agent's runs on this hook";
            return (Severity::Warning, text.to_owned());
        }
        _ => {}
    }
    let text = match program.hook {
        _ if connects => {
            let rewritten = match program.turn {
                Turn::Before => "If it rewrites the destination, smtp-agent decides by the new one",
                Turn::After => "If it rewrites the destination, smtp-agent decides by the one that the client asked for",
            };
            format!(
                "runs at each connect() as smtp-agent does, and each may refuse: what this one refuses has been charged by \
                 smtp-agent all the same. {rewritten}"
            )
        }
        Hook::PeerName4 | Hook::PeerName6 => "answers getpeername(2) for clients, which is done by whoever rewrites \
            destinations: addresses in events may differ from those that clients show"
            .to_owned(),
        _ => "sees the packets of connections that smtp-agent has let out and charged, and may drop them: the client then \
              waits until it gives up"
            .to_owned(),
    };
    (Severity::Information, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn foreign() -> Foreign {
        Foreign {
            id: 7,
            name: "cil_sock4_connect".into(),
            hook: Hook::Connect4,
            cgroup: "/".into(),
            above: false,
            company: Company::Tolerated,
            turn: Turn::Before,
            beside_ours: true,
        }
    }

    #[test]
    fn a_program_beside_ours_is_told_with_its_place_and_turn() {
        let said = one(&foreign());
        assert_eq!((said.who.as_str(), said.severity), ("Cilium", Severity::Information));
        assert_eq!(
            said.evidence,
            ["program 7 \"cil_sock4_connect\", cgroup_inet4_connect at cgroup /, runs before ours"]
        );
        assert!(said.together.contains("decides by the new one"), "{said:?}");
        let after = one(&Foreign { turn: Turn::After, name: String::new(), ..foreign() });
        assert!(after.together.contains("that the client asked for") && after.who.starts_with("a BPF"), "{after:?}");
    }

    #[test]
    fn programs_that_keep_ours_out_or_give_way_to_it_are_warned_of() {
        for (above, beside_ours, company, said) in [
            (false, false, Company::ShutOut, "cannot be attached"),
            (true, false, Company::ShutOut, "cannot be attached"),
            (false, false, Company::GivesWay, "cannot be attached"),
            (true, false, Company::GivesWay, "only smtp-agent's runs"),
            (true, true, Company::GivesWay, "only smtp-agent's runs"),
        ] {
            let one = one(&Foreign { above, beside_ours, company, ..foreign() });
            assert_eq!(one.severity, Severity::Warning, "{one:?}");
            assert!(one.together.contains(said), "{one:?}");
        }
    }

    #[test]
    fn every_hook_has_its_sentence() {
        for hook in Hook::ALL {
            let one = one(&Foreign { hook, ..foreign() });
            assert!(one.evidence[0].contains(hook.name()) && one.together.len() > 40, "{one:?}");
        }
    }
}
