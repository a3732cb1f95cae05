/* SPDX-License-Identifier: MIT */
/*
 * Which targets are accelerated. `off` is off. `auto` is on where the self-test on this
 * very kernel found no call that behaves otherwise; `on` is the operator's word and accepts such
 * calls, which `status` names, but never lost or disordered bytes. The self-test runs beside the
 * daemon's start; until it is over nothing is accelerated.
 */
#include "kern/kern_accel.h"

#include <errno.h>

#include "base/log.h"
#include "daemon/accel.h"
#include "daemon/parent.h"
#include "kern/kern.h"

struct accel {
	struct parent *p;
	uv_work_t work;
	bool done;
	struct kern_selftest test;
};

enum { NAMES = 400, WHY = 600 };

static const char *const config_names[] = {
	[KERN_ACCEL_PLAIN] = "off", [KERN_ACCEL_REQUESTS] = "requests", [KERN_ACCEL_BOTH] = "both"};

/* Of the clients of a protocol that is not looked into nothing is known: fewer calls differ then. */
static enum kern_accel_config ends_of(const struct cfg_target *t)
{
	switch (t->accelerate_directions) {
	case ACCEL_ENDS_REQUESTS:
		return KERN_ACCEL_REQUESTS;
	case ACCEL_ENDS_BOTH:
		return KERN_ACCEL_BOTH;
	case ACCEL_ENDS_AUTO:
		break;
	}
	return inspector_find(slice_str(t->protocol))->half_close ? KERN_ACCEL_REQUESTS : KERN_ACCEL_BOTH;
}

/* What @t gets now, and in words why it gets no more. */
static enum kern_accel_config decide(const struct parent *p, const struct cfg_target *t, char why[WHY])
{
	const struct accel *a = p->accel;
	enum kern_accel_config want = ends_of(t);
	char names[NAMES];

	why[0] = '\0';
	if (t->accelerate == ACCELERATE_OFF) {
		(void)snprintf(why, WHY, "off in the configuration");
	} else if (!p->kern) {
		(void)snprintf(why, WHY, "no kernel steering");
	} else if (kern_accel_missing(p->kern)) {
		(void)snprintf(why, WHY, "%s", kern_accel_missing(p->kern));
	} else if (!a || !a->done) {
		(void)snprintf(why, WHY, "the self-test is not finished");
	} else if (a->test.why[0]) {
		(void)snprintf(why, WHY, "the self-test could not be run: %s", a->test.why);
	} else if (kern_selftest_count(&a->test, want, true)) {
		kern_selftest_names(&a->test, want, true, names, sizeof(names));
		(void)snprintf(why, WHY, "this kernel loses or mixes up bytes: %s", names);
	} else if (t->accelerate == ACCELERATE_AUTO && kern_selftest_count(&a->test, want, false)) {
		kern_selftest_names(&a->test, want, false, names, sizeof(names));
		(void)snprintf(why, WHY, "on this kernel a program could tell: %s", names);
	}
	return why[0] ? KERN_ACCEL_PLAIN : want;
}

/* --------------------------------------------------------------- self-test */

static void work(uv_work_t *w)
{
	kern_selftest_run(&container_of(w, struct accel, work)->test);
}

static void say(const struct parent *p)
{
	char why[WHY];

	list_each(it, &p->targets) {
		const struct ptarget *t = container_of(it, struct ptarget, link);

		if (!t->cfg || t->cfg->accelerate != ACCELERATE_ON)
			continue;
		if (decide(p, t->cfg, why) == KERN_ACCEL_PLAIN)
			log_warning("target %s is not accelerated: %s", t->name, why);
		else
			log_notice("target %s is accelerated: %s", t->name,
				   config_names[ends_of(t->cfg)]);
	}
}

static void work_done(uv_work_t *w, int status)
{
	struct accel *a = container_of(w, struct accel, work);

	if (status)
		(void)snprintf(a->test.why, sizeof(a->test.why), "%s", uv_strerror(status));
	a->done = true;
	say(a->p);
	targets_accelerate(a->p);
}

/* Once in the daemon's life: the kernel does not change under it. */
static void start_test(struct parent *p)
{
	struct accel *a = calloc(1, sizeof(*a));

	if (!a)
		return; /* nothing is accelerated */
	a->p = p;
	p->accel = a;
	if (uv_queue_work(&p->loop, &a->work, work, work_done)) {
		(void)snprintf(a->test.why, sizeof(a->test.why), "no thread for it");
		a->done = true;
	}
}

void accel_start(struct parent *p)
{
	bool wanted = false;

	for (uint32_t i = 0; i < p->cfg->ntargets; i++)
		wanted |= p->cfg->targets[i].accelerate != ACCELERATE_OFF;
	if (wanted && !p->accel && p->kern && !kern_accel_missing(p->kern))
		start_test(p);
}

uint8_t accel_flags(const struct parent *p, const struct cfg_target *t)
{
	char why[WHY];

	switch (decide(p, t, why)) {
	case KERN_ACCEL_BOTH:
		return TG_TARGET_ACCEL_REQUESTS | TG_TARGET_ACCEL_REPLIES;
	case KERN_ACCEL_REQUESTS:
		return TG_TARGET_ACCEL_REQUESTS;
	case KERN_ACCEL_PLAIN:
	case KERN_ACCEL_FALLEN:
	case KERN_ACCEL_CONFIGS:
		break;
	}
	return 0;
}

/* ------------------------------------------------------------------ status */

static json_t *target_row(const struct parent *p, const struct ptarget *t)
{
	static const char *const words[] = {"auto", "on", "off"};
	char why[WHY];
	enum kern_accel_config now = decide(p, t->cfg, why);

	return json_pack("{s:s, s:s, s:s, s:s}", "target", t->name, "accelerate",
			 words[t->cfg->accelerate], "directions", config_names[now], "why", why);
}

/* Every row that differs from plain TCP in any way of being accelerated. */
static json_t *differences(const struct kern_selftest *test)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < test->n; i++) {
		const struct kern_row *row = test->rows[i].row;

		if (!kern_selftest_differs(test, i, KERN_ACCEL_BOTH))
			continue;
		(void)json_array_append_new(
			list, json_pack("{s:s, s:s, s:b, s:s, s:s, s:s, s:s}", "row", row->name, "what",
					row->what, "integrity", row->integrity, "tcp",
					test->rows[i].seen[KERN_ACCEL_PLAIN], "requests",
					test->rows[i].seen[KERN_ACCEL_REQUESTS], "both",
					test->rows[i].seen[KERN_ACCEL_BOTH], "fallen_back",
					test->rows[i].seen[KERN_ACCEL_FALLEN]));
	}
	return list;
}

json_t *accel_json(struct parent *p)
{
	const struct accel *a = p->accel;
	const char *state = !a ? "not run" : !a->done ? "running" : a->test.why[0] ? "failed" : "done";
	json_t *targets = json_array();

	list_each(it, &p->targets) {
		const struct ptarget *t = container_of(it, struct ptarget, link);

		if (t->cfg)
			(void)json_array_append_new(targets, target_row(p, t));
	}
	return json_pack("{s:s, s:i, s:o, s:o}", "self_test", state, "rows",
			 a && a->done ? (int)a->test.n : 0, "targets", targets, "differs",
			 a && a->done ? differences(&a->test) : json_array());
}
