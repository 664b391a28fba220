#!/bin/bash
# apcupsd.sh CACHE: unpack the real apcupsd under CACHE/root (does nothing if done).
# Its package cannot be installed beside nut's, so it is only unpacked, with the one library that it needs.
set -euo pipefail
[ -n "${1:-}" ] || { echo 'usage: apcupsd.sh CACHE' >&2; exit 2; }
mkdir -p "$1/deb"
cd "$1"
[ ! -x root/sbin/apcupsd ] || exit 0
rm -rf root.new deb/*.deb
(cd deb && apt-get -qq -o APT::Sandbox::User=root download apcupsd libusb-0.1-4) ||
  { echo 'apcupsd: cannot be downloaded; is apt configured, and its index fresh (apt-get update)?' >&2; exit 1; }
for package in deb/*.deb; do dpkg-deb -x "$package" root.new; done
mv root.new root
