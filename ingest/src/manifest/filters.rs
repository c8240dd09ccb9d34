//! PURE: which part of a database is dumped, in the words of `pg_dump`.

use std::fmt;

use serde::Deserialize;
use serde::Serialize;

/// A pattern that fits nothing is an error.
const STRICT: &str = "--strict-names";

/// Patterns of schemas and tables. None at all means the whole database.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Filters {
    /// Only these schemas.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schema: Vec<String>,
    /// Not these schemas.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude_schema: Vec<String>,
    /// Only these tables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub table: Vec<String>,
    /// Not these tables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude_table: Vec<String>,
    /// Of these tables no rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude_table_data: Vec<String>,
}

impl Filters {
    /// Whether all of the database is dumped.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether `pg_dump` dumps what belongs to no schema: it does unless somebody says what to dump.
    pub(crate) fn takes_large_objects(&self) -> bool {
        self.schema.is_empty() && self.table.is_empty()
    }

    /// As `pg_dump` is told which tables there are to be.
    pub(crate) fn of_tables(&self) -> Vec<String> {
        let parts = [
            ("schema", &self.schema),
            ("exclude-schema", &self.exclude_schema),
            ("table", &self.table),
            ("exclude-table", &self.exclude_table),
        ];
        // Else `pg_dump` passes over a pattern that fits nothing in silence, beside one that fits.
        let strict = (!self.takes_large_objects()).then(|| STRICT.to_owned());
        let flags = parts.into_iter().flat_map(|(name, patterns)| {
            patterns.iter().map(move |pattern| format!("--{name}={pattern}"))
        });
        strict.into_iter().chain(flags).collect()
    }

    /// As `pg_dump` is told all of it.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let rows = self.exclude_table_data.iter();
        let rows = rows.map(|pattern| format!("--exclude-table-data={pattern}"));
        self.of_tables().into_iter().chain(rows).collect()
    }
}

impl fmt::Display for Filters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut patterns = self.arguments();
        patterns.retain(|argument| argument != STRICT);
        f.write_str(&patterns.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_told_as_pg_dump_takes_them() {
        assert!(Filters::default().is_empty());
        assert_eq!(serde_json::to_string(&Filters::default()).unwrap(), "{}");
        let text = r#"{"schema":["a*"],"exclude_table":["b","c"],"exclude_table_data":["d"]}"#;
        let filters: Filters = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&filters).unwrap(), text);
        assert_eq!(
            filters.to_string(),
            "--schema=a* --exclude-table=b --exclude-table=c --exclude-table-data=d"
        );
        assert_eq!(filters.of_tables()[0], STRICT);
        assert!(!filters.takes_large_objects());
        let rows = Filters { exclude_table_data: vec!["d".to_owned()], ..Filters::default() };
        assert!(rows.takes_large_objects() && !rows.is_empty() && rows.of_tables().is_empty());
    }
}
