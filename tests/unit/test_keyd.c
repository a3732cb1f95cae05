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
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"
#include "daemon/ipc.h"
#include "daemon/plugcred.h"
#include "daemon/vault.h"
#include "ident/b64.h"
#include "keyd_rig.h"

#define SCRAM_FIRST  "n=user,r=rOprNGfwEbeRWgbNEkqO"
#define SCRAM_NONCE  "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
#define SCRAM_SERVER SCRAM_NONCE ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"

static uint32_t ask_scram(struct keyd_peer *p, const char *target, const char *server)
{
	keyd_question(p, IPC_KEY_SCRAM, target);
	ipc_put_bytes(p->ipc, SLICE_LIT(SCRAM_FIRST));
	ipc_put_bytes(p->ipc, slice_str(server));
	ipc_put_bytes(p->ipc, SLICE_LIT("c=biws," SCRAM_NONCE));
	return keyd_ask(p);
}

static uint32_t ask_md5(struct keyd_peer *p, const char *user, struct slice salt)
{
	keyd_question(p, IPC_KEY_MD5, "one");
	ipc_put_str(p->ipc, user);
	ipc_put_bytes(p->ipc, salt);
	return keyd_ask(p);
}

static void test_passwords(void **state)
{
	char *config = keyd_config(""), text[B64_TEXT(32)];
	struct keyd_peer p;

	keyd_start(&p, config);
	keyd_question(&p, IPC_KEY_PASSWORD, "one");
	assert_int_equal(keyd_ask(&p), 0);
	assert_string_equal((char *)p.bytes[0], "pencil");
	keyd_question(&p, IPC_KEY_PASSWORD, "none");
	assert_int_equal(keyd_ask(&p), ENOENT);
	assert_int_equal(p.n[0], 0);
	/* Readable by others. */
	keyd_question(&p, IPC_KEY_PASSWORD, "open");
	assert_int_equal(keyd_ask(&p), EPERM);
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
	keyd_question(&p, IPC_KEY_CLIENT, "");
	assert_int_equal(keyd_ask(&p), ENOENT);
	assert_int_equal(keyd_stop(&p), 0);
	free(config);
}

static uint32_t ask_login(struct keyd_peer *p, const char *credential)
{
	keyd_question(p, IPC_KEY_LOGIN, credential);
	return keyd_ask(p);
}

static void test_credentials(void **state)
{
	char *config = keyd_config("");
	struct keyd_peer p;

	keyd_start(&p, config);
	assert_int_equal(ask_login(&p, "ro"), 0);
	assert_string_equal((char *)p.bytes[0], "user");
	assert_int_equal(ask_login(&p, "none"), ENOENT);
	assert_int_equal(ask_login(&p, "open"), EPERM);
	assert_int_equal(p.n[0], 0);
	assert_int_equal(ask_scram(&p, "@ro:user", SCRAM_SERVER), 0);
	assert_int_equal(ask_scram(&p, "@ro:postgres", SCRAM_SERVER), ENOENT);
	assert_int_equal(ask_scram(&p, "@open:user", SCRAM_SERVER), EPERM);
	/* Told to servers only where that is allowed, and under its name only. */
	keyd_question(&p, IPC_KEY_PASSWORD, "@ro:user");
	assert_int_equal(keyd_ask(&p), EACCES);
	assert_int_equal(p.n[0], 0);
	keyd_question(&p, IPC_KEY_PASSWORD, "@clear:user");
	assert_int_equal(keyd_ask(&p), 0);
	assert_string_equal((char *)p.bytes[0], "pencil");
	keyd_question(&p, IPC_KEY_PASSWORD, "clear");
	assert_int_equal(keyd_ask(&p), ENOENT);
	assert_int_equal(keyd_stop(&p), 0);
	free(config);
}

static void give_token(struct keyd_peer *p, uint64_t question, const char *user, const char *token,
		       uint64_t ttl_ms)
{
	ipc_begin(p->ipc, IPC_GRANT_TOKEN, question);
	ipc_put_str(p->ipc, user);
	ipc_put_u64(p->ipc, ttl_ms);
	ipc_put_bytes(p->ipc, slice_str(token));
	ipc_send(p->ipc);
}

static uint32_t ask_grant(struct keyd_peer *p, uint64_t question, const char *credential, bool near)
{
	ipc_begin(p->ipc, IPC_GRANT_KEY, ++p->id);
	ipc_put_u64(p->ipc, question);
	ipc_put_str(p->ipc, credential);
	ipc_put_u32(p->ipc, near);
	return keyd_ask(p);
}

static uint32_t ask_password(struct keyd_peer *p, const char *key_name)
{
	keyd_question(p, IPC_KEY_PASSWORD, key_name);
	return keyd_ask(p);
}

#define GRANT_CONFIG                                                                               \
	"idp: { issuer: \"https://idp.example\", client: { id: x, auth: client_secret_basic, secret_file: /none } }\n"         \
	"approvals: { m: { by: client_credentials, scope: s } }\n"                                 \
	"credentials:\n"                                                                           \
	"  far: { user: u, grant_token: m }\n"                                                     \
	"  clear: { grant_token: m, clear_text: true }\n"                                          \
	"  file: { user: u, password_file: /none }\n"                                              \
	"  jit: { ephemeral_role: { admin: file, grants: r } }\n"                                   \
	"agents: { a: { uid: [1000] } }\n"                                                         \
	"targets: { t: { address: \"127.0.0.1:5432\", protocol: postgresql } }\n"                  \
	"policy: [{ agents: [a], targets: [t], access: { approval: none }, "                        \
	"commands: [{ effect: any, do: allow }] }]\n"

/* A role's password: nobody is told it, and it is the one that the verifier is of. */
static void test_passwords_of_roles(void **state)
{
	char verifier[200];
	struct keyd_peer p;

	keyd_start(&p, GRANT_CONFIG);
	for (int i = 0; i < 2; i++) {
		ipc_begin(p.ipc, IPC_ROLE_KEY, ++p.id);
		ipc_put_u64(p.ipc, 21);
		ipc_put_str(p.ipc, "tg_x");
		ipc_put_u64(p.ipc, 60000);
		assert_int_equal(keyd_ask(&p), 0);
		assert_memory_equal(p.bytes[0], "SCRAM-SHA-256$4096:", 19);
		assert_int_equal(p.n[0], SCRAM_VERIFIER_TEXT - 3);
		/* Each time another one. */
		assert_true(i == 0 || strcmp(verifier, (char *)p.bytes[0]) != 0);
		memcpy(verifier, p.bytes[0], p.n[0] + 1);
	}
	assert_int_equal(ask_grant(&p, 21, "jit", false), 0);
	assert_string_equal((char *)p.bytes[0], "tg_x");
	assert_int_equal(ask_password(&p, (char *)p.bytes[1]), EACCES);
	assert_int_equal(ask_grant(&p, 21, "file", false), ENOENT);
	assert_int_equal(keyd_stop(&p), 0);
}

static void test_tokens_of_grants(void **state)
{
	struct keyd_peer p;
	char shut[64], clear[64];

	keyd_start(&p, GRANT_CONFIG);
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
	assert_int_equal(keyd_stop(&p), 0);
}

/* Plays the program: what it has printed. */
static void tell(struct keyd_peer *p, const char *text, uint32_t error)
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
static uint32_t told(struct keyd_peer *p, const char *text, uint32_t error)
{
	p->plugin = p->answered = false;
	keyd_question(p, IPC_KEY_LOGIN, "told");
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

static void stale(struct keyd_peer *p)
{
	ipc_begin(p->ipc, IPC_KEY_STALE, 0);
	ipc_put_str(p->ipc, "told");
	ipc_send(p->ipc);
}

static void test_program(void **state)
{
	char *config = keyd_config("");
	struct keyd_peer p;

	keyd_start(&p, config);
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
	assert_int_equal(keyd_stop(&p), 0);
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

/* It cannot read again, so it ends if it would have to. */
static void test_new_configuration(void **state)
{
	char *config = keyd_config(""), *same;
	struct keyd_peer p;

	assert_true(asprintf(&same, "%s    connect_timeout: 3s\n", config) > 0);
	keyd_write("open", "no longer open\n", 0600);
	keyd_start(&p, config);
	keyd_send_config(&p, same);
	keyd_question(&p, IPC_KEY_PASSWORD, "one");
	assert_int_equal(keyd_ask(&p), 0);
	keyd_write("one", "another\n", 0600);
	keyd_send_config(&p, same);
	while (!p.gone)
		(void)uv_run(&p.loop, UV_RUN_ONCE);
	assert_int_equal(keyd_stop(&p), 0);
	keyd_start(&p, same);
	keyd_question(&p, IPC_KEY_PASSWORD, "one");
	assert_int_equal(keyd_ask(&p), 0);
	assert_string_equal((char *)p.bytes[0], "another");
	assert_int_equal(keyd_stop(&p), 0);
	free(same);
	free(config);
}

/* A message that keyd is not asked, or cannot read, ends it. */
static void test_bad_messages(void **state)
{
	char *config = keyd_config("");
	struct keyd_peer p;

	keyd_start(&p, config);
	keyd_question(&p, IPC_KEY_MD5, "one");
	ipc_put_u32(p.ipc, 7);
	ipc_send(p.ipc);
	while (!p.gone)
		(void)uv_run(&p.loop, UV_RUN_ONCE);
	assert_int_equal(keyd_stop(&p), 1);
	keyd_start(&p, config);
	keyd_question(&p, IPC_IDP_ASK, "agent");
	ipc_send(p.ipc);
	while (!p.gone)
		(void)uv_run(&p.loop, UV_RUN_ONCE);
	assert_int_equal(keyd_stop(&p), 1);
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

		keyd_write(rows[i].name, rows[i].text, rows[i].mode);
		buf_init(&b, 0);
		err = vault_read(keyd_path(rows[i].name), who, &b, &stamp, &why);
		if (err != rows[i].err)
			fail_msg("%s: %d", rows[i].name, err);
		assert_int_equal(err == 0, slice_eq_str(buf_slice(&b), "x"));
		buf_wipe(&b);
	}
	/* The group may read it only if it is keyd's, or root's. */
	keyd_write("group", "x", 0640);
	who.gid = getegid();
	assert_int_equal(vault_read(keyd_path("group"), who, &b, &stamp, &why), 0);
	buf_wipe(&b);
	if (geteuid() == 0) {
		assert_int_equal(chown(keyd_path("group"), 0, 12345), 0);
		who.uid = who.gid = 65534;
		assert_int_equal(vault_read(keyd_path("group"), who, &b, &stamp, &why), -EPERM);
		assert_int_equal(chown(keyd_path("group"), 12345, 0), 0);
		assert_int_equal(vault_read(keyd_path("group"), who, &b, &stamp, &why), -EPERM);
		who.uid = 12345;
		assert_int_equal(vault_read(keyd_path("group"), who, &b, &stamp, &why), 0);
		buf_wipe(&b);
	}
	who.uid = geteuid();
	assert_int_equal(vault_read(keyd_path("missing"), who, &b, &stamp, &why), -ENOENT);
	assert_int_equal(mkfifo(keyd_path("fifo"), 0600), 0);
	assert_int_equal(vault_read(keyd_path("fifo"), who, &b, &stamp, &why), -EINVAL);
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	keyd_write("big", big, 0600);
	assert_int_equal(vault_read(keyd_path("big"), who, &b, &stamp, &why), -EFBIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_passwords, keyd_fresh),
		cmocka_unit_test_setup(test_credentials, keyd_fresh),
		cmocka_unit_test_setup(test_tokens_of_grants, keyd_fresh),
		cmocka_unit_test_setup(test_passwords_of_roles, keyd_fresh),
		cmocka_unit_test_setup(test_program, keyd_fresh),
		cmocka_unit_test(test_output),
		cmocka_unit_test_setup(test_new_configuration, keyd_fresh),
		cmocka_unit_test_setup(test_bad_messages, keyd_fresh),
		cmocka_unit_test_setup(test_files, keyd_fresh),
	};

	return cmocka_run_group_tests(tests, keyd_set_up, keyd_tear_down);
}
