//! `man`: the manual, from the help of the command line.

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap_mangen::Man;

use super::print;
use crate::screen::printable;
use crate::{Problem, exit};

/// Prints the man page of a command line, or writes it into a folder together with one for each command.
///
/// # Errors
/// A [`Problem`] if they cannot be written.
pub(crate) fn man(command: clap::Command, folder: Option<&Path>) -> Result<ExitCode, Problem> {
    let Some(folder) = folder else {
        let mut page = vec![];
        Man::new(command).render(&mut page).map_err(|error| Problem::new("cannot write the man page").caused_by(error))?;
        print(&String::from_utf8_lossy(&page))?;
        return Ok(exit::OK);
    };
    let unwritable = |error: io::Error| Problem::new(format!("cannot write man pages to `{}`", folder.display())).caused_by(error);
    fs::create_dir_all(folder).map_err(unwritable)?;
    clap_mangen::generate_to(command, folder).map_err(unwritable)?;
    print(&format!("man pages: {}\n", printable(&folder.display().to_string())))?;
    Ok(exit::OK)
}
