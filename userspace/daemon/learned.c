/* SPDX-License-Identifier: MIT */
/* The table of learned addresses: what may be in it, for how long, and what it is used for. */
#include "daemon/learned.h"

#include <errno.h>
#include <netinet/in.h>
#include <strings.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "daemon/address.h"
#include "daemon/children.h"
#include "daemon/hand.h"
#include "daemon/registry.h"
#include "kern/kern.h"

enum { NAMES_OF_ANSWER = 8, ADDRS_OF_ANSWER = 256, LOGGED_PER_TICK = 5 };

struct resolve {
	struct list link;
	uint64_t id;
	struct uuid session;
	struct learned_ask ask;
};

/* ------------------------------------------------------------- addresses */

/* What no name of a target means by itself: a rebinding name server could reach the host with it. */
static bool is_special(const struct parent *p, const uint8_t addr[16])
{
	static const char *const special[] = {
		"0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3",
		"::/127",    "fe80::/10",   "ff00::/8",
	};
	const struct cfg_dns *d = &p->cfg->dns;
	bool found = false;

	for (size_t i = 0; i < ARRAY_SIZE(special) && !found; i++)
		found = address_in_cidr(special[i], addr);
	for (uint32_t i = 0; i < d->nspecial && found; i++)
		found = !address_in_cidr(d->special[i], addr);
	return found;
}

static void key_of(struct tg_addr_key *key, const uint8_t addr[16], uint16_t port)
{
	*key = (struct tg_addr_key){
		.prefixlen = 32 + 128, .protocol = IPPROTO_TCP, .port_be = htons(port)};
	memcpy(key->addr, addr, 16);
}

static struct learned *find(const struct parent *p, const struct tg_addr_key *key)
{
	struct learned *e;

	HASH_FIND(hh, p->learned->table, key, sizeof(*key), e);
	return e;
}

/* The configuration names this very address for @t. */
static bool is_literal(const struct ptarget *t, const struct tg_addr_key *key)
{
	for (uint32_t i = 0; t->cfg && i < t->cfg->naddrs; i++) {
		const struct cfg_addr *a = &t->cfg->addrs[i];

		if (a->literal && a->prefix == 128 && htons(a->port) == key->port_be &&
		    memcmp(a->addrs, key->addr, 16) == 0)
			return true;
	}
	return false;
}

/* Another target than @target that the configuration gives this very address, or NULL. */
static const struct ptarget *literal_of(const struct parent *p, const struct tg_addr_key *key,
					uint32_t target)
{
	list_each(it, &p->targets) {
		const struct ptarget *t = container_of(it, struct ptarget, link);

		if (t->id != target && is_literal(t, key))
			return t;
	}
	return NULL;
}

/* Another target that has this address, or NULL. */
static const struct ptarget *taken(struct parent *p, const struct tg_addr_key *key, uint32_t target)
{
	const struct learned *e = find(p, key);

	return e && e->target != target ? target_by_id(p, e->target) : literal_of(p, key, target);
}

/* The host's /etc/hosts says so, which agents read by themselves. */
static bool in_hosts(const struct ptarget *t, const struct tg_addr_key *key)
{
	uint8_t hosts[16][16];

	for (uint32_t i = 0; t->cfg && i < t->cfg->naddrs; i++) {
		const struct cfg_addr *a = &t->cfg->addrs[i];
		size_t n = 0;

		if (!a->literal && htons(a->port) == key->port_be)
			n = learned_hosts(a->host, hosts, ARRAY_SIZE(hosts));
		while (n--)
			if (memcmp(hosts[n], key->addr, 16) == 0)
				return true;
	}
	return false;
}

/* ---------------------------------------------------------------- the table */

static void set_time(struct learned *e, uint64_t ms)
{
	uint64_t until = clock_boot_ns() + ms * 1000000;

	e->seen_wall_ns = clock_wall_ns();
	if (until <= e->until_boot_ns)
		return;
	e->until_boot_ns = until;
	e->until_wall_ns = e->seen_wall_ns + ms * 1000000;
}

static struct learned *put(struct parent *p, const struct tg_addr_key *key, uint32_t target)
{
	struct learned *e = find(p, key);

	if (e)
		return e;
	e = calloc(1, sizeof(*e));
	if (!e)
		return NULL;
	e->key = *key;
	e->target = target;
	e->since_wall_ns = clock_wall_ns();
	HASH_ADD(hh, p->learned->table, key, sizeof(e->key), e);
	p->learned->dirty = true;
	return e;
}

static void forget(struct parent *p, struct learned *e)
{
	HASH_DEL(p->learned->table, e);
	free(e);
	p->learned->dirty = true;
}

static uint32_t count_of(const struct parent *p, uint32_t target)
{
	struct learned *e, *tmp;
	uint32_t n = 0;

	HASH_ITER(hh, p->learned->table, e, tmp)
		n += e->target == target;
	return n;
}

static void drop_old(struct parent *p)
{
	uint64_t now = clock_boot_ns();
	struct learned *e, *tmp;

	HASH_ITER(hh, p->learned->table, e, tmp) {
		const struct ptarget *t = target_by_id(p, e->target);
		bool literal = t && is_literal(t, &e->key);
		int rc = 0;

		/* Who is connected may have it in mind still. */
		if (now < e->until_boot_ns || (t && t->sessions))
			continue;
		if (t && !literal && in_hosts(t, &e->key))
			continue;
		if (p->kern && !literal)
			rc = targets_free_addr(p, &e->key);
		if (rc && rc != -ENOENT)
			continue; /* next second */
		log_debug("an address of %s is too old and is forgotten", e->name);
		forget(p, e);
	}
}

void learned_forget_old(struct parent *p)
{
	drop_old(p);
	p->learned->logged = 0;
	if (p->learned->dirty && targets_save(p) == 0)
		p->learned->dirty = false;
}

void learned_each(const struct parent *p, const struct ptarget *t,
		  void (*fn)(void *ctx, const struct tg_addr_key *key), void *ctx)
{
	struct learned *e, *tmp;

	if (!p->learned)
		return;
	HASH_ITER(hh, p->learned->table, e, tmp)
		if (e->target == t->id)
			fn(ctx, &e->key);
}

/* The hosts of @t on that port: how many, and the only one if it is no wildcard. */
static uint32_t hosts_on(const struct ptarget *t, uint16_t port_be, const char **ret_only)
{
	uint32_t n = 0;

	*ret_only = NULL;
	for (uint32_t i = 0; t->cfg && i < t->cfg->naddrs; i++) {
		const struct cfg_addr *a = &t->cfg->addrs[i];

		if (a->literal || htons(a->port) != port_be)
			continue;
		*ret_only = n++ || a->wildcard ? NULL : a->host;
	}
	return n;
}

void learned_adopt(struct parent *p, const struct ptarget *t, const struct tg_addr_key *key)
{
	struct learned *e;
	const char *only;

	if (!p->learned || key->prefixlen != 32 + 128 || key->protocol != IPPROTO_TCP ||
	    !hosts_on(t, key->port_be, &only) || is_literal(t, key) || find(p, key))
		return;
	e = put(p, key, t->id);
	if (!e)
		return;
	if (only) {
		(void)snprintf(e->name, sizeof(e->name), "%s", only);
		(void)snprintf(e->host, sizeof(e->host), "%s", only);
	}
	set_time(e, p->cfg->dns.keep_ms);
}

static bool still_configured(struct parent *p, const struct learned *e)
{
	const struct ptarget *t = target_by_id(p, e->target);

	for (uint32_t i = 0; t && t->cfg && i < t->cfg->naddrs; i++) {
		const struct cfg_addr *a = &t->cfg->addrs[i];

		if (!a->literal && htons(a->port) == e->key.port_be &&
		    (!e->host[0] || strcmp(a->host, e->host) == 0))
			return true;
	}
	return false;
}

void learned_prune(struct parent *p)
{
	struct learned *e, *tmp;

	if (!p->learned)
		return;
	HASH_ITER(hh, p->learned->table, e, tmp)
		if (!still_configured(p, e) || literal_of(p, &e->key, e->target))
			forget(p, e);
}

/* --------------------------------------------------------------- learning */

struct lesson {
	uint32_t ttl_s, nnames, naddrs;
	struct slice names[NAMES_OF_ANSWER], hosts[NAMES_OF_ANSWER];
	const uint8_t *addrs;
};

static bool parse_lesson(struct ipc_msg *m, struct lesson *l)
{
	struct slice addrs;

	l->ttl_s = ipc_get_u32(m);
	l->nnames = ipc_get_u32(m);
	if (l->nnames > NAMES_OF_ANSWER)
		return false;
	for (uint32_t i = 0; i < l->nnames; i++) {
		l->names[i] = ipc_get_str(m);
		l->hosts[i] = ipc_get_str(m);
		if (l->names[i].n > 255 || l->hosts[i].n > 255)
			return false;
	}
	addrs = ipc_get_bytes(m);
	l->addrs = addrs.p;
	l->naddrs = (uint32_t)(addrs.n / 16);
	return ipc_end(m) && addrs.n % 16 == 0 && l->naddrs <= ADDRS_OF_ANSWER;
}

static void log_refusal(struct parent *p, struct slice name, const struct ptarget *t,
			const uint8_t *addr, const struct ptarget *other)
{
	char text[ADDRESS_TEXT], shown[300];

	if (p->learned->logged++ >= LOGGED_PER_TICK)
		return;
	address_format_mapped(addr, 0, text);
	text[strlen(text) - 2] = '\0'; /* ":0" */
	(void)text_escape(name, shown, sizeof(shown));
	log_warning("the name %s of target %s led to %s, which %s%s: refused", shown, t->name, text,
		    other ? "belongs to target " : "no target's name may mean (dns: allow_special:)",
		    other ? other->name : "");
}

/* Another target that has a name of the same answer, on that port; or NULL. */
static const struct ptarget *shared(const struct parent *p, const struct lesson *l,
				    const struct ptarget *t, uint16_t port)
{
	list_each(it, &p->targets) {
		const struct ptarget *o = container_of(it, struct ptarget, link);

		for (uint32_t i = 0; o != t && o->cfg && i < o->cfg->naddrs; i++) {
			const struct cfg_addr *a = &o->cfg->addrs[i];

			if (a->literal || a->port != port)
				continue;
			for (uint32_t n = 0; n < l->nnames; n++)
				if (slice_eq_str(l->hosts[n], a->host))
					return o;
		}
	}
	return NULL;
}

static uint16_t check_one(struct parent *p, const struct ptarget *t, uint16_t port,
			  const struct lesson *l, struct slice name, const uint8_t *addr)
{
	const struct ptarget *other;
	struct tg_addr_key key;

	if (is_special(p, addr)) {
		log_refusal(p, name, t, addr, NULL);
		return TG_R_DNS_REBIND;
	}
	key_of(&key, addr, port);
	other = taken(p, &key, t->id);
	if (!other)
		other = shared(p, l, t, port);
	if (other) {
		log_refusal(p, name, t, addr, other);
		return TG_R_DNS_REBIND;
	}
	return 0;
}

static uint16_t put_one(struct parent *p, const struct ptarget *t, const struct cfg_addr *a,
			const struct lesson *l, uint32_t name, const uint8_t *addr)
{
	struct tg_addr_key key;
	struct learned *e;

	key_of(&key, addr, a->port);
	e = find(p, &key);
	if (!e && (HASH_COUNT(p->learned->table) >= LEARNED_MAX ||
		   count_of(p, t->id) >= LEARNED_TARGET_MAX))
		return TG_R_DNS_FULL;
	if (!e && p->kern && !is_literal(t, &key) && kern_addr_set(p->kern, &key, t->id))
		return TG_R_DNS_FULL;
	e = put(p, &key, t->id);
	if (!e)
		return TG_R_NO_MEMORY;
	(void)snprintf(e->name, sizeof(e->name), "%.*s", (int)l->names[name].n,
		       (const char *)l->names[name].p);
	(void)snprintf(e->host, sizeof(e->host), "%s", a->host);
	e->ttl_s = l->ttl_s;
	set_time(e, p->cfg->dns.keep_ms + (l->ttl_s < 604800 ? l->ttl_s : 604800) * 1000ull);
	return 0;
}

/* All of it or nothing: an answer goes to the agent as a whole. */
static uint16_t learn(struct parent *p, const struct lesson *l, bool check)
{
	uint16_t why = 0;

	for (uint32_t n = 0; n < l->nnames; n++) {
		list_each(it, &p->targets) {
			const struct ptarget *t = container_of(it, struct ptarget, link);

			for (uint32_t i = 0; t->cfg && i < t->cfg->naddrs; i++) {
				const struct cfg_addr *a = &t->cfg->addrs[i];

				if (a->literal || !slice_eq_str(l->hosts[n], a->host))
					continue;
				for (uint32_t k = 0; k < l->naddrs && !why; k++)
					why = check ? check_one(p, t, a->port, l, l->names[n],
								l->addrs + 16 * k)
						    : put_one(p, t, a, l, n, l->addrs + 16 * k);
			}
		}
	}
	return why;
}

static void take_lesson(struct parent *p, struct child *c, struct ipc_msg *m)
{
	struct lesson l;
	uint16_t why;

	if (!parse_lesson(m, &l)) {
		m->bad = true;
		return;
	}
	why = learn(p, &l, true);
	if (!why)
		why = learn(p, &l, false);
	ipc_begin(c->ipc, IPC_DNS_LEARN, m->id);
	ipc_put_u32(c->ipc, why);
	ipc_send(c->ipc);
}

/* ------------------------------------------------------- where sessions go */

bool learned_upstream(struct parent *p, const struct ptarget *t, const uint8_t addr[16],
		      uint16_t port, char *dst, struct learned_ask *ask)
{
	struct tg_addr_key key;
	struct learned *e = NULL;

	for (int any = 0; p->learned && !e && any < 2; any++) {
		key_of(&key, addr, any ? 0 : port);
		e = find(p, &key);
	}
	if (!e || e->target != t->id || !e->name[0] || is_literal(t, &e->key)) {
		address_format_mapped(addr, port, dst);
		return true;
	}
	e->hits++;
	memcpy(ask->name, e->name, sizeof(ask->name));
	memcpy(ask->host, e->host, sizeof(ask->host));
	memcpy(ask->first, addr, 16);
	ask->has_first = true;
	ask->port = port;
	return false;
}

bool learned_upstream_first(const struct cfg_target *t, char *dst, struct learned_ask *ask)
{
	const struct cfg_addr *a = &t->addrs[0];

	dst[0] = '\0';
	if (!t->naddrs)
		return true;
	if (a->literal) {
		address_format_mapped(a->addrs[0].s6_addr, a->port, dst);
		return true;
	}
	(void)snprintf(ask->name, sizeof(ask->name), "%s", a->host);
	(void)snprintf(ask->host, sizeof(ask->host), "%s", a->host);
	ask->port = a->port;
	return false;
}

static void add_upstream(char *dst, size_t cap, const uint8_t *addr, uint16_t port)
{
	size_t used = strlen(dst);
	char text[ADDRESS_TEXT];

	address_format_mapped(addr, port, text);
	if (strlen(text) + 2 <= cap - used)
		(void)snprintf(dst + used, cap - used, "%s%s", used ? " " : "", text);
}

/* The one that the agent chose goes first, as long as the name still means it. */
static void join(const struct parent *p, const struct learned_ask *ask, const uint8_t *addrs,
		 size_t n, bool trusted, char *dst, size_t cap)
{
	dst[0] = '\0';
	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < n; i++) {
			const uint8_t *a = addrs + 16 * i;
			bool first = ask->has_first && memcmp(a, ask->first, 16) == 0;

			if (first == (round == 0) && (trusted || !is_special(p, a)))
				add_upstream(dst, cap, a, ask->port);
		}
	}
}

static void resolve_free(struct resolve *r)
{
	list_del(&r->link);
	free(r);
}

/* After an upgrade the one of before, until the new one is up. */
static struct child *ready_named(struct parent *p)
{
	if (p->named.ipc && p->named.ready)
		return &p->named;
	for (size_t i = 0; i < OLD_MAX; i++)
		if (p->old[i].role == ROLE_NAMED && p->old[i].ipc && p->old[i].ready)
			return &p->old[i];
	return NULL;
}

int learned_resolve(struct parent *p, const struct learned_ask *ask, const struct uuid *session)
{
	uint8_t hosts[16][16];
	size_t n = learned_hosts(ask->name, hosts, ARRAY_SIZE(hosts));
	struct psession *unused;
	struct resolve *r;
	struct child *named;

	if (n) {
		char upstream[sizeof(unused->upstream)];

		join(p, ask, hosts[0], n, true, upstream, sizeof(upstream));
		session_resolved(p, session, upstream);
		return 0;
	}
	named = ready_named(p);
	if (!p->learned || !named)
		return -ENOTCONN;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	list_init(&r->link);
	r->id = ++p->next_id;
	r->session = *session;
	r->ask = *ask;
	list_add_tail(&p->learned->asks, &r->link);
	ipc_begin(named->ipc, IPC_DNS_RESOLVE, r->id);
	ipc_put_str(named->ipc, ask->name);
	ipc_put_str(named->ipc, ask->host);
	ipc_send(named->ipc);
	return 0;
}

static void take_resolved(struct parent *p, struct ipc_msg *m)
{
	uint32_t error = ipc_get_u32(m);
	struct slice addrs = ipc_get_bytes(m);
	struct psession *unused;
	char upstream[sizeof(unused->upstream)];

	if (!ipc_end(m) || addrs.n % 16) {
		m->bad = true;
		return;
	}
	list_each(it, &p->learned->asks) {
		struct resolve *r = container_of(it, struct resolve, link);

		if (r->id != m->id)
			continue;
		join(p, &r->ask, addrs.p, error ? 0 : addrs.n / 16, false, upstream, sizeof(upstream));
		session_resolved(p, &r->session, upstream);
		resolve_free(r);
		return;
	}
}

void learned_gone(struct parent *p)
{
	list_each(it, &p->learned->asks) {
		struct resolve *r = container_of(it, struct resolve, link);

		session_resolved(p, &r->session, "");
		resolve_free(r);
	}
}

void learned_message(struct parent *p, struct child *c, struct ipc_msg *m)
{
	switch (m->type) {
	case IPC_READY:
		c->ready = true;
		if (c->retired)
			break;
		learned_give(c);
		children_retire_old(p, ROLE_NAMED);
		break;
	case IPC_DNS_LEARN:
		take_lesson(p, c, m);
		break;
	case IPC_DNS_RESOLVE:
		take_resolved(p, m);
		break;
	case IPC_DNS_ROUND:
		p->learned->round = true;
		break;
	default:
		m->bad = true;
	}
}

/* ------------------------------------------------------------------ shown */

/* The row of a name on a target, or a new one. */
static json_t *row_of(json_t *list, const struct learned *e, const struct ptarget *t)
{
	json_t *o;
	size_t i;

	json_array_foreach(list, i, o)
		if (strcmp(json_string_value(json_object_get(o, "name")), e->name) == 0 &&
		    strcmp(json_string_value(json_object_get(o, "target")), t->name) == 0)
			return o;
	o = json_pack("{s:s, s:s, s:s, s:o, s:i, s:o, s:o, s:o, s:I}", "name", e->name, "host",
		      e->host, "target", t->name, "addresses", json_array(), "ttl_s", (int)e->ttl_s,
		      "since", time_json(e->since_wall_ns), "seen", time_json(e->seen_wall_ns), "until",
		      time_json(e->until_wall_ns), "sessions", (json_int_t)0);
	if (o)
		(void)json_array_append_new(list, o);
	return o;
}

json_t *learned_list_json(struct parent *p)
{
	json_t *list = json_array(), *o;
	struct learned *e, *tmp;
	char text[ADDRESS_TEXT];

	if (!p->learned)
		return list;
	HASH_ITER(hh, p->learned->table, e, tmp) {
		const struct ptarget *t = target_by_id(p, e->target);

		o = t ? row_of(list, e, t) : NULL;
		if (!o)
			continue;
		address_format_mapped(e->key.addr, ntohs(e->key.port_be), text);
		(void)json_array_append_new(json_object_get(o, "addresses"), json_string(text));
		(void)json_object_set_new(
			o, "sessions",
			json_integer(json_integer_value(json_object_get(o, "sessions")) +
				     (json_int_t)e->hits));
	}
	return list;
}

/* ---------------------------------------------------------------- upgrades */

static json_t *save_address(struct hand *h, const struct learned *e)
{
	json_t *o = json_object();

	hand_put_slice(h, o, "key", slice_of(&e->key, sizeof(e->key)));
	hand_put_u64(h, o, "target", e->target);
	hand_put_u64(h, o, "ttl", e->ttl_s);
	hand_put_str(h, o, "name", e->name);
	hand_put_str(h, o, "host", e->host);
	hand_put_u64(h, o, "until_boot", e->until_boot_ns);
	hand_put_u64(h, o, "until", e->until_wall_ns);
	hand_put_u64(h, o, "since", e->since_wall_ns);
	hand_put_u64(h, o, "seen", e->seen_wall_ns);
	hand_put_u64(h, o, "hits", e->hits);
	return o;
}

static json_t *save_ask(struct hand *h, const struct resolve *r)
{
	json_t *o = json_object();

	hand_put_u64(h, o, "id", r->id);
	hand_put_slice(h, o, "session", slice_of(r->session.b, sizeof(r->session.b)));
	hand_put_str(h, o, "name", r->ask.name);
	hand_put_str(h, o, "host", r->ask.host);
	hand_put_u64(h, o, "port", r->ask.port);
	hand_put_slice(h, o, "first", slice_of(r->ask.first, sizeof(r->ask.first)));
	hand_put_bool(h, o, "has_first", r->ask.has_first);
	return o;
}

void learned_save(struct parent *p, struct hand *h, json_t *root)
{
	json_t *addresses = json_array(), *asks = json_array();
	struct learned *e, *tmp;

	HASH_ITER(hh, p->learned->table, e, tmp)
		(void)json_array_append_new(addresses, save_address(h, e));
	list_each(it, &p->learned->asks)
		(void)json_array_append_new(asks,
					    save_ask(h, container_of(it, struct resolve, link)));
	hand_put(h, root, "learned", addresses);
	hand_put(h, root, "resolving", asks);
	hand_put_bool(h, root, "learned_round", p->learned->round);
}

static void take_address(struct parent *p, struct hand *h, const json_t *o)
{
	struct tg_addr_key key = {0};
	struct learned *e;

	hand_bytes(h, o, "key", &key, sizeof(key));
	e = put(p, &key, (uint32_t)hand_u64(h, o, "target"));
	if (!e) {
		hand_fail(h, "learned");
		return;
	}
	e->ttl_s = (uint32_t)hand_u64(h, o, "ttl");
	hand_str(h, o, "name", e->name, sizeof(e->name));
	hand_str(h, o, "host", e->host, sizeof(e->host));
	e->until_boot_ns = hand_u64(h, o, "until_boot");
	e->until_wall_ns = hand_u64(h, o, "until");
	e->since_wall_ns = hand_u64(h, o, "since");
	e->seen_wall_ns = hand_u64(h, o, "seen");
	e->hits = hand_u64(h, o, "hits");
}

static void take_ask(struct parent *p, struct hand *h, const json_t *o)
{
	struct resolve *r = calloc(1, sizeof(*r));

	if (!r) {
		hand_fail(h, "resolving");
		return;
	}
	r->id = hand_u64(h, o, "id");
	hand_bytes(h, o, "session", r->session.b, sizeof(r->session.b));
	hand_str(h, o, "name", r->ask.name, sizeof(r->ask.name));
	hand_str(h, o, "host", r->ask.host, sizeof(r->ask.host));
	r->ask.port = (uint16_t)hand_u64(h, o, "port");
	hand_bytes(h, o, "first", r->ask.first, sizeof(r->ask.first));
	r->ask.has_first = hand_bool(h, o, "has_first");
	r->ask.wanted = true;
	list_add_tail(&p->learned->asks, &r->link);
}

void learned_take(struct parent *p, struct hand *h, const json_t *root)
{
	json_t *o;
	size_t i;

	json_array_foreach(hand_list(h, root, "learned"), i, o)
		take_address(p, h, o);
	json_array_foreach(hand_list(h, root, "resolving"), i, o)
		take_ask(p, h, o);
	p->learned->round = hand_bool(h, root, "learned_round");
}
