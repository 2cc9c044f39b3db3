#!/bin/sh
# Installs the real programs that the end-to-end tests run against: clients, a DNS server, another mail server.
#
# Idempotent, and quick when everything is there. What can live beside the machine's own mail service is installed with
# apt-get (as root, else through sudo). What would take it over (Postfix replaces sendmail and starts a daemon), or would drag
# in upgrades (Python's test corpus), is only unpacked, into .tools/ of this checkout. Fails with the list of
# Debian packages to install when it may not install them itself.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
tools="$root/.tools"
mkdir -p "$tools"

updated=no

# as_root COMMAND...: runs it with the right to install, or says what a person has to install.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
        sudo -n "$@"
    elif command -v sudo >/dev/null 2>&1 && [ -t 0 ]; then
        sudo "$@"
    else
        return 126
    fi
}

# refresh: the package lists, at most once, and only when something is missing.
refresh() {
    [ "$updated" = no ] || return 0
    updated=yes
    as_root apt-get -qq update || echo "tests/tools.sh: apt-get update failed; trying with the lists that are there" >&2
}

# install PACKAGE...: into the system. Only packages that start no service.
install() {
    refresh
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >&2 || {
        echo "tests/tools.sh: these Debian packages are needed by the tests, please install them: $*" >&2
        exit 1
    }
}

# unpack PACKAGE PROBE: into .tools/PACKAGE without installing it; PROBE is the path in it that shows that it is there.
unpack() {
    [ ! -e "$tools/$1/$2" ] || return 0
    refresh
    rm -rf "$tools/$1" "$tools/$1.new" "$tools/download"
    mkdir -p "$tools/download"
    # Quiet: as root, apt warns when its own user cannot write here, which is harmless.
    (cd "$tools/download" && apt-get -qq download "$1" 2>/dev/null) || {
        echo "tests/tools.sh: cannot download the Debian package $1" >&2
        exit 1
    }
    dpkg -x "$tools/download/$1"_*.deb "$tools/$1.new"
    mv "$tools/$1.new" "$tools/$1"
    rm -rf "$tools/download"
}

missing=
need() { # need PROGRAM PACKAGE
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
PATH="$PATH:/usr/sbin:/sbin"
need swaks swaks
need curl curl
need openssl openssl
perl -MNet::SSLeay -e 1 2>/dev/null || missing="$missing libnet-ssleay-perl" # TLS in swaks
need dnsmasq dnsmasq-base
# Mail programs that submit.
need msmtp msmtp
need s-nail s-nail
need mutt mutt
need node nodejs
need strace strace
need mkfs.ext4 e2fsprogs
[ -e /usr/include/security/pam_appl.h ] || missing="$missing libpam0g-dev"
[ -x /usr/bin/python3 ] || missing="$missing python3"
/usr/bin/python3 -c 'import aiosmtpd' 2>/dev/null || missing="$missing python3-aiosmtpd"
# shellcheck disable=SC2086 # a list of words
[ -z "$missing" ] || install $missing

unpack postfix usr/sbin/smtp-sink
# The libraries of the unpacked Postfix that this machine lacks.
if LD_LIBRARY_PATH="$tools/postfix/usr/lib/postfix" ldd "$tools/postfix/usr/lib/postfix/sbin/smtpd" \
    "$tools/postfix/usr/sbin/smtp-sink" | grep -q 'not found'; then
    install libdb5.3 libicu72 libnsl2 libsasl2-2 libssl3
fi

# One more program that submits; and what reads the log for those who guess passwords (its package would start a daemon).
unpack node-nodemailer usr/share/nodejs/nodemailer/package.json
unpack fail2ban usr/bin/fail2ban-regex

# Dovecot, of which only the authentication service is used.
unpack dovecot-core usr/sbin/dovecot
dovecot="$tools/dovecot-core/usr/lib/dovecot"
if LD_LIBRARY_PATH="$dovecot/modules/old-stats:$dovecot" ldd "$dovecot/auth" "$dovecot/config" | grep -q 'not found'; then
    install libexttextcat-2.0-0 liblua5.4-0 libsodium23 libstemmer0d libtirpc3 libunwind8 libwrap0 libapparmor1
fi

python=$(/usr/bin/python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
unpack "libpython$python-testsuite" "usr/lib/python$python/test/test_email/data/msg_01.txt"
