/* SPDX-License-Identifier: MIT */
#include "daemon/sweep.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/address.h"
#include "daemon/netns.h"
#include "kern/kern.h"

enum {
	NAMESPACES = 64, /* in one round; the next one goes on where it ended */
	CLOSED_MAX = 256 /* of which each is logged; more are counted */
};

struct sweep {
	struct parent *p;
	uv_work_t work;
	uv_sem_t ended;
	bool running;
	size_t next; /* namespace at which the next round begins */
	int ns[NAMESPACES];
	size_t nns;
	struct tg_swept closed[CLOSED_MAX];
	size_t nclosed, more;
	int rc;
};

static void keep(void *ctx, const struct tg_swept *s)
{
	struct sweep *w = ctx;

	if (w->nclosed < CLOSED_MAX)
		w->closed[w->nclosed++] = *s;
	else
		w->more++;
}

static int connections_here(void *ctx)
{
	struct sweep *w = ctx;

	return kern_sweep_tcp(w->p->kern, keep, w);
}

/* Descriptors are walked once for all namespaces. In any thread: p->kern is only read. */
static void run(struct sweep *w)
{
	int r, rc = kern_sweep_held(w->p->kern);

	if (rc >= 0)
		rc = connections_here(w);
	/* One that cannot be entered does not spare the others. */
	for (size_t i = 0; i < w->nns && rc != -EOPNOTSUPP; i++) {
		r = netns_run(w->ns[i], connections_here, w);
		rc = r < 0 ? r : rc;
	}
	w->rc = rc;
}

static void tell(struct parent *p, const struct tg_swept *s)
{
	const struct pagent *a = agent_by_id(p, s->agent);
	const struct ptarget *t = s->target ? target_by_id(p, s->target) : NULL;
	char text[ADDRESS_TEXT];

	address_format_mapped(s->addr, ntohs(s->port_be), text);
	log_warning("agent %s: its connection to %s%s%s (uid %u) was closed: %s",
		    a ? a->name : "?", t ? t->name : "", t ? ", " : "", text, s->uid,
		    s->target ? "it was not steered" : "neither a target nor listed");
}

static void begin(struct sweep *w)
{
	w->nclosed = w->more = 0;
	w->nns = netns_fds(w->p, w->next, w->ns, NAMESPACES);
	w->next = w->nns == NAMESPACES ? w->next + NAMESPACES : 0;
}

static void end(struct sweep *w)
{
	struct parent *p = w->p;

	for (size_t i = 0; i < w->nns; i++)
		close(w->ns[i]);
	w->nns = 0;
	for (size_t i = 0; i < w->nclosed; i++)
		tell(p, &w->closed[i]);
	if (w->more)
		log_warning("%zu more connections of agents were closed", w->more);
	if (w->rc < 0 && w->rc != -EOPNOTSUPP && !p->sweep_failed)
		log_error("agents' older connections cannot be closed, only cut: %s",
			  strerror(-w->rc));
	p->sweep_failed = w->rc < 0;
}

void sweep_now(struct parent *p)
{
	struct sweep *w = calloc(1, sizeof(*w));

	if (!w) {
		log_error("agents' older connections are not closed now: no memory");
		return;
	}
	w->p = p;
	do {
		begin(w);
		run(w);
		end(w);
	} while (w->next);
	free(w);
}

/* ------------------------------------------------------------- in a thread */

static bool populated(const struct parent *p, const char *cgroup)
{
	char path[512], line[64];
	bool yes = false;
	FILE *f;

	(void)snprintf(path, sizeof(path), "%s%s/cgroup.events", kern_cgroup_root(p->kern), cgroup);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		yes |= strcmp(line, "populated 1\n") == 0;
	if (f)
		(void)fclose(f); /* was only read */
	return yes;
}

/* A uid may be anybody's at any time; a cgroup says whether somebody is in it. */
static bool agents_live(const struct parent *p)
{
	for (uint32_t i = 0; i < p->cfg->nagents; i++) {
		const struct cfg_agent *a = &p->cfg->agents[i];

		if (a->nuids)
			return true;
		for (uint32_t k = 0; k < a->ncgroups; k++)
			if (populated(p, a->cgroups[k]))
				return true;
	}
	return false;
}

static void work(uv_work_t *u)
{
	struct sweep *w = container_of(u, struct sweep, work);

	run(w);
	uv_sem_post(&w->ended);
}

static void work_done(uv_work_t *u, int status)
{
	struct sweep *w = container_of(u, struct sweep, work);

	w->running = false;
	w->rc = status ? status : w->rc;
	end(w);
}

static struct sweep *sweep_new(struct parent *p)
{
	struct sweep *w = calloc(1, sizeof(*w));

	if (!w || uv_sem_init(&w->ended, 0)) {
		free(w);
		return NULL;
	}
	w->p = p;
	return w;
}

void sweep_start(struct parent *p)
{
	struct sweep *w = p->sweep ? p->sweep : sweep_new(p);

	p->sweep = w;
	if (!w || w->running || !agents_live(p))
		return;
	begin(w);
	w->running = !uv_queue_work(&p->loop, &w->work, work, work_done);
	if (!w->running) {
		w->rc = -EAGAIN;
		end(w);
	}
}

void sweep_stop(struct parent *p)
{
	struct sweep *w = p->sweep;

	/* One that has not begun never will; it is freed with the process. */
	if (w && w->running && uv_cancel((uv_req_t *)&w->work))
		uv_sem_wait(&w->ended);
}
