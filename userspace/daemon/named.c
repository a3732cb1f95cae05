/* SPDX-License-Identifier: MIT */
/* The resolver's process: what the parent tells it, and its loop. */
#include "daemon/named.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"
#include "config/cfgaddr.h"
#include "daemon/childconf.h"
#include "daemon/sandbox.h"

enum { TICK_MS = 50, LINE_MAX_BYTES = 64 << 10, SERVERS_MAX = 8 };

/* ----------------------------------------------------------- name servers */

/* "10.0.0.53", "10.0.0.53:5353", "::1", "[::1]:53" in c-ares' form. */
static void add_server(struct named *n, uint32_t *count, const char *text)
{
	struct in6_addr net;
	const char *why;
	uint8_t prefix;
	size_t used = strlen(n->servers);
	bool bare = cfg_net_parse(slice_str(text), &net, &prefix, &why) == 0;

	if (*count == SERVERS_MAX || strlen(text) > 64 || (bare && prefix != 128))
		return;
	(void)snprintf(n->servers + used, sizeof(n->servers) - used, "%s%s%s%s", used ? "," : "",
		       bare && strchr(text, ':') ? "[" : "", text,
		       bare && strchr(text, ':') ? "]:53" : "");
	++*count;
}

static void add_search(struct named *n, char *list)
{
	char *save = NULL;

	n->nsearch = 0;
	for (char *w = strtok_r(list, " \t", &save); w && n->nsearch < NAMED_SEARCH;
	     w = strtok_r(NULL, " \t", &save)) {
		struct dns_query q;

		if (dns_query_make(w, DNS_T_A, &q) == 0 && strlen(q.name) < NAMED_NAME)
			(void)snprintf(n->search[n->nsearch++], NAMED_NAME, "%s", q.name);
	}
}

/* resolv.conf(5): `nameserver`, `search` and `domain`, of which the last counts. */
static void take_host(struct named *n, struct slice text)
{
	char *copy = strndup((const char *)text.p, text.n), *save = NULL;
	uint32_t count = 0;

	n->servers[0] = '\0';
	n->nsearch = 0;
	for (uint32_t i = 0; i < n->cfg->dns.nservers; i++)
		add_server(n, &count, n->cfg->dns.servers[i]);
	for (char *line = copy ? strtok_r(copy, "\n", &save) : NULL; line;
	     line = strtok_r(NULL, "\n", &save)) {
		char *word = line + strspn(line, " \t"), *rest = word + strcspn(word, " \t");

		if (*rest)
			*rest++ = '\0';
		rest += strspn(rest, " \t");
		if (strcmp(word, "nameserver") == 0 && !n->cfg->dns.nservers) {
			rest[strcspn(rest, " \t%")] = '\0'; /* a scope is an interface: not routed */
			add_server(n, &count, rest);
		} else if (strcmp(word, "search") == 0 || strcmp(word, "domain") == 0) {
			add_search(n, rest);
		}
	}
	free(copy);
	if (!count)
		log_error("no name server is known: name look-ups fail; see /etc/resolv.conf or "
			  "`servers` under dns: in the configuration");
}

/* --------------------------------------------------------------- messages */

static void sandbox(struct named *n)
{
	int err = n->sandboxed ? 0 : sandbox_named();

	if (err) {
		log_error("sandbox: %s", strerror(-err));
		exit(1);
	}
	n->sandboxed = true;
}

/* The configuration, and the host's resolv.conf with it: what to ask depends on both. */
static void take_config(struct named *n, struct ipc_msg *m)
{
	struct config *old = n->cfg;
	bool first = !n->sandboxed;
	int fd;

	(void)ipc_get_u64(m);
	fd = ipc_get_fd(m);
	if (!ipc_end(m) || fd < 0) {
		m->bad = true;
		return;
	}
	n->cfg = childconf_take(fd);
	config_free(old);
	sandbox(n);
	if (first) {
		ipc_begin(n->ipc, IPC_READY, 0);
		ipc_send(n->ipc);
	}
}

/* Comes after each configuration too, so names are looked up from here. */
static void take_resolv_conf(struct named *n, struct ipc_msg *m)
{
	struct slice text = ipc_get_str(m);

	if (!ipc_end(m) || !n->cfg) {
		m->bad = true;
		return;
	}
	take_host(n, text);
	names_config(n);
}

static void take_init(struct named *n, struct ipc_msg *m)
{
	int fd;

	(void)ipc_get_u32(m);
	(void)ipc_get_str(m);
	(void)ipc_get_u32(m);
	(void)ipc_get_u32(m);
	fd = ipc_get_fd(m);
	n->stats = fd < 0 ? MAP_FAILED
			  : mmap(NULL, sizeof(*n->stats), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (fd >= 0)
		(void)close(fd);
	n->record_map = ipc_get_fd(m);
	n->asker_map = ipc_get_fd(m);
	if (!ipc_end(m) || n->stats == MAP_FAILED) {
		log_error("what the parent sent to begin with is incomplete");
		exit(1);
	}
}

static void take_listener(struct named *n, struct ipc_msg *m)
{
	uint32_t kind = ipc_get_u32(m);
	int fd, rc;

	(void)ipc_get_str(m);
	(void)ipc_get_u64(m);
	fd = ipc_get_fd(m);
	if (!ipc_end(m) || fd < 0) {
		m->bad = true;
		return;
	}
	rc = serve_socket(n, fd, kind == IPC_LISTEN_DNS_TCP);
	if (rc) {
		log_error("cannot serve a socket: %s", strerror(-rc));
		(void)close(fd);
	}
}

static void take_gone(struct named *n, struct ipc_msg *m)
{
	uint64_t cookie = ipc_get_u64(m);

	if (ipc_end(m))
		serve_gone(n, cookie);
	else
		m->bad = true;
}

static void take_agent(struct named *n, struct ipc_msg *m)
{
	uint32_t id = ipc_get_u32(m);
	struct slice name = ipc_get_str(m);
	struct named_agent *a;

	if (!ipc_end(m)) {
		m->bad = true;
		return;
	}
	a = calloc(1, sizeof(*a));
	if (!a)
		return; /* shown as unknown */
	a->id = id;
	(void)snprintf(a->name, sizeof(a->name), "%.*s", (int)name.n, (const char *)name.p);
	list_each(it, &n->agents) {
		struct named_agent *old = container_of(it, struct named_agent, link);

		if (old->id == id) {
			list_del(&old->link);
			free(old);
		}
	}
	list_add_tail(&n->agents, &a->link);
}

static void take_log(struct named *n, struct ipc_msg *m)
{
	int fd = ipc_get_fd(m);

	if (!ipc_end(m)) {
		m->bad = true;
		return;
	}
	if (n->log_fd >= 0)
		(void)close(n->log_fd);
	n->log_fd = fd;
}

static void take_learned(struct named *n, struct ipc_msg *m)
{
	uint32_t reason = ipc_get_u32(m);

	if (!ipc_end(m)) {
		m->bad = true;
		return;
	}
	if (m->id)
		serve_learned(n, m->id, (uint16_t)reason);
	else if (reason)
		named_count(n, (uint16_t)reason);
}

static void take_resolve(struct named *n, struct ipc_msg *m)
{
	struct slice name = ipc_get_str(m), host = ipc_get_str(m);
	char a[NAMED_NAME], b[NAMED_NAME];

	if (!ipc_end(m) || name.n >= sizeof(a) || host.n >= sizeof(b)) {
		m->bad = true;
		return;
	}
	(void)snprintf(a, sizeof(a), "%.*s", (int)name.n, (const char *)name.p);
	(void)snprintf(b, sizeof(b), "%.*s", (int)host.n, (const char *)host.p);
	names_resolve(n, m->id, a, b);
}

static void on_message(void *ctx, struct ipc *ipc, struct ipc_msg *m)
{
	struct named *n = ctx;

	if (m->type == IPC_INIT)
		take_init(n, m);
	else if (m->type == IPC_CONFIG)
		take_config(n, m);
	else if (m->type == IPC_DNS_HOST)
		take_resolv_conf(n, m);
	else if (m->type == IPC_LISTENER)
		take_listener(n, m);
	else if (m->type == IPC_LISTENER_GONE)
		take_gone(n, m);
	else if (m->type == IPC_DNS_AGENT)
		take_agent(n, m);
	else if (m->type == IPC_DNS_LOG)
		take_log(n, m);
	else if (m->type == IPC_DNS_LEARN)
		take_learned(n, m);
	else if (m->type == IPC_DNS_RESOLVE)
		take_resolve(n, m);
	else if (m->type == IPC_RETIRE)
		serve_retire(n);
	else if (m->type != IPC_DRAIN) /* it ends with the parent */
		m->bad = true;
}

static void on_tick(uv_timer_t *t)
{
	struct named *n = t->data;

	if (n->cfg)
		names_tick(n);
}

int named_main(void)
{
	static const struct ipc_ops ops = {.message = on_message, .closed = ipc_parent_gone};
	static struct named n = {.record_map = -1, .asker_map = -1, .log_fd = -1};

	list_init(&n.agents);
	list_init(&n.sockets);
	list_init(&n.conns);
	list_init(&n.queries);
	list_init(&n.names);
	buf_init(&n.json, LINE_MAX_BYTES);
	BUG_ON(dns_ask_init());
	BUG_ON(uv_loop_init(&n.loop));
	n.tick.data = &n;
	(void)uv_timer_init(&n.loop, &n.tick);
	(void)uv_timer_start(&n.tick, on_tick, TICK_MS, TICK_MS);
	BUG_ON(ipc_new(&n.loop, IPC_CHILD_FD, &ops, &n, &n.ipc));
	(void)uv_run(&n.loop, UV_RUN_DEFAULT);
	return 0;
}
