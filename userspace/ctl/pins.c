/* SPDX-License-Identifier: MIT */
/*
 * What works while the daemon is down: the pinned maps, by way of the state files
 * that say which name has which id.
 */
#include <errno.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "config/config.h"
#include "config/state.h"
#include "ctl/ctl.h"
#include "kern/kern.h"

enum { ERROR_MAX = 4096 };

static const char *bpf_dir(struct ctl *c)
{
	const struct config *conf = conf_try(c);

	return c->pin_path ? c->pin_path : conf ? conf->bpf_dir : "/sys/fs/bpf/tidegate";
}

static int open_pins(struct ctl *c, struct kern **ret, struct buf *error)
{
	const struct config *conf = conf_try(c);
	const struct kern_paths paths = {
		.bpf_dir = bpf_dir(c),
		.cgroup_root = conf ? conf->cgroup_root : NULL,
	};

	return kern_open(&paths, ret, error);
}

/* The text of @error, or of @err if there is none. */
static int say(struct ctl *c, int err, const char *what, const struct buf *error)
{
	const char *hint = err == -EACCES || err == -EPERM ? "run this as root" : NULL;
	const char *text = error->n ? (const char *)buf_data(error) : strerror(-err);

	return out_error(c, hint ? "permission" : "failed", hint, "%s: %.*s", what,
			 error->n ? (int)error->n : (int)strlen(text), text);
}

int pins_try(struct ctl *c, struct kern **ret)
{
	struct buf error;
	int rc;

	buf_init(&error, ERROR_MAX);
	rc = open_pins(c, ret, &error);
	buf_done(&error);
	return rc;
}

int pins_open(struct ctl *c, struct kern **ret)
{
	struct buf error;
	int rc;

	buf_init(&error, ERROR_MAX);
	rc = open_pins(c, ret, &error);
	if (rc == -ENOENT)
		rc = out_error(
			c, "not_found",
			"tidegated pins its programs and maps when it starts; -f names another "
			"place",
			"nothing is pinned under %s", bpf_dir(c));
	else if (rc)
		rc = say(c, rc, bpf_dir(c), &error);
	buf_done(&error);
	return rc;
}

/* Both state files; toggles may be missing, targets may not. 0 or negative errno. */
static int load_state(struct ctl *c, struct state_targets *targets, struct state_toggles *toggles,
		      struct buf *error)
{
	const char *dir = conf_state_dir(c);
	int rc = state_targets_load(dir, targets, error);

	if (rc)
		return rc;
	rc = state_toggles_load(dir, toggles, error);
	if (rc && rc != -ENOENT) {
		state_targets_done(targets);
		return rc;
	}
	buf_reset(error);
	return 0;
}

/* Maps and state files together. */
struct pinned {
	struct kern *k;
	struct state_targets targets;
	struct state_toggles toggles;
};

static void pinned_done(struct pinned *p)
{
	state_targets_done(&p->targets);
	state_toggles_done(&p->toggles);
	kern_close(p->k);
}

/* 0, or an exit code after the error was said. */
static int pinned_open(struct ctl *c, struct pinned *ret)
{
	struct buf error;
	int rc;

	*ret = (struct pinned){0};
	rc = pins_open(c, &ret->k);
	if (rc)
		return rc;
	buf_init(&error, ERROR_MAX);
	rc = load_state(c, &ret->targets, &ret->toggles, &error);
	if (rc == -ENOENT)
		rc = out_error(
			c, "not_found",
			"tidegated writes it when it starts; -c names the configuration that "
			"says where",
			"names of targets are not known without the daemon: %.*s", (int)error.n,
			(char *)buf_data(&error));
	else if (rc)
		rc = say(c, rc, "names of targets are not known without the daemon", &error);
	buf_done(&error);
	if (rc)
		kern_close(ret->k);
	return rc;
}

/* enum tg_target_mode and enum target_mode are of one order: see the asserts. */
_Static_assert((int)TG_MODE_STEER == (int)TARGET_STEER && (int)TG_MODE_BLOCK == (int)TARGET_BLOCK &&
		       (int)TG_MODE_OBSERVE == (int)TARGET_OBSERVE &&
		       (int)TG_MODE_OFF == (int)TARGET_OFF,
	       "modes of the maps and of the configuration");

static json_t *off_json(const struct state_toggle *t)
{
	char by[32], since[32], until[32];

	(void)snprintf(by, sizeof(by), "uid %u", t->by_uid);
	text_time(t->since_wall_ns, since, sizeof(since));
	text_time(t->until_wall_ns, until, sizeof(until));
	return json_pack("{s:s, s:s, s:s, s:o}", "reason", t->reason, "by", by, "since", since,
			 "until", t->until_wall_ns ? json_string(until) : json_null());
}

/* As target.list has it. One that ended being off by itself shows what it is since. */
static json_t *target_json(struct kern *k, const struct state_target *t,
			   const struct state_toggles *toggles)
{
	const struct state_toggle *toggle = state_toggle_last(toggles, t->name);
	struct tg_target_state state = {0};
	json_t *addresses = json_array();
	const char *mode = "missing";

	if (kern_target_get(k, t->id, &state) == 0) {
		if (state.mode == TG_MODE_OFF && state.off_until_boot_ns &&
		    state.off_until_boot_ns <= clock_boot_ns())
			state.mode = state.mode_after;
		if (state.mode <= TG_MODE_OFF)
			mode = target_mode_name((enum target_mode)state.mode);
	}
	for (uint32_t i = 0; i < t->naddresses; i++)
		(void)json_array_append_new(addresses, json_string(t->addresses[i]));
	return json_pack("{s:I, s:s, s:s, s:o, s:s, s:s, s:i, s:o}", "id", (json_int_t)t->id,
			 "name", t->name, "protocol", t->protocol, "addresses", addresses, "mode",
			 mode, "configured_mode", target_mode_name(t->mode), "sessions", 0, "off",
			 state_toggle_active(toggle, clock_wall_ns()) ? off_json(toggle)
								      : json_null());
}

static json_t *targets_json(struct pinned *p)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < p->targets.n; i++)
		(void)json_array_append_new(list, target_json(p->k, &p->targets.t[i], &p->toggles));
	return list;
}

int pins_targets(struct ctl *c, json_t **ret)
{
	struct pinned p;
	int rc = pinned_open(c, &p);

	if (rc)
		return rc;
	*ret = targets_json(&p);
	pinned_done(&p);
	return 0;
}

int pins_targets_try(struct ctl *c, json_t **ret)
{
	struct pinned p = {0};
	struct buf error;
	int rc = pins_try(c, &p.k);

	if (rc)
		return rc;
	buf_init(&error, ERROR_MAX);
	rc = load_state(c, &p.targets, &p.toggles, &error);
	buf_done(&error);
	if (rc) {
		kern_close(p.k);
		return rc;
	}
	*ret = targets_json(&p);
	pinned_done(&p);
	return 0;
}

/* The mode that @s asks for; a reset goes to the configured one. */
static enum target_mode wanted(const struct pins_switch *s, const struct state_target *t)
{
	int mode = target_mode_parse(slice_str(s->mode));

	return mode < 0 ? t->mode : (enum target_mode)mode;
}

/* The file first: what is in effect must be on record, rather than the other way round. */
static int switch_one(struct ctl *c, struct kern *k, const struct pins_switch *s,
		      const struct state_target *t)
{
	uint64_t now = clock_wall_ns(), for_ns = s->for_ms * 1000000u;
	const struct state_toggle toggle = {
		.name = s->name,
		.reset = strcmp(s->mode, "reset") == 0,
		.mode = wanted(s, t),
		.reason = s->reason ? s->reason : "",
		.by_uid = getuid(),
		.since_wall_ns = now,
		.until_wall_ns = s->for_ms ? now + for_ns : 0,
	};
	struct tg_target_state state = {0};
	struct buf error;
	int rc;

	buf_init(&error, ERROR_MAX);
	rc = kern_target_get(k, t->id, &state);
	if (rc == 0)
		rc = state_toggle_append(conf_state_dir(c), &toggle, &error);
	if (rc == 0) {
		state.mode = (tg_u8)toggle.mode;
		state.mode_after = (tg_u8)(t->mode == TARGET_OFF ? TG_MODE_STEER : (int)t->mode);
		state.off_until_boot_ns = s->for_ms ? clock_boot_ns() + for_ns : 0;
		rc = kern_target_set(k, t->id, &state);
	}
	if (rc)
		rc = say(c, rc, t->name, &error);
	buf_done(&error);
	return rc;
}

int pins_switch(struct ctl *c, const struct pins_switch *s, json_t **ret)
{
	const struct state_target *t;
	struct pinned p;
	json_t *list;
	int rc = pinned_open(c, &p);

	if (rc)
		return rc;
	t = state_target_find(&p.targets, s->name);
	rc = t ? switch_one(c, p.k, s, t)
	       : out_error(c, "not_found", "`tidegate target list` shows them",
			   "there is no target `%s`", s->name);
	pinned_done(&p);
	if (rc)
		return rc;
	/* Read back: what is shown is what is so. */
	rc = pins_targets(c, &list);
	if (rc == 0) {
		*ret = json_incref((json_t *)(uintptr_t)ctl_named(list, "name", s->name));
		json_decref(list);
	}
	return rc;
}

/* ----------------------------------------------------------- addresses */

struct holder {
	const struct tg_addr_key *key;
	bool found;
	uint32_t target;
};

static int find_holder(void *ctx, const struct tg_addr_key *key, uint32_t target)
{
	struct holder *h = ctx;

	if (memcmp(key, h->key, sizeof(*key)) != 0)
		return 0;
	h->found = true;
	h->target = target;
	return 0;
}

static bool configured(const struct state_target *t, const char *address)
{
	for (uint32_t i = 0; i < t->naddresses; i++)
		if (strcmp(t->addresses[i], address) == 0)
			return true;
	return false;
}

static int change_address(struct ctl *c, struct kern *k, const struct state_target *t,
			  const struct tg_addr_key *key, bool add)
{
	struct holder h = {.key = key};
	char text[STATE_ADDR_TEXT];
	struct buf none = {0};
	int rc = kern_addr_each(k, find_holder, &h);

	if (rc)
		return say(c, rc, "the map of addresses", &none);
	state_addr_format(key, text);
	if (add && h.found)
		return out_error(c, "conflict", "`tidegate target list` shows the addresses",
				 "%s belongs to %s target already", text,
				 h.target == t->id ? "this" : "another");
	if (!add && (!h.found || h.target != t->id))
		return out_error(c, "not_found", NULL, "%s is no address of %s", text, t->name);
	if (!add && configured(t, text))
		return out_error(c, "conflict",
				 "to let agents through unguarded, and have that on record, use "
				 "`tidegate target disable NAME --reason TEXT`",
				 "%s is an address of %s by the configuration", text, t->name);
	rc = add ? kern_addr_set(k, key, t->id) : kern_addr_delete(k, key);
	return rc ? say(c, rc, text, &none) : 0;
}

int pins_address(struct ctl *c, const char *name, const char *address, bool add)
{
	const struct state_target *t;
	struct tg_addr_key key;
	struct pinned p;
	int rc;

	if (state_addr_parse(slice_str(address), &key))
		return out_error(
			c, "usage",
			"write 10.0.0.5:5432, 10.0.0.0/24:5432 or [2001:db8::5]:5432; a name "
			"belongs in the configuration",
			"not an address with a port: %s", address);
	rc = pinned_open(c, &p);
	if (rc)
		return rc;
	t = state_target_find(&p.targets, name);
	rc = t ? change_address(c, p.k, t, &key, add)
	       : out_error(c, "not_found", "`tidegate target list` shows them",
			   "there is no target `%s`", name);
	pinned_done(&p);
	return rc;
}
