/* The sink of the benchmark: an SMTP server that takes everything, as cheaply as it can, and notes when it came.
 *
 *   sink PORT MESSAGES TABLE [CERTIFICATE KEY]
 *
 * It listens on 127.0.0.1, one thread a connection, offers PIPELINING, SIZE, 8BITMIME and ENHANCEDSTATUSCODES, and
 * STARTTLS when it is given a certificate. TABLE is a file mapped by the driver, of native 64-bit words:
 *
 *   [0] recipients served   [1] transactions   [2] octets of content   [3] connections   [4] transactions over TLS
 *   [5] transactions whose content begins a line with DKIM-Signature
 *   [8 + n]  CLOCK_MONOTONIC, ns, of the last copy of message n; the number stands in its Message-ID: <bench.n@...>
 *
 * With KEEP=FILE in its environment, the first message of each thousand is kept as FILE.<n>, to check signatures.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { RECIPIENTS, TRANSACTIONS, OCTETS, CONNECTIONS, OVER_TLS, SIGNED, FIRST = 8 };
#define COUNT(what, by) __atomic_fetch_add(&table[what], (by), __ATOMIC_RELAXED)

static int64_t *table;
static long messages;
static SSL_CTX *context;
static const char *keep;

typedef struct {
  int fd;
  SSL *tls;
  char *in;       /* octets read and not yet used: in[from .. to) */
  size_t from, to, room;
  char out[65536]; /* replies not yet sent */
  size_t pending;
} Peer;

static int flush(Peer *p) {
  size_t done = 0;
  while (done < p->pending) {
    ssize_t n = p->tls ? SSL_write(p->tls, p->out + done, (int)(p->pending - done))
                       : write(p->fd, p->out + done, p->pending - done);
    if (n <= 0) return 0;
    done += (size_t)n;
  }
  p->pending = 0;
  return 1;
}

static int say(Peer *p, const char *text) {
  size_t length = strlen(text);
  if (p->pending + length > sizeof p->out && !flush(p)) return 0;
  memcpy(p->out + p->pending, text, length);
  p->pending += length;
  return 1;
}

/* Read more; what was asked for before is answered first, for the peer may wait for it. */
static int more(Peer *p) {
  if (!flush(p)) return 0;
  if (p->from > 0) {
    memmove(p->in, p->in + p->from, p->to - p->from);
    p->to -= p->from;
    p->from = 0;
  }
  if (p->room - p->to < 32768) {
    p->room *= 2;
    if (!(p->in = realloc(p->in, p->room))) return 0;
  }
  ssize_t n = p->tls ? SSL_read(p->tls, p->in + p->to, (int)(p->room - p->to)) : read(p->fd, p->in + p->to, p->room - p->to);
  if (n <= 0) return 0;
  p->to += (size_t)n;
  return 1;
}

static void note(Peer *p, const char *content, size_t length, long recipients) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  const char *mark = memmem(content, length, "<bench.", 7);
  long number = mark ? strtol(mark + 7, NULL, 10) : -1;
  if (number >= 0 && number < messages) table[FIRST + number] = now.tv_sec * 1000000000LL + now.tv_nsec;
  long nth = COUNT(TRANSACTIONS, 1);
  COUNT(OCTETS, (int64_t)length);
  if (p->tls) COUNT(OVER_TLS, 1);
  if ((length > 15 && !strncasecmp(content, "DKIM-Signature:", 15)) || memmem(content, length, "\nDKIM-Signature:", 16))
    COUNT(SIGNED, 1);
  COUNT(RECIPIENTS, recipients);
  if (keep && nth % 1000 == 0) {
    char name[4096];
    snprintf(name, sizeof name, "%s.%ld", keep, nth);
    FILE *file = fopen(name, "w");
    if (file) {
      fwrite(content, 1, length, file);
      fclose(file);
    }
  }
}

static int content(Peer *p, long recipients) {
  size_t looked = 0; /* from p->from on: no end begins before it. The CRLF of DATA counts as a line's end. */
  for (;;) {
    char *begin = p->in + p->from;
    size_t have = p->to - p->from;
    if (have >= 3 && !memcmp(begin, ".\r\n", 3)) {
      p->from += 3;
      note(p, begin, 0, recipients);
      return 1;
    }
    char *end = have > looked ? memmem(begin + looked, have - looked, "\r\n.\r\n", 5) : NULL;
    if (end) {
      note(p, begin, (size_t)(end - begin) + 2, recipients);
      p->from += (size_t)(end - begin) + 5;
      return 1;
    }
    looked = have > 4 ? have - 4 : 0;
    if (!more(p)) return 0;
  }
}

static int handshake(Peer *p) {
  if (!say(p, "220 2.0.0 go ahead\r\n") || !flush(p)) return 0;
  p->from = p->to = 0; /* nothing said in the clear is heard after it */
  p->tls = SSL_new(context);
  SSL_set_fd(p->tls, p->fd);
  return SSL_accept(p->tls) > 0;
}

/* One command; 0 ends the connection. */
static int command(Peer *p, const char *line, long *recipients) {
  if (!strncasecmp(line, "RCPT", 4)) {
    ++*recipients;
    return say(p, "250 2.1.5 ok\r\n");
  }
  if (!strncasecmp(line, "DATA", 4)) {
    if (!say(p, "354 go ahead\r\n") || !content(p, *recipients)) return 0;
    *recipients = 0;
    return say(p, "250 2.0.0 taken\r\n");
  }
  if (!strncasecmp(line, "EHLO", 4))
    return say(p, "250-sink.example\r\n250-PIPELINING\r\n250-SIZE 104857600\r\n250-ENHANCEDSTATUSCODES\r\n") &&
           say(p, context && !p->tls ? "250-STARTTLS\r\n250 8BITMIME\r\n" : "250 8BITMIME\r\n");
  if (!strncasecmp(line, "STARTTLS", 8) && context && !p->tls) return handshake(p);
  if (!strncasecmp(line, "QUIT", 4)) {
    say(p, "221 2.0.0 bye\r\n");
    flush(p);
    return 0;
  }
  *recipients = 0; /* MAIL, RSET, NOOP and whatever else */
  return say(p, "250 2.0.0 ok\r\n");
}

static void *serve(void *fd) {
  Peer *p = calloc(1, sizeof *p);
  long recipients = 0;
  int one = 1;
  p->fd = (int)(intptr_t)fd;
  p->in = malloc(p->room = 131072);
  setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  COUNT(CONNECTIONS, 1);
  say(p, "220 sink.example ESMTP\r\n");
  for (;;) {
    char *end = memchr(p->in + p->from, '\n', p->to - p->from);
    if (!end) {
      if (!more(p)) break;
      continue;
    }
    const char *line = p->in + p->from;
    *end = 0;
    p->from = (size_t)(end + 1 - p->in);
    if (!command(p, line, &recipients)) break;
  }
  if (p->tls) {
    SSL_shutdown(p->tls);
    SSL_free(p->tls);
  }
  close(p->fd);
  free(p->in);
  free(p);
  return NULL;
}

int main(int count, char **arguments) {
  if (count != 4 && count != 6) return 64;
  signal(SIGPIPE, SIG_IGN);
  keep = getenv("KEEP");
  messages = atol(arguments[2]);
  int file = open(arguments[3], O_RDWR);
  size_t size = (size_t)(FIRST + messages) * sizeof *table;
  table = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (table == MAP_FAILED) return 66;
  if (count == 6) {
    context = SSL_CTX_new(TLS_server_method());
    if (SSL_CTX_use_certificate_chain_file(context, arguments[4]) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, arguments[5], SSL_FILETYPE_PEM) != 1)
      return 78;
  }
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
  struct sockaddr_in here = {
      .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(arguments[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 1024)) return 71;
  pthread_attr_t small;
  pthread_attr_init(&small);
  pthread_attr_setdetachstate(&small, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&small, 262144);
  for (;;) {
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    pthread_t thread;
    if (fd >= 0 && pthread_create(&thread, &small, serve, (void *)(intptr_t)fd)) close(fd);
  }
}
