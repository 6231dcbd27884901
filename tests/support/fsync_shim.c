/* LD_PRELOAD shim: makes fsync and fdatasync slow or failing.
 *
 *   FSYNC_DELAY_MS=4          every call takes that much longer
 *   FSYNC_FAIL_FILE=/path     while that file exists, calls on regular files fail with EIO and sync nothing
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int meddle(const char *name, int fd)
{
    const char *delay = getenv("FSYNC_DELAY_MS");
    const char *fail = getenv("FSYNC_FAIL_FILE");
    if (delay != NULL) {
        long ms = atol(delay);
        struct timespec pause = {ms / 1000, (ms % 1000) * 1000000L};
        nanosleep(&pause, NULL);
    }
    if (fail != NULL && access(fail, F_OK) == 0) {
        struct stat st;
        if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
            errno = EIO;
            return -1;
        }
    }
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    return real(fd);
}

int fsync(int fd) { return meddle("fsync", fd); }
int fdatasync(int fd) { return meddle("fdatasync", fd); }
