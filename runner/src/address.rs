//! Addresses as arguments. What is refused is never repeated: it may hold a password.

use std::ffi::OsStr;
use std::marker::PhantomData;
use std::str::FromStr;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{Arg, Command, Error};
use dbbackup_contract::{Failure, Reason};

use crate::commands::print;

/// Parses an address and shows its failure as every other one is shown.
#[derive(Clone)]
pub(crate) struct Address<T>(PhantomData<fn() -> T>);

impl<T> Address<T> {
    pub(crate) fn parser() -> Self {
        Self(PhantomData)
    }
}

impl<T> TypedValueParser for Address<T>
where
    T: FromStr<Err = Failure> + Clone + Send + Sync + 'static,
{
    type Value = T;

    fn parse_ref(&self, _: &Command, _: Option<&Arg>, value: &OsStr) -> Result<T, Error> {
        let text = value
            .to_str()
            .ok_or_else(|| Failure::new(Reason::UsageError, "an address is not UTF-8"));
        text.and_then(str::parse).map_err(|failure| {
            let told = print::told(&failure);
            let told = told.strip_prefix("error: ").unwrap_or(&told);
            Error::raw(ErrorKind::ValueValidation, told)
        })
    }
}
