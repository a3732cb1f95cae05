/* SPDX-License-Identifier: MIT */
/*
 * keyd as a process: what it answers, which files it refuses, and what it does
 * when they change. The test plays the parent.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/pem.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "daemon/ipc.h"
#include "daemon/memfd.h"
#include "daemon/plugcred.h"
#include "daemon/vault.h"
#include "ident/b64.h"
#include "ident/jwt.h"
#include "jose_make.h"

#define SCRAM_FIRST  "n=user,r=rOprNGfwEbeRWgbNEkqO"
#define SCRAM_NONCE  "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
#define SCRAM_SERVER SCRAM_NONCE ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"

static char dir[64];
static EVP_PKEY *key;

/* The other end of keyd's pair. */
struct peer {
	uv_loop_t loop;
	struct ipc *ipc;
	pid_t pid;
	uint64_t id;
	/* The last answer. */
	bool ready, answered, gone;
	bool plugin; /* it wants a program to be run */
	uint32_t error;
	uint8_t bytes[2][4096];
	size_t n[2];
};

static const char *path_of(const char *name)
{
	static char path[200];

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static void write_file(const char *name, const char *text, mode_t mode)
{
	int fd = open(path_of(name), O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	assert_int_equal(fchmod(fd, mode), 0);
	(void)close(fd);
}

static void on_message(void *ctx, struct ipc *ipc, struct ipc_msg *m)
{
	struct peer *p = ctx;

	if (m->type == IPC_READY) {
		p->ready = true;
	} else if (m->type == IPC_PLUGIN_ASK) {
		p->plugin = slice_eq_str(ipc_get_str(m), "told");
	} else {
		assert_int_equal(m->id, p->id);
		p->error = ipc_get_u32(m);
		for (int i = 0; i < (m->type == IPC_KEY_SCRAM || m->type == IPC_GRANT_KEY ? 2 : 1); i++) {
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
	struct peer *p = ctx;

	p->gone = true;
	p->ipc = NULL;
	uv_stop(&p->loop);
}

static void send_config(struct peer *p, const char *text)
{
	int fd = memfd_from("config", slice_str(text));

	assert_true(fd >= 0);
	ipc_begin(p->ipc, IPC_CONFIG, 0);
	ipc_put_u64(p->ipc, 1);
	ipc_put_fd(p->ipc, fd);
	ipc_send(p->ipc);
	(void)close(fd);
}

static char *config_text(const char *client)
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
			     client, dir, dir, dir, dir, dir) > 0);
	return text;
}

static void start(struct peer *p, const char *config)
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
	ipc_send(p->ipc);
	send_config(p, config);
	while (!p->ready && !p->gone)
		(void)uv_run(&p->loop, UV_RUN_ONCE);
	assert_true(p->ready);
}

static int stop(struct peer *p)
{
	int status;

	ipc_free(p->ipc);
	(void)uv_run(&p->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&p->loop), 0);
	assert_int_equal(waitpid(p->pid, &status, 0), p->pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
}

/* Sends what has been put, and waits. */
static uint32_t ask(struct peer *p)
{
	p->answered = false;
	ipc_send(p->ipc);
	while (!p->answered && !p->gone)
		(void)uv_run(&p->loop, UV_RUN_ONCE);
	assert_true(p->answered);
	return p->error;
}

static void question(struct peer *p, enum ipc_type type, const char *first)
{
	ipc_begin(p->ipc, type, ++p->id);
	ipc_put_str(p->ipc, first);
}

static uint32_t ask_scram(struct peer *p, const char *target, const char *server)
{
	question(p, IPC_KEY_SCRAM, target);
	ipc_put_bytes(p->ipc, SLICE_LIT(SCRAM_FIRST));
	ipc_put_bytes(p->ipc, slice_str(server));
	ipc_put_bytes(p->ipc, SLICE_LIT("c=biws," SCRAM_NONCE));
	return ask(p);
}

static uint32_t ask_md5(struct peer *p, const char *user, struct slice salt)
{
	question(p, IPC_KEY_MD5, "one");
	ipc_put_str(p->ipc, user);
	ipc_put_bytes(p->ipc, salt);
	return ask(p);
}

static void test_passwords(void **state)
{
	char *config = config_text(""), text[B64_TEXT(32)];
	struct peer p;

	start(&p, config);
	question(&p, IPC_KEY_PASSWORD, "one");
	assert_int_equal(ask(&p), 0);
	assert_string_equal((char *)p.bytes[0], "pencil");
	question(&p, IPC_KEY_PASSWORD, "none");
	assert_int_equal(ask(&p), ENOENT);
	assert_int_equal(p.n[0], 0);
	/* Readable by others. */
	question(&p, IPC_KEY_PASSWORD, "open");
	assert_int_equal(ask(&p), EPERM);
	assert_int_equal(p.n[0], 0);

	assert_int_equal(ask_md5(&p, "user", SLICE_LIT("\1\2\3\xff")), 0);
	assert_string_equal((char *)p.bytes[0], "md5673c3af101952f37135f47d3103c8b04");
	assert_int_equal(ask_md5(&p, "postgres", SLICE_LIT("\1\2\3\xff")), EINVAL);
	assert_int_equal(ask_md5(&p, "user", SLICE_LIT("\1\2\3")), EINVAL);

	/* RFC 7677; twice, as the second time comes from memory. */
	for (int i = 0; i < 2; i++) {
		assert_int_equal(ask_scram(&p, "one", SCRAM_SERVER), 0);
		assert_int_equal(p.n[0], 32);
		assert_int_equal(p.n[1], 32);
		(void)b64_encode(slice_of(p.bytes[0], 32), text);
		assert_string_equal(text, "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
		(void)b64_encode(slice_of(p.bytes[1], 32), text);
		assert_string_equal(text, "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
	}
	assert_int_equal(ask_scram(&p, "one", SCRAM_NONCE ",s=AAAA,i=1"), ERANGE);
	assert_int_equal(ask_scram(&p, "one", "nonsense"), EBADMSG);
	assert_int_equal(ask_scram(&p, "open", SCRAM_SERVER), EPERM);
	question(&p, IPC_KEY_CLIENT, "");
	assert_int_equal(ask(&p), ENOENT);
	assert_int_equal(stop(&p), 0);
	free(config);
}

static uint32_t ask_login(struct peer *p, const char *credential)
{
	question(p, IPC_KEY_LOGIN, credential);
	return ask(p);
}

static void test_credentials(void **state)
{
	char *config = config_text("");
	struct peer p;

	start(&p, config);
	assert_int_equal(ask_login(&p, "ro"), 0);
	assert_string_equal((char *)p.bytes[0], "user");
	assert_int_equal(ask_login(&p, "none"), ENOENT);
	assert_int_equal(ask_login(&p, "open"), EPERM);
	assert_int_equal(p.n[0], 0);
	assert_int_equal(ask_scram(&p, "@ro:user", SCRAM_SERVER), 0);
	assert_int_equal(ask_scram(&p, "@ro:postgres", SCRAM_SERVER), ENOENT);
	assert_int_equal(ask_scram(&p, "@open:user", SCRAM_SERVER), EPERM);
	/* Told to servers only where that is allowed, and under its name only. */
	question(&p, IPC_KEY_PASSWORD, "@ro:user");
	assert_int_equal(ask(&p), EACCES);
	assert_int_equal(p.n[0], 0);
	question(&p, IPC_KEY_PASSWORD, "@clear:user");
	assert_int_equal(ask(&p), 0);
	assert_string_equal((char *)p.bytes[0], "pencil");
	question(&p, IPC_KEY_PASSWORD, "clear");
	assert_int_equal(ask(&p), ENOENT);
	assert_int_equal(stop(&p), 0);
	free(config);
}

static void give_token(struct peer *p, uint64_t question, const char *user, const char *token,
		       uint64_t ttl_ms)
{
	ipc_begin(p->ipc, IPC_GRANT_TOKEN, question);
	ipc_put_str(p->ipc, user);
	ipc_put_u64(p->ipc, ttl_ms);
	ipc_put_bytes(p->ipc, slice_str(token));
	ipc_send(p->ipc);
}

static uint32_t ask_grant(struct peer *p, uint64_t question, const char *credential, bool near)
{
	ipc_begin(p->ipc, IPC_GRANT_KEY, ++p->id);
	ipc_put_u64(p->ipc, question);
	ipc_put_str(p->ipc, credential);
	ipc_put_u32(p->ipc, near);
	return ask(p);
}

static uint32_t ask_password(struct peer *p, const char *key_name)
{
	question(p, IPC_KEY_PASSWORD, key_name);
	return ask(p);
}

#define GRANT_CONFIG                                                                               \
	"idp: { issuer: \"https://idp.example\", client: { id: x, auth: client_secret_basic, secret_file: /none } }\n"         \
	"approvals: { m: { by: client_credentials, scope: s } }\n"                                 \
	"credentials:\n"                                                                           \
	"  far: { user: u, grant_token: m }\n"                                                     \
	"  clear: { grant_token: m, clear_text: true }\n"                                          \
	"  file: { user: u, password_file: /none }\n"                                              \
	"agents: { a: { uid: [1000] } }\n"                                                         \
	"targets: { t: { address: \"127.0.0.1:5432\", protocol: postgresql } }\n"                  \
	"policy: [{ agents: [a], targets: [t], access: { approval: none }, "                        \
	"commands: [{ effect: any, do: allow }] }]\n"

static void test_tokens_of_grants(void **state)
{
	struct peer p;
	char shut[64], clear[64];

	start(&p, GRANT_CONFIG);
	assert_int_equal(ask_grant(&p, 7, "far", true), ENOKEY);
	give_token(&p, 7, "sub-7", "pencil", 60000);
	give_token(&p, 8, "", "other", 60000);
	assert_int_equal(ask_grant(&p, 7, "file", true), ENOENT);
	assert_int_equal(ask_grant(&p, 7, "none", true), ENOENT);
	assert_int_equal(ask_grant(&p, 9, "far", true), ENOKEY);

	assert_int_equal(ask_grant(&p, 7, "far", false), 0);
	assert_string_equal((char *)p.bytes[0], "u");
	assert_int_equal(p.n[1], 33);
	memcpy(shut, p.bytes[1], 34);
	/* It proves itself by that name, and is told by the other one only. */
	assert_int_equal(ask_scram(&p, shut, SCRAM_SERVER), 0);
	assert_int_equal(ask_password(&p, shut), EACCES);
	assert_int_equal(p.n[0], 0);
	assert_int_equal(ask_grant(&p, 7, "far", true), 0);
	memcpy(clear, p.bytes[1], 34);
	assert_string_not_equal(shut, clear);
	assert_int_equal(ask_password(&p, clear), 0);
	assert_string_equal((char *)p.bytes[0], "pencil");
	/* Who it is about; nobody's is no login. */
	assert_int_equal(ask_grant(&p, 7, "clear", false), 0);
	assert_string_equal((char *)p.bytes[0], "sub-7");
	assert_string_equal((char *)p.bytes[1], clear);
	assert_int_equal(ask_grant(&p, 8, "clear", false), ENOKEY);
	/* Another one in its place has another name. */
	give_token(&p, 7, "sub-7", "newer", 60000);
	assert_int_equal(ask_password(&p, clear), ENOENT);
	assert_int_equal(ask_grant(&p, 7, "far", true), 0);
	memcpy(clear, p.bytes[1], 34);
	ipc_begin(p.ipc, IPC_GRANT_FORGET, 7);
	ipc_send(p.ipc);
	assert_int_equal(ask_password(&p, clear), ENOENT);
	assert_int_equal(ask_grant(&p, 7, "far", true), ENOKEY);
	/* Its time is over, or it is no password. */
	give_token(&p, 10, "s", "short", 0);
	assert_int_equal(ask_grant(&p, 10, "far", true), ENOKEY);
	give_token(&p, 11, "s", "two words", 60000);
	assert_int_equal(ask_grant(&p, 11, "far", true), ENOKEY);
	assert_int_equal(stop(&p), 0);
}

/* Plays the program: what it has printed. */
static void tell(struct peer *p, const char *text, uint32_t error)
{
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(write(fds[1], text, strlen(text)), strlen(text));
	(void)close(fds[1]);
	ipc_begin(p->ipc, IPC_PLUGIN_DONE, 0);
	ipc_put_str(p->ipc, "told");
	ipc_put_u32(p->ipc, error);
	if (!error)
		ipc_put_fd(p->ipc, fds[0]);
	ipc_send(p->ipc);
	(void)close(fds[0]);
}

/* A login that makes keyd ask for the program, which says @text. */
static uint32_t told(struct peer *p, const char *text, uint32_t error)
{
	p->plugin = p->answered = false;
	question(p, IPC_KEY_LOGIN, "told");
	ipc_send(p->ipc);
	while (!p->plugin && !p->answered && !p->gone)
		(void)uv_run(&p->loop, UV_RUN_ONCE);
	if (p->plugin)
		tell(p, text, error);
	while (!p->answered && !p->gone)
		(void)uv_run(&p->loop, UV_RUN_ONCE);
	assert_true(p->answered);
	return p->error;
}

static void stale(struct peer *p)
{
	ipc_begin(p->ipc, IPC_KEY_STALE, 0);
	ipc_put_str(p->ipc, "told");
	ipc_send(p->ipc);
}

static void test_program(void **state)
{
	char *config = config_text("");
	struct peer p;

	start(&p, config);
	assert_int_equal(told(&p, "{\"user\":\"one\",\"password\":\"pencil\"}", 0), 0);
	assert_true(p.plugin);
	assert_string_equal((char *)p.bytes[0], "one");
	assert_int_equal(ask_scram(&p, "@told:one", SCRAM_SERVER), 0);
	/* It is kept, until a server refuses it. */
	assert_int_equal(ask_login(&p, "told"), 0);
	stale(&p);
	assert_int_equal(told(&p, "{\"user\":\"two\",\"password\":\"pencil\"}", 0), 0);
	assert_true(p.plugin);
	assert_string_equal((char *)p.bytes[0], "two");
	/* Who began with the former one ends with it; the one before is forgotten. */
	assert_int_equal(ask_scram(&p, "@told:one", SCRAM_SERVER), 0);
	assert_int_equal(ask_scram(&p, "@told:two", SCRAM_SERVER), 0);
	stale(&p);
	assert_int_equal(told(&p, "{\"user\":\"three\",\"password\":\"x\",\"expires_in\":1}", 0), 0);
	assert_int_equal(ask_scram(&p, "@told:one", SCRAM_SERVER), ENOENT);
	assert_int_equal(ask_scram(&p, "@told:two", SCRAM_SERVER), 0);
	/* A failure leaves nothing for a new login, and is not tried again at once. */
	stale(&p);
	assert_int_equal(told(&p, "", ETIMEDOUT), ETIMEDOUT);
	assert_true(p.plugin);
	assert_int_equal(told(&p, "", 0), ETIMEDOUT);
	assert_false(p.plugin);
	assert_int_equal(usleep(1100000), 0);
	/* Without a user of its own the credential needs one from the program. */
	assert_int_equal(told(&p, "pencil\n", 0), EBADMSG);
	assert_true(p.plugin);
	assert_int_equal(stop(&p), 0);
	free(config);
}

static void test_output(void **state)
{
	static const struct {
		const char *text, *why; /* NULL: it is good */
		const char *user, *password;
		uint64_t expires_s;
	} rows[] = {
		{"pencil", NULL, "", "pencil", 0},
		{"pencil\r\n", NULL, "", "pencil", 0},
		{" pencil ", NULL, "", " pencil ", 0},
		{"", "it is empty", NULL, NULL, 0},
		{"\n", "it is empty", NULL, NULL, 0},
		{"a\nb", "more than one line", NULL, NULL, 0},
		{"{\"password\":\"p\"}\n", NULL, "", "p", 0},
		{"{\"password\":\"p\",\"user\":\"u\",\"expires_in\":60,\"more\":[]}", NULL, "u", "p", 60},
		{"{\"password\":\"\"}", "it is empty", NULL, NULL, 0},
		{"{\"password\":\"a\\u0000b\"}", "no JSON object", NULL, NULL, 0},
		{"{\"password\":\"a\\nb\"}", "more than one line", NULL, NULL, 0},
		{"{\"password\":1}", "`password` is missing", NULL, NULL, 0},
		{"{\"password\":\"p\",\"password\":\"q\"}", "no JSON object", NULL, NULL, 0},
		{"{\"password\":\"p\"} x", "no JSON object", NULL, NULL, 0},
		{"{\"password\":\"p\",\"user\":\"\"}", "`user` is empty", NULL, NULL, 0},
		{"{\"password\":\"p\",\"user\":\"a\\nb\"}", "control character", NULL, NULL, 0},
		{"{\"password\":\"p\",\"user\":7}", "`user` is no string", NULL, NULL, 0},
		{"{\"password\":\"p\",\"expires_in\":0}", "`expires_in`", NULL, NULL, 0},
		{"{\"password\":\"p\",\"expires_in\":1.5}", "`expires_in`", NULL, NULL, 0},
		{"{\"password\":\"p\",\"expires_in\":99999999}", "`expires_in`", NULL, NULL, 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct plugcred_output out;
		const char *why = plugcred_parse(slice_str(rows[i].text), &out);

		if (!why != !rows[i].why || (why && !strstr(why, rows[i].why)))
			fail_msg("%s: %s", rows[i].text, why ? why : "is good");
		if (!why) {
			assert_string_equal(out.user, rows[i].user);
			assert_true(slice_eq_str(buf_slice(&out.password), rows[i].password));
			assert_int_equal(out.expires_s, rows[i].expires_s);
		}
		buf_wipe(&out.password);
	}
}

static char *idp_section(const char *client)
{
	char *text;

	assert_true(asprintf(&text,
			     "idp:\n  issuer: https://idp.example/realm\n  client: { id: tidegate, "
			     "%s }\n",
			     client) > 0);
	return text;
}

static void test_client_secret(void **state)
{
	char *client, *section, *config;
	struct peer p;

	assert_true(asprintf(&client, "auth: client_secret_basic, secret_file: %s/secret", dir) >
		    0);
	section = idp_section(client);
	config = config_text(section);
	start(&p, config);
	question(&p, IPC_KEY_CLIENT, "");
	assert_int_equal(ask(&p), 0);
	assert_string_equal((char *)p.bytes[0], "the secret");
	question(&p, IPC_KEY_CLIENT, "https://idp.example/token");
	assert_int_equal(ask(&p), EINVAL);
	assert_int_equal(stop(&p), 0);
	free(client);
	free(section);
	free(config);
}

static void check_assertion(struct peer *p, const char *audience)
{
	static const char *const algs[] = {"ES256", NULL};
	struct jwt_expect want = {
		.issuer = "tidegate",
		.audience = audience,
		.algorithms = algs,
		.now_s = clock_wall_ns() / 1000000000,
		.skew_s = 1,
	};
	char *jwk = jose_jwk(key, ",\"kid\":\"k1\""), *json, error[200];
	json_t *claims = NULL;
	struct jwks *keys;

	assert_true(asprintf(&json, "{\"keys\":[%s]}", jwk) > 0);
	assert_int_equal(jwks_parse(slice_str(json), &keys, error, sizeof(error)), 0);
	if (jwt_verify(slice_of(p->bytes[0], p->n[0]), keys, &want, &claims, error,
		       sizeof(error)) != JWT_OK)
		fail_msg("%s", error);
	json_decref(claims);
	jwks_free(keys);
	free(json);
	free(jwk);
}

static void test_client_key(void **state)
{
	char *client, *section, *config;
	struct peer p;

	assert_true(asprintf(&client,
			     "auth: private_key_jwt, key_file: %s/key.pem, algorithm: ES256, "
			     "key_id: k1",
			     dir) > 0);
	section = idp_section(client);
	config = config_text(section);
	start(&p, config);
	question(&p, IPC_KEY_CLIENT, "https://idp.example/realm/token");
	assert_int_equal(ask(&p), 0);
	check_assertion(&p, "https://idp.example/realm/token");
	question(&p, IPC_KEY_CLIENT, "https://idp.example/realm");
	assert_int_equal(ask(&p), 0);
	check_assertion(&p, "https://idp.example/realm");
	/* No assertion for another provider, and the key itself for nobody. */
	question(&p, IPC_KEY_CLIENT, "https://other.example/token");
	assert_int_equal(ask(&p), EPERM);
	question(&p, IPC_KEY_CLIENT, "");
	assert_int_equal(ask(&p), EINVAL);
	assert_int_equal(stop(&p), 0);
	free(client);
	free(section);
	free(config);
}

/* It cannot read again, so it ends if it would have to. */
static void test_new_configuration(void **state)
{
	char *config = config_text(""), *same;
	struct peer p;

	assert_true(asprintf(&same, "%s    connect_timeout: 3s\n", config) > 0);
	write_file("open", "no longer open\n", 0600);
	start(&p, config);
	send_config(&p, same);
	question(&p, IPC_KEY_PASSWORD, "one");
	assert_int_equal(ask(&p), 0);
	write_file("one", "another\n", 0600);
	send_config(&p, same);
	while (!p.gone)
		(void)uv_run(&p.loop, UV_RUN_ONCE);
	assert_int_equal(stop(&p), 0);
	start(&p, same);
	question(&p, IPC_KEY_PASSWORD, "one");
	assert_int_equal(ask(&p), 0);
	assert_string_equal((char *)p.bytes[0], "another");
	assert_int_equal(stop(&p), 0);
	free(same);
	free(config);
}

/* A message that keyd is not asked, or cannot read, ends it. */
static void test_bad_messages(void **state)
{
	char *config = config_text("");
	struct peer p;

	start(&p, config);
	question(&p, IPC_KEY_MD5, "one");
	ipc_put_u32(p.ipc, 7);
	ipc_send(p.ipc);
	while (!p.gone)
		(void)uv_run(&p.loop, UV_RUN_ONCE);
	assert_int_equal(stop(&p), 1);
	start(&p, config);
	question(&p, IPC_IDP_ASK, "agent");
	ipc_send(p.ipc);
	while (!p.gone)
		(void)uv_run(&p.loop, UV_RUN_ONCE);
	assert_int_equal(stop(&p), 1);
	free(config);
}

static void test_files(void **state)
{
	static const struct {
		const char *name, *text;
		mode_t mode;
		int err;
	} rows[] = {
		{"f1", "x", 0600, 0},	   {"f2", "x", 0400, 0},      {"f3", "x", 0604, -EPERM},
		{"f4", "x", 0602, -EPERM}, {"f5", "x", 0620, -EPERM}, {"f6", "x", 0660, -EPERM},
		{"f7", "x", 0700, 0},
	};
	struct secret_reader who = {.uid = geteuid(), .gid = getegid()};
	struct secret_stamp stamp;
	const char *why;
	struct buf b;
	char big[SECRET_MAX + 2];

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		int err;

		write_file(rows[i].name, rows[i].text, rows[i].mode);
		buf_init(&b, 0);
		err = vault_read(path_of(rows[i].name), who, &b, &stamp, &why);
		if (err != rows[i].err)
			fail_msg("%s: %d", rows[i].name, err);
		assert_int_equal(err == 0, slice_eq_str(buf_slice(&b), "x"));
		buf_wipe(&b);
	}
	/* The group may read it only if it is keyd's, or root's. */
	write_file("group", "x", 0640);
	who.gid = getegid();
	assert_int_equal(vault_read(path_of("group"), who, &b, &stamp, &why), 0);
	buf_wipe(&b);
	if (geteuid() == 0) {
		assert_int_equal(chown(path_of("group"), 0, 12345), 0);
		who.uid = who.gid = 65534;
		assert_int_equal(vault_read(path_of("group"), who, &b, &stamp, &why), -EPERM);
		assert_int_equal(chown(path_of("group"), 12345, 0), 0);
		assert_int_equal(vault_read(path_of("group"), who, &b, &stamp, &why), -EPERM);
		who.uid = 12345;
		assert_int_equal(vault_read(path_of("group"), who, &b, &stamp, &why), 0);
		buf_wipe(&b);
	}
	who.uid = geteuid();
	assert_int_equal(vault_read(path_of("missing"), who, &b, &stamp, &why), -ENOENT);
	assert_int_equal(mkfifo(path_of("fifo"), 0600), 0);
	assert_int_equal(vault_read(path_of("fifo"), who, &b, &stamp, &why), -EINVAL);
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	write_file("big", big, 0600);
	assert_int_equal(vault_read(path_of("big"), who, &b, &stamp, &why), -EFBIG);
}

static int set_up(void **state)
{
	FILE *f;

	(void)signal(SIGPIPE, SIG_IGN);
	(void)snprintf(dir, sizeof(dir), "/tmp/tidegate-keyd-XXXXXX");
	/* keyd, no longer root, looks whether the files have changed. */
	if (!mkdtemp(dir) || chmod(dir, 0711))
		return -1;
	write_file("secret", "the secret\r\n", 0600);
	key = jose_key("P-256");
	write_file("key.pem", "", 0600);
	f = fopen(path_of("key.pem"), "w");
	if (!f || PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) != 1)
		return -1;
	return fclose(f);
}

static int fresh(void **state)
{
	write_file("one", "pencil\n", 0600);
	write_file("open", "pencil\n", 0644);
	return 0;
}

static int tear_down(void **state)
{
	char command[100];

	EVP_PKEY_free(key);
	(void)snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_passwords, fresh),
		cmocka_unit_test_setup(test_credentials, fresh),
		cmocka_unit_test_setup(test_tokens_of_grants, fresh),
		cmocka_unit_test_setup(test_program, fresh),
		cmocka_unit_test(test_output),
		cmocka_unit_test_setup(test_client_secret, fresh),
		cmocka_unit_test_setup(test_client_key, fresh),
		cmocka_unit_test_setup(test_new_configuration, fresh),
		cmocka_unit_test_setup(test_bad_messages, fresh),
		cmocka_unit_test_setup(test_files, fresh),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
