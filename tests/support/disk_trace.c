/* Everything that a program does to the disk below a folder, noted in order with its octets: preloaded into a
 * program, whoever makes the calls, SQLite too. What a power cut may leave of it ``lost_disk`` makes of the note.
 *
 * arm_trace(folder, note) begins. A call and its note are one step: no other call comes between, also none of
 * another program with the same note. A row: kind, inode, offset or size, the sizes of two paths and of the
 * octets, and these.
 *   C create   T truncate   W write   N rename   U unlink   D mkdir   R rmdir   S sync of a file
 *   d sync of a folder   F sync of everything   X a call that is not known here
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define PATH 4096

struct row {
    uint64_t kind, inode;
    int64_t place;
    uint32_t path, other, octets, unused;
};

static char under[PATH];
static int out = -1;
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static __thread int within;

void arm_trace(const char *folder, const char *note_in) {
    snprintf(under, sizeof under, "%s", folder);
    out = (int)syscall(SYS_openat, AT_FDCWD, note_in, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static void note(char kind, uint64_t inode, int64_t place, const char *path, const char *other, const void *octets,
                 size_t count) {
    struct row row = {(uint64_t)kind, inode, place, (uint32_t)strlen(path), (uint32_t)strlen(other), (uint32_t)count, 0};
    struct iovec parts[] = {{&row, sizeof row}, {(void *)path, row.path}, {(void *)other, row.other},
                            {(void *)octets, count}};
    syscall(SYS_writev, out, parts, 4); /* to the end, in one go */
}

static int below(const char *path) {
    size_t length = strlen(under);
    return strncmp(path, under, length) == 0 && (path[length] == '/' || path[length] == 0);
}

static int whole(int folder, const char *path, char *full) {
    char link[64];
    if (path[0] == '/') {
        snprintf(full, PATH, "%s", path);
        return below(full);
    }
    if (folder == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
    else snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    ssize_t length = syscall(SYS_readlink, link, full, PATH - 1);
    if (length < 0) return 0;
    snprintf(full + length, PATH - (size_t)length, "/%s", path);
    return below(full);
}

/* The path behind a descriptor; says whether it lies below. */
static int behind(int descriptor, char *path, struct stat *state) {
    char link[64];
    if (out < 0 || within) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = syscall(SYS_readlink, link, path, PATH - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return below(path) && fstat(descriptor, state) == 0;
}

static void enter(void) {
    pthread_mutex_lock(&turn);
    flock(out, LOCK_EX); /* the other programs of this note */
    within = 1;
}

static void leave(void) {
    within = 0;
    flock(out, LOCK_UN);
    pthread_mutex_unlock(&turn);
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* A call by descriptor; DONE notes it, with `result`, `path` and `state` at hand. */
#define BY_DESCRIPTOR(type, name, parameters, done, file, ...)                                                         \
    type name parameters {                                                                                             \
        static __typeof__(&name) next;                                                                                 \
        char path[PATH];                                                                                               \
        struct stat state;                                                                                             \
        if (!next) next = NEXT(name);                                                                                  \
        if (!behind(file, path, &state)) return next(__VA_ARGS__);                                                     \
        enter();                                                                                                       \
        type result = next(__VA_ARGS__);                                                                               \
        if (result >= 0) { done; }                                                                                     \
        leave();                                                                                                       \
        return result;                                                                                                 \
    }

BY_DESCRIPTOR(ssize_t, write, (int file, const void *from, size_t count),
              note('W', state.st_ino, lseek(file, 0, SEEK_CUR) - result, path, "", from, (size_t)result), file, file,
              from, count)
BY_DESCRIPTOR(ssize_t, pwrite, (int file, const void *from, size_t count, off_t to),
              note('W', state.st_ino, to, path, "", from, (size_t)result), file, file, from, count, to)
BY_DESCRIPTOR(ssize_t, pwrite64, (int file, const void *from, size_t count, off64_t to),
              note('W', state.st_ino, to, path, "", from, (size_t)result), file, file, from, count, to)
BY_DESCRIPTOR(ssize_t, writev, (int file, const struct iovec *from, int count),
              note('X', state.st_ino, 0, path, "writev", "", 0), file, file, from, count)
BY_DESCRIPTOR(ssize_t, pwritev, (int file, const struct iovec *from, int count, off_t to),
              note('X', state.st_ino, 0, path, "pwritev", "", 0), file, file, from, count, to)
BY_DESCRIPTOR(ssize_t, pwritev64, (int file, const struct iovec *from, int count, off64_t to),
              note('X', state.st_ino, 0, path, "pwritev64", "", 0), file, file, from, count, to)
BY_DESCRIPTOR(int, ftruncate, (int file, off_t size), note('T', state.st_ino, size, path, "", "", 0), file, file, size)
BY_DESCRIPTOR(int, ftruncate64, (int file, off64_t size), note('T', state.st_ino, size, path, "", "", 0), file, file,
              size)
BY_DESCRIPTOR(int, fallocate, (int file, int mode, off_t from, off_t size),
              note('X', state.st_ino, 0, path, "fallocate", "", 0), file, file, mode, from, size)
BY_DESCRIPTOR(int, posix_fallocate, (int file, off_t from, off_t size),
              note('X', state.st_ino, 0, path, "posix_fallocate", "", 0), file, file, from, size)
BY_DESCRIPTOR(int, fsync, (int file), note(S_ISDIR(state.st_mode) ? 'd' : 'S', state.st_ino, 0, path, "", "", 0), file,
              file)
BY_DESCRIPTOR(int, fdatasync, (int file), note(S_ISDIR(state.st_mode) ? 'd' : 'S', state.st_ino, 0, path, "", "", 0),
              file, file)
BY_DESCRIPTOR(int, syncfs, (int file), note('F', state.st_ino, 0, path, "", "", 0), file, file)

/* A call by path. */
#define BY_PATH(name, parameters, folder, from, to_folder, to, kind, ...)                                              \
    int name parameters {                                                                                              \
        static __typeof__(&name) next;                                                                                 \
        char path[PATH], other[PATH] = "";                                                                             \
        if (!next) next = NEXT(name);                                                                                  \
        if (out < 0 || within || !whole(folder, from, path)) return next(__VA_ARGS__);                                 \
        const char *target = to;                                                                                       \
        if (target) whole(to_folder, target, other);                                                                   \
        enter();                                                                                                       \
        int result = next(__VA_ARGS__);                                                                                \
        if (result == 0) note(kind, 0, 0, path, other, "", 0);                                                         \
        leave();                                                                                                       \
        return result;                                                                                                 \
    }

BY_PATH(rename, (const char *path_, const char *to_), AT_FDCWD, path_, AT_FDCWD, to_, 'N', path_, to_)
BY_PATH(renameat, (int old_, const char *path_, int new_, const char *to_), old_, path_, new_, to_, 'N', old_, path_,
        new_, to_)
BY_PATH(unlink, (const char *path_), AT_FDCWD, path_, 0, NULL, 'U', path_)
BY_PATH(unlinkat, (int folder_, const char *path_, int flags_), folder_, path_, 0, NULL,
        (flags_ & AT_REMOVEDIR) ? 'R' : 'U', folder_, path_, flags_)
BY_PATH(rmdir, (const char *path_), AT_FDCWD, path_, 0, NULL, 'R', path_)
BY_PATH(mkdir, (const char *path_, mode_t mode_), AT_FDCWD, path_, 0, NULL, 'D', path_, mode_)
BY_PATH(mkdirat, (int folder_, const char *path_, mode_t mode_), folder_, path_, 0, NULL, 'D', folder_, path_, mode_)
BY_PATH(link, (const char *path_, const char *to_), AT_FDCWD, path_, AT_FDCWD, to_, 'X', path_, to_)
BY_PATH(truncate, (const char *path_, off_t size_), AT_FDCWD, path_, 0, NULL, 'X', path_, size_)

static int opened(int folder, const char *path, int flags, mode_t mode, int (*next)(int, const char *, int, mode_t)) {
    char full[PATH];
    struct stat state;
    if (out < 0 || within || !(flags & (O_CREAT | O_TRUNC)) || !whole(folder, path, full))
        return next(folder, path, flags, mode);
    enter();
    int existed = syscall(SYS_faccessat, AT_FDCWD, full, F_OK) == 0;
    int result = next(folder, path, flags, mode);
    if (result >= 0 && fstat(result, &state) == 0) {
        if (!existed) note('C', state.st_ino, 0, full, "", "", 0);
        else if (flags & O_TRUNC) note('T', state.st_ino, 0, full, "", "", 0);
    }
    leave();
    return result;
}

static int plainly(int folder, const char *path, int flags, mode_t mode) {
    static int (*next)(int, const char *, int, ...);
    if (!next) next = (int (*)(int, const char *, int, ...))dlsym(RTLD_NEXT, "openat");
    return next(folder, path, flags, mode);
}

#define OPENING(name, parameters, folder)                                                                              \
    int name parameters {                                                                                              \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;                                        \
        va_end(rest);                                                                                                  \
        return opened(folder, path, flags, mode, plainly);                                                             \
    }
OPENING(open, (const char *path, int flags, ...), AT_FDCWD)
OPENING(open64, (const char *path, int flags, ...), AT_FDCWD)
OPENING(openat, (int folder, const char *path, int flags, ...), folder)
OPENING(openat64, (int folder, const char *path, int flags, ...), folder)
