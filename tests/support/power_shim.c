/* LD_PRELOAD shim: remembers what a power cut would leave of each regular file.
 *
 *   POWER_DIRECTORY=/path     there, a file named after the inode holds what the latest successful sync confirmed: what the
 *                             inode held when that sync began, and nothing that was written after
 *   POWER_LOG_MS=20           syncs of files named *-wal take that much longer, so that much is seen and not yet confirmed
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { HEADER = 32, PIECE = 1 << 16 };

/* Copy a file under a name nobody else uses. A log that is begun anew meanwhile (its header tells) is copied again: no disk
 * holds a mixture of which the header is the older part, as SQLite syncs the new one before what follows it. */
static int copied(const char *source, const char *target)
{
    char before[HEADER], after[HEADER], piece[PIECE];
    int from = open(source, O_RDONLY | O_CLOEXEC);
    if (from < 0)
        return 0;
    int to = open(target, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), whole = to >= 0;
    while (whole) {
        ssize_t length, old = pread(from, before, HEADER, 0);
        off_t at = 0;
        if (ftruncate(to, 0) != 0)
            whole = 0;
        while (whole && (length = pread(from, piece, PIECE, at)) > 0) {
            whole = pwrite(to, piece, length, at) == length;
            at += length;
        }
        if (pread(from, after, HEADER, 0) == old && (old <= 0 || memcmp(before, after, old) == 0))
            break;
    }
    close(from);
    if (to >= 0)
        close(to);
    return whole;
}

/* Put a copy in the place of an older one; of two syncs at once the one that began later holds more. */
static void publish(const char *directory, const char *copy, unsigned long inode, struct timespec began)
{
    char name[PATH_MAX], lock[PATH_MAX];
    struct stat there;
    struct timespec times[2] = {began, began};
    snprintf(name, sizeof name, "%s/%lu", directory, inode);
    snprintf(lock, sizeof lock, "%s/lock", directory);
    utimensat(AT_FDCWD, copy, times, 0);
    int held = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    flock(held, LOCK_EX);
    if (stat(name, &there) == 0 && (there.st_mtim.tv_sec > began.tv_sec ||
        (there.st_mtim.tv_sec == began.tv_sec && there.st_mtim.tv_nsec > began.tv_nsec)))
        unlink(copy);
    else
        rename(copy, name);
    close(held);
}

static int confirm(const char *name, int fd)
{
    const char *directory = getenv("POWER_DIRECTORY"), *delay = getenv("POWER_LOG_MS");
    char link[64], path[PATH_MAX] = "", copy[PATH_MAX];
    struct timespec began;
    struct stat st;
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    if (directory == NULL || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        return real(fd);
    clock_gettime(CLOCK_REALTIME, &began);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (readlink(link, path, sizeof path - 1) < 0)
        path[0] = 0;
    snprintf(copy, sizeof copy, "%s/%d-%lu.part", directory, getpid(), (unsigned long)pthread_self());
    int whole = copied(link, copy);
    size_t length = strlen(path);
    if (delay != NULL && length > 4 && strcmp(path + length - 4, "-wal") == 0) {
        long ms = atol(delay);
        struct timespec pause = {ms / 1000, ms % 1000 * 1000000L};
        nanosleep(&pause, NULL);
    }
    int answer = real(fd);
    if (whole && answer == 0)
        publish(directory, copy, (unsigned long)st.st_ino, began);
    return answer;
}

int fsync(int fd) { return confirm("fsync", fd); }
int fdatasync(int fd) { return confirm("fdatasync", fd); }
