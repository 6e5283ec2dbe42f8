#!/usr/bin/env bash
# `make setup`: everything this checkout needs, into .venv. Safe to run again and to interrupt: the
# stamp is written last, and names what was installed, so a second run has nothing to do.
#
#   DREAMSEED_ENGINE=cpu|gpu   which vLLM; default: gpu where the NVIDIA driver is loaded
#   PYTHON=/path/to/python3.11 which Python; default: the first 3.11 on the PATH
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 3; }

NO_CLUSTER=/etc/postgresql-common/createcluster.d/dreamseed-setup.conf
# Outside a package mirror that has it, PyTorch's CPU build comes from PyTorch's own index.
PYTORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu

engine() {
  if [ -n "${DREAMSEED_ENGINE:-}" ]; then echo "$DREAMSEED_ENGINE"
  elif [ -e /proc/driver/nvidia/version ]; then echo gpu
  else echo cpu; fi
}

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3.11 python3 /usr/bin/python3}; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
      command -v "$candidate"; return
    fi
  done
}

# The Debian packages that this machine lacks, one a line.
missing_packages() {
  local python=$1
  [ -n "$python" ] || echo python3.11
  "${python:-python3.11}" -c 'import ensurepip, venv' 2>/dev/null || echo python3.11-venv
  # The tests build a stand-in for NVIDIA's library, which is C.
  command -v cc >/dev/null || command -v gcc >/dev/null || echo gcc libc6-dev
  # vLLM on cards compiles at its first start, against Python's headers.
  [ "$ENGINE" != gpu ] || "${python:-python3.11}" -c 'import os, sysconfig
os.stat(sysconfig.get_path("include", "posix_prefix") + "/Python.h")' 2>/dev/null || echo python3.11-dev
  # The tests look at reports in a real browser.
  command -v chromium >/dev/null || echo chromium
  # The tests read what `deploy` renders with the tools it is for.
  command -v prometheus >/dev/null || echo prometheus
  command -v systemd-analyze >/dev/null || echo systemd
  [ -x /usr/sbin/nft ] || echo nftables
  # The tests read the man page with it.
  command -v groff >/dev/null || echo groff-base
  [ -x /usr/sbin/logrotate ] || echo logrotate
  # Backups are tried on PostgreSQL 15 too, beside the embedded one.
  [ -x /usr/lib/postgresql/15/bin/postgres ] || echo postgresql-15
  # vLLM's CPU build links against it and does not bring it.
  [ "$ENGINE" != cpu ] || ldconfig -p | grep -q 'libnuma\.so\.1' || echo libnuma1
}

install_packages() {
  local packages=$* root=()
  if [ "$(id -u)" != 0 ]; then
    sudo -n true 2>/dev/null || die "these Debian packages are missing: $packages
setup: Install them as root, then run make again:
    apt-get update && apt-get install --no-install-recommends $packages"
    root=(sudo -n)
  fi
  command -v apt-get >/dev/null || die "no apt-get here; install what these Debian packages hold: $packages"
  say "installing Debian packages: $packages"
  "${root[@]}" apt-get update -qq
  # Of PostgreSQL only the programs are wanted: its package would make and start a server of its own.
  [[ $packages != *postgresql* ]] || "${root[@]}" install -D -m 644 /dev/stdin "$NO_CLUSTER" <<<'create_main_cluster = off'
  # shellcheck disable=SC2086  # one word a package
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null
  "${root[@]}" rm -f "$NO_CLUSTER"
}

# apcupsd and NUT exclude each other, and would run as services: the tests start their programs from here.
unpack_ups_daemons() {
  local folder=$PWD/.venv/debian
  mkdir -p "$folder/packages"
  (cd "$folder/packages" && apt-get -qq download \
    apcupsd libusb-0.1-4 libwrap0 nut-server nut-client libupsclient6 2>/dev/null) || return
  local package
  for package in "$folder"/packages/*.deb; do dpkg -x "$package" "$folder"; done
  rm -r "$folder/packages"
}

pip_install() { .venv/bin/python -m pip --disable-pip-version-check install --quiet --no-deps "$@"; }

install_locked() {
  local lock=$1
  pip_install --require-hashes -r "$lock" && return
  [ "$ENGINE" = cpu ] || return 1
  say "trying again with PyTorch's own index for its CPU build"
  pip_install --require-hashes --extra-index-url "$PYTORCH_CPU_INDEX" -r "$lock"
}

ENGINE=$(engine)
LOCK=requirements/$ENGINE.lock
STAMP=.venv/.setup-stamp
[ -f "$LOCK" ] || die "DREAMSEED_ENGINE is '$ENGINE': use cpu or gpu"
# The checkout's place belongs to it: a moved virtual environment does not work.
WANTED=$({ pwd; echo "$ENGINE"; cat "$LOCK" scripts/setup.sh; } | sha256sum)
[ "$(cat "$STAMP" 2>/dev/null)" != "$WANTED" ] || exit 0

PYTHON_FOUND=$(find_python)
MISSING=$(missing_packages "$PYTHON_FOUND" | xargs)
if [ -n "$MISSING" ]; then
  install_packages "$MISSING"
  PYTHON_FOUND=$(find_python)
fi
[ -n "$PYTHON_FOUND" ] || die "no Python 3.11 found; name one with PYTHON=/path/to/python3.11"

say "installing the locked Python packages for the $ENGINE engine into .venv (3.6 GB, about 2 minutes)"
"$PYTHON_FOUND" -m venv --clear .venv
install_locked "$LOCK" || die "the Python packages could not be installed (pip's reason is above)"
pip_install --no-build-isolation --editable .
unpack_ups_daemons || say "apcupsd and NUT could not be downloaded (apt-get update?): their tests will fail"
echo "$WANTED" >"$STAMP"
say "done"
