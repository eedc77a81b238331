/* The limit of `lvs`: asks the kernel for every virtual server and its real servers and does nothing with the answers
 * but find their ends. Prints one line of JSON. One argument: rounds. */
#include <errno.h>
#include <linux/genetlink.h>
#include <linux/ip_vs.h>
#include <linux/netlink.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define KEYS_MAX 65536

struct request {
  struct nlmsghdr header;
  struct genlmsghdr generic;
  char body[64];
};

/* The attributes by which a virtual server is named again. */
struct key {
  unsigned length;
  char bytes[56];
};

static int netlink;
static uint32_t sequence;
static char inbox[65536];
static struct key keys[KEYS_MAX];
static unsigned servers, backends;

static void stop(const char *what) {
  fprintf(stderr, "dump: %s: %s\n", what, strerror(errno));
  exit(1);
}

static double milliseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

static void append(struct request *to, uint16_t type, const void *value, unsigned length) {
  struct nlattr *at = (void *)((char *)to + NLMSG_ALIGN(to->header.nlmsg_len));
  at->nla_type = type;
  at->nla_len = NLA_HDRLEN + length;
  memcpy(at + 1, value, length);
  to->header.nlmsg_len = NLMSG_ALIGN(to->header.nlmsg_len) + NLA_ALIGN(at->nla_len);
}

static void begin(struct request *to, uint16_t family, uint8_t command, uint16_t flags) {
  memset(to, 0, sizeof *to);
  to->header.nlmsg_len = NLMSG_LENGTH(GENL_HDRLEN);
  to->header.nlmsg_type = family;
  to->header.nlmsg_flags = NLM_F_REQUEST | flags;
  to->header.nlmsg_seq = ++sequence;
  to->generic.cmd = command;
  to->generic.version = 1;
}

static struct nlattr *find(void *in, int length, uint16_t type) {
  struct nlattr *at = in;
  while (length >= NLA_HDRLEN && at->nla_len >= NLA_HDRLEN && at->nla_len <= length) {
    int whole = NLA_ALIGN(at->nla_len);
    if ((at->nla_type & NLA_TYPE_MASK) == type) return at;
    length -= whole;
    at = (void *)((char *)at + whole);
  }
  return NULL;
}

static void *payload(struct nlmsghdr *message) { return (char *)message + NLMSG_LENGTH(GENL_HDRLEN); }
static int payload_length(struct nlmsghdr *message) { return message->nlmsg_len - NLMSG_LENGTH(GENL_HDRLEN); }

/* Sends, and hands every item to `each` until the end. */
static void dump(struct request *request, void (*each)(struct nlmsghdr *)) {
  if (send(netlink, request, request->header.nlmsg_len, 0) < 0) stop("send");
  for (;;) {
    int length = recv(netlink, inbox, sizeof inbox, 0);
    if (length < 0) stop("receive");
    for (struct nlmsghdr *one = (void *)inbox; NLMSG_OK(one, length); one = NLMSG_NEXT(one, length)) {
      if (one->nlmsg_type == NLMSG_DONE) return;
      if (one->nlmsg_type == NLMSG_ERROR) {
        errno = -((struct nlmsgerr *)NLMSG_DATA(one))->error;
        stop("refused");
      }
      each(one);
    }
  }
}

static void take_server(struct nlmsghdr *message) {
  static const uint16_t parts[] = {IPVS_SVC_ATTR_AF, IPVS_SVC_ATTR_PROTOCOL, IPVS_SVC_ATTR_ADDR, IPVS_SVC_ATTR_PORT,
                                   IPVS_SVC_ATTR_FWMARK};
  struct nlattr *server = find(payload(message), payload_length(message), IPVS_CMD_ATTR_SERVICE);
  if (!server || servers == KEYS_MAX) stop("read a virtual server");
  struct key *key = &keys[servers++];
  key->length = 0;
  for (unsigned i = 0; i < sizeof parts / sizeof *parts; i++) {
    struct nlattr *part = find(server + 1, server->nla_len - NLA_HDRLEN, parts[i]);
    if (!part) continue;
    memcpy(key->bytes + key->length, part, NLA_ALIGN(part->nla_len));
    key->length += NLA_ALIGN(part->nla_len);
  }
}

static void count_backend(struct nlmsghdr *message) {
  (void)message;
  backends++;
}

static uint16_t family;
static void take_family(void) {
  struct request request;
  begin(&request, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, 0);
  append(&request, CTRL_ATTR_FAMILY_NAME, IPVS_GENL_NAME, sizeof IPVS_GENL_NAME);
  if (send(netlink, &request, request.header.nlmsg_len, 0) < 0) stop("send");
  if (recv(netlink, inbox, sizeof inbox, 0) < 0) stop("receive");
  struct nlmsghdr *answer = (void *)inbox;
  struct nlattr *id = answer->nlmsg_type == NLMSG_ERROR
                          ? NULL
                          : find(payload(answer), payload_length(answer), CTRL_ATTR_FAMILY_ID);
  if (!id) stop("find the family IPVS");
  family = *(uint16_t *)(id + 1);
}

static void once(void) {
  struct request request;
  servers = backends = 0;
  begin(&request, family, IPVS_CMD_GET_SERVICE, NLM_F_DUMP);
  dump(&request, take_server);
  for (unsigned i = 0; i < servers; i++) {
    begin(&request, family, IPVS_CMD_GET_DEST, NLM_F_DUMP);
    append(&request, IPVS_CMD_ATTR_SERVICE | NLA_F_NESTED, keys[i].bytes, keys[i].length);
    dump(&request, count_backend);
  }
}

int main(int count, char **words) {
  int rounds = count > 1 ? atoi(words[1]) : 1;
  netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);
  if (netlink < 0) stop("open a socket");
  take_family();
  printf("{\"ms\":[");
  struct rusage before, after;
  getrusage(RUSAGE_SELF, &before);
  for (int i = 0; i < rounds; i++) {
    double began = milliseconds();
    once();
    printf("%s%.3f", i ? "," : "", milliseconds() - began);
  }
  getrusage(RUSAGE_SELF, &after);
  double cpu = (after.ru_utime.tv_sec - before.ru_utime.tv_sec + after.ru_stime.tv_sec - before.ru_stime.tv_sec) * 1e3 +
               (after.ru_utime.tv_usec - before.ru_utime.tv_usec + after.ru_stime.tv_usec - before.ru_stime.tv_usec) / 1e3;
  printf("],\"cpu_ms\":%.1f,\"rss_kib\":%ld,\"virtual_servers\":%u,\"real_servers\":%u}\n", cpu, after.ru_maxrss, servers,
         backends);
  return 0;
}
