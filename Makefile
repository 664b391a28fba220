# `make help` lists what there is. Nothing here needs an absolute path; the
# wheel of pjsua2 and the test exchange are cached in $(CACHE).
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.NOTPARALLEL:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The system's own Python before another that stands earlier in PATH: its updates come with the system's, and
# it is compiled with profile-guided optimisation, which spares a recorder a tenth of its processor time.
ifndef PYTHON
PYTHON := $(shell for python in "$$(command -pv python3)" python3; do \
  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$python"; exit; }; \
  done; echo python3)
endif
export PYTHON
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/recorderd
BIN := .venv/bin
PROGRAMS := recorderd recorderd-flush recorder-archive recorderctl

# Debian packages, each with its reason; shown when one is missing.
define PACKAGES
build-essential: compiles PJSIP and systemd-python
swig: generates the Python binding of PJSIP
pkg-config: tells the compilers where the libraries are
python3-venv: the virtual environment, when Debian's own Python is used
python3-dev: headers for extensions, when Debian's own Python is used
patch: applies our changes to PJSIP
xz-utils: unpacks the sources of PJSIP
debian-archive-keyring: verifies the sources of PJSIP
ca-certificates: verifies package indexes reached by TLS
libssl-dev: SIP over TLS in PJSIP
libsrtp2-dev: SRTP in PJSIP
libspeex-dev: codec Speex in PJSIP
libspeexdsp-dev: resampler in PJSIP
libgsm1-dev: codec GSM in PJSIP
libopus-dev: codec Opus in PJSIP
libbcg729-dev: codec G.729 in PJSIP
libsystemd-dev: journal, readiness, watchdog (systemd-python)
libsndfile1: judges WAV files independently of our own code (soundfile)
espeak-ng: speaks the announcements
openssl: verifies signatures independently of our own code
gpg: encrypts to OpenPGP recipients
endef
define TEST_PACKAGES
sip-tester: SIPp, an independent SIP client
sox: judges WAV files independently of our own code
libimage-exiftool-perl: reads names and times in WAV files independently of our own code
softhsm2: a token with keys that cannot be exported
opensc: looks into that token independently of our own code
systemd: runs our units for real, in a namespace of the test
gpg-agent: holds the private keys of the tests' OpenPGP recipients
procps: finds the processes of a test
util-linux: namespaces for the test of the units
mount: a small file system that a test fills
e2fsprogs: one of a disk whose power can go
tcpdump: writes the same packets beside recorderd, the lower bound of the bench
nut-server: upsd and its dummy driver, the UPS of the tests
libnss3-tools: makes the certificates of that upsd
postgresql: the catalogue's other database, a server of the tests' own
openssh-server: a customer's own SFTP server
ceph-mon: the tests' own S3 server, its monitor
ceph-osd: where that keeps its objects
radosgw: what speaks S3 there
ceph-common: sets it up
rsync: what the flush's throughput is measured against
zsh: completes our commands as its users have it
asterisk-core-sounds-en-wav: a woman's speech, in which no key may be found
asterisk-core-sounds-it-wav: a man's
endef
export PACKAGES TEST_PACKAGES

# $(call install-packages,VARIABLE): what dpkg does not have, with apt when we may.
define install-packages
command -v dpkg-query >/dev/null || { echo '==> packages: no dpkg here; see the list in the Makefile'; exit 1; }
all=$$(cut -d: -f1 <<< "$$$(1)")
have=$$(dpkg-query -W -f '$${db:Status-Status} $${Package}\n' $$all 2>/dev/null | sed -n 's/^installed //p' || true)
missing=$$(grep -vxF -f <(echo "$$have") <<< "$$all" || true)
[ -n "$$missing" ] || { echo "==> packages: all $$(wc -w <<< "$$all") there"; exit 0; }
echo '==> packages: missing'
for p in $$missing; do grep "^$$p:" <<< "$$$(1)" | sed 's/^/      /'; done
command="apt-get install -y --no-install-recommends $$(echo $$missing)"
if [ "$$(id -u)" = 0 ]; then as=(); elif sudo -n true 2>/dev/null; then as=(sudo -n)
else echo "==> packages: no right to install them; run:  sudo $$command"; exit 1; fi
log=$$(mktemp); trap 'rm -f "$$log"' EXIT
run() { "$${as[@]}" env DEBIAN_FRONTEND=noninteractive "$$@" -o DPkg::Lock::Timeout=300 >"$$log" 2>&1 </dev/null; }
echo "==> packages: $$command"
run $$command || { echo '==> packages: apt-get update'; run apt-get update && run $$command; } ||
  { tail -n 20 "$$log"; echo "==> packages: failed; try:  $$command"; exit 1; }
echo "==> packages: installed in $$SECONDS s"
endef

.PHONY: help
help: ## this list
	@echo 'make TARGET [PYTHON=/path/to/python3]'
	sed -n 's/^\([a-z0-9-]*\):[^#]*## \(.*\)/  \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 24

.PHONY: setup-packages setup-test-packages
setup-packages: ## install the Debian packages to build and run
	@$(call install-packages,PACKAGES)
setup-test-packages: ## install the Debian packages that only tests need
	@$(call install-packages,TEST_PACKAGES)

.PHONY: python
python:
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
	{ echo "==> python: $(PYTHON) is $$("$(PYTHON)" -V 2>&1 || true); 3.11 or later is needed: make PYTHON=/path/to/python3"; exit 1; }

.PHONY: pjsua2
pjsua2: python ## build the wheel of pjsua2, or find it in the cache
	@wheel=$$(config/pjsua2/build.sh | tail -n1)
	echo "==> pjsua2: $$wheel"

# Generated, so not among the sources; the program finds them by the interpreter's prefix.
SPEAK := $(BIN)/python -m recorderd.app.prompts build --texts config/prompts .venv/share/recorderd/prompts
.PHONY: prompts
prompts: ## speak the announcements into .venv, or find that they are there
	@$(SPEAK)

# What shells complete our commands by; a wheel holds it too, an editable install does not.
COMPLETE := install -D -m 644 -t .venv/share/bash-completion/completions config/completion/bash/* && \
  install -D -m 644 -t .venv/share/zsh/site-functions config/completion/zsh/*

# The stamp names what was installed; it is written last, so a broken install is done again.
.PHONY: install
install: setup-packages python ## everything into ./.venv
	@wheel=$$(config/pjsua2/build.sh | tail -n1)
	python=$$("$(PYTHON)" -c 'import sys; print(sys.version.split()[0], sys.base_prefix)')
	venv="$$python $$PWD"
	key="$$venv $$wheel $$(sha256sum < pyproject.toml | cut -c1-16)"
	if [ "$$(cat .venv/.installed 2>/dev/null)" = "$$key" ]; then echo '==> install: nothing to do'; $(SPEAK); $(COMPLETE); exit 0; fi
	rm -f .venv/.installed .venv/.installed-test
	if [ "$$(cat .venv/.python 2>/dev/null)" != "$$venv" ] || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then
	  echo "==> install: .venv with Python $${python%% *}"
	  rm -rf .venv
	  "$(PYTHON)" -m venv .venv
	  echo "$$venv" > .venv/.python
	fi
	echo '==> install: pjsua2, recorderd and what it needs'
	pip="$(BIN)/python -m pip --disable-pip-version-check install -qq --no-input"
	$$pip --force-reinstall --no-deps "$$wheel"
	$$pip --use-pep517 -e .
	for p in $(PROGRAMS); do [ -x $(BIN)/$$p ] || { echo "==> install: $(BIN)/$$p is missing"; exit 1; }; done
	$(BIN)/python -c 'import pjsua2'
	$(SPEAK)
	$(COMPLETE)
	echo "$$key" > .venv/.installed.new && mv .venv/.installed.new .venv/.installed
	echo "==> install: done in $$SECONDS s"

.PHONY: install-test
install-test: install ## the same, and the tools for tests
	@if cmp -s .venv/.installed .venv/.installed-test; then echo '==> install-test: nothing to do'; exit 0; fi
	echo '==> install-test: test tools'
	$(BIN)/python -m pip --disable-pip-version-check install -qq --no-input --use-pep517 -e '.[test]'
	cp .venv/.installed .venv/.installed-test.new && mv .venv/.installed-test.new .venv/.installed-test
	echo "==> install-test: done in $$SECONDS s"

.PHONY: demo
demo: install ## record a call and follow it to the archive
	@$(BIN)/python -m tests.support.demo

.PHONY: lint
lint: install-test ## ruff, mypy, the rooms
	@echo '==> lint: ruff'
	$(BIN)/ruff check .
	echo '==> lint: mypy'
	$(BIN)/mypy
	echo '==> lint: rooms'
	log=$$(mktemp); trap 'rm -f "$$log"' EXIT
	$(BIN)/lint-imports >"$$log" 2>&1 || { cat "$$log"; exit 1; }
	tail -n1 <(sed '/^$$/d' "$$log")

.PHONY: exchange
exchange:
	@echo '==> exchange: a telephone exchange for the tests'
	tests/support/exchange/exchange.sh setup "$(CACHE)/exchange"

.PHONY: apcupsd
apcupsd:
	@echo '==> apcupsd: a second program that knows of UPSes'
	tests/support/apcupsd.sh "$(CACHE)/apcupsd"

.PHONY: test
test: setup-packages setup-test-packages install-test lint exchange apcupsd ## all set-up, lint and tests
	@echo '==> test: pytest'
	$(BIN)/python -m compileall -q recorderd dsp tests  # once, not by each of a thousand programs
	$(BIN)/python -m pytest -n 3 tests/unit tests/property
	$(BIN)/python -m pytest -n 4 --own-network tests/integration tests/contract tests/interop tests/fault

.PHONY: test-s3
test-s3: setup-packages setup-test-packages install-test ## the store against a real S3 server with Object Lock
	@echo '==> test-s3: pytest'
	$(BIN)/python -m pytest -n 3 --object-store tests/contract/test_published.py tests/contract/test_published_archive.py tests/contract/test_scrub.py tests/contract/test_mirror.py tests/contract/test_retention.py tests/contract/test_erasers_at_once.py tests/contract/test_front_ends.py tests/contract/test_whole_life.py tests/object_store --timeout=300

.PHONY: bench soak fuzz
bench: setup-packages setup-test-packages install-test exchange ## measure for 25 minutes; nothing else should run; with PROFILE=1 by function
	@$(BIN)/python -m pytest tests/bench -m "not soak" -s --timeout=3600 $(if $(PROFILE),--profile)
soak: setup-packages setup-test-packages install-test exchange ## run for two hours, every sample compared
	@$(BIN)/python -m pytest tests/bench -m soak -s --timeout=0
	RECORDERD_SCHEMA_EXAMPLES=300 $(BIN)/python -m pytest tests/integration/test_web_schema.py --timeout=0
	FAULT_ALL=1 $(BIN)/python -m pytest tests/fault/test_failing_recorder.py tests/fault/test_failing_delivery.py tests/fault/test_failing_recovery.py tests/fault/test_killed_transitions.py tests/fault/test_killed_calls.py tests/fault/test_kill_erasure.py tests/fault/test_kill_mirror.py -s --timeout=0
	POWER_CUTS=500 POWER_FAULTS=200 $(BIN)/python -m pytest tests/fault/test_power_cut.py tests/fault/test_power_cut_delivery.py -s --timeout=0
	POWER_CUTS=2000 $(BIN)/python -m pytest tests/fault/test_power_cut_tail.py -s --timeout=0
	STALL_CALLS=1000 $(BIN)/python -m pytest tests/fault/test_stalled_recorder.py -s --timeout=0
	BENCH_CALLS=1000 BENCH_SECONDS=300 $(BIN)/python -m pytest tests/bench/test_many_calls.py -s --timeout=0
	BENCH_CALLS=50 BENCH_SECONDS=1800 $(BIN)/python -m pytest tests/bench/test_many_calls.py -s --timeout=0
fuzz: install-test ## search for inputs that break an invariant
	@$(BIN)/python -m pytest tests/property --hypothesis-profile=fuzz --timeout=0
	$(BIN)/python -m pytest tests/fuzz -s --timeout=0

.PHONY: clean distclean
clean: ## remove what was generated here (never the cache)
	@rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -path ./.venv -prune -o -path ./.git -prune -o -type d -name __pycache__ -exec rm -rf {} +
distclean: clean ## and ./.venv
	@rm -rf .venv
