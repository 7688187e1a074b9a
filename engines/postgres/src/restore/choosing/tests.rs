use dbbackup_contract::{Reason, TableName};

use super::*;

/// `number description schema.tag needed…`, with `_` for a space within a word.
fn entries(text: &[&str]) -> Vec<TocEntry> {
    let read = |line: &&str| {
        let words: Vec<_> = line.split(' ').collect();
        let (schema, tag) = words[2].split_once('.').unwrap();
        TocEntry {
            dump_id: words[0].parse().unwrap(),
            description: words[1].replace('_', " "),
            namespace: Some(schema.to_owned()).filter(|schema| !schema.is_empty()),
            tag: tag.replace('_', " "),
            dependencies: words[3..].iter().map(|id| id.parse().unwrap()).collect(),
            ..TocEntry::default()
        }
    };
    text.iter().map(read).collect()
}

fn asked(schemas: &[&str], tables: &[&str]) -> RestoreDatabase {
    let table = |name: &&str| {
        let (schema, name) = name.split_once('.').unwrap();
        TableName { schema: schema.to_owned(), name: name.to_owned() }
    };
    RestoreDatabase {
        name: "shop".to_owned(),
        as_name: None,
        schemas: schemas.iter().map(|name| (*name).to_owned()).collect(),
        tables: tables.iter().map(table).collect(),
    }
}

/// Numbers of what comes back, what is left out, and what comes back without rows.
fn chosen(
    entries: &[TocEntry],
    schemas: &[&str],
    tables: &[&str],
) -> (Vec<i64>, Vec<String>, Vec<String>) {
    let part = choose(entries, &asked(schemas, tables)).unwrap();
    let mut numbers: Vec<_> = part.entries.into_iter().collect();
    numbers.sort_unstable();
    (numbers, part.left_out, part.without_rows)
}

fn shop() -> Vec<TocEntry> {
    entries(&[
        "1 SCHEMA .sales",
        "2 SCHEMA .types",
        "3 TYPE types.state",
        "4 TABLE sales.orders 3",
        "5 TABLE sales.lines",
        "6 SEQUENCE sales.orders_id_seq 4",
        "7 SEQUENCE_OWNED_BY sales.orders_id_seq 6",
        "8 DEFAULT sales.orders_id 4 6",
        "9 VIEW sales.totals 4 5",
        "10 VIEW sales.open 4",
        "11 TABLE_DATA sales.orders 4",
        "12 TABLE_DATA sales.lines 5",
        "13 SEQUENCE_SET sales.orders_id_seq 6",
        "14 CONSTRAINT sales.orders_pk 4",
        "15 FK_CONSTRAINT sales.lines_fk 5 4 14",
        "16 FUNCTION types.check",
        "17 TRIGGER sales.orders_check 4 16",
        "18 COMMENT sales.TABLE_orders 4",
        "19 ACL sales.TABLE_lines 5",
        "20 ACL sales.COLUMN_orders.id 4 21",
        "21 ACL sales.TABLE_orders 4",
        "22 PUBLICATION_TABLE sales.all_orders 4",
    ])
}

#[test]
fn a_table_comes_with_what_it_needs_and_what_belongs_to_it() {
    let (numbers, left_out, bare) = chosen(&shop(), &[], &["sales.orders"]);
    assert_eq!(numbers, [1, 2, 3, 4, 6, 7, 8, 11, 13, 14, 16, 17, 18, 20, 21]);
    let expected = ["view sales.totals", "view sales.open", "publication table sales.all orders"];
    assert_eq!((left_out, bare.len()), (expected.map(str::to_owned).to_vec(), 0));
}

#[test]
fn a_foreign_key_comes_where_both_its_tables_do() {
    let (numbers, left_out, _) = chosen(&shop(), &[], &["sales.lines"]);
    assert_eq!(numbers, [1, 5, 12, 19]);
    assert_eq!(left_out, ["view sales.totals", "fk constraint sales.lines fk"]);
    let (numbers, ..) = chosen(&shop(), &[], &["sales.lines", "sales.orders"]);
    assert!(numbers.contains(&15));
}

#[test]
fn a_schema_comes_with_its_views_and_without_those_that_need_more() {
    let mut entries = shop();
    entries.extend(self::entries(&[
        "30 TABLE hr.people",
        "31 VIEW sales.sellers 30",
        "32 VIEW sales.best 31",
        "33 FUNCTION sales.seller 30",
        "34 INDEX sales.odd 5",
        "35 DEFAULT_ACL sales.DEFAULT_PRIVILEGES_FOR_TABLES 1",
        "36 COMMENT sales.VIEW_sellers 31",
        "37 COMMENT sales.VIEW_open 10",
    ]));
    let (numbers, left_out, bare) = chosen(&entries, &["sales"], &[]);
    assert_eq!(numbers, [(1..=21).collect(), vec![34, 35, 37]].concat());
    let expected = [
        "publication table sales.all orders",
        "view sales.sellers",
        "view sales.best",
        "function sales.seller",
    ];
    assert_eq!((left_out, bare.len()), (expected.map(str::to_owned).to_vec(), 0));
}

#[test]
fn partitions_come_with_their_table_and_one_alone_comes_as_a_table() {
    let entries = entries(&[
        "1 TABLE s.events",
        "2 TABLE s.events_1",
        "3 TABLE t.deep",
        "4 TABLE_ATTACH s.events_1 2 1",
        "5 TABLE_ATTACH t.deep 3 2",
        "6 TABLE_DATA t.deep 3",
        "7 TABLE s.parent",
        "8 TABLE s.child 7",
        "9 TABLE_DATA s.parent 7",
        "10 TABLE_DATA s.child 8",
    ]);
    let (numbers, left_out, _) = chosen(&entries, &[], &["s.events"]);
    assert_eq!((numbers, left_out.len()), (vec![1, 2, 3, 4, 5, 6], 0));
    let (numbers, left_out, _) = chosen(&entries, &[], &["t.deep"]);
    assert_eq!((numbers, left_out), (vec![3, 6], vec!["table attach t.deep".to_owned()]));
    // What it inherits from must be there, and its rows need not.
    let (numbers, left_out, bare) = chosen(&entries, &[], &["s.child"]);
    assert_eq!((numbers, left_out.len(), bare), (vec![7, 8, 10], 0, vec!["s.parent".to_owned()]));
}

#[test]
fn a_sequence_of_another_table_comes_without_it() {
    let entries = entries(&[
        "1 TABLE s.a",
        "2 TABLE s.b",
        "3 SEQUENCE s.shared 1",
        "4 SEQUENCE_OWNED_BY s.shared 3",
        "5 DEFAULT s.b_id 2 3",
        "6 SEQUENCE_SET s.shared 3",
    ]);
    assert_eq!(chosen(&entries, &[], &["s.b"]).0, [2, 3, 5, 6]);
    assert_eq!(chosen(&entries, &[], &["s.a"]).0, [1, 3, 4, 6]);
}

#[test]
fn rows_that_an_extension_keeps_come_with_it() {
    let entries = entries(&["1 EXTENSION .geo", "2 TABLE_DATA geo.systems 1", "3 TABLE s.a 1"]);
    assert_eq!(chosen(&entries, &[], &["geo.systems"]).0, [1, 2]);
    assert_eq!(chosen(&entries, &["geo"], &[]).0, [1, 2]);
    assert_eq!(chosen(&entries, &["s"], &[]).0, [1, 3]);
}

#[test]
fn what_the_backup_has_not_is_refused() {
    for (schemas, tables, message) in [
        (&["sale"][..], &[][..], "the backup has no schema sale"),
        (&[], &["sales.order"], "the backup has no table sales.order"),
        (&[], &["sales.totals"], "sales.totals is a view, and no table"),
    ] {
        let refused = choose(&shop(), &asked(schemas, tables)).err().unwrap();
        assert_eq!((refused.reason, refused.message.as_str()), (Reason::TableNotFound, message));
    }
    choose(&shop(), &asked(&["public"], &[])).unwrap();
}

#[test]
fn rows_that_are_loaded_through_the_partitioned_table_have_it() {
    let mut entries = entries(&[
        "1 TABLE s.root",
        "2 TABLE s.middle 1",
        "3 TABLE s.leaf 2",
        "4 TABLE s.other 1",
        "5 TABLE_ATTACH s.middle 2 1",
        "6 TABLE_ATTACH s.leaf 3 2",
        "7 TABLE_ATTACH s.other 4 1",
        "8 TABLE_DATA s.leaf 3",
        "9 TABLE_DATA s.other 4",
    ]);
    entries[7].loads_through_root = true;
    let (numbers, _, bare) = chosen(&entries, &[], &["s.leaf"]);
    assert_eq!((numbers, bare), (vec![1, 2, 3, 5, 6, 8], vec!["s.middle".into(), "s.root".into()]));
    assert_eq!(chosen(&entries, &[], &["s.other"]).0, [4, 9]);
}

#[test]
fn an_exclusion_comes_with_whatever_may_compare_for_it() {
    let mut entries = entries(&[
        "1 EXTENSION .btree_gist",
        "2 FUNCTION s.compare",
        "3 OPERATOR_CLASS s.ops 2",
        "4 TABLE t.booking",
        "5 CONSTRAINT t.booking_no_two 4",
        "6 TABLE t.plain",
    ]);
    entries[4].is_exclusion = true;
    assert_eq!(chosen(&entries, &[], &["t.booking"]).0, [1, 2, 3, 4, 5]);
    assert_eq!(chosen(&entries, &[], &["t.plain"]).0, [6]);
}

#[test]
fn what_was_taken_from_everybody_stays_so_where_an_extension_made_it() {
    let entries = entries(&[
        "1 EXTENSION .dblink",
        "2 TABLE s.linked 1",
        "3 TABLE s.plain",
        "4 ACL ext.FUNCTION_dblink(text) 99",
        "5 ACL .SCHEMA_public 98",
    ]);
    assert_eq!(chosen(&entries, &[], &["s.linked"]), (vec![1, 2, 4], vec![], vec![]));
    let told = vec!["acl ext.FUNCTION dblink(text)".to_owned()];
    assert_eq!(chosen(&entries, &[], &["s.plain"]), (vec![3], told, vec![]));
}
