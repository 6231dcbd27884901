/* LD_PRELOAD shim: moves the time of day; monotonic clocks go on as they are.
 *
 *   CLOCK_OFFSET_FILE=/path   holds seconds as a 64-bit integer of this machine; read at every call, so that a test
 *                             moves the clock of a running process by writing the file
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int64_t offset(void)
{
    static int file = -2;
    static int64_t last;
    int64_t now;
    if (file == -2) {
        const char *path = getenv("CLOCK_OFFSET_FILE");
        file = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    }
    if (file >= 0 && pread(file, &now, sizeof now, 0) == sizeof now)
        last = now; /* while the file is written anew it may be short: then as before */
    return last;
}

int clock_gettime(clockid_t id, struct timespec *ts)
{
    static int (*real)(clockid_t, struct timespec *);
    if (real == NULL)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, ts);
    if (result == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
        ts->tv_sec += offset();
    return result;
}

int gettimeofday(struct timeval *restrict tv, void *restrict tz)
{
    struct timespec ts;
    (void)tz;
    if (clock_gettime(CLOCK_REALTIME, &ts) != 0)
        return -1;
    tv->tv_sec = ts.tv_sec;
    tv->tv_usec = ts.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *into)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    if (into != NULL)
        *into = ts.tv_sec;
    return ts.tv_sec;
}
