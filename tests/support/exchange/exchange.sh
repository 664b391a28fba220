#!/bin/bash
# A real telephone exchange (Asterisk) for integration tests, without root
# rights, without an init system and without touching the machine's packages:
# the packages are downloaded with a private apt state, unpacked under
# CACHE/root and started there with their own dynamic linker. Any number of
# exchanges can run from one CACHE, each with its own DIR and ports.
#
#   exchange.sh setup CACHE            fetch and unpack (does nothing if done)
#   exchange.sh version CACHE
#   exchange.sh run CACHE DIR          write DIR/etc, then become the exchange;
#                                      it ends when the calling thread ends
#   exchange.sh start CACHE DIR        the same in the background, wait until ready
#   exchange.sh wait CACHE DIR         wait until a "run" is ready
#   exchange.sh stop CACHE DIR
#   exchange.sh cli CACHE DIR 'command'
#
# Environment: SUITE (Debian suites to try in turn, default "sid bullseye"),
# MIRROR, KEYRING (else from the machine's apt), CONF (configuration templates,
# default: conf/ beside this script), SIP_PORT, HTTP_PORT, AMI_PORT, RTP_START,
# RTP_END, TRUNK_ADDR, TRUNK_PORT, TLS_PORT (its certificate: DIR/tls/cert.pem).
set -euo pipefail

usage() { sed -n '2,/^set /s/^# \{0,1\}//p' "$0" | sed '$d' >&2; exit 2; }
die() { echo "exchange: $*" >&2; exit 1; }

cmd=${1:-}; [ -n "$cmd" ] && [ -n "${2:-}" ] || usage
case $cmd in run|start|wait|stop|cli) [ -n "${3:-}" ] || usage;; esac
mkdir -p "$2" ${3:+"$3"}
CACHE=$(cd "$2" && pwd -P)
DIR=$(cd "${3:-$2}" && pwd -P)
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
CONF=${CONF:-$HERE/conf}
SUITE=${SUITE:-sid bullseye}
SIP_PORT=${SIP_PORT:-15060} HTTP_PORT=${HTTP_PORT:-18088} AMI_PORT=${AMI_PORT:-15038}
RTP_START=${RTP_START:-20000} RTP_END=${RTP_END:-20998}
TRUNK_ADDR=${TRUNK_ADDR:-127.0.0.2} TRUNK_PORT=${TRUNK_PORT:-25060} TLS_PORT=${TLS_PORT:-15061}
ROOT=$CACHE/root
PIDFILE=$DIR/run/exchange.pid

libdir() {   # where libc is; older packages keep Asterisk's modules elsewhere
  local f; for f in "$ROOT"/usr/lib/*/libc.so.6; do [ -e "$f" ] && dirname "$f" && return; done
}
modules() {
  local d; for d in "$ROOT"/usr/lib/*/asterisk/modules "$ROOT"/usr/lib/asterisk/modules; do
    [ -d "$d" ] && echo "$d" && return
  done
}

# the machine's own Debian mirror: the first "main" index of its own release
mirror() {
  local release
  release=$(. /etc/os-release; echo "${VERSION_CODENAME:-}")
  apt-get indextargets --no-release-info \
      --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
    awk -v r="$release" '$3 == "main" && $2 == r { print $1; exit }'
}

fetch() {    # fetch SUITE: download the packages for it into CACHE/apt
  local suite=$1 apt=$CACHE/apt mirror keyring arch
  mirror=${MIRROR:-$(mirror)}
  [ -n "$mirror" ] || { echo "exchange: no Debian mirror in this machine's apt sources (set MIRROR)" >&2; return 1; }
  keyring=${KEYRING:-$(dpkg -L debian-archive-keyring 2>/dev/null | grep -m1 '/debian-archive-keyring\.[a-z]*$' || true)}
  [ -n "$keyring" ] || { echo "exchange: package debian-archive-keyring is missing (set KEYRING)" >&2; return 1; }
  arch=$(dpkg --print-architecture)
  rm -rf "$apt"; mkdir -p "$apt"/lists/partial "$apt"/cache/archives/partial
  echo "deb [arch=$arch signed-by=$keyring] $mirror $suite main" > "$apt/sources.list"
  # Not fetched: what only maintainer scripts need (they are never run here).
  : > "$apt/status"
  local p
  for p in adduser base-passwd debconf dirmngr gnupg gnupg-l10n gpg gpg-agent gpgconf gpgsm \
           login.defs lsb-base passwd pci.ids pinentry-curses tzdata; do
    printf 'Package: %s\nStatus: install ok installed\nArchitecture: %s\nMulti-Arch: foreign\nVersion: 9999\nMaintainer: none\nDescription: stand-in\n\n' \
      "$p" "$arch" >> "$apt/status"
  done
  # The machine's own apt.conf.d (proxies and so on) stays in force.
  cat > "$apt/apt.conf" <<EOF
Dir::Etc::sourcelist "$apt/sources.list"; Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null"; Dir::Etc::preferencesparts "/dev/null";
Dir::State "$apt"; Dir::State::status "$apt/status"; Dir::Cache "$apt/cache"; Dir::Log "$apt";
APT::Install-Recommends "false"; APT::Install-Suggests "false";
Acquire::Languages "none"; APT::Sandbox::User ""; Debug::NoLocking "true";
EOF
  APT_CONFIG=$apt/apt.conf apt-get -qq update &&
  APT_CONFIG=$apt/apt.conf apt-get -qq -y --download-only install asterisk </dev/null >/dev/null
}

unpack() {
  local new=$CACHE/root.new d deb
  rm -rf "$new"; mkdir -p "$new"
  for d in bin sbin lib lib64; do mkdir -p "$new/usr/$d"; ln -s "usr/$d" "$new/$d"; done
  for deb in "$CACHE"/apt/cache/archives/*.deb; do
    case ${deb##*/} in perl-*|libicu-le*|*-dev_*|gcc-*-base_*) continue;; esac
    dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$new" --keep-directory-symlink --no-same-owner \
      --exclude='./usr/share/doc' --exclude='./usr/share/man' --exclude='./usr/share/locale' \
      --exclude='./usr/share/perl*' --exclude='./usr/lib/*/perl*' --exclude='./usr/share/info' || return
  done
  # what asterisk-core-sounds-*'s maintainer script does with update-alternatives
  for d in "$new"/usr/share/asterisk/sounds/en_*; do
    [ -d "$d" ] && ln -sfn "${d##*/}" "$new/usr/share/asterisk/sounds/en"
  done
  rm -rf "$ROOT"; mv "$new" "$ROOT"
}

WRAP=()        # a command that starts it
asterisk() {   # become the unpacked program with its own linker and libraries
  local lib ld
  lib=$(libdir)
  # the real file: lib64/ld-linux* may be an absolute link, dead outside a chroot
  for ld in "$lib"/ld-linux*.so.[0-9] "$lib"/ld-[0-9]*.so; do
    [ -e "$ld" ] && [ -x "$ld" ] && break
  done
  [ -x "$ld" ] || die "no dynamic linker under $ROOT"
  LD_LIBRARY_PATH='' exec "${WRAP[@]}" "$ld" --library-path "$lib:$ROOT/usr/lib" "$ROOT/usr/sbin/asterisk" "$@"
}
rasterisk() { (asterisk -C "$DIR/etc/asterisk.conf" -rx "$1"); }

running() {    # is the process in the PID file this exchange?
  [ -s "$PIDFILE" ] && tr '\0' ' ' 2>/dev/null < "/proc/$(cat "$PIDFILE")/cmdline" | grep -qF -- "-C $DIR/etc/asterisk.conf"
}

configure() {
  local f
  rm -rf "$DIR/etc"; mkdir -p "$DIR"/{etc,lib/agi-bin,log/cdr-csv,run,spool/monitor,spool/recording,spool/outgoing,spool/tmp}
  if [ ! -s "$DIR/tls/cert.pem" ]; then
    mkdir -p "$DIR/tls"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=127.0.0.1 \
      -addext subjectAltName=IP:127.0.0.1 -keyout "$DIR/tls/key.pem" -out "$DIR/tls/cert.pem" 2>/dev/null
  fi
  for f in "$CONF"/*.conf; do
    sed -e "s|@TLS_PORT@|$TLS_PORT|g" -e "s|@DIR@|$DIR|g" -e "s|@ROOT@|$ROOT|g" -e "s|@MODULES@|$(modules)|g" \
        -e "s|@SIP_PORT@|$SIP_PORT|g" -e "s|@HTTP_PORT@|$HTTP_PORT|g" -e "s|@AMI_PORT@|$AMI_PORT|g" \
        -e "s|@RTP_START@|$RTP_START|g" -e "s|@RTP_END@|$RTP_END|g" \
        -e "s|@TRUNK_ADDR@|$TRUNK_ADDR|g" -e "s|@TRUNK_PORT@|$TRUNK_PORT|g" "$f" > "$DIR/etc/${f##*/}"
  done
}

become() {     # take the free DIR and turn into the exchange
  [ -s "$ROOT/.complete" ] || die "run '$0 setup $CACHE' first"
  local sock=$DIR/run/asterisk.ctl
  [ ${#sock} -lt 104 ] || die "$DIR is too long a path for a unix socket"
  configure
  echo "$BASHPID" > "$PIDFILE"
  asterisk -C "$DIR/etc/asterisk.conf" -f >"$DIR/log/console" 2>&1 </dev/null
}

wait_ready() {
  local i
  for i in $(seq 300); do
    if [ "$i" -gt 10 ] && ! running; then tail -20 "$DIR/log/console" >&2; die "did not start"; fi
    if running && rasterisk 'core waitfullybooted' 2>/dev/null | grep -q 'fully booted'; then return; fi
    sleep 0.1
  done
  die "not ready after 30 s, see $DIR/log"
}

setup() {
  local ok='' s v=''
  for s in $SUITE; do
    if fetch "$s" && unpack && v=$( (asterisk -V) ); then ok=$s; break; fi
    echo "exchange: suite $s did not work" >&2
  done
  [ -n "$ok" ] || die "set-up failed"
  rm -rf "$CACHE/apt"
  echo "$v (suite $ok)" > "$ROOT/.complete"
  # seen: 16.28 drops about a fifth of the audio on many one-direction ChanSpy
  # calls, without a gap in sequence numbers or timestamps; 22.10 does not
  [ "$ok" != bullseye ] || echo "exchange: WARNING: old fallback version: do not judge durations or alignment of one-direction recordings by it" >&2
}

case $cmd in
setup)
  if [ ! -s "$ROOT/.complete" ]; then
    exec 9>"$CACHE/lock"
    flock 9                              # whoever waited here finds the work done
    [ -s "$ROOT/.complete" ] || setup 9>&-
  fi
  cat "$ROOT/.complete";;
run)
  ! running || die "already running, pid $(cat "$PIDFILE")"
  WRAP=(setpriv --pdeathsig TERM)
  become;;
start)
  if running; then echo "already running, pid $(cat "$PIDFILE")"; exit 0; fi
  rm -f "$PIDFILE"
  become &
  wait_ready
  echo "running, pid $(cat "$PIDFILE"), SIP 127.0.0.1:$SIP_PORT, ARI 127.0.0.1:$HTTP_PORT, AMI 127.0.0.1:$AMI_PORT";;
wait) wait_ready;;
stop)
  running || { rm -f "$PIDFILE"; echo "not running"; exit 0; }
  pid=$(cat "$PIDFILE")
  rasterisk 'core stop now' >/dev/null 2>&1 || kill "$pid" 2>/dev/null || true
  for i in $(seq 80); do
    running || { rm -f "$PIDFILE"; echo "stopped"; exit 0; }
    [ "$i" = 40 ] && kill "$pid" 2>/dev/null || true
    sleep 0.1
  done
  running && kill -9 "$pid"
  rm -f "$PIDFILE"; echo "stopped (killed)";;
cli)
  [ -n "${4:-}" ] || usage
  running || die "not running"
  rasterisk "$4";;
version) cat "$ROOT/.complete";;
*) usage;;
esac
