"""A disk that misbehaves: system calls of our code fail or do less, by a library loaded before libc."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int want(const char *name) { const char *text = getenv(name); return text ? atoi(text) : 0; }

ssize_t pwrite64(int fd, const void *from, size_t count, off64_t at) {
    static ssize_t (*real)(int, const void *, size_t, off64_t);
    static int calls;
    if (!real) real = (ssize_t (*)(int, const void *, size_t, off64_t))dlsym(RTLD_NEXT, "pwrite64");
    calls++;
    if (want("DISK_EIO_AT") && calls >= want("DISK_EIO_AT")) { errno = EIO; return -1; }
    if (want("DISK_NOTHING_AT") && calls >= want("DISK_NOTHING_AT")) return 0;
    if (want("DISK_AT_MOST") && count > (size_t)want("DISK_AT_MOST")) count = want("DISK_AT_MOST");
    return real(fd, from, count, at);
}
ssize_t pwrite(int fd, const void *from, size_t count, off_t at) { return pwrite64(fd, from, count, at); }

int fdatasync(int fd) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    if (want("DISK_NO_SYNC")) { errno = EIO; return -1; }
    int coming = want("DISK_SYNC_FAILS_IN"); /* this one only: 1 = the next */
    if (coming) {
        char rest[16];
        snprintf(rest, sizeof rest, "%d", coming - 1);
        setenv("DISK_SYNC_FAILS_IN", rest, 1);
        if (coming == 1) { errno = EIO; return -1; }
    }
    return real(fd);
}

int sync_file_range(int fd, off64_t at, off64_t count, unsigned flags) {
    static int (*real)(int, off64_t, off64_t, unsigned);
    if (!real) real = (int (*)(int, off64_t, off64_t, unsigned))dlsym(RTLD_NEXT, "sync_file_range");
    if (want("DISK_NOT_KEPT")) { errno = want("DISK_NOT_KEPT"); return -1; }
    return real(fd, at, count, flags);
}

int syncfs(int fd) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "syncfs");
    if (want("DISK_NO_SYNCFS")) { errno = want("DISK_NO_SYNCFS"); return -1; }
    return real(fd);
}
"""


def bad_disk(folder: Path) -> Path:
    """Build the library that ``run_on`` loads."""
    source, library = folder / "disk.c", folder / "disk.so"
    source.write_text(_SOURCE)
    command = ["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return library


def run_on(library: Path, script: str, *, folder: Path, **faults: int) -> str:
    """Run Python code in ``folder`` with faults (the library's variables) and return what it prints."""
    root = Path(__file__).parents[2]
    environment = os.environ | {name: str(value) for name, value in faults.items()}
    environment |= {"LD_PRELOAD": str(library), "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", script]
    ended = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    return ended.stdout.strip()
