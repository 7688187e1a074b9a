//! Every major version of the server, to itself and to another.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use support::TestServer;
use support::server::for_major;

#[test]
fn there_is_a_server_of_every_major_and_a_client_that_is_not_older() {
    for major in 12..=18 {
        let server = TestServer::start(major, &[]);
        let version = server.sql("postgres", "SHOW server_version_num");
        assert_eq!(version.parse::<u32>().unwrap() / 10_000, major);
        assert!(server.client_major() >= major);
        assert!(server.dump("postgres").contains("PostgreSQL database dump complete"));
        assert!(server.roles().contains("CREATE ROLE postgres"));
    }
}

#[test]
fn a_section_is_left_out_where_the_major_lacks_it() {
    let text = "a\n-- since 15\nb\n-- end\n-- since this\n-- since 17\nc\n-- end\nd\n";
    assert_eq!(for_major(text, 14), "a\n\n\n\n-- since this\n\n\n\nd\n");
    assert_eq!(for_major(text, 15), "a\n\nb\n\n-- since this\n\n\n\nd\n");
    assert_eq!(for_major(text, 17), "a\n\nb\n\n-- since this\n\nc\n\nd\n");
}
