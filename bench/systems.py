"""The mail systems under measurement: each starts with a fresh queue in a folder of the disk, listens on a free port of 127.0.0.1, sends everything
to a sink, into Maildirs or nowhere, and logs to a file in Postfix's wording, so that one way of counting serves both."""

import os
import pwd
import grp
import re
import shutil
import signal
import socket
import subprocess
import time

REMOVED = re.compile(rb": removed$", re.MULTILINE)
# The domain of users with mailboxes, and who owns these.
MAIL_DOMAIN, MAIL_OWNER = "box.example", "nobody"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(what, condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.005)


def answers(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def session_processes(session):
    """(pid, CPU ticks of its own, CPU ticks of its ended children) of each process in the session that `session` leads."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="ascii", errors="replace") as file:
                    # The command's name, in parentheses, may hold anything; what follows it does not.
                    fields = file.read().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[3]) == session and fields[0] != "Z":
                ticks = [int(field) for field in fields[11:15]]
                yield int(name), ticks[0] + ticks[1], ticks[2] + ticks[3]


class System:
    """One running mail system."""

    def __init__(self, folder, sink_port, routes=None, users=()):
        self.folder = folder
        self.sink_port = sink_port
        # Names before @MAIL_DOMAIN that have Maildirs; with any, nothing goes elsewhere.
        self.users = users
        self.mail = os.path.join(folder, "mail")
        # Domains that go to another port of 127.0.0.1 than the sink's.
        self.routes = routes or {}
        self.port = free_port()
        self.log = os.path.join(folder, "log")
        self.process = None
        self._seen = 0
        self._offset = 0
        os.makedirs(folder)
        os.chmod(folder, 0o755)
        if users:
            os.mkdir(self.mail)
            if os.geteuid() == 0:
                owner = pwd.getpwnam(MAIL_OWNER)
                os.chown(self.mail, owner.pw_uid, owner.pw_gid)

    def removed(self):
        """How many messages have left the queue since the start."""
        try:
            with open(self.log, "rb") as log:
                log.seek(self._offset)
                text = log.read()
        except FileNotFoundError:
            return 0
        end = text.rfind(b"\n") + 1
        self._seen += len(REMOVED.findall(text[:end]))
        self._offset += end
        return self._seen

    def cpu_seconds(self):
        """CPU used so far by its processes, those that have ended included."""
        ticks = sum(own + ended for _, own, ended in session_processes(self.process.pid))
        return ticks / os.sysconf("SC_CLK_TCK")

    def queued(self):
        """How many files lie in `queues`, the folders where accepted mail is."""
        counts = (len(files) for queue in self.queues for _, _, files in os.walk(os.path.join(self.folder, queue)))
        return sum(counts)

    def mailboxes(self):
        """How many messages lie in each user's Maildir."""
        return {user: len(os.listdir(os.path.join(self.mail, user, "new"))) for user in self.users}

    def memory(self):
        """Octets of memory of each of its programs: proportional set sizes, so that shared pages count once."""
        sizes = {}
        for pid, _, _ in session_processes(self.process.pid):
            try:
                with open(f"/proc/{pid}/comm", encoding="ascii", errors="replace") as file:
                    name = file.read().strip()
                with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
                    size = sum(int(line.split()[1]) for line in file if line.startswith("Pss:")) * 1024
            except (FileNotFoundError, ProcessLookupError):
                continue
            sizes[name] = sizes.get(name, 0) + size
        return sizes

    def wait_until_quiet(self, seconds=300):
        """Returns when it has used no CPU worth speaking of for a second."""
        wait_for(f"{self.name} does not come to rest", self._rests, seconds)

    def _rests(self):
        before = self.cpu_seconds()
        time.sleep(1)
        return self.cpu_seconds() - before < 0.03

    def stop(self, keep=False):
        """Ends it with all its processes, and takes its folder away unless told to keep it."""
        self._terminate()
        self.process.wait()
        wait_for(f"{self.name} does not end", lambda: not list(session_processes(self.process.pid)))
        if self.process.stdout:
            self.process.stdout.close()
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _terminate(self):
        self.process.terminate()


class Ironpost(System):
    name = "Ironpost"
    durability = "250 after the whole queue file is synced in the commit log (one sync for a group of sessions); larger ones than 64 KiB as files"

    queues = ["spool/incoming", "spool/active", "spool/deferred"]

    def __init__(self, folder, sink_port, binaries, routes=None, tls=None, users=(), commit="log"):
        super().__init__(folder, sink_port, routes, users)
        self.binaries = binaries
        where = f"smtp:[127.0.0.1]:{sink_port}" if sink_port else "discard:bench"
        with open(os.path.join(folder, "transport"), "w", encoding="ascii") as table:
            for domain, port in self.routes.items():
                table.write(f"{domain} smtp:[127.0.0.1]:{port}\n")
            if not users:
                table.write(f"* {where}\n")
        with open(os.path.join(folder, "ironpost.toml"), "w", encoding="ascii") as config:
            config.write(
                f"""hostname = "bench.example"
mail_name = "bench.example"
local_domains = ["localhost", "{MAIL_DOMAIN}"]
spool_directory = "spool"
[smtpd]
commit = "{commit}"
[[smtpd.listen]]
address = "127.0.0.1:{self.port}"
[deliverd]
transport = "transport"
[log]
to = "log"
[local]
aliases = "aliases"
"""
            )
            if users:
                config.write(self._mailbox_lines())
            if tls:
                certificate, key = tls
                config.write(f'[smtpd.tls]\ncertificate = "{certificate}"\nprivate_key = "{key}"\n')
        self.start()

    def _mailbox_lines(self):
        with open(os.path.join(self.folder, "users"), "w", encoding="ascii") as table:
            table.writelines(f"{user}\n" for user in self.users)
        return f'users = "users"\nmailbox = "{self.mail}/{{user}}/"\n'

    def command(self, *arguments):
        """The command line of `ironpost` for this instance."""
        return [os.path.join(self.binaries, "ironpost"), *arguments, "-c", os.path.join(self.folder, "ironpost.toml")]

    def start(self):
        """Starts it; returns when it is ready."""
        self.process = subprocess.Popen(
            self.command("run"),
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        for line in self.process.stdout:
            if line.strip() == "ready":
                return
        raise RuntimeError("Ironpost does not start")

    def list_command(self):
        return self.command("queue", "list"), None

    def flush(self):
        """Makes all deferred mail due."""
        subprocess.run(self.command("queue", "retry", "--all"), check=True, stdout=subprocess.DEVNULL)


class Postfix(System):
    name = "Postfix"
    durability = "250 after the queue file is synced (the folder's entry rides on the file system's journal)"

    queues = ["queue/incoming", "queue/active", "queue/deferred"]

    def __init__(self, folder, sink_port, unpacked, routes=None, processes=100, tls=None, users=(), settings=()):
        """`settings`: further lines of main.cf."""
        super().__init__(folder, sink_port, routes, users)
        self.unpacked, self.processes = unpacked, processes
        self._folders()
        with open(os.path.join(folder, "etc", "main.cf"), "w", encoding="ascii") as config:
            config.write(self._main_cf(unpacked))
            config.writelines(f"{line}\n" for line in [*self._mailbox_lines(), *settings])
            if tls:
                certificate, key = tls
                config.write(f"smtpd_tls_security_level = may\nsmtpd_tls_cert_file = {certificate}\nsmtpd_tls_key_file = {key}\n")
                config.write("smtpd_tls_loglevel = 1\n")
        with open(os.path.join(folder, "etc", "master.cf"), "w", encoding="ascii") as config:
            config.write(self._master_cf())
        programs = os.path.join(unpacked, "usr/lib/postfix")
        self.process = subprocess.Popen(
            [os.path.join(programs, "sbin/master"), "-c", os.path.join(folder, "etc"), "-d"],
            env={**os.environ, "LD_LIBRARY_PATH": programs},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_for("Postfix does not start", lambda: answers(self.port))

    def list_command(self):
        return self._tool("postqueue", "-p")

    def flush(self):
        """Makes all deferred mail due."""
        command, environment = self._tool("postqueue", "-f")
        subprocess.run(command, check=True, env=environment)

    def _tool(self, name, *arguments):
        environment = {**os.environ, "LD_LIBRARY_PATH": os.path.join(self.unpacked, "usr/lib/postfix")}
        return [os.path.join(self.unpacked, "usr/sbin", name), "-c", os.path.join(self.folder, "etc"), *arguments], environment

    def _terminate(self):
        # Its master leaves its children to end by themselves in time; they are ended with it here.
        os.killpg(self.process.pid, signal.SIGTERM)

    def _folders(self):
        owner = pwd.getpwnam("daemon").pw_uid
        group = grp.getgrnam("mail").gr_gid

        def make(name, uid, gid, mode):
            path = os.path.join(self.folder, name)
            os.mkdir(path)
            os.chown(path, uid, gid)
            os.chmod(path, mode)

        make("etc", 0, 0, 0o755)
        make("data", owner, 0, 0o700)
        make("queue", 0, 0, 0o755)
        for name in "incoming active deferred bounce defer hold corrupt trace flush saved private".split():
            make(f"queue/{name}", owner, 0, 0o700)
        make("queue/pid", 0, 0, 0o755)
        make("queue/public", owner, group, 0o710)
        make("queue/maildrop", owner, group, 0o730)

    def _mailbox_lines(self):
        if not self.users:
            return []
        with open(os.path.join(self.folder, "etc", "mailboxes"), "w", encoding="ascii") as table:
            table.writelines(f"{user}@{MAIL_DOMAIN} {user}/\n" for user in self.users)
        owner = pwd.getpwnam(MAIL_OWNER)
        return [
            f"virtual_mailbox_domains = {MAIL_DOMAIN}",
            f"virtual_mailbox_maps = texthash:{self.folder}/etc/mailboxes",
            f"virtual_mailbox_base = {self.mail}",
            f"virtual_uid_maps = static:{owner.pw_uid}",
            f"virtual_gid_maps = static:{owner.pw_gid}",
        ]

    def _main_cf(self, unpacked):
        where = f"smtp:[127.0.0.1]:{self.sink_port}" if self.sink_port else "discard:bench"
        # By pattern, since a whole address is looked up in all tables, the static one too, before its domain is.
        with open(os.path.join(self.folder, "etc", "routes"), "w", encoding="ascii") as table:
            for domain, port in self.routes.items():
                table.write(f"/@{re.escape(domain)}$/ smtp:[127.0.0.1]:{port}\n")
        routes = f"regexp:{self.folder}/etc/routes, " if self.routes else ""
        elsewhere = "" if self.users else f"static:{{{where}}}"
        return f"""compatibility_level = 3.6
queue_directory = {self.folder}/queue
data_directory = {self.folder}/data
command_directory = {unpacked}/usr/sbin
daemon_directory = {unpacked}/usr/lib/postfix/sbin
shlib_directory = {unpacked}/usr/lib/postfix
meta_directory = {self.folder}/etc
mail_owner = daemon
setgid_group = mail
import_environment = MAIL_CONFIG LD_LIBRARY_PATH TZ
maillog_file = {self.log}
maillog_file_prefixes = /
myhostname = bench.example
mydestination = localhost
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
local_recipient_maps =
smtpd_peername_lookup = no
transport_maps = {routes}{elsewhere}
default_process_limit = {self.processes}
smtp_tls_security_level = none
"""

    def _master_cf(self):
        return f"""127.0.0.1:{self.port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
showq unix n - n - - showq
flush unix n - n 1000? 0 flush
smtp unix - - n - - smtp
virtual unix - n n - - virtual
proxymap unix - - n - - proxymap
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
"""
