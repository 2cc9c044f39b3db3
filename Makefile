# Ironpost: one door for everything. `make run` and `make test` do all their set-up themselves.

CARGO   ?= cargo
PREFIX  ?= /usr
SYSCONFDIR ?= /etc
DESTDIR ?=
# The PAM helper is built where libpam's headers are (Debian: libpam0g-dev); looked at when a build begins, since `make test` installs them.
PAM      = $$(test -e /usr/include/security/pam_appl.h && echo --features pamd/pam)
# Daemons are started by systemd or `ironpost run`, never typed: they stay off the PATH.
LIBEXEC  = $(PREFIX)/lib/ironpost
# What profile/README.md tells of. Functions that have changed since it was made are built without it, and nobody needs to hear of each.
USE_PROFILE = RUSTFLAGS="$$RUSTFLAGS -Cprofile-use=$(CURDIR)/profile/release.profdata -Cllvm-args=-no-pgo-warn-mismatch"
LLVM_PROFDATA ?= llvm-profdata

.PHONY: help run test soak fuzz lint build bench profile release install clean

help:
	@echo 'make run      build and start the three daemons here, as you, on 127.0.0.1:2525'
	@echo 'make test     install what the tests need, then run every test'
	@echo 'make soak     50,000 messages while daemons and next hosts fail at random'
	@echo 'make fuzz     every fuzz target for SECONDS=60 each, or TARGET=name alone'
	@echo 'make lint     format, clippy, documentation, licences'
	@echo 'make bench    messages per second, beside Postfix in the same run'
	@echo 'make release  optimised binaries in target/release'
	@echo 'make profile  measure anew what the optimiser goes by (profile/README.md)'
	@echo 'make install  DESTDIR= PREFIX=/usr'

build:
	$(CARGO) build --workspace --bins $(PAM)

run: build
	@sh etc/run-here.sh target/debug

# What `make run` goes by; made by it, too. It is yours from then on.
var/ironpost.toml:
	@sh etc/run-here.sh

# One build serves all tests; the end-to-end tests start the binaries of that build.
test:
	sh tests/tools.sh
	$(CARGO) build --workspace --bins $(PAM)
	$(CARGO) test --workspace --no-fail-fast $(PAM)

# The chaos test of the ordinary suite with more messages; its dice are printed, IRONPOST_CHAOS_SEED throws them again.
soak:
	sh tests/tools.sh
	$(CARGO) build --workspace --bins $(PAM)
	IRONPOST_POWER_CUT=all $(CARGO) test -p queued --test power_cut -- --nocapture
	IRONPOST_CHAOS_MESSAGES=50000 IRONPOST_TEST_SECONDS=3600 $(CARGO) test -p ironpost-tests --test e2e -- --nocapture chaos

# On the stable toolchain: coverage guides, without sanitizers. What is found lies in var/fuzz; doc/fuzzing.md says what to do with it.
SECONDS ?= 60
TARGET  ?= $(basename $(notdir $(wildcard fuzz/libfuzzer/fuzz_targets/*.rs)))
fuzz:
	command -v cargo-fuzz >/dev/null || $(CARGO) install --locked --quiet cargo-fuzz@0.13.2
	for target in $(TARGET); do \
	    mkdir -p var/fuzz/$$target; \
	    $(CARGO) fuzz run --fuzz-dir fuzz/libfuzzer -s none $$target $(CURDIR)/var/fuzz/$$target $(CURDIR)/fuzz/corpus/$$target -- \
	        -max_total_time=$(SECONDS) -timeout=10 -rss_limit_mb=1024 -artifact_prefix=$(CURDIR)/var/fuzz/found-$$target- || exit 1; \
	done

# Crates are fetched for all systems: a build here brings its own alone, and cargo deny, without a network, looks at all of them.
lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets $(PAM) -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps --document-private-items --quiet
	command -v cargo-deny >/dev/null || $(CARGO) install --locked --quiet cargo-deny@0.20.2
	$(CARGO) fetch --locked --quiet
	$(CARGO) deny --offline --log-level error check licenses bans sources

bench: release
	$(USE_PROFILE) $(CARGO) build --release -p spool --example commit_limit
	$(USE_PROFILE) $(CARGO) build --release -p deliverd --example handshakes --example tls_source --example lean_source --example lean_sink
	sh tests/tools.sh
	python3 bench/bench.py --bin target/release
	IRONPOST_ATTACK=full IRONPOST_BIN=$(CURDIR)/target/release $(CARGO) test -p ironpost-tests --test e2e -- --nocapture --test-threads=1 attack
	target/release/examples/handshakes

release:
	$(USE_PROFILE) $(CARGO) build --release --workspace --bins $(PAM)

# Names of functions depend on how cargo is called: the same way as in `release`. What build scripts count nobody wants to see. The tool is looked for first,
# not when everything is measured.
COUNTING = LLVM_PROFILE_FILE=/dev/null RUSTFLAGS="$$RUSTFLAGS -Cprofile-generate" $(CARGO) build --release --target-dir target/profile
profile:
	$(LLVM_PROFDATA) --version
	sh tests/tools.sh
	$(COUNTING) --workspace --bins $(PAM)
	$(COUNTING) -p deliverd --example tls_source
	sh profile/train.sh target/profile/release $(LLVM_PROFDATA)

install: release
	install -d $(DESTDIR)$(LIBEXEC) $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/sbin
	install -m 755 target/release/smtpd target/release/queued target/release/deliverd $(DESTDIR)$(LIBEXEC)/
	test ! -e target/release/ironpost-pam || install -m 755 target/release/ironpost-pam $(DESTDIR)$(LIBEXEC)/
	install -d $(DESTDIR)$(SYSCONFDIR)/pam.d
	test -e $(DESTDIR)$(SYSCONFDIR)/pam.d/ironpost || install -m 644 etc/pam.d/ironpost $(DESTDIR)$(SYSCONFDIR)/pam.d/
	install -m 755 target/release/ironpost $(DESTDIR)$(PREFIX)/sbin/ironpost
	install -m 755 target/release/sendmail $(DESTDIR)$(PREFIX)/sbin/sendmail
	ln -sf ../sbin/sendmail $(DESTDIR)$(PREFIX)/bin/mailq
	ln -sf ../sbin/sendmail $(DESTDIR)$(PREFIX)/bin/newaliases
	install -d $(DESTDIR)$(SYSCONFDIR)/ironpost
	test -e $(DESTDIR)$(SYSCONFDIR)/ironpost/ironpost.toml || \
	    install -m 644 etc/ironpost.toml $(DESTDIR)$(SYSCONFDIR)/ironpost/ironpost.toml
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system $(DESTDIR)$(PREFIX)/lib/sysusers.d $(DESTDIR)$(PREFIX)/lib/tmpfiles.d
	install -m 644 etc/systemd/* $(DESTDIR)$(PREFIX)/lib/systemd/system/
	install -d $(DESTDIR)$(SYSCONFDIR)/fail2ban/filter.d
	install -m 644 etc/fail2ban/filter.d/ironpost.conf $(DESTDIR)$(SYSCONFDIR)/fail2ban/filter.d/
	install -m 644 etc/sysusers.d/ironpost.conf $(DESTDIR)$(PREFIX)/lib/sysusers.d/
	install -m 644 etc/tmpfiles.d/ironpost.conf $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/
	install -d $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/man/man5 $(DESTDIR)$(PREFIX)/share/man/man8
	install -m 644 doc/man/*.1 $(DESTDIR)$(PREFIX)/share/man/man1/
	install -m 644 doc/man/*.5 $(DESTDIR)$(PREFIX)/share/man/man5/
	install -m 644 doc/man/*.8 $(DESTDIR)$(PREFIX)/share/man/man8/
	target/release/ironpost manpage > $(DESTDIR)$(PREFIX)/share/man/man8/ironpost.8

clean:
	$(CARGO) clean
	rm -rf var
