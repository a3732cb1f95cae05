/* SPDX-License-Identifier: MIT */
/* One line of JSON for each look-up of an agent, written before the answer goes out. */
#include <arpa/inet.h>
#include <errno.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/jsonw.h"
#include "base/text.h"
#include "daemon/address.h"
#include "daemon/named.h"

enum { SHOWN_ADDRS = 64 };

static const char *agent_name(const struct named *n, uint32_t id)
{
	list_each(it, &n->agents) {
		const struct named_agent *a = container_of(it, struct named_agent, link);

		if (a->id == id)
			return a->name;
	}
	return "?";
}

static void put_who(const struct named *n, struct jsonw *w, const struct tg_record *r)
{
	char server[ADDRESS_TEXT];

	jsonw_kv_string(w, "agent", agent_name(n, r->agent));
	jsonw_kv_u64(w, "uid", r->uid);
	jsonw_kv_u64(w, "pid", r->tgid);
	jsonw_kv_slice(w, "comm", slice_of(r->comm, strnlen(r->comm, sizeof(r->comm))));
	jsonw_kv_u64(w, "cgroup_id", r->cgroup_id);
	address_format_mapped(r->addr, ntohs(r->port_be), server);
	jsonw_kv_string(w, "server", server);
}

static void put_found(struct jsonw *w, const struct found *f)
{
	char text[INET6_ADDRSTRLEN];

	jsonw_name(w, "addresses");
	jsonw_array(w);
	for (uint32_t i = 0; i < f->naddrs && i < SHOWN_ADDRS; i++) {
		bool v4 = IN6_IS_ADDR_V4MAPPED((const struct in6_addr *)f->addrs[i]);

		if (inet_ntop(v4 ? AF_INET : AF_INET6, f->addrs[i] + (v4 ? 12 : 0), text, sizeof(text)))
			jsonw_string(w, text);
	}
	jsonw_array_end(w);
	jsonw_kv_u64(w, "naddresses", f->naddrs);
	jsonw_name(w, "target_names");
	jsonw_array(w);
	for (uint32_t i = 0; i < f->nnames; i++)
		jsonw_string(w, f->names[i].name);
	jsonw_array_end(w);
}

static int make_line(struct named *n, const struct log_entry *e)
{
	char when[32], type[16];
	struct jsonw w;

	buf_reset(&n->json);
	jsonw_init(&w, &n->json, false);
	jsonw_object(&w);
	text_time(clock_wall_ns(), when, sizeof(when));
	jsonw_kv_string(&w, "time", when);
	put_who(n, &w, e->rec);
	jsonw_kv_string(&w, "via", e->tcp ? "tcp" : "udp");
	jsonw_kv_string(&w, "name", e->q->nwire ? e->q->name : "");
	jsonw_kv_string(&w, "type", dns_type_name(e->q->type, type));
	jsonw_kv_string(&w, "rcode", dns_rcode_name(e->rcode));
	if (e->reason)
		jsonw_kv_string(&w, "reason", reason_label(e->reason));
	if (e->found)
		put_found(&w, e->found);
	jsonw_kv_u64(&w, "took_us", e->took_ns / 1000);
	jsonw_object_end(&w);
	if (jsonw_end(&w))
		return -ENOMEM;
	return buf_append(&n->json, "\n", 1);
}

bool named_log(struct named *n, const struct log_entry *e)
{
	if (!n->cfg->dns.log)
		return true;
	if (n->log_fd >= 0 && make_line(n, e) == 0 &&
	    write(n->log_fd, buf_data(&n->json), n->json.n) == (ssize_t)n->json.n)
		return true;
	named_count(n, TG_R_RECORD_FAILED);
	return !n->cfg->record_required;
}
