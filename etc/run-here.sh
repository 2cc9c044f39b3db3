#!/bin/sh
# Starts Ironpost in the foreground from this checkout, with everything under ./var: `make run`.
# Usage: run-here.sh FOLDER-OF-BINARIES. Ctrl-C stops it. Without an argument it only makes the configuration, where there is
# none yet; IRONPOST_PORT is then another port than 2525.
set -eu

var=$(pwd)/var
me=$(id -un 2>/dev/null || echo you)

mkdir -p "$var/mail"
if [ ! -e "$var/ironpost.toml" ]; then
    cat > "$var/ironpost.toml" <<CONFIG
# Made by \`make run\`; yours to change. Every key is explained in etc/ironpost.toml.
mail_name       = "localhost"
local_domains   = ["localhost", "example.org"]
spool_directory = "spool"

[[smtpd.listen]]
address = "127.0.0.1:${IRONPOST_PORT:-2525}"

[local]
users   = "users"
mailbox = "mail/{user}/"
aliases = "aliases"

[log]
to = "stderr"
CONFIG
fi
[ -e "$var/users" ] || printf '# Who has a mailbox here: one name a line, read anew when it changes.\nyou\n%s\n' "$me" | sort -u > "$var/users"
[ -e "$var/aliases" ] || printf '# name: address, address; read anew when it changes.\nroot: you\npostmaster: you\n' > "$var/aliases"
[ $# -gt 0 ] || exit 0
bin=$(cd "$1" && pwd)

hints() {
    cat <<TEXT

Ironpost listens on 127.0.0.1:2525. In a second terminal, in this folder:

  swaks --server 127.0.0.1:2525 --to you@localhost      # send a mail (apt install swaks)
  cat var/mail/you/new/*                                # read it
  export IRONPOST_CONFIG=$var/ironpost.toml
  echo "Subject: hello" | $bin/sendmail you@localhost   # or so
  $bin/ironpost queue list -c var/ironpost.toml         # what is queued
  \$EDITOR var/ironpost.toml                             # then: $bin/ironpost check -c var/ironpost.toml

Ctrl-C stops it.
TEXT
}

# The daemons' standard output says "ready" once; what comes before and after passes through.
"$bin/ironpost" run -c "$var/ironpost.toml" | while IFS= read -r line; do
    printf '%s\n' "$line"
    if [ "$line" = ready ]; then hints; fi
done
