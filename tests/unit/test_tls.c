/* SPDX-License-Identifier: MIT */
/*
 * TLS to a server over a socket that does not block, with a server in the same thread: who is taken for
 * it, what bytes do where there is little room, and a signature that somebody else makes meanwhile.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/reason.h"
#include "ident/tls_sign.h"
#include "net/tls.h"

/* ------------------------------------------------------------ certificates */

static EVP_PKEY *ca_key, *key;
static X509 *ca, *stranger;

static X509 *certificate(EVP_PKEY *of, const char *cn, const char *san, int days, X509 *issuer,
			 EVP_PKEY *by, const EVP_MD *md)
{
	X509 *x = X509_new();
	X509_NAME *name = X509_get_subject_name(x);
	X509V3_CTX v3;

	assert_true(X509_set_version(x, X509_VERSION_3));
	assert_true(ASN1_INTEGER_set(X509_get_serialNumber(x), 7));
	assert_non_null(X509_gmtime_adj(X509_getm_notBefore(x), -86400l * 30));
	assert_non_null(X509_gmtime_adj(X509_getm_notAfter(x), 86400l * days));
	assert_true(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)cn, -1, -1, 0));
	assert_true(X509_set_issuer_name(x, issuer ? X509_get_subject_name(issuer) : name));
	assert_true(X509_set_pubkey(x, of));
	X509V3_set_ctx(&v3, issuer ? issuer : x, x, NULL, NULL, 0);
	for (int i = 0; i < 2; i++) {
		const char *value = i ? san : issuer ? "critical,CA:FALSE" : "critical,CA:TRUE";
		X509_EXTENSION *e = value ? X509V3_EXT_conf_nid(NULL, &v3,
								i ? NID_subject_alt_name
								  : NID_basic_constraints,
								value)
					  : NULL;

		assert_true(!value || (e && X509_add_ext(x, e, -1)));
		X509_EXTENSION_free(e);
	}
	assert_true(X509_sign(x, by, md) > 0);
	return x;
}

static char *pem_of(X509 *x)
{
	BIO *out = BIO_new(BIO_s_mem());
	char *text, *copy;
	long n;

	assert_int_equal(PEM_write_bio_X509(out, x), 1);
	n = BIO_get_mem_data(out, &text);
	copy = strndup(text, (size_t)n);
	BIO_free(out);
	return copy;
}

static int set_up(void **state)
{
	(void)state;
	(void)signal(SIGPIPE, SIG_IGN); /* as in the daemon */
	if (tls_init())
		return -1;
	ca_key = EVP_EC_gen("P-256");
	key = EVP_EC_gen("P-256");
	ca = certificate(ca_key, "authority", NULL, 30, NULL, ca_key, EVP_sha256());
	stranger = certificate(key, "stranger", "DNS:db.x,IP:10.0.0.1", 30, NULL, key, EVP_sha256());
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	X509_free(ca);
	X509_free(stranger);
	EVP_PKEY_free(ca_key);
	EVP_PKEY_free(key);
	far_key_done();
	return 0;
}

/* -------------------------------------------------------------------- pair */

struct pair {
	int fd[2]; /* ours, the server's */
	SSL_CTX *ctx;
	SSL *server;
	struct tls_trust trust;
	struct tls *tls;
	bool server_up;
};

static void non_blocking(int fd)
{
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
}

static int any(X509_STORE_CTX *c, void *ctx)
{
	return 1;
}

static void open_server(struct pair *p, X509 *cert, int version)
{
	int small = 4096;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, p->fd), 0);
	for (int i = 0; i < 2; i++) {
		non_blocking(p->fd[i]);
		assert_int_equal(setsockopt(p->fd[i], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
	}
	p->ctx = SSL_CTX_new(TLS_server_method());
	assert_int_equal(SSL_CTX_use_certificate(p->ctx, cert), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey(p->ctx, key), 1);
	(void)SSL_CTX_set_mode(p->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	if (version)
		assert_int_equal(SSL_CTX_set_max_proto_version(p->ctx, version), 1);
	SSL_CTX_set_cert_verify_callback(p->ctx, any, NULL);
	p->server = SSL_new(p->ctx);
	assert_int_equal(SSL_set_fd(p->server, p->fd[1]), 1);
	SSL_set_accept_state(p->server);
}

static void trust_ca(struct pair *p, const struct tls_trust_spec *spec)
{
	struct tls_trust_spec s = *spec;
	char *pem = pem_of(ca);
	const char *why;

	s.authorities = slice_str(pem);
	assert_int_equal(tls_trust_new(&s, &p->trust, &why), 0);
	free(pem);
}

static void begin(struct pair *p, const struct tls_start *start)
{
	struct tls_start s = *start;

	s.trust = &p->trust;
	assert_int_equal(tls_new(&s, p->fd[0], &p->tls), 0);
}

static void serve(struct pair *p)
{
	if (!p->server_up)
		p->server_up = SSL_do_handshake(p->server) == 1;
}

/* Both until the client has an outcome. */
static enum tls_step shake(struct pair *p)
{
	enum tls_step step = TLS_STEP_WAIT;

	for (int i = 0; i < 200 && step == TLS_STEP_WAIT; i++) {
		step = tls_step(p->tls);
		serve(p);
	}
	for (int i = 0; i < 5; i++)
		serve(p);
	return step;
}

static void close_pair(struct pair *p)
{
	tls_free(p->tls);
	SSL_free(p->server);
	SSL_CTX_free(p->ctx);
	tls_trust_done(&p->trust);
	for (int i = 0; i < 2; i++)
		if (p->fd[i] >= 0)
			close(p->fd[i]);
}

static const char *const db_x[] = {"db.x", NULL};

static void open_up(struct pair *p, int version)
{
	X509 *cert = certificate(key, "db", "DNS:db.x", 30, ca, ca_key, EVP_sha256());

	*p = (struct pair){.fd = {-1, -1}};
	open_server(p, cert, version);
	X509_free(cert);
	trust_ca(p, &(struct tls_trust_spec){.npins = 0});
	begin(p, &(struct tls_start){.names = db_x});
	assert_int_equal(shake(p), TLS_STEP_UP);
	assert_true(p->server_up);
}

/* --------------------------------------------------------------- who it is */

static void test_who(void **state)
{
	static const char *const two[] = {"other.x", "db.x", NULL}, *const below[] = {".x", NULL},
				 *const one[] = {"db.int.x", NULL};
	static const uint8_t ip4[] = {10, 0, 0, 1}, ip6[16] = {0x20, 1, 0xd, 0xb8, [15] = 1};
	static const struct {
		const char *cn, *san;
		int days;
		const char *const *names;
		const uint8_t *ip;
		size_t ip_n;
		const char *why; /* NULL: accepted */
	} rows[] = {
		{"x", "DNS:db.x", 30, db_x, .why = NULL},
		{"x", "DNS:*.int.x", 30, one, .why = NULL},
		{"x", "DNS:*.int.x", 30, below, .why = NULL},
		{"x", "DNS:DB.X", 30, db_x, .why = NULL},
		{"x", "DNS:db.x", 30, two, .why = NULL},
		{"x", "DNS:db.x", 30, below, .why = NULL},
		{"db.x", NULL, 30, db_x, .why = NULL},
		{"x", "IP:10.0.0.1", 30, NULL, ip4, 4, .why = NULL},
		{"x", "IP:2001:db8::1", 30, NULL, ip6, 16, .why = NULL},
		{"db.x", "DNS:dc.x", 30, db_x, .why = "is for dc.x, and not for db.x"},
		{"x", "DNS:d*.x", 30, db_x, .why = "is for d*.x, and not for db.x"},
		{"x", "DNS:a.db.x,DNS:db.x.y", 30, two, .why = "is for a.db.x, db.x.y, and not for other.x or db.x"},
		{"x", "DNS:y", 30, below, .why = "is for y, and not for .x"},
		{"x", "DNS:10.0.0.1", 30, NULL, ip4, 4, .why = "is for 10.0.0.1, and not for 10.0.0.1"},
		{"10.0.0.1", NULL, 30, NULL, ip4, 4, .why = "is for another name, and not for 10.0.0.1"},
		{"x", "IP:2001:db8::2", 30, NULL, ip6, 16,
		 .why = "and not for 2001:0db8:0000:0000:0000:0000:0000:0001"},
		{"x", "DNS:db.x", -1, db_x, .why = "not trusted: certificate has expired"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		X509 *cert = certificate(key, rows[i].cn, rows[i].san, rows[i].days, ca, ca_key, EVP_sha256());
		struct pair p = {.fd = {-1, -1}};
		enum tls_step step;

		open_server(&p, cert, 0);
		trust_ca(&p, &(struct tls_trust_spec){.npins = 0});
		begin(&p, &(struct tls_start){
				  .names = rows[i].names, .ip = rows[i].ip, .ip_n = rows[i].ip_n});
		step = shake(&p);
		if (!rows[i].why && step != TLS_STEP_UP)
			fail_msg("row %zu: %s", i, tls_why(p.tls));
		if (rows[i].why) {
			assert_int_equal(step, TLS_STEP_FAILED);
			assert_int_equal(tls_reason(p.tls), TG_R_UPSTREAM_CERTIFICATE);
			if (!strstr(tls_why(p.tls), rows[i].why))
				fail_msg("row %zu: %s", i, tls_why(p.tls));
		}
		close_pair(&p);
		X509_free(cert);
	}
}

/* Of nobody that is known; with a key that is not among those that are allowed; too old a version. */
static void test_not_trusted(void **state)
{
	uint8_t pins[2][TLS_PIN] = {{0}}, *der = NULL;
	int n = i2d_PUBKEY(key, &der);
	X509 *good = certificate(key, "x", "DNS:db.x", 30, ca, ca_key, EVP_sha256());
	const struct {
		X509 *cert;
		int version;
		struct tls_trust_spec spec;
		uint16_t reason;
		const char *why;
	} rows[] = {
		{good, 0, {.pins = (const uint8_t(*)[TLS_PIN])pins, .npins = 2}, 0, ""},
		{good, 0, {.pins = (const uint8_t(*)[TLS_PIN])pins, .npins = 1}, TG_R_UPSTREAM_CERTIFICATE,
		 "its key is none that `pin` names"},
		{stranger, 0, {.npins = 0}, TG_R_UPSTREAM_CERTIFICATE, "not trusted: self-signed certificate"},
		{good, TLS1_2_VERSION, {.npins = 0}, 0, ""},
		{good, TLS1_2_VERSION, {.only_13 = true}, TG_R_UPSTREAM_TLS, "TLS with the target failed"},
	};

	(void)state;
	(void)SHA256(der, (size_t)n, pins[1]);
	OPENSSL_free(der);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct pair p = {.fd = {-1, -1}};
		enum tls_step step;

		open_server(&p, rows[i].cert, rows[i].version);
		trust_ca(&p, &rows[i].spec);
		begin(&p, &(struct tls_start){.names = db_x});
		/* What it was made from may be gone before the handshake is over. */
		tls_trust_done(&p.trust);
		step = shake(&p);
		assert_int_equal(step, rows[i].reason ? TLS_STEP_FAILED : TLS_STEP_UP);
		assert_int_equal(tls_reason(p.tls), rows[i].reason);
		if (rows[i].reason && !strstr(tls_why(p.tls), rows[i].why))
			fail_msg("row %zu: %s", i, tls_why(p.tls));
		close_pair(&p);
	}
	X509_free(good);
}

static void test_authorities(void **state)
{
	char *pem = pem_of(ca), *two;
	const struct {
		const char *text, *why;
	} rows[] = {
		{pem, NULL},
		{"", "it holds no certificate in PEM form"},
		{"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
		 "it holds a certificate that cannot be read"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct tls_trust t = {.ctx = NULL};
		const char *why = NULL;

		assert_int_equal(tls_trust_new(&(struct tls_trust_spec){
						       .authorities = slice_str(rows[i].text)},
					       &t, &why),
				 rows[i].why ? -EINVAL : 0);
		if (rows[i].why)
			assert_string_equal(why, rows[i].why);
		tls_trust_done(&t);
	}
	assert_true(asprintf(&two, "%s%s", pem, pem) > 0);
	free(two);
	free(pem);
}

/* --------------------------------------------------------------- in clear */

static int says_s(uint8_t byte)
{
	return byte == 'S' ? 1 : byte == 'N' ? 0 : -EBADMSG;
}

static void test_clear(void **state)
{
	static const struct {
		const char *said;
		uint16_t reason;
		const char *why;
	} rows[] = {
		{"S", 0, ""},
		{"N", TG_R_UPSTREAM_NO_TLS, "does not offer TLS"},
		{"NE", TG_R_UPSTREAM_NO_TLS, "does not offer TLS"},
		{"E", TG_R_UPSTREAM_TLS, "sent an error, or something else"},
		{"SX", TG_R_UPSTREAM_TLS, "sent bytes in clear text behind its answer"},
		{"", TG_R_UPSTREAM_TLS, "closed the connection when it was asked for TLS"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		X509 *cert = certificate(key, "x", "DNS:db.x", 30, ca, ca_key, EVP_sha256());
		struct pair p = {.fd = {-1, -1}};
		char asked[8];

		open_server(&p, cert, 0);
		trust_ca(&p, &(struct tls_trust_spec){.npins = 0});
		begin(&p, &(struct tls_start){.names = db_x, .ask = SLICE_LIT("question"),
					      .answer = says_s});
		assert_int_equal(tls_events(p.tls), EPOLLOUT);
		assert_int_equal(tls_step(p.tls), TLS_STEP_WAIT);
		assert_int_equal(tls_events(p.tls), EPOLLIN);
		assert_int_equal(tls_step(p.tls), TLS_STEP_WAIT);
		assert_int_equal(recv(p.fd[1], asked, sizeof(asked), 0), 8);
		assert_memory_equal(asked, "question", 8);
		if (*rows[i].said)
			assert_int_equal(send(p.fd[1], rows[i].said, strlen(rows[i].said), 0),
					 strlen(rows[i].said));
		else
			assert_int_equal(shutdown(p.fd[1], SHUT_WR), 0);
		assert_int_equal(shake(&p), rows[i].reason ? TLS_STEP_FAILED : TLS_STEP_UP);
		assert_int_equal(tls_reason(p.tls), rows[i].reason);
		if (rows[i].reason && !strstr(tls_why(p.tls), rows[i].why))
			fail_msg("row %zu: %s", i, tls_why(p.tls));
		close_pair(&p);
		X509_free(cert);
	}
}

/* -------------------------------------------------------------------- bytes */

enum { MUCH = 300000 };

static uint8_t byte_at(size_t i)
{
	return (uint8_t)(i * 31 + i / 251);
}

/* Takes what the server can read; how many bytes it has had by then. */
static size_t server_reads(struct pair *p, size_t had)
{
	uint8_t got[5000];
	size_t n;

	while (SSL_read_ex(p->server, got, sizeof(got), &n) == 1) {
		for (size_t i = 0; i < n; i++)
			assert_int_equal(got[i], byte_at(had + i));
		had += n;
	}
	return had;
}

/*
 * What does not fit is kept and sent again, as a session does: in one piece, from another place, and in
 * many ranges or in one.
 */
static void send_much(struct pair *p, size_t pieces, bool update)
{
	size_t had = 0, sent = 0;
	uint8_t *all = malloc(MUCH);
	struct buf rest;
	bool blocked = false;

	for (size_t i = 0; i < MUCH; i++)
		all[i] = byte_at(i);
	buf_init(&rest, MUCH);
	while (had < MUCH) {
		ssize_t n;

		if (sent < MUCH && !rest.n) {
			struct iovec iov[64];
			size_t part = min_size(MUCH - sent, 70000), from = sent;

			for (size_t i = 0; i < pieces; i++) {
				iov[i] = (struct iovec){all + from, i + 1 < pieces ? part / pieces
										   : sent + part - from};
				from += iov[i].iov_len;
			}
			n = tls_send(p->tls, iov, pieces);
			assert_true(n >= 0);
			assert_int_equal(buf_append(&rest, all + sent + n, part - (size_t)n), 0);
			sent += part;
		} else if (rest.n) {
			struct iovec iov = {buf_data(&rest), rest.n};

			n = tls_send(p->tls, &iov, 1);
			assert_true(n >= 0);
			buf_consume(&rest, (size_t)n);
			if (rest.n) { /* from another place */
				uint8_t *moved = malloc(rest.n);
				size_t left = rest.n;

				memcpy(moved, buf_data(&rest), left);
				buf_done(&rest);
				assert_int_equal(buf_append(&rest, moved, left), 0);
				free(moved);
			}
		}
		blocked |= rest.n > 0;
		if (update && had > MUCH / 3) {
			update = false;
			assert_int_equal(SSL_key_update(p->server, SSL_KEY_UPDATE_REQUESTED), 1);
			(void)SSL_do_handshake(p->server);
		}
		had = server_reads(p, had);
		/* The update is answered where the client reads. */
		assert_int_equal(tls_recv(p->tls, all, 0), 0);
	}
	assert_true(blocked);
	assert_int_equal(had, MUCH);
	buf_done(&rest);
	free(all);
}

static void test_sending(void **state)
{
	static const struct {
		int version;
		size_t pieces;
	} rows[] = {{TLS1_3_VERSION, 1}, {TLS1_3_VERSION, 7}, {TLS1_3_VERSION, 64},
		    {TLS1_2_VERSION, 1}, {TLS1_2_VERSION, 13}};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct pair p;

		open_up(&p, rows[i].version);
		send_much(&p, rows[i].pieces, rows[i].version == TLS1_3_VERSION);
		close_pair(&p);
	}
}

/* In reads of any size; none is lost in memory that no event tells of. */
static void test_receiving(void **state)
{
	static const size_t sizes[] = {1, 100, 16384, 20000, 262144};

	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(sizes); k++) {
		uint8_t *all = malloc(MUCH), *got = malloc(sizes[k]);
		size_t sent = 0, had = 0, want = sizes[k] == 1 ? 40000 : MUCH, quiet = 0;
		struct pair p;

		open_up(&p, 0);
		for (size_t i = 0; i < want; i++)
			all[i] = byte_at(i);
		while (had < want) {
			size_t n = 0;
			ssize_t r;

			if (sent < want && SSL_write_ex(p.server, all + sent, want - sent, &n) == 1)
				sent += n;
			do {
				r = tls_recv(p.tls, got, sizes[k]);
				assert_true(r > 0 || r == -EAGAIN);
				for (ssize_t i = 0; i < r; i++)
					assert_int_equal(got[i], byte_at(had + (size_t)i));
				had += r > 0 ? (size_t)r : 0;
				quiet = r > 0 ? 0 : quiet + 1;
				assert_true(quiet < 1000);
			} while (tls_has_more(p.tls));
			/* Otherwise an event would have told: the socket has something, or will. */
		}
		assert_int_equal(tls_recv(p.tls, got, sizes[k]), -EAGAIN);
		close_pair(&p);
		free(all);
		free(got);
	}
}

/* A reader that has to write first, and there is no room: it waits for that. */
static void test_update_without_room(void **state)
{
	uint8_t rest[MUCH] = {0}, got[1000];
	struct iovec iov = {rest, sizeof(rest)};
	struct pair p;
	size_t n;

	(void)state;
	open_up(&p, TLS1_3_VERSION);
	assert_true(tls_send(p.tls, &iov, 1) < (ssize_t)sizeof(rest));
	assert_int_equal(tls_watch(p.tls, EPOLLIN | EPOLLOUT | EPOLLRDHUP), EPOLLIN | EPOLLOUT | EPOLLRDHUP);
	assert_int_equal(SSL_key_update(p.server, SSL_KEY_UPDATE_REQUESTED), 1);
	assert_int_equal(SSL_do_handshake(p.server), 1);
	assert_int_equal(SSL_write_ex(p.server, "after", 5, &n), 1);
	/* What was said behind the update is there, or will be, however the two are served. */
	for (int i = 0; i < 1000; i++) {
		ssize_t r = tls_recv(p.tls, got, sizeof(got));
		uint32_t watched = tls_watch(p.tls, EPOLLIN);

		if (r == 5)
			break;
		assert_int_equal(r, -EAGAIN);
		assert_true(watched == EPOLLIN || watched == EPOLLOUT);
		if (watched == EPOLLOUT)
			assert_int_equal(tls_means(p.tls, EPOLLOUT), EPOLLIN | EPOLLOUT);
		while (SSL_read_ex(p.server, got, sizeof(got), &n) == 1)
			;
		assert_true(i < 999);
	}
	assert_memory_equal(got, "after", 5);
	close_pair(&p);
}

/* --------------------------------------------------------------------- ends */

static void test_ends(void **state)
{
	uint8_t got[100];
	struct pair p;
	size_t n;

	(void)state;
	/* We have said all, and still hear. */
	open_up(&p, 0);
	assert_true(tls_finish(p.tls));
	assert_true(tls_finish(p.tls));
	assert_int_equal(SSL_read_ex(p.server, got, sizeof(got), &n), 0);
	assert_int_equal(SSL_get_error(p.server, 0), SSL_ERROR_ZERO_RETURN);
	assert_int_equal(SSL_write_ex(p.server, "bye", 3, &n), 1);
	assert_int_equal(SSL_shutdown(p.server), 1);
	assert_int_equal(tls_recv(p.tls, got, sizeof(got)), 3);
	assert_true(tls_has_more(p.tls)); /* the end came with it */
	assert_int_equal(tls_recv(p.tls, got, sizeof(got)), 0);
	assert_int_equal(tls_recv(p.tls, got, sizeof(got)), 0);
	close_pair(&p);
	/* Cut off: nobody has said that this is the end. */
	open_up(&p, 0);
	assert_int_equal(SSL_write_ex(p.server, "bye", 3, &n), 1);
	close(p.fd[1]);
	p.fd[1] = -1;
	assert_int_equal(tls_recv(p.tls, got, sizeof(got)), 3);
	assert_int_equal(tls_recv(p.tls, got, sizeof(got)), -ECONNRESET);
	assert_int_equal(tls_reason(p.tls), 0);
	assert_true(tls_finish(p.tls));
	close_pair(&p);
	/* Bytes that are no record. */
	open_up(&p, 0);
	assert_int_equal(send(p.fd[1], "in clear text", 13, 0), 13);
	assert_int_equal(tls_recv(p.tls, got, sizeof(got)), -ECONNRESET);
	assert_int_equal(tls_reason(p.tls), TG_R_UPSTREAM_TLS);
	assert_int_equal(tls_send(p.tls, &(struct iovec){got, 1}, 1), -EPIPE);
	close_pair(&p);
	/* No room for a goodbye: later. */
	open_up(&p, 0);
	while (tls_send(p.tls, &(struct iovec){got, sizeof(got)}, 1) > 0)
		;
	assert_false(tls_finish(p.tls));
	assert_true(tls_watch(p.tls, 0) & EPOLLOUT);
	close_pair(&p);
}

/* --------------------------------------------------- a certificate of ours */

static void ask_for_ours(struct pair *p)
{
	SSL_set_verify(p->server, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
}

static void test_our_certificate(void **state)
{
	static const struct {
		int version;
		const char *kind;
	} rows[] = {{TLS1_3_VERSION, "EC"}, {TLS1_3_VERSION, "RSA"}, {TLS1_2_VERSION, "EC"},
		    {TLS1_2_VERSION, "RSA"}};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		EVP_PKEY *mine = strcmp(rows[i].kind, "EC") == 0
					 ? EVP_EC_gen("P-256")
					 : EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
		X509 *own = certificate(mine, "me", NULL, 30, ca, ca_key, EVP_sha256());
		X509 *cert = certificate(key, "x", "DNS:db.x", 30, ca, ca_key, EVP_sha256());
		uint8_t *der = NULL, sig[FAR_SIG_MAX];
		int n = i2d_X509(own, &der);

		/* Signed; refused by its holder; given up while it is asked for. */
		for (int how = 0; how < 3; how++) {
			struct pair p = {.fd = {-1, -1}};
			const struct far_ask *q;
			size_t len = 0;

			open_server(&p, cert, rows[i].version);
			ask_for_ours(&p);
			trust_ca(&p, &(struct tls_trust_spec){.npins = 0});
			begin(&p, &(struct tls_start){.names = db_x, .chain = slice_of(der, (size_t)n)});
			assert_int_equal(shake(&p), TLS_STEP_SIGN);
			/* It stands still as long as it takes. */
			assert_int_equal(tls_step(p.tls), TLS_STEP_SIGN);
			q = tls_to_sign(p.tls);
			assert_non_null(q);
			assert_int_equal(tls_sign(mine, q, sig, &len), 0);
			if (how == 0) {
				tls_signed(p.tls, 0, slice_of(sig, len));
				assert_int_equal(shake(&p), TLS_STEP_UP);
				assert_true(p.server_up);
				assert_true(tls_showed_certificate(p.tls));
				assert_int_equal(X509_cmp(SSL_get0_peer_certificate(p.server), own), 0);
				send_much(&p, 3, false);
			} else if (how == 1) {
				tls_signed(p.tls, -ESTALE, slice_of("", 0));
				assert_int_equal(shake(&p), TLS_STEP_FAILED);
				assert_int_equal(tls_reason(p.tls), TG_R_CREDENTIAL_MISSING);
				assert_non_null(strstr(tls_why(p.tls), strerror(ESTALE)));
			}
			close_pair(&p);
		}
		/* Nobody asks for it: nothing is signed. */
		{
			struct pair p = {.fd = {-1, -1}};

			open_server(&p, cert, rows[i].version);
			trust_ca(&p, &(struct tls_trust_spec){.npins = 0});
			begin(&p, &(struct tls_start){.names = db_x, .chain = slice_of(der, (size_t)n)});
			assert_int_equal(shake(&p), TLS_STEP_UP);
			assert_false(tls_showed_certificate(p.tls));
			close_pair(&p);
		}
		OPENSSL_free(der);
		X509_free(own);
		X509_free(cert);
		EVP_PKEY_free(mine);
	}
}

/* Asked for, and there is none: a server that insists says so, after the handshake in TLS 1.3. */
static void test_no_certificate(void **state)
{
	X509 *cert = certificate(key, "x", "DNS:db.x", 30, ca, ca_key, EVP_sha256());
	struct pair p = {.fd = {-1, -1}};
	uint8_t got[10];

	(void)state;
	open_server(&p, cert, 0);
	ask_for_ours(&p);
	trust_ca(&p, &(struct tls_trust_spec){.npins = 0});
	begin(&p, &(struct tls_start){.names = db_x});
	assert_int_equal(shake(&p), TLS_STEP_UP);
	assert_false(p.server_up);
	assert_int_equal(tls_recv(p.tls, got, sizeof(got)), -ECONNRESET);
	assert_int_equal(tls_reason(p.tls), TG_R_UPSTREAM_TLS);
	assert_non_null(strstr(tls_why(p.tls), "certificate required"));
	close_pair(&p);
	X509_free(cert);
}

/* -------------------------------------------------------- channel binding */

static void test_end_point(void **state)
{
	EVP_PKEY *rsa = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
	EVP_PKEY *ed = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	const struct {
		EVP_PKEY *by;
		const EVP_MD *md, *want; /* NULL: none is defined */
	} rows[] = {
		{ca_key, EVP_sha256(), EVP_sha256()}, {ca_key, EVP_sha384(), EVP_sha384()},
		{rsa, EVP_sha512(), EVP_sha512()},    {rsa, EVP_sha1(), EVP_sha256()},
		{rsa, EVP_md5(), EVP_sha256()},	      {rsa, EVP_sha224(), EVP_sha224()},
		{ed, NULL, NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		X509 *x = certificate(key, "x", "DNS:db.x", 30, ca, rows[i].by, rows[i].md);
		uint8_t got[TLS_BINDING_MAX], want[EVP_MAX_MD_SIZE];
		unsigned n = 0;

		if (rows[i].want)
			assert_int_equal(X509_digest(x, rows[i].want, want, &n), 1);
		assert_int_equal(tls_end_point(x, got), n);
		assert_memory_equal(got, want, n);
		X509_free(x);
	}
	EVP_PKEY_free(rsa);
	EVP_PKEY_free(ed);
}

static void test_what_is_told(void **state)
{
	uint8_t want[32];
	unsigned n;
	struct pair p;
	X509 *x;

	(void)state;
	open_up(&p, TLS1_2_VERSION);
	assert_string_equal(tls_version(p.tls), "TLSv1.2");
	assert_string_equal(tls_cipher(p.tls), SSL_get_cipher_name(p.server));
	x = SSL_get_certificate(p.server);
	assert_int_equal(X509_digest(x, EVP_sha256(), want, &n), 1);
	assert_memory_equal(tls_certificate_hash(p.tls), want, 32);
	assert_int_equal(tls_binding(p.tls).n, 32);
	assert_memory_equal(tls_binding(p.tls).p, want, 32);
	close_pair(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_who),
		cmocka_unit_test(test_not_trusted),
		cmocka_unit_test(test_authorities),
		cmocka_unit_test(test_clear),
		cmocka_unit_test(test_sending),
		cmocka_unit_test(test_receiving),
		cmocka_unit_test(test_update_without_room),
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_our_certificate),
		cmocka_unit_test(test_no_certificate),
		cmocka_unit_test(test_end_point),
		cmocka_unit_test(test_what_is_told),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
