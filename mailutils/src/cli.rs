//! The command line of `ironpost`: the one description from which `--help`, completions and the man page are
//! made.

use auth::hash::Scheme;
use clap::{Args, Parser, Subcommand, ValueEnum};
use common::reload::Daemon;
use std::path::PathBuf;

/// Ironpost, a mail system: run it, look into it, tend its queue.
#[derive(Debug, Parser)]
#[command(name = "ironpost", version, subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// Configuration file
    #[arg(short = 'c', long = "config", value_name = "FILE", global = true)]
    #[arg(default_value = common::config::DEFAULT_PATH)]
    pub config: PathBuf,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemons in the foreground until SIGTERM; SIGHUP reloads
    #[command(
        long_about = "Run the daemons in the foreground. Prints `ready` on a line of its own to standard output \
        once all of them serve, starts again what ends, stops all on SIGTERM or SIGINT, and reloads all on SIGHUP \
        (when the configuration is good)."
    )]
    Run,
    /// Check configuration, tables, folders and permissions
    #[command(
        long_about = "Check the configuration, the tables it names, and whether each daemon can reach what it \
        needs. Exit code 0 when all is well (warnings do not count), else 78."
    )]
    Check,
    /// Have configuration, tables, certificates and secrets read anew
    #[command(
        long_about = "Have the daemons read configuration, tables, certificates and secrets anew; sessions go on. Nothing \
        is done when the configuration is broken (exit code 78). Files that only root can read are opened here and \
        handed to the daemons, so run this as root, or as the user that everything runs as. Prints what each daemon \
        says: what is broken is not taken, and the old one stays in force (exit code 78). Exit code 69 when a daemon \
        does not run."
    )]
    Reload {
        /// Only these of smtpd, queued, deliverd-smtp, deliverd-local
        #[arg(value_name = "DAEMON", value_parser = daemon)]
        daemons: Vec<Daemon>,
    },
    /// Print the effective configuration, valid as input
    Config {
        /// The defaults of this machine instead of the effective values
        #[arg(long)]
        defaults: bool,
    },
    /// Explain where mail to an address would go, and why
    Route {
        /// A recipient; a bare name is completed as everywhere
        address: String,
    },
    /// Are the daemons up, what is queued, what goes nowhere for now
    #[command(
        long_about = "Tell how the mail system is: which daemons run, how many messages lie in which queue, what came in and went out in the last minutes, \
        destinations that nothing goes to for now with the reason and the time of the next try, and warnings: logins that a relay host \
        refuses, tokens and certificates that end, a disk that fills up, messages that could not be read. Exit code 69 when a daemon is \
        down. With --json one object: up; daemons (by name: state up, down, stuck or hidden, and since, version, pid, reason); queue (files by \
        queue); under_way; lately (minutes, received, delivered, deferred, failed); paused (destination, next_try, reason); paused_total; \
        warnings. Times are seconds since 1970."
    )]
    Status {
        /// One JSON object on one line
        #[arg(long)]
        json: bool,
    },
    /// Look at the queue and change it
    #[command(subcommand)]
    Queue(Queue),
    /// Say who may log in, where that is a users file ([smtpd.auth] users)
    #[command(subcommand)]
    User(User),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the man page (roff)
    #[command(hide = true)]
    Manpage,
}

/// What can be done with the queue.
#[derive(Debug, Subcommand)]
pub enum Queue {
    /// List queued messages
    List {
        /// One JSON object a line, with the keys of `postqueue -j` and more
        #[arg(long)]
        json: bool,
        /// Which ones
        #[command(flatten)]
        filter: Filter,
    },
    /// Show envelope and journal of a message
    Show {
        /// Queue ID
        id: String,
    },
    /// Print a message's content
    Cat {
        /// Queue ID
        id: String,
    },
    /// Try messages again now
    Retry(Selected),
    /// Keep messages until they are released
    Hold(Selected),
    /// Let held messages go on
    Release(Selected),
    /// Remove messages without a notification
    Delete(Selected),
}

/// Which messages a verb is for: one of IDs, `--all` or a filter is needed.
#[derive(Debug, Args)]
pub struct Selected {
    /// Queue IDs
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    /// Every message
    #[arg(long, conflicts_with = "ids")]
    pub all: bool,
    /// Those that
    #[command(flatten)]
    pub filter: Filter,
}

/// Conditions; all of them must hold.
#[derive(Debug, Default, Args)]
pub struct Filter {
    /// From this sender (`<>`: the null sender)
    #[arg(long, value_name = "ADDRESS")]
    pub sender: Option<String>,
    /// With this recipient outstanding
    #[arg(long, value_name = "ADDRESS")]
    pub recipient: Option<String>,
    /// With a recipient in this domain outstanding
    #[arg(long, value_name = "DOMAIN")]
    pub domain: Option<String>,
    /// Arrived longer ago than this: "90s", "5m", "4h", "2d"
    #[arg(long, value_name = "TIME")]
    pub older_than: Option<String>,
    /// In this queue: maildrop, incoming, active, deferred, hold
    #[arg(long, value_name = "QUEUE")]
    pub queue: Option<String>,
    /// With this text in a delay reason
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

fn daemon(name: &str) -> Result<Daemon, String> {
    Daemon::ALL.into_iter().find(|daemon| daemon.unit() == name).ok_or_else(|| {
        let names: Vec<&str> = Daemon::ALL.iter().map(|daemon| daemon.unit()).collect();
        format!("there are {}", names.join(", "))
    })
}

/// What can be done with the users file.
#[derive(Debug, Subcommand)]
pub enum User {
    /// Add a user; the password is typed twice, or is the first line of standard input
    Add(NewPassword),
    /// Give a user a new password
    Passwd(NewPassword),
    /// List users, each with the scheme of its hash
    List {
        /// Users file; default: that of the configuration
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Remove a user
    Remove {
        /// The user's name
        name: String,
        /// Users file; default: that of the configuration
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

/// A user and how the password is kept.
#[derive(Debug, Args)]
pub struct NewPassword {
    /// The user's name, such as joe or joe@example.com
    pub name: String,
    /// How the password is kept; default: scram-sha-256 where all users of the file have that, else argon2id
    #[arg(long, value_enum, value_name = "SCHEME")]
    pub scheme: Option<PasswordScheme>,
    /// Users file; default: that of the configuration
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// The schemes that can be made.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum PasswordScheme {
    /// RFC 9106
    Argon2id,
    /// Lets clients log in without sending the password (RFC 7677)
    #[value(name = "scram-sha-256")]
    ScramSha256,
    /// RFC 7914
    Scrypt,
    /// What Debian has in /etc/shadow
    Yescrypt,
    /// $2b$ of crypt(3)
    Bcrypt,
    /// $6$ of crypt(3)
    #[value(name = "sha512-crypt")]
    Sha512Crypt,
    /// $5$ of crypt(3)
    #[value(name = "sha256-crypt")]
    Sha256Crypt,
}

impl From<PasswordScheme> for Scheme {
    fn from(scheme: PasswordScheme) -> Self {
        match scheme {
            PasswordScheme::Argon2id => Self::Argon2id,
            PasswordScheme::ScramSha256 => Self::ScramSha256,
            PasswordScheme::Scrypt => Self::Scrypt,
            PasswordScheme::Yescrypt => Self::Yescrypt,
            PasswordScheme::Bcrypt => Self::Bcrypt,
            PasswordScheme::Sha512Crypt => Self::Sha512Crypt,
            PasswordScheme::Sha256Crypt => Self::Sha256Crypt,
        }
    }
}
