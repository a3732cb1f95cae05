/* SPDX-License-Identifier: MIT */
/* A worker that asks for a login without what the policy wants first gets none. */
#include "daemon/glogin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/registry.h"
#include "daemon/roles.h"

#define CONFIG                                                                                     \
	"agents: { bot: { cgroup: /bot }, nobody: { cgroup: /nobody } }\n"                         \
	"credentials:\n"                                                                           \
	"  admin: { user: admin, password_file: /x }\n"                                            \
	"  jit: { ephemeral_role: { admin: admin, grants: [reader] } }\n"                          \
	"targets: { db: { address: '10.0.0.1:5432', protocol: postgresql, credential: jit } }\n"   \
	"policy:\n"                                                                                \
	"  - { agents: [bot], targets: [db], access: { approval: builtin }, commands: [{ effect: " \
	"any, do: allow }] }\n"

#define AND_UNASKED                                                                             \
	"  - { agents: [b*], targets: [db], when: { uid: ['7'] }, access: { approval: none }, " \
	"commands: [{ effect: any, do: allow }] }\n"
#define AND_ANOTHER                                                                         \
	"  - { agents: [nobody*], targets: [db], access: { approval: none }, commands: [{ " \
	"effect: any, do: allow }] }\n"

static uint32_t answered; /* errno of the last answer */

static void on_message(void *ctx, struct ipc *ipc, struct ipc_msg *m)
{
	if (m->type == IPC_GRANT_LOGIN) {
		(void)ipc_get_uuid(m);
		answered = ipc_get_u32(m);
	}
}

static const struct ipc_ops ops = {.message = on_message};

struct rig {
	struct parent p;
	struct roles roles;
	struct pagent agent;
	struct ptarget target;
	struct ipc *worker, *keyd; /* their ends */
};

static struct ipc *pair(struct rig *r, struct ipc **ret_parent)
{
	struct ipc *other;
	int fds[2];

	assert_int_equal(ipc_pair(fds), 0);
	assert_int_equal(ipc_new(&r->p.loop, fds[0], &ops, r, ret_parent), 0);
	assert_int_equal(ipc_new(&r->p.loop, fds[1], &ops, r, &other), 0);
	return other;
}

static void rig_init(struct rig *r, const char *config)
{
	struct buf error;

	memset(r, 0, sizeof(*r));
	buf_init(&error, 4096);
	if (config_parse(slice_str(config), "x", &r->p.cfg, &error))
		fail_msg("%.*s", (int)error.n, (const char *)buf_data(&error));
	buf_done(&error);
	assert_int_equal(uv_loop_init(&r->p.loop), 0);
	list_init(&r->p.grants);
	list_init(&r->p.approvals);
	list_init(&r->p.glogins);
	r->p.roles = &r->roles;
	list_init(&r->roles.all);
	list_init(&r->roles.places);
	r->p.roled.ready = true;
	r->keyd = pair(r, &r->p.keyd.ipc);
	r->worker = pair(r, &r->p.workers[0].ipc);
	r->p.workers[0].p = &r->p;
	(void)snprintf(r->agent.name, sizeof(r->agent.name), "bot");
	r->agent.cfg = &r->p.cfg->agents[0];
	(void)snprintf(r->target.name, sizeof(r->target.name), "db");
	r->target.cfg = &r->p.cfg->targets[0];
}

static void rig_done(struct rig *r)
{
	while (!list_empty(&r->roles.all)) {
		struct prole *role = container_of(r->roles.all.next, struct prole, link);

		glogin_role_gone(&r->p, role);
		list_del(&role->link);
		free(role);
	}
	ipc_free(r->keyd);
	ipc_free(r->worker);
	ipc_free(r->p.keyd.ipc);
	ipc_free(r->p.workers[0].ipc);
	(void)uv_run(&r->p.loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&r->p.loop), 0);
	config_free(r->p.cfg);
}

/* Without a grant; true: a role is being made. */
static bool asks(const char *config, enum target_mode mode)
{
	/* A UUID and a string, as a worker puts them. */
	uint8_t mem[] = {5, 1, 0, 0, 0, 0, 0, 0, 0, 0,	 0,   0,  0,
			 0, 0, 0, 0, 3, 3, 0, 0, 0, 'j', 'i', 't'};
	struct ipc_msg m = {.type = IPC_GRANT_LOGIN, .id = 5, .p = mem, .end = mem + sizeof(mem)};
	static struct rig r;
	struct uuid u = {{1}};
	struct psession *s;
	bool made;

	rig_init(&r, config);
	r.target.mode = mode;
	s = registry_open(&r.p, &r.p.workers[0], &u);
	assert_non_null(s);
	s->agent = &r.agent;
	s->target = &r.target;
	s->open = true;
	answered = 0;
	glogin_ask(&r.p, &r.p.workers[0], &m);
	assert_false(m.bad);
	made = !list_empty(&r.roles.all);
	while (!made && !answered)
		(void)uv_run(&r.p.loop, UV_RUN_ONCE);
	assert_int_equal(answered, made ? 0 : EACCES);
	HASH_DEL(r.p.sessions, s);
	free(s);
	rig_done(&r);
	return made;
}

static void test_no_grant(void **state)
{
	(void)state;
	log_init("test", LOG_LVL_ERROR);
	assert_false(asks(CONFIG, TARGET_STEER));
	assert_false(asks(CONFIG AND_ANOTHER, TARGET_STEER));
	/* Whether that entry applies the worker knows. */
	assert_true(asks(CONFIG AND_UNASKED, TARGET_STEER));
	assert_true(asks(CONFIG, TARGET_OBSERVE));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_grant),
	};

	return cmocka_run_group_tests_name("glogin", tests, NULL, NULL);
}
