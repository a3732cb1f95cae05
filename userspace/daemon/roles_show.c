/* SPDX-License-Identifier: MIT */
/* Roles in the status, and over an upgrade. */
#include <errno.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "daemon/hand.h"
#include "daemon/roles.h"

enum { AFTER_UPGRADE_MS = 3000 };

bool roles_wanted(const struct config *c)
{
	for (uint32_t i = 0; i < c->ntargets; i++)
		if (c->targets[i].login && c->targets[i].login->role.admin)
			return true;
	return false;
}

int roles_start(struct parent *p)
{
	p->roles = calloc(1, sizeof(*p->roles));
	if (!p->roles)
		return -ENOMEM;
	list_init(&p->roles->all);
	list_init(&p->roles->places);
	return role_places_load(p);
}

/* -------------------------------------------------------------------- status */

static json_t *role_json(const struct prole *r)
{
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:i, s:o}", "role", r->name, "target", r->target,
			 "server", r->upstream, "owner", r->owner, "state",
			 r->state < PROLE_READY	   ? "making"
			 : r->state < PROLE_ENDING ? "ready"
						   : "dropping",
			 "until", time_json(r->until_wall_ns), "tries",
			 (int)r->tries, "why", text_json(r->why));
}

json_t *roles_json(const struct parent *p)
{
	const struct roles *rs = p->roles;
	json_t *list = json_array(), *unswept = json_array();

	list_each(it, &rs->all)
		(void)json_array_append_new(list, role_json(container_of(it, struct prole, link)));
	list_each(it, &rs->places) {
		const struct role_place *l = container_of(it, struct role_place, link);

		if (l->why[0])
			(void)json_array_append_new(
				unswept, json_pack("{s:s, s:s, s:s}", "target", l->target, "server",
						   l->upstream, "why", l->why));
	}
	return json_pack("{s:o, s:o, s:I, s:I, s:I, s:I}", "roles", list, "unswept", unswept, "made",
			 (json_int_t)rs->made, "dropped", (json_int_t)rs->dropped, "failed",
			 (json_int_t)rs->failed, "left_behind", (json_int_t)rs->left);
}

void roles_warnings(const struct parent *p, json_t *list)
{
	if (roles_wanted(p->cfg) && !p->roled.ready)
		(void)json_array_append_new(list, json_string("roled is not running: no role can be "
							      "made or dropped"));
	list_each(it, &p->roles->all) {
		const struct prole *r = container_of(it, struct prole, link);

		if (r->why[0])
			(void)json_array_append_new(
				list, json_sprintf("role %s on target %s (%s) is not dropped: %s", r->name,
						   r->target, r->upstream, r->why));
	}
	list_each(it, &p->roles->places) {
		const struct role_place *l = container_of(it, struct role_place, link);

		if (l->why[0])
			(void)json_array_append_new(
				list, json_sprintf("target %s (%s) cannot be asked for roles that were left "
						   "behind: %s", l->target, l->upstream, l->why));
	}
}

/* ------------------------------------------------------------------- upgrades */

static json_t *save_role(struct hand *h, const struct prole *r)
{
	json_t *o = json_object();

	hand_put_str(h, o, "name", r->name);
	hand_put_str(h, o, "owner", r->owner);
	hand_put_str(h, o, "agent", r->agent);
	hand_put_str(h, o, "target", r->target);
	hand_put_str(h, o, "credential", r->credential);
	hand_put_str(h, o, "database", r->database);
	hand_put_str(h, o, "upstream", r->upstream);
	/* Only what is there for sure is used again; all else is dropped, if it is there. */
	hand_put_bool(h, o, "ready", r->state == PROLE_READY || r->state == PROLE_REKEYING);
	hand_put_u64(h, o, "made", r->made_wall_ns);
	hand_put_u64(h, o, "until", r->until_wall_ns);
	hand_put_u64(h, o, "until_boot", r->until_boot_ns);
	return o;
}

void roles_save(struct parent *p, struct hand *h, json_t *root)
{
	json_t *list = json_array(), *o = json_object();

	list_each(it, &p->roles->all)
		(void)json_array_append_new(list, save_role(h, container_of(it, struct prole, link)));
	hand_put(h, o, "all", list);
	hand_put_u64(h, o, "made", p->roles->made);
	hand_put_u64(h, o, "dropped", p->roles->dropped);
	hand_put_u64(h, o, "failed", p->roles->failed);
	hand_put_u64(h, o, "left", p->roles->left);
	hand_put(h, root, "roles", o);
}

static void take_role(struct parent *p, struct hand *h, const json_t *o)
{
	struct prole *r = calloc(1, sizeof(*r));

	if (!r) {
		hand_fail(h, "role");
		return;
	}
	list_init(&r->link);
	hand_str(h, o, "name", r->name, sizeof(r->name));
	hand_str(h, o, "owner", r->owner, sizeof(r->owner));
	hand_str(h, o, "agent", r->agent, sizeof(r->agent));
	hand_str(h, o, "target", r->target, sizeof(r->target));
	hand_str(h, o, "credential", r->credential, sizeof(r->credential));
	hand_str(h, o, "database", r->database, sizeof(r->database));
	hand_str(h, o, "upstream", r->upstream, sizeof(r->upstream));
	r->made_wall_ns = hand_u64(h, o, "made");
	r->until_wall_ns = hand_u64(h, o, "until");
	r->until_boot_ns = hand_u64(h, o, "until_boot");
	r->state = hand_bool(h, o, "ready") ? PROLE_READY : PROLE_ENDING;
	/* The roled of before may just be making it. */
	r->due_boot_ns = clock_boot_ns() + AFTER_UPGRADE_MS * 1000000ull;
	list_add_tail(&p->roles->all, &r->link);
}

void roles_take(struct parent *p, struct hand *h, const json_t *root)
{
	const json_t *roles = json_object_get(root, "roles");
	json_t *o;
	size_t i;

	if (!roles)
		return;
	json_array_foreach(hand_list(h, roles, "all"), i, o)
		take_role(p, h, o);
	p->roles->made = hand_u64(h, roles, "made");
	p->roles->dropped = hand_u64(h, roles, "dropped");
	p->roles->failed = hand_u64(h, roles, "failed");
	p->roles->left = hand_u64(h, roles, "left");
}
