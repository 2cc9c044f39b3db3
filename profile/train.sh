#!/bin/sh
# Makes profile/release.profdata: `make profile`. Called with the folder of instrumented binaries and the llvm-profdata to use.
#
# The counters are written when a daemon ends, each as the user that it has become: hence a folder for everybody, outside of homes.
set -eu

binaries=$1
profdata=$2
here=$(cd "$(dirname "$0")" && pwd)

counters=$(mktemp -d /var/tmp/ironpost-profile-XXXXXX)
trap 'rm -rf "$counters"' EXIT
chmod 1777 "$counters"

LLVM_PROFILE_FILE="$counters/%m-%p.profraw" python3 "$here/../bench/bench.py" --alone --runs 1 --backlog 5000 --bin "$binaries" \
    --part throughput --part recipients --part maildir --part tls --part large --part latency --part backlog

# Sparse: functions that never ran need no line.
"$profdata" merge --sparse -o "$here/release.profdata" "$counters"/*.profraw
