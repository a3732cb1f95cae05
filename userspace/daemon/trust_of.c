/* SPDX-License-Identifier: MIT */
/* In a worker or roled: from what the parent has read to what a handshake needs. */
#include <errno.h>
#include <jansson.h>
#include <netinet/in.h>
#include <unistd.h>

#include "base/list.h"
#include "daemon/address.h"
#include "daemon/memfd.h"
#include "daemon/trust.h"
#include "inspect/inspect.h"

/* Of one target, made when it is first needed. */
struct known {
	struct list link;
	const struct cfg_target *target;
	struct tls_trust tls;
};

struct trust {
	json_t *files;
	struct list known;
};

struct trust *trust_take(int fd)
{
	struct trust *t = calloc(1, sizeof(*t));
	struct slice text = slice_of("", 0);

	if (t && memfd_map(fd, &text) == 0) {
		list_init(&t->known);
		t->files = json_loadb((const char *)text.p, text.n, JSON_REJECT_DUPLICATES, NULL);
		memfd_unmap(text);
	}
	(void)close(fd);
	if (t && t->files)
		return t;
	free(t);
	return NULL;
}

void trust_free(struct trust *t)
{
	if (!t)
		return;
	list_each(it, &t->known) {
		struct known *k = container_of(it, struct known, link);

		tls_trust_done(&k->tls);
		free(k);
	}
	json_decref(t->files);
	free(t);
}

static const struct tls_trust *get(struct trust *t, const struct cfg_target *target,
				   const char **ret_why)
{
	const json_t *pem = t ? json_object_get(t->files, target->tls->ca_file) : NULL;
	const struct tls_trust_spec spec = {
		.authorities = slice_of(json_string_value(pem), json_string_length(pem)),
		.only_13 = target->tls->only_13,
		.pins = (const uint8_t(*)[TLS_PIN])target->tls->pins,
		.npins = target->tls->npin,
	};
	struct known *k;

	*ret_why = "its ca_file cannot be used: see the journal of tidegated";
	if (!pem)
		return NULL;
	list_each(it, &t->known) {
		k = container_of(it, struct known, link);
		if (k->target == target)
			return &k->tls;
	}
	*ret_why = "out of memory";
	k = calloc(1, sizeof(*k));
	if (!k || tls_trust_new(&spec, &k->tls, ret_why)) {
		free(k);
		return NULL;
	}
	k->target = target;
	list_init(&k->link);
	list_add_tail(&t->known, &k->link);
	return &k->tls;
}

static bool address_of(const char *upstream, uint8_t ip[16], size_t *ret_n)
{
	struct sockaddr_storage ss;
	socklen_t len;

	if (address_parse(upstream, &ss, &len))
		return false;
	if (ss.ss_family == AF_INET) {
		const struct sockaddr_in *sin = (const struct sockaddr_in *)&ss;

		memcpy(ip, &sin->sin_addr, *ret_n = 4);
	} else {
		const struct sockaddr_in6 *sin6 = (const struct sockaddr_in6 *)&ss;
		bool mapped = IN6_IS_ADDR_V4MAPPED(&sin6->sin6_addr);

		*ret_n = mapped ? 4 : 16;
		memcpy(ip, sin6->sin6_addr.s6_addr + (mapped ? 12 : 0), *ret_n);
	}
	return true;
}

int trust_start(struct trust *trust, const struct cfg_target *target, const char *upstream,
		struct trust_start *ret, const char **ret_why)
{
	const struct inspector *insp = inspector_find(slice_str(target->protocol));
	const struct cfg_tls *c = target->tls;

	*ret = (struct trust_start){.tls = {.trust = get(trust, target, ret_why)}};
	if (!ret->tls.trust)
		return -ENOENT;
	*ret_why = "its address is none that a certificate can be for";
	if (c->names)
		ret->tls.names = c->names;
	else if (c->server_name ? !cfg_tls_ip(c->server_name, ret->ip, &ret->tls.ip_n)
				: !address_of(upstream, ret->ip, &ret->tls.ip_n))
		return -EINVAL;
	ret->tls.ip = ret->ip;
	if (insp && insp->tls_ask) {
		ret->tls.ask = slice_of(ret->ask, insp->tls_ask(ret->ask));
		ret->tls.answer = insp->tls_answer;
	}
	return 0;
}
