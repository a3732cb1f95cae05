/* SPDX-License-Identifier: MIT */
/* Targets and agents on their way over an upgrade. */
#include "daemon/hand.h"
#include "daemon/upgrade.h"

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
