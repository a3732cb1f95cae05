/* SPDX-License-Identifier: MIT */
#include "daemon/integrity.h"

#include <errno.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "daemon/audit.h"
#include "daemon/hand.h"
#include "daemon/parent.h"
#include "kern/kern.h"

enum { FAULTS_MAX = 64, RECENT_NS_S = 3600, AGAIN_NS_S = 60 };

/* A fault that stays, or one that was put right and is told again only after a while. */
struct fault {
	struct kern_finding f;
	uint64_t since_wall_ns, told_boot_ns;
	uint32_t round; /* of the last look that found it */
};

struct integrity {
	uint64_t count[KERN_FAULT_COUNT], changes, repaired, last_wall_ns;
	uint32_t round;
	char last[256];
	struct fault faults[FAULTS_MAX];
	size_t nfaults;
};

void integrity_start(struct parent *p)
{
	struct buf error;

	if (!p->kern)
		return;
	buf_init(&error, 1024);
	p->integrity = calloc(1, sizeof(*p->integrity));
	if (!p->integrity || kern_watch_start(p->kern, &error)) {
		log_error("changes of the kernel side by others are not noticed: %.*s", (int)error.n,
			  (const char *)buf_data(&error));
		free(p->integrity);
		p->integrity = NULL;
	}
	buf_done(&error);
}

void integrity_save(struct parent *p, struct hand *h, json_t *root)
{
	const struct integrity *in = p->integrity;
	json_t *o = json_object(), *counts = json_object();

	for (unsigned i = 0; in && i < KERN_FAULT_COUNT; i++)
		hand_put_u64(h, counts, kern_fault_label((enum kern_fault)i), in->count[i]);
	hand_put(h, o, "counts", counts);
	hand_put_u64(h, o, "changes", in ? in->changes : 0);
	hand_put_u64(h, o, "repaired", in ? in->repaired : 0);
	hand_put_u64(h, o, "last", in ? in->last_wall_ns : 0);
	hand_put_str(h, o, "text", in ? in->last : "");
	hand_put(h, root, "integrity", o);
}

void integrity_take(struct parent *p, struct hand *h, const json_t *root)
{
	const json_t *o = json_object_get(root, "integrity"), *counts = json_object_get(o, "counts");
	struct integrity *in = p->integrity;

	for (unsigned i = 0; in && i < KERN_FAULT_COUNT; i++)
		in->count[i] = (uint64_t)json_integer_value(
			json_object_get(counts, kern_fault_label((enum kern_fault)i)));
	if (!in)
		return;
	in->changes = hand_u64(h, o, "changes");
	in->repaired = hand_u64(h, o, "repaired");
	in->last_wall_ns = hand_u64(h, o, "last");
	hand_str(h, o, "text", in->last, sizeof(in->last));
}

void integrity_stop(struct parent *p)
{
	free(p->integrity);
	p->integrity = NULL;
}

static struct fault *find(struct integrity *in, const struct kern_finding *f)
{
	for (size_t i = 0; i < in->nfaults; i++) {
		struct kern_finding *o = &in->faults[i].f;

		if (o->fault == f->fault && o->repaired == f->repaired &&
		    strcmp(o->what, f->what) == 0 && strcmp(o->text, f->text) == 0)
			return &in->faults[i];
	}
	return NULL;
}

/* The one that is longest put right, or is not seen for longest, makes room. */
static struct fault *room(struct integrity *in)
{
	struct fault *oldest = &in->faults[0];

	if (in->nfaults < FAULTS_MAX)
		return &in->faults[in->nfaults++];
	for (size_t i = 1; i < FAULTS_MAX; i++)
		if (in->faults[i].round < oldest->round)
			oldest = &in->faults[i];
	return oldest;
}

static void tell(struct parent *p, const struct kern_finding *f)
{
	log_error("kernel side: %s: %s", kern_fault_what(f->fault), f->text);
	(void)audit_write(p, AUDIT_SYNC, "kernel.changed", "{s:s, s:s, s:s, s:b}", "fault",
			  kern_fault_label(f->fault), "where", f->what, "text", f->text, "repaired",
			  f->repaired);
}

static void found(void *ctx, const struct kern_finding *f)
{
	struct parent *p = ctx;
	struct integrity *in = p->integrity;
	uint64_t now = clock_boot_ns();
	struct fault *old = find(in, f);
	bool stays = old && f->stays && old->round + 1 == in->round;

	if (!stays) {
		in->count[f->fault]++;
		in->changes++;
		in->repaired += f->repaired;
		in->last_wall_ns = clock_wall_ns();
		(void)snprintf(in->last, sizeof(in->last), "%s", f->text);
	}
	if (!old) {
		old = room(in);
		*old = (struct fault){.f = *f};
	}
	if (!stays)
		old->since_wall_ns = clock_wall_ns();
	old->round = in->round;
	/* A program that fights with us is told once a minute, and counted each time. */
	if (stays || (old->told_boot_ns && now - old->told_boot_ns < AGAIN_NS_S * 1000000000ull))
		return;
	old->told_boot_ns = now;
	tell(p, f);
}

static void say_over(struct parent *p, const struct fault *f)
{
	log_notice("kernel side: this is over: %s", f->f.text);
	(void)audit_write(p, AUDIT_NOTE, "kernel.fault_over", "{s:s, s:s, s:s}", "fault",
			  kern_fault_label(f->f.fault), "where", f->f.what, "text", f->f.text);
}

void integrity_tick(struct parent *p)
{
	struct integrity *in = p->integrity;

	if (!in)
		return;
	in->round++;
	if (kern_watch_tick(p->kern, found, p)) {
		in->round--;
		return;
	}
	for (size_t i = 0; i < in->nfaults; i++)
		if (in->faults[i].f.stays && in->faults[i].round + 1 == in->round)
			say_over(p, &in->faults[i]);
}

static bool standing(const struct integrity *in, const struct fault *f)
{
	return f->f.stays && f->round == in->round;
}

json_t *integrity_json(const struct parent *p)
{
	const struct integrity *in = p->integrity;
	json_t *list;

	if (!in)
		return json_null();
	list = json_array();
	for (size_t i = 0; i < in->nfaults; i++) {
		const struct fault *f = &in->faults[i];

		if (standing(in, f))
			(void)json_array_append_new(
				list, json_pack("{s:s, s:s, s:s, s:o}", "fault",
						kern_fault_label(f->f.fault), "where", f->f.what,
						"text", f->f.text, "since", time_json(f->since_wall_ns)));
	}
	return json_pack("{s:I, s:I, s:o, s:o}", "changes", (json_int_t)in->changes, "repaired",
			 (json_int_t)in->repaired, "last", time_json(in->last_wall_ns), "faults", list);
}

void integrity_warnings(const struct parent *p, json_t *list)
{
	const struct integrity *in = p->integrity;
	char text[512];

	if (!in)
		return;
	for (size_t i = 0; i < in->nfaults; i++)
		if (standing(in, &in->faults[i]))
			(void)json_array_append_new(list, json_string(in->faults[i].f.text));
	if (!in->changes || clock_wall_ns() - in->last_wall_ns > RECENT_NS_S * 1000000000ull)
		return;
	(void)snprintf(text, sizeof(text),
		       "somebody else changed the kernel side %llu times, the last: %s; see `tidegate "
		       "audit`",
		       (unsigned long long)in->changes, in->last);
	(void)json_array_append_new(list, json_string(text));
}

const uint64_t *integrity_counts(const struct parent *p)
{
	return p->integrity ? p->integrity->count : NULL;
}
