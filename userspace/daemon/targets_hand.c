/* SPDX-License-Identifier: MIT */
/* Targets and agents, and their ids, on their way over an upgrade or a restart. */
#include <errno.h>

#include "base/log.h"
#include "config/state.h"
#include "daemon/hand.h"
#include "daemon/upgrade.h"
#include "kern/kern.h"

enum { IDS_MAX = 1 << 30 }; /* beyond are those that mean no target of the configuration */

/* With their ids: records of connections that nobody has accepted yet name them. */
void targets_hand(struct parent *p, struct hand *h, json_t *root)
{
	json_t *targets = json_array(), *agents = json_array();

	list_each(it, &p->targets) {
		const struct ptarget *t = container_of(it, struct ptarget, link);
		json_t *o = json_object();

		hand_put_u64(h, o, "id", t->id);
		hand_put_str(h, o, "name", t->name);
		hand_put_str(h, o, "mode", target_mode_name(t->mode));
		hand_put_bool(h, o, "toggled", t->toggled);
		hand_put_str(h, o, "reason", t->reason);
		hand_put_u64(h, o, "by", t->by_uid);
		hand_put_u64(h, o, "since", t->since_wall_ns);
		hand_put_u64(h, o, "until", t->until_wall_ns);
		(void)json_array_append_new(targets, o);
	}
	list_each(it, &p->agents) {
		const struct pagent *a = container_of(it, struct pagent, link);
		json_t *o = json_object();

		hand_put_u64(h, o, "id", a->id);
		hand_put_str(h, o, "name", a->name);
		(void)json_array_append_new(agents, o);
	}
	hand_put(h, root, "targets", targets);
	hand_put(h, root, "agents", agents);
	hand_put_u64(h, root, "next_target", p->next_target);
	hand_put_u64(h, root, "next_agent", p->next_agent);
}

static void take_target(struct parent *p, struct hand *h, const json_t *o)
{
	uint32_t id = (uint32_t)hand_u64(h, o, "id");
	char name[NAME_MAX_LEN], mode[16];
	struct ptarget *t;
	int m;

	hand_str(h, o, "name", name, sizeof(name));
	hand_str(h, o, "mode", mode, sizeof(mode));
	m = target_mode_parse(slice_str(mode));
	t = id && m >= 0 ? target_new(p, name, id) : NULL;
	if (!t) {
		hand_fail(h, "target");
		return;
	}
	t->mode = (enum target_mode)m;
	t->toggled = hand_bool(h, o, "toggled");
	hand_str(h, o, "reason", t->reason, sizeof(t->reason));
	t->by_uid = (uint32_t)hand_u64(h, o, "by");
	t->since_wall_ns = hand_u64(h, o, "since");
	t->until_wall_ns = hand_u64(h, o, "until");
}

void targets_take(struct parent *p, struct hand *h, const json_t *root)
{
	json_t *o;
	size_t i;

	json_array_foreach(hand_list(h, root, "targets"), i, o)
		take_target(p, h, o);
	json_array_foreach(hand_list(h, root, "agents"), i, o)
	{
		struct pagent *a = calloc(1, sizeof(*a));

		if (!a) {
			hand_fail(h, "agent");
			return;
		}
		a->id = (uint32_t)hand_u64(h, o, "id");
		hand_str(h, o, "name", a->name, sizeof(a->name));
		list_add_tail(&p->agents, &a->link);
	}
	p->next_target = (uint32_t)hand_u64(h, root, "next_target");
	p->next_agent = (uint32_t)hand_u64(h, root, "next_agent");
}

/* ---------------------------------------------------------------- restarts */

static struct pagent *agent_new(struct parent *p, const char *name, uint32_t id)
{
	struct pagent *a = calloc(1, sizeof(*a));

	if (!a)
		return NULL;
	(void)snprintf(a->name, sizeof(a->name), "%s", name);
	a->id = id;
	p->next_agent = id > p->next_agent ? id : p->next_agent;
	list_add_tail(&p->agents, &a->link);
	return a;
}

/* What the maps of an earlier daemon name is nobody else's. */
static int past_address(void *ctx, const struct tg_addr_key *key, uint32_t target)
{
	struct parent *p = ctx;

	if (target < IDS_MAX && target > p->next_target)
		p->next_target = target;
	return 0;
}

static int past_cgroup(void *ctx, const char *path, uint32_t agent)
{
	struct parent *p = ctx;

	if (agent < IDS_MAX && agent > p->next_agent)
		p->next_agent = agent;
	return 0;
}

static int past_uid(void *ctx, uint32_t uid, uint32_t agent)
{
	return past_cgroup(ctx, NULL, agent);
}

void targets_ids_apart(struct parent *p)
{
	if (p->kern && (kern_addr_each(p->kern, past_address, p) ||
			kern_agent_cgroup_each(p->kern, past_cgroup, p) ||
			kern_agent_uid_each(p->kern, past_uid, p)))
		log_warning("the maps of the daemon before cannot be read through: who waits for this one "
			    "may be refused");
}

void agents_take_ids(struct parent *p)
{
	struct state_agents st;
	struct buf error;
	int rc;

	buf_init(&error, 4096);
	rc = state_agents_load(p->cfg->state_dir, &st, &error);
	for (uint32_t i = 0; !rc && i < st.n; i++)
		if (!agent_find(p, slice_str(st.a[i].name)) && !agent_by_id(p, st.a[i].id))
			(void)!agent_new(p, st.a[i].name, st.a[i].id);
	if (rc && rc != -ENOENT)
		log_warning("%.*s", (int)error.n, (const char *)buf_data(&error));
	state_agents_done(&st);
	buf_done(&error);
}

int agents_save_ids(struct parent *p)
{
	struct state_agent *a = calloc(p->cfg->nagents + 1, sizeof(*a));
	uint32_t n = 0;
	int rc;

	if (!a)
		return -ENOMEM;
	list_each(it, &p->agents) {
		const struct pagent *one = container_of(it, struct pagent, link);

		if (one->cfg && n < p->cfg->nagents)
			a[n++] = (struct state_agent){.id = one->id, .name = one->name};
	}
	rc = state_agents_save(p->cfg->state_dir, a, n);
	free(a);
	return rc;
}
