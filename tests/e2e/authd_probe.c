/* SPDX-License-Identifier: MIT */
/*
 * Plays the parent of a real authd and a real keyd, with their sandboxes, for
 * test_ident.py. Lines on standard input, one JSON object a line for each answer.
 *
 *   authd_probe CONFIG
 *   lines: ask ID AGENT SCOPE WORDS... | way ID WAY,... TOKEN | cancel ID | state | ways | config FILE | keyd stop | keyd start
 *          | quit
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/jsonw.h"
#include "base/log.h"
#include "base/reason.h"
#include "daemon/idp_ask.h"
#include "daemon/ipc.h"
#include "daemon/memfd.h"
#include "daemon/sandbox.h"

enum { NOBODY = 65534 };

struct child {
	struct parent *p;
	const char *name;
	int (*body)(void);
	struct ipc *ipc;
	pid_t pid;
};

struct parent {
	uv_loop_t loop;
	uv_poll_t in;
	struct child authd, keyd;
	char config[200];
	char line[32768]; /* with a token */
	size_t n;
	bool quitting, wants_ways;
};

static void print_line(struct buf *out)
{
	if (buf_append(out, "\n", 1) != 0 || write(1, buf_data(out), out->n) != (ssize_t)out->n)
		abort();
	buf_done(out);
}

static void print_event(const struct child *c, const char *what, int status)
{
	struct buf out;

	buf_init(&out, 1000);
	if (buf_printf(&out, "{\"event\":\"%s %s\",\"status\":%d}", c->name, what, status) == 0)
		print_line(&out);
}

static void print_answer(struct ipc_msg *m)
{
	struct buf out;
	struct jsonw w;

	buf_init(&out, 65536);
	jsonw_init(&w, &out, false);
	jsonw_object(&w);
	jsonw_kv_u64(&w, "id", m->id);
	jsonw_kv_string(&w, "reason", reason_label((uint16_t)ipc_get_u32(m)));
	jsonw_kv_u64(&w, "ttl_ms", ipc_get_u64(m));
	jsonw_kv_slice(&w, "scope", ipc_get_str(m));
	jsonw_kv_slice(&w, "subject", ipc_get_str(m));
	jsonw_kv_slice(&w, "token_digest", ipc_get_str(m));
	jsonw_kv_slice(&w, "detail", ipc_get_str(m));
	jsonw_kv_slice(&w, "evidence", ipc_get_str(m));
	jsonw_object_end(&w);
	if (jsonw_end(&w) != 0 || !ipc_end(m))
		abort();
	print_line(&out);
}

/* As the parent does: a question without keyd is answered at once. */
static void to_keyd(struct parent *p, struct ipc_msg *m)
{
	if (p->keyd.ipc) {
		ipc_forward(p->keyd.ipc, m, m->id);
		return;
	}
	ipc_begin(p->authd.ipc, m->type, m->id);
	ipc_put_u32(p->authd.ipc, ENOTCONN);
	ipc_put_bytes(p->authd.ipc, slice_of("", 0));
	if (m->type == IPC_KEY_DPOP)
		ipc_put_bytes(p->authd.ipc, slice_of("", 0));
	ipc_send(p->authd.ipc);
}

static void on_message(void *ctx, struct ipc *ipc, struct ipc_msg *m)
{
	struct child *c = ctx;
	struct buf out;

	switch (m->type) {
	case IPC_READY:
		print_event(c, "ready", 0);
		break;
	case IPC_KEY_CLIENT:
	case IPC_KEY_TLS:
	case IPC_KEY_DPOP:
		if (c == &c->p->keyd && c->p->authd.ipc)
			ipc_forward(c->p->authd.ipc, m, m->id);
		else
			to_keyd(c->p, m);
		break;
	case IPC_IDP_ASK:
		print_answer(m);
		break;
	case IPC_IDP_STATE: {
		struct slice json = ipc_get_str(m), ways = ipc_get_str(m);

		buf_init(&out, 65536);
		if (buf_append_slice(&out, c->p->wants_ways ? ways : json) == 0)
			print_line(&out);
		break;
	}
	default:
		abort();
	}
}

static void on_closed(void *ctx, struct ipc *ipc, bool bad)
{
	struct child *c = ctx;
	int status = 0;

	c->ipc = NULL;
	(void)waitpid(c->pid, &status, 0);
	if (!c->p->quitting)
		print_event(c, bad ? "bad" : "gone",
			    WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

static void send_config(struct child *c)
{
	struct buf text;
	int fd = open(c->p->config, O_RDONLY | O_CLOEXEC);
	ssize_t n = 0;

	buf_init(&text, 65536);
	if (fd >= 0 && buf_reserve(&text, 60000))
		n = read(fd, buf_data(&text), 60000);
	if (fd < 0 || n <= 0)
		abort();
	(void)close(fd);
	buf_commit(&text, (size_t)n);
	fd = memfd_from("config", buf_slice(&text));
	buf_done(&text);
	if (fd < 0)
		abort();
	ipc_begin(c->ipc, IPC_CONFIG, 0);
	ipc_put_u64(c->ipc, 1);
	ipc_put_fd(c->ipc, fd);
	ipc_send(c->ipc);
	(void)close(fd);
}

static NORETURN void become(struct child *c, int fd)
{
	if (fd != IPC_CHILD_FD && dup2(fd, IPC_CHILD_FD) < 0)
		_exit(98);
	(void)close(0);
	(void)close(1);
	if (close_range(IPC_CHILD_FD + 1, ~0u, 0))
		_exit(97);
	log_init(c->name, LOG_LVL_NOTICE);
	if (c == &c->p->authd && geteuid() == 0 && sandbox_drop(NOBODY, NOBODY))
		_exit(96);
	_exit(c->body());
}

static void start(struct child *c)
{
	static const struct ipc_ops ops = {.message = on_message, .closed = on_closed};
	uid_t uid = geteuid() == 0 ? NOBODY : geteuid();
	int fds[2];

	if (ipc_pair(fds))
		abort();
	c->pid = fork();
	if (c->pid == 0)
		become(c, fds[1]);
	(void)close(fds[1]);
	if (c->pid < 0 || ipc_new(&c->p->loop, fds[0], &ops, c, &c->ipc))
		abort();
	ipc_begin(c->ipc, IPC_INIT, 0);
	ipc_put_u32(c->ipc, 0);
	ipc_put_str(c->ipc, c->name);
	ipc_put_u32(c->ipc, uid);
	ipc_put_u32(c->ipc, uid);
	if (c == &c->p->keyd)
		ipc_put_str(c->ipc, "/var/lib/tidegate");
	ipc_send(c->ipc);
	send_config(c);
}

static void quit(struct parent *p)
{
	p->quitting = true;
	ipc_free(p->authd.ipc);
	ipc_free(p->keyd.ipc);
	uv_close((uv_handle_t *)&p->in, NULL);
}

static void simple(struct parent *p, enum ipc_type type, const char *id)
{
	ipc_begin(p->authd.ipc, type, strtoull(id, NULL, 10));
	ipc_send(p->authd.ipc);
}

static void ask(struct parent *p, char *rest)
{
	char *id = strsep(&rest, " "), *agent = strsep(&rest, " ");

	struct idp_ask q = {
		.ways = "idp", .scope = rest ? rest : "", .agent = agent, .target = "db", .effect = "",
		.text = "", .user = "", .database = "", .request = id, .session = "", .facts = "",
	};

	ipc_begin(p->authd.ipc, IPC_IDP_ASK, strtoull(id, NULL, 10));
	idp_ask_put(p->authd.ipc, &q);
	ipc_send(p->authd.ipc);
}

/* By ways of `approvals:`, with the agent's own token. */
static void way(struct parent *p, char *rest)
{
	char *id = strsep(&rest, " "), *ways = strsep(&rest, " ");

	struct idp_ask q = {
		.ways = ways, .scope = "", .agent = "agent", .target = "db", .effect = "", .text = "",
		.user = "", .database = "", .request = id, .session = "", .facts = "",
		.max_ms = 60 * 60 * 1000, .token = slice_str(rest ? rest : ""),
	};

	for (char *c = ways; (c = strchr(c, ','));)
		*c = ' ';
	ipc_begin(p->authd.ipc, IPC_IDP_ASK, strtoull(id, NULL, 10));
	idp_ask_put(p->authd.ipc, &q);
	ipc_send(p->authd.ipc);
}

static void keyd(struct parent *p, const char *what)
{
	if (strcmp(what, "start") == 0)
		start(&p->keyd);
	else
		(void)kill(p->keyd.pid, SIGKILL);
}

static void command(struct parent *p, char *line)
{
	char *rest = line, *verb = strsep(&rest, " ");

	if (!p->authd.ipc) {
		quit(p);
	} else if (strcmp(verb, "state") == 0 || strcmp(verb, "ways") == 0) {
		p->wants_ways = verb[0] == 'w';
		simple(p, IPC_IDP_STATE, "1");
	} else if (!rest) {
		quit(p);
	} else if (strcmp(verb, "ask") == 0) {
		ask(p, rest);
	} else if (strcmp(verb, "way") == 0) {
		way(p, rest);
	} else if (strcmp(verb, "cancel") == 0) {
		simple(p, IPC_IDP_CANCEL, rest);
	} else if (strcmp(verb, "keyd") == 0) {
		keyd(p, rest);
	} else {
		(void)snprintf(p->config, sizeof(p->config), "%s", rest);
		send_config(&p->authd);
		if (p->keyd.ipc)
			send_config(&p->keyd);
	}
}

static void on_input(uv_poll_t *poll, int status, int events)
{
	struct parent *p = poll->data;
	ssize_t n = read(0, p->line + p->n, sizeof(p->line) - p->n - 1);
	char *end;

	if (n <= 0) {
		quit(p);
		return;
	}
	p->n += (size_t)n;
	while (!p->quitting && (end = memchr(p->line, '\n', p->n))) {
		*end = '\0';
		command(p, p->line);
		p->n -= (size_t)(end + 1 - p->line);
		memmove(p->line, end + 1, p->n);
	}
}

int main(int argc, char **argv)
{
	static struct parent p;

	if (argc != 2 || uv_loop_init(&p.loop) != 0)
		return 2;
	(void)signal(SIGPIPE, SIG_IGN);
	(void)snprintf(p.config, sizeof(p.config), "%s", argv[1]);
	p.authd = (struct child){.p = &p, .name = "authd", .body = authd_main};
	p.keyd = (struct child){.p = &p, .name = "keyd", .body = keyd_main};
	start(&p.keyd);
	start(&p.authd);
	(void)uv_poll_init(&p.loop, &p.in, 0);
	p.in.data = &p;
	(void)uv_poll_start(&p.in, UV_READABLE, on_input);
	(void)uv_run(&p.loop, UV_RUN_DEFAULT);
	return 0;
}
