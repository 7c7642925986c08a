//! What panels and firewalls have configured.

use super::*;

const CSF: &str = r#"# Testing flag
TESTING = "0"
TCP_OUT = "20,21,22,25,53,80,110,113,443,587,993,995"
# Block outgoing SMTP except for root, exim and mailman
SMTP_BLOCK = "1"
SMTP_ALLOWLOCAL = "1"
SMTP_REDIRECT = "0"
SMTP_PORTS = "25,465,587"
SMTP_ALLOWUSER = "cpanel"
SMTP_ALLOWGROUP = "mail,mailman"
DROP_OUT = "REJECT"
"#;

fn csf(change: impl Fn(String) -> String, ours: &Ours) -> Vec<Neighbour> {
    let host = Host::with(&[("/etc/csf/csf.conf", &change(CSF.to_owned()))]);
    find(host.path(), ours, &Rules::default())
}

#[test]
fn csf_blocks_smtp_and_is_told_with_line_ports_and_whom_it_spares() {
    let one = single(csf(|text| text, &ours()));
    assert_eq!((one.who.as_str(), one.severity), ("CSF", Severity::Warning));
    assert_eq!(one.evidence, ["/etc/csf/csf.conf:5: SMTP_BLOCK = \"1\""]);
    says(
        &one,
        &[
            "rejects ports 25, 465 and 587 for everyone but root, the user cpanel and the groups mail and mailman:",
            "ECONNREFUSED",
            "has been charged",
        ],
    );
    let agreed = Ours { only_mta: true, ..ours() };
    assert_eq!(single(csf(|text| text, &agreed)).severity, Severity::Information, "both let only the MTA send");
}

#[test]
fn what_csf_does_depends_on_its_other_keys() {
    let set = |key: &'static str, to: &'static str| {
        move |text: String| {
            let lines =
                text.lines().map(|l| if l.starts_with(key) { format!("{key} = \"{to}\"") } else { l.to_owned() });
            lines.collect::<Vec<_>>().join("\n")
        }
    };
    let redirecting = Ours { redirects: true, ..ours() };
    for (change, parts) in [
        (set("DROP_OUT", "DROP"), &["drops ports", "hangs until", "timed_out"][..]),
        (
            set("SMTP_REDIRECT", "1"),
            &["sends ports", "to this host's MTA", "SMTP_REDIRECT", "on_soft", "route `remote`"],
        ),
        (set("SMTP_ALLOWLOCAL", "0"), &["local MTA are stopped as well", "on_soft", "SMTP_ALLOWLOCAL"]),
        (set("TESTING", "1"), &["testing mode", "TESTING = \"1\""]),
        (set("SMTP_PORTS", " 25 , 2525"), &["rejects port 25 for"]),
        (set("SMTP_ALLOWUSER", ""), &["but root and the groups"]),
    ] {
        says(&single(csf(change, &redirecting)), parts);
    }
    for change in [set("SMTP_BLOCK", "0"), set("SMTP_PORTS", "2525"), set("SMTP_BLOCK", "")] {
        assert_eq!(csf(change, &ours()), []);
    }
    assert_eq!(csf(|text| text.replace("SMTP_BLOCK", "#SMTP_BLOCK"), &ours()), [], "a comment");
}

#[test]
fn a_csf_that_is_switched_off_is_no_warning() {
    let host = Host::with(&[("/etc/csf/csf.conf", CSF), ("/etc/csf/csf.disable", "")]);
    let one = single(host.find());
    assert_eq!(one.severity, Severity::Information);
    says(&one, &["disabled now"]);
}

#[test]
fn whm_sends_connections_to_the_mta_of_the_host() {
    let conf = "alwaysredirecttossl=1\nsmtpmailgidonly=1\nmaxemailsperhour=200\n";
    let host = Host::with(&[("/var/cpanel/cpanel.config", conf)]);
    let one = single(host.find());
    assert_eq!((one.who.as_str(), one.severity), (whm::WHO, Severity::Warning));
    assert_eq!(one.evidence, ["/var/cpanel/cpanel.config:2: smtpmailgidonly=1"]);
    says(&one, &["everyone but root, the MTA and Mailman to this host's MTA", "charged once more"]);
    assert!(!one.together.contains("CSF"));

    host.write("/etc/csf/csf.conf", b"SMTP_BLOCK = \"0\"\n");
    host.write("/var/cpanel/smtpgidonlytweak", b"");
    says(
        &single(host.find()),
        &["CSF, which is installed here, takes these rules away", "/var/cpanel/smtpgidonlytweak"],
    );

    assert_eq!(Host::with(&[("/var/cpanel/cpanel.config", "smtpmailgidonly=0\n")]).find(), []);
    single(Host::with(&[("/var/cpanel/smtpgidonlytweak", "")]).find());
}

const IMUNIFY: &str = "ADMIN_CONTACTS:\n  emails: []\nSMTP_BLOCKING:\n  allow_groups:\n  - mail\n  allow_local: true\n  \
                       allow_users: []\n  enable: true\n  ports:\n  - 25\n  - 587\n  - 465\n  redirect: false\nWEBSHIELD:\n  enable: true\n";

#[test]
fn imunify_is_read_from_its_merged_configuration() {
    let path = "/etc/sysconfig/imunify360/imunify360-merged.config";
    let one = single(Host::with(&[(path, IMUNIFY)]).find());
    assert_eq!((one.who.as_str(), one.severity), ("Imunify360", Severity::Warning));
    assert_eq!(one.evidence, [format!("{path}:8: enable: true")]);
    says(&one, &["blocks ports 25, 465 and 587 for everyone but root and group mail", "has been charged"]);

    let redirected = IMUNIFY.replace("redirect: false", "redirect: True");
    says(&single(Host::with(&[(path, &redirected)]).find()), &["to this host's MTA", "charged once more"]);
    let off = IMUNIFY.replacen("enable: true", "enable: False", 1);
    assert_eq!(Host::with(&[(path, &off)]).find(), []);
    let nothing_local = IMUNIFY.replace("allow_local: true", "allow_local: false");
    says(&single(Host::with(&[(path, &nothing_local)]).find()), &["local MTA are stopped as well"]);
}

#[test]
fn of_files_that_imunify_has_not_merged_the_later_ones_hold() {
    let dir = "/etc/sysconfig/imunify360";
    let (main, drop_in) = (format!("{dir}/imunify360.config"), format!("{dir}/imunify360.config.d"));
    let (last, early) = (format!("{drop_in}/100-last.config"), format!("{drop_in}/20-early.config"));
    let host = Host::with(&[
        (&main, "SMTP_BLOCKING:\n  enable: false\n  ports: 25,587\n"),
        (&early, "SMTP_BLOCKING:\n  enable: false\n"),
        (&last, "OTHER: {}\nSMTP_BLOCKING: {enable: true}\n"),
    ]);
    let one = single(host.find());
    says(&one, &["blocks ports 25 and 587", "100-last.config:2: SMTP_BLOCKING"]);
}

#[test]
fn firewalld_direct_rules_and_policies_for_what_leaves_are_read() {
    let direct = r#"<?xml version="1.0" encoding="utf-8"?>
<direct>
  <chain ipv="ipv4" table="filter" chain="smtp"/>
  <rule ipv="ipv4" table="filter" chain="OUTPUT" priority="0">-p tcp -m multiport --dports 25,465 -j smtp</rule>
  <rule ipv="ipv4" table="filter" chain="smtp" priority="0">-m owner --uid-owner 0 -j RETURN</rule>
  <rule ipv="ipv4" table="filter" chain="smtp" priority="1">-j REJECT</rule>
  <passthrough ipv="ipv6">-t filter -A OUTPUT -p tcp --dport smtp -m owner --uid-owner 6133 -j DROP</passthrough>
  <rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-p tcp --dport 25 -j DROP</rule>
</direct>"#;
    let found = Host::with(&[("/etc/firewalld/direct.xml", direct)]).find();
    assert_eq!(found.len(), 2, "{found:#?}");
    says(
        &found[0],
        &[
            "firewalld rejects ports 25 and 465 for everyone but uid 0 (root)",
            "/etc/firewalld/direct.xml:6: <rule",
            "holds while firewalld runs",
        ],
    );
    says(&found[1], &["firewalld drops port 25 for uid 6133:", "/etc/firewalld/direct.xml:7:"]);

    let policy = r#"<policy target="CONTINUE">
  <ingress-zone name="HOST"/>
  <egress-zone name="ANY"/>
  <rule><service name="smtp"/><reject/></rule>
  <rule><port port="500-600" protocol="tcp"/><drop/></rule>
  <rule><port port="465" protocol="udp"/><drop/></rule>
</policy>"#;
    let path = "/etc/firewalld/policies/mail.xml";
    let found = Host::with(&[(path, policy)]).find();
    assert_eq!(found.len(), 2, "{found:#?}");
    says(&found[0], &["rejects port 25 for everyone", "policies/mail.xml:4: <rule><service name=\"smtp\""]);
    says(&found[1], &["drops port 587 for everyone"]);
    let closed = policy.replace("CONTINUE", "DROP").replace("<reject/>", "<accept/>");
    let found = Host::with(&[(path, &closed)]).find();
    assert!(found.iter().any(|n| n.together.starts_with("lets port 465 through for nobody")), "{found:#?}");
    let arriving = policy.replace("HOST", "public");
    assert_eq!(Host::with(&[(path, &arriving)]).find(), []);
}

#[test]
fn a_file_of_the_administrator_stands_for_the_packages_one_of_the_same_name() {
    let theirs = r#"<policy><ingress-zone name="HOST"/><rule><service name="smtp"/><drop/></rule></policy>"#;
    let own = "<policy><ingress-zone name=\"HOST\"/></policy>";
    let packaged = ("/usr/lib/firewalld/policies/a.xml", theirs);
    assert_eq!(Host::with(&[packaged]).find().len(), 1);
    assert_eq!(Host::with(&[packaged, ("/etc/firewalld/policies/a.xml", own)]).find(), []);
}

#[test]
fn a_tool_that_is_configured_and_in_force_is_one_neighbour() {
    let host = Host::with(&[("/etc/csf/csf.conf", CSF)]);
    let save = "*filter\n:OUTPUT ACCEPT [0:0]\n:SMTPOUTPUT - [0:0]\n-A OUTPUT -j SMTPOUTPUT\n\
                -A SMTPOUTPUT -p tcp -m multiport --dports 25,465,587 -m owner --uid-owner 0 -j ACCEPT\n\
                -A SMTPOUTPUT -p tcp -m multiport --dports 25,465,587 -j REJECT\nCOMMIT\n";
    let ours = ours();
    let set = iptables::parse(save, "ip", Ports(&ours.ports));
    let one = single(find(host.path(), &ours, &Rules { listed: vec![("iptables", set)], failed: Vec::new() }));
    assert_eq!(one.evidence.len(), 2, "{one:?}");
    says(&one, &["CSF (SMTP_BLOCK) rejects", "csf.conf:5", "ip filter SMTPOUTPUT: -A SMTPOUTPUT -p tcp"]);
}

#[test]
fn a_host_without_any_of_them_is_told_nothing() {
    assert_eq!(Host::with(&[]).find(), []);
    assert_eq!(Host::with(&[("/etc/csf", "a file where a directory should be")]).find(), []);
}
