//! Completions for shells and manual pages, made of the command line itself. `ldseg-train` includes this file.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use ldseg::files::write_bytes;
use ldseg::{Error, ErrorKind, Result};

#[derive(Debug, clap::Args)]
pub(crate) struct CompletionsArgs {
    /// Shell that the script is for
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ManArgs {
    /// Write the page of every subcommand too, all into this folder
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

impl CompletionsArgs {
    /// The script that completes `command`, which is called by its name.
    pub(crate) fn script(&self, mut command: Command) -> String {
        let (name, mut script) = (command.get_name().to_owned(), Vec::new());
        clap_complete::generate(self.shell, &mut command, name, &mut script);
        String::from_utf8_lossy(&script).into_owned()
    }
}

impl ManArgs {
    /// The page of `command` where no folder was named; else writes that and its subcommands', each as `NAME.1`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`], naming the file, where one cannot be written.
    pub(crate) fn page(&self, command: Command) -> Result<Option<String>> {
        let mut command = command.disable_help_subcommand(true);
        // Names the subcommands after what they are part of.
        command.build();
        match &self.output {
            None => render(command).map(|(_, page)| Some(String::from_utf8_lossy(&page).into_owned())),
            Some(folder) => {
                let failed = |e| Error::with_source(ErrorKind::Io, "cannot be made", e).in_file(folder);
                fs::create_dir_all(folder).map_err(failed)?;
                write_all(command, folder).map(|()| None)
            }
        }
    }
}

/// The name of a page's file, and the page.
fn render(command: Command) -> Result<(String, Vec<u8>)> {
    let (man, mut page) = (Man::new(command), Vec::new());
    man.render(&mut page).map_err(|e| Error::with_source(ErrorKind::Io, "the manual page cannot be made", e))?;
    Ok((man.get_filename(), page))
}

fn write_all(command: Command, folder: &Path) -> Result<()> {
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        write_all(subcommand.clone(), folder)?;
    }
    let (name, page) = render(command)?;
    write_bytes(&folder.join(name), &page)
}
