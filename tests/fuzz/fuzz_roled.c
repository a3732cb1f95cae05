/* SPDX-License-Identifier: MIT */
/*
 * roled, the process that is logged in as an administrator: what comes in from a server, from keyd
 * and from the parent; and what the parent does with roled's answers. The first byte says which:
 * 'M', 'R', 'D', 'S': a server's bytes, sent on each connection, while a role is made, given a new
 * password, dropped, or left ones are looked for; 'J': the fields of an order; 'K': an errno and a user,
 * as keyd's answer; 'P': the fields of an answer to the parent.
 *
 * Whatever it is: each order is answered once, in a form that the parent can read; nothing is done
 * without a server that has said so; and no task is left.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/parent.h"
#include "daemon/roled.h"
#include "daemon/roles.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CONNECTIONS_MAX = 4, BYTES_MAX = 64 << 10, ID = 7 };

static const char text[] =
	"credentials:\n"
	"  adm: { user: admin, password_file: /nonexistent }\n"
	"  tmp: { ephemeral_role: { admin: adm, grants: [pg_read_all_data, "
	"'GRANT SELECT ON t TO {role}', 'GRANT CONNECT ON DATABASE {database} TO {role}'] } }\n"
	"agents:\n  bot: { uid: [1000] }\n"
	"targets:\n  db: { address: \"10.0.0.1:5432\", protocol: postgresql, credential: tmp }\n"
	"policy:\n  - agents: [bot]\n    targets: [db]\n"
	"    access: { approval: builtin }\n"
	"daemon: { state_dir: /nonexistent/tidegate, workers: 1 }\n";

static struct {
	bool ready;
	struct roled o;
	struct ipc *parent;
	uv_poll_t listener;
	int listen_fd;
	char dir[64], upstream[128];
	/* Of the present input. */
	struct slice rest;
	uint8_t mode;
	unsigned answers, logins;
	int fds[CONNECTIONS_MAX];
	unsigned nfds;
} rig;

/* ------------------------------------------------------------- the other sides */

/* As keyd would, with a proof that a server can be made to believe: zeros. */
static void key_answer(struct ipc *ipc, const struct ipc_msg *m)
{
	static const uint8_t zeros[35];
	bool raw = rig.mode == 'K' && m->type == IPC_KEY_LOGIN && rig.logins++ == 0 && rig.rest.n;

	ipc_begin(ipc, m->type, m->id);
	ipc_put_u32(ipc, raw ? rig.rest.p[0] : rig.mode == 'J' || rig.mode == 'K' ? EACCES : 0);
	if (m->type == IPC_KEY_LOGIN)
		ipc_put_bytes(ipc, raw ? slice_from(rig.rest, 1) : slice_str("admin"));
	else
		ipc_put_bytes(ipc, slice_of(zeros, m->type == IPC_KEY_MD5 ? 35 : 32));
	if (m->type == IPC_KEY_SCRAM)
		ipc_put_bytes(ipc, slice_of(zeros, 32));
	ipc_send(ipc);
}

static void check_answer(struct ipc_msg *m)
{
	uint32_t error = ipc_get_u32(m), n;
	struct slice code = ipc_get_str(m), words = ipc_get_str(m), at = ipc_get_str(m);

	n = ipc_get_u32(m);
	BUG_ON(m->id != ID || rig.answers++ || error > ROLE_NOT_OURS || code.n > 5 || at.n > 511);
	BUG_ON(n > ROLED_NAMES_MAX || (n && (rig.mode != 'S' || error)));
	for (size_t i = 0; i < words.n; i++)
		BUG_ON(words.p[i] < ' ' || words.p[i] == 127);
	for (uint32_t i = 0; i < n; i++) {
		struct slice name = ipc_get_str(m);

		BUG_ON(!name.n || name.n > 255 || memchr(name.p, 0, name.n));
	}
	BUG_ON(!ipc_end(m));
	/* A server that has not said that it is ready has done nothing. */
	BUG_ON(error == ROLE_OK && (!rig.rest.n || !memchr(rig.rest.p, 'Z', rig.rest.n) ||
				    rig.mode == 'J' || rig.mode == 'K'));
}

static void on_parent(void *ctx, struct ipc *ipc, struct ipc_msg *m)
{
	if (m->type == IPC_ROLE_JOB)
		check_answer(m);
	else
		key_answer(ipc, m);
}

static void on_roled(void *ctx, struct ipc *ipc, struct ipc_msg *m)
{
	if (m->type == IPC_ROLE_JOB)
		roled_take(&rig.o, m);
	else
		roled_key(&rig.o, m);
	BUG_ON(m->bad);
}

static void on_closed(void *ctx, struct ipc *ipc, bool bad)
{
	abort();
}

/* Says all it has to say, and nothing more. */
static void on_connect(uv_poll_t *h, int status, int events)
{
	int fd = accept4(rig.listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	bool server = rig.mode == 'M' || rig.mode == 'R' || rig.mode == 'D' || rig.mode == 'S';

	if (fd < 0)
		return;
	if (server && rig.nfds < CONNECTIONS_MAX) {
		/* The end comes behind what was said; what roled says is left unread. */
		(void)!write(fd, rig.rest.p, rig.rest.n);
		(void)shutdown(fd, SHUT_WR);
		rig.fds[rig.nfds++] = fd;
	} else {
		(void)close(fd);
	}
}

/* ----------------------------------------------------------------------- life */

static void remove_dir(void)
{
	(void)unlink(rig.upstream + strlen("unix:"));
	(void)rmdir(rig.dir);
}

static void set_up(void)
{
	static const struct ipc_ops roled_ops = {.message = on_roled, .closed = on_closed};
	static const struct ipc_ops parent_ops = {.message = on_parent, .closed = on_closed};
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	struct buf error;
	int fds[2];

	if (rig.ready)
		return;
	rig.ready = true;
	log_init("fuzz", LOG_LVL_ERROR);
	buf_init(&error, 65536);
	BUG_ON(config_parse(slice_of(text, sizeof(text) - 1), "fuzz.yaml", &rig.o.cfg, &error));
	buf_done(&error);
	list_init(&rig.o.jobs);
	BUG_ON(uv_loop_init(&rig.o.loop) || ipc_pair(fds));
	BUG_ON(ipc_new(&rig.o.loop, fds[0], &roled_ops, NULL, &rig.o.ipc));
	BUG_ON(ipc_new(&rig.o.loop, fds[1], &parent_ops, NULL, &rig.parent));
	(void)snprintf(rig.dir, sizeof(rig.dir), "/tmp/tidegate-fuzz-XXXXXX");
	BUG_ON(!mkdtemp(rig.dir));
	(void)snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/s", rig.dir);
	(void)snprintf(rig.upstream, sizeof(rig.upstream), "unix:%s/s", rig.dir);
	rig.listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	BUG_ON(rig.listen_fd < 0 || bind(rig.listen_fd, (struct sockaddr *)&sun, sizeof(sun)) ||
	       listen(rig.listen_fd, 64));
	(void)atexit(remove_dir);
	BUG_ON(uv_poll_init(&rig.o.loop, &rig.listener, rig.listen_fd) ||
	       uv_poll_start(&rig.listener, UV_READABLE, on_connect));
}

static void run(void)
{
	while (!rig.answers)
		(void)uv_run(&rig.o.loop, UV_RUN_ONCE);
	/* Timers and sockets of the task are closed, and nothing else is said. */
	for (int i = 0; i < 3; i++)
		(void)uv_run(&rig.o.loop, UV_RUN_NOWAIT);
	BUG_ON(!list_empty(&rig.o.jobs) || rig.o.running || rig.answers != 1);
	while (rig.nfds)
		(void)close(rig.fds[--rig.nfds]);
}

static void order(enum role_job_kind kind)
{
	const struct role_job j = {
		.kind = kind,
		.credential = SLICE_LIT("tmp"),
		.upstream = slice_str(rig.upstream),
		.database = SLICE_LIT("shop"),
		.role = SLICE_LIT("tg_bot_abc"),
		.verifier = SLICE_LIT("SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy"),
		.mark = SLICE_LIT("tidegate mark"),
		.ttl_ms = 60000,
	};

	ipc_begin(rig.parent, IPC_ROLE_JOB, ID);
	role_job_put(rig.parent, &j);
	ipc_send(rig.parent);
	run();
}

/* A packet with these fields; false: they are none. */
static bool packet(enum ipc_type type, uint64_t id, struct slice fields, uint8_t *mem, struct ipc_msg *ret)
{
	uint16_t head[2] = {IPC_VERSION, (uint16_t)type};
	uint32_t len = (uint32_t)fields.n;

	memcpy(mem, head, sizeof(head));
	memcpy(mem + 4, &len, sizeof(len));
	memcpy(mem + 8, &id, sizeof(id));
	memcpy(mem + 16, fields.p, fields.n);
	*ret = (struct ipc_msg){.nfds = 0};
	return ipc_parse(slice_of(mem, 16 + fields.n), ret);
}

/* It gets no login, so that nothing is connected to whatever an order says. */
static void any_order(struct slice fields)
{
	uint8_t mem[16 + BYTES_MAX];
	struct ipc_msg m;

	if (!packet(IPC_ROLE_JOB, ID, fields, mem, &m))
		return;
	roled_take(&rig.o, &m);
	if (!m.bad)
		run();
}

/* ----------------------------------------------------------- the parent's side */

static struct prole *role(struct parent *p, enum prole_state state, uint64_t number)
{
	struct prole *r = calloc(1, sizeof(*r));

	BUG_ON(!r);
	(void)snprintf(r->name, sizeof(r->name), "tg_bot_%llu", (unsigned long long)number);
	(void)snprintf(r->credential, sizeof(r->credential), "tmp");
	(void)snprintf(r->target, sizeof(r->target), "db");
	(void)snprintf(r->upstream, sizeof(r->upstream), "10.0.0.1:5432");
	r->state = state;
	r->order = number;
	list_init(&r->link);
	list_add_tail(&p->roles->all, &r->link);
	return r;
}

static void any_answer(struct slice in)
{
	static struct parent p;
	static struct roles roles;
	uint8_t mem[16 + BYTES_MAX];
	struct role_place *place = calloc(1, sizeof(*place));
	struct ipc_msg m;
	unsigned n = 0;

	if (!in.n || !place ||
	    !packet(IPC_ROLE_JOB, 1 + in.p[0] % 4, slice_from(in, 1), mem, &m)) {
		free(place);
		return;
	}
	p.cfg = rig.o.cfg;
	p.roles = &roles;
	list_init(&p.approvals);
	list_init(&p.grants);
	list_init(&p.glogins);
	list_init(&roles.all);
	list_init(&roles.places);
	list_init(&place->link);
	list_add_tail(&roles.places, &place->link);
	place->order = 3;
	(void)snprintf(place->target, sizeof(place->target), "db");
	(void)snprintf(place->credential, sizeof(place->credential), "tmp");
	(void)role(&p, PROLE_MAKING, 1);
	(void)role(&p, PROLE_DROPPING, 2);
	roles_job_done(&p, &m);
	list_each(it, &roles.all)
	{
		struct prole *r = container_of(it, struct prole, link);

		/* A name as it is written into the next order. */
		BUG_ON(!memchr(r->name, 0, sizeof(r->name)) || r->order > 2);
		BUG_ON(r->state != PROLE_ENDING && r->state != PROLE_MAKING && r->state != PROLE_READY &&
		       r->state != PROLE_DROPPING);
		list_del(&r->link);
		free(r);
		n++;
	}
	BUG_ON(n > 2 + BYTES_MAX / 3);
	list_each(it, &roles.places)
	{
		list_del(it);
		free(container_of(it, struct role_place, link));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char kinds[] = "MRDS"; /* in the order of enum role_job_kind */
	const char *kind;

	if (size == 0 || size > BYTES_MAX)
		return 0;
	set_up();
	rig.mode = data[0];
	rig.rest = slice_of(data + 1, size - 1);
	rig.answers = rig.logins = 0;
	kind = memchr(kinds, data[0], sizeof(kinds) - 1);
	if (kind)
		order((enum role_job_kind)(kind - kinds));
	else if (data[0] == 'K')
		order(ROLE_JOB_SWEEP);
	else if (data[0] == 'J')
		any_order(rig.rest);
	else if (data[0] == 'P')
		any_answer(rig.rest);
	return 0;
}
