/* Stands between a process and the C library (LD_PRELOAD), for files below one folder and for SQLite's allocations:
 * counts what is asked for, fails the n-th request or all from there on, and writes down what reaches the disk.
 *
 * SQLite and Python both go through it, so the same shim breaks the database and the bundle file. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

enum { WRITE = 1, SYNC = 2, OPEN = 4, TRUNCATE = 8, UNLINK = 16, RENAME = 32, READ = 64, MALLOC = 128 };

extern void *__libc_malloc(size_t);
extern void *__libc_realloc(void *, size_t);

static char root[4096];
static size_t root_length;
static int armed, lasting, error_number, is_short, trace = -1, pending_fd = -1;
static long countdown, counted;
static uintptr_t library_low, library_high;

void shim_root(const char *folder) {
    strncpy(root, folder, sizeof root - 1);
    root_length = strlen(root);
}

void shim_library(uintptr_t low, uintptr_t high) { library_low = low; library_high = high; }

void shim_arm(int kinds, long place, int error, int is_lasting, int tears) {
    counted = 0;
    countdown = place;
    error_number = error;
    lasting = is_lasting;
    is_short = tears;
    pending_fd = -1;
    armed = kinds;
}

long shim_disarm(void) { armed = 0; return counted; }

void shim_trace(int fd) { trace = fd; }

/* The n-th request of the armed kinds fails; those after it do if the fault lasts. */
static int fails(int kind) {
    if (!(armed & kind)) return 0;
    counted++;
    return countdown && (counted == countdown || (lasting && counted > countdown));
}

static int is_below(const char *path) {
    return root_length && strncmp(path, root, root_length) == 0 && (path[root_length] == '/' || !path[root_length]);
}

static int path_of(int fd, char *path, size_t room) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, room - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return is_below(path);
}

#define REAL(name) ({ static __typeof__(&name) real; if (!real) real = dlsym(RTLD_NEXT, #name); real; })

static void note(char type, const char *path, const char *other, int64_t offset, const void *bytes, size_t length) {
    if (trace < 0 || strstr(path, " (deleted)")) return;
    char head[10000];
    int size = snprintf(head, sizeof head, "%c\t%s\t%s\t%lld\t%zu\n", type, path, other, (long long)offset, length);
    ssize_t (*put)(int, const void *, size_t) = REAL(write);
    if (put(trace, head, size) < 0 || (length && put(trace, bytes, length) < 0)) abort();
}

#define BEFORE(kind, fd)                                      \
    char path[4096];                                          \
    if (!(armed || trace >= 0) || !path_of(fd, path, sizeof path)) path[0] = 0; \
    if (path[0] && fails(kind)) { errno = error_number; return -1; }

static ssize_t torn(int fd, size_t length) {
    if (pending_fd == fd) { pending_fd = -1; errno = error_number; return -1; }
    if (!is_short || length < 2) { errno = error_number; return -1; }
    pending_fd = lasting ? -1 : fd;
    return length / 2;
}

ssize_t write(int fd, const void *bytes, size_t length) {
    char path[4096];
    if (!(armed || trace >= 0) || !path_of(fd, path, sizeof path)) return REAL(write)(fd, bytes, length);
    if (pending_fd == fd || fails(WRITE)) {
        ssize_t part = torn(fd, length);
        if (part < 0) return -1;
        length = part;
    }
    int64_t offset = lseek(fd, 0, SEEK_CUR);
    if (fcntl(fd, F_GETFL) & O_APPEND) offset = lseek(fd, 0, SEEK_END);
    note('W', path, "", offset, bytes, length);
    return REAL(write)(fd, bytes, length);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
    char path[4096];
    if (!(armed || trace >= 0) || !path_of(fd, path, sizeof path)) return REAL(pwrite64)(fd, bytes, length, offset);
    if (pending_fd == fd || fails(WRITE)) {
        ssize_t part = torn(fd, length);
        if (part < 0) return -1;
        length = part;
    }
    note('W', path, "", offset, bytes, length);
    return REAL(pwrite64)(fd, bytes, length, offset);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) { return pwrite64(fd, bytes, length, offset); }

ssize_t read(int fd, void *bytes, size_t length) {
    BEFORE(READ, fd)
    return REAL(read)(fd, bytes, length);
}

ssize_t pread64(int fd, void *bytes, size_t length, off64_t offset) {
    BEFORE(READ, fd)
    return REAL(pread64)(fd, bytes, length, offset);
}

int fsync(int fd) {
    BEFORE(SYNC, fd)
    if (path[0]) note('S', path, "", 0, "", 0);
    return REAL(fsync)(fd);
}

int fdatasync(int fd) {
    BEFORE(SYNC, fd)
    if (path[0]) note('S', path, "", 0, "", 0);
    return REAL(fdatasync)(fd);
}

int ftruncate64(int fd, off64_t length) {
    BEFORE(TRUNCATE, fd)
    if (path[0]) note('T', path, "", length, "", 0);
    return REAL(ftruncate64)(fd, length);
}

int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

int unlink(const char *path) {
    if (is_below(path)) {
        if (fails(UNLINK)) { errno = error_number; return -1; }
        if (access(path, F_OK) == 0) note('U', path, "", 0, "", 0);
    }
    return REAL(unlink)(path);
}

int rename(const char *from, const char *to) {
    if (is_below(to)) {
        if (fails(RENAME)) { errno = error_number; return -1; }
        note('R', from, to, 0, "", 0);
    }
    return REAL(rename)(from, to);
}

static int opens(int (*real)(const char *, int, ...), const char *path, int flags, int mode) {
    if (is_below(path)) {
        if (fails(OPEN)) { errno = error_number; return -1; }
        if ((flags & O_CREAT) && access(path, F_OK) != 0) note('C', path, "", 0, "", 0);
        else if (flags & O_TRUNC) note('T', path, "", 0, "", 0);
    }
    return real(path, flags, mode);
}

int open(const char *path, int flags, ...) {
    va_list list;
    va_start(list, flags);
    int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(list, int) : 0;
    va_end(list);
    return opens(REAL(open), path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    va_list list;
    va_start(list, flags);
    int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(list, int) : 0;
    va_end(list);
    return opens(REAL(open64), path, flags, mode);
}

#define IS_SQLITE ((uintptr_t)__builtin_return_address(0) - library_low < library_high - library_low)

void *malloc(size_t size) {
    if (armed & MALLOC && IS_SQLITE && fails(MALLOC)) { errno = ENOMEM; return NULL; }
    return __libc_malloc(size);
}

void *realloc(void *old, size_t size) {
    if (armed & MALLOC && IS_SQLITE && fails(MALLOC)) { errno = ENOMEM; return NULL; }
    return __libc_realloc(old, size);
}
