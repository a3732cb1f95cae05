/* SPDX-License-Identifier: MIT */
/*
 * The control socket: the input is the JSON of one request, run against a parent
 * with a small configuration and nobody running. Every answer is a result or an error
 * with a code of tidegate_ctl.h, and can be written as JSON.
 */
#include <errno.h>

#include "base/log.h"
#include "daemon/grants.h"
#include "daemon/parent.h"
#include "daemon/receipts.h"
#include "daemon/registry.h"
#include "daemon/roles.h"
#include "tidegate_ctl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char text[] = "agents:\n  bot: { cgroup: /bots, uid: [1000] }\n"
			   "targets:\n  db: { address: \"10.0.0.1:5432\", protocol: postgresql }\n"
			   "policy:\n  - agents: [bot]\n    targets: [db]\n"
			   "    access: { approval: builtin }\n"
			   "daemon: { state_dir: /nonexistent/tidegate, workers: 1 }\n";

static struct parent *make_parent(void)
{
	static struct parent p;
	struct ptarget *t;
	struct pagent *a;
	struct buf error;

	if (p.cfg)
		return &p;
	buf_init(&error, 65536);
	BUG_ON(config_parse(slice_of(text, sizeof(text) - 1), "fuzz.yaml", &p.cfg, &error));
	buf_done(&error);
	p.config_path = "/nonexistent/tidegate.yaml";
	list_init(&p.targets);
	list_init(&p.agents);
	list_init(&p.grants);
	list_init(&p.approvals);
	list_init(&p.receipts);
	list_init(&p.clients);
	t = calloc(1, sizeof(*t));
	a = calloc(1, sizeof(*a));
	p.roles = calloc(1, sizeof(*p.roles));
	BUG_ON(!t || !a || !p.roles);
	list_init(&p.roles->all);
	list_init(&p.roles->places);
	t->id = a->id = 1;
	t->cfg = &p.cfg->targets[0];
	a->cfg = &p.cfg->agents[0];
	(void)snprintf(t->name, sizeof(t->name), "db");
	(void)snprintf(a->name, sizeof(a->name), "bot");
	list_add_tail(&p.targets, &t->link);
	list_add_tail(&p.agents, &a->link);
	log_init("fuzz", LOG_LVL_ERROR);
	return &p;
}

/* A little of everything that requests can be about; made anew for each input. */
static void fill(struct parent *p)
{
	struct approval *a = calloc(1, sizeof(*a));

	BUG_ON(!a || !grant_new(p, "bot", "db", "*", "builtin", "uid 0", 60000, ""));
	(void)snprintf(a->id, sizeof(a->id), "aaaaaaaa");
	(void)snprintf(a->agent, sizeof(a->agent), "bot");
	(void)snprintf(a->target, sizeof(a->target), "db");
	a->min = 2;
	list_init(&a->waiters);
	list_init(&a->rechecks);
	list_add_tail(&p->approvals, &a->link);
	p->napprovals = 1;
	container_of(p->agents.next, struct pagent, link)->approvals = 1;
}

static void empty(struct parent *p)
{
	receipts_fail(p, ECANCELED);
	list_each(it, &p->grants) {
		struct grant *g = container_of(it, struct grant, link);

		list_del(&g->link);
		free(g);
	}
	list_each(it, &p->approvals) {
		struct approval *a = container_of(it, struct approval, link);

		list_del(&a->link);
		free(a);
	}
}

static bool known_code(const char *code)
{
	static const char *const codes[] = {
#define X(name, text, when) text,
		TG_CTL_ERRORS(X)
#undef X
	};

	for (size_t i = 0; i < ARRAY_SIZE(codes); i++)
		if (strcmp(code, codes[i]) == 0)
			return true;
	return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct parent *p = make_parent();
	struct ctl_error e = {.code = "failed"};
	json_t *req = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL);
	const char *op = json_string_value(json_object_get(req, "op"));
	json_t *args = json_object_get(req, "args"), *result;
	bool later = false;
	char *out;

	/* Following and showing need a client's connection. */
	if (op && json_is_object(args) && strncmp(op, "session.f", 9) != 0 &&
	    strncmp(op, "session.s", 9) != 0) {
		fill(p);
		result = control_run(p, NULL, op, args, size & 1 ? 0 : 1000, &e, &later);
		BUG_ON(later || (!result && !known_code(e.code)));
		out = result ? json_dumps(result, 0) : NULL;
		BUG_ON(result && !out);
		free(out);
		json_decref(result);
		empty(p);
	}
	json_decref(req);
	return 0;
}
