//! The configuration of an agent under test: what the fixture must have its way in, and what the test wants.

use crate::Must;
use std::fmt;
use toml::{Table, Value};

/// A TOML document that is built up piece by piece.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Config(Table);

impl Config {
    /// Lays a piece of TOML over what is there: tables are merged, everything else is replaced.
    #[track_caller]
    pub fn merge(&mut self, text: &str) -> &mut Self {
        let over: Table = text.parse().must(format_args!("not TOML:\n{text}"));
        lay_over(&mut self.0, over);
        self
    }

    /// Sets one value by its dotted path, such as `plan.standard.per_hour`.
    #[track_caller]
    pub fn set(&mut self, path: &str, value: impl Into<Value>) -> &mut Self {
        let (tables, key) = path.rsplit_once('.').unwrap_or(("", path));
        let mut table = &mut self.0;
        for name in tables.split('.').filter(|name| !name.is_empty()) {
            let entry = table.entry(name).or_insert_with(|| Value::Table(Table::new()));
            table = entry.as_table_mut().must(format_args!("{name} in {path} is not a table"));
        }
        table.insert(key.into(), value.into());
        self
    }
}

fn lay_over(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => lay_over(below, above),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&toml::to_string(&self.0).map_err(|_| fmt::Error)?)
    }
}

#[cfg(test)]
mod tests {
    use super::Config;

    #[test]
    fn tables_are_merged_and_values_replaced() {
        let mut config = Config::default();
        config.merge("mode = 'enforce'\n[smtp]\nports = [25, 465]\n[plan.a]\nper_hour = 1\nper_day = 2");
        config.merge("[smtp]\nports = [2525]\n[plan.b]\nper_hour = 3").set("plan.a.per_hour", 9).set("mode", "observe");
        let mut wanted = Config::default();
        wanted
            .merge("mode = 'observe'\nsmtp.ports = [2525]\nplan.a = {per_hour = 9, per_day = 2}\nplan.b.per_hour = 3");
        assert_eq!(config, wanted);
        let mut read_back = Config::default();
        assert_eq!(read_back.merge(&config.to_string()), &wanted);
    }
}
