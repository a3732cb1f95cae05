/* SPDX-License-Identifier: MIT */
/* What named needs of the parent: sockets, the host's resolv.conf, the file of look-ups. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon/address.h"
#include "daemon/learned.h"
#include "daemon/listeners.h"
#include "daemon/netns.h"
#include "kern/kern.h"

enum { PORT_TRIES = 64, BACKLOG = 512, RESOLV_MAX = 32 << 10, HOSTS_MAX = 1 << 20, WAIT_MS = 5000 };

static const char resolv_path[] = "/etc/resolv.conf", hosts_path[] = "/etc/hosts";
static const char log_name[] = "dns.jsonl", log_old[] = "dns.1.jsonl";

bool learned_needed(const struct parent *p)
{
	return config_has_names(p->cfg) || (p->kern && config_steers_dns(p->cfg));
}

int learned_init(struct parent *p)
{
	struct learned_state *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	list_init(&l->asks);
	l->log_fd = -1;
	p->learned = l;
	return 0;
}

/* ------------------------------------------------------------- the sockets */

static int open_one(int family, int type, uint16_t port)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET,
				 .sin_port = htons(port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6,
				  .sin6_port = htons(port),
				  .sin6_addr = in6addr_loopback};
	int fd = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1, e;

	if (fd < 0)
		return -errno;
	/* In a namespace whose lo is down: it may come up. */
	(void)setsockopt(fd, family == AF_INET6 ? IPPROTO_IPV6 : IPPROTO_IP,
			 family == AF_INET6 ? IPV6_FREEBIND : IP_FREEBIND, &one, sizeof(one));
	if (family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	/* Not for UDP, where it would let another socket share the port. */
	if (type == SOCK_STREAM)
		(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, family == AF_INET ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6,
		 family == AF_INET ? sizeof(v4) : sizeof(v6)) == 0 &&
	    (type != SOCK_STREAM || listen(fd, BACKLOG) == 0))
		return fd;
	e = errno;
	close(fd);
	return -e;
}

static int port_of(int fd, uint16_t *ret)
{
	struct sockaddr_in sin;
	socklen_t len = sizeof(sin);

	if (getsockname(fd, (struct sockaddr *)&sin, &len))
		return -errno;
	*ret = ntohs(sin.sin_port);
	return 0;
}

void resolver_close(int fds[RESOLVER_SOCKETS])
{
	for (size_t i = 0; i < RESOLVER_SOCKETS; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
		fds[i] = -1;
	}
}

/* The other three on the port of the first. A host without IPv6 has two in all. */
static int open_rest(int fds[RESOLVER_SOCKETS], uint16_t port)
{
	fds[1] = open_one(AF_INET6, SOCK_DGRAM, port);
	fds[2] = open_one(AF_INET, SOCK_STREAM, port);
	fds[3] = fds[1] < 0 ? -1 : open_one(AF_INET6, SOCK_STREAM, port);
	for (size_t i = 1; i < RESOLVER_SOCKETS; i++)
		if (fds[i] == -EADDRINUSE)
			return -EADDRINUSE;
	return fds[2] < 0 ? fds[2] : 0;
}

int resolver_sockets(int ret_fds[RESOLVER_SOCKETS], uint16_t *ret_port)
{
	int rc = -EADDRINUSE;

	for (int i = 0; i < PORT_TRIES && rc == -EADDRINUSE; i++) {
		ret_fds[1] = ret_fds[2] = ret_fds[3] = -1;
		ret_fds[0] = open_one(AF_INET, SOCK_DGRAM, 0);
		rc = ret_fds[0] < 0 ? ret_fds[0] : port_of(ret_fds[0], ret_port);
		if (!rc)
			rc = open_rest(ret_fds, *ret_port);
		if (rc)
			resolver_close(ret_fds);
	}
	for (size_t i = 0; !rc && i < RESOLVER_SOCKETS; i++)
		if (ret_fds[i] < 0)
			ret_fds[i] = -1;
	return rc;
}

/* -------------------------------------------------------------- the files */

/* A small file as text, which the caller frees; NULL: it cannot be read. */
static char *read_text(const char *path, size_t max)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	char *text = fd < 0 ? NULL : malloc(max + 1);
	size_t n = 0;
	ssize_t got;

	while (text && n < max && (got = read(fd, text + n, max - n)) > 0)
		n += (size_t)got;
	if (fd >= 0)
		close(fd);
	if (text)
		text[n] = '\0';
	/* A NUL would not get through a message: what is behind it does not count. */
	return text;
}

/* Reads it if it is another than the last time, or is there no more. */
static bool resolv_changed(struct learned_state *l)
{
	struct stat st = {0};
	char *text;

	(void)!stat(resolv_path, &st);
	if (l->resolv_conf && st.st_size == l->resolv_size &&
	    st.st_mtim.tv_sec == l->resolv_time.tv_sec && st.st_mtim.tv_nsec == l->resolv_time.tv_nsec)
		return false;
	l->resolv_time = st.st_mtim;
	l->resolv_size = st.st_size;
	text = read_text(resolv_path, RESOLV_MAX);
	free(l->resolv_conf);
	l->resolv_conf = text ? text : strdup("");
	return true;
}

static void tell_host(struct parent *p)
{
	const char *text = p->learned->resolv_conf;

	ipc_begin(p->named.ipc, IPC_DNS_HOST, 0);
	ipc_put_str(p->named.ipc, text ? text : "");
	ipc_send(p->named.ipc);
}

static bool hosts_line(char *line, const char *name, uint8_t ret[16])
{
	char *save = NULL, *word;
	struct in_addr v4;

	line[strcspn(line, "#")] = '\0';
	word = strtok_r(line, " \t", &save);
	if (!word)
		return false;
	if (inet_pton(AF_INET, word, &v4) == 1) {
		memset(ret, 0, 10);
		ret[10] = ret[11] = 0xff;
		memcpy(ret + 12, &v4, 4);
	} else if (inet_pton(AF_INET6, word, ret) != 1) {
		return false;
	}
	while ((word = strtok_r(NULL, " \t", &save)))
		if (strcasecmp(word, name) == 0)
			return true;
	return false;
}

size_t learned_hosts(const char *name, uint8_t (*ret)[16], size_t cap)
{
	char *text = read_text(hosts_path, HOSTS_MAX), *save = NULL;
	uint8_t addr[16];
	size_t n = 0;

	for (char *line = text ? strtok_r(text, "\n", &save) : NULL; line && n < cap;
	     line = strtok_r(NULL, "\n", &save))
		if (hosts_line(line, name, addr))
			memcpy(ret[n++], addr, 16);
	free(text);
	return n;
}

static void give_log(struct parent *p)
{
	struct learned_state *l = p->learned;
	struct stat st;

	if (!p->cfg->dns.log || !p->named.ipc)
		return;
	if (l->log_fd >= 0 && fstat(l->log_fd, &st) == 0 && (uint64_t)st.st_size > p->cfg->dns.log_bytes) {
		close(l->log_fd);
		l->log_fd = -1;
		if (renameat(p->record_dir, log_name, p->record_dir, log_old))
			log_error("%s cannot be put aside: %s", log_name, strerror(errno));
	}
	if (l->log_fd < 0)
		l->log_fd = openat(p->record_dir, log_name,
				   O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (l->log_fd < 0) {
		log_error("%s: %s", log_name, strerror(errno));
		return;
	}
	ipc_begin(p->named.ipc, IPC_DNS_LOG, 0);
	ipc_put_fd(p->named.ipc, l->log_fd);
	ipc_send(p->named.ipc);
}

static bool log_too_large(const struct parent *p)
{
	struct stat st;

	return p->cfg->dns.log && p->learned->log_fd >= 0 && fstat(p->learned->log_fd, &st) == 0 &&
	       (uint64_t)st.st_size > p->cfg->dns.log_bytes;
}

/* ------------------------------------------------------------- the process */

/* With each configuration. */
void learned_tell(struct child *c)
{
	struct parent *p = c->p;

	list_each(it, &p->agents) {
		const struct pagent *a = container_of(it, struct pagent, link);

		ipc_begin(c->ipc, IPC_DNS_AGENT, 0);
		ipc_put_u32(c->ipc, a->id);
		ipc_put_str(c->ipc, a->name);
		ipc_send(c->ipc);
	}
	give_log(p);
	(void)resolv_changed(p->learned);
	tell_host(p);
}

void learned_give(struct child *c)
{
	if (!c->p->kern)
		return;
	listener_set_give(&c->p->own, c, 0);
	netns_give(c->p, c);
}

static void on_waited(uv_timer_t *t)
{
	*(bool *)t->data = true;
}

void learned_wait(struct parent *p)
{
	static uv_timer_t timer; /* closed some time later */
	bool late = false;

	if (!p->named.ipc || !config_has_names(p->cfg))
		return;
	uv_update_time(&p->loop); /* loading the programs may have taken longer than we want to wait */
	(void)uv_timer_init(&p->loop, &timer);
	timer.data = &late;
	(void)uv_timer_start(&timer, on_waited, WAIT_MS, 0);
	while (!p->learned->round && !late && !p->stopping)
		(void)uv_run(&p->loop, UV_RUN_ONCE);
	uv_close((uv_handle_t *)&timer, NULL);
	if (!p->learned->round)
		log_warning("some names of targets could not be resolved yet: what they mean is guarded "
			    "once they can be");
}

int learned_apply(struct parent *p)
{
	return p->kern ? kern_dns_set(p->kern, config_steers_dns(p->cfg) ? TG_DNS_STEER : 0) : 0;
}

void learned_tick(struct parent *p)
{
	learned_forget_old(p);
	if (!p->named.ipc || !p->named.ready)
		return;
	if (resolv_changed(p->learned))
		tell_host(p);
	if (log_too_large(p))
		give_log(p);
}

json_t *learned_state_json(const struct parent *p)
{
	const struct cfg_dns *d = &p->cfg->dns;
	json_t *servers = d->nservers ? json_array() : json_string(resolv_path);

	for (uint32_t i = 0; i < d->nservers; i++)
		(void)json_array_append_new(servers, json_string(d->servers[i]));
	return json_pack("{s:b, s:i, s:i, s:o, s:I, s:i, s:s}", "steering",
			 p->kern && config_steers_dns(p->cfg), "pid", (int)p->named.pid, "restarts",
			 (int)p->named.restarts, "servers", servers, "questions",
			 (json_int_t)(p->named.stats ? p->named.stats->accepted : 0), "addresses",
			 (int)HASH_COUNT(p->learned->table), "log", d->log ? log_name : "off");
}
