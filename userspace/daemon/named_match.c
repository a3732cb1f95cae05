/* SPDX-License-Identifier: MIT */
/* Which names are targets', which are ways round the resolver, and what an answer says of them. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>

#include "daemon/doh.h"
#include "daemon/named.h"

/* ---------------------------------------------------------------- names */

/* A host without a dot is completed by the host's search list, as its resolver does. */
static bool covered(const struct named *n, const char *host, const char *name)
{
	size_t len = strlen(host);

	if (dns_name_covered(host, name))
		return true;
	if (strchr(host, '.') || strncmp(name, host, len) != 0 || name[len] != '.')
		return false;
	for (uint32_t i = 0; i < n->nsearch; i++)
		if (strcmp(name + len + 1, n->search[i]) == 0)
			return true;
	return false;
}

/* An exact host goes before a wildcard, a longer one before a shorter. */
const char *match_host(const struct named *n, const char *name)
{
	const char *best = NULL;

	for (uint32_t i = 0; i < n->cfg->ntargets; i++) {
		const struct cfg_target *t = &n->cfg->targets[i];

		for (uint32_t k = 0; k < t->naddrs; k++) {
			const struct cfg_addr *a = &t->addrs[k];

			if (a->literal || !covered(n, a->host, name))
				continue;
			if (!a->wildcard)
				return a->host;
			if (!best || strlen(a->host) > strlen(best))
				best = a->host;
		}
	}
	return best;
}

/* The service itself, and what is below it. */
static bool is_or_below(const char *host, const char *name)
{
	size_t h = strlen(host), n = strlen(name);

	return n >= h && strcmp(name + n - h, host) == 0 && (n == h || name[n - h - 1] == '.');
}

bool match_doh(const struct named *n, const char *name)
{
	if (!n->cfg->dns.block_doh)
		return false;
	for (const char *const *d = doh_names; *d; d++)
		if (is_or_below(*d, name))
			return true;
	for (uint32_t i = 0; i < n->cfg->dns.ndoh; i++) {
		struct dns_query q;

		/* Brought into the form of @name; literal addresses are the parent's business. */
		if (dns_query_make(n->cfg->dns.doh[i], DNS_T_A, &q) == 0 && is_or_below(q.name, name))
			return true;
	}
	return false;
}

/* -------------------------------------------------------------- answers */

struct reading {
	const struct named *n;
	struct found *f;
};

static bool note_name(struct reading *r, const char *name)
{
	const char *host = match_host(r->n, name);
	struct found *f = r->f;

	if (!host)
		return false;
	for (uint32_t i = 0; i < f->nnames; i++)
		if (strcmp(f->names[i].name, name) == 0)
			return true;
	if (f->nnames == FOUND_NAMES || strlen(name) >= NAMED_NAME) {
		f->too_many = true;
		return true;
	}
	(void)snprintf(f->names[f->nnames].name, NAMED_NAME, "%s", name);
	f->names[f->nnames++].host = host;
	return true;
}

static void note_addr(struct found *f, const uint8_t addr[16], uint32_t ttl)
{
	if (ttl < f->ttl_s)
		f->ttl_s = ttl;
	for (uint32_t i = 0; i < f->naddrs; i++)
		if (memcmp(f->addrs[i], addr, 16) == 0)
			return;
	if (f->naddrs == FOUND_ADDRS)
		f->too_many = true;
	else
		memcpy(f->addrs[f->naddrs++], addr, 16);
}

/*
 * A resolver may follow the chain of CNAMEs as loosely as it likes: whatever address stands in an
 * answer in which a target's name occurs may be taken for the target's.
 */
static void on_record(void *ctx, const struct dns_record *rec)
{
	struct reading *r = ctx;
	bool of_target = note_name(r, rec->owner);

	if (rec->type == DNS_T_CNAME || rec->type == DNS_T_DNAME) {
		(void)note_name(r, rec->target);
		if (rec->ttl < r->f->ttl_s)
			r->f->ttl_s = rec->ttl;
	}
	if (rec->type == DNS_T_SVCB || rec->type == DNS_T_HTTPS)
		r->f->service = true;
	if (rec->addr && (rec->section == DNS_ANSWER || of_target))
		note_addr(r->f, rec->addr, rec->ttl);
}

int match_answer(const struct named *n, struct slice msg, const struct dns_query *q,
		 struct found *ret, struct dns_answer *ret_answer)
{
	struct reading r = {.n = n, .f = ret};

	ret->nnames = ret->naddrs = 0;
	ret->ttl_s = UINT32_MAX;
	ret->too_many = ret->service = false;
	(void)note_name(&r, q->name);
	return dns_answer_parse(msg, q, on_record, &r, ret_answer);
}

void match_learn(struct named *n, uint64_t id, const struct found *f)
{
	ipc_begin(n->ipc, IPC_DNS_LEARN, id);
	ipc_put_u32(n->ipc, f->ttl_s == UINT32_MAX ? 0 : f->ttl_s);
	ipc_put_u32(n->ipc, f->nnames);
	for (uint32_t i = 0; i < f->nnames; i++) {
		ipc_put_str(n->ipc, f->names[i].name);
		ipc_put_str(n->ipc, f->names[i].host);
	}
	ipc_put_bytes(n->ipc, slice_of(f->addrs, f->naddrs * sizeof(f->addrs[0])));
	ipc_send(n->ipc);
}
