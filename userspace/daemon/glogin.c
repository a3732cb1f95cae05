/* SPDX-License-Identifier: MIT */
#include "daemon/glogin.h"

#include <errno.h>

#include "base/log.h"
#include "daemon/address.h"
#include "daemon/children.h"
#include "daemon/hand.h"
#include "daemon/registry.h"
#include "daemon/roles.h"

/* A question of a worker that keyd has been asked. */
struct glogin {
	struct list link;
	struct child *worker;
	uint64_t ask, id; /* the worker's number, and that towards keyd; 0: keyd is not asked yet */
	const struct prole *role; /* which is waited for, or logged in as; NULL: a token */
	struct uuid session;
};

struct outcome {
	int error; /* errno; ENOTCONN: ask again */
	uint16_t reason;
	struct slice user, key;
	const char *words;
};

static void answer(struct child *c, uint64_t ask, const struct uuid *u, const struct outcome *o)
{
	if (!c->ipc)
		return;
	ipc_begin(c->ipc, IPC_GRANT_LOGIN, ask);
	ipc_put_uuid(c->ipc, u);
	ipc_put_u32(c->ipc, (uint32_t)o->error);
	ipc_put_u32(c->ipc, o->reason);
	ipc_put_slice(c->ipc, o->user);
	ipc_put_slice(c->ipc, o->key);
	ipc_put_str(c->ipc, o->words ? o->words : "");
	ipc_send(c->ipc);
}

static struct outcome no_token(const char *words)
{
	return (struct outcome){
		.error = ENOKEY, .reason = TG_R_CREDENTIAL_NO_TOKEN, .words = words};
}

static const char *why_none(const struct grant *g)
{
	if (!g)
		return "this access needed no approval, so no token was issued for it";
	if (strcmp(g->scope, "*") == 0)
		return "the grant was given by an operator, not by the identity provider";
	return g->lost ? "the token of this grant is not there any more; the provider is asked for another"
		       : "the ways that were asked for this grant do not include the credential's "
			 "grant_token";
}

static int ask_keyd(struct parent *p, struct glogin *l, uint64_t number, const struct psession *s)
{
	struct ipc *ipc = p->keyd.ipc;

	if (!ipc)
		return -ENOTCONN;
	l->id = ++p->next_id;
	ipc_begin(ipc, IPC_GRANT_KEY, l->id);
	ipc_put_u64(ipc, number);
	ipc_put_str(ipc, s->target->cfg->login->name);
	/* Nobody else reads along: on this host, or through TLS with who proves that it is the server. */
	ipc_put_u32(ipc, address_all_local(s->upstream) || cfg_target_verified(s->target->cfg));
	ipc_send(ipc);
	return 0;
}

/* With a role that is not there yet it waits. */
static int begin(struct parent *p, struct child *c, uint64_t ask, const struct psession *s,
		 uint64_t number, const struct prole *r)
{
	struct glogin *l = calloc(1, sizeof(*l));
	int rc = 0;

	if (!l)
		return -ENOMEM;
	l->worker = c;
	l->ask = ask;
	l->session = s->uuid;
	l->role = r;
	if (!r || role_ready(r))
		rc = ask_keyd(p, l, number, s);
	if (rc) {
		free(l);
		return rc;
	}
	list_add_tail(&p->glogins, &l->link);
	return 0;
}

/* A worker decides who is let in; one that an agent has taken over gets no role by that alone. */
static bool needs_grant(const struct parent *p, const struct psession *s)
{
	return s->target->mode != TARGET_OBSERVE &&
	       policy_asks_always(p->cfg->policy, slice_str(s->agent->name), slice_str(s->target->name));
}

static int begin_role(struct parent *p, struct child *c, uint64_t ask, const struct psession *s,
		      const struct grant *g)
{
	const struct prole *r;

	if (!g && needs_grant(p, s))
		return -EACCES;
	if (!p->keyd.ipc || !p->roled.ready)
		return -ENOTCONN;
	r = roles_want(p, s, g, s->target->cfg->login);
	return r ? begin(p, c, ask, s, r->number, r) : -EBUSY;
}

/* What the session's target has now: a worker cannot choose. */
static bool is_its_credential(const struct psession *s, struct slice credential)
{
	const struct cfg_target *t = s->target ? s->target->cfg : NULL;

	return t && t->login && cfg_credential_granted(t->login) &&
	       slice_eq_str(credential, t->login->name);
}

void glogin_ask(struct parent *p, struct child *c, struct ipc_msg *m)
{
	struct uuid u = ipc_get_uuid(m);
	struct slice credential = ipc_get_str(m);
	struct psession *s = registry_find(p, &u);
	const struct grant *g;
	struct outcome o = {.error = 0};
	int rc;

	if (!ipc_end(m)) {
		m->bad = true;
		return;
	}
	if (!s || !s->open || s->worker != c)
		return;
	g = s->grant[0] ? grant_find(p, s->grant) : NULL;
	if (!is_its_credential(s, credential)) {
		rc = -ENOENT;
	} else if (s->target->cfg->login->role.admin) {
		rc = begin_role(p, c, m->id, s, g);
	} else if (!g || !g->kept) {
		o = no_token(why_none(g));
		answer(c, m->id, &u, &o);
		return;
	} else {
		rc = begin(p, c, m->id, s, g->kept, NULL);
	}
	if (!rc)
		return; /* glogin_key(), glogin_role_done() */
	o = (struct outcome){.error = -rc,
			     .reason = rc == -ENOENT ? TG_R_CREDENTIAL_MISSING
				       : rc == -EACCES ? TG_R_ROLE_FAILED
				       : rc == -EBUSY ? TG_R_OVERLOAD
						      : TG_R_NO_MEMORY,
			     .words = rc == -EACCES ? "access needs an approval, and there is none" : NULL};
	answer(c, m->id, &u, &o);
}

/* Whatever was wrong with it: the next session has the provider asked for another one. */
static void lose(struct parent *p, struct grant *g)
{
	glogin_forget(p, g->kept);
	g->kept = 0;
	g->lost = true;
}

void glogin_key(struct parent *p, struct ipc_msg *m)
{
	uint32_t error = ipc_get_u32(m);
	struct slice user = ipc_get_bytes(m), key = ipc_get_bytes(m);

	if (!ipc_end(m)) {
		m->bad = true;
		return;
	}
	list_each(it, &p->glogins) {
		struct glogin *l = container_of(it, struct glogin, link);
		const struct psession *s = registry_find(p, &l->session);
		struct grant *g = s ? grant_find(p, s->grant) : NULL;
		struct outcome o = {.user = user, .key = key};
		char words[128];

		if (!l->id || l->id != m->id)
			continue;
		if (error && l->role) { /* it has ended, or keyd is another one: it is asked for anew */
			o = (struct outcome){.error = ENOTCONN};
		} else if (l->role) {
			role_members(l->role, words, sizeof(words));
			o.words = words;
		} else if (error) {
			if (g && error == ENOKEY)
				lose(p, g);
			o = no_token(why_none(g));
		}
		answer(l->worker, l->ask, &l->session, &o);
		list_del(&l->link);
		free(l);
		return;
	}
}

void glogin_stale(struct parent *p, struct child *c, struct ipc_msg *m)
{
	struct uuid u = ipc_get_uuid(m);
	const struct psession *s = registry_find(p, &u);
	struct grant *g = s && s->grant[0] && s->worker == c ? grant_find(p, s->grant) : NULL;

	if (!ipc_end(m))
		m->bad = true;
	else if (g && g->kept)
		lose(p, g);
	else if (s && s->worker == c)
		roles_stale(p, g ? g->id : s->id);
}

void glogin_token(struct parent *p, struct child *authd, const struct ipc_msg *m)
{
	list_each(it, &p->approvals) {
		struct approval *a = container_of(it, struct approval, link);

		if (a->authd != authd || a->signing || a->statement || a->idp_id != m->id ||
		    !p->keyd.ipc)
			continue;
		ipc_forward(p->keyd.ipc, m, m->id);
		a->kept = true;
		return;
	}
}

void glogin_forget(struct parent *p, uint64_t kept)
{
	if (!kept || !p->keyd.ipc)
		return;
	ipc_begin(p->keyd.ipc, IPC_GRANT_FORGET, kept);
	ipc_send(p->keyd.ipc);
}

void glogin_keyd_gone(struct parent *p, const struct child *keyd)
{
	if (keyd != &p->keyd)
		return;
	list_each(it, &p->grants) {
		struct grant *g = container_of(it, struct grant, link);

		g->lost |= g->kept != 0;
		g->kept = 0;
	}
	list_each(it, &p->approvals)
		container_of(it, struct approval, link)->kept = false;
	while (!list_empty(&p->glogins)) {
		struct glogin *l = container_of(p->glogins.next, struct glogin, link);

		answer(l->worker, l->ask, &l->session, &(struct outcome){.error = ENOTCONN});
		list_del(&l->link);
		free(l);
	}
}

static void forget(struct glogin *l)
{
	list_del(&l->link);
	free(l);
}

void glogin_role_done(struct parent *p, const struct prole *r, const char *why)
{
	const struct outcome refused = {
		.error = ECANCELED, .reason = TG_R_ROLE_FAILED, .words = why};

	list_each(it, &p->glogins) {
		struct glogin *l = container_of(it, struct glogin, link);
		const struct psession *s = registry_find(p, &l->session);

		if (l->role != r || l->id)
			continue;
		if (!why && s && role_ready(r) && ask_keyd(p, l, r->number, s) == 0)
			continue;
		answer(l->worker, l->ask, &l->session,
		       why ? &refused : &(struct outcome){.error = ENOTCONN});
		forget(l);
	}
}

/* It is about to be freed. */
void glogin_role_gone(struct parent *p, const struct prole *r)
{
	list_each(it, &p->glogins) {
		struct glogin *l = container_of(it, struct glogin, link);

		if (l->role != r)
			continue;
		answer(l->worker, l->ask, &l->session, &(struct outcome){.error = ENOTCONN});
		forget(l);
	}
}

void glogin_worker_died(struct parent *p, const struct child *c)
{
	list_each(it, &p->glogins) {
		struct glogin *l = container_of(it, struct glogin, link);

		if (l->worker != c)
			continue;
		list_del(&l->link);
		free(l);
	}
}

/* ---------------------------------------------------------------- upgrades */

void glogin_save(struct parent *p, struct hand *h, json_t *root)
{
	json_t *list = json_array();

	list_each(it, &p->glogins) {
		const struct glogin *l = container_of(it, struct glogin, link);
		json_t *o = json_object();

		hand_put_u64(h, o, "slot", l->worker->index);
		hand_put_u64(h, o, "ask", l->ask);
		hand_put_slice(h, o, "session", slice_of(l->session.b, sizeof(l->session.b)));
		(void)json_array_append_new(list, o);
	}
	hand_put(h, root, "glogins", list);
}

void glogin_take(struct parent *p, struct hand *h, const json_t *root)
{
	json_t *o;
	size_t i;

	if (!hand_has(root, "glogins"))
		return;
	json_array_foreach(hand_list(h, root, "glogins"), i, o)
	{
		struct child *c = child_by_slot(p, h, hand_u64(h, o, "slot"));
		struct uuid u = {{0}};

		hand_bytes(h, o, "session", u.b, sizeof(u.b));
		if (c)
			answer(c, hand_u64(h, o, "ask"), &u, &(struct outcome){.error = ENOTCONN});
	}
}
