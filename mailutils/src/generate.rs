//! What is generated from the command line's own description: completions and the man page.

use crate::cli::Cli;
use crate::failure::Failure;
use clap::CommandFactory;
use clap_complete::Shell;
use std::io::{self, Write};

/// As in [`crate::exit`].
const EXIT_STATUS: &[u8] = b".SH EXIT STATUS\n\
0 done; 64 usage; 66 no such queue ID; 67 no such user; 69 a daemon is down; 73 the user is there already; 75 try again; 77 not permitted; 78 configuration.\n";

/// A completion script on standard output.
pub fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "ironpost", &mut script);
    io::stdout().write_all(&script).map_err(|e| Failure::output(&e))
}

/// The man page on standard output, all subcommands in one.
pub fn manpage() -> Result<(), Failure> {
    let page = page().map_err(|e| Failure::output(&e))?;
    io::stdout().write_all(&page).map_err(|e| Failure::output(&e))
}

fn page() -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let command = Cli::command();
    let main = clap_mangen::Man::new(command.clone()).title("IRONPOST").section("8").date("2026-11-22");
    main.render_title(&mut out)?;
    main.render_name_section(&mut out)?;
    main.render_synopsis_section(&mut out)?;
    main.render_description_section(&mut out)?;
    main.render_options_section(&mut out)?;
    out.extend_from_slice(b".SH COMMANDS\n");
    subcommands(&command, "ironpost", &mut out)?;
    out.extend_from_slice(EXIT_STATUS);
    Ok(out)
}

fn subcommands(command: &clap::Command, path: &str, out: &mut Vec<u8>) -> io::Result<()> {
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
        let path = format!("{path} {}", sub.get_name());
        let about = sub.get_long_about().or(sub.get_about()).map(ToString::to_string).unwrap_or_default();
        writeln!(out, ".SS {}\n{}", roff_text(&path), roff_text(&about))?;
        for arg in sub.get_arguments().filter(|arg| !arg.is_hide_set() && !arg.is_global_set()) {
            let names = arg.get_value_names().unwrap_or_default().join(" ");
            let name = arg.get_long().map_or(names.clone(), |long| format!("--{long} {names}"));
            let takes_value = arg.get_action().takes_values();
            let name = if takes_value { name.as_str() } else { name.split(' ').next().unwrap_or("") };
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            writeln!(out, ".TP\n\\fB{}\\fR\n{}", roff_text(name), roff_text(&help))?;
        }
        subcommands(sub, &path, out)?;
    }
    Ok(())
}

/// Text that roff takes as it is.
fn roff_text(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed_and_all_of_it_is_in_the_man_page() {
        Cli::command().debug_assert();
        let page = String::from_utf8(page().unwrap()).unwrap();
        for text in [
            ".TH IRONPOST 8",
            "ironpost queue delete\n",
            "\\-\\-older\\-than TIME",
            "ironpost run\n",
            "EXIT STATUS",
        ] {
            assert!(page.contains(text), "{text} in {page}");
        }
        assert!(!page.contains("manpage"));
    }
}
