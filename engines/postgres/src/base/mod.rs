//! The files of a base backup: the archives in which the server sends them, its manifest, and
//! pages and their checksums.

pub(crate) mod manifest;
pub(crate) mod page_checksum;
pub(crate) mod page_watch;
pub(crate) mod relation_file;
pub(crate) mod tar;
pub(crate) mod whole_pages;
