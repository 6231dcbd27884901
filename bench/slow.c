/* LD_PRELOAD: each fsync and fdatasync takes POSTERN_BENCH_FSYNC_MS milliseconds longer, as on a slower disk. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

static void wait_first(void) {
  const char *ms = getenv("POSTERN_BENCH_FSYNC_MS");
  long left = ms ? strtol(ms, NULL, 10) : 0;
  struct timespec span = {left / 1000, left % 1000 * 1000000L};
  if (left > 0) nanosleep(&span, NULL);
}

int fsync(int fd) {
  static int (*real)(int);
  if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
  wait_first();
  return real(fd);
}

int fdatasync(int fd) {
  static int (*real)(int);
  if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
  wait_first();
  return real(fd);
}
