//! Restores with other roles than those of the backup.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeMap;

use dbbackup_contract::{GlobalsPolicy, PlannedAction, Reason};
use dbbackup_postgres::settle;
use support::nasty::{NASTY, make_nasty, similar_asserts};
use support::same::comparable;
use support::{
    MemoryBackup, TestServer, assert_all_succeeded, back_up, backup_of, connection, connection_as,
    put_back, report, restore_to,
};

fn map(roles: &[(&str, &str)]) -> BTreeMap<String, String> {
    roles.iter().map(|(old, new)| ((*old).to_owned(), (*new).to_owned())).collect()
}

/// Roles that the nasty database names, and what each is called elsewhere; in the order of their
/// making, by which `pg_dump` lists those of a policy.
const RENAMED: [(&str, &str); 3] =
    [("nasty_group", "select"), ("nasty_owner", "new; \"owner\" TO x"), ("nasty_reader", "Größe")];

/// A dump's entries in the order of their text: roles of other names stand elsewhere in it. Rows
/// that name a role stay as they are, and in a heading the name of a role has no quotes.
fn entries(dump: &str, renamed: bool) -> String {
    let lines = comparable(dump);
    let lines = lines.lines().map(|line| {
        let line = line.split("; Owner: ").next().unwrap();
        if line.contains("; Type: USER MAPPING;") {
            return "-- Name: ".to_owned();
        }
        let renamed = RENAMED
            .iter()
            .filter(|_| renamed && (!line.contains('\t') || line.starts_with("GRANT ")));
        renamed.fold(line.to_owned(), |line, (old, new)| line.replace(old, &quoted(new)))
    });
    let dump = lines.collect::<Vec<_>>().join("\n");
    let mut entries: Vec<_> = dump.split("\n--\n-- Name: ").collect();
    entries.sort_unstable();
    entries.join("\n")
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[tokio::test]
async fn a_database_comes_back_as_if_its_roles_had_always_been_called_so() {
    let dir = tempfile::tempdir().unwrap();
    let server = TestServer::start(17, &[]);
    make_nasty(&server, 17);
    let backup = MemoryBackup::default();
    let made = back_up(&backup_of(connection(&server, dir.path()), &[NASTY]), &backup).await;
    assert_all_succeeded(&made.unwrap().databases);
    let mut options = restore_to(connection(&server, dir.path()), &[(NASTY, "renamed")]);
    options.role_map = map(&RENAMED);
    options.globals = GlobalsPolicy::Skip;
    options.dry_run = true;
    let told = put_back(&options, &backup).await.unwrap();
    let (_, refused) = told.refused.unwrap();
    assert_eq!(refused.reason, Reason::RoleNotFound);
    assert!(refused.message.contains("Größe (for nasty_reader)"), "{refused}");
    assert_eq!(told.plan.databases[0].action, PlannedAction::Refuse);

    for (_, new) in RENAMED {
        server.sql("postgres", &format!("CREATE ROLE {}", quoted(new)));
    }
    options.dry_run = false;
    let done = put_back(&options, &backup).await.unwrap();
    assert_all_succeeded(&done.databases);

    settle(&options, &done.placed).await.unwrap();
    let expected = entries(&server.dump(NASTY), true);
    let name = quoted(NASTY);
    server.sql("postgres", &format!("ALTER DATABASE {name} RENAME TO aside"));
    server.sql("postgres", &format!("ALTER DATABASE renamed RENAME TO {name}"));
    let restored = server.dump(NASTY);
    similar_asserts(&expected, &entries(&restored, false));
}

/// What an owner had given, to one role that the target has and to one that it lacks.
const SHOP: &[&str] = &[
    "CREATE ROLE alice; CREATE ROLE reader; CREATE ROLE writer",
    "CREATE DATABASE shop",
    "ALTER DATABASE shop OWNER TO alice; GRANT CONNECT ON DATABASE shop TO reader, writer",
    "ALTER ROLE reader IN DATABASE shop SET work_mem TO '5MB'",
];
const CONTENTS: &str = "
    CREATE SCHEMA app AUTHORIZATION alice; GRANT USAGE ON SCHEMA app TO reader, writer;
    SET ROLE alice;
    CREATE TABLE app.orders (id int PRIMARY KEY, who text);
    INSERT INTO app.orders VALUES (1, 'reader'), (2, 'writer');
    GRANT SELECT ON app.orders TO reader WITH GRANT OPTION;
    GRANT INSERT ON app.orders TO writer;
    REVOKE DELETE ON app.orders FROM alice;
    ALTER TABLE app.orders ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
    CREATE POLICY own ON app.orders TO alice, reader, writer USING (who = current_user);
    CREATE POLICY theirs ON app.orders TO writer USING (true);
    COMMENT ON POLICY theirs ON app.orders IS 'of writers';
    ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT SELECT ON TABLES TO reader, writer;
    SET ROLE reader; GRANT SELECT ON app.orders TO writer; RESET ROLE";

#[tokio::test]
async fn a_role_without_rights_over_others_owns_what_it_restores() {
    let dir = tempfile::tempdir().unwrap();
    let server = TestServer::start(17, &[]);
    SHOP.iter().for_each(|sql| drop(server.sql("postgres", sql)));
    server.sql("shop", CONTENTS);
    let backup = MemoryBackup::default();
    let made = back_up(&backup_of(connection(&server, dir.path()), &["shop"]), &backup).await;
    assert_all_succeeded(&made.unwrap().databases);

    let target = TestServer::start(17, &[]);
    target.sql("postgres", "CREATE ROLE me LOGIN CREATEDB PASSWORD 'mine'; CREATE ROLE reader");
    let mine = connection_as(&target, dir.path(), "me", "mine");
    let mut options = restore_to(mine, &[("shop", "shop")]);
    options.globals = GlobalsPolicy::Skip;
    let refused = put_back(&options, &backup).await.unwrap();
    let error = report(&refused.databases, "shop").error.clone().unwrap();
    assert_eq!(error.reason, Reason::RoleNotFound, "{error}");

    options.no_owner = true;
    options.dry_run = true;
    let plan = put_back(&options, &backup).await.unwrap().plan;
    let warning = "left out, because the target lacks them: what concerns the roles writer";
    assert_eq!(plan.databases[0].warnings[0], warning);
    options.dry_run = false;
    options.approved_plan = Some(plan.digest);
    let done = put_back(&options, &backup).await.unwrap();
    assert_all_succeeded(&done.databases);
    let warnings = &report(&done.databases, "shop").warnings;
    assert_eq!(warnings[0], warning);
    assert!(warnings[1].starts_with("settings of role reader in the database are left out"));

    let sql = "SELECT relowner::regrole, relacl FROM pg_class WHERE relname = 'orders'";
    assert_eq!(target.sql("shop", sql), "me|{me=arwDxtm/me,reader=r*/me}");
    let sql = "SELECT polname, polroles::regrole[] FROM pg_policy";
    assert_eq!(target.sql("shop", sql), "own|{me,reader}");
    let sql = "SELECT defaclrole::regrole, defaclacl FROM pg_default_acl";
    assert_eq!(target.sql("shop", sql), "me|{reader=r/me}");
    let sql = "SELECT datdba::regrole, datacl FROM pg_database WHERE datname = 'shop'";
    assert_eq!(target.sql("shop", sql), "me|{=Tc/me,me=CTc/me,reader=c/me}");
}

/// Anybody may say what comes of objects of their own that are yet to come, and make functions
/// that act with their rights.
#[tokio::test]
async fn rights_of_the_new_owner_are_not_given_away_by_others() {
    let dir = tempfile::tempdir().unwrap();
    let server = TestServer::start(17, &[]);
    server.sql("postgres", "CREATE ROLE mallory");
    server.sql("postgres", "CREATE DATABASE shop");
    server.sql(
        "shop",
        "CREATE SCHEMA own AUTHORIZATION mallory; SET ROLE mallory;
         ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC;
         CREATE FUNCTION own.act() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
    );
    let backup = MemoryBackup::default();
    let made = back_up(&backup_of(connection(&server, dir.path()), &["shop"]), &backup).await;
    assert_all_succeeded(&made.unwrap().databases);

    let mut options = restore_to(connection(&server, dir.path()), &[("shop", "shop2")]);
    options.no_owner = true;
    let done = put_back(&options, &backup).await.unwrap();
    assert_all_succeeded(&done.databases);
    assert_eq!(
        report(&done.databases, "shop").warnings,
        [
            "left out: the default privileges of mallory, who did not own the database",
            "views, rules, and functions with SECURITY DEFINER, of mallory act with the rights of role postgres, \
             those of a superuser: look who may use them before you let others in"
        ]
    );
    assert_eq!(server.sql("shop2", "SELECT count(*) FROM pg_default_acl"), "0");
    let owner = "SELECT proowner::regrole FROM pg_proc WHERE proname = 'act'";
    assert_eq!(server.sql("shop2", owner), "postgres");
}

/// Two roles become one: it has what both had, and gives itself nothing.
#[tokio::test]
async fn two_roles_may_become_one_and_a_missing_one_is_made_only_where_it_stays() {
    let dir = tempfile::tempdir().unwrap();
    let server = TestServer::start(17, &[]);
    SHOP.iter().for_each(|sql| drop(server.sql("postgres", sql)));
    server.sql("postgres", "GRANT alice TO writer; CREATE ROLE unused");
    server.sql("shop", CONTENTS);
    let backup = MemoryBackup::default();
    let made = back_up(&backup_of(connection(&server, dir.path()), &["shop"]), &backup).await;
    assert_all_succeeded(&made.unwrap().databases);

    let target = TestServer::start(17, &[]);
    target.sql("postgres", "CREATE ROLE \"new One\"");
    let mut options = restore_to(connection(&target, dir.path()), &[("shop", "shop")]);
    options.role_map = map(&[("alice", "new One"), ("reader", "new One"), ("nobody", "new One")]);
    let done = put_back(&options, &backup).await.unwrap();
    assert_all_succeeded(&done.databases);
    let roles = "SELECT string_agg(rolname, ',' ORDER BY rolname) FROM pg_roles \
                 WHERE rolname !~ '^pg_'";
    assert_eq!(target.sql("postgres", roles), "new One,postgres,writer");
    let sql = "SELECT relowner::regrole, relacl FROM pg_class WHERE relname = 'orders'";
    assert_eq!(
        target.sql("shop", sql),
        "\"new One\"|{\"\\\"new One\\\"=ar*wDxtm/\\\"new One\\\"\",\"writer=ar/\\\"new One\\\"\"}"
    );
    let sql = "SELECT polname, polroles::regrole[] FROM pg_policy ORDER BY 1";
    assert_eq!(target.sql("shop", sql), "own|{\"\\\"new One\\\"\",writer}\ntheirs|{writer}");
    let sql = "SELECT roleid::regrole, member::regrole FROM pg_auth_members \
               WHERE member = 'writer'::regrole";
    assert_eq!(target.sql("postgres", sql), "\"new One\"|writer");
}
