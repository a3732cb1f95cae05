/* SPDX-License-Identifier: MIT */
/* `tls` of a target, what else then holds, and the file that it names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/cfgfiles.h"
/* Last: its short names are others' parameters. */
#include "config_rig.h"

#define PIN "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define CRED(x) "credentials: {c: {user: u, " x "}}\n"
#define WITH(x) A TT(x) P

static void test_errors(void **state)
{
	static const struct config_bad rows[] = {
		{WITH("tls: {}"),
		 "2:58: `tls` of target `t` lacks `ca_file`: whose certificates is the server to have? (for a "
		 "public one /etc/ssl/certs/ca-certificates.crt)"},
		{WITH("tls: on"), "2:58: `tls` of target `t` is a mapping of keys to values, not a single value"},
		{WITH("tls: {mode: prefer, ca_file: /c}"),
		 "2:65: `mode` takes `off` or `verified`, not `prefer`"},
		{WITH("tls: {ca_file: c.pem}"), "2:68: `ca_file` takes an absolute path, not `c.pem`"},
		{WITH("tls: {ca_fil: /c}"),
		 "2:58: `tls` of target `t` lacks `ca_file`: whose certificates is the server to have? (for a "
		 "public one /etc/ssl/certs/ca-certificates.crt)\n"
		 "2:59: unknown key `ca_fil` in `tls` of target `t`; did you mean `ca_file`?"},
		{WITH("tls: {ca_file: /c, min_version: 1.1}"),
		 "2:85: `min_version` takes `1.2` or `1.3`, not `1.1`; did you mean `1.2`?"},
		{WITH("tls: {ca_file: /c, server_name: '*.x'}"),
		 "2:85: `server_name` takes a host's name or an address, as the server's certificate has it, not "
		 "`*.x`"},
		{WITH("tls: {ca_file: /c, server_name: .x}"),
		 "2:85: `server_name` takes a host's name or an address, as the server's certificate has it, not "
		 "`.x`"},
		{WITH("tls: {ca_file: /c, pin: [" PIN ", 00]}"),
		 "2:77: `pin` takes the SHA-256 of a server's public key as 64 hexadecimal digits in lower case, "
		 "not `00`"},
		{WITH("tls: {ca_file: /c}, socket: /s"),
		 "2:58: `tls` and `socket` exclude each other: PostgreSQL speaks TLS over TCP only"},
		{A "targets: {t: {address: \"h:1\", protocol: tcp, tls: {ca_file: /c}}}\n" P,
		 "2:46: `tls` has no meaning with `protocol: tcp`: what agents and server speak there is passed on "
		 "as it is: take it out"},
		{CRED("key_file: /k") WITH("credential: c, tls: {ca_file: /c}"),
		 "1:18: credential `c` lacks `certificate_file`, which `key_file` needs"},
		{CRED("password_file: /p, certificate_file: /c") WITH("credential: c, tls: {ca_file: /c}"),
		 "1:18: credential `c` lacks `key_file`, which `certificate_file` needs"},
		{"credentials: {c: {exec: [/x], run_as: y, key_file: /k, certificate_file: /c}}\n"
		 WITH("credential: c, tls: {ca_file: /c}"),
		 "1:74: a certificate has a meaning alone or beside `password_file`"},
		{CRED("key_file: /k, certificate_file: /c") WITH("credential: c"),
		 "3:65: credential `c` has a certificate, which is shown in TLS only: give target `t` `tls: { "
		 "ca_file: ... }`"},
		{CRED("key_file: /k, certificate_file: /c") WITH("credential: c, tls: {mode: off}"),
		 "3:65: credential `c` has a certificate, which is shown in TLS only: give target `t` `tls: { "
		 "ca_file: ... }`"},
		{CRED("password_file: /p") WITH("credential: c, netns: agent, tls: {mode: off}"),
		 "3:65: `netns: agent` and `credential` exclude each other without `tls`: a server in an agent's "
		 "namespace can be a fake that collects the password"},
		{"credentials: {adm: {user: a, password_file: /p}, c: {ephemeral_role: {admin: adm, grants: r}}}\n"
		 WITH("credential: c, netns: agent, tls: {ca_file: /c}"),
		 "3:65: `netns: agent` and `ephemeral_role` exclude each other: roles are made from the daemon's "
		 "namespace"},
		{"credentials: {adm: {user: a, key_file: /k, certificate_file: /c}, "
		 "c: {ephemeral_role: {admin: adm, grants: r}}}\n" WITH("credential: c, tls: {ca_file: /c}"),
		 "1:95: credential `adm` is no administrator's: it takes `password_file` or `exec`"},
	};

	(void)state;
	config_bad(rows, ARRAY_SIZE(rows));
}

static void test_values(void **state)
{
	struct config *c = config_good(
		WITH("tls: {ca_file: /c, min_version: 1.3, server_name: db.x, pin: " PIN "}"));
	const struct cfg_tls *s = c->targets[0].tls;

	(void)state;
	assert_true(cfg_target_verified(&c->targets[0]));
	assert_true(s->only_13);
	assert_string_equal(s->names[0], "db.x");
	assert_null(s->names[1]);
	assert_int_equal(s->npin, 1);
	assert_int_equal(s->pins[0][0], 1);
	assert_int_equal(s->pins[0][31], 0xef);
	assert_int_equal(s->line, 2);
	assert_int_equal(s->column, 68);
	config_free(c);
	c = config_good(WITH("tls: {mode: off}"));
	assert_false(cfg_target_verified(&c->targets[0]));
	config_free(c);
	c = config_good(A T P);
	assert_false(cfg_target_verified(&c->targets[0]));
	config_free(c);
	c = config_good(CRED("key_file: /k, certificate_file: /c")
				WITH("credential: c, netns: agent, tls: {ca_file: /c}"));
	assert_string_equal(c->targets[0].login->certificate_file, "/c");
	config_free(c);
}

/* Whose certificate it has to be, by what `address` and `server_name` say. */
static void test_names(void **state)
{
	static const struct {
		const char *address, *name;
		const char *want[3]; /* none: the address's */
	} rows[] = {
		{"'h:1'", "", {"h"}},
		{"['h:1', '*.X.y:1']", "", {"h", ".x.y"}},
		{"['10.0.0.1:1', 'h:1']", "", {"h"}},
		{"'10.0.0.1:1'", "", {NULL}},
		{"'[::1]:1'", "", {NULL}},
		{"'h:1'", ", server_name: 10.0.0.9", {NULL}},
		{"['h:1', 'i:1']", ", server_name: x", {"x"}},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const char *const *want = rows[i].want;
		const struct cfg_tls *s;
		struct config *c;
		char text[512];

		(void)snprintf(text, sizeof(text),
			       A "targets: {t: {address: %s, protocol: postgresql, tls: {ca_file: /c%s}}}\n" P,
			       rows[i].address, rows[i].name);
		c = config_good(text);
		s = c->targets[0].tls;
		if (!*want)
			assert_null(s->names);
		for (size_t k = 0; *want && (k == 0 || want[k - 1]); k++) {
			if (!want[k])
				assert_null(s->names[k]);
			else
				assert_string_equal(s->names[k], want[k]);
		}
		config_free(c);
	}
}

static void write_file(const char *path, const char *text, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	assert_int_equal(fchmod(fd, mode), 0);
	(void)close(fd);
}

static char *certificate(void)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	BIO *out = BIO_new(BIO_s_mem());
	X509 *x = X509_new();
	char *text, *copy;
	long n;

	assert_true(X509_set_version(x, X509_VERSION_3) && X509_set_pubkey(x, key));
	assert_non_null(X509_gmtime_adj(X509_getm_notBefore(x), 0));
	assert_non_null(X509_gmtime_adj(X509_getm_notAfter(x), 1000));
	assert_true(X509_sign(x, key, EVP_sha256()) > 0);
	assert_int_equal(PEM_write_bio_X509(out, x), 1);
	n = BIO_get_mem_data(out, &text);
	copy = strndup(text, (size_t)n);
	BIO_free(out);
	X509_free(x);
	EVP_PKEY_free(key);
	return copy;
}

static void test_files(void **state)
{
	char dir[] = "/tmp/tidegate-tls-XXXXXX", path[64], text[256], said[512], *pem = certificate(), *two;
	const char *const bad = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
	struct {
		const char *text, *why; /* NULL: is good */
		mode_t mode;
	} rows[] = {
		{pem, NULL, 0644},
		{NULL, NULL, 0600},
		{"", "it holds no certificate in PEM form", 0644},
		{"words\n", "it holds no certificate in PEM form", 0644},
		{bad, "it holds a certificate that cannot be read", 0644},
		{pem, "others may change it: chmod go-w", 0666},
	};
	struct config *c;
	struct buf b;

	(void)state;
	assert_non_null(mkdtemp(dir));
	(void)snprintf(path, sizeof(path), "%s/ca", dir);
	(void)snprintf(text, sizeof(text), WITH("tls: {ca_file: %s}"), path);
	c = config_good(text);
	/* Comments, and what is no certificate, are not handed on. */
	assert_true(asprintf(&two, "# \377\n%s-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n%s",
			     pem, pem) > 0);
	rows[1].text = two;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		buf_init(&b, sizeof(said) - 1);
		write_file(path, rows[i].text, rows[i].mode);
		assert_int_equal(config_check_files(c, &b), rows[i].why ? -EINVAL : 0);
		(void)snprintf(said, sizeof(said), "t.yaml:2:68: `ca_file` of target `t` cannot be used: %s: %s\n",
			       path, rows[i].why ? rows[i].why : "");
		assert_int_equal(b.n, rows[i].why ? strlen(said) : 0);
		assert_memory_equal(buf_data(&b), said, b.n);
		buf_done(&b);
	}
	{
		const char *why;

		write_file(path, two, 0644);
		assert_int_equal(config_read_ca(path, &b, &why), 0);
		assert_int_equal(b.n, 2 * strlen(pem));
		assert_memory_equal(buf_data(&b), pem, strlen(pem));
		buf_done(&b);
		assert_int_equal(config_read_ca(dir, &b, &why), -EINVAL);
		assert_string_equal(why, "it is no regular file");
		assert_int_equal(unlink(path), 0);
		assert_int_equal(config_read_ca(path, &b, &why), -ENOENT);
	}
	assert_int_equal(rmdir(dir), 0);
	config_free(c);
	free(two);
	free(pem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
