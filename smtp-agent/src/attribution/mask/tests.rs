use super::*;
use crate::accounts::label::printable;
use proptest::prelude::*;

fn by(mask: &Mask, line: &[&str]) -> String {
    let mut words: Vec<_> = line.iter().map(|word| printable(word.as_bytes())).collect();
    mask.apply(&mut words);
    words.join(" ")
}

fn masked(line: &[&str]) -> String {
    by(&Mask::Secrets(Vec::new()), line)
}

#[test]
fn passwords_and_tokens_are_covered_wherever_programs_take_them() {
    for (line, shown) in [
        (&["mysqldump", "-u", "shop", "-pgeheim", "db"][..], "mysqldump -u shop -p*** db"),
        (&["/usr/bin/mysql", "--password=geheim"], "/usr/bin/mysql --password=***"),
        (&["swaks", "--auth-password", "geheim", "--to", "a@b"], "swaks --auth-password *** --to a@b"),
        (&["swaks", "-ap", "geheim"], "swaks -ap ***"),
        (&["sshpass", "-p", "geheim", "ssh", "x"], "sshpass -p *** ssh x"),
        (&["curl", "-u", "me:geheim", "https://x"], "curl -u me:*** https://x"),
        (&["curl", "smtp://me:geheim@mail.example:587"], "curl smtp://me:***@mail.example:587"),
        (&["curl", "-H", "Authorization: Bearer abc.def"], "curl -H Authorization: Bearer ***"),
        (&["curl", "https://x/?token=abc&y=1"], "curl https://x/?token=***&y=1"),
        (&["env", "SMTP_PASSWORD=geheim", "DB_PASS_FILE=/x"], "env SMTP_PASSWORD=*** DB_PASS_FILE=/x"),
        (&["php", "-r", "$m->Password = 'geheim'; $m->send();"], "php -r $m->Password = '***'; $m->send();"),
        (&["php", "-r", "['password' => \"geheim\"]"], "php -r ['password' => \"***\"]"),
        (&["x", "ghp_abcdefghijkl"], "x ***"),
        (&["ssh", "-p", "2222", "host"], "ssh -p 2222 host"),
        (&["nginx", "-p", "/srv"], "nginx -p /srv"),
        (&["perl", "/home/shop/bypass.pl", "compass"], "perl /home/shop/bypass.pl compass"),
        (&["passwd", "shop"], "passwd shop"),
    ] {
        assert_eq!(masked(line), shown);
    }
}

#[test]
fn what_is_configured_is_covered_too_and_arguments_can_be_left_out_altogether() {
    let mut words = vec!["x".to_owned(), "customer-4711".into()];
    Mask::Secrets(vec![Regex::new(r"customer-(\d+)").unwrap()]).apply(&mut words);
    assert_eq!(words[1], "customer-***");
    let mut words: Vec<_> = ["php", "-f", "/srv/x.php", "me", "--k=v"].map(str::to_owned).into();
    Mask::Arguments.apply(&mut words);
    assert_eq!(words.join(" "), "php -f /srv/x.php *** --k=***");
    let mut words = vec!["x".to_owned(), "--password=y".into()];
    Mask::Nothing.apply(&mut words);
    assert_eq!(words[1], "--password=y");
}

proptest! {
    #[test]
    fn a_secret_behind_its_name_is_never_shown(name in "(password|api_key|auth_token|DB_PASSWORD)", secret in "[A-Za-z0-9]{12}") {
        let shown = masked(&["x", &format!("--{name}={secret}"), &format!("--{name}"), &secret]);
        prop_assert!(!shown.contains(&secret), "{shown}");
    }

    #[test]
    fn no_words_make_it_panic(words: Vec<String>) {
        let mut words = words;
        Mask::Secrets(Vec::new()).apply(&mut words);
    }
}

#[test]
fn a_command_line_in_one_word_is_masked_as_the_commands_it_has() {
    for (line, shown) in [
        ("mysqldump -u root -pGEHEIM shop | mail -s x a@b", "mysqldump -u root -p*** shop | mail -s x a@b"),
        ("mysqldump -u \"root x\" -pGEHEIM shop", "mysqldump -u \"root x\" -p*** shop"),
        ("swaks --to a@b --auth-password GEHEIM", "swaks --to a@b --auth-password ***"),
        ("swaks --auth-password \"GE HEIM\" -q", "swaks --auth-password *** -q"),
        ("cd /x && curl -u me:GEHEIM smtp://h;true", "cd /x && curl -u me:*** smtp://h;true"),
        ("sshpass -p GEHEIM ssh -p 22 h", "sshpass -p *** ssh -p 22 h"),
        ("SMTP_PASS=GEHEIM send; x", "SMTP_PASS=*** send; x"),
        ("SMTP_PASS='GE HEIM' send", "SMTP_PASS=*** send"),
        ("x `mysql -pGEHEIM db`", "x `mysql -p*** db`"),
        ("x \"$(mysql -pGEHEIM -e y)\"", "x \"$(mysql -p*** -e y)\""),
        ("su shop -c 'mysql -pGEHEIM db'", "su shop -c 'mysql -p*** db'"),
        ("C='mysql -pGEHEIM db'; $C", "C='mysql -p*** db'; $C"),
        ("ssh h \"su -c 'mysql -pGEHEIM db'\"", "ssh h \"su -c 'mysql -p*** db'\""),
        ("cd /x\nmysql -pGEHEIM db", "cd /x\\nmysql -p*** db"),
        ("echo don't; mysql -pGEHEIM db", "echo don't; mysql -p*** db"),
        ("curl -s x 2>&1 -u me:GEHEIM", "curl -s x 2>&1 -u me:***"),
        ("msmtp --password='GE HEIM' -t", "msmtp --password=*** -t"),
        ("echo \"{\\\"password\\\":\\\"GE HEIM\\\"}\"", "echo \"{\\\\\"password\\\\\":\\\\\"***\\\\\"}\""),
        ("run --verbose -x /a 'b c'", "run --verbose -x /a 'b c'"),
    ] {
        assert_eq!(masked(&["/bin/sh", "-c", line]), format!("/bin/sh -c {shown}"));
        assert_eq!(masked(&["sh", "-c", "--", line]), format!("sh -c -- {shown}"));
        // As a title that was written over.
        assert_eq!(masked(&[line]), shown);
    }
}

#[test]
fn secrets_are_covered_whatever_the_option_is_called_and_however_it_is_joined() {
    for (line, shown) in [
        (
            &["env", "SMTP_PASS=GEHEIM", "DB_PASS=GEHEIM", "DBPASS=GEHEIM", "smtp_pass=GEHEIM"][..],
            "env SMTP_PASS=*** DB_PASS=*** DBPASS=*** smtp_pass=***",
        ),
        (&["env", "SMTP_PASS=GE HEIM", "x"], "env SMTP_PASS=*** x"),
        (&["x", "--smtp-pass", "GEHEIM", "--smtp_pass=GEHEIM"], "x --smtp-pass *** --smtp_pass=***"),
        (&["php", "-r", "define('SMTP_PASS', 'GEHEIM'); f();"], "php -r define('SMTP_PASS', '***'); f();"),
        (&["php", "-r", "$c['smtp_pass'] = 'GEHEIM';"], "php -r $c['smtp_pass'] = '***';"),
        (&["php", "-r", "$m->setPassword('GEHEIM');"], "php -r $m->setPassword('***');"),
        (&["php", "-r", "$m->Password = 'Xy GEHEIM'; f();"], "php -r $m->Password = '***'; f();"),
        (&["curl", "-sSu", "me:GEHEIM", "x"], "curl -sSu me:*** x"),
        (&["curl", "-ume:GEHEIM"], "curl -ume:***"),
        (&["curl", "-sSume:GEHEIM"], "curl -sSume:***"),
        (&["curl", "--user=me:GEHEIM", "--user", "me:GE:HEIM"], "curl --user=me:*** --user me:***"),
        (&["curl", "-o", "me:x", "-Au:x"], "curl -o me:x -Au:x"),
        (&["curl", "--oauth2-bearer", "GEHEIM"], "curl --oauth2-bearer ***"),
        (&["sendEmail", "-xu", "me", "-xp", "GEHEIM"], "sendEmail -xu me -xp ***"),
        (&["sshpass", "-pGEHEIM", "ssh", "h"], "sshpass -p*** ssh h"),
        (&["lftp", "-u", "me,GEHEIM", "h"], "lftp -u me,*** h"),
        (&["sudo", "mysql", "-BpGEHEIM", "-uptest"], "sudo mysql -Bp*** -uptest"),
        (&["htpasswd", "-nb", "me", "GEHEIM"], "htpasswd -nb me ***"),
        (&["redis-cli", "-a", "GEHEIM"], "redis-cli -a ***"),
        (&["mysql", "-e", "create user a identified by 'GE HEIM'"], "mysql -e create user a identified by '***'"),
        (&["x", "--password=Gehe,im&GEHEIM"], "x --password=***"),
        (&["curl", "-d", "a=1&password=Gehe,im&b=2"], "curl -d a=1&password=***&b=2"),
        (&["curl", "-d", "a=1&password=Gehe&im"], "curl -d a=1&password=***"),
        (&["mount", "-o", "user=me,password=Gehe,uid=1"], "mount -o user=me,password=***,uid=1"),
        (&["x", "smtp://me:p@GEHEIM@h"], "x smtp://me:***@h"),
        (&["x", "smtp://me@example.com:GEHEIM@h/b@c"], "x smtp://me@example.com:***@h/b@c"),
        (&["x", "http://h:80/a@b"], "x http://h:80/a@b"),
        (
            &["x", "--password-file=/a", "DB_PASSWORD_FILE=/b", "--bypass", "y"],
            "x --password-file=/a DB_PASSWORD_FILE=/b --bypass y",
        ),
        (&["apt", "install", "curl", "-y"], "apt install curl -y"),
    ] {
        assert_eq!(masked(line), shown);
    }
}

#[test]
fn the_strict_mask_leaves_only_names() {
    for (line, shown) in [
        (&["mysql", "-pGEHEIM", "-v", "db"][..], "mysql *** -v ***"),
        (&["sshpass", "-p", "--GEHEIM"], "sshpass -p ***"),
        (&["/usr/bin/perl -e GEHEIM"], "/usr/bin/perl ***"),
        (&["PASS=GEHEIM", "x"], "PASS=*** ***"),
        (&["x", "--name=GEHEIM", "--name", "-nGEHEIM", "/srv/x", "/x?k=GEHEIM"], "x --name=*** --name *** /srv/x ***"),
    ] {
        assert_eq!(by(&Mask::Arguments, line), shown);
    }
}
