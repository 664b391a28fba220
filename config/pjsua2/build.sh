#!/bin/bash
# Build a wheel of pjsua2 from the pjproject component of Debian's asterisk
# source package, or find the one built before. Prints the wheel's path as the
# last line; progress goes to stderr.
#
#   build.sh            build if needed
#   build.sh --fetch    fetch the source even if one is cached (a newer version makes a new wheel)
#
# Environment:
#   PYTHON             interpreter that will run it (default python3)
#   PJPROJECT_TARBALL  a pjproject source tarball: nothing is fetched
#   SUITE, MIRROR, KEYRING   Debian suite (default sid), mirror and keyring (default: the machine's apt)
#   XDG_CACHE_HOME     the cache is $XDG_CACHE_HOME/recorderd/pjsua2 (default ~/.cache)
#   JOBS               compilers at a time (default: the number of processors)
set -euo pipefail
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES    # called by our Makefile: its flags are not PJSIP's

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
PYTHON=${PYTHON:-python3}
SUITE=${SUITE:-sid}
JOBS=${JOBS:-$(nproc)}
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/recorderd/pjsua2
FETCH=; [ "${1:-}" != --fetch ] || FETCH=1
case ${PJPROJECT_TARBALL:-/} in /*) ;; *) PJPROJECT_TARBALL=$PWD/$PJPROJECT_TARBALL;; esac

say() { printf '==> pjsua2: [%3d s] %s\n' "$SECONDS" "$*" >&2; }
die() { printf '==> pjsua2: %s\n' "$*" >&2; exit 1; }

abi=$("$PYTHON" -c 'import sys, sysconfig
assert sys.version_info >= (3, 11), "Python 3.11 or later is needed"
print(sys.version.split()[0], sys.implementation.cache_tag, sysconfig.get_config_var("EXT_SUFFIX"), sysconfig.get_platform())') ||
  die "PYTHON=$PYTHON does not serve"
os=$(. /etc/os-release 2>/dev/null && echo "${ID:-} ${VERSION_ID:-}" || true)

sha() { sha256sum | cut -d' ' -f1; }
key() {       # key TARBALL: what the wheel depends on
  local patches; shopt -s nullglob; patches=("$HERE"/*.patch); shopt -u nullglob
  { sha < "$1"; echo "$abi"; echo "$os"
    cat "$HERE"/build.sh "$HERE"/wheel.py "$HERE"/config_site.h ${patches[@]+"${patches[@]}"}; } | sha | cut -c1-16
}
tarball() {   # the source: given, or the last one fetched
  if [ -n "${PJPROJECT_TARBALL:-}" ]; then echo "$PJPROJECT_TARBALL"
  elif [ -s "$CACHE/source/current" ]; then echo "$CACHE/source/$(cat "$CACHE/source/current")"; fi
}
cached() {    # print the wheel and succeed if it is there
  local t w; t=$(tarball)
  [ -n "$t" ] && [ -r "$t" ] || return 1
  for w in "$CACHE/$(key "$t")"/pjsua2-*.whl; do [ -e "$w" ] && echo "$w" && return; done
  return 1
}

# ---- fetch ------------------------------------------------------------------
# the machine's own Debian mirror: the first "main" index of its own release
mirror() {
  local release
  release=$(. /etc/os-release; echo "${VERSION_CODENAME:-}")
  apt-get indextargets --no-release-info \
      --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
    awk -v r="$release" '$3 == "main" && $2 == r { print $1; exit }'
}

# Download asterisk's source package with a private apt state, verified by apt,
# and keep its pjproject component (version in its name) in the cache.
HINT="or give the source by PJPROJECT_TARBALL=path"
download() {
  cd "$WORK/apt/source"
  APT_CONFIG=$WORK/apt/apt.conf apt-get -qq update
  APT_CONFIG=$WORK/apt/apt.conf apt-get -qq --download-only --only-source source asterisk
}
fetch() {
  local apt=$WORK/apt mirror keyring part name
  command -v apt-get >/dev/null || die "apt-get is missing: $HINT"
  mirror=${MIRROR:-$(mirror)}
  [ -n "$mirror" ] || die "no Debian mirror in this machine's apt sources: set MIRROR, $HINT"
  keyring=${KEYRING:-$(dpkg -L debian-archive-keyring 2>/dev/null | grep -m1 '/debian-archive-keyring\.[a-z]*$' || true)}
  [ -n "$keyring" ] || die "package debian-archive-keyring is missing: install it, set KEYRING, $HINT"
  mkdir -p "$apt"/lists/partial "$apt"/cache/archives/partial "$apt"/source
  : > "$apt/status"
  echo "deb-src [signed-by=$keyring] $mirror $SUITE main" > "$apt/sources.list"
  # The machine's own apt.conf.d (proxies and so on) stays in force.
  cat > "$apt/apt.conf" <<CONF
Dir::Etc::sourcelist "$apt/sources.list"; Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null"; Dir::Etc::preferencesparts "/dev/null";
Dir::State "$apt"; Dir::State::status "$apt/status"; Dir::Cache "$apt/cache"; Dir::Log "$apt";
Acquire::Languages "none"; Acquire::Retries "3"; APT::Sandbox::User ""; Debug::NoLocking "true";
CONF
  step "fetching the source package asterisk ($SUITE)" download
  part=$(find "$apt/source" -name 'asterisk_*.orig-Xpjproject.tar.*' ! -name '*.asc' | head -n1)
  [ -n "$part" ] || die "the source package of $SUITE has no pjproject component: $HINT"
  name=${part##*/}
  mkdir -p "$CACHE/source"
  mv "$part" "$CACHE/source/$name"
  echo "$name" > "$CACHE/source/current.new"
  mv "$CACHE/source/current.new" "$CACHE/source/current"
}

# ---- build ------------------------------------------------------------------
CFLAGS_ALL='-O2 -g0 -fPIC -DNDEBUG'    # NDEBUG: an assertion of the library must not end the daemon

configure() {
  cp "$HERE/config_site.h" pjlib/include/pj/config_site.h
  # DFSG-cleaned away, but the Makefile still names it
  [ -e pjmedia/src/pjmedia-audiodev/bdimad_dev.c ] || : > pjmedia/src/pjmedia-audiodev/bdimad_dev.c
  local p; for p in "$HERE"/*.patch; do [ ! -e "$p" ] || patch -p1 < "$p"; done
  # External or absent: the component holds no third-party sources.
  CFLAGS=$CFLAGS_ALL CXXFLAGS=$CFLAGS_ALL ./aconfigure \
    --enable-epoll --disable-video --disable-sound --disable-speex-aec \
    --with-external-srtp --with-external-speex --with-external-gsm --enable-speex-resample \
    --disable-ilbc-codec --disable-g7221-codec --disable-libwebrtc --disable-libyuv \
    --disable-sdl --disable-ffmpeg --disable-v4l2 --disable-openh264 --disable-vpx \
    --disable-upnp --disable-libuuid --disable-opencore-amr --disable-silk --disable-lyra
  local have missing=
  for have in 'pjlib/include/pj/compat/os_auto.h:PJ_HAS_SSL_SOCK 1' \
      'pjmedia/include/pjmedia-codec/config_auto.h:PJMEDIA_HAS_OPUS_CODEC 1' \
      'pjmedia/include/pjmedia-codec/config_auto.h:PJMEDIA_HAS_BCG729 1'; do
    grep -q "define ${have#*:}" "${have%%:*}" || missing+=" ${have#*:}"
  done
  grep -q 'linux_epoll\|ioqueue_epoll' pjlib/build/os-auto.mak || missing+=" epoll"
  [ -z "$missing" ] || { echo "configure did not find:$missing"; return 1; }
}

wrap() {      # the Python binding: one file of half a million lines, compiled beside the libraries
  cd pjsip-apps/src/swig/python
  local inc=../../../.. i
  swig -I$inc/pjlib/include -I$inc/pjlib-util/include -I$inc/pjmedia/include -I$inc/pjsip/include \
    -I$inc/pjnath/include -c++ -w312 -threads -doxygen -python -o pjsua2_wrap.cpp ../pjsua2.i
  i=$("$PYTHON" -c 'import sysconfig as s; p = s.get_paths(); print("-I" + p["include"], "-I" + p["platinclude"])')
  ${CXX:-g++} $(make -s --no-print-directory -f helper.mak cflags) $CFLAGS_ALL $i -w -c pjsua2_wrap.cpp -o pjsua2_wrap.o
}

libraries() { make -j"$JOBS" lib; }

link() {
  cd pjsip-apps/src/swig/python
  local so=_pjsua2$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
  ${CXX:-g++} -shared -o "$so" pjsua2_wrap.o $(make -s --no-print-directory -f helper.mak ldflags) \
    -Wl,--exclude-libs,ALL -Wl,-Bsymbolic -Wl,--start-group \
    $(make -s --no-print-directory -f helper.mak libs | sed 's/^/-l/') \
    $(make -s --no-print-directory -f helper.mak ldflags | grep '\.a$' || true) -Wl,--end-group
  strip --strip-unneeded "$so"
  cp "$so" pjsua2.py "$WORK/"
}

smoke() {     # does it load, with our limits in it?
  ( cd "$WORK/try" && "$PYTHON" -c '
import pjsua2 as pj
ep = pj.Endpoint(); ep.libCreate()
version = ep.libVersion().full
config = pj.EpConfig(); config.logConfig.level = config.logConfig.consoleLevel = 0
config.uaConfig.threadCnt = 0; config.uaConfig.maxCalls = 2048
ep.libInit(config); ep.audDevManager().setNoDev()
acc = pj.AccountConfig(); acc.callConfig.siprecUse = pj.PJSUA_SIP_SIPREC_OPTIONAL
names = " ".join(c.codecId for c in ep.codecEnum2())
assert all(n in names for n in ("PCMU", "PCMA", "G722", "GSM", "opus", "G729", "L16", "speex")), names
ep.libDestroy(); print(version)' )
}

# step NAME FUNCTION: run in the source tree, noise to the log. In the background:
# so errexit holds inside, and a signal is served at once.
step() {
  say "$1"
  ( cd "$WORK/src"; "$2" ) >>"$LOG" 2>&1 </dev/null & STEP=$!
  wait "$STEP" || { STEP=; failed "$1"; }
  STEP=
}
failed() {
  say "failed: $1; the last lines of $LOG:"
  tail -n 30 "$LOG" >&2
  exit 1
}

build() {     # build TARBALL KEY
  local missing='' tool version wheel out
  for tool in make swig pkg-config strip tar xz patch "${CC:-gcc}" "${CXX:-g++}"; do
    command -v "$tool" >/dev/null || missing+=" $tool"
  done
  [ -z "$missing" ] || die "missing:$missing (run 'make setup-packages')"
  "$PYTHON" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")))' ||
    die "the headers of $PYTHON are missing (Debian: python3-dev)"
  say "source ${1##*/}"
  mkdir -p "$WORK/out" "$WORK/try"
  tar -xf "$1" -C "$WORK/src" --strip-components=1 --no-same-owner
  step "configuring" configure
  say "compiling the binding beside the libraries (a few minutes; log $LOG)"
  ( cd "$WORK/src"; wrap ) >"$LOG.wrap" 2>&1 </dev/null & WRAP=$!
  step "compiling the libraries" libraries
  say "waiting for the binding"
  wait "$WRAP" || { WRAP=; cat "$LOG.wrap" >> "$LOG"; failed "compiling the binding"; }
  WRAP=
  step "linking" link
  version=$(sed -n 's/^export PJ_VERSION_\(MAJOR\|MINOR\|REV\) *:= *\([0-9][0-9]*\).*/\2/p' "$WORK/src/version.mak" | paste -sd.)
  wheel=$("$PYTHON" "$HERE/wheel.py" "$version+recorderd.$2" "$WORK/src/COPYING" "$WORK/out" "$WORK"/pjsua2.py "$WORK"/_pjsua2*.so)
  say "trying ${wheel##*/}"
  "$PYTHON" -m zipfile -e "$wheel" "$WORK/try"
  out=$(smoke 2>>"$LOG" | tail -n1) || failed "loading the wheel"
  cat "$LOG.wrap" >> "$LOG"; mv "$LOG" "$WORK/out/build.log"
  rm -rf "${CACHE:?}/$2"; mv "$WORK/out" "$CACHE/$2"
  say "built: pjproject $out"
}

# ---- main -------------------------------------------------------------------
[ -z "${PJPROJECT_TARBALL:-}" ] || [ -r "$PJPROJECT_TARBALL" ] || die "cannot read $PJPROJECT_TARBALL"
[ -n "$FETCH" ] || ! cached || exit 0
[[ $CACHE != *[[:space:]]* ]] || die "the cache's path must not hold spaces: $CACHE (set XDG_CACHE_HOME)"

mkdir -p "$CACHE"
exec 9>"$CACHE/lock"
flock -n 9 || { say "another build is running: waiting for it"; flock 9; }
[ -n "$FETCH" ] || ! cached || exit 0        # the other one built it

WORK=$CACHE/work LOG=$CACHE/build.log WRAP= STEP=
clean() {
  local job; for job in $WRAP $STEP; do kill -- -"$job" 2>/dev/null || true; done
  wait; rm -rf "$WORK" "$LOG.wrap"
}
trap clean EXIT
trap 'exit 130' INT TERM HUP
set -m                                       # background jobs get their own process group: clean can end them
rm -rf "$WORK"; mkdir -p "$WORK/src"; : > "$LOG"
if [ -z "${PJPROJECT_TARBALL:-}" ]; then
  [ -z "$FETCH" ] && [ -n "$(tarball)" ] && [ -r "$(tarball)" ] || fetch
fi
source=$(tarball)
[ -n "$FETCH" ] && cached && exit 0          # fetched again, but nothing new
build "$source" "$(key "$source")"
cached
