/* One call that fails: preloaded into a program, it counts the calls that change what lies below a folder, or
 * that go over a connection, by kind, and lets one of them fail or be the program's last.
 *
 *   write   write, writev, pwrite, pwritev, and every row of io_submit
 *   sync    fsync, fdatasync, syncfs
 *   rename, link, unlink (and rmdir), mkdir, create (open with O_CREAT), truncate (and ftruncate), chmod
 *   send, receive   what goes over a TCP connection of any address
 *   log     write to standard error, wherever that leads: what the program says
 *
 * A program that was begun with it names the call in FAULT_UNDER, FAULT_KIND, FAULT_AT (1 is the first),
 * FAULT_HOW and, where only paths count that hold a text, FAULT_NAMED; one that is split off from a program calls arm_fault. How: "EIO", "ENOSPC", "ECONNRESET" (the call
 * is not made), "before" and "after" (SIGKILL before or after it), "full" (from that one on no call of the kind is
 * made while there is a file named "full" in the folder); anything else only counts. With FAULT_LOG
 * every call that counts is noted there: its kind and what it was made on. While the file FAULT_FULL_WHILE
 * exists the disk is full: whatever would take more of it fails with ENOSPC.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char during[4096], full[4200], under[4096], named[256], kind[16], how[16], log_path[4096];
static long at;
static atomic_long seen;
static atomic_int armed;

void arm_fault(const char *folder, const char *in_path, const char *of_kind, long number, const char *failing,
               const char *note_in) {
    snprintf(under, sizeof under, "%s", folder);
    snprintf(named, sizeof named, "%s", in_path);
    snprintf(kind, sizeof kind, "%s", of_kind);
    snprintf(how, sizeof how, "%s", failing);
    snprintf(log_path, sizeof log_path, "%s", note_in);
    snprintf(full, sizeof full, "%s/full", folder);
    at = number;
    atomic_store(&seen, 0);
    atomic_store(&armed, 1);
}

__attribute__((constructor)) static void prepare(void) {
    const char *folder = getenv("FAULT_UNDER"), *number = getenv("FAULT_AT"), *of_kind = getenv("FAULT_KIND");
    const char *failing = getenv("FAULT_HOW"), *in_path = getenv("FAULT_NAMED"), *note_in = getenv("FAULT_LOG");
    const char *full_while = getenv("FAULT_FULL_WHILE");
    snprintf(during, sizeof during, "%s", full_while ? full_while : "");
    if (folder)
        arm_fault(folder, in_path ? in_path : "", of_kind ? of_kind : "", number ? atol(number) : 0,
                  failing ? failing : "", note_in ? note_in : "");
}

static void note(const char *of_kind, const char *what) {
    char line[5000];
    if (!log_path[0]) return;
    int length = snprintf(line, sizeof line, "%s %s\n", of_kind, what);
    int file = (int)syscall(SYS_openat, AT_FDCWD, log_path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (file < 0) return;
    syscall(SYS_write, file, line, (size_t)length);
    syscall(SYS_close, file);
}

static void die(void) {
    syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
    for (;;) syscall(SYS_pause);
}

static int fills(const char *of_kind) {
    return strcmp(of_kind, "write") == 0 || strcmp(of_kind, "create") == 0 || strcmp(of_kind, "mkdir") == 0;
}

/* Says whether the call is the one: 0 no, 1 it is not to be made (errno is set), 2 the program ends after it. */
static int strike(const char *of_kind, const char *what) {
    note(of_kind, what);
    if (during[0] && fills(of_kind) && syscall(SYS_access, during, F_OK) == 0) {
        errno = ENOSPC;
        return 1;
    }
    if (strcmp(of_kind, kind) != 0 || !strstr(what, named)) return 0;
    long number = atomic_fetch_add(&seen, 1) + 1;
    if (strcmp(how, "full") == 0 && number >= at && syscall(SYS_access, full, F_OK) == 0) {
        errno = ENOSPC;
        return 1;
    }
    if (number != at) return 0;
    if (strcmp(how, "before") == 0) die();
    if (strcmp(how, "after") == 0) return 2;
    errno = strcmp(how, "EIO") == 0          ? EIO
            : strcmp(how, "ENOSPC") == 0     ? ENOSPC
            : strcmp(how, "ECONNRESET") == 0 ? ECONNRESET
                                             : 0;
    return errno != 0;
}

static int below(const char *path) {
    size_t length = strlen(under);
    return strncmp(path, under, length) == 0 && (path[length] == '/' || path[length] == 0);
}

/* The whole path of one that is relative to a folder; says whether it lies below. */
static int whole(int folder, const char *path, char *full, size_t size) {
    char link[64];
    if (path[0] == '/') {
        snprintf(full, size, "%s", path);
        return below(full);
    }
    if (folder == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
    else snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    ssize_t length = syscall(SYS_readlink, link, full, size - 1);
    if (length < 0) return 0;
    snprintf(full + length, size - (size_t)length, "/%s", path);
    return below(full);
}

static int by_path(const char *of_kind, int folder, const char *path) {
    char full[8192];
    if (!atomic_load(&armed) || !path || !whole(folder, path, full, sizeof full)) return 0;
    return strike(of_kind, full);
}

static int by_descriptor(const char *of_kind, int descriptor) {
    char link[32], path[4096];
    if (!atomic_load(&armed)) return 0;
    if (descriptor == STDERR_FILENO && strcmp(of_kind, "write") == 0) return strike("log", "");
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = syscall(SYS_readlink, link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return below(path) ? strike(of_kind, path) : 0;
}

static int by_socket(const char *of_kind, int descriptor) {
    int domain = 0, type = 0;
    socklen_t size = sizeof domain;
    if (!atomic_load(&armed)) return 0;
    if (getsockopt(descriptor, SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0) return 0;
    size = sizeof type;
    if (getsockopt(descriptor, SOL_SOCKET, SO_TYPE, &type, &size) != 0) return 0;
    if ((domain != AF_INET && domain != AF_INET6) || type != SOCK_STREAM) return 0;
    return strike(of_kind, "");
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define WRAPPED(type, name, parameters, struck, ...)                                                                   \
    type name parameters {                                                                                             \
        static __typeof__(&name) next;                                                                                 \
        if (!next) next = NEXT(name);                                                                                  \
        int fate = struck;                                                                                             \
        if (fate == 1) return -1;                                                                                      \
        type result = next(__VA_ARGS__);                                                                               \
        if (fate == 2) die();                                                                                          \
        return result;                                                                                                 \
    }

WRAPPED(ssize_t, write, (int file, const void *from, size_t count), by_descriptor("write", file), file, from, count)
WRAPPED(ssize_t, writev, (int file, const struct iovec *from, int count), by_descriptor("write", file), file, from,
        count)
WRAPPED(ssize_t, pwrite, (int file, const void *from, size_t count, off_t to), by_descriptor("write", file), file, from,
        count, to)
WRAPPED(ssize_t, pwrite64, (int file, const void *from, size_t count, off64_t to), by_descriptor("write", file), file,
        from, count, to)
WRAPPED(ssize_t, pwritev, (int file, const struct iovec *from, int count, off_t to), by_descriptor("write", file), file,
        from, count, to)
WRAPPED(ssize_t, pwritev64, (int file, const struct iovec *from, int count, off64_t to), by_descriptor("write", file),
        file, from, count, to)
WRAPPED(ssize_t, pwritev64v2, (int file, const struct iovec *from, int count, off64_t to, int flags),
        by_descriptor("write", file), file, from, count, to, flags)
WRAPPED(int, fsync, (int file), by_descriptor("sync", file), file)
WRAPPED(int, fdatasync, (int file), by_descriptor("sync", file), file)
WRAPPED(int, syncfs, (int file), by_descriptor("sync", file), file)
WRAPPED(int, ftruncate, (int file, off_t size), by_descriptor("truncate", file), file, size)
WRAPPED(int, ftruncate64, (int file, off64_t size), by_descriptor("truncate", file), file, size)
WRAPPED(int, truncate, (const char *path, off_t size), by_path("truncate", AT_FDCWD, path), path, size)
WRAPPED(int, rename, (const char *path, const char *to), by_path("rename", AT_FDCWD, path), path, to)
WRAPPED(int, renameat, (int old, const char *path, int fresh, const char *to), by_path("rename", old, path), old, path,
        fresh, to)
WRAPPED(int, renameat2, (int old, const char *path, int fresh, const char *to, unsigned flags),
        by_path("rename", old, path), old, path, fresh, to, flags)
WRAPPED(int, link, (const char *path, const char *to), by_path("link", AT_FDCWD, to), path, to)
WRAPPED(int, linkat, (int old, const char *path, int fresh, const char *to, int flags), by_path("link", fresh, to), old,
        path, fresh, to, flags)
WRAPPED(int, unlink, (const char *path), by_path("unlink", AT_FDCWD, path), path)
WRAPPED(int, unlinkat, (int folder, const char *path, int flags), by_path("unlink", folder, path), folder, path, flags)
WRAPPED(int, rmdir, (const char *path), by_path("unlink", AT_FDCWD, path), path)
WRAPPED(int, mkdir, (const char *path, mode_t mode), by_path("mkdir", AT_FDCWD, path), path, mode)
WRAPPED(int, mkdirat, (int folder, const char *path, mode_t mode), by_path("mkdir", folder, path), folder, path, mode)
WRAPPED(int, chmod, (const char *path, mode_t mode), by_path("chmod", AT_FDCWD, path), path, mode)
WRAPPED(int, fchmodat, (int folder, const char *path, mode_t mode, int flags), by_path("chmod", folder, path), folder,
        path, mode, flags)
WRAPPED(ssize_t, send, (int file, const void *from, size_t count, int flags), by_socket("send", file), file, from,
        count, flags)
WRAPPED(ssize_t, sendmsg, (int file, const struct msghdr *message, int flags), by_socket("send", file), file, message,
        flags)
WRAPPED(ssize_t, recv, (int file, void *into, size_t count, int flags), by_socket("receive", file), file, into, count,
        flags)

#define OPENING(name)                                                                                                  \
    int name(const char *path, int flags, ...) {                                                                       \
        static __typeof__(&name) next;                                                                                 \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;                                        \
        va_end(rest);                                                                                                  \
        if (!next) next = NEXT(name);                                                                                  \
        int fate = flags & O_CREAT ? by_path("create", AT_FDCWD, path) : 0;                                            \
        if (fate == 1) return -1;                                                                                      \
        int result = next(path, flags, mode);                                                                          \
        if (fate == 2) die();                                                                                          \
        return result;                                                                                                 \
    }
#define OPENING_AT(name)                                                                                               \
    int name(int folder, const char *path, int flags, ...) {                                                           \
        static __typeof__(&name) next;                                                                                 \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;                                        \
        va_end(rest);                                                                                                  \
        if (!next) next = NEXT(name);                                                                                  \
        int fate = flags & O_CREAT ? by_path("create", folder, path) : 0;                                              \
        if (fate == 1) return -1;                                                                                      \
        int result = next(folder, path, flags, mode);                                                                  \
        if (fate == 2) die();                                                                                          \
        return result;                                                                                                 \
    }
OPENING(open)
OPENING(open64)
OPENING_AT(openat)
OPENING_AT(openat64)

/* Writes to many files at once, for which the C library has no function. */
long syscall(long number, ...) {
    static long (*next)(long, ...);
    long with[6];
    va_list rest;
    va_start(rest, number);
    for (int row = 0; row < 6; row++) with[row] = va_arg(rest, long);
    va_end(rest);
    if (!next) next = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    int fate = 0;
    if (number == SYS_io_submit)
        for (long row = 0; row < with[1] && !fate; row++)
            fate = by_descriptor("write", (int)((struct iocb **)with[2])[row]->aio_fildes);
    if (fate == 1) return -1;
    long result = next(number, with[0], with[1], with[2], with[3], with[4], with[5]);
    if (fate == 2) die();
    return result;
}
