/* A disk that stands still: preloaded into a program, it holds every call that touches a file below
 * STALL_UNDER for as long as the file STALL_WHILE exists, as a disk does that does not answer. What was
 * held, and for how many milliseconds, is appended to STALL_LOG.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static const char *under, *during, *log_path;
static size_t under_length;

__attribute__((constructor)) static void prepare(void) {
    under = getenv("STALL_UNDER");
    during = getenv("STALL_WHILE");
    log_path = getenv("STALL_LOG");
    under_length = under ? strlen(under) : 0;
}

static int stalls(void) { return under && during && syscall(SYS_access, during, F_OK) == 0; }

static long now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void hold(const char *call) {
    char line[64];
    long began = now_ms();
    while (stalls()) usleep(5000);
    int length = snprintf(line, sizeof line, "%s %ld\n", call, now_ms() - began);
    int log = log_path ? (int)syscall(SYS_openat, AT_FDCWD, log_path, O_WRONLY | O_CREAT | O_APPEND, 0600) : -1;
    if (log >= 0) {
        syscall(SYS_write, log, line, (size_t)length);
        syscall(SYS_close, log);
    }
}

static void at_path(const char *call, const char *path) {
    if (stalls() && strncmp(path, under, under_length) == 0) hold(call);
}

static void at_descriptor(const char *call, int descriptor) {
    char link[32], path[4096];
    if (!stalls()) return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = syscall(SYS_readlink, link, path, sizeof path - 1);
    if (length < 0) return;
    path[length] = 0;
    at_path(call, path);
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define BY_DESCRIPTOR(type, name, parameters, ...)                                                                     \
    type name parameters {                                                                                             \
        static __typeof__(&name) next;                                                                                 \
        if (!next) next = NEXT(name);                                                                                  \
        at_descriptor(#name, descriptor);                                                                              \
        return next(__VA_ARGS__);                                                                                      \
    }
#define BY_PATH(type, name, parameters, ...)                                                                           \
    type name parameters {                                                                                             \
        static __typeof__(&name) next;                                                                                 \
        if (!next) next = NEXT(name);                                                                                  \
        at_path(#name, path);                                                                                          \
        return next(__VA_ARGS__);                                                                                      \
    }
#define OPENING(name)                                                                                                  \
    int name(const char *path, int flags, ...) {                                                                       \
        static __typeof__(&name) next;                                                                                 \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;                                        \
        va_end(rest);                                                                                                  \
        if (!next) next = NEXT(name);                                                                                  \
        at_path(#name, path);                                                                                          \
        return next(path, flags, mode);                                                                                \
    }

BY_DESCRIPTOR(ssize_t, write, (int descriptor, const void *from, size_t count), descriptor, from, count)
BY_DESCRIPTOR(ssize_t, pwrite, (int descriptor, const void *from, size_t count, off_t at), descriptor, from, count, at)
BY_DESCRIPTOR(ssize_t, pwrite64, (int descriptor, const void *from, size_t count, off64_t at), descriptor, from, count,
              at)
BY_DESCRIPTOR(ssize_t, writev, (int descriptor, const struct iovec *from, int count), descriptor, from, count)
BY_DESCRIPTOR(ssize_t, pwritev, (int descriptor, const struct iovec *from, int count, off_t at), descriptor, from,
              count, at)
BY_DESCRIPTOR(ssize_t, pwritev64, (int descriptor, const struct iovec *from, int count, off64_t at), descriptor, from,
              count, at)
BY_DESCRIPTOR(ssize_t, pwritev64v2, (int descriptor, const struct iovec *from, int count, off64_t at, int flags),
              descriptor, from, count, at, flags)
BY_DESCRIPTOR(ssize_t, read, (int descriptor, void *into, size_t count), descriptor, into, count)
BY_DESCRIPTOR(ssize_t, pread, (int descriptor, void *into, size_t count, off_t at), descriptor, into, count, at)
BY_DESCRIPTOR(ssize_t, pread64, (int descriptor, void *into, size_t count, off64_t at), descriptor, into, count, at)
BY_DESCRIPTOR(int, fsync, (int descriptor), descriptor)
BY_DESCRIPTOR(int, fdatasync, (int descriptor), descriptor)
BY_DESCRIPTOR(int, syncfs, (int descriptor), descriptor)
BY_DESCRIPTOR(int, sync_file_range, (int descriptor, off64_t at, off64_t count, unsigned flags), descriptor, at, count,
              flags)
BY_DESCRIPTOR(int, ftruncate, (int descriptor, off_t size), descriptor, size)
BY_DESCRIPTOR(int, ftruncate64, (int descriptor, off64_t size), descriptor, size)
BY_DESCRIPTOR(int, fallocate, (int descriptor, int mode, off_t at, off_t size), descriptor, mode, at, size)
BY_DESCRIPTOR(int, posix_fallocate, (int descriptor, off_t at, off_t size), descriptor, at, size)
BY_PATH(int, rename, (const char *path, const char *to), path, to)
BY_PATH(int, link, (const char *path, const char *to), path, to)
BY_PATH(int, unlink, (const char *path), path)
BY_PATH(int, rmdir, (const char *path), path)
BY_PATH(int, mkdir, (const char *path, mode_t mode), path, mode)
/* Writes to many files at once, for which the C library has no function. */
long syscall(long number, ...) {
    static long (*next)(long, ...);
    long with[6];
    va_list rest;
    va_start(rest, number);
    for (int at = 0; at < 6; at++) with[at] = va_arg(rest, long);
    va_end(rest);
    if (!next) next = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    if (number == SYS_io_submit)
        for (long at = 0; at < with[1]; at++)
            at_descriptor("io_submit", (int)((struct iocb **)with[2])[at]->aio_fildes);
    return next(number, with[0], with[1], with[2], with[3], with[4], with[5]);
}
OPENING(open)
OPENING(open64)
