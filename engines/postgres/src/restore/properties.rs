//! A database's own properties as statements: pure, for a target of a given major.

use dbbackup_contract::{Failure, Reason};

use super::statements::Statement;
use crate::database::{DatabaseProperties, Privilege};
use crate::sql::{ident, literal, set_clause};

/// What follows `CREATE DATABASE name`.
///
/// # Errors
/// `LocaleNotAvailable` where the target's major has no such provider.
pub(super) fn create_options(
    properties: &DatabaseProperties,
    target_major: u32,
) -> Result<String, Failure> {
    let mut sql = format!(
        "TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}",
        literal(&properties.encoding),
        literal(&properties.collate),
        literal(&properties.ctype)
    );
    let locale = properties.locale.as_deref().map(literal);
    let (provider, since) = match properties.locale_provider.as_str() {
        "c" => ("libc", 0),
        "i" => ("icu", 15),
        "b" => ("builtin", 17),
        other => {
            let message = format!("the locale provider {other:?} is not known");
            return Err(Failure::new(Reason::LocaleNotAvailable, message));
        }
    };
    if target_major < since {
        return Err(Failure::new(
            Reason::LocaleNotAvailable,
            format!("PostgreSQL {target_major} has no locale provider {provider} for databases"),
        )
        .with_hint(format!("Restore to PostgreSQL {since} or newer.")));
    }
    if target_major >= 15 {
        sql.push_str(&format!(" LOCALE_PROVIDER {provider}"));
    }
    match (provider, locale) {
        ("icu", Some(locale)) => sql.push_str(&format!(" ICU_LOCALE {locale}")),
        ("builtin", Some(locale)) => sql.push_str(&format!(" BUILTIN_LOCALE {locale}")),
        _ => {}
    }
    if let Some(rules) = &properties.icu_rules {
        if target_major < 16 {
            return Err(Failure::new(
                Reason::LocaleNotAvailable,
                format!("PostgreSQL {target_major} has no rules of ICU locales"),
            )
            .with_hint("Restore to PostgreSQL 16 or newer."));
        }
        sql.push_str(&format!(" ICU_RULES {}", literal(rules)));
    }
    if properties.tablespace != "pg_default" {
        sql.push_str(&format!(" TABLESPACE {}", ident(&properties.tablespace)));
    }
    Ok(sql)
}

/// Statements that give database `name` the properties that it could not be
/// created with. They may be carried out again.
pub(super) fn property_statements(properties: &DatabaseProperties, name: &str) -> Vec<Statement> {
    let database = ident(name);
    let mut statements: Vec<Statement> =
        vec![format!("ALTER DATABASE {database} OWNER TO {}", ident(&properties.owner)).into()];
    for setting in &properties.settings {
        let (whose, shown) = match &setting.role {
            Some(role) => (
                format!("ALTER ROLE {} IN DATABASE {database}", ident(role)),
                format!("role {role} in database {}", properties.name),
            ),
            None => (format!("ALTER DATABASE {database}"), format!("database {}", properties.name)),
        };
        for (name, clause) in setting.values.iter().filter_map(|value| set_clause(value)) {
            let what = format!("setting {name} of {shown}");
            statements.push(Statement::setting(format!("{whose} {clause}"), what));
        }
    }
    statements.extend(privilege_statements(properties, &database).into_iter().map(Into::into));
    let rest = format!(
        "ALTER DATABASE {database} WITH CONNECTION LIMIT {} IS_TEMPLATE {}",
        properties.connection_limit, properties.is_template
    );
    statements.push(rest.into());
    statements
}

fn privilege_statements(properties: &DatabaseProperties, database: &str) -> Vec<String> {
    let owner = ident(&properties.owner);
    let mut statements = vec![format!("REVOKE ALL ON DATABASE {database} FROM PUBLIC, {owner}")];
    let Some(privileges) = &properties.privileges else {
        // The server's defaults: they were taken away while it was a scratch database.
        statements.push(format!("GRANT ALL ON DATABASE {database} TO {owner}"));
        statements.push(format!("GRANT CONNECT, TEMPORARY ON DATABASE {database} TO PUBLIC"));
        return statements;
    };
    // Whoever passes on what was granted must have it first.
    let by_owner = |privilege: &&Privilege| privilege.grantor == properties.owner;
    let (first, rest): (Vec<_>, Vec<_>) = privileges.iter().partition(by_owner);
    for privilege in first.into_iter().chain(rest) {
        let grantee = privilege.grantee.as_deref().map_or_else(|| "PUBLIC".to_owned(), ident);
        let option = if privilege.grantable { " WITH GRANT OPTION" } else { "" };
        // The server knows three, by these names; anything else is not pasted.
        let what = match privilege.privilege.as_str() {
            "CREATE" => "CREATE",
            "TEMPORARY" | "TEMP" => "TEMPORARY",
            "CONNECT" => "CONNECT",
            _ => continue,
        };
        let grant = format!("GRANT {what} ON DATABASE {database} TO {grantee}{option}");
        if privilege.grantor == properties.owner {
            statements.push(grant);
        } else {
            let grantor = ident(&privilege.grantor);
            statements.push(format!("SET ROLE {grantor}; {grant}; RESET ROLE"));
        }
    }
    statements
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::Setting;

    fn properties() -> DatabaseProperties {
        DatabaseProperties {
            name: "shop".into(),
            owner: "o'wner".into(),
            encoding: "UTF8".into(),
            locale_provider: "i".into(),
            collate: "C.UTF-8".into(),
            ctype: "C.UTF-8".into(),
            locale: Some("de-AT".into()),
            icu_rules: None,
            collation_version: None,
            connection_limit: 7,
            allows_connections: true,
            is_template: false,
            tablespace: "fast disk".into(),
            comment: None,
            privileges: Some(vec![
                Privilege {
                    grantee: Some("b".into()),
                    grantor: "a".into(),
                    privilege: "CREATE".into(),
                    grantable: false,
                },
                Privilege {
                    grantee: Some("a".into()),
                    grantor: "o'wner".into(),
                    privilege: "CREATE".into(),
                    grantable: true,
                },
            ]),
            settings: vec![Setting { role: Some("a".into()), values: vec!["x.y=1".into()] }],
            search_path: None,
            roles: vec![],
            size_bytes: None,
        }
    }

    #[test]
    fn a_database_is_created_as_it_was() {
        assert_eq!(
            create_options(&properties(), 17).unwrap(),
            "TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8' \
             LOCALE_PROVIDER icu ICU_LOCALE 'de-AT' TABLESPACE \"fast disk\""
        );
    }

    #[test]
    fn what_an_older_major_cannot_have_is_refused_and_says_which_can() {
        let mut properties = properties();
        let refused = |properties: &DatabaseProperties, major| {
            let failure = create_options(properties, major).unwrap_err();
            assert_eq!(failure.reason, Reason::LocaleNotAvailable);
            format!("{}. {}", failure.message, failure.hint)
        };
        assert_eq!(
            refused(&properties, 14),
            "PostgreSQL 14 has no locale provider icu for databases. \
             Restore to PostgreSQL 15 or newer."
        );
        create_options(&properties, 15).unwrap();
        properties.icu_rules = Some("&a < g".into());
        assert_eq!(
            refused(&properties, 15),
            "PostgreSQL 15 has no rules of ICU locales. Restore to PostgreSQL 16 or newer."
        );
        assert!(create_options(&properties, 16).unwrap().contains("ICU_RULES '&a < g'"));
        properties.icu_rules = None;
        properties.locale_provider = "b".into();
        assert_eq!(
            refused(&properties, 16),
            "PostgreSQL 16 has no locale provider builtin for databases. \
             Restore to PostgreSQL 17 or newer."
        );
        properties.locale_provider = "c".into();
        properties.locale = None;
        assert!(!create_options(&properties, 14).unwrap().contains("PROVIDER"));
        assert!(create_options(&properties, 15).unwrap().contains("LOCALE_PROVIDER libc"));
    }

    #[test]
    fn privileges_are_granted_by_whom_they_were_and_in_an_order_that_works() {
        let statements = property_statements(&properties(), "dbb_1");
        assert_eq!(
            statements[1].setting.as_deref(),
            Some("setting x.y of role a in database shop")
        );
        let statements: Vec<_> = statements.iter().map(|statement| &statement.sql).collect();
        assert_eq!(
            statements,
            [
                "ALTER DATABASE \"dbb_1\" OWNER TO \"o'wner\"",
                "ALTER ROLE \"a\" IN DATABASE \"dbb_1\" SET \"x\".\"y\" TO '1'",
                "REVOKE ALL ON DATABASE \"dbb_1\" FROM PUBLIC, \"o'wner\"",
                "GRANT CREATE ON DATABASE \"dbb_1\" TO \"a\" WITH GRANT OPTION",
                "SET ROLE \"a\"; GRANT CREATE ON DATABASE \"dbb_1\" TO \"b\"; RESET ROLE",
                "ALTER DATABASE \"dbb_1\" WITH CONNECTION LIMIT 7 IS_TEMPLATE false",
            ]
        );
    }
}
