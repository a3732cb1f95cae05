/* SPDX-License-Identifier: MIT */
#include "keyd_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <openssl/pem.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/memfd.h"
#include "jose_make.h"

char keyd_dir[64];
EVP_PKEY *keyd_key;

const char *keyd_path(const char *name)
{
	static char path[200];

	(void)snprintf(path, sizeof(path), "%s/%s", keyd_dir, name);
	return path;
}

void keyd_write(const char *name, const char *text, mode_t mode)
{
	int fd = open(keyd_path(name), O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	assert_int_equal(fchmod(fd, mode), 0);
	(void)close(fd);
}

static void on_message(void *ctx, struct ipc *ipc, struct ipc_msg *m)
{
	struct keyd_peer *p = ctx;
	bool two;

	if (m->type == IPC_READY) {
		p->ready = true;
	} else if (m->type == IPC_PLUGIN_ASK) {
		p->plugin = slice_eq_str(ipc_get_str(m), "told");
	} else {
		assert_int_equal(m->id, p->id);
		p->error = ipc_get_u32(m);
		two = m->type == IPC_KEY_SCRAM || m->type == IPC_GRANT_KEY || m->type == IPC_KEY_DPOP;
		for (int i = 0; i < (two ? 2 : 1); i++) {
			struct slice s = ipc_get_bytes(m);

			assert_true(s.n < sizeof(p->bytes[i]));
			memcpy(p->bytes[i], s.p, s.n);
			p->bytes[i][s.n] = 0;
			p->n[i] = s.n;
		}
		assert_true(ipc_end(m));
		p->answered = true;
	}
	uv_stop(&p->loop);
}

static void on_closed(void *ctx, struct ipc *ipc, bool bad)
{
	struct keyd_peer *p = ctx;

	p->gone = true;
	p->ipc = NULL;
	uv_stop(&p->loop);
}

void keyd_send_config(struct keyd_peer *p, const char *text)
{
	int fd = memfd_from("config", slice_str(text));

	assert_true(fd >= 0);
	ipc_begin(p->ipc, IPC_CONFIG, 0);
	ipc_put_u64(p->ipc, 1);
	ipc_put_fd(p->ipc, fd);
	ipc_send(p->ipc);
	(void)close(fd);
}

char *keyd_config(const char *client)
{
	char *text;

	assert_true(asprintf(&text,
			     "%s"
			     "credentials:\n"
			     "  ro: { user: user, password_file: %s/one }\n"
			     "  clear: { user: user, password_file: %s/one, clear_text: true }\n"
			     "  open: { user: user, password_file: %s/open }\n"
			     "  told: { exec: [/bin/tell], run_as: nobody }\n"
			     "agents: { a: { uid: [1000] } }\n"
			     "policy:\n"
			     "  - agents: [a]\n"
			     "    targets: [one]\n"
			     "    access: { approval: none }\n"
			     "    commands: [{ effect: any, do: allow }]\n"
			     "targets:\n"
			     "  one:\n"
			     "    address: \"127.0.0.1:5432\"\n"
			     "    protocol: postgresql\n"
			     "    catalog: { user: user, password_file: %s/one }\n"
			     "  open:\n"
			     "    address: \"127.0.0.2:5432\"\n"
			     "    protocol: postgresql\n"
			     "    catalog: { user: user, password_file: %s/open }\n",
			     client, keyd_dir, keyd_dir, keyd_dir, keyd_dir, keyd_dir) > 0);
	return text;
}

void keyd_start(struct keyd_peer *p, const char *config)
{
	static const struct ipc_ops ops = {.message = on_message, .closed = on_closed};
	int fds[2];

	memset(p, 0, sizeof(*p));
	assert_int_equal(ipc_pair(fds), 0);
	p->pid = fork();
	if (p->pid == 0) {
		(void)close(fds[0]);
		if (fds[1] != IPC_CHILD_FD && dup2(fds[1], IPC_CHILD_FD) < 0)
			_exit(99);
		log_init("keyd", LOG_LVL_NOTICE);
		if (!getenv("KEYD_LOG"))
			(void)close(2); /* what it refuses is expected */
		_exit(keyd_main());
	}
	assert_true(p->pid > 0);
	(void)close(fds[1]);
	assert_int_equal(uv_loop_init(&p->loop), 0);
	assert_int_equal(ipc_new(&p->loop, fds[0], &ops, p, &p->ipc), 0);
	ipc_begin(p->ipc, IPC_INIT, 0);
	ipc_put_u32(p->ipc, 0);
	ipc_put_str(p->ipc, "keyd");
	ipc_put_u32(p->ipc, geteuid() == 0 ? 65534 : geteuid());
	ipc_put_u32(p->ipc, geteuid() == 0 ? 65534 : getegid());
	ipc_put_str(p->ipc, "/var/lib/tidegate");
	ipc_send(p->ipc);
	keyd_send_config(p, config);
	while (!p->ready && !p->gone)
		(void)uv_run(&p->loop, UV_RUN_ONCE);
	assert_true(p->ready);
}

int keyd_stop(struct keyd_peer *p)
{
	int status;

	ipc_free(p->ipc);
	(void)uv_run(&p->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&p->loop), 0);
	assert_int_equal(waitpid(p->pid, &status, 0), p->pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
}

/* Sends what has been put, and waits. */
uint32_t keyd_ask(struct keyd_peer *p)
{
	p->answered = false;
	ipc_send(p->ipc);
	while (!p->answered && !p->gone)
		(void)uv_run(&p->loop, UV_RUN_ONCE);
	assert_true(p->answered);
	return p->error;
}

void keyd_question(struct keyd_peer *p, enum ipc_type type, const char *first)
{
	ipc_begin(p->ipc, type, ++p->id);
	ipc_put_str(p->ipc, first);
}

char *keyd_idp(const char *client)
{
	char *text;

	assert_true(asprintf(&text,
			     "idp:\n  issuer: https://idp.example/realm\n  client: { id: tidegate, "
			     "%s }\n",
			     client) > 0);
	return text;
}

int keyd_set_up(void **state)
{
	FILE *f;

	(void)signal(SIGPIPE, SIG_IGN);
	(void)snprintf(keyd_dir, sizeof(keyd_dir), "/tmp/tidegate-keyd-XXXXXX");
	/* keyd, no longer root, looks whether the files have changed. */
	if (!mkdtemp(keyd_dir) || chmod(keyd_dir, 0711))
		return -1;
	keyd_write("secret", "the secret\r\n", 0600);
	keyd_key = jose_key("P-256");
	keyd_write("key.pem", "", 0600);
	f = fopen(keyd_path("key.pem"), "w");
	if (!f || PEM_write_PrivateKey(f, keyd_key, NULL, NULL, 0, NULL, NULL) != 1)
		return -1;
	return fclose(f);
}

int keyd_fresh(void **state)
{
	keyd_write("one", "pencil\n", 0600);
	keyd_write("open", "pencil\n", 0644);
	return 0;
}

int keyd_tear_down(void **state)
{
	char command[100];

	EVP_PKEY_free(keyd_key);
	(void)snprintf(command, sizeof(command), "rm -rf %s", keyd_dir);
	return system(command);
}
