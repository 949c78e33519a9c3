/* A file system that fails once: preloaded, it stands between the process and libc, counts the calls that concern files
 * under one folder, and fails the Nth of them. `tests/faulty.py` drives it through ctypes.
 *
 * Nothing is flushed to the medium (what is tested is what the calls say, not the disk): fsync and fdatasync count, can fail,
 * and otherwise do nothing. A descriptor is always closed by a close() that fails, as on Linux.
 */
#define _GNU_SOURCE
#define _LARGEFILE64_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define FILES 4096
#define NAMED 64

enum { SHORT = 1000, LATE = 2000 }; /* beside an errno: write half; or do it, then fail with errno - LATE */

static char folder[PATH_MAX];
static size_t folder_length;
static char watched[FILES];
static int armed, kind, fail_at, lasting, seen, struck;
static char victim[NAMED];

int fault_watch(const char *path) {
  folder_length = strlen(path);
  if (folder_length >= sizeof folder) return -1;
  memcpy(folder, path, folder_length + 1);
  return 0;
}

/* Fail call number `nth` from now on, and where `then_always`, every one after it. With nth = 0 calls are only counted. */
void fault_arm(int nth, int how, int then_always) {
  seen = struck = 0;
  fail_at = nth, kind = how, lasting = then_always;
  victim[0] = 0;
  __atomic_store_n(&armed, 1, __ATOMIC_SEQ_CST);
}

/* How many calls were counted; *name is the one that failed, or empty. */
int fault_disarm(char *name) {
  __atomic_store_n(&armed, 0, __ATOMIC_SEQ_CST);
  memcpy(name, victim, NAMED);
  return seen;
}

int fault_open_files(void) {
  int count = 0;
  for (int fd = 0; fd < FILES; fd++) count += watched[fd];
  return count;
}

static int ours(const char *path) { return folder_length && path && !strncmp(path, folder, folder_length); }
static int is_watched(int fd) { return fd >= 0 && fd < FILES && watched[fd]; }

/* What is to become of this call: 0 for nothing, or the kind of its failure. */
static int fate(const char *name, int concerns, int can_be_short) {
  if (!armed || !concerns || (kind == SHORT && !can_be_short)) return 0;
  int number = __atomic_add_fetch(&seen, 1, __ATOMIC_SEQ_CST);
  if (!fail_at || (lasting ? number < fail_at : number != fail_at)) return 0;
  if (!struck++) strncpy(victim, name, NAMED - 1);
  return kind;
}

#define REAL(type, name, ...) ((type(*)(__VA_ARGS__))real(&real_##name, #name))
static void *real(void **kept, const char *name) {
  if (!*kept) *kept = dlsym(RTLD_NEXT, name);
  return *kept;
}

/* Fail at once where that is its fate; otherwise do it, and perhaps fail then. */
#define FAULTY(type, failed, name, concerns, doing)               \
  do {                                                            \
    int fated = fate(name, concerns, 0);                          \
    if (fated && fated < LATE) return errno = fated, (failed);    \
    type result = (doing);                                        \
    if (fated && result != (failed)) return errno = fated - LATE, (failed); \
    return result;                                                \
  } while (0)

static int opened(int fd, int concerns) {
  if (fd >= 0 && fd < FILES) watched[fd] = (char)concerns;
  return fd;
}

#define OPEN(name)                                                              \
  static void *real_##name;                                                     \
  int name(const char *path, int flags, ...) {                                  \
    va_list rest;                                                               \
    va_start(rest, flags);                                                      \
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0;   \
    va_end(rest);                                                               \
    int concerns = ours(path), fated = fate("open", concerns, 0);               \
    if (fated) return errno = fated % LATE, -1;                                 \
    return opened(REAL(int, name, const char *, int, ...)(path, flags & ~(O_SYNC | O_DSYNC), mode), concerns); \
  }
OPEN(open)
OPEN(open64)

static void *real_close;
int close(int fd) {
  int concerns = is_watched(fd);
  if (concerns) watched[fd] = 0;
  int fated = fate("close", concerns, 0);
  int result = REAL(int, close, int)(fd);
  return fated ? (errno = fated % LATE, -1) : result;
}

#define WRITE(name, declared, passed, halved)                                        \
  static void *real_##name;                                                          \
  ssize_t name declared {                                                            \
    int fated = fate(#name, is_watched(fd), 1);                                      \
    if (fated == SHORT) return halved;                                               \
    if (fated && fated < LATE) return errno = fated, -1;                             \
    ssize_t result = passed;                                                         \
    return fated && result >= 0 ? (errno = fated - LATE, -1) : result;               \
  }
#define FD_WRITE REAL(ssize_t, write, int, const void *, size_t)
WRITE(write, (int fd, const void *data, size_t size), FD_WRITE(fd, data, size), FD_WRITE(fd, data, size / 2))
#define FD_PWRITE REAL(ssize_t, pwrite, int, const void *, size_t, off_t)
WRITE(pwrite, (int fd, const void *data, size_t size, off_t at), FD_PWRITE(fd, data, size, at), FD_PWRITE(fd, data, size / 2, at))
#define FD_PWRITE64 REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t)
WRITE(pwrite64, (int fd, const void *data, size_t size, off64_t at), FD_PWRITE64(fd, data, size, at), FD_PWRITE64(fd, data, size / 2, at))
#define FD_WRITEV REAL(ssize_t, writev, int, const struct iovec *, int)
WRITE(writev, (int fd, const struct iovec *parts, int count), FD_WRITEV(fd, parts, count), write(fd, parts->iov_base, parts->iov_len / 2))

#define READ(name, declared, passed)               \
  static void *real_##name;                        \
  ssize_t name declared { FAULTY(ssize_t, -1, #name, is_watched(fd), passed); }
READ(read, (int fd, void *data, size_t size), REAL(ssize_t, read, int, void *, size_t)(fd, data, size))
READ(pread, (int fd, void *data, size_t size, off_t at), REAL(ssize_t, pread, int, void *, size_t, off_t)(fd, data, size, at))
READ(pread64, (int fd, void *data, size_t size, off64_t at), REAL(ssize_t, pread64, int, void *, size_t, off64_t)(fd, data, size, at))

int fsync(int fd) { FAULTY(int, -1, "fsync", is_watched(fd), 0); }
int fdatasync(int fd) { FAULTY(int, -1, "fdatasync", is_watched(fd), 0); }

#define ON_FD(type, name, declared, passed)        \
  static void *real_##name;                        \
  type name declared { FAULTY(type, (type)-1, #name, is_watched(fd), passed); }
ON_FD(int, ftruncate, (int fd, off_t size), REAL(int, ftruncate, int, off_t)(fd, size))
ON_FD(int, ftruncate64, (int fd, off64_t size), REAL(int, ftruncate64, int, off64_t)(fd, size))
ON_FD(off_t, lseek, (int fd, off_t at, int whence), REAL(off_t, lseek, int, off_t, int)(fd, at, whence))
ON_FD(off64_t, lseek64, (int fd, off64_t at, int whence), REAL(off64_t, lseek64, int, off64_t, int)(fd, at, whence))
ON_FD(int, fchmod, (int fd, mode_t mode), REAL(int, fchmod, int, mode_t)(fd, mode))
ON_FD(int, flock, (int fd, int how), REAL(int, flock, int, int)(fd, how))
ON_FD(int, fstat, (int fd, struct stat *found), REAL(int, fstat, int, struct stat *)(fd, found))
ON_FD(int, fstat64, (int fd, struct stat64 *found), REAL(int, fstat64, int, struct stat64 *)(fd, found))

#define ALLOCATE(name, offset)                                              \
  static void *real_##name;                                                 \
  int name(int fd, offset at, offset size) {                                \
    int fated = fate(#name, is_watched(fd), 0);                             \
    if (fated) return fated % LATE; /* says it in its result, not in errno */ \
    return REAL(int, name, int, offset, offset)(fd, at, size);              \
  }
ALLOCATE(posix_fallocate, off_t)
ALLOCATE(posix_fallocate64, off64_t)

#define FCNTL(name)                                                                      \
  static void *real_##name;                                                              \
  int name(int fd, int command, ...) {                                                   \
    va_list rest;                                                                        \
    va_start(rest, command);                                                             \
    void *argument = va_arg(rest, void *);                                               \
    va_end(rest);                                                                        \
    int concerns = is_watched(fd), copies = command == F_DUPFD || command == F_DUPFD_CLOEXEC; \
    int fated = fate("fcntl", concerns, 0);                                              \
    if (fated && (fated < LATE || copies)) return errno = fated % LATE, -1;              \
    int result = REAL(int, name, int, int, ...)(fd, command, argument);                  \
    if (copies) return opened(result, concerns);                                         \
    return fated && result >= 0 ? (errno = fated - LATE, -1) : result;                   \
  }
FCNTL(fcntl)
FCNTL(fcntl64)

#define MAP(name, offset)                                                                          \
  static void *real_##name;                                                                        \
  void *name(void *wanted, size_t size, int access, int flags, int fd, offset at) {                \
    int fated = fate("mmap", is_watched(fd), 0);                                                   \
    if (fated) return errno = fated % LATE, MAP_FAILED;                                            \
    return REAL(void *, name, void *, size_t, int, int, int, offset)(wanted, size, access, flags, fd, at); \
  }
MAP(mmap, off_t)
MAP(mmap64, off64_t)

#define ON_PATH(name, declared, passed)            \
  static void *real_##name;                        \
  int name declared { FAULTY(int, -1, #name, ours(path), passed); }
ON_PATH(rename, (const char *path, const char *to), REAL(int, rename, const char *, const char *)(path, to))
ON_PATH(link, (const char *path, const char *to), REAL(int, link, const char *, const char *)(path, to))
ON_PATH(linkat, (int from, const char *path, int into, const char *to, int flags),
        REAL(int, linkat, int, const char *, int, const char *, int)(from, path, into, to, flags))
ON_PATH(unlink, (const char *path), REAL(int, unlink, const char *)(path))
ON_PATH(stat, (const char *path, struct stat *found), REAL(int, stat, const char *, struct stat *)(path, found))
ON_PATH(stat64, (const char *path, struct stat64 *found), REAL(int, stat64, const char *, struct stat64 *)(path, found))
ON_PATH(lstat, (const char *path, struct stat *found), REAL(int, lstat, const char *, struct stat *)(path, found))
ON_PATH(lstat64, (const char *path, struct stat64 *found), REAL(int, lstat64, const char *, struct stat64 *)(path, found))
ON_PATH(fstatat, (int at, const char *path, struct stat *found, int flags),
        REAL(int, fstatat, int, const char *, struct stat *, int)(at, path, found, flags))
ON_PATH(fstatat64, (int at, const char *path, struct stat64 *found, int flags),
        REAL(int, fstatat64, int, const char *, struct stat64 *, int)(at, path, found, flags))

/* What libraries built on an older glibc call. */
ON_FD(int, __fxstat, (int version, int fd, struct stat *found), REAL(int, __fxstat, int, int, struct stat *)(version, fd, found))
ON_PATH(__xstat, (int version, const char *path, struct stat *found),
        REAL(int, __xstat, int, const char *, struct stat *)(version, path, found))
